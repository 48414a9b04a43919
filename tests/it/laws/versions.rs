//! Servers of two versions on one stream: this server keeps and shows entries of a later version, and derives nothing
//! from them; an entry that requires an unknown feature makes the stream read-only until this server is upgraded.

use rookery::lexicon::event::defs::Event;
use rookery::lexicon::event::list_events::{ListEvents, Params};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::log::body::{Body, MembershipBody, MembershipChange, Role};
use rookery::log::{Adopted, Draft, EntryKind, Error, Log, StreamState};
use rookery::types::Seq;
use rookery_client::{Feed, Received};
use rookery_testkit::Person;
use serde_json::json;
use sqlx::Connection;

use crate::support::fake_home::FakeHome;
use crate::support::{TestServer, conversation};

const FEATURE: &str = "test.future";

/// Seats an account of this server in a stream of another home, as its creator.
fn seat(home: &mut FakeHome, person: &Person) {
    let body = MembershipBody {
        account: person.did().clone(),
        change: MembershipChange::Opened,
        role: None,
        server: Some(TestServer::did().to_string()),
    };
    home.order(EntryKind::Membership, body.encode().unwrap());
}

/// The account has accepted, and sees the entries that its seat covers.
async fn show_seats(server: &TestServer) {
    sqlx::query("update seat set held = false").execute(&mut server.database.connect().await).await.unwrap();
}

async fn adopt(log: &Log, home: &FakeHome) -> (u64, u64) {
    match log.adopt(&home.all()).await.unwrap() {
        Adopted::Stored { head, fresh } => (head.seq.0, fresh),
        other => panic!("{other:?}"),
    }
}

async fn events_of(person: &Person, stream: &str) -> Vec<Event> {
    let page = person.query::<ListEvents>(&Params { cursor: None, limit: 100 }).await.unwrap();
    page.events.into_iter().filter(|event| event.stream == stream).collect()
}

