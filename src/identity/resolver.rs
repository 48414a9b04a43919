//! Resolves DIDs, with a cache of documents. Invariants: a definite answer takes effect at once, and no older document
//! outlives it; a document that could not be renewed serves for a day at most; the resolver fetches one DID once at a
//! time; unresponsive hosts delay the renewal of no other host's documents; memory is bounded in bytes.

mod renewals;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use moka::ops::compute::{CompResult, Op};

use self::renewals::Renewals;
use super::document::DidDocument;
use super::source::Source;
use crate::config::Rate;
use crate::limit::{Budget, LimitScope, Weigh, entry_weight};
use crate::types::{Clock, Did};

/// Milliseconds that a document is used without asking again.
const FRESH_MS: i64 = 60 * 60 * 1000;
/// Milliseconds that a document is used while it cannot be renewed.
const USABLE_MS: i64 = 24 * 60 * 60 * 1000;
/// Milliseconds that the resolver caches a failure while an older document or a definite answer serves.
const NEGATIVE_MS: i64 = 60 * 1000;
/// Seconds that the resolver caches a failure without any answer to serve. Clients get this time as `Retry-After`, so
/// the next attempt after a host's recovery succeeds.
pub const RETRY_AFTER_S: u64 = 5;
const UNANSWERED_MS: i64 = 5 * 1000;
/// Milliseconds between two forced fetches of one DID: bad signatures must not aim our traffic at a directory.
const REFRESH_MS: i64 = 60 * 1000;
/// Forced fetches of all DIDs in one second, and at once: a thousand bad signatures for a thousand accounts are no more.
/// The rate of each of two such budgets, one of which is reserved for callers that ask for little. The compiler
/// evaluates that 10 is not 0.
const REFRESHES: Rate = Rate { quantity: NonZeroU32::new(10).unwrap(), period: Duration::from_secs(1) };
/// Bytes of cached documents and failures.
const MAX_BYTES: u64 = 32 << 20;

