use ipld_core::ipld::Ipld;

use super::*;
use crate::identity::{Curve, key_tag};

/// The vectors of the federation protocol: any other implementation must make the same bytes.
const GENESIS: &str = "a561760164686f6d65716469643a7765623a612e6578616d706c65646b696e6465636f6e766f6474696d651b000001a1ee565e00656e6f6e636550000102030405060708090a0b0c0d0e0f";
const STREAM: &str = "scwfgagcsyqhmdj7pbehnj6jvili52f63";
const HEADER_1: &str = "a86176016373657101646b696e6467236f70656e6564647072657658200000000000000000000000000000000000000000000000000000000000000000647465726d1a6afd86c06474696d651b000001a1ee565e006673747265616d78217363776667616763737971686d646a37706265686e6a366a76696c69353266363367636f6e74656e745820dba86cb51c49e48a5c3ab8d5fcd2ddba3db4119d4cd0ade4aa5558db5b9e6487";
const HASH_1: &str = "fe7f01f802cc91472335452a45384cef65e8955ebf5508ad1bddf5a06d3ae68f";
const CONTENT_2: &str = "a464626f6479516f706171756520636970686572746578746473616c74502222222222222222222222222222222266617574686f7278206469643a706c633a65777669376e787a796f756e367a687872687336346f697a66646576696365626431";
const HEADER_2: &str = "a96176016373657102646b696e6468236d65737361676564707265765820fe7f01f802cc91472335452a45384cef65e8955ebf5508ad1bddf5a06d3ae68f647465726d1a6afd86c06474696d651b000001a1ee5671886565706f6368016673747265616d78217363776667616763737971686d646a37706265686e6a366a76696c69353266363367636f6e74656e745820f4f9aee5099b53beac482a1e9b971cd02cc3d31ae3ec6c3dfeecac72e51b9782";
const HASH_2: &str = "4418781baed697de6aee74874570a721d1fbc4528a7b040a1637d38ba60c09b0";
const CHECKPOINT: &str = "a76176016373657102646861736858204418781baed697de6aee74874570a721d1fbc4528a7b040a1637d38ba60c09b064686f6d65716469643a7765623a612e6578616d706c65647465726d1a6afd86c06474696d651b000001a1ee5671896673747265616d78217363776667616763737971686d646a37706265686e6a366a76696c693532663633";

const RECEIPT_SIGNATURE: &str = "f356d707971e5e142a3a0b348515750faaab330e6012652bd5612dbe9af333b79fd9dbca0a9a5230f1e024370256ca48880cbca529e79d291469d59c3fc07000";

fn genesis() -> Genesis {
    Genesis {
        v: 1,
        kind: "convo".into(),
        home: "did:web:a.example".into(),
        nonce: (0..16).collect(),
        time: UnixMillis(0x01a1_ee56_5e00),
    }
}

