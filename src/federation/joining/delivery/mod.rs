//! Deliveries to other servers, for one of their accounts.
//!
//! Invariants: a delivery is a row of the transaction that caused it; a repeat counts once, by its id; a server that
//! refuses deliveries delays none to other servers.

mod compose;
mod store;
mod worker;

use serde_json::{Value, json};

use super::relationship::Word;
use crate::lexicon::peer::deliver::Input;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Bytes, Did, UnixMillis};

pub(super) use store::forget;
pub use store::{announced, redirect_account};
pub(super) use worker::{repeat, run};

/// The kinds of deliveries that this server receives from other servers.
pub const KINDS: &[&str] = &[
    "consentRequest",
    "invitation",
    "welcome",
    "relationship",
    #[cfg(feature = "next-version")]
    "note",
];

/// Whether this version knows the kind of a delivery, and the change. The sender repeats what a later version knows.
pub fn is_known(input: &Input) -> bool {
    let changes = ["request", "accept", "end"];
    let is_change = |change| input.kind != "relationship" || changes.contains(&change);
    KINDS.contains(&input.kind.as_str()) && input.change.as_deref().is_none_or(is_change)
}

/// The kind of a row that announces a move: another method, the same care.
pub(super) const MOVE_SEATS: &str = "moveSeats";

/// The kind of a row that tells a home that an account left: it calls another method, with the retries of a delivery.
pub(super) const LEAVE: &str = "leaveConvo";

/// A delivery to queue.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The account of this server whose call caused the delivery, if one did: its deliveries have a limit.
    pub sender: Option<i64>,
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
    /// The refs of the key packages that the Welcome uses for this account.
    pub references: Vec<Vec<u8>>,
}

/// Deliveries of one account that may wait, and deliveries of one account in all.
const WAITING: i64 = 200;
const KEPT_OF_ONE: i64 = 2_000;

/// The account has reached its limit of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Whether the account may cause `more` deliveries. Checked before a transaction begins: concurrent calls may exceed
/// the limit slightly.
pub async fn may_send(pool: &PgPool, account_id: i64, more: usize) -> Result<Result<(), TooMany>, Error> {
    let (waiting, kept) = store::counts(pool, account_id, KEPT_OF_ONE).await?;
    let more = i64::try_from(more).unwrap_or(i64::MAX);
    let fits = waiting.saturating_add(more) <= WAITING && kept.saturating_add(more) <= KEPT_OF_ONE;
    Ok(if fits { Ok(()) } else { Err(TooMany) })
}

/// Queues it, in the transaction that caused it.
pub async fn queue(conn: &mut PgConnection, deliveries: &[Delivery<'_>], now: UnixMillis) -> Result<(), Error> {
    for delivery in deliveries {
        let id = hex::encode(rand::random::<[u8; 16]>());
        store::insert(conn, &id, delivery, now.to_datetime()).await?;
    }
    Ok(())
}

/// The sender and the receiver of a delivery about a relationship.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// The account whose call causes the delivery; `None` for an answer to another server's delivery.
    pub sender: Option<i64>,
    pub from: &'a Did,
    pub to: &'a Did,
    /// The server of the account `to`.
    pub server: &'a Did,
}

/// Queues a delivery about a relationship to an account of another server.
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
    let Words { sender, server, to, .. } = words;
    queue(conn, &[Delivery { sender, server, to, kind, body, stream_id: None, welcome: None }], now).await
}
