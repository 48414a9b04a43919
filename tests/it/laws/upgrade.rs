//! Servers that are upgraded and rolled back under load, between this version and one that adds a migration, a kind of
//! entries and a kind of deliveries (cargo feature `next-version`, built by `staging/next-version.sh`): nothing that was
//! acknowledged is lost or there twice, and all servers end with the same chain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rookery::identity::http::{PlainClient, plain};
use rookery_client::mls::Received;
use rookery_testkit::Person;
use serde_json::{Value, json};
use sqlx::Row;

use super::order::assert_unbroken;
use crate::federation::forgotten::{chain, within};
use crate::support::{Load, Peers, Process, Version, eventually};

/// The home, which has two instances, and two followers.
const SERVERS: usize = 3;
const PAUSE: Duration = Duration::from_millis(120);
/// Between two notes, and between two deliveries. A peer takes 100 deliveries an hour.
const NOTES: Duration = Duration::from_millis(150);
const DELIVERIES: Duration = Duration::from_secs(1);
const DELIVERIES_MOST: usize = 40;
/// A call is repeated for so long.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_and_rollbacks_under_load_lose_and_double_nothing() {
    let mut peers = Peers::start(SERVERS, 1, &[("RATE_OPEN", "1000000/60")]).await;
    let mut second = peers[0].further_instance();
    second.spawn();
    second.ready().await;
    let founder = peers[0].person("founder", PATIENCE).await;
    let mut senders = vec![peers[0].person("at the first instance", PATIENCE).await];
    let other = peers[0].person("at the second instance", PATIENCE).await;
    senders.push(Arc::new(other.at(Arc::new(second.service(peers[0].did())))));
    for server in 1..SERVERS {
        senders.push(peers[server].person(&format!("at server {server}"), PATIENCE).await);
    }
    let stream = founder.create_convo().await.unwrap();
    let others: Vec<_> = senders.iter().map(|person| person.did().clone()).collect();
    founder.add_members(&stream, &others).await.unwrap();
    for person in &senders {
        let is_in = async || person.arrive(&stream).await.is_ok() && person.epoch(&stream).await.is_ok();
        eventually("everybody is in", is_in).await;
    }
    let load = Load::new(senders.len());
    let sending = load.begin(&senders, &stream, PAUSE);
    let later = Arc::<Progress>::default();
    let home = Home { client: plain().unwrap(), urls: [peers[0].url(), second.url()] };
    let account = founder.did().to_string();
    let (progress, ends) = (Arc::clone(&later), Arc::clone(&load));
    let writing = tokio::spawn(home.clone().write_notes(stream.clone(), account.clone(), progress, ends));
    let delivering = [1, 2].map(|server| {
        let (to, at) = (senders[server + 1].did().to_string(), peers[server].did().to_string());
        tokio::spawn(home.clone().deliver(account.clone(), to, at, Arc::clone(&load)))
    });
    load.goes_on().await;
    let began = Instant::now();
    let phase = async |name: &str| {
        load.goes_on().await;
        eprintln!("{} s: {name}", began.elapsed().as_secs());
    };

    // A follower alone, then one of the home's instances: two versions on one database.
    peers[1].becomes(Version::Next).await;
    phase("a follower is upgraded").await;
    becomes(&mut second, Version::Next).await;
    let behind = BTreeSet::from([peers[2].did().to_string()]);
    within("notes are refused for the one server that is behind", async || later.behind() == behind).await;
    within("the upgraded follower takes deliveries", async || delivered(&peers, 1).await.len() > 1).await;
    within("deliveries to the other wait", async || waiting(&peers, 2).await > 1).await;
    assert_eq!(later.written(), 0);
    phase("an instance of the home is upgraded").await;

    // The last follower: what waited for it arrives, and notes are written, beside an instance that knows no notes.
    peers[2].becomes(Version::Next).await;
    within("notes are written", async || later.written() > 3).await;
    within("what waited arrives", async || delivered(&peers, 2).await.len() > 1).await;
    phase("the other follower is upgraded").await;
    peers[0].becomes_beside(Version::Next, &second).await;
    phase("the home is upgraded").await;

    // A follower comes back as it was: entries that it does not know reach it, and those behind them.
    peers[2].stop().await;
    let (held, written) = (chain(&peers, 2, &stream).await, later.written());
    within("notes are written meanwhile", async || later.written() > written + 3).await;
    peers[2].start_as(Version::Present).await;
    let last = held.keys().last().copied().unwrap();
    within("an older server keeps later entries", async || {
        let notes = notes(&peers, 2, &stream).await;
        notes.iter().filter(|(seq, _)| *seq > last).count() > 3
    })
    .await;
    phase("a follower is rolled back").await;
    let shown = senders[3].entries(&stream, last).await.unwrap();
    assert!(shown.iter().any(|entry| entry.kind == "#note"), "and shows them");

    // Everybody goes back, to a schema and to rows of the later version, and forward again.
    becomes(&mut second, Version::Present).await;
    peers.all_become(Version::Present, &second).await;
    phase("everybody is rolled back").await;
    let written = later.written();
    load.goes_on().await;
    assert_eq!(later.written(), written, "nobody knows notes");
    becomes(&mut second, Version::Next).await;
    peers.all_become(Version::Next, &second).await;
    within("notes are written again", async || later.written() > written + 3).await;
    phase("everybody is upgraded").await;

    // What must not be passed over holds up a server that was rolled back, and nobody else.
    later.critical.store(true, Ordering::SeqCst);
    within("the entry is written", async || !later.critical.load(Ordering::SeqCst)).await;
    let written = later.written();
    within("the entry arrives", async || notes(&peers, 1, &stream).await.len() >= written).await;
    peers[1].becomes(Version::Present).await;
    let held = chain(&peers, 1, &stream).await.len();
    let others = chain(&peers, 2, &stream).await.len();
    within("the others go on", async || chain(&peers, 2, &stream).await.len() > others + 20).await;
    assert_eq!(chain(&peers, 1, &stream).await.len(), held, "the stream is read-only there");
    peers[1].becomes(Version::Next).await;
    phase("a critical entry held up one server").await;

    load.end();
    let mut acknowledged = Vec::new();
    for task in sending {
        acknowledged.push(task.await.unwrap());
    }
    let written = writing.await.unwrap();
    let mut sent = Vec::new();
    for task in delivering {
        sent.push(task.await.unwrap());
    }
    judge_messages(&founder, &senders, &stream, &acknowledged).await;
    let expected: Vec<String> = (0..written).map(|number| number.to_string()).collect();
    let home = chain(&peers, 0, &stream).await;
    for server in 0..SERVERS {
        within("the follower holds what the home holds", async || {
            let held = chain(&peers, server, &stream).await;
            let first = held.keys().next().copied().unwrap_or_default();
            held == home.range(first..).map(|(seq, hash)| (*seq, hash.clone())).collect()
        })
        .await;
        let texts = notes(&peers, server, &stream).await.into_iter().map(|(_, text)| text);
        assert_eq!(texts.collect::<Vec<_>>(), expected, "server {server}: every note once, in order");
    }
    judge_rows(&peers, &stream, written).await;
    for (server, &sent) in (1..).zip(&sent) {
        let expected: Vec<String> = (0..sent).map(|number| number.to_string()).collect();
        within("every delivery arrives", async || delivered(&peers, server).await.len() >= sent).await;
        let mut texts = delivered(&peers, server).await;
        texts.sort_by_key(|text| text.parse::<usize>().unwrap());
        assert_eq!(texts, expected, "server {server}: every delivery once");
    }
    let messages: usize = acknowledged.iter().map(Vec::len).sum();
    eprintln!("{messages} messages, {written} notes, {sent:?} deliveries, {} entries", home.len());
    second.stop().await;
    peers.stop().await;
}

