use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{DidDocument, Remembered, ResolveError, Resolver, Source};
use crate::identity::keys::{Curve, PublicKey};
use crate::identity::signing::SigningKey;
use crate::types::{Clock, Did, UnixMillis};

/// A directory in memory: one answer for every DID, and a count of questions.
#[derive(Clone)]
pub struct Directory {
    key: Arc<Mutex<Result<PublicKey, ResolveError>>>,
    asked: Arc<AtomicUsize>,
}

impl Directory {
    pub fn new(key: PublicKey) -> Self {
        Self { key: Arc::new(Mutex::new(Ok(key))), asked: Arc::default() }
    }

    pub fn set(&self, answer: Result<PublicKey, ResolveError>) {
        *self.key.lock().unwrap() = answer;
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Source for Directory {
    fn fetch<'a>(&'a self, did: &'a Did) -> BoxFuture<'a, Result<DidDocument, ResolveError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            let key = self.key.lock().unwrap().clone()?;
            let json = serde_json::json!({ "id": did, "verificationMethod": [
                { "id": "#atproto", "type": "Multikey", "publicKeyMultibase": key.multikey() },
            ] });
            Ok(DidDocument::parse(did, json.to_string().as_bytes()).unwrap())
        })
    }
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DOWN: ResolveError = ResolveError::Unreachable("test");

fn key() -> PublicKey {
    SigningKey::generate(Curve::K256).public()
}

fn start() -> (Directory, Resolver, Clock, Did) {
    let (directory, clock) = (Directory::new(key()), Clock::manual(UnixMillis(1_795_000_000_000)));
    let resolver = Resolver::new(directory.clone(), clock.clone());
    (directory, resolver, clock, Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap())
}

#[tokio::test]
async fn a_document_is_fresh_for_an_hour() {
    let (directory, resolver, clock, did) = start();
    let first = resolver.resolve(&did).await.unwrap();
    let second_key = key();
    directory.set(Ok(second_key.clone()));
    clock.advance_ms(HOUR_MS - 1);
    assert_eq!(resolver.resolve(&did).await.unwrap(), first);
    assert_eq!(directory.asked(), 1);
    clock.advance_ms(1);
    assert_eq!(resolver.resolve(&did).await.unwrap().atproto_key, Some(second_key));
    assert_eq!(directory.asked(), 2);
}

#[tokio::test]
async fn a_document_that_cannot_be_renewed_serves_a_day_and_the_directory_is_asked_once_a_minute() {
    let (directory, resolver, clock, did) = start();
    resolver.resolve(&did).await.unwrap();
    directory.set(Err(DOWN));
    clock.advance_ms(HOUR_MS);
    for _ in 0..3 {
        assert!(resolver.resolve(&did).await.is_ok());
    }
    assert_eq!(directory.asked(), 2);
    clock.advance_ms(MINUTE_MS);
    assert!(resolver.resolve(&did).await.is_ok());
    assert_eq!(directory.asked(), 3);
    clock.advance_ms(23 * HOUR_MS);
    assert_eq!(resolver.resolve(&did).await, Err(DOWN));
}

#[tokio::test]
async fn a_definite_no_ends_an_older_document_at_once_and_is_remembered_for_a_minute() {
    let (directory, resolver, clock, did) = start();
    resolver.resolve(&did).await.unwrap();
    directory.set(Err(ResolveError::NotFound));
    assert_eq!(resolver.refresh(&did).await, Err(ResolveError::NotFound));
    directory.set(Ok(key()));
    clock.advance_ms(MINUTE_MS - 1);
    assert_eq!(resolver.resolve(&did).await, Err(ResolveError::NotFound));
    clock.advance_ms(1);
    assert!(resolver.resolve(&did).await.is_ok());
}

#[tokio::test]
async fn many_callers_at_once_cost_one_fetch_whether_it_succeeds_or_fails() {
    for answer in [Ok(key()), Err(DOWN)] {
        let (directory, resolver, _, did) = start();
        directory.set(answer.clone());
        let callers = (0..20).map(|_| resolver.resolve(&did));
        for found in futures_util::future::join_all(callers).await {
            assert_eq!(found.is_ok(), answer.is_ok());
        }
        assert_eq!(directory.asked(), 1);
    }
}

#[tokio::test]
async fn a_refresh_is_forced_once_a_minute_and_keeps_the_old_document_if_it_fails() {
    let (directory, resolver, clock, did) = start();
    let first = resolver.resolve(&did).await.unwrap();
    let second_key = key();
    directory.set(Ok(second_key.clone()));
    for _ in 0..3 {
        assert_eq!(resolver.refresh(&did).await.unwrap().atproto_key, Some(second_key.clone()));
    }
    assert_eq!(directory.asked(), 2);
    assert_ne!(first.atproto_key, Some(second_key.clone()));
    clock.advance_ms(MINUTE_MS);
    directory.set(Err(DOWN));
    assert_eq!(resolver.refresh(&did).await.unwrap().atproto_key, Some(second_key));
    assert_eq!(directory.asked(), 3);
}

