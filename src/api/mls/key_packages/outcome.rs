//! The results of a claim, and the targets that fit into its answer.
//!
//! Invariant: an answer holds at most `ANSWER_BYTES` of key packages, and has `askAgain` for each target that does not
//! fit, for which the server takes no package.

use super::store::{Claimed, Target};
use crate::federation::joining::claims::{ForeignAnswer, ForeignAnswers};
use crate::mls::limits::KEY_PACKAGE_BYTES;
use crate::types::Did;

/// The most bytes of key packages of one answer.
pub(super) const ANSWER_BYTES: usize = 4 << 20;
/// The answer is full: the client claims for this account again, under another claimId.
pub(super) const ASK_AGAIN: &str = "askAgain";

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

pub(super) fn foreign_bytes(answer: &ForeignAnswer) -> usize {
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

/// The rows of the packages of an account of this server, or the problem for which there are none.
pub(super) fn of_ours(account: &Did, outcome: &Outcome<'_>) -> Result<Vec<i64>, &'static str> {
    let find =
        |targets: &[Target]| targets.iter().find(|target| target.did == account.as_str()).map(|it| it.account_id);
    if let Some(account_id) = find(outcome.served) {
        let of_account = |one: &&Claimed| one.account_id == account_id;
        let rows: Vec<i64> = outcome.claimed.iter().filter(of_account).map(|one| one.id).collect();
        if rows.is_empty() { Err("exhausted") } else { Ok(rows) }
    } else if find(outcome.too_many).is_some() {
        Err(ASK_AGAIN)
    } else if find(outcome.refused).is_some() {
        Err("consentRequired")
    } else {
        Err("notHere")
    }
}
