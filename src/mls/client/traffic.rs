//! What comes in and goes out: Welcomes, messages, other members' commits.

use openmls::prelude::{
    BasicCredential, ContentType, Credential, GroupId, MlsGroup, MlsMessageBodyIn, ProcessedMessageContent,
    ProtocolMessage, StagedWelcome,
};

use super::{Client, Error, join_config};
use crate::mls::limits::{COMMIT_BYTES, WELCOME_BYTES};
use crate::mls::wire;
use crate::types::Epoch;

/// What a message was. A commit has been merged by then.
#[derive(Clone, PartialEq, Eq)]
pub enum Received {
    Application {
        /// What the sender's credential says, authenticated by the group.
        sender: String,
        plaintext: Vec<u8>,
    },
    Commit {
        /// The epoch that this client is in now.
        epoch: Epoch,
        /// This client was removed: it reads and writes no more here.
        removed_me: bool,
    },
    /// Not kept: this client changes groups only by commits of its own.
    Proposal,
    /// Sent by this client itself; nobody can decrypt their own messages.
    Own,
    /// A commit or proposal of an epoch that this client has left, such as its own that it has confirmed.
    Past,
}

impl Client {
    /// Joins by a Welcome for one of this client's key packages. Answers the group's id.
    ///
    /// A leaf of somebody silent may have outlived its key package; that is no reason to stay outside.
    pub fn join(&mut self, welcome: &[u8]) -> Result<Vec<u8>, Error> {
        let message = wire::message(welcome, WELCOME_BYTES).map_err(|_| Error::Malformed("a Welcome"))?;
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else { return Err(Error::Malformed("a Welcome")) };
        let builder = StagedWelcome::build_from_welcome(&self.provider, &join_config(), welcome);
        let builder = builder.map_err(Error::mls("opening a Welcome"))?.skip_lifetime_validation();
        // Somebody who was removed and added again comes back to a group that this client still remembers.
        let staged = builder.replace_old_group().build().map_err(Error::mls("opening a Welcome"))?;
        let group = staged.into_group(&self.provider).map_err(Error::mls("joining a group"))?;
        let group_id = group.group_id().as_slice().to_vec();
        self.groups.insert(group_id.clone(), group);
        Ok(group_id)
    }

    /// An application message. An error while a change is staged or after this client was removed.
    pub fn encrypt(&mut self, group_id: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let group = self.groups.get_mut(group_id).ok_or(Error::UnknownGroup)?;
        let message = group.create_message(&self.provider, &self.signer, plaintext);
        message.map_err(Error::mls("encrypting"))?.to_bytes().map_err(Error::mls("writing a message"))
    }

    /// Processes a message of the group, in the order that the server gave. A commit is merged, and a change of this
    /// client's own that was staged is forgotten with it.
    pub fn receive(&mut self, group_id: &[u8], message: &[u8]) -> Result<Received, Error> {
        let message = wire::message(message, COMMIT_BYTES).map_err(|_| Error::Malformed("a group message"))?;
        let message = message.try_into_protocol_message().map_err(|_| Error::Malformed("a group message"))?;
        let group = self.groups.get_mut(group_id).ok_or(Error::UnknownGroup)?;
        if *message.group_id() != GroupId::from_slice(group_id) {
            return Err(Error::UnknownGroup);
        }
        if is_past(group, &message) {
            return Ok(Received::Past);
        }
        let processed = group.process_message(&self.provider, message).map_err(Error::mls("processing a message"))?;
        let sender = identity_of(processed.credential());
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => {
                Ok(Received::Application { sender, plaintext: message.into_bytes() })
            }
            ProcessedMessageContent::StagedCommitMessage(commit) => {
                let removed_me = commit.self_removed();
                group.merge_staged_commit(&self.provider, *commit).map_err(Error::mls("merging a commit"))?;
                Ok(Received::Commit { epoch: Epoch(group.epoch().as_u64()), removed_me })
            }
            ProcessedMessageContent::OwnPendingCommit | ProcessedMessageContent::OwnPrivateMessage => Ok(Received::Own),
            ProcessedMessageContent::ProposalMessage(_) | ProcessedMessageContent::ExternalJoinProposalMessage(_) => {
                Ok(Received::Proposal)
            }
        }
    }
}

fn is_past(group: &MlsGroup, message: &ProtocolMessage) -> bool {
    message.content_type() != ContentType::Application && message.epoch() < group.epoch()
}

/// Empty if the credential is not basic, or not text.
pub(super) fn identity_of(credential: &Credential) -> String {
    let basic = BasicCredential::try_from(credential.clone());
    basic.ok().and_then(|basic| String::from_utf8(basic.identity().to_vec()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture::{Room, client, did, key_pair};
    use super::super::super::identity;
    use super::*;

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
}
