//! The public vectors of AT Protocol (github.com/bluesky-social/atproto-interop-tests).
//!
//! `make vectors` runs these tests, with the vectors in `VECTORS_DIR`.

use std::path::PathBuf;

use serde_json::Value;

use super::check::Checker;
use super::data_model;
use super::format::Format;
use super::tree::Catalog;
use super::violation::Path;

/// The files that nothing here judges, each with its reason.
const NOT_APPLICABLE: &[(&str, &str)] = &[(
    "syntax/language_parse_invalid.txt",
    "tags that are well-formed and say a subtag twice: lexicons ask for well-formed ones, and nothing here reads a tag",
)];

/// The files that other modules judge.
const ELSEWHERE: &[(&str, &str)] = &[
    ("crypto/signature-fixtures.json", "identity::keys"),
    ("crypto/w3c_didkey_K256.json", "identity::keys"),
    ("crypto/w3c_didkey_P256.json", "identity::keys"),
];

/// The files that tests below read by name.
const HERE: &[&str] = &[
    "data-model/data-model-fixtures.json",
    "data-model/data-model-invalid.json",
    "data-model/data-model-valid.json",
    "lexicon/catalog/permission-set.json",
    "lexicon/catalog/procedure.json",
    "lexicon/catalog/query.json",
    "lexicon/catalog/record.json",
    "lexicon/catalog/subscription.json",
    "lexicon/lexicon-invalid.json",
    "lexicon/lexicon-valid.json",
    "lexicon/record-data-invalid.json",
    "lexicon/record-data-valid.json",
    "syntax/datetime_parse_invalid.txt",
];

#[test]
fn every_file_of_vectors_is_judged_or_has_a_reason_not_to_be() {
    let mut known: Vec<String> = HERE.iter().map(|name| (*name).to_owned()).collect();
    known.extend(NOT_APPLICABLE.iter().chain(ELSEWHERE).map(|(name, _)| (*name).to_owned()));
    for (_, name) in FORMATS {
        known.extend(["valid", "invalid"].map(|verdict| format!("syntax/{name}_syntax_{verdict}.txt")));
    }
    known.sort();
    let (mut found, mut folders) = (Vec::new(), vec![folder()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    assert_eq!(found, known);
}

fn folder() -> PathBuf {
    crate::vectors::folder()
}

fn read(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn cases(name: &str) -> Vec<Value> {
    serde_json::from_str(&read(name)).unwrap()
}

/// Lines of a syntax file. A line that is only a comment or empty is none; leading and trailing blanks count.
fn lines(name: &str) -> Vec<String> {
    let text = read(&format!("syntax/{name}.txt"));
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

fn assert_syntax(format: Format, file: &str, valid: bool) {
    let lines = lines(file);
    assert!(!lines.is_empty(), "{file} holds no vectors");
    let wrong: Vec<_> = lines.iter().filter(|line| format.accepts(line) != valid).collect();
    assert!(wrong.is_empty(), "{file}: expected valid = {valid}: {wrong:#?}");
}

#[test]
fn string_formats_accept_what_is_valid() {
    for (format, file) in FORMATS {
        assert_syntax(*format, &format!("{file}_syntax_valid"), true);
    }
}

#[test]
fn string_formats_refuse_what_is_invalid() {
    for (format, file) in FORMATS {
        assert_syntax(*format, &format!("{file}_syntax_invalid"), false);
    }
    assert_syntax(Format::Datetime, "datetime_parse_invalid", false);
}

const FORMATS: &[(Format, &str)] = &[
    (Format::AtIdentifier, "atidentifier"),
    (Format::AtUri, "aturi"),
    (Format::Cid, "cid"),
    (Format::Datetime, "datetime"),
    (Format::Did, "did"),
    (Format::Handle, "handle"),
    (Format::Language, "language"),
    (Format::Nsid, "nsid"),
    (Format::RecordKey, "recordkey"),
    (Format::Tid, "tid"),
    (Format::Uri, "uri"),
];

#[test]
fn sound_lexicons_load_and_others_do_not() {
    for case in cases("lexicon/lexicon-valid.json") {
        Catalog::compile(&[case["lexicon"].clone()]).unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
    }
    for case in cases("lexicon/lexicon-invalid.json") {
        assert!(Catalog::compile(&[case["lexicon"].clone()]).is_err(), "{}", case["name"]);
    }
}

fn catalog() -> Catalog {
    let names = ["permission-set", "procedure", "query", "record", "subscription"];
    let texts: Vec<_> = names.iter().map(|name| read(&format!("lexicon/catalog/{name}.json"))).collect();
    Catalog::load(texts.iter().map(String::as_str)).unwrap()
}

#[test]
fn the_catalog_loads_and_its_methods_are_there() {
    let catalog = catalog();
    let methods: Vec<_> = catalog.methods.keys().map(String::as_str).collect();
    assert_eq!(methods, ["example.lexicon.procedure", "example.lexicon.query", "example.lexicon.subscription"]);
    assert_eq!(catalog.missing, ["app.bsky.actor.defs#preferences"], "the vectors do not bring this document");
}

#[test]
fn records_of_the_catalog_are_judged_as_the_vectors_say() {
    let catalog = catalog();
    let check = |case: &Value| {
        let name = format!("{}#main", case["data"]["$type"].as_str().unwrap());
        Checker::new(&catalog).check(catalog.definition(&name).unwrap(), &case["data"], &Path::root("record"))
    };
    for case in cases("lexicon/record-data-valid.json") {
        check(&case).unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
    }
    for mut case in cases("lexicon/record-data-invalid.json") {
        let name = case["name"].as_str().unwrap().to_owned();
        // Some vectors lack the required field as well, and would be refused for that alone.
        if name != "missing required field" && case["data"].get("integer").is_none() {
            case["data"]["integer"] = 1.into();
        }
        assert!(check(&case).is_err(), "{name}");
    }
}

#[test]
fn the_data_model_is_judged_as_the_vectors_say() {
    let check = |value: &Value| data_model::object(value, &Path::root("value"));
    for case in cases("data-model/data-model-valid.json") {
        check(&case["json"]).unwrap_or_else(|e| panic!("{}: {e}", case["note"]));
    }
    for case in cases("data-model/data-model-fixtures.json") {
        check(&case["json"]).unwrap_or_else(|e| panic!("{}: {e}", case["cid"]));
    }
    for case in cases("data-model/data-model-invalid.json") {
        assert!(check(&case["json"]).is_err(), "{}", case["note"]);
    }
}
