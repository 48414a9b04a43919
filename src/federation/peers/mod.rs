//! Peers: found by their documents, remembered by their keys.
//!
//! Invariants: a key speaks for a server only while it stands in the server's document, and only if it was there when the
//! server was first met, or an earlier key endorsed it, or the operator or three days have passed over it; a key once
//! pinned never changes its bytes.

mod document;
mod endorsement;
mod labels;
mod quotas;
pub mod roster;
pub(super) mod store;

pub use document::{Purpose, ServerDocument, ServerKey, domain, endpoint};
pub(super) use endorsement::Listed;
pub use endorsement::{Endorsed, endorsement_message};
pub use labels::Labels;
pub use quotas::{Counted, InFlight, Quota, Quotas};

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use self::endorsement::is_endorsed;
use super::{Federation, PeerRefused};
use crate::config::Mode;
use crate::identity::ResolveError;
use crate::limit::Budgets;
use crate::log::EntryKind;
use crate::log::body::{Body as _, PeerKeyChangedBody};
use crate::storage;
use crate::types::Did;

/// How long a name that is not a server is remembered as such.
pub(super) const NOT_A_SERVER: Duration = Duration::from_hours(1);
/// A peer that was first seen less than so many days ago, and that the operator did not allow, is on probation.
const PROBATION_DAYS: i64 = 7;
/// Time that a peer's accepted keys stay valid while its document cannot be fetched.
const UNREACHABLE_FOR: TimeDelta = TimeDelta::days(1);
/// Time that a peer's accepted keys stay valid while its host answers without a server's document.
const MISLED_FOR: TimeDelta = TimeDelta::hours(6);

/// The operator's decision about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// As `FEDERATION` says.
    Usual,
    Allowed,
    Blocked,
}

impl Policy {
    pub const fn from_db(value: i16) -> Self {
        match value {
            1 => Self::Allowed,
            2 => Self::Blocked,
            _ => Self::Usual,
        }
    }

    pub const fn to_db(self) -> i16 {
        match self {
            Self::Usual => 0,
            Self::Allowed => 1,
            Self::Blocked => 2,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    Held,
    Accepted,
    Refused,
}

impl KeyState {
    pub const fn from_db(value: i16) -> Self {
        match value {
            1 => Self::Accepted,
            2 => Self::Refused,
            _ => Self::Held,
        }
    }

    pub const fn to_db(self) -> i16 {
        match self {
            Self::Held => 0,
            Self::Accepted => 1,
            Self::Refused => 2,
        }
    }
}

#[derive(Clone, Debug)]
pub struct KnownKey {
    pub key: ServerKey,
    pub state: KeyState,
}

/// A peer as it is remembered.
#[derive(Clone, Debug)]
pub struct KnownPeer {
    pub id: i64,
    pub did: Did,
    pub domain: Arc<str>,
    pub policy: Policy,
    pub first_seen_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
    pub held_until: Option<DateTime<Utc>>,
    pub incarnation: i64,
    pub keys: Vec<KnownKey>,
}

impl KnownPeer {
    fn key(&self, id: &str) -> Option<&KnownKey> {
        self.keys.iter().find(|known| known.key.id == id)
    }
}

/// Compares the keys of a document with the pinned keys, as a pure function.
#[derive(Debug, PartialEq)]
enum Continuity<'a> {
    Known,
    /// Nothing is remembered of this server.
    FirstSight,
    New(Vec<&'a ServerKey>),
    Reused,
}

fn continuity<'a>(known: &[KnownKey], document: &'a ServerDocument) -> Continuity<'a> {
    if known.is_empty() {
        return Continuity::FirstSight;
    }
    let mut new = Vec::new();
    for shown in &document.keys {
        match known.iter().find(|known| known.key.id == shown.id) {
            Some(known) if known.key.key == shown.key => {}
            Some(_) => return Continuity::Reused,
            None => new.push(shown),
        }
    }
    if new.is_empty() { Continuity::Known } else { Continuity::New(new) }
}

impl Federation {
    /// Applies the policy to a server before any call to it.
    pub(super) fn may_talk(&self, server: &Did, known: Option<&KnownPeer>) -> Result<(), PeerRefused> {
        let policy = known.map_or(Policy::Usual, |known| known.policy);
        let allowed = policy == Policy::Allowed || self.settings.allowed.contains(server);
        match (self.settings.mode, policy) {
            (Mode::Off, _) => Err(PeerRefused::FederationOff),
            (_, Policy::Blocked) => Err(PeerRefused::PeerBlocked),
            (Mode::Allowlist, _) if !allowed => Err(PeerRefused::PeerPending),
            _ => Ok(()),
        }
    }

