//! The contract against itself, and what the interpreter promises to callers.

use serde_json::{Value, json};

use super::super::documents::{every_method, every_record};
use super::{CATALOG, DOCUMENTS, examples, input, message, methods, output, params, record, record_examples, streams};
use crate::lexicon::{Kind, Method, Record};
use crate::types::Named;

const SEND: &str = "blue.catbird.mls.sendMessage";
const LIST: &str = "blue.catbird.event.listEvents";
const GET: &str = "blue.catbird.mls.getKeyPackages";

fn query(params: &Value) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in params.as_object().unwrap() {
        for value in value.as_array().unwrap_or(&vec![value.clone()]) {
            query.append_pair(name, value.as_str().map_or(value.to_string(), str::to_owned).as_str());
        }
    }
    query.finish()
}

/// Reads `value` into the generated type and back.
fn assert_round_trip<T: serde::de::DeserializeOwned + serde::Serialize>(nsid: &str, value: &Value) {
    let typed: T = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{nsid}: {e}: {value}"));
    assert_eq!(&serde_json::to_value(&typed).unwrap(), value, "{nsid}");
}

fn assert_examples<M: Method>() {
    let nsid = M::NSID;
    let examples = examples(nsid);
    assert!(!examples.is_empty(), "{nsid} shows no example");
    for example in examples {
        let read = params(nsid, &query(example.params.as_ref().unwrap_or(&json!({})))).unwrap();
        assert_round_trip::<M::Params>(nsid, &read);
        for (name, value) in example.params.iter().flat_map(|params| params.as_object().unwrap()) {
            assert_eq!(&read[name], value, "{nsid}: {name}");
        }
        assert_eq!(M::KIND == Kind::Procedure, example.input.is_some(), "{nsid} has an input exactly if a procedure");
        if let Some(mut body) = example.input {
            input(nsid, &mut body).unwrap();
            assert_round_trip::<M::Input>(nsid, &body);
        }
        if streams(nsid) {
            assert_eq!(example.output, None, "{nsid} answers event by event");
            continue;
        }
        let body = example.output.unwrap_or_else(|| panic!("{nsid}: an example without output"));
        output(nsid, &body).unwrap();
        assert_round_trip::<M::Output>(nsid, &body);
    }
}

#[test]
fn every_example_obeys_its_lexicon_and_its_types() {
    let mut seen = 0;
    macro_rules! each {
        ($method:ty) => {
            assert_examples::<$method>();
            seen += 1;
        };
    }
    every_method!(each);
    assert_eq!(seen, methods().count());
}

#[test]
fn every_example_of_a_record_obeys_its_lexicon_and_its_type() {
    let mut seen = 0;
    macro_rules! each {
        ($record:ty) => {
            let nsid = <$record as Record>::NSID;
            assert!(!record_examples(nsid).is_empty(), "{nsid} shows no example");
            for example in record_examples(nsid) {
                record(nsid, example).unwrap();
                assert_round_trip::<$record>(nsid, example);
            }
            seen += 1;
        };
    }
    every_record!(each);
    assert_eq!(seen, CATALOG.records.len());
}

#[test]
fn a_record_is_refused_with_its_place() {
    let nsid = "blue.catbird.mls.declaration";
    let good = &record_examples(nsid)[0];
    for (place, value, why) in [
        ("$type", json!("chat.bsky.actor.declaration"), "record/$type: expected blue.catbird.mls.declaration"),
        ("service", json!(""), "record/service: expected a string of at least 1 bytes"),
        ("service", json!("s".repeat(301)), "record/service: expected a string of at most 300 bytes"),
        ("allowInvites", json!(true), "record/allowInvites: expected a string"),
        ("createdAt", json!("today"), "record/createdAt: expected an RFC 3339 time with its zone"),
    ] {
        let mut body = good.clone();
        body[place] = value;
        assert_eq!(record(nsid, &body).unwrap_err().to_string(), why);
    }
    let mut body = good.clone();
    body.as_object_mut().unwrap().remove("service");
    assert_eq!(record(nsid, &body).unwrap_err().to_string(), "record/service: is required");
    assert_eq!(record("blue.catbird.mls.defs", good).unwrap_err().to_string(), "record: no such record");
}

