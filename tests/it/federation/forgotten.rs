//! Servers whose database goes back in time under load, and what may be missing afterwards.
//!
//! Whatever another server holds comes back. What may be lost is what a home had accepted and nobody else held yet when
//! it was killed: it cannot be fetched from anybody. What comes back comes without the name of its call, so of each
//! sender one message that was not answered yet may be there twice. No stream ends in a rewind, which would need a server
//! that holds what the home went on without: all can be reached, and all are asked. A receipt for what was lost is kept
//! as evidence where it was given, and is no proof of a fork: the home says itself that it went back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::support::{Load, Peers};

/// A courier pauses after what failed.
const CATCHES_UP: Duration = Duration::from_secs(90);
/// What a killed server had sent has been taken by then.
const ARRIVES: Duration = Duration::from_millis(300);
/// A lineage has 64 links at most, one for each restore of a home.
const OF_THE_HOME: usize = 60;

/// Servers beside the home, which is server 0.
const OTHERS: usize = 2;
/// Evidence of two headers for one number: it convicts nobody, and freezes nothing.
const CONFLICT: i16 = 1;

/// Numbers and hashes of entries.
type Named = BTreeSet<(u64, Vec<u8>)>;

/// What restores took.
#[derive(Default)]
pub struct Forgotten {
    /// Restores of the home, of other servers.
    pub times: (usize, usize),
    /// Of the home, which no other server held: they alone may be lost.
    lost: Named,
    /// Of the home, which others held.
    returned: Named,
}

impl Forgotten {
    /// Puts the server's database back to a copy of a moment ago. The home of the stream is server 0; nobody adds or
    /// removes meanwhile.
    pub async fn forgets(&mut self, peers: &mut Peers, server: usize, stream: &str, load: &Load) {
        let server = if self.times.0 < OF_THE_HOME { server } else { server.max(1) };
        let backup = peers[server].snapshot().await;
        let before = chain(peers, 0, stream).await.into_keys().next_back().unwrap_or_default();
        load.goes_on().await;
        let from = commits(peers, stream).await.max(before + 1);
        within("all hold what is to be forgotten, and the newest commit", async || {
            let mut all = true;
            for holder in 0..=OTHERS {
                all &= chain(peers, holder, stream).await.range(from..).next().is_some();
            }
            all
        })
        .await;
        peers[server].kill().await;
        tokio::time::sleep(ARRIVES).await;
        let known = chain(peers, server, stream).await;
        peers[server].restore(&backup).await;
        let left = chain(peers, server, stream).await;
        assert!(left.len() < known.len(), "nothing was forgotten");
        if server == 0 {
            let mut others = BTreeMap::new();
            for holder in 1..=OTHERS {
                others.extend(chain(peers, holder, stream).await);
            }
            for (seq, hash) in known.into_iter().filter(|(seq, _)| !left.contains_key(seq)) {
                let is_held = others.get(&seq) == Some(&hash);
                if is_held { &mut self.returned } else { &mut self.lost }.insert((seq, hash));
            }
            self.times.0 += 1;
        } else {
            self.times.1 += 1;
        }
        let (said, well) = peers[server].command(&["recover"]).await;
        assert!(well, "{said}");
        peers[server].restart().await;
    }

    /// Holds what was written against what its senders were told.
    pub fn judge(&self, written: &BTreeMap<u64, Vec<u8>>, told: Vec<(u64, Vec<u8>)>, senders: usize) {
        let mut acknowledged = BTreeMap::new();
        for (seq, hash) in told {
            if written.get(&seq) == Some(&hash) {
                assert!(acknowledged.insert(seq, hash).is_none(), "two messages were told seq {seq}");
            } else {
                assert!(
                    self.lost.contains(&(seq, hash)),
                    "message {seq} was acknowledged, held elsewhere, and is lost"
                );
            }
        }
        let untold: Named = written.clone().into_iter().filter(|(seq, _)| !acknowledged.contains_key(seq)).collect();
        let beyond: Vec<_> = untold.difference(&self.returned).map(|(seq, _)| seq).collect();
        assert!(beyond.is_empty(), "nobody was told of {beyond:?}, and no restore brought them back");
        assert!(untold.len() <= senders * self.times.0, "each sender waits for one answer at a time");
        eprintln!(
            "{:?} restores (of the home, of others): {} entries lost, {} returned, {} of them without a sender",
            self.times,
            self.lost.len(),
            self.returned.len(),
            untold.len()
        );
    }

    /// Every stream goes on, and no server caught another at anything, but that a lost entry was promised to somebody.
    pub async fn excuses(&self, peers: &Peers, servers: usize) {
        for server in 0..servers {
            let mut connection = peers[server].database.connect().await;
            let found: Vec<(i16, i64)> =
                sqlx::query_as("select kind, seq from evidence").fetch_all(&mut connection).await.unwrap();
            for (kind, seq) in found {
                let was_lost = self.lost.iter().any(|(lost, _)| i64::try_from(*lost) == Ok(seq));
                assert!(kind == CONFLICT && was_lost, "server {server} has evidence {kind} of entry {seq}");
            }
            let stopped = "select count(*) from stream where state <> 0";
            let stopped: i64 = sqlx::query_scalar(stopped).fetch_one(&mut connection).await.unwrap();
            assert_eq!(stopped, 0, "streams that stopped on server {server}");
        }
    }
}

/// The number of the home's newest commit.
async fn commits(peers: &Peers, stream: &str) -> u64 {
    let newest = "select max(e.seq) from entry e join stream s on s.id = e.stream_id
        where s.public_id = $1 and e.kind = 5";
    let mut connection = peers[0].database.connect().await;
    let newest: i64 = sqlx::query_scalar(newest).bind(stream).fetch_one(&mut connection).await.unwrap();
    u64::try_from(newest).unwrap()
}

/// Numbers and hashes of a stream as a server holds them.
pub async fn chain(peers: &Peers, server: usize, stream: &str) -> BTreeMap<u64, Vec<u8>> {
    let held = "select e.seq, e.hash from entry e join stream s on s.id = e.stream_id where s.public_id = $1";
    let mut connection = peers[server].database.connect().await;
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(held).bind(stream).fetch_all(&mut connection).await.unwrap();
    rows.into_iter().map(|(seq, hash)| (u64::try_from(seq).unwrap(), hash)).collect()
}

/// Waits until it holds, for as long as a courier may need.
pub async fn within(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + CATCHES_UP;
    while !holds().await {
        assert!(Instant::now() < until, "not within {} s: {what}", CATCHES_UP.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
