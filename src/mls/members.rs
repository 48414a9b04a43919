//! The members of a group, as this repository's own client makes them: what the server's judgement is tested with must
//! itself be sound.

use super::fixture::{Room, client, did, key_pair};
use super::identity;
use rookery_client::mls::{Client, Error, Received};

#[test]
fn members_read_each_other_and_know_who_spoke() {
    let mut room = Room::of(&["alice", "bob"]);
    let group_id = room.group_id.clone();
    let message = room.client("alice").encrypt(&group_id, b"hello").unwrap();
    assert!(message.len() > 512, "padded");
    let sender = identity(&did("alice"), &room.leaf("alice").device);
    let received = room.client("bob").receive(&group_id, &message).unwrap();
    assert!(received == Received::Application { sender, plaintext: b"hello".to_vec() });
    assert!(room.client("alice").receive(&group_id, &message).unwrap() == Received::Own);
    assert!(room.client("bob").receive(&group_id, &message).is_err(), "a replay");

    let late = room.client("alice").encrypt(&group_id, b"late").unwrap();
    let own = room.change("bob", &[], &[]);
    assert!(room.client("bob").receive(&group_id, own.commit()).unwrap() == Received::Past);
    let received = room.client("bob").receive(&group_id, &late).unwrap();
    assert!(matches!(received, Received::Application { plaintext, .. } if plaintext == b"late"));
}

#[test]
fn who_is_removed_reads_and_writes_no_more() {
    let mut room = Room::of(&["alice", "bob", "carol"]);
    let group_id = room.group_id.clone();
    room.change("alice", &[], &["carol"]);
    assert!(room.client("carol").encrypt(&group_id, b"still here?").is_err());
    let secret = room.client("bob").encrypt(&group_id, b"she is gone").unwrap();
    assert!(room.client("carol").receive(&group_id, &secret).is_err());
    assert!(room.client("alice").receive(&group_id, &secret).is_ok());
}

#[test]
fn a_last_resort_key_package_opens_more_than_one_welcome() {
    let mut bob = client("bob");
    let package = bob.key_package(true).unwrap();
    for founder in ["alice", "carol"] {
        let mut founder = client(founder);
        let (group_id, _) = founder.create_group().unwrap();
        let staged = founder.stage_add(&group_id, std::slice::from_ref(&package)).unwrap();
        assert_eq!(bob.join(&staged.welcome.unwrap()).unwrap(), group_id);
    }
}

#[test]
fn a_client_has_the_key_that_its_seed_makes() {
    let ((seed, public), (_, other)) = (key_pair(), key_pair());
    assert!(Client::new(did("alice"), seed, public).is_ok());
    assert!(matches!(Client::new(did("alice"), seed, other), Err(Error::KeyMismatch)));
}
