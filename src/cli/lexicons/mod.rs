//! `rookery lexicons`: the contract where everybody finds it, as records of an account (AT Protocol, "Lexicon
//! publication and resolution").
//!
//! Invariant: what is published is what this program was built from, as Lexicon and nothing else. The key `examples`,
//! which is ours, stays behind: in a record `{"$bytes": "…"}` is no picture of bytes but bytes, so that an example would
//! come back as something else than was written; and what Lexicon does not know may some day be refused.

mod authority;
mod changes;
mod check;
mod plan;
mod publish;
mod repository;

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Map, Value};

use crate::lexicon::DOCUMENTS;

/// The collection of lexicons in a repository.
const COLLECTION: &str = "com.atproto.lexicon.schema";
/// Every NSID that is ours begins so.
const OURS: &str = "blue.catbird.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write every lexicon that is not yet there, or not as it should be, into an account's repository.
    ///
    /// The account's app password comes from ROOKERY_PDS_PASSWORD or from standard input. Nothing is ever removed.
    Publish(publish::Args),
    /// Look at the DNS records and the published lexicons as others see them.
    Check,
}

pub(super) async fn run(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Publish(args) => publish::run(file, args).await,
        Command::Check => check::run(file).await,
    }
}

/// Every document of this program as the record that is published, sorted by NSID.
fn records() -> serde_json::Result<Vec<(&'static str, Value)>> {
    DOCUMENTS.iter().map(|(nsid, text)| Ok((*nsid, record(serde_json::from_str(text)?)))).collect()
}

fn record(document: Map<String, Value>) -> Value {
    let mut record = Map::from_iter([("$type".to_owned(), Value::from(COLLECTION))]);
    record.extend(document);
    if let Some(main) = record.get_mut("defs").and_then(|defs| defs.get_mut("main")).and_then(Value::as_object_mut) {
        main.shift_remove("examples");
    }
    record.into()
}

/// What another computer said, fit for a terminal: one line of at most 300 characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::{COLLECTION, records};

    #[test]
    fn what_is_published_is_lexicon_alone() {
        let records = records().unwrap();
        assert!(records.len() > 30);
        for (nsid, record) in records {
            assert_eq!(
                (&record["$type"], &record["lexicon"], &record["id"]),
                (&COLLECTION.into(), &1.into(), &nsid.into())
            );
            let text = record.to_string();
            assert!(!text.contains("\"examples\"") && !text.contains("$bytes") && !text.contains("$link"), "{nsid}");
            // A PDS takes bodies of 150 KiB.
            assert!(text.len() < 140 * 1024, "{nsid}: {} bytes", text.len());
        }
    }
}
