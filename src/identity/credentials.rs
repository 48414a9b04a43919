//! The credentials of a request, before any token is verified.
//!
//! Invariant: everything is shown once, and nothing beside what contradicts it: no later step has to choose.

use http::{HeaderMap, HeaderName, header};

use super::token::{TokenKind, TokenRefused, parse};
use crate::types::DeviceId;

/// A token of the device, beside the account's. A PDS forwards `x-atproto-*`, and nothing else of ours.
pub const DEVICE_TOKEN_HEADER: HeaderName = HeaderName::from_static(rookery_protocol::identity::DEVICE_TOKEN_HEADER);
/// The device's id alone, which proves nothing: enough to read through a PDS.
pub const DEVICE_HEADER: HeaderName = HeaderName::from_static(rookery_protocol::identity::DEVICE_HEADER);

/// The tokens and names of one request.
#[derive(Debug)]
pub struct Credentials<'a> {
    /// From `Authorization`.
    pub token: &'a str,
    pub kind: TokenKind,
    /// The server reports its fault after the account is proven: until then the call belongs to no account.
    beside: Result<Beside<'a>, TokenRefused>,
}

/// The credential beside a request's token.
#[derive(Debug)]
pub struct Beside<'a> {
    /// From `x-atproto-device-token`; only beside a service token.
    pub proof: Option<&'a str>,
    /// From `x-atproto-device`.
    pub named: Option<DeviceId>,
}

/// How a service token's request says which device it is of.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown<'a> {
    /// A token that the device signed.
    Proven(&'a str),
    /// Its name.
    Named(&'a DeviceId),
}

impl<'a> Credentials<'a> {
    pub fn read(headers: &'a HeaderMap) -> Result<Self, TokenRefused> {
        let token = bearer(headers)?;
        let (kind, ..) = parse(token)?;
        let beside = Beside::read(headers);
        if kind == TokenKind::Device && beside.as_ref().map_err(|refused| *refused)?.proof.is_some() {
            return Err(TokenRefused::AmbiguousCredentials);
        }
        Ok(Self { token, kind, beside })
    }

    pub fn beside(&self) -> Result<&Beside<'a>, TokenRefused> {
        self.beside.as_ref().map_err(|refused| *refused)
    }

    /// The device of a service token's request. What writes takes a proof, where proofs are required.
    pub fn shown(&self, writes: bool, proof_required: bool) -> Result<Shown<'_>, TokenRefused> {
        let beside = self.beside()?;
        match (beside.proof, &beside.named) {
            (Some(proof), _) => Ok(Shown::Proven(proof)),
            (None, _) if writes && proof_required => Err(TokenRefused::DeviceProofRequired),
            (None, Some(named)) => Ok(Shown::Named(named)),
            (None, None) => Err(TokenRefused::DeviceRequired),
        }
    }

    /// A device that is named beside its token is the one that signed it.
    pub fn agrees(&self, device: &DeviceId) -> Result<(), TokenRefused> {
        match &self.beside()?.named {
            Some(named) if named != device => Err(TokenRefused::AmbiguousCredentials),
            _ => Ok(()),
        }
    }
}

impl<'a> Beside<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, TokenRefused> {
        let proof = once(headers, &DEVICE_TOKEN_HEADER)?;
        let named = once(headers, &DEVICE_HEADER)?.map(DeviceId::parse).transpose();
        Ok(Self { proof, named: named.map_err(|_| TokenRefused::DeviceUnknown)? })
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, TokenRefused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(TokenRefused::MissingJwt)?;
    if values.next().is_some() {
        return Err(TokenRefused::BadJwt);
    }
    let text = value.to_str().map_err(|_| TokenRefused::BadJwt)?;
    let (scheme, token) = text.split_once(' ').ok_or(TokenRefused::BadJwt)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(TokenRefused::MissingJwt) }
}