/// Why there is no document. Texts name no DID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Definite: there is none (any more).
    #[error("there is no such DID")]
    NotFound,
    /// Definite: nothing that we resolve.
    #[error("the DID is not resolved here: {0}")]
    Unsupported(&'static str),
    /// There is an answer, but no document for this DID.
    #[error("the DID document cannot be used: {0}")]
    Invalid(&'static str),
    /// No answer now.
    #[error("the DID document cannot be fetched: {0}")]
    Unreachable(&'static str),
}

impl ResolveError {
    const fn is_definite(self) -> bool {
        matches!(self, Self::NotFound | Self::Unsupported(_))
    }
}

#[derive(Clone, Default)]
struct Entry {
    document: Option<(Arc<DidDocument>, i64)>,
    failure: Option<(ResolveError, i64)>,
    forced_ms: Option<i64>,
}

impl Weigh for Entry {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.document.as_ref().map_or(0, |(document, _)| document.weight_bytes())
    }
}

/// The cached answer for a DID.
#[derive(Clone, Debug)]
pub enum Remembered {
    /// A document, at most a day old.
    Document(Arc<DidDocument>),
    /// The last answer was definite: the DID does not exist, or no longer exists.
    NotFound,
    /// The DID was never resolved, or gave no answer for too long.
    Nothing,
}

type Answer = Result<Arc<DidDocument>, ResolveError>;

impl Entry {
    /// The cached answer, if a document may be of this age.
    fn answer(&self, now_ms: i64, fresh_ms: i64) -> Option<Answer> {
        let fresh = self.document.as_ref().filter(|(_, at)| within(*at, fresh_ms, now_ms));
        if let Some((document, _)) = fresh {
            return Some(Ok(Arc::clone(document)));
        }
        let (error, at) = self.failure?;
        let best = self.best(now_ms);
        let serves = best.is_ok() || error.is_definite();
        within(at, if serves { NEGATIVE_MS } else { UNANSWERED_MS }, now_ms).then_some(best)
    }

    /// The best that is known.
    fn best(&self, now_ms: i64) -> Answer {
        match (&self.document, self.failure) {
            (Some((document, at)), _) if within(*at, USABLE_MS, now_ms) => Ok(Arc::clone(document)),
            (_, Some((error, _))) => Err(error),
            _ => Err(ResolveError::Unreachable("not asked")),
        }
    }

    fn after(self, fetched: Result<DidDocument, ResolveError>, now_ms: i64) -> Self {
        match fetched {
            Ok(document) => Self { document: Some((Arc::new(document), now_ms)), failure: None, ..self },
            Err(error) if error.is_definite() => Self { document: None, failure: Some((error, now_ms)), ..self },
            Err(error) => Self { failure: Some((error, now_ms)), ..self },
        }
    }
}

/// A time that lies ahead means that the clock was set back: then nothing is within.
fn within(at_ms: i64, length_ms: i64, now_ms: i64) -> bool {
    (0..length_ms).contains(&(now_ms - at_ms))
}

/// The only way to a DID document.
pub struct Resolver {
    source: Box<dyn Source>,
    cache: Cache<Did, Entry>,
    refreshes: Budget,
    kept_back: Budget,
    clock: Clock,
    renewals: Renewals,
}

impl Resolver {
    pub fn new(source: impl Source, clock: Clock) -> Self {
        let cache = Cache::builder()
            .max_capacity(MAX_BYTES)
            .weigher(entry_weight)
            .time_to_live(Duration::from_millis(USABLE_MS.unsigned_abs()))
            .build();
        let [refreshes, kept_back] = std::array::from_fn(|_| Budget::new(REFRESHES, &LimitScope::of_process(&clock)));
        Self { source: Box::new(source), cache, refreshes, kept_back, clock, renewals: Renewals::default() }
    }

    /// The document, at most an hour old; at most a day while it cannot be renewed.
    pub async fn resolve(&self, did: &Did) -> Answer {
        self.resolve_within(did, FRESH_MS).await
    }

    /// The document, at most so many milliseconds old; at most a day while it cannot be renewed.
    pub async fn resolve_within(&self, did: &Did, fresh_ms: i64) -> Answer {
        let known = self.cache.get(did).await;
        if let Some(answer) = known.and_then(|entry| entry.answer(self.clock.now().0, fresh_ms)) {
            return answer;
        }
        self.fetch(did, Forced::No, fresh_ms).await
    }

    /// Whether the cache has no answer for this DID, so that its first mention costs a call.
    pub async fn is_new(&self, did: &Did) -> bool {
        let now_ms = self.clock.now().0;
        let entry = self.cache.get(did).await.unwrap_or_default();
        entry.answer(now_ms, FRESH_MS).is_none() && entry.best(now_ms).is_err()
    }

    /// Whether the cache has an answer of at most `fresh_ms`, so that no call is needed.
    pub async fn has_answer(&self, did: &Did, fresh_ms: i64) -> bool {
        let entry = self.cache.get(did).await.unwrap_or_default();
        entry.answer(self.clock.now().0, fresh_ms).is_some()
    }

    /// The cached answer, without a call. The resolver renews an answer that is older than `fresh_ms` in the
    /// background, for the next caller: an unresponsive directory delays no caller.
    pub async fn known_within(self: &Arc<Self>, did: &Did, fresh_ms: i64) -> Remembered {
        let now_ms = self.clock.now().0;
        let entry = self.cache.get(did).await.unwrap_or_default();
        if entry.answer(now_ms, fresh_ms).is_none()
            && let Some(slot) = self.renewals.begin(did)
        {
            let (resolver, did) = (Arc::clone(self), did.clone());
            tokio::spawn(async move {
                let _slot = slot;
                // A failure is remembered, like an answer.
                let _ = resolver.resolve_within(&did, fresh_ms).await;
            });
        }
        match entry.best(now_ms) {
            Ok(document) => Remembered::Document(document),
            Err(ResolveError::NotFound) => Remembered::NotFound,
            Err(_) => Remembered::Nothing,
        }
    }

    /// The cached answer, without a call; the resolver renews an answer that is older than an hour in the background.
    pub async fn known(self: &Arc<Self>, did: &Did) -> Remembered {
        self.known_within(did, FRESH_MS).await
    }

    /// The document as it is now, if this DID was not forced within the last minute, nor too many others within the last
    /// second; otherwise as it is known.
    pub async fn refresh(&self, did: &Did) -> Answer {
        self.fetch(did, Forced::Asked(&|| false), FRESH_MS).await
    }

    /// Fetches a document again, for a caller that may ask for little: such callers have a reserved part of the budget.
    /// `asks_little` is called only once the common part is spent.
    pub async fn refresh_for(&self, did: &Did, asks_little: &(dyn Fn() -> bool + Sync)) -> Answer {
        self.fetch(did, Forced::Asked(asks_little), FRESH_MS).await
    }

    /// Callers for the same DID queue up here, and each looks first whether the one before has brought what it wants.
    async fn fetch(&self, did: &Did, forced: Forced<'_>, fresh_ms: i64) -> Answer {
        let computed = self.cache.entry(did.clone()).and_compute_with(async |current| {
            let mut entry = current.map(moka::Entry::into_value).unwrap_or_default();
            let now_ms = self.clock.now().0;
            let answered = entry.answer(now_ms, fresh_ms).is_some();
            let spent = entry.forced_ms.is_some_and(|at| within(at, REFRESH_MS, now_ms));
            if let Forced::Asked(asks_little) = forced {
                if answered && (spent || !self.may_refresh(asks_little)) {
                    return Op::Nop;
                }
                entry.forced_ms = Some(now_ms);
            } else if answered {
                return Op::Nop;
            }
            let fetched = self.source.fetch(did).await;
            Op::Put(entry.after(fetched, self.clock.now().0))
        });
        match computed.await {
            CompResult::Inserted(entry) | CompResult::ReplacedWith(entry) | CompResult::Unchanged(entry) => {
                entry.into_value().best(self.clock.now().0)
            }
            CompResult::StillNone(_) | CompResult::Removed(_) => Err(ResolveError::Unreachable("not asked")),
        }
    }

    fn may_refresh(&self, asks_little: &(dyn Fn() -> bool + Sync)) -> bool {
        self.refreshes.take().refused_for.is_none() || asks_little() && self.kept_back.take().refused_for.is_none()
    }
}

/// Whether to fetch a document that is in the cache.
#[derive(Clone, Copy)]
enum Forced<'a> {
    No,
    /// Yes, for a caller that may be one of those that ask for little.
    Asked(&'a (dyn Fn() -> bool + Sync)),
}

#[cfg(test)]
pub(super) mod tests;
