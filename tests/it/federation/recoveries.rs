//! A home that asks several servers for what a restore took from it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::log::StreamState;
use rookery::types::Bytes;
use rookery_testkit::Person;
use serde_json::json;

use crate::support::{
    Federation, Member, TestDatabase, TwoServers, allow, bring, caught_up, eventually, idem, refused, row, told,
};

const SEND: &str = "blue.catbird.mls.sendMessage";
/// Tokens from before a restore are refused for a second or so.
const TOKENS: Duration = Duration::from_millis(2_500);

/// Alice's conversation on the first server, with Bob of the second and Carol of the third, and the first server's
/// database before anything was said.
struct Three {
    servers: Federation,
    alice: Arc<Person>,
    bob: Arc<Person>,
    carol: Arc<Person>,
    stream: String,
    backup: TestDatabase,
}

impl Three {
    async fn start() -> Self {
        let mut servers = Federation::with(3, &[("RECOVERY_WAIT_SECONDS", "600")]).await;
        for (one, other) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            allow(&servers[one], servers[other].did()).await;
        }
        let alice = servers[0].person("alice").await;
        let (bob, carol) = (servers[1].person("bob").await, servers[2].person("carol").await);
        let stream = alice.create_convo().await.unwrap();
        bring(&servers[0], &stream, &alice, &bob, &servers[1]).await;
        bring(&servers[0], &stream, &alice, &carol, &servers[2]).await;
        caught_up(&servers[0], &servers[1], &stream).await;
        servers[0].pause().await;
        let backup = servers[0].database.copy().await;
        servers[0].resume(&[&alice]).await;
        Self { servers, alice, bob, carol, stream, backup }
    }

    /// Says it, and waits until these servers hold it.
    async fn say(&self, text: &[u8], held_by: &[usize]) -> u64 {
        let sent = self.alice.send(&self.stream, text).await.unwrap();
        for server in held_by {
            caught_up(&self.servers[0], &self.servers[*server], &self.stream).await;
        }
        sent.seq
    }

    /// The home's database is what it was.
    async fn put_back(&mut self) {
        self.servers[0].pause().await;
        self.servers[0].database.become_copy_of(&self.backup).await;
        let (said, well) = self.servers[0].command(&["recover"]).await;
        assert!(well, "{said}");
        self.servers[0].resume(&[&self.alice]).await;
    }

    async fn state(&self, server: usize) -> StreamState {
        row(&self.servers[server], &self.stream).await.unwrap().state
    }

    async fn goes_on(&self) {
        eventually("the stream goes on", async || self.state(0).await == StreamState::Active).await;
    }
}

