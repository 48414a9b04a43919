//! The data model of AT Protocol in JSON, whatever the lexicon: no floats, and `$bytes`, `$link`, `$type` and blobs in
//! their own forms.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::bytes::decoded_len;
use super::violation::{Path, Violation};

/// The greatest integer: 2^53 − 1, as a JavaScript client can hold it.
pub(super) const MAX_SAFE: i64 = (1 << 53) - 1;

/// The integer that a number stands for; `7.0` is 7. None for fractions and beyond ±(2^53 − 1).
pub(super) fn integer(value: &Value) -> Option<i64> {
    let number = match value.as_i64() {
        Some(number) => number,
        None => whole(value.as_f64()?)?,
    };
    (-MAX_SAFE..=MAX_SAFE).contains(&number).then_some(number)
}

fn whole(float: f64) -> Option<i64> {
    // 2^53 is exact as a float, so the cast below loses nothing.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "guarded to whole numbers below 2^53"
    )]
    (float.fract() == 0.0 && float.abs() <= MAX_SAFE as f64).then_some(float as i64)
}

/// Writes every whole float as an integer, so that serde reads it as one.
pub(super) fn integers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(whole) = number.as_f64().and_then(whole) {
                *value = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(integers),
        Value::Object(map) => map.values_mut().for_each(integers),
        _ => {}
    }
}

/// A plain object of the data model: not bytes, not a link, not a blob. Keys are not named in the answer.
pub(super) fn object(value: &Value, path: &Path) -> Result<(), Violation> {
    match value {
        Value::Object(map) if !is_special(map) => any(value, path),
        _ => Err(path.violation("expected an object")),
    }
}

/// U+0000 has no place in a text: Postgres stores none, and C libraries end a text there.
pub(super) fn without_nul(text: &str, path: &Path) -> Result<(), Violation> {
    if text.contains('\0') { Err(path.violation("must not contain U+0000")) } else { Ok(()) }
}

fn is_special(map: &Map<String, Value>) -> bool {
    map.contains_key("$bytes") || map.contains_key("$link") || map.get("$type").is_some_and(|tag| tag == "blob")
}

fn any(value: &Value, path: &Path) -> Result<(), Violation> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::String(text) => without_nul(text, path),
        Value::Number(_) => match integer(value) {
            Some(_) => Ok(()),
            None => Err(path.violation("expected numbers to be integers below 2^53")),
        },
        Value::Array(items) => items.iter().try_for_each(|item| any(item, path)),
        Value::Object(map) => {
            if map.contains_key("$bytes") {
                return bytes(value, path).map(drop);
            }
            if map.contains_key("$link") {
                return link(value, path);
            }
            match map.get("$type") {
                Some(Value::String(tag)) if tag == "blob" => return blob(value, path).map(drop),
                Some(Value::String(tag)) if !tag.is_empty() => {}
                Some(_) => return Err(path.violation("expected $type to be a name")),
                None => {}
            }
            map.iter().try_for_each(|(key, value)| without_nul(key, path).and_then(|()| any(value, path)))
        }
    }
}

/// The value of the one key that the object may have.
fn sole<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    let map = value.as_object()?;
    if map.len() == 1 { map.get(key)?.as_str() } else { None }
}

/// Exactly `{"$bytes": "<base64>"}`; gives the decoded length.
pub(super) fn bytes(value: &Value, path: &Path) -> Result<usize, Violation> {
    let text = sole(value, "$bytes").ok_or_else(|| path.violation("expected exactly {\"$bytes\": \"…\"}"))?;
    decoded_len(text).ok_or_else(|| path.violation("expected $bytes to be base64 of the standard alphabet"))
}

/// Exactly `{"$link": "<cid>"}`.
pub(super) fn link(value: &Value, path: &Path) -> Result<(), Violation> {
    let text = sole(value, "$link").ok_or_else(|| path.violation("expected exactly {\"$link\": \"…\"}"))?;
    match cid::Cid::from_str(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(path.violation("expected $link to be a CID")),
    }
}

/// A blob reference; gives its media type and its size in bytes.
pub(super) fn blob<'a>(value: &'a Value, path: &Path) -> Result<(&'a str, u64), Violation> {
    if value["$type"] != "blob" {
        return Err(path.violation("expected a blob"));
    }
    link(&value["ref"], &path.field("ref"))?;
    let Some(mime) = value["mimeType"].as_str().filter(|mime| !mime.is_empty()) else {
        return Err(path.field("mimeType").violation("expected a media type"));
    };
    match integer(&value["size"]).and_then(|size| u64::try_from(size).ok()) {
        Some(size) => Ok((mime, size)),
        None => Err(path.field("size").violation("expected a number of bytes")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn whole_floats_become_integers_and_fractions_stay() {
        let mut value = json!({"a": 7.0, "b": [1.5, -3.0], "c": {"d": 1e300}});
        super::integers(&mut value);
        assert_eq!(value.to_string(), json!({"a": 7, "b": [1.5, -3], "c": {"d": 1e300}}).to_string());
    }

    #[test]
    fn integers_end_at_two_to_the_53() {
        assert_eq!(super::integer(&json!(9_007_199_254_740_991_u64)), Some(super::MAX_SAFE));
        for beyond in [json!(9_007_199_254_740_992_u64), json!(-9_007_199_254_740_992_i64), json!(u64::MAX), json!(0.5)]
        {
            assert_eq!(super::integer(&beyond), None, "{beyond}");
        }
    }
}
