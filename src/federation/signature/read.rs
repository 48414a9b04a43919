//! Parsing of signatures: all checks that need no key.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, header};
use sfv::{BareItem, Dictionary, FieldType as _, InnerList, ListEntry, Parser};

use super::{
    ACTOR, AUDIENCE, CONTENT_DIGEST, DEVICE, LIFETIME_S, NONCE_BYTES, OURS, SIGNATURE, SIGNATURE_INPUT, SKEW_S, TAG,
    base,
};
use crate::federation::PeerRefused::{self, SignatureExpired, SignatureMalformed};
use crate::identity::{Curve, Malleability, PublicKey};
use crate::types::{DeviceId, Did, Hash};

/// The claims of a signed request, unproven before [`Presented::verify`].
#[derive(Debug, Clone)]
pub struct Presented {
    /// The server that `keyid` names, which is the signer.
    pub server: Did,
    /// `#peer-<tag>`.
    pub key_id: String,
    pub created_s: i64,
    pub expires_s: i64,
    pub nonce: String,
    /// A bare DID; whether the server may speak for it is another question.
    pub actor: Option<Did>,
    pub device: Option<DeviceId>,
    digest: [u8; 32],
    /// The curve that `alg` demands, if it is said.
    curve: Option<Curve>,
    base: Vec<u8>,
    signature: Vec<u8>,
}

impl Presented {
    /// Whether the signature holds under this key, which is the one that the server's document has under `key_id`.
    pub fn verify(&self, key: &PublicKey) -> Result<(), PeerRefused> {
        if self.curve.is_some_and(|curve| curve != key.curve()) {
            return Err(SignatureMalformed("alg does not fit the key"));
        }
        key.verify(&self.base, &self.signature, Malleability::Refused).map_err(|_| PeerRefused::SignatureInvalid)
    }

    /// Whether this is the body that was signed.
    pub fn check_body(&self, body: &[u8]) -> Result<(), PeerRefused> {
        if Hash::of(body).0 == self.digest { Ok(()) } else { Err(PeerRefused::DigestMismatch) }
    }
}

/// Reads the one signature that is ours. `target_uri` is the public origin, and path and query as received; `audience` is
/// this server's DID.
pub fn read(
    method: &str,
    target_uri: &str,
    headers: &HeaderMap,
    audience: &str,
    now_s: i64,
) -> Result<Presented, PeerRefused> {
    if headers.contains_key(header::CONTENT_ENCODING) || headers.contains_key(header::AUTHORIZATION) {
        return Err(PeerRefused::AmbiguousCredentials);
    }
    let (label, list) = ours(headers)?;
    let covered = covered(&list)?;
    let lines = lines(method, target_uri, headers, &covered)?;
    let parameters = Parameters::read(&list)?;
    let digest = digest(one(headers, &CONTENT_DIGEST)?)?;
    let has_body = digest != Hash::of(b"").0;
    if has_body != covered.contains(&header::CONTENT_TYPE.as_str()) {
        return Err(SignatureMalformed("content-type is covered if there is a body, and only then"));
    }
    let (actor, device) = on_behalf(headers)?;
    if one(headers, &AUDIENCE)? != audience {
        return Err(PeerRefused::WrongAudience);
    }
    parameters.in_time(now_s)?;

    let (server, fragment) = parameters.key_id.split_once('#').ok_or(SignatureMalformed("keyid"))?;
    let server = Did::parse(server).ok().filter(|did| did.method() == "web").ok_or(SignatureMalformed("keyid"))?;
    let signature = signature(headers, &label)?;
    // RFC 9421 section 2.3: the parameters as they serialize, which is how they were signed.
    let serialized = vec![ListEntry::InnerList(list.clone())].serialize().unwrap_or_default();
    let base = base(covered.iter().copied().zip(lines.iter().map(String::as_str)), &serialized);
    Ok(Presented {
        server,
        key_id: format!("#{fragment}"),
        created_s: parameters.created_s,
        expires_s: parameters.expires_s,
        nonce: parameters.nonce,
        actor,
        device,
        digest,
        curve: parameters.curve,
        base,
        signature,
    })
}

