use openmls::prelude::{KeyPackageIn, ProtocolVersion};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use tls_codec::Deserialize;

use super::super::client::Client;
use super::super::fixture::{Change, Room, client, did, key_pair, leaf_of, now, public_commit, silent_alice_adds};
use super::super::key_package;
use super::*;

fn refused(room: &Room, change: &Change) -> Refusal {
    room.judge(change).unwrap_err()
}

/// A room of three, and a change that adds dave and removes carol.
fn room_and_change() -> (Room, Change) {
    let mut room = Room::of(&["alice", "bob", "carol"]);
    room.invite("dave", client("dave"));
    let change = room.stage("alice", &["dave"], &["carol"]);
    (room, change)
}

#[test]
fn a_conversation_lives_through_adds_removes_and_renewals() {
    let mut room = Room::of(&["alice", "bob"]);
    room.invite("carol", client("carol"));
    room.invite("dave", client("dave"));
    let verified = room.change("bob", &["carol", "dave"], &[]);
    assert_eq!((verified.left(), verified.epoch()), (Epoch(1), Epoch(2)));
    assert_eq!((verified.leaves().len(), verified.adds().len()), (4, 2));
    assert!(verified.welcome().is_some());
    let verified = room.change("carol", &[], &["alice"]);
    assert_eq!(verified.removes(), [(did("alice"), room.leaf("alice").device)]);
    assert!(verified.welcome().is_none());
    room.change("dave", &[], &[]);
    room.change("bob", &["alice"], &["carol"]);
    assert_eq!(room.stored.epoch, Epoch(5));
    assert_eq!(room.stored.group_id, verified.group_id());
}

#[test]
fn a_device_that_lost_the_group_is_removed_and_added_in_one_commit() {
    let mut room = Room::of(&["alice", "bob", "carol"]);
    let group_id = room.group_id.clone();
    let change = room.stage("alice", &["bob"], &["bob"]);
    let verified = room.judge(&change).unwrap();
    assert_eq!(verified.leaves().len(), 3);
    room.client("bob").forget(&group_id).unwrap();
    room.client("alice").confirm(&group_id).unwrap();
    room.client("bob").join(verified.welcome().unwrap()).unwrap();
    let both = ["alice", "bob"].map(|name| room.client(name).epoch_authenticator(&group_id).unwrap());
    assert_eq!(both[0], both[1]);
}

#[test]
fn the_loser_of_an_epoch_is_told_where_the_group_is_and_converges() {
    let mut room = Room::of(&["alice", "bob", "carol"]);
    let loser = room.stage("bob", &[], &["carol"]);
    room.change("alice", &[], &[]);
    let refusal = refused(&room, &loser);
    assert_eq!(refusal.name, "StaleEpoch");
    assert_eq!(refusal.detail.data["currentEpoch"], 2);
    assert!(refusal.detail.message.contains('2'), "a PDS forwards only the sentence");
    room.change("bob", &[], &["carol"]);
}

#[test]
fn the_commits_header_decides_first() {
    let (mut room, change) = room_and_change();
    let group_id = room.group_id.clone();
    let with = |commit: &[u8]| Change { commit: commit.to_vec(), group_info: vec![], ..change.clone() };

    let trailing = [change.commit.as_slice(), &[0]].concat();
    assert_eq!(refused(&room, &with(&trailing)).name, "MalformedMessage");
    assert_eq!(refused(&room, &with(&change.group_info)).name, "MalformedMessage");

    let other = Room::of(&["alice", "bob"]).stage("alice", &[], &[]);
    assert_eq!(refused(&room, &with(&other.commit)).name, "GroupIdMismatch");

    let message = room.client("bob").encrypt(&group_id, b"hello").unwrap();
    assert_eq!(refused(&room, &with(&message)).name, "NotACommit");
    let public = public_commit(&mut room, "bob");
    assert_eq!(refused(&room, &with(&public)).name, "WrongWireFormat");

    room.stored.epoch = Epoch(0);
    let refusal = refused(&room, &change);
    assert_eq!((refusal.name, &refusal.detail.data["currentEpoch"]), ("FutureEpoch", &0.into()));
}

