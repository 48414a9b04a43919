//! Items on their way through the writer, and those who wait for them.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Answer, Application, BATCH_BYTES, BATCH_ITEMS, JobReply};
use crate::log::store::Accepted;
use crate::log::{Error, identity_conflict};

/// First answers of the last calls, by stream and identity.
pub(super) type Recent = moka::sync::Cache<(i64, uuid::Uuid), Arc<Accepted>>;

/// An item, and everybody who asked for it while it waited: all get one answer.
pub(super) struct Waiting {
    pub item: Application,
    pub replies: Vec<JobReply>,
}

impl Waiting {
    pub(super) fn key(&self) -> (i64, uuid::Uuid) {
        (self.item.stream.id, self.item.identity.idem)
    }

    pub(super) fn answer_refused(self, refused: &(impl Into<Error> + Clone)) {
        for reply in self.replies {
            answer(reply, Err(refused.clone().into()));
        }
    }
}

/// Takes from the front what one transaction writes: at least one item.
pub(super) fn next_batch(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    let mut bytes = 0;
    let fits = waiting.iter().take(BATCH_ITEMS).enumerate().take_while(|(place, one)| {
        bytes += one.item.body.len();
        *place == 0 || bytes <= BATCH_BYTES
    });
    let items = fits.count();
    waiting.drain(..items).collect()
}

/// Lets repeats of one call wait for the first of them.
pub(super) fn merge(batch: Vec<Waiting>) -> Vec<Waiting> {
    let mut merged: Vec<Waiting> = Vec::with_capacity(batch.len());
    let mut by_identity: HashMap<(i64, uuid::Uuid), usize> = HashMap::new();
    for one in batch {
        match by_identity.get(&one.key()) {
            Some(&first) if merged[first].item.identity == one.item.identity => {
                merged[first].replies.extend(one.replies);
            }
            Some(_) => one.answer_refused(&identity_conflict()),
            None => {
                by_identity.insert(one.key(), merged.len());
                merged.push(one);
            }
        }
    }
    merged
}

pub(super) fn remember(recent: &Recent, item: &Application, accepted: &Accepted) {
    recent.insert((item.stream.id, item.identity.idem), Arc::new(accepted.clone()));
}

pub(super) fn answer(reply: JobReply, outcome: Answer) {
    reply.send(outcome);
}

/// Nothing is known to have been written: every client repeats with the same identity.
pub(super) fn fail(waiting: Vec<Waiting>, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error, items = waiting.len(), "failed to write a batch of the log");
    for reply in waiting.into_iter().flat_map(|one| one.replies) {
        answer(reply, Err(Error::Busy));
    }
}
