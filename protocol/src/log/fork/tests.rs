use std::collections::BTreeMap;

use super::*;
use crate::identity::{Curve, SigningKey, key_tag};
use crate::log::chain::{Content, Genesis, Head};
use crate::log::{EntryKind, StreamKind};
use crate::types::UnixMillis;

const HOME: &str = "did:web:bent.example";
const SEEDS: u64 = 256;

/// Numbers that a seed determines (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }
}

/// A home with its key, and one order of a stream.
struct Home {
    key: SigningKey,
    name: String,
    genesis: Head,
    /// By number: header and the head after it.
    entries: BTreeMap<u64, (Vec<u8>, Head)>,
}

impl Home {
    fn new(seed: u64) -> Self {
        let seed = [seed.to_le_bytes(), [7; 8], [8; 8], [9; 8]].concat();
        let key = SigningKey::from_bytes(Curve::Ed25519, &seed).unwrap();
        let time = UnixMillis(1_795_000_000_000);
        let genesis = Genesis::new(StreamKind::Convo, HOME, time);
        let bytes = genesis.encode().unwrap();
        let genesis =
            Head { stream: StreamId::of_genesis(&bytes), term: genesis.term(), seq: Seq(0), hash: Hash::ZERO, time };
        let mut home = Self { key, name: HOME.to_owned(), genesis, entries: BTreeMap::new() };
        home.order(1);
        home
    }

    fn head(&self) -> Head {
        self.entries.last_key_value().map_or(self.genesis.clone(), |(_, (_, head))| head.clone())
    }

    fn order(&mut self, count: u64) {
        for _ in 0..count {
            let mut head = self.head();
            let time = head.time;
            let sealed = head.seal(EntryKind::Message, None, &Content::new(vec![1], None), time).unwrap();
            self.entries.insert(head.seq.0, (sealed.header, head));
        }
    }

    /// A new term begins, as after a restore; the entry that says so is not looked at here.
    fn restore(&mut self, base: u64) {
        self.entries.retain(|seq, _| *seq <= base);
        if let Some((_, head)) = self.entries.get_mut(&base) {
            head.term = head.term.next();
        }
        self.order(1);
    }

    /// The same stream up to `base`, and then something else.
    fn bend(&self, base: u64, count: u64) -> Self {
        let seed = self.key.secret_multibase();
        let mut other = Self {
            key: SigningKey::from_secret_multibase(&seed).unwrap(),
            name: self.name.clone(),
            genesis: self.genesis.clone(),
            entries: self.entries.range(..=base).map(|(seq, entry)| (*seq, entry.clone())).collect(),
        };
        other.order(count);
        other
    }

    fn checkpoint(&self, seq: u64) -> Signed {
        let id = format!("#checkpoint-{}", key_tag(&self.key.public()));
        Checkpoint::new(&self.name, &self.entries[&seq].1).sign(&id, &self.key).unwrap()
    }

    /// Headers after `base`, up to and including `seq`.
    fn headers(&self, base: u64, seq: u64) -> Vec<Bytes> {
        (base + 1..=seq).map(|seq| Bytes(self.entries[&seq].0.clone())).collect()
    }

    fn key(&self) -> impl Fn(&str, &str) -> Option<PublicKey> {
        let (name, key) = (self.name.clone(), self.key.public());
        move |home, _| (home == name).then(|| key.clone())
    }
}

/// What `a` and `b` say, both led back to `base`.
fn proof(a: &Home, a_seq: u64, b: &Home, b_seq: u64, base: u64) -> ForkProof {
    ForkProof {
        a: a.checkpoint(a_seq),
        a_headers: a.headers(base, a_seq),
        b: b.checkpoint(b_seq),
        b_headers: b.headers(base, b_seq),
    }
}

#[test]
fn whoever_says_two_things_is_convicted_at_each_number_where_they_differ() {
    for seed in 0..SEEDS {
        let mut chance = Chance(seed);
        let (same, more, other) = (chance.between(1, 20), chance.between(1, 20), chance.between(1, 20));
        let mut a = Home::new(seed);
        a.order(same - 1);
        let b = a.bend(same, other);
        a.order(more);
        let (a_seq, b_seq) = (chance.between(same + 1, same + more), chance.between(same + 1, same + other));
        let at = chance.between(same + 1, a_seq.min(b_seq));
        let fork = proof(&a, a_seq, &b, b_seq, at).verify(a.key()).unwrap_or_else(|no| panic!("seed {seed}: {no}"));
        assert_eq!((fork.seq, fork.home.as_str()), (Seq(at), HOME), "seed {seed}");
        assert_eq!(fork.hashes, [a.entries[&at].1.hash, b.entries[&at].1.hash], "seed {seed}");
        // Nobody else is, by the same papers.
        let stranger = Home::new(seed + SEEDS);
        assert!(proof(&a, a_seq, &b, b_seq, at).verify(stranger.key()).is_err(), "seed {seed}");
    }
}

