//! A client: one device of an account, with its MLS groups. For the demo, the integration tests and load.
//!
//! Invariant: what a person knows of a group comes from the log, each entry taken once and in order, whichever way it
//! came; its own commits take effect when the server took them. Everything may be called from many tasks at once.

pub mod chains;
mod devices;
mod draft;
mod feed;
mod groups;
mod hearing;
mod service;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::directory::Identity;
use crate::identity::{BadLink, ChainHead, Curve, DeviceSigner, SigningKey, body_hash};
use crate::lexicon::account::register_device::{self, RegisterDevice};
use crate::lexicon::mls::publish_key_packages::{self, PublishKeyPackages};
use crate::lexicon::{Method, account, mls};
use crate::mls::client::{self, Client};
use crate::types::{Bytes, DeviceId, Did, Malformed};

pub use devices::{PairingCode, read_chain};
pub use feed::{Feed, FeedError, Frame, Received, read_frame};
pub use groups::{Claimed, Committed, Sent};
pub use hearing::Heard;
pub use service::{CallError, Refused, Service};

/// Key packages in one call.
const PACKAGES_A_CALL: usize = 100;

/// Why a person could not do something. Names no account.
#[derive(Debug, thiserror::Error)]
pub enum PersonError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Mls(#[from] client::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a link of the device chain: {0}")]
    Link(#[from] BadLink),
    #[error("the account's device chain: {0}")]
    Chain(&'static str),
    #[error("this device is not in a group of stream {0}")]
    NoGroup(String),
    #[error("entry {seq} of stream {stream} was to be taken in after entry {after}: something is missing")]
    Missing { stream: String, after: u64, seq: u64 },
    #[error("entry {seq} of stream {stream} cannot be read: {why}")]
    Unreadable { stream: String, seq: u64, why: String },
    #[error("an account has no key package to claim: {0}")]
    NotClaimable(String),
    #[error("a key package was refused: {error}: {message}")]
    NotPublished { error: String, message: String },
    #[error("others committed first {0} times in a row")]
    Outrun(u32),
}

impl PersonError {
    /// Whether the server refused it by that name.
    pub fn is(&self, error: &str) -> bool {
        matches!(self, Self::Call(call) if call.is(error))
    }
}

/// One device of an account.
pub struct Person {
    name: String,
    account: Arc<Identity>,
    signer: DeviceSigner,
    service: Arc<Service>,
    state: Mutex<State>,
}

/// What a device keeps.
struct State {
    mls: Client,
    account_stream: Option<String>,
    /// Where the account's device chain ended when it was last read.
    chain: Option<ChainHead>,
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

impl Person {
    /// A new device of that account, with a key of its own. The server hears of it by [`Self::register`].
    pub fn new(name: &str, account: Arc<Identity>, service: Arc<Service>) -> Result<Self, PersonError> {
        let seed: [u8; 32] = rand::random();
        let key = SigningKey::from_bytes(Curve::Ed25519, &seed)?;
        let public = key.public().raw().try_into().map_err(|_| Malformed::new("device key", "expected 32 bytes"))?;
        let mls = Client::new(account.did.clone(), seed, public)?;
        let signer = DeviceSigner::new(account.did.clone(), key);
        let state = State { mls, account_stream: None, chain: None, groups: HashMap::new(), heard: Vec::new() };
        Ok(Self { name: name.to_owned(), account, signer, service, state: Mutex::new(state) })
    }

    /// What transcripts call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn did(&self) -> &Did {
        &self.account.did
    }

    pub fn device(&self) -> &DeviceId {
        &self.signer.device
    }

    pub fn account(&self) -> &Arc<Identity> {
        &self.account
    }

    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// A fresh device token for one call.
    pub fn token(&self, nsid: &str) -> String {
        self.signer.token(self.service.did().as_str(), nsid, self.service.clock().now(), None)
    }

    /// The same, bound to a body: what goes beside a service token through a PDS.
    pub fn proof(&self, nsid: &str, body: &[u8]) -> String {
        let (aud, now) = (self.service.did().as_str(), self.service.clock().now());
        self.signer.token(aud, nsid, now, Some(&body_hash(body)))
    }

    /// A fresh service token of the account for one call.
    pub fn service_token(&self, nsid: &str) -> String {
        self.account.service_token(self.service.did().as_str(), nsid, self.service.clock().now())
    }

    /// Calls a query as this device.
    pub async fn query<M: Method>(&self, params: &M::Params) -> Result<M::Output, CallError> {
        self.service.query::<M>(params, || Some(self.token(M::NSID))).await
    }

    /// Calls a procedure as this device.
    pub async fn procedure<M: Method>(&self, input: &M::Input) -> Result<M::Output, CallError> {
        self.service.procedure::<M>(input, || Some(self.token(M::NSID))).await
    }

    /// Makes the device known. The answer says whether it is certified.
    pub async fn register(&self) -> Result<register_device::Output, PersonError> {
        self.register_by(None).await
    }

    async fn register_by(&self, certificate: Option<Bytes>) -> Result<register_device::Output, PersonError> {
        let nsid = RegisterDevice::NSID;
        let input = register_device::Input {
            public_key: Bytes(self.signer.key().public().raw()),
            kind: "app".to_owned(),
            name: None,
            platform: Some("demo".to_owned()),
            certificate,
            mls_keys: None,
            invite: None,
            device_token: self.token(nsid),
        };
        let token = || Some(self.service_token(nsid));
        let answer = self.service.procedure::<RegisterDevice>(&input, token).await?;
        self.state.lock().await.account_stream = Some(answer.stream.clone());
        Ok(answer)
    }

    /// The account's devices, as the account's PDS would ask.
    pub async fn devices(&self) -> Result<Vec<account::defs::Device>, CallError> {
        use account::list_devices::ListDevices;
        let token = || Some(self.service_token(ListDevices::NSID));
        let params = crate::lexicon::Nothing {};
        Ok(self.service.query::<ListDevices>(&params, token).await?.devices)
    }

    /// Publishes `one_time` fresh key packages and, if asked for, one of last resort.
    pub async fn publish(&self, one_time: usize, last_resort: bool) -> Result<(), PersonError> {
        let mut packages = {
            let state = self.state.lock().await;
            let kinds = std::iter::repeat_n(false, one_time).chain(last_resort.then_some(true));
            kinds.map(|kind| Ok(Bytes(state.mls.key_package(kind)?))).collect::<Result<Vec<_>, PersonError>>()?
        };
        while !packages.is_empty() {
            let key_packages = packages.drain(..packages.len().min(PACKAGES_A_CALL)).collect();
            let answer = self.procedure::<PublishKeyPackages>(&publish_key_packages::Input { key_packages }).await?;
            for result in answer.results {
                // A repeat of a call whose answer was lost finds its own packages there.
                if let Some(error) = result.error.filter(|error| error != "DuplicateKeyPackage") {
                    return Err(PersonError::NotPublished { error, message: result.message.unwrap_or_default() });
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

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Person({})", self.name)
    }
}
