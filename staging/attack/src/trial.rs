//! One attack on one server.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::attacks::Attack;
use crate::enclosure::Enclosure;
use crate::honest::{Experience, Honest};
use crate::limits::Limits;
use crate::low_priority;
use crate::outcome::Outcome;
use crate::target::Target;

const MIB: u64 = 1024 * 1024;
/// Between two looks at the server's memory.
const LOOK: Duration = Duration::from_millis(100);
/// What an attack may take beyond its seconds: preparation, and waiting for what the attack must see.
const GRACE: Duration = Duration::from_mins(2);
/// What the honest client goes on for after the attack.
const AFTERWARDS: Duration = Duration::from_millis(500);

pub struct Trial {
    pub attack: &'static Attack,
    pub limits: Limits,
    pub seconds: u64,
    pub program: PathBuf,
}

impl Trial {
    /// Runs the attack. What breaks is in the outcome.
    pub async fn run(self) -> Outcome {
        let enclosure = Enclosure::make(self.limits.memory_mib * MIB);
        let mut outcome = Outcome {
            attack: self.attack.name,
            lasted: Duration::ZERO,
            enclosure: enclosure.name,
            peak_mib: 0,
            experience: Experience::default(),
            note: String::new(),
            ready_after: None,
            errors: Vec::new(),
            log: Vec::new(),
        };
        let peak = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        if let Err(error) = self.on_a_server(&enclosure, &peak, &mut outcome).await {
            outcome.errors.push(format!("{error:#}"));
        }
        outcome.lasted = began.elapsed();
        outcome.peak_mib = peak.load(Ordering::SeqCst);
        outcome
    }

    async fn on_a_server(
        &self,
        enclosure: &Enclosure,
        peak: &Arc<AtomicU64>,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let target = Target::start(&self.program, enclosure, self.attack, Duration::from_secs(self.seconds)).await?;
        let watcher = tokio::spawn(watch(Arc::clone(&target), self.limits.memory_mib, Arc::clone(peak)));
        let result = self.beside_an_honest_client(&target, outcome).await;
        watcher.abort();
        record(&target, peak);
        outcome.log = target.last_errors();
        // The server has not been stopped yet: an end by now is a failure.
        let ended = target.ended().await;
        let stopped = target.stop().await;
        if let Some(status) = ended {
            outcome.errors.push(format!("the server ended: {status}"));
        } else {
            stopped.context("stopping the server")?;
        }
        result
    }

    async fn beside_an_honest_client(&self, target: &Arc<Target>, outcome: &mut Outcome) -> anyhow::Result<()> {
        let honest = Honest::prepare(target).await.context("preparing the honest client")?;
        let tasks = honest.begin();
        let attackers = low_priority::runtime()?;
        let attack = attackers.spawn((self.attack.run)(Arc::clone(target)));
        let attacked = tokio::time::timeout(Duration::from_secs(self.seconds) + GRACE, attack).await;
        attackers.shutdown_background();
        match attacked {
            Err(_) => outcome.errors.push("the attack did not come to its end".to_owned()),
            Ok(Err(panic)) => outcome.errors.push(format!("the attack broke: {panic}")),
            Ok(Ok(Err(error))) => outcome.errors.push(format!("{error:#}")),
            Ok(Ok(Ok(note))) => outcome.note = note,
        }
        if let Some(outage) = &self.limits.outage {
            let back = target.database_came_back().await.unwrap_or_else(Instant::now);
            outcome.ready_after = honest.ready_after(back, outage.ready).await;
        }
        tokio::time::sleep(AFTERWARDS).await;
        outcome.experience = honest.end(tasks).await?;
        Ok(())
    }
}

/// Looks at the server's memory, and ends a server that exceeds its limit where no control group does.
async fn watch(target: Arc<Target>, limit_mib: u64, peak: Arc<AtomicU64>) {
    loop {
        if record(&target, &peak) > limit_mib {
            target.kill();
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The greatest resident set so far, in MiB, as the kernel counts it.
fn record(target: &Target, peak: &AtomicU64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", target.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    peak.fetch_max(kib.unwrap_or_default() / 1024, Ordering::SeqCst);
    peak.load(Ordering::SeqCst)
}
