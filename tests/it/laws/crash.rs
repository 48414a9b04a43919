//! Whatever is killed with -9 under load: nothing that was acknowledged is lost, and nothing is there twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery_client::{EventCursor, Feed, Received};
use rookery_testkit::Person;
use tokio::sync::{mpsc, watch};

use super::order::assert_unbroken;
use crate::support::{ChildServer, Fleet, Load, chance, grow};

const ROUNDS: usize = 3;
const SENDERS: usize = 4;
/// Rounds against two replicas, their Postgres and their Redis, unless `ROOKERY_SOAK_ROUNDS` says otherwise.
const FLEET_ROUNDS: usize = 10;
/// Rounds until there is another guest, and invitations of one: a last-resort package is good for ten in a day.
const GUEST_STAYS: usize = 8;
const INVITATIONS: usize = 12;
/// A subscriber that was killed away catches up within this time.
const CATCHES_UP: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_during_load_loses_no_acknowledged_message_and_doubles_none() {
    let mut server = ChildServer::start().await;
    let founder = server.person("founder").await;
    let mut people = vec![Arc::clone(&founder)];
    for number in 1..SENDERS {
        people.push(server.person(&format!("member {number}")).await);
    }
    let stream = founder.create_convo().await.unwrap();
    grow(&people, &stream).await;

    let load = Load::new(SENDERS);
    let sending = load.begin(&people, &stream, Duration::ZERO);
    for round in 0..ROUNDS {
        load.goes_on().await;
        // Once with its Postgres, so that recovery from the WAL is part of it.
        server.kill(round == 1).await;
        server.restart().await;
    }
    load.goes_on().await;
    load.end();
    let mut acknowledged: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for task in sending {
        for (seq, hash) in task.await.unwrap() {
            assert!(acknowledged.insert(seq, hash).is_none(), "two messages were told the same seq");
        }
    }

    let entries = founder.entries(&stream, 0).await.unwrap();
    assert_unbroken(&entries);
    let messages = entries.iter().filter(|entry| entry.kind == "#message").count();
    assert_eq!(messages, acknowledged.len(), "every send was acknowledged in the end, and none was written twice");
    for entry in entries.iter().filter(|entry| entry.kind == "#message") {
        assert_eq!(acknowledged.get(&entry.seq), Some(&entry.hash.0));
    }
    server.stop().await;
}

