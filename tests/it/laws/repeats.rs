//! The same call gets the first answer again: by every method that promises it, whatever became of that answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rookery::identity::{Curve, DEVICE_TOKEN_HEADER, DeviceSigner, SigningKey, body_hash};
use rookery::lexicon::Method;
use rookery::lexicon::account::register_device::{self, RegisterDevice};
use rookery::lexicon::mls::add_members::AddMembers;
use rookery::lexicon::mls::claim_key_packages::{self, ClaimKeyPackages};
use rookery::lexicon::mls::create_convo::{self, CreateConvo};
use rookery::lexicon::mls::leave_convo::{self, LeaveConvo};
use rookery::lexicon::mls::remove_members::{self, RemoveMembers};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::types::Bytes;
use rookery_client::Service;
use rookery_client::mls::Client;
use rookery_testkit::{Directory, Form, Identity};
use serde_json::Value;
use sqlx::PgConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::support::{Fleet, Instances, TestServer, at_once, chance, grow, idem, person};

/// What was committed is settled, and a call is answered, within this time.
const SETTLES: Duration = Duration::from_secs(20);

/// A call as a client repeats it: the same bytes under a fresh token.
#[derive(Clone)]
struct Call {
    nsid: &'static str,
    body: Vec<u8>,
    token: Arc<dyn Fn() -> String + Send + Sync>,
    /// A device token beside it.
    proof: Option<String>,
    /// Entries that it makes, in all streams, once the courier has delivered.
    entries: i64,
}

impl Call {
    fn new<M: Method>(input: &M::Input, token: impl Fn() -> String + Send + Sync + 'static, entries: i64) -> Self {
        Self { nsid: M::NSID, body: serde_json::to_vec(input).unwrap(), token: Arc::new(token), proof: None, entries }
    }

    fn request(&self, url: &str) -> (String, Vec<u8>) {
        let host = url.trim_start_matches("http://").to_owned();
        let beside =
            self.proof.iter().map(|proof| format!("{DEVICE_TOKEN_HEADER}: {proof}\r\n")).collect::<Vec<_>>().concat();
        let head = format!(
            "POST /xrpc/{} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             {beside}connection: close\r\ncontent-length: {}\r\n\r\n",
            self.nsid,
            (self.token)(),
            self.body.len()
        );
        (host, [head.as_bytes(), &self.body].concat())
    }

    /// The answer's status and body.
    async fn send(&self, url: &str) -> (u16, Value) {
        let (host, request) = self.request(url);
        let mut socket = TcpStream::connect(host).await.unwrap();
        socket.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        read(&answer).unwrap_or_else(|| panic!("{} answered {}", self.nsid, String::from_utf8_lossy(&answer)))
    }