/// Label and inner list of the one signature with our tag. Others are for others.
fn ours(headers: &HeaderMap) -> Result<(String, InnerList), PeerRefused> {
    if !headers.contains_key(&SIGNATURE_INPUT) {
        return Err(PeerRefused::SignatureMissing);
    }
    let dictionary: Dictionary = dictionary(headers, &SIGNATURE_INPUT)?;
    let mut found = dictionary.into_iter().filter_map(|(label, entry)| match entry {
        ListEntry::InnerList(list) if text(&list, "tag") == Some(TAG) => Some((String::from(label), list)),
        _ => None,
    });
    let first = found.next().ok_or(PeerRefused::SignatureMissing)?;
    if found.next().is_some() {
        return Err(SignatureMalformed("more than one signature has the tag rookery-peer-v1"));
    }
    Ok(first)
}

fn dictionary(headers: &HeaderMap, name: &HeaderName) -> Result<Dictionary, PeerRefused> {
    let lines: Vec<&str> = headers
        .get_all(name)
        .iter()
        .map(|line| line.to_str().map_err(|_| SignatureMalformed("a header is no text")))
        .collect::<Result<_, _>>()?;
    Parser::new(&lines.join(", ")).parse().map_err(|_| SignatureMalformed("a header is no dictionary (RFC 9651)"))
}

fn text<'a>(list: &'a InnerList, name: &str) -> Option<&'a str> {
    list.params.iter().find(|(key, _)| key.as_str() == name)?.1.as_string().map(sfv::StringRef::as_str)
}

/// The covered components: each once, without parameters, all that must be there and no other.
fn covered(list: &InnerList) -> Result<Vec<&str>, PeerRefused> {
    let mut names = Vec::with_capacity(list.items.len());
    let mut seen = BTreeSet::new();
    for item in &list.items {
        let BareItem::String(name) = &item.bare_item else {
            return Err(SignatureMalformed("a component is no string"));
        };
        if !item.params.is_empty() {
            return Err(SignatureMalformed("a component has parameters"));
        }
        if !seen.insert(name.as_str()) {
            return Err(SignatureMalformed("a component is covered twice"));
        }
        names.push(name.as_str());
    }
    let must = ["@method", "@target-uri", CONTENT_DIGEST.as_str(), AUDIENCE.as_str()];
    if !must.iter().all(|name| seen.contains(name)) {
        return Err(SignatureMalformed("a component that must be covered is not"));
    }
    Ok(names)
}

/// The value of each component; every header of ours must be among them.
fn lines(method: &str, target_uri: &str, headers: &HeaderMap, covered: &[&str]) -> Result<Vec<String>, PeerRefused> {
    for name in headers.keys().filter(|name| name.as_str().starts_with(OURS)) {
        if ![&AUDIENCE, &ACTOR, &DEVICE].contains(&name) {
            return Err(SignatureMalformed("an x-rookery- header that nobody knows"));
        }
        if !covered.contains(&name.as_str()) {
            return Err(SignatureMalformed("an x-rookery- header is not covered"));
        }
    }
    let value = |name: &&str| match *name {
        "@method" => Ok(method.to_owned()),
        "@target-uri" => Ok(target_uri.to_owned()),
        "content-digest" | "content-type" | "x-rookery-audience" | "x-rookery-actor" | "x-rookery-device" => {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| SignatureMalformed("a component"))?;
            Ok(one(headers, &name)?.to_owned())
        }
        _ => Err(SignatureMalformed("a component that this profile does not cover")),
    };
    covered.iter().map(value).collect()
}

/// A header that stands there exactly once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, PeerRefused> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().ok_or(SignatureMalformed("a covered header is missing"))?;
    if values.next().is_some() {
        return Err(SignatureMalformed("a covered header stands there twice"));
    }
    first.to_str().map(str::trim).map_err(|_| SignatureMalformed("a covered header is no text"))
}

