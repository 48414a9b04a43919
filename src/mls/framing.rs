//! What a group message says in clear: never more than this may be believed before the group's members have spoken.

use openmls::prelude::{ContentType, ProtocolMessage, WireFormat as OpenMlsWireFormat};

use super::limits::{APPLICATION_BYTES, COMMIT_BYTES};
use super::refusals::malformed;
use super::wire;
use crate::types::{Epoch, Refusal};

/// The header of a PublicMessage or a PrivateMessage (RFC 9420 section 6). All of it is the sender's claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Framing {
    pub wire_format: WireFormat,
    pub content: Content,
    pub group_id: Vec<u8>,
    pub epoch: Epoch,
    /// From somebody without a leaf: an external commit or proposal. Only a PublicMessage can be.
    pub external: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireFormat {
    Public,
    Private,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    Application,
    Proposal,
    Commit,
}

/// Reads a message of at most [`COMMIT_BYTES`]. Anything but one PublicMessage or PrivateMessage: `MalformedMessage`.
pub fn parse(bytes: &[u8]) -> Result<Framing, Refusal> {
    parse_within(bytes, COMMIT_BYTES)
}

/// A message for `sendMessage`: a PrivateMessage with application content, else `WrongWireFormat`.
pub fn application(bytes: &[u8]) -> Result<Framing, Refusal> {
    let framing = parse_within(bytes, APPLICATION_BYTES)?;
    match (framing.wire_format, framing.content) {
        (WireFormat::Private, Content::Application) => Ok(framing),
        _ => Err(Refusal::new("WrongWireFormat", "expected a PrivateMessage with application content")),
    }
}

/// A commit of an opaque conversation: `WrongWireFormat` for a PublicMessage, `NotACommit` for other content.
pub fn opaque_commit(bytes: &[u8]) -> Result<Framing, Refusal> {
    let framing = parse(bytes)?;
    if framing.wire_format == WireFormat::Public {
        return Err(Refusal::new("WrongWireFormat", "commits of this conversation are PrivateMessages"));
    }
    if framing.content != Content::Commit {
        return Err(Refusal::new("NotACommit", "the message is not a commit"));
    }
    Ok(framing)
}

fn parse_within(bytes: &[u8], max: usize) -> Result<Framing, Refusal> {
    let message = wire::message(bytes, max)?.try_into_protocol_message();
    let message: ProtocolMessage =
        message.map_err(|_| malformed("expected a PublicMessage or a PrivateMessage of a group"))?;
    let wire_format = match message.wire_format() {
        OpenMlsWireFormat::PublicMessage => WireFormat::Public,
        OpenMlsWireFormat::PrivateMessage => WireFormat::Private,
        _ => return Err(malformed("expected a PublicMessage or a PrivateMessage of a group")),
    };
    let content = match message.content_type() {
        ContentType::Application => Content::Application,
        ContentType::Proposal => Content::Proposal,
        ContentType::Commit => Content::Commit,
    };
    Ok(Framing {
        wire_format,
        content,
        group_id: message.group_id().as_slice().to_vec(),
        epoch: Epoch(message.epoch().as_u64()),
        external: message.is_external(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, Room};
    use super::*;

    #[test]
    fn the_header_of_a_private_message_is_read_from_its_bytes() {
        let mut room = Room::of(&["alice", "bob"]);
        let group = room.group_id.clone();
        let message = room.client("alice").encrypt(&group, b"hello").unwrap();
        let framing = application(&message).unwrap();
        assert_eq!((framing.group_id, framing.epoch, framing.external), (group, Epoch(1), false));
        assert_eq!(opaque_commit(&message).unwrap_err().name, "NotACommit");
    }

    #[test]
    fn a_commit_is_not_an_application_message_and_must_be_opaque() {
        let mut room = Room::of(&["alice", "bob"]);
        let staged = room.stage("alice", &[], &[]);
        assert_eq!(opaque_commit(&staged.commit).unwrap().content, Content::Commit);
        assert_eq!(application(&staged.commit).unwrap_err().name, "WrongWireFormat");

        let public = fixture::public_commit(&mut room, "bob");
        assert_eq!(parse(&public).unwrap().wire_format, WireFormat::Public);
        assert_eq!(opaque_commit(&public).unwrap_err().name, "WrongWireFormat");
    }

    #[test]
    fn anything_but_one_whole_group_message_is_malformed() {
        let mut room = Room::of(&["alice"]);
        let group = room.group_id.clone();
        let message = room.client("alice").encrypt(&group, b"hello").unwrap();
        let longer = [message.as_slice(), &[0]].concat();
        let large = room.client("alice").encrypt(&group, &vec![0; APPLICATION_BYTES]).unwrap();
        let key_package = room.client("alice").key_package(false).unwrap();
        for bytes in [&longer, &message[..message.len() - 1].to_vec(), &vec![], &key_package, &room.group_info, &large]
        {
            assert_eq!(application(bytes).unwrap_err().name, "MalformedMessage");
        }
        assert!(parse(&large).is_ok(), "only application messages have the smaller limit");
    }
}