#[test]
fn the_vectors_of_the_protocol_come_out() {
    let genesis = genesis();
    let bytes = genesis.encode().unwrap();
    assert_eq!(hex::encode(&bytes), GENESIS);
    let stream = StreamId::of_genesis(&bytes);
    assert_eq!(stream.as_str(), STREAM);
    assert_eq!(genesis.term(), Term(0x6afd_86c0));

    let mut head = Head { stream, term: genesis.term(), seq: Seq(0), hash: Hash::ZERO, time: UnixMillis(0) };
    let content = Content { body: bytes, salt: vec![0x11; 16], author: None, device: None };
    let first = head.seal(EntryKind::Opened, None, &content, genesis.time).unwrap();
    assert_eq!(hex::encode(&first.header), HEADER_1);
    assert_eq!(first.hash.to_string(), HASH_1);

    // A device id of another server is any string: the vector's "d1" is not one of ours, so its content is given.
    let content = hex::decode(CONTENT_2).unwrap();
    let header = Header {
        v: 1,
        stream: head.stream.clone(),
        term: head.term,
        seq: Seq(2),
        prev: head.hash.0,
        kind: "#message".into(),
        time: UnixMillis(0x01a1_ee56_7188),
        content: Hash::labelled(CONTENT_LABEL, &content).0,
        epoch: Some(Epoch(1)),
        requires: None,
    };
    let header = encode(&header, "header").unwrap();
    assert_eq!(hex::encode(&header), HEADER_2);
    assert_eq!(entry_hash(&header).to_string(), HASH_2);
    let linked = links(&header, Some(&content), first.hash).unwrap();
    assert_eq!(linked.seq, Seq(2));
    assert!(links(&header, Some(&content), Hash::ZERO).is_err());
    assert!(links(&header, Some(b"other"), first.hash).is_err());

    let end = Head { seq: Seq(2), hash: entry_hash(&header), time: UnixMillis(0x01a1_ee56_7189), ..head };
    let key = |text: &str| SigningKey::from_bytes(Curve::Ed25519, Hash::of(text.as_bytes()).as_slice()).unwrap();
    let (peer, checkpoint) = (key("peer test key b.example"), key("checkpoint test key a.example"));
    let key_id = format!("#checkpoint-{}", key_tag(&checkpoint.public()));
    let receipt = Checkpoint::new("did:web:a.example", &end).sign(&key_id, &checkpoint).unwrap();
    assert_eq!(hex::encode(&receipt.statement), CHECKPOINT);
    assert_eq!(receipt.key, "#checkpoint-ktr7tvtd");
    assert_eq!(hex::encode(&receipt.sig), RECEIPT_SIGNATURE);
    assert!(receipt.verify(CHECKPOINT_LABEL, &checkpoint.public()).is_ok());
    assert!(receipt.verify(CHECKPOINT_LABEL, &peer.public()).is_err());

    let read = Checkpoint::verify(&receipt, &checkpoint.public()).unwrap();
    assert_eq!((read.home.as_str(), read.head()), ("did:web:a.example", end));
    assert_eq!(read.statement().unwrap(), receipt.statement.0, "the same bytes again");
    assert!(Checkpoint::verify(&receipt, &peer.public()).is_err());
    let mut longer = receipt.statement.0.clone();
    longer.push(0);
    assert!(Checkpoint::decode_exact(&longer).is_err());
}

#[test]
fn a_header_with_fields_of_a_later_version_is_canonical() {
    let stream = StreamId::parse(STREAM).unwrap();
    let mut head = Head { stream, term: Term(1), seq: Seq(0), hash: Hash::ZERO, time: UnixMillis(5) };
    let content = Content::new(vec![1], None);
    let sealed = head.seal_named("#poll", Some("polls"), None, &content, UnixMillis(6)).unwrap();
    let header = Header::decode_exact(&sealed.header).unwrap();
    assert_eq!((header.kind.as_str(), header.requires.as_deref()), ("#poll", Some("polls")));

    let with = |key: &str, value: Ipld| {
        let Ipld::Map(mut fields) = decode(&sealed.header, "header").unwrap() else { panic!("no map") };
        fields.insert(key.to_owned(), value);
        encode(&Ipld::Map(fields), "header").unwrap()
    };
    let later = with("later", Ipld::List(vec![Ipld::Integer(1)]));
    assert_eq!(Header::decode_exact(&later).unwrap(), header, "the field is passed over");
    assert_ne!(entry_hash(&later), sealed.hash, "and is part of the chain");
    assert!(Header::decode_exact(&with("v", Ipld::Integer(2))).is_err());
    assert!(Header::decode_exact(&with("requires", Ipld::String("Two Words".into()))).is_err());
    // The integer of the field in more bytes than it needs.
    let at = later.len() - later.iter().rev().position(|&byte| byte == 0x81).unwrap();
    let mut longer = later.clone();
    longer.splice(at..=at, [0x18, 0x01]);
    assert!(Header::decode_exact(&longer).is_err());
}

#[derive(Debug, Deserialize)]
struct Map {
    a: u8,
    b: u8,
}

