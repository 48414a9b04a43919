//! JSON in which each object has a name at most once.
//!
//! Invariant: all readers of the bytes read one document. RFC 8259 does not say which of two equal names counts, so the
//! server refuses a body with a repeated name: its check and its execution could read different values.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A document without repeated names.
pub(super) struct UniqueJson(pub Value);

/// The error message for a repeated name.
const REPEATED: &str = "a name stands twice in one object";

/// Reads a document, or answers what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Value, &'static str> {
    match serde_json::from_slice::<UniqueJson>(bytes) {
        Ok(UniqueJson(value)) => Ok(value),
        Err(error) if error.to_string().starts_with(REPEATED) => Err(REPEATED),
        Err(_) => Err("not a JSON document"),
    }
}

impl<'de> Deserialize<'de> for UniqueJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading).map(Self)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON document")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(UniqueJson(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, UniqueJson(value))) = members.next_entry::<String, UniqueJson>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom(REPEATED));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{REPEATED, read};

    #[test]
    fn a_repeated_name_is_refused_at_any_depth() {
        for text in [
            r#"{"device":"x","device":"x2"}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"[{"a":[{"b":1,"c":2,"b":3}]}]"#,
            r#"{"device":1,"\u0064evice":2}"#,
        ] {
            assert_eq!(read(text.as_bytes()), Err(REPEATED), "{text}");
        }
        assert!(read(br#"{"a":{"b":1},"c":{"b":1}}"#).is_ok(), "two objects");
        assert_eq!(read(b"{"), Err("not a JSON document"));
        assert_eq!(read(b"{} {}"), Err("not a JSON document"));
    }

    proptest! {
        #[test]
        fn every_other_document_reads_as_before(text in r#"[\[\]{}:,"a-c0-9.eE+\-truefalsn\\ ]{0,40}"#) {
            if let Ok(value) = read(text.as_bytes()) {
                prop_assert_eq!(&value, &serde_json::from_str::<Value>(&text).unwrap());
                prop_assert_eq!(read(value.to_string().as_bytes()), Ok(value));
            }
        }
    }
}
