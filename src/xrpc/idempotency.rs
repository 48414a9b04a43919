//! Calls whose answer no entry can rebuild keep it beside their effect, in the same transaction.
//!
//! Invariant: a stored answer has at most `ANSWER_BYTES`. A method whose answer may be larger stores references from
//! which it rebuilds the answer.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Call, Failure, Fault, Services, store};
use crate::lexicon::Method;
use crate::log::Author;
use crate::storage::PgConnection;
use crate::types::{Hash, Idem, Refusal};

/// The constraint that lets one of two simultaneous repeats win.
const ANSWER_KEY: &str = "answer_pkey";
/// The most bytes of a stored answer, as JSON.
const ANSWER_BYTES: usize = 64 << 10;

/// A call that may be a repeat: its identity, parsed.
#[derive(Debug, Clone)]
pub struct Repeat {
    pub idem: Idem,
    pub request_hash: Hash,
}

/// The stored answer of this call, or its references, if the call was answered before; `IdempotencyConflict` if another
/// body used its key.
pub async fn repeated_answer<M: Method, T: DeserializeOwned>(
    cx: &Services,
    author: &Author,
    call: &Call<M>,
    idem: &str,
) -> Result<Result<T, Repeat>, Failure<M::Error>> {
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

/// Stores the answer, or the references that rebuild it, in the transaction of its effect. If a concurrent repeat of
/// the call stored its answer first, the transaction counts as collided: its next attempt finds that answer.
pub async fn keep_answer<M: Method>(
    conn: &mut PgConnection,
    cx: &Services,
    author: &Author,
    repeat: &Repeat,
    answer: &(impl Serialize + Sync),
) -> Result<(), Failure<M::Error>> {
    let text = serde_json::to_string(answer).map_err(Fault::internal)?;
    if text.len() > ANSWER_BYTES {
        return Err(Fault::internal(format!("{}: a stored answer of {} bytes", M::NSID, text.len())).into());
    }
    let body = serde_json::from_str(&text).map_err(Fault::internal)?;
    let (account, device, idem) = (author.account_id, author.device_row, repeat.idem.as_str());
    let now = cx.clock.now().to_datetime();
    let kept = store::insert_answer(conn, account, device, M::NSID, idem, repeat.request_hash, &body, now).await;
    kept.map_err(|error| match error.constraint() {
        Some(ANSWER_KEY) => Fault::Collided.into(),
        _ => error.into(),
    })
}
