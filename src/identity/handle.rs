//! Handles, both ways (AT Protocol, "Handle").
//!
//! Invariants: a handle counts only if both sides say so, the name by DNS or its well-known file and the DID document by
//! `alsoKnownAs`; one handle is looked up once at a time, and the answer is remembered. A handle is a name for people:
//! nothing here is asked before a caller is proven, and no right follows from it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use moka::future::Cache;
use moka::ops::compute::{CompResult, Op};

use super::dns::{Dns, SystemDns};
use super::document::DidDocument;
use super::http::{Guarded, HttpError};
use super::resolver::{ResolveError, Resolver};
use crate::limit::{Weigh, entry_weight};
use crate::types::{Clock, Did, Malformed};

/// Milliseconds that an answer is used, and that a failure is.
const FRESH_MS: i64 = 60 * 60 * 1000;
const NEGATIVE_MS: i64 = 60 * 1000;
/// Bytes of cached handles and their answers.
const MAX_BYTES: u64 = 4 << 20;
/// Names that do not exist on the public network (AT Protocol, "Handle"; RFC 6761 and others).
const RESERVED: [&str; 8] = ["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion"];
/// Names of development.
const TEST: &str = "test";

/// A handle by its syntax, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handle(String);

impl Handle {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        match atrium_api::types::string::Handle::new(text.to_owned()) {
            Ok(handle) => Ok(Self(handle.as_str().to_ascii_lowercase())),
            Err(_) => Err(Malformed::new("handle", "expected a name such as alice.example.com")),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn may_be_looked_up(&self, development: bool) -> bool {
        let last = self.0.rsplit('.').next().unwrap_or_default();
        !RESERVED.contains(&last) && (development || last != TEST)
    }
}

impl Weigh for Handle {
    fn weight_bytes(&self) -> usize {
        self.0.weight_bytes()
    }
}

/// Why a handle has no DID. Texts name neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    #[error("names of this kind are not looked up")]
    Reserved,
    #[error("the name says no DID, neither by DNS nor by its well-known file")]
    NotFound,
    #[error("the name says more than one DID, or something that is no DID")]
    Ambiguous,
    #[error("the name cannot be looked up now")]
    Unreachable,
}

/// An account as both sides know it.
#[derive(Clone, Debug)]
pub struct Account {
    pub document: Arc<DidDocument>,
    /// The handles that the document claims, in order, each with whether it resolves back to the DID.
    pub handles: Vec<(Handle, Result<(), Unverified>)>,
}

/// Why a handle of a document does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    #[error("the name is another account's")]
    AnotherDid,
    #[error(transparent)]
    Handle(#[from] HandleError),
}

/// Why there is no account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    #[error(transparent)]
    Handle(#[from] HandleError),
    #[error(transparent)]
    Did(#[from] ResolveError),
    #[error("the DID document does not name this handle")]
    NotClaimed,
}

/// Asks a name's own server, where DNS says nothing.
pub trait WellKnown: Send + Sync + 'static {
    /// The text of `/.well-known/atproto-did`; none if there is no such file.
    fn text<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<Option<String>, HandleError>>;
}

impl WellKnown for Arc<Guarded> {
    fn text<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<Option<String>, HandleError>> {
        Box::pin(async move {
            let url = format!("https://{}/.well-known/atproto-did", handle.as_str());
            match self.get(&url, "text/plain").await {
                Ok(answer) if answer.status().is_success() => {
                    String::from_utf8(answer.body().to_vec()).map(Some).map_err(|_| HandleError::Ambiguous)
                }
                Ok(answer) if answer.status().is_server_error() => Err(HandleError::Unreachable),
                // A redirect is no file either.
                Ok(_) | Err(HttpError::BadUrl(_) | HttpError::NotPublic) => Ok(None),
                Err(HttpError::TooLarge(_)) => Err(HandleError::Ambiguous),
                Err(HttpError::TimedOut | HttpError::NoConnection(_) | HttpError::Busy | HttpError::Failed(_)) => {
                    Err(HandleError::Unreachable)
                }
            }
        })
    }
}

type Answer = Result<Did, HandleError>;

