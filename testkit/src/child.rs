//! Servers as processes of their own, so that they can be killed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use crate::{Directory, Form, Identity, Person};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rookery::identity::Curve;
use rookery::types::Did;
use rookery_client::Service;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// The server's program: `ROOKERY_BIN`, or the one that cargo built beside this program.
pub fn server_program() -> PathBuf {
    if let Some(given) = std::env::var_os("ROOKERY_BIN") {
        return given.into();
    }
    let own = std::env::current_exe().unwrap();
    // Tests and benchmarks are built one folder below the programs.
    let program =
        own.ancestors().skip(1).take(2).map(|folder| folder.join("rookery")).find(|program| program.is_file());
    program.expect("cargo build --bin rookery comes first")
}

/// What the shell does to enter control groups. The server refuses settings that it does not know.
const ENTER: &str = r#"for file in $ROOKERY_TEST_GROUPS; do echo $$ >"$file" || exit 97; done
unset ROOKERY_TEST_GROUPS
exec "$@""#;
/// How long a client repeats while the server is away.
const PATIENCE: Duration = Duration::from_secs(30);
/// A restart recovers a killed Postgres within this time.
const READY: Duration = Duration::from_secs(30);

/// One server with a private Postgres.
pub struct ChildServer {
    directory: Directory,
    folder: tempfile::TempDir,
    process: Process,
    service: Arc<Service>,
}

impl ChildServer {
    pub async fn start() -> Self {
        let directory = Directory::start().await.unwrap();
        let folder = crate::open_folder();
        let process = Process::new(folder.path(), &directory.url(), None);
        let service = Arc::new(process.service(process.did()));
        let mut server = Self { directory, folder, process, service };
        server.restart().await;
        server
    }

    /// The first device of a new account, registered and with key packages.
    pub async fn person(&self, name: &str) -> Arc<Person> {
        person(name, &self.directory, &self.service).await
    }

    /// Kills it with -9, and its Postgres too, if asked for.
    pub async fn kill(&mut self, with_postgres: bool) {
        let postmaster = self.folder.path().join("postgres/postmaster.pid");
        let postgres = std::fs::read_to_string(postmaster).unwrap();
        self.process.kill().await;
        if with_postgres {
            kill_9(postgres.lines().next().unwrap().parse().unwrap());
        }
    }

    pub async fn restart(&mut self) {
        self.process.spawn();
        self.process.ready().await;
    }

    /// Another command beside it: what it said, and whether it went well.
    pub async fn command(&self, arguments: &[&str]) -> (String, bool) {
        command(self.folder.path(), None, arguments).await
    }

    /// Stops it as an operator would.
    pub async fn stop(mut self) {
        self.process.stop().await;
    }
}

/// Which build of the server a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Present,
    /// With the cargo feature `next-version`.
    Next,
}

impl Version {
    fn program(self) -> PathBuf {
        let present = server_program();
        match self {
            Self::Present => present,
            Self::Next => {
                let next = present.ancestors().nth(2).unwrap().join("next-version/rookery");
                assert!(next.exists(), "{} is missing: staging/next-version.sh builds it", next.display());
                next
            }
        }
    }
}

/// One server process, started as often as it is killed, always on the same port.
pub struct Process {
    port: u16,
    settings: Vec<(&'static str, String)>,
    program: PathBuf,
    /// Files of control groups, which take the process's id.
    groups: Vec<PathBuf>,
    /// Where the process writes its log, if not to this process's standard error.
    log: Option<PathBuf>,
    child: Option<Child>,
}

impl Process {
    /// Not started yet. Without a database it runs a private Postgres in `data_dir`.
    pub fn new(data_dir: &Path, plc_url: &str, database: Option<&str>) -> Self {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut settings = vec![
            ("SERVER_PORT", port.to_string()),
            ("DATA_DIR", data_dir.to_string_lossy().into_owned()),
            ("PLC_URL", plc_url.to_owned()),
        ];
        settings.extend(database.map(|url| ("DATABASE_URL", url.to_owned())));
        let program = Version::Present.program();
        Self { port, settings, program, groups: Vec::new(), log: None, child: None }
    }

    /// Another instance of the same server: the same settings, but for its port.
    pub fn beside(&self) -> Self {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut settings = self.settings.clone();
        settings.iter_mut().filter(|(name, _)| *name == "SERVER_PORT").for_each(|(_, value)| *value = port.to_string());
        let (program, groups, log) = (self.program.clone(), self.groups.clone(), self.log.clone());
        Self { port, settings, program, groups, log, child: None }
    }

    /// What the process runs from its next start on.
    pub fn becomes(&mut self, version: Version) {
        self.program = version.program();
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.settings.push((name, value.to_owned()));
        self
    }

    /// Of another program than [`server_program`].
    pub fn of_program(self, program: &Path) -> Self {
        Self { program: program.to_owned(), ..self }
    }

