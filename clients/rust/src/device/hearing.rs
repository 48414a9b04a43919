//! Taking in what the log brings.
//!
//! Invariant: an entry is taken once, after the one before it. Catching up and the socket may bring it both: the second
//! time it is passed over.

use super::{Device, Group, State};
use crate::account::Account;
use crate::error::ClientError;
use crate::mls::Received;
use rookery_protocol::lexicon::event::defs::{Entry, Event};
use rookery_protocol::lexicon::mls::ack_welcome::{self, AckWelcome};
use rookery_protocol::lexicon::mls::get_welcomes::{self, GetWelcomes};
use rookery_protocol::log::EntryKind;
use rookery_protocol::log::body::{Body, CommitBody};
use rookery_protocol::types::DeviceId;

/// Welcomes in one page.
const PAGE: u64 = 20;

/// What an event meant to this device.
#[derive(Clone, PartialEq, Eq)]
pub enum Heard {
    /// It came into a group, by a Welcome to this epoch; the commit was entry `seq`.
    Joined { stream: String, seq: u64, epoch: u64 },
    /// A message of somebody else, decrypted. `sender` is `<did>#<device>`, as the group authenticated it.
    Message { stream: String, seq: u64, epoch: u64, sender: String, plaintext: Vec<u8> },
    /// Its own message came back.
    Own { stream: String, seq: u64 },
    /// A message that was encrypted before this device came, and cannot be decrypted.
    BeforeMe { stream: String, seq: u64, epoch: u64 },
    /// A message whose content is no longer kept.
    Gone { stream: String, seq: u64 },
    /// The group is in this epoch now; nothing more is heard of it if `removed_me`.
    Epoch { stream: String, seq: u64, epoch: u64, removed_me: bool },
}

impl std::fmt::Debug for Heard {
    /// Without names and contents.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, stream, seq) = match self {
            Self::Joined { stream, seq, .. } => ("Joined", stream, seq),
            Self::Message { stream, seq, .. } => ("Message", stream, seq),
            Self::Own { stream, seq } => ("Own", stream, seq),
            Self::BeforeMe { stream, seq, .. } => ("BeforeMe", stream, seq),
            Self::Gone { stream, seq } => ("Gone", stream, seq),
            Self::Epoch { stream, seq, .. } => ("Epoch", stream, seq),
        };
        write!(f, "{kind}({stream} {seq})")
    }
}

impl<A: Account> Device<A> {
    /// Takes in an event, and answers what this device heard since the last time, catching up included.
    pub async fn hear(&self, event: &Event) -> Result<Vec<Heard>, ClientError> {
        let mut state = self.state.lock().await;
        if event.kind == EntryKind::Welcome.name() {
            self.join(&mut state).await?;
        } else if self.account_stream().await.as_ref() != Some(&event.stream) {
            self.take(&mut state, &entry(event)).await?;
        }
        Ok(std::mem::take(&mut state.heard))
    }

    /// Takes in an entry of a conversation.
    pub(super) async fn take(&self, state: &mut State, entry: &Entry) -> Result<(), ClientError> {
        let taken = state.groups.get(&entry.stream).filter(|group| !group.ended).map(|group| group.taken);
        if let Some(taken) = taken {
            if entry.seq <= taken {
                return Ok(());
            }
            if entry.seq != taken + 1 {
                return Err(ClientError::Missing { stream: entry.stream.clone(), after: taken, seq: entry.seq });
            }
            state.apply(entry)?;
        }
        // The Welcome waits from the commit on, whenever its own notice comes.
        if entry.kind == EntryKind::Commit.name() && adds(entry, self.device()) {
            self.join(state).await?;
        }
        Ok(())
    }

