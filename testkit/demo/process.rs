//! A server as the demo runs it: a child process with a folder of its own.
//!
//! Invariant: whatever happens to the child, [`Process::end`] leaves nothing running, its Postgres included.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::way::Way;
use rookery::config::SETTINGS;
use rookery::identity::http::{PlainClient, plain};

/// How long a start may take: `initdb` and a recovery included.
const READY: Duration = Duration::from_mins(1);
/// How long a stop in good order may take.
const STOP: Duration = Duration::from_secs(25);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of the server's log that are shown when it failed.
const TAIL_LINES: usize = 15;

/// A server that can be started, killed, started again and ended.
pub(crate) struct Process {
    /// What the story calls it.
    pub name: &'static str,
    /// How other servers reach it.
    pub way: Way,
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    plc_url: String,
    /// Servers on no probation, separated by commas.
    allowed: String,
    http: PlainClient,
    child: Option<Child>,
    /// It was killed, or could not be stopped: its Postgres may still run.
    left_postgres: bool,
}

impl Process {
    /// Nothing runs yet. Others may pass through `parent`, which is there; its own folder will be in it.
    pub fn new(name: &'static str, program: &Path, parent: &Path, plc_url: String) -> anyhow::Result<Self> {
        let free = TcpListener::bind(("127.0.0.1", 0)).context("finding a free port")?;
        let port = free.local_addr()?.port();
        let folder = parent.join(name);
        crate::make_folder(&folder)?;
        Ok(Self {
            name,
            way: Way::to(port)?,
            program: program.to_owned(),
            folder,
            port,
            plc_url,
            allowed: String::new(),
            http: plain()?,
            child: None,
            left_postgres: false,
        })
    }

    /// These servers have the usual quotas from the first moment.
    pub fn allow(&mut self, servers: &[String]) {
        self.allowed = servers.join(",");
    }

    /// Where its own people call it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Starts it and waits until it is ready. How long that took.
    pub async fn start(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.child = Some(self.spawn()?);
        while began.elapsed() < READY {
            if let Some(status) = self.ended()? {
                bail!("the server ended instead of starting ({status}); its last words:\n{}", self.tail());
            }
            let answer = self.http.get(format!("{}/health/ready", self.url())).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(began.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("the server was not ready within {} s; its last words:\n{}", READY.as_secs(), self.tail())
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).context("opening its log")?;
        let mut command = Command::new(&self.program);
        // What somebody set for their own server is not meant for this one, except where Postgres is.
        for setting in SETTINGS.iter().filter(|setting| setting.name != "PG_BIN") {
            command.env_remove(setting.name);
        }
        command
            .arg("serve")
            .env("ROOKERY_ENV", "development")
            .env("DATA_DIR", self.data_dir())
            .env("SERVER_HOST", "127.0.0.1")
            .env("SERVER_PORT", self.port.to_string())
            .env("SERVICE_DID", self.way.did())
            .env("PUBLIC_URL", self.way.origin())
            .env("FEDERATION", "open")
            .env("RATE_PEER", "5000/1")
            .env("FEDERATION_ALLOW", &self.allowed)
            .env("ROLLBACK_GUARD", self.folder.join("watermark"))
            .env("METRICS_PORT", "0")
            .env("INVITATIONS", "everyone")
            .env("PLC_URL", &self.plc_url)
            .env("SHUTDOWN_GRACE_MS", "3000")
            .env("RUST_LOG", "warn,rookery=info")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the demo, which then ends the server itself.
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().context("starting the server")
    }

    fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// `kill -9`: no last word, no flush, and its Postgres is left behind.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { bail!("the server does not run") };
        self.left_postgres = true;
        child.kill().await.context("killing the server")
    }

    /// SIGTERM, and whether all ended in good order. What did not is ended all the same.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        let mut stopped = match self.child.take() {
            Some(child) => self.stop(child).await,
            None => Ok(()),
        };
        if self.left_postgres {
            stopped = stopped.and(self.sweep().await);
        }
        stopped?;
        let lock = self.data_dir().join("postgres/postmaster.pid");
        if lock.exists() {
            bail!("the server ended, but its Postgres may still run: {} is there", lock.display());
        }
        Ok(())
    }

    /// A copy of its database, stopped meanwhile.
    pub async fn back_up(&mut self) -> anyhow::Result<PathBuf> {
        self.end().await?;
        let backup = self.folder.join("backup");
        copy(&self.data_dir().join("postgres"), &backup).await?;
        self.start().await?;
        Ok(backup)
    }

    /// Stops it, puts the backup in the place of its database, and starts it.
    pub async fn restore(&mut self, backup: &Path) -> anyhow::Result<Duration> {
        self.end().await?;
        let data = self.data_dir().join("postgres");
        tokio::fs::remove_dir_all(&data).await.context("removing its database")?;
        copy(backup, &data).await?;
        self.start().await
    }

    async fn stop(&mut self, mut child: Child) -> anyhow::Result<()> {
        if let Some(pid) = child.id() {
            // An error says that it has ended already, which `wait` then tells.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
        }
        match tokio::time::timeout(STOP, child.wait()).await {
            Ok(status) => {
                let status = status?;
                if !status.success() {
                    bail!("the server did not stop in good order ({status}); its last words:\n{}", self.tail());
                }
                // Whatever an earlier kill left, this start of the server took over and ended.
                self.left_postgres = false;
                Ok(())
            }
            Err(_) => {
                self.left_postgres = true;
                child.kill().await?;
                bail!("the server did not stop within {} s; its last words:\n{}", STOP.as_secs(), self.tail())
            }
        }
    }

    /// Ends a Postgres that a killed server left, as only the next server on that folder can: by starting one.
    async fn sweep(&mut self) -> anyhow::Result<()> {
        let started = self.start().await;
        let Some(child) = self.child.take() else { return started.map(drop) };
        let stopped = self.stop(child).await;
        started.and(stopped)
    }

    /// The last lines that the server logged.
    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Lines of the server's log that say ERROR: none should.
    pub fn errors(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect()
    }
}

/// With owners and modes: as root, Postgres runs as somebody else.
async fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().await.context("running cp")?;
    if !copied.success() {
        bail!("cp -a {} {}: {copied}", from.display(), to.display());
    }
    Ok(())
}
