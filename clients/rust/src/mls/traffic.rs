//! What comes in and goes out: Welcomes, messages, other members' commits.

use openmls::prelude::{
    BasicCredential, ContentType, Credential, GroupId, MlsGroup, MlsMessageBodyIn, MlsMessageIn,
    ProcessedMessageContent, ProtocolMessage, StagedWelcome,
};

use rookery_protocol::types::Epoch;
use tls_codec::Deserialize;

use super::{Client, Error, join_config};

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
        let message = read_message(welcome).ok_or(Error::Malformed("a Welcome"))?;
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
        let message = read_message(message).ok_or(Error::Malformed("a group message"))?;
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

/// Exactly one MLSMessage.
fn read_message(bytes: &[u8]) -> Option<MlsMessageIn> {
    MlsMessageIn::tls_deserialize_exact(bytes).ok()
}
