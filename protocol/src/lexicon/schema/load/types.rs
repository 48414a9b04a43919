//! Schemas of values.

use serde_json::Value;

use super::Loader;
use crate::lexicon::schema::data_model::MAX_SAFE;
use crate::lexicon::schema::format::Format;
use crate::lexicon::schema::tree::{Array, Blob, Integer, Object, Property, Schema, Size, Text, Union};
use crate::lexicon::schema::violation::{Path, Violation};

impl Loader<'_> {
    pub(super) fn schema(&mut self, json: &Value, path: &Path) -> Result<Schema, Violation> {
        Ok(match json["type"].as_str().ok_or_else(|| path.field("type").violation("is required"))? {
            "boolean" => Schema::Boolean { only: json["const"].as_bool() },
            "integer" => Schema::Integer(Integer {
                min: number(json, "minimum", path)?.unwrap_or(-MAX_SAFE),
                max: number(json, "maximum", path)?.unwrap_or(MAX_SAFE),
                only: only(json, path, Value::as_i64)?,
            }),
            "string" => Schema::Text(Text {
                format: match json.get("format") {
                    None => None,
                    Some(name) => Some(
                        name.as_str()
                            .and_then(Format::named)
                            .ok_or_else(|| path.field("format").violation("is not a known format"))?,
                    ),
                },
                size: size(json, ["minLength", "maxLength"], path)?,
                graphemes: size(json, ["minGraphemes", "maxGraphemes"], path)?,
                only: only(json, path, |value| value.as_str().map(str::to_owned))?,
            }),
            "bytes" => Schema::Bytes(size(json, ["minLength", "maxLength"], path)?),
            "cid-link" => Schema::CidLink,
            "blob" => Schema::Blob(Blob {
                accept: strings(json, "accept", path)?,
                max_size: number(json, "maxSize", path)?.and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX),
            }),
            "unknown" => Schema::Unknown,
            "array" => Schema::Array(Box::new(Array {
                items: self.schema(&json["items"], &path.field("items"))?,
                size: size(json, ["minLength", "maxLength"], path)?,
            })),
            "object" => Schema::Object(self.object(json, path)?),
            "ref" => match json["ref"].as_str() {
                Some(to) => self.resolve(to).1.map_or(Schema::Missing, Schema::Ref),
                None => return Err(path.field("ref").violation("is required")),
            },
            "union" => Schema::Union(self.union(json, path)?),
            _ => return Err(path.field("type").violation("is not a type of values")),
        })
    }

    /// Of type `object` or `params`.
    pub(super) fn object(&mut self, json: &Value, path: &Path) -> Result<Object, Violation> {
        let required = strings(json, "required", path)?;
        let nullable = strings(json, "nullable", path)?;
        let mut object = Object { required, ..Object::default() };
        if let Some(properties) = json.get("properties") {
            let path = path.field("properties");
            let properties = properties.as_object().ok_or_else(|| path.violation("expected an object"))?;
            for (name, schema) in properties {
                let property = Property {
                    schema: self.schema(schema, &path.field(name))?,
                    nullable: nullable.contains(name),
                    default: schema.get("default").cloned(),
                };
                object.properties.insert(name.clone(), property);
            }
        }
        match object.required.iter().chain(&nullable).find(|name| !object.properties.contains_key(*name)) {
            Some(stray) => Err(path.field(stray).violation("is required or nullable, but no property")),
            None => Ok(object),
        }
    }

    fn union(&mut self, json: &Value, path: &Path) -> Result<Union, Violation> {
        let mut union = Union { types: Vec::new(), closed: json["closed"] == true };
        for to in strings(json, "refs", path)? {
            if let (name, Some(at)) = self.resolve(&to) {
                union.types.push((name, at));
            }
        }
        Ok(union)
    }
}

fn number(json: &Value, name: &str, path: &Path) -> Result<Option<i64>, Violation> {
    match json.get(name) {
        None => Ok(None),
        Some(value) => match value.as_i64() {
            Some(number) => Ok(Some(number)),
            None => Err(path.field(name).violation("expected an integer")),
        },
    }
}

fn size(json: &Value, [min, max]: [&str; 2], path: &Path) -> Result<Size, Violation> {
    let limit = |name| match number(json, name, path)?.map(usize::try_from) {
        None => Ok(None),
        Some(Ok(limit)) => Ok(Some(limit)),
        Some(Err(_)) => Err(path.field(name).violation("expected a length")),
    };
    Ok(Size { min: limit(min)?.unwrap_or(0), max: limit(max)?.unwrap_or(usize::MAX) })
}

pub(super) fn strings(json: &Value, name: &str, path: &Path) -> Result<Vec<String>, Violation> {
    let Some(list) = json.get(name) else { return Ok(Vec::new()) };
    let fault = || path.field(name).violation("expected an array of strings");
    let list = list.as_array().ok_or_else(fault)?;
    list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(fault)).collect()
}

/// The values of `const` or `enum`, each read by `read`.
fn only<T>(json: &Value, path: &Path, read: impl Fn(&Value) -> Option<T>) -> Result<Option<Vec<T>>, Violation> {
    let fault = |name| path.field(name).violation("holds a value of another type");
    if let Some(value) = json.get("const") {
        return read(value).map(|value| Some(vec![value])).ok_or_else(|| fault("const"));
    }
    match json.get("enum") {
        None => Ok(None),
        Some(list) => {
            let list = list.as_array().ok_or_else(|| fault("enum"))?;
            list.iter().map(read).collect::<Option<Vec<_>>>().map(Some).ok_or_else(|| fault("enum"))
        }
    }
}
