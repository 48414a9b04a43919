//! One document as one module.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::errors;
use super::shape::{comment, reference, structure, union};
use crate::document::{Document, Kind};
use crate::names::{object, pascal};

pub fn text(document: &Document) -> Result<String> {
    let of = document.name.as_str();
    let nsid = &document.nsid;
    let mut body = String::new();
    let kind = document.kind()?;
    match document.main() {
        Some(main) if kind == Kind::Record => body += &record(of, nsid, main)?,
        Some(main) => body += &method(of, nsid, main)?,
        None => {}
    }
    for (name, schema) in document.defs.iter().filter(|(name, _)| *name != "main") {
        if schema["type"] != "object" {
            bail!("#{name}: only objects are generated");
        }
        body += &structure(of, &object(of, name), schema, None).with_context(|| format!("#{name}"))?;
    }
    let title = match &document.description {
        Some(description) if document.main().is_none() => format!("//! `{nsid}`: {description}\n\n"),
        _ => format!("//! `{nsid}`.\n\n"),
    };
    Ok(format!("{title}{}{body}", imports(&body, kind)))
}

/// Only what the text uses: an unused import is a warning.
fn imports(body: &str, kind: Kind) -> String {
    let uses = |word: &str| body.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word);
    let mut out = String::new();
    if uses("Serialize") {
        out += "use serde::{Deserialize, Serialize};\n\n";
    }
    match kind {
        Kind::Method => {
            let nothing = if uses("Nothing") { ", Nothing" } else { "" };
            writeln!(out, "use crate::lexicon::{{Kind, Method{nothing}}};").ok();
        }
        Kind::Record => out += "use crate::lexicon::Record;\n",
        Kind::Defs | Kind::PermissionSet => {}
    }
    let types: Vec<_> = ["Bytes", "Detail", "Did", "Named"].into_iter().filter(|word| uses(word)).collect();
    if !types.is_empty() {
        writeln!(out, "use crate::types::{{{}}};", types.join(", ")).ok();
    }
    out + "\n"
}

/// The record as a struct that writes its own `$type`, and its `Record`.
fn record(of: &str, nsid: &str, main: &Value) -> Result<String> {
    let ty = pascal(of);
    let key = main["key"].as_str().context("the record has no key")?;
    let named =
        matches!(key, "any" | "nsid" | "tid") || key.strip_prefix("literal:").is_some_and(|key| !key.is_empty());
    ensure!(named, "{key} is no kind of record key");
    let doc = main["description"].as_str().context("the record has no description")?;
    let schema = &main["record"];
    ensure!(schema["type"] == "object", "a record is an object");
    let body = structure(of, &ty, schema, Some(doc))?;
    let tag = format!("#[serde(tag = \"$type\", rename = \"{nsid}\", rename_all = \"camelCase\")]");
    let body = body.replacen("#[serde(rename_all = \"camelCase\")]", &tag, 1);
    Ok(format!(
        "{body}impl Record for {ty} {{\nconst NSID: &'static str = \"{nsid}\";\nconst KEY: &'static str = \"{key}\";\n}}\n\n"
    ))
}

/// The marker, its `Method`, and Params, Input, Output and Error.
fn method(of: &str, nsid: &str, main: &Value) -> Result<String> {
    let marker = pascal(of);
    let kind = match main["type"].as_str() {
        Some("query") => "Query",
        Some("procedure") => "Procedure",
        Some("subscription") => "Subscription",
        other => bail!("main is {other:?}, not a method"),
    };
    let description = main["description"].as_str().context("the method has no description")?;
    let mut out = comment(Some(description));
    let mut more = String::new();
    if main["input"]["encoding"] == DAG_CBOR {
        more += "const DAG_CBOR: bool = true;\n";
    }
    if let Some(forward) = forward(description)? {
        writeln!(more, "const FORWARD: Option<crate::lexicon::Forward> = Some(crate::lexicon::Forward::{forward});")?;
    }
    write!(
        out,
        "#[derive(Debug, Clone, Copy)]\npub struct {marker};\n\nimpl Method for {marker} {{\nconst NSID: &'static str = \"{nsid}\";\n\
         const KIND: Kind = Kind::{kind};\n{more}type Params = Params;\ntype Input = Input;\ntype Output = Output;\ntype Error = Error;\n}}\n\n"
    )?;
    match main.get("parameters") {
        Some(schema) => out += &structure(of, "Params", schema, Some(&format!("Parameters of `{nsid}`.")))?,
        None => write!(out, "/// `{nsid}` takes no parameters.\npub type Params = Nothing;\n\n")?,
    }
    out += &body(of, "Input", nsid, &main["input"])?;
    out += &match main.get("message") {
        Some(message) => union(of, nsid, &message["schema"])?,
        None => body(of, "Output", nsid, &main["output"])?,
    };
    out += &errors::text(nsid, &main["errors"])?;
    out.push('\n');
    Ok(out)
}

/// What the description says about forwarding; lexicons have no field for it.
fn forward(description: &str) -> Result<Option<&'static str>> {
    let Some((_, rest)) = description.split_once("Forward: ") else { return Ok(None) };
    match rest.split('.').next() {
        Some("home") => Ok(Some("Home")),
        Some("target") => Ok(Some("Target")),
        other => bail!("Forward: {other:?} is neither home nor target"),
    }
}

/// What peers send each other as it was made; the method reads it by itself.
const DAG_CBOR: &str = "application/vnd.ipld.dag-cbor";

/// An answer in parts: each is what the description says, and there is no type for the whole.
const EVENT_STREAM: &str = "text/event-stream";

/// A body: a struct of its own, a name for a shared one, or nothing.
fn body(of: &str, name: &str, nsid: &str, body: &Value) -> Result<String> {
    let what = if name == "Input" { "Input" } else { "Answer" };
    let schema = &body["schema"];
    match body["encoding"].as_str() {
        None | Some("application/json") => {}
        Some(EVENT_STREAM) if name == "Output" && schema.is_null() => {
            return Ok(format!(
                "/// {what} of `{nsid}`: {EVENT_STREAM}, event by event.\npub type {name} = Nothing;\n\n"
            ));
        }
        Some(DAG_CBOR) if name == "Input" && schema.is_null() => {
            return Ok(format!("/// {what} of `{nsid}`: {DAG_CBOR}.\npub type {name} = Nothing;\n\n"));
        }
        Some(other) => bail!("{name} is {other}: only JSON, and {EVENT_STREAM} without a schema as an answer"),
    }
    Ok(match schema["type"].as_str() {
        Some("ref") => {
            let path = reference(of, schema["ref"].as_str().context("ref is not a string")?)?;
            format!("/// {what} of `{nsid}`.\npub type {name} = {path};\n\n")
        }
        Some("object") if schema["properties"].as_object().is_some_and(|properties| !properties.is_empty()) => {
            structure(of, name, schema, Some(&format!("{what} of `{nsid}`."))).context(name.to_owned())?
        }
        Some("object") | None => format!("/// {what} of `{nsid}`: empty.\npub type {name} = Nothing;\n\n"),
        Some(other) => bail!("{name} is {other}, not an object"),
    })
}
