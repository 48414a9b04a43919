//! Signals between instances: wake-ups and ephemeral events.
//!
//! Invariants: a signal says a position and nothing else, the log is the truth, and an instance without signals reads
//! it by itself before long; an ephemeral signal is heard at most once or lost. One signal stands for everything
//! committed since the last one, on a connection of its own: a NOTIFY inside message transactions would make all of
//! them wait for each other.
//!
//! Signals go by Redis where there is one and it carries, otherwise by NOTIFY. Every instance hears both ways at any
//! time, so that instances need not agree on the way. Losing Redis costs nothing but its speed. An instance without
//! neighbours sends no NOTIFY.

mod leaving;
mod link;
mod neighbours;
mod words;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

pub(super) use leaving::Leaving;
pub(super) use link::Link;
pub(super) use neighbours::Neighbours;
pub(super) use words::Carried;
use words::Word;
pub(super) use work::send_work;

use super::{Error, Log, store};
use crate::storage::{self, PgConnection};
use crate::worker::Beat;

const CHANNEL: &str = "rookery_log";
/// The sender's name in signals without an instance: any process may have made the transaction. No instance has this
/// name.
const EVERYBODY: &str = "-";
/// Commits within this time share a signal by Redis.
const COALESCE: Duration = Duration::from_millis(2);
/// Commits within this time share a NOTIFY: all transactions of a cluster that send a NOTIFY commit one after the other.
const COALESCE_NOTIFY: Duration = Duration::from_millis(10);
/// Pause after the database did not answer; the slow poll of every tail bridges it.
const TROUBLE: Duration = Duration::from_secs(1);
/// Interval at which an instance sends itself a NOTIFY, which it must receive before the next.
const HELLO: Duration = Duration::from_secs(10);
/// Time in which the listening connection must be established.
const HEARD_WITHIN: Duration = Duration::from_secs(12);

/// Sends this instance's signals until `stop`.
pub(super) async fn send(log: Log, link: Option<Arc<Link>>, stop: CancellationToken, beat: Beat) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = send_what_leaves(&log, link.as_deref(), &beat) => if let Err(error) = outcome {
                tracing::warn!(error = &error as &dyn std::error::Error, "other replicas cannot be woken");
            },
        }
        beat.beat();
        // One signal now stands for all that could not be sent.
        log.inner.hub.leaving().committed();
        tokio::time::sleep(TROUBLE).await;
    }
}

async fn send_what_leaves(log: &Log, link: Option<&Link>, beat: &Beat) -> Result<(), Error> {
    let hub = &log.inner.hub;
    let mut postgres = None;
    loop {
        beat.rest();
        let departure = hub.leaving().next().await;
        beat.beat();
        // The commits first: their entries are what other instances wait for.
        let look = departure.committed.then(|| Word::Look(hub.woken().to_db()));
        let words = look.into_iter().chain(departure.signals.into_iter().map(Word::Signal));
        let texts: Vec<String> = words.map(|word| word.write(&log.inner.replica)).collect();
        let carried = match link {
            Some(link) => link.publish(&texts).await,
            None => false,
        };
        if carried || log.inner.neighbours.is_alone(Instant::now()) {
            tokio::time::sleep(COALESCE).await;
        } else {
            notify(log, &mut postgres, &texts).await?;
            tokio::time::sleep(COALESCE_NOTIFY).await;
        }
    }
}

/// Sends all signals in one transaction.
async fn notify(log: &Log, connection: &mut Option<PgConnection>, texts: &[String]) -> Result<(), Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(log.inner.storage.dedicated().await?),
    };
    store::notify_all(connection, CHANNEL, texts).await
}

/// Receives the signals of other instances by NOTIFY, until `stop`.
pub(super) async fn hear(log: Log, stop: CancellationToken, beat: Beat) {
    loop {
        beat.beat();
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = hear_on_one_connection(&log, &beat) => if let Err(error) = outcome {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to listen for signals of other instances");
            },
        }
        log.inner.neighbours.end_listening();
        tokio::time::sleep(TROUBLE).await;
    }
}

/// Listens for as long as this instance receives its own NOTIFY: a silent connection looks like one without signals.
async fn hear_on_one_connection(log: &Log, beat: &Beat) -> Result<(), Error> {
    let connecting = async {
        let mut listener = log.inner.storage.listener().await?;
        listener.listen(CHANNEL).await?;
        Ok::<_, Error>(listener)
    };
    let mut listener = tokio::time::timeout(HEARD_WITHIN, connecting).await.map_err(|_| silent())??;
    // What was committed before this moment was not heard.
    log.inner.hub.look();
    log.inner.neighbours.begin_listening(Instant::now());
    let hello = Word::Hello.write(&log.inner.replica);
    let (mut every, mut unheard) = (tokio::time::interval(HELLO), false);
    loop {
        tokio::select! {
            heard = listener.recv() => {
                let heard = heard?;
                if heard.payload() == hello {
                    unheard = false;
                } else {
                    take(log, heard.payload());
                }
            }
            _ = every.tick() => {
                if std::mem::replace(&mut unheard, true) {
                    return Err(silent());
                }
                beat.beat();
                store::notify(&mut log.inner.storage.pool().acquire().await?, CHANNEL, &hello).await?;
            }
        }
    }
}

fn silent() -> Error {
    let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, "this instance does not hear itself");
    storage::Error::Unavailable(sqlx::Error::Io(silent)).into()
}

/// Ends the sockets of an account on every instance, this one included, when the transaction commits. Always by NOTIFY:
/// the end of a right must not depend on Redis, and is too rare to make other transactions wait.
pub async fn close_sockets(conn: &mut PgConnection, account_id: i64) -> Result<(), Error> {
    store::notify(conn, CHANNEL, &Word::Close(account_id).write(EVERYBODY)).await
}

/// Handles a signal; an instance ignores its own.
fn take(log: &Log, text: &str) {
    let word = Word::read(text);
    match &word {
        Some((replica, _)) if *replica == log.inner.replica => return,
        // A transaction of any process, which may be the operator's command.
        Some((replica, _)) if *replica == EVERYBODY => {}
        _ => log.inner.neighbours.heard(Instant::now()),
    }
    match word {
        Some((_, Word::Look(pos))) => log.inner.hub.wake_from_afar(pos),
        Some((_, Word::Signal(carried))) => log.inner.hub.signal_here(&carried),
        Some((_, Word::Close(account_id))) => log.inner.hub.close_account(account_id),
        Some((_, Word::Work)) => log.inner.wakes.wake_all(),
        Some((_, Word::Hello)) | None => {}
    }
}
