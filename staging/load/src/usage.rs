//! CPU time and memory of processes, as the operating system counts them.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
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

/// How many established connections of this local port have bytes that their peers did not take, and how many bytes.
pub fn unsent(port: u16) -> anyhow::Result<(usize, u64)> {
    let table = fs::read_to_string("/proc/net/tcp").context("reading the connections")?;
    Ok(unsent_in(&table, port))
}

/// proc(5): the second column is the local address, the fourth the state (01: established), the fifth the two queues.
fn unsent_in(table: &str, port: u16) -> (usize, u64) {
    let local = format!(":{port:04X}");
    let queued = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (address, _, state, queues) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
        let (sending, _) = queues.split_once(':')?;
        let bytes = u64::from_str_radix(sending, 16).ok()?;
        (address.ends_with(&local) && state == "01" && bytes > 0).then_some(bytes)
    });
    queued.fold((0, 0), |(sockets, sum), bytes| (sockets + 1, sum + bytes))
}

/// Raises this process's limit of open files to the most that it may have, for the server's process too; the limit.
pub fn raise_open_files() -> anyhow::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raising the limit of open files")?;
    Ok(most)
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
    fn connections_with_unsent_bytes_are_counted_by_local_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
            0: 0100007F:0BB8 0100017F:A001 01 00000010:00000000 00:00000000 00000000 0\n\
            1: 0100007F:0BB8 0100017F:A002 01 00000000:00000400 00:00000000 00000000 0\n\
            2: 0100007F:0BB8 0100017F:A003 04 00000100:00000000 00:00000000 00000000 0\n\
            3: 0100017F:A001 0100007F:0BB8 01 00000007:00000000 00:00000000 00000000 0\n";
        assert_eq!(unsent_in(table, 3000), (1, 16));
    }

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
