//! A device at a server: who it is, and its calls.

use std::sync::Arc;

use rookery_protocol::identity::{ChainHead, DeviceSigner, SigningKey, body_hash};
use rookery_protocol::lexicon::account::defs;
use rookery_protocol::lexicon::account::list_devices::ListDevices;
use rookery_protocol::lexicon::account::register_device::{self, RegisterDevice};
use rookery_protocol::lexicon::{Method, Nothing};
use rookery_protocol::types::{Bytes, DeviceId, Did};
use tokio::sync::Mutex;

use crate::account::Account;
use crate::error::ClientError;
use crate::service::{CallError, Service};

/// One device of an account, at one server. Everything may be called from many tasks at once.
pub struct Session<A> {
    account: Arc<A>,
    pub(crate) signer: Arc<DeviceSigner>,
    pub(crate) service: Arc<Service>,
    platform: Option<String>,
    pub(crate) kept: Mutex<Kept>,
}

/// What a session remembers.
#[derive(Default)]
pub(crate) struct Kept {
    pub account_stream: Option<String>,
    /// Where the account's device chain ended when it was last read.
    pub chain: Option<ChainHead>,
}

impl<A: Account> Session<A> {
    /// `key` is the device's own, and stays with the caller too: a device is its key. The server hears of it by
    /// [`Self::register`] or by a pairing.
    pub fn new(account: Arc<A>, service: Arc<Service>, key: SigningKey) -> Self {
        let signer = Arc::new(DeviceSigner::new(account.did().clone(), key));
        let platform = Some(std::env::consts::OS.to_owned());
        Self { account, signer, service, platform, kept: Mutex::default() }
    }

    /// The same device of the same account at another server, where it is not known before it registers.
    pub fn at(&self, service: Arc<Service>) -> Self {
        let (account, signer) = (Arc::clone(&self.account), Arc::clone(&self.signer));
        Self { account, signer, service, platform: self.platform.clone(), kept: Mutex::default() }
    }

    /// What other devices of the account see it runs on, such as `ios`, at most 64 bytes; the name of this program's own
    /// system unless said.
    pub fn on_platform(mut self, platform: &str) -> Self {
        self.platform = Some(platform.to_owned());
        self
    }

    pub(crate) fn platform(&self) -> Option<String> {
        self.platform.clone()
    }

    pub fn did(&self) -> &Did {
        self.account.did()
    }

    pub fn device(&self) -> &DeviceId {
        &self.signer.device
    }

    pub fn account(&self) -> &Arc<A> {
        &self.account
    }

    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The stream of what happens to the account; None before the device is registered or paired.
    pub async fn account_stream(&self) -> Option<String> {
        self.kept.lock().await.account_stream.clone()
    }

    /// A fresh device token for one call.
    pub fn token(&self, nsid: &str) -> String {
        self.signer.token(self.service.did().as_str(), nsid, self.service.clock().now(), None)
    }

    /// A device token that is bound to a body; through a PDS the client sends the token beside a service token.
    pub fn proof(&self, nsid: &str, body: &[u8]) -> String {
        let (aud, now) = (self.service.did().as_str(), self.service.clock().now());
        self.signer.token(aud, nsid, now, Some(&body_hash(body)))
    }

    async fn account_token(&self, nsid: &str) -> Result<Option<String>, CallError> {
        let now = self.service.clock().now();
        self.account.service_token(self.service.did(), nsid, now).await.map(Some)
    }

    /// Calls a query as this device.
    pub async fn query<M: Method>(&self, params: &M::Params) -> Result<M::Output, CallError> {
        self.service.query::<M>(params, || Some(self.token(M::NSID))).await
    }

    /// Calls a procedure as this device, with a token that is good for this body alone.
    pub async fn procedure<M: Method>(&self, input: &M::Input) -> Result<M::Output, CallError> {
        self.service.procedure_bound::<M>(input, |body| self.proof(M::NSID, body)).await
    }

    /// Makes the device known. The answer says whether it is certified.
    pub async fn register(&self) -> Result<register_device::Output, ClientError> {
        self.register_by(None).await
    }

    /// Registers with a certificate, which another device of the account has made.
    pub async fn register_vouched(&self, certificate: Bytes) -> Result<register_device::Output, ClientError> {
        self.register_by(Some(certificate)).await
    }

    async fn register_by(&self, certificate: Option<Bytes>) -> Result<register_device::Output, ClientError> {
        let nsid = RegisterDevice::NSID;
        let input = register_device::Input {
            public_key: Bytes(self.signer.key().public().raw()),
            kind: "app".to_owned(),
            name: None,
            platform: self.platform(),
            certificate,
            mls_keys: None,
            invite: None,
        };
        let (token, proof) = (|| self.account_token(nsid), |body: &[u8]| self.proof(nsid, body));
        let answer = self.service.procedure_proven::<RegisterDevice, _>(&input, token, proof).await?;
        self.kept.lock().await.account_stream = Some(answer.stream.clone());
        Ok(answer)
    }

    /// The account's devices, as the account's PDS would ask.
    pub async fn devices(&self) -> Result<Vec<defs::Device>, CallError> {
        let token = || self.account_token(ListDevices::NSID);
        Ok(self.service.query_with::<ListDevices, _>(&Nothing {}, token).await?.devices)
    }
}

impl<A> std::fmt::Debug for Session<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.signer.device)
    }
}
