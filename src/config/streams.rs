use std::time::Duration;

use super::ConfigError;
use super::values::Values;

/// Bounds of streams of events, and of clients that do not take what they asked for.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    /// A WebSocket lives this long, a tenth more or less.
    pub socket_life: Duration,
    /// Interval between pings of a WebSocket.
    pub socket_ping: Duration,
    /// Between comments of an answer by server-sent events that says nothing else.
    pub heartbeat: Duration,
    /// An answer by server-sent events ends itself before it is larger, or older.
    pub answer_bytes: usize,
    pub answer_life: Duration,
    /// A connection that takes nothing for so long is closed.
    pub send_timeout: Duration,
}

impl Streams {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            socket_life: Duration::from_secs(values.number("SOCKET_LIFE_SECONDS", 1..=604_800)?),
            socket_ping: Duration::from_millis(values.number("SOCKET_PING_MS", 100..=60_000)?),
            heartbeat: Duration::from_millis(values.number("SSE_HEARTBEAT_MS", 100..=60_000)?),
            answer_bytes: values.number("SSE_MAX_BYTES", 4096..=1024 * 1024 * 1024)?,
            answer_life: Duration::from_secs(values.number("SSE_MAX_SECONDS", 1..=86_400)?),
            send_timeout: Duration::from_millis(values.number("SEND_TIMEOUT_MS", 100..=300_000)?),
        })
    }
}
