//! The answer of a claim, and what is stored of it.
//!
//! Invariants: the stored form names rows and servers and holds no key package, so that a small claim never stores a
//! large answer; the answer holds at most `ANSWER_BYTES` of key packages, and says `askAgain` of each target that does not
//! fit, for which no package of this server is taken.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::store::{Claimed, Target};
use crate::federation::joining::claims::{ClaimPart, ForeignAnswer, ForeignAnswers, UNAVAILABLE};
use crate::lexicon::mls::claim_key_packages::{self as claim, Output, Package};
use crate::mls::limits::KEY_PACKAGE_BYTES;
use crate::types::{Bytes, Did};

/// Key packages of one answer.
const ANSWER_BYTES: usize = 4 << 20;
/// The answer is full: the client claims for this account under another claimId.
const ASK_AGAIN: &str = "askAgain";

/// What is stored of an answer: an item for each target, in the order asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredAnswer {
    /// The home of the stream, as other servers were told.
    home: Did,
    targets: Vec<StoredTarget>,
    /// What other servers were asked.
    parts: Vec<Arc<ClaimPart>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum StoredTarget {
    /// Rows of key packages.
    Rows(Vec<i64>),
    Problem(String),
    /// The part, by its place, whose server answered with packages.
    Part(usize),
}

/// Those of the targets of this server whose packages fit into one answer, in the order asked, and those that do not.
/// What other servers answered has been handed out already, so that it comes first.
pub(super) fn fitting(
    asked: &[Did],
    mut targets: Vec<Target>,
    elsewhere: &ForeignAnswers,
) -> (Vec<Target>, Vec<Target>) {
    let mut room =
        ANSWER_BYTES.saturating_sub(asked.iter().filter_map(|did| elsewhere.get(did)).map(foreign_bytes).sum());
    let place = |target: &Target| asked.iter().position(|did| did.as_str() == target.did);
    targets.sort_by_key(place);
    targets.into_iter().partition(|target| {
        let most = usize::try_from(target.devices).unwrap_or(usize::MAX).saturating_mul(KEY_PACKAGE_BYTES);
        let fits = most <= room;
        room = room.saturating_sub(if fits { most } else { 0 });
        fits
    })
}

fn foreign_bytes(answer: &ForeignAnswer) -> usize {
    answer.target.packages.iter().flatten().map(|package| package.key_package.as_slice().len()).sum()
}

/// What became of the targets of this server.
pub(super) struct Outcome<'a> {
    pub asked: &'a [Did],
    /// Those that were given something, or had nothing.
    pub served: &'a [Target],
    pub too_many: &'a [Target],
    pub refused: &'a [Target],
    pub claimed: &'a [Claimed],
    pub elsewhere: &'a ForeignAnswers,
    /// The home of the stream.
    pub home: &'a Did,
}

impl StoredAnswer {
    /// For each target its packages, or why there are none.
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
                None => of_ours(account, outcome),
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

    /// What other servers are asked again.
    pub fn parts(&self) -> &[Arc<ClaimPart>] {
        &self.parts
    }

    /// The rows that hold its packages.
    pub fn rows(&self) -> Vec<i64> {
        let rows = self.targets.iter().filter_map(|target| match target {
            StoredTarget::Rows(rows) => Some(rows),
            StoredTarget::Problem(_) | StoredTarget::Part(_) => None,
        });
        rows.flatten().copied().collect()
    }

    /// The answer, from the rows that it names and what the servers that it names say. A server that does not answer now
    /// leaves its targets `unavailable`: the same call may be sent once more.
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

fn of_ours(account: &Did, outcome: &Outcome<'_>) -> StoredTarget {
    let find =
        |targets: &[Target]| targets.iter().find(|target| target.did == account.as_str()).map(|it| it.account_id);
    let why = if let Some(account_id) = find(outcome.served) {
        let of_account = |one: &&Claimed| one.account_id == account_id;
        let rows: Vec<i64> = outcome.claimed.iter().filter(of_account).map(|one| one.id).collect();
        if !rows.is_empty() {
            return StoredTarget::Rows(rows);
        }
        "exhausted"
    } else if find(outcome.too_many).is_some() {
        ASK_AGAIN
    } else if find(outcome.refused).is_some() {
        "consentRequired"
    } else {
        "notHere"
    };
    StoredTarget::Problem(why.to_owned())
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
