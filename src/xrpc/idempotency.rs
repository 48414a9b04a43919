//! Calls whose answer no entry can rebuild keep it beside their effect, in the same transaction.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::PgConnection;

use super::{Call, Failure, Fault, Services, store};
use crate::lexicon::Method;
use crate::log::Author;
use crate::storage;
use crate::types::{Hash, Idem, Refusal};

/// The constraint that lets one of two simultaneous repeats win.
const ANSWER_KEY: &str = "answer_pkey";

/// A call that may be a repeat: its identity, parsed.
#[derive(Debug, Clone)]
pub struct Repeat {
    pub idem: Idem,
    pub request_hash: Hash,
}

impl Repeat {
    /// Whether an insert failed because the same call was answered at the same moment: look again.
    pub fn raced(error: &storage::Error) -> bool {
        error.constraint() == Some(ANSWER_KEY)
    }
}

/// The first answer, if this call was answered before; `IdempotencyConflict` if another body had its name.
pub async fn repeated_answer<M: Method>(
    cx: &Services,
    author: &Author,
    call: &Call<M>,
    idem: &str,
) -> Result<Result<M::Output, Repeat>, Failure<M::Error>>
where
    M::Output: DeserializeOwned,
{
    let repeat = Repeat { idem: Idem::parse(idem)?, request_hash: call.request_hash };
    let (account, device) = (author.account_id, author.device_row);
    let found = store::find_answer(cx.storage.pool(), account, device, M::NSID, repeat.idem.as_str()).await?;
    match found {
        None => Ok(Err(repeat)),
        Some(row) if row.request_hash == repeat.request_hash.as_slice() => {
            Ok(Ok(serde_json::from_value(row.body).map_err(|error| Failure::Fault(Fault::internal(error)))?))
        }
        Some(_) => Err(Refusal::new("IdempotencyConflict", "this idem was used before, with another request").into()),
    }
}

/// Keeps the answer, in the transaction of its effect.
pub async fn keep_answer<M: Method>(
    conn: &mut PgConnection,
    cx: &Services,
    author: &Author,
    repeat: &Repeat,
    answer: &M::Output,
) -> Result<(), storage::Error>
where
    M::Output: Serialize,
{
    let body = serde_json::to_value(answer).map_err(|_| storage::Error::Corrupt("answer"))?;
    store::insert_answer(
        conn,
        author.account_id,
        author.device_row,
        M::NSID,
        repeat.idem.as_str(),
        repeat.request_hash,
        &body,
        cx.clock.now().to_datetime(),
    )
    .await
}
