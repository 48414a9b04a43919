use rookery::lexicon::Method;
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::admin::suspend_account::{self, SuspendAccount};
use rookery::lexicon::event::get_ticket::{GetTicket, Input};
use rookery::lexicon::event::stream_events::StreamEvents;
use rookery::lexicon::event::subscribe::Subscribe;
use rookery::types::{Clock, UnixMillis};
use rookery_testkit::Person;

use crate::support::{Events, Socket, TestServer, at_once, refused};

async fn ticket(person: &Person, nsid: &str) -> String {
    person.procedure::<GetTicket>(&Input { lxm: nsid.to_owned() }).await.unwrap().ticket
}

/// Whether the ticket opens a stream.
async fn opens(server: &TestServer, ticket: &str) -> bool {
    let answer = server.raw(StreamEvents::NSID, &format!("?ticket={ticket}")).send().await;
    match answer.outcome() {
        (200, "") => true,
        (401, "BadTicket") => false,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_ticket_stands_for_its_device_once() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let query = format!("?cursor=0&ticket={}", ticket(&alice, StreamEvents::NSID).await);
    let mut events = Events::ask(&server, &query, None).await;
    assert_eq!(events.event().await.1, "#opened");
    assert_eq!(server.raw(StreamEvents::NSID, &query).send().await.outcome(), (401, "BadTicket"));

    let query = format!("?cursor=0&ticket={}", ticket(&alice, Subscribe::NSID).await);
    let mut socket = Socket::connect(&server, &query, None, None).await;
    assert_eq!(socket.event().await.0, "#opened");
    Socket::connect(&server, &query, None, None).await.ends("BadTicket", 1008).await;
    server.stop().await;
}

#[tokio::test]
async fn a_ticket_is_for_the_method_that_it_names() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let for_sockets = ticket(&alice, Subscribe::NSID).await;
    assert!(!opens(&server, &for_sockets).await);
    let query = format!("?cursor=0&ticket={for_sockets}");
    Socket::connect(&server, &query, None, None).await.event().await;
    let input = Input { lxm: "blue.catbird.event.listEvents".to_owned() };
    refused(alice.procedure::<GetTicket>(&input).await, 400, "InvalidRequest");
    server.stop().await;
}

#[tokio::test]
async fn a_ticket_that_nobody_gave_or_whose_time_is_over_opens_nothing() {
    let clock = Clock::manual(UnixMillis(Clock::System.now().0));
    let server = TestServer::start_at(clock.clone(), &[]).await;
    let alice = server.person("alice").await;
    assert!(!opens(&server, "q3M1nYc0sZtqk0mO6aVnJ0t4bXb7y1dYw2g5h8i9j0k").await);
    let input = Input { lxm: StreamEvents::NSID.to_owned() };
    let answer = alice.procedure::<GetTicket>(&input).await.unwrap();
    assert_eq!(answer.expires_at, UnixMillis(clock.now().0 + 30_000).to_rfc3339());
    clock.advance_ms(29_999);
    assert!(opens(&server, &answer.ticket).await);
    let late = ticket(&alice, StreamEvents::NSID).await;
    clock.advance_ms(30_000);
    assert!(!opens(&server, &late).await);

    // What ran out goes with the next.
    ticket(&alice, StreamEvents::NSID).await;
    let kept: i64 = sqlx::query_scalar("select count(*) from ticket")
        .fetch_one(&mut server.database.connect().await)
        .await
        .unwrap();
    assert_eq!(kept, 1);
    server.stop().await;
}

#[tokio::test]
async fn the_ticket_of_a_revoked_device_opens_nothing() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let second = server.second_device(&alice).await;
    let lost = ticket(&second, StreamEvents::NSID).await;
    let own = ticket(&alice, StreamEvents::NSID).await;
    alice
        .procedure::<RevokeDevice>(&revoke_device::Input { device: second.device().to_string(), revocation: None })
        .await
        .unwrap();
    assert!(!opens(&server, &lost).await);
    assert!(opens(&server, &own).await);
    server.stop().await;
}

#[tokio::test]
async fn the_ticket_of_a_suspended_account_opens_nothing() {
    let (server, operator) = TestServer::start_with_operator().await;
    let alice = server.newcomer("alice", 0).await;
    let (lost, kept) = (ticket(&alice, StreamEvents::NSID).await, ticket(&alice, StreamEvents::NSID).await);
    for (suspended, ticket) in [(true, lost), (false, kept)] {
        let input = suspend_account::Input { account: alice.did().clone(), suspended, reason: None };
        operator.procedure::<SuspendAccount>(&input).await.unwrap();
        assert_eq!(opens(&server, &ticket).await, !suspended);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_eleventh_open_ticket_ends_the_oldest_however_many_are_asked_for_at_once() {
    let clock = Clock::manual(UnixMillis(Clock::System.now().0));
    let server = TestServer::start_at(clock.clone(), &[]).await;
    let alice = server.person("alice").await;
    let mut tickets = Vec::new();
    for _ in 0..11 {
        tickets.push(ticket(&alice, StreamEvents::NSID).await);
        clock.advance_ms(1);
    }
    assert!(!opens(&server, &tickets[0]).await);
    assert!(opens(&server, &tickets[1]).await && opens(&server, &tickets[10]).await);
    let many = (0..30).map(|_| {
        let alice = std::sync::Arc::clone(&alice);
        async move { ticket(&alice, StreamEvents::NSID).await }
    });
    at_once(many).await;
    let open: i64 = sqlx::query_scalar("select count(*) from ticket")
        .fetch_one(&mut server.database.connect().await)
        .await
        .unwrap();
    assert_eq!(open, 10);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_calls_with_one_ticket_on_two_replicas_one_has_it() {
    let server = TestServer::start().await;
    let replica = server.replica().await;
    let alice = server.person("alice").await;
    let http = rookery::identity::http::plain().unwrap();
    for _ in 0..5 {
        let ticket = ticket(&alice, StreamEvents::NSID).await;
        let calls = [server.url(), format!("http://{}", replica.address())].into_iter().cycle().take(10).map(|url| {
            let call = http.get(format!("{url}/xrpc/{}?ticket={ticket}", StreamEvents::NSID));
            async move { call.send().await.unwrap().status().as_u16() }
        });
        let mut statuses = at_once(calls).await;
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![200], vec![401; 9]].concat());
    }
    replica.stop().await.unwrap();
    server.stop().await;
}
