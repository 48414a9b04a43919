//! A Welcome's outside: for whom it is, and in which suite. Its inside is for the new members alone.

use super::limits::WELCOME_BYTES;
use super::refusals::{malformed, within};
use super::wire;
use crate::types::Refusal;

/// What the server can read of a Welcome (RFC 9420 section 12.4.3.1).
#[derive(Debug)]
pub struct Outside {
    pub cipher_suite: u16,
    /// One key package reference per new member, in the Welcome's order.
    pub references: Vec<Vec<u8>>,
}

/// Reads an MLSMessage that holds a Welcome. `MalformedMessage` for anything else.
pub fn read(bytes: &[u8]) -> Result<Outside, Refusal> {
    within(bytes, WELCOME_BYTES)?;
    let welcome = wire::Welcome::read(bytes).ok_or_else(|| malformed("the Welcome is not exactly one Welcome"))?;
    let references = welcome.secrets.into_iter().map(|secret| secret.new_member.into()).collect();
    Ok(Outside { cipher_suite: welcome.cipher_suite, references })
}

/// The same Welcome with the secrets for these references alone: another server needs to see no more.
pub fn cut(bytes: &[u8], references: &[Vec<u8>]) -> Result<Vec<u8>, Refusal> {
    let unreadable = || malformed("the Welcome is not exactly one Welcome");
    let mut welcome = wire::Welcome::read(bytes).ok_or_else(unreadable)?;
    welcome.secrets.retain(|secret| references.iter().any(|reference| reference == secret.new_member.as_slice()));
    welcome.write().ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Room, client};
    use super::{cut, read};

    #[test]
    fn a_welcome_that_was_cut_opens_for_those_who_are_left_in_it() {
        let mut room = Room::of(&["alice"]);
        room.invite("bob", client("bob"));
        room.invite("carol", client("carol"));
        let change = room.stage("alice", &["bob", "carol"], &[]);
        let whole = change.welcome.clone().unwrap();
        let references = read(&whole).unwrap().references;
        assert_eq!(references.len(), 2);
        let both = cut(&whole, &references).unwrap();
        assert_eq!(both, whole, "nothing else changes");
        let parts = references.iter().map(|one| cut(&whole, std::slice::from_ref(one)).unwrap());
        for (part, reference) in parts.zip(&references) {
            assert_eq!(read(&part).unwrap().references, std::slice::from_ref(reference));
            assert!(part.len() < whole.len());
            let joined = ["bob", "carol"].map(|name| room.client(name).join(&part).is_ok());
            assert_eq!(joined.iter().filter(|joined| **joined).count(), 1, "one of them, and not the other");
        }
    }
}
