//! CPU time and memory of processes, as the operating system counts them.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::unistd::{SysconfVar, sysconf};

/// CPU time, user and system, of one process with all its threads.
pub fn of_process(pid: u32) -> anyhow::Result<Duration> {
    Ok(read(pid)?.own)
}

/// CPU time of a process and its children, the ended ones included: a postmaster and its backends.
pub fn of_family(pid: u32) -> anyhow::Result<Duration> {
    let parent = read(pid)?;
    let mut sum = parent.own + parent.ended_children;
    for entry in fs::read_dir("/proc").context("listing processes")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end between the listing and the reading.
        if let Ok(child) = read(child)
            && child.parent == pid
        {
            sum += child.own;
        }
    }
    Ok(sum)
}

/// Bytes of memory that the process holds in RAM.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process's memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process without memory")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

struct Times {
    parent: u32,
    own: Duration,
    ended_children: Duration,
}

/// Reads `/proc/<pid>/stat`; proc(5) numbers the fields: 4 is the parent, 14 to 17 are CPU times.
fn read(pid: u32) -> anyhow::Result<Times> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("reading a process's CPU time")?;
    // The second field is the program's name in parentheses, which may hold spaces.
    let (_, rest) = text.rsplit_once(") ").context("a line of /proc without a name")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let field = |number: usize| fields.get(number - 3).context("a short line of /proc");
    let ticks = |number| Ok::<u64, anyhow::Error>(field(number)?.parse()?);
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the system does not tell its clock tick")?;
    let of_ticks = |ticks: u64| Duration::from_secs(ticks) / u32::try_from(per_second).unwrap_or(100);
    Ok(Times {
        parent: field(4)?.parse()?,
        own: of_ticks(ticks(14)? + ticks(15)?),
        ended_children: of_ticks(ticks(16)? + ticks(17)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_as_cpu_time_of_the_process() {
        let pid = std::process::id();
        let before = of_process(pid).unwrap();
        let mut sum = 0_u64;
        while of_process(pid).unwrap() < before + Duration::from_millis(30) {
            sum = (0..1_000_000).fold(sum, |sum, number| std::hint::black_box(sum ^ number));
        }
        let own = of_process(pid).unwrap();
        assert!(of_family(pid).unwrap() >= own);
    }
}
