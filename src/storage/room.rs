//! Whether the disk below Postgres has room for writes.
//!
//! Invariant: writes are refused from the moment that Postgres said that it has no room, or that little is left, until a
//! look at the disk, or a write that is there for nothing else, shows that there is room again. Reads go on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use sqlx::Executor;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Beat, Error, Storage};
use crate::telemetry::metric_name;

/// Between two looks at the disk.
const LOOK: Duration = Duration::from_secs(5);
/// Between two writes that show whether there is room again.
const PROBE: Duration = Duration::from_secs(5);
/// Bytes of such a write: beyond what fits into pages that are there.
const PROBE_BYTES: usize = 1 << 20;
/// Free space below which an operator is told, in bytes.
const LITTLE: u64 = 1 << 30;
/// How often an operator is told.
const SAY_EVERY: Duration = Duration::from_mins(10);

/// What is known of the disk.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Postgres refused a write for want of room.
    refused: AtomicBool,
    /// Less is free than the threshold.
    scarce: AtomicBool,
}

/// What is known of the disk below Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    Ok,
    /// Less is free than the operator wants to be left: writes are refused.
    Low,
    /// Postgres has no room: writes are refused.
    Full,
}

impl Disk {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Low => "low",
            Self::Full => "full",
        }
    }
}

impl Room {
    pub(super) fn disk(&self) -> Disk {
        match (self.refused.load(Ordering::Relaxed), self.scarce.load(Ordering::Relaxed)) {
            (true, _) => Disk::Full,
            (false, true) => Disk::Low,
            (false, false) => Disk::Ok,
        }
    }

    /// Of any statement that failed.
    pub(super) fn note(&self, error: &sqlx::Error) {
        let sqlx::Error::Database(database) = error else { return };
        // disk_full, io_error
        let code = database.code().unwrap_or_default();
        if matches!(&*code, "53100" | "58030") && !self.refused.swap(true, Ordering::Relaxed) {
            tracing::error!(
                code = &*code,
                error = error as &dyn std::error::Error,
                "Postgres has no room on its disk: writes are refused. Fix: free space there, or let the disk grow; \
                 nothing that was acknowledged is lost"
            );
        }
    }
}

/// What watches over the disk.
#[derive(Clone, Debug)]
pub struct DiskWatch {
    /// A folder on the disk of Postgres, if that is a disk of this machine.
    pub folder: Option<PathBuf>,
    /// Bytes that are to stay free; none of it matters where it is 0.
    pub least_free: u64,
}

impl Storage {
    /// What is known of the disk below Postgres.
    pub fn disk(&self) -> Disk {
        self.shared.room.disk()
    }

    fn measure_disk(&self, watch: &DiskWatch, said: &mut Option<Instant>) {
        let Some(folder) = &watch.folder else { return };
        let (free, size) = match statvfs(folder.as_path()) {
            Ok(found) => {
                #[allow(clippy::useless_conversion, reason = "on some systems blocks are counted in 32 bits")]
                let (free, size) = (u64::from(found.blocks_available()), u64::from(found.blocks()));
                (free.saturating_mul(found.fragment_size()), size.saturating_mul(found.fragment_size()))
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to measure the free space of DATA_DIR"
                );
                return;
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "a gauge of bytes needs no more than 53 bits")]
        metrics::gauge!(metric_name::DATA_DISK_FREE_BYTES).set(free as f64);
        let is_scarce = free < watch.least_free;
        let was_scarce = self.shared.room.scarce.swap(is_scarce, Ordering::Relaxed);
        let little = free < LITTLE || free < size / 20;
        if is_scarce != was_scarce || (little && said.is_none_or(|at| at.elapsed() >= SAY_EVERY)) {
            *said = Some(Instant::now());
            let (free_mib, least_free_mib) = (free >> 20, watch.least_free >> 20);
            match (is_scarce, was_scarce) {
                (true, _) => tracing::error!(
                    free_mib,
                    least_free_mib,
                    "the disk of DATA_DIR is almost full: writes are refused. Fix: free space there, or let the disk grow"
                ),
                (false, true) => tracing::info!(free_mib, "the disk of DATA_DIR has room again: writes are taken"),
                (false, false) => tracing::warn!(free_mib, least_free_mib, "the disk of DATA_DIR is getting full"),
            }
        }
    }

    /// Watches over the disk, and closes connections that rest, until `stop`.
    pub async fn watch_disk(self, watch: DiskWatch, stop: CancellationToken, beat: Beat) {
        let (mut said, mut probed) = (None, Instant::now());
        loop {
            beat.beat();
            self.measure_disk(&watch, &mut said);
            self.pool().tidy();
            if self.disk() == Disk::Full && probed.elapsed() >= PROBE {
                probed = Instant::now();
                if self.probe_disk().await.is_ok() {
                    self.shared.room.refused.store(false, Ordering::Relaxed);
                    tracing::info!("Postgres has room on its disk again: writes are taken");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Writes something that needs room, and takes it back.
    async fn probe_disk(&self) -> Result<(), Error> {
        let filler: Vec<u8> = std::iter::repeat_with(rand::random).take(PROBE_BYTES).collect();
        let mut tx = self.begin().await?;
        sqlx::query!("insert into disk_probe (filler) values ($1)", &filler).execute(tx.conn()).await?;
        tx.commit().await?;
        (&mut self.pool().acquire().await?).execute("truncate disk_probe").await?;
        Ok(())
    }
}
