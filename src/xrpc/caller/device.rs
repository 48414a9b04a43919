//! A device: by a token that it signed itself, or through its account's PDS.
//!
//! Invariant: through a PDS the account is proven first, and the device belongs to that account. The device signs every
//! write, over the very bytes of the body; to read, the device's id is enough, except for a caller of
//! [`super::ProvenDevice`].

use std::sync::Arc;

use super::{Asked, Behalf, Caller, DeviceProof, account_of, peer, standing};
use crate::federation::{Admitted, Federation, PeerRefused, Quota};
use crate::identity::{Claims, Credentials, Curve, PublicKey, Shown, TokenKind, TokenRefused};
use crate::lexicon::{Forward, Kind};
use crate::log::Author;
use crate::types::{DeviceId, Did};
use crate::xrpc::store::{self, DeviceRow, ForeignAuthor};
use crate::xrpc::{Denied, Fault, Services};

/// A device of an account.
#[derive(Debug, Clone)]
pub struct Device {
    pub author: Author,
    pub public_key: Vec<u8>,
    /// Signed by another certified device, or the account's first.
    pub certified: bool,
    /// The device's token, if it is bound to the body.
    pub(in crate::xrpc) bound: Option<Claims>,
    /// The peer whose account this is, where the call came from one: what is said of the device is that server's word.
    pub via: Option<Arc<Admitted>>,
    /// A peer calls for the device, about a stream of this server.
    pub(in crate::xrpc) about_stream: bool,
}

impl Caller for Device {
    const RULE: &'static str = "Device";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        if Federation::is_signed(&asked.parts.headers) {
            return Self::by_peer(cx, asked).await;
        }
        let credentials = Credentials::read(&asked.parts.headers)?;
        match credentials.kind {
            TokenKind::Device => {
                let (row, claims) = by_key(cx, asked, &credentials, credentials.token, None).await?;
                cx.limits.proven(asked.visit, asked.class, &claims.iss)?;
                // A token with `bodyHash` must match the body.
                let must_bind = asked.proof == DeviceProof::Always && asked.kind == Kind::Procedure;
                let bound = must_bind || claims.body_hash.is_some();
                Self::standing(cx, asked, row, &claims.iss.clone(), bound.then_some(claims), false).await
            }
            TokenKind::Service => {
                let account = account_of(cx, asked, credentials.token).await?;
                let writes = asked.kind == Kind::Procedure;
                let always = asked.proof == DeviceProof::Always;
                let required = always || cx.config.identity.device_proof_required;
                match credentials.shown(asked.proof != DeviceProof::Name, required)? {
                    Shown::Proven(proof) => {
                        let (row, claims) = by_key(cx, asked, &credentials, proof, Some(&account)).await?;
                        let bound = writes || claims.body_hash.is_some();
                        Self::standing(cx, asked, row, &account, bound.then_some(claims), true).await
                    }
                    Shown::Named(device) => {
                        let row = find(cx, device, &account).await?;
                        Self::standing(cx, asked, row, &account, None, true).await
                    }
                }
            }
        }
    }

    fn account_id(&self) -> Option<i64> {
        Some(self.author.account_id)
    }

    async fn check_body(&mut self, cx: &Services, body: &[u8]) -> Result<(), Fault> {
        if let Some(claims) = &self.bound {
            claims.check_body(body)?;
        }
        if let Some(admitted) = self.via.clone() {
            peer::check_body(cx, &admitted, Some(&self.author.did), body).await?;
            peer::same_device(&self.author.device, body)?;
            let author = self.foreign(cx, &admitted).await?;
            if author.suspended {
                return Err(Denied::AccountSuspended.into());
            }
            (self.author.account_id, self.author.device_row) = (author.account_id, author.device_row);
        }
        Ok(())
    }

    fn behalf(&self) -> Option<Behalf<'_>> {
        let Author { account_id, did, device, .. } = &self.author;
        Some(Behalf { account_id: *account_id, account: did, device, by_peer: self.via.is_some() })
    }

    fn did(&self) -> Option<&Did> {
        Some(&self.author.did)
    }
}

impl Device {
    /// A device of another server's account, which that server vouches for. Its rows are found once the body is proven.
    async fn by_peer(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        let admitted = peer::admit(cx, asked).await?;
        if asked.forward.is_none() {
            return Err(PeerRefused::ActorNotAllowed.into());
        }
        let presented = &admitted.presented;
        let (Some(did), Some(device)) = (presented.actor.clone(), presented.device.clone()) else {
            return Err(PeerRefused::ActorRequired.into());
        };
        Ok(Self {
            author: Author { account_id: 0, device_row: 0, did, device },
            public_key: Vec::new(),
            certified: true,
            bound: None,
            via: Some(Arc::new(admitted)),
            about_stream: asked.forward == Some(Forward::Home),
        })
    }

    /// The rows of a device that a peer vouches for. A call about a stream creates none for an account that was never
    /// in a stream here, and the devices of one domain have a quota.
    async fn foreign(&self, cx: &Services, admitted: &Admitted) -> Result<ForeignAuthor, Fault> {
        let (pool, did, device) = (cx.storage.authentication(), &self.author.did, &self.author.device);
        if let Some(found) = store::find_author(pool, did, device).await? {
            return Ok(found);
        }
        if self.about_stream && !store::was_seated(pool, did).await? {
            return Err(Fault::StreamNotFound);
        }
        cx.federation.take(&admitted.counted, Quota::Devices, 1)?;
        let made = store::make_author(pool, did, device, cx.clock.now().to_datetime()).await?;
        made.ok_or(Fault::Peer(PeerRefused::TooManyDevices))
    }

    /// The device, if nothing became of it or its account.
    async fn standing(
        cx: &Services,
        asked: Asked<'_>,
        row: DeviceRow,
        did: &Did,
        bound: Option<Claims>,
        with_account: bool,
    ) -> Result<Self, Fault> {
        standing::device(cx, asked, did, &row, with_account).await?;
        let device = DeviceId::parse(&row.public_id).map_err(Fault::internal)?;
        Ok(Self {
            author: Author { account_id: row.account_id, device_row: row.id, did: did.clone(), device },
            public_key: row.public_key,
            certified: row.state == "certified",
            bound,
            via: None,
            about_stream: false,
        })
    }
}

/// The device that signed a token; of that account, where one is proven already.
async fn by_key(
    cx: &Services,
    asked: Asked<'_>,
    credentials: &Credentials<'_>,
    token: &str,
    account: Option<&Did>,
) -> Result<(DeviceRow, Claims), Fault> {
    let token = cx.verifier.read_device(token, asked.nsid)?;
    credentials.agrees(token.device())?;
    if account.is_some_and(|account| account != token.did()) {
        return Err(TokenRefused::DeviceUnknown.into());
    }
    if account.is_none() {
        cx.limits.may_prove(asked.visit, Some(token.did()))?;
    }
    let row = find(cx, token.device(), token.did()).await?;
    let curve = Curve::from_alg(&row.alg).ok_or_else(|| Fault::internal("device.alg is not an algorithm"))?;
    let key = PublicKey::from_raw(curve, &row.public_key).map_err(Fault::internal)?;
    let claims = cx.verifier.device(token, &key).await?;
    Ok((row, claims))
}

async fn find(cx: &Services, device: &DeviceId, account: &Did) -> Result<DeviceRow, Fault> {
    let found = cx.devices.find(device).await?;
    found.filter(|row| row.did == account.as_str()).ok_or_else(|| TokenRefused::DeviceUnknown.into())
}
