//! The origin of positions: it maps transaction ids to positions, and detects a database that went back in time.
//!
//! Invariant: before this server writes to a database that went back in time, it raises the positions and the
//! incarnation, under a lock that excludes every writer. Both writing paths name the incarnation that their process
//! began with, so a process from before the raise writes nothing after it.
//!
//! Invariant: a raise writes a constant number of rows. The incarnation of key packages and followed streams shows that
//! they are doubtful; jobs handle them afterwards in steps.

use super::watermark::{Mark, Watermark};
use super::{Error, store};
use crate::identity;
use crate::storage::{ClusterId, Storage, Tx};
use crate::types::{Clock, Did};

/// How far positions jump: beyond anything that the lost future can have handed out, a thousand million transactions.
const BASE_STEP: i64 = 1 << 40;
/// The server refuses positions beyond this: a raise adds [`BASE_STEP`] and the number of all past transactions.
const LAST_POS: i64 = 1 << 62;
/// Transactions after which Postgres should have frozen the oldest row long ago. It refuses to write at 2,144 million.
const FREEZE_ALARM: i32 = 1_200_000_000;

/// Why the database counts as one that went back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Another cluster or timeline: transaction ids went back, or mean nothing.
    Cluster,
    /// The cluster is unchanged, but the rows were rewritten, as `pg_restore` does: entries since the dump are lost.
    Copied,
    /// The rollback guard outside of the database holds a higher position than the database.
    Watermark,
    /// The operator says so.
    Operator,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "another cluster or timeline",
            Self::Copied => "the rows were copied from a dump",
            Self::Watermark => "behind the watermark",
            Self::Operator => "the operator's word",
        }
    }
}

/// The result of a raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    pub incarnation: i64,
    /// The greatest position that is still there.
    pub restored_pos: i64,
}

/// The database belongs to another server.
#[derive(Debug, thiserror::Error)]
#[error(
    "this database belongs to {stored}, but SERVICE_DID is {configured}: every conversation in it would belong to another \
     server. Fix: set SERVICE_DID to {stored}, or give this server a new database by DATABASE_URL or DATA_DIR"
)]
pub struct ForeignDatabase {
    pub stored: Did,
    pub configured: Did,
}

/// The server that this database belongs to: that of its first start, or this server if there was none.
pub async fn server_of(storage: &Storage, server: &Did) -> Result<Did, Error> {
    let mut tx = storage.begin().await?;
    let named = match store::find_origin(tx.conn()).await? {
        Some(origin) => origin.service_did.and_then(|stored| Did::parse(&stored).ok()),
        None => None,
    };
    tx.rollback().await?;
    Ok(named.unwrap_or_else(|| server.clone()))
}

/// The state that a start finds.
struct Found {
    origin: Option<store::Origin>,
    /// Why the database counts as gone back in time.
    reason: Option<Reason>,
}

async fn look(tx: &mut Tx, cluster: ClusterId, mark: Mark) -> Result<Found, Error> {
    let Some(origin) = store::find_origin(tx.conn()).await? else {
        // An empty database in place of a full one.
        let reason = (mark.pos > 0).then_some(Reason::Watermark);
        return Ok(Found { origin: None, reason });
    };
    let reached = store::reached(tx.conn()).await?;
    let here = ClusterId { system_id: origin.system_id, timeline: origin.timeline };
    let reason = if here != cluster {
        Some(Reason::Cluster)
    } else if origin.copied {
        Some(Reason::Copied)
    } else if reached.pos < mark.pos || reached.incarnation < mark.incarnation {
        Some(Reason::Watermark)
    } else {
        None
    };
    Ok(Found { origin: Some(origin), reason })
}

