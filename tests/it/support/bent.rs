//! A home that does as it likes: it has a name, keys and a document as every server has, and tells each follower whatever
//! a test wants.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use http::StatusCode;
use rookery::federation::replica::{Replicate, View, ViewDevice, ViewMember, WireEntry, WireErasure};
use rookery::federation::{Outgoing, sign};
use rookery::identity::http::{PlainClient, plain};
use rookery::identity::{ServerKeys, Signed, SigningKey, key_tag, server_document};
use rookery::log::acceptance::{ACCEPTANCE_LABEL, Acceptance};
use rookery::log::body::{
    Addition, Body, CommitBody, ConvoBody, ErasedBody, HomeChangedBody, HomeOpenedBody, HomeRestoredBody,
    MembershipBody, MembershipChange, Removal, Role,
};
use rookery::log::chain::{Checkpoint, Content, Genesis, Head, Header, entry_hash};
use rookery::log::{EntryKind, Held, StreamKind};
use rookery::types::{Bytes, Clock, DeviceId, Did, Hash, Seq, StreamId, Term, UnixMillis};
use rookery_testkit::Person;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

/// What one request was answered.
pub type Said = (u16, Value);

/// How it answers what servers ask it: by method, in JSON.
type Script = Arc<Mutex<std::collections::HashMap<String, Said>>>;

pub struct BentHome {
    pub did: Did,
    pub keys: Arc<ServerKeys>,
    document: Arc<Mutex<Value>>,
    script: Script,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    /// Which life of its database it names; none as long as it is 0.
    pub incarnation: Arc<AtomicI64>,
    clock: Clock,
    http: PlainClient,
    _serving: AbortOnDropHandle<()>,
    _folder: tempfile::TempDir,
}

#[derive(Clone)]
struct Stage {
    document: Arc<Mutex<Value>>,
    script: Script,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    incarnation: Arc<AtomicI64>,
}

async fn document_now(State(stage): State<Stage>) -> Json<Value> {
    Json(stage.document.lock().unwrap().clone())
}

impl BentHome {
    pub async fn start() -> Self {
        Self::start_at(Clock::System).await
    }

    pub async fn start_at(clock: Clock) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = format!("http://localhost:{port}");
        let did = Did::parse(&format!("did:web:localhost%3A{port}")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(ServerKeys::generate(&folder.path().join("keys")).unwrap());
        let (script, asked): (Script, Arc<Mutex<Vec<_>>>) = (Script::default(), Arc::default());
        let document = Arc::new(Mutex::new(server_document(&did, &origin, &keys)));
        let incarnation = Arc::<AtomicI64>::default();
        let stage = Stage {
            document: Arc::clone(&document),
            script: Arc::clone(&script),
            asked: Arc::clone(&asked),
            incarnation: Arc::clone(&incarnation),
        };
        let router = Router::new()
            .route("/.well-known/did.json", get(document_now))
            .route("/xrpc/{nsid}", any(answer))
            .with_state(stage);
        let serving = AbortOnDropHandle::new(tokio::spawn(async move { drop(axum::serve(listener, router).await) }));
        let http = plain().unwrap();
        Self { did, keys, document, script, asked, incarnation, clock, http, _serving: serving, _folder: folder }
    }

    /// From now on its document lists this checkpoint key in the place of the one that it signs with.
    pub fn retires_its_checkpoint_key(&self, next: &SigningKey) {
        let mut document = self.document.lock().unwrap();
        let methods = document["verificationMethod"].as_array_mut().unwrap();
        let id = format!("{}{}", self.did, self.keys.checkpoint_id());
        let method = methods.iter_mut().find(|method| method["id"] == id).unwrap();
        method["id"] = format!("{}#checkpoint-{}", self.did, key_tag(&next.public())).into();
        method["publicKeyMultibase"] = next.public().multikey().into();
    }

    /// From now on it answers this to that method (`follow`, …).
    pub fn answers(&self, method: &str, status: u16, body: Value) {
        self.script.lock().unwrap().insert(format!("blue.catbird.peer.{method}"), (status, body));
    }

    /// What it was asked by this method, oldest first.
    pub fn asked(&self, method: &str) -> Vec<Value> {
        let nsid = format!("blue.catbird.peer.{method}");
        self.asked.lock().unwrap().iter().filter(|(asked, _)| *asked == nsid).map(|(_, body)| body.clone()).collect()
    }

