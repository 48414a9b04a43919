//! How far the log got, kept outside of the database: the one witness when older files of the same cluster come back.
//!
//! Invariant: the file never says more than was committed, but for an incarnation that is about to be; it is replaced
//! whole, so a reader finds the old one or the new one.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Error, Log, store};
use crate::worker::Beat;

/// How often it is written while the log grows. What a rollback takes away of the last moments is not noticed.
const EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum WatermarkError {
    #[error("ROLLBACK_GUARD {} cannot be read or written. Fix: make its folder writable for this server", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "ROLLBACK_GUARD {} does not hold what a server writes there. Fix: if it is another file, set another path; if \
         it is damaged, run `rookery recover` after removing it", path.display()
    )]
    Unreadable { path: PathBuf },
}

/// The content of the file, as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub pos: i64,
    pub incarnation: i64,
    /// Unix seconds, for people.
    pub time_s: i64,
}

/// The file that `ROLLBACK_GUARD` names.
#[derive(Clone, Debug)]
pub(super) struct Watermark {
    path: PathBuf,
}

impl Watermark {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// None if it was never written.
    pub async fn read(&self) -> Result<Option<Mark>, WatermarkError> {
        match tokio::fs::read(&self.path).await {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(mark) => Ok(Some(mark)),
                Err(_) => Err(WatermarkError::Unreadable { path: self.path.clone() }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Writes a mark durably. A mark lower than the file's changes nothing: several instances share the file.
    pub async fn write(&self, mark: Mark) -> Result<(), WatermarkError> {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || raise(&path, mark)).await;
        written.map_err(std::io::Error::other).flatten().map_err(|error| self.failed(error))
    }

    fn failed(&self, source: std::io::Error) -> WatermarkError {
        WatermarkError::Io { path: self.path.clone(), source }
    }
}

/// Replaces the file if the mark is greater, under a lock that excludes other processes.
fn raise(path: &Path, mark: Mark) -> std::io::Result<()> {
    let folder = File::open(folder_of(path))?;
    let _held = Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, error)| std::io::Error::from(error))?;
    let found = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Mark>(&bytes).ok());
    if found.is_some_and(|found| (found.incarnation, found.pos) >= (mark.incarnation, mark.pos)) {
        return Ok(());
    }
    replace(path, &serde_json::to_vec(&mark)?)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = folder_of(path);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Replicas may share the file: each writes a new one of its own.
    name.push(format!(".{}", hex::encode(rand::random::<[u8; 4]>())));
    let new = folder.join(name);
    let mut file = File::create_new(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

/// Writes it while the log grows, and notices a log that shrank under the running server.
pub(super) async fn run(log: Log, watermark: Watermark, stop: CancellationToken, beat: Beat) {
    let mut last = Mark::default();
    loop {
        beat.beat();
        match look(&log, &watermark, last).await {
            Ok(mark) => last = mark,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the watermark outside of the database is stale"
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look(log: &Log, watermark: &Watermark, last: Mark) -> Result<Mark, Error> {
    let reached = {
        let mut connection = log.inner.storage.pool().acquire().await?;
        store::reached(&mut connection).await?
    };
    if reached.pos < last.pos || reached.incarnation != log.inner.incarnation {
        log.inner.storage.uproot();
        return Ok(last);
    }
    if (reached.pos, reached.incarnation) == (last.pos, last.incarnation) {
        return Ok(last);
    }
    let mark = Mark { pos: reached.pos, incarnation: reached.incarnation, time_s: log.clock().now_seconds() };
    watermark.write(mark).await?;
    Ok(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_replaced_whole_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let watermark = Watermark::new(folder.path().join("mark"));
        assert_eq!(watermark.read().await.unwrap(), None);
        for (pos, incarnation, kept) in [(3, 1, (3, 1)), (7, 1, (7, 1)), (5, 1, (7, 1)), (2, 2, (2, 2)), (9, 1, (2, 2))]
        {
            watermark.write(Mark { pos, incarnation, time_s: 2 }).await.unwrap();
            let found = watermark.read().await.unwrap().unwrap();
            assert_eq!((found.pos, found.incarnation), kept, "only the greatest mark stays");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        std::fs::write(folder.path().join("mark"), "{").unwrap();
        assert!(matches!(watermark.read().await, Err(WatermarkError::Unreadable { .. })));
        let nowhere = Watermark::new(folder.path().join("no/folder/mark"));
        assert!(matches!(nowhere.write(Mark::default()).await, Err(WatermarkError::Io { .. })));
    }
}