/// Writes the origin on first start, and raises it where the database went back in time. Answers the incarnation.
///
/// Takes the lock that excludes every reader and writer only to write: other instances go on while this one starts.
pub(super) async fn establish(
    storage: &Storage,
    home: &Did,
    clock: &Clock,
    guard: Option<&Watermark>,
) -> Result<i64, Error> {
    let mark = seen(guard).await?;
    let cluster = storage.cluster();
    let mut tx = storage.begin().await?;
    if let Found { origin: Some(origin), reason: None } = look(&mut tx, cluster, mark).await?
        && origin.service_did.is_some()
    {
        tx.rollback().await?;
        return Ok(origin.incarnation);
    }
    tx.rollback().await?;

    let mut tx = storage.begin().await?;
    store::lock_origin(tx.conn()).await?;
    // Another instance may have done this first.
    let Found { origin, reason } = look(&mut tx, cluster, mark).await?;
    let mut incarnation = match origin {
        Some(origin) => origin.incarnation,
        None => {
            let incarnation = clock.now_seconds();
            store::insert_origin(tx.conn(), cluster, incarnation).await?;
            incarnation
        }
    };
    store::name_server(tx.conn(), home.as_str()).await?;
    if let Some(reason) = reason {
        incarnation = raise(&mut tx, cluster, reason, mark, clock, guard).await?.incarnation;
    }
    tx.commit().await?;
    Ok(incarnation)
}

/// Raises a database that nothing else tells to have gone back: the same cluster, with older files.
pub(super) async fn recover(storage: &Storage, clock: &Clock, guard: Option<&Watermark>) -> Result<Raised, Error> {
    let mark = seen(guard).await?;
    let cluster = storage.cluster();
    let mut tx = storage.begin().await?;
    store::lock_origin(tx.conn()).await?;
    if store::find_origin(tx.conn()).await?.is_none() {
        store::insert_origin(tx.conn(), cluster, clock.now_seconds()).await?;
    }
    let raised = raise(&mut tx, cluster, Reason::Operator, mark, clock, guard).await?;
    tx.commit().await?;
    Ok(raised)
}

/// Checks, at the start, that there is room for further transactions and positions.
pub(super) async fn check_distance(storage: &Storage) -> Result<(), Error> {
    let distance = store::distance(&mut storage.pool().acquire().await?).await?;
    if distance.oldest_row_age > FREEZE_ALARM {
        tracing::warn!(
            transactions = distance.oldest_row_age,
            "Postgres has not frozen old rows for long and will stop writing. Fix: see what holds back its autovacuum"
        );
    }
    if distance.next_pos.is_some_and(|next| next > LAST_POS) {
        return Err(Error::PositionsExhausted);
    }
    Ok(())
}

/// Nothing, where there is no watermark.
async fn seen(guard: Option<&Watermark>) -> Result<Mark, Error> {
    Ok(match guard {
        Some(guard) => guard.read().await?.unwrap_or_default(),
        None => Mark::default(),
    })
}

async fn raise(
    tx: &mut Tx,
    cluster: ClusterId,
    reason: Reason,
    mark: Mark,
    clock: &Clock,
    guard: Option<&Watermark>,
) -> Result<Raised, Error> {
    let (now, now_s) = (clock.now().to_datetime(), clock.now_seconds());
    let old = store::reached(tx.conn()).await?.incarnation.max(mark.incarnation);
    let incarnation = now_s.max(old + 1);
    let restored_pos =
        store::raise_origin(tx.conn(), BASE_STEP, mark.pos, cluster, incarnation, reason.name(), now).await?;
    store::forgive_followers(tx.conn()).await?;
    // What was accepted in the lost span is not remembered: tokens of that time are not taken again.
    identity::forget_tokens(tx.conn(), now_s).await?;
    if let Some(guard) = guard {
        // Before the commit: after a crash between the two, the next start raises once more, which is harmless.
        guard.write(Mark { pos: mark.pos.max(restored_pos), incarnation, time_s: now_s }).await?;
    }
    tracing::warn!(
        incarnation,
        reason = reason.name(),
        "the database went back in time: positions and incarnation were raised, one-time key packages are offered no \
         more, and every stream opens a new term with its next entry"
    );
    Ok(Raised { incarnation, restored_pos })
}