fn on_behalf(headers: &HeaderMap) -> Result<(Option<Did>, Option<DeviceId>), PeerRefused> {
    let given = |name: &HeaderName| headers.contains_key(name).then(|| one(headers, name)).transpose();
    let actor =
        given(&ACTOR)?.map(Did::parse).transpose().map_err(|_| SignatureMalformed("the actor is no bare DID"))?;
    let device =
        given(&DEVICE)?.map(DeviceId::parse).transpose().map_err(|_| SignatureMalformed("x-rookery-device"))?;
    if device.is_some() && actor.is_none() {
        return Err(SignatureMalformed("a device without an actor"));
    }
    Ok((actor, device))
}

/// `sha-256` of a Content-Digest (RFC 9530); other digests beside it are passed over.
fn digest(value: &str) -> Result<[u8; 32], PeerRefused> {
    let dictionary: Dictionary = Parser::new(value).parse().map_err(|_| SignatureMalformed("content-digest"))?;
    let bytes = dictionary.iter().find(|(key, _)| key.as_str() == "sha-256").and_then(|(_, entry)| match entry {
        ListEntry::Item(item) => item.bare_item.as_byte_sequence(),
        ListEntry::InnerList(_) => None,
    });
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(SignatureMalformed("content-digest has no sha-256"))
}

fn signature(headers: &HeaderMap, label: &str) -> Result<Vec<u8>, PeerRefused> {
    let dictionary = dictionary(headers, &SIGNATURE)?;
    let found = dictionary.iter().find(|(key, _)| key.as_str() == label).and_then(|(_, entry)| match entry {
        ListEntry::Item(item) => item.bare_item.as_byte_sequence(),
        ListEntry::InnerList(_) => None,
    });
    let bytes = found.ok_or(SignatureMalformed("the label has no signature"))?;
    if bytes.len() == 64 { Ok(bytes.to_vec()) } else { Err(SignatureMalformed("a signature has 64 bytes")) }
}

/// The parameters of the signature.
struct Parameters {
    created_s: i64,
    expires_s: i64,
    nonce: String,
    key_id: String,
    curve: Option<Curve>,
}

impl Parameters {
    fn read(list: &InnerList) -> Result<Self, PeerRefused> {
        const KNOWN: [&str; 6] = ["created", "expires", "nonce", "keyid", "tag", "alg"];
        if list.params.keys().any(|key| !KNOWN.contains(&key.as_str())) {
            return Err(SignatureMalformed("a parameter that this profile does not have"));
        }
        let seconds = |name: &str| {
            let found = list.params.iter().find(|(key, _)| key.as_str() == name);
            found.and_then(|(_, value)| value.as_integer()).map(i64::from)
        };
        let curve = match text(list, "alg") {
            None if list.params.keys().any(|key| key.as_str() == "alg") => return Err(SignatureMalformed("alg")),
            None => None,
            Some("ed25519") => Some(Curve::Ed25519),
            Some("ecdsa-p256-sha256") => Some(Curve::P256),
            Some(_) => return Err(SignatureMalformed("alg")),
        };
        let nonce = text(list, "nonce").ok_or(SignatureMalformed("nonce"))?;
        if URL_SAFE_NO_PAD.decode(nonce).map_or(true, |bytes| bytes.len() != NONCE_BYTES) {
            return Err(SignatureMalformed("nonce: expected 22 characters of base64url"));
        }
        Ok(Self {
            created_s: seconds("created").ok_or(SignatureMalformed("created"))?,
            expires_s: seconds("expires").ok_or(SignatureMalformed("expires"))?,
            nonce: nonce.to_owned(),
            key_id: text(list, "keyid").ok_or(SignatureMalformed("keyid"))?.to_owned(),
            curve,
        })
    }

    fn in_time(&self, now_s: i64) -> Result<(), PeerRefused> {
        match self.expires_s.saturating_sub(self.created_s) {
            ..=0 => Err(SignatureExpired("it expires before it begins")),
            length if length > LIFETIME_S => Err(SignatureExpired("it lives longer than 60 s")),
            _ if self.created_s > now_s + SKEW_S => Err(SignatureExpired("it begins later than this server's clock")),
            _ if self.expires_s < now_s - SKEW_S => Err(SignatureExpired("it expired by this server's clock")),
            _ => Ok(()),
        }
    }
}