#[test]
fn the_group_info_is_the_committers_and_of_the_next_epoch() {
    let (mut room, change) = room_and_change();
    let group_id = room.group_id.clone();
    let with = |group_info: Vec<u8>| Change { group_info, ..change.clone() };
    let name = |room: &Room, group_info: Vec<u8>| refused(room, &with(group_info)).name;

    assert_eq!(name(&room, room.group_info.clone()), "InvalidGroupInfo", "of the epoch before");
    assert_eq!(name(&room, Room::of(&["alice", "bob"]).group_info), "InvalidGroupInfo", "of another group");
    assert_eq!(name(&room, [change.group_info.as_slice(), &[0]].concat()), "MalformedMessage");
    assert_eq!(name(&room, change.commit.clone()), "MalformedMessage");
    assert_eq!(name(&room, vec![]), "MalformedMessage");
    let mut flipped = change.group_info.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(name(&room, flipped), "InvalidGroupInfo");
    let mut other_suite = change.group_info.clone();
    for suite in [3, 0x4d] {
        other_suite[7] = suite;
        assert_eq!(name(&room, other_suite.clone()), "InvalidGroupInfo");
    }

    // Bob goes the same way, and says so himself: the same epoch, the same tree, but not the committer's word.
    room.client("bob").receive(&group_id, &change.commit).unwrap();
    let bobs = room.client("bob").group_info(&group_id).unwrap();
    let refusal = refused(&room, &with(bobs));
    assert_eq!(refusal.name, "InvalidGroupInfo");
    assert!(refusal.detail.message.contains("committer"), "{refusal}");

    room.client("alice").confirm(&group_id).unwrap();
    let (group, provider, signer) = room.client("alice").parts(&group_id).unwrap();
    let without_tree = group.export_group_info(provider.crypto(), signer, false);
    let refusal = refused(&room, &with(without_tree.unwrap().to_bytes().unwrap()));
    assert_eq!(refusal.name, "InvalidGroupInfo");
    assert!(refusal.detail.message.contains("ratchet_tree"), "{refusal}");
}

#[test]
fn the_roster_changes_by_exactly_what_is_declared() {
    let (room, change) = room_and_change();
    assert!(room.judge(&change).is_ok());
    let (bob, carol, dave) = (room.leaf("bob"), room.leaf("carol"), room.leaf("dave"));
    let with = |spoil: &dyn Fn(&mut Declared)| {
        let mut change = change.clone();
        spoil(&mut change.declared);
        refused(&room, &change).name
    };
    let add = |leaf: &StoredLeaf| DeclaredAdd {
        account: leaf.account.clone(),
        device: leaf.device.clone(),
        reference: vec![1; 32],
        signature_keys: leaf.signature_keys.clone(),
    };
    let stranger = leaf_of(&client("erin"));

    assert_eq!(with(&|declared| declared.adds.clear()), "MembershipMismatch", "undeclared add");
    assert_eq!(with(&|declared| declared.removes.clear()), "MembershipMismatch", "undeclared remove");
    assert_eq!(with(&|declared| declared.adds.push(add(&stranger))), "MembershipMismatch", "declared, not added");
    let twice = |declared: &mut Declared| declared.removes.push(declared.removes[0].clone());
    assert_eq!(with(&twice), "MembershipMismatch", "removed twice");
    let also = |leaf: &StoredLeaf| (leaf.account.clone(), leaf.device.clone());
    assert_eq!(with(&|declared| declared.removes.push(also(&bob))), "MembershipMismatch", "declared, not removed");
    assert_eq!(with(&|declared| declared.removes.push(also(&dave))), "MembershipMismatch", "removed, but no member");
    let itself = also(&change.declared.committer);
    assert_eq!(with(&|declared| declared.removes.push(itself.clone())), "MembershipMismatch", "removes itself");
    let mut alone = change.clone();
    alone.declared.removes = vec![itself];
    assert!(refused(&room, &alone).detail.message.contains("own committer"));
    assert_eq!(
        with(&|declared| declared.removes[0].0 = bob.account.clone()),
        "MembershipMismatch",
        "of another account"
    );
    assert_eq!(with(&|declared| declared.committer.account = carol.account.clone()), "MembershipMismatch", "impostor");
    assert_eq!(with(&|declared| declared.committer = bob.clone()), "InvalidGroupInfo", "another's signature");

    assert_eq!(with(&|declared| declared.adds.push(add(&bob))), "DuplicateMember", "a member already");
    assert_eq!(with(&|declared| declared.adds.push(add(&dave))), "DuplicateMember", "declared twice");
    let key_of_bob = |declared: &mut Declared| declared.adds[0].signature_keys.clone_from(&bob.signature_keys);
    assert_eq!(with(&key_of_bob), "DuplicateMember", "another's key");

    let device_of_bob = |declared: &mut Declared| declared.adds[0].device = bob.device.clone();
    assert_eq!(with(&device_of_bob), "CredentialMismatch", "the leaf does not say bob's device");

    let accounts = |declared: &mut Declared| declared.adds[0].account = bob.account.clone();
    assert_eq!(with(&accounts), "CredentialMismatch", "the leaf says dave");
    let devices = |declared: &mut Declared| declared.adds[0].device = stranger.device.clone();
    assert_eq!(with(&devices), "CredentialMismatch", "the leaf says dave's device");
}

