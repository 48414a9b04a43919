use std::future::Future;

use super::Beat;

/// Connections below which a pool is too small to be split.
const LEAST_SPLIT: u32 = 8;

tokio::task_local! {
    /// The class of all connections that a worker takes, from any pool, and the worker's heartbeat.
    static WORKER: (Class, Option<Beat>);
}

/// The purpose of a pooled connection. Each class has connections of its own, so that a class without a free connection
/// delays no other class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Look-ups of callers, and replay protection. Every other part of a request waits for these.
    Authentication,
    /// The tailer, which feeds every subscription.
    Tailer,
    /// Statements of requests outside of a transaction, and health checks.
    Reads,
    /// Transactions of requests, and work under a stream's lock.
    Writes,
    /// Background workers.
    Workers,
}

impl Class {
    pub(super) const ALL: [Self; 5] = [Self::Authentication, Self::Tailer, Self::Reads, Self::Writes, Self::Workers];

    /// Whether every statement of the class finds its rows by an index, whatever the values are: Postgres then plans a
    /// statement once for each connection.
    pub(super) const fn finds_by_index(self) -> bool {
        matches!(self, Self::Authentication | Self::Tailer)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Tailer => "tailer",
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Workers => "workers",
        }
    }

    /// Runs a worker whose connections are all of this class. Every statement of the worker beats.
    pub async fn scope<F: Future>(self, beat: Option<Beat>, future: F) -> F::Output {
        WORKER.scope((self, beat), future).await
    }

    /// The class of the current worker, or `self` outside of a worker.
    pub(super) fn in_force(self) -> Self {
        WORKER.try_with(|(class, _)| *class).unwrap_or(self)
    }
}

/// Beats for the current task, if the task is a worker's.
pub(super) fn beat() {
    // A task outside of a worker has no heartbeat.
    let _outside = WORKER.try_with(|(_, beat)| beat.as_ref().inspect(|beat| beat.beat()).is_some());
}

/// The number of connections of each class, in the order of [`Class::ALL`]; their sum is `connections`. `None` if there
/// are too few connections to split: all classes then share them.
pub(super) fn split(connections: u32) -> Option<[u32; 5]> {
    if connections < LEAST_SPLIT {
        return None;
    }
    let (authentication, tailer, writes) = (connections.div_ceil(8), 1, connections / 4);
    let workers = (connections / 8).max(2);
    let reads = connections - authentication - tailer - writes - workers;
    Some([authentication, tailer, reads, writes, workers])
}

/// How many transactions may hold locks of streams at the same time: two at least, so that a stream that is held delays
/// no other; otherwise one connection is left for transactions that append to no stream, or half of a shared pool.
pub(super) fn stream_transactions(connections: u32) -> u32 {
    match split(connections) {
        Some([_, _, _, writes, _]) => (writes - 1).max(2),
        None => (connections / 2).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_connection_and_their_sum_is_the_pool() {
        for connections in LEAST_SPLIT..=1000 {
            let sizes = split(connections).unwrap();
            assert!(sizes.iter().all(|size| *size > 0), "{connections}: {sizes:?}");
            assert_eq!(sizes.iter().sum::<u32>(), connections);
        }
        assert_eq!(split(16), Some([2, 1, 7, 4, 2]));
        assert_eq!(split(LEAST_SPLIT - 1), None);
        assert_eq!([1, 4, 8, 16, 64].map(stream_transactions), [1, 2, 2, 3, 15]);
    }

    #[tokio::test]
    async fn a_scope_sets_the_class_of_a_task() {
        assert_eq!(Class::Reads.in_force(), Class::Reads);
        assert_eq!(Class::Workers.scope(None, async { Class::Reads.in_force() }).await, Class::Workers);
    }
}
