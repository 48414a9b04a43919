//! Commits and messages as they would be sent, for whoever wants to send them otherwise than [`Person`] does.

use super::{Claimed, Device};
use crate::account::Account;
use crate::error::ClientError;
use crate::idem;
use rookery_protocol::lexicon::mls::defs::{Addition, Removal};
use rookery_protocol::lexicon::mls::{add_members, send_message};
use rookery_protocol::types::{Bytes, Did};

impl<A: Account> Device<A> {
    /// A commit that adds what was claimed and removes every device of the accounts. The group stays as it was, so
    /// several drafts of one epoch compete.
    pub async fn draft_commit(
        &self,
        stream: &str,
        adds: &[Claimed],
        removes: &[Did],
    ) -> Result<add_members::Input, ClientError> {
        let mut state = self.state.lock().await;
        let id = state.group_id(stream)?;
        let leaves = state.leaves_of(&id, removes)?;
        let devices: Vec<_> = leaves.iter().map(|(_, device)| device.clone()).collect();
        let packages: Vec<Vec<u8>> = adds.iter().map(|add| add.key_package.0.clone()).collect();
        let staged = state.mls.stage_change(&id, &packages, &devices)?;
        state.mls.discard(&id)?;
        let removal = |(account, device): (Did, rookery_protocol::types::DeviceId)| Removal {
            account,
            device: device.to_string(),
        };
        let addition = |add: &Claimed| Addition {
            account: add.account.clone(),
            device: add.device.clone(),
            r#ref: add.reference.clone(),
        };
        Ok(add_members::Input {
            stream: stream.to_owned(),
            idem: idem(),
            commit: Bytes(staged.commit),
            group_info: Bytes(staged.group_info),
            welcome: Bytes(staged.welcome.unwrap_or_default()),
            adds: adds.iter().map(addition).collect(),
            removes: Some(leaves.into_iter().map(removal).collect()),
        })
    }

    /// An encrypted message with a name of its own.
    pub async fn draft_message(&self, stream: &str, plaintext: &[u8]) -> Result<send_message::Input, ClientError> {
        let (ciphertext, _) = self.encrypt(stream, plaintext).await?;
        Ok(send_message::Input { stream: stream.to_owned(), idem: idem(), ciphertext: Bytes(ciphertext) })
    }

    /// Joins by what waits, and takes in what happened in the conversation since: without a socket.
    pub async fn arrive(&self, stream: &str) -> Result<(), ClientError> {
        let mut state = self.state.lock().await;
        self.join(&mut state).await?;
        self.catch_up(&mut state, stream).await
    }
}
