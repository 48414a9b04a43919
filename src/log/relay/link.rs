//! The way by Redis.
//!
//! Invariant: it counts as carrying only while this instance hears itself on it, so a Redis that is away, mute or half
//! open is used no longer than a few seconds. No caller waits for Redis: while it does not carry signals, it is not
//! used.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Word, take};
use crate::log::{Error, Log};
use crate::telemetry::metric_name;

/// Until both connections must stand.
const CONNECT: Duration = Duration::from_secs(2);
/// Until one PUBLISH must be answered.
const ANSWER: Duration = Duration::from_millis(500);
/// Interval at which an instance sends a signal to itself.
const HELLO: Duration = Duration::from_secs(2);
/// Pause between attempts to reach it.
const RETRY: Duration = Duration::from_millis(500);

/// Why the way does not carry. Names no address: it may hold a password.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("it did not answer in time")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("it closed the connection")]
    Closed,
    #[error("this replica does not hear itself")]
    Mute,
    #[error("it did not pass on a signal")]
    Refused,
}

pub(in crate::log) struct Link {
    client: Client,
    channel: String,
    /// Set while the way carries.
    carrier: Mutex<Option<MultiplexedConnection>>,
    broken: Notify,
}

impl Link {
    /// Connects to nothing yet. `database`: the name of the database that all instances on the channel share.
    pub(in crate::log) fn new(url: &SecretString, database: &str) -> Result<Self, Error> {
        let client = Client::open(url.expose_secret()).map_err(|_| Error::RedisUrl)?;
        let channel = format!("rookery:log:{database}");
        Ok(Self { client, channel, carrier: Mutex::default(), broken: Notify::new() })
    }

    /// Publishes signals together. Whether an instance, at least this one, received each.
    pub(super) async fn publish(&self, texts: &[String]) -> bool {
        let carrier = self.carrier.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(mut carrier) = carrier else { return false };
        match self.say(&mut carrier, texts).await {
            Ok(()) => true,
            Err(_) => {
                self.broken.notify_one();
                false
            }
        }
    }

    async fn say(&self, connection: &mut MultiplexedConnection, texts: &[String]) -> Result<(), Trouble> {
        let mut publish = redis::pipe();
        for text in texts {
            publish.cmd("PUBLISH").arg(&self.channel).arg(text);
        }
        let receivers: Vec<i64> = publish.query_async(connection).await?;
        if receivers.iter().all(|receivers| *receivers > 0) { Ok(()) } else { Err(Trouble::Refused) }
    }

    fn set(&self, carrier: Option<MultiplexedConnection>) {
        metrics::gauge!(metric_name::RELAY_BY_REDIS).set(if carrier.is_some() { 1.0 } else { 0.0 });
        *self.carrier.lock().unwrap_or_else(PoisonError::into_inner) = carrier;
    }

    /// Keeps the connection open, and receives the other instances' signals, until `stop`.
    pub(in crate::log) async fn run(&self, log: Log, stop: CancellationToken) {
        let mut away = false;
        loop {
            let trouble = tokio::select! {
                () = stop.cancelled() => return,
                trouble = self.carry(&log, &mut away) => trouble,
            };
            self.set(None);
            if let Err(trouble) = trouble
                && !std::mem::replace(&mut away, true)
            {
                let error = &trouble as &dyn std::error::Error;
                tracing::warn!(error, "Redis carries no signals: Postgres does, until Redis returns");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn carry(&self, log: &Log, away: &mut bool) -> Result<(), Trouble> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
        let connecting = async {
            let own = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let mut heard = self.client.get_async_pubsub().await?;
            heard.subscribe(&self.channel).await?;
            Ok::<_, RedisError>((own, heard))
        };
        let (mut own, mut heard) = tokio::time::timeout(CONNECT, connecting).await??;
        // Of an earlier connection.
        let _past = self.broken.notified().now_or_never();
        let mut messages = heard.on_message();
        let hello = [Word::Hello.write(&log.inner.replica)];
        let (mut every, mut unheard) = (tokio::time::interval(HELLO), false);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let text: String = message.ok_or(Trouble::Closed)?.get_payload().unwrap_or_default();
                    if text == hello[0] {
                        if std::mem::take(&mut unheard) && self.carrier.lock().is_ok_and(|carrier| carrier.is_none()) {
                            self.set(Some(own.clone()));
                            // Signals of other instances before this moment were missed.
                            log.inner.hub.look();
                            if std::mem::take(away) {
                                tracing::info!("Redis carries signals again");
                            }
                        }
                    } else {
                        take(log, &text);
                    }
                }
                _ = every.tick() => {
                    if std::mem::replace(&mut unheard, true) {
                        return Err(Trouble::Mute);
                    }
                    self.say(&mut own, &hello).await?;
                }
                () = self.broken.notified() => return Err(Trouble::Refused),
            }
        }
    }
}