#[test]
fn every_generated_error_is_a_declared_one_with_its_status() {
    fn assert_errors<M: Method>() {
        let (_, kind, declared) = methods().find(|(nsid, ..)| *nsid == M::NSID).unwrap();
        assert_eq!(kind, M::KIND);
        assert_eq!(M::Error::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), *declared, "{}", M::NSID);
        for (name, status) in M::Error::NAMES {
            let error = M::Error::from_name(name, "words".into()).unwrap();
            assert_eq!((error.name(), error.status(), error.detail().message.as_str()), (*name, *status, "words"));
        }
        assert!(M::Error::from_name("NoSuchError", "words".into()).is_none());
    }
    macro_rules! each {
        ($method:ty) => {
            assert_errors::<$method>();
        };
    }
    every_method!(each);
}

#[test]
fn every_method_says_its_caller_every_error_its_status_and_every_field_its_limit() {
    fn described(value: &Value, nsid: &str) {
        for (name, schema) in value["properties"].as_object().into_iter().flatten() {
            let text = schema["description"].as_str().unwrap_or_default();
            assert!(text.ends_with('.'), "{nsid}: {name}");
            let limited = schema.get("maxLength").is_some() || schema.get("maximum").is_some();
            assert!(!limited || text.contains(|c: char| c.is_ascii_digit()), "{nsid}: {name} does not tell its limit");
        }
    }
    for (nsid, text) in DOCUMENTS {
        let document: Value = serde_json::from_str(text).unwrap();
        let main = &document["defs"]["main"];
        if methods().any(|(method, ..)| method == *nsid) {
            let text = main["description"].as_str().unwrap();
            assert!(text.contains(". Caller: ") && text.ends_with('.'), "{nsid} does not say who may call it");
        }
        for error in main["errors"].as_array().into_iter().flatten() {
            let (status, words) = error["description"].as_str().unwrap().split_once(": ").unwrap();
            assert!((400..500).contains(&status.parse::<u16>().unwrap()) && words.ends_with('.'), "{nsid}: {error}");
        }
        for part in [&main["parameters"], &main["input"]["schema"], &main["output"]["schema"]] {
            described(part, nsid);
        }
        let defs = document["defs"].as_object().unwrap();
        defs.values().for_each(|def| described(if def["type"] == "record" { &def["record"] } else { def }, nsid));
    }
}

#[test]
fn every_string_bytes_array_and_integer_has_a_limit() {
    fn assert_limited(schema: &Value, place: &str) {
        let has = |key: &str| schema.get(key).is_some();
        let limited = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum") || has("format"),
            Some("bytes" | "array") => has("maxLength"),
            Some("integer") => has("minimum"),
            _ => true,
        };
        assert!(limited, "{place}: {schema}");
        for (name, part) in schema.as_object().into_iter().flatten().filter(|(name, _)| *name != "examples") {
            assert_limited(part, &format!("{place}/{name}"));
        }
    }
    for (nsid, text) in DOCUMENTS {
        assert_limited(&serde_json::from_str::<Value>(text).unwrap()["defs"], nsid);
    }
}

#[test]
fn every_ref_of_the_contract_leads_somewhere() {
    assert_eq!(CATALOG.missing, Vec::<String>::new());
}

#[test]
fn parameters_are_read_strictly() {
    let long = format!("cursor={}", "1".repeat(513));
    assert_eq!(params(LIST, "").unwrap(), json!({"limit": 50}));
    assert_eq!(params(LIST, "limit=7&cursor=&other=x&tags[]=y").unwrap(), json!({"limit": 7}));
    assert_eq!(
        params(GET, "accounts=did:web:a.example&accounts=did%3Aplc%3Axyz").unwrap()["accounts"][1],
        "did:plc:xyz"
    );
    for (nsid, query, why) in [
        (LIST, "limit=7&limit=7", "params/limit: is given more than once"),
        (LIST, "limit=abc", "params/limit: expected an integer below 2^53"),
        (LIST, "limit=3.7", "params/limit: expected an integer below 2^53"),
        (LIST, "limit=+3", "params/limit: expected an integer below 2^53"),
        (LIST, "limit=9007199254740992", "params/limit: expected an integer below 2^53"),
        (LIST, "limit=101", "params/limit: expected an integer of at most 100"),
        (LIST, "limit=0", "params/limit: expected an integer of at least 1"),
        (LIST, &long, "params/cursor: expected a string of at most 512 bytes"),
        (GET, "", "params/accounts: is required"),
        (GET, "accounts=", "params/accounts: is required"),
        (GET, "accounts=did:web:a.example,did:web:b.example", "params/accounts/0: expected a DID"),
        ("blue.catbird.mls.nothing", "", "method: no such method"),
    ] {
        assert_eq!(params(nsid, query).unwrap_err().to_string(), why, "{query}");
    }
    assert_eq!(
        params(GET, &"accounts=did:web:a.example&".repeat(21)).unwrap_err().message,
        "expected at most 20 items"
    );
}

