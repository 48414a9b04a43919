use std::sync::Arc;

use rookery::lexicon::Nothing;
use rookery::lexicon::mls::list_invitations::{Invitation, ListInvitations};
use rookery_testkit::Person;

use crate::support::{Contacts, TestServer, refused};

pub async fn waiting(person: &Person) -> Vec<Invitation> {
    person.query::<ListInvitations>(&Nothing {}).await.unwrap().invitations
}

/// A conversation that Alice adds Bob to with packages from before he let nobody invite him.
pub async fn invited(alice: &Person, bob: &Person) -> String {
    let stream = alice.create_convo().await.unwrap();
    bob.invitations("everyone").await;
    let claimed = alice.claim(&stream, &[bob.did().clone()]).await.unwrap();
    bob.invitations("nobody").await;
    alice.change(&stream, &claimed, &[]).await.unwrap();
    stream
}

pub async fn two(server: &TestServer, packages: usize) -> (Arc<Person>, Arc<Person>) {
    (server.person("alice").await, server.newcomer("bob", packages).await)
}

#[tokio::test]
async fn who_takes_no_invitations_any_more_is_asked_and_sees_nothing_else() {
    let server = TestServer::start().await;
    let (alice, bob) = two(&server, 3).await;
    let (first, second) = (invited(&alice, &bob).await, invited(&alice, &bob).await);
    let listed = waiting(&bob).await;
    assert_eq!(listed.iter().map(|one| one.stream.as_str()).collect::<Vec<_>>(), [&second, &first], "the newest first");
    assert!(listed.iter().all(|one| one.inviter.as_ref() == Some(alice.did()) && one.home == TestServer::did()));
    assert_eq!(waiting(&alice).await, []);
    let welcomes = rookery::lexicon::mls::get_welcomes::Params { limit: 20, cursor: None };
    let welcomes = bob.query::<rookery::lexicon::mls::get_welcomes::GetWelcomes>(&welcomes).await.unwrap();
    assert_eq!(welcomes.welcomes, []);
    let convos = rookery::lexicon::mls::get_convos::Params { limit: 50, cursor: None };
    let convos = bob.query::<rookery::lexicon::mls::get_convos::GetConvos>(&convos).await.unwrap();
    assert_eq!(convos.convos, []);
    let convo = rookery::lexicon::mls::get_convo::Params { stream: first };
    refused(bob.query::<rookery::lexicon::mls::get_convo::GetConvo>(&convo).await, 404, "StreamNotFound");
    server.stop().await;
}

#[tokio::test]
async fn the_51st_invitation_pushes_out_the_oldest() {
    let server = TestServer::start().await;
    let (alice, bob) = two(&server, 2).await;
    let oldest = invited(&alice, &bob).await;
    let fill = "insert into invitation (account_id, stream, home, state, created_at, due_at)
        select a.id, 's' || n, 'did:web:b.example', 1, now(), now() from account a, generate_series(1, 49) n
        where a.did = $1";
    sqlx::query(fill).bind(bob.did().as_str()).execute(&mut server.database.connect().await).await.unwrap();
    assert_eq!(waiting(&bob).await.len(), 50);
    let newest = invited(&alice, &bob).await;
    let listed = waiting(&bob).await;
    assert_eq!(listed.len(), 50);
    assert_eq!(listed[0].stream, newest);
    assert!(listed.iter().all(|one| one.stream != oldest));
    server.stop().await;
}
