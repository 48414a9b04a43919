//! A value against its schema.

use serde_json::{Map, Value};
use unicode_segmentation::UnicodeSegmentation;

use super::data_model;
use super::tree::{Array, Blob, Catalog, Integer, Object, Schema, Size, Text, Union};
use super::violation::{Path, Violation};

pub(super) struct Checker<'a> {
    catalog: &'a Catalog,
}

impl<'a> Checker<'a> {
    pub fn new(catalog: &'a Catalog) -> Self {
        Self { catalog }
    }

    /// Depth is that of the value, which serde_json holds below 128.
    pub fn check(&self, schema: &Schema, value: &Value, path: &Path) -> Result<(), Violation> {
        match schema {
            Schema::Boolean { only } => match (value.as_bool(), only) {
                (None, _) => Err(path.violation("expected a boolean")),
                (Some(given), Some(only)) if given != *only => Err(path.violation(format!("expected {only}"))),
                _ => Ok(()),
            },
            Schema::Integer(limits) => integer(limits, value, path),
            Schema::Text(limits) => match value.as_str() {
                Some(given) => text(limits, given, path),
                None => Err(path.violation("expected a string")),
            },
            Schema::Bytes(limits) => size(*limits, data_model::bytes(value, path)?, "bytes", path),
            Schema::CidLink => data_model::link(value, path),
            Schema::Blob(limits) => blob(limits, value, path),
            Schema::Unknown => data_model::object(value, path),
            Schema::Array(limits) => self.array(limits, value, path),
            Schema::Object(object) => match value {
                Value::Object(map) => self.object(object, map, path),
                _ => Err(path.violation("expected an object")),
            },
            Schema::Token(name) if value.as_str() == Some(name) => Ok(()),
            Schema::Token(name) => Err(path.violation(format!("expected {name}"))),
            Schema::Ref(at) => self.check(self.resolve(*at), value, path),
            Schema::Union(union) => self.union(union, value, path),
            Schema::Missing => Err(path.violation("its definition is not known here")),
        }
    }

    /// Parameters are an object of their own kind, which no value can be a ref to.
    pub fn check_params(&self, params: &Object, value: &Map<String, Value>, path: &Path) -> Result<(), Violation> {
        self.object(params, value, path)
    }

    fn resolve(&self, at: usize) -> &'a Schema {
        self.catalog.definitions.get(at).unwrap_or(&Schema::Missing)
    }

    fn array(&self, limits: &Array, value: &Value, path: &Path) -> Result<(), Violation> {
        let Value::Array(items) = value else { return Err(path.violation("expected an array")) };
        size(limits.size, items.len(), "items", path)?;
        items.iter().enumerate().try_for_each(|(i, item)| self.check(&limits.items, item, &path.index(i)))
    }

    fn object(&self, object: &Object, map: &Map<String, Value>, path: &Path) -> Result<(), Violation> {
        if let Some(missing) = object.required.iter().find(|name| !map.contains_key(*name)) {
            return Err(path.field(missing).violation("is required"));
        }
        for (key, value) in map {
            let Some((name, property)) = object.properties.get_key_value(key) else { continue };
            match value {
                Value::Null if property.nullable => {}
                Value::Null => return Err(path.field(name).violation("must not be null; leave it out")),
                _ => self.check(&property.schema, value, &path.field(name))?,
            }
        }
        Ok(())
    }

    fn union(&self, union: &Union, value: &Value, path: &Path) -> Result<(), Violation> {
        let Value::Object(map) = value else { return Err(path.violation("expected an object with $type")) };
        let Some(given) = map.get("$type").and_then(Value::as_str).filter(|given| !given.is_empty()) else {
            return Err(path.field("$type").violation("is required"));
        };
        let given = given.strip_suffix("#main").unwrap_or(given);
        match union.types.iter().find(|(name, _)| name == given) {
            Some((_, at)) => self.check(self.resolve(*at), value, path),
            None if union.closed => Err(path.field("$type").violation("is none of the types allowed here")),
            None => Ok(()),
        }
    }
}

/// `what` in the plural: bytes, items.
fn size(limits: Size, given: usize, what: &str, path: &Path) -> Result<(), Violation> {
    if given > limits.max {
        return Err(path.violation(format!("expected at most {} {what}", limits.max)));
    }
    if given < limits.min {
        return Err(path.violation(format!("expected at least {} {what}", limits.min)));
    }
    Ok(())
}

fn integer(limits: &Integer, value: &Value, path: &Path) -> Result<(), Violation> {
    let Some(given) = data_model::integer(value) else {
        return Err(path.violation("expected an integer below 2^53"));
    };
    if given > limits.max {
        return Err(path.violation(format!("expected an integer of at most {}", limits.max)));
    }
    if given < limits.min {
        return Err(path.violation(format!("expected an integer of at least {}", limits.min)));
    }
    match &limits.only {
        Some(only) if !only.contains(&given) => {
            let only: Vec<_> = only.iter().map(i64::to_string).collect();
            Err(path.violation(format!("expected {}", only.join(", "))))
        }
        _ => Ok(()),
    }
}

fn text(limits: &Text, given: &str, path: &Path) -> Result<(), Violation> {
    data_model::without_nul(given, path)?;
    if given.len() > limits.size.max {
        return Err(path.violation(format!("expected a string of at most {} bytes", limits.size.max)));
    }
    if given.len() < limits.size.min {
        return Err(path.violation(format!("expected a string of at least {} bytes", limits.size.min)));
    }
    // No text has more graphemes than bytes: most need no count.
    if given.len() > limits.graphemes.max && given.graphemes(true).nth(limits.graphemes.max).is_some() {
        return Err(path.violation(format!("expected at most {} characters", limits.graphemes.max)));
    }
    if limits.graphemes.min > 0 && given.graphemes(true).nth(limits.graphemes.min - 1).is_none() {
        return Err(path.violation(format!("expected at least {} characters", limits.graphemes.min)));
    }
    match &limits.only {
        Some(only) if !only.iter().any(|only| only == given) => {
            return Err(path.violation(format!("expected {}", only.join(", "))));
        }
        _ => {}
    }
    match limits.format {
        Some(format) if !format.accepts(given) => Err(path.violation(format!("expected {}", format.what()))),
        _ => Ok(()),
    }
}

fn blob(limits: &Blob, value: &Value, path: &Path) -> Result<(), Violation> {
    let (mime, size) = data_model::blob(value, path)?;
    if size > limits.max_size {
        return Err(path.field("size").violation(format!("expected at most {} bytes", limits.max_size)));
    }
    let accepted = limits.accept.is_empty()
        || limits.accept.iter().any(|accept| match accept.strip_suffix('*') {
            Some(prefix) => mime.starts_with(prefix),
            None => mime == accept,
        });
    if accepted {
        Ok(())
    } else {
        Err(path.field("mimeType").violation(format!("expected {}", limits.accept.join(", "))))
    }
}
