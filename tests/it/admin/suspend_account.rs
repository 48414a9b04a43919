use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::admin::suspend_account::{Input, SuspendAccount};
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::lexicon::mls::claim_key_packages::{self, ClaimKeyPackages};
use rookery::lexicon::mls::get_key_packages::{self, GetKeyPackages};
use rookery::lexicon::{Method, Nothing};
use rookery::types::{Clock, Did};
use rookery_testkit::Person;

use crate::support::{ChildServer, Socket, TestDatabase, TestServer, conversation, idem, refused};

/// A suspended account hears nothing after a second, and a busy machine takes its time.
const CLOSED: Duration = Duration::from_secs(3);

fn of(account: &Did, suspended: bool) -> Input {
    Input { account: account.clone(), suspended, reason: None }
}

async fn suspend(operator: &Person, account: &Did, suspended: bool) {
    let answer = operator.procedure::<SuspendAccount>(&of(account, suspended)).await.unwrap();
    assert_eq!(answer.account.state, if suspended { "suspended" } else { "active" });
}

#[tokio::test]
async fn a_suspended_account_is_refused_by_any_token_until_it_is_let_in_again() {
    let (server, operator) = TestServer::start_with_operator().await;
    let (stream, people) = conversation(&server, 2).await;
    let bob = &people[1];
    suspend(&operator, bob.did(), true).await;

    refused(bob.send(&stream, b"too late").await, 403, "AccountSuspended");
    refused(bob.devices().await, 403, "AccountSuspended");
    refused(bob.register().await, 403, "AccountSuspended");
    let mut socket = Socket::open(&server, bob, "").await;
    socket.ends("AccountSuspended", 1008).await;
    assert!(people[0].send(&stream, b"the others go on").await.is_ok());

    suspend(&operator, bob.did(), false).await;
    bob.send(&stream, b"here again").await.unwrap();
    let nobody = server.account();
    refused(operator.procedure::<SuspendAccount>(&of(&nobody.did, true)).await, 404, "AccountNotFound");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_open_sockets_close_on_every_replica() {
    let (server, operator) = TestServer::start_with_operator_on(TestDatabase::own().await).await;
    let replica = server.replica().await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 0).await);
    let mut sockets =
        [Socket::open(&server, &alice, "?cursor=0").await, Socket::to(replica.address(), &alice, "?cursor=0").await];
    let mut others = Socket::open(&server, &bob, "?cursor=0").await;
    for socket in sockets.iter_mut().chain([&mut others]) {
        for _ in 0..3 {
            socket.event().await;
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;

    suspend(&operator, alice.did(), true).await;
    let told = Instant::now();
    for socket in &mut sockets {
        socket.ends("SubscriptionClosed", 1008).await;
    }
    assert!(told.elapsed() < CLOSED, "{:?}", told.elapsed());
    others.is_silent().await;
    replica.stop().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn its_key_packages_are_neither_offered_nor_claimed_nor_used() {
    let (server, operator) = TestServer::start_with_operator().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let stream = alice.create_convo().await.unwrap();
    let claimed = alice.claim(&stream, &[bob.did().clone()]).await.unwrap();
    suspend(&operator, bob.did(), true).await;

    let params = get_key_packages::Params { accounts: vec![bob.did().clone()] };
    let offered = alice.query::<GetKeyPackages>(&params).await.unwrap().accounts;
    assert!(offered.iter().all(|account| account.devices.is_empty()), "{offered:?}");
    let targets = vec![bob.did().clone()];
    let (claim_id, stream_name) = (idem(), stream.clone());
    let input =
        claim_key_packages::Input { claim_id, stream: stream_name, home: None, targets, cipher_suites: vec![1] };
    let answer = alice.procedure::<ClaimKeyPackages>(&input).await.unwrap();
    assert_eq!(answer.targets[0].problem.as_deref(), Some("notHere"));
    refused(alice.change(&stream, &claimed, &[]).await, 400, "KeyPackageUnknown");

    suspend(&operator, bob.did(), false).await;
    assert!(alice.change(&stream, &claimed, &[]).await.is_ok(), "what was claimed before is good again");
    server.stop().await;
}

#[tokio::test]
async fn each_change_is_one_entry_of_the_account_s_stream_and_a_repeat_is_none() {
    let (server, operator) = TestServer::start_with_operator().await;
    let alice = server.newcomer("alice", 0).await;
    let first = Input { reason: Some("the first reason".to_owned()), ..of(alice.did(), true) };
    let once = operator.procedure::<SuspendAccount>(&first).await.unwrap();
    let again = operator.procedure::<SuspendAccount>(&of(alice.did(), true)).await.unwrap();
    assert_eq!(once, again, "the first reason stays");
    suspend(&operator, alice.did(), false).await;
    suspend(&operator, alice.did(), false).await;

    server.settled().await;
    let page = alice.query::<ListEvents>(&list_events::Params { cursor: None, limit: 100 }).await.unwrap();
    let bodies: Vec<_> = page.events.iter().filter(|event| event.kind == "#account").map(|e| e.body.clone()).collect();
    let state = |text: &str| [b"\xa1estate", &[0x60 + u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    let bodies: Vec<_> = bodies.into_iter().map(|body| body.unwrap().0).collect();
    assert_eq!(bodies, [state("suspended"), state("active")]);
    server.stop().await;
}

/// The command line beside a running server: on a Postgres that somebody brought, and on the server's own.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_does_the_same_on_the_server_s_own_machine() {
    let (server, _) = TestServer::start_with_operator().await;
    let alice = server.newcomer("alice", 0).await;
    let mut socket = Socket::open(&server, &alice, "?cursor=0").await;
    for _ in 0..3 {
        socket.event().await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rookery = async |arguments: &[&str]| server.command(arguments).await;
    let did = alice.did().as_str();

    let (said, done) = rookery(&["account", "suspend", did, "--reason", "sends spam"]).await;
    assert!(done && said.contains("suspended") && said.contains("sends spam"), "{said}");
    socket.ends("SubscriptionClosed", 1008).await;
    refused(alice.query::<ListDevices>(&Nothing {}).await, 403, "AccountSuspended");
    let (said, _) = rookery(&["account", "list"]).await;
    assert_eq!(said.lines().filter(|line| line.contains(did) && line.contains("suspended")).count(), 1, "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(rookery(&["account", "resume", did]).await.1);
    alice.query::<ListDevices>(&Nothing {}).await.unwrap();
    assert!(rookery(&["account", "allow", did]).await.1);
    let (said, done) = rookery(&["account", "invite", "--uses", "3", "--days", "2"]).await;
    assert!(done && said.starts_with("invite-") && said.contains("accounts: 3"), "{said}");
    for wrong in [&["account", "suspend", "alice.example"][..], &["account", "suspend", "did:web:nobody.example"]] {
        let (said, done) = rookery(wrong).await;
        assert!(!done && said.contains("rookery: "), "{said}");
    }
    server.stop().await;

    let child = ChildServer::start().await;
    let bob: Arc<Person> = child.person("bob").await;
    let (said, done) = child.command(&["account", "suspend", bob.did().as_str()]).await;
    assert!(done, "{said}");
    let nsid = ListDevices::NSID;
    let answer = bob.service().query::<ListDevices>(&Nothing {}, || Some(bob.token(nsid))).await;
    refused(answer, 403, "AccountSuspended");
    child.stop().await;
}

/// An open writer holds back every reader of the log, and with them the entry of the suspension.
#[tokio::test(flavor = "multi_thread")]
async fn its_sockets_close_although_the_log_stands_still() {
    let database = TestDatabase::secluded().await;
    let (server, operator) = TestServer::start_with_operator_on(database).await;
    let replica = server.replica().await;
    let alice = server.newcomer("alice", 0).await;
    let mut sockets =
        [Socket::open(&server, &alice, "?cursor=0").await, Socket::to(replica.address(), &alice, "?cursor=0").await];
    for socket in &mut sockets {
        for _ in 0..3 {
            socket.event().await;
        }
    }
    let mut connection = server.database.connect().await;
    let mut writer = sqlx::Connection::begin(&mut connection).await.unwrap();
    sqlx::query("select pg_current_xact_id()").execute(&mut *writer).await.unwrap();

    suspend(&operator, alice.did(), true).await;
    let told = Instant::now();
    for socket in &mut sockets {
        socket.ends("SubscriptionClosed", 1008).await;
    }
    assert!(told.elapsed() < CLOSED, "{:?}", told.elapsed());
    writer.rollback().await.unwrap();
    replica.stop().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn listeners_without_standing_end_at_the_next_check() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[("SOCKET_LIFE_SECONDS", "604800")]).await;
    let (stays, moved) = (server.newcomer("stays", 0).await, server.newcomer("moved", 0).await);
    let mut sockets = Vec::new();
    for person in [&stays, &moved] {
        let mut socket = Socket::open(&server, person, "?cursor=0").await;
        socket.event().await;
        sockets.push(socket);
    }
    rookery::xrpc::judge_listeners(server.server().services()).await.unwrap();
    let elsewhere = "update account set server = 'did:web:other.example' where did = $1";
    let mut database = server.database.connect().await;
    sqlx::query(elsewhere).bind(moved.did().as_str()).execute(&mut database).await.unwrap();
    let expired = "update device set account_proven_at = now() - interval '40 days' where public_id = $1";
    let lapsed = server.second_device(&stays).await;
    let mut old = Socket::open(&server, &lapsed, "?cursor=0").await;
    old.event().await;
    sqlx::query(expired).bind(lapsed.device().as_str()).execute(&mut database).await.unwrap();
    // Cached documents expire after a day; then the rows decide.
    clock.advance_ms(25 * 60 * 60 * 1000);
    rookery::xrpc::judge_listeners(server.server().services()).await.unwrap();
    sockets.pop().unwrap().ends("SubscriptionClosed", 1008).await;
    old.ends("SubscriptionClosed", 1008).await;
    let stays = tokio::time::timeout(Duration::from_secs(1), sockets[0].ends("SubscriptionClosed", 1008)).await;
    assert!(stays.is_err(), "a listener in good standing goes on");
    server.stop().await;
}
