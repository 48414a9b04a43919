//! How accounts join conversations, on one server and across servers: consent, claims, invitations, deliveries.
//!
//! Invariants: no stranger brings an account into a conversation without the account's consent, or its policy's; no
//! answer reveals whom a person blocked, refused or ignored; a server accepts an invitation only from the stream's
//! home, and only for key packages that were claimed for that stream and home.

pub mod claims;
pub mod consent;
pub mod delivered;
pub mod delivery;
pub mod invitation;
mod joiner;
pub mod leaving;
pub mod moves;
pub mod offer;
pub mod relationship;
pub mod seating;
mod sweeping;
pub mod whereabouts;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use super::Federation;
use super::replica::Replicas;
use crate::config::Invitations;
use crate::log::Log;
use crate::worker::{Wake, WorkerKind, Workers};
use seating::Seating;

/// Without a wake-up (another replica wrote) what is due is looked for this often.
const POLL: Duration = Duration::from_secs(1);
/// Bounds of the pause after the first failed attempt and after all later ones; doubled in between, all of it left to
/// chance.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(10));
/// A worker that holds a row for longer has died.
const LEASE: chrono::TimeDelta = chrono::TimeDelta::seconds(60);
/// Claims are good for so long.
const CLAIM_LIFETIME: chrono::TimeDelta = chrono::TimeDelta::hours(24);
/// Rows that are worked on at one time.
const AT_ONCE: i64 = 16;

/// The workers of this server that tell others what is for their accounts, and follow what ours took. Cheap to clone.
#[derive(Clone)]
pub struct Joining {
    inner: Arc<Inner>,
}

struct Inner {
    log: Log,
    federation: Arc<Federation>,
    replicas: Replicas,
    deliver: Wake,
    join: Wake,
}

impl Joining {
    /// Starts the workers, of which some run only if this server federates. They end with `stop`.
    pub fn start(
        log: Log,
        federation: Arc<Federation>,
        replicas: Replicas,
        unsaid: Invitations,
        workers: &Workers,
    ) -> Self {
        log.ask(Seating { unsaid });
        let (deliver, join) = (workers.wakes().add(), workers.wakes().add());
        let joining = Self { inner: Arc::new(Inner { log, federation, replicas, deliver, join }) };
        let stop = workers.stop();
        workers.spawn(WorkerKind::DeliverySweep, sweeping::run(joining.clone(), stop.clone()));
        if joining.inner.federation.is_on() {
            workers.spawn(WorkerKind::Delivery, delivery::run(joining.clone(), stop.clone()));
            workers.spawn(WorkerKind::RepeatedDelivery, delivery::repeat(joining.clone(), stop.clone()));
            workers.spawn(WorkerKind::Joining, joiner::run(joining.clone(), stop.clone()));
        }
        joining
    }

    /// Wakes the worker after queued rows were committed.
    pub fn wake(&self) {
        self.inner.deliver.notify_one();
        self.inner.join.notify_one();
    }

    fn log(&self) -> &Log {
        &self.inner.log
    }
}

/// The time until the next attempt, after `attempts` failed ones.
fn pause(attempts: i16) -> chrono::TimeDelta {
    let doublings = u32::try_from(attempts).unwrap_or_default().min(16);
    let bound = (PAUSES.0 * 2_u32.pow(doublings)).min(PAUSES.1);
    chrono::TimeDelta::from_std(bound.mul_f64(rand::rng().random_range(0.0..1.0))).unwrap_or(chrono::TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::{PAUSES, pause};

    #[test]
    fn pauses_grow_to_ten_minutes_and_are_left_to_chance() {
        for (attempts, most) in [(0, PAUSES.0), (3, PAUSES.0 * 8), (i16::MAX, PAUSES.1)] {
            let drawn: Vec<_> = (0..200).map(|_| pause(attempts).to_std().unwrap()).collect();
            assert!(drawn.iter().all(|pause| *pause <= most));
            assert!(drawn.iter().any(|pause| *pause > most / 2) && drawn.iter().any(|pause| *pause < most / 2));
        }
    }
}
