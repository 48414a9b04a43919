//! Our own cases for each rule of the interpreter: string formats, sound documents, records and the data model.

use serde_json::{Value, json};

use super::check::Checker;
use super::data_model;
use super::format::Format;
use super::tree::Catalog;
use super::violation::Path;

const CID: &str = "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua";

/// Each format with strings that the format accepts and strings that the format refuses.
const FORMATS: &[(Format, &[&str], &[&str])] = &[
    (
        Format::AtIdentifier,
        &["did:plc:3ewivn7nxzyoun6zhrhvs64oifz", "did:web:rookery.example", "alice.rookery.example", "A.b.CO"],
        &["", "did", "did:", "alice", "@alice.rookery.example", "did:PLC:abc", "alice.rookery.example.", "a b.example"],
    ),
    (
        Format::AtUri,
        &[
            "at://did:plc:abc",
            "at://alice.rookery.example",
            "at://alice.rookery.example/blue.catbird.mls.declaration",
            "at://did:web:rookery.example/blue.catbird.mls.declaration/self",
            "at://did:plc:abc/blue.catbird.mls.declaration/3jzfcijpj2z2a",
        ],
        &[
            "",
            "at://",
            "at:/did:plc:abc",
            "AT://did:plc:abc",
            "https://did:plc:abc",
            "at://alice",
            "at://did:plc:abc/",
            "at://did:plc:abc/nodots",
            "at://did:plc:abc//self",
            "at://did:plc:abc/blue.catbird.mls.declaration/",
            "at://did:plc:abc/blue.catbird.mls.declaration/..",
            "at://did:plc:abc/blue.catbird.mls.declaration/self/more",
            "at://did:plc:abc#fragment",
            "at://did:plc:abc?query",
        ],
    ),
    (
        Format::Cid,
        &[
            CID,
            "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
            "zdj7WhuEjrB52m1BisYCtmjH1hSKa7yZ3jEZ9JcXaFRD51wVz",
        ],
        &[
            "",
            "bafy",
            "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR",
            "bafy reigbtj4x7",
            "bafyreig.tj4x7ip5",
            "bafyreig/j4x7ip5l",
        ],
    ),
    (
        Format::Datetime,
        &[
            "2026-11-29T02:30:00Z",
            "2026-11-29T02:30:00.5Z",
            "2026-11-29T02:30:00.123456789Z",
            "2026-11-29T02:30:00+13:45",
            "2026-11-29T02:30:00-08:00",
            "0001-01-01T00:00:00Z",
        ],
        &[
            "",
            "2026-11-29",
            "2026-11-29T02:30Z",
            "2026-11-29T02:30:00",
            "2026-11-29 02:30:00Z",
            "2026-11-29t02:30:00Z",
            "2026-11-29T02:30:00z",
            "2026-11-29T02:30:00.Z",
            "2026-11-29T02:30:00-00:00",
            "2026-11-29T02:30:00+0100",
            "2026-11-29T24:00:00Z",
            "2026-11-29T02:60:00Z",
            "2026-11-29T02:30:60Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-32T00:00:00Z",
            "26-11-29T02:30:00Z",
            "+2026-11-29T02:30:00Z",
            " 2026-11-29T02:30:00Z",
            "0000-01-01T00:00:00+01:00",
        ],
    ),
    (
        Format::Did,
        &[
            "did:plc:3ewivn7nxzyoun6zhrhvs64oifz",
            "did:web:rookery.example",
            "did:web:localhost%3A3000",
            "did:key:zQ3sh",
            "did:m:a:b-c.d_e",
        ],
        &[
            "",
            "did",
            "did:plc",
            "did:plc:",
            "DID:plc:abc",
            "did:PLC:abc",
            "did:plc1:abc",
            "did:plc:abc:",
            "did:plc:abc%",
            "did:plc:a b",
            "did:plc:abc#key",
            "did:plc:abc/path",
            "did:plc:abc?query",
        ],
    ),
    (
        Format::Handle,
        &["a.co", "alice.rookery.example", "x--y.z.org", "127.0.0.1.name"],
        &["", "alice", "alice.", ".alice.com", "-a.com", "a-.com", "a_b.com", "a..com", "192.0.2.1", "älice.com"],
    ),
    (
        Format::Language,
        &["de", "gsw", "de-CH", "sr-Latn-RS", "zh-Hant", "i-navajo", "x-rookery", "sl-rozaj-biske"],
        &["", "d", "DE", "de_CH", "de-", "-de", "german", "de-toolongsubtag", "de CH", "123"],
    ),
    (
        Format::Nsid,
        &["blue.catbird.mls.sendMessage", "a.b.c", "a-b.c1.name", "one.two.three.four.five"],
        &[
            "",
            "blue",
            "blue.catbird",
            "blue.catbird.",
            ".blue.catbird.x",
            "blue..catbird.x",
            "1blue.catbird.x",
            "blue.catbird.send-message",
            "blue.catbird.1st",
            "blue.catbird.send_message",
            "blue.catbird.*",
            "blüe.catbird.x",
            "blue.catbird.x#y",
        ],
    ),
    (
        Format::RecordKey,
        &["self", "3jzfcijpj2z2a", "a", "A-b_c.d:e~f", "...", "00"],
        &["", ".", "..", "a/b", "a b", "a#b", "a?b", "ä", "a@b", "a+b", "a,b", "\"a\""],
    ),
    (
        Format::Tid,
        &["3jzfcijpj2z2a", "7777777777777", "2222222222222", "jzzzzzzzzzzzz"],
        &[
            "",
            "3jzfcijpj2z2",
            "3jzfcijpj2z2aa",
            "3JZFCIJPJ2Z2A",
            "3jzfcijpj2z21",
            "kzzzzzzzzzzzz",
            "zzzzzzzzzzzzz",
            "3jzf-cij-pj2z-2a",
        ],
    ),
    (
        Format::Uri,
        &[
            "https://rookery.example",
            "https://rookery.example/a?b=c#d",
            "at://did:plc:abc",
            "mailto:a@rookery.example",
            "did:plc:abc",
            "go:x",
            "a.b-c:d",
        ],
        &[
            "",
            "https",
            "https:",
            ":x",
            "HTTPS://rookery.example",
            "1a:x",
            "https://rookery.example/a b",
            "https://rookery.example/ä",
            " https://rookery.example",
            "//rookery.example",
            "x_y:z",
        ],
    ),
];

