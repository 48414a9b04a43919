//! What the fuzzers found worth keeping goes through its reader again with every test run.

use std::path::Path;

#[path = "../../../fuzz/seeds.rs"]
mod seeds;
#[path = "../../../fuzz/targets.rs"]
mod targets;

#[test]
fn every_reader_survives_its_corpus() {
    if std::env::var("SEEDS").is_ok_and(|wish| wish == "write") {
        seeds::write().unwrap();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let mut inputs: Vec<_> =
            std::fs::read_dir(folder.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            assert!(outcome.is_ok(), "{}", input.display());
        }
    }
}
