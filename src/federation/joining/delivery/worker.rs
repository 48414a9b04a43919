//! Telling other servers.

use std::time::Duration;

use rand::RngExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::LEAVE;
use super::compose::{Composed, compose};
use super::store::{self, Due};
use crate::federation::joining::moves::{self, Untold};
use crate::federation::joining::{AT_ONCE, Joining, LEASE, POLL, leaving, pause, whereabouts};
use crate::federation::{AccountHome, CallError};
use crate::lexicon::peer::deliver::Deliver;
use crate::storage::Error;
use crate::telemetry::metric_name;
use crate::types::Did;

/// A peer that asks for patience gets no more than this of it.
const PATIENCE: Duration = Duration::from_hours(1);
/// After a peer refused the kind of a delivery as unknown, the worker waits between half of this time and all of it.
const UPGRADE: Duration = Duration::from_hours(6);
/// The names of refusals that the metric counts by name.
const REFUSALS: [&str; 6] =
    ["Malformed", "KeyPackageUnknown", "IdempotencyConflict", "StreamNotFound", "PayloadTooLarge", "InvalidRequest"];

/// The outcome of an attempt.
enum Outcome {
    Answered(String),
    /// For good.
    Failed,
    /// Not before so long, if its server asked for that.
    Later(Option<Duration>),
    /// The peer does not know the kind of the delivery: a newer version may.
    Older,
    /// Its server, as it is found now.
    Moved(Did),
}

