use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::lexicon::Method;
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::lexicon::event::subscribe::Subscribe;
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::lexicon::mls::update_cursor::{self, UpdateCursor};
use rookery_testkit::Person;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{AccountToken, Said, Socket, TestServer, at_once, conversation, eventually};

async fn read_to(person: &Person, stream: &str, seq: u64) {
    let input = update_cursor::Input { stream: stream.to_owned(), seq };
    person.procedure::<UpdateCursor>(&input).await.unwrap();
}

/// The kind of what is on its way already.
async fn hears(socket: &mut Socket) -> Option<String> {
    let event = tokio::time::timeout(Duration::from_millis(50), socket.event()).await;
    event.ok().map(|(kind, _)| kind)
}

async fn exhaust(socket: &mut Socket) {
    while hears(socket).await.is_some() {}
}

/// Waits until a live socket is heard by the hub: another device's reading comes through.
async fn joined(socket: &mut Socket, other: &Person, stream: &str) {
    for _ in 0..100 {
        read_to(other, stream, 1).await;
        if hears(socket).await.is_some_and(|kind| kind == "#cursor") {
            exhaust(socket).await;
            return;
        }
    }
    panic!("the socket never joined");
}

/// All that listEvents shows, by stream and number.
async fn listed(person: &Person) -> Vec<(String, u64)> {
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = person.query::<ListEvents>(&list_events::Params { cursor, limit: 100 }).await.unwrap();
        seen.extend(page.events.into_iter().map(|event| (event.stream, event.seq)));
        cursor = Some(page.cursor);
        if !page.more {
            return seen;
        }
    }
}

#[tokio::test]
async fn whoever_may_not_subscribe_is_told_after_the_upgrade_and_closed_by_1008() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let good = || Some(alice.token(Subscribe::NSID));
    for (query, token, error) in [
        ("", None, "AuthenticationRequired"),
        ("", Some(alice.service_token(Subscribe::NSID)), "DeviceRequired"),
        ("", Some(alice.token(ListEvents::NSID)), "BadJwtLexiconMethod"),
        ("?cursor=x", good(), "InvalidRequest"),
        ("?cursor=1&cursor=2", good(), "InvalidRequest"),
        ("?cursor=9007199254740991", good(), "FutureCursor"),
    ] {
        println!("{query} {error}");
        Socket::connect(&server, query, token, None).await.ends(error, 1008).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_plain_get_is_told_to_upgrade() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let answer = server.at(http::Method::GET, &format!("/xrpc/{}", Subscribe::NSID));
    let answer = answer.bearer_auth(alice.token(Subscribe::NSID)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 426);
    assert_eq!(answer.headers()["upgrade"], "websocket");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_past_into_the_present_nothing_is_missing_and_nothing_comes_twice() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    for number in 0..30 {
        people[0].send(&stream, format!("before {number}").as_bytes()).await.unwrap();
    }
    let writers: Vec<_> = [0, 1]
        .map(|index| {
            let (person, stream) = (Arc::clone(&people[index]), stream.clone());
            tokio::spawn(async move {
                let mut last = 0;
                for number in 0..40 {
                    last = person.send(&stream, format!("during {number}").as_bytes()).await.unwrap().seq;
                }
                last
            })
        })
        .into();
    // Sockets that begin at different moments of the writing.
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(Socket::open(&server, &people[2], "?cursor=0").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut newest = 0;
    for writer in writers {
        newest = newest.max(writer.await.unwrap());
    }
    server.settled().await;
    let expected = listed(&people[2]).await;
    for socket in &mut sockets {
        assert_eq!(socket.until(&stream, newest).await, expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_subscription_resumes_after_its_cursor() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let first = people[0].send(&stream, b"first").await.unwrap();
    let mut socket = Socket::open(&server, &people[1], "?cursor=0&kinds=%23message").await;
    let (_, body) = socket.event().await;
    assert_eq!(body["seq"], first.seq);
    drop(socket);
    let second = people[0].send(&stream, b"second").await.unwrap();
    let query = format!("?cursor={}", body["cursor"].as_str().unwrap());
    let mut socket = Socket::open(&server, &people[1], &query).await;
    assert_eq!(socket.event().await.1["seq"], second.seq);
    socket.is_silent().await;
    server.stop().await;
}

#[tokio::test]
async fn a_filter_lets_through_its_streams_and_its_kinds_alone() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let other = people[0].create_convo().await.unwrap();
    let alice = &people[0];
    let of_stream = format!("?cursor=0&streams={stream}");
    let of_kind = "?cursor=0&kinds=%23message&kinds=%23commit".to_owned();
    let of_both = format!("?cursor=0&streams={stream}&streams={other}&kinds=%23message");
    let mut sockets = Vec::new();
    for query in [&of_stream, &of_kind, &of_both] {
        sockets.push(Socket::open(&server, alice, query).await);
    }
    alice.send(&other, b"elsewhere").await.unwrap();
    let last = alice.send(&stream, b"here").await.unwrap().seq;

    let heard = sockets[0].until(&stream, last).await;
    assert_eq!(heard, (1..=last).map(|seq| (stream.clone(), seq)).collect::<Vec<_>>(), "one stream, all of it");
    // The founding of each conversation is three entries.
    let heard = sockets[1].until(&stream, last).await;
    assert_eq!(heard, [(stream.clone(), 4), (other.clone(), 4), (stream.clone(), last)]);
    assert_eq!(sockets[2].until(&stream, last).await, [(other.clone(), 4), (stream.clone(), last)]);
    server.stop().await;
}

#[tokio::test]
async fn without_a_cursor_only_what_happens_from_now_on_is_heard() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let second = server.second_device(&people[0]).await;
    people[0].send(&stream, b"before").await.unwrap();
    // What was committed is handed out, and so is behind the socket.
    server.settled().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut socket = Socket::open(&server, &people[0], "").await;
    joined(&mut socket, &second, &stream).await;
    let now = people[1].send(&stream, b"now").await.unwrap();
    assert_eq!(socket.event().await.1["seq"], now.seq);
    server.stop().await;
}

#[tokio::test]
async fn reading_on_one_device_is_heard_on_the_others_and_never_kept() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let (alice, bob) = (&people[0], &people[1]);
    let second = server.second_device(alice).await;
    let signals = "?kinds=%23cursor";
    let mut others = Socket::open(&server, &second, signals).await;
    let mut own = Socket::open(&server, alice, signals).await;
    let mut bobs = Socket::open(&server, bob, signals).await;
    joined(&mut others, alice, &stream).await;
    joined(&mut own, &second, &stream).await;
    exhaust(&mut others).await;

    read_to(alice, &stream, 3).await;
    assert_eq!(others.event().await, ("#cursor".to_owned(), json!({ "stream": stream, "seq": 3 })));
    own.is_silent().await;
    bobs.is_silent().await;
    server.settled().await;
    let before = listed(alice).await;
    read_to(alice, &stream, 4).await;
    assert_eq!(listed(alice).await, before);
    server.stop().await;
}

