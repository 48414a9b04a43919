//! What this server tells others for one of their accounts.
//!
//! Invariants: a delivery is a row of the transaction that caused it; told twice, it counts once, by its id; what one
//! server does not take holds back nothing that is for another.

mod compose;
mod store;
mod worker;

use serde_json::{Value, json};

use super::relationship::Word;
use crate::storage::{Error, PgConnection};
use crate::types::{Bytes, Did, UnixMillis};

pub use store::redirect_account;
pub(super) use worker::{repeat, run};

/// The kinds of deliveries that this server takes from other servers.
pub const KINDS: &[&str] = &["consentRequest", "invitation", "welcome", "relationship"];

/// The kind of a row that announces a move: another method, the same care.
pub(super) const MOVE_SEATS: &str = "moveSeats";

/// Something to be told.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// did:web of the account's server.
    pub server: &'a Did,
    pub to: &'a Did,
    pub kind: &'static str,
    /// The fields of this kind, as the lexicon has them.
    pub body: Value,
    pub stream_id: Option<i64>,
    pub welcome: Option<Enclosed>,
}

/// The part of a Welcome that goes with it.
#[derive(Clone, Debug)]
pub struct Enclosed {
    pub welcome_id: i64,
    /// Of the key packages that it uses for this account.
    pub references: Vec<Vec<u8>>,
}

/// Queues it, in the transaction that caused it.
pub async fn queue(conn: &mut PgConnection, deliveries: &[Delivery<'_>], now: UnixMillis) -> Result<(), Error> {
    for delivery in deliveries {
        let id = hex::encode(rand::random::<[u8; 16]>());
        store::insert(conn, &id, delivery, now.to_datetime()).await?;
    }
    Ok(())
}

/// Between whom a word goes.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    pub from: &'a Did,
    pub to: &'a Did,
    /// Of `to`.
    pub server: &'a Did,
}

/// Tells an account of another server what one of this server said about it.
pub async fn send_word(
    conn: &mut PgConnection,
    words: Words<'_>,
    word: Word,
    note: Option<&[u8]>,
    now: UnixMillis,
) -> Result<(), Error> {
    let (kind, body) = match word {
        Word::Ask => {
            let note = note.map(|note| Bytes(note.to_vec()));
            ("consentRequest", json!({ "from": words.from, "note": note }))
        }
        Word::Agree => ("relationship", json!({ "from": words.from, "change": "accept" })),
        Word::End => ("relationship", json!({ "from": words.from, "change": "end" })),
    };
    let (server, to) = (words.server, words.to);
    queue(conn, &[Delivery { server, to, kind, body, stream_id: None, welcome: None }], now).await
}
