//! A DID document is read for what we act on, and only if its `id` is the DID that was asked for.
//!
//! Real documents hold more than the specification lists: what is not understood is passed over, never an error.

use serde_json::Value;
use url::{Host, Url};

use super::keys::{Curve, PublicKey};
use crate::types::{Did, Malformed};

/// Verification methods and services that are looked at; the rest of a longer list is passed over.
const MAX_ITEMS: usize = 64;

/// One `service`.
#[derive(Clone, PartialEq, Eq)]
pub struct Service {
    /// With its `#`, without the DID: `#atproto_pds`.
    pub fragment: String,
    /// None if the document gives a list or nothing.
    pub kind: Option<String>,
    /// As written. It is a stranger's choice: only the guarded client may follow it.
    /// None if it is no text: such a service is there, but leads nowhere.
    pub endpoint: Option<String>,
}

/// What a DID document says about its subject.
#[derive(Clone, PartialEq, Eq)]
pub struct DidDocument {
    pub did: Did,
    /// The account's signing key (`#atproto`), P-256 or K-256.
    pub atproto_key: Option<PublicKey>,
    /// Every verification method with a readable key, by fragment (with its `#`).
    pub keys: Vec<(String, PublicKey)>,
    /// Those of type `Multikey` whose controller is the subject itself: what a server signs with.
    pub server_keys: Vec<(String, PublicKey)>,
    pub services: Vec<Service>,
    pub also_known_as: Vec<String>,
}

impl DidDocument {
    pub fn parse(did: &Did, json: &[u8]) -> Result<Self, Malformed> {
        let Ok(Value::Object(document)) = serde_json::from_slice(json) else {
            return Err(Malformed::new("DID document", "not a JSON object"));
        };
        if document.get("id").and_then(Value::as_str) != Some(did.as_str()) {
            return Err(Malformed::new("DID document", "its id is not the DID"));
        }
        let items = |name: &str| document.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();

        let (mut keys, mut server_keys) = (Vec::new(), Vec::new());
        let mut atproto_key = None;
        let mut atproto_seen = false;
        for method in items("verificationMethod").iter().take(MAX_ITEMS) {
            let Some(fragment) = fragment(did, method) else { continue };
            let key = read_key(method);
            // The first method of that name speaks for the account, readable or not.
            if fragment == "#atproto" && !atproto_seen {
                atproto_seen = true;
                atproto_key = key.clone().filter(|key| key.curve() != Curve::Ed25519);
            }
            let is_own = text(method, "type") == Some("Multikey") && text(method, "controller") == Some(did.as_str());
            server_keys.extend(key.clone().filter(|_| is_own).map(|key| (fragment.to_owned(), key)));
            keys.extend(key.map(|key| (fragment.to_owned(), key)));
        }

        let services = items("service").iter().take(MAX_ITEMS).filter_map(|service| {
            Some(Service {
                fragment: fragment(did, service)?.to_owned(),
                kind: text(service, "type").map(str::to_owned),
                endpoint: text(service, "serviceEndpoint").map(str::to_owned),
            })
        });
        let services = services.collect();
        let aliases = items("alsoKnownAs").iter().take(MAX_ITEMS);
        let also_known_as = aliases.filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Self { did: did.clone(), atproto_key, keys, server_keys, services, also_known_as })
    }

    /// The key with that fragment (`#peer-…`), if there is exactly one.
    pub fn key(&self, fragment: &str) -> Option<&PublicKey> {
        let mut found = self.keys.iter().filter(|(id, _)| id == fragment);
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
        let mut found = self.services("#atproto_mls");
        let first = found.next()?;
        if found.next().is_some() || first.kind.as_deref() != Some("AtprotoMlsService") {
            return None;
        }
        let endpoint = first.endpoint.as_deref()?;
        let url = Url::parse(endpoint).ok()?;
        let Some(Host::Domain(host)) = url.host() else { return None };
        match url.port() {
            None if endpoint == format!("https://{host}") => Did::parse(&format!("did:web:{host}")).ok(),
            Some(port) if development && endpoint == format!("http://localhost:{port}") => {
                Did::parse(&format!("did:web:localhost%3A{port}")).ok()
            }
            _ => None,
        }
    }

    /// The account's PDS, if exactly one is named.
    pub fn pds(&self) -> Option<&Service> {
        let mut found = self.services("#atproto_pds");
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }
}

impl std::fmt::Debug for DidDocument {
    /// Nothing that names the subject.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DidDocument({:?}, {} keys, {} services)", self.did, self.keys.len(), self.services.len())
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

/// `#name`, from `#name` or `<did>#name`. Anything else belongs to another subject.
fn fragment<'a>(did: &Did, item: &'a Value) -> Option<&'a str> {
    let id = text(item, "id")?;
    let fragment = if id.starts_with('#') { id } else { id.strip_prefix(did.as_str())? };
    (fragment.len() > 1 && fragment.starts_with('#')).then_some(fragment)
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
                    assert_eq!(document.key("#atproto"), Some(&key));
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
        assert_eq!(document.pds().unwrap().endpoint.as_deref(), Some("https://pds.example"));
        assert_eq!(document.services("#atproto_mls").next().unwrap().kind.as_deref(), Some("AtprotoMlsService"));
        assert_eq!(document.services("#list").next().unwrap().kind, None);
        assert_eq!(document.services("#map").next().unwrap().endpoint, None);
        assert_eq!(document.also_known_as, ["at://alice.example"]);
    }
}