async fn becomes(instance: &mut Process, version: Version) {
    instance.stop().await;
    instance.becomes(version);
    instance.spawn();
    instance.ready().await;
}

/// Each sender's messages are stored once, in the order in which the sender sent them, at the acknowledged numbers.
async fn judge_messages(reader: &Person, senders: &[Arc<Person>], stream: &str, acknowledged: &[Vec<(u64, Vec<u8>)>]) {
    let entries = reader.entries(stream, 0).await.unwrap();
    assert_unbroken(&entries);
    let mut read: BTreeMap<String, Vec<(u64, Vec<u8>)>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.kind == "#message") {
        let body = entry.body.as_ref().unwrap();
        let Received::Application { sender, plaintext } = reader.try_read(stream, body.as_slice()).await.unwrap()
        else {
            panic!("entry {} is no message of the group", entry.seq)
        };
        // The account, then the device.
        let account = sender.split('#').next().unwrap().to_owned();
        let of_sender = read.entry(account).or_default();
        assert_eq!(String::from_utf8(plaintext).unwrap(), of_sender.len().to_string(), "the next of its sender");
        of_sender.push((entry.seq, entry.hash.0.clone()));
    }
    for (sender, acknowledged) in senders.iter().zip(acknowledged) {
        let read = read.get(sender.did().as_str()).map_or(&[][..], Vec::as_slice);
        assert_eq!(read.len(), acknowledged.len(), "{}: every message is there once", sender.name());
        assert!(read == acknowledged.as_slice(), "{}: at the acknowledged numbers", sender.name());
    }
    assert_eq!(read.len(), senders.len());
}

