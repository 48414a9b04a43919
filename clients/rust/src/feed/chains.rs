//! What a reader checks of everything it receives.
//!
//! Invariant: [`Chains::extend`] takes an event only if the event has the next number of its stream, its header hashes to
//! its hash and names the hash before, its content matches the hash in the header, and the fields beside the header agree
//! with the header. After a restore of its home, a stream continues from an entry with an earlier number that names the
//! base; the events received beyond that base are lost.

use std::collections::HashMap;

use rookery_protocol::lexicon::event::defs::Event;
use rookery_protocol::log::EntryKind;
use rookery_protocol::log::body::{Body, CommitBody, HomeRestoredBody, MembershipBody, MembershipChange};
use rookery_protocol::log::chain::{Content, entry_hash, links};
use rookery_protocol::types::{Bytes, DeviceId, Did, Hash};
use serde::Deserialize;

use super::EventCursor;

/// How an event breaks the order or the chain. Names no account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} of stream {stream} {what}")]
pub struct Broken {
    pub stream: String,
    pub seq: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    #[error("was delivered before")]
    Repeated,
    #[error("came after entry {0}: something is missing")]
    Missing(u64),
    #[error("does not hash to its hash, or does not name the hash before it")]
    Unchained,
    #[error("says something else than its header")]
    Disagrees,
    #[error("is of another term, and does not begin it")]
    Term,
    #[error("has bytes that are not what they should be")]
    Malformed,
}

/// The newest entry that was received of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub term: u64,
    pub seq: u64,
    pub hash: Hash,
    /// Whether the entry may have ended the account's seat: only then can entries be missing behind it.
    may_have_ended: bool,
}

/// The chains of one account's streams, and the position in the order of all.
#[derive(Debug)]
pub struct Chains {
    account: Did,
    cursor: Option<EventCursor>,
    heads: HashMap<String, Link>,
}

/// The one member of a header that its type keeps to itself; all others are passed over.
#[derive(Deserialize)]
struct Prev {
    #[serde(with = "serde_bytes")]
    prev: [u8; 32],
}

impl Chains {
    /// Nothing received yet; `cursor` is where reading begins.
    pub fn new(account: Did, cursor: Option<EventCursor>) -> Self {
        Self { account, cursor, heads: HashMap::new() }
    }

    /// Where to resume.
    pub fn cursor(&self) -> Option<&EventCursor> {
        self.cursor.as_ref()
    }

    pub fn head(&self, stream: &str) -> Option<Link> {
        self.heads.get(stream).copied()
    }

    /// Checks an event and moves on to it.
    pub fn extend(&mut self, event: &Event) -> Result<(), Broken> {
        let broken = |what| Broken { stream: event.stream.clone(), seq: event.seq, what };
        let cursor = EventCursor::parse(&event.cursor).ok_or_else(|| broken(What::Malformed))?;
        let hash = Hash::from_slice(event.hash.as_slice()).ok_or_else(|| broken(What::Malformed))?;
        let header = event.header.as_slice();

        // A seat that begins shows nothing of what was before it, so its first entry names a hash that nobody knows.
        let before = match self.heads.get(&event.stream) {
            Some(head) if event.seq <= head.seq && event.term > head.term => {
                restored(event).ok_or_else(|| broken(What::Repeated))?
            }
            Some(head) if event.seq <= head.seq => return Err(broken(What::Repeated)),
            Some(head) if event.seq == head.seq + 1 && !continues(head.term, event) => return Err(broken(What::Term)),
            Some(head) if event.seq == head.seq + 1 => head.hash,
            Some(head) if !head.may_have_ended || !self.begins_a_seat(event) => {
                return Err(broken(What::Missing(head.seq)));
            }
            Some(head) if event.term < head.term => return Err(broken(What::Term)),
            _ => {
                let prev: Prev = serde_ipld_dagcbor::from_slice(header).map_err(|_| broken(What::Malformed))?;
                Hash(prev.prev)
            }
        };
        let content = content(event).map_err(|()| broken(What::Malformed))?;
        let linked = links(header, content.as_deref(), before).map_err(|_| broken(What::Unchained))?;
        if entry_hash(header) != hash {
            return Err(broken(What::Unchained));
        }
        let agrees = linked.stream.as_str() == event.stream
            && (linked.term.0, linked.seq.0) == (event.term, event.seq)
            && linked.kind == event.kind
            && linked.epoch.map(|epoch| epoch.0) == event.epoch
            && linked.time.to_rfc3339() == event.time;
        if !agrees {
            return Err(broken(What::Disagrees));
        }
        let may_have_ended = self.may_end_a_seat(event);
        let link = Link { term: event.term, seq: event.seq, hash, may_have_ended };
        self.heads.insert(event.stream.clone(), link);
        self.cursor = Some(cursor);
        Ok(())
    }