#[test]
fn a_member_who_never_left_is_not_added_again() {
    let mut room = Room::of(&["alice", "bob", "carol"]);
    room.change("bob", &[], &[]);
    let mut change = room.stage("alice", &[], &[]);
    let bob = room.leaf("bob");
    let StoredLeaf { account, device, signature_keys } = bob;
    change.declared.removes.push((account.clone(), device.clone()));
    change.declared.adds.push(DeclaredAdd { account, device, reference: vec![1; 32], signature_keys });
    assert_eq!(refused(&room, &change).name, "MembershipMismatch");
}

#[test]
fn a_leaf_with_somebody_elses_name_is_refused() {
    let mut room = Room::of(&["alice", "bob"]);
    let (seed, public) = key_pair();
    room.invite("mallory", Client::new(did("bob"), seed, public).unwrap());
    let mut change = room.stage("alice", &["mallory"], &[]);
    assert!(room.judge(&change).is_ok(), "a second device of bob's");
    change.declared.adds[0].account = did("mallory");
    assert_eq!(refused(&room, &change).name, "CredentialMismatch");
}

#[test]
fn the_welcome_is_for_exactly_the_declared_adds() {
    let mut room = Room::of(&["alice", "bob"]);
    room.invite("carol", client("carol"));
    room.invite("dave", client("dave"));
    let both = room.stage("alice", &["carol", "dave"], &[]);
    let one = room.stage_again("alice", &["carol"]);
    let nobody = room.stage_again("alice", &[]);
    let name = |change: &Change, welcome: Option<Vec<u8>>| refused(&room, &Change { welcome, ..change.clone() }).name;
    assert!(room.judge(&both).is_ok());
    assert_eq!(name(&both, None), "WelcomeMismatch", "no Welcome");
    assert_eq!(name(&both, one.welcome.clone()), "WelcomeMismatch", "a reference is missing");
    assert_eq!(name(&one, both.welcome.clone()), "WelcomeMismatch", "a reference too many");
    assert_eq!(name(&nobody, one.welcome.clone()), "WelcomeMismatch", "for nobody");
    let mut other_suite = both.welcome.clone().unwrap();
    other_suite[5] = 3;
    assert_eq!(name(&both, Some(other_suite)), "WelcomeMismatch", "another suite");
    let trailing = [both.welcome.clone().unwrap().as_slice(), &[0]].concat();
    assert_eq!(name(&both, Some(trailing)), "MalformedMessage");
    assert_eq!(name(&both, Some(both.commit.clone())), "MalformedMessage");

    let mut same = both.clone();
    same.declared.adds[1].reference = same.declared.adds[0].reference.clone();
    assert_eq!(refused(&room, &same).name, "WelcomeMismatch", "one key package for two");
    let (first, second) = (&both.declared.adds[0].reference, &both.declared.adds[1].reference);
    let mut bytes = same.welcome.clone().unwrap();
    let at = bytes.windows(32).position(|window| window == second.as_slice()).unwrap();
    bytes[at..at + 32].copy_from_slice(first);
    same.welcome = Some(bytes);
    assert_eq!(refused(&room, &same).name, "WelcomeMismatch", "one key package for two, in the Welcome too");
}

