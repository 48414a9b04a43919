//! Rust text from documents.
//!
//! Lexicon shapes that nothing uses yet (inline objects, blobs, links, nullable and unknown fields, unions outside of
//! a subscription) are refused by name instead of being guessed. Permission sets have no Rust: they are judged, and
//! compiled in as JSON like every document.

mod errors;
mod module;
mod shape;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::document::{Document, Kind};
use crate::names::{pascal, snake};
use crate::permissions;
use crate::write::{Files, MARK};

/// Every generated file, not yet formatted.
pub fn files(documents: &[Document]) -> Result<Files> {
    permissions::check(documents)?;
    let mut files = Files::new();
    let mut groups: BTreeMap<&str, Vec<&Document>> = BTreeMap::new();
    for document in documents {
        if document.kind().with_context(|| document.path.clone())? == Kind::PermissionSet {
            continue;
        }
        let group = document.group.as_deref().context("a document without group")?;
        let path = format!("protocol/src/lexicon/{group}/{}.rs", snake(&document.name));
        let text = module::text(document).with_context(|| document.path.clone())?;
        files.insert(path.into(), format!("{MARK} from {}; do not edit\n{text}", document.path));
        groups.entry(group).or_default().push(document);
    }
    for (group, members) in groups {
        let mut text = format!("{MARK} from lexicons/blue/catbird/{group}; do not edit\n");
        writeln!(text, "//! `blue.catbird.{group}.*`: one module per method.\n")?;
        for document in members {
            writeln!(text, "pub mod {};", snake(&document.name))?;
        }
        files.insert(PathBuf::from(format!("protocol/src/lexicon/{group}/mod.rs")), text);
    }
    files.insert("protocol/src/lexicon/documents.rs".into(), all(documents)?);
    Ok(files)
}

/// `documents.rs`: the JSON itself, and macros over all methods and all records for tests.
fn all(documents: &[Document]) -> Result<String> {
    let mut text = format!("{MARK} from lexicons; do not edit\n");
    text.push_str("//! Every lexicon document, compiled in.\n\n/// NSID and JSON text, sorted by NSID.\n");
    text.push_str("pub const DOCUMENTS: &[(&str, &str)] = &[\n");
    for document in documents {
        writeln!(text, "(\"{}\", include_str!(\"../../../{}\")),", document.nsid, document.path)?;
    }
    text.push_str("];\n");
    text.push_str(&every("method", "the marker type of every method", documents, Kind::Method)?);
    text.push_str(&every("record", "the type of every record", documents, Kind::Record)?);
    Ok(text)
}

/// A macro that calls another with each document of a kind.
fn every(name: &str, what: &str, documents: &[Document], kind: Kind) -> Result<String> {
    let mut text = format!(
        "\n/// Calls `$each!(Type)` with {what}.\n#[cfg(test)]\nmacro_rules! every_{name} {{\n    ($each:ident) => {{\n"
    );
    for document in documents {
        if document.kind()? == kind {
            let group = document.group.as_deref().context("a document without group")?;
            let (module, ty) = (snake(&document.name), pascal(&document.name));
            writeln!(text, "        $each!(crate::lexicon::{group}::{module}::{ty});")?;
        }
    }
    writeln!(text, "    }};\n}}\n#[cfg(test)]\npub(crate) use every_{name};")?;
    Ok(text)
}
