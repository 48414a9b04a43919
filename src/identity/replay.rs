//! Replay memory: a token is accepted once, by all instances together.
//!
//! Invariant: `(iss, jti)` stays known until `exp` and the clock skew have passed. The process's own memory answers
//! first; what it does not know is written to Postgres, many rows to a statement, before the token counts as new.
//! One token has one `exp`, and the table is partitioned by it: that a *second* token repeats a jti with another `exp`
//! is noticed within an instance, not across instances.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::store;
use super::token::{MAX_LIFETIME_S, SKEW_S};
use crate::storage::{PgConnection, PgPool};
use crate::types::{Clock, Did, Hash};

/// Tokens known to the process. Beyond that the oldest are left to Postgres alone.
const MAX_IN_PROCESS: u64 = 500_000;
/// Tokens that wait for Postgres; more are refused at once.
const MAX_QUEUED: usize = 4096;
/// Rows of one statement. Nothing waits for a batch to fill: what queues up during one statement is the next.
const MAX_BATCH: usize = 256;
/// Time for one statement.
const STATEMENT: Duration = Duration::from_secs(5);
/// Partitions reach four hours ahead and tokens one hour, so this may fail for hours without an effect.
const ROTATE_EVERY: Duration = Duration::from_mins(10);

/// The memory's answer about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    First,
    Repeated,
    /// The database lost its memory after this token may have been issued.
    Forgotten,
}

/// The memory cannot tell now whether the token was seen before. Maps to 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("replay memory cannot be reached")]
pub struct ReplayUnavailable;

/// A token as memory sees it.
pub struct Seen<'a> {
    pub iss: &'a Did,
    pub jti: &'a str,
    /// Unix seconds; None if the token does not say.
    pub iat_s: Option<i64>,
    /// Unix seconds.
    pub exp_s: i64,
}

impl Seen<'_> {
    /// No DID is stored. A DID holds no zero byte, so the two parts cannot be shifted against each other.
    fn key(&self) -> [u8; 16] {
        let hash =
            Hash::labelled("rookery replay v1", &[self.iss.as_str().as_bytes(), &[0], self.jti.as_bytes()].concat());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.0[..16]);
        key
    }

    /// Whether it cannot have been accepted before `since_s`: it says when it was issued, or it runs out so late that
    /// it would have been refused. At zero nothing was ever forgotten.
    fn is_younger_than(&self, since_s: i64) -> bool {
        since_s == 0 || self.iat_s.is_some_and(|iat| iat >= since_s) || self.exp_s > since_s + MAX_LIFETIME_S + SKEW_S
    }
}

/// The database went back in time, and forgot what it had seen: tokens issued up to now are refused by all instances.
pub async fn forget_tokens(conn: &mut PgConnection, now_s: i64) -> Result<(), sqlx::Error> {
    store::forget(conn, now_s).await
}

struct Pending {
    key: [u8; 16],
    exp_s: i64,
    answer: oneshot::Sender<Result<Found, ReplayUnavailable>>,
}

struct Found {
    fresh: bool,
    since_s: i64,
}

/// The handle that verifiers hold.
#[derive(Clone)]
pub struct ReplayMemory {
    in_process: moka::sync::Cache<[u8; 16], ()>,
    /// None: one process alone, for tests and tools.
    queue: Option<mpsc::Sender<Pending>>,
}

impl ReplayMemory {
    /// Memory shared through Postgres. The caller runs the [`Batcher`]; without it every token is refused with 503.
    /// `floor_s` (`JTI_TTL_SECONDS`) keeps tokens at least that long after they ran out.
    pub fn shared(clock: Clock, floor_s: i64) -> (Self, Batcher) {
        let keep_s = floor_s.max(SKEW_S);
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let memory = Self { in_process: in_process(keep_s), queue: Some(sender) };
        (memory, Batcher { queue: receiver, clock, keep_s })
    }