#[test]
fn an_expired_leaf_does_not_stop_a_group() {
    let mut bob = client("bob");
    let package = bob.key_package(false).unwrap();
    let checked = key_package::check(&package, bob.did(), bob.device(), &[bob.public_key().to_vec()], now()).unwrap();
    let package = KeyPackageIn::tls_deserialize_exact(&package[4..]).unwrap();
    let package = package.validate(&RustCrypto::default(), ProtocolVersion::Mls10).unwrap();
    let (alice, group_id, [commit, welcome, group_info]) = silent_alice_adds(package);

    let view = group_info::view(&group_info).unwrap();
    assert_eq!(view.leaves.iter().map(|leaf| leaf.stale).collect::<Vec<_>>(), [true, false]);
    let StoredLeaf { account, device, signature_keys } = leaf_of(&bob);
    let adds = vec![DeclaredAdd { account, device, reference: checked.reference, signature_keys }];
    let leaves = vec![leaf_of(&alice)];
    let stored = Stored { group_id: group_id.clone(), cipher_suite: 1, epoch: Epoch(0), leaves };
    let declared = Declared { committer: leaf_of(&alice), adds, removes: vec![] };
    let judged = |group_info: &[u8]| judge(&stored, &commit, group_info, Some(&welcome), &declared);
    assert_eq!(judged(&group_info).unwrap().leaves().len(), 2);
    assert_eq!(bob.join(&welcome).unwrap(), group_id);

    // Lifetimes are all that is forgiven: in every other way the tree and its signatures are checked as ever.
    for at in (4..group_info.len()).step_by(7) {
        let mut flipped = group_info.clone();
        flipped[at] ^= 1;
        assert!(judged(&flipped).is_err(), "byte {at}");
    }
}

#[test]
fn a_group_info_that_does_not_fit_is_refused_before_its_signatures_are_looked_at() {
    let (room, change) = room_and_change();
    let fitting = || group_info::Claim::parse(&change.group_info).unwrap().view;
    let name =
        |view: &group_info::GroupView| fits(&room.stored, &change.declared, view).map_err(|refusal| refusal.name);
    assert_eq!(name(&fitting()), Ok(()));
    let mut view = fitting();
    view.group_id.push(0);
    assert_eq!(name(&view), Err("InvalidGroupInfo"));
    view = fitting();
    view.cipher_suite = 3;
    assert_eq!(name(&view), Err("InvalidGroupInfo"));
    view = fitting();
    view.epoch = view.epoch.next();
    assert_eq!(name(&view), Err("InvalidGroupInfo"));
    view = fitting();
    view.signer = 99;
    assert_eq!(name(&view), Err("InvalidGroupInfo"));
    view = fitting();
    view.leaves[2].signature_key = view.leaves[1].signature_key.clone();
    assert_eq!(name(&view), Err("DuplicateMember"));
}

#[test]
fn the_roster_is_judged_before_any_signature() {
    let (room, mut change) = room_and_change();
    *change.group_info.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&room, &change).name, "InvalidGroupInfo", "the signature alone");
    change.declared.adds.clear();
    assert_eq!(refused(&room, &change).name, "MembershipMismatch");
}

