use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The sign of life of one worker.
///
/// Every statement that the worker sends is one, and every wait for a connection: what is silent for longer than all
/// deadlines hangs in a single await.
#[derive(Clone, Debug)]
pub struct Beat(Arc<Mutex<Option<Instant>>>);

impl Beat {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(Instant::now()))))
    }

    /// Another attempt begins.
    pub fn beat(&self) {
        self.set(Some(Instant::now()));
    }

    /// There is nothing to do, for as long as it takes.
    pub fn rest(&self) {
        self.set(None);
    }

    fn set(&self, at: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Since when nothing was seen of a worker that has something to do.
    pub fn silence(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |at| at.elapsed())
    }
}

impl Default for Beat {
    fn default() -> Self {
        Self::new()
    }
}
