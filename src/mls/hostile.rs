//! Valid messages with bytes flipped, cut and doubled: nothing panics, and what is signed is refused.

use super::fixture::{Room, client, leaf_of, now};
use super::{founding, framing, group_info, key_package, welcome};

/// Xorshift: the same mutations in every run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }

    /// Never the bytes that it was given.
    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let at = self.below(bytes.len());
        match self.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, 0xff),
            2 => {
                bytes.remove(at);
            }
            // The first byte of a length: from one byte to four, and up to a gigabyte.
            3 => bytes[at] ^= 0xc0,
            4 => bytes[at] = !bytes[at],
            _ => bytes[at] ^= 1 << self.below(8),
        }
        bytes
    }
}

#[test]
fn no_mutation_of_a_signed_message_is_accepted() {
    let room = Room::of(&["alice", "bob", "carol"]);
    let alice = client("alice");
    let package = alice.key_package(true).unwrap();
    let check =
        |bytes: &[u8]| key_package::check(bytes, alice.did(), alice.device(), &[alice.public_key().to_vec()], now());
    assert!(check(&package).is_ok());
    assert!(group_info::view(&room.group_info).is_ok());

    let mut seeded = Seeded(0x5eed_0001);
    for round in 0..1500 {
        let mutant = seeded.mutate(&room.group_info);
        assert!(group_info::view(&mutant).is_err(), "GroupInfo, round {round}");
        assert!(founding(&mutant, &leaf_of(&alice)).is_err());
        let mutant = seeded.mutate(&package);
        assert!(check(&mutant).is_err(), "key package, round {round}");
    }
}

#[test]
fn no_mutation_of_a_commit_bundle_panics() {
    let mut room = Room::of(&["alice", "bob"]);
    let group_id = room.group_id.clone();
    room.invite("carol", client("carol"));
    let message = room.client("bob").encrypt(&group_id, b"hello").unwrap();
    let change = room.stage("alice", &["carol"], &[]);
    let welcome_bytes = change.welcome.clone().unwrap();

    let mut seeded = Seeded(0x5eed_0002);
    let mut accepted = 0;
    for _ in 0..800 {
        let _ = framing::parse(&seeded.mutate(&message));
        let _ = framing::application(&seeded.mutate(&message));
        let _ = welcome::read(&seeded.mutate(&welcome_bytes));
        let _ = room.client("alice").receive(&group_id, &seeded.mutate(&message));
        let _ = room.client("carol").join(&seeded.mutate(&welcome_bytes));
        let mut spoilt = change.clone();
        match seeded.below(3) {
            0 => spoilt.commit = seeded.mutate(&change.commit),
            1 => spoilt.welcome = Some(seeded.mutate(&welcome_bytes)),
            _ => spoilt.group_info = seeded.mutate(&change.group_info),
        }
        accepted += u32::from(room.judge(&spoilt).is_ok());
    }
    assert!(accepted > 0, "ciphertext is opaque to the server: some of these are as good as the original");
    assert!(accepted < 600);
}