    /// Whether it can be the commit by which this account comes (back).
    fn begins_a_seat(&self, event: &Event) -> bool {
        body::<CommitBody>(event, EntryKind::Commit)
            .is_some_and(|commit| commit.adds.iter().any(|add| add.account == self.account))
    }

    /// Whether this account can have lost its seat by it: it left, or some device of it was removed.
    fn may_end_a_seat(&self, event: &Event) -> bool {
        let removed = body::<CommitBody>(event, EntryKind::Commit)
            .is_some_and(|commit| commit.removes.iter().any(|removal| removal.account == self.account));
        let left = body::<MembershipBody>(event, EntryKind::Membership)
            .is_some_and(|body| body.account == self.account && body.change == MembershipChange::Left);
        removed || left
    }
}

/// The body of an entry of that kind.
fn body<B: Body>(event: &Event, kind: EntryKind) -> Option<B> {
    let bytes = event.body.as_ref().filter(|_| event.kind == kind.name())?;
    B::decode(bytes.as_slice()).ok()
}

/// Whether the next entry is of the same term, or begins a later one.
fn continues(term: u64, event: &Event) -> bool {
    let begins = EntryKind::from_name(&event.kind).is_some_and(EntryKind::opens_term);
    event.term == term || event.term > term && begins
}

/// The hash that a stream goes on from, if it is the entry that begins a term after a restore.
fn restored(event: &Event) -> Option<Hash> {
    let restored: HomeRestoredBody = body(event, EntryKind::HomeRestored)?;
    Hash::from_slice(restored.base_hash.as_slice()).filter(|_| restored.base.0 + 1 == event.seq)
}

