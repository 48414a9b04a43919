//! Two real servers, and a conversation of the first that the second follows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::federation::replica::View;
use rookery::log::body::{Addition, Body, CommitBody, ConvoBody, ErasedBody, Removal};
use rookery::log::{Author, Draft, EntryKind, StreamRow};
use rookery::types::{Bytes, Clock, Did, Epoch, Seq};
use rookery_testkit::Person;

use super::bent::BentHome;
use super::{Federation, Member};

/// What comes comes within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until it holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "not within {} s: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub struct TwoServers {
    pub servers: Federation,
    /// At home.
    pub alice: Arc<Person>,
    /// At the follower.
    pub bob: Arc<Person>,
    pub stream: String,
    /// Of the home.
    pub origin: String,
}

impl TwoServers {
    /// Alice is alone.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_at(Clock::System, settings).await
    }

    /// With a clock that the test may move on.
    pub async fn start_at(clock: Clock, settings: &[(&str, &str)]) -> Self {
        let settings = [&[("FEDERATION", "open"), ("RECOVERY_WAIT_SECONDS", "5")], settings].concat();
        let servers = Federation::at(2, clock, &settings).await;
        for (server, peer) in [(0, 1), (1, 0)] {
            allow(&servers[server], servers[peer].did()).await;
        }
        let (alice, bob) = (servers[0].person("alice").await, servers[1].person("bob").await);
        let stream = alice.create_convo().await.unwrap();
        let origin = servers[0].proxy.origin();
        Self { servers, alice, bob, stream, origin }
    }

    /// Bob is seated, and his server follows.
    pub async fn followed() -> Self {
        let two = Self::start().await;
        let stream = two.stream.clone();
        two.invite(&stream).await;
        two
    }

    /// A further conversation of Alice with Bob in it.
    pub async fn another(&self) -> String {
        let stream = self.alice.create_convo().await.unwrap();
        self.invite(&stream).await;
        stream
    }

    pub async fn invite(&self, stream: &str) {
        bring(&self.servers[0], stream, &self.alice, &self.bob, &self.servers[1]).await;
    }

    /// Alice takes the contents of these messages back, by one entry of the home.
    pub async fn erase(&self, seqs: &[u64]) {
        let body = ErasedBody { seqs: seqs.iter().copied().map(Seq).collect() }.encode().unwrap();
        let draft = Draft { kind: EntryKind::Erased, epoch: None, body, identity: None };
        append(&self.servers[0], &self.stream, &self.alice, draft).await;
    }

    pub async fn dismiss(&self, stream: &str) {
        let remove = Removal { account: self.bob.did().clone(), device: self.bob.device().clone() };
        let body = CommitBody { commit: Bytes(b"opaque".to_vec()), adds: Vec::new(), removes: vec![remove] };
        commit(&self.servers[0], stream, &self.alice, &body).await;
    }

    /// The follower gives a sign of life, as it would with anything that it asks.
    pub async fn alive(&self) {
        let replicas = &self.servers[0].server().services().replicas;
        replicas.heard_from(self.servers[1].did()).await.unwrap();
    }

    pub async fn caught_up(&self, stream: &str) {
        caught_up(&self.servers[0], &self.servers[1], stream).await;
    }

    /// A further server, which is on no probation.
    pub async fn stranger(&self) -> BentHome {
        let stranger = BentHome::start().await;
        for server in 0..2 {
            allow(&self.servers[server], &stranger.did).await;
        }
        stranger
    }

    /// Gives a server of no account here a seat in the stream, behind the server's back; answers the stream.
    pub async fn seat_of(&self, stranger: &BentHome, server: usize) -> String {
        let database = &self.servers[server].database;
        sqlx::query(
            "with a as (insert into account (did, created_at) values ('did:plc:stranger', now()) returning id)
             insert into seat (stream_id, account_id, from_seq, role, server)
             select s.id, a.id, 1, 1, $2 from a, stream s where s.public_id = $1",
        )
        .bind(&self.stream)
        .bind(stranger.did.as_str())
        .execute(&mut database.connect().await)
        .await
        .unwrap();
        self.stream.clone()
    }

    pub async fn stop(self) {
        self.servers.stop().await;
    }
}

/// Somebody of another server is seated, and that server follows.
pub async fn bring(home: &Member, stream: &str, by: &Person, whom: &Person, at: &Member) {
    took(at, stream, whom).await;
    let (seq, view) = seat(home, stream, by, whom, at.did()).await;
    let id = rookery::types::StreamId::parse(stream).unwrap();
    at.server().services().replicas.follow(&id, home.did(), Seq(seq), Some(view)).await.unwrap();
    caught_up(home, at, stream).await;
}

