//! Who may call: the type of a handler's second argument is its access rule.
//!
//! Invariant: a caller exists only after its token was judged for this very method by the one verifier that its `typ`
//! names. A device's key comes from its row, and a revoked device is refused at once.

use http::request::Parts;
use http::{HeaderMap, header};

use super::{Fault, Services, store};
use crate::identity::{Curve, PublicKey, TokenKind, TokenRefused, Verifier};
use crate::lexicon::Kind;
use crate::log::Author;
use crate::types::{DeviceId, Did, UnixMillis};

/// How often a device's last sight is written.
const SEEN_EVERY_MS: i64 = 60 * 60 * 1000;

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
}

/// A device of an account, by a token that it signed itself.
#[derive(Debug, Clone)]
pub struct Device {
    pub author: Author,
    pub public_key: Vec<u8>,
    /// Signed by another certified device, or the account's first.
    pub certified: bool,
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
        let claims = cx.verifier.service(bearer(&asked.parts.headers)?, asked.nsid).await?;
        Ok(Self { did: claims.iss })
    }

    fn did(&self) -> Option<&Did> {
        Some(&self.did)
    }
}

impl Caller for Device {
    const RULE: &'static str = "Device";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        let token = cx.verifier.read_device(bearer(&asked.parts.headers)?, asked.nsid)?;
        let found = store::find_device(cx.storage.pool(), token.device().as_str()).await?;
        let Some(row) = found.filter(|row| row.did == token.did().as_str()) else {
            return Err(TokenRefused::DeviceUnknown.into());
        };
        let key = stored_key(&row.alg, &row.public_key)?;
        let device: DeviceId = token.device().clone();
        let claims = cx.verifier.device(token, &key).await?;
        // After the signature: a stranger learns nothing of a device's state.
        if row.state == "revoked" {
            return Err(TokenRefused::DeviceRevoked.into());
        }
        if UnixMillis::from(row.known_at) < cx.log.lapsed_before() {
            return Err(TokenRefused::DeviceLapsed.into());
        }
        let now = cx.clock.now();
        if row.last_seen_at.is_none_or(|seen| now.0 - seen.timestamp_millis() > SEEN_EVERY_MS) {
            store::touch_device(cx.storage.pool(), row.id, now.to_datetime()).await?;
        }
        Ok(Self {
            author: Author { account_id: row.account_id, device_row: row.id, did: claims.iss, device },
            public_key: row.public_key,
            certified: row.state == "certified",
        })
    }

    fn did(&self) -> Option<&Did> {
        Some(&self.author.did)
    }
}

impl Caller for AccountOrDevice {
    const RULE: &'static str = "Account or Device";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        match Verifier::kind(bearer(&asked.parts.headers)?)? {
            TokenKind::Service => Account::prove(cx, asked).await.map(Self::Account),
            TokenKind::Device => Device::prove(cx, asked).await.map(Box::new).map(Self::Device),
        }
    }

    fn did(&self) -> Option<&Did> {
        match self {
            Self::Account(account) => account.did(),
            Self::Device(device) => device.did(),
        }
    }
}

impl AccountOrDevice {
    /// The account's row, if it ever registered a device here.
    pub async fn account_id(&self, cx: &Services) -> Result<Option<i64>, Fault> {
        match self {
            Self::Account(account) => Ok(store::find_account(cx.storage.pool(), account.did.as_str()).await?),
            Self::Device(device) => Ok(Some(device.author.account_id)),
        }
    }
}

fn stored_key(alg: &str, raw: &[u8]) -> Result<PublicKey, Fault> {
    let curve = Curve::from_alg(alg).ok_or_else(|| Fault::internal("device.alg is not an algorithm"))?;
    PublicKey::from_raw(curve, raw).map_err(Fault::internal)
}

fn bearer(headers: &HeaderMap) -> Result<&str, TokenRefused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(TokenRefused::MissingJwt)?;
    if values.next().is_some() {
        return Err(TokenRefused::BadJwt);
    }
    let text = value.to_str().map_err(|_| TokenRefused::BadJwt)?;
    let (scheme, token) = text.split_once(' ').ok_or(TokenRefused::BadJwt)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(TokenRefused::MissingJwt) }
}
