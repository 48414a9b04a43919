//! Seats follow from entries and from nothing else: the entries alone, taken over by an empty database, give the same
//! seats, leaves, epochs and heads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rookery::lexicon::mls::leave_convo::{self, LeaveConvo};
use rookery::log::{Adopted, Held, Span};
use rookery_testkit::Person;

use crate::support::{Instances, TestServer, certify, chance, idem};

/// Instances of the server whose entries are replayed.
const INSTANCES: usize = 3;
const CONVERSATIONS: usize = 3;
const PEOPLE: usize = 6;
const CHANGES: usize = 14;
/// Entries in one span at most.
const SPAN: usize = 9;

#[tokio::test(flavor = "multi_thread")]
async fn replaying_all_entries_into_an_empty_database_gives_equal_seats() {
    let mut chance = chance();
    let servers = Instances::start(INSTANCES).await;
    let server = &servers.first;
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        let person = server.person(&format!("person {number}")).await;
        person.publish(20, false).await.unwrap();
        if number % 2 == 0 {
            let second = server.second_device(&person).await;
            certify(&person, &second).await;
            second.publish(20, true).await.unwrap();
        }
        people.push(servers.spread(&person));
    }
    let histories: Vec<_> = (0..CONVERSATIONS)
        .map(|_| tokio::spawn(history(people.clone(), StdRng::seed_from_u64(chance.random()))))
        .collect();
    for history in histories {
        history.await.unwrap();
    }
    server.settled().await;

    let follower = TestServer::start_with(&[("SERVICE_DID", "did:web:follower.test")]).await;
    let log = follower.server().services().log.clone();
    let mut streams = everything(server).await;
    let entries: usize = streams.values().map(|stream| stream.entries.len()).sum();
    assert!(entries > 60, "there was a history: {entries} entries");
    // Streams in any order, in spans of any length that overlap what was sent before.
    while !streams.is_empty() {
        let chosen = chance.random_range(0..streams.len());
        let name = streams.keys().nth(chosen).unwrap().clone();
        let stream = streams.get_mut(&name).unwrap();
        let from = stream.sent.saturating_sub(chance.random_range(0..3));
        let until = (stream.sent + chance.random_range(1..=SPAN)).min(stream.entries.len());
        let entries = stream.entries[from..until].to_vec();
        let (home, genesis, erased) = (TestServer::did(), stream.genesis.clone(), BTreeSet::new());
        let span = Span { home, genesis, anchor: None, entries, erased, checkpoint: None };
        match log.adopt(&span).await.unwrap() {
            Adopted::Stored { head, fresh } => {
                assert_eq!((head.seq.0, fresh), (until as u64, (until - stream.sent) as u64));
            }
            other => panic!("{other:?}"),
        }
        stream.sent = until;
        if until == stream.entries.len() {
            streams.remove(&name);
        }
    }
    for what in [SEATS, LEAVES, STREAMS, ENTRIES] {
        let (theirs, ours) = (rows(server, what).await, rows(&follower, what).await);
        assert!(theirs.len() > PEOPLE, "there is something to compare");
        assert_eq!(ours, theirs);
    }
    follower.stop().await;
    servers.stop().await;
}

/// One conversation's life: people come, speak, leave, are removed and come back, with one device or two; in the end
/// the founder hands over and leaves. Each call goes to any instance.
async fn history(mut people: Vec<Vec<Arc<Person>>>, mut chance: StdRng) {
    let founder_everywhere = people.swap_remove(chance.random_range(0..people.len()));
    let stream = founder_everywhere[0].create_convo().await.unwrap();
    for _ in 0..CHANGES {
        let founder = &founder_everywhere[chance.random_range(0..INSTANCES)];
        let person = &people[chance.random_range(0..people.len())][chance.random_range(0..INSTANCES)];
        let targets = [person.did().clone()];
        // What does not fit the moment is refused, and changes nothing.
        let _refused = match chance.random_range(0..6) {
            0..3 => founder.add_members(&stream, &targets).await.map(|_| ()),
            3 => founder.remove_members(&stream, &targets).await.map(|_| ()),
            4 => leave(person, &stream, None).await,
            _ => founder.send(&stream, b"words").await.map(|_| ()),
        };
    }
    let founder = &founder_everywhere[0];
    let members = founder.convo(&stream).await.unwrap().members;
    let heir = members.iter().find(|member| member.account != *founder.did()).map(|member| member.account.clone());
    leave(founder, &stream, heir).await.unwrap();
}

async fn leave(
    person: &Person,
    stream: &str,
    new_admin: Option<rookery::types::Did>,
) -> Result<(), rookery_client::ClientError> {
    let input = leave_convo::Input { stream: stream.to_owned(), idem: idem(), new_admin, erase: None, immediate: None };
    person.procedure::<LeaveConvo>(&input).await?;
    Ok(())
}

struct Stream {
    genesis: Vec<u8>,
    entries: Vec<Held>,
    sent: usize,
}

/// Every stream of the database, by its name: nothing but what a server would be sent.
async fn everything(server: &TestServer) -> BTreeMap<String, Stream> {
    let rows = sqlx::query_as::<_, (String, Vec<u8>, Vec<u8>, Option<Vec<u8>>)>(
        "select t.public_id, t.genesis, e.header, e.content from entry_content e join stream t on t.id = e.stream_id
         order by e.stream_id, e.seq",
    );
    let mut streams = BTreeMap::new();
    for (name, genesis, header, content) in rows.fetch_all(&mut server.database.connect().await).await.unwrap() {
        let stream = streams.entry(name).or_insert_with(|| Stream { genesis, entries: Vec::new(), sent: 0 });
        stream.entries.push(Held { header, content });
    }
    streams
}

/// By public names only: row numbers and positions are each database's own.
const SEATS: &str = "select row_to_json(x)::text from (
    select t.public_id, a.did, s.from_seq, s.until_seq, s.role, s.server
    from seat s join stream t on t.id = s.stream_id join account a on a.id = s.account_id order by 1, 2, 3) x";
const LEAVES: &str = "select row_to_json(x)::text from (
    select t.public_id, a.did, d.public_id as device, l.from_seq, l.until_seq
    from seat_device l join stream t on t.id = l.stream_id join account a on a.id = l.account_id
    join device d on d.id = l.device_id order by 1, 2, 3, 4) x";
const STREAMS: &str = "select row_to_json(x)::text from (
    select public_id, kind, home, term, epoch, epoch_floor, head_seq, head_time, head_hash, state, genesis
    from stream order by 1) x";
const ENTRIES: &str = "select row_to_json(x)::text from (
    select t.public_id, e.seq, e.kind, e.epoch, e.created_at, e.header, e.content, e.hash
    from entry_content e join stream t on t.id = e.stream_id order by 1, 2) x";

async fn rows(server: &TestServer, what: &'static str) -> Vec<String> {
    sqlx::query_scalar(what).fetch_all(&mut server.database.connect().await).await.unwrap()
}