#[test]
fn nobody_is_added_after_the_key_package_has_ended() {
    let (room, change) = room_and_change();
    let expected = expected_roster(&room.stored, &change.declared).unwrap();
    let mut view = group_info::view(&change.group_info).unwrap();
    assert!(roster(&view, &expected, &change.declared).is_ok());
    let dave = room.leaf("dave").signature_keys[0].clone();
    view.leaves.iter_mut().find(|leaf| leaf.signature_key == dave).unwrap().stale = true;
    let refusal = roster(&view, &expected, &change.declared).unwrap_err();
    assert_eq!(refusal.name, "InvalidGroupInfo");
    assert!(refusal.detail.message.contains("lifetime"), "{refusal}");
}

#[test]
fn a_leaf_is_its_devices_by_any_of_its_keys_and_a_device_has_one_leaf() {
    let (room, change) = room_and_change();
    let view = group_info::view(&change.group_info).unwrap();
    let more = |stored: &mut Stored, declared: &mut Declared, name: &str, key: Vec<u8>| {
        let device = room.leaf(name).device;
        let stored = stored.leaves.iter_mut().filter(|leaf| leaf.device == device).map(|leaf| &mut leaf.signature_keys);
        let adds = declared.adds.iter_mut().filter(|add| add.device == device).map(|add| &mut add.signature_keys);
        stored.chain(adds).for_each(|keys| keys.insert(0, key.clone()));
    };
    let (mut stored, mut declared) = (room.stored.clone(), change.declared.clone());
    for name in ["bob", "dave"] {
        more(&mut stored, &mut declared, name, [name.as_bytes(), &[4; 60]].concat());
    }
    let expected = expected_roster(&stored, &declared).unwrap();
    assert_eq!(roster(&view, &expected, &declared).unwrap().len(), view.leaves.len());

    let dave = room.leaf("dave").signature_keys[0].clone();
    more(&mut stored, &mut declared, "bob", dave);
    assert_eq!(expected_roster(&stored, &declared).unwrap_err().name, "DuplicateMember", "one key for two devices");
    let mut expected = expected;
    let key = |name: &str| (did(name), room.leaf(name).device);
    let dave = expected.remove(&key("dave")).unwrap();
    expected.get_mut(&key("bob")).unwrap().signature_keys.extend(dave.signature_keys);
    assert_eq!(roster(&view, &expected, &declared).unwrap_err().name, "DuplicateMember", "two leaves of one device");
}

/// The change, as the home sees it that does not know dave's keys.
fn foreign(mut change: Change) -> Change {
    for add in &mut change.declared.adds {
        add.signature_keys.clear();
    }
    change
}

#[test]
fn a_device_of_another_server_is_known_by_its_credential_and_from_then_on_by_its_key() {
    let (room, change) = room_and_change();
    let change = foreign(change);
    let verified = room.judge(&change).unwrap();
    let dave = verified.leaves().iter().find(|leaf| leaf.account == did("dave")).unwrap();
    assert_eq!(dave.signature_keys, room.leaf("dave").signature_keys, "read from the tree");
}

#[test]
fn a_leaf_that_names_another_account_or_device_is_no_declared_add_of_another_server() {
    for (account, device) in [(did("mallory"), None), (did("dave"), Some(DeviceId::of_key(b"another")))] {
        let (room, change) = room_and_change();
        let mut change = foreign(change);
        let add = &mut change.declared.adds[0];
        add.account = account;
        add.device = device.unwrap_or_else(|| add.device.clone());
        assert_eq!(refused(&room, &change).name, "MembershipMismatch");
    }
}

#[test]
fn another_server_may_call_a_device_as_one_of_ours_is_called() {
    let (room, change) = room_and_change();
    let mut change = foreign(change);
    change.declared.adds[0].device = room.leaf("bob").device;
    // Its leaf names its account and its own device: what is refused is the name, not that bob has one like it.
    assert_eq!(refused(&room, &change).name, "MembershipMismatch");
}
