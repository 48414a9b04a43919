//! What is done with hostile bytes: one function for each place where they come in. cargo-fuzz calls them with bytes
//! that it makes (`make fuzz`), `tests/it/server/corpora.rs` with those that it found (`fuzz/corpus`).
//!
//! A target fails by a panic: the reader's own, or that of an assertion here.

#![allow(dead_code, clippy::unwrap_used, reason = "each target uses its own part, and a panic is how it fails")]

use std::sync::{Arc, LazyLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rookery::identity::resolver::ResolveError;
use rookery::identity::{DeviceLink, DidDocument, ReplayMemory, Resolver, Rules, Source, Verifier};
use rookery::lexicon::{Kind, schema};
use rookery::log::body::{Body, CommitBody, ConvoBody, DeviceBody, MembershipBody, WelcomeBody};
use rookery::log::chain::{Content, Header, links};
use rookery::mls::{Declared, Stored, StoredLeaf};
use rookery::types::{Bytes, Clock, Cursor, DeviceId, Did, Epoch, Hash, StreamId, UnixMillis};

/// Whatever the bytes are, it comes back.
type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("did_document", did_document),
    ("entry", entry),
    ("frame", frame),
    ("lexicon", lexicon),
    ("mls", mls),
    ("text", text),
    ("token", token),
];

const NOW: UnixMillis = UnixMillis(1_795_000_000_000);

fn alice() -> Did {
    Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap()
}

fn leaf() -> StoredLeaf {
    StoredLeaf { account: alice(), device: DeviceId::of_key(&[7; 32]), signature_keys: vec![vec![7; 32]] }
}

/// A directory that knows nobody.
struct Nobody;

impl Source for Nobody {
    fn fetch<'a>(&'a self, _: &'a Did) -> BoxFuture<'a, Result<DidDocument, ResolveError>> {
        async { Err(ResolveError::NotFound) }.boxed()
    }
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let clock = Clock::manual(NOW);
    let resolver = Arc::new(Resolver::new(Nobody, clock.clone()));
    let audiences = vec!["did:web:chat.example".to_owned()];
    Verifier::new(audiences, resolver, ReplayMemory::in_process(), clock, Rules::default())
});

/// A bearer token: header and claims. No forged one is ever good.
pub fn token(data: &[u8]) {
    const NSID: &str = "blue.catbird.mls.sendMessage";
    let Ok(token) = std::str::from_utf8(data) else { return };
    let _ = Verifier::kind(token);
    let _ = VERIFIER.read_device(token, NSID);
    // The directory knows nobody and answers at once.
    if let Ok(read) = VERIFIER.read_service(token, NSID)
        && let Some(judged) = VERIFIER.service(read, &|| true).now_or_never()
    {
        assert!(judged.is_err());
    }
}

/// A DID document from a stranger's host.
pub fn did_document(data: &[u8]) {
    if let Ok(document) = DidDocument::parse(&alice(), data) {
        assert_eq!(document.did, alice());
    }
}

/// A request, as the lexicon's interpreter sees it: two bytes choose the method, the rest is its body or its query.
pub fn lexicon(data: &[u8]) {
    static METHODS: LazyLock<Vec<(&str, Kind)>> =
        LazyLock::new(|| schema::methods().map(|(nsid, kind, _)| (nsid, kind)).collect());
    let [high, low, rest @ ..] = data else { return };
    let (nsid, kind) = METHODS[usize::from(u16::from_be_bytes([*high, *low])) % METHODS.len()];
    if kind == Kind::Procedure {
        let Ok(mut body) = serde_json::from_slice(rest) else { return };
        if schema::input(nsid, &mut body).is_ok() {
            // What it takes, it takes as it stands now.
            let again = body.clone();
            assert!(schema::input(nsid, &mut body).is_ok());
            assert_eq!(body, again);
        }
    } else if let Ok(query) = std::str::from_utf8(rest) {
        let _ = schema::params(nsid, query);
    }
}

/// Header, content and body of an entry, as a peer may send them: what is read is canonical, so it is written alike.
pub fn entry(data: &[u8]) {
    if let Ok(header) = Header::decode(data) {
        let written = serde_ipld_dagcbor::to_vec(&header).unwrap();
        assert_eq!(Header::decode(&written).unwrap(), header);
    }
    if let Ok(content) = Content::decode(data) {
        let _ = CommitBody::decode(&content.body);
        let _ = ConvoBody::decode(&content.body);
        let _ = DeviceBody::decode(&content.body);
        let _ = MembershipBody::decode(&content.body);
        let _ = WelcomeBody::decode(&content.body);
    }
    let _ = links(data, Some(data), Hash::ZERO);
    if let Ok(link) = DeviceLink::decode(data) {
        assert_eq!(link.encode().unwrap(), data);
    }
}

/// A frame of a subscription, as a client reads it.
pub fn frame(data: &[u8]) {
    let _ = rookery_client::read_frame(data);
}

/// What clients send as MLS bytes (RFC 9420): one byte chooses the reader.
pub fn mls(data: &[u8]) {
    let [reader, rest @ ..] = data else { return };
    let device = DeviceId::of_key(&[7; 32]);
    match reader % 6 {
        0 => drop(rookery::mls::framing::application(rest)),
        1 => drop(rookery::mls::framing::opaque_commit(rest)),
        2 => drop(rookery::mls::key_package::check(rest, &alice(), &device, &[vec![7; 32]], NOW)),
        3 => drop(rookery::mls::group_info::view(rest)),
        4 => {
            drop(rookery::mls::founding(rest, &leaf()));
        }
        _ => commit(rest),
    }
}

/// Two bytes for the length of the commit, two for that of the GroupInfo; the rest is the Welcome.
fn commit(data: &[u8]) {
    let [a, b, c, d, rest @ ..] = data else { return };
    let (commit, rest) = rest.split_at(usize::from(u16::from_be_bytes([*a, *b])).min(rest.len()));
    let (group_info, welcome) = rest.split_at(usize::from(u16::from_be_bytes([*c, *d])).min(rest.len()));
    let stored = Stored { group_id: b"group".to_vec(), epoch: Epoch(1), cipher_suite: 1, leaves: vec![leaf()] };
    let welcome = Some(welcome).filter(|welcome| !welcome.is_empty());
    let declared = Declared { committer: leaf(), adds: Vec::new(), removes: Vec::new() };
    assert!(rookery::mls::judge(&stored, commit, group_info, welcome, &declared).is_err());
}

/// The small texts: what reads back is the same.
pub fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(cursor) = Cursor::parse(text) {
        assert_eq!(Cursor::parse(&cursor.to_string()).unwrap(), cursor);
    }
    if let Ok(stream) = StreamId::parse(text) {
        assert_eq!(stream.as_str(), text);
    }
    if let Ok(device) = DeviceId::parse(text) {
        assert_eq!(device.as_str(), text);
    }
    if let Ok(did) = Did::parse(text) {
        assert_eq!(did.as_str(), text);
    }
    let _ = Bytes::decode(text);
}
