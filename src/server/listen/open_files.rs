//! The limit on open files of the process: each connection is an open file.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Open files besides clients' connections: logs, keys, connections to Postgres beyond its pool, to Redis, to other
/// servers.
const OTHER_FILES: usize = 128;
/// The fewest connections that a server offers: one with less room is misconfigured, and logs that.
const LEAST_CONNECTIONS: usize = 64;

/// Raises the soft limit to the hard limit, and answers how many files may be open.
pub(in crate::server) fn raise_open_files() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    if raised {
        tracing::debug!(soft, hard, "raised the limit of open files");
    }
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

/// The wanted number of connections, or the number that the limit of open files leaves room for.
pub(in crate::server) fn connections_within(open_files: usize, database_pool: usize, wanted: usize) -> usize {
    let room = open_files.saturating_sub(database_pool + OTHER_FILES).max(LEAST_CONNECTIONS);
    if room < wanted {
        tracing::warn!(
            open_files,
            connections = room,
            "fewer connections than MAX_CONNECTIONS: raise the hard limit of open files (LimitNOFILE, ulimit -Hn)"
        );
    }
    wanted.min(room)
}

#[cfg(test)]
mod tests {
    use super::connections_within;

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(connections_within(1_048_576, 16, 10_000), 10_000);
        assert_eq!(connections_within(1024, 16, 10_000), 880);
        assert_eq!(connections_within(256, 16, 10_000), 112);
        assert_eq!(connections_within(20, 16, 10_000), 64);
    }
}