#[tokio::test]
async fn a_signal_of_another_stream_does_not_pass_a_filter_of_streams() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let alice = &people[0];
    let other = alice.create_convo().await.unwrap();
    let second = server.second_device(alice).await;
    let mut socket = Socket::open(&server, &second, &format!("?streams={stream}&kinds=%23cursor")).await;
    joined(&mut socket, alice, &stream).await;
    read_to(alice, &other, 3).await;
    socket.is_silent().await;
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_server_closes_by_1001_so_that_clients_come_back() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let mut socket = Socket::open(&server, &alice, "?cursor=0").await;
    socket.event().await;
    let stopped = tokio::spawn(server.stop());
    let mut said = socket.next().await;
    while let Said::Event { .. } = said {
        said = socket.next().await;
    }
    assert!(matches!(said, Said::Closed { code: 1001, .. }), "{said:?}");
    drop(socket);
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_client_that_says_good_bye_is_answered_before_the_connection_ends() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let mut socket = Socket::open(&server, &alice, "").await;
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    socket.send(Message::Close(Some(close))).await;
    assert_eq!(socket.next().await, Said::Closed { code: 1000, reason: String::new() });
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_says_something_is_closed_by_1003() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    for message in [Message::text("hello"), Message::binary(vec![1])] {
        let mut socket = Socket::open(&server, &alice, "").await;
        socket.send(message).await;
        socket.ends("InvalidRequest", 1003).await;
    }
    let mut socket = Socket::open(&server, &alice, "?cursor=0").await;
    socket.send(Message::Ping(bytes::Bytes::new())).await;
    socket.event().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_is_ended_and_holds_up_nobody() {
    let server = TestServer::start_with(&[("SSE_BUFFER_SIZE", "1")]).await;
    let (stream, people) = conversation(&server, 2).await;
    let second = server.second_device(&people[1]).await;
    let token = people[1].token(Subscribe::NSID);
    let mut slow = Socket::connect(&server, "?kinds=%23message&kinds=%23cursor", Some(token), Some(2048)).await;
    joined(&mut slow, &second, &stream).await;
    let large = vec![7; 400_000];
    let mut last = 0;
    for _ in 0..10 {
        last = people[0].send(&stream, &large).await.unwrap().seq;
    }
    // All of it is in the past then: with a buffer of one, two live events at once are too many for anybody.
    server.settled().await;
    let query = format!("?cursor=0&streams={stream}");
    let mut quick = Socket::open(&server, &people[1], &query).await;
    quick.until(&stream, last).await;
    slow.ends("ConsumerTooSlow", 1008).await;
    server.stop().await;
}

