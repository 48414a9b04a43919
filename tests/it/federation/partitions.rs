//! Whatever happens on the ways between three servers, and to the servers, while people on all of them send, add and
//! remove: nothing that was acknowledged is lost or there twice, and all servers end with the same chain. A server may
//! also forget what it did since a moment ago: what that excuses is in [`super::forgotten`], and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use rookery::types::Did;
use rookery_client::ClientError;
use rookery_testkit::Person;
use tokio::sync::{Mutex, mpsc};

use super::forgotten::{Forgotten, chain, within};
use crate::laws::order::assert_unbroken;
use crate::support::{Fate, Faults, Load, Peers, chance, eventually};

/// Rounds, unless `ROOKERY_SOAK_ROUNDS` says otherwise.
const ROUNDS: usize = 10;
const SERVERS: usize = 3;
/// Where the senders live; the founder lives on server 0.
const SENDERS: [usize; 4] = [0, 1, 1, 2];
/// Between two messages of one sender: a peer may call 50 times a second.
const PAUSE: Duration = Duration::from_millis(120);
/// How long a round is bad, in milliseconds.
const BAD_MS: std::ops::Range<u64> = 150..900;
/// A call is repeated for so long: the breaker of a way that was closed holds for ten seconds.
const PATIENCE: Duration = Duration::from_mins(1);
/// Rounds until there is another guest, and invitations of one: five one-time packages, then one of last resort.
const GUEST_STAYS: usize = 8;
const INVITATIONS: usize = 10;

/// What is wrong in one round.
#[derive(Debug)]
enum Trouble {
    /// Accidents on all ways, so many of a hundred of each kind.
    Accidents(u32),
    /// One kind of accident happens to every call to one server.
    Always(usize, Fate),
    /// Two servers cannot reach each other.
    Split(usize, usize),
    /// A server is reached by nobody, and reaches nobody.
    Alone(usize),
    /// Connections to it are refused.
    Refused(usize),
    Killed(usize),
    /// Every way is closed.
    AllAlone,
    /// A server's database goes back to what it was a moment ago.
    Forgets(usize),
}

impl Trouble {
    fn draw(chance: &mut StdRng) -> Self {
        let server = chance.random_range(0..SERVERS);
        let other = (server + chance.random_range(1..SERVERS)) % SERVERS;
        match chance.random_range(0..15) {
            0..=2 => Self::Accidents(chance.random_range(3..=12)),
            3 | 4 => Self::Always(server, *Fate::ACCIDENTS.choose(chance).unwrap()),
            5 => Self::Split(server, other),
            6 => Self::Alone(server),
            7 => Self::Refused(server),
            8 => Self::Killed(server),
            9 => Self::AllAlone,
            _ => Self::Forgets(server),
        }
    }

    async fn begin(&self, peers: &mut Peers) {
        let names: Vec<String> = (0..SERVERS).map(|server| peers[server].proxy.did()).collect();
        match self {
            Self::Accidents(percent) => {
                (0..SERVERS).for_each(|server| peers[server].proxy.suffer(Faults::each(*percent)));
            }
            Self::Always(server, fate) => peers[*server].proxy.suffer(Faults::always(*fate)),
            Self::Split(one, other) => {
                peers[*one].proxy.ban(&names[*other]);
                peers[*other].proxy.ban(&names[*one]);
            }
            Self::Alone(alone) => {
                for server in (0..SERVERS).filter(|server| server != alone) {
                    peers[server].proxy.ban(&names[*alone]);
                    peers[*alone].proxy.ban(&names[server]);
                }
            }
            Self::Refused(server) => peers[*server].proxy.refuse().await,
            Self::Killed(server) => peers[*server].kill().await,
            Self::AllAlone => {
                for server in 0..SERVERS {
                    for name in &names {
                        peers[server].proxy.ban(name);
                    }
                }
            }
            // Over when it has begun.
            Self::Forgets(_) => {}
        }
    }