#[test]
fn each_format_accepts_and_refuses_its_cases() {
    for (format, good, bad) in FORMATS {
        for text in *good {
            assert!(format.accepts(text), "{format:?} accepts {text:?}");
        }
        for text in *bad {
            assert!(!format.accepts(text), "{format:?} refuses {text:?}");
        }
    }
    let named =
        ["at-identifier", "at-uri", "cid", "datetime", "did", "handle", "language", "nsid", "record-key", "tid", "uri"];
    let all: Vec<_> = named.iter().map(|name| Format::named(name).unwrap()).collect();
    assert_eq!(FORMATS.iter().map(|(format, ..)| *format).collect::<Vec<_>>(), all, "each format has cases");
}

#[test]
fn each_format_has_its_greatest_length() {
    let (label, repeated) = ("a".repeat(63), |text: &str, count: usize| text.repeat(count));
    for (format, fits, exceeds) in [
        (Format::Handle, format!("{label}.co"), format!("a{label}.co")),
        (Format::Did, format!("did:plc:{}", repeated("a", 2040)), format!("did:plc:{}", repeated("a", 2041))),
        (Format::Nsid, format!("{label}.b.{}", repeated("c", 63)), format!("{label}.b.{}", repeated("c", 64))),
        (Format::RecordKey, repeated("a", 512), repeated("a", 513)),
        (Format::Cid, repeated("b", 256), repeated("b", 257)),
        (Format::Uri, format!("a:{}", repeated("b", 8190)), format!("a:{}", repeated("b", 8191))),
    ] {
        assert!(format.accepts(&fits), "{format:?} of {}", fits.len());
        assert!(!format.accepts(&exceeds), "{format:?} of {}", exceeds.len());
    }
}

fn document(defs: &Value) -> Value {
    json!({ "lexicon": 1, "id": "rookery.cases.one", "defs": defs })
}

#[test]
fn sound_documents_load() {
    let object = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    for defs in [
        json!({ "main": object }),
        json!({ "main": { "type": "token" } }),
        json!({ "main": { "type": "record", "key": "any", "record": object } }),
        json!({ "main": { "type": "query", "parameters": { "type": "params", "properties": { "n": { "type": "integer" }, "s": { "type": "array", "items": { "type": "string" } } } } } }),
        json!({ "main": { "type": "procedure", "input": { "encoding": "application/json", "schema": object }, "errors": [{ "name": "NotFound" }] } }),
        json!({ "main": { "type": "subscription", "message": { "schema": { "type": "union", "refs": ["#event"] } } }, "event": object }),
        json!({ "main": { "type": "permission-set", "permissions": [] } }),
        json!({ "text": { "type": "string", "format": "did", "maxLength": 9 }, "list": { "type": "array", "items": { "type": "ref", "ref": "#text" } } }),
    ] {
        Catalog::compile(&[document(&defs)]).unwrap_or_else(|error| panic!("{error}: {defs}"));
    }
}

