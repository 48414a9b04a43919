//! Following what an account took.
//!
//! Invariants: a Welcome is shown once its stream is followed, never before; a stream whose home does not answer holds
//! back no other.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::offer::{self, Joinable, Offer};
use super::{AT_ONCE, Joining, LEASE, POLL, pause};
use crate::federation::CallError;
use crate::federation::replica::{FollowError, View};
use crate::log::body::Body;
use crate::log::{self, EntryKind, Outgoing};
use crate::storage;

/// A home that does not know the seat any more, so often: it ended meanwhile.
const NOT_FOUND: i16 = 6;

pub(super) async fn run(joining: Joining, stop: CancellationToken) {
    loop {
        let worked = match pass(&joining).await {
            Ok(worked) => worked,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "what is to be followed cannot be looked up");
                false
            }
        };
        if worked {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = joining.inner.join.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// One look; whether anything was due.
async fn pass(joining: &Joining) -> Result<bool, storage::Error> {
    let now = joining.log().clock().now().to_datetime();
    let pool = joining.log().storage().pool();
    let due = offer::find_joinable(pool, now, now + LEASE, AT_ONCE).await?;
    let any = !due.is_empty();
    let mut joins = JoinSet::new();
    for joinable in due {
        let joining = joining.clone();
        joins.spawn(async move { join(&joining, joinable).await });
    }
    while let Some(joined) = joins.join_next().await {
        if let Ok(Err(error)) = joined {
            tracing::warn!(error = &error as &dyn std::error::Error, "a stream was not joined");
        }
    }
    Ok(any)
}

async fn join(joining: &Joining, joinable: Joinable) -> Result<(), log::Error> {
    let (id, attempts, account_id) = (joinable.id, joinable.attempts, joinable.account_id);
    let pool = joining.log().storage().pool();
    let offer: Offer = match serde_json::from_slice(&joinable.offer) {
        Ok(offer) => offer,
        Err(_) => return Ok(offer::put_off(pool, id, None).await?),
    };
    if let Some(stream_id) = followed_already(joining, account_id, &offer).await? {
        return storage::retrying(log::Error::is_collision, || show(joining, id, account_id, stream_id, &offer)).await;
    }
    let view = View::try_from(offer.view.clone()).ok();
    let followed = joining.inner.replicas.follow(&offer.stream, &offer.home, offer.from_seq, view).await;
    let stream_id = match followed {
        Ok(followed) => followed.stream_id,
        Err(error) => {
            let gone = matches!(&error, FollowError::Call(CallError::Refused { status: 404, .. }));
            tracing::info!(stream.id = %offer.stream, error = &error as &dyn std::error::Error, "not followed yet");
            // Sweeping ends an invitation whose stream cannot be followed for a month.
            let over = gone && attempts >= NOT_FOUND;
            let now = joining.log().clock().now().to_datetime();
            let due_at = (!over).then(|| now + pause(attempts));
            return Ok(offer::put_off(pool, id, due_at).await?);
        }
    };
    storage::retrying(log::Error::is_collision, || show(joining, id, account_id, stream_id, &offer)).await
}

/// An offer for a further device of a seated account: this server already follows or orders the stream.
async fn followed_already(joining: &Joining, account_id: i64, offer: &Offer) -> Result<Option<i64>, log::Error> {
    let Some(info) = joining.log().find_stream(offer.stream.as_str()).await? else { return Ok(None) };
    let seated = joining.log().is_seated(info.id, account_id).await?;
    let comes = info.home == offer.home.as_str() || info.home == joining.log().home().as_str();
    Ok((seated && comes).then_some(info.id))
}

async fn show(joining: &Joining, id: i64, account_id: i64, stream_id: i64, offer: &Offer) -> Result<(), log::Error> {
    let log = joining.log();
    let (term, now) = (log.row(stream_id).await?.term, log.clock().now());
    let mut tx = log.storage().begin().await?;
    let notice = offer::joined(tx.conn(), id, stream_id, offer, term.to_db(), now.to_datetime()).await?;
    if let Some(body) = notice {
        let body = body.encode()?;
        log::queue(tx.conn(), &[Outgoing { account_id, kind: EntryKind::Welcome, body }], now).await?;
    }
    tx.commit().await?;
    log.wake_courier();
    Ok(())
}