    /// Whether a server can have this name.
    pub fn may_be_server(&self, name: &Did) -> bool {
        endpoint(name, self.settings.development).is_some()
    }

    /// The row of a peer, if it was ever met.
    pub async fn known(&self, server: &Did) -> Result<Option<KnownPeer>, storage::Error> {
        store::find(self.storage.pool(), server).await
    }

    /// The server's document as it is known, or as it is now if `wants` a key that is not in it.
    pub(super) async fn document(&self, server: &Did, wants: Option<&str>) -> Result<ServerDocument, PeerRefused> {
        if let Some(why) = self.not_servers.get(server) {
            return Err(PeerRefused::PeerUnknown(why));
        }
        if self.resolver.is_new(server).await {
            // Concurrent callers wait for this look-up.
            let discovering = self.discovering.get_with(server.clone(), Arc::default);
            let _one = discovering.lock().await;
            if self.resolver.is_new(server).await {
                self.may_look_up(&self.discoveries, server)?;
                drop(self.resolver.resolve(server).await);
            }
        }
        let found = self.resolver.resolve(server).await;
        let document = self.read_document(server, found)?;
        match wants {
            Some(key_id) if document.key(key_id).is_none() && self.may_look_up(&self.refetches, server).is_ok() => {
                let found = self.resolver.refresh(server).await;
                self.read_document(server, found)
            }
            _ => Ok(document),
        }
    }

    /// The document of a server, as [`Self::document`] gives it. For a known server the latest document stays valid:
    /// for a day while its host is unreachable, and for six hours while its host answers with something else, since a
    /// proxy that misroutes for a moment must not end years of trust.
    pub(super) async fn document_of(
        &self,
        server: &Did,
        known: Option<&KnownPeer>,
        wants: Option<&str>,
    ) -> Result<ServerDocument, PeerRefused> {
        if known.is_some() {
            // The resolver bounds the requests to the host of a known server.
            self.not_servers.invalidate(server);
        }
        let found = self.document(server, wants).await;
        let good_for = match &found {
            Err(PeerRefused::Unavailable | PeerRefused::RateLimited { .. }) => UNREACHABLE_FOR,
            Err(PeerRefused::PeerUnknown(_)) => MISLED_FOR,
            _ => TimeDelta::zero(),
        };
        match (found, known) {
            (Err(_), Some(known)) if self.clock.now().to_datetime() - known.last_seen_at < good_for => {
                let endpoint = endpoint(server, self.settings.development).ok_or(PeerRefused::Unavailable)?;
                let accepted = known.keys.iter().filter(|known| known.state == KeyState::Accepted);
                let keys = accepted.map(|known| known.key.clone()).collect();
                Ok(ServerDocument { endpoint, keys, remembered: true })
            }
            (found, _) => found,
        }
    }

    fn may_look_up(&self, of_server: &Budgets<Did>, server: &Did) -> Result<(), PeerRefused> {
        let standing = of_server.take(server);
        let standing = if standing.refused_for.is_none() { self.all_lookups.take() } else { standing };
        match standing.refused_for {
            None => Ok(()),
            Some(wait) => Err(PeerRefused::RateLimited { retry_after_s: wait.as_secs() + 1 }),
        }
    }

    fn read_document(
        &self,
        server: &Did,
        found: Result<Arc<crate::identity::DidDocument>, ResolveError>,
    ) -> Result<ServerDocument, PeerRefused> {
        let read = match found {
            Ok(document) => ServerDocument::read(server, &document, self.settings.development),
            Err(ResolveError::NotFound) => Err("it has no document"),
            Err(ResolveError::Unsupported(why) | ResolveError::Invalid(why)) => Err(why),
            Err(ResolveError::Unreachable(_)) => return Err(PeerRefused::Unavailable),
        };
        read.map_err(|why| {
            self.not_servers.insert(server.clone(), why);
            PeerRefused::PeerUnknown(why)
        })
    }

