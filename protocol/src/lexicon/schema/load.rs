//! Documents to tree. A document that is no sound lexicon is refused, with the place of its fault.

mod method;
mod types;

use serde_json::{Map, Value};

use super::format::Format;
use super::tree::{Catalog, Definition, RecordSchema, Schema};
use super::violation::{Path, Violation};

/// Definitions that must be called `main`.
const PRIMARY: [&str; 5] = ["query", "procedure", "subscription", "record", "permission-set"];

impl Catalog {
    /// Compiles JSON texts that may refer to each other.
    pub fn load<'t>(texts: impl Iterator<Item = &'t str>) -> Result<Self, Violation> {
        let root = Path::root("document");
        let mut documents = Vec::new();
        for text in texts {
            let json: Value = serde_json::from_str(text).map_err(|_| root.violation("expected JSON"))?;
            documents.push(json);
        }
        Self::compile(&documents)
    }

    /// Two passes: first every definition gets its place, then refs can be places.
    pub fn compile(documents: &[Value]) -> Result<Self, Violation> {
        let mut catalog = Self::default();
        let mut heads = Vec::new();
        for document in documents {
            let (nsid, defs) = head(document)?;
            for (name, def) in defs {
                if is_value(def) && catalog.names.insert(format!("{nsid}#{name}"), catalog.names.len()).is_some() {
                    return Err(Path::root(nsid).field(name).violation("is defined twice"));
                }
            }
            heads.push((nsid, defs));
        }
        catalog.definitions.resize_with(catalog.names.len(), || Schema::Missing);
        for (nsid, defs) in heads {
            let root = Path::root(nsid);
            let mut loader = Loader { nsid, catalog: &mut catalog };
            for (name, def) in defs {
                loader.definition(name, def, &root.field(name))?;
            }
        }
        Ok(catalog)
    }
}

/// Whether a definition describes values: a record does, by its object.
fn is_value(def: &Value) -> bool {
    !matches!(def["type"].as_str(), Some("query" | "procedure" | "subscription" | "permission-set"))
}

/// The NSID and the definitions of a document.
fn head(document: &Value) -> Result<(&str, &Map<String, Value>), Violation> {
    let root = Path::root("document");
    if document["lexicon"] != 1 {
        return Err(root.field("lexicon").violation("expected 1"));
    }
    let Some(nsid) = document["id"].as_str().filter(|id| Format::Nsid.accepts(id)) else {
        return Err(root.field("id").violation("expected an NSID"));
    };
    match document["defs"].as_object() {
        Some(defs) if !defs.is_empty() => Ok((nsid, defs)),
        _ => Err(Path::root(nsid).field("defs").violation("expected definitions")),
    }
}

/// The document that is being compiled, and where its definitions go.
struct Loader<'a> {
    nsid: &'a str,
    catalog: &'a mut Catalog,
}

impl Loader<'_> {
    fn definition(&mut self, name: &str, def: &Value, path: &Path) -> Result<(), Violation> {
        let Some(kind) = def["type"].as_str() else { return Err(path.field("type").violation("is required")) };
        if name != "main" && PRIMARY.contains(&kind) {
            return Err(path.violation("must be called main"));
        }
        let schema = match kind {
            "query" | "procedure" | "subscription" => {
                let method = self.method(kind, def, path)?;
                self.catalog.methods.insert(self.nsid.to_owned(), method);
                return Ok(());
            }
            "permission-set" => {
                return if def["permissions"].is_array() {
                    Ok(())
                } else {
                    Err(path.violation("expected permissions"))
                };
            }
            "ref" | "union" | "unknown" => return Err(path.violation("is no definition of its own")),
            "token" => Schema::Token(self.full_name(name)),
            "record" => {
                let path = path.field("record");
                if def["record"]["type"] != "object" {
                    return Err(path.violation("expected an object"));
                }
                self.record(def, &path)?;
                self.schema(&def["record"], &path)?
            }
            _ => self.schema(def, path)?,
        };
        let at = self.catalog.names.get(&format!("{}#{name}", self.nsid)).copied();
        match at.and_then(|at| self.catalog.definitions.get_mut(at)) {
            Some(place) => *place = schema,
            None => return Err(path.violation("has no place")),
        }
        Ok(())
    }

    /// Its place, and its examples.
    fn record(&mut self, def: &Value, path: &Path) -> Result<(), Violation> {
        let at = self.resolve(self.nsid).1.ok_or_else(|| path.violation("has no place"))?;
        let shown = def["examples"].as_array().into_iter().flatten();
        let examples = shown.filter_map(|example| example.get("record").cloned()).collect();
        self.catalog.records.insert(self.nsid.to_owned(), RecordSchema { at, examples });
        Ok(())
    }

    /// As a `$type` or a token spells it: the NSID alone for main.
    fn full_name(&self, name: &str) -> String {
        if name == "main" { self.nsid.to_owned() } else { format!("{}#{name}", self.nsid) }
    }

    /// The place of `#name`, `nsid` or `nsid#name`, and the full name.
    fn resolve(&mut self, to: &str) -> (String, Option<Definition>) {
        let key = match to.split_once('#') {
            Some(("", name)) => format!("{}#{name}", self.nsid),
            Some(_) => to.to_owned(),
            None => format!("{to}#main"),
        };
        let at = self.catalog.names.get(&key).copied();
        let full = key.strip_suffix("#main").unwrap_or(&key).to_owned();
        if at.is_none() {
            self.catalog.missing.push(full.clone());
        }
        (full, at)
    }
}
