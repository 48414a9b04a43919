use rookery::lexicon::mls::get_key_packages::{Account, GetKeyPackages, Params, Suite};
use rookery::types::Did;
use rookery_testkit::Person;

use crate::support::{Contacts, TestServer, certify, conversation, refused};

async fn offered(by: &Person, accounts: &[&Did]) -> Vec<Account> {
    let params = Params { accounts: accounts.iter().map(|did| (*did).clone()).collect() };
    by.query::<GetKeyPackages>(&params).await.unwrap().accounts
}

#[tokio::test]
async fn asking_what_is_offered_consumes_nothing() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 2).await);
    bob.publish(0, true).await.unwrap();
    for _ in 0..3 {
        let accounts = offered(&alice, &[bob.did()]).await;
        assert_eq!(accounts.len(), 1);
        assert_eq!(accounts[0].devices[0].device, bob.device().as_str());
        let suite = Suite { cipher_suite: 1, available: 2, last_resort: true };
        assert_eq!(accounts[0].devices[0].cipher_suites, [suite]);
    }
    let stream = alice.create_convo().await.unwrap();
    alice.claim(&stream, &[bob.did().clone()]).await.unwrap();
    assert_eq!(offered(&alice, &[bob.did()]).await[0].devices[0].cipher_suites[0].available, 1);
    server.stop().await;
}

#[tokio::test]
async fn there_is_one_item_for_each_account_in_the_order_asked() {
    let server = TestServer::start().await;
    let alice = server.newcomer("alice", 0).await;
    let nobody = server.account();
    let mut people = Vec::new();
    for number in 0..6 {
        people.push(server.newcomer(&format!("person {number}"), 1).await);
    }
    let mut asked: Vec<&Did> = people.iter().map(|person| person.did()).collect();
    asked.insert(3, &nobody.did);
    let answered = offered(&alice, &asked).await;
    let accounts: Vec<&Did> = answered.iter().map(|account| &account.account).collect();
    assert_eq!(accounts, asked);
    assert_eq!(answered[3].devices, [], "an account that is not here offers nothing");
    server.stop().await;
}

#[tokio::test]
async fn devices_are_shown_to_inviters_and_members_of_shared_streams() {
    let server = TestServer::start().await;
    let (_, people) = conversation(&server, 2).await;
    let (alice, bob, stranger) = (&people[0], &people[1], server.newcomer("stranger", 0).await);
    let shown = async |by: &Person| offered(by, &[bob.did()]).await[0].devices.len();
    assert_eq!((shown(alice).await, shown(bob).await, shown(&stranger).await), (1, 1, 1));
    bob.invitations("nobody").await;
    assert_eq!(
        (shown(alice).await, shown(bob).await),
        (1, 1),
        "visible to members of a shared conversation, and to itself"
    );
    assert_eq!(shown(&stranger).await, 0, "as if the account were not here");
    bob.block(alice, true).await;
    assert_eq!(shown(alice).await, 0, "a block goes before everything");
    server.stop().await;
}

#[tokio::test]
async fn uncertified_devices_are_not_shown() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 1).await);
    let second = server.second_device(&bob).await;
    assert_eq!(offered(&alice, &[bob.did()]).await[0].devices.len(), 1);
    certify(&bob, &second).await;
    assert_eq!(offered(&alice, &[bob.did()]).await[0].devices.len(), 2);
    let many = Params { accounts: vec![bob.did().clone(); 21] };
    refused(alice.query::<GetKeyPackages>(&many).await, 400, "InvalidRequest");
    let none = Params { accounts: vec![] };
    refused(alice.query::<GetKeyPackages>(&none).await, 400, "InvalidRequest");
    server.stop().await;
}
