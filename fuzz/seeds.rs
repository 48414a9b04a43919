//! Writes seeds, real ones of their kind, into `corpus/`: `SEEDS=write cargo nextest run corpus`. For when a format changed.

use std::path::Path;

use rookery::identity::{Curve, SigningKey};
use rookery::identity::{DeviceSigner, service_token};
use rookery::lexicon::{Kind, schema};
use rookery::log::chain::{Content, Head};
use rookery::log::{EntryKind, Event, NamedKind};
use rookery::types::{Cursor, Did, Epoch, Hash, Seq, StreamId, Term, UnixMillis};
use rookery_client::mls::Client;

const NOW: UnixMillis = UnixMillis(1_795_000_000_000);
const AUD: &str = "did:web:chat.example";
const NSID: &str = "blue.catbird.mls.sendMessage";

/// Into `fuzz/corpus`.
pub fn write() -> Result<(), Box<dyn std::error::Error>> {
    let alice = Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz")?;
    for (name, curve) in [("p256", Curve::P256), ("k256", Curve::K256), ("ed25519", Curve::Ed25519)] {
        let key = SigningKey::from_bytes(curve, &[7; 32])?;
        let device = DeviceSigner::new(alice.clone(), SigningKey::from_bytes(curve, &[8; 32])?);
        seed("token", &format!("service-{name}"), service_token(&key, &alice, AUD, NSID, NOW).as_bytes())?;
        seed("token", &format!("device-{name}"), device.token(AUD, NSID, NOW, Some("hash")).as_bytes())?;
        let document = serde_json::json!({
            "@context": ["https://www.w3.org/ns/did/v1"], "id": alice, "alsoKnownAs": ["at://alice.example"],
            "verificationMethod": [{ "id": format!("{alice}#atproto"), "type": "Multikey", "controller": alice,
                "publicKeyMultibase": key.public().multikey() }],
            "service": [{ "id": "#atproto_pds", "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": "https://pds.example" }],
        });
        seed("did_document", name, document.to_string().as_bytes())?;
    }
    for text in
        ["0", "9007199254740991", "scwfgagcsyqhmdj7pbehnj6jvili52f63", "dev_d5apzew2eqlji5ijphxgz5mc6l", AUD, "3q2+7w"]
    {
        seed("text", text, text.as_bytes())?;
    }
    for (number, (nsid, kind, _)) in schema::methods().enumerate() {
        for (index, example) in schema::examples(nsid).into_iter().enumerate() {
            let mut bytes = u16::try_from(number)?.to_be_bytes().to_vec();
            match (kind, example.input, example.params) {
                (Kind::Procedure, Some(input), _) => bytes.extend(input.to_string().bytes()),
                (_, _, Some(params)) => bytes.extend(query(&params).bytes()),
                _ => continue,
            }
            seed("lexicon", &format!("{nsid}-{index}"), &bytes)?;
        }
    }
    log(&alice)?;
    mls(&alice)
}

fn query(params: &serde_json::Value) -> String {
    let fields = params.as_object().into_iter().flatten();
    fields.map(|(name, value)| format!("{name}={}", value.to_string().trim_matches('"'))).collect::<Vec<_>>().join("&")
}

fn log(alice: &Did) -> Result<(), Box<dyn std::error::Error>> {
    let stream = StreamId::parse("scwfgagcsyqhmdj7pbehnj6jvili52f63")?;
    let mut head = Head { stream: stream.clone(), term: Term(1), seq: Seq(0), hash: Hash::ZERO, time: NOW };
    let device = DeviceSigner::new(alice.clone(), SigningKey::from_bytes(Curve::Ed25519, &[7; 32])?).device;
    let content = Content::new(b"opaque".to_vec(), Some((alice.clone(), device)));
    let sealed = head.seal(EntryKind::Message, Some(Epoch(3)), &content, NOW)?;
    seed("entry", "header", &sealed.header)?;
    seed("entry", "content", &sealed.content)?;
    let event = Event {
        cursor: Cursor(1025),
        stream_id: 1,
        stream,
        term: Term(1),
        seq: sealed.seq,
        kind: NamedKind::Known(EntryKind::Message),
        hash: sealed.hash,
        time: sealed.time,
        header: sealed.header,
        content: Some(content),
        epoch: Some(Epoch(3)),
    };
    seed("frame", "message", &event.into_frame()?.bytes)?;
    seed("frame", "error", &rookery::xrpc::stream::error_frame("FutureCursor", "ahead"))?;
    seed("frame", "info", &rookery::xrpc::stream::info("OutdatedCursor", "old")?.bytes)
}

fn mls(alice: &Did) -> Result<(), Box<dyn std::error::Error>> {
    let client = |did: &Did, seed: [u8; 32]| -> Result<Client, Box<dyn std::error::Error>> {
        let public = SigningKey::from_bytes(Curve::Ed25519, &seed)?.public().raw();
        Ok(Client::new(did.clone(), seed, public.as_slice().try_into()?)?)
    };
    let (mut alice, bob) = (client(alice, [7; 32])?, client(&Did::parse("did:web:bob.example")?, [9; 32])?);
    let read_by = |reader: u8, name: &str, bytes: &[u8]| seed("mls", name, &[&[reader], bytes].concat());
    read_by(2, "key-package", &alice.key_package(false)?)?;
    let (group, group_info) = alice.create_group()?;
    read_by(3, "group-info", &group_info)?;
    read_by(4, "founding", &group_info)?;
    let staged = alice.stage_add(&group, &[bob.key_package(false)?])?;
    read_by(1, "commit", &staged.commit)?;
    let lengths =
        [u16::try_from(staged.commit.len())?.to_be_bytes(), u16::try_from(staged.group_info.len())?.to_be_bytes()];
    let welcome = staged.welcome.unwrap_or_default();
    read_by(5, "bundle", &[&lengths.concat()[..], &staged.commit, &staged.group_info, &welcome].concat())?;
    alice.confirm(&group)?;
    read_by(0, "message", &alice.encrypt(&group, b"hello")?)
}

fn seed(target: &str, name: &str, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(folder.join(format!("seed-{}", name.replace(':', "-"))), bytes)?)
}