    /// Memory of this process alone: forgets with it, and knows of no other instance.
    pub fn in_process() -> Self {
        Self { in_process: in_process(SKEW_S), queue: None }
    }

    /// Called last, once the signature is verified: a forged token must not use up another token's jti.
    pub async fn remember(&self, seen: Seen<'_>) -> Result<Sighting, ReplayUnavailable> {
        let key = seen.key();
        // `or_insert_with` lets one of many through; `or_insert` looks and then inserts, and would let several.
        if !self.in_process.entry(key).or_insert_with(|| ()).is_fresh() {
            return Ok(Sighting::Repeated);
        }
        let Some(queue) = &self.queue else { return Ok(Sighting::First) };
        let found = match ask(queue, key, seen.exp_s).await {
            Ok(found) => found,
            Err(unavailable) => {
                // The caller may try the same token again; then Postgres decides.
                self.in_process.invalidate(&key);
                return Err(unavailable);
            }
        };
        Ok(match found {
            Found { fresh: false, .. } => Sighting::Repeated,
            Found { since_s, .. } if seen.is_younger_than(since_s) => Sighting::First,
            Found { .. } => Sighting::Forgotten,
        })
    }
}

async fn ask(queue: &mpsc::Sender<Pending>, key: [u8; 16], exp_s: i64) -> Result<Found, ReplayUnavailable> {
    let (answer, found) = oneshot::channel();
    queue.try_send(Pending { key, exp_s, answer }).map_err(|_| ReplayUnavailable)?;
    found.await.map_err(|_| ReplayUnavailable)?
}

fn in_process(keep_s: i64) -> moka::sync::Cache<[u8; 16], ()> {
    let longest_s = MAX_LIFETIME_S + 2 * SKEW_S + keep_s;
    // Fixed size: hashes.
    moka::sync::Cache::builder()
        .max_capacity(MAX_IN_PROCESS)
        // The default policy may turn a newcomer away in favour of an old entry.
        .eviction_policy(moka::policy::EvictionPolicy::lru())
        .time_to_live(Duration::from_secs(longest_s.unsigned_abs()))
        .build()
}

/// The only writer of replay memory in this process.
pub struct Batcher {
    queue: mpsc::Receiver<Pending>,
    clock: Clock,
    keep_s: i64,
}

impl Batcher {
    /// Ends when the last [`ReplayMemory`] is gone.
    pub async fn run(mut self, pool: PgPool) {
        let mut rotated: Option<tokio::time::Instant> = None;
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            if rotated.is_none_or(|at| at.elapsed() >= ROTATE_EVERY) {
                self.rotate(&pool).await;
                rotated = Some(tokio::time::Instant::now());
            }
            match tokio::time::timeout(ROTATE_EVERY, self.queue.recv_many(&mut batch, MAX_BATCH)).await {
                Ok(0) => return,
                Ok(_) => self.flush(&pool, &mut batch).await,
                Err(_idle) => {}
            }
        }
    }

    /// What must stand before a token can be remembered. A loss of memory is noted here, not by the first token after
    /// it: that one would be refused for having come first.
    async fn rotate(&self, pool: &PgPool) {
        if let Err(error) = store::note_loss(pool, self.clock.now_seconds()).await {
            tracing::warn!(error = %error, "replay memory: whether it was lost could not be noted");
        }
        if let Err(error) = store::rotate(pool, self.clock.now_seconds(), self.keep_s).await {
            tracing::warn!(error = %error, "replay memory: partitions were not renewed");
        }
    }

    async fn flush(&self, pool: &PgPool, batch: &mut Vec<Pending>) {
        // Those whose caller went away do not get a row: their token was not used.
        batch.retain(|pending| !pending.answer.is_closed());
        if batch.is_empty() {
            return;
        }
        let keys: Vec<Vec<u8>> = batch.iter().map(|pending| pending.key.to_vec()).collect();
        let exps_s: Vec<i64> = batch.iter().map(|pending| pending.exp_s).collect();
        let mut outcome = self.write(pool, &keys, &exps_s).await;
        if matches!(&outcome, Err(error) if has_no_partition(error)) {
            self.rotate(pool).await;
            outcome = self.write(pool, &keys, &exps_s).await;
        }
        match outcome {
            Ok(mut remembered) => {
                for pending in batch.drain(..) {
                    // Taken out, so that of two equal keys in one batch the second is a repeat.
                    let fresh = remembered.fresh.remove(pending.key.as_slice());
                    let _ = pending.answer.send(Ok(Found { fresh, since_s: remembered.since_s }));
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, tokens = batch.len(), "replay memory: a batch was not written");
                for pending in batch.drain(..) {
                    let _ = pending.answer.send(Err(ReplayUnavailable));
                }
            }
        }
    }

    async fn write(&self, pool: &PgPool, keys: &[Vec<u8>], exps_s: &[i64]) -> Result<store::Remembered, sqlx::Error> {
        let statement = store::remember(pool, keys, exps_s, self.clock.now_seconds());
        tokio::time::timeout(STATEMENT, statement).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }
}

