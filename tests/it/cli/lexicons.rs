//! `rookery lexicons publish` against a stand-in PDS.

use std::process::Stdio;

use rookery::lexicon::DOCUMENTS;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::pds::{DID, PASSWORD, StandInPds};

const SEND: &str = "blue.catbird.mls.sendMessage";

struct Run {
    out: String,
    err: String,
    well: bool,
}

impl Run {
    /// How many lines say that of a lexicon.
    fn count(&self, word: &str) -> usize {
        self.out.lines().filter(|line| line.starts_with(&format!("{word} "))).count()
    }

    fn line(&self, nsid: &str) -> &str {
        self.out.lines().find(|line| line.ends_with(nsid)).unwrap()
    }
}

/// As an operator with no other setting than the password; without one in the environment, it is piped.
async fn publish(pds: &StandInPds, password: &str, in_environment: bool, more: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
    command.env_clear().args(["lexicons", "publish", "--pds", pds.url(), "--identifier", "lexicons.example.com"]);
    command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if in_environment {
        command.env("ROOKERY_PDS_PASSWORD", password);
    }
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    if !in_environment {
        input.write_all(format!("{password}\n").as_bytes()).await.unwrap();
    }
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "the password is shown");
    Run { out, err, well: output.status.success() }
}

async fn published() -> StandInPds {
    let pds = StandInPds::start().await;
    let run = publish(&pds, PASSWORD, true, &[]).await;
    assert!(run.well, "{}", run.err);
    assert_eq!(run.count("created"), DOCUMENTS.len());
    pds
}

/// What the stand-in holds of one lexicon, changed as if another version had been published before.
fn before(pds: &StandInPds, nsid: &str, change: impl FnOnce(&mut Value)) {
    let mut record = pds.record(nsid);
    change(&mut record);
    pds.set(nsid, record);
}

#[tokio::test]
async fn every_lexicon_is_written_once_and_what_is_equal_not_again() {
    let pds = published().await;
    let all = u64::try_from(DOCUMENTS.len()).unwrap();
    assert_eq!(pds.writes(), all);
    assert_eq!(pds.keys(), DOCUMENTS.iter().map(|(nsid, _)| (*nsid).to_owned()).collect::<Vec<_>>());
    assert_eq!(pds.record(SEND)["$type"], "com.atproto.lexicon.schema");
    assert!(pds.record(SEND)["defs"]["main"].get("examples").is_none());

    let again = publish(&pds, PASSWORD, false, &[]).await;
    assert!(again.well, "{}", again.err);
    assert_eq!((again.count("unchanged"), pds.writes()), (DOCUMENTS.len(), all));
    for name in ["_lexicon.catbird.blue", "_lexicon.mls.catbird.blue", "_lexicon.event.catbird.blue"] {
        assert!(again.out.contains(&format!("{name} TXT \"did={DID}\"\n")), "{}", again.out);
    }
    assert_eq!(pds.open_sessions(), 0, "a session is left open");
}

#[tokio::test]
async fn an_additive_change_is_written_alone_and_what_is_gone_stays() {
    let pds = published().await;
    let writes = pds.writes();
    before(&pds, SEND, |record| {
        record["defs"]["main"]["description"] = "Older words.".into();
        record["defs"]["main"]["errors"].as_array_mut().unwrap().pop();
    });
    pds.set("blue.catbird.mls.oldThing", json!({ "lexicon": 1, "id": "blue.catbird.mls.oldThing", "defs": {} }));

    let trial = publish(&pds, "no password is asked for", true, &["--dry-run"]).await;
    assert!(trial.well, "{}", trial.err);
    assert_eq!(trial.line(SEND), format!("would change {SEND}"));
    assert_eq!((pds.writes(), pds.open_sessions()), (writes, 0));

    let run = publish(&pds, PASSWORD, true, &[]).await;
    assert!(run.well, "{}", run.err);
    assert_eq!((run.count("changed"), run.count("unchanged"), run.count("created")), (1, DOCUMENTS.len() - 1, 0));
    assert_eq!(run.line(SEND), format!("changed      {SEND}"));
    assert_eq!(pds.writes(), writes + 1);
    assert!(run.out.contains("gone         blue.catbird.mls.oldThing: "), "{}", run.out);
    assert!(pds.keys().contains(&"blue.catbird.mls.oldThing".to_owned()));
}

