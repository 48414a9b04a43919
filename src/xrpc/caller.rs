//! Callers of methods: the type of a handler's second argument is its access rule.
//!
//! Invariant: a caller exists only after the verifier that each token's `typ` names has verified that token for this
//! very method. A device's key comes from its row; a revoked device, a suspended account and an account that moved away
//! are refused at once. A call counts against the account of its first verified token, even if a later check fails.

mod device;
mod operator;
mod peer;
mod proven;
pub(super) mod standing;

use http::request::Parts;

use super::limits::{Address, CallOwner, Class, Visit};
use super::{Fault, Services, store};
use crate::identity::{Credentials, TokenKind};
use crate::lexicon::{Forward, Kind, Method};
use crate::types::{DeviceId, Did};

pub use device::Device;
pub use operator::Operator;
pub use peer::{Peer, PeerActor};
pub use proven::ProvenDevice;

/// A call, as far as it is known before its caller.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Headers and query; the body is not read for strangers.
    pub parts: &'a Parts,
    pub nsid: &'static str,
    pub kind: Kind,
    /// Whether peers call it for their accounts.
    pub forward: Option<Forward>,
    pub class: Class,
    /// Counts against the address until the caller is authenticated.
    pub visit: &'a Visit,
    /// The proof that a device must add to a service token.
    pub(super) proof: DeviceProof,
}

/// The proof that a device must add to a service token of its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceProof {
    /// The device's id.
    Name,
    /// A token that the device signed, or only its id where `DEVICE_PROOF` is `optional`.
    AsConfigured,
    /// A token that the device signed; a procedure's token is bound to the body, also without a service token.
    Always,
}

impl<'a> Asked<'a> {
    pub(super) fn new<M: Method>(parts: &'a Parts, rule: &str) -> Result<Self, Fault> {
        let visit = parts.extensions.get().ok_or_else(|| Fault::internal("a route stands outside of the limits"))?;
        Ok(Self {
            parts,
            nsid: M::NSID,
            kind: M::KIND,
            forward: M::FORWARD,
            class: Class::of(M::NSID, M::KIND, rule),
            visit,
            proof: if M::KIND == Kind::Procedure { DeviceProof::AsConfigured } else { DeviceProof::Name },
        })
    }
}

/// A kind of caller.
pub trait Caller: Send + Sized {
    /// Its name in the access matrix.
    const RULE: &'static str;

    fn prove(cx: &Services, asked: Asked<'_>) -> impl Future<Output = Result<Self, Fault>> + Send;

    /// The rest of the proof, once the body is read: a token may be bound to it, and a peer's signature is.
    fn check_body(&mut self, _cx: &Services, _body: &[u8]) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }

    /// The account whose quotas the call is counted against.
    fn account_id(&self) -> Option<i64> {
        None
    }

    /// The account and device for which a call can be forwarded to another server.
    fn behalf(&self) -> Option<Behalf<'_>> {
        None
    }

    /// The holder of the slot that the call takes.
    fn call_owner(&self) -> CallOwner {
        match (self.behalf(), self.did()) {
            (Some(behalf), _) if behalf.by_peer => CallOwner::Peer,
            (Some(behalf), _) => CallOwner::Device(behalf.account.clone(), behalf.device.clone()),
            (None, Some(did)) => CallOwner::Account(did.clone()),
            (None, None) => CallOwner::Address,
        }
    }

    /// The account that the request's log line names, as a keyed hash.
    fn did(&self) -> Option<&Did>;
}

/// An account's device, as this server proved it.
#[derive(Clone, Copy, Debug)]
pub struct Behalf<'a> {
    pub account_id: i64,
    pub account: &'a Did,
    pub device: &'a DeviceId,
    /// It came from a peer, and goes no further.
    pub by_peer: bool,
}

/// Proves the caller of a method, and counts failed authentications.
pub(super) async fn prove<M: Method, C: Caller>(cx: &Services, parts: &Parts) -> Result<C, Fault> {
    let asked = Asked::new::<M>(parts, C::RULE)?;
    let proven = C::prove(cx, asked).await;
    proven.map_err(|fault| count(cx, &asked, fault))
}