#[tokio::test]
async fn what_is_known_is_told_at_once_and_renewed_for_the_next_to_ask() {
    let (directory, resolver, clock, did) = start();
    let resolver = Arc::new(resolver);
    assert!(matches!(resolver.known(&did).await, Remembered::Nothing), "no caller waited for the directory");
    let key_of = async || match resolver.known(&did).await {
        Remembered::Document(document) => document.atproto_key.clone(),
        _ => None,
    };
    let eventually = async |key: Option<PublicKey>| {
        for _ in 0..200 {
            if key_of().await == key {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it was never renewed");
    };
    let first = directory.key.lock().unwrap().clone().unwrap();
    eventually(Some(first.clone())).await;
    assert_eq!(directory.asked(), 1);

    clock.advance_ms(HOUR_MS);
    let second = key();
    directory.set(Ok(second.clone()));
    assert_eq!(key_of().await, Some(first));
    eventually(Some(second)).await;

    directory.set(Err(DOWN));
    clock.advance_ms(2 * HOUR_MS);
    assert!(key_of().await.is_some(), "the reading is a day old at most");
    clock.advance_ms(24 * HOUR_MS);
    assert!(matches!(resolver.known(&did).await, Remembered::Nothing));

    directory.set(Err(ResolveError::NotFound));
    clock.advance_ms(MINUTE_MS);
    for _ in 0..200 {
        if matches!(resolver.known(&did).await, Remembered::NotFound) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the definite answer never arrived");
}

#[tokio::test]
async fn a_failure_without_a_document_is_remembered_five_seconds() {
    let (directory, resolver, clock, did) = start();
    directory.set(Err(DOWN));
    for _ in 0..3 {
        assert_eq!(resolver.resolve(&did).await, Err(DOWN));
    }
    assert_eq!(directory.asked(), 1);
    directory.set(Ok(key()));
    clock.advance_ms(i64::try_from(super::RETRY_AFTER_S * 1000).unwrap());
    assert!(resolver.resolve(&did).await.is_ok());
    assert_eq!(directory.asked(), 2);
}

/// Documents with as many long names as the reader keeps.
struct LargeDocuments;

impl Source for LargeDocuments {
    fn fetch<'a>(&'a self, did: &'a Did) -> BoxFuture<'a, Result<DidDocument, ResolveError>> {
        Box::pin(async move {
            let names: Vec<_> = (0..8).map(|number| format!("at://a{number}.{}", "x".repeat(240))).collect();
            let json = serde_json::json!({ "id": did, "alsoKnownAs": names });
            Ok(DidDocument::parse(did, json.to_string().as_bytes()).unwrap())
        })
    }
}

#[tokio::test]
async fn remembered_documents_stay_below_32_mib() {
    let resolver = Resolver::new(LargeDocuments, Clock::manual(UnixMillis(1_795_000_000_000)));
    for number in 0..20_000 {
        resolver.resolve(&Did::parse(&format!("did:web:a{number}.evil.example")).unwrap()).await.unwrap();
    }
    resolver.cache.run_pending_tasks().await;
    let (kept, weight) = (resolver.cache.entry_count(), resolver.cache.weighted_size());
    assert!(weight <= super::MAX_BYTES && weight > super::MAX_BYTES / 2, "{weight} bytes");
    assert!(kept * 8 * 240 <= super::MAX_BYTES, "{kept} documents");
}

#[tokio::test]
async fn callers_that_refresh_little_keep_a_reserved_budget() {
    let (directory, resolver, _, _) = start();
    let dids: Vec<Did> = (0..100).map(|number| Did::parse(&format!("did:web:a{number}.example")).unwrap()).collect();
    for did in &dids {
        resolver.resolve(did).await.unwrap();
    }
    let before = directory.asked();
    for did in &dids[..99] {
        resolver.refresh_for(did, &|| false).await.unwrap();
    }
    let spent = usize::try_from(super::REFRESHES.quantity.get()).unwrap();
    assert_eq!(directory.asked(), before + spent);
    let rotated = key();
    directory.set(Ok(rotated.clone()));
    assert_eq!(resolver.refresh_for(&dids[99], &|| true).await.unwrap().atproto_key, Some(rotated));
}

/// `*.stalls.example` never answers.
struct Stalling(Directory);

impl Source for Stalling {
    fn fetch<'a>(&'a self, did: &'a Did) -> BoxFuture<'a, Result<DidDocument, ResolveError>> {
        if did.as_str().ends_with(".stalls.example") { Box::pin(std::future::pending()) } else { self.0.fetch(did) }
    }
}

#[tokio::test]
async fn hosts_that_stall_hold_back_no_other_renewal() {
    let clock = Clock::manual(UnixMillis(1_795_000_000_000));
    let resolver = Arc::new(Resolver::new(Stalling(Directory::new(key())), clock));
    for number in 0..100 {
        let did = Did::parse(&format!("did:web:a{number}.stalls.example")).unwrap();
        assert!(matches!(resolver.known(&did).await, Remembered::Nothing));
    }
    for did in ["did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:web:honest.test"] {
        let did = Did::parse(did).unwrap();
        let renewed = async {
            while !matches!(resolver.known(&did).await, Remembered::Document(_)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), renewed).await.unwrap();
    }
}

#[tokio::test]
async fn a_thousand_refreshes_of_a_thousand_dids_cost_what_a_second_allows() {
    let (directory, resolver, clock, _) = start();
    let dids: Vec<Did> = (0..1000).map(|number| Did::parse(&format!("did:web:a{number}.example")).unwrap()).collect();
    futures_util::future::join_all(dids.iter().map(|did| resolver.resolve(did))).await;
    assert_eq!(directory.asked(), 1000);
    let budget = usize::try_from(super::REFRESHES.quantity.get()).unwrap();
    for second in 1..=2 {
        for answer in futures_util::future::join_all(dids.iter().map(|did| resolver.refresh(did))).await {
            assert!(answer.is_ok(), "what is known is answered");
        }
        assert_eq!(directory.asked(), 1000 + second * budget);
        clock.advance_ms(1000);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_leave_the_others_waiting() {
    let (directory, resolver, _, did) = start();
    tokio::select! {
        biased;
        found = resolver.resolve(&did) => panic!("found before the directory answered: {found:?}"),
        () = std::future::ready(()) => {}
    }
    assert!(resolver.resolve(&did).await.is_ok());
    assert_eq!(directory.asked(), 2);
}
