//! Who may call: the type of a handler's second argument is its access rule.
//!
//! Invariant: a caller exists only after each of its tokens was judged for this very method by the one verifier that the
//! token's `typ` names. A device's key comes from its row; a revoked device, a suspended account and one that moved away
//! are refused at once.

mod device;
mod operator;
mod standing;

use http::request::Parts;

use super::{Fault, Services, store};
use crate::identity::{Credentials, TokenKind, TokenRefused};
use crate::lexicon::Kind;
use crate::types::Did;

pub use device::Device;
pub use operator::Operator;

/// A call, as far as it is known before its caller.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Headers and query; the body is not read for strangers.
    pub parts: &'a Parts,
    pub nsid: &'static str,
    pub kind: Kind,
}

/// A kind of caller.
pub trait Caller: Send + Sized {
    /// Its name in the access matrix.
    const RULE: &'static str;

    fn prove(cx: &Services, asked: Asked<'_>) -> impl Future<Output = Result<Self, Fault>> + Send;

    /// The rest of the proof, once the body is read: a token may be bound to it.
    fn check_body(&self, _body: &[u8]) -> Result<(), TokenRefused> {
        Ok(())
    }

    /// Whom the request's line in the log names, by a keyed hash.
    fn did(&self) -> Option<&Did>;
}

/// No token is looked at.
#[derive(Debug)]
pub struct Anyone;

/// An account, by a service token of its PDS.
#[derive(Debug, Clone)]
pub struct Account {
    pub did: Did,
    /// Its row, if it ever registered a device here.
    pub id: Option<i64>,
}

/// Either of the two, for methods about the account itself.
#[derive(Debug, Clone)]
pub enum AccountOrDevice {
    Account(Account),
    Device(Box<Device>),
}

impl Caller for Anyone {
    const RULE: &'static str = "Anyone";

    async fn prove(_: &Services, _: Asked<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn did(&self) -> Option<&Did> {
        None
    }
}

impl Caller for Account {
    const RULE: &'static str = "Account";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        let credentials = Credentials::read(&asked.parts.headers)?;
        let did = cx.verifier.service(credentials.token, asked.nsid).await?.iss;
        let row = store::find_account(cx.storage.pool(), did.as_str()).await?;
        standing::account(cx, asked.nsid, &did, row.as_ref()).await?;
        Ok(Self { did, id: row.map(|row| row.id) })
    }

    fn did(&self) -> Option<&Did> {
        Some(&self.did)
    }
}

impl Caller for AccountOrDevice {
    const RULE: &'static str = "Account or Device";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        let credentials = Credentials::read(&asked.parts.headers)?;
        if credentials.kind == TokenKind::Service && credentials.proof.is_none() {
            Account::prove(cx, asked).await.map(Self::Account)
        } else {
            Device::prove(cx, asked).await.map(Box::new).map(Self::Device)
        }
    }

    fn check_body(&self, body: &[u8]) -> Result<(), TokenRefused> {
        match self {
            Self::Account(_) => Ok(()),
            Self::Device(device) => device.check_body(body),
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
