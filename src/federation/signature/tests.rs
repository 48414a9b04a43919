use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Outgoing, read, sign};
use crate::federation::PeerRefused;
use crate::identity::{Curve, Malleability, PublicKey, SigningKey, key_tag};
use crate::types::Hash;

const BODY: &[u8] =
    br#"{"stream":"scwfgagcsyqhmdj7pbehnj6jvili52f63","idem":"01JD5V8Q0M6T3N7Y2K4X9Z1ABC","ciphertext":{"$bytes":"b3BhcXVl"}}"#;
const AT: &str = "https://a.example/xrpc/blue.catbird.mls.sendMessage";
const KEY_ID: &str = "did:web:b.example#peer-loyywn2q";
const NOW_S: i64 = 1_795_000_000;

fn peer_key() -> SigningKey {
    SigningKey::from_bytes(Curve::Ed25519, &Hash::of(b"peer test key b.example").0).unwrap()
}

fn forwarded() -> Outgoing<'static> {
    Outgoing {
        method: "POST",
        target_uri: AT,
        content_type: Some("application/json"),
        body: BODY,
        audience: "did:web:a.example",
        actor: Some("did:plc:ewvi7nxzyoun6zhxrhs64oiz"),
        device: None,
        key_id: KEY_ID,
        created_s: NOW_S,
        nonce: hex::decode("abcdef1234567890abcdef1234567890").unwrap().try_into().unwrap(),
    }
}

fn judge(method: &str, uri: &str, headers: &HeaderMap, body: &[u8], now_s: i64) -> Result<(), PeerRefused> {
    let presented = read(method, uri, headers, "did:web:a.example", now_s)?;
    presented.verify(&peer_key().public())?;
    presented.check_body(body)
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers[name].to_str().unwrap().to_owned()
}

#[test]
fn the_forwarded_call_of_the_protocol_is_signed_byte_for_byte_and_read_back() {
    assert_eq!(BODY.len(), 117);
    assert_eq!(key_tag(&peer_key().public()), "loyywn2q");
    // The vector's device id is of another implementation's form; the signature over it is checked below.
    let headers = sign(&Outgoing { device: Some("d1"), ..forwarded() }, &peer_key()).unwrap();
    assert_eq!(header(&headers, "content-digest"), "sha-256=:Mwju5GD+j/EKGE0btgoxnze9qZK0ebnTupzJjHDP4AM=:");
    assert_eq!(
        header(&headers, "signature-input"),
        "peer=(\"@method\" \"@target-uri\" \"content-digest\" \"content-type\" \"x-rookery-audience\" \
         \"x-rookery-actor\" \"x-rookery-device\");created=1795000000;expires=1795000060;\
         nonce=\"q83vEjRWeJCrze8SNFZ4kA\";keyid=\"did:web:b.example#peer-loyywn2q\";tag=\"rookery-peer-v1\""
    );
    assert_eq!(
        header(&headers, "signature"),
        "peer=:OGCdT98LSwofc48W4GfQ1dWPUbWkBH3KMsF7m3D1VJ+cd5RVwPpEl7MKMgwsh6R977nsJ1/cHV9E5fvI/v5UAA==:"
    );
    assert_eq!(judge("POST", AT, &headers, BODY, NOW_S), Ok(()));
}

