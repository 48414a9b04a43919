//! A private Postgres in `DATA_DIR`, for operators without a Postgres of their own.
//!
//! Invariant: the next start always works, however this one ended. A folder has one server at a time (a file lock),
//! half-made data is never taken for data, and a Postgres that outlived its server is ended before a new one starts.
//! Invariant: only this server's user can connect: one Unix socket in a private folder, no TCP.
//!
//! A server killed with -9 cannot take its Postgres along; the next start does. What is deliberately absent: upgrades
//! from one major version to another, which are refused with the way to do them.

mod error;
mod folder;
mod owner;
mod postmaster;
mod programs;

#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

pub use error::EmbeddedError;

use folder::Folder;
use owner::Owner;
use postmaster::Postmaster;

/// The database that the first start creates.
pub const DATABASE: &str = "rookery";

/// How long remains of a killed Postgres may be in the way before that is an error.
const REMAINS: Duration = Duration::from_secs(30);
/// Pause between two attempts to start beside the remains of another Postgres, and between two checks of a running one.
const PAUSE: Duration = Duration::from_millis(500);

/// The settings of a private Postgres.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server's own folder. Postgres gets `postgres/` in it.
    pub data_dir: PathBuf,
    /// Folder of `postgres` and `initdb`; searched for without.
    pub pg_bin: Option<PathBuf>,
    /// All connections together: pools, listeners, and a person with psql.
    pub max_connections: u32,
    /// Off for tests alone: commits then survive a crash of Postgres, but not of the machine.
    pub durable: bool,
}

/// A running private Postgres. `stop` ends it in good order; dropping it ends it at once, and the next start recovers.
pub struct Cluster {
    // Before the folder, so that Postgres has ended when the folder's lock is let go.
    postmaster: Mutex<Postmaster>,
    pid: u32,
    folder: Folder,
}

impl Cluster {
    /// Makes the data if there is none, ends what a killed server left, starts Postgres, and waits until it answers.
    pub async fn start(options: Options) -> Result<Self, EmbeddedError> {
        let held = options.clone();
        let prepared = tokio::task::spawn_blocking(move || Folder::prepare(&held)).await;
        let folder = prepared.map_err(|_| EmbeddedError::Stopping)??;
        postmaster::end_orphan(&folder).await?;

        let until = Instant::now() + REMAINS;
        let postmaster = loop {
            let mut postmaster = Postmaster::spawn(&folder, &options)?;
            match postmaster.ready(&url(&folder.socket, "postgres")).await {
                Ok(()) => break postmaster,
                Err(EmbeddedError::Ended { tail, .. }) if in_the_way(&tail) && Instant::now() < until => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        };
        create_database(&url(&folder.socket, "postgres")).await?;
        tracing::info!(pid = postmaster.pid(), version = folder.programs.major, "the private Postgres is ready");
        Ok(Self { pid: postmaster.pid(), postmaster: Mutex::new(postmaster), folder })
    }

    /// For sqlx and for libpq alike: `postgres://rookery@localhost:5432/<database>?host=<folder of the socket>`.
    pub fn url(&self, database: &str) -> String {
        url(&self.folder.socket, database)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until Postgres ends by itself, which it never should: it was killed, or its disk is full.
    pub async fn ended(&self) -> ExitStatus {
        loop {
            if let Some(status) = self.postmaster.lock().unwrap_or_else(PoisonError::into_inner).ended() {
                return status;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A fast shutdown: open connections are cut, everything committed is written. An error says that it did not end
    /// in good order; the next start recovers then.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        let Self { postmaster, folder, .. } = self;
        let stopped = postmaster.into_inner().unwrap_or_else(PoisonError::into_inner).stop().await;
        drop(folder);
        stopped
    }
}

/// Processes of a killed Postgres hold its shared memory until they notice, within moments, that it is gone.
fn in_the_way(tail: &str) -> bool {
    tail.contains("shared memory block") || tail.contains("lock file")
}

/// The address of the private Postgres that a server on this machine runs in that folder, for a program beside it.
pub fn running_url(data_dir: &Path, database: &str) -> Result<String, EmbeddedError> {
    let data_dir = data_dir.canonicalize().map_err(folder::io("read", data_dir))?;
    let data = data_dir.join("postgres");
    Ok(url(&folder::socket(&data, Owner::of(&data)?)?, database))
}

fn url(socket: &Path, database: &str) -> String {
    let (database, host) = (percent(database), percent(&socket.to_string_lossy()));
    format!("postgres://rookery@localhost:5432/{database}?host={host}&sslmode=disable")
}

/// RFC 3986 section 2.3: everything but unreserved characters is escaped.
fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

async fn create_database(url: &str) -> Result<(), EmbeddedError> {
    let mut connection = PgConnection::connect(url).await?;
    let held = sqlx::query("select from pg_database where datname = 'rookery'").fetch_optional(&mut connection).await?;
    if held.is_none() {
        sqlx::query("create database rookery").execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}
