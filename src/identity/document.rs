//! Reads DID documents: the parts that this server uses, and only if the document's `id` is the requested DID.
//!
//! Invariants: the reader ignores what it does not understand, without an error, because real documents hold more than
//! the specification lists; every part that it keeps has a limit.

use serde_json::Value;
use url::{Host, Url};

use super::keys::{Curve, PublicKey};
use crate::limit::Weigh;
use crate::types::{Did, Malformed};

/// The most bytes of a fetched document.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// Verification methods, services and names that the reader looks at; it ignores the rest of a longer list.
const MAX_ITEMS: usize = 64;
/// The services that the reader keeps.
const SERVICES: [&str; 2] = [MLS_SERVICE, PDS_SERVICE];
const MLS_SERVICE: &str = "#atproto_mls";
const PDS_SERVICE: &str = "#atproto_pds";
/// Services of one name that the reader keeps: a second one shows that the name is ambiguous.
const MAX_SERVICES_OF_A_NAME: usize = 2;
/// Keys of a server that the reader keeps: more than both purposes allow, so that an excess shows.
const MAX_SERVER_KEYS: usize = 12;
/// The prefixes of the fragments of a server's keys.
const SERVER_KEYS: [&str; 2] = ["#peer-", "#checkpoint-"];
/// `at://` names that the reader keeps.
const MAX_NAMES: usize = 8;
/// The most bytes of an `at://` name, of a fragment or a type, and of an endpoint.
const MAX_NAME_BYTES: usize = 256;
const MAX_LABEL_BYTES: usize = 64;
const MAX_ENDPOINT_BYTES: usize = 512;

/// One `service`.
#[derive(Clone, PartialEq, Eq)]
pub struct Service {
    /// With its `#`, without the DID: `#atproto_pds`.
    pub fragment: &'static str,
    /// `None` if the document has a list, nothing, or a text that is too long.
    pub kind: Option<String>,
    /// The endpoint as written. A stranger chose it: only the guarded client may call it. `None` if it is no text, or
    /// too long: such a service exists, but leads nowhere.
    pub endpoint: Option<String>,
}

/// The parts of a DID document that this server uses.
#[derive(Clone, PartialEq, Eq)]
pub struct DidDocument {
    pub did: Did,
    /// The account's signing key (`#atproto`), P-256 or K-256.
    pub atproto_key: Option<PublicKey>,
    /// Keys that a server signs with, by fragment (with its `#`): of type `Multikey`, controlled by the subject itself.
    pub server_keys: Vec<(String, PublicKey)>,
    /// Services named `#atproto_mls` and `#atproto_pds`.
    pub services: Vec<Service>,
    /// Names that begin with `at://`.
    pub names: Vec<String>,
}

impl Weigh for DidDocument {
    fn weight_bytes(&self) -> usize {
        let text = |text: &String| size_of::<String>() + text.len();
        let service = |service: &Service| {
            size_of::<Service>()
                + [&service.kind, &service.endpoint].into_iter().flatten().map(String::len).sum::<usize>()
        };
        size_of::<Self>()
            + self.did.as_str().len()
            + self.server_keys.iter().map(|(id, _)| size_of::<(String, PublicKey)>() + id.len()).sum::<usize>()
            + self.services.iter().map(service).sum::<usize>()
            + self.names.iter().map(text).sum::<usize>()
    }
}