/// The content as its author's server hashed it; None where it is withheld.
fn content(event: &Event) -> Result<Option<Vec<u8>>, ()> {
    let (Some(Bytes(body)), Some(Bytes(salt))) = (event.body.clone(), event.salt.clone()) else { return Ok(None) };
    let device = event.device.as_deref().map(DeviceId::parse).transpose().map_err(|_| ())?;
    let content = Content { body, salt, author: event.author.clone(), device };
    serde_ipld_dagcbor::to_vec(&content).map(Some).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use rookery_protocol::log::Head;
    use rookery_protocol::log::body::{Addition, Removal};
    use rookery_protocol::types::{Epoch, Seq, StreamId, Term, UnixMillis};

    use super::*;

    fn account() -> Did {
        Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap()
    }

    /// A stream as a server makes it, at cursors 10, 20, 30 …
    struct Stream(Head);

    impl Stream {
        fn new() -> Self {
            let stream = StreamId::of_genesis(b"test");
            Self(Head { stream, term: Term(7), seq: Seq(0), hash: Hash::ZERO, time: UnixMillis(1_000) })
        }

        fn next(&mut self, kind: EntryKind, body: &[u8]) -> Event {
            let author = Some((account(), DeviceId::of_key(b"key")));
            let content = Content::new(body.to_vec(), author);
            let sealed = self.0.seal(kind, Some(Epoch(3)), &content, UnixMillis(2_000)).unwrap();
            Event {
                cursor: (sealed.seq.0 * 10).to_string(),
                stream: self.0.stream.to_string(),
                term: sealed.term.0,
                seq: sealed.seq.0,
                kind: kind.name().to_owned(),
                hash: Bytes(sealed.hash.to_vec()),
                time: sealed.time.to_rfc3339(),
                header: Bytes(sealed.header),
                body: Some(Bytes(content.body)),
                salt: Some(Bytes(content.salt)),
                author: content.author,
                device: content.device.map(|device| device.to_string()),
                epoch: Some(3),
            }
        }

        fn message(&mut self) -> Event {
            self.next(EntryKind::Message, b"hello")
        }
    }

    #[test]
    fn an_unbroken_stream_passes_from_wherever_a_seat_begins() {
        let mut stream = Stream::new();
        let events: Vec<Event> = (0..5).map(|_| stream.message()).collect();
        for from in 0..5 {
            let mut chains = Chains::new(account(), None);
            for event in &events[from..] {
                chains.extend(event).unwrap();
            }
            assert_eq!(chains.head(&events[4].stream).unwrap().seq, 5);
            assert_eq!(chains.cursor().map(EventCursor::as_str), Some("50"));
        }
    }

    #[test]
    fn a_repeat_and_a_gap_are_found_and_cursors_have_no_order() {
        let mut stream = Stream::new();
        let (first, second, third) = (stream.message(), stream.message(), stream.message());
        let mut chains = Chains::new(account(), None);
        chains.extend(&first).unwrap();
        assert_eq!(chains.extend(&first).unwrap_err().what, What::Repeated);
        assert_eq!(chains.extend(&third).unwrap_err().what, What::Missing(1));
        let longest = "x".repeat(512);
        for (cursor, taken) in [("", false), (&*format!("{longest}x"), false), ("1:9/abc", true)] {
            let event = Event { cursor: cursor.into(), ..second.clone() };
            assert_eq!(chains.extend(&event).is_ok(), taken, "{cursor}");
        }
        chains.extend(&Event { cursor: longest.clone(), ..third.clone() }).unwrap();
        assert_eq!(chains.cursor().map(EventCursor::as_str), Some(&*longest));
    }

    fn commit(adds: Option<&Did>, removes: Option<&Did>) -> Vec<u8> {
        let device = DeviceId::of_key(b"key");
        let (reference, server) = (Bytes(vec![1]), String::new());
        let add = |account: &Did| Addition { account: account.clone(), device: device.clone(), reference, server };
        let removal = |account: &Did| Removal { account: account.clone(), device: device.clone() };
        let (adds, removes) = (adds.map(add).into_iter().collect(), removes.map(removal).into_iter().collect());
        CommitBody { commit: Bytes(vec![1]), adds, removes }.encode().unwrap()
    }

    fn left(account: &Did) -> Vec<u8> {
        let (change, role, server) = (MembershipChange::Left, None, None);
        MembershipBody { account: account.clone(), change, role, server }.encode().unwrap()
    }

    #[test]
    fn whoever_comes_back_begins_anew_at_the_commit_that_says_so() {
        let other = Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
        let (me, came_back) = (account(), commit(Some(&account()), None));
        // What was heard last, and whether a gap behind it is excused.
        let cases = [
            (EntryKind::Membership, left(&me), true),
            (EntryKind::Commit, commit(None, Some(&me)), true),
            (EntryKind::Membership, left(&other), false),
            (EntryKind::Commit, commit(None, Some(&other)), false),
            (EntryKind::Message, b"hello".to_vec(), false),
        ];
        for (kind, body, excused) in cases {
            let mut stream = Stream::new();
            let heard = [stream.message(), stream.next(kind, &body)];
            stream.message();
            let back = stream.next(EntryKind::Commit, &came_back);
            let mut chains = Chains::new(me.clone(), None);
            for event in &heard {
                chains.extend(event).unwrap();
            }
            if excused {
                chains.extend(&back).unwrap();
                chains.extend(&stream.message()).unwrap();
            } else {
                assert_eq!(chains.extend(&back).unwrap_err().what, What::Missing(2), "{kind:?}");
            }
        }
    }

    #[test]
    fn another_term_begins_by_an_entry_that_says_so() {
        let mut stream = Stream::new();
        let first = stream.message();
        for term in [6, 8] {
            let mut chains = Chains::new(account(), None);
            chains.extend(&first).unwrap();
            let mut other = Stream(Head { term: Term(term), ..stream.0.clone() });
            assert_eq!(chains.extend(&other.message()).unwrap_err().what, What::Term, "{term}");
        }
    }

    #[test]
    fn after_a_restore_a_stream_goes_on_from_where_it_says() {
        let mut stream = Stream::new();
        let kept = [stream.message(), stream.message()];
        let base = stream.0.clone();
        let lost = [stream.message(), stream.message()];
        let mut chains = Chains::new(account(), None);
        for event in kept.iter().chain(&lost) {
            chains.extend(event).unwrap();
        }
        let at_30 = |event: Event| Event { cursor: (1000 + event.seq).to_string(), ..event };

        stream.0 = base.clone();
        let forked = at_30(stream.message());
        assert_eq!(chains.extend(&forked).unwrap_err().what, What::Repeated, "no rewriting within a term");
        stream.0 = Head { term: Term(8), ..base.clone() };
        let unsaid = at_30(stream.message());
        assert_eq!(chains.extend(&unsaid).unwrap_err().what, What::Repeated, "nor without saying so");
        stream.0 = Head { term: Term(8), ..base.clone() };
        let (base, base_hash) = (base.seq, Bytes(base.hash.to_vec()));
        let body = HomeRestoredBody { base, base_hash, restored_to: UnixMillis(1_500) }.encode().unwrap();
        let restored = at_30(stream.next(EntryKind::HomeRestored, &body));
        chains.extend(&restored).unwrap();
        chains.extend(&at_30(stream.message())).unwrap();
        assert_eq!(chains.head(&restored.stream).unwrap().seq, 4);
    }

    #[test]
    fn a_change_of_any_part_is_found() {
        type Change = fn(&mut Event);
        let changes: [(Change, What); 10] = [
            (|event| event.body = Some(Bytes(b"other".to_vec())), What::Unchained),
            (|event| event.salt = Some(Bytes(vec![0; 16])), What::Unchained),
            (|event| event.author = None, What::Unchained),
            (|event| event.hash = Bytes(vec![0; 32]), What::Unchained),
            (|event| event.hash = Bytes(vec![0; 31]), What::Malformed),
            (|event| event.header.0.push(0), What::Unchained),
            (|event| event.kind = "#commit".into(), What::Disagrees),
            (|event| event.epoch = Some(4), What::Disagrees),
            (|event| event.term = 8, What::Term),
            (|event| event.time = "2026-11-21T00:00:00.000Z".into(), What::Disagrees),
        ];
        for (change, what) in changes {
            let mut stream = Stream::new();
            let mut chains = Chains::new(account(), None);
            chains.extend(&stream.message()).unwrap();
            let mut event = stream.message();
            change(&mut event);
            assert_eq!(chains.extend(&event).unwrap_err().what, what);
        }
        let mut stream = Stream::new();
        let mut chains = Chains::new(account(), None);
        chains.extend(&stream.message()).unwrap();
        let mut forked = Stream::new();
        forked.message();
        assert_eq!(chains.extend(&forked.message()).unwrap_err().what, What::Unchained, "salts differ, so do hashes");
        let withheld = Event { body: None, salt: None, author: None, device: None, ..stream.message() };
        chains.extend(&withheld).unwrap();
    }
}
