//! `account.registerDevice`: whose first device is taken, by `ACCOUNTS`.

use std::sync::Arc;

use rookery::api::account::admission;
use rookery::lexicon::account::register_device::{Input, Output};
use rookery::types::{Clock, UnixMillis};
use rookery_client::CallError;

use crate::support::{Handmade, TestServer, at_once, refused};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn newcomer(server: &TestServer) -> Handmade {
    Handmade::new(server, server.account())
}

async fn come(device: &Handmade, invite: &str) -> Result<Output, CallError> {
    device.register_with(&Input { invite: Some(invite.to_owned()), ..device.registration() }).await
}

/// As `rookery account invite` makes one.
async fn invite(server: &TestServer, clock: &Clock, uses: u16, days: i64) -> String {
    let now = clock.now();
    let expires_at = UnixMillis(now.0 + days * DAY_MS);
    let mut tx = server.server().services().storage.begin().await.unwrap();
    let code = admission::invite(tx.conn(), uses, expires_at, now).await.unwrap();
    tx.commit().await.unwrap();
    code
}

#[tokio::test]
async fn a_server_that_is_open_asks_for_no_invite() {
    let server = TestServer::start().await;
    assert!(newcomer(&server).register().await.is_ok());
    assert!(come(&newcomer(&server), "whatever it is").await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn with_a_list_only_who_is_on_it_registers_and_whoever_is_here_stays() {
    let early = TestServer::start().await;
    let here = newcomer(&early);
    here.register().await.unwrap();
    let server = early.replica_with(&[("ACCOUNTS", "allowlist")]).await;
    let at = |device: &Handmade| device.at(&format!("http://{}", server.address()));

    let (named, stranger) = (at(&newcomer(&early)), at(&newcomer(&early)));
    refused(named.register().await, 403, "AccountNotAllowed");
    for _ in 0..2 {
        let mut tx = server.services().storage.begin().await.unwrap();
        admission::allow(tx.conn(), named.did(), Clock::System.now()).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(named.register().await.unwrap().state, "certified");
    refused(stranger.register().await, 403, "AccountNotAllowed");
    refused(come(&stranger, "an invite").await, 403, "AccountNotAllowed");
    assert_eq!(at(&here).register().await.unwrap().state, "certified", "the same device again");
    let second = at(&Handmade::new(&early, Arc::clone(&here.account)));
    assert_eq!(second.register().await.unwrap().state, "uncertified", "another device of an account that is here");
    server.stop().await.unwrap();
    early.stop().await;
}

#[tokio::test]
async fn an_invite_lets_in_as_many_accounts_as_it_says_until_it_expires() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[("ACCOUNTS", "invite")]).await;
    let (single, double) = (invite(&server, &clock, 1, 7).await, invite(&server, &clock, 2, 7).await);
    let first = newcomer(&server);
    let invalid = |answer| refused(answer, 403, "InviteInvalid");

    invalid(first.register().await);
    invalid(come(&first, "invite-aaaaaaaaaaaaaaaaaaaaaaaaaa").await);
    invalid(come(&first, &single.to_uppercase()).await);
    let bad = Input { invite: Some(single.clone()), ..first.registration() };
    refused(first.register_proven(&bad, |_| "x".to_owned()).await, 400, "DeviceProofInvalid");
    assert!(come(&first, &single).await.is_ok(), "a registration that failed used up nothing");
    assert!(come(&first, &single).await.is_ok(), "the same call again");
    assert!(first.register().await.is_ok(), "whoever is here needs none");
    invalid(come(&newcomer(&server), &single).await);

    assert!(come(&newcomer(&server), &double).await.is_ok());
    assert!(come(&newcomer(&server), &double).await.is_ok());
    invalid(come(&newcomer(&server), &double).await);

    let late = invite(&server, &clock, 1, 7).await;
    clock.advance_ms(7 * DAY_MS);
    invalid(come(&newcomer(&server), &late).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_come_at_once_by_one_invite_one_gets_in() {
    let server = TestServer::start_with(&[("ACCOUNTS", "invite")]).await;
    let code = invite(&server, &Clock::System, 1, 7).await;
    let comers: Vec<_> = (0..8).map(|_| newcomer(&server)).collect();
    let calls = comers.into_iter().map(|device| {
        let code = code.clone();
        async move { come(&device, &code).await }
    });
    let answers = at_once(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in answers.into_iter().filter(Result::is_err) {
        refused(answer, 403, "InviteInvalid");
    }
    let known =
        "select (select count(*) from account), (select count(*) from invite where code_hash = convert_to($1, 'UTF8'))";
    let known: (i64, i64) =
        sqlx::query_as(known).bind(&code).fetch_one(&mut server.database.connect().await).await.unwrap();
    assert_eq!(known, (1, 0), "one account, and the code itself is kept nowhere");
    server.stop().await;
}
