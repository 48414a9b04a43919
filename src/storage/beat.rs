use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The heartbeat of one worker.
///
/// Every statement of the worker beats, and every wait for a connection: a worker that is silent for longer than all
/// deadlines hangs in a single await.
#[derive(Clone, Debug)]
pub struct Beat(Arc<Mutex<Option<Instant>>>);

impl Beat {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(Instant::now()))))
    }

    /// Records that the worker begins another attempt.
    pub fn beat(&self) {
        self.set(Some(Instant::now()));
    }

    /// Records that the worker has nothing to do, and may be silent until its next beat.
    pub fn rest(&self) {
        self.set(None);
    }

    fn set(&self, at: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// The time since the last beat of a worker that has something to do.
    pub fn silence(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |at| at.elapsed())
    }
}

impl Default for Beat {
    fn default() -> Self {
        Self::new()
    }
}
