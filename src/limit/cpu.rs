//! CPU-bound work whose cost grows with its input: signatures of a tree, decoding, the replay of a chain.
//!
//! Invariant: at most as many pieces of this work run at one time as there are cores. They run on threads beside those
//! that serve requests. A time-out ends the wait for a core, not the work: a thread cannot be interrupted.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// How long a piece of work waits for a core.
const WAIT: Duration = Duration::from_secs(2);

/// The cores, shared by all work of this kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CpuGate {
    cores: Arc<Semaphore>,
    wait: Duration,
}

/// Why a piece of work has no result.
#[derive(Debug, thiserror::Error)]
pub enum CpuBusy {
    #[error("every core was busy for {} ms", WAIT.as_millis())]
    Busy,
    /// The work panicked.
    #[error("the work ended without a result")]
    Broken(#[source] tokio::task::JoinError),
}

impl Default for CpuGate {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self::of(cores, WAIT)
    }
}

impl CpuGate {
    fn of(cores: usize, wait: Duration) -> Self {
        Self { cores: Arc::new(Semaphore::new(cores)), wait }
    }

    /// Runs the work on a core of its own. The core stays taken until the work ends, also if the caller stopped
    /// waiting.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, CpuBusy> {
        let core = tokio::time::timeout(self.wait, Arc::clone(&self.cores).acquire_owned()).await;
        let Ok(Ok(core)) = core else { return Err(CpuBusy::Busy) };
        let span = tracing::Span::current();
        let work = move || {
            let _core = core;
            span.in_scope(work)
        };
        tokio::task::spawn_blocking(work).await.map_err(CpuBusy::Broken)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::{CpuBusy, CpuGate};

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the work of this test blocks a thread of its own")]
    async fn work_never_exceeds_the_cores_and_the_rest_waits() {
        let gate = CpuGate::of(2, Duration::from_secs(30));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let runs = (0..8).map(|_| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            gate.run(move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
                now.fetch_sub(1, Ordering::SeqCst);
            })
        });
        for run in futures_util::future::join_all(runs).await {
            run.unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_wait_that_is_too_long_is_refused() {
        let gate = CpuGate::of(1, Duration::from_millis(50));
        let (free, held) = std::sync::mpsc::channel::<()>();
        let slow = tokio::spawn({
            let gate = gate.clone();
            async move { gate.run(move || held.recv()).await }
        });
        while gate.cores.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(gate.run(|| ()).await, Err(CpuBusy::Busy)));
        drop(free);
        slow.await.unwrap().unwrap().unwrap_err();
        gate.run(|| ()).await.unwrap();
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_keeps_its_core_until_the_work_ends() {
        let gate = CpuGate::of(1, Duration::from_millis(50));
        let (free, held) = std::sync::mpsc::channel::<()>();
        let run = tokio::spawn({
            let gate = gate.clone();
            async move { gate.run(move || held.recv()).await.is_ok() }
        });
        while gate.cores.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        run.abort();
        assert!(matches!(gate.run(|| ()).await, Err(CpuBusy::Busy)));
        drop(free);
        gate.cores.acquire().await.unwrap().forget();
    }
}
