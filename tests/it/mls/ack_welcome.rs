use rookery::lexicon::mls::ack_welcome::{AckWelcome, Input};
use rookery::lexicon::mls::get_welcomes::{self, GetWelcomes};
use rookery_testkit::Person;

use crate::support::{TestServer, refused};

async fn waiting(person: &Person) -> Vec<String> {
    let page = person.query::<GetWelcomes>(&get_welcomes::Params { limit: 20, cursor: None }).await.unwrap();
    page.welcomes.into_iter().map(|welcome| welcome.id).collect()
}

fn ack(id: &str, accepted: bool) -> Input {
    Input { id: id.to_owned(), accepted, reason: (!accepted).then(|| "no private key".to_owned()) }
}

#[tokio::test]
async fn the_first_word_on_a_welcome_stays_and_a_second_one_says_yes() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 2).await);
    for _ in 0..2 {
        let stream = alice.create_convo().await.unwrap();
        alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
    }
    let ids = waiting(&bob).await;
    bob.procedure::<AckWelcome>(&ack(&ids[0], false)).await.unwrap();
    assert_eq!(waiting(&bob).await, ids[1..], "one that was rejected is not shown again");
    for accepted in [false, true] {
        bob.procedure::<AckWelcome>(&ack(&ids[0], accepted)).await.unwrap();
    }
    bob.procedure::<AckWelcome>(&ack(&ids[1], true)).await.unwrap();
    bob.procedure::<AckWelcome>(&ack(&ids[1], true)).await.unwrap();
    assert_eq!(waiting(&bob).await, Vec::<String>::new());

    let kept = sqlx::query_as::<_, (String, Option<String>)>("select state, reason from welcome_pointer order by id");
    let kept = kept.fetch_all(&mut server.database.connect().await).await.unwrap();
    let reason = Some("no private key".to_owned());
    assert_eq!(kept, [("rejected".to_owned(), reason), ("accepted".to_owned(), None)]);
    server.stop().await;
}

#[tokio::test]
async fn a_welcome_of_another_device_is_not_found() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 1).await);
    let second = server.second_device(&bob).await;
    let stream = alice.create_convo().await.unwrap();
    alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
    let id = waiting(&bob).await.remove(0);
    for (other, id) in [(&alice, id.as_str()), (&second, &id), (&bob, "4711")] {
        refused(other.procedure::<AckWelcome>(&ack(id, true)).await, 404, "WelcomeNotFound");
    }
    refused(bob.procedure::<AckWelcome>(&ack("x", true)).await, 400, "InvalidRequest");
    assert_eq!(waiting(&bob).await, [id]);
    server.stop().await;
}