#[test]
fn the_query_of_the_protocol_is_signed_byte_for_byte_and_read_back() {
    let uri =
        "https://a.example/xrpc/blue.catbird.peer.getEntries?stream=scwfgagcsyqhmdj7pbehnj6jvili52f63&from=1&limit=100";
    let request = Outgoing {
        method: "GET",
        target_uri: uri,
        content_type: None,
        body: b"",
        actor: None,
        nonce: hex::decode("1234567890abcdef1234567890abcdef").unwrap().try_into().unwrap(),
        ..forwarded()
    };
    let headers = sign(&request, &peer_key()).unwrap();
    assert_eq!(header(&headers, "content-digest"), "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
    assert_eq!(
        header(&headers, "signature"),
        "peer=:H2jHX7i8AMU+0vo3ca/2T9pjoAYsB1MZb6EAwbisz8XS/hhKGjb7xHEJ0ID5GBoFNi57zjUo0w7BjEW893QHBQ==:"
    );
    assert_eq!(judge("GET", uri, &headers, b"", NOW_S), Ok(()));
}

/// RFC 9421, appendix B.2.6: what our key code makes of the standard's own example.
#[test]
fn the_ed25519_example_of_the_standard_holds() {
    let base = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\"@authority\": example.com\n\
                \"content-type\": application/json\n\"content-length\": 18\n\"@signature-params\": (\"date\" \"@method\" \
                \"@path\" \"@authority\" \"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
    let lines = [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("@method", "POST"),
        ("@path", "/foo"),
        ("@authority", "example.com"),
        ("content-type", "application/json"),
        ("content-length", "18"),
    ];
    let parameters = "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
                      ;created=1618884473;keyid=\"test-key-ed25519\"";
    assert_eq!(super::base(lines.into_iter(), parameters), base.as_bytes());
    // The public key of appendix B.1.4.
    let raw = base64(b"JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=");
    let signature = base64(b"wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==");
    let key = PublicKey::from_raw(Curve::Ed25519, &raw).unwrap();
    assert!(key.verify(base.as_bytes(), &signature, Malleability::Refused).is_ok());
    assert!(key.verify(&base.as_bytes()[1..], &signature, Malleability::Refused).is_err());
}

fn base64(text: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn whatever_is_covered_cannot_be_changed_added_or_taken_away() {
    let signed = sign(&forwarded(), &peer_key()).unwrap();
    let with = |name: &'static str, value: &str| {
        let mut headers = signed.clone();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        headers
    };
    let without = |name: &'static str| {
        let mut headers = signed.clone();
        headers.remove(name);
        headers
    };
    let twice = |name: &'static str| {
        let mut headers = signed.clone();
        let value = headers[name].clone();
        headers.append(HeaderName::from_static(name), value);
        headers
    };
    let input = |from: &str, to: &str| {
        let text = header(&signed, "signature-input");
        assert!(text.contains(from), "{from}");
        with("signature-input", &text.replace(from, to))
    };
    let malformed = |headers: HeaderMap| match judge("POST", AT, &headers, BODY, NOW_S) {
        Err(PeerRefused::SignatureMalformed(_)) => {}
        other => panic!("{other:?}: {headers:?}"),
    };
    let is = |headers: HeaderMap, refused: PeerRefused| {
        assert_eq!(judge("POST", AT, &headers, BODY, NOW_S), Err(refused), "{headers:?}");
    };
    is(without("signature-input"), PeerRefused::SignatureMissing);
    is(input("rookery-peer-v1", "another"), PeerRefused::SignatureMissing);
    is(with("authorization", "Bearer x"), PeerRefused::AmbiguousCredentials);
    is(with("content-encoding", "gzip"), PeerRefused::AmbiguousCredentials);
    is(with("x-rookery-audience", "did:web:c.example"), PeerRefused::WrongAudience);
    is(with("x-rookery-actor", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), PeerRefused::SignatureInvalid);
    is(with("content-type", "text/plain"), PeerRefused::SignatureInvalid);
    is(input("created=1795000000", "created=1795000001"), PeerRefused::SignatureInvalid);
    // An actor outside of the signature does not count.
    malformed(input(" \"x-rookery-actor\"", ""));
    malformed(with("x-rookery-device", "dev_kjtxncbc5zre2sh44fpmlstzzp"));
    malformed(with("x-rookery-other", "1"));
    for name in ["@method", "@target-uri", "content-digest", "content-type", "x-rookery-audience"] {
        malformed(input(&format!("\"{name}\" "), ""));
    }
    malformed(input("\"@method\"", "\"@method\";req"));
    malformed(input("\"@method\"", "\"@method\" \"@method\""));
    malformed(input("\"@method\"", "\"@method\" \"host\""));
    malformed(input("\"@method\"", "method"));
    malformed(input(";created=1795000000", ""));
    malformed(input(";expires=1795000060", ""));
    malformed(input("q83vEjRWeJCrze8SNFZ4kA", "q83vEjRWeJCrze8SNFZ4"));
    malformed(input(";tag=", ";extra=1;tag="));
    malformed(input(";tag=", ";alg=\"hmac-sha256\";tag="));
    malformed(input(";tag=", ";alg=\"ecdsa-p256-sha256\";tag="));
    malformed(input("did:web:b.example#peer-loyywn2q", "did:web:b.example"));
    malformed(input("did:web:b.example#peer-loyywn2q", "did:plc:ewvi7nxzyoun6zhxrhs64oiz#peer-loyywn2q"));
    malformed(with("signature", "peer=:AAAA:"));
    malformed(with("signature", "other=:AAAA:"));
    for name in ["content-digest", "content-type", "x-rookery-audience", "x-rookery-actor"] {
        malformed(twice(name));
        malformed(without(name));
    }
    // What the signature does not cover is not part of the request's truth: Host and others' signatures.
    assert_eq!(judge("POST", AT, &with("host", "c.example"), BODY, NOW_S), Ok(()));
    let mut beside = signed.clone();
    beside.append("signature-input", HeaderValue::from_static("proxy=(\"@method\");created=1;keyid=\"k\""));
    beside.append("signature", HeaderValue::from_static("proxy=:AAAA:"));
    assert_eq!(judge("POST", AT, &beside, BODY, NOW_S), Ok(()));

    assert_eq!(judge("GET", AT, &signed, BODY, NOW_S), Err(PeerRefused::SignatureInvalid));
    let elsewhere = AT.replace("a.example", "evil.example");
    assert_eq!(judge("POST", &elsewhere, &signed, BODY, NOW_S), Err(PeerRefused::SignatureInvalid));
    assert_eq!(judge("POST", &format!("{AT}?x=1"), &signed, BODY, NOW_S), Err(PeerRefused::SignatureInvalid));
    assert_eq!(judge("POST", AT, &signed, b"{}", NOW_S), Err(PeerRefused::DigestMismatch));
}

#[test]
fn a_signature_is_good_for_its_minute_and_the_difference_of_two_clocks() {
    let signed = sign(&forwarded(), &peer_key()).unwrap();
    for (offset_s, good) in [(-31, false), (-30, true), (0, true), (90, true), (91, false)] {
        let judged = judge("POST", AT, &signed, BODY, NOW_S + offset_s);
        let expired = matches!(judged, Err(PeerRefused::SignatureExpired(_)));
        assert_eq!((judged.is_ok(), expired), (good, !good), "{offset_s}");
    }
}

#[test]
fn p256_signs_too_and_alg_may_say_so() {
    let key = SigningKey::generate(Curve::P256);
    let signed = sign(&forwarded(), &key).unwrap();
    let presented = read("POST", AT, &signed, "did:web:a.example", NOW_S).unwrap();
    assert_eq!(presented.verify(&key.public()), Ok(()));
    assert_eq!(presented.verify(&SigningKey::generate(Curve::P256).public()), Err(PeerRefused::SignatureInvalid));
}
