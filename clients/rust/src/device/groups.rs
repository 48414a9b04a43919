//! Founding, changing and speaking in groups.
//!
//! Invariant: a commit is staged, sent and confirmed under one lock, so nothing is received between the server's yes and
//! the new epoch; a commit that lost its epoch is discarded, what happened is taken in, and it is made anew.

use super::{Device, Group, Heard, State};
use crate::account::Account;
use crate::error::ClientError;
use crate::idem;
use crate::mls::{SUITE_NUMBER, Staged};
use rookery_protocol::lexicon::event::defs::Entry;
use rookery_protocol::lexicon::mls::add_members::{self, AddMembers};
use rookery_protocol::lexicon::mls::claim_key_packages::{self, ClaimKeyPackages};
use rookery_protocol::lexicon::mls::create_convo::{self, CreateConvo};
use rookery_protocol::lexicon::mls::defs::{Addition, Removal};
use rookery_protocol::lexicon::mls::get_messages::{self, GetMessages};
use rookery_protocol::lexicon::mls::remove_members::{self, RemoveMembers};
use rookery_protocol::lexicon::mls::send_message::{self, SendMessage};
use rookery_protocol::types::{Bytes, DeviceId, Did};

/// How often others may be quicker before a person gives up.
const ATTEMPTS: u32 = 10;
/// Entries in one page.
const PAGE: u64 = 100;

/// A key package that was claimed for a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    pub account: Did,
    pub device: String,
    pub reference: Bytes,
    pub key_package: Bytes,
    pub last_resort: bool,
}

/// A commit that the server took.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    pub seq: u64,
    pub hash: Bytes,
    /// The epoch that it made.
    pub epoch: u64,
    /// 1 if nobody was quicker.
    pub attempts: u32,
}

/// A message that the server took.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub stream: String,
    pub seq: u64,
    pub hash: Bytes,
    /// The epoch in which it was encrypted.
    pub epoch: u64,
    /// As it was sent.
    pub ciphertext: Bytes,
}

impl<A: Account> Device<A> {
    /// Founds a conversation with this device alone in it, and answers its stream.
    pub async fn create_convo(&self) -> Result<String, ClientError> {
        let mut state = self.state.lock().await;
        let (id, group_info) = state.mls.create_group()?;
        let input = create_convo::Input {
            idem: idem(),
            group_info: Bytes(group_info),
            handshake_policy: "opaque".to_owned(),
            policy: None,
            metadata: None,
        };
        match self.procedure::<CreateConvo>(&input).await {
            Ok(answer) => {
                let group = Group { id, taken: answer.seq, joined: 0, ended: false };
                state.groups.insert(answer.stream.clone(), group);
                Ok(answer.stream)
            }
            Err(error) => {
                state.mls.forget(&id)?;
                Err(error.into())
            }
        }
    }

    /// Claims one key package of each certified device of the accounts, for this stream.
    pub async fn claim(&self, stream: &str, accounts: &[Did]) -> Result<Vec<Claimed>, ClientError> {
        let input = claim_key_packages::Input {
            claim_id: idem(),
            stream: stream.to_owned(),
            home: None,
            targets: accounts.to_vec(),
            cipher_suites: vec![u64::from(SUITE_NUMBER)],
        };
        let answer = self.procedure::<ClaimKeyPackages>(&input).await?;
        let mut claimed = Vec::new();
        for target in answer.targets {
            if let Some(problem) = target.problem {
                return Err(ClientError::NotClaimable(problem));
            }
            claimed.extend(target.packages.unwrap_or_default().into_iter().map(|package| Claimed {
                account: target.account.clone(),
                device: package.device,
                reference: package.r#ref,
                key_package: package.key_package,
                last_resort: package.last_resort,
            }));
        }
        Ok(claimed)
    }