#[tokio::test]
async fn revoking_a_device_closes_its_sockets_within_a_second_and_no_others() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let alice = &people[0];
    let second = server.second_device(alice).await;
    let mut revoked = Socket::open(&server, &second, "").await;
    joined(&mut revoked, alice, &stream).await;
    let mut stays = Socket::open(&server, alice, "?kinds=%23message&kinds=%23cursor").await;
    joined(&mut stays, &second, &stream).await;
    exhaust(&mut revoked).await;

    alice
        .procedure::<RevokeDevice>(&revoke_device::Input { device: second.device().to_string(), revocation: None })
        .await
        .unwrap();
    let started = Instant::now();
    revoked.ends("SubscriptionClosed", 1008).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let sent = people[1].send(&stream, b"still here").await.unwrap();
    assert_eq!(stays.event().await.1["seq"], sent.seq);
    let token = Some(second.token(Subscribe::NSID));
    Socket::connect(&server, "", token, None).await.ends("DeviceRevoked", 1008).await;
    server.stop().await;
}

/// More than one page, and more than a socket holds unread.
async fn long_past(writer: &Arc<Person>, stream: &str) {
    let large = vec![7; 20_000];
    let mut drafts = Vec::new();
    for _ in 0..210 {
        drafts.push(writer.draft_message(stream, &large).await.unwrap());
    }
    let calls = drafts.into_iter().map(|draft| {
        let writer = Arc::clone(writer);
        async move { writer.procedure::<SendMessage>(&draft).await.unwrap() }
    });
    at_once(calls).await;
}

/// A socket in the past whose client takes nothing.
async fn blocked(server: &TestServer, person: &Person) -> Socket {
    let mut socket = Socket::connect(server, "?cursor=0", Some(person.token(Subscribe::NSID)), Some(2048)).await;
    socket.event().await;
    socket
}

