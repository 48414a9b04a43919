//! The interpreter: checks values against the documents, for all that types cannot say.
//!
//! Invariant: no message of a [`Violation`] holds anything that the caller sent, only names and limits of the lexicon.
//! Fields that a lexicon does not declare are neither checked nor rejected. The documents are compiled once into a typed
//! tree; a check walks a body once and copies nothing of it.

mod bytes;
#[cfg(test)]
mod cases;
mod check;
mod data_model;
mod format;
mod load;
mod query;
#[cfg(test)]
mod tests;
mod tree;
#[cfg(all(test, feature = "vectors"))]
mod vectors;
mod violation;

use std::sync::LazyLock;

use serde_json::Value;

use self::check::Checker;
use self::tree::{Catalog, MethodSchema};
use self::violation::Path;
pub use self::violation::Violation;
use super::{DOCUMENTS, Kind};

/// Parts of one call as its lexicon shows it; in a subscription `output` is a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    pub params: Option<Value>,
    pub input: Option<Value>,
    pub output: Option<Value>,
}

#[expect(clippy::expect_used, reason = "the documents are compiled in, and a test loads them")]
static CATALOG: LazyLock<Catalog> =
    LazyLock::new(|| Catalog::load(DOCUMENTS.iter().map(|(_, text)| *text)).expect("the lexicons are sound"));

fn method(nsid: &str) -> Result<&'static MethodSchema, Violation> {
    CATALOG.methods.get(nsid).ok_or_else(|| Path::root("method").violation("no such method"))
}

/// Reads a raw query string: arrays by repeating the key, an empty value is none, integers and booleans strictly,
/// defaults filled in, unknown keys passed over. A scalar that is given twice is refused.
pub fn params(nsid: &str, query: &str) -> Result<Value, Violation> {
    query::read(&CATALOG, &method(nsid)?.params, query)
}

/// Parameters as they stand behind the question mark.
pub fn query_string(params: &Value) -> String {
    query::write(params)
}

/// Checks a procedure's body, and writes integers that came as `7.0` as `7`. A method without input takes any body.
pub fn input(nsid: &str, body: &mut Value) -> Result<(), Violation> {
    if let Some(schema) = &method(nsid)?.input {
        Checker::new(&CATALOG).check(schema, body, &Path::root("input"))?;
        data_model::integers(body);
    }
    Ok(())
}

/// Checks an answer; for a subscription a message with its `$type`.
pub fn output(nsid: &str, body: &Value) -> Result<(), Violation> {
    match &method(nsid)?.output {
        Some(schema) => Checker::new(&CATALOG).check(schema, body, &Path::root("output")),
        None => Ok(()),
    }
}

/// Checks a subscription's message of the kind `message` or `#message`, which carries no `$type`.
pub fn message(nsid: &str, kind: &str, body: &Value) -> Result<(), Violation> {
    let path = Path::root("message");
    method(nsid)?;
    let name = format!("{nsid}#{}", kind.trim_start_matches('#'));
    match CATALOG.definition(&name) {
        Some(schema) => Checker::new(&CATALOG).check(schema, body, &path),
        None => Err(path.violation("no such kind of message")),
    }
}

/// Checks a record as it stands in a repository, with its `$type`.
pub fn record(nsid: &str, body: &Value) -> Result<(), Violation> {
    let path = Path::root("record");
    let known = CATALOG.records.get(nsid).and_then(|record| CATALOG.definitions.get(record.at));
    let schema = known.ok_or_else(|| path.violation("no such record"))?;
    if body["$type"] != nsid {
        return Err(path.field("$type").violation(format!("expected {nsid}")));
    }
    Checker::new(&CATALOG).check(schema, body, &path)
}

/// The examples in a record's lexicon; none for a name that is no record.
pub fn record_examples(nsid: &str) -> &'static [Value] {
    CATALOG.records.get(nsid).map_or(&[], |record| &record.examples)
}

/// Whether the method answers event by event (`text/event-stream`), and so without a schema of the whole.
pub fn streams(nsid: &str) -> bool {
    method(nsid).is_ok_and(|method| method.streams)
}

/// The examples in a method's lexicon; none for a name that is no method.
pub fn examples(nsid: &str) -> Vec<Example> {
    method(nsid).map(|method| method.examples.clone()).unwrap_or_default()
}

/// Every method, sorted by NSID: its kind and the names of the errors that it declares.
pub fn methods() -> impl Iterator<Item = (&'static str, Kind, &'static [String])> {
    CATALOG.methods.iter().map(|(nsid, method)| (nsid.as_str(), method.kind, method.errors.as_slice()))
}
