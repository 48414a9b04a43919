use std::time::Duration;

use rand::RngExt;

/// Errors of Postgres, as far as the caller can tell them apart.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Serialization failure or deadlock: nothing was written, the same work may be tried again.
    #[error("the transaction collided with another one")]
    Collision(#[source] sqlx::Error),
    /// A named constraint refused a row.
    #[error("constraint {name} refused the row")]
    Constraint {
        name: String,
        #[source]
        source: sqlx::Error,
    },
    /// No connection, or lost while waiting for an answer.
    #[error("the database cannot be reached")]
    Unavailable(#[source] sqlx::Error),
    /// Postgres has no room on its disk or in its memory. Nothing was written.
    #[error("Postgres has no room for this")]
    Full(#[source] sqlx::Error),
    #[error("the database refused a statement")]
    Statement(#[source] sqlx::Error),
    /// Nothing was written: a transaction that writes so many rows holds back every reader of the log for too long.
    #[error("the transaction writes {rows} rows, and {limit} are the limit: split it into steps")]
    TooManyRows { rows: i64, limit: i64 },
    /// A row that our own code wrote does not read back.
    #[error("stored data is not as it should be: {0}")]
    Corrupt(&'static str),
}

impl Error {
    /// The constraint that refused the row, if one did.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Constraint { name, .. } => Some(name),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // serialization_failure, deadlock_detected
                Some("40001" | "40P01") => Self::Collision(error),
                // lock_not_available, query_canceled, the server going away or not yet there, and a pooler (08P01) that got
                // no session of Postgres in time
                Some("55P03" | "57014" | "57P01" | "57P02" | "57P03" | "53300" | "08P01") => Self::Unavailable(error),
                // disk_full, out_of_memory, io_error
                Some("53100" | "53200" | "58030") => Self::Full(error),
                _ => match database.constraint() {
                    Some(name) => Self::Constraint { name: name.to_owned(), source: error },
                    None => Self::Statement(error),
                },
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            _ => Self::Statement(error),
        }
    }
}

/// How often a transaction is tried again after a collision.
const RETRIES: u32 = 3;
/// Bound of the first pause; doubled each time, with full jitter.
const RETRY_PAUSE_MS: u64 = 10;

/// Runs a whole transaction, and again after a collision, at most three times.
///
/// `collided` tells whether an error of the caller's own type is such a collision.
pub async fn retrying<T, E, F, Fut>(collided: impl Fn(&E) -> bool, mut transaction: F) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut attempt = 0;
    loop {
        match transaction().await {
            Err(error) if attempt < RETRIES && collided(&error) => {
                let pause = rand::rng().random_range(0..=RETRY_PAUSE_MS << attempt);
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            outcome => return outcome,
        }
    }
}
