//! What turns transaction ids into positions, and whether this is still the database that they came from.
//!
//! Invariant: nothing is written to a database that went back in time before its positions and its incarnation were
//! raised, under a lock that excludes every writer. Both writing paths name the incarnation that their process began
//! with, so a process of before the raise writes nothing after it.

use super::body::{Body, KeyPackagesLowBody};
use super::watermark::{Mark, Watermark};
use super::{Error, store};
use crate::identity;
use crate::storage::{ClusterId, Storage, Tx};
use crate::types::Clock;

/// How far positions jump: beyond anything that the lost future can have handed out, a thousand million transactions.
const BASE_STEP: i64 = 1 << 40;

/// Why the database counts as one that went back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Another cluster or timeline: transaction ids went back, or mean nothing.
    Cluster,
    /// The watermark outside of the database has seen more than is there.
    Watermark,
    /// The operator says so.
    Operator,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "another cluster or timeline",
            Self::Watermark => "behind the watermark",
            Self::Operator => "the operator's word",
        }
    }
}

/// What a raise did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    pub incarnation: i64,
    /// The greatest position that is still there.
    pub restored_pos: i64,
    pub key_packages: i64,
    pub accounts: i64,
}

/// Writes the origin on first start, and raises it where the database went back in time. Answers the incarnation.
pub(super) async fn establish(storage: &Storage, clock: &Clock, guard: Option<&Watermark>) -> Result<i64, Error> {
    let mark = seen(guard).await?;
    let cluster = storage.cluster();
    let mut tx = storage.begin().await?;
    store::lock_origin(tx.conn()).await?;
    let incarnation = match store::find_origin(tx.conn()).await? {
        Some(origin) => {
            let reached = store::reached(tx.conn()).await?;
            let here = ClusterId { system_id: origin.system_id, timeline: origin.timeline };
            let reason = if here != cluster {
                Some(Reason::Cluster)
            } else if reached.pos < mark.pos || reached.incarnation < mark.incarnation {
                Some(Reason::Watermark)
            } else {
                None
            };
            match reason {
                Some(reason) => raise(&mut tx, cluster, reason, mark, clock, guard).await?.incarnation,
                None => origin.incarnation,
            }
        }
        None => {
            let incarnation = clock.now_seconds();
            store::insert_origin(tx.conn(), cluster, incarnation).await?;
            if mark.pos > 0 {
                // An empty database where a full one was.
                raise(&mut tx, cluster, Reason::Watermark, mark, clock, guard).await?.incarnation
            } else {
                incarnation
            }
        }
    };
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
    let notice = KeyPackagesLowBody { reason: "restored".to_owned() }.encode()?;
    let (key_packages, accounts) = store::retire_key_packages(tx.conn(), &notice, now).await?;
    store::ask_others(tx.conn(), now).await?;
    // What was accepted in the lost span is not remembered: tokens of that time are not taken again.
    identity::forget_tokens(tx.conn(), now_s).await?;
    if let Some(guard) = guard {
        // Before the commit: if this is lost between the two, the next start raises once more, which harms nobody.
        guard.write(Mark { pos: mark.pos.max(restored_pos), incarnation, time_s: now_s }).await?;
    }
    tracing::warn!(
        incarnation,
        reason = reason.name(),
        key_packages,
        "the database went back in time: positions and incarnation were raised, one-time key packages were retired, \
         and every stream opens a new term with its next entry"
    );
    Ok(Raised { incarnation, restored_pos, key_packages, accounts })
}