    /// The answer, as often as the server is not there or does not know tokens from before its crash.
    async fn send_until_answered(&self, url: &str) -> Value {
        let until = Instant::now() + SETTLES;
        loop {
            let (status, body) = self.send(url).await;
            if status == 200 {
                return body;
            }
            let passes = status == 503 || body["error"] == "JwtTooOld";
            assert!(passes && Instant::now() < until, "{} answered {status} {body}", self.nsid);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Status and body of a whole answer.
fn read(answer: &[u8]) -> Option<(u16, Value)> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
    Some((status, serde_json::from_slice(&answer[head + 4..]).ok()?))
}

/// One call of each method that has a name for its calls, none of them made yet. Each stands on its own.
async fn calls(directory: &Directory, service: &Arc<Service>) -> Vec<Call> {
    let mut people = Vec::new();
    for name in ["alice", "bob", "carol"] {
        people.push(person(name, directory, service).await);
    }
    let (alice, bob, carol) = (&people[0], &people[1], &people[2]);
    let mut streams = Vec::new();
    for _ in 0..3 {
        let stream = alice.create_convo().await.unwrap();
        grow(&people[..2], &stream).await;
        streams.push(stream);
    }
    let token_of = |person: &Arc<rookery_testkit::Person>, nsid: &'static str| {
        let person = Arc::clone(person);
        move || person.token(nsid)
    };

    let message = alice.draft_message(&streams[0], b"once").await.unwrap();
    let claimed = alice.claim(&streams[0], &[carol.did().clone()]).await.unwrap();
    let adding = alice.draft_commit(&streams[0], &claimed, &[]).await.unwrap();
    let removing = alice.draft_commit(&streams[1], &[], &[bob.did().clone()]).await.unwrap();
    let removing = remove_members::Input {
        stream: removing.stream,
        idem: removing.idem,
        commit: removing.commit,
        group_info: removing.group_info,
        welcome: None,
        adds: None,
        removes: removing.removes.unwrap(),
    };
    let leaving =
        leave_convo::Input { stream: streams[2].clone(), idem: idem(), new_admin: None, erase: None, immediate: None };
    let claiming = claim_key_packages::Input {
        claim_id: idem(),
        stream: streams[2].clone(),
        home: None,
        targets: vec![carol.did().clone()],
        cipher_suites: vec![1],
    };

    // Two devices whose keys lie open: one that is not registered yet, and one that founds.
    let device = || {
        let account = Identity::plc(Curve::K256, Form::Multikey).unwrap();
        directory.add(&account);
        let seed: [u8; 32] = rand::random();
        let key = SigningKey::from_bytes(Curve::Ed25519, &seed).unwrap();
        let mls = Client::new(account.did.clone(), seed, key.public().raw().try_into().unwrap()).unwrap();
        let signer = DeviceSigner::new(account.did.clone(), key);
        let registering = register_device::Input {
            public_key: Bytes(signer.key().public().raw()),
            kind: "app".to_owned(),
            name: None,
            platform: None,
            certificate: None,
            mls_keys: None,
            invite: None,
        };
        let bound = body_hash(&serde_json::to_vec(&registering).unwrap());
        let now = service.clock().now();
        let proof = signer.token(service.did().as_str(), RegisterDevice::NSID, now, Some(&bound));
        let (audience, clock) = (service.did().clone(), service.clock().clone());
        let service_token = move || account.service_token(audience.as_str(), RegisterDevice::NSID, clock.now());
        let call = Call { proof: Some(proof), ..Call::new::<RegisterDevice>(&registering, service_token, 3) };
        (call, signer, mls)
    };
    let (registering, ..) = device();
    let (founder, signer, mut mls) = device();
    founder.send_until_answered(&service.url()).await;
    let founding = create_convo::Input {
        idem: idem(),
        group_info: Bytes(mls.create_group().unwrap().1),
        handshake_policy: "opaque".to_owned(),
        policy: None,
        metadata: None,
    };
    let (audience, clock) = (service.did().clone(), service.clock().clone());
    let founders_token = move || signer.token(audience.as_str(), CreateConvo::NSID, clock.now(), None);

    vec![
        Call::new::<SendMessage>(&message, token_of(alice, SendMessage::NSID), 1),
        // The commit, and the invitation in Carol's own stream.
        Call::new::<AddMembers>(&adding, token_of(alice, AddMembers::NSID), 2),
        Call::new::<RemoveMembers>(&removing, token_of(alice, RemoveMembers::NSID), 1),
        Call::new::<LeaveConvo>(&leaving, token_of(bob, LeaveConvo::NSID), 1),
        Call::new::<ClaimKeyPackages>(&claiming, token_of(alice, ClaimKeyPackages::NSID), 0),
        Call::new::<CreateConvo>(&founding, founders_token, 3),
        registering,
    ]
}

/// What there is: entries but for canaries, and answers that are kept. Waits for the courier.
async fn count(database: &mut PgConnection) -> (i64, i64) {
    let until = Instant::now() + SETTLES;
    while sqlx::query_scalar::<_, i64>("select count(*) from outbox").fetch_one(&mut *database).await.unwrap() > 0 {
        assert!(Instant::now() < until, "the courier does not deliver");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    present(database).await
}

async fn present(database: &mut PgConnection) -> (i64, i64) {
    let counts = "select (select count(*) from entry), (select count(*) from answer) + (select count(*) from device)";
    sqlx::query_as(counts).fetch_one(database).await.unwrap()
}

#[test]
fn every_method_whose_calls_have_names_is_in_the_table() {
    // Their lexicons say `idem`, or `claimId`.
    let mut named = BTreeSet::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("lexicons/blue")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let lexicon: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            let input = &lexicon["defs"]["main"]["input"]["schema"]["properties"];
            if !input["idem"].is_null() || !input["claimId"].is_null() {
                named.insert(lexicon["id"].as_str().unwrap().to_owned());
            }
        }
    }
    // Its answer is repeated to the same machine only, by the code that it shows: tests of its own.
    named.remove("blue.catbird.account.claimPairing");
    // It takes another server: tests of its own.
    named.remove("blue.catbird.mls.moveConvo");
    // registerDevice has none: the key is its name.
    let table = [
        AddMembers::NSID,
        ClaimKeyPackages::NSID,
        CreateConvo::NSID,
        LeaveConvo::NSID,
        RemoveMembers::NSID,
        SendMessage::NSID,
    ];
    assert_eq!(named, table.map(str::to_owned).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_call_at_once_on_three_instances_has_one_answer() {
    let servers = Instances::start(3).await;
    let (server, urls) = (&servers.first, servers.urls());
    let mut database = server.database.connect().await;
    for call in calls(&server.directory, &server.service()).await {
        let before = count(&mut database).await.0;
        let sending = (0..6).map(|number| {
            let (call, url) = (call.clone(), urls[number % 3].clone());
            async move { call.send(&url).await }
        });
        let answers = at_once(sending).await;
        let after = count(&mut database).await;
        assert_eq!(after.0 - before, call.entries, "{}: one effect", call.nsid);
        for answer in &answers {
            assert_eq!(*answer, (200, answers[0].1.clone()), "{}", call.nsid);
        }
        for url in &urls {
            assert_eq!(call.send(url).await, answers[0], "{}", call.nsid);
        }
        assert_eq!(count(&mut database).await, after, "{}: no second effect", call.nsid);
    }
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_in_the_pool_suffices_for_every_named_call() {
    let server = TestServer::start_with(&[("DATABASE_POOL", "1")]).await;
    let url = server.url();
    let started = Instant::now();
    for call in calls(&server.directory, &server.service()).await {
        let asked = Instant::now();
        // Its own repeats wait for it, and nothing waits for a second connection.
        let sending = (0..4).map(|_| {
            let (call, url) = (call.clone(), url.clone());
            async move { call.send(&url).await }
        });
        for answer in at_once(sending).await {
            assert_eq!(answer.0, 200, "{}: {}", call.nsid, answer.1);
        }
        assert!(asked.elapsed() < Duration::from_secs(4), "{} took {:?}", call.nsid, asked.elapsed());
    }
    assert!(started.elapsed() < SETTLES * 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_client_went_away_at_any_moment_has_one_effect_and_one_answer() {
    let mut chance = chance();
    let server = TestServer::start().await;
    let replica = server.replica().await;
    let urls = [server.url(), format!("http://{}", replica.address())];
    let mut database = server.database.connect().await;
    for round in 0..3 {
        for call in calls(&server.directory, &server.service()).await {
            let before = count(&mut database).await.0;
            let (host, request) = call.request(&urls[0]);
            let mut socket = TcpStream::connect(host).await.unwrap();
            socket.write_all(&request).await.unwrap();
            // From before it is read to after it is answered.
            tokio::time::sleep(Duration::from_micros(chance.random_range(0..20_000))).await;
            drop(socket);
            let first = call.send(&urls[1]).await;
            assert_eq!(first.0, 200, "{} in round {round}: {}", call.nsid, first.1);
            assert_eq!(call.send(&urls[0]).await, first, "{}", call.nsid);
            assert_eq!(count(&mut database).await.0 - before, call.entries, "{}: one effect", call.nsid);
        }
    }
    replica.stop().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_between_commit_and_answer_gives_that_answer_afterwards() {
    let mut fleet = Fleet::start(2).await;
    let service = fleet.service(1);
    let mut database = fleet.connect().await;
    for call in calls(fleet.directory(), &service).await {
        let before = count(&mut database).await;
        let gate = Gate::before(&fleet.url(0)).await;
        let (host, request) = call.request(&gate.url);
        let mut socket = TcpStream::connect(host).await.unwrap();
        socket.write_all(&request).await.unwrap();
        let until = Instant::now() + SETTLES;
        while present(&mut database).await == before {
            assert!(Instant::now() < until, "{} has no effect", call.nsid);
        }
        fleet.kill(0).await;
        let held = gate.held().await;
        let mut answer = Vec::new();
        let _cut = socket.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "the answer never came");

        let answer = call.send_until_answered(&fleet.url(1)).await;
        if let Some((status, first)) = held {
            // It was on its way: nobody may be told anything else.
            assert_eq!((status, &first), (200, &answer), "{}", call.nsid);
        }
        fleet.restart(0).await;
        assert_eq!(call.send_until_answered(&fleet.url(0)).await, answer, "{}", call.nsid);
        assert_eq!(count(&mut database).await.0 - before.0, call.entries, "{}: one effect", call.nsid);
    }
    fleet.stop().await;
}

/// Lets requests through to a server, and no answer back.
struct Gate {
    url: String,
    passing: tokio::task::JoinHandle<Vec<u8>>,
}

impl Gate {
    async fn before(server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = server.trim_start_matches("http://").to_owned();
        let passing = tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(server).await.unwrap();
            let ((mut from_client, _to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            let requests = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let mut held = Vec::new();
            // Ends when the server is killed.
            let _cut = from_server.read_to_end(&mut held).await;
            requests.abort();
            held
        });
        Self { url, passing }
    }

    /// What the client was not told, if the server got so far as to tell it.
    async fn held(self) -> Option<(u16, Value)> {
        read(&self.passing.await.unwrap())
    }
}
