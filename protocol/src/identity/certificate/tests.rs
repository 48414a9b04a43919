//! Who may be added to a chain, and every way to tamper with one.

use super::*;
use crate::identity::keys::Curve;

const CURVES: [Curve; 3] = [Curve::P256, Curve::K256, Curve::Ed25519];

fn account() -> Did {
    Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap()
}

fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(Curve::Ed25519, Hash::of(name.as_bytes()).as_slice()).unwrap()
}

fn keys(key: &SigningKey) -> DeviceKeys {
    DeviceKeys::of(key.public())
}

/// A chain of these keys, each vouched for by the one before, and its links.
fn chain_of(signers: &[&SigningKey]) -> (DeviceChain, Vec<DeviceLink>) {
    let (mut chain, genesis) = DeviceChain::begin(&account(), 1, &keys(signers[0])).unwrap();
    let mut links = vec![genesis];
    for pair in signers.windows(2) {
        let link = chain.certify(pair[0], &keys(pair[1])).unwrap();
        chain.extend(&link).unwrap();
        links.push(link);
    }
    (chain, links)
}

/// The same link with its statement changed, signed anew by `by`.
fn changed(link: &DeviceLink, by: &SigningKey, change: impl FnOnce(&mut Statement)) -> DeviceLink {
    let mut statement: Statement = decode(link.statement.as_slice()).unwrap();
    change(&mut statement);
    sign(by, &statement).unwrap()
}

#[test]
fn devices_of_every_curve_vouch_for_devices_of_every_curve() {
    for first in CURVES {
        for second in CURVES {
            let (one, two) = (SigningKey::generate(first), SigningKey::generate(second));
            let (chain, links) = chain_of(&[&one, &two, &key("three")]);
            assert_eq!(chain.head().seq, 3);
            let read = DeviceChain::read(&account(), &links).unwrap();
            assert_eq!(read.head(), chain.head(), "{first:?} {second:?}");
            assert_eq!(DeviceChain::replay(&account(), &links).unwrap().head(), chain.head());
            let mut backwards = links;
            backwards.reverse();
            assert_eq!(DeviceChain::gather(&account(), 1, &backwards).unwrap().head(), chain.head());
        }
    }
}

#[test]
fn the_bytes_of_a_chain_are_fixed() {
    let (chain, links) = chain_of(&[&key("a"), &key("b")]);
    // Whoever writes another client must come to the same hashes.
    assert_eq!(links[0].hash().to_string(), "aaa89f4122d9a0b43353640ab63750d1253b39bd4710adea30887a3cdad40e29");
    assert_eq!(links[1].hash().to_string(), "53d63ef6725a0cc722807a425d6ef84af977d3b1819ee6f37b483502adf669c6");
    assert_eq!(
        links[0],
        DeviceChain::begin(&account(), 1, &keys(&key("a"))).unwrap().1,
        "a genesis has no chance in it"
    );
    assert_ne!(links[0], DeviceChain::begin(&account(), 2, &keys(&key("a"))).unwrap().1);
    assert!(chain.went_through(&ChainHead { generation: 1, seq: 1, hash: links[0].hash() }));
}

#[test]
fn a_revoked_device_vouches_for_nobody_and_never_comes_back() {
    let (one, two, three) = (key("one"), key("two"), key("three"));
    let (mut chain, _) = chain_of(&[&one, &two]);
    let early = chain.certify(&two, &keys(&three)).unwrap();
    let revoked = chain.extend(&chain.revoke(&one, &two.public().device_id()).unwrap()).unwrap();
    assert_eq!(revoked.change, Change::Revoke(two.public().device_id()));
    assert_eq!(chain.devices().collect::<Vec<_>>(), [&one.public().device_id()]);

    assert_eq!(chain.extend(&early), Err(BadLink::NotNext));
    assert_eq!(chain.extend(&chain.certify(&two, &keys(&three)).unwrap()), Err(BadLink::Signer));
    assert_eq!(chain.extend(&chain.certify(&one, &keys(&two)).unwrap()), Err(BadLink::KeyUsed));
    assert_eq!(chain.extend(&chain.revoke(&one, &two.public().device_id()).unwrap()), Err(BadLink::Unknown));
    chain.extend(&chain.revoke(&one, &one.public().device_id()).unwrap()).unwrap();
    assert_eq!(chain.devices().count(), 0, "a device may end itself");
}

