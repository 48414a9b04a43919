//! A raw query string as an object of parameters.

use serde_json::{Map, Value};

use super::check::Checker;
use super::tree::{Catalog, Object, Schema};
use super::violation::{Path, Violation};

pub(super) fn read(catalog: &Catalog, params: &Object, query: &str) -> Result<Value, Violation> {
    let root = Path::root("params");
    let mut read = Map::new();
    for (key, text) in url::form_urlencoded::parse(query.as_bytes()) {
        let Some((name, property)) = params.properties.get_key_value(key.as_ref()) else { continue };
        if text.is_empty() {
            continue;
        }
        let path = root.field(name);
        if let Schema::Array(array) = &property.schema {
            let value = scalar(&array.items, &text, &path)?;
            match read.entry(name.as_str()).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(items) => items.push(value),
                _ => return Err(path.violation("is given in two ways")),
            }
        } else if read.insert(name.clone(), scalar(&property.schema, &text, &path)?).is_some() {
            return Err(path.violation("is given more than once"));
        }
    }
    for (name, property) in &params.properties {
        if let (false, Some(default)) = (read.contains_key(name), &property.default) {
            read.insert(name.clone(), default.clone());
        }
    }
    Checker::new(catalog).check_params(params, &read, &root)?;
    Ok(Value::Object(read))
}

/// The other way: an array is one parameter for each item.
pub(super) fn write(params: &Value) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in params.as_object().into_iter().flatten() {
        for value in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            match value {
                Value::String(text) => pairs.append_pair(name, text),
                value => pairs.append_pair(name, &value.to_string()),
            };
        }
    }
    pairs.finish()
}

fn scalar(schema: &Schema, text: &str, path: &Path) -> Result<Value, Violation> {
    match schema {
        Schema::Integer(_) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            match text.parse::<i64>() {
                Ok(number) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(number.into()),
                _ => Err(path.violation("expected an integer below 2^53")),
            }
        }
        Schema::Boolean { .. } => match text {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(path.violation("expected true or false")),
        },
        _ => Ok(text.into()),
    }
}
