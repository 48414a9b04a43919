//! Objects as structs, fields as types.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::names::{field, object, snake};

const DERIVE: &str = "#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]\n";

/// Characters of a comment line: with `    /// ` before it, it stays within 120.
const COMMENT_WIDTH: usize = 108;

/// `description` as doc comment, wrapped at words.
pub fn comment(text: Option<&str>) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in text.unwrap_or_default().split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > COMMENT_WIDTH {
            writeln!(out, "/// {line}").ok();
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    if !line.is_empty() {
        writeln!(out, "/// {line}").ok();
    }
    out
}

/// A struct for a schema of type `object` or `params` in the document called `of`. Defaults belong to params: there the interpreter fills them in.
pub fn structure(of: &str, name: &str, schema: &Value, doc: Option<&str>) -> Result<String> {
    let is_params = schema["type"] == "params";
    ensure!(schema.get("nullable").is_none(), "nullable fields have no Rust type yet");
    let properties = schema["properties"].as_object().context("properties is not an object")?;
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(missing) = required.iter().find(|name| !properties.contains_key(**name)) {
        bail!("{missing} is required but is no property");
    }
    let mut out = comment(doc.or(schema["description"].as_str()));
    out += DERIVE;
    write!(out, "#[serde(rename_all = \"camelCase\")]\npub struct {name} {{\n")?;
    for (property, schema) in properties {
        let has_default = schema.get("default").is_some();
        ensure!(is_params || !has_default, "{property}: a default outside of params");
        let (field, renamed) = field(property);
        let ty = ty(of, schema).with_context(|| property.clone())?;
        out += &comment(schema["description"].as_str());
        if renamed {
            writeln!(out, "#[serde(rename = \"{property}\")]")?;
        }
        if has_default || required.contains(&property.as_str()) {
            writeln!(out, "pub {field}: {ty},")?;
        } else {
            out += "#[serde(default, skip_serializing_if = \"Option::is_none\")]\n";
            writeln!(out, "pub {field}: Option<{ty}>,")?;
        }
    }
    out += "}\n\n";
    Ok(out)
}

/// The Rust type of a field.
fn ty(of: &str, schema: &Value) -> Result<String> {
    Ok(match schema["type"].as_str().context("a schema without type")? {
        "boolean" => "bool".into(),
        "integer" if schema["minimum"].as_i64().is_some_and(|minimum| minimum >= 0) => "u64".into(),
        "integer" => "i64".into(),
        "string" if schema["format"] == "did" => "Did".into(),
        "string" => "String".into(),
        "bytes" => "Bytes".into(),
        "array" => format!("Vec<{}>", ty(of, &schema["items"])?),
        "ref" => reference(of, schema["ref"].as_str().context("ref is not a string")?)?,
        "object" => bail!("an inline object; name it as a definition, as the official tools demand"),
        other => bail!("{other} has no Rust type yet; teach it to lexicons/gen"),
    })
}

/// The path of the struct that `#device` or `blue.catbird.mls.defs#receipt` names.
pub fn reference(of: &str, to: &str) -> Result<String> {
    let (nsid, def) = to.split_once('#').context("a ref without #; name the definition")?;
    if nsid.is_empty() {
        return Ok(object(of, def));
    }
    let path = nsid.strip_prefix("blue.catbird.").context("a ref outside of blue.catbird")?;
    let (group, name) = path.split_once('.').context("a ref without group")?;
    Ok(format!("crate::lexicon::{group}::{}::{}", snake(name), object(name, def)))
}

/// A tagged enum for the messages of a subscription.
pub fn union(of: &str, nsid: &str, schema: &Value) -> Result<String> {
    ensure!(schema["type"] == "union", "a subscription's message is a union");
    let mut out = format!(
        "/// One message of `{nsid}`; `$type` tells which.\n{DERIVE}#[serde(tag = \"$type\")]\npub enum Output {{\n"
    );
    for to in schema["refs"].as_array().context("refs is not an array")? {
        let to = to.as_str().context("a ref is not a string")?;
        let def = to.strip_prefix('#').context("a message type of another document")?;
        let name = object(of, def);
        write!(out, "#[serde(rename = \"{nsid}#{def}\")]\n{name}({name}),\n")?;
    }
    out += "}\n\n";
    Ok(out)
}
