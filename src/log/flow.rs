//! Progress of this instance's log, which decides its readiness.
//!
//! Invariant: [`LogFlow`] depends on this instance alone: on the age of the oldest job that the writer has not
//! answered, and on the age of the tailer's last completed read. Another instance on the database may be ready while
//! this one is not. A horizon that a foreign transaction holds back affects all instances: the monitor raises an alarm
//! that names the oldest writing transaction, and readiness does not change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Log;
use crate::telemetry::metric_name;
use crate::types::Cursor;

/// Interval at which the ages are measured.
const MEASURE: Duration = Duration::from_millis(500);

/// The state of this instance's log, as readiness reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFlow {
    Flows,
    /// The writer left a job unanswered for longer than `LOG_STALLED_SECONDS`.
    WriterStalled,
    /// The tailer completed no read of the log for longer than `LOG_STALLED_SECONDS`.
    TailerStalled,
}

impl LogFlow {
    /// The state's name in the readiness report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flows => "ok",
            Self::WriterStalled => "writer stalled",
            Self::TailerStalled => "tailer stalled",
        }
    }
}

/// Ages by the machine's monotonic clock: a test may stop the other clock.
pub(super) struct FlowMonitor {
    patience: Duration,
    state: Mutex<FlowState>,
}

struct FlowState {
    /// Jobs that the writer has not answered, by number: the first is the oldest.
    unanswered: BTreeMap<u64, Instant>,
    next_job: u64,
    /// When the tailer last completed a read.
    looked: Instant,
    /// A committed position that the tailer has not handed out, and since when.
    undelivered: Option<(Cursor, Instant)>,
}

/// An unanswered job, counted for as long as this value lives.
pub(super) struct UnansweredJob {
    monitor: Arc<FlowMonitor>,
    number: u64,
}

impl Drop for UnansweredJob {
    fn drop(&mut self) {
        self.monitor.state().unanswered.remove(&self.number);
    }
}

impl FlowMonitor {
    pub(super) fn new(patience: Duration) -> Self {
        let state = FlowState { unanswered: BTreeMap::new(), next_job: 0, looked: Instant::now(), undelivered: None };
        Self { patience, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, FlowState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a job that the writer must answer.
    pub(super) fn job_submitted(self: &Arc<Self>) -> UnansweredJob {
        let mut state = self.state();
        let number = state.next_job;
        state.next_job += 1;
        state.unanswered.insert(number, Instant::now());
        UnansweredJob { monitor: Arc::clone(self), number }
    }

    /// Records that the tailer completed a read, with or without entries.
    pub(super) fn look_completed(&self) {
        self.state().looked = Instant::now();
    }

    /// Compares the greatest committed position that this instance knows with the position that the tailer has reached.
    fn compare(&self, committed: Cursor, delivered: Cursor, now: Instant) {
        let mut state = self.state();
        let still_waits = state.undelivered.is_some_and(|(position, _)| delivered < position);
        if !still_waits {
            state.undelivered = (delivered < committed).then_some((committed, now));
        }
    }

    fn ages(&self, now: Instant) -> FlowAges {
        let state = self.state();
        let since = |began: Instant| now.saturating_duration_since(began);
        FlowAges {
            unanswered: state.unanswered.values().next().map_or(Duration::ZERO, |began| since(*began)),
            looked: since(state.looked),
            undelivered: state.undelivered.map_or(Duration::ZERO, |(_, began)| since(began)),
        }
    }

    fn flow(&self, now: Instant) -> LogFlow {
        let ages = self.ages(now);
        if ages.unanswered > self.patience {
            LogFlow::WriterStalled
        } else if ages.looked > self.patience {
            LogFlow::TailerStalled
        } else {
            LogFlow::Flows
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FlowAges {
    unanswered: Duration,
    looked: Duration,
    undelivered: Duration,
}

impl Log {
    pub fn flow(&self) -> LogFlow {
        self.inner.flow.flow(Instant::now())
    }
}

/// Measures until `stop`. Logs once when this instance's log stalls, and once when the horizon stalls.
pub(super) async fn run(log: Log, stop: CancellationToken) {
    let (mut flow, mut is_held) = (LogFlow::Flows, false);
    loop {
        let monitor = &log.inner.flow;
        let now = Instant::now();
        monitor.compare(log.inner.hub.woken(), log.inner.hub.position(), now);
        let ages = monitor.ages(now);
        metrics::gauge!(metric_name::LOG_UNANSWERED_SECONDS).set(ages.unanswered.as_secs_f64());
        metrics::gauge!(metric_name::LOG_TAILER_SILENT_SECONDS).set(ages.looked.as_secs_f64());
        metrics::gauge!(metric_name::LOG_UNDELIVERED_SECONDS).set(ages.undelivered.as_secs_f64());

        let before = std::mem::replace(&mut flow, monitor.flow(now));
        match (before, flow) {
            (before, after) if before == after => {}
            (_, LogFlow::Flows) => tracing::info!("log flows again on this instance"),
            (_, stalled) => tracing::error!(reason = stalled.name(), "log stalled on this instance"),
        }

        let held = flow == LogFlow::Flows && ages.undelivered > monitor.patience;
        match (std::mem::replace(&mut is_held, held), held) {
            (false, true) => {
                let age_ms = ages.undelivered.as_millis();
                tracing::error!(age_ms, "committed entries are not delivered: horizon held back");
                log.inner.storage.name_oldest_writer().await;
            }
            (true, false) => tracing::info!("committed entries are delivered again"),
            (true, true) | (false, false) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(MEASURE) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn an_unanswered_job_stalls_the_writer_until_answered() {
        let monitor = Arc::new(FlowMonitor::new(PATIENCE));
        let (first, second) = (monitor.job_submitted(), monitor.job_submitted());
        let later = Instant::now() + PATIENCE + Duration::from_secs(1);
        monitor.state().looked = later;
        assert_eq!(monitor.flow(Instant::now()), LogFlow::Flows);
        assert_eq!(monitor.flow(later), LogFlow::WriterStalled);
        drop(first);
        assert_eq!(monitor.flow(later), LogFlow::WriterStalled, "the second job is as old");
        drop(second);
        assert_eq!(monitor.flow(later), LogFlow::Flows);
    }

    #[test]
    fn a_tailer_that_completes_no_read_is_stalled() {
        let monitor = FlowMonitor::new(PATIENCE);
        assert_eq!(monitor.flow(Instant::now() + PATIENCE + Duration::from_secs(1)), LogFlow::TailerStalled);
        monitor.look_completed();
        assert_eq!(monitor.flow(Instant::now()), LogFlow::Flows);
    }

    #[test]
    fn undelivered_positions_have_an_age_and_leave_flow_alone() {
        let monitor = FlowMonitor::new(PATIENCE);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let age = |seconds| monitor.ages(at(seconds)).undelivered.as_secs();
        monitor.compare(Cursor(10), Cursor(10), at(0));
        assert_eq!(age(1), 0);
        monitor.compare(Cursor(20), Cursor(10), at(1));
        monitor.compare(Cursor(30), Cursor(15), at(2));
        assert_eq!(age(5), 4, "the wait for position 20 began at second 1");
        // Under constant traffic the tailer is always behind: the wait for the next position is a new wait.
        monitor.compare(Cursor(40), Cursor(20), at(6));
        assert_eq!(age(7), 1);
        monitor.look_completed();
        assert_eq!(monitor.flow(Instant::now()), LogFlow::Flows);
        monitor.compare(Cursor(40), Cursor(40), at(8));
        assert_eq!(age(60), 0);
    }
}
