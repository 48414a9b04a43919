//! The answer to a claim, and its stored form.
//!
//! Invariant: the stored form names rows and servers and holds no key package, so that a small claim never stores a large
//! answer.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::outcome::{ANSWER_BYTES, ASK_AGAIN, Outcome, foreign_bytes, of_ours};
use super::store::Claimed;
use crate::federation::joining::claims::{ClaimPart, ForeignAnswers, UNAVAILABLE};
use crate::lexicon::mls::claim_key_packages::{self as claim, Output, Package};
use crate::types::{Bytes, Did};

/// The stored form of an answer: an item for each target, in the order of the request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredAnswer {
    /// The home of the stream, as the requests to other servers named it.
    home: Did,
    targets: Vec<StoredTarget>,
    /// The parts of the claim that other servers were asked.
    parts: Vec<Arc<ClaimPart>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum StoredTarget {
    /// The rows of the target's key packages.
    Rows(Vec<i64>),
    Problem(String),
    /// The index of the part whose server answered with packages.
    Part(usize),
}

impl StoredAnswer {
    /// Stores for each target its packages, or why it has none.
    pub fn of(outcome: &Outcome<'_>) -> Self {
        let mut stored = Self { home: outcome.home.clone(), targets: Vec::new(), parts: Vec::new() };
        let mut room = ANSWER_BYTES;
        for account in outcome.asked {
            let target = match outcome.elsewhere.get(account) {
                Some(answer) => {
                    let bytes = foreign_bytes(answer);
                    let problem = answer.target.problem.as_deref().or((bytes > room).then_some(ASK_AGAIN));
                    match (problem, &answer.part) {
                        (None, Some(part)) => {
                            room -= bytes;
                            StoredTarget::Part(stored.place_of(part))
                        }
                        (problem, _) => StoredTarget::Problem(problem.unwrap_or(UNAVAILABLE).to_owned()),
                    }
                }
                None => match of_ours(account, outcome) {
                    Ok(rows) => StoredTarget::Rows(rows),
                    Err(problem) => StoredTarget::Problem(problem.to_owned()),
                },
            };
            stored.targets.push(target);
        }
        stored
    }

    fn place_of(&mut self, part: &Arc<ClaimPart>) -> usize {
        self.parts.iter().position(|known| known == part).unwrap_or_else(|| {
            self.parts.push(Arc::clone(part));
            self.parts.len() - 1
        })
    }

    pub fn home(&self) -> &Did {
        &self.home
    }

    /// The parts to ask other servers again.
    pub fn parts(&self) -> &[Arc<ClaimPart>] {
        &self.parts
    }

    /// The rows of the answer's key packages.
    pub fn rows(&self) -> Vec<i64> {
        let rows = self.targets.iter().filter_map(|target| match target {
            StoredTarget::Rows(rows) => Some(rows),
            StoredTarget::Problem(_) | StoredTarget::Part(_) => None,
        });
        rows.flatten().copied().collect()
    }

    /// Rebuilds the answer, from its rows and the repeated answers of other servers. The targets of a server that does
    /// not answer now are `unavailable`: the client may repeat the call.
    pub fn into_output(self, asked: &[Did], claimed: Vec<Claimed>, elsewhere: &ForeignAnswers) -> Output {
        let mut by_row: HashMap<i64, Package> = claimed.into_iter().map(|one| (one.id, shown(one))).collect();
        let target = |(account, stored): (&Did, StoredTarget)| match stored {
            StoredTarget::Rows(rows) => {
                let packages: Vec<_> = rows.iter().filter_map(|row| by_row.remove(row)).collect();
                if packages.is_empty() {
                    problem(account, "exhausted")
                } else {
                    claim::Target { account: account.clone(), packages: Some(packages), problem: None }
                }
            }
            StoredTarget::Problem(why) => problem(account, &why),
            StoredTarget::Part(_) => {
                elsewhere.get(account).map_or_else(|| problem(account, UNAVAILABLE), |answer| answer.target.clone())
            }
        };
        Output { targets: asked.iter().zip(self.targets).map(target).collect() }
    }
}

fn problem(account: &Did, why: &str) -> claim::Target {
    claim::Target { account: account.clone(), packages: None, problem: Some(why.to_owned()) }
}

fn shown(one: Claimed) -> Package {
    Package {
        device: one.device,
        cipher_suite: u64::try_from(one.cipher_suite).unwrap_or_default(),
        r#ref: Bytes(one.reference),
        key_package: Bytes(one.bytes),
        last_resort: one.last_resort,
    }
}