#[test]
fn nothing_that_an_honest_home_signs_proves_anything() {
    for seed in 0..SEEDS {
        let mut chance = Chance(seed);
        let mut home = Home::new(seed);
        home.order(chance.between(2, 30));
        let long = home.head().seq.0;
        for _ in 0..20 {
            let (a_seq, b_seq) = (chance.between(1, long), chance.between(1, long));
            let (a_base, b_base) = (chance.between(1, a_seq), chance.between(1, b_seq));
            let honest = ForkProof {
                a: home.checkpoint(a_seq),
                a_headers: home.headers(a_base, a_seq),
                b: home.checkpoint(b_seq),
                b_headers: home.headers(b_base, b_seq),
            };
            assert!(honest.verify(home.key()).is_err(), "seed {seed}: {a_base}..{a_seq} and {b_base}..{b_seq}");
            // Nor what somebody makes of it by changing a byte anywhere.
            let mut forged = honest;
            let part = chance.next();
            let bytes = match part % 4 {
                0 => &mut forged.a.statement.0,
                1 => &mut forged.b.sig.0,
                2 => match forged.a_headers.last_mut() {
                    Some(header) => &mut header.0,
                    None => &mut forged.a.sig.0,
                },
                _ => match forged.b_headers.first_mut() {
                    Some(header) => &mut header.0,
                    None => &mut forged.b.statement.0,
                },
            };
            let at = usize::try_from(chance.next()).unwrap() % bytes.len();
            bytes[at] ^= 1 << chance.between(0, 7);
            assert!(forged.verify(home.key()).is_err(), "seed {seed}");
        }
    }
}

#[test]
fn a_restore_that_opens_a_new_term_is_no_fork_whatever_was_lost() {
    for seed in 0..SEEDS {
        let mut chance = Chance(seed);
        let mut before = Home::new(seed);
        before.order(chance.between(3, 30));
        let long = before.head().seq.0;
        let base = chance.between(1, long - 1);
        let mut after = before.bend(base, 0);
        after.restore(base);
        after.order(chance.between(0, 10));
        let last = after.head().seq.0;
        let (a_seq, b_seq) = (chance.between(base + 1, long), chance.between(base + 1, last));
        let at = chance.between(base + 1, a_seq.min(b_seq));
        let refused = proof(&before, a_seq, &after, b_seq, at).verify(before.key());
        assert_eq!(refused, Err(NoFork("the checkpoints are of two terms")), "seed {seed}");
        // What both terms share is the same.
        if base > 1 {
            let at = chance.between(1, base - 1);
            assert!(proof(&before, base, &after, b_seq, at).verify(before.key()).is_err(), "seed {seed}");
        }
    }
}

#[test]
fn a_proof_that_lacks_a_part_names_it() {
    let mut a = Home::new(1);
    a.order(4);
    let b = a.bend(2, 3);
    let good = proof(&a, 5, &b, 5, 3);
    assert!(good.verify(a.key()).is_ok());
    assert!(proof(&a, 3, &b, 3, 3).verify(a.key()).is_ok(), "no headers: the checkpoints differ themselves");

    let no = |change: &dyn Fn(&mut ForkProof), why: &'static str| {
        let mut proof = good.clone();
        change(&mut proof);
        assert_eq!(proof.verify(a.key()), Err(NoFork(why)));
    };
    let mut elsewhere = Home::new(1);
    elsewhere.order(4);
    let mut stranger = a.bend(2, 3);
    stranger.name = "did:web:other.example".to_owned();
    no(&|proof| proof.b = stranger.checkpoint(5), "the headers do not lead to the checkpoint");
    let other_home = ForkProof { b: stranger.checkpoint(5), b_headers: stranger.headers(3, 5), ..good.clone() };
    assert_eq!(other_home.verify(a.key()), Err(NoFork("the checkpoints are of two homes")));
    let other_stream = ForkProof { b: elsewhere.checkpoint(5), b_headers: elsewhere.headers(3, 5), ..good.clone() };
    assert_eq!(other_stream.verify(a.key()), Err(NoFork("the checkpoints are of two streams")));
    no(&|proof| drop(proof.a_headers.remove(0)), "the headers lead to two numbers");
    no(&|proof| proof.a_headers.swap(0, 1), "the headers do not lead to the checkpoint");
    no(&|proof| drop(proof.a_headers.pop()), "the headers do not lead to the checkpoint");
    no(&|proof| proof.a_headers[0].0.push(0), "a header is not one");
    no(&|proof| proof.a_headers[0].0 = vec![0; HEADER_BYTES + 1], "a header is too long");
    no(&|proof| proof.a.statement.0.push(0), "a checkpoint is not one");
    no(&|proof| proof.a.sig.0[0] ^= 1, "a signature does not hold");
    no(&|proof| proof.a_headers = vec![proof.a_headers[0].clone(); FORK_HEADERS + 1], "more than 1,024 headers");
    assert_eq!(proof(&a, 5, &b, 5, 2).verify(a.key()), Err(NoFork("the hashes are the same")));
    assert_eq!(proof(&a, 5, &b, 5, 0).verify(a.key()), Err(NoFork("the headers lead to no entry")));
    assert_eq!(good.verify(|_, _| None), Err(NoFork("a key is not the home's")));

    let mut long = Home::new(2);
    long.order(FORK_HEADERS as u64 + 4);
    let other = long.bend(1, FORK_HEADERS as u64 + 4);
    let most = FORK_HEADERS as u64 + 2;
    assert!(proof(&long, most, &other, most, 2).verify(long.key()).is_ok(), "1,024 are taken");
    assert!(proof(&long, most + 1, &other, most, 2).verify(long.key()).is_err(), "1,025 are not");
}