/// The account took an invitation to this stream, whenever its seat begins.
pub async fn took(at: &Member, stream: &str, whom: &Person) {
    sqlx::query(
        "insert into invitation (account_id, stream, home, state, from_seq, created_at, due_at)
         select id, $2, 'did:web:any.test', 3, 9007199254740991, now(), now() from account where did = $1",
    )
    .bind(whom.did().as_str())
    .bind(stream)
    .execute(&mut at.database.connect().await)
    .await
    .unwrap();
}

pub async fn caught_up(home: &Member, follower: &Member, stream: &str) {
    eventually("the follower has caught up", async || {
        let (home, follower) = (row(home, stream).await, row(follower, stream).await);
        home.zip(follower).is_some_and(|(home, follower)| home.head_hash == follower.head_hash)
    })
    .await;
}

/// As an operator would: the peer is on no probation.
pub async fn allow(server: &Member, peer: &Did) {
    sqlx::query(
        "insert into peer (did, domain, policy, first_seen_at, last_seen_at) values ($1, 'localhost', 1, now(), now())
         on conflict (did) do update set policy = 1",
    )
    .bind(peer.as_str())
    .execute(&mut server.database.connect().await)
    .await
    .unwrap();
}

pub async fn row(server: &Member, stream: &str) -> Option<StreamRow> {
    let log = &server.server().services().log;
    let info = log.find_stream(stream).await.unwrap()?;
    Some(log.row(info.id).await.unwrap())
}

/// Seats somebody of another server by an entry of the home; its number, and the conversation before it.
pub async fn seat(home: &Member, stream: &str, by: &Person, whom: &Person, server: &Did) -> (u64, View) {
    let log = &home.server().services().log;
    let info = log.find_stream(stream).await.unwrap().unwrap();
    let roster = log.roster(info.id).await.unwrap();
    let convo: Vec<u8> =
        sqlx::query_scalar("select e.content from entry_content e where e.stream_id = $1 and e.kind = 2")
            .bind(info.id)
            .fetch_one(&mut home.database.connect().await)
            .await
            .unwrap();
    let convo = rookery::log::chain::Content::decode(&convo).unwrap().body;
    let view = View::of(ConvoBody::decode(&convo).unwrap(), &roster, |_| home.did().clone());
    let add = Addition {
        account: whom.did().clone(),
        device: whom.device().clone(),
        reference: Bytes(vec![1]),
        server: server.to_string(),
    };
    let body = CommitBody { commit: Bytes(b"opaque".to_vec()), adds: vec![add], removes: Vec::new() };
    (commit(home, stream, by, &body).await, view)
}

async fn commit(home: &Member, stream: &str, by: &Person, body: &CommitBody) -> u64 {
    let mut connection = home.database.connect().await;
    for add in &body.adds {
        sqlx::query(
            "with a as (
                 insert into account (did, created_at) values ($1, now())
                 on conflict (did) do update set did = excluded.did returning id
             )
             insert into device (account_id, public_id, public_key, alg, kind, state, created_at)
             select id, $2, '', 'EdDSA', 'app', 'foreign', now() from a
             on conflict do nothing",
        )
        .bind(add.account.as_str())
        .bind(add.device.as_str())
        .execute(&mut connection)
        .await
        .unwrap();
    }
    let draft = Draft { kind: EntryKind::Commit, epoch: None, body: body.encode().unwrap(), identity: None };
    append(home, stream, by, draft).await
}

/// Somebody at the home sends so many messages in one transaction, at most 1,000.
pub async fn send_many(home: &Member, stream: &str, by: &Person, count: u32) {
    let log = &home.server().services().log;
    let info = log.find_stream(stream).await.unwrap().unwrap();
    let author = author(home, by).await;
    let mut tx = log.lock(info.id).await.unwrap();
    let seat = tx.seat(&author, true).await.unwrap();
    for number in 0..count {
        let body = number.to_be_bytes().to_vec();
        let draft = Draft { kind: EntryKind::Message, epoch: Some(Epoch(0)), body, identity: None };
        tx.append(&seat, draft).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn append(home: &Member, stream: &str, by: &Person, draft: Draft) -> u64 {
    let log = &home.server().services().log;
    let info = log.find_stream(stream).await.unwrap().unwrap();
    let author = author(home, by).await;
    let mut tx = log.lock(info.id).await.unwrap();
    let seat = tx.seat(&author, true).await.unwrap();
    let sealed = tx.append(&seat, draft).await.unwrap();
    tx.commit().await.unwrap();
    sealed.seq.0
}

async fn author(home: &Member, by: &Person) -> Author {
    let (account_id, device_row): (i64, i64) =
        sqlx::query_as("select account_id, id from device where public_id = $1 and state <> 'foreign'")
            .bind(by.device().as_str())
            .fetch_one(&mut home.database.connect().await)
            .await
            .unwrap();
    Author { account_id, device_row, did: by.did().clone(), device: by.device().clone() }
}
