use std::collections::BTreeSet;

use rookery::lexicon::Method;
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::admin::list_accounts::{ListAccounts, Params};
use rookery::lexicon::admin::suspend_account::{self, SuspendAccount};

use crate::support::{AccountToken, TestServer, paged, refused};

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
async fn an_operator_calls_by_a_service_token_and_nobody_else_does() {
    let (server, operator) = TestServer::start_with_operator().await;
    let alice = server.newcomer("alice", 0).await;
    let params = Params { limit: 50, cursor: None };
    let token = || Some(operator.service_token(ListAccounts::NSID));
    assert_eq!(operator.service().query::<ListAccounts>(&params, token).await.unwrap().accounts.len(), 2);
    refused(alice.query::<ListAccounts>(&params).await, 403, "NotOperator");
    let token = || Some(alice.service_token(ListAccounts::NSID));
    refused(alice.service().query::<ListAccounts>(&params, token).await, 403, "NotOperator");
    server.stop().await;
}