    /// In the control groups whose `cgroup.procs` these are.
    pub fn within(self, groups: Vec<PathBuf>) -> Self {
        Self { groups, ..self }
    }

    /// With its log in that file, which grows with each start.
    pub fn logging_to(self, file: &Path) -> Self {
        Self { log: Some(file.to_owned()), ..self }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// None before the process is started.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// As development names a server that is not told its name.
    pub fn did(&self) -> Did {
        Did::parse(&format!("did:web:localhost%3A{}", self.port)).unwrap()
    }

    /// Clients that bear with a server that is away.
    pub fn service(&self, did: Did) -> Service {
        Service::new(&self.url(), did).unwrap().with_patience(PATIENCE)
    }

    pub fn spawn(&mut self) {
        let mut command = if self.groups.is_empty() {
            Command::new(&self.program)
        } else {
            // The shell enters the groups and becomes the program, so that nothing of the program runs outside of them.
            let mut shell = Command::new("sh");
            shell.args(["-c", ENTER, "sh"]).arg(&self.program).env("ROOKERY_TEST_GROUPS", self.group_list());
            shell
        };
        command.arg("serve").env_remove("DATABASE_URL");
        // Settings of the tests: a server refuses names that it does not know.
        command.env_remove("ROOKERY_SEED").env_remove("ROOKERY_SOAK_ROUNDS");
        for (name, value) in [
            ("ROOKERY_ENV", "development"),
            ("SERVER_HOST", "127.0.0.1"),
            ("METRICS_PORT", "0"),
            ("INVITATIONS", "everyone"),
            ("RATE_REGISTRATION", "1000000/60"),
            ("RATE_REGISTRATIONS", "1000000/60"),
            ("RATE_YOUNG_ACCOUNTS", "1000000/60"),
            ("MAX_READS_IN_FLIGHT", "1000"),
            ("MAX_WRITES_IN_FLIGHT", "1000"),
            ("DATABASE_POOL", "8"),
            ("RUST_LOG", "error"),
        ] {
            command.env(name, value);
        }
        for (name, value) in &self.settings {
            command.env(name, value);
        }
        if let Some(file) = &self.log {
            command.stderr(std::fs::File::options().create(true).append(true).open(file).unwrap());
        }
        self.child = Some(command.stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap());
    }

    fn group_list(&self) -> String {
        self.groups.iter().map(|file| file.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    pub async fn ready(&self) {
        let client = rookery::identity::http::plain().unwrap();
        let url = format!("{}/health/ready", self.url());
        let until = Instant::now() + READY;
        loop {
            if client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(Instant::now() < until, "the server was not ready in {} s", READY.as_secs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// With -9.
    pub async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    /// It does nothing until it goes on.
    pub fn halt(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(Child::id).unwrap();
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// As an operator would.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        kill(Pid::from_raw(child.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
        let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Stops the process in order, or kills it after so long.
    pub async fn end(&mut self, within: Duration) -> std::io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(pid) = child.id() {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM)?;
        }
        match tokio::time::timeout(within, child.wait()).await {
            Ok(status) => status.map(drop),
            Err(_) => {
                child.kill().await?;
                Err(std::io::ErrorKind::TimedOut.into())
            }
        }
    }

    /// Waits until it ends by itself, and says whether it calls that a success.
    pub async fn ends(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        tokio::time::timeout(READY, child.wait()).await.expect("the server ends by itself").unwrap().success()
    }
}

pub fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// The first device of a new account, registered and with key packages.
pub async fn person(name: &str, directory: &Directory, service: &Arc<Service>) -> Arc<Person> {
    let account = Identity::plc(Curve::K256, Form::Older).unwrap();
    directory.add(&account);
    let person = Person::new(name, Arc::new(account), Arc::clone(service)).unwrap();
    person.register().await.unwrap();
    person.publish(5, true).await.unwrap();
    Arc::new(person)
}

/// Runs a command in the folder of a server; without a database, on the server's own.
pub async fn command(data_dir: &Path, database: Option<&str>, arguments: &[&str]) -> (String, bool) {
    command_with(data_dir, database, &[], arguments).await
}

/// The same with settings beside.
pub async fn command_with(
    data_dir: &Path,
    database: Option<&str>,
    settings: &[(&str, &str)],
    arguments: &[&str],
) -> (String, bool) {
    let mut command = Command::new(server_program());
    command.env_remove("ROOKERY_SEED").env_remove("ROOKERY_SOAK_ROUNDS");
    command.args(arguments).env_remove("DATABASE_URL").env("ROOKERY_ENV", "development").env("DATA_DIR", data_dir);
    command.envs(settings.iter().copied());
    if let Some(database) = database {
        command.env("DATABASE_URL", database);
    }
    let output = command.env("RUST_LOG", "error").output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.success())
}
