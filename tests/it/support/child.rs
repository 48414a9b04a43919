//! A server as a process of its own, on a private Postgres, so that it can be killed.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rookery::cli::demo::{Directory, Form, Identity, Person, Service};
use rookery::identity::Curve;
use rookery::types::Did;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// How long a client repeats while the server is away.
const PATIENCE: Duration = Duration::from_secs(30);
/// A restart recovers a killed Postgres within this time.
const READY: Duration = Duration::from_secs(30);

pub struct ChildServer {
    directory: Directory,
    folder: tempfile::TempDir,
    port: u16,
    service: Arc<Service>,
    child: Child,
}

impl ChildServer {
    pub async fn start() -> Self {
        let directory = Directory::start().await.unwrap();
        let folder = super::open_folder();
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let did = Did::parse(&format!("did:web:localhost%3A{port}")).unwrap();
        let service = Service::new(&format!("http://127.0.0.1:{port}"), did).unwrap().with_patience(PATIENCE);
        let child = spawn(folder.path(), port, &directory.url());
        let server = Self { directory, folder, port, service: Arc::new(service), child };
        server.ready().await;
        server
    }

    /// The first device of a new account, registered and with key packages.
    pub async fn person(&self, name: &str) -> Arc<Person> {
        let account = Identity::plc(Curve::K256, Form::Older).unwrap();
        self.directory.add(&account);
        let person = Person::new(name, Arc::new(account), Arc::clone(&self.service)).unwrap();
        person.register().await.unwrap();
        person.publish(5, true).await.unwrap();
        Arc::new(person)
    }

    /// Kills it with -9, and its Postgres too, if asked for.
    pub async fn kill(&mut self, with_postgres: bool) {
        let postmaster = self.folder.path().join("postgres/postmaster.pid");
        let postgres = std::fs::read_to_string(postmaster).unwrap();
        self.child.kill().await.unwrap();
        if with_postgres {
            let pid = postgres.lines().next().unwrap().parse().unwrap();
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }

    pub async fn restart(&mut self) {
        self.child = spawn(self.folder.path(), self.port, &self.directory.url());
        self.ready().await;
    }

    async fn ready(&self) {
        let client = rookery::identity::http::plain().unwrap();
        let url = format!("http://127.0.0.1:{}/health/ready", self.port);
        let until = Instant::now() + READY;
        loop {
            if client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(Instant::now() < until, "the server was not ready in {} s", READY.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Another command beside it: what it said, and whether it went well.
    pub async fn command(&self, arguments: &[&str]) -> (String, bool) {
        command(self.folder.path(), None, arguments).await
    }

    /// Stops it as an operator would.
    pub async fn stop(mut self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
    }
}

fn spawn(data_dir: &Path, port: u16, plc_url: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_rookery"))
        .arg("serve")
        .env_remove("DATABASE_URL")
        .env("ROOKERY_ENV", "development")
        .env("SERVER_HOST", "127.0.0.1")
        .env("SERVER_PORT", port.to_string())
        .env("METRICS_PORT", "0")
        .env("DATA_DIR", data_dir)
        .env("PLC_URL", plc_url)
        .env("RUST_LOG", "warn")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Runs a command in the folder of a server; without a database, on the server's own.
pub async fn command(data_dir: &Path, database: Option<&str>, arguments: &[&str]) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
    command.args(arguments).env_remove("DATABASE_URL").env("ROOKERY_ENV", "development").env("DATA_DIR", data_dir);
    if let Some(database) = database {
        command.env("DATABASE_URL", database);
    }
    let output = command.env("RUST_LOG", "error").output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.success())
}
