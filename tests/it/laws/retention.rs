//! What time does to the log, by a clock that the test moves on.

use std::sync::Arc;

use rookery::lexicon::event::defs::Entry;
use rookery::lexicon::event::list_events::{ListEvents, Output, Params};
use rookery::lexicon::mls::claim_key_packages::{self, ClaimKeyPackages};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::lexicon::mls::update_cursor::{self, UpdateCursor};
use rookery::log::body::{Body, CommitBody};
use rookery::log::{Author, Draft, EntryKind, Job, Swept};
use rookery::types::{Bytes, Clock, Epoch};
use rookery_client::{ClientError, EventCursor, Feed, Heard, Received};
use rookery_testkit::Person;

use crate::support::{TestServer, conversation, eventually, grow, idem, refused};

const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;
const DAY_S: u64 = 24 * 60 * 60;

/// A server whose clock stands still until the test moves it.
struct World {
    server: TestServer,
    clock: Clock,
    began_ms: i64,
}

impl World {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let clock = Clock::manual(Clock::System.now());
        let server = TestServer::start_at(clock.clone(), settings).await;
        Self { server, began_ms: clock.now().0, clock }
    }

    /// Moves the clock on to so many days after the beginning.
    fn day(&self, day: i64) {
        let ms = self.began_ms + day * DAY_MS - self.clock.now().0;
        assert!(ms > 0, "time goes on");
        self.clock.advance_ms(ms);
    }

    async fn sweep(&self) -> Swept {
        // What a test of another process has open in this cluster may hold the fence for a moment.
        self.server.settled().await;
        self.server.server().services().log.sweep().await.unwrap()
    }

    async fn count(&self, table: &'static str) -> i64 {
        let query = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        sqlx::query_scalar(query).fetch_one(&mut self.server.database.connect().await).await.unwrap()
    }
}

/// Whoever was away for long makes itself known again, if the server asks for it.
async fn returns(person: &Person, stream: &str) {
    match person.convo(stream).await {
        Ok(_) => {}
        Err(error) if error.is("AccountProofExpired") || error.is("DeviceLapsed") => {
            person.register().await.unwrap();
            person.convo(stream).await.unwrap();
        }
        Err(error) => panic!("{error}"),
    }
}

async fn events(person: &Person, cursor: Option<&str>) -> Output {
    person.query::<ListEvents>(&Params { cursor: cursor.map(str::to_owned), limit: 100 }).await.unwrap()
}

/// A device that reads over a socket, goes away and comes back with its cursor.
struct Reader {
    person: Arc<Person>,
    cursor: EventCursor,
    outdated: bool,
    heard: Vec<Heard>,
}

impl Reader {
    fn new(person: &Arc<Person>) -> Self {
        Self { person: Arc::clone(person), cursor: EventCursor::oldest(), outdated: false, heard: Vec::new() }
    }

    /// Reads on up to this entry. What it reads is checked: nothing missing, nothing twice, every hash right.
    async fn read(&mut self, stream: &str, seq: u64) {
        (self.outdated, self.heard) = (false, Vec::new());
        let mut feed = Feed::new(&self.person, Some(self.cursor.clone()));
        loop {
            match feed.next().await.unwrap() {
                Received::Event(event) => {
                    self.heard.extend(self.person.hear(&event).await.unwrap());
                    if event.stream == stream && event.seq == seq {
                        break;
                    }
                }
                Received::Info(info) => self.outdated |= info.name == "OutdatedCursor",
                _ => {}
            }
        }
        self.cursor = feed.chains().cursor().unwrap().clone();
    }

    fn texts(&self) -> Vec<String> {
        let text = |heard: &Heard| match heard {
            Heard::Message { plaintext, .. } => Some(String::from_utf8(plaintext.clone()).unwrap()),
            _ => None,
        };
        self.heard.iter().filter_map(text).collect()
    }

