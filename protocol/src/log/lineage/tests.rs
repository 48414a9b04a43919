use super::*;
use crate::identity::{Curve, SigningKey, key_tag};
use crate::log::StreamKind;
use crate::log::chain::Head;
use crate::types::UnixMillis;

const HOME: &str = "did:web:home.example";
const NEXT: &str = "did:web:next.example";

struct Home {
    name: String,
    key: SigningKey,
    genesis: Vec<u8>,
    head: Head,
}

impl Home {
    fn new() -> Self {
        let time = UnixMillis(1_795_000_000_000);
        let genesis = Genesis::new(StreamKind::Convo, HOME, time);
        let term = genesis.term();
        let genesis = genesis.encode().unwrap();
        let head = Head { stream: StreamId::of_genesis(&genesis), term, seq: Seq(4), hash: Hash([4; 32]), time };
        Self { name: HOME.to_owned(), key: SigningKey::generate(Curve::Ed25519), genesis, head }
    }

    fn did(&self) -> Did {
        Did::parse(&self.name).unwrap()
    }

    fn order(&mut self, kind: EntryKind, body: Vec<u8>) -> LineageLink {
        let content = Content::new(body, None);
        let time = self.head.time;
        let sealed = self.head.seal(kind, None, &content, time).unwrap();
        let checkpoint = Checkpoint::new(&self.name, &self.head).sign(&self.key_id(), &self.key).unwrap();
        LineageLink { header: Bytes(sealed.header), content: Bytes(sealed.content), checkpoint }
    }

    fn key_id(&self) -> String {
        format!("#checkpoint-{}", key_tag(&self.key.public()))
    }

    /// The link of the next term, with `bend` done to what it goes on from.
    fn restore(&mut self, bend: impl Fn(&mut HomeRestoredBody, &mut Head)) -> LineageLink {
        let mut body = HomeRestoredBody {
            base: self.head.seq,
            base_hash: Bytes(self.head.hash.to_vec()),
            restored_to: self.head.time,
        };
        self.head.term = self.head.term.next();
        bend(&mut body, &mut self.head);
        self.order(EntryKind::HomeRestored, body.encode().unwrap())
    }

    /// The link that hands the stream to another, with `bend` done to what that one accepts, and that one.
    fn hand(&mut self, bend: impl Fn(&mut HomeChangedBody, &mut Acceptance)) -> (LineageLink, Self) {
        let mut next = Self { name: NEXT.to_owned(), ..Self::new() };
        let late = UnixMillis(self.head.time.0 + 60_000);
        let mut acceptance = Acceptance::new(&self.did(), &next.did(), &self.head, Hash([7; 32]), late);
        let signed = |acceptance: &Acceptance| {
            Signed::sign(ACCEPTANCE_LABEL, acceptance.statement().unwrap(), &next.key_id(), &next.key)
        };
        let term = self.head.term.next();
        let mut body = HomeChangedBody { to: next.did(), term, acceptance: signed(&acceptance) };
        bend(&mut body, &mut acceptance);
        body.acceptance = signed(&acceptance);
        let link = self.order(EntryKind::HomeChanged, body.encode().unwrap());
        next.genesis.clone_from(&self.genesis);
        next.head = self.head.clone();
        (link, next)
    }

    /// The link with which it takes up what `from` handed over.
    fn open(&mut self, from: &str, bend: impl Fn(&mut HomeOpenedBody, &mut Head)) -> LineageLink {
        let (base, base_hash) = (self.head.seq, Bytes(self.head.hash.to_vec()));
        let mut body = HomeOpenedBody { from: Did::parse(from).unwrap(), base, base_hash };
        self.head.term = self.head.term.next();
        bend(&mut body, &mut self.head);
        self.order(EntryKind::HomeOpened, body.encode().unwrap())
    }
}

fn good<B>(_: &mut B, _: &mut Head) {}

fn accepted(_: &mut HomeChangedBody, _: &mut Acceptance) {}

fn word(by: &str, link: &LineageLink) -> Word {
    Word { label: CHECKPOINT_LABEL, by: by.to_owned(), signed: link.checkpoint.clone() }
}

#[test]
fn a_lineage_leads_from_the_genesis_to_the_present_reign() {
    let mut home = Home::new();
    let first = trace(&home.head.stream, &home.genesis, &[]).unwrap();
    assert_eq!(first.present, Reign { home: HOME.to_owned(), term: home.head.term, from: Seq(0) });
    let links = [home.restore(good), home.restore(good)];
    let lineage = trace(&home.head.stream, &home.genesis, &links).unwrap();
    assert_eq!(lineage.present, Reign { home: HOME.to_owned(), term: home.head.term, from: home.head.seq });
    assert_eq!(lineage.words, [word(HOME, &links[0]), word(HOME, &links[1])]);
}