#[test]
fn bytes_that_are_not_canonical_are_refused() {
    let mut head = Head {
        stream: StreamId::parse(STREAM).unwrap(),
        term: Term(1),
        seq: Seq(0),
        hash: Hash::ZERO,
        time: UnixMillis(5),
    };
    let sealed = head.seal(EntryKind::Message, Some(Epoch(3)), &Content::new(vec![1], None), UnixMillis(1)).unwrap();
    assert_eq!(sealed.time, UnixMillis(5), "time never decreases");
    assert!(Header::decode(&sealed.header).is_ok());
    let mut trailing = sealed.header.clone();
    trailing.push(0);
    assert!(Header::decode(&trailing).is_err());
    // The version as 0x18 0x01: the same number, not in its shortest form.
    let at = sealed.header.iter().position(|&b| b == b'v').unwrap() + 1;
    let mut longer = sealed.header.clone();
    longer.splice(at..=at, [0x18, 0x01]);
    assert!(Header::decode(&longer).is_err());
    // Keys in another order, and one of them twice.
    let two = |first: &str, second: &str| {
        let map = [(first, Ipld::Integer(1)), (second, Ipld::Integer(1))];
        let mut bytes = vec![0xa2];
        for (key, value) in map {
            bytes.extend(encode(&Ipld::String(key.into()), "key").unwrap());
            bytes.extend(encode(&value, "value").unwrap());
        }
        bytes
    };
    let map: Map = decode(&two("a", "b"), "map").unwrap();
    assert_eq!((map.a, map.b), (1, 1));
    for (first, second) in [("b", "a"), ("aa", "b"), ("a", "a")] {
        assert!(decode::<Ipld>(&two(first, second), "map").is_err(), "{first} {second}");
        assert!(decode::<Map>(&two(first, second), "map").is_err(), "{first} {second}");
    }
}

/// CIDv1, DAG-CBOR, SHA-256.
fn name_of(bytes: &[u8]) -> String {
    let cid = [&[0x01, 0x71, 0x12, 0x20][..], Hash::of(bytes).as_slice()].concat();
    multibase::encode(multibase::Base::Base32Lower, cid)
}

#[test]
fn canonical_bytes_are_read_written_again_and_named() {
    // Written by hand after the specification of DAG-CBOR, not by this code: bytes, and their CID.
    for (bytes, name) in [
        ("a0", "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"),
        // Keys by their length, then by their bytes.
        ("a461420461610261620162616103", "bafyreicqgpvdzdswdfxs2mi3fp4qzuztx3jtzahxpt2cg6jhuovxzfij3a"),
        // Integers at the edges of each length.
        (
            "900017181818ff19010019ffff1a000100001affffffff1b00000001000000001b001fffffffffffff2037381838ff390100\
             3b001ffffffffffffe",
            "bafyreieduhonmirwjmaeswy3njqpwizzls3pzsvm4qe2hceceebmig66hm",
        ),
        // Text, bytes, a link, lists, booleans and null.
        (
            "a7626e6ff463796573f5646c696e6bd82a58250001711220c19a797fa1fd590cd2e5b42d1cf5f246e29b91684e2f87404b81\
             dc345c7a56a0646c6973748280a0646e6f6e65f664746578746861cc8820f09f90a665627974657344000102ff",
            "bafyreicdszigkqs7g76sz76ydxgwdpzb5sfkd5cw2mu7tcfljlclvi22u4",
        ),
    ] {
        let bytes = hex::decode(bytes).unwrap();
        let value: Ipld = decode(&bytes, "case").unwrap();
        assert_eq!(encode(&value, "case").unwrap(), bytes, "{name}");
        assert_eq!(name_of(&bytes), name);
    }
}

#[cfg(feature = "vectors")]
#[test]
fn the_public_vectors_of_the_data_model_have_their_names() {
    let path = crate::vectors::folder().join("data-model/data-model-fixtures.json");
    let fixtures: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for fixture in fixtures.as_array().unwrap() {
        let name = fixture["cid"].as_str().unwrap();
        let bytes = crate::types::Bytes::decode(fixture["cbor_base64"].as_str().unwrap()).unwrap().0;
        let value: Ipld = decode(&bytes, "fixture").unwrap();
        assert_eq!(encode(&value, "fixture").unwrap(), bytes, "{name}");
        assert_eq!(name_of(&bytes), name);
    }
}
