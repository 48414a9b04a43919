//! What attackers run on: threads of the lowest priority, so that the machine's cores belong to the server and to the honest
//! client first.

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

/// The lowest priority that Unix knows.
const NICE: i32 = 19;
const THREADS: usize = 2;

/// A runtime for attackers. Linux sets the priority of the calling thread alone; elsewhere the whole process gets the
/// priority, the honest client included, whose latency is then measured too high rather than too low.
pub fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(THREADS).enable_all().thread_name("attacker").on_thread_start(|| {
        // A thread that keeps its priority makes the attack harder.
        let _lower = rustix::process::setpriority_process(None, NICE);
    });
    builder.build().context("starting the attackers' threads")
}

/// Raises the number of files that this process may open to its hard limit.
pub fn raise_open_files() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")
}

/// How many files this process may open.
pub fn open_files() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft);
    usize::try_from(soft).unwrap_or(usize::MAX)
}
