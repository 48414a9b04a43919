//! Queries, procedures and subscriptions.

use serde_json::Value;

use super::Loader;
use crate::lexicon::Kind;
use crate::lexicon::schema::Example;
use crate::lexicon::schema::tree::{MethodSchema, Object, Schema};
use crate::lexicon::schema::violation::{Path, Violation};

/// An answer in parts, which no schema describes as a whole.
const EVENT_STREAM: &str = "text/event-stream";

impl Loader<'_> {
    pub(super) fn method(&mut self, kind: &str, def: &Value, path: &Path) -> Result<MethodSchema, Violation> {
        let (kind, answer) = match kind {
            "query" => (Kind::Query, "output"),
            "procedure" => (Kind::Procedure, "output"),
            _ => (Kind::Subscription, "message"),
        };
        Ok(MethodSchema {
            kind,
            params: self.params(def, path)?,
            input: self.body(def, "input", path)?,
            output: self.body(def, answer, path)?,
            streams: def["output"]["encoding"] == EVENT_STREAM,
            errors: errors(def, path)?,
            examples: examples(def, path)?,
        })
    }

    fn params(&mut self, def: &Value, path: &Path) -> Result<Object, Violation> {
        let Some(json) = def.get("parameters") else { return Ok(Object::default()) };
        let path = path.field("parameters");
        if json["type"] != "params" {
            return Err(path.violation("expected the type params"));
        }
        let params = self.object(json, &path)?;
        let is_flat = |schema: &Schema| {
            matches!(schema, Schema::Boolean { .. } | Schema::Integer(_) | Schema::Text(_) | Schema::Unknown)
        };
        for (name, property) in &params.properties {
            let flat = match &property.schema {
                Schema::Array(array) => is_flat(&array.items),
                schema => is_flat(schema),
            };
            if !flat {
                return Err(path.field(name).violation("cannot stand in a query string"));
            }
        }
        Ok(params)
    }

    /// The schema of a body; none where there is no body, or one without schema.
    fn body(&mut self, def: &Value, name: &str, path: &Path) -> Result<Option<Schema>, Violation> {
        let path = path.field(name);
        let streams = def[name]["encoding"] == EVENT_STREAM;
        match def.get(name).and_then(|body| body.get("schema")) {
            Some(_) if streams => Err(path.violation("a stream of events has no schema")),
            None => Ok(None),
            Some(schema) => match schema["type"].as_str() {
                Some("object" | "ref" | "union") => self.schema(schema, &path.field("schema")).map(Some),
                _ => Err(path.violation("expected an object, a ref or a union")),
            },
        }
    }
}

fn errors(def: &Value, path: &Path) -> Result<Vec<String>, Violation> {
    let Some(errors) = def.get("errors") else { return Ok(Vec::new()) };
    let path = path.field("errors");
    let names = errors.as_array().map(|errors| errors.iter().map(|error| error["name"].as_str().map(str::to_owned)));
    names.and_then(Iterator::collect).ok_or_else(|| path.violation("expected an array of named errors"))
}

fn examples(def: &Value, path: &Path) -> Result<Vec<Example>, Violation> {
    let Some(examples) = def.get("examples") else { return Ok(Vec::new()) };
    let path = path.field("examples");
    let examples = examples.as_array().ok_or_else(|| path.violation("expected an array"))?;
    let part = |example: &Value, name| example.get(name).cloned();
    Ok(examples
        .iter()
        .map(|example| Example {
            params: part(example, "params"),
            input: part(example, "input"),
            output: part(example, "output"),
        })
        .collect())
}
