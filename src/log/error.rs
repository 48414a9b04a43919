use super::StreamState;
use super::chain::NotCanonical;
use crate::storage;
use crate::types::Refusal;

/// Why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something the client can act on.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The writer's queue is full, or the server is stopping: nothing was written.
    #[error("the log writer takes no more work at the moment")]
    Busy,
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
        matches!(self, Self::Storage(storage::Error::Collision(_)))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}
