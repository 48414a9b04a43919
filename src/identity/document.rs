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
mod tests {
    use serde_json::{Value, json};

    use super::DidDocument;
    use crate::identity::keys::{Curve, PublicKey};
    use crate::identity::signing::SigningKey;
    use crate::limit::Weigh as _;
    use crate::types::Did;

    const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";

    fn parse(document: &Value) -> Result<DidDocument, crate::types::Malformed> {
        DidDocument::parse(&Did::parse(DID).unwrap(), document.to_string().as_bytes())
    }

    fn with_method(id: &str, kind: &str, key: &str) -> Value {
        json!({ "id": DID, "verificationMethod": [{ "id": id, "type": kind, "controller": DID, "publicKeyMultibase": key }] })
    }

    /// The older types hold the bare point, usually uncompressed.
    fn old_form(key: &PublicKey) -> String {
        let point = match key {
            PublicKey::P256(key) => key.to_encoded_point(false).as_bytes().to_vec(),
            PublicKey::K256(key) => key.to_encoded_point(false).as_bytes().to_vec(),
            PublicKey::Ed25519(key) => key.to_bytes().to_vec(),
        };
        multibase::encode(multibase::Base::Base58Btc, point)
    }

    #[test]
    fn both_curves_in_both_forms_with_relative_and_absolute_ids_are_read() {
        for (curve, old) in
            [(Curve::P256, "EcdsaSecp256r1VerificationKey2019"), (Curve::K256, "EcdsaSecp256k1VerificationKey2019")]
        {
            let key = SigningKey::generate(curve).public();
            for id in ["#atproto".to_owned(), format!("{DID}#atproto")] {
                for (kind, text) in [("Multikey", key.multikey()), (old, old_form(&key))] {
                    let document = parse(&with_method(&id, kind, &text)).unwrap();
                    assert_eq!(document.atproto_key.as_ref(), Some(&key), "{curve:?} {kind} {id}");
                }
            }
        }
    }

    #[test]
    fn a_key_under_another_name_of_another_subject_or_of_a_useless_kind_is_not_the_atproto_key() {
        let key = SigningKey::generate(Curve::K256).public().multikey();
        let ed25519 = SigningKey::generate(Curve::Ed25519).public().multikey();
        for (id, kind, text) in [
            ("#other", "Multikey", key.as_str()),
            ("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa#atproto", "Multikey", &key),
            ("did:plc:ewvi7nxzyoun6zhxrhs64oizx#atproto", "Multikey", &key),
            ("atproto", "Multikey", &key),
            ("#atproto", "JsonWebKey2020", &key),
            ("#atproto", "EcdsaSecp256r1VerificationKey2019", &key),
            ("#atproto", "Multikey", &ed25519),
            ("#atproto", "Multikey", "garbage"),
        ] {
            assert_eq!(parse(&with_method(id, kind, text)).unwrap().atproto_key, None, "{id} {kind}");
        }
    }

    #[test]
    fn an_unreadable_first_atproto_key_is_not_replaced_by_a_later_one() {
        let key = SigningKey::generate(Curve::K256).public().multikey();
        let document = json!({ "id": DID, "verificationMethod": [
            { "id": "#atproto", "type": "Multikey", "publicKeyMultibase": "garbage" },
            { "id": "#atproto", "type": "Multikey", "publicKeyMultibase": key },
        ] });
        assert_eq!(parse(&document).unwrap().atproto_key, None);
    }

