//! What another server ordered is taken over as it was made, whole, or not at all.

use std::collections::BTreeSet;

use rookery::log::body::{Body, HomeOpenedBody, HomeRestoredBody, MembershipBody, MembershipChange};
use rookery::log::chain::Head;
use rookery::log::{Adopted, EntryKind, Error, Held, Log, Span};
use rookery::types::{Bytes, Clock, Seq, Term, UnixMillis};

use crate::support::fake_home::{FakeHome as Home, HOME, MINUTE_MS, did};
use crate::support::{TestServer, conversation};

/// By which name the log refuses it.
async fn refusal(log: &Log, span: &Span) -> &'static str {
    match log.adopt(span).await {
        Err(Error::Refused(refusal)) => refusal.name,
        other => panic!("expected a refusal: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_together_is_refused_by_name_and_nothing_of_it_is_stored() {
    let server = TestServer::start().await;
    let log = server.server().services().log.clone();
    let mut home = Home::new();
    for _ in 0..4 {
        home.message();
    }
    let good = home.all();
    let other = Home::new();

    let change = |change: &dyn Fn(&mut Span)| {
        let mut span = good.clone();
        change(&mut span);
        span
    };
    let bad: Vec<(&str, Span)> = vec![
        ("Malformed", change(&|span| span.genesis.push(0))),
        ("ChainBroken", change(&|span| span.genesis.clone_from(&other.genesis))),
        ("ChainBroken", change(&|span| drop(span.entries.remove(2)))),
        ("ChainBroken", change(&|span| span.entries.swap(2, 3))),
        ("ChainBroken", change(&|span| span.entries[1] = other.entries[0].clone())),
        ("Malformed", change(&|span| span.entries[2].header.push(0))),
        ("Malformed", change(&|span| span.entries[2].header.truncate(20))),
        ("ContentMismatch", change(&|span| span.entries[2].content = span.entries[1].content.clone())),
        ("NotHome", change(&|span| span.home = did("did:web:elsewhere.test"))),
    ];
    for (name, span) in bad {
        assert_eq!(refusal(&log, &span).await, name);
    }
    // Two orders of one home, each unbroken, spliced.
    let mut fork = Home { genesis: home.genesis.clone(), head: Home::after(&home.entries[0]), entries: Vec::new() };
    fork.message();
    let spliced = change(&|span| span.entries[1] = fork.entries[0].clone());
    assert_eq!(refusal(&log, &spliced).await, "ChainBroken");
    let mut longer = good.clone();
    // The version as 0x18 0x01: the same number, not in its shortest form; its hash is no longer named, either.
    let at = longer.entries[4].header.iter().position(|&byte| byte == b'v').unwrap() + 1;
    longer.entries[4].header.splice(at..=at, [0x18, 0x01]);
    assert_eq!(refusal(&log, &longer).await, "Malformed");

    let mut falls = Home::new();
    falls.head.time = UnixMillis(falls.head.time.0 - 10);
    falls.message();
    assert_eq!(refusal(&log, &falls.all()).await, "ChainBroken", "time never falls");
    let mut seats = Home::new();
    seats.order(EntryKind::Membership, b"no map".to_vec());
    assert_eq!(refusal(&log, &seats.all()).await, "Malformed", "what changes seats can be read");
    let mut silent = Home::new();
    silent.head.term = silent.head.term.next();
    silent.message();
    assert_eq!(refusal(&log, &silent.all()).await, "StaleTerm", "a term begins with an entry that says so");

    let counted: i64 = sqlx::query_scalar("select count(*) from stream")
        .fetch_one(&mut server.database.connect().await)
        .await
        .unwrap();
    assert_eq!(counted, 0, "nothing was stored");
    assert!(matches!(log.adopt(&good).await.unwrap(), Adopted::Stored { fresh: 5, .. }));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlap_is_skipped_a_gap_is_told_and_a_contradiction_is_evidence() {
    let server = TestServer::start().await;
    let log = server.server().services().log.clone();
    let mut home = Home::new();
    for _ in 0..8 {
        home.message();
    }
    let stored = |adopted: Adopted| match adopted {
        Adopted::Stored { head, fresh } => (head.seq.0, fresh),
        other => panic!("{other:?}"),
    };
    assert_eq!(stored(log.adopt(&home.span(1, 3)).await.unwrap()), (3, 3));
    assert_eq!(stored(log.adopt(&home.span(2, 5)).await.unwrap()), (5, 2));
    assert_eq!(stored(log.adopt(&home.span(1, 4)).await.unwrap()), (5, 0), "nothing new");
    match log.adopt(&home.span(7, 9)).await.unwrap() {
        Adopted::Gap { head } => assert_eq!(head.seq, Seq(5)),
        other => panic!("{other:?}"),
    }
    // The same home says something else after entry 4.
    let mut forked =
        Home { genesis: home.genesis.clone(), head: home.head.clone(), entries: home.entries[..4].to_vec() };
    let fourth = rookery::log::chain::Header::decode(&home.entries[3].header).unwrap();
    forked.head.seq = Seq(4);
    forked.head.hash = rookery::log::chain::entry_hash(&home.entries[3].header);
    forked.head.time = fourth.time;
    forked.message();
    forked.message();
    match log.adopt(&forked.span(3, 6)).await.unwrap() {
        Adopted::Conflict(conflict) => {
            assert_eq!(conflict.seq, Seq(5));
            assert_eq!((&conflict.held, &conflict.shown), (&home.entries[4].header, &forked.entries[4].header));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stored(log.adopt(&home.all()).await.unwrap()), (9, 4), "what was held stayed");

    // The same span by many at once: stored once.
    let mut other = Home::new();
    other.message();
    let spans = (0..8).map(|_| {
        let (log, span) = (log.clone(), other.all());
        async move { log.adopt(&span).await.unwrap() }
    });
    let fresh: u64 = crate::support::at_once(spans).await.into_iter().map(|adopted| stored(adopted).1).sum();
    assert_eq!(fresh, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_may_begin_at_an_anchor_and_a_withheld_content_changes_no_seat() {
    let server = TestServer::start().await;
    let log = server.server().services().log.clone();
    let mut home = Home::new();
    home.message();
    let anchor = home.head.clone();
    let opened = MembershipBody {
        account: did("did:plc:ewvi7nxzyoun6zhxrhs64oiz"),
        change: MembershipChange::Opened,
        role: None,
        server: Some(HOME.to_owned()),
    };
    home.order(EntryKind::Membership, opened.encode().unwrap());
    home.message();
    let mut span = Span { anchor: Some(anchor), ..home.span(3, 4) };
    span.entries[0].content = None;
    match log.adopt(&span).await.unwrap() {
        Adopted::Stored { head, fresh } => assert_eq!((head, fresh), (home.head.clone(), 2)),
        other => panic!("{other:?}"),
    }
    let seats: i64 =
        sqlx::query_scalar("select count(*) from seat").fetch_one(&mut server.database.connect().await).await.unwrap();
    assert_eq!(seats, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_term_begins_with_an_entry_that_names_the_one_before_it() {
    let server = TestServer::start().await;
    let log = server.server().services().log.clone();
    let restored = |home: &Home, base: Seq| HomeRestoredBody {
        base,
        base_hash: Bytes(home.head.hash.to_vec()),
        restored_to: home.head.time,
    };
    let mut home = Home::new();
    home.message();
    log.adopt(&home.all()).await.unwrap();
    let (kept, term) = (home.entries.clone(), home.head.clone());

    for (body, new_term, name) in [
        (restored(&home, Seq(1)), term.term.next(), "ChainBroken"),
        (restored(&home, Seq(2)), term.term, "StaleTerm"),
        (restored(&home, Seq(2)), Term(term.term.0 - 1), "StaleTerm"),
    ] {
        home.head = Head { term: new_term, ..term.clone() };
        home.order(EntryKind::HomeRestored, body.encode().unwrap());
        assert_eq!(refusal(&log, &home.span(3, 3)).await, name);
        home.entries.clone_from(&kept);
    }
    home.head = Head { term: term.term.next(), ..term.clone() };
    let body = HomeRestoredBody { base: Seq(2), base_hash: Bytes(term.hash.to_vec()), restored_to: term.time };
    home.order(EntryKind::HomeRestored, body.encode().unwrap());
    home.message();
    assert!(matches!(log.adopt(&home.all()).await.unwrap(), Adopted::Stored { fresh: 2, .. }));

    // Another home goes on, and nobody believes the old one any more.
    let next = "did:web:next.test";
    let (kept, term) = (home.entries.clone(), home.head.clone());
    let opened = |home: &Home| {
        let (base, base_hash) = (home.head.seq, Bytes(home.head.hash.to_vec()));
        HomeOpenedBody { from: did(HOME), base, base_hash }.encode().unwrap()
    };
    let body = opened(&home);
    home.head.term = home.head.term.next();
    home.order(EntryKind::HomeOpened, body);
    assert_eq!(refusal(&log, &home.all()).await, "ChainBroken", "nobody handed it over");
    (home.entries, home.head) = (kept.clone(), term.clone());
    home.hand(next, Seq(term.seq.0 - 1));
    assert_eq!(refusal(&log, &home.all()).await, "ChainBroken", "the next home accepted another entry");
    (home.entries, home.head) = (kept, term.clone());
    home.hand(next, term.seq);
    assert!(matches!(log.adopt(&home.all()).await.unwrap(), Adopted::Stored { fresh: 1, .. }));
    let (kept, handed) = (home.entries.clone(), home.head.clone());
    home.message();
    let last = home.entries.len();
    assert_eq!(refusal(&log, &home.span(last, last)).await, "ChainBroken", "a term is opened first, by the next home");
    (home.entries, home.head) = (kept, handed);
    let body = opened(&home);
    home.head.term = home.head.term.next();
    home.order(EntryKind::HomeOpened, body);
    home.message();
    assert!(matches!(
        log.adopt(&Span { home: did(next), ..home.all() }).await.unwrap(),
        Adopted::Stored { fresh: 2, .. }
    ));
    home.message();
    assert_eq!(refusal(&log, &home.all()).await, "NotHome");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_of_the_row_decides_which_door_is_open() {
    let server = TestServer::start().await;
    let log = server.server().services().log.clone();
    let (stream, people) = conversation(&server, 2).await;
    let ours = log.find_stream(&stream).await.unwrap().unwrap();
    let span = ours_as_span(&server, &stream).await;
    assert_eq!(refusal(&log, &span).await, "NotHome", "what we order is not adopted");

    let foreign = Home::new();
    log.adopt(&foreign.all()).await.unwrap();
    let theirs = log.find_stream(foreign.head.stream.as_str()).await.unwrap().unwrap();
    match log.lock(theirs.id).await {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.name, "NotHome", "what others order is not appended to"),
        _ => panic!("a stream of another home was locked for appending"),
    }

    // While a stream recovers the doors change places, for both ways of appending.
    log.begin_recovery(ours.id).await.unwrap();
    assert!(matches!(log.adopt(&span).await.unwrap(), Adopted::Stored { fresh: 0, .. }));
    let draft = people[1].draft_message(&stream, b"meanwhile").await.unwrap();
    assert!(people[1].procedure::<rookery::lexicon::mls::send_message::SendMessage>(&draft).await.is_err());
    log.end_recovery(ours.id).await.unwrap();
    assert_eq!(refusal(&log, &span).await, "NotHome");
    let sent = people[1].procedure::<rookery::lexicon::mls::send_message::SendMessage>(&draft).await.unwrap();
    assert_eq!(sent.seq, span.entries.len() as u64 + 1);
    server.stop().await;
}

async fn ours_as_span(server: &TestServer, stream: &str) -> Span {
    let rows = sqlx::query_as::<_, (Vec<u8>, Vec<u8>, Option<Vec<u8>>)>(
        "select t.genesis, e.header, e.content from entry_content e join stream t on t.id = e.stream_id
         where t.public_id = $1 order by e.seq",
    );
    let rows = rows.bind(stream).fetch_all(&mut server.database.connect().await).await.unwrap();
    let genesis = rows[0].0.clone();
    let entries = rows.into_iter().map(|(_, header, content)| Held { header, content }).collect();
    Span { home: TestServer::did(), genesis, anchor: None, entries, erased: BTreeSet::new(), checkpoint: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_dated_ahead_is_adopted_and_counted() {
    let server = TestServer::start().await;
    let log = server.server().services().log.clone();
    let mut home = Home::new();
    let ahead = UnixMillis(Clock::System.now().0 + 365 * 24 * 60 * MINUTE_MS);
    home.order_at(ahead, EntryKind::Message, b"x".to_vec());
    home.order_at(ahead, EntryKind::Message, b"y".to_vec());
    assert!(matches!(log.adopt(&home.all()).await.unwrap(), Adopted::Stored { .. }));
    let newest: chrono::DateTime<chrono::Utc> = sqlx::query_scalar("select max(created_at) from entry")
        .fetch_one(&mut server.database.connect().await)
        .await
        .unwrap();
    assert_eq!(newest.timestamp_millis(), ahead.0, "the home dates its entries");
    server.stop().await;
}
