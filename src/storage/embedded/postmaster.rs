use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};

use super::folder::{Folder, io};
use super::{EmbeddedError, Options};

/// How long a fast shutdown may take (it writes a checkpoint) before an immediate one follows.
const FAST: Duration = Duration::from_secs(30);
/// How long an immediate shutdown may take before the process is killed.
const IMMEDIATE: Duration = Duration::from_secs(10);
/// Pause between two checks of a process that must end.
const LOOK: Duration = Duration::from_millis(10);
/// Recovery after a crash replays at most what one checkpoint interval wrote; this is far beyond it.
const READY: Duration = Duration::from_mins(10);
/// How much of a failed start's log goes into its error, in bytes.
const TAIL_BYTES: usize = 600;

/// The running Postgres, and the bytes of its log that are from this run.
pub(super) struct Postmaster {
    child: Child,
    log: PathBuf,
    log_begin: u64,
}

impl Postmaster {
    pub fn spawn(folder: &Folder, options: &Options) -> Result<Self, EmbeddedError> {
        let (log, log_begin) = folder.open_log()?;
        let program = folder.programs.dir.join("postgres");
        let mut command = folder.owner.command(&program);
        command.current_dir(&folder.data).arg("-D").arg(&folder.data);
        for (name, value) in settings(folder, options) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let errors = log.try_clone().map_err(io("write", &folder.log))?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().map_err(io("run", &program))?;
        Ok(Self { child, log: folder.log.clone(), log_begin })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it answers, through a recovery if need be.
    pub async fn ready(&mut self, url: &str) -> Result<(), EmbeddedError> {
        let until = Instant::now() + READY;
        while Instant::now() < until {
            if let Some(status) = self.ended() {
                return Err(EmbeddedError::Ended {
                    status: status.to_string(),
                    tail: self.tail(),
                    log: self.log.clone(),
                });
            }
            if let Ok(connection) = PgConnection::connect(url).await {
                // It answered; how the goodbye went says nothing more.
                let _ = connection.close().await;
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(EmbeddedError::Slow { seconds: READY.as_secs(), log: self.log.clone() })
    }

    /// Fast, then immediate, then killed. Nothing acknowledged is lost by any of them.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        for (signal, patience) in [(Signal::SIGINT, FAST), (Signal::SIGQUIT, IMMEDIATE)] {
            let until = Instant::now() + patience;
            self.signal(signal);
            while Instant::now() < until {
                match self.ended() {
                    Some(status) if status.success() => return Ok(()),
                    Some(status) => return Err(self.unclean(&status.to_string())),
                    None => tokio::time::sleep(LOOK).await,
                }
            }
        }
        self.kill();
        Err(self.unclean("killed, since it did not stop"))
    }

    fn unclean(&self, status: &str) -> EmbeddedError {
        EmbeddedError::Unclean { status: status.to_owned(), tail: self.tail() }
    }

    fn signal(&mut self, signal: Signal) {
        // Ended and reaped: another process may have the number by now.
        if self.ended().is_none() {
            send(self.pid().cast_signed(), signal);
        }
    }

    fn kill(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The end of what this run logged.
    pub fn tail(&self) -> String {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_begin))?;
            file.read_to_end(&mut bytes)
        });
        if read.is_err() {
            return "its log cannot be read".to_owned();
        }
        let tail = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        String::from_utf8_lossy(tail).trim().replace('\n', " / ")
    }
}

impl Drop for Postmaster {
    /// A drop cannot wait long: immediate, then killed. The next start recovers.
    #[expect(clippy::disallowed_methods, reason = "a drop cannot await, and an immediate shutdown takes milliseconds")]
    fn drop(&mut self) {
        let until = Instant::now() + IMMEDIATE;
        self.signal(Signal::SIGQUIT);
        while self.ended().is_none() {
            if Instant::now() >= until {
                return self.kill();
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Required settings, on the command line, where neither postgresql.conf nor ALTER SYSTEM can override them.
fn settings(folder: &Folder, options: &Options) -> Vec<(&'static str, String)> {
    let durable = if options.durable { "on" } else { "off" };
    let socket = folder.socket.display().to_string().replace('"', "\"\"");
    let mut settings = vec![
        ("listen_addresses", String::new()),
        ("port", "5432".to_owned()),
        ("unix_socket_directories", format!("\"{socket}\"")),
        ("unix_socket_permissions", "0700".to_owned()),
        ("max_connections", options.max_connections.to_string()),
        ("fsync", durable.to_owned()),
        ("full_page_writes", durable.to_owned()),
        // Without fsync it is cheap, and what was committed outlives a kill of Postgres.
        ("synchronous_commit", "on".to_owned()),
        // A prepared transaction would hold back every reader of the log until an operator ends it.
        ("max_prepared_transactions", "0".to_owned()),
        ("idle_in_transaction_session_timeout", "30s".to_owned()),
        ("statement_timeout", "60s".to_owned()),
        ("lock_timeout", "10s".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
        // Errors of statements quote values, and values name people. The server logs its own errors, hashed.
        ("log_min_messages", "log".to_owned()),
        ("log_min_error_statement", "panic".to_owned()),
        ("log_error_verbosity", "terse".to_owned()),
    ];
    if !options.durable {
        settings.push(("shared_buffers", "32MB".to_owned()));
    }
    settings
}

/// Ends what an earlier server left running on this data because it was killed, and clears away the lock files of a
/// process whose number now belongs to another process (as happens at every restart of a container).
///
/// The caller holds the folder's lock, so no living server uses this Postgres.
pub(super) async fn end_orphan(folder: &Folder) -> Result<(), EmbeddedError> {
    let lock_file = folder.data.join("postmaster.pid");
    let Some(pid) = first_line(&lock_file) else { return Ok(()) };
    if !runs_on(pid, &folder.data) {
        if pid_exists(pid) {
            // Postgres would take any process of that number for a living postmaster. It guards the data by its
            // shared memory as well, so removing the file cannot let two of them in.
            for stale in [lock_file, folder.socket.join(".s.PGSQL.5432.lock")] {
                let _ = std::fs::remove_file(stale);
            }
        }
        return Ok(());
    }
    tracing::warn!(pid, "ending the Postgres of a server that was killed");
    for (signal, patience) in [(Signal::SIGINT, FAST), (Signal::SIGQUIT, IMMEDIATE), (Signal::SIGKILL, IMMEDIATE)] {
        let until = Instant::now() + patience;
        send(pid, signal);
        while Instant::now() < until {
            if !runs_on(pid, &folder.data) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Err(EmbeddedError::Stubborn { pid, dir: folder.data.clone() })
}

fn first_line(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.lines().next()?.trim().parse().ok().filter(|pid| *pid > 1)
}

fn pid_exists(pid: i32) -> bool {
    !matches!(kill(Pid::from_raw(pid), None), Err(nix::errno::Errno::ESRCH))
}

/// Whether that process is a living Postgres on that data: a postmaster's working folder is its data.
fn runs_on(pid: i32, data: &Path) -> bool {
    if Path::new("/proc/self").exists() {
        // A zombie has no working folder any more.
        return std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data);
    }
    let Ok(output) = Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output() else { return false };
    String::from_utf8_lossy(&output.stdout).contains(&format!("-D {}", data.display()))
}

fn send(pid: i32, signal: Signal) {
    if let Err(error) = kill(Pid::from_raw(pid), signal) {
        tracing::debug!(pid, %error, "a signal to Postgres was not delivered");
    }
}