/// Counts a failed authentication. Beyond the budget the answer hides the reason of the failure.
fn count(cx: &Services, asked: &Asked<'_>, fault: Fault) -> Fault {
    let nobody = match &fault {
        // Also where this server cannot check a token (503): the caller chose the host to ask.
        Fault::Unauthenticated(_) => true,
        Fault::Peer(refused) => matches!(refused.status(), 401 | 503),
        _ => false,
    };
    match nobody.then(|| cx.limits.failed(asked.visit)) {
        Some(Err(spent)) => spent,
        _ => fault,
    }
}

/// The account that a service token is of, counted.
async fn account_of(cx: &Services, asked: Asked<'_>, token: &str) -> Result<Did, Fault> {
    let token = cx.verifier.read_service(token, asked.nsid)?;
    cx.limits.may_prove(asked.visit, Some(token.did()))?;
    if token.takes_document() {
        cx.limits.may_fetch(asked.visit, &cx.resolver, token.did()).await?;
    }
    let did = cx.verifier.service(token, &|| cx.limits.asks_little(asked.visit)).await?.iss;
    cx.limits.proven(asked.visit, asked.class, &did)?;
    Ok(did)
}

/// No token is looked at.
#[derive(Debug)]
pub struct Anyone {
    pub address: Address,
}

/// An account, by a service token of its PDS.
#[derive(Debug, Clone)]
pub struct Account {
    pub did: Did,
    /// Its row, if it ever registered a device here.
    pub id: Option<i64>,
    /// The address that the call comes from.
    pub address: Address,
    /// The device token beside the service token; a method that requires it verifies it.
    pub device_token: Option<String>,
}

/// Either of the two, for methods about the account itself.
#[derive(Debug, Clone)]
pub enum AccountOrDevice {
    Account(Account),
    Device(Box<Device>),
}

impl Caller for Anyone {
    const RULE: &'static str = "Anyone";

    async fn prove(_: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        Ok(Self { address: asked.visit.address() })
    }

    fn did(&self) -> Option<&Did> {
        None
    }
}

impl Caller for Account {
    const RULE: &'static str = "Account";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        let credentials = Credentials::read(&asked.parts.headers)?;
        let did = account_of(cx, asked, credentials.token).await?;
        let device_token = credentials.beside()?.proof.map(str::to_owned);
        let row = store::find_account(cx.storage.authentication(), did.as_str()).await?;
        standing::account(cx, asked, &did, row.as_ref()).await?;
        Ok(Self { did, id: row.map(|row| row.id), address: asked.visit.address(), device_token })
    }

    fn account_id(&self) -> Option<i64> {
        self.id
    }

    fn did(&self) -> Option<&Did> {
        Some(&self.did)
    }
}

impl Caller for AccountOrDevice {
    const RULE: &'static str = "Account or Device";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        let credentials = Credentials::read(&asked.parts.headers)?;
        let alone = credentials.beside().is_ok_and(|beside| beside.proof.is_none());
        if credentials.kind == TokenKind::Service && alone {
            Account::prove(cx, asked).await.map(Self::Account)
        } else {
            Device::prove(cx, asked).await.map(Box::new).map(Self::Device)
        }
    }

    async fn check_body(&mut self, cx: &Services, body: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Account(_) => Ok(()),
            Self::Device(device) => device.check_body(cx, body).await,
        }
    }

    fn account_id(&self) -> Option<i64> {
        Self::account_id(self)
    }

    fn call_owner(&self) -> CallOwner {
        match self {
            Self::Account(account) => account.call_owner(),
            Self::Device(device) => device.call_owner(),
        }
    }

    fn did(&self) -> Option<&Did> {
        Some(self.account())
    }
}

impl AccountOrDevice {
    pub fn account(&self) -> &Did {
        match self {
            Self::Account(account) => &account.did,
            Self::Device(device) => &device.author.did,
        }
    }

    /// The account's row, if it ever registered a device here.
    pub fn account_id(&self) -> Option<i64> {
        match self {
            Self::Account(account) => account.id,
            Self::Device(device) => Some(device.author.account_id),
        }
    }
}