/// Postgres: "no partition of relation found for row" is a check violation without a constraint.
fn has_no_partition(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.code().as_deref() == Some("23514") && error.constraint().is_none())
}

#[cfg(test)]
mod tests {
    use super::{ReplayMemory, ReplayUnavailable, Seen, Sighting};
    use crate::types::{Clock, Did};

    fn did(name: &str) -> Did {
        Did::parse(&format!("did:web:{name}.example")).unwrap()
    }

    fn seen<'a>(iss: &'a Did, jti: &'a str) -> Seen<'a> {
        Seen { iss, jti, iat_s: None, exp_s: 100 }
    }

    #[tokio::test]
    async fn a_jti_is_new_once_per_issuer() {
        let memory = ReplayMemory::in_process();
        let (alice, bob) = (did("alice"), did("bob"));
        assert_eq!(memory.remember(seen(&alice, "1")).await, Ok(Sighting::First));
        assert_eq!(memory.remember(seen(&alice, "1")).await, Ok(Sighting::Repeated));
        assert_eq!(memory.remember(seen(&alice, "2")).await, Ok(Sighting::First));
        assert_eq!(memory.remember(seen(&bob, "1")).await, Ok(Sighting::First));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_at_once_exactly_one_is_first() {
        let memory = ReplayMemory::in_process();
        for round in 0..20 {
            let tasks = (0..16).map(|_| {
                let memory = memory.clone();
                tokio::spawn(async move { memory.remember(seen(&did("alice"), &round.to_string())).await })
            });
            let found = futures_util::future::join_all(tasks).await;
            assert_eq!(found.into_iter().filter(|f| *f.as_ref().unwrap() == Ok(Sighting::First)).count(), 1);
        }
    }

    #[tokio::test]
    async fn without_its_writer_shared_memory_refuses_and_does_not_use_the_jti_up() {
        let (memory, batcher) = ReplayMemory::shared(Clock::System, 0);
        drop(batcher);
        for _ in 0..2 {
            assert_eq!(memory.remember(seen(&did("alice"), "1")).await, Err(ReplayUnavailable));
        }
    }

    #[test]
    fn only_what_is_proven_to_be_younger_than_the_loss_of_memory_is_taken() {
        let alice = did("alice");
        for (iat_s, exp_s, younger) in [
            (Some(1000), 1060, true),
            (Some(999), 1060, false),
            (None, 1060, false),
            (None, 1000 + 3630, false),
            (None, 1000 + 3631, true),
        ] {
            let seen = Seen { iss: &alice, jti: "1", iat_s, exp_s };
            assert_eq!(seen.is_younger_than(1000), younger, "{iat_s:?} {exp_s}");
            assert!(seen.is_younger_than(0));
        }
    }
}