#[test]
fn every_way_to_tamper_with_a_link_is_found() {
    let (one, two, mallory) = (key("one"), key("two"), key("mallory"));
    let (_, links) = chain_of(&[&one, &two]);
    let good = &links[1];
    let another = Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
    let with = |change: &dyn Fn(&mut Statement)| changed(good, &one, |statement| change(statement));
    let bytes = |statement: Vec<u8>| DeviceLink { statement: Bytes(statement), ..good.clone() };
    let mut spoilt = good.clone();
    spoilt.sig.as_mut().unwrap().0[7] ^= 1;
    let mut longer = good.statement.0.clone();
    longer.push(0);
    // The number 2 in two bytes instead of one: the same value, and not canonical.
    let hex = hex::encode(good.statement.as_slice()).replacen("6373657102", "637365711802", 1);
    let wordy = hex::decode(hex).unwrap();
    assert_eq!(wordy.len(), good.statement.0.len() + 1);
    for (what, link, why) in [
        ("a spoilt signature", spoilt, BadLink::Signature),
        ("no signature", DeviceLink { sig: None, ..good.clone() }, BadLink::Malformed),
        ("a short signature", DeviceLink { sig: Some(Bytes(vec![1; 63])), ..good.clone() }, BadLink::Signature),
        ("signed by somebody else", changed(good, &mallory, |_| ()), BadLink::Signature),
        ("by a stranger", with(&|s| s.by = mallory.public().device_id()), BadLink::Signer),
        ("by the new device itself", changed(good, &two, |s| s.by = s.device.clone()), BadLink::Signer),
        ("another account", with(&|s| s.account = another.clone()), BadLink::OtherAccount),
        ("another version", with(&|s| s.v = 2), BadLink::Malformed),
        ("a later number", with(&|s| s.seq = 3), BadLink::NotNext),
        ("another before it", with(&|s| s.prev = Bytes(vec![0; 32])), BadLink::NotNext),
        ("another id", with(&|s| s.device = mallory.public().device_id()), BadLink::DeviceId),
        ("another key", with(&|s| s.public_key = Some(Bytes(mallory.public().raw()))), BadLink::DeviceId),
        ("another curve", with(&|s| s.alg = Some("none".into())), BadLink::Malformed),
        ("no key", with(&|s| s.public_key = None), BadLink::Malformed),
        ("a revocation with a key", with(&|s| s.change = Verb::Revoke), BadLink::Malformed),
        ("a byte more", bytes(longer), BadLink::Malformed),
        ("a number in more bytes than it needs", bytes(wordy), BadLink::Malformed),
        ("a changed byte", bytes(good.statement.0.iter().map(|byte| byte ^ 1).collect()), BadLink::Malformed),
    ] {
        let (mut chain, _) = chain_of(&[&one]);
        assert_eq!(chain.extend(&link), Err(why), "{what}");
        assert_eq!(chain.head().seq, 1, "{what}: it stays as it was");
        chain.extend(good).unwrap();
    }
}

#[test]
fn a_chain_whose_links_are_reordered_left_out_repeated_or_of_another_is_not_one() {
    let (one, two, three) = (key("one"), key("two"), key("three"));
    let (_, links) = chain_of(&[&one, &two, &three]);
    let (_, others) = chain_of(&[&three, &one]);
    let pick = |picked: &[&DeviceLink]| picked.iter().map(|link| (*link).clone()).collect::<Vec<_>>();
    for (what, links) in [
        ("nothing", Vec::new()),
        ("no genesis", pick(&[&links[1], &links[2]])),
        ("two geneses", pick(&[&links[0], &links[0], &links[1]])),
        ("reordered", pick(&[&links[0], &links[2], &links[1]])),
        ("left out", pick(&[&links[0], &links[2]])),
        ("repeated", pick(&[&links[0], &links[1], &links[1]])),
        ("another's", pick(&[&links[0], &others[1]])),
        ("another genesis", pick(&[&others[0], &links[1], &links[2]])),
    ] {
        assert!(DeviceChain::read(&account(), &links).is_err(), "{what}");
    }
    let gathered = DeviceChain::gather(&account(), 1, &pick(&[&links[2], &links[0]])).unwrap();
    assert_eq!(gathered.head().seq, 1, "what lacks its place is left out, so the head says what is missing");
    assert!(DeviceChain::gather(&account(), 2, &links).is_err());
}