    /// Claims for the accounts and adds every certified device of theirs that is not in the group already.
    pub async fn add_members(&self, stream: &str, accounts: &[Did]) -> Result<Committed, ClientError> {
        let mut claimed = self.claim(stream, accounts).await?;
        let inside = {
            let state = self.state.lock().await;
            state.leaves_of(&state.group_id(stream)?, accounts)?
        };
        claimed.retain(|add| !inside.iter().any(|(of, device)| *of == add.account && device.as_str() == add.device));
        self.change(stream, &claimed, &[]).await
    }

    /// Removes every device of the accounts.
    pub async fn remove_members(&self, stream: &str, accounts: &[Did]) -> Result<Committed, ClientError> {
        self.change(stream, &[], accounts).await
    }

    /// One commit that adds what was claimed and removes every device of the accounts.
    ///
    /// On `StaleEpoch` it is made anew, on top of what happened, until it is taken.
    pub async fn change(&self, stream: &str, adds: &[Claimed], removes: &[Did]) -> Result<Committed, ClientError> {
        let mut state = self.state.lock().await;
        let packages: Vec<Vec<u8>> = adds.iter().map(|add| add.key_package.0.clone()).collect();
        for attempts in 1..=ATTEMPTS {
            let id = state.group_id(stream)?;
            let leaves = state.leaves_of(&id, removes)?;
            let devices: Vec<DeviceId> = leaves.iter().map(|(_, device)| device.clone()).collect();
            let staged = state.mls.stage_change(&id, &packages, &devices)?;
            match self.commit(stream, staged, adds, &leaves).await {
                Ok(committed) => {
                    state.mls.confirm(&id)?;
                    return Ok(Committed { attempts, ..committed });
                }
                Err(error) if error.is("StaleEpoch") => {
                    state.mls.discard(&id)?;
                    self.catch_up(&mut state, stream).await?;
                }
                // Whether it happened is not known: it stays staged, and its entry will confirm it if it did.
                Err(ClientError::Call(error)) if error.refused().is_none() => return Err(error.into()),
                Err(error) => {
                    state.mls.discard(&id)?;
                    return Err(error);
                }
            }
        }
        Err(ClientError::Outrun(ATTEMPTS))
    }

    /// Sends a commit by the method that its changes need.
    async fn commit(
        &self,
        stream: &str,
        staged: Staged,
        adds: &[Claimed],
        removes: &[(Did, DeviceId)],
    ) -> Result<Committed, ClientError> {
        let (stream, idem) = (stream.to_owned(), idem());
        let (commit, group_info) = (Bytes(staged.commit), Bytes(staged.group_info));
        let removes: Vec<Removal> = removes
            .iter()
            .map(|(account, device)| Removal { account: account.clone(), device: device.to_string() })
            .collect();
        let (seq, hash, epoch) = match staged.welcome {
            Some(welcome) => {
                let adds = adds.iter().map(|add| Addition {
                    account: add.account.clone(),
                    device: add.device.clone(),
                    r#ref: add.reference.clone(),
                });
                let (adds, removes) = (adds.collect(), (!removes.is_empty()).then_some(removes));
                let welcome = Bytes(welcome);
                let input = add_members::Input { stream, idem, commit, group_info, welcome, adds, removes };
                let answer = self.procedure::<AddMembers>(&input).await?;
                (answer.seq, answer.hash, answer.epoch)
            }
            None => {
                let input =
                    remove_members::Input { stream, idem, commit, group_info, welcome: None, adds: None, removes };
                let answer = self.procedure::<RemoveMembers>(&input).await?;
                (answer.seq, answer.hash, answer.epoch)
            }
        };
        Ok(Committed { seq, hash, epoch, attempts: 1 })
    }

