//! Waking background workers, on whichever instance runs them.
//!
//! Invariant: a wake-up saves time and nothing else. A lost wake-up delays work until the worker's next look.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::config::Role;

/// Wakes one background worker after work for it was committed.
#[derive(Clone, Debug)]
pub struct Wake {
    worker: Arc<Notify>,
    /// Set where this instance does no background work.
    elsewhere: Option<Arc<Notify>>,
}

impl Wake {
    /// Wakes the worker of this instance, or those of the instances that run such a worker.
    pub fn notify_one(&self) {
        self.elsewhere.as_ref().unwrap_or(&self.worker).notify_one();
    }

    /// Waits, as the worker, until there is work.
    pub async fn notified(&self) {
        self.worker.notified().await;
    }
}

/// The wake-ups of all background workers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wakes {
    workers: Arc<Mutex<Vec<Arc<Notify>>>>,
    elsewhere: Option<Arc<Notify>>,
}

impl Wakes {
    pub(super) fn new(role: Role) -> Self {
        let elsewhere = (!role.does_background_work()).then(Arc::default);
        Self { workers: Arc::default(), elsewhere }
    }

    /// A wake-up for a further background worker.
    pub fn add(&self) -> Wake {
        let worker = Arc::<Notify>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&worker));
        Wake { worker, elsewhere: self.elsewhere.clone() }
    }

    /// Wakes every background worker of this instance: another instance committed work.
    pub fn wake_all(&self) {
        for worker in &*self.workers.lock().unwrap_or_else(PoisonError::into_inner) {
            worker.notify_one();
        }
    }

    /// Notified when there is work for instances that do background work, where this instance does none.
    pub fn elsewhere(&self) -> Option<Arc<Notify>> {
        self.elsewhere.clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_instance_without_background_work_wakes_others() {
        let (api, worker) = (Wakes::new(Role::Api), Wakes::new(Role::Worker));
        let (here, there, other) = (api.add(), worker.add(), worker.add());
        here.notify_one();
        assert!(here.notified().now_or_never().is_none());
        assert!(api.elsewhere().unwrap().notified().now_or_never().is_some());
        assert!(worker.elsewhere().is_none());
        worker.wake_all();
        assert!(there.notified().now_or_never().is_some() && other.notified().now_or_never().is_some());
        there.notify_one();
        assert!(there.notified().now_or_never().is_some() && other.notified().now_or_never().is_none());
    }
}
