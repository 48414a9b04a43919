//! The enum of a method's declared errors. A description begins with the HTTP status: `409: the group …`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::shape::comment;

struct Declared<'a> {
    name: &'a str,
    status: u16,
    text: &'a str,
}

fn declared(error: &Value) -> Result<Declared<'_>> {
    let name = error["name"].as_str().context("an error without name")?;
    let description = error["description"].as_str().with_context(|| format!("{name} has no description"))?;
    let (status, text) =
        description.split_once(": ").with_context(|| format!("{name} does not begin with a status"))?;
    let status = status.parse().with_context(|| format!("{name} does not begin with a status"))?;
    ensure!((400..500).contains(&status), "{name}: a declared error is 400 to 499");
    Ok(Declared { name, status, text })
}

pub fn text(nsid: &str, errors: &Value) -> Result<String> {
    let errors = errors.as_array().into_iter().flatten().map(declared).collect::<Result<Vec<_>>>()?;
    let refusals = if errors.is_empty() { "no declared errors" } else { "what it refuses, by name" };
    let mut out = comment(Some(&format!("`{nsid}`: {refusals}.")));
    out += "#[derive(Debug, Clone, PartialEq)]\npub enum Error {\n";
    for error in &errors {
        out += &comment(Some(&format!("{}: {}", error.status, error.text)));
        writeln!(out, "{}(Detail),", error.name)?;
    }
    out += "}\n\nimpl Named for Error {\nconst NAMES: &'static [(&'static str, u16)] = &[";
    for error in &errors {
        write!(out, "(\"{}\", {}),", error.name, error.status)?;
    }
    out += "];\n";
    if errors.is_empty() {
        for signature in ["name(&self) -> &'static str", "status(&self) -> u16", "detail(&self) -> &Detail"] {
            writeln!(out, "fn {signature} {{ match *self {{}} }}")?;
        }
        out += "fn from_name(_name: &str, _detail: Detail) -> Option<Self> { None }\n}\n";
        return Ok(out);
    }
    out += "fn name(&self) -> &'static str { match self {\n";
    for error in &errors {
        writeln!(out, "Self::{0}(_) => \"{0}\",", error.name)?;
    }
    out += "} }\nfn status(&self) -> u16 { match self {\n";
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for error in &errors {
        by_status.entry(error.status).or_default().push(format!("Self::{}(_)", error.name));
    }
    for (status, variants) in by_status {
        writeln!(out, "{} => {status},", variants.join(" | "))?;
    }
    let every: Vec<_> = errors.iter().map(|error| format!("Self::{}(detail)", error.name)).collect();
    write!(out, "}} }}\nfn detail(&self) -> &Detail {{ match self {{ {} => detail }} }}\n", every.join(" | "))?;
    out += "fn from_name(name: &str, detail: Detail) -> Option<Self> { Some(match name {\n";
    for error in &errors {
        writeln!(out, "\"{0}\" => Self::{0}(detail),", error.name)?;
    }
    out += "_ => return None,\n}) }\n}\n";
    Ok(out)
}