/// The only way from handles to accounts, and back.
pub struct Handles {
    dns: Box<dyn Dns>,
    well_known: Box<dyn WellKnown>,
    resolver: Arc<Resolver>,
    cache: Cache<Handle, (Answer, i64)>,
    clock: Clock,
    development: bool,
}

impl Handles {
    /// By the DNS of this machine, and the guarded client.
    pub fn new(guarded: Arc<Guarded>, resolver: Arc<Resolver>, clock: Clock) -> Self {
        let development = guarded.guard().development();
        Self::by(SystemDns::default(), guarded, resolver, clock, development)
    }

    fn by(dns: impl Dns, well_known: impl WellKnown, resolver: Arc<Resolver>, clock: Clock, development: bool) -> Self {
        let cache = Cache::builder().max_capacity(MAX_BYTES).weigher(entry_weight).build();
        Self { dns: Box::new(dns), well_known: Box::new(well_known), resolver, cache, clock, development }
    }

    /// The account behind a handle, if its document names the handle, too.
    pub async fn account_of_handle(&self, handle: &Handle) -> Result<Account, AccountError> {
        let did = self.did_of(handle).await?;
        let account = self.account(&did).await?;
        let claimed = account.handles.iter().any(|(claimed, _)| claimed == handle);
        if claimed { Ok(account) } else { Err(AccountError::NotClaimed) }
    }

    /// The account, and each of its handles as far as the name itself says so.
    pub async fn account(&self, did: &Did) -> Result<Account, AccountError> {
        let document = self.resolver.resolve(did).await?;
        let mut handles: Vec<(Handle, Result<(), Unverified>)> = Vec::new();
        for handle in claimed(&document) {
            let says = match self.did_of(&handle).await {
                Ok(found) if found == *did => Ok(()),
                Ok(_) => Err(Unverified::AnotherDid),
                Err(error) => Err(error.into()),
            };
            handles.push((handle, says));
        }
        Ok(Account { document, handles })
    }

    /// The DID that the name resolves to, unverified.
    async fn did_of(&self, handle: &Handle) -> Answer {
        if !handle.may_be_looked_up(self.development) {
            return Err(HandleError::Reserved);
        }
        let computed = self.cache.entry(handle.clone()).and_compute_with(async |known| {
            if known.is_some_and(|known| is_fresh(known.value(), self.clock.now().0)) {
                return Op::Nop;
            }
            Op::Put((self.ask(handle).await, self.clock.now().0))
        });
        match computed.await {
            CompResult::Inserted(entry) | CompResult::ReplacedWith(entry) | CompResult::Unchanged(entry) => {
                entry.into_value().0
            }
            CompResult::StillNone(_) | CompResult::Removed(_) => Err(HandleError::Unreachable),
        }
    }

    /// DNS first. What it says holds, even if it is of no use; only its silence leads to the well-known file.
    async fn ask(&self, handle: &Handle) -> Answer {
        let texts = self.dns.texts(&format!("_atproto.{}", handle.as_str())).await;
        let said: Vec<&str> = texts.iter().flatten().filter_map(|text| text.strip_prefix("did=")).collect();
        match said[..] {
            [did] => return read_did(did),
            [_, _, ..] => return Err(HandleError::Ambiguous),
            [] => {}
        }
        match self.well_known.text(handle).await? {
            Some(text) => read_did(text.trim()),
            // A DNS that does not answer may yet say something.
            None if texts.is_err() => Err(HandleError::Unreachable),
            None => Err(HandleError::NotFound),
        }
    }
}

fn is_fresh((answer, at_ms): &(Answer, i64), now_ms: i64) -> bool {
    let length_ms = if answer.is_ok() { FRESH_MS } else { NEGATIVE_MS };
    (0..length_ms).contains(&(now_ms - at_ms))
}

fn read_did(text: &str) -> Answer {
    Did::parse(text).map_err(|_| HandleError::Ambiguous)
}

/// The handles that the document claims for its subject (`at://<handle>`), in the document's order.
fn claimed(document: &DidDocument) -> Vec<Handle> {
    let names = document.names.iter().filter_map(|name| Handle::parse(name.strip_prefix("at://")?).ok());
    let mut claimed = Vec::new();
    for handle in names {
        if !claimed.contains(&handle) {
            claimed.push(handle);
        }
    }
    claimed
}

#[cfg(test)]
mod tests;