#[test]
fn unsound_documents_are_refused() {
    let mut broken: Vec<Value> = [
        json!({}),
        json!({ "main": {} }),
        json!({ "main": { "type": "nothing" } }),
        json!({ "main": { "type": "unknown" } }),
        json!({ "main": { "type": "ref", "ref": "#main" } }),
        json!({ "other": { "type": "record", "record": { "type": "object" } } }),
        json!({ "other": { "type": "query" } }),
        json!({ "main": { "type": "record", "record": { "type": "string" } } }),
        json!({ "main": { "type": "permission-set" } }),
        json!({ "main": { "type": "object", "required": ["absent"] } }),
        json!({ "main": { "type": "object", "nullable": ["absent"] } }),
        json!({ "main": { "type": "object", "properties": [] } }),
        json!({ "main": { "type": "object", "properties": { "x": { "type": "ref" } } } }),
        json!({ "main": { "type": "string", "format": "telephone" } }),
        json!({ "main": { "type": "string", "maxLength": -1 } }),
        json!({ "main": { "type": "string", "maxLength": "9" } }),
        json!({ "main": { "type": "string", "enum": [1] } }),
        json!({ "main": { "type": "integer", "minimum": 0.5 } }),
        json!({ "main": { "type": "integer", "const": "1" } }),
        json!({ "main": { "type": "array" } }),
        json!({ "main": { "type": "query", "parameters": { "type": "object" } } }),
        json!({ "main": { "type": "query", "parameters": { "type": "params", "properties": { "b": { "type": "bytes" } } } } }),
        json!({ "main": { "type": "procedure", "input": { "schema": { "type": "string" } } } }),
        json!({ "main": { "type": "query", "errors": [{}] } }),
    ]
    .iter()
    .map(document)
    .collect();
    let good = document(&json!({ "main": { "type": "token" } }));
    for (field, value) in [("lexicon", json!(2)), ("id", json!("rookery")), ("id", json!(null)), ("defs", json!([]))] {
        let mut document = good.clone();
        document[field] = value;
        broken.push(document);
    }
    for document in broken {
        assert!(Catalog::compile(std::slice::from_ref(&document)).is_err(), "{document}");
    }
    assert!(Catalog::compile(&[good.clone(), good]).is_err(), "one definition twice");
}

fn catalog() -> Catalog {
    let properties = json!({
        "integer": { "type": "integer", "minimum": 1, "maximum": 9 },
        "one": { "type": "integer", "const": 7 },
        "few": { "type": "integer", "enum": [3, 5] },
        "yes": { "type": "boolean", "const": true },
        "short": { "type": "string", "minLength": 2, "maxLength": 4 },
        "signs": { "type": "string", "minGraphemes": 1, "maxGraphemes": 2 },
        "colour": { "type": "string", "enum": ["red", "green"] },
        "hint": { "type": "string", "knownValues": ["a"] },
        "did": { "type": "string", "format": "did" },
        "bytes": { "type": "bytes", "minLength": 1, "maxLength": 2 },
        "link": { "type": "cid-link" },
        "image": { "type": "blob", "accept": ["image/*"], "maxSize": 100 },
        "list": { "type": "array", "items": { "type": "integer" }, "minLength": 1, "maxLength": 2 },
        "part": { "type": "ref", "ref": "#part" },
        "open": { "type": "union", "refs": ["#part"] },
        "closed": { "type": "union", "refs": ["#part"], "closed": true },
        "any": { "type": "unknown" },
        "perhaps": { "type": "string" },
    });
    let record =
        json!({ "type": "object", "required": ["integer"], "nullable": ["perhaps"], "properties": properties });
    let part = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } });
    let defs = json!({ "main": { "type": "record", "record": record }, "part": part });
    Catalog::compile(&[document(&defs)]).unwrap()
}

