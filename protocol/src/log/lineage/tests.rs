use super::*;
use crate::identity::{Curve, SigningKey, key_tag};
use crate::log::StreamKind;
use crate::log::chain::Head;
use crate::types::UnixMillis;

const HOME: &str = "did:web:home.example";

struct Home {
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
        Self { key: SigningKey::generate(Curve::Ed25519), genesis, head }
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
        let content = Content::new(body.encode().unwrap(), None);
        let time = self.head.time;
        let sealed = self.head.seal(EntryKind::HomeRestored, None, &content, time).unwrap();
        let id = format!("#checkpoint-{}", key_tag(&self.key.public()));
        let checkpoint = Checkpoint::new(HOME, &self.head).sign(&id, &self.key).unwrap();
        LineageLink { header: Bytes(sealed.header), content: Bytes(sealed.content), checkpoint }
    }
}

fn good(_: &mut HomeRestoredBody, _: &mut Head) {}

#[test]
fn a_lineage_leads_from_the_genesis_to_the_present_reign() {
    let mut home = Home::new();
    let first = trace(&home.head.stream, &home.genesis, &[], |_, _| ()).unwrap();
    assert_eq!(first, Reign { home: HOME.to_owned(), term: home.head.term, from: Seq(0) });
    let links = [home.restore(good), home.restore(good)];
    let mut signed = Vec::new();
    let reign = trace(&home.head.stream, &home.genesis, &links, |by, one| signed.push((by.to_owned(), one))).unwrap();
    assert_eq!(reign, Reign { home: HOME.to_owned(), term: home.head.term, from: home.head.seq });
    assert_eq!(signed, [(HOME.to_owned(), &links[0].checkpoint), (HOME.to_owned(), &links[1].checkpoint)]);
}

#[test]
fn a_lineage_with_a_bent_link_is_not_believed() {
    let no = |bend: &dyn Fn(&mut Home) -> Vec<LineageLink>, why: &'static str| {
        let mut home = Home::new();
        let links = bend(&mut home);
        assert_eq!(trace(&home.head.stream, &home.genesis, &links, |_, _| ()), Err(BadLineage(why)));
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
    assert!(trace(&home.head.stream, &home.genesis, &[], |_, _| ()).is_err(), "another's stream cannot be claimed");
}
