//! Where the attacked server runs: in a control group with its memory and its CPUs, if this process may make one.
//!
//! Invariant: dropping an enclosure removes its groups; the server must have ended by then.

use std::io;
use std::path::{Path, PathBuf};

/// The period of the CPU quota, in microseconds.
const PERIOD_US: u64 = 100_000;
pub const CPUS: u64 = 2;

/// The groups of one server.
pub struct Enclosure {
    groups: Vec<PathBuf>,
    /// What the table says: how memory and CPUs are bounded.
    pub name: &'static str,
}

impl Enclosure {
    /// A control group of version 2 or 1; without the right to make one, an enclosure that bounds nothing: the trial's
    /// watcher then ends a server that exceeds its memory.
    pub fn make(memory_bytes: u64) -> Self {
        let own = format!("rookery-attack-{}-{}", std::process::id(), hex::encode(rand::random::<[u8; 4]>()));
        version_2(&own, memory_bytes)
            .map(|groups| Self { groups, name: "cgroup v2" })
            .or_else(|_| version_1(&own, memory_bytes).map(|groups| Self { groups, name: "cgroup v1" }))
            .unwrap_or(Self { groups: Vec::new(), name: "watcher" })
    }

    /// The files that take the ids of the enclosure's processes.
    pub fn members(&self) -> Vec<PathBuf> {
        self.groups.iter().map(|group| group.join("cgroup.procs")).collect()
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        for group in &self.groups {
            // The kernel keeps a group busy for a moment after its last process ended.
            let _removed = (0..50).any(|_| {
                std::fs::remove_dir(group).is_ok() || {
                    std::thread::park_timeout(std::time::Duration::from_millis(20));
                    false
                }
            });
        }
    }
}

fn version_2(own: &str, memory_bytes: u64) -> io::Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    let offered = std::fs::read_to_string(root.join("cgroup.subtree_control"))?;
    if !["cpu", "memory"].iter().all(|name| offered.split_whitespace().any(|offer| offer == *name)) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let quota = format!("{} {PERIOD_US}", CPUS * PERIOD_US);
    made(
        &root.join(own),
        &[("memory.max", memory_bytes.to_string()), ("memory.swap.max", "0".to_owned()), ("cpu.max", quota)],
    )
    .map(|group| vec![group])
}

fn version_1(own: &str, memory_bytes: u64) -> io::Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    let memory = made(&root.join("memory").join(own), &[("memory.limit_in_bytes", memory_bytes.to_string())])?;
    let quota = (CPUS * PERIOD_US).to_string();
    let cpu =
        made(&root.join("cpu").join(own), &[("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota)]);
    match cpu {
        Ok(cpu) => Ok(vec![memory, cpu]),
        Err(error) => {
            drop(std::fs::remove_dir(memory));
            Err(error)
        }
    }
}

/// Makes a group with these values, and removes the group if the kernel refuses a value. A kernel that does not account
/// swap has no `memory.swap.max`.
fn made(group: &Path, values: &[(&str, String)]) -> io::Result<PathBuf> {
    std::fs::create_dir(group)?;
    for (name, value) in values {
        let file = group.join(name);
        if *name == "memory.swap.max" && !file.exists() {
            continue;
        }
        if let Err(error) = std::fs::write(file, value) {
            drop(std::fs::remove_dir(group));
            return Err(error);
        }
    }
    Ok(group.to_owned())
}
