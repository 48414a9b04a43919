//! Law: the access matrix. Every mounted method, called by every kind of actor, answers as `matrix.txt` says.
//!
//! A method that is not in the table, a line without a method and a missing actor fail. Where the table is wrong, the
//! test prints the lines to paste; `MATRIX=write` writes them.

mod actors;
mod calls;
mod table;

use std::path::Path;

use actors::{ACTORS, World};
use table::{Line, Table};

#[tokio::test(flavor = "multi_thread")]
async fn every_method_answers_every_kind_of_actor_as_the_committed_table_says() {
    let world = World::begin().await;
    let mut rules = super::callers::rules();
    // What ends the caller's seat comes last: everybody has a seat of their own to lose.
    rules.sort_by_key(|rule| (rule.nsid.ends_with(".leaveConvo"), rule.nsid));
    let mut lines = Vec::new();
    for rule in rules {
        let mut outcomes = Vec::new();
        for actor in &world.actors {
            world.prepare(actor).await;
            outcomes.push(calls::outcome(&world, rule, actor).await);
        }
        lines.push(Line { method: rule.nsid.to_owned(), rule: rule.caller.replace(' ', "-"), outcomes });
    }
    world.end().await;

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/server/matrix/matrix.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let committed = Table::read(&text);
    if std::env::var("MATRIX").is_ok_and(|wish| wish == "write") {
        std::fs::write(&path, committed.with(&ACTORS, &lines).to_string()).unwrap();
        return;
    }
    let differences = committed.differences(&ACTORS, &lines);
    assert!(differences.is_empty(), "\n{}\n`MATRIX=write` writes what is so.\n", differences.join("\n"));
}
