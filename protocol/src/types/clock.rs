use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::UnixMillis;

/// The only source of the time of day. Tests set a manual one.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    pub fn manual(now: UnixMillis) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(now.0)))
    }

    /// Unix time in milliseconds.
    pub fn now(&self) -> UnixMillis {
        match self {
            Self::System => {
                let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
                UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Self::Manual(now) => UnixMillis(now.load(Ordering::SeqCst)),
        }
    }

    /// Unix time in whole seconds.
    pub fn now_seconds(&self) -> i64 {
        self.now().0 / 1000
    }

    /// Moves a manual clock on; a system clock stays as it is.
    pub fn advance_ms(&self, ms: i64) {
        if let Self::Manual(now) = self {
            now.fetch_add(ms, Ordering::SeqCst);
        }
    }
}
