//! A stream whose lock is held, beside 63 streams that nobody holds: the calls that wait for the lock take one database
//! connection of each instance, delay no other stream, and leave the slow path soon after the lock is released.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rookery::lexicon::mls::send_message::SendMessage;
use rookery::server::Server;
use rookery_client::Service;
use rookery_testkit::Person;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Postgres, Transaction};
use tokio::task::JoinHandle;

use super::order::assert_unbroken;
use crate::support::{TestServer, conversation, eventually};

const INSTANCES: usize = 3;
const SENDERS: usize = 64;
/// Pairs of rounds: one with the lock held, one without.
const PAIRS: usize = 5;
/// How long a round measures the other streams; the lock is held for all of that time.
const HELD: Duration = Duration::from_secs(1);
/// Between the calls to the held stream and the first message to another: 64 calls at once have a cost of their own.
const SETTLES: Duration = Duration::from_millis(700);
/// Pause between two messages of one sender to its own stream: about half of what two busy cores carry.
const PAUSE: Duration = Duration::from_millis(500);
/// Calls that a busy machine does not answer in time are repeated for so long.
const PATIENCE: Duration = Duration::from_mins(1);
/// Allowance for the waiters' effect on the 99th percentile of the other streams, as a ratio.
const RATIO: f64 = 1.5;
/// Allowance beside the ratio: the percentile of an idle machine is a few milliseconds, and that of a busy machine
/// varies by more than the ratio from one second to the next. A sender that waits for the lock itself waits for
/// [`HELD`].
const SLACK: Duration = Duration::from_millis(200);
/// Time between a release and the check that the stream is on the quick path.
const RECOVERS: Duration = Duration::from_secs(1);
/// A message on the quick path is answered within this time, on a busy machine too; a lock is waited for eight seconds.
const PROMPT: Duration = Duration::from_secs(7);

/// The connections of each instance that wait: for a lock, or inside of a transaction that has been idle for longer
/// than any healthy transaction of this test. The name of the role tells the instance.
const WAITING: &str = "select usename::text, count(*) from pg_stat_activity
    where datname = current_database() and usename like 'instance_%'
      and (wait_event_type = 'Lock'
           or (state like 'idle in transaction%' and state_change < clock_timestamp() - interval '300 ms'))
    group by 1";

/// 64 devices, each at one of three instances. All are members of one conversation; each but the first also has a
/// conversation of its own.
struct Crowd {
    server: TestServer,
    instances: Vec<Server>,
    people: Vec<Arc<Person>>,
    held: String,
    own: Vec<String>,
}

/// What one round showed.
struct Round {
    /// The 99th percentile of the time that a message to another stream took.
    p99: Duration,
    /// The greatest number of waiting connections, by instance.
    most_waiting: BTreeMap<String, i64>,
}

impl Crowd {
    async fn start() -> Self {
        let server = TestServer::start_secluded(&[]).await;
        let mut database = server.database.connect().await;
        let mut instances = Vec::new();
        for number in 0..INSTANCES {
            let role = role(number);
            // The roles of a cluster outlast the test's database.
            let create = format!(
                "do $$ begin create role {role} superuser login; exception when duplicate_object then null; end $$"
            );
            database.execute(AssertSqlSafe(create)).await.unwrap();
            let mut url = url::Url::parse(&server.database.url).unwrap();
            url.set_username(&role).unwrap();
            instances.push(Box::pin(server.replica_with(&[("DATABASE_URL", url.as_str())])).await);
        }
        let (held, people) = conversation(&server, SENDERS).await;
        let people: Vec<_> = people
            .iter()
            .enumerate()
            .map(|(number, person)| {
                let url = format!("http://{}", instances[number % INSTANCES].address());
                let service = Service::new(&url, TestServer::did()).unwrap().with_patience(PATIENCE);
                Arc::new(person.at(Arc::new(service)))
            })
            .collect();
        let mut own = Vec::new();
        for person in &people[1..] {
            own.push(person.create_convo().await.unwrap());
        }
        Self { server, instances, people, held, own }
    }

