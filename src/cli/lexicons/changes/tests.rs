use serde_json::{Value, json};

use super::breaking;
use crate::lexicon::DOCUMENTS;

fn document(nsid: &str) -> Value {
    let (_, text) = DOCUMENTS.iter().find(|(known, _)| *known == nsid).unwrap();
    serde_json::from_str(text).unwrap()
}

/// What breaks when `change` is made to a document of ours.
fn after(nsid: &str, change: impl FnOnce(&mut Value)) -> Vec<String> {
    let old = document(nsid);
    let mut new = old.clone();
    change(&mut new);
    assert_ne!(old, new, "the change changes something");
    breaking(&old, &new)
}

fn remove(value: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap().as_object_mut().unwrap().shift_remove(key).expect(pointer);
}

fn push(value: &mut Value, pointer: &str, item: Value) {
    value.pointer_mut(pointer).expect(pointer).as_array_mut().unwrap().push(item);
}

const SEND: &str = "blue.catbird.mls.sendMessage";
const INPUT: &str = "/defs/main/input/schema";
const DEFS: &str = "blue.catbird.mls.defs";

/// What somebody does to a lexicon.
type Change = Box<dyn FnOnce(&mut Value)>;

#[test]
fn a_lexicon_may_stay_as_it_is() {
    for (nsid, _) in DOCUMENTS {
        assert_eq!(breaking(&document(nsid), &document(nsid)), Vec::<String>::new(), "{nsid}");
    }
}

#[test]
fn what_is_added_breaks_nothing() {
    let field = json!({ "type": "string", "maxLength": 8 });
    let changes: [(&str, Change); 10] = [
        (SEND, Box::new(|new| new["defs"]["main"]["description"] = "Other words.".into())),
        (SEND, Box::new(|new| push(new, "/defs/main/errors", json!({ "name": "New" })))),
        (SEND, Box::new(|new| new["defs"]["later"] = json!({ "type": "object", "properties": {} }))),
        (SEND, {
            let field = field.clone();
            Box::new(move |new| new["defs"]["main"]["input"]["schema"]["properties"]["later"] = field)
        }),
        (SEND, Box::new(|new| new["defs"]["main"]["input"]["schema"]["properties"]["idem"]["maxLength"] = 128.into())),
        (SEND, Box::new(|new| new["defs"]["main"]["input"]["schema"]["required"] = json!(["stream"]))),
        (DEFS, Box::new(move |new| new["defs"]["receipt"]["properties"]["later"] = field)),
        (DEFS, Box::new(|new| push(new, "/defs/member/properties/role/knownValues", "guest".into()))),
        ("blue.catbird.event.subscribe", Box::new(|new| push(new, "/defs/main/message/schema/refs", "#opened".into()))),
        (
            "blue.catbird.authFullChatClient",
            Box::new(|new| push(new, "/defs/main/permissions/0/lxm", "blue.catbird.mls.later".into())),
        ),
    ];
    for (nsid, change) in changes {
        assert_eq!(after(nsid, change), Vec::<String>::new());
    }
}

#[test]
fn whatever_takes_away_is_named_with_its_place() {
    let removed = |nsid: &str, pointer: &str| after(nsid, |new| remove(new, pointer));
    for (found, expected) in [
        (removed(SEND, "/defs/main"), "#main is gone"),
        (removed(SEND, "/defs/main/input"), "#main/input is gone"),
        (removed(SEND, "/defs/main/output"), "#main/output is gone"),
        (removed(DEFS, "/defs/receipt"), "#receipt is gone"),
        (removed(DEFS, "/defs/member/properties/role"), "#member/role is gone"),
        (removed("blue.catbird.mls.getMessages", "/defs/main/parameters"), "#main/parameters/stream is gone"),
    ] {
        assert_eq!(found.first().map(String::as_str), Some(expected), "{found:?}");
    }
    let error = after(SEND, |new| drop(new["defs"]["main"]["errors"].as_array_mut().unwrap().remove(0)));
    assert_eq!(error, ["#main/errors no longer declares \"StreamNotFound\""]);
    let set = after("blue.catbird.authFullChatClient", |new| {
        new["defs"]["main"]["permissions"][1]["action"] = json!(["create"]);
    });
    assert_eq!(set, ["#main no longer grants blue.catbird.mls.declaration in the same way"]);
}

#[test]
fn a_limit_moves_in_neither_direction_save_wider_for_what_callers_write() {
    let idem = format!("{INPUT}/properties/idem");
    let set = |nsid: &str, pointer: &str, key: &str, value: Value| {
        after(nsid, |new| new.pointer_mut(pointer).unwrap()[key] = value).join("; ")
    };
    let (member, role) = ("/defs/member/properties/fromSeq", "/defs/member/properties/role");
    for (found, expected) in [
        (set(SEND, &idem, "maxLength", 32.into()), "#main/input/schema/idem is narrower: maxLength 32 instead of 64"),
        (set(SEND, &idem, "minLength", 20.into()), "#main/input/schema/idem is narrower: minLength 20 instead of 16"),
        (
            set(SEND, &idem, "format", "tid".into()),
            "#main/input/schema/idem is narrower: format \"tid\" instead of null",
        ),
        (set(DEFS, member, "minimum", 1.into()), "#member/fromSeq is narrower: minimum 1 instead of 0"),
        (
            set(DEFS, role, "maxLength", 64.into()),
            "#member/role is wider than old readers take: maxLength 64 instead of 32",
        ),
        (set(DEFS, role, "knownValues", json!(["admin"])), "#member/role no longer knows the value member"),
        (set(DEFS, role, "type", "bytes".into()), "#member/role has type \"bytes\" instead of \"string\""),
        (
            set(DEFS, role, "pattern", "x".into()),
            "#member/role/pattern changed, and whether that is additive is not known",
        ),
        (
            set(DEFS, "/defs/convo/properties/handshakePolicy", "enum", json!(["opaque", "validated", "x"])),
            "#convo/handshakePolicy is wider than old readers take: enum [\"opaque\",\"validated\",\"x\"] instead of \
             [\"opaque\",\"validated\"]",
        ),
        (
            set(DEFS, "/defs/convo/properties/head", "ref", "#other".into()),
            "#convo/head has ref \"#other\" instead of \"blue.catbird.event.defs#head\"",
        ),
        (
            set(DEFS, "/defs/convo/properties/members/items", "ref", "#leaf".into()),
            "#convo/members/items has ref \"#leaf\" instead of \"#member\"",
        ),
        (
            set("blue.catbird.mls.getMessages", "/defs/main/parameters/properties/limit", "default", 20.into()),
            "#main/parameters/limit/default changed, and whether that is additive is not known",
        ),
        (
            set("blue.catbird.mls.declaration", "/defs/main", "key", "tid".into()),
            "#main has key \"tid\" instead of \"literal:self\"",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn what_is_due_stays_due_and_nothing_else_becomes_so() {
    let new_field = after(SEND, |new| {
        new.pointer_mut(INPUT).unwrap()["properties"]["later"] = json!({ "type": "boolean" });
        push(new, &format!("{INPUT}/required"), "later".into());
    });
    assert_eq!(new_field, ["#main/input/schema/later is newly required"]);
    let optional = after(DEFS, |new| new["defs"]["leaf"]["required"] = json!(["device"]));
    assert_eq!(optional, ["#leaf/fromSeq is no longer required, and old readers count on it"]);
    let nullable = after(DEFS, |new| new["defs"]["leaf"]["nullable"] = json!(["fromSeq"]));
    assert_eq!(nullable, ["#leaf/fromSeq may be null, and old readers do not take that"]);
}
