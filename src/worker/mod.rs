//! Background work that runs for as long as the process does.
//!
//! Invariant: a process whose worker has ended, panicked or hangs logs the reason and ends, so that another process
//! takes over. A failed attempt is none of the three: a worker whose database is unreachable tries again, and beats
//! each time.

mod kind;
mod wake;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Role;
pub use crate::storage::Beat;
pub use kind::{RunsOn, WorkerKind};
pub use wake::{Wake, Wakes};

/// Silence after which a worker counts as hanging. Every await ends sooner: a statement after 12 s, the wait for a
/// connection after 5 s.
const SILENT_AFTER: Duration = Duration::from_secs(45);
/// Interval between two checks of all heartbeats.
const LOOK: Duration = Duration::from_secs(1);

/// Why this process cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerFailure {
    #[error("the {0} worker ended by itself. Fix: start the server again, and report what the log says before this")]
    Ended(&'static str),
    #[error("the {0} worker panicked. Fix: start the server again, and report what the log says before this")]
    Panicked(&'static str),
    #[error(
        "the {name} worker has been silent for {silent_s} s. Fix: start the server again; if this repeats, see whether \
         Postgres answers"
    )]
    Silent { name: &'static str, silent_s: u64 },
}

/// All workers of a process. Cheap to clone.
#[derive(Clone)]
pub struct Workers {
    inner: Arc<Inner>,
}

struct Inner {
    tracker: TaskTracker,
    stop: CancellationToken,
    failure: watch::Sender<Option<WorkerFailure>>,
    beats: Mutex<Vec<(&'static str, Beat)>>,
    silent_after: Duration,
    role: Role,
    wakes: Wakes,
}

impl Workers {
    /// The workers of an instance of this role; none runs yet.
    pub fn new(role: Role) -> Self {
        Self::silent_after(role, SILENT_AFTER)
    }

    fn silent_after(role: Role, silent_after: Duration) -> Self {
        let (failure, _) = watch::channel(None);
        let (tracker, stop, wakes) = (TaskTracker::new(), CancellationToken::new(), Wakes::new(role));
        let inner = Inner { tracker, stop, failure, beats: Mutex::default(), silent_after, role, wakes };
        Self { inner: Arc::new(inner) }
    }

    /// The wake-ups of the background workers.
    pub fn wakes(&self) -> &Wakes {
        &self.inner.wakes
    }

    /// Whether this instance runs the worker.
    pub fn runs(&self, kind: WorkerKind) -> bool {
        kind.runs_on().includes(self.inner.role)
    }

    /// Cancelled when the workers must end.
    pub fn stop(&self) -> &CancellationToken {
        &self.inner.stop
    }

    /// Tracks short tasks that the process waits for at its end, and whose failure does not end the process.
    pub fn tasks(&self) -> &TaskTracker {
        &self.inner.tracker
    }

    /// Runs the worker, if this instance's role includes it. The worker ends only after `stop`.
    pub fn spawn(&self, kind: WorkerKind, work: impl Future<Output = ()> + Send + 'static) {
        if self.runs(kind) {
            self.watch(kind, None, work);
        }
    }

    /// Runs the worker with a heartbeat, if this instance's role includes it.
    pub fn spawn_beating<F>(&self, kind: WorkerKind, work: impl FnOnce(Beat) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.runs(kind) {
            let beat = Beat::new();
            self.inner.beats.lock().unwrap_or_else(PoisonError::into_inner).push((kind.name(), beat.clone()));
            self.watch(kind, Some(beat.clone()), work(beat));
        }
    }

    fn watch(&self, kind: WorkerKind, beat: Option<Beat>, work: impl Future<Output = ()> + Send + 'static) {
        let inner = Arc::clone(&self.inner);
        self.inner.tracker.spawn(async move {
            let outcome = AssertUnwindSafe(kind.class().scope(beat, work)).catch_unwind().await;
            let failure = match outcome {
                Err(_) => WorkerFailure::Panicked(kind.name()),
                Ok(()) if inner.stop.is_cancelled() => return,
                Ok(()) => WorkerFailure::Ended(kind.name()),
            };
            inner.failure.send_if_modified(|first| first.is_none() && first.replace(failure).is_none());
        });
    }