    async fn end(&self, peers: &mut Peers) {
        for server in 0..SERVERS {
            peers[server].proxy.suffer(Faults::none());
            peers[server].proxy.admit_all();
        }
        match self {
            Self::Refused(server) => peers[*server].proxy.listen().await,
            Self::Killed(server) => peers[*server].restart().await,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_between_three_servers_lose_nothing_double_nothing_and_leave_one_chain() {
    let mut chance = chance();
    let rounds = std::env::var("ROOKERY_SOAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds: usize = rounds.unwrap_or(ROUNDS);
    let mut peers = Peers::start(SERVERS, chance.next_u64(), &[("INVITATIONS", "everyone")]).await;
    let founder = peers[0].person("founder", PATIENCE).await;
    let mut people = vec![Arc::clone(&founder)];
    for (number, server) in SENDERS.into_iter().enumerate() {
        people.push(peers[server].person(&format!("member {number} on {server}"), PATIENCE).await);
    }
    let stream = founder.create_convo().await.unwrap();
    let others: Vec<Did> = people[1..].iter().map(|person| person.did().clone()).collect();
    founder.add_members(&stream, &others).await.unwrap();
    for person in &people[1..] {
        // The Welcome first, and what was said before it came; of another server's conversation both come by and by.
        let is_in = async || person.arrive(&stream).await.is_ok() && person.epoch(&stream).await.is_ok();
        eventually("everybody is in", is_in).await;
    }

    let load = Load::new(SENDERS.len());
    let senders = load.begin(&people[1..], &stream, PAUSE);
    let (guests, invited) = mpsc::unbounded_channel();
    let (committing, mut forgotten) = (Arc::new(Mutex::new(())), Forgotten::default());
    let inviter =
        Inviter { founder: Arc::clone(&founder), stream: stream.clone(), committing: Arc::clone(&committing) };
    let inviting = tokio::spawn(inviter.invite(invited, Arc::clone(&load)));
    for round in 1..=rounds {
        if round % GUEST_STAYS == 1 {
            let server = chance.random_range(0..SERVERS);
            guests.send(peers[server].person(&format!("guest of round {round}"), PATIENCE).await).unwrap();
        }
        load.goes_on().await;
        let trouble = Trouble::draw(&mut chance);
        if let Trouble::Forgets(server) = trouble {
            // A commit that is lost is a group that is lost.
            let _nobody_commits = committing.lock().await;
            forgotten.forgets(&mut peers, server, &stream, &load).await;
        }
        trouble.begin(&mut peers).await;
        tokio::time::sleep(Duration::from_millis(chance.random_range(BAD_MS))).await;
        trouble.end(&mut peers).await;
        if round % 20 == 0 {
            eprintln!("round {round} of {rounds}");
        }
    }
    load.goes_on().await;
    load.end();
    let mut acknowledged = Vec::new();
    for task in senders {
        acknowledged.extend(task.await.unwrap());
    }
    drop(guests);
    let invitations = inviting.await.unwrap();

    let entries = founder.entries(&stream, 0).await.unwrap();
    assert_unbroken(&entries);
    let of_kind = |kind: &'static str| entries.iter().filter(move |entry| entry.kind == kind);
    let written: BTreeMap<u64, Vec<u8>> = of_kind("#message").map(|entry| (entry.seq, entry.hash.0.clone())).collect();
    forgotten.judge(&written, acknowledged, SENDERS.len());
    assert_eq!(of_kind("#homeRestored").count(), forgotten.times.0, "each restore of the home opens one term");
    // The founder added everybody in one commit, and then each guest, and removed it.
    assert_eq!(of_kind("#commit").count(), 1 + 2 * invitations);

    let home: BTreeMap<u64, Vec<u8>> = chain(&peers, 0, &stream).await;
    assert_eq!(home.len(), entries.len());
    for server in 1..SERVERS {
        follows(&peers, server, &stream, &home).await;
    }
    forgotten.excuses(&peers, SERVERS).await;
    let servers: BTreeSet<_> = people.iter().map(|person| person.service().did().clone()).collect();
    assert_eq!(servers.len(), SERVERS);
    eprintln!("{rounds} rounds, {} messages, {invitations} invitations, {} entries", written.len(), entries.len());
    peers.stop().await;
}

/// Waits until the server holds all from its first seat on, and sees that it is what the home holds.
async fn follows(peers: &Peers, server: usize, stream: &str, home: &BTreeMap<u64, Vec<u8>>) {
    within(&format!("server {server} holds what the home holds"), async || {
        let held = chain(peers, server, stream).await;
        for (seq, hash) in &held {
            assert_eq!(home.get(seq), Some(hash), "server {server} holds another entry {seq}");
        }
        let first = held.keys().next().copied().unwrap_or(0);
        first > 0 && held.len() == home.range(first..).count()
    })
    .await;
}

struct Inviter {
    founder: Arc<Person>,
    stream: String,
    /// Held while it adds or removes.
    committing: Arc<Mutex<()>>,
}

impl Inviter {
    /// Invites and removes one guest after the other; answers how often.
    async fn invite(self, mut guests: mpsc::UnboundedReceiver<Arc<Person>>, load: Arc<Load>) -> usize {
        let mut invitations = 0;
        while let Some(guest) = guests.recv().await {
            let target = [guest.did().clone()];
            let mut times = 0;
            while times < INVITATIONS && guests.is_empty() && !load.has_ended() {
                let committing = self.committing.lock().await;
                match self.founder.add_members(&self.stream, &target).await {
                    Ok(_) => times += 1,
                    // Its server cannot be asked for key packages now: nothing happened.
                    Err(ClientError::NotClaimable(_)) => {
                        drop(committing);
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                }
                self.founder.remove_members(&self.stream, &target).await.unwrap();
                drop(committing);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            invitations += times;
        }
        invitations
    }
}