#[test]
fn ecdsa_links_have_a_low_s() {
    use p256::elliptic_curve::PrimeField as _;
    let (one, two) = (SigningKey::generate(Curve::P256), key("two"));
    let (mut chain, links) = chain_of(&[&one]);
    let link = chain.certify(&one, &keys(&two)).unwrap();
    let signature = p256::ecdsa::Signature::from_slice(link.sig.as_ref().unwrap().as_slice()).unwrap();
    let (r, s) = signature.split_scalars();
    let high = p256::ecdsa::Signature::from_scalars(r.to_repr(), (-*s).to_repr()).unwrap();
    let malleable = DeviceLink { sig: Some(Bytes(high.to_bytes().to_vec())), ..link.clone() };
    assert_eq!(chain.extend(&malleable), Err(BadLink::Signature));
    chain.extend(&link).unwrap();
    assert_eq!(links.len(), 1);
}

#[test]
fn further_mls_keys_are_proven_and_belong_to_one_device() {
    let (one, two) = (key("one"), key("two"));
    let (account, device) = (account(), two.public().device_id());
    let mls = MlsKey::prove(&key("mls"), &account, &device).unwrap();
    let p256 = MlsKey::prove(&SigningKey::generate(Curve::P256), &account, &device).unwrap();
    let raw = |key: Vec<u8>| MlsKey { key: Bytes(key), ..mls.clone() };
    let of = |keys: &[&MlsKey]| DeviceKeys::new(two.public(), keys.iter().map(|key| (*key).clone()).collect());
    for bad in [
        &[&raw(vec![1; 33])][..],
        &[&raw(vec![1; 57])],
        &[&mls, &mls],
        &[&raw(two.public().raw())],
        &[&raw(vec![0; 32])],
        &[&mls; 9],
    ] {
        assert!(of(bad).is_err());
    }
    assert!(MlsKey::prove(&SigningKey::generate(Curve::K256), &account, &device).is_err());

    let (mut chain, _) = chain_of(&[&one]);
    let (stranger, other) =
        (key("three").public().device_id(), Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").unwrap());
    for unproven in [
        raw(key("of somebody else").public().raw()),
        MlsKey::prove(&key("mls"), &account, &stranger).unwrap(),
        MlsKey::prove(&key("mls"), &other, &device).unwrap(),
        MlsKey { proof: Bytes(Vec::new()), ..mls.clone() },
    ] {
        let keys = of(&[&unproven]).unwrap();
        assert_eq!(chain.extend(&chain.certify(&one, &keys).unwrap()), Err(BadLink::MlsKey));
        assert_eq!(DeviceChain::begin(&account, 1, &keys).unwrap_err(), BadLink::MlsKey);
    }
    chain.extend(&chain.certify(&one, &of(&[&mls, &p256]).unwrap()).unwrap()).unwrap();
    assert_eq!(chain.device(&device).unwrap().mls_keys(), [mls, p256]);
    let stolen = MlsKey::prove(&key("mls"), &account, &stranger).unwrap();
    let stolen = DeviceKeys::new(key("three").public(), vec![stolen]).unwrap();
    assert_eq!(chain.extend(&chain.certify(&one, &stolen).unwrap()), Err(BadLink::KeyUsed));
    let own = MlsKey::prove(&one, &account, &stranger).unwrap();
    let own = DeviceKeys::new(key("three").public(), vec![own]).unwrap();
    assert_eq!(chain.extend(&chain.certify(&one, &own).unwrap()), Err(BadLink::KeyUsed));
}