    /// Tells whoever asks to follow that the stream stands so, and that it may begin at `from`.
    pub fn offers(&self, chain: &Chain, from: u64) {
        let anchor = (from > 1).then(|| self.checkpoint(chain, from - 1));
        let genesis = Bytes(chain.genesis.clone());
        let mut body = json!({
            "home": self.did, "term": chain.head.term, "genesis": genesis, "lineage": chain.lineage(self),
            "head": self.checkpoint(chain, chain.len()),
        });
        if let Some(anchor) = anchor {
            body["anchor"] = serde_json::to_value(anchor).unwrap();
        }
        self.answers("follow", 200, body);
    }

    pub fn sign(&self, head: &Head) -> Signed {
        Checkpoint::new(self.did.as_str(), head).sign(&self.keys.checkpoint_id(), &self.keys.checkpoint).unwrap()
    }

    pub fn checkpoint(&self, chain: &Chain, seq: u64) -> Signed {
        self.sign(&chain.head_at(seq))
    }

    /// The request that an honest home would make of this part.
    pub fn part(&self, chain: &Chain, from: u64, until: u64) -> Replicate {
        let entries = &chain.entries[usize::try_from(from - 1).unwrap()..usize::try_from(until).unwrap()];
        let wire =
            |held: &Held| WireEntry { header: Bytes(held.header.clone()), content: held.content.clone().map(Bytes) };
        Replicate {
            stream: chain.head.stream.clone(),
            term: chain.head_at(until).term,
            from: Seq(from),
            prev: Bytes(chain.head_at(from - 1).hash.to_vec()),
            entries: entries.iter().map(wire).collect(),
            checkpoint: self.checkpoint(chain, until),
            erasures: Vec::new(),
        }
    }

    /// This entry of that order, as it is shown ahead.
    pub fn erasure(&self, chain: &Chain, seq: u64) -> WireErasure {
        let Held { header, content } = chain.entries[usize::try_from(seq - 1).unwrap()].clone();
        let (header, content) = (Bytes(header), Bytes(content.unwrap()));
        WireErasure { header, content, checkpoint: self.checkpoint(chain, seq) }
    }

    pub async fn replicates(&self, to: (&str, &Did), chain: &Chain, from: u64, until: u64) -> Said {
        self.hands(to, &self.part(chain, from, until)).await
    }

    pub async fn hands(&self, to: (&str, &Did), request: &Replicate) -> Said {
        self.posts(to, "replicate", "application/vnd.ipld.dag-cbor", request.encode().unwrap()).await
    }

    pub async fn calls(&self, to: (&str, &Did), method: &str, input: &Value) -> Said {
        self.posts(to, method, "application/json", serde_json::to_vec(input).unwrap()).await
    }

    pub async fn posts(&self, (origin, audience): (&str, &Did), method: &str, kind: &str, body: Vec<u8>) -> Said {
        let uri = format!("{origin}/xrpc/blue.catbird.peer.{method}");
        let headers = self.signed("POST", &uri, audience, Some(kind), &body);
        let request = self.http.post(&uri).headers(headers).header("content-type", kind);
        said(request.body(body).send().await.unwrap()).await
    }

    pub async fn asks(&self, (origin, audience): (&str, &Did), method: &str, query: &str) -> Said {
        let uri = format!("{origin}/xrpc/blue.catbird.peer.{method}?{query}");
        let headers = self.signed("GET", &uri, audience, None, b"");
        said(self.http.get(&uri).headers(headers).send().await.unwrap()).await
    }

    fn signed(&self, verb: &str, uri: &str, audience: &Did, kind: Option<&str>, body: &[u8]) -> http::HeaderMap {
        let key_id = format!("{}{}", self.did, self.keys.peer_id());
        let outgoing = Outgoing {
            method: verb,
            target_uri: uri,
            content_type: kind,
            body,
            audience: audience.as_str(),
            actor: None,
            device: None,
            key_id: &key_id,
            created_s: self.clock.now_seconds(),
            nonce: rand::random(),
        };
        let mut headers = sign(&outgoing, &self.keys.peer).unwrap();
        headers.remove("content-type");
        headers
    }
}

