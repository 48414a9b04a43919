//! Three instances under load, while instances, connections of Postgres, Postgres and Redis are killed at random:
//! nothing that was acknowledged is lost, nothing is there twice, and all readers see one order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rookery::lexicon::event::defs::{Entry, Event};
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::lexicon::mls::send_message::{self, SendMessage};
use rookery_client::{EventCursor, Feed, Received};
use rookery_testkit::Person;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::order::assert_unbroken;
use crate::support::{Fleet, Load, chance, eventually, grow};

const INSTANCES: usize = 3;
const SENDERS: usize = 4;
/// Between two messages of one sender.
const PAUSE: Duration = Duration::from_millis(25);
/// A client calls another instance after so many milliseconds, also in the middle of a call that it repeats.
const MOVES_MS: std::ops::Range<u64> = 20..200;
/// Rounds until there is another guest, and invitations of one: a last-resort package is good for ten in a day.
const GUEST_STAYS: usize = 8;
const INVITATIONS: usize = 12;
/// A subscriber that was disconnected catches up within this time.
const CATCHES_UP: Duration = Duration::from_secs(30);
/// Acknowledged calls that are repeated once more at the end.
const REMEMBERED: usize = 100;

/// What goes wrong in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// One instance is killed with -9.
    InstanceKilled,
    /// All instances are killed at the same time.
    AllInstancesKilled,
    /// One instance stops running for a while, with its transactions open, and goes on.
    InstanceSuspended,
    /// Postgres ends some connections of the instances; one at least.
    ConnectionsTerminated,
    /// Redis is killed with -9, and the clients go on without it.
    RedisKilled,
    /// All of Postgres is killed with -9, and recovers from its log.
    PostgresKilled,
    EverythingKilled,
}

/// Faults are drawn without replacement, so that the short form meets each kind. The common accidents come more often.
const DECK: [Fault; 12] = [
    Fault::InstanceKilled,
    Fault::InstanceKilled,
    Fault::InstanceKilled,
    Fault::AllInstancesKilled,
    Fault::InstanceSuspended,
    Fault::ConnectionsTerminated,
    Fault::ConnectionsTerminated,
    Fault::ConnectionsTerminated,
    Fault::RedisKilled,
    Fault::RedisKilled,
    Fault::PostgresKilled,
    Fault::EverythingKilled,
];

#[derive(Default)]
struct Deck {
    left: Vec<Fault>,
    drawn: BTreeMap<Fault, usize>,
    terminated: usize,
}

impl Deck {
    fn draw(&mut self, chance: &mut StdRng) -> Fault {
        if self.left.is_empty() {
            self.left = DECK.to_vec();
        }
        let fault = self.left.swap_remove(chance.random_range(0..self.left.len()));
        *self.drawn.entry(fault).or_default() += 1;
        fault
    }

    /// Breaks something, and puts it right: all instances are ready afterwards.
    async fn strike(&mut self, fault: Fault, fleet: &mut Fleet, load: &Load, chance: &mut StdRng) {
        let instance = chance.random_range(0..INSTANCES);
        let a_while = Duration::from_millis(chance.random_range(0..300));
        match fault {
            Fault::InstanceKilled => {
                fleet.kill(instance).await;
                tokio::time::sleep(a_while).await;
                fleet.restart(instance).await;
            }
            Fault::AllInstancesKilled => {
                for instance in 0..INSTANCES {
                    fleet.kill(instance).await;
                }
                tokio::time::sleep(a_while).await;
                for instance in 0..INSTANCES {
                    fleet.restart(instance).await;
                }
            }
            Fault::InstanceSuspended => {
                fleet.suspend(instance);
                tokio::time::sleep(a_while * 5).await;
                fleet.resume(instance);
            }
            Fault::ConnectionsTerminated => {
                // Three times, so that connections which were made anew are hit too.
                for _ in 0..3 {
                    self.terminated += fleet.terminate_connections(chance).await;
                    tokio::time::sleep(a_while / 3).await;
                }
                fleet.ready().await;
            }
            Fault::RedisKilled => {
                fleet.kill_redis().await;
                load.goes_on().await;
                fleet.restart_redis().await;
            }
            Fault::PostgresKilled => {
                fleet.crash_postgres().await;
                fleet.ready().await;
            }
            Fault::EverythingKilled => {
                for instance in 0..INSTANCES {
                    fleet.kill(instance).await;
                }
                fleet.kill_redis().await;
                fleet.crash_postgres().await;
                fleet.restart(1).await;
                fleet.restart_redis().await;
                fleet.restart(0).await;
                fleet.restart(2).await;
            }
        }
    }
}

