//! What it costs that another server holds a stream, too: a follower that has 100,000 entries to make up for, over HTTP and
//! with every check, beside appending as many here. `make bench` prints the ratio, and by how much memory grew meanwhile.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot be set up ends; what it measures it prints"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::config::Config;
use rookery::federation::replica::View;
use rookery::identity::Curve;
use rookery::log::body::{Addition, Body, CommitBody, ConvoBody};
use rookery::log::{Application, Author, CallIdentity, Draft, EntryKind, Log};
use rookery::server::Server;
use rookery::storage::embedded::{Cluster, Options};
use rookery::types::{Bytes, Clock, Did, Epoch, Hash, Idem, Seq, StreamId};
use rookery_client::Service;
use rookery_testkit::{Directory, Form, Identity, Person};
use sqlx::{Connection, Executor, PgConnection};

const ENTRIES: u64 = 100_000;
/// Of an ordinary message.
const BODY_BYTES: usize = 600;
const AT_ONCE: u64 = 500;
/// Memory may grow by so much while a follower makes up for all of it.
const FLAT_MIB: i64 = 96;

struct Side {
    server: Server,
    did: Did,
    origin: String,
    database: String,
    _folder: tempfile::TempDir,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn side(cluster: &Cluster, directory: &Directory, port: u16, peer: u16, name: &str) -> Side {
    let mut admin = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    match name {
        "home" => admin.execute("create database home").await.unwrap(),
        _ => admin.execute("create database follower").await.unwrap(),
    };
    let (folder, database) = (tempfile::tempdir().unwrap(), cluster.url(name));
    let (did, origin) = (format!("did:web:localhost%3A{port}"), format!("http://localhost:{port}"));
    let settings = [
        ("ROOKERY_ENV", "development".to_owned()),
        ("DATABASE_URL", database.clone()),
        ("SERVER_HOST", "127.0.0.1".to_owned()),
        ("SERVER_PORT", port.to_string()),
        ("METRICS_PORT", "0".to_owned()),
        ("MAX_READS_IN_FLIGHT", "1000".to_owned()),
        ("MAX_WRITES_IN_FLIGHT", "1000".to_owned()),
        ("SERVICE_DID", did.clone()),
        ("PUBLIC_URL", origin.clone()),
        ("PLC_URL", directory.url()),
        ("DATA_DIR", folder.path().to_string_lossy().into_owned()),
        ("CANARY_SECONDS", "0".to_owned()),
        ("FEDERATION", "open".to_owned()),
        ("FEDERATION_ALLOW", format!("did:web:localhost%3A{peer}")),
    ];
    let env: BTreeMap<String, String> = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let server = Server::start(Config::load(&env, None).unwrap(), Clock::System).await.unwrap();
    Side { server, did: Did::parse(&did).unwrap(), origin, database, _folder: folder }
}

async fn person(side: &Side, directory: &Directory) -> Arc<Person> {
    let account = Identity::plc(Curve::K256, Form::Multikey).unwrap();
    directory.add_at(&account, &side.origin);
    let service = Arc::new(Service::new(&format!("http://{}", side.server.address()), side.did.clone()).unwrap());
    let person = Person::new("somebody", Arc::new(account), service).unwrap();
    person.register().await.unwrap();
    Arc::new(person)
}

async fn author(side: &Side, person: &Person) -> Author {
    let mut connection = PgConnection::connect(&side.database).await.unwrap();
    let (account_id, device_row): (i64, i64) = sqlx::query_as("select account_id, id from device where public_id = $1")
        .bind(person.device().as_str())
        .fetch_one(&mut connection)
        .await
        .unwrap();
    Author { account_id, device_row, did: person.did().clone(), device: person.device().clone() }
}

/// Seats somebody of the other server; the entry's number, and the conversation before it.
async fn seat(side: &Side, stream_id: i64, by: &Author, whom: &Person, server: &Did) -> (Seq, View) {
    let log = &side.server.services().log;
    let mut connection = PgConnection::connect(&side.database).await.unwrap();
    let known = "with a as (insert into account (did, created_at) values ($1, now()) returning id)
        insert into device (account_id, public_id, public_key, alg, kind, state, created_at)
        select id, $2, '', 'EdDSA', 'app', 'foreign', now() from a";
    let known = sqlx::query(known).bind(whom.did().as_str()).bind(whom.device().as_str());
    known.execute(&mut connection).await.unwrap();
    let convo = ConvoBody {
        group_id: Bytes(vec![1; 16]),
        cipher_suite: 1,
        handshake_policy: "opaque".to_owned(),
        policy: "{}".to_owned(),
        metadata: None,
    };
    let view = View::of(convo, &log.roster(stream_id).await.unwrap(), |_| side.did.clone());
    let add = Addition {
        account: whom.did().clone(),
        device: whom.device().clone(),
        reference: Bytes(vec![1]),
        server: server.to_string(),
    };
    let body = CommitBody { commit: Bytes(vec![1]), adds: vec![add], removes: Vec::new() }.encode().unwrap();
    let mut tx = log.lock(stream_id).await.unwrap();
    let right = tx.seat(by, true).await.unwrap();
    let draft = Draft { kind: EntryKind::Commit, epoch: None, body, identity: None };
    let sealed = tx.append(&right, draft).await.unwrap();
    tx.commit().await.unwrap();
    (sealed.seq, view)
}

async fn append(log: &Log, stream: &str, by: &Author, count: u64) {
    let info = log.find_stream(stream).await.unwrap().unwrap();
    let mut done = 0;
    while done < count {
        let many = AT_ONCE.min(count - done);
        let sent = (0..many).map(|number| {
            let idem = Idem::parse(&format!("bench-{:016}", done + number)).unwrap();
            let identity = CallIdentity::new(by, "bench", &idem, Hash::ZERO).unwrap();
            let (stream, author, body) = (Arc::clone(&info), by.clone(), vec![7; BODY_BYTES]);
            log.submit(Application { stream, author, identity, epoch: Epoch(0), body })
        });
        for answer in futures_util::future::join_all(sent).await {
            answer.unwrap();
        }
        done += many;
    }
}

/// Resident memory of this process, which is both servers.
fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn rate(entries: u64, elapsed: Duration) -> f64 {
    entries as f64 / elapsed.as_secs_f64()
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let options = Options { data_dir: folder.path().to_owned(), pg_bin: None, max_connections: 100, durable: false };
    let (cluster, directory) = (Cluster::start(options).await.unwrap(), Directory::start().await.unwrap());
    let (a, b) = (free_port(), free_port());
    let home = side(&cluster, &directory, a, b, "home").await;
    let follower = side(&cluster, &directory, b, a, "follower").await;
    let (alice, bob) = (person(&home, &directory).await, person(&follower, &directory).await);
    let stream = alice.create_convo().await.unwrap();
    let (log, by) = (&home.server.services().log, author(&home, &alice).await);
    let stream_id = log.find_stream(&stream).await.unwrap().unwrap().id;
    let (from, view) = seat(&home, stream_id, &by, &bob, &follower.did).await;

    let started = Instant::now();
    append(log, &stream, &by, ENTRIES - from.0).await;
    let local = rate(ENTRIES - from.0, started.elapsed());

    let (before, started) = (resident_kib(), Instant::now());
    let mut most = before;
    let id = StreamId::parse(&stream).unwrap();
    let held = follower.server.services();
    held.replicas.follow(&id, &home.did, from, Some(view)).await.unwrap();
    let row = held.log.find_stream(&stream).await.unwrap().unwrap().id;
    let head = log.row(stream_id).await.unwrap().head_hash;
    while held.log.row(row).await.unwrap().head_hash != head {
        most = most.max(resident_kib());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let replicated = rate(ENTRIES - from.0, started.elapsed());
    let grown_mib = (most - before) / 1024;
    println!("local append            {local:>10.0} entries/s");
    println!("catch-up of {ENTRIES}     {replicated:>10.0} entries/s, {:.2} of local append", replicated / local);
    println!("memory of both servers  {grown_mib:>10} MiB more at most while it went on (aim: {FLAT_MIB})");
    for side in [home, follower] {
        side.server.stop().await.unwrap();
    }
    cluster.stop().await.unwrap();
    assert!(grown_mib <= FLAT_MIB, "memory must not follow the backlog");
}