    fn gone(&self) -> usize {
        self.heard.iter().filter(|heard| matches!(heard, Heard::Gone { .. })).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_return_after_20_and_60_and_100_days() {
    let world = World::start(&[]).await;
    let server = &world.server;
    let alice = server.person("alice").await;
    let mut people = vec![Arc::clone(&alice)];
    for name in ["twenty", "sixty", "hundred"] {
        people.push(server.newcomer(name, 1).await);
    }
    let stream = alice.create_convo().await.unwrap();
    grow(&people, &stream).await;
    let sent = alice.send(&stream, b"day 0").await.unwrap();
    let (mut twenty, mut sixty, mut hundred) =
        (Reader::new(&people[1]), Reader::new(&people[2]), Reader::new(&people[3]));
    for reader in [&mut twenty, &mut sixty, &mut hundred] {
        reader.read(&stream, sent.seq).await;
        assert_eq!((reader.texts(), reader.outdated), (vec!["day 0".to_owned()], false));
    }

    // Alice speaks, and members come and go, each in an epoch of its own.
    let speak = async |day: i64| {
        returns(&alice, &stream).await;
        alice.send(&stream, format!("day {day}").as_bytes()).await.unwrap().seq
    };
    let mut guests = Vec::new();
    for day in [5, 15] {
        world.day(day);
        speak(day).await;
        guests.push(server.newcomer("guest", 1).await);
        alice.add_members(&stream, &[guests[guests.len() - 1].did().clone()]).await.unwrap();
    }
    world.day(20);
    let last = speak(20).await;
    assert_eq!(world.sweep().await.rows(Job::Messages), 0);
    returns(&twenty.person, &stream).await;
    twenty.read(&stream, last).await;
    assert_eq!((twenty.texts().join(", "), twenty.gone()), ("day 5, day 15, day 20".to_owned(), 0));
    assert!(!twenty.outdated);
    assert_eq!(twenty.person.epoch(&stream).await.unwrap(), alice.epoch(&stream).await.unwrap());

    for day in [25, 40, 55] {
        world.day(day);
        speak(day).await;
        alice.remove_members(&stream, &[guests.pop().unwrap().did().clone()]).await.unwrap();
        guests.insert(0, server.newcomer("guest", 1).await);
        alice.add_members(&stream, &[guests[0].did().clone()]).await.unwrap();
    }
    world.day(60);
    let last = speak(60).await;
    assert_eq!(world.sweep().await.rows(Job::Messages), 5, "those of days 0, 5, 15, 20 and 25");
    returns(&sixty.person, &stream).await;
    sixty.read(&stream, last).await;
    assert_eq!((sixty.texts().join(", "), sixty.gone()), ("day 40, day 55, day 60".to_owned(), 4));
    assert!(sixty.outdated);
    assert_eq!(sixty.person.epoch(&stream).await.unwrap(), alice.epoch(&stream).await.unwrap());
    let entries = sixty.person.entries(&stream, 0).await.unwrap();
    let gone: Vec<&Entry> = entries.iter().filter(|entry| entry.body.is_none()).collect();
    assert_eq!(gone.len(), 5);
    assert!(gone.iter().all(|entry| entry.kind == "#message" && entry.salt.is_none()));

    for day in [75, 95] {
        world.day(day);
        speak(day).await;
    }
    world.day(100);
    refused(hundred.person.convo(&stream).await, 401, "DeviceLapsed");
    hundred.person.register().await.unwrap();
    hundred.person.convo(&stream).await.unwrap();
    // Its key packages ended long ago.
    hundred.person.live_for(300 * DAY_S).await;
    hundred.person.publish(1, false).await.unwrap();
    returns(&alice, &stream).await;
    let did = hundred.person.did().clone();
    alice.remove_members(&stream, std::slice::from_ref(&did)).await.unwrap();
    alice.add_members(&stream, &[did]).await.unwrap();
    let last = speak(100).await;
    world.sweep().await;
    hundred.read(&stream, last).await;
    assert!(hundred.outdated);
    assert_eq!(hundred.texts().join(", "), "day 75, day 95, day 100");
    assert_eq!(hundred.person.epoch(&stream).await.unwrap(), alice.epoch(&stream).await.unwrap());
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_call_gets_its_first_answer_for_35_days_and_is_a_new_call_after() {
    let world = World::start(&[]).await;
    let (stream, people) = conversation(&world.server, 2).await;
    let (alice, bob) = (&people[0], &people[1]);
    bob.publish(3, false).await.unwrap();
    let draft = alice.draft_message(&stream, b"again and again").await.unwrap();
    let claim = claim_key_packages::Input {
        claim_id: idem(),
        stream: stream.clone(),
        home: None,
        targets: vec![bob.did().clone()],
        cipher_suites: vec![1],
    };
    let first = alice.procedure::<SendMessage>(&draft).await.unwrap();
    let claimed = alice.procedure::<ClaimKeyPackages>(&claim).await.unwrap();

    world.day(34);
    world.sweep().await;
    returns(alice, &stream).await;
    assert_eq!(alice.procedure::<SendMessage>(&draft).await.unwrap(), first);
    assert_eq!(alice.procedure::<ClaimKeyPackages>(&claim).await.unwrap(), claimed);

    world.day(36);
    // Before a sweep, too.
    let second = alice.procedure::<SendMessage>(&draft).await.unwrap();
    assert!(second.seq > first.seq, "{second:?}");
    assert_eq!(alice.procedure::<SendMessage>(&draft).await.unwrap(), second, "it has a name again");
    let swept = world.sweep().await;
    assert!(swept.rows(Job::Answers) > 0, "{swept:?}");
    let again = alice.procedure::<ClaimKeyPackages>(&claim).await.unwrap();
    assert_ne!(again, claimed);

    let identities = async || world.count("call_identity").await;
    let before = identities().await;
    // A period of 35 days ends at most 35 days after the first call, and its partition goes 35 days later.
    world.day(71);
    assert!(world.sweep().await.rows(Job::Identities) > 0);
    assert!(identities().await < before);
    world.server.stop().await;
}

/// A handshake that changes keys alone, as the log would take it from a method that checked it.
async fn key_change(world: &World, person: &Person, stream: &str) -> u64 {
    let row: (i64, i64) = sqlx::query_as("select account_id, id from device where public_id = $1")
        .bind(person.device().as_str())
        .fetch_one(&mut world.server.database.connect().await)
        .await
        .unwrap();
    let (did, device) = (person.did().clone(), person.device().clone());
    let author = Author { account_id: row.0, device_row: row.1, did, device };
    let log = &world.server.server().services().log;
    let id = log.find_stream(stream).await.unwrap().unwrap().id;
    let mut tx = log.lock(id).await.unwrap();
    let seat = tx.seat(&author, true).await.unwrap();
    let body = CommitBody { commit: Bytes(b"new keys".to_vec()), adds: Vec::new(), removes: Vec::new() };
    let body = body.encode().unwrap();
    let draft = Draft { kind: EntryKind::Commit, epoch: Some(Epoch(1)), body, identity: None };
    let sealed = tx.append(&seat, draft).await.unwrap();
    tx.commit().await.unwrap();
    sealed.seq.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_outlasts_its_term_until_every_device_returned_or_lapsed() {
    let world = World::start(&[("RETENTION_COMMITS_DAYS", "30")]).await;
    let (stream, people) = conversation(&world.server, 2).await;
    let (alice, bob) = (&people[0], &people[1]);
    let is_kept = async |seq: u64| {
        returns(alice, &stream).await;
        world.sweep().await;
        alice.entries(&stream, seq - 1).await.unwrap()[0].body.is_some()
    };
    world.clock.advance_ms(2 * HOUR_MS);
    let first = key_change(&world, alice, &stream).await;
    world.day(29);
    assert!(is_kept(first).await, "its term");
    world.day(40);
    assert!(is_kept(first).await, "Bob has not been seen since");
    returns(bob, &stream).await;
    assert!(!is_kept(first).await);

    world.clock.advance_ms(2 * HOUR_MS);
    let second = key_change(&world, alice, &stream).await;
    world.day(80);
    assert!(is_kept(second).await, "Bob was seen 40 days ago, before it");
    world.day(135);
    assert!(!is_kept(second).await, "Bob has lapsed");

    // What changes seats is never taken out, and the chain holds over what was.
    let entries = alice.entries(&stream, 0).await.unwrap();
    let kept = |kind: &str| entries.iter().filter(|e| e.kind == kind && e.body.is_some()).count();
    assert_eq!((kept("#opened"), kept("#convo"), kept("#membership"), kept("#commit")), (1, 1, 1, 1));
    let gone: Vec<u64> = entries.iter().filter(|entry| entry.body.is_none()).map(|entry| entry.seq).collect();
    assert_eq!(gone, [first, second]);
    let mut cursor = None;
    let mut chains = rookery_client::Chains::new(alice.did().clone(), None);
    loop {
        let page = events(alice, cursor.as_deref()).await;
        page.events.iter().for_each(|event| chains.extend(event).unwrap());
        cursor = Some(page.cursor);
        if !page.more {
            break;
        }
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_before_what_aged_out_is_outdated_and_notices_go_after_120_days() {
    let world = World::start(&[]).await;
    let (stream, people) = conversation(&world.server, 2).await;
    let bob = &people[1];
    people[0].send(&stream, b"soon gone").await.unwrap();
    world.server.settled().await;
    let early = events(bob, None).await.events[0].cursor.clone();
    assert_eq!(events(bob, Some(&early)).await.outdated, None);

    let bodies = async |kind: &str| {
        let events = events(bob, None).await.events;
        let of_kind: Vec<bool> = events.iter().filter(|e| e.kind == kind).map(|e| e.body.is_some()).collect();
        of_kind
    };
    for (day, message, welcome) in [(29, true, true), (60, false, true), (119, false, true), (121, false, false)] {
        world.day(day);
        returns(bob, &stream).await;
        world.sweep().await;
        assert_eq!(bodies("#message").await, [message], "day {day}");
        assert_eq!(bodies("#welcome").await, [welcome], "day {day}");
        assert_eq!(events(bob, Some(&early)).await.outdated, (!message).then_some(true), "day {day}");
    }
    for kind in ["#opened", "#membership", "#device", "#commit"] {
        let bodies = bodies(kind).await;
        assert!(!bodies.is_empty() && bodies.iter().all(|kept| *kept), "{kind}");
    }
    let last = events(bob, None).await;
    assert_eq!(last.outdated, None, "whoever asks for what is kept gets what is kept");
    assert_eq!(events(bob, Some(&last.cursor)).await.outdated, None);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_key_packages_and_old_welcomes_go_and_read_positions_stay() {
    let world = World::start(&[]).await;
    let (stream, people) = conversation(&world.server, 2).await;
    let bob = &people[1];
    bob.procedure::<UpdateCursor>(&update_cursor::Input { stream: stream.clone(), seq: 2 }).await.unwrap();
    let counts = async || {
        let mut counts = Vec::new();
        for table in ["key_package", "key_package_claim", "welcome", "welcome_pointer", "read_position"] {
            counts.push(world.count(table).await);
        }
        counts
    };
    let all = counts().await;
    assert!(all.iter().all(|count| *count > 0), "{all:?}");
    // Expired, but kept for as long as they are told to be.
    world.day(89);
    world.sweep().await;
    assert_eq!(counts().await, all);
    world.day(92);
    let swept = world.sweep().await;
    assert_eq!(counts().await, [0, 0, 0, 0, 1]);
    assert_eq!((swept.rows(Job::KeyPackages), swept.rows(Job::Welcomes)), (all[0].unsigned_abs(), 1));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_device_is_offered_to_nobody_and_offered_again_once_it_registered() {
    let world = World::start(&[("DEVICE_LAPSE_DAYS", "10")]).await;
    let (stream, people) = conversation(&world.server, 1).await;
    let alice = &people[0];
    let bob = world.server.newcomer("bob", 3).await;
    world.day(9);
    returns(alice, &stream).await;
    alice.claim(&stream, &[bob.did().clone()]).await.unwrap();
    world.day(12);
    returns(alice, &stream).await;
    let error = alice.claim(&stream, &[bob.did().clone()]).await.unwrap_err();
    assert!(matches!(&error, ClientError::NotClaimable(problem) if problem == "exhausted"), "{error}");
    refused(bob.publish(1, false).await, 401, "DeviceLapsed");

    bob.register().await.unwrap();
    bob.publish(1, false).await.unwrap();
    alice.claim(&stream, &[bob.did().clone()]).await.unwrap();
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_sweep_at_once_do_it_once() {
    let world = World::start(&[]).await;
    let (stream, people) = conversation(&world.server, 2).await;
    let replica = world.server.replica().await;
    for number in 0..30 {
        people[0].send(&stream, format!("message {number}").as_bytes()).await.unwrap();
    }
    world.server.settled().await;
    world.day(31);
    let (here, there) = (&world.server.server().services().log, &replica.services().log);
    let (here, there) = tokio::join!(here.sweep(), there.sweep());
    assert_eq!(here.unwrap().rows(Job::Messages) + there.unwrap().rows(Job::Messages), 30);
    assert_eq!(world.sweep().await.rows(Job::Messages), 0, "once");
    replica.stop().await.unwrap();
    world.server.stop().await;
}

/// The first message of the stream is dated ahead by `ahead`, an interval of Postgres.
async fn dated_ahead(world: &World, ahead: &str) {
    let (stream, people) = conversation(&world.server, 2).await;
    for text in [&b"one"[..], b"two", b"three"] {
        people[0].send(&stream, text).await.unwrap();
    }
    let date = "update entry set created_at = created_at + $2::text::interval where pos = (
                    select pos from entry where kind = $1 order by pos limit 1)";
    let mut connection = world.server.database.connect().await;
    let kind = EntryKind::Message.to_db();
    sqlx::query(date).bind(kind).bind(ahead).execute(&mut connection).await.unwrap();
}

async fn messages_left(world: &World) -> i64 {
    let left = "select count(*) from entry_content where kind = $1 and content is not null";
    let mut connection = world.server.database.connect().await;
    sqlx::query_scalar(left).bind(EntryKind::Message.to_db()).fetch_one(&mut connection).await.unwrap()
}

/// A clock that was a year ahead for a moment must not keep erased contents for a year.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_dated_ahead_holds_back_no_sweep() {
    let world = World::start(&[]).await;
    dated_ahead(&world, "1 year").await;
    world.day(31);
    world.sweep().await;
    assert_eq!(messages_left(&world).await, 0);
    world.server.stop().await;
}

/// The date has come when the other contents age, and looks like the date of a young entry.
#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_has_come_holds_back_no_sweep() {
    let world = World::start(&[]).await;
    dated_ahead(&world, "20 days").await;
    world.day(1);
    world.sweep().await;
    let (stream, people) = conversation(&world.server, 2).await;
    people[0].send(&stream, b"a day later").await.unwrap();
    for (day, left) in [(30, 4), (31, 1), (32, 0)] {
        world.day(day);
        world.sweep().await;
        assert_eq!(messages_left(&world).await, left, "day {day}");
    }
    world.server.stop().await;
}

#[tokio::test]
async fn devices_of_a_did_without_a_document_end_after_a_day() {
    let world = World::start(&[]).await;
    let alice = world.server.person("alice").await;
    let stream = alice.create_convo().await.unwrap();
    world.server.directory.withdraw(alice.did());
    world.clock.advance_ms(2 * HOUR_MS);
    // The first call has the stale document fetched again, and a later call finds that there is none.
    eventually("the server has noted it", async || {
        alice.convo(&stream).await.unwrap();
        world.count("account where did_gone_at is not null").await == 1
    })
    .await;
    world.clock.advance_ms(23 * HOUR_MS);
    alice.convo(&stream).await.unwrap();
    world.clock.advance_ms(2 * HOUR_MS);
    refused(alice.convo(&stream).await, 401, "UnknownDid");

    world.server.directory.add(alice.account());
    // The server remembers for a minute that there was no document.
    eventually("the document is found again", async || {
        world.clock.advance_ms(61 * 1000);
        alice.convo(&stream).await.is_ok()
    })
    .await;
    assert_eq!(world.count("account where did_gone_at is not null").await, 0);
    world.server.stop().await;
}

/// A dropped partition frees its disk at once, whatever Postgres vacuums.
#[tokio::test(flavor = "multi_thread")]
async fn contents_of_a_week_go_with_their_partition() {
    let world = World::start(&[]).await;
    let (stream, people) = conversation(&world.server, 2).await;
    for text in [&b"one"[..], b"two", b"three"] {
        people[0].send(&stream, text).await.unwrap();
    }
    world.server.settled().await;
    let messages = async || world.count("content where week > 0").await;
    let kept = world.count("content where week = 0").await;
    assert_eq!(messages().await, 3);

    world.day(31);
    let swept = world.sweep().await;
    assert_eq!((swept.rows(Job::Messages), swept.rows(Job::ContentWeeks)), (3, 0));
    assert_eq!(
        (messages_left(&world).await, messages().await),
        (0, 3),
        "hidden, and on the disk until the week is over"
    );
    world.day(38);
    assert!(world.sweep().await.rows(Job::ContentWeeks) > 0);
    assert_eq!((messages().await, world.count("content where week = 0").await), (0, kept));

    returns(&people[0], &stream).await;
    let sent = people[0].send(&stream, b"a later week").await.unwrap();
    let entries = people[0].entries(&stream, sent.seq - 1).await.unwrap();
    assert!(entries[0].body.is_some(), "a week that begins has its partition");
    world.server.stop().await;
}
