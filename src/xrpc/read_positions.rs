//! Read positions of accounts: many to one statement, so that a message that many members read costs few commits.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::Fault;
use super::store;
use crate::storage::{Error, SharedStatement, StatementQueue, Storage};
use crate::types::Seq;

/// An account's wish to move its read position in a stream.
pub(super) struct Advance {
    pub account_id: i64,
    pub stream_id: i64,
    pub seq: Seq,
    pub now: DateTime<Utc>,
}

/// Moves read positions forward. Cheap to clone.
#[derive(Clone)]
pub struct ReadPositions(StatementQueue<AdvanceAll>);

struct AdvanceAll(Storage);

impl SharedStatement for AdvanceAll {
    type Item = Advance;
    type Answer = Seq;

    const NAME: &'static str = "read positions";
    const STATEMENTS: usize = 1;

    async fn run(&self, items: &[Advance]) -> Result<Vec<Seq>, Error> {
        // Two calls of an account in one batch move its position once.
        let mut furthest: HashMap<(i64, i64), &Advance> = HashMap::new();
        for item in items {
            let wish = furthest.entry((item.account_id, item.stream_id)).or_insert(item);
            if wish.seq < item.seq {
                *wish = item;
            }
        }
        let positions = store::advance_read_positions(self.0.pool(), furthest.into_values()).await?;
        let position = |item: &Advance| positions.get(&(item.account_id, item.stream_id)).copied();
        items.iter().map(|item| position(item).ok_or(Error::Corrupt("read_position"))).collect()
    }
}

impl ReadPositions {
    pub fn new(storage: Storage) -> Self {
        Self(StatementQueue::new(AdvanceAll(storage)))
    }

    /// Moves the position to `seq`, unless the position is there or beyond; the position afterwards.
    pub async fn advance(&self, account_id: i64, stream_id: i64, seq: Seq, now: DateTime<Utc>) -> Result<Seq, Fault> {
        Ok(self.0.ask(Advance { account_id, stream_id, seq, now }).await?)
    }
}
