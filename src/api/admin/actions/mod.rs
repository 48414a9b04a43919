//! The log of operators' actions.
//!
//! Invariants: an action is recorded in the transaction that carries it out; each record names the hash of the record
//! before, and the database refuses to change or delete a record, so that [`verify`] finds a changed or removed record.
//! The hash of each new record also goes to the server's log, out of reach of an operator of the database.

mod store;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Bytes, Did, Hash, UnixMillis};

/// The label under which a record is hashed.
const LABEL: &str = "rookery operator action v1";
const VERSION: u8 = 1;
/// Records that one query reads.
const PAGE: i64 = 500;

/// An action to record.
#[derive(Debug)]
pub struct OperatorAction<'a> {
    /// The device of an operator, or the user of the machine who ran the command.
    pub by: &'a str,
    /// The name of the action, such as `suspendAccount`.
    pub name: &'static str,
    /// The account that the action concerns.
    pub account: Option<&'a Did>,
    /// Further values, by name.
    pub detail: &'a [(&'static str, &'a str)],
}

/// The content of a record, as canonical DAG-CBOR.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionStatement {
    v: u8,
    pub seq: u64,
    /// The hash of the record before; 32 zeros for the first.
    prev: Bytes,
    pub at: UnixMillis,
    pub by: String,
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Did>,
    pub detail: BTreeMap<String, String>,
}

/// A stored record.
pub struct ActionRecord {
    pub bytes: Vec<u8>,
    pub hash: Vec<u8>,
}

/// Why the verification of the log of actions fails.
#[derive(Debug, thiserror::Error)]
pub enum BrokenLog {
    #[error("record {0} is missing")]
    Missing(u64),
    #[error("record {0} does not follow from the record before it, or was changed")]
    Altered(u64),
    #[error(transparent)]
    Storage(#[from] Error),
}

impl ActionRecord {
    /// The record's content; `None` if the bytes are no record.
    pub fn read(&self) -> Option<ActionStatement> {
        serde_ipld_dagcbor::from_slice(&self.bytes).ok()
    }

    fn computed(&self) -> Hash {
        Hash::labelled(LABEL, &self.bytes)
    }
}

/// Appends an action to the log, in the transaction that carries it out. Concurrent writers wait until that transaction
/// ends.
pub async fn record(conn: &mut PgConnection, action: &OperatorAction<'_>, now: UnixMillis) -> Result<(), Error> {
    let (seq, prev) = store::lock_head(conn).await?;
    let statement = ActionStatement {
        v: VERSION,
        seq: seq + 1,
        prev: Bytes(prev),
        at: now,
        by: action.by.to_owned(),
        action: action.name.to_owned(),
        account: action.account.cloned(),
        detail: action.detail.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    let bytes = serde_ipld_dagcbor::to_vec(&statement).map_err(|_| Error::Corrupt("operator_action.statement"))?;
    let hash = Hash::labelled(LABEL, &bytes);
    store::insert(conn, statement.seq, &bytes, hash, action.account, now.to_datetime()).await?;
    tracing::info!(action = action.name, seq = statement.seq, hash = %hash, "operator action recorded");
    Ok(())
}

/// A page of records after the number `after`, in order.
pub async fn list(pool: &PgPool, after: u64, limit: i64) -> Result<Vec<ActionRecord>, Error> {
    store::list(pool, after, limit).await
}

/// Reads the whole log in order and verifies every link. Passes each record to `each`; answers the last hash.
pub async fn verify(pool: &PgPool, mut each: impl FnMut(&ActionStatement)) -> Result<Hash, BrokenLog> {
    let (mut seq, mut head) = (0, Hash::ZERO);
    loop {
        let page = store::list(pool, seq, PAGE).await?;
        if page.is_empty() {
            return Ok(head);
        }
        for record in page {
            let statement = record.read().ok_or(BrokenLog::Altered(seq + 1))?;
            if statement.seq != seq + 1 {
                return Err(BrokenLog::Missing(seq + 1));
            }
            let hash = record.computed();
            if statement.prev.as_slice() != head.as_slice() || record.hash != hash.as_slice() {
                return Err(BrokenLog::Altered(statement.seq));
            }
            each(&statement);
            (seq, head) = (statement.seq, hash);
        }
    }
}