    /// Settles which of the document's keys count, and remembers them. To be called once the server has proven itself by a
    /// key of this document, or was reached under its own name.
    pub(super) async fn meet(
        &self,
        server: &Did,
        known: Option<KnownPeer>,
        document: &ServerDocument,
    ) -> Result<KnownPeer, PeerRefused> {
        let now = self.clock.now().to_datetime();
        let keys = known.as_ref().map(|known| known.keys.as_slice()).unwrap_or_default();
        let peer = match continuity(keys, document) {
            Continuity::Reused => return Err(PeerRefused::PeerKeyReused),
            Continuity::Known => known,
            Continuity::FirstSight => {
                let all: Vec<&ServerKey> = document.keys.iter().collect();
                self.remember(server, &all, &[], now).await.map_err(unavailable)?;
                self.known(server).await.map_err(unavailable)?
            }
            Continuity::New(new) => {
                let listed = self.listed_keys(document).await;
                let (endorsed, strange): (Vec<&ServerKey>, Vec<&ServerKey>) =
                    new.into_iter().partition(|new| is_endorsed(server, keys, new, &listed));
                if !strange.is_empty() {
                    tracing::warn!(peer = server.as_str(), "a peer shows a key that no earlier key endorsed");
                }
                self.remember(server, &endorsed, &strange, now).await.map_err(unavailable)?;
                self.known(server).await.map_err(unavailable)?
            }
        };
        let mut peer = peer.ok_or(PeerRefused::Unavailable)?;
        if let Some(until) = peer.held_until {
            if now < until || document.remembered || self.settings.mode == Mode::Allowlist {
                return Err(PeerRefused::PeerKeyHeld);
            }
            self.release(&peer, document, now).await.map_err(unavailable)?;
            peer = self.known(server).await.map_err(unavailable)?.ok_or(PeerRefused::Unavailable)?;
            if peer.held_until.is_some() {
                return Err(PeerRefused::PeerKeyHeld);
            }
        }
        if !document.remembered {
            store::seen(self.storage.pool(), &peer, now).await.map_err(unavailable)?;
        }
        if !self.counted(&peer).on_probation {
            self.labels.admit(&peer.did);
        }
        Ok(peer)
    }

    /// Ends the hold of the keys whose own time is over. A key that appeared later stays held for its own time, and so
    /// does the peer.
    async fn release(
        &self,
        peer: &KnownPeer,
        document: &ServerDocument,
        now: DateTime<Utc>,
    ) -> Result<(), storage::Error> {
        let shown: Vec<String> = document.keys.iter().map(|key| key.id.clone()).collect();
        let mut tx = self.storage.begin().await?;
        let still_held = store::release(tx.conn(), peer.id, &shown, now - self.settings.key_hold).await?;
        store::set_held(tx.conn(), peer.id, still_held.map(|since| since + self.settings.key_hold)).await?;
        tx.commit().await
    }

    async fn remember(
        &self,
        server: &Did,
        accepted: &[&ServerKey],
        held: &[&ServerKey],
        now: DateTime<Utc>,
    ) -> Result<(), storage::Error> {
        let mut tx = self.storage.begin().await?;
        let peer_id = store::insert(tx.conn(), server, &domain(server), now).await?;
        store::pin(tx.conn(), peer_id, accepted, KeyState::Accepted, now).await?;
        if !held.is_empty() {
            store::pin(tx.conn(), peer_id, held, KeyState::Held, now).await?;
            store::hold(tx.conn(), peer_id, now + self.settings.key_hold).await?;
            let keys = held.iter().map(|key| key.id.clone()).collect();
            let notice = PeerKeyChangedBody { server: server.clone(), keys }.encode();
            let body = notice.map_err(|_| storage::Error::Corrupt("peer_key.key_id"))?;
            store::tell_who_shares(tx.conn(), server, EntryKind::PeerKeyChanged.to_db(), &body, now).await?;
        }
        tx.commit().await
    }

    /// The key of this purpose, if it counts now.
    pub(super) fn counts<'k>(peer: &'k KnownPeer, key_id: &str) -> Result<&'k ServerKey, PeerRefused> {
        match peer.key(key_id) {
            Some(KnownKey { key, state: KeyState::Accepted }) => Ok(key),
            Some(KnownKey { state: KeyState::Held, .. }) => Err(PeerRefused::PeerKeyHeld),
            Some(KnownKey { state: KeyState::Refused, .. }) | None => Err(PeerRefused::PeerKeyUnknown),
        }
    }

    /// How the peer counts against quotas.
    pub(super) fn counted(&self, peer: &KnownPeer) -> Counted {
        let new = self.clock.now().to_datetime() - peer.first_seen_at < TimeDelta::days(PROBATION_DAYS);
        let allowed = peer.policy == Policy::Allowed || self.settings.allowed.contains(&peer.did);
        Counted { domain: Arc::clone(&peer.domain), on_probation: new && !allowed }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err calls")]
pub(super) fn unavailable(error: storage::Error) -> PeerRefused {
    tracing::warn!(error = &error as &dyn std::error::Error, "peers cannot be looked up");
    PeerRefused::Unavailable
}