#[tokio::test]
async fn a_change_that_breaks_is_refused_with_its_place_before_anything_is_written() {
    let pds = published().await;
    let writes = pds.writes();
    before(&pds, SEND, |record| {
        let input = &mut record["defs"]["main"]["input"]["schema"];
        input["properties"]["priority"] = json!({ "type": "integer", "minimum": 0 });
        input["properties"]["idem"]["maxLength"] = 128.into();
        input["required"] = json!(["stream", "ciphertext"]);
    });
    // Another one, which could be written.
    before(&pds, "blue.catbird.account.listDevices", |record| {
        record["defs"]["main"]["description"] = "Older words.".into();
    });

    for more in [&[][..], &["--dry-run"]] {
        let run = publish(&pds, PASSWORD, true, more).await;
        assert!(!run.well);
        assert!(run.err.contains("nothing was written: these changes are not additive"), "{}", run.err);
        for place in ["priority is gone", "idem is narrower: maxLength 64 instead of 128", "idem is newly required"] {
            assert!(run.err.contains(&format!("{SEND}: #main/input/schema/{place}")), "{}", run.err);
        }
        assert_eq!((pds.writes(), pds.open_sessions()), (writes, 0));
    }

    let run = publish(&pds, PASSWORD, true, &["--allow-breaking"]).await;
    assert!(run.well, "{}", run.err);
    assert_eq!((run.count("changed"), pds.writes()), (2, writes + 2));
    assert!(pds.record(SEND)["defs"]["main"]["input"]["schema"]["properties"].get("priority").is_none());
}

#[tokio::test]
async fn a_wrong_password_is_said_by_name_and_nothing_is_written() {
    let pds = StandInPds::start().await;
    for in_environment in [true, false] {
        let run = publish(&pds, "wrong-wrong-wrong-wron", in_environment, &[]).await;
        assert!(!run.well && run.err.contains("wrong identifier or password"), "{}", run.err);
        assert!(!run.err.contains("wrong-wrong") && !run.out.contains("wrong-wrong"));
    }
    let none = publish(&pds, "", false, &[]).await;
    assert!(!none.well && none.err.contains("no password. Fix: set ROOKERY_PDS_PASSWORD"), "{}", none.err);
    assert_eq!(pds.writes(), 0);
}

#[tokio::test]
async fn what_somebody_else_changed_meanwhile_is_a_conflict_and_stays_as_they_left_it() {
    let pds = published().await;
    before(&pds, SEND, |record| record["defs"]["main"]["description"] = "Older words.".into());
    pds.meddle_with(SEND);
    let run = publish(&pds, PASSWORD, true, &[]).await;
    assert!(!run.well && run.err.contains(&format!("conflict: {SEND} was changed by somebody else")), "{}", run.err);
    assert_eq!(pds.record(SEND)["defs"], json!({}));
    assert_eq!(pds.open_sessions(), 0);

    // Also where nothing was when it was read.
    let pds = StandInPds::start().await;
    pds.meddle_with("blue.catbird.account.approvePairing");
    let run = publish(&pds, PASSWORD, true, &[]).await;
    assert!(!run.well && run.err.contains("conflict: blue.catbird.account.approvePairing"), "{}", run.err);
}

#[tokio::test]
async fn a_pds_over_plain_http_elsewhere_gets_no_password() {
    let output = Command::new(env!("CARGO_BIN_EXE_rookery"))
        .env_clear()
        .env("ROOKERY_PDS_PASSWORD", PASSWORD)
        .args(["lexicons", "publish", "--pds", "http://pds.example.com", "--identifier", "lexicons.example.com"])
        .output();
    let output = output.await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("--pds is not an https URL"), "{said}");
}
