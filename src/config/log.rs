use std::path::PathBuf;

use super::ConfigError;
use super::values::Values;

/// Bounds of the log: of those who write and of those who listen.
#[derive(Clone, Debug)]
pub struct Log {
    /// Entries that may wait for the writer.
    pub writer_queue: usize,
    /// Events that a subscriber may lag behind.
    pub subscriber_buffer: usize,
    /// Where the watermark is kept that notices older files of the database.
    pub rollback_guard: Option<PathBuf>,
}

impl Log {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            writer_queue: values.number("WRITER_QUEUE", 1..=1_000_000)?,
            subscriber_buffer: values.number("SSE_BUFFER_SIZE", 1..=100_000)?,
            rollback_guard: values.text("ROLLBACK_GUARD").map(PathBuf::from),
        })
    }
}