#[test]
fn a_move_is_believed_by_the_word_of_both_homes() {
    let mut home = Home::new();
    let founded = home.head.term;
    let restored = home.restore(good);
    let term = home.head.term;
    let (changed, mut next) = home.hand(accepted);
    let links = [restored, changed, next.open(HOME, good), next.restore(good)];
    let lineage = trace(&home.head.stream, &home.genesis, &links).unwrap();
    assert_eq!(lineage.present, Reign { home: NEXT.to_owned(), term: next.head.term, from: next.head.seq });
    let homes = [founded, term, next.head.term, Term(1)].map(|term| lineage.home_in(term));
    assert_eq!(homes, [Some(HOME), Some(HOME), Some(NEXT), None]);
    for (name, term, leads) in
        [(HOME, founded, true), (HOME, term.next(), false), (NEXT, founded, true), ("x", founded, false)]
    {
        assert_eq!(lineage.leads_through(name, term), leads, "{name} {term}");
    }
    let body = HomeChangedBody::decode(&Content::decode(&links[1].content.0).unwrap().body).unwrap();
    let acceptance = Word { label: ACCEPTANCE_LABEL, by: NEXT.to_owned(), signed: body.acceptance };
    let words =
        [word(HOME, &links[0]), word(HOME, &links[1]), acceptance, word(NEXT, &links[2]), word(NEXT, &links[3])];
    assert_eq!(lineage.words, words);
}

#[test]
fn a_move_that_one_of_both_homes_did_not_make_is_not_believed() {
    let no = |bend: &dyn Fn(&mut Home) -> Vec<LineageLink>, why: &'static str| {
        let mut home = Home::new();
        let links = bend(&mut home);
        assert_eq!(trace(&home.head.stream, &home.genesis, &links), Err(BadLineage(why)));
    };
    let unaccepted = "a move that the next home did not accept";
    let other = "a move that another entry announced";
    let after = "nothing but #homeOpened comes after #homeChanged";
    let hand = |home: &mut Home, bend: &dyn Fn(&mut HomeChangedBody, &mut Acceptance)| {
        let (changed, mut next) = home.hand(bend);
        vec![changed, next.open(HOME, good)]
    };
    no(&|home| hand(home, &|_, acceptance| acceptance.seq = Seq(3)), unaccepted);
    no(&|home| hand(home, &|_, acceptance| acceptance.not_after.0 -= 60_001), unaccepted);
    no(&|home| hand(home, &|_, acceptance| acceptance.from = Did::parse("did:web:else.example").unwrap()), unaccepted);
    no(&|home| hand(home, &|_, acceptance| acceptance.to = Did::parse("did:web:else.example").unwrap()), unaccepted);
    no(&|home| hand(home, &|body, _| body.term = Term(0)), unaccepted);
    no(&|home| vec![home.hand(accepted).0], "a move that the next home did not take up");
    no(&|home| vec![home.hand(accepted).0, home.restore(good)], after);
    no(&|home| vec![home.hand(accepted).0, home.hand(accepted).0], after);
    no(
        &|home| {
            let (changed, mut next) = home.hand(accepted);
            vec![changed, next.open("did:web:else.example", good)]
        },
        other,
    );
    no(
        &|home| {
            let (changed, mut next) = home.hand(|body, _| body.term.0 += 9);
            vec![changed, next.open(HOME, good)]
        },
        other,
    );
    no(
        &|home| {
            let (_, mut next) = home.hand(accepted);
            vec![next.open(HOME, good)]
        },
        "a move without the word of the home before",
    );
    no(
        &|home| {
            let (changed, _) = home.hand(accepted);
            // The old home opens the next term itself.
            vec![changed, home.open(HOME, good)]
        },
        "a checkpoint is not of the entry that it stands beside",
    );
}

#[test]
fn a_lineage_with_a_bent_link_is_not_believed() {
    let no = |bend: &dyn Fn(&mut Home) -> Vec<LineageLink>, why: &'static str| {
        let mut home = Home::new();
        let links = bend(&mut home);
        assert_eq!(trace(&home.head.stream, &home.genesis, &links), Err(BadLineage(why)));
    };
    let one = "an entry is of another stream, or its content of another entry";
    let base = "a term goes on from another entry than the one before it";
    let beside = "a checkpoint is not of the entry that it stands beside";
    no(&|home| vec![Home::new().restore(good), home.restore(good)], one);
    no(&|home| vec![home.restore(|body, _| body.base = Seq(3))], base);
    no(&|home| vec![home.restore(|body, _| body.base_hash.0[0] ^= 1)], base);
    no(&|home| vec![home.restore(|_, head| head.term.0 -= 1)], "terms do not rise");
    no(&|home| [home.restore(good), home.restore(good)].into_iter().rev().collect(), "terms do not rise");
    no(&|home| vec![LineageLink { checkpoint: home.restore(good).checkpoint, ..home.restore(good) }], beside);
    no(&|home| vec![home.restore(good); LINEAGE_LINKS + 1], "more than 64 changes of term");
    no(
        &|home| {
            let mut link = home.restore(good);
            link.content.0.push(0);
            vec![link]
        },
        "a content is not one",
    );
    no(
        &|home| {
            let mut link = home.restore(good);
            let content = Content::new(b"another".to_vec(), None);
            link.content = Bytes(crate::log::chain::encode(&content, "content").unwrap());
            vec![link]
        },
        one,
    );
    let mut home = Home::new();
    home.genesis = Home::new().genesis;
    assert!(trace(&home.head.stream, &home.genesis, &[]).is_err(), "another's stream cannot be claimed");
}