pub(in crate::federation::joining) async fn run(joining: Joining, stop: CancellationToken) {
    loop {
        let worked = match pass(&joining).await {
            Ok(worked) => worked,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "deliveries cannot be looked up");
                false
            }
        };
        if worked {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = joining.inner.deliver.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Repeats the deliveries of the last 30 days to a peer whose database went back in time.
pub(in crate::federation::joining) async fn repeat(joining: Joining, stop: CancellationToken) {
    let mut rises = joining.inner.federation.rises();
    loop {
        let peer = tokio::select! {
            () = stop.cancelled() => return,
            rise = rises.recv() => match rise {
                Ok(peer) => Some(peer),
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => None,
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            },
        };
        let now = joining.log().clock().now().to_datetime();
        // Some incarnations were missed: all peers get their deliveries again.
        if let Err(error) = store::tell_again(joining.log().storage().pool(), peer.as_ref(), now).await {
            tracing::error!(error = &error as &dyn std::error::Error, "what was delivered is not told again");
        }
        joining.wake();
    }
}

/// One look; whether anything was due.
async fn pass(joining: &Joining) -> Result<bool, Error> {
    let now = joining.log().clock().now().to_datetime();
    let pool = joining.log().storage().pool();
    let due = store::due(pool, now, now + LEASE, AT_ONCE).await?;
    let any = !due.is_empty();
    let mut deliveries = JoinSet::new();
    for delivery in due {
        let joining = joining.clone();
        deliveries.spawn(async move {
            let (id, attempts) = (delivery.id, delivery.attempts);
            let outcome = tell(&joining, delivery).await;
            let now = joining.log().clock().now().to_datetime();
            let pool = joining.log().storage().pool();
            match outcome {
                Outcome::Answered(state) => store::answered(pool, id, &state, now).await,
                Outcome::Failed => store::answered(pool, id, "failed", now).await,
                Outcome::Moved(server) => store::redirect(pool, id, &server, now).await,
                Outcome::Older => store::put_off_older(pool, id, now + patience(attempts, None), now + upgrade()).await,
                Outcome::Later(asked) => store::put_off(pool, id, now + patience(attempts, asked)).await,
            }
        });
    }
    while let Some(delivered) = deliveries.join_next().await {
        if let Ok(Err(error)) = delivered {
            tracing::warn!(error = &error as &dyn std::error::Error, "what became of a delivery is not written down");
        }
    }
    Ok(any)
}

async fn tell(joining: &Joining, delivery: Due) -> Outcome {
    let (Ok(server), Ok(to)) = (Did::parse(&delivery.peer), Did::parse(&delivery.account)) else {
        return Outcome::Failed;
    };
    let kind = delivery.kind.clone();
    let composed = match compose(joining, &to, delivery).await {
        Ok(composed) => composed,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a delivery cannot be composed");
            return Outcome::Later(None);
        }
    };
    let federation = &joining.inner.federation;
    let answer = match composed {
        Composed::Deliver(input) => federation.procedure::<Deliver>(&server, &input, None).await.map(|it| it.state),
        Composed::MoveSeats(input) => match moves::tell(joining, &server, &to, input).await {
            Ok(()) => Ok("accepted".to_owned()),
            Err(Untold::Call(error)) => Err(error),
            Err(Untold::Log(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "seats that moved here are not followed yet");
                return Outcome::Later(None);
            }
        },
        Composed::Leave(leave) => leaving::tell(joining, &server, &to, leave).await.map(|()| "accepted".to_owned()),
        Composed::Nothing => return Outcome::Failed,
    };
    match answer {
        Ok(state) if ["accepted", "pending", "refused"].contains(&state.as_str()) => Outcome::Answered(state),
        Ok(_) => Outcome::Answered("refused".to_owned()),
        Err(CallError::Refused { error, .. }) if ["AccountMoved", "NotHere"].contains(&error.as_str()) => {
            moved(joining, &server, &to).await
        }
        // Another home orders the stream now. A home that names a wrong server could as well drop the delivery.
        Err(error) if kind == LEAVE && error.named_home().is_some_and(|named| *named != server) => {
            error.named_home().cloned().map_or(Outcome::Failed, Outcome::Moved)
        }
        // The peer, or one of its instances, runs an older version, and may be upgraded before the delivery expires.
        Err(CallError::Refused { status: 501, error, .. }) => {
            tracing::info!(peer = server.as_str(), kind, error, "the peer does not know this kind of delivery yet");
            Outcome::Older
        }
        Err(CallError::Refused { status: status @ (400 | 409 | 413), error, .. }) => {
            let error = REFUSALS.into_iter().find(|name| *name == error).unwrap_or("other");
            metrics::counter!(metric_name::DELIVERIES_REFUSED, "error" => error).increment(1);
            tracing::warn!(peer = server.as_str(), kind, status, error, "a delivery was refused for good");
            Outcome::Failed
        }
        Err(error) => {
            tracing::info!(peer = server.as_str(), error = &error as &dyn std::error::Error, "not delivered yet");
            Outcome::Later(match error {
                CallError::Refused { status: 429 | 503, retry_after, .. } => retry_after,
                _ => None,
            })
        }
    }
}

/// A server's claim that the account does not live there causes one look-up.
async fn moved(joining: &Joining, server: &Did, to: &Did) -> Outcome {
    joining.inner.federation.look_again(to).await;
    let found = whereabouts::find(&joining.inner.federation, to).await;
    match found {
        Ok(AccountHome::Elsewhere(now)) if now != *server => Outcome::Moved(now),
        _ => Outcome::Later(None),
    }
}

/// The time until a peer may have been upgraded.
fn upgrade() -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(UPGRADE.mul_f64(rand::rng().random_range(0.5..1.0))).unwrap_or_default()
}

/// The time until the next attempt: the server's own pause, or the peer's `Retry-After` if that is longer.
fn patience(attempts: i16, asked: Option<Duration>) -> chrono::TimeDelta {
    let asked = asked.unwrap_or_default().min(PATIENCE);
    pause(attempts).max(chrono::TimeDelta::from_std(asked).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{PATIENCE, patience};

    #[test]
    fn a_peer_that_asks_for_patience_gets_an_hour_of_it_at_most() {
        let waits = |asked| patience(0, Some(Duration::from_secs(asked))).to_std().unwrap();
        assert!((Duration::from_secs(40)..Duration::from_secs(41)).contains(&waits(40)));
        assert_eq!(waits(u64::MAX), PATIENCE);
        assert!(patience(0, None).to_std().unwrap() <= Duration::from_secs(1));
    }
}
