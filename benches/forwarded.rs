//! What a message costs whose conversation another server orders, beside one that is ordered here: two servers of this
//! process, each with a database of its own, and one conversation. `make bench` prints the ratio of the medians.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up ends")]
#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::config::Config;
use rookery::identity::Curve;
use rookery::lexicon::mls::send_message::{Input, SendMessage};
use rookery::server::Server;
use rookery::storage::embedded::{Cluster, Options};
use rookery::types::{Bytes, Clock, Did};
use rookery_client::Service;
use rookery_testkit::{Directory, Form, Identity, Person};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Messages of each kind, in turns, so that whatever else the machine does falls on both.
const MESSAGES: usize = 300;
/// Between two of a kind: a peer may call 50 times a second.
const PAUSE: Duration = Duration::from_millis(25);
/// A forwarded send costs at most so many local ones.
const AIM: f64 = 4.0;

/// A server, and what others call it.
struct Running {
    server: Server,
    origin: String,
    did: Did,
}

impl Running {
    fn service(&self) -> Arc<Service> {
        Arc::new(Service::new(&format!("http://{}", self.server.address()), self.did.clone()).unwrap())
    }

    /// The first device of a new account that lives here.
    async fn person(&self, name: &str, directory: &Directory) -> Person {
        let account = Identity::plc(Curve::K256, Form::Multikey).unwrap();
        directory.add_at(&account, &self.origin);
        let person = Person::new(name, Arc::new(account), self.service()).unwrap();
        person.register().await.unwrap();
        person.publish(2, true).await.unwrap();
        person
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

async fn start(port: u16, allowed: &str, database: &str, directory: &Directory, folder: &Path) -> Running {
    let (did, origin) = (format!("did:web:localhost%3A{port}"), format!("http://localhost:{port}"));
    let port = port.to_string();
    let folder = folder.join(&port).to_string_lossy().into_owned();
    let env: BTreeMap<String, String> = [
        ("ROOKERY_ENV", "development"),
        ("DATABASE_URL", database),
        ("SERVER_HOST", "127.0.0.1"),
        ("SERVER_PORT", &port),
        ("METRICS_PORT", "0"),
        ("MAX_READS_IN_FLIGHT", "1000"),
        ("MAX_WRITES_IN_FLIGHT", "1000"),
        ("CANARY_SECONDS", "0"),
        ("SERVICE_DID", &did),
        ("PUBLIC_URL", &origin),
        ("PLC_URL", &directory.url()),
        ("DATA_DIR", &folder),
        ("FEDERATION", "open"),
        ("FEDERATION_ALLOW", allowed),
        ("INVITATIONS", "everyone"),
    ]
    .iter()
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    .collect();
    let server = Server::start(Config::load(&env, None).unwrap(), Clock::System).await.unwrap();
    Running { server, origin, did: Did::parse(&did).unwrap() }
}

/// One message, from the call to its answer; encrypting it is not counted.
async fn send(person: &Person, stream: &str) -> Duration {
    let (ciphertext, _) = person.encrypt(stream, b"a sentence of usual length, as people write them").await.unwrap();
    let input = Input { stream: stream.to_owned(), idem: rookery_client::idem(), ciphertext: Bytes(ciphertext) };
    let begun = Instant::now();
    person.procedure::<SendMessage>(&input).await.unwrap();
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    // Started as root, Postgres runs as somebody else.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = Options { data_dir: folder.path().to_owned(), pg_bin: None, max_connections: 100, durable: true };
    let cluster = Cluster::start(options).await.unwrap();
    let mut admin = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    let directory = Directory::start().await.unwrap();
    let ports = [free_port(), free_port()];
    let allowed = ports.map(|port| format!("did:web:localhost%3A{port}")).join(",");
    let mut servers = Vec::new();
    for (port, name) in ports.into_iter().zip(["bench_home", "bench_follower"]) {
        admin.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
        servers.push(start(port, &allowed, &cluster.url(name), &directory, folder.path()).await);
    }
    let (alice, bob) = (servers[0].person("alice", &directory).await, servers[1].person("bob", &directory).await);
    let stream = alice.create_convo().await.unwrap();
    alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
    while bob.arrive(&stream).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let (mut local, mut forwarded) = (Vec::new(), Vec::new());
    for message in 0..MESSAGES + 20 {
        let (here, there) = (send(&alice, &stream).await, send(&bob, &stream).await);
        // The first ones warm both ways up.
        if message >= 20 {
            local.push(here);
            forwarded.push(there);
        }
        tokio::time::sleep(PAUSE).await;
    }
    let (local, forwarded) = (median(local), median(forwarded));
    let ratio = forwarded / local;
    let verdict = if ratio <= AIM { "within" } else { "BEYOND" };
    println!(
        "a forwarded send costs {ratio:.2} local ones ({forwarded:.2} ms and {local:.2} ms, medians of {MESSAGES}); \
         {verdict} the aim of {AIM}"
    );
    for running in servers {
        running.server.stop().await.unwrap();
    }
    drop(admin);
    cluster.stop().await.unwrap();
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}