fn connection(server: &Member) -> impl Future<Output = sqlx::PgConnection> {
    server.database.connect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_several_followers_hold_in_part_comes_back_whole() {
    let mut three = Three::start().await;
    let shared = three.say(b"both hold this", &[1, 2]).await;
    three.servers[1].proxy.refuse().await;
    let last = three.say(b"Carol's server alone holds this", &[2]).await;
    let before = three.carol.entries(&three.stream, 0).await.unwrap();
    // And of what both hold it has but the header.
    let drop = "delete from content c using entry e join stream s on s.id = e.stream_id
         where c.week = e.week and c.pos = e.pos and s.public_id = $1 and e.seq = $2";
    let drop = sqlx::query(drop).bind(&three.stream).bind(i64::try_from(shared).unwrap());
    let done = drop.execute(&mut connection(&three.servers[2]).await).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    three.servers[1].proxy.listen().await;

    three.put_back().await;
    three.goes_on().await;
    tokio::time::sleep(TOKENS).await;
    let after = three.alice.entries(&three.stream, 0).await.unwrap();
    let after: Vec<_> = after.into_iter().filter(|entry| entry.seq >= before[0].seq).collect();
    assert_eq!(after[..before.len()], before[..], "from one the order, from the other what it lacked");
    assert_eq!(after[before.len()].kind, "#homeRestored");
    assert_eq!(after[before.len()].seq, last + 1);
    for server in [1, 2] {
        caught_up(&three.servers[0], &three.servers[server], &three.stream).await;
        assert_eq!(three.state(server).await, StreamState::Active);
    }
    three.servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_waits_says_so_and_goes_on_when_its_operator_lets_it() {
    let mut three = Three::start().await;
    let base = three.say(b"both hold this", &[1, 2]).await;
    three.servers[1].proxy.refuse().await;
    three.say(b"Carol's server alone holds this", &[2]).await;
    let before = three.carol.entries(&three.stream, 0).await.unwrap();
    three.servers[2].pause().await;
    three.servers[1].proxy.listen().await;
    three.put_back().await;
    tokio::time::sleep(TOKENS).await;

    eventually("Bob's server has said what it holds", async || {
        row(&three.servers[0], &three.stream).await.unwrap().head_seq.0 == base
    })
    .await;
    refused(three.alice.send(&three.stream, b"too early").await, 503, "HomeRecovering");
    let (message, _) = three.alice.encrypt(&three.stream, b"too early").await.unwrap();
    let body = json!({ "stream": three.stream, "idem": idem(), "ciphertext": Bytes(message) });
    let forwarded = three.servers[1].raw(SEND, "").token(&three.bob.token(SEND)).json(&body).send().await;
    assert_eq!(forwarded.outcome(), (502, "HomeUnavailable"), "of its home, as Bob's server sees it");
    let go_on =
        async |arguments: &[&str]| three.servers[0].command(&[&["recover", "--go-on"], arguments].concat()).await;
    let (said, well) = go_on(&["scwfgagcsyqhmdj7pbehnj6jvili52f63"]).await;
    assert!(!well && said.contains("waits for nobody"), "{said}");
    let (said, well) = go_on(&["no stream"]).await;
    assert!(!well && said.contains("not the name of a stream"), "{said}");
    assert_eq!(three.state(0).await, StreamState::Recovering, "Carol's server has not answered");

    let (said, well) = go_on(&[&three.stream]).await;
    assert!(well && said.contains(&three.stream), "{said}");
    three.goes_on().await;
    assert_eq!(go_on(&[]).await, ("No stream waits for a follower.\n".to_owned(), true));
    let sent = three.say(b"on", &[1]).await;
    assert_eq!(sent, base + 2, "after the entry that opens the new term");
    assert_eq!(three.state(1).await, StreamState::Active);

    let carol = Arc::clone(&three.carol);
    three.servers[2].resume(&[&carol]).await;
    let replicas = &three.servers[0].server().services().replicas;
    replicas.heard_from(three.servers[2].did()).await.unwrap();
    eventually("Carol's server stops", async || three.state(2).await == StreamState::Frozen).await;
    assert_eq!(three.carol.entries(&three.stream, 0).await.unwrap(), before, "it keeps what it holds");
    three.servers[2].settled().await;
    assert_eq!(told(&three.carol, "#historyRewound").await.len(), 1);
    three.servers.stop().await;
}

/// A restore stops all shared streams at once. One call to the follower takes eight seconds to fail.
#[tokio::test(flavor = "multi_thread")]
async fn streams_do_not_wait_for_a_silent_follower_in_turn() {
    let two = TwoServers::followed().await;
    for _ in 0..70 {
        two.alice.create_convo().await.unwrap();
    }
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    two.servers[1].proxy.lead_to(silent.local_addr().unwrap());
    let mut database = two.servers[0].database.connect().await;
    let mut restored = sqlx::Connection::begin(&mut database).await.unwrap();
    for statement in [
        "insert into follower (stream_id, server, from_seq, acked_seq, due_at, created_at)
         select id, $1, 1, head_seq, now() + interval '1 hour', now() from stream on conflict do nothing",
        // The wait for followers is over.
        "insert into recovery (stream_id, begun_at, due_at)
         select stream_id, now() - interval '1 hour', now() from follower where server = $1",
        "update stream set state = 1 where id in (select stream_id from follower where server = $1)",
    ] {
        let done = sqlx::query(statement).bind(two.servers[1].did().as_str()).execute(&mut *restored).await.unwrap();
        assert!(done.rows_affected() > 70);
    }
    restored.commit().await.unwrap();
    let since = Instant::now();
    loop {
        let left = "select count(*) from stream where state = 1";
        if sqlx::query_scalar::<_, i64>(left).fetch_one(&mut database).await.unwrap() == 0 {
            break;
        }
        assert!(since.elapsed() < Duration::from_mins(1), "the streams wait for the follower one after the other");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    two.alice.send(&two.stream, b"on").await.unwrap();
    two.stop().await;
}