/// A body of a later version.
fn later(body: &serde_json::Value) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_later_kind_is_kept_shown_and_replicated() {
    let server = TestServer::start().await;
    let log = server.server().services().log.clone();
    let alice = server.person("alice").await;
    let mut home = FakeHome::new();
    seat(&mut home, &alice);
    adopt(&log, &home).await;
    show_seats(&server).await;
    server.settled().await;
    let mut feed = Feed::new(&alice, None);
    feed.connect().await.unwrap();

    home.order_named("#poll", None, later(&json!({ "question": "when?" })));
    home.message();
    assert_eq!(adopt(&log, &home).await, (4, 2));
    let heard = [feed.next().await.unwrap(), feed.next().await.unwrap()];
    let kinds = heard.each_ref().map(|received| match received {
        Received::Event(event) => event.kind.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(kinds, ["#poll", "#message"], "the chain is checked over the unknown entry");

    server.settled().await;
    let events = events_of(&alice, home.head.stream.as_str()).await;
    assert_eq!(
        events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(),
        ["#opened", "#membership", "#poll", "#message"]
    );
    assert_eq!(events[2].header.0, home.entries[2].header, "as its home made it");

    let stream = log.find_stream(home.head.stream.as_str()).await.unwrap().unwrap();
    let raw = log.raw_entries(stream.id, Seq(1), 100, 1 << 20, None).await.unwrap();
    let passed_on: Vec<_> = raw.into_iter().map(|entry| entry.held).collect();
    assert_eq!(passed_on, home.entries, "byte for byte");
    let polls = [rookery::log::NamedKind::from_name("#poll").unwrap()];
    let account: i64 = sqlx::query_scalar("select id from account where did = $1")
        .bind(alice.did().as_str())
        .fetch_one(&mut server.database.connect().await)
        .await
        .unwrap();
    let page = log.entries(stream.id, account, rookery::log::Direction::After(Seq(0)), &polls, 10).await.unwrap();
    assert_eq!(
        page.events.iter().map(|event| event.seq).collect::<Vec<_>>(),
        [Seq(3)],
        "a reader may ask for the kind"
    );

    let mut nameless = FakeHome::new();
    nameless.order_named("poll", None, Vec::new());
    match log.adopt(&nameless.all()).await {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.name, "Malformed"),
        other => panic!("{other:?}"),
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_and_changes_pass_and_unknown_roles_do_nothing() {
    let server = TestServer::start().await;
    let log = server.server().services().log.clone();
    let alice = server.person("alice").await;
    let mut home = FakeHome::new();
    seat(&mut home, &alice);
    let did = alice.did().as_str();
    let named =
        |change: &str, role: &str| later(&json!({ "account": did, "change": change, "role": role, "since": 7 }));
    home.order(EntryKind::Membership, named("promoted", "admin"));
    adopt(&log, &home).await;
    let stream = log.find_stream(home.head.stream.as_str()).await.unwrap().unwrap();
    let role = async || log.roster(stream.id).await.unwrap().seats[alice.did()].role.clone();
    assert_eq!(role().await, Role::Admin, "as it was opened");

    home.order(EntryKind::Membership, named("role", "moderator"));
    adopt(&log, &home).await;
    assert_eq!(role().await, Role::Unknown("moderator".to_owned()), "the name stays for a version that knows it");
    home.order(EntryKind::Membership, named("role", "member"));
    adopt(&log, &home).await;
    assert_eq!(role().await, Role::Member);

    // In a stream of this server, as a later version on the database may leave it.
    let (ours, people) = conversation(&server, 2).await;
    sqlx::query(
        "update seat s set role = 0, role_name = 'moderator', held = false from account a, stream t
                 where a.id = s.account_id and a.did = $1 and t.id = s.stream_id and t.public_id = $2",
    )
    .bind(people[1].did().as_str())
    .bind(&ours)
    .execute(&mut server.database.connect().await)
    .await
    .unwrap();
    sqlx::query("update stream set rules = rules + 1").execute(&mut server.database.connect().await).await.unwrap();
    let draft = people[1].draft_message(&ours, b"may I?").await.unwrap();
    let refused = people[1].procedure::<SendMessage>(&draft).await.unwrap_err();
    assert!(refused.is("NotMember"), "{refused}");
    let convo = people[1].convo(&ours).await.unwrap();
    assert_eq!(convo.role, "moderator", "the member reads, under the name of its role");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_feature_stops_a_follower_until_its_upgrade() {
    let server = TestServer::start().await;
    let log = server.server().services().log.clone();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let mut home = FakeHome::new();
    seat(&mut home, &alice);
    home.order_named(EntryKind::Membership.name(), Some(FEATURE), {
        let body = MembershipBody {
            account: bob.did().clone(),
            change: MembershipChange::Opened,
            role: None,
            server: Some(TestServer::did().to_string()),
        };
        body.encode().unwrap()
    });
    home.message();
    home.message();
    assert_eq!(adopt(&log, &home).await, (3, 3), "up to the entry, and not beyond it");
    let stream = log.find_stream(home.head.stream.as_str()).await.unwrap().unwrap();
    let halted = async || match log.adopt(&home.all()).await {
        Err(Error::Halted(state)) => state,
        other => panic!("{other:?}"),
    };
    assert_eq!(halted().await, StreamState::NeedsNewerVersion);
    assert_eq!(StreamState::NeedsNewerVersion.refuses(), Some("NewerVersionNeeded"));
    assert!(!log.roster(stream.id).await.unwrap().seats.contains_key(bob.did()), "the entry changed nothing");
    show_seats(&server).await;
    server.settled().await;
    let shown = events_of(&alice, home.head.stream.as_str()).await;
    assert_eq!(shown.len(), 3, "the entry is shown to those who could read before");

    // An instance of this version starts again: nothing changes.
    let replica = server.replica().await;
    assert_eq!(halted().await, StreamState::NeedsNewerVersion);
    replica.stop().await.unwrap();
    // The upgrade: a version that knows the feature lacks nothing.
    sqlx::query("update stream set requires = '{}'").execute(&mut server.database.connect().await).await.unwrap();
    assert_eq!(adopt(&log, &home).await, (5, 2), "the stream continues from its head");
    let seats = log.roster(stream.id).await.unwrap().seats;
    assert_eq!(seats[bob.did()].role, Role::Admin, "the entry was applied before what came after it");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_instance_applies_waiting_entries_at_start() {
    let server = TestServer::start().await;
    let log = server.server().services().log.clone();
    let alice = server.person("alice").await;
    let mut home = FakeHome::new();
    home.order_named(EntryKind::Membership.name(), Some(FEATURE), {
        let body = MembershipBody {
            account: alice.did().clone(),
            change: MembershipChange::Opened,
            role: None,
            server: Some(TestServer::did().to_string()),
        };
        body.encode().unwrap()
    });
    adopt(&log, &home).await;
    let stream = log.find_stream(home.head.stream.as_str()).await.unwrap().unwrap();
    assert!(log.roster(stream.id).await.unwrap().seats.is_empty());
    sqlx::query("update stream set requires = '{}'").execute(&mut server.database.connect().await).await.unwrap();
    let replica = server.replica().await;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while log.roster(stream.id).await.unwrap().seats.is_empty() {
        assert!(std::time::Instant::now() < until, "the entry waits");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    replica.stop().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_was_rolled_back_orders_nothing_it_cannot_judge() {
    let server = TestServer::start().await;
    let log = server.server().services().log.clone();
    let (stream, people) = conversation(&server, 2).await;
    let info = log.find_stream(&stream).await.unwrap().unwrap();
    // As a later version appends, on the same database.
    let mut tx = log.lock(info.id).await.unwrap();
    let by = tx.on_behalf(people[0].did()).await.unwrap();
    let draft = Draft { kind: EntryKind::Message, epoch: None, body: b"later".to_vec(), identity: None };
    let sealed = tx.append_requiring(&by, draft, FEATURE).await.unwrap();
    tx.commit().await.unwrap();

    let draft = people[1].draft_message(&stream, b"now").await.unwrap();
    let refused = people[1].procedure::<SendMessage>(&draft).await.unwrap_err();
    assert!(refused.is("NewerVersionNeeded"), "{refused}");
    server.settled().await;
    let entries = people[1].entries(&stream, sealed.seq.0 - 1).await.unwrap();
    assert_eq!(entries.len(), 1, "and shows all of it");
    sqlx::query("update stream set requires = '{}'").execute(&mut server.database.connect().await).await.unwrap();
    people[1].procedure::<SendMessage>(&draft).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_row_hides_no_other_row() {
    let server = TestServer::start_secluded(&[]).await;
    let (stream, people) = conversation(&server, 2).await;
    let reader = &people[1];
    let mut sent = Vec::new();
    for text in ["bad header", "good", "bad content", "good again"] {
        sent.push(people[0].send(&stream, text.as_bytes()).await.unwrap().seq);
    }
    server.settled().await;
    let mut database = server.database.connect().await;
    let header = "update entry e set header = 'broken' from stream t
                  where t.id = e.stream_id and t.public_id = $1 and e.seq = $2";
    let content = "update content c set bytes = 'broken' from entry e join stream t on t.id = e.stream_id
                   where c.week = e.week and c.pos = e.pos and t.public_id = $1 and e.seq = $2";
    for (query, seq) in [(header, sent[0]), (content, sent[2])] {
        let query = sqlx::query(query).bind(&stream).bind(i64::try_from(seq).unwrap());
        assert_eq!(query.execute(&mut database).await.unwrap().rows_affected(), 1);
    }
    let whole = |entries: &[(u64, bool)]| assert_eq!(entries, [(sent[1], true), (sent[2], false), (sent[3], true)]);

    let entries = reader.entries(&stream, sent[0] - 1).await.unwrap();
    whole(&entries.iter().map(|entry| (entry.seq, entry.body.is_some())).collect::<Vec<_>>());
    let events = events_of(reader, &stream).await;
    let events: Vec<_> = events.iter().filter(|event| event.seq >= sent[0]).collect();
    whole(&events.iter().map(|event| (event.seq, event.body.is_some())).collect::<Vec<_>>());
    // A page with only such a row still says where to continue.
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let page = reader.query::<ListEvents>(&Params { cursor: Some(cursor.clone()), limit: 1 }).await.unwrap();
        seen.extend(page.events.iter().filter(|event| event.stream == stream).map(|event| event.seq));
        assert!(page.cursor != cursor || !page.more, "a reader gets past the row");
        cursor = page.cursor;
        if !page.more {
            break;
        }
    }
    assert!(!seen.contains(&sent[0]) && seen.ends_with(&sent[1..]), "{seen:?}");

    // The tailer reads such a row: the test corrupts it while a held horizon hides it from all readers.
    let mut feed = Feed::new(&people[0], None);
    feed.connect().await.unwrap();
    let other = people[0].create_convo().await.unwrap();
    let mut holder = server.database.connect().await;
    let mut held = holder.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()").execute(&mut *held).await.unwrap();
    let spoilt = people[0].send(&stream, b"spoilt").await.unwrap().seq;
    sqlx::query(
        "update entry e set header = 'broken' from stream t
         where t.id = e.stream_id and t.public_id = $1 and e.seq = $2",
    )
    .bind(&stream)
    .bind(i64::try_from(spoilt).unwrap())
    .execute(&mut database)
    .await
    .unwrap();
    people[0].send(&other, b"neighbour").await.unwrap();
    held.rollback().await.unwrap();
    let heard = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        loop {
            if let Received::Event(event) = feed.next().await.unwrap()
                && event.stream == other
                && event.kind == "#message"
            {
                return event;
            }
        }
    });
    heard.await.expect("the neighbours arrive");
    server.stop().await;
}
