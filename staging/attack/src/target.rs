//! The server under attack, with everything that an attacker needs to reach it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rookery::types::Did;
use rookery_client::Service;
use rookery_testkit::{Directory, Form, Identity, Person, PostgresProxy, Process, Stalling, TestDatabase, open_folder};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;

use crate::attacks::{Attack, Database};
use crate::enclosure::Enclosure;
use crate::wire::Reply;

/// How long a patient caller repeats a refused call: attackers prepare themselves while the server may be busy.
const PATIENCE: Duration = Duration::from_mins(1);
/// What an attacker waits for an answer.
const CALL: Duration = Duration::from_secs(20);

/// The server's log, in its folder.
const LOG: &str = "server.log";
/// Errors of the log that are shown.
const ERRORS: usize = 5;

/// How the server reaches its database.
pub enum Road {
    Direct,
    /// Connections that are open fall silent; new ones work.
    Silent(PostgresProxy),
    /// All connections stand still, or are slow.
    Stalling(Stalling),
}

pub struct Target {
    pub directory: Directory,
    pub road: Road,
    pub did: Did,
    pub address: SocketAddr,
    pub metrics: SocketAddr,
    /// How long the attack lasts once it is prepared.
    pub lasts: Duration,
    pid: u32,
    process: Mutex<Process>,
    /// HTTP clients by the loopback address that they call from.
    clients: Mutex<HashMap<u16, reqwest::Client>>,
    back: Mutex<Option<Instant>>,
    patient: Arc<Service>,
    _database: TestDatabase,
    folder: tempfile::TempDir,
}