impl DidDocument {
    pub fn parse(did: &Did, json: &[u8]) -> Result<Self, Malformed> {
        let Ok(Value::Object(document)) = serde_json::from_slice(json) else {
            return Err(Malformed::new("DID document", "not a JSON object"));
        };
        if document.get("id").and_then(Value::as_str) != Some(did.as_str()) {
            return Err(Malformed::new("DID document", "its id is not the DID"));
        }
        let items = |name: &str| {
            let list = document.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            list.iter().take(MAX_ITEMS)
        };

        let mut server_keys = Vec::new();
        let mut atproto_key = None;
        let mut atproto_seen = false;
        for method in items("verificationMethod") {
            let Some(fragment) = fragment(did, method) else { continue };
            // The first method of that name speaks for the account, readable or not.
            if fragment == "#atproto" && !atproto_seen {
                atproto_seen = true;
                atproto_key = read_key(method).filter(|key| key.curve() != Curve::Ed25519);
            }
            let is_own = text(method, "type") == Some("Multikey") && text(method, "controller") == Some(did.as_str());
            let is_of_a_server = is_own && SERVER_KEYS.iter().any(|prefix| fragment.starts_with(prefix));
            if is_of_a_server && server_keys.len() < MAX_SERVER_KEYS {
                server_keys.extend(read_key(method).map(|key| (fragment.to_owned(), key)));
            }
        }

        let mut services: Vec<Service> = Vec::new();
        for item in items("service") {
            let Some(name) = fragment(did, item) else { continue };
            let Some(fragment) = SERVICES.into_iter().find(|known| *known == name) else { continue };
            if services.iter().filter(|service| service.fragment == fragment).count() < MAX_SERVICES_OF_A_NAME {
                let kept = |name, max_bytes| text(item, name).filter(|text| text.len() <= max_bytes).map(str::to_owned);
                let (kind, endpoint) = (kept("type", MAX_LABEL_BYTES), kept("serviceEndpoint", MAX_ENDPOINT_BYTES));
                services.push(Service { fragment, kind, endpoint });
            }
        }
        let names = items("alsoKnownAs").filter_map(Value::as_str);
        let names = names.filter(|name| name.starts_with("at://") && name.len() <= MAX_NAME_BYTES);
        let names = names.take(MAX_NAMES).map(str::to_owned).collect();
        Ok(Self { did: did.clone(), atproto_key, server_keys, services, names })
    }

    /// The server's key with that fragment (`#peer-…`), if there is exactly one.
    pub fn server_key(&self, fragment: &str) -> Option<&PublicKey> {
        let mut found = self.server_keys.iter().filter(|(id, _)| id == fragment);
        let first = found.next()?;
        found.next().is_none().then_some(&first.1)
    }

    /// Every service with that fragment; more than one may mean none to the caller.
    pub fn services(&self, fragment: &str) -> impl Iterator<Item = &Service> {
        self.services.iter().filter(move |service| service.fragment == fragment)
    }

    /// The server that the account names for its conversations, by its did:web. None if it names none, or does it in a
    /// way that leads to none: two of them, another type, an endpoint that is not `https://<host>` and nothing more.
    /// `development` lets `http://localhost:<port>` be one.
    pub fn mls_server(&self, development: bool) -> Option<Did> {
        let mut found = self.services(MLS_SERVICE);
        let first = found.next()?;
        if found.next().is_some() || first.kind.as_deref() != Some("AtprotoMlsService") {
            return None;
        }
        let endpoint = first.endpoint.as_deref()?;
        let url = Url::parse(endpoint).ok()?;
        let Some(Host::Domain(host)) = url.host() else { return None };
        match url.port() {
            None if endpoint == format!("https://{host}") && !host.ends_with('.') => {
                Did::parse(&format!("did:web:{host}")).ok()
            }
            Some(port) if development && endpoint == format!("http://localhost:{port}") => {
                Did::parse(&format!("did:web:localhost%3A{port}")).ok()
            }
            _ => None,
        }
    }

    /// The origin of the account's PDS, if the document names exactly one, by scheme and host alone: a path or a query
    /// would aim this server's requests at any page of any host. `development` also allows `http://localhost:<port>`.
    pub fn pds(&self, development: bool) -> Option<String> {
        let mut found = self.services(PDS_SERVICE);
        let first = found.next()?;
        if found.next().is_some() {
            return None;
        }
        let endpoint = first.endpoint.as_deref()?;
        let endpoint = endpoint.strip_suffix('/').unwrap_or(endpoint);
        let url = Url::parse(endpoint).ok()?;
        let origin = url.origin().ascii_serialization();
        let is_open = url.scheme() == "https" || development && url.host_str() == Some("localhost");
        (is_open && origin.eq_ignore_ascii_case(endpoint)).then_some(origin)
    }
}

impl std::fmt::Debug for DidDocument {
    /// Nothing that names the subject.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "DidDocument({:?}, {} server keys, {} services)",
            self.did,
            self.server_keys.len(),
            self.services.len()
        )
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

/// `#name`, from `#name` or `<did>#name`. Anything else belongs to another subject.
fn fragment<'a>(did: &Did, item: &'a Value) -> Option<&'a str> {
    let id = text(item, "id")?;
    let fragment = if id.starts_with('#') { id } else { id.strip_prefix(did.as_str())? };
    ((2..=MAX_LABEL_BYTES).contains(&fragment.len()) && fragment.starts_with('#')).then_some(fragment)
}

fn read_key(method: &Value) -> Option<PublicKey> {
    PublicKey::from_verification_method(text(method, "type")?, text(method, "publicKeyMultibase")?).ok()
}

#[cfg(test)]
mod tests;