async fn said(answer: reqwest::Response) -> Said {
    let status = answer.status().as_u16();
    let body = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn answer(State(stage): State<Stage>, Path(nsid): Path<String>, request: axum::extract::Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = axum::body::to_bytes(request.into_body(), 16 << 20).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| json!({ "query": query }));
    stage.asked.lock().unwrap().push((nsid.clone(), body));
    let (status, body) = stage
        .script
        .lock()
        .unwrap()
        .get(&nsid)
        .cloned()
        .unwrap_or_else(|| (404, json!({ "error": "StreamNotFound", "message": "the bent home says nothing" })));
    let mut answer = (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    let incarnation = stage.incarnation.load(Ordering::SeqCst);
    if incarnation > 0 {
        answer.headers_mut().insert("x-rookery-incarnation", incarnation.into());
    }
    answer
}

/// One order of a stream.
#[derive(Clone)]
pub struct Chain {
    pub genesis: Vec<u8>,
    pub start: Head,
    pub head: Head,
    pub entries: Vec<Held>,
    pub alice: (Did, DeviceId),
    pub group_id: Vec<u8>,
    home: Did,
}

impl Chain {
    /// A conversation that Alice, of the bent home, founded a minute ago: three entries.
    pub fn found(home: &BentHome) -> Self {
        let time = UnixMillis(Clock::System.now().0 - 60_000);
        let genesis = Genesis::new(StreamKind::Convo, home.did.as_str(), time);
        let term = genesis.term();
        let genesis = genesis.encode().unwrap();
        let start = Head { stream: StreamId::of_genesis(&genesis), term, seq: Seq(0), hash: Hash::ZERO, time };
        let name = hex::encode(rand::random::<[u8; 8]>());
        let alice = (Did::parse(&format!("did:plc:{name}")).unwrap(), DeviceId::of_key(name.as_bytes()));
        let home = home.did.clone();
        let (entries, group_id) = (Vec::new(), name.into_bytes());
        let mut chain = Self { genesis: genesis.clone(), head: start.clone(), start, entries, alice, group_id, home };
        chain.order(EntryKind::Opened, genesis);
        let convo = chain.convo().encode().unwrap();
        chain.order(EntryKind::Convo, convo);
        let opened = MembershipBody {
            account: chain.alice.0.clone(),
            change: MembershipChange::Opened,
            role: Some(Role::Admin),
            server: Some(chain.home.to_string()),
        };
        let founder = Content::new(opened.encode().unwrap(), Some(chain.alice.clone()));
        chain.put(time, EntryKind::Membership, &founder);
        chain
    }

    pub fn stream(&self) -> &StreamId {
        &self.head.stream
    }

    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn convo(&self) -> ConvoBody {
        ConvoBody {
            group_id: Bytes(self.group_id.clone()),
            cipher_suite: 1,
            handshake_policy: "opaque".to_owned(),
            policy: "{}".to_owned(),
            metadata: None,
        }
    }

    /// Who is in it before anybody was added.
    pub fn view(&self) -> View {
        let ConvoBody { group_id, cipher_suite, handshake_policy, policy, metadata } = self.convo();
        let (account, device) = self.alice.clone();
        let devices = vec![ViewDevice { device, from_seq: Seq(1) }];
        let alice =
            ViewMember { account, server: self.home.clone(), role: Some(Role::Admin), from_seq: Seq(1), devices };
        View { group_id, cipher_suite, handshake_policy, policy, metadata, members: vec![alice] }
    }

    pub fn order(&mut self, kind: EntryKind, body: Vec<u8>) {
        let time = self.head.time;
        self.order_at(time, kind, body);
    }

    pub fn order_at(&mut self, time: UnixMillis, kind: EntryKind, body: Vec<u8>) {
        self.put(time, kind, &Content::new(body, None));
    }

    fn put(&mut self, time: UnixMillis, kind: EntryKind, content: &Content) {
        let sealed = self.head.seal(kind, None, content, time).unwrap();
        self.entries.push(Held { header: sealed.header, content: Some(sealed.content) });
    }

    pub fn message(&mut self) {
        self.order(EntryKind::Message, b"opaque".to_vec());
    }

    pub fn messages(&mut self, count: usize) {
        for _ in 0..count {
            self.message();
        }
    }

    /// Takes the contents of these back.
    pub fn erase(&mut self, seqs: &[u64]) {
        let body = ErasedBody { seqs: seqs.iter().copied().map(Seq).collect() };
        self.order(EntryKind::Erased, body.encode().unwrap());
    }

    /// Adds somebody who lives on that server.
    pub fn add(&mut self, person: &Person, server: &Did) {
        let add = Addition {
            account: person.did().clone(),
            device: person.device().clone(),
            reference: Bytes(vec![1]),
            server: server.to_string(),
        };
        let body = CommitBody { commit: Bytes(b"opaque".to_vec()), adds: vec![add], removes: Vec::new() };
        self.order(EntryKind::Commit, body.encode().unwrap());
    }

    pub fn remove(&mut self, person: &Person) {
        let remove = Removal { account: person.did().clone(), device: person.device().clone() };
        let body = CommitBody { commit: Bytes(b"opaque".to_vec()), adds: Vec::new(), removes: vec![remove] };
        self.order(EntryKind::Commit, body.encode().unwrap());
    }

    /// The same up to `base`.
    pub fn until(&self, base: u64) -> Self {
        let entries = self.entries[..usize::try_from(base).unwrap()].to_vec();
        Self { head: self.head_at(base), entries, ..self.clone() }
    }

    /// The home says that it went back to here, and opens a term.
    pub fn restore(&mut self) {
        let body = HomeRestoredBody {
            base: self.head.seq,
            base_hash: Bytes(self.head.hash.to_vec()),
            restored_to: self.head.time,
        };
        self.head.term = self.head.term.next();
        self.order(EntryKind::HomeRestored, body.encode().unwrap());
    }

    /// The home hands the stream to another, with `bend` done to what that one is said to accept.
    pub fn hand(&mut self, from: &BentHome, to: &BentHome, bend: impl Fn(&mut HomeChangedBody, &mut Head)) {
        let mut head = self.head.clone();
        let mut body =
            HomeChangedBody { to: to.did.clone(), term: self.head.term.next(), acceptance: from.sign(&head) };
        bend(&mut body, &mut head);
        let late = UnixMillis(self.head.time.0 + 60_000);
        let acceptance = Acceptance::new(&from.did, &to.did, &head, Hash([7; 32]), late).statement().unwrap();
        body.acceptance = Signed::sign(ACCEPTANCE_LABEL, acceptance, &to.keys.checkpoint_id(), &to.keys.checkpoint);
        self.order(EntryKind::HomeChanged, body.encode().unwrap());
    }

    /// The acceptance in this entry is signed by nobody, and the entry is made anew around it.
    pub fn forge_acceptance(&mut self, seq: u64) {
        let held = self.entries.pop().unwrap();
        let content = Content::decode(held.content.as_ref().unwrap()).unwrap();
        let mut body = HomeChangedBody::decode(&content.body).unwrap();
        body.acceptance.sig.0[0] ^= 1;
        self.head = self.head_at(seq - 1);
        self.order(EntryKind::HomeChanged, body.encode().unwrap());
    }

    /// A home takes up what `from` handed over, in this term.
    pub fn open(&mut self, from: &Did, term: Term) {
        let (base, base_hash) = (self.head.seq, Bytes(self.head.hash.to_vec()));
        let body = HomeOpenedBody { from: from.clone(), base, base_hash };
        self.head.term = term;
        self.order(EntryKind::HomeOpened, body.encode().unwrap());
    }

    pub fn head_at(&self, seq: u64) -> Head {
        let Some(at) = seq.checked_sub(1) else { return self.start.clone() };
        let held = &self.entries[usize::try_from(at).unwrap()];
        let Header { stream, term, seq, time, .. } = Header::decode(&held.header).unwrap();
        Head { stream, term, seq, hash: entry_hash(&held.header), time }
    }

    fn lineage(&self, home: &BentHome) -> Vec<Value> {
        let opener = |held: &&Held| Header::decode(&held.header).unwrap().kind == "#homeRestored";
        let link = |held: &Held| {
            let seq = Header::decode(&held.header).unwrap().seq;
            json!({
                "header": Bytes(held.header.clone()),
                "content": Bytes(held.content.clone().unwrap()),
                "checkpoint": home.checkpoint(self, seq.0),
            })
        };
        self.entries.iter().filter(opener).map(link).collect()
    }
}