/// Senders, a member that repeats its calls, and listeners, all of whom move between the instances; the founder invites
/// and removes a guest all the time, so that commits, seats, the outbox and the courier are part of it.
#[tokio::test(flavor = "multi_thread")]
async fn random_faults_lose_double_and_reorder_nothing() {
    let mut chance = chance();
    let rounds = std::env::var("ROOKERY_SOAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds: usize = rounds.unwrap_or(DECK.len());
    let began = Instant::now();
    let mut fleet = Fleet::start(INSTANCES).await;
    let founder = fleet.person("founder", 0).await;
    let mut people = vec![Arc::clone(&founder)];
    for number in 0..SENDERS {
        people.push(fleet.person(&format!("sender {number}"), number % INSTANCES).await);
    }
    let repeater = fleet.person("repeater", 0).await;
    people.push(Arc::clone(&repeater));
    let mut listeners = Vec::new();
    for number in 0..INSTANCES {
        listeners.push(fleet.person(&format!("listener {number}"), number).await);
    }
    people.extend(listeners.iter().cloned());
    let stream = founder.create_convo().await.unwrap();
    grow(&people, &stream).await;

    let urls: Vec<String> = (0..INSTANCES).map(|instance| fleet.url(instance)).collect();
    let (head, told) = watch::channel(None);
    // What a feed gives was checked against all that it gave before.
    let mut subscriptions = Vec::new();
    for listener in &listeners {
        let mut feed = Feed::new(listener, Some(EventCursor::oldest()));
        feed.connect().await.unwrap();
        let connections = feed.connections();
        subscriptions.push((tokio::spawn(hear_until(feed, stream.clone(), told.clone())), connections));
    }
    let moving = tokio::spawn(move_between(urls, people.clone(), chance.random()));
    let load = Load::new(SENDERS);
    let senders = load.begin(&people[1..=SENDERS], &stream, PAUSE);
    let repeating = tokio::spawn(repeat(repeater, stream.clone(), Arc::clone(&load), chance.random()));
    let (guests, invited) = mpsc::unbounded_channel();
    let inviting = tokio::spawn(invite(Arc::clone(&founder), stream.clone(), invited, Arc::clone(&load)));

    let mut deck = Deck::default();
    for round in 1..=rounds {
        if round % GUEST_STAYS == 1 {
            guests.send(fleet.person(&format!("guest of round {round}"), 1).await).unwrap();
        }
        load.goes_on().await;
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..400))).await;
        let fault = deck.draw(&mut chance);
        deck.strike(fault, &mut fleet, &load, &mut chance).await;
        if round % 20 == 0 {
            eprintln!("round {round} of {rounds}, {} s", began.elapsed().as_secs());
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
    let repeated = repeating.await.unwrap();
    for (seq, hash) in &repeated.receipts {
        assert!(acknowledged.insert(*seq, hash.clone()).is_none(), "two messages were told the same seq");
    }
    drop(guests);
    let invitations = inviting.await.unwrap();
    moving.abort();

    let entries = founder.entries(&stream, 0).await.unwrap();
    assert_unbroken(&entries);
    let written: BTreeMap<u64, Vec<u8>> = entries
        .iter()
        .filter(|entry| entry.kind == "#message")
        .map(|entry| (entry.seq, entry.hash.0.clone()))
        .collect();
    assert_eq!(written, acknowledged, "every send was acknowledged in the end, and each was written once");

    head.send(Some(entries.len() as u64)).unwrap();
    let mut connections = 0;
    for (task, count) in subscriptions {
        let heard = tokio::time::timeout(CATCHES_UP, task).await.expect("it catches up").unwrap();
        assert_eq!(heard, from_the_first(&heard, &entries), "heard from its seat's first entry to the last, each once");
        connections += count.load(std::sync::atomic::Ordering::Relaxed);
    }
    for (instance, listener) in listeners.iter().enumerate() {
        listener.service().move_to(&fleet.url(instance));
        let paged: Vec<_> = events(listener).await.into_iter().filter(|event| event.stream == stream).collect();
        let paged: Vec<_> = paged.into_iter().map(|event| (event.seq, event.hash.0)).collect();
        assert_eq!(paged, from_the_first(&paged, &entries), "paged from its seat's first entry to the last, each once");
    }
    let undelivered = "select count(*) from outbox";
    let mut database = fleet.connect().await;
    eventually("the courier delivers all invitations", async || {
        sqlx::query_scalar::<_, i64>(undelivered).fetch_one(&mut database).await.unwrap() == 0
    })
    .await;
    // What was delivered last can be read once no older transaction is open.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut invited = 0;
    for (guest, times) in invitations {
        let welcomes = events(&guest).await.iter().filter(|event| event.kind == "#welcome").count();
        assert_eq!(welcomes, times, "one notice for each invitation");
        invited += times;
    }

    let elapsed = began.elapsed();
    eprintln!(
        "soak on Postgres {}: {rounds} rounds in {:.0} s, {:.1} s each",
        fleet.postgres_version().await,
        elapsed.as_secs_f64(),
        (elapsed / u32::try_from(rounds).unwrap()).as_secs_f64()
    );
    for (fault, times) in &deck.drawn {
        eprintln!("  {fault:?}: {times}");
    }
    eprintln!("  connections of Postgres terminated: {}", deck.terminated);
    let tried_again: u64 = people.iter().map(|person| person.service().repeats()).sum();
    eprintln!(
        "{} messages, {} answers repeated by another instance, {tried_again} tries that clients repeated, \
         {connections} connections of {INSTANCES} listeners, {invited} invitations, {} entries: none lost, doubled or \
         out of order",
        written.len(),
        repeated.answers,
        entries.len()
    );
    fleet.stop().await;
}

