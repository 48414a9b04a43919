use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::ConfigError;
use super::values::Values;

/// Bounds of the log: of writers and listeners; retention; signals between instances.
#[derive(Clone, Debug)]
pub struct Log {
    /// Entries that may wait for the writer.
    pub writer_queue: usize,
    pub subscriber_buffer: SubscriberBuffer,
    pub retention: Retention,
    /// An unanswered job of the writer, or a silent tailer, makes the instance unready after this time; committed
    /// entries that are not delivered raise an alarm.
    pub stalled_after: Duration,
    /// A Redis that carries signals between instances; Postgres does without.
    pub redis_url: Option<SecretString>,
    /// Where the watermark is kept that notices older files of the database.
    pub rollback_guard: Option<PathBuf>,
}

/// Limits on the lag of a subscriber.
#[derive(Clone, Copy, Debug)]
pub struct SubscriberBuffer {
    pub events: usize,
    /// Bytes of these events as sent; one event of any size may wait alone.
    pub bytes: usize,
}

/// How long contents are kept, in days. What changes seats, roles or devices, or opens a stream, is kept for ever.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Application messages.
    pub messages_days: i64,
    /// Commits and proposals that change no seat.
    pub commits_days: i64,
    /// Notices in account streams.
    pub notices_days: i64,
    /// Welcomes, and key packages that expired.
    pub welcomes_days: i64,
    /// A device that was not seen for so long holds nothing back any more, and must register again.
    pub lapse_days: i64,
}

impl Log {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            writer_queue: values.number("WRITER_QUEUE", 1..=1_000_000)?,
            subscriber_buffer: SubscriberBuffer {
                events: values.number("SSE_BUFFER_SIZE", 1..=100_000)?,
                bytes: values.number("SSE_BUFFER_BYTES", 65_536..=1_073_741_824)?,
            },
            retention: Retention {
                messages_days: days(values, "RETENTION_MESSAGES_DAYS")?,
                commits_days: days(values, "RETENTION_COMMITS_DAYS")?,
                notices_days: days(values, "RETENTION_ACCOUNTS_DAYS")?,
                welcomes_days: days(values, "RETENTION_WELCOMES_DAYS")?,
                lapse_days: days(values, "DEVICE_LAPSE_DAYS")?,
            },
            stalled_after: Duration::from_secs(values.number("LOG_STALLED_SECONDS", 1..=300)?),
            redis_url: redis_url(values)?,
            rollback_guard: values.text("ROLLBACK_GUARD").map(PathBuf::from),
        })
    }
}

fn days(values: &Values, name: &'static str) -> Result<i64, ConfigError> {
    values.number(name, 1..=3650)
}

fn redis_url(values: &Values) -> Result<Option<SecretString>, ConfigError> {
    let Some(text) = values.text("REDIS_URL") else { return Ok(None) };
    let usable = url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "redis" | "rediss") && url.host_str().is_some_and(|host| !host.is_empty())
    });
    if usable {
        Ok(Some(SecretString::from(text)))
    } else {
        let fix = "set REDIS_URL to redis://user:password@host:port, or rediss:// for TLS, or unset it: Postgres alone \
                   is enough";
        Err(values.invalid("REDIS_URL", "not the URL of a Redis", fix))
    }
}
