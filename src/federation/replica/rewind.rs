//! Acceptance of a rewind by the operator: the home of a stream lost entries that it had promised.
//!
//! Invariants: no stream thaws by itself, and a stream with a proven fork never does; the given-up entries stay as
//! evidence, header by header under the home's own checkpoint; the entries that stay are exactly those up to the base
//! that the home's `#homeRestored` names.

use serde::{Deserialize, Serialize};

use super::evidence::Kind;
use super::store;
use crate::identity::Signed;
use crate::log::StreamState;
use crate::log::body::{Body, HistoryRewoundBody, MembershipBody, MembershipChange, Role};
use crate::log::chain::{Content, Header, encode};
use crate::storage::{Error, PgConnection, Storage};
use crate::types::{Bytes, Seq, StreamId, UnixMillis};

/// The most entries that one command gives up, in one transaction.
const MOST: u64 = 4_000;
/// The most headers of one piece of evidence.
const HEADERS: usize = 1_024;

/// Why the command refuses to accept a rewind.
#[derive(Debug, thiserror::Error)]
pub enum RewindRefused {
    #[error("this server holds no such stream of another home")]
    NotFound,
    #[error("the stream is not frozen by a rewind; after a proven fork there is no history to go on with")]
    NotRewound,
    #[error("the entry before the restore is not held here, or is another one than the home's: leave the conversation")]
    OtherBase,
    #[error("the home took back more than 4,000 entries: leave the conversation")]
    TooMany,
    #[error(transparent)]
    Storage(#[from] Error),
}

/// The result of an accepted rewind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// The last entry that stays.
    pub base: Seq,
    pub entries: u64,
}

/// Entries that the home took back, as evidence.
#[derive(Serialize, Deserialize)]
struct TakenBack {
    headers: Vec<Bytes>,
    /// The home's checkpoint for the last of these entries, if this server has one.
    checkpoint: Option<Signed>,
}

/// Gives up the entries that the home took back, and follows the stream in its new term.
pub async fn accept_rewind(storage: &Storage, stream: &StreamId, now: UnixMillis) -> Result<GivenUp, RewindRefused> {
    let mut tx = storage.begin().await?;
    let row = store::lock_frozen(tx.conn(), stream.as_str()).await?.ok_or(RewindRefused::NotFound)?;
    if row.state != StreamState::Frozen.to_db() {
        return Err(RewindRefused::NotRewound);
    }
    let kept = store::find_rewind(tx.conn(), row.id).await?.ok_or(RewindRefused::NotRewound)?;
    let corrupt = || RewindRefused::Storage(Error::Corrupt("evidence.bytes"));
    let rewound = HistoryRewoundBody::decode(&kept).map_err(|_| corrupt())?;
    let restored = Header::decode(&rewound.restored.0).map_err(|_| corrupt())?;
    let base = Seq(restored.seq.0.saturating_sub(1));
    if row.head_seq.0.saturating_sub(base.0) > MOST {
        return Err(RewindRefused::TooMany);
    }
    let (prev, base_header) = store::entry_at(tx.conn(), row.id, base).await?.ok_or(RewindRefused::OtherBase)?;
    if prev != restored.prev().as_slice() {
        return Err(RewindRefused::OtherBase);
    }
    let term = Header::decode(&base_header).map_err(|_| corrupt())?.term;
    let gone = store::entries_after(tx.conn(), row.id, base).await?;
    keep(tx.conn(), row.id, &gone, now).await?;
    for (account, role) in roles_before(&gone) {
        store::put_role(tx.conn(), row.id, account.as_str(), role.to_db()).await?;
    }
    store::give_up(tx.conn(), row.id, base, term, now).await?;
    tx.commit().await?;
    Ok(GivenUp { base, entries: gone.len() as u64 })
}

async fn keep(conn: &mut PgConnection, stream_id: i64, gone: &[store::Gone], now: UnixMillis) -> Result<(), Error> {
    for part in gone.chunks(HEADERS) {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
        let checkpoint = store::checkpoint_at(conn, stream_id, last.seq).await?;
        let headers = part.iter().map(|entry| Bytes(entry.header.clone())).collect();
        let bytes =
            encode(&TakenBack { headers, checkpoint }, "evidence").map_err(|_| Error::Corrupt("entry.header"))?;
        store::insert_evidence(&mut *conn, stream_id, Kind::TakenBack, first.seq, &bytes, now).await?;
    }
    Ok(())
}

/// The former roles of the accounts whose roles the given-up entries changed. This version knows two roles with rights,
/// so the former role is the one that the first of those entries did not set. Only the home enforces roles.
fn roles_before(gone: &[store::Gone]) -> std::collections::BTreeMap<crate::types::Did, Role> {
    let mut roles = std::collections::BTreeMap::new();
    for entry in gone {
        let content = entry.content.as_ref().and_then(|content| Content::decode(content).ok());
        let body = content.and_then(|content| MembershipBody::decode(&content.body).ok());
        if let Some(MembershipBody { account, change: MembershipChange::Role, role: Some(role), .. }) = body {
            let before = if role == Role::Admin { Role::Member } else { Role::Admin };
            roles.entry(account).or_insert(before);
        }
    }
    roles
}
