//! Telling the other replicas to look.
//!
//! A signal says a position and nothing else: the log is the truth, and whoever hears nothing looks by itself before
//! long. One signal stands for everything committed since the last one, on a connection of its own: a NOTIFY inside
//! message transactions would make all of them wait for each other.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Error, Log, store};

const CHANNEL: &str = "rookery_log";
/// Commits within this time share a signal.
const COALESCE: Duration = Duration::from_millis(2);
/// Pause after the database did not answer; the slow poll of every tail bridges it.
const TROUBLE: Duration = Duration::from_secs(1);

/// Sends this replica's signals until `stop`.
pub(super) async fn send(log: Log, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = send_on_one_connection(&log) => if let Err(error) = outcome {
                tracing::warn!(error = &error as &dyn std::error::Error, "other replicas cannot be woken");
            },
        }
        tokio::time::sleep(TROUBLE).await;
    }
}

async fn send_on_one_connection(log: &Log) -> Result<(), Error> {
    let mut connection = log.inner.storage.dedicated().await?;
    loop {
        let pos = log.inner.hub.committed_here().await;
        store::notify(&mut connection, CHANNEL, &signal(&log.inner.replica, pos)).await?;
        tokio::time::sleep(COALESCE).await;
    }
}

/// Hears the signals of the other replicas until `stop`.
pub(super) async fn hear(log: Log, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = hear_on_one_connection(&log) => if let Err(error) = outcome {
                tracing::warn!(error = &error as &dyn std::error::Error, "other replicas cannot be heard");
            },
        }
        tokio::time::sleep(TROUBLE).await;
    }
}

async fn hear_on_one_connection(log: &Log) -> Result<(), Error> {
    let mut listener = log.inner.storage.listener().await?;
    listener.listen(CHANNEL).await?;
    // What was committed before this moment was not heard.
    log.inner.hub.look();
    loop {
        let heard = listener.recv().await?;
        if let Some(pos) = position(heard.payload(), &log.inner.replica) {
            log.inner.hub.wake_from_afar(pos);
        }
    }
}

fn signal(replica: &str, pos: i64) -> String {
    format!("{replica} {pos}")
}

/// The position in another replica's signal.
fn position(payload: &str, own: &str) -> Option<i64> {
    let (replica, pos) = payload.split_once(' ')?;
    if replica == own { None } else { pos.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_does_not_wake_itself_and_ignores_what_it_cannot_read() {
        assert_eq!(position(&signal("a", 42), "b"), Some(42));
        assert_eq!(position(&signal("a", 42), "a"), None);
        for noise in ["", "a", "a x", "a 1 2"] {
            assert_eq!(position(noise, "b"), None, "{noise}");
        }
    }
}
