//! Operators' view of peers, and their decisions, beside a running server, which reads these rows for every call.
//!
//! Invariants: what an operator decided stands until an operator decides otherwise; a peer is forgotten only if no
//! conversation here has anything to do with it, since its keys are what proves what it signed.

mod store;

use super::store::{find, insert};
use super::{KeyState, KnownPeer, Policy, domain, endpoint};
use crate::storage::{self, PgConnection, Storage};
use crate::types::{Did, UnixMillis};

/// A page of peers in the order in which they were first seen.
pub struct Page {
    pub peers: Vec<KnownPeer>,
    /// If there are more.
    pub cursor: Option<i64>,
}

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum Undecided {
    #[error("it is not the name of a server: did:web:<host>, without a port")]
    NotAServer,
    #[error("this server was never in touch with it")]
    NotFound,
    #[error("it has shown no such key")]
    NoSuchKey,
    #[error("conversations here have members or a home there; block it instead")]
    InUse,
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// Peers after the one with that number.
pub async fn list(storage: &Storage, after: i64, limit: i64) -> Result<Page, storage::Error> {
    let mut rows = store::list(storage.pool(), after, limit.saturating_add(1)).await?;
    let more = i64::try_from(rows.len()).is_ok_and(|found| found > limit);
    if more {
        rows.pop();
    }
    let cursor = rows.last().filter(|_| more).map(|(id, _)| *id);
    let mut peers = Vec::new();
    for (_, server) in rows {
        // One may be forgotten meanwhile.
        peers.extend(find(storage.pool(), &server).await?);
    }
    Ok(Page { peers, cursor })
}

pub async fn get(storage: &Storage, server: &Did) -> Result<KnownPeer, Undecided> {
    find(storage.pool(), server).await?.ok_or(Undecided::NotFound)
}

/// Decides about a server, also about one that was never seen. `development` lets localhost with a port be one.
pub async fn decide(
    conn: &mut PgConnection,
    server: &Did,
    policy: Policy,
    now: UnixMillis,
    development: bool,
) -> Result<(), Undecided> {
    endpoint(server, development).ok_or(Undecided::NotAServer)?;
    let peer_id = insert(conn, server, &domain(server), now.to_datetime()).await?;
    store::set_policy(conn, peer_id, policy).await?;
    Ok(())
}

/// Takes or refuses a key of a peer. The last that was held ends the hold.
pub async fn decide_key(conn: &mut PgConnection, server: &Did, key_id: &str, accept: bool) -> Result<(), Undecided> {
    let peer_id = store::find_id(conn, server).await?.ok_or(Undecided::NotFound)?;
    let state = if accept { KeyState::Accepted } else { KeyState::Refused };
    if !store::set_key_state(conn, peer_id, key_id, state).await? {
        return Err(Undecided::NoSuchKey);
    }
    store::release_if_nothing_is_held(conn, peer_id).await?;
    Ok(())
}

/// As if it had never been seen: its keys, and what was decided, are gone.
pub async fn forget(conn: &mut PgConnection, server: &Did) -> Result<(), Undecided> {
    let peer_id = store::find_id(conn, server).await?.ok_or(Undecided::NotFound)?;
    if store::is_in_use(conn, server).await? {
        return Err(Undecided::InUse);
    }
    store::delete(conn, peer_id).await?;
    Ok(())
}