/// Senders and subscribers on both replicas; the founder invites and removes a guest all the time, so that commits,
/// seats, the outbox and the courier are part of it.
#[tokio::test(flavor = "multi_thread")]
async fn random_kill_9_of_replicas_postgres_and_redis_loses_nothing_and_doubles_nothing() {
    let mut chance = chance();
    let rounds = std::env::var("ROOKERY_SOAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds: usize = rounds.unwrap_or(FLEET_ROUNDS);
    let mut fleet = Fleet::start(2).await;
    let founder = fleet.person("founder", 0).await;
    let mut people = vec![Arc::clone(&founder)];
    for number in 0..SENDERS {
        people.push(fleet.person(&format!("member {number}"), number % 2).await);
    }
    let stream = founder.create_convo().await.unwrap();
    grow(&people, &stream).await;

    let (head, told) = watch::channel(None);
    // One subscriber on each replica; what a feed gives was checked against all that it gave before.
    let subscribers: Vec<_> = people[1..=2]
        .iter()
        .map(|person| {
            let feed = Feed::new(person, Some(EventCursor::oldest()));
            tokio::spawn(hear_until(feed, stream.clone(), told.clone()))
        })
        .collect();
    let load = Load::new(SENDERS);
    let senders = load.begin(&people[1..], &stream, Duration::ZERO);
    let (guests, invited) = mpsc::unbounded_channel();
    let inviting = tokio::spawn(invite(Arc::clone(&founder), stream.clone(), invited, Arc::clone(&load)));

    for round in 1..=rounds {
        if round % GUEST_STAYS == 1 {
            guests.send(fleet.person(&format!("guest of round {round}"), 1).await).unwrap();
        }
        load.goes_on().await;
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..400))).await;
        match chance.random_range(0..6) {
            0 => {
                fleet.crash_postgres().await;
                fleet.ready().await;
            }
            1 => {
                // Everything at once.
                fleet.kill(0).await;
                fleet.kill(1).await;
                fleet.kill_redis().await;
                fleet.crash_postgres().await;
                fleet.restart(1).await;
                fleet.restart_redis().await;
                fleet.restart(0).await;
            }
            2 => {
                fleet.kill_redis().await;
                // The senders go on without it.
                load.goes_on().await;
                fleet.restart_redis().await;
            }
            victim => {
                let victim = victim % 2;
                fleet.kill(victim).await;
                tokio::time::sleep(Duration::from_millis(chance.random_range(0..300))).await;
                fleet.restart(victim).await;
            }
        }
        if round % 20 == 0 {
            eprintln!("round {round} of {rounds}");
        }
    }
    load.goes_on().await;
    load.end();
    let mut acknowledged: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for task in senders {
        for (seq, hash) in task.await.unwrap() {
            assert!(acknowledged.insert(seq, hash).is_none(), "two messages were told the same seq");
        }
    }
    drop(guests);
    let invitations = inviting.await.unwrap();

    let entries = founder.entries(&stream, 0).await.unwrap();
    assert_unbroken(&entries);
    let written: BTreeMap<u64, Vec<u8>> = entries
        .iter()
        .filter(|entry| entry.kind == "#message")
        .map(|entry| (entry.seq, entry.hash.0.clone()))
        .collect();
    assert_eq!(written, acknowledged, "every send was acknowledged in the end, and each was written once");

    head.send(Some(entries.len() as u64)).unwrap();
    for task in subscribers {
        let heard = tokio::time::timeout(CATCHES_UP, task).await.expect("it catches up").unwrap();
        let expected: Vec<(u64, Vec<u8>)> = entries
            .iter()
            .filter(|entry| heard.first().is_some_and(|(first, _)| *first <= entry.seq))
            .map(|entry| (entry.seq, entry.hash.0.clone()))
            .collect();
        assert_eq!(heard, expected, "heard from its seat's first entry to the last, each once");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut invited = 0;
    for (guest, times) in invitations {
        assert_eq!(welcomes(&guest).await, times, "one notice for each invitation");
        invited += times;
    }
    eprintln!("{rounds} rounds, {} messages, {invited} invitations, {} entries", written.len(), entries.len());
    fleet.stop().await;
}

/// What a subscriber hears of that stream, until it has heard the entry that it is told at the end.
async fn hear_until(mut feed: Feed, stream: String, mut last: watch::Receiver<Option<u64>>) -> Vec<(u64, Vec<u8>)> {
    let mut heard: Vec<(u64, Vec<u8>)> = Vec::new();
    loop {
        let end = *last.borrow_and_update();
        if end.is_some_and(|end| heard.last().is_some_and(|(seq, _)| *seq >= end)) {
            return heard;
        }
        tokio::select! {
            received = feed.next() => match received.unwrap() {
                Received::Event(event) if event.stream == stream => heard.push((event.seq, event.hash.0.clone())),
                _ => {}
            },
            changed = last.changed() => changed.unwrap(),
        }
    }
}

/// Invites and removes one guest after the other; answers how often each was invited.
async fn invite(
    founder: Arc<Person>,
    stream: String,
    mut guests: mpsc::UnboundedReceiver<Arc<Person>>,
    load: Arc<Load>,
) -> Vec<(Arc<Person>, usize)> {
    let mut invitations = Vec::new();
    while let Some(guest) = guests.recv().await {
        let target = [guest.did().clone()];
        let mut times = 0;
        while times < INVITATIONS && guests.is_empty() && !load.has_ended() {
            founder.add_members(&stream, &target).await.unwrap();
            times += 1;
            founder.remove_members(&stream, &target).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        invitations.push((guest, times));
    }
    invitations
}

/// How many invitations the account's own stream tells.
async fn welcomes(guest: &Person) -> usize {
    let (mut found, mut cursor) = (0, "0".to_owned());
    loop {
        let page = guest.query::<ListEvents>(&list_events::Params { cursor: Some(cursor), limit: 100 }).await.unwrap();
        found += page.events.iter().filter(|event| event.kind == "#welcome").count();
        cursor = page.cursor;
        if !page.more {
            return found;
        }
    }
}
