//! Which server an account lives on (docs/FEDERATION.md, "Names").
//!
//! Invariants: the account's DID document decides, and only where it names no server at all, the record in its own
//! repository; a definite answer takes effect at once, and stale data never outlives it.

use std::sync::Arc;

use serde::Deserialize;

use super::{Federation, TooManyLookups, peers};
use crate::identity::{DidDocument, Remembered, ResolveError};
use crate::lexicon::Record as _;
use crate::lexicon::mls::declaration::Declaration;
use crate::limit::Weigh;
use crate::types::Did;

const FIRST_MS: i64 = 5 * 60 * 1000;
const KNOWN_MS: i64 = 60 * 60 * 1000;
/// While the directory or the PDS cannot be reached.
const UNREACHABLE_MS: i64 = 24 * 60 * 60 * 1000;

/// The most bytes of a repository's answer with a declaration record.
const MAX_RECORD_BYTES: usize = 64 * 1024;

/// How old the answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// The first that is heard of it, or what cannot be taken back: 5 minutes.
    First,
    /// A location that was verified before: 1 hour.
    Known,
}

impl Age {
    const fn ms(self) -> i64 {
        match self {
            Self::First => FIRST_MS,
            Self::Known => KNOWN_MS,
        }
    }
}

/// Where an account lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountHome {
    Here,
    Elsewhere(Did),
    /// The account names no server: its data here stays, and takes no part in federation.
    Nowhere,
}

/// The account's server is unknown now, and the cached answer is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("which server the account names cannot be told now")]
pub struct HomeUnverified;

/// The content of an account's record, and when it was fetched.
#[derive(Clone)]
pub(super) struct Recorded {
    server: Option<Did>,
    at_ms: i64,
}

impl Weigh for Recorded {
    fn weight_bytes(&self) -> usize {
        self.server.weight_bytes() + size_of::<i64>()
    }
}

impl Federation {
    /// Where the account lives, by an answer that is at most so old. One that registered here and is not known to have moved
    /// lives here while nobody can be asked.
    pub async fn home_of(&self, account: &Did, age: Age) -> Result<AccountHome, HomeUnverified> {
        match self.named_by(account, age).await {
            Err(HomeUnverified) if peers::store::is_ours(self.storage.pool(), account).await.unwrap_or(false) => {
                Ok(AccountHome::Here)
            }
            found => found,
        }
    }

    /// The location of an account of this server, from the cache: here, unless its cached document names another
    /// server. The resolver renews the document in the background, so that an unresponsive directory delays no caller.
    pub(super) async fn home_of_own(&self, account: &Did) -> AccountHome {
        let Remembered::Document(document) = self.resolver.known_within(account, FIRST_MS).await else {
            return AccountHome::Here;
        };
        let server = if document.services("#atproto_mls").next().is_some() {
            document.mls_server(self.settings.development)
        } else {
            self.recorded(account, UNREACHABLE_MS).and_then(|recorded| recorded.server)
        };
        match self.classified(server) {
            elsewhere @ AccountHome::Elsewhere(_) => elsewhere,
            AccountHome::Here | AccountHome::Nowhere => AccountHome::Here,
        }
    }

    /// Counts the look-up of `account` for a call of `caller`, if the cache has no answer.
    pub(super) async fn may_look_up_for(&self, caller: &Did, account: &Did) -> Result<(), TooManyLookups> {
        if self.would_ask(account).await { self.lookups.take(caller, account) } else { Ok(()) }
    }

    async fn would_ask(&self, account: &Did) -> bool {
        if !self.resolver.has_answer(account, FIRST_MS).await {
            return true;
        }
        let Ok(document) = self.resolver.resolve_within(account, FIRST_MS).await else { return false };
        document.services("#atproto_mls").next().is_none()
            && document.pds(self.settings.development).is_some()
            && self.recorded(account, FIRST_MS).is_none()
    }

    /// The server that its document names, or its record.
    async fn named_by(&self, account: &Did, age: Age) -> Result<AccountHome, HomeUnverified> {
        let document = match self.resolver.resolve_within(account, age.ms()).await {
            Ok(document) => document,
            Err(ResolveError::Unreachable(_)) => return Err(HomeUnverified),
            Err(_definite) => return Ok(AccountHome::Nowhere),
        };
        let server = if document.services("#atproto_mls").next().is_some() {
            document.mls_server(self.settings.development)
        } else {
            self.declared(account, &document, age).await?
        };
        Ok(self.classified(server))
    }

    fn classified(&self, server: Option<Did>) -> AccountHome {
        match server {
            Some(server) if server == self.settings.server => AccountHome::Here,
            Some(server) if peers::endpoint(&server, self.settings.development).is_some() => {
                AccountHome::Elsewhere(server)
            }
            _ => AccountHome::Nowhere,
        }
    }

    /// The content of the account's record, if it was fetched within `within_ms`.
    fn recorded(&self, account: &Did, within_ms: i64) -> Option<Recorded> {
        let now_ms = self.clock.now().0;
        self.records.get(account).filter(|recorded| (0..within_ms).contains(&(now_ms - recorded.at_ms)))
    }

    /// A peer claims that an account has moved, which causes one look-up.
    pub async fn look_again(&self, account: &Did) {
        self.records.invalidate(account);
        // A failure is remembered like an answer.
        let _ = self.resolver.refresh(account).await;
    }

    /// The server that the record in the account's repository names.
    async fn declared(
        &self,
        account: &Did,
        document: &Arc<DidDocument>,
        age: Age,
    ) -> Result<Option<Did>, HomeUnverified> {
        if let Some(fresh) = self.recorded(account, age.ms()) {
            return Ok(fresh.server);
        }
        match self.fetch_declaration(account, document).await {
            Some(server) => {
                self.records.insert(account.clone(), Recorded { server: server.clone(), at_ms: self.clock.now().0 });
                Ok(server)
            }
            None => match self.recorded(account, UNREACHABLE_MS) {
                Some(stale) => Ok(stale.server),
                None => Err(HomeUnverified),
            },
        }
    }

    /// `None` without an answer; otherwise the server that the answer names.
    async fn fetch_declaration(&self, account: &Did, document: &DidDocument) -> Option<Option<Did>> {
        #[derive(Deserialize)]
        struct Found {
            value: serde_json::Value,
        }
        let Some(pds) = document.pds(self.settings.development) else { return Some(None) };
        let url =
            format!("{pds}/xrpc/com.atproto.repo.getRecord?repo={account}&collection={}&rkey=self", Declaration::NSID);
        let answer = match self.guarded.get_within(&url, "application/json", MAX_RECORD_BYTES).await {
            Ok(answer) => answer,
            // A forbidden address counts like a repository without the record.
            Err(crate::identity::http::HttpError::BadUrl(_)) => return Some(None),
            Err(_) => return None,
        };
        match answer.status().as_u16() {
            200 => {
                let found: Option<Found> = serde_json::from_slice(answer.body()).ok();
                let record = found.and_then(|found| serde_json::from_value::<Declaration>(found.value).ok());
                let service = record.map(|record| record.service);
                Some(service.and_then(|service| Did::parse(service.strip_suffix("#atproto_mls")?).ok()))
            }
            400 | 404 => Some(None),
            _ => None,
        }
    }
}
