//! A device with its MLS groups: for tools, tests and examples.
//!
//! Invariant: what a device knows of a group comes from the log, each entry taken once and in order, whichever way it
//! came; its own commits take effect when the server took them. Everything may be called from many tasks at once.

mod draft;
mod groups;
mod hearing;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use rookery_protocol::identity::{Curve, SigningKey};
use rookery_protocol::lexicon::mls;
use rookery_protocol::lexicon::mls::publish_key_packages::{self, PublishKeyPackages};
use rookery_protocol::types::{Bytes, Malformed};
use tokio::sync::Mutex;

use crate::account::Account;
use crate::error::ClientError;
use crate::mls::Client;
use crate::service::{CallError, Service};
use crate::session::Session;

pub use groups::{Claimed, Committed, Sent};
pub use hearing::Heard;

/// Key packages in one call.
const PACKAGES_A_CALL: usize = 100;

/// A [`Session`] that is in groups. It derefs to the session.
pub struct Device<A> {
    name: String,
    session: Session<A>,
    /// Shared by what this device is at several servers while its account moves.
    state: Arc<Mutex<State>>,
}

/// What a device keeps.
struct State {
    mls: Client,
    /// By stream.
    groups: HashMap<String, Group>,
    /// Heard while catching up, not told yet.
    heard: Vec<Heard>,
}

/// A group that this device is, or was, in.
struct Group {
    id: Vec<u8>,
    /// The last entry that was taken.
    taken: u64,
    /// The epoch in which this device came: nothing from before can be read.
    joined: u64,
    /// Removed.
    ended: bool,
}

impl<A: Account> Device<A> {
    /// A new device of that account, with an Ed25519 key of its own, which is also the key of its leaves. `name` is for
    /// transcripts alone.
    pub fn new(name: &str, account: Arc<A>, service: Arc<Service>) -> Result<Self, ClientError> {
        let seed: [u8; 32] = rand::random();
        let key = SigningKey::from_bytes(Curve::Ed25519, &seed)?;
        let public = key.public().raw().try_into().map_err(|_| Malformed::new("device key", "expected 32 bytes"))?;
        let mls = Client::new(account.did().clone(), seed, public)?;
        let state = State { mls, groups: HashMap::new(), heard: Vec::new() };
        let session = Session::new(account, service, key);
        Ok(Self { name: name.to_owned(), session, state: Arc::new(Mutex::new(state)) })
    }

    /// The same device at the server that its account moves to: the same keys, and the same groups.
    pub fn at(&self, service: Arc<Service>) -> Self {
        Self { name: self.name.clone(), session: self.session.at(service), state: Arc::clone(&self.state) }
    }

    /// What transcripts call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes `one_time` fresh key packages and, if asked for, one of last resort.
    pub async fn publish(&self, one_time: usize, last_resort: bool) -> Result<(), ClientError> {
        let mut packages = {
            let state = self.state.lock().await;
            let kinds = std::iter::repeat_n(false, one_time).chain(last_resort.then_some(true));
            kinds.map(|kind| Ok(Bytes(state.mls.key_package(kind)?))).collect::<Result<Vec<_>, ClientError>>()?
        };
        while !packages.is_empty() {
            let key_packages = packages.drain(..packages.len().min(PACKAGES_A_CALL)).collect();
            let answer = self.procedure::<PublishKeyPackages>(&publish_key_packages::Input { key_packages }).await?;
            for result in answer.results {
                // A repeat of a call whose answer was lost finds its own packages there.
                if let Some(error) = result.error.filter(|error| error != "DuplicateKeyPackage") {
                    return Err(ClientError::NotPublished { error, message: result.message.unwrap_or_default() });
                }
            }
        }
        Ok(())
    }

    /// Its key packages live so long from now on, instead of twelve weeks.
    pub async fn live_for(&self, seconds: u64) {
        self.state.lock().await.mls.live_for(seconds);
    }

    /// One conversation as the server shows it to this account.
    pub async fn convo(&self, stream: &str) -> Result<mls::defs::Convo, CallError> {
        let params = mls::get_convo::Params { stream: stream.to_owned() };
        Ok(self.query::<mls::get_convo::GetConvo>(&params).await?.convo)
    }
}

impl<A> Deref for Device<A> {
    type Target = Session<A>;

    fn deref(&self) -> &Session<A> {
        &self.session
    }
}

impl<A> std::fmt::Debug for Device<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({})", self.name)
    }
}