    async fn held_id(&self, database: &mut PgConnection) -> i64 {
        let id = sqlx::query_scalar("select id from stream where public_id = $1").bind(&self.held);
        id.fetch_one(database).await.unwrap()
    }

    /// One message of every sender to the held stream, all of them begun when this returns.
    async fn write_to_the_held(&self) -> Vec<JoinHandle<()>> {
        let mut calls = Vec::new();
        for person in &self.people {
            let (person, draft) = (Arc::clone(person), person.draft_message(&self.held, b"to the held stream").await);
            let draft = draft.unwrap();
            calls.push(tokio::spawn(async move {
                person.procedure::<SendMessage>(&draft).await.unwrap();
            }));
        }
        calls
    }

    /// Messages of every sender to its own stream until `until`; answers how long each took.
    fn write_to_the_others(&self, until: Instant) -> Vec<JoinHandle<Vec<Duration>>> {
        let senders = self.people[1..].iter().zip(&self.own).enumerate();
        let tasks = senders.map(|(number, (person, stream))| {
            let (person, stream) = (Arc::clone(person), stream.clone());
            let delay = PAUSE * u32::try_from(number).unwrap() / u32::try_from(SENDERS).unwrap();
            tokio::spawn(async move {
                let mut took = Vec::new();
                tokio::time::sleep(delay).await;
                while Instant::now() < until {
                    let draft = person.draft_message(&stream, b"to another stream").await.unwrap();
                    let began = Instant::now();
                    person.procedure::<SendMessage>(&draft).await.unwrap();
                    took.push(began.elapsed());
                    tokio::time::sleep(PAUSE).await;
                }
                took
            })
        });
        tasks.collect()
    }

    /// Makes equal calls in every round; `holds` says whether they meet the lock.
    async fn round(&self, holds: bool) -> Round {
        let (mut holding, mut watching) = (self.server.database.connect().await, self.server.database.connect().await);
        let id = self.held_id(&mut holding).await;
        let lock = if holds { Some(hold(&mut holding, id, true).await) } else { None };
        let waiters = self.write_to_the_held().await;
        tokio::time::sleep(SETTLES).await;
        if holds {
            let each: BTreeMap<String, i64> = (0..INSTANCES).map(|number| (role(number), 1)).collect();
            let by_one_connection = async || waiting(&mut watching).await == each;
            eventually("the calls of every instance wait by one connection", by_one_connection).await;
        }
        let until = Instant::now() + HELD;
        let others = self.write_to_the_others(until);
        let mut most_waiting = BTreeMap::new();
        while Instant::now() < until {
            for (instance, waiting) in waiting(&mut watching).await {
                let most = most_waiting.entry(instance).or_insert(0);
                *most = waiting.max(*most);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if let Some(lock) = lock {
            assert!(waiters.iter().all(|call| !call.is_finished()), "a message passed the lock");
            lock.rollback().await.unwrap();
        }
        let mut took = Vec::new();
        for task in others {
            took.extend(task.await.unwrap());
        }
        for call in waiters {
            call.await.unwrap();
        }
        took.sort();
        Round { p99: took[took.len() * 99 / 100], most_waiting }
    }

    async fn stop(self) {
        for instance in self.instances {
            instance.stop().await.unwrap();
        }
        self.server.stop().await;
    }
}

/// The role by which an instance connects to Postgres.
fn role(instance: usize) -> String {
    format!("instance_{instance}")
}

/// The number of waiting connections of each instance that has any.
async fn waiting(database: &mut PgConnection) -> BTreeMap<String, i64> {
    let rows = sqlx::query_as::<_, (String, i64)>(WAITING).fetch_all(database).await.unwrap();
    rows.into_iter().collect()
}

/// Takes the lock that the slow path needs, and with `row` also the row that the quick path needs.
async fn hold(database: &mut PgConnection, id: i64, row: bool) -> Transaction<'_, Postgres> {
    let mut lock = database.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock($1)").bind(id).execute(&mut *lock).await.unwrap();
    if row {
        sqlx::query("select 1 from stream where id = $1 for no key update").bind(id).execute(&mut *lock).await.unwrap();
    }
    lock
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|one, other| one.partial_cmp(other).unwrap());
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_for_a_held_stream_delay_no_other_stream() {
    let crowd = Crowd::start().await;
    // The first message to each conversation finds nothing in memory.
    crowd.round(false).await;
    let (mut pairs, mut excesses) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // Each comes first in turn: the machine may become busier or less busy meanwhile.
        let (held, free) = if pair % 2 == 0 {
            let held = crowd.round(true).await;
            (held, crowd.round(false).await)
        } else {
            let free = crowd.round(false).await;
            (crowd.round(true).await, free)
        };
        for (instance, most) in &held.most_waiting {
            assert!(*most <= 1, "{most} connections of {instance} wait for one stream");
        }
        pairs.push((held.p99, free.p99));
        excesses.push(held.p99.as_secs_f64() - RATIO * free.p99.as_secs_f64());
    }
    eprintln!("99th percentile of the other streams with the lock held and without: {pairs:?}");
    assert!(median(excesses) <= SLACK.as_secs_f64(), "the 99th percentile with the lock held and without: {pairs:?}");
    let entries = crowd.people[0].entries(&crowd.held, 0).await.unwrap();
    assert_unbroken(&entries);
    let messages = entries.iter().filter(|entry| entry.kind == "#message").count();
    assert_eq!(messages, SENDERS * (1 + 2 * PAIRS), "every waiter was answered, and wrote once");

