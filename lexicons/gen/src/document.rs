//! The lexicon documents as read from disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// Where the documents live, below the repository.
const FOLDER: &str = "lexicons";
const PREFIX: [&str; 2] = ["blue", "catbird"];

/// One JSON file at its NSID path: `lexicons/blue/catbird/<group>/<name>.json`.
pub struct Document {
    pub nsid: String,
    /// `blue.catbird.<group>`, by its last part. A permission set may stand above the groups, and has none.
    pub group: Option<String>,
    pub name: String,
    /// Below the repository, with `/`.
    pub path: String,
    pub description: Option<String>,
    pub defs: Map<String, Value>,
}

/// What a document is, by its main definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Method,
    Record,
    PermissionSet,
    /// Shapes alone.
    Defs,
}

impl Document {
    pub fn main(&self) -> Option<&Value> {
        self.defs.get("main")
    }

    /// A kind that nothing here knows is refused, and so is a set that defines anything else.
    pub fn kind(&self) -> Result<Kind> {
        let Some(main) = self.main() else { return Ok(Kind::Defs) };
        match main["type"].as_str() {
            Some("query" | "procedure" | "subscription") => Ok(Kind::Method),
            Some("record") => Ok(Kind::Record),
            Some("permission-set") => {
                ensure!(self.defs.len() == 1, "a permission set defines nothing else");
                Ok(Kind::PermissionSet)
            }
            other => bail!("main is {other:?}: neither a method, nor a record, nor a permission set"),
        }
    }
}

/// All documents, sorted by NSID.
pub fn read_all(root: &Path) -> Result<Vec<Document>> {
    let mut paths = Vec::new();
    walk(&PREFIX.iter().fold(root.join(FOLDER), |path, part| path.join(part)), &mut paths)?;
    let mut documents = paths
        .iter()
        .map(|path| read(root, path).with_context(|| path.display().to_string()))
        .collect::<Result<Vec<_>>>()?;
    documents.sort_by(|a, b| a.nsid.cmp(&b.nsid));
    Ok(documents)
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for item in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = item?.path();
        if path.is_dir() {
            walk(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    Ok(())
}

fn read(root: &Path, path: &Path) -> Result<Document> {
    let below = path.strip_prefix(root.join(FOLDER))?.with_extension("");
    let parts = below.iter().map(|part| part.to_str().context("the path is not UTF-8")).collect::<Result<Vec<_>>>()?;
    let (group, name) = match parts[..] {
        [_, _, name] => (None, name),
        [_, _, group, name] => (Some(group.to_owned()), name),
        _ => bail!("expected lexicons/blue/catbird/<group>/<name>.json"),
    };
    let mut json: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let nsid = parts.join(".");
    ensure!(json["lexicon"] == 1, "expected \"lexicon\": 1");
    ensure!(json["id"] == nsid.as_str(), "the id differs from the path");
    let Value::Object(defs) = json["defs"].take() else { bail!("defs is not an object") };
    let description = json["description"].as_str().map(str::to_owned);
    let path = format!("{FOLDER}/{}.json", parts.join("/"));
    let document = Document { group, name: name.to_owned(), nsid, path, description, defs };
    let above = document.group.is_none() && document.kind()? != Kind::PermissionSet;
    ensure!(!above, "only a permission set stands above the groups");
    Ok(document)
}
