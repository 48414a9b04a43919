//! Whether the disk below Postgres has room for writes.
//!
//! Invariant: the server refuses writes from the moment when Postgres reports a full disk, or little free space is
//! left, until a measurement of the disk, or a test write, shows that there is room again. Reads go on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use sqlx::Executor;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Beat, Error, Storage};
use crate::telemetry::metric_name;

/// Interval between two measurements of the disk.
const LOOK: Duration = Duration::from_secs(5);
/// Interval between two test writes to a full disk.
const PROBE: Duration = Duration::from_secs(5);
/// Bytes of a test write: more than fits into existing pages.
const PROBE_BYTES: usize = 1 << 20;
/// Free bytes below which the server warns its operator.
const LITTLE: u64 = 1 << 30;
/// Interval between two warnings.
const SAY_EVERY: Duration = Duration::from_mins(10);

/// The state of the disk, as measurements and failed statements showed it.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Postgres refused a write because its disk is full.
    refused: AtomicBool,
    /// Fewer bytes are free than [`DiskWatch::least_free`].
    scarce: AtomicBool,
}

/// The state of the disk of Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    Ok,
    /// Less than `DISK_FREE_MIN_MIB` is free: the server refuses writes.
    Low,
    /// Postgres has no room: the server refuses writes.
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

    /// Records the error of any failed statement.
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

/// The disk to watch, and its threshold.
#[derive(Clone, Debug)]
pub struct DiskWatch {
    /// A folder on the disk of Postgres, if that disk belongs to this machine.
    pub folder: Option<PathBuf>,
    /// Bytes that must stay free; 0 turns the check off.
    pub least_free: u64,
}

impl Storage {
    /// The state of the disk of Postgres.
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

    /// Watches the disk, and closes idle connections, until `stop`.
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

    /// Writes bytes that need room, and removes them again.
    async fn probe_disk(&self) -> Result<(), Error> {
        let filler: Vec<u8> = std::iter::repeat_with(rand::random).take(PROBE_BYTES).collect();
        let mut tx = self.begin().await?;
        sqlx::query!("insert into disk_probe (filler) values ($1)", &filler).execute(tx.conn()).await?;
        tx.commit().await?;
        (&mut self.pool().acquire().await?).execute("truncate disk_probe").await?;
        Ok(())
    }
}