    /// Encrypts and sends. If a removal made the message's epoch too old, it is encrypted anew.
    ///
    /// One message at a time in each conversation: receivers bear only little disorder within one sender's messages.
    pub async fn send(&self, stream: &str, plaintext: &[u8]) -> Result<Sent, ClientError> {
        for _ in 0..ATTEMPTS {
            let (ciphertext, epoch) = self.encrypt(stream, plaintext).await?;
            let ciphertext = Bytes(ciphertext);
            let (stream, idem) = (stream.to_owned(), idem());
            let input = send_message::Input { stream: stream.clone(), idem, ciphertext: ciphertext.clone() };
            match self.procedure::<SendMessage>(&input).await {
                Ok(receipt) => {
                    return Ok(Sent { stream, seq: receipt.seq, hash: receipt.hash, epoch, ciphertext });
                }
                Err(error) if error.is("EpochTooOld") => {
                    let mut state = self.state.lock().await;
                    self.catch_up(&mut state, &stream).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(ClientError::Outrun(ATTEMPTS))
    }

    /// An application message of this device's current epoch, and that epoch.
    pub async fn encrypt(&self, stream: &str, plaintext: &[u8]) -> Result<(Vec<u8>, u64), ClientError> {
        let mut state = self.state.lock().await;
        let id = state.group_id(stream)?;
        let epoch = state.mls.epoch(&id)?.0;
        Ok((state.mls.encrypt(&id, plaintext)?, epoch))
    }

    /// Tries to read a message that came some other way than from the log. It must not be one that the log brings too:
    /// each can be read once.
    pub async fn try_read(&self, stream: &str, ciphertext: &[u8]) -> Result<crate::mls::Received, ClientError> {
        let mut state = self.state.lock().await;
        let id = state.groups.get(stream).map(|group| group.id.clone());
        let id = id.ok_or_else(|| ClientError::NoGroup(stream.to_owned()))?;
        Ok(state.mls.receive(&id, ciphertext)?)
    }

    /// The epoch that this device is in, and its authenticator (RFC 9420 section 8.7).
    pub async fn epoch(&self, stream: &str) -> Result<(u64, Vec<u8>), ClientError> {
        let state = self.state.lock().await;
        let id = state.group_id(stream)?;
        Ok((state.mls.epoch(&id)?.0, state.mls.epoch_authenticator(&id)?))
    }

    /// Everything of a conversation that the server shows to this account, oldest first, after entry `after`.
    pub async fn entries(&self, stream: &str, after: u64) -> Result<Vec<Entry>, ClientError> {
        let (mut entries, mut after) = (Vec::new(), after);
        loop {
            let params = get_messages::Params {
                stream: stream.to_owned(),
                after_seq: Some(after),
                before_seq: None,
                kinds: None,
                limit: PAGE,
            };
            let page = self.query::<GetMessages>(&params).await?;
            let last = page.entries.last().map(|entry| entry.seq);
            entries.extend(page.entries);
            match last {
                Some(last) if page.more => after = last,
                _ => return Ok(entries),
            }
        }
    }

    /// Takes in what happened in a conversation, without waiting for the socket to bring it.
    pub(super) async fn catch_up(&self, state: &mut State, stream: &str) -> Result<(), ClientError> {
        let taken = state.groups.get(stream).map_or(0, |group| group.taken);
        for entry in self.entries(stream, taken).await? {
            self.take(state, &entry).await?;
        }
        Ok(())
    }
}

impl State {
    /// Of a group that this device is in now.
    pub(super) fn group_id(&self, stream: &str) -> Result<Vec<u8>, ClientError> {
        let group = self.groups.get(stream).filter(|group| !group.ended);
        group.map(|group| group.id.clone()).ok_or_else(|| ClientError::NoGroup(stream.to_owned()))
    }

    /// The leaves of these accounts, as the group's own tree has them.
    pub(super) fn leaves_of(&self, id: &[u8], accounts: &[Did]) -> Result<Vec<(Did, DeviceId)>, ClientError> {
        let members = self.mls.members(id)?;
        let leaves = accounts.iter().flat_map(|account| {
            let of = |identity: &str| identity.split('#').next() == Some(account.as_str());
            members
                .iter()
                .filter(move |member| of(&member.identity))
                .map(|member| (account.clone(), member.device.clone()))
        });
        Ok(leaves.collect())
    }

    pub(super) fn tell(&mut self, heard: Heard) {
        self.heard.push(heard);
    }
}
