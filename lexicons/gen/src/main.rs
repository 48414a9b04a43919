//! `cargo run -p lexicon-gen` writes `protocol/src/lexicon` from `lexicons/**/*.json`; with `--check` it writes nothing, names
//! the files that differ and exits 1.
//!
//! Invariant: the same JSON gives the same bytes, already formatted, so that a difference is always somebody's change.

mod document;
mod emit;
mod names;
mod permissions;
mod write;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> Result<ExitCode> {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => bail!("unknown argument {other}; there is only --check"),
    };
    let root = root();
    let files = generate(&root)?;
    let different = write::different(&root, &files)?;
    if check {
        for path in &different {
            eprintln!("{} differs from what the lexicons say; run cargo run -p lexicon-gen", path.display());
        }
        return Ok(if different.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    write::apply(&root, &files, &different)?;
    eprintln!("{} files, {} changed", files.len(), different.len());
    Ok(ExitCode::SUCCESS)
}

fn generate(root: &Path) -> Result<write::Files> {
    write::formatted(root, emit::files(&document::read_all(root)?)?)
}

/// The repository: two folders above this crate when cargo runs it, else the current folder.
fn root() -> PathBuf {
    match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(gen_dir) => PathBuf::from(gen_dir).join("../.."),
        None => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_files_are_what_the_lexicons_say() {
        let root = super::root();
        let different = super::write::different(&root, &super::generate(&root).unwrap()).unwrap();
        assert!(different.is_empty(), "run cargo run -p lexicon-gen; different: {different:?}");
    }
}