    returns_to_the_quick_path(&crowd).await;
    crowd.stop().await;
}

/// The quick path takes no advisory lock, the slow path does: while the test holds that lock, only messages on the
/// quick path are answered. (The counter of locked items is of the whole process, and counts other tests too.)
///
/// The senders of one instance never pause: what makes a stream slow must not be what keeps it slow.
async fn returns_to_the_quick_path(crowd: &Crowd) {
    let mut holding = crowd.server.database.connect().await;
    let id = crowd.held_id(&mut holding).await;
    let lock = hold(&mut holding, id, true).await;
    let waiters = crowd.write_to_the_held().await;
    let busy: Vec<_> = crowd.people.iter().step_by(INSTANCES).cloned().collect();
    let answered: Arc<Vec<AtomicUsize>> = Arc::new(busy.iter().map(|_| AtomicUsize::new(0)).collect());
    let ends = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = busy
        .iter()
        .enumerate()
        .map(|(number, person)| {
            let (person, held) = (Arc::clone(person), crowd.held.clone());
            let (answered, ends) = (Arc::clone(&answered), Arc::clone(&ends));
            tokio::spawn(async move {
                while !ends.load(Ordering::SeqCst) {
                    person.send(&held, b"without a pause").await.unwrap();
                    answered[number].fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    tokio::time::sleep(HELD).await;
    lock.rollback().await.unwrap();
    tokio::time::sleep(RECOVERS).await;
    // Long answered, but on a machine that is too busy to write 64 messages within a second.
    for call in waiters {
        call.await.unwrap();
    }

    let lock = hold(&mut holding, id, false).await;
    let before: Vec<usize> = answered.iter().map(|count| count.load(Ordering::SeqCst)).collect();
    let until = Instant::now() + PROMPT;
    // The second answer is of a message that was sent while the lock was held.
    let counts = || answered.iter().zip(&before).map(|(now, before)| now.load(Ordering::SeqCst) - before);
    while counts().any(|count| count < 2) {
        let counts: Vec<usize> = counts().collect();
        assert!(Instant::now() < until, "the senders still need the stream's lock: {counts:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ends.store(true, Ordering::SeqCst);
    for task in senders {
        task.await.unwrap();
    }
    for (number, person) in crowd.people[..INSTANCES].iter().enumerate() {
        let sending = tokio::time::timeout(PROMPT, person.send(&crowd.held, b"afterwards"));
        sending.await.unwrap_or_else(|_| panic!("instance {number} still needs the stream's lock")).unwrap();
    }
    lock.rollback().await.unwrap();
}