async fn after_events(socket: &mut Socket) -> Said {
    loop {
        match socket.next().await {
            Said::Event { .. } => {}
            said => return said,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_whose_client_takes_nothing_ends_within_a_second_of_the_revocation() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let (alice, bob) = (&people[0], &people[1]);
    long_past(alice, &stream).await;
    let second = server.second_device(bob).await;
    let mut socket = blocked(&server, &second).await;
    // A busy server needs a while until it has filled the connection, and waits for its client.
    tokio::time::sleep(Duration::from_secs(4)).await;
    bob.procedure::<RevokeDevice>(&revoke_device::Input { device: second.device().to_string(), revocation: None })
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Had the server waited for its client, it would say why now.
    assert_eq!(after_events(&mut socket).await, Said::Gone);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_are_still_in_the_past_count_among_the_five() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    long_past(&people[0], &stream).await;
    let mut sockets = Vec::new();
    for _ in 0..6 {
        sockets.push(blocked(&server, &people[1]).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let last = people[0].send(&stream, b"to five").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let said = after_events(&mut sockets.remove(0)).await;
    assert!(matches!(said, Said::Gone | Said::Error(_)), "{said:?}");
    for socket in &mut sockets {
        socket.until(&stream, last.seq).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_socket_whose_time_is_over_is_closed_by_1001() {
    let server = TestServer::start_with(&[("SOCKET_LIFE_SECONDS", "1")]).await;
    let alice = server.person("alice").await;
    let started = Instant::now();
    let mut socket = Socket::open(&server, &alice, "").await;
    let said = after_events(&mut socket).await;
    assert_eq!(said, Said::Closed { code: 1001, reason: "the socket's time is over".to_owned() });
    let life = started.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&life), "{life:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_device_ends_a_subscription_that_is_still_in_the_past() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let (alice, bob) = (&people[0], &people[1]);
    let second = server.second_device(bob).await;
    long_past(alice, &stream).await;
    let token = second.token(Subscribe::NSID);
    let mut socket = Socket::connect(&server, "?cursor=0", Some(token), Some(2048)).await;
    socket.event().await;
    bob.procedure::<RevokeDevice>(&revoke_device::Input { device: second.device().to_string(), revocation: None })
        .await
        .unwrap();
    let after = alice.send(&stream, b"after the revocation").await.unwrap();

    loop {
        match socket.next().await {
            Said::Event { body, .. } => assert!(body["stream"] != stream || body["seq"] != after.seq),
            said => {
                // Whoever takes nothing at that moment does not hear why.
                assert!(matches!(&said, Said::Error(error) if error == "SubscriptionClosed") || said == Said::Gone);
                break;
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn delivery_ends_with_the_entry_that_removes() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let (alice, bob, carol) = (&people[0], &people[1], &people[2]);
    let query = format!("?cursor=0&streams={stream}");
    let (mut bobs, mut carols) = (Socket::open(&server, bob, &query).await, Socket::open(&server, carol, &query).await);
    let removed = alice.remove_members(&stream, &[bob.did().clone()]).await.unwrap();
    let after = alice.send(&stream, b"without bob").await.unwrap();
    assert_eq!(carols.until(&stream, after.seq).await.last().unwrap().1, after.seq);
    assert_eq!(bobs.until(&stream, removed.seq).await.last().unwrap().1, removed.seq);
    bobs.is_silent().await;

    // Back again: from the commit that brought him on, nothing of between.
    bob.publish(1, false).await.unwrap();
    let back = alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
    let (_, body) = bobs.event().await;
    assert_eq!((&body["seq"], &body["stream"]), (&json!(back.seq), &json!(stream)));
    server.stop().await;
}

#[tokio::test]
async fn the_sixth_socket_of_a_device_ends_its_oldest() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let alice = &people[0];
    let second = server.second_device(alice).await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let mut socket = Socket::open(&server, alice, "").await;
        joined(&mut socket, &second, &stream).await;
        sockets.push(socket);
    }
    let mut sixth = Socket::open(&server, alice, "").await;
    joined(&mut sixth, &second, &stream).await;
    sockets.remove(0).ends("SubscriptionClosed", 1008).await;
    let sent = people[1].send(&stream, b"to five").await.unwrap();
    sockets.push(sixth);
    for mut socket in sockets {
        socket.until(&stream, sent.seq).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_two_pings_unanswered_is_closed() {
    let server = TestServer::start_with(&[("SOCKET_PING_MS", "200")]).await;
    let (_, people) = conversation(&server, 2).await;
    let mut attentive = Socket::open(&server, &people[0], "?kinds=%23message").await;
    let mut absent = Socket::open(&server, &people[1], "?kinds=%23message").await;
    // A socket that reads answers pings; the other socket does not read.
    for _ in 0..4 {
        attentive.is_silent().await;
    }
    assert_eq!(absent.next().await, Said::Gone);
    attentive.is_silent().await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_may_ping_sometimes_but_not_constantly() {
    let server = TestServer::start().await;
    let (_, people) = conversation(&server, 2).await;
    let mut socket = Socket::open(&server, &people[0], "?kinds=%23message").await;
    for _ in 0..3 {
        socket.send(Message::Ping(Vec::new().into())).await;
    }
    socket.is_silent().await;
    for _ in 0..10 {
        socket.send(Message::Ping(Vec::new().into())).await;
    }
    socket.ends("RateLimitExceeded", 1008).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_do_not_restart_the_backfill() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let mut database = server.database.connect().await;
    let mut watcher = server.database.connect().await;
    // How often the commonest statement waits: workers of the server wait too, each with a statement of its own.
    let mut backfills = async || {
        let waiting = "select coalesce(max(times), 0) from (
            select count(*) as times from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' group by query) statement";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut watcher).await.unwrap()
    };
    let mut held = sqlx::Connection::begin(&mut database).await.unwrap();
    sqlx::query("lock table seat in access exclusive mode").execute(&mut *held).await.unwrap();
    let mut socket = Socket::open(&server, &people[1], "?cursor=0").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    eventually("the backfill waits", async || backfills().await == 1).await;
    for _ in 0..6 {
        socket.send(Message::Ping(Vec::new().into())).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(backfills().await, 1, "one backfill, however often the client pings");
    held.rollback().await.unwrap();
    let sent = people[0].send(&stream, b"later").await.unwrap();
    socket.until(&stream, sent.seq).await;
    server.stop().await;
}