/// What the migration added is as the later version left it, whatever wrote beside it.
async fn judge_rows(peers: &Peers, stream: &str, written: usize) {
    let counts = "select next_notes, (select count(*) from next_note) as rows from stream where public_id = $1";
    let mut connection = peers[0].database.connect().await;
    let row = sqlx::query(counts).bind(stream).fetch_one(&mut connection).await.unwrap();
    let written = i64::try_from(written).unwrap();
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (written, written));
}

/// Numbers and texts of the notes that a server holds.
async fn notes(peers: &Peers, server: usize, stream: &str) -> Vec<(u64, String)> {
    let held = "select e.seq, e.content from entry_content e join stream s on s.id = e.stream_id
                where s.public_id = $1 and e.kind = 0 and e.kind_name = '#note' order by e.seq";
    let mut connection = peers[server].database.connect().await;
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(held).bind(stream).fetch_all(&mut connection).await.unwrap();
    let text = |content: &[u8]| String::from_utf8(rookery::log::Content::decode(content).unwrap().body).unwrap();
    rows.iter().map(|(seq, content)| (u64::try_from(*seq).unwrap(), text(content))).collect()
}

/// Texts of the notes that another server delivered; none before the first upgrade.
async fn delivered(peers: &Peers, server: usize) -> Vec<String> {
    let mut connection = peers[server].database.connect().await;
    let found = sqlx::query_scalar("select text from next_delivery").fetch_all(&mut connection).await;
    found.unwrap_or_default()
}

/// Deliveries to a server that were refused at least once and wait.
async fn waiting(peers: &Peers, server: usize) -> i64 {
    let count =
        "select count(*) from delivery where peer = $1 and kind = 'note' and state = 'waiting' and attempts > 0";
    let mut connection = peers[0].database.connect().await;
    let peer = peers[server].did().to_string();
    sqlx::query_scalar(count).bind(peer).fetch_one(&mut connection).await.unwrap()
}

/// What of later kinds was written so far.
#[derive(Default)]
struct Progress {
    notes: AtomicUsize,
    /// Whom the last refusal of a note named; nobody, if the last note was written.
    behind: Mutex<BTreeSet<String>>,
    /// The next note is to require the feature of the later version.
    critical: AtomicBool,
}

impl Progress {
    fn written(&self) -> usize {
        self.notes.load(Ordering::SeqCst)
    }

    fn behind(&self) -> BTreeSet<String> {
        self.behind.lock().unwrap().clone()
    }
}

enum Posted {
    Taken,
    /// By the names of the followers that are behind.
    Refused(BTreeSet<String>),
    /// No instance knows the route, or gave an answer.
    Nowhere,
}

/// Calls the instances of the home, of which those of the later version know the route.
#[derive(Clone)]
struct Home {
    client: PlainClient,
    urls: [String; 2],
}

impl Home {
    async fn post(&self, route: &str, body: &Value) -> Posted {
        for url in &self.urls {
            let request = self.client.post(format!("{url}/next-version/{route}")).json(body);
            let Ok(answer) = request.send().await else { continue };
            match answer.status().as_u16() {
                200 => return Posted::Taken,
                409 => {
                    let names = answer.text().await.unwrap();
                    return Posted::Refused(names.split(' ').map(str::to_owned).collect());
                }
                _ => {}
            }
        }
        Posted::Nowhere
    }

    /// One note after the other, each repeated until it is written; how many.
    async fn write_notes(self, stream: String, account: String, progress: Arc<Progress>, load: Arc<Load>) -> usize {
        while !load.has_ended() {
            let (number, critical) = (progress.written(), progress.critical.load(Ordering::SeqCst));
            let text = number.to_string();
            let idem = format!("note {text} {critical}");
            let note =
                json!({ "stream": stream, "account": account, "idem": idem, "text": text, "critical": critical });
            match self.post("note", &note).await {
                Posted::Taken => {
                    progress.behind.lock().unwrap().clear();
                    progress.notes.store(number + 1, Ordering::SeqCst);
                    if critical {
                        progress.critical.store(false, Ordering::SeqCst);
                    }
                }
                Posted::Refused(names) => *progress.behind.lock().unwrap() = names,
                Posted::Nowhere => {}
            }
            tokio::time::sleep(NOTES).await;
        }
        progress.written()
    }

    /// One delivery after the other to one account; how many.
    async fn deliver(self, from: String, to: String, server: String, load: Arc<Load>) -> usize {
        let mut sent = 0;
        while sent < DELIVERIES_MOST && !load.has_ended() {
            let idem = format!("{sent:0>16} {to}").replace([' ', ':'], "-");
            let delivery = json!({ "from": from, "to": to, "server": server, "idem": idem, "text": sent.to_string() });
            if matches!(self.post("deliver", &delivery).await, Posted::Taken) {
                sent += 1;
            }
            tokio::time::sleep(DELIVERIES).await;
        }
        sent
    }
}
