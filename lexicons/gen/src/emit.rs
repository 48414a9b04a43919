//! Rust text from documents.
//!
//! Lexicon shapes that no method uses yet (inline objects, blobs, links, nullable and unknown fields, unions outside of
//! a subscription) are refused by name instead of being guessed.

mod errors;
mod module;
mod shape;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::document::Document;
use crate::names::{pascal, snake};
use crate::write::{Files, MARK};

/// Every generated file, not yet formatted.
pub fn files(documents: &[Document]) -> Result<Files> {
    let mut files = Files::new();
    let mut groups: BTreeMap<&str, Vec<&Document>> = BTreeMap::new();
    for document in documents {
        let path = format!("protocol/src/lexicon/{}/{}.rs", document.group, snake(&document.name));
        let text = module::text(document).with_context(|| document.path.clone())?;
        files.insert(path.into(), format!("{MARK} from {}; do not edit\n{text}", document.path));
        groups.entry(&document.group).or_default().push(document);
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

/// `documents.rs`: the JSON itself, and a macro over all methods for tests.
fn all(documents: &[Document]) -> Result<String> {
    let mut text = format!("{MARK} from lexicons; do not edit\n");
    text.push_str("//! Every lexicon document, compiled in.\n\n/// NSID and JSON text, sorted by NSID.\n");
    text.push_str("pub const DOCUMENTS: &[(&str, &str)] = &[\n");
    for document in documents {
        writeln!(text, "(\"{}\", include_str!(\"../../../{}\")),", document.nsid, document.path)?;
    }
    text.push_str("];\n\n/// Calls `$each!(Marker)` with the marker type of every method.\n#[cfg(test)]\nmacro_rules! every_method {\n");
    text.push_str("    ($each:ident) => {\n");
    for document in documents.iter().filter(|document| document.main().is_some()) {
        let (group, module, marker) = (&document.group, snake(&document.name), pascal(&document.name));
        writeln!(text, "        $each!(crate::lexicon::{group}::{module}::{marker});")?;
    }
    text.push_str("    };\n}\n#[cfg(test)]\npub(crate) use every_method;\n");
    Ok(text)
}
