//! The outcome of one attack, and the limits that the attack broke.

use std::time::Duration;

use crate::honest::Experience;
use crate::limits::Limits;

pub struct Outcome {
    pub attack: &'static str,
    pub lasted: Duration,
    pub enclosure: &'static str,
    pub peak_mib: u64,
    pub experience: Experience,
    /// What the attackers did and were told.
    pub note: String,
    /// How long after the database's return the server was ready; None where it was not, or where no database went away.
    pub ready_after: Option<Duration>,
    /// Failures beside the limits.
    pub errors: Vec<String>,
    /// The last errors of the server's log.
    pub log: Vec<String>,
}

/// Answers that an honest call may get while the database is away.
const MAY_BE: &[&str] = &["503", "504"];

impl Outcome {
    pub fn head() -> String {
        format!(
            "{:<20} {:>5} {:<10} {:>14} {:>8} {:>15} {:>15}  {}",
            "attack", "s", "bounded by", "peak/limit MiB", "p50 ms", "p99/limit ms", "unready/limit", "what happened"
        )
    }

    pub fn row(&self, limits: &Limits) -> String {
        let ms = |time: Duration| {
            if time >= Duration::from_mins(1) { "failed".to_owned() } else { time.as_millis().to_string() }
        };
        let (p99, unready) = match &limits.outage {
            None => (
                format!("{}/{}", ms(self.experience.percentile(99)), limits.p99.as_millis()),
                format!("{}/{}", self.experience.longest_unready.as_millis(), limits.unready.as_millis()),
            ),
            Some(outage) => (
                format!("{}/{}", self.experience.slowest.as_millis(), outage.refused.as_millis()),
                format!(
                    "{}/{}",
                    self.ready_after.map_or("never".to_owned(), |after| after.as_millis().to_string()),
                    outage.ready.as_millis()
                ),
            ),
        };
        let verdict = if self.broken(limits).is_empty() { "" } else { " BROKEN" };
        format!(
            "{:<20} {:>5} {:<10} {:>14} {:>8} {:>15} {:>15}  {}{verdict}",
            self.attack,
            self.lasted.as_secs(),
            self.enclosure,
            format!("{}/{}", self.peak_mib, limits.memory_mib),
            ms(self.experience.percentile(50)),
            p99,
            unready,
            self.note,
        )
    }

    /// Every limit that did not hold.
    pub fn broken(&self, limits: &Limits) -> Vec<String> {
        let mut broken = self.errors.clone();
        if self.peak_mib > limits.memory_mib {
            broken.push(format!("the server used {} MiB of {}", self.peak_mib, limits.memory_mib));
        }
        if self.experience.calls() == 0 {
            broken.push("the honest client made no call".to_owned());
            return broken;
        }
        let failures = &self.experience.failures;
        match &limits.outage {
            None => {
                let p99 = self.experience.percentile(99);
                if p99 > limits.p99 {
                    broken.push(format!(
                        "the honest client's p99 is {p99:?}, of {:?}; failures: {failures:?}",
                        limits.p99
                    ));
                }
                if self.experience.longest_unready > limits.unready {
                    broken
                        .push(format!("not ready for {:?}, of {:?}", self.experience.longest_unready, limits.unready));
                }
            }
            Some(outage) => {
                if self.experience.slowest > outage.refused {
                    broken.push(format!("an honest call took {:?}, of {:?}", self.experience.slowest, outage.refused));
                }
                let other: Vec<_> =
                    failures.keys().filter(|name| !MAY_BE.iter().any(|status| name.starts_with(status))).collect();
                if !other.is_empty() {
                    broken.push(format!("honest calls failed by {other:?}"));
                }
                if self.ready_after.is_none() {
                    broken.push(format!("not ready within {:?} of the database's return", outage.ready));
                }
            }
        }
        broken
    }
}
