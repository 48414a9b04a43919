//! Another server, by a signed request (RFC 9421).
//!
//! Invariant: the caller is the server that `keyid` names and no other field does; a call for an account is taken only from
//! the server that the account's DID names.

use serde::Deserialize;

use super::{Asked, Caller};
use crate::federation::{Admitted, Age, Counted, Federation, PeerRefused};
use crate::types::{DeviceId, Did};
use crate::xrpc::{CallOwner, Fault, Services};

/// Methods of peers that are called for an account, and whether they must be.
const FOR_ACCOUNTS: &[(&str, bool)] = &[("blue.catbird.peer.moveSeats", true), ("blue.catbird.peer.signal", false)];

/// The account that a peer calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerActor {
    pub account: Did,
    pub device: Option<DeviceId>,
}

/// Another server.
#[derive(Debug)]
pub struct Peer {
    pub server: Did,
    /// Its row.
    pub peer_id: i64,
    pub counted: Counted,
    /// Only where the method allows it.
    pub actor: Option<PeerActor>,
    admitted: Admitted,
}

impl Caller for Peer {
    const RULE: &'static str = "Peer";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        let admitted = admit(cx, asked).await?;
        let presented = &admitted.presented;
        let actor = presented.actor.clone().map(|account| PeerActor { account, device: presented.device.clone() });
        let rule = FOR_ACCOUNTS.iter().find(|(nsid, _)| *nsid == asked.nsid);
        match (rule, &actor) {
            (None, Some(_)) => return Err(PeerRefused::ActorNotAllowed.into()),
            (Some((_, true)), None) => return Err(PeerRefused::ActorRequired.into()),
            _ => {}
        }
        Ok(Self {
            server: admitted.server.clone(),
            peer_id: admitted.peer_id,
            counted: admitted.counted.clone(),
            actor,
            admitted,
        })
    }

    async fn check_body(&mut self, cx: &Services, body: &[u8]) -> Result<(), Fault> {
        check_body(cx, &self.admitted, self.actor.as_ref().map(|actor| &actor.account), body).await
    }

    fn call_owner(&self) -> CallOwner {
        CallOwner::Peer
    }

    fn did(&self) -> Option<&Did> {
        Some(&self.server)
    }
}

/// Everything that is judged before the body is read.
pub(super) async fn admit(cx: &Services, asked: Asked<'_>) -> Result<Admitted, Fault> {
    if !Federation::is_signed(&asked.parts.headers) {
        return Err(PeerRefused::SignatureMissing.into());
    }
    cx.limits.may_prove(asked.visit, None)?;
    let admitted = cx.federation.admit(asked.parts).await?;
    asked.visit.by_peer(&admitted.server, admitted.standing);
    cx.replicas.heard_from(&admitted.server).await.map_err(Fault::of_log)?;
    Ok(admitted)
}

/// The rest: the body is the one that was signed, once, and the account is one of that server's.
pub(super) async fn check_body(
    cx: &Services,
    admitted: &Admitted,
    actor: Option<&Did>,
    body: &[u8],
) -> Result<(), Fault> {
    cx.federation.check_body(admitted, body).await?;
    if let Some(account) = actor {
        let known = cx.federation.has_spoken_for(&admitted.server, account);
        let age = if known { Age::Known } else { Age::First };
        cx.federation.speaks_for(&admitted.server, account, age).await?;
    }
    Ok(())
}

/// A body that names a device names the one that the server vouches for.
pub(super) fn same_device(device: &DeviceId, body: &[u8]) -> Result<(), PeerRefused> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        device: Option<std::borrow::Cow<'a, str>>,
    }
    let named = serde_json::from_slice::<Named<'_>>(body).ok().and_then(|body| body.device);
    match named {
        Some(named) if named != device.as_str() => Err(PeerRefused::DeviceMismatch),
        _ => Ok(()),
    }
}
