use super::chain::{CONTENT_BYTES, NotCanonical};
use super::{AuthorState, StreamState};
use crate::quota::QuotaExceeded;
use crate::storage;
use crate::types::Refusal;

/// Why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something the client can act on.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server cannot say that it wrote: a queue is full, a lock was not free in time, the server is stopping, or the
    /// outcome of a commit is unknown. The client repeats with the same identity, and gets the first answer if there is
    /// one.
    #[error("the log cannot take this at the moment")]
    Busy,
    /// Another transaction appended to the stream between this one's reading and its first write. Nothing was written.
    #[error("another transaction was quicker")]
    Overtaken,
    /// A mistake of ours, found by builds with debug assertions: a transaction that reads while it holds back every
    /// reader of the log.
    #[cfg(debug_assertions)]
    #[error("the transaction wrote before it called begin_writes")]
    WroteTooSoon,
    /// The conversation is full. Nothing was written.
    #[error(transparent)]
    QuotaExceeded(#[from] QuotaExceeded),
    /// A mistake of ours: an entry of this kind changes more than its own stream's chain. Nothing was written.
    #[error("an entry of kind {} is no notice", .0.name())]
    NoNotice(super::EntryKind),
    /// No follower would take the entry. Nothing was written.
    #[error("the content of an entry has {bytes} bytes, and {CONTENT_BYTES} are the limit")]
    ContentTooLarge { bytes: usize },
    /// The device or its account lost its rights after the call began. Nothing was written.
    #[error("the author may no longer act: {0:?}")]
    AuthorEnded(AuthorState),
    /// The stream takes no entries in this state. Nothing was written.
    #[error("the stream takes no entries: {}", .0.refuses().unwrap_or("Unavailable"))]
    Halted(StreamState),
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error(transparent)]
    Bytes(#[from] NotCanonical),
    #[error(
        "REDIS_URL cannot be used. Fix: set it to redis://user:password@host:port, or rediss:// for TLS, or unset it"
    )]
    RedisUrl,
    #[error(transparent)]
    Watermark(#[from] super::watermark::WatermarkError),
    #[error(
        "positions have run out: this database was restored, or its positions were raised, too often. Fix: found the \
         conversations anew in a new database"
    )]
    PositionsExhausted,
    #[error(
        "the clock of this machine is {} s {} that of Postgres. Fix: let both follow a time server, then start again",
        .ahead_ms.abs() / 1000, if *.ahead_ms > 0 { "ahead of" } else { "behind" }
    )]
    ClocksApart { ahead_ms: i64 },
    /// Followers of the stream run a version that does not know the kind of entry, or the feature that the entry
    /// requires. Nothing was written.
    #[error("followers of an older version do not know this kind of entry: {}", .0.join(", "))]
    FollowersOutdated(Vec<String>),
    /// A transaction may append 1,024 entries at most: positions within it would run out.
    #[error("more than 1,024 entries in one transaction")]
    TooManyEntries,
}

impl Error {
    /// Whether the same transaction may simply be run again.
    pub fn is_collision(&self) -> bool {
        matches!(self, Self::Overtaken | Self::Storage(storage::Error::Collision(_)))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}