#[test]
fn an_input_is_refused_with_its_place_and_without_its_contents() {
    let add = "blue.catbird.mls.addMembers";
    let good = examples(add).remove(0).input.unwrap();
    let mut extra = good.clone();
    extra["adds"][0]["later"] = json!({"x": 1.5});
    input(add, &mut extra).unwrap();
    for (place, value, why) in [
        ("/adds/0/device", json!("d".repeat(65)), "input/adds/0/device: expected a string of at most 64 bytes"),
        ("/adds/0/account", json!("secret"), "input/adds/0/account: expected a DID"),
        ("/adds", json!([]), "input/adds: expected at least 1 items"),
        ("/adds", json!("secret"), "input/adds: expected an array"),
        ("/idem", json!("short"), "input/idem: expected a string of at least 16 bytes"),
        ("/idem", json!(null), "input/idem: must not be null; leave it out"),
        ("/commit", json!("AQ"), "input/commit: expected exactly {\"$bytes\": \"…\"}"),
        ("/commit", json!({"$bytes": "AQ", "x": 1}), "input/commit: expected exactly {\"$bytes\": \"…\"}"),
        ("/commit", json!({"$bytes": "s*cret"}), "input/commit: expected $bytes to be base64 of the standard alphabet"),
        ("", json!([]), "input: expected an object"),
    ] {
        let mut body = good.clone();
        *body.pointer_mut(place).unwrap() = value;
        assert_eq!(input(add, &mut body).unwrap_err().to_string(), why);
    }
    let mut body = good;
    body.as_object_mut().unwrap().remove("welcome");
    assert_eq!(input(add, &mut body).unwrap_err().to_string(), "input/welcome: is required");
}

#[test]
fn bytes_are_measured_decoded() {
    let mut body = examples(SEND).remove(0).input.unwrap();
    for (length, fits) in [(983_040, true), (983_041, false)] {
        let bytes = crate::types::Bytes(vec![0; length]);
        body["ciphertext"] = serde_json::to_value(&bytes).unwrap();
        assert_eq!(input(SEND, &mut body).is_ok(), fits, "{length}");
    }
}

#[test]
fn u0000_is_refused_in_every_string_and_names_its_field() {
    let refused = |nsid: &str, body: Value| input(nsid, &mut body.clone()).unwrap_err().to_string();
    let mut body = examples(SEND).remove(0).input.unwrap();
    body["idem"] = json!("a\0b");
    assert!(refused(SEND, body).starts_with("input/idem: "));
    let account = "blue.catbird.account.setBlock";
    assert_eq!(
        refused(account, json!({"account": "did:web:a\0.example", "blocked": true})).split(':').next(),
        Some("input/account")
    );
    assert_eq!(params(account, "x=%00").is_err(), params(account, "x=y").is_err());
    let messages = "blue.catbird.mls.getMessages";
    let error = params(messages, "stream=a%00b").unwrap_err();
    assert_eq!(error.to_string(), "params/stream: must not contain U+0000");
}

#[test]
fn a_whole_float_is_an_integer_for_the_types_too() {
    let cursor = "blue.catbird.mls.updateCursor";
    let mut body = json!({"stream": "s", "seq": 7.0});
    input(cursor, &mut body).unwrap();
    assert_round_trip::<crate::lexicon::mls::update_cursor::Input>(cursor, &body);
    for seq in [json!(7.5), json!(-1), json!(9_007_199_254_740_992_u64), json!("7")] {
        input(cursor, &mut json!({"stream": "s", "seq": seq})).unwrap_err();
    }
}

#[test]
fn messages_are_checked_by_their_kind() {
    let subscribe = "blue.catbird.event.subscribe";
    let body = json!({"stream": "s", "seq": 7});
    message(subscribe, "#cursor", &body).unwrap();
    message(subscribe, "cursor", &body).unwrap();
    assert_eq!(message(subscribe, "message", &body).unwrap_err().path, "message/term");
    assert_eq!(message(subscribe, "nothing", &body).unwrap_err().message, "no such kind of message");
    assert_eq!(output(subscribe, &body).unwrap_err().to_string(), "output/$type: is required");
}