    #[test]
    fn a_document_for_another_did_or_that_is_no_object_is_refused() {
        for document in
            [json!({}), json!([]), json!({ "id": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" }), json!({ "id": [DID] })]
        {
            assert!(parse(&document).is_err(), "{document}");
        }
        assert!(parse(&json!({ "id": DID })).is_ok());
    }

    #[test]
    fn an_account_names_one_server_in_one_form_or_none() {
        let of = |services: &[(&str, &str, Value)]| {
            let services = services
                .iter()
                .map(|(id, kind, endpoint)| json!({ "id": id, "type": kind, "serviceEndpoint": endpoint }))
                .collect::<Vec<_>>();
            parse(&json!({ "id": DID, "service": services })).unwrap()
        };
        let (id, kind, absolute) = ("#atproto_mls", "AtprotoMlsService", format!("{DID}#atproto_mls"));
        let https = json!("https://chat.example");
        for (services, expected) in [
            (vec![], None),
            (vec![(id, kind, https.clone())], Some("did:web:chat.example")),
            (vec![(absolute.as_str(), kind, https.clone())], Some("did:web:chat.example")),
            (vec![("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa#atproto_mls", kind, https.clone())], None),
            (vec![("#atproto_pds", kind, https.clone())], None),
            (vec![(id, "AtprotoPersonalDataServer", https.clone())], None),
            (vec![(id, kind, https.clone()), (id, kind, https.clone())], None),
            (vec![(id, kind, https.clone()), (absolute.as_str(), "Other", json!("https://b.example"))], None),
            (vec![(id, kind, json!({ "uri": "https://chat.example" }))], None),
            (vec![(id, kind, json!("https://chat.example/"))], None),
            (vec![(id, kind, json!("https://chat.example/path"))], None),
            (vec![(id, kind, json!("https://chat.example:8443"))], None),
            (vec![(id, kind, json!("https://user@chat.example"))], None),
            (vec![(id, kind, json!("https://CHAT.example"))], None),
            (vec![(id, kind, json!("https://chat.example."))], None),
            (vec![(id, kind, json!("https://192.0.2.1"))], None),
            (vec![(id, kind, json!("http://chat.example"))], None),
            (vec![(id, kind, json!("http://localhost:3000"))], None),
            (vec![(id, kind, json!("chat.example"))], None),
        ] {
            let document = of(&services);
            assert_eq!(document.mls_server(false).as_ref().map(Did::as_str), expected, "{services:?}");
        }
        let local = of(&[(id, kind, json!("http://localhost:3000"))]).mls_server(true);
        assert_eq!(local.unwrap().as_str(), "did:web:localhost%3A3000");
        assert_eq!(of(&[(id, kind, json!("http://10.0.0.1:3000"))]).mls_server(true), None);
    }

    #[test]
    fn services_are_read_past_what_is_not_understood() {
        let document = parse(&json!({
            "@context": ["https://www.w3.org/ns/did/v1"], "id": DID,
            "alsoKnownAs": ["at://alice.example", 7],
            "verificationMethod": "none",
            "service": [
                { "id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://pds.example" },
                { "id": format!("{DID}#atproto_mls"), "type": "AtprotoMlsService", "serviceEndpoint": "https://a.example" },
                { "id": "#list", "type": ["A", "B"], "serviceEndpoint": "https://b.example" },
                { "id": "#map", "type": "X", "serviceEndpoint": { "uri": "https://c.example" } },
                17,
            ],
        }))
        .unwrap();
        assert_eq!(document.pds(false).as_deref(), Some("https://pds.example"));
        assert_eq!(document.services("#atproto_mls").next().unwrap().kind.as_deref(), Some("AtprotoMlsService"));
        assert_eq!(document.services.len(), 2);
        assert_eq!(document.names, ["at://alice.example"]);
    }

    #[test]
    fn a_service_without_a_usable_type_or_endpoint_leads_nowhere() {
        let long = "x".repeat(600);
        for (kind, endpoint) in [
            (json!(["A", "B"]), json!("https://b.example")),
            (json!("AtprotoMlsService"), json!({ "uri": "https://c.example" })),
            (json!(long), json!("https://b.example")),
            (json!("AtprotoMlsService"), json!(format!("https://b.example/{long}"))),
        ] {
            let service = json!({ "id": "#atproto_mls", "type": kind, "serviceEndpoint": endpoint });
            let document = parse(&json!({ "id": DID, "service": [service] })).unwrap();
            assert_eq!((document.services.len(), document.mls_server(true)), (1, None), "{service}");
        }
    }

    #[test]
    fn a_pds_is_an_origin_and_nothing_more() {
        let pds = |endpoint: &str, development| {
            let service =
                json!({ "id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": endpoint });
            parse(&json!({ "id": DID, "service": [service] })).unwrap().pds(development)
        };
        for (endpoint, expected) in [
            ("https://pds.example", Some("https://pds.example")),
            ("https://pds.example/", Some("https://pds.example")),
            ("https://PDS.example", Some("https://pds.example")),
            ("https://pds.example/path", None),
            ("https://pds.example/?q=", None),
            ("https://pds.example?q=1", None),
            ("https://pds.example/#x", None),
            ("https://user@pds.example", None),
            ("https://pds.example//", None),
            ("http://pds.example", None),
            ("pds.example", None),
        ] {
            assert_eq!(pds(endpoint, false).as_deref(), expected, "{endpoint}");
        }
        assert_eq!(pds("http://localhost:3000", true).as_deref(), Some("http://localhost:3000"));
        assert_eq!(pds("http://localhost:3000", false), None);
    }

    #[test]
    fn a_document_of_64_kib_keeps_what_is_used_and_no_more() {
        let key = SigningKey::generate(Curve::K256).public().multikey();
        let long = |name: &str| format!("{name}{}", "x".repeat(1_000));
        let methods = (0..64).map(|number| {
            let id = format!("#peer-{number}{}", "x".repeat(50));
            json!({ "id": id, "type": "Multikey", "controller": DID, "publicKeyMultibase": key })
        });
        let service = |id: String| json!({ "id": id, "type": long("T"), "serviceEndpoint": long("https://") });
        let services = (0..60).map(|number| service(format!("#s{number}")));
        let ambiguous = (0..4).map(|_| service("#atproto_pds".to_owned()));
        let document = json!({
            "id": DID,
            "alsoKnownAs": (0..64).map(|number| format!("at://a{number}.{}", "x".repeat(240))).collect::<Vec<_>>(),
            "verificationMethod": methods.collect::<Vec<_>>(),
            "service": ambiguous.chain(services).collect::<Vec<_>>(),
        });
        assert!(document.to_string().len() > super::MAX_DOCUMENT_BYTES);
        let document = parse(&document).unwrap();
        assert_eq!((document.names.len(), document.server_keys.len(), document.services.len()), (8, 12, 2));
        assert!(document.weight_bytes() < 8 * 1024, "{} bytes", document.weight_bytes());
        assert!(document.weight_bytes() > 8 * 240 + 12 * 50, "the weight counts the kept parts");
    }
}
