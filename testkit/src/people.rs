//! People who talk: conversations of any size.

use std::sync::Arc;

use crate::Person;
use rookery::types::Did;
use rookery_client::{CallError, ClientError, Refused};

use crate::TestServer;

/// Accounts in one claim.
const TARGETS: usize = 20;

/// A fresh name for a call.
pub fn idem() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// A conversation of `size` people, all of them in the same epoch; the first is the founder.
pub async fn conversation(server: &TestServer, size: usize) -> (String, Vec<Arc<Person>>) {
    let mut people = vec![server.person("founder").await];
    for number in 1..size {
        people.push(server.newcomer(&format!("member {number}"), 2).await);
    }
    let stream = people[0].create_convo().await.unwrap();
    grow(&people, &stream).await;
    (stream, people)
}

/// The first adds all the others, who join and take in what happened.
pub async fn grow(people: &[Arc<Person>], stream: &str) {
    let others: Vec<Did> = people[1..].iter().map(|person| person.did().clone()).collect();
    for targets in others.chunks(TARGETS) {
        people[0].add_members(stream, targets).await.unwrap();
    }
    for person in &people[1..] {
        person.arrive(stream).await.unwrap();
    }
}

/// The device is vouched for by another of the account, and registers again with the certificate.
pub async fn certify(by: &Person, device: &Person) {
    let certificate = by.vouch_for(&device.keys()).await.unwrap();
    assert_eq!(device.register_vouched(certificate).await.unwrap().state, "certified");
}

/// Everything, page by page. Every page has something, and the last one has no cursor.
pub async fn paged<T>(page: impl AsyncFn(Option<String>) -> (Vec<T>, Option<String>)) -> Vec<T> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let (items, next) = page(cursor).await;
        assert!(!items.is_empty(), "a cursor leads to something");
        all.extend(items);
        cursor = next;
        if cursor.is_none() {
            return all;
        }
    }
}

/// The server's no, by this status and this name.
#[track_caller]
pub fn refused<T>(answer: Result<T, impl Into<ClientError>>, status: u16, error: &str) -> Box<Refused> {
    match answer.map_err(Into::into) {
        Ok(_) => panic!("expected {error}, but it was taken"),
        Err(ClientError::Call(CallError::Refused(refused))) => {
            assert_eq!((refused.status, refused.error.as_str()), (status, error), "{refused}");
            refused
        }
        Err(other) => panic!("expected {error}: {other}"),
    }
}

/// What a PDS would mint for the account of a person, at once.
pub trait AccountToken {
    fn service_token(&self, nsid: &str) -> String;
}

impl AccountToken for Person {
    fn service_token(&self, nsid: &str) -> String {
        self.account().service_token(self.service().did().as_str(), nsid, self.service().clock().now())
    }
}