#[test]
fn a_record_is_checked_field_by_field() {
    let catalog = catalog();
    let blob =
        |mime: &str, size: Value| json!({ "$type": "blob", "ref": { "$link": CID }, "mimeType": mime, "size": size });
    let part = |name: &str, n: Value| json!({ "$type": format!("rookery.cases.one#{name}"), "n": n });
    let cases = [
        (
            "integer",
            vec![json!(1), json!(9), json!(5.0)],
            vec![json!(0), json!(10), json!(1.5), json!("1"), json!(true), json!(null)],
        ),
        ("one", vec![json!(7)], vec![json!(8)]),
        ("few", vec![json!(3), json!(5)], vec![json!(4)]),
        ("yes", vec![json!(true)], vec![json!(false), json!(1), json!("true")]),
        ("short", vec![json!("ab"), json!("äö")], vec![json!("a"), json!("abcde"), json!("äöü"), json!(12)]),
        ("signs", vec![json!("a"), json!("e\u{301}e\u{301}"), json!("👩‍👩‍👧")], vec![json!(""), json!("abc")]),
        ("colour", vec![json!("red")], vec![json!("blue"), json!("RED")]),
        ("hint", vec![json!("a"), json!("anything")], vec![json!(1)]),
        ("did", vec![json!("did:plc:abc")], vec![json!("alice.example"), json!("")]),
        (
            "bytes",
            vec![json!({ "$bytes": "AQ" }), json!({ "$bytes": "AQI=" })],
            vec![
                json!({ "$bytes": "" }),
                json!({ "$bytes": "AQID" }),
                json!({ "$bytes": "A" }),
                json!("AQ"),
                json!({ "$bytes": "AQ", "x": 1 }),
            ],
        ),
        (
            "link",
            vec![json!({ "$link": CID })],
            vec![json!(CID), json!({ "$link": "x" }), json!({ "$link": CID, "x": 1 })],
        ),
        (
            "image",
            vec![blob("image/png", json!(100)), blob("image/", json!(0))],
            vec![
                blob("text/plain", json!(1)),
                blob("image/png", json!(101)),
                blob("image/png", json!(-1)),
                blob("", json!(1)),
                json!({ "$type": "blob" }),
            ],
        ),
        (
            "list",
            vec![json!([1]), json!([1, 2])],
            vec![json!([]), json!([1, 2, 3]), json!(["1"]), json!(1), json!([null])],
        ),
        (
            "part",
            vec![json!({ "n": 1 }), json!({ "n": 1, "more": "x" })],
            vec![json!({}), json!({ "n": "1" }), json!([])],
        ),
        (
            "open",
            vec![part("part", json!(1)), part("other", json!("x"))],
            vec![part("part", json!("x")), json!({ "n": 1 }), json!({ "$type": "" }), json!(1)],
        ),
        ("closed", vec![part("part", json!(1))], vec![part("other", json!(1)), part("part", json!("x"))]),
        ("any", vec![json!({}), json!({ "a": [1, null] })], vec![json!([]), json!("x"), json!({ "a": 1.5 })]),
        ("perhaps", vec![json!(null), json!("x")], vec![json!(1)]),
        ("undeclared", vec![json!(null), json!(1)], vec![]),
    ];
    let judged = |record: &Value| {
        let schema = catalog.definition("rookery.cases.one#main").unwrap();
        Checker::new(&catalog).check(schema, record, &Path::root("record"))
    };
    for (field, good, bad) in cases {
        let record = |value: &Value| {
            let mut record = json!({ "$type": "rookery.cases.one", "integer": 1 });
            record[field] = value.clone();
            record
        };
        for value in &good {
            judged(&record(value)).unwrap_or_else(|error| panic!("{field} is {value}: {error}"));
        }
        for value in &bad {
            assert!(judged(&record(value)).is_err(), "{field} is {value}");
        }
    }
    assert!(judged(&json!({})).is_err(), "the required field is missing");
    assert!(judged(&json!([])).is_err() && judged(&json!("x")).is_err(), "no object");
}

#[test]
fn the_data_model_of_json_is_kept() {
    let blob = json!({ "$type": "blob", "ref": { "$link": CID }, "mimeType": "a/b", "size": 1 });
    for good in [
        json!({}),
        json!({ "a": [null, true, "x", -1, { "b": [] }] }),
        json!({ "a": 9_007_199_254_740_991_i64 }),
        json!({ "a": { "$bytes": "AAEC/w" }, "b": { "$link": CID }, "c": blob }),
        json!({ "$type": "rookery.cases.one", "a": 2.0 }),
    ] {
        data_model::object(&good, &Path::root("value")).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    for bad in [
        json!([]),
        json!("x"),
        json!(null),
        json!({ "$bytes": "AQ" }),
        json!({ "$link": CID }),
        blob,
        json!({ "a": 0.5 }),
        json!({ "a": 9_007_199_254_740_992_i64 }),
        json!({ "a": [{ "b": 1e300 }] }),
        json!({ "a": { "$bytes": 1 } }),
        json!({ "a": { "$bytes": "AQ", "b": 1 } }),
        json!({ "a": { "$bytes": "*" } }),
        json!({ "a": { "$link": 1 } }),
        json!({ "a": { "$link": "bafy" } }),
        json!({ "a": { "$link": CID, "b": 1 } }),
        json!({ "a": { "$type": "" } }),
        json!({ "a": { "$type": 1 } }),
        json!({ "a": { "$type": "blob", "ref": CID, "mimeType": "a/b", "size": 1 } }),
        json!({ "a": { "$type": "blob", "ref": { "$link": CID }, "size": 1 } }),
        json!({ "a": { "$type": "blob", "ref": { "$link": CID }, "mimeType": "a/b", "size": "1" } }),
    ] {
        assert!(data_model::object(&bad, &Path::root("value")).is_err(), "{bad}");
    }
}
