//! The answer to a claim, and its stored form.
//!
//! Invariants: the stored form names rows and servers and holds no key package, so that a small claim never stores a
//! large answer; the answer holds at most `ANSWER_BYTES` of key packages, and has `askAgain` for each target that does
//! not fit, for which no package of this server is taken.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::store::{Claimed, Target};
use crate::federation::joining::claims::{ClaimPart, ForeignAnswer, ForeignAnswers, UNAVAILABLE};
use crate::lexicon::mls::claim_key_packages::{self as claim, Output, Package};
use crate::mls::limits::KEY_PACKAGE_BYTES;
use crate::types::{Bytes, Did};

/// The most bytes of key packages of one answer.
const ANSWER_BYTES: usize = 4 << 20;
/// The answer is full: the client claims for this account again, under another claimId.
const ASK_AGAIN: &str = "askAgain";

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

/// Splits the targets of this server into those whose packages fit into one answer, in the order of the request, and
/// those that do not. The answers of other servers come first, since those servers have already handed out the
/// packages.
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

/// The results for all targets of a claim.
pub(super) struct Outcome<'a> {
    pub asked: &'a [Did],
    /// Targets that got packages, or had none.
    pub served: &'a [Target],
    pub too_many: &'a [Target],
    pub refused: &'a [Target],
    pub claimed: &'a [Claimed],
    pub elsewhere: &'a ForeignAnswers,
    /// The home of the stream.
    pub home: &'a Did,
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