    /// Waits until a worker has ended, panicked or hangs.
    pub async fn failed(&self) -> WorkerFailure {
        let mut failure = self.inner.failure.subscribe();
        loop {
            if let Some(failure) = failure.borrow_and_update().clone() {
                return failure;
            }
            if let Some(silent) = self.silent() {
                return silent;
            }
            // The channel cannot be closed: `self` holds its sender.
            let _later = tokio::time::timeout(LOOK.min(self.inner.silent_after), failure.changed()).await;
        }
    }

    fn silent(&self) -> Option<WorkerFailure> {
        let beats = self.inner.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.iter().find_map(|(name, beat)| {
            let silence = beat.silence();
            (silence > self.inner.silent_after).then_some(WorkerFailure::Silent { name, silent_s: silence.as_secs() })
        })
    }

    /// Tells all workers to end, and waits until they have.
    pub async fn end(&self) {
        self.inner.stop.cancel();
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_worker_that_ends_early_is_named() {
        let workers = Workers::new(Role::All);
        workers.spawn(WorkerKind::Joining, async {});
        assert_eq!(workers.failed().await, WorkerFailure::Ended("joining"));
    }

    #[tokio::test]
    async fn a_worker_that_panics_is_named() {
        let workers = Workers::new(Role::All);
        workers.spawn(WorkerKind::Joining, async { panic!("as it is meant to") });
        assert_eq!(workers.failed().await, WorkerFailure::Panicked("joining"));
    }

    #[tokio::test]
    async fn a_worker_is_silent_once_one_await_outlasts_every_deadline() {
        let silent_after = Duration::from_millis(400);
        let workers = Workers::silent_after(Role::All, silent_after);
        let (attempts, rests) = (8, 3);
        workers.spawn_beating(WorkerKind::Outbox, |beat| async move {
            // Failed attempts, as in an outage.
            for _ in 0..attempts {
                beat.beat();
                tokio::time::sleep(silent_after / 4).await;
            }
            beat.rest();
            tokio::time::sleep(silent_after * rests).await;
            beat.beat();
            std::future::pending::<()>().await;
        });
        let began = Instant::now();
        let failure = workers.failed().await;
        assert!(matches!(failure, WorkerFailure::Silent { name: "outbox", .. }), "{failure}");
        assert!(began.elapsed() > silent_after * (attempts / 4 + rests + 1), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn workers_that_end_when_told_to_have_not_failed() {
        let workers = Workers::new(Role::All);
        let stop = workers.stop().clone();
        workers.spawn(WorkerKind::Joining, async move { stop.cancelled().await });
        workers.end().await;
        assert!(tokio::time::timeout(Duration::from_millis(200), workers.failed()).await.is_err());
    }

    #[tokio::test]
    async fn a_role_runs_its_own_workers_and_no_others() {
        for (role, serving, background) in
            [(Role::All, true, true), (Role::Api, true, false), (Role::Worker, false, true)]
        {
            let workers = Workers::new(role);
            let (started, mut ran) = tokio::sync::mpsc::unbounded_channel();
            for kind in [WorkerKind::Tailer, WorkerKind::ListenerWatch, WorkerKind::Retention] {
                let (started, stop) = (started.clone(), workers.stop().clone());
                workers.spawn_beating(kind, |_| async move {
                    started.send(kind).unwrap();
                    stop.cancelled().await;
                });
            }
            drop(started);
            tokio::task::yield_now().await;
            workers.end().await;
            let mut kinds = Vec::new();
            while let Some(kind) = ran.recv().await {
                kinds.push(kind);
            }
            assert!(kinds.contains(&WorkerKind::Tailer), "{role:?}");
            assert_eq!(kinds.contains(&WorkerKind::ListenerWatch), serving, "{role:?}");
            assert_eq!(kinds.contains(&WorkerKind::Retention), background, "{role:?}");
        }
    }
}