fn once<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, TokenRefused> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(TokenRefused::AmbiguousCredentials);
    }
    // What is no text is no token.
    first.map(|value| value.to_str().map(str::trim).map_err(|_| TokenRefused::BadJwt)).transpose()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, header};

    use super::{Credentials, DEVICE_HEADER, DEVICE_TOKEN_HEADER, Shown};
    use crate::identity::{Curve, DeviceSigner, SigningKey, TokenRefused, service_token};
    use crate::types::{Did, UnixMillis};

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn world() -> (String, String, DeviceSigner) {
        let did = Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap();
        let signer = DeviceSigner::new(did.clone(), SigningKey::generate(Curve::Ed25519));
        let now = UnixMillis(1_795_000_000_000);
        let service = service_token(&SigningKey::generate(Curve::K256), &did, "did:web:a.example", "a.b.c", now);
        (format!("Bearer {service}"), signer.token("did:web:a.example", "a.b.c", now, None), signer)
    }

    #[test]
    fn every_rule_of_what_is_shown_has_its_own_error() {
        let (service, proof, signer) = world();
        let (device, direct) = (signer.device.as_str(), format!("Bearer {proof}"));
        let (auth, token, named) = (header::AUTHORIZATION, DEVICE_TOKEN_HEADER, DEVICE_HEADER);
        for (what, shown, expected) in [
            ("nothing", vec![], Err("AuthenticationRequired")),
            ("another scheme", vec![(auth.clone(), "Basic YTpi")], Err("AuthenticationRequired")),
            ("two", vec![(auth.clone(), service.as_str()), (auth.clone(), service.as_str())], Err("BadJwt")),
            ("a service token", vec![(auth.clone(), service.as_str())], Ok(())),
            ("with a proof", vec![(auth.clone(), service.as_str()), (token.clone(), proof.as_str())], Ok(())),
            ("with a name", vec![(auth.clone(), service.as_str()), (named.clone(), device)], Ok(())),
            (
                "a name that is none",
                vec![(auth.clone(), service.as_str()), (named.clone(), "x y")],
                Err("DeviceUnknown"),
            ),
            (
                "two proofs",
                vec![(auth.clone(), service.as_str()), (token.clone(), proof.as_str()), (token.clone(), "x")],
                Err("AmbiguousCredentials"),
            ),
            (
                "two names",
                vec![(auth.clone(), service.as_str()), (named.clone(), device), (named.clone(), device)],
                Err("AmbiguousCredentials"),
            ),
            ("a device token", vec![(auth.clone(), direct.as_str())], Ok(())),
            ("with its name", vec![(auth.clone(), direct.as_str()), (named.clone(), device)], Ok(())),
            (
                "with another device token",
                vec![(auth.clone(), direct.as_str()), (token.clone(), proof.as_str())],
                Err("AmbiguousCredentials"),
            ),
        ] {
            let headers = headers(&shown);
            let read = Credentials::read(&headers);
            assert_eq!(read.and_then(|read| read.beside().map(|_| ())).map_err(TokenRefused::name), expected, "{what}");
        }
    }

    #[test]
    fn a_write_takes_a_proof_and_a_read_a_name() {
        let (service, proof, signer) = world();
        let (auth, device) = ((header::AUTHORIZATION, service.as_str()), signer.device.as_str());
        let (proof, named) = ((DEVICE_TOKEN_HEADER, proof.as_str()), (DEVICE_HEADER, device));
        for (shown, writes, required, expected) in [
            (vec![], false, true, Err("DeviceRequired")),
            (vec![], false, false, Err("DeviceRequired")),
            (vec![], true, true, Err("DeviceProofRequired")),
            (vec![], true, false, Err("DeviceRequired")),
            (vec![named.clone()], false, true, Ok(false)),
            (vec![named.clone()], true, true, Err("DeviceProofRequired")),
            (vec![named.clone()], true, false, Ok(false)),
            (vec![proof.clone()], false, true, Ok(true)),
            (vec![proof.clone()], true, true, Ok(true)),
            (vec![proof.clone(), named.clone()], true, false, Ok(true)),
        ] {
            let headers = headers(&[vec![auth.clone()], shown].concat());
            let credentials = Credentials::read(&headers).unwrap();
            let found = credentials.shown(writes, required);
            let found = found.map(|shown| matches!(shown, Shown::Proven(_))).map_err(TokenRefused::name);
            assert_eq!(found, expected, "{headers:?} writes: {writes}, required: {required}");
        }
        let headers = headers(&[auth, named]);
        let credentials = Credentials::read(&headers).unwrap();
        assert!(credentials.agrees(&signer.device).is_ok());
        let other = crate::types::DeviceId::of_key(b"another");
        assert_eq!(credentials.agrees(&other).unwrap_err().name(), "AmbiguousCredentials");
    }
}
