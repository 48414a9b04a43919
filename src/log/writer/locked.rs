//! The locked path: one stream, under its lock, with all state read again.

use super::{Application, Right, judge_epoch, store};
use crate::log::append::DRAFTS_PER_TRANSACTION;
use crate::log::store::Accepted;
use crate::log::{Error, Log};
use crate::types::Refusal;

/// Appends to one stream what may be appended, and answers each item in its place.
pub(super) async fn append(
    log: &Log,
    stream_id: i64,
    items: &[&Application],
) -> Result<Vec<Result<Accepted, Refusal>>, Error> {
    let mut answers = Vec::with_capacity(items.len());
    for chunk in items.chunks(DRAFTS_PER_TRANSACTION) {
        let collided = |error: &Error| error.is_collision();
        answers.extend(crate::storage::retrying(collided, || append_chunk(log, stream_id, chunk)).await?);
    }
    Ok(answers)
}

async fn append_chunk(
    log: &Log,
    stream_id: i64,
    items: &[&Application],
) -> Result<Vec<Result<Accepted, Refusal>>, Error> {
    let mut tx = log.lock(stream_id).await?;
    let pairs: Vec<(i64, i64)> = items.iter().map(|item| (stream_id, item.author.device_row)).collect();
    let rights = store::rights(tx.conn(), &pairs).await?;
    let (epoch, floor) = (tx.row().epoch, tx.row().epoch_floor);
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        if let Some(accepted) = crate::log::store::find_accepted(tx.conn(), stream_id, item.identity.idem).await? {
            answers.push(accepted.answer_to(&item.identity));
            continue;
        }
        let right = rights.get(&(stream_id, item.author.device_row)).copied().unwrap_or(Right::NONE);
        let judged = right.judge().and_then(|()| judge_epoch(item.epoch, epoch, floor, log.past_epochs()));
        if let Err(refusal) = judged {
            answers.push(Err(refusal));
            continue;
        }
        let sealed = tx.append_judged(item).await?;
        answers.push(Ok(Accepted::of(&sealed, Some(item.epoch), Some(item.identity))));
    }
    tx.commit().await?;
    Ok(answers)
}