impl Target {
    /// Starts a server of its own in the enclosure, and waits until it is ready.
    pub async fn start(
        program: &Path,
        enclosure: &Enclosure,
        attack: &Attack,
        lasts: Duration,
    ) -> anyhow::Result<Arc<Self>> {
        let directory = Directory::start().await.context("starting the directory")?;
        let folder = open_folder();
        let database = TestDatabase::own().await;
        let road = match attack.database {
            Database::Direct => Road::Direct,
            Database::Silent => Road::Silent(PostgresProxy::before(&database.url).await),
            Database::Stalling => Road::Stalling(Stalling::before(&database).await),
        };
        let url = match &road {
            Road::Direct => &database.url,
            Road::Silent(proxy) => &proxy.url,
            Road::Stalling(proxy) => &proxy.url,
        };
        let metrics = free_port().context("finding a free port")?;
        let mut process = Process::new(folder.path(), &directory.url(), Some(url))
            .of_program(program)
            .within(enclosure.members())
            .logging_to(&folder.path().join(LOG))
            .with("DATABASE_POOL", "16")
            // The defaults of the server: other processes of the testkit run without these bounds.
            .with("MAX_READS_IN_FLIGHT", "8")
            .with("MAX_WRITES_IN_FLIGHT", "4")
            .with("METRICS_PORT", &metrics.port().to_string());
        for (name, value) in attack.settings {
            process = process.with(name, value);
        }
        process.spawn();
        process.ready().await;
        let did = process.did();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, process.port()));
        let patient = Arc::new(Service::new(&process.url(), did.clone())?.with_patience(PATIENCE));
        let pid = process.pid().context("the server has no process")?;
        let (clients, back) = (Mutex::default(), Mutex::default());
        let process = Mutex::new(process);
        Ok(Arc::new(Self {
            directory,
            road,
            did,
            address,
            metrics,
            lasts,
            pid,
            process,
            clients,
            back,
            patient,
            _database: database,
            folder,
        }))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The last errors that the server logged.
    pub fn last_errors(&self) -> Vec<String> {
        let log = std::fs::read(self.folder.path().join(LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let errors: Vec<&str> =
            log.lines().filter(|line| line.contains("ERROR") || line.contains("panicked")).collect();
        let first = errors.len().saturating_sub(ERRORS);
        errors[first..].iter().map(|line| (*line).to_owned()).collect()
    }

    /// How the server ended, if it did.
    pub async fn ended(&self) -> Option<ExitStatus> {
        self.process.lock().await.ended()
    }

    /// Ends the server at once.
    pub fn kill(&self) {
        let _ended = kill(Pid::from_raw(self.pid.cast_signed()), Signal::SIGKILL);
    }

    /// Stops the server as an operator would; a server that does not stop in time is ended.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.process.lock().await.end(Duration::from_secs(30)).await.context("the server did not stop in order")
    }

    /// From now until the attack shall end.
    pub fn begins(&self) -> Instant {
        Instant::now() + self.lasts
    }

    /// The server's database works again from this moment on.
    pub async fn database_is_back(&self) {
        *self.back.lock().await = Some(Instant::now());
    }

    pub async fn database_came_back(&self) -> Option<Instant> {
        *self.back.lock().await
    }

    /// The server, called once for each call.
    pub fn impatient(&self) -> anyhow::Result<Arc<Service>> {
        Ok(Arc::new(Service::new(&self.url(), self.did.clone())?.with_patience(Duration::ZERO)))
    }

    /// A new account in the directory, without a device.
    pub fn account(&self) -> anyhow::Result<Arc<Identity>> {
        let account = Identity::plc(rookery::identity::Curve::K256, Form::Multikey)?;
        self.directory.add(&account);
        Ok(Arc::new(account))
    }

    /// The first device of a new account, registered, with a key package for everybody.
    pub async fn person(&self, name: &str) -> anyhow::Result<Arc<Person>> {
        let person = Person::new(name, self.account()?, Arc::clone(&self.patient))?;
        person.register().await?;
        person.publish(1, true).await?;
        Ok(Arc::new(person))
    }

    pub fn patient(&self) -> &Arc<Service> {
        &self.patient
    }

    /// A connection from the attackers' loopback address of that number.
    pub async fn connect(&self, from: u16) -> std::io::Result<TcpStream> {
        self.connect_with(from, None).await
    }

    /// A connection from that address, whose receive buffer has so many bytes.
    pub async fn connect_with(&self, from: u16, unread_bytes: Option<u32>) -> std::io::Result<TcpStream> {
        connect(self.address, from, unread_bytes).await
    }

    /// A POST with a body, or a GET; None where there was no answer.
    pub async fn call(
        &self,
        from: u16,
        nsid: &str,
        query: &str,
        token: Option<String>,
        body: Option<Vec<u8>>,
    ) -> Option<Reply> {
        let client = self.client(from).await?;
        let url = format!("{}/xrpc/{nsid}{query}", self.url());
        let mut request = match body {
            Some(body) => client.post(url).header("content-type", "application/json").body(body),
            None => client.get(url),
        };
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some(Reply { status, body: response.bytes().await.ok()?.to_vec() })
    }

    #[expect(clippy::disallowed_methods, reason = "attackers call from addresses of their own, which no owner offers")]
    async fn client(&self, from: u16) -> Option<reqwest::Client> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(&from) {
            return Some(client.clone());
        }
        let address = can_bind(attacker(from)).then(|| IpAddr::from(attacker(from)));
        let client = reqwest::Client::builder().local_address(address).no_proxy().timeout(CALL).build().ok()?;
        clients.insert(from, client.clone());
        Some(client)
    }
}

/// A loopback address for each number: no attacker calls from the honest client's.
fn attacker(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low.max(1))
}

/// Not every system has more than one loopback address.
fn can_bind(address: Ipv4Addr) -> bool {
    std::net::TcpListener::bind((address, 0)).is_ok()
}

pub async fn connect(to: SocketAddr, from: u16, unread_bytes: Option<u32>) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = unread_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    // Without a loopback address of its own the attacker shares the honest client's.
    drop(socket.bind(SocketAddr::from((attacker(from), 0))));
    socket.connect(to).await
}

fn free_port() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