    /// Joins by every Welcome that waits, but into no group that this device has not been removed from yet: the
    /// entries until then come first.
    pub(super) async fn join(&self, state: &mut State) -> Result<(), ClientError> {
        let mut cursor = None;
        loop {
            let page = self.query::<GetWelcomes>(&get_welcomes::Params { limit: PAGE, cursor }).await?;
            for waiting in page.welcomes {
                match state.groups.get(&waiting.stream) {
                    Some(group) if waiting.seq <= group.taken => {}
                    Some(group) if !group.ended => continue,
                    _ => {
                        let id = state.mls.join(waiting.welcome.as_slice())?;
                        let (stream, seq, epoch) = (waiting.stream, waiting.seq, waiting.epoch);
                        let group = Group { id, taken: seq, joined: epoch, ended: false };
                        state.groups.insert(stream.clone(), group);
                        state.tell(Heard::Joined { stream, seq, epoch });
                    }
                }
                let ack = ack_welcome::Input { id: waiting.id, accepted: true, reason: None };
                self.procedure::<AckWelcome>(&ack).await?;
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

impl State {
    /// The next entry of a group that this device is in.
    fn apply(&mut self, entry: &Entry) -> Result<(), ClientError> {
        let unreadable = |why: String| ClientError::Unreadable { stream: entry.stream.clone(), seq: entry.seq, why };
        let Some(group) = self.groups.get_mut(&entry.stream) else { return Ok(()) };
        let body = entry.body.as_ref().ok_or_else(|| unreadable("its content is withheld".to_owned()));
        let (stream, seq, epoch) = (entry.stream.clone(), entry.seq, entry.epoch.unwrap_or_default());
        let heard = match EntryKind::from_name(&entry.kind) {
            Some(EntryKind::Message) if entry.body.is_none() => Some(Heard::Gone { stream, seq }),
            Some(EntryKind::Message) => match self.mls.receive(&group.id, body?.as_slice()) {
                Ok(Received::Application { sender, plaintext }) => {
                    Some(Heard::Message { stream, seq, epoch, sender, plaintext })
                }
                Ok(Received::Own) => Some(Heard::Own { stream, seq }),
                Ok(_) => return Err(unreadable("it is no application message".to_owned())),
                Err(_) if epoch < group.joined => Some(Heard::BeforeMe { stream, seq, epoch }),
                Err(error) => return Err(unreadable(error.to_string())),
            },
            Some(EntryKind::Commit) => {
                let commit =
                    CommitBody::decode(body?.as_slice()).map_err(|error| unreadable(error.to_string()))?.commit;
                let received = self.mls.receive(&group.id, commit.as_slice());
                match received.map_err(|error| unreadable(error.to_string()))? {
                    Received::Commit { epoch, removed_me } => {
                        group.ended = removed_me;
                        Some(Heard::Epoch { stream, seq, epoch: epoch.0, removed_me })
                    }
                    // Its answer was lost for good, but it was taken.
                    Received::Own => {
                        self.mls.confirm(&group.id)?;
                        Some(Heard::Epoch { stream, seq, epoch: epoch + 1, removed_me: false })
                    }
                    // Its own, confirmed by the answer.
                    Received::Past => Some(Heard::Epoch { stream, seq, epoch: epoch + 1, removed_me: false }),
                    _ => return Err(unreadable("it is no commit".to_owned())),
                }
            }
            _ => None,
        };
        group.taken = entry.seq;
        self.heard.extend(heard);
        Ok(())
    }
}

/// Whether this commit adds the device.
fn adds(entry: &Entry, device: &DeviceId) -> bool {
    let commit = entry.body.as_ref().and_then(|body| CommitBody::decode(body.as_slice()).ok());
    commit.is_some_and(|commit| commit.adds.iter().any(|add| add.device == *device))
}

fn entry(event: &Event) -> Entry {
    let event = event.clone();
    Entry {
        stream: event.stream,
        term: event.term,
        seq: event.seq,
        kind: event.kind,
        hash: event.hash,
        time: event.time,
        header: event.header,
        body: event.body,
        salt: event.salt,
        author: event.author,
        device: event.device,
        epoch: event.epoch,
    }
}