/// What somebody should have of a conversation who has `some` of it: everything from the first of them on.
fn from_the_first(some: &[(u64, Vec<u8>)], entries: &[Entry]) -> Vec<(u64, Vec<u8>)> {
    let first = some.first().expect("a member has something").0;
    let entries = entries.iter().filter(|entry| entry.seq >= first);
    entries.map(|entry| (entry.seq, entry.hash.0.clone())).collect()
}

/// Lets each person call one instance after the other, without an end.
async fn move_between(urls: Vec<String>, people: Vec<Arc<Person>>, seed: u64) {
    let mut seeds = StdRng::seed_from_u64(seed);
    let tasks: Vec<JoinHandle<()>> = people
        .into_iter()
        .enumerate()
        .map(|(number, person)| {
            let (urls, mut chance) = (urls.clone(), StdRng::seed_from_u64(seeds.random()));
            tokio::spawn(async move {
                for url in urls.iter().cycle().skip(number) {
                    person.service().move_to(url);
                    tokio::time::sleep(Duration::from_millis(chance.random_range(MOVES_MS))).await;
                }
            })
        })
        .collect();
    let _aborts = tasks.into_iter().map(tokio_util::task::AbortOnDropHandle::new).collect::<Vec<_>>();
    std::future::pending::<()>().await;
}

/// What the member that repeats its calls was told.
struct Repeated {
    receipts: Vec<(u64, Vec<u8>)>,
    /// Answers that came a second time.
    answers: usize,
}

/// Sends, and repeats each call under its own name: at once, while an instance may be going down, and the last calls
/// again at the end. Each repeat must get the first answer.
async fn repeat(person: Arc<Person>, stream: String, load: Arc<Load>, seed: u64) -> Repeated {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut repeated = Repeated { receipts: Vec::new(), answers: 0 };
    let mut calls: Vec<(send_message::Input, send_message::Output)> = Vec::new();
    while !load.has_ended() {
        let draft = person.draft_message(&stream, b"said twice").await.unwrap();
        let first = match person.procedure::<SendMessage>(&draft).await {
            Ok(first) => first,
            Err(error) if error.is("EpochTooOld") => {
                person.arrive(&stream).await.unwrap();
                continue;
            }
            Err(error) => panic!("{}: {error}", person.name()),
        };
        tokio::time::sleep(Duration::from_millis(chance.random_range(MOVES_MS))).await;
        assert_eq!(person.procedure::<SendMessage>(&draft).await.unwrap(), first, "the first answer");
        repeated.answers += 1;
        repeated.receipts.push((first.seq, first.hash.0.clone()));
        calls.push((draft, first));
    }
    for (draft, first) in calls.iter().rev().take(REMEMBERED) {
        assert_eq!(person.procedure::<SendMessage>(draft).await.unwrap(), *first, "the first answer");
        repeated.answers += 1;
    }
    repeated
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

/// Everything that the account's seats show, page by page.
async fn events(person: &Person) -> Vec<Event> {
    let (mut events, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let page = person.query::<ListEvents>(&list_events::Params { cursor: Some(cursor), limit: 100 }).await.unwrap();
        events.extend(page.events);
        cursor = page.cursor;
        if !page.more {
            return events;
        }
    }
}
