use std::collections::BTreeSet;

use rookery::identity::{DEVICE_HEADER, DEVICE_TOKEN_HEADER};
use rookery::lexicon::Method;
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::admin::list_accounts::{ListAccounts, Params};
use rookery::lexicon::admin::suspend_account::{self, SuspendAccount};

use rookery_client::Service;
use serde_json::json;

use crate::support::{AccountToken, TestServer, certify, paged, refused};

#[tokio::test]
async fn an_operator_pages_through_all_accounts_with_their_states_and_devices() {
    let (server, operator) = TestServer::start_with_operator().await;
    let mut people = vec![operator.clone()];
    for name in ["alice", "bob", "carol", "dave"] {
        people.push(server.newcomer(name, 0).await);
    }
    let second = server.second_device(&people[1]).await;
    server.second_device(&people[1]).await;
    let device = second.device().to_string();
    people[1].procedure::<RevokeDevice>(&revoke_device::Input { device, revocation: None }).await.unwrap();
    let (account, reason) = (people[2].did().clone(), Some("sends spam".to_owned()));
    let input = suspend_account::Input { account, suspended: true, reason };
    operator.procedure::<SuspendAccount>(&input).await.unwrap();

    let accounts = paged(async |cursor| {
        let page = operator.query::<ListAccounts>(&Params { limit: 2, cursor }).await.unwrap();
        (page.accounts, page.cursor)
    })
    .await;
    let found: BTreeSet<_> = accounts.iter().map(|account| account.account.clone()).collect();
    assert_eq!(found, people.iter().map(|person| person.did().clone()).collect(), "each once");
    assert_eq!(accounts.len(), people.len());
    let of = |person: usize| accounts.iter().find(|account| account.account == *people[person].did()).unwrap();
    assert_eq!((of(1).state.as_str(), of(1).devices, &of(1).suspended_at), ("active", 2, &None));
    assert_eq!((of(2).state.as_str(), of(2).reason.as_deref()), ("suspended", Some("sends spam")));
    assert!(of(2).suspended_at.as_ref().unwrap() >= &of(2).created_at);
    server.stop().await;
}

#[tokio::test]
async fn an_operator_calls_by_a_certified_device_alone() {
    let (server, operator) = TestServer::start_with_operator().await;
    let alice = server.newcomer("alice", 0).await;
    let nsid = ListAccounts::NSID;
    let params = Params { limit: 50, cursor: None };
    assert_eq!(operator.query::<ListAccounts>(&params).await.unwrap().accounts.len(), 2);
    let session = operator.service_token(nsid);
    let alone = server.raw(nsid, "").token(&session).send().await;
    assert_eq!(alone.outcome(), (401, "DeviceProofRequired"));
    let session = operator.service_token(nsid);
    let named = server.raw(nsid, "").token(&session).header(DEVICE_HEADER, operator.device().as_str());
    assert_eq!(named.send().await.outcome(), (401, "DeviceProofRequired"));
    let (session, proof) = (operator.service_token(nsid), operator.token(nsid));
    let proven = server.raw(nsid, "").token(&session).header(DEVICE_TOKEN_HEADER, &proof);
    assert_eq!(proven.send().await.outcome().0, 200);

    let suspend = SuspendAccount::NSID;
    let input = json!({ "account": alice.did(), "suspended": true });
    let session = server.raw(suspend, "").token(&operator.service_token(suspend)).json(&input).send().await;
    assert_eq!(session.outcome(), (401, "DeviceProofRequired"));
    let unbound = server.raw(suspend, "").token(&operator.token(suspend)).json(&input).send().await;
    assert_eq!(unbound.outcome(), (401, "BadJwtBodyHash"), "a write is bound to its body");

    let second = server.second_device(&operator).await;
    refused(second.query::<ListAccounts>(&params).await, 403, "NotOperator");
    certify(&operator, &second).await;
    assert_eq!(second.query::<ListAccounts>(&params).await.unwrap().accounts.len(), 2);
    refused(alice.query::<ListAccounts>(&params).await, 403, "NotOperator");
    server.stop().await;
}

#[tokio::test]
async fn a_device_of_a_later_chain_acts_only_if_settings_name_it() {
    let (server, operator) = TestServer::start_with_operator().await;
    let params = Params { limit: 50, cursor: None };
    // Calls that an app with the operator's session can make.
    let input = revoke_device::Input { device: operator.device().to_string(), revocation: None };
    let token = || Some(operator.service_token(RevokeDevice::NSID));
    operator.service().procedure::<RevokeDevice>(&input, token).await.unwrap();
    let next = server.next_device(&operator).await;
    assert_eq!(next.register().await.unwrap().state, "certified");
    refused(next.query::<ListAccounts>(&params).await, 403, "OperatorDeviceUnknown");

    let settings = [("OPERATOR_DIDS", operator.did().as_str()), ("OPERATOR_DEVICES", next.device().as_str())];
    let named = server.replica_with(&settings).await;
    let token = || Some(next.token(ListAccounts::NSID));
    let there = Service::new(&format!("http://{}", named.address()), TestServer::did()).unwrap();
    assert_eq!(there.query::<ListAccounts>(&params, token).await.unwrap().accounts.len(), 1);
    named.stop().await.unwrap();
    server.stop().await;
}
