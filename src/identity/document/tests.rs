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
    for document in [json!({}), json!([]), json!({ "id": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" }), json!({ "id": [DID] })]
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
        let service = json!({ "id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": endpoint });
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
