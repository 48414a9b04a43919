use rookery::lexicon::mls::leave_convo::{self, LeaveConvo};
use rookery::lexicon::mls::move_convo::{Input, MoveConvo, Output};
use rookery::types::Did;
use rookery_client::CallError;
use rookery_testkit::Person;

use crate::support::{TestServer, conversation, idem, refused};

fn order(stream: &str) -> Input {
    Input { stream: stream.to_owned(), idem: idem(), to: Did::parse("did:web:elsewhere.test").unwrap() }
}

async fn call(person: &Person, input: &Input) -> Result<Output, CallError> {
    person.procedure::<MoveConvo>(input).await
}

#[tokio::test]
async fn only_an_admin_moves_a_conversation_and_only_to_a_server_with_a_member() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let stranger = server.person("stranger").await;
    refused(call(&people[1], &order(&stream)).await, 403, "NotAuthorized");
    refused(call(&people[0], &order(&stream)).await, 403, "TransferRefused");
    let here = Input { to: TestServer::did(), ..order(&stream) };
    refused(call(&people[0], &here).await, 403, "TransferRefused");
    refused(call(&stranger, &order(&stream)).await, 404, "StreamNotFound");
    refused(call(&people[0], &order("sfqpona3sefnrzydeijvvzw6u54sydlha")).await, 404, "StreamNotFound");
    let own = people[0].register().await.unwrap().stream;
    refused(call(&people[0], &order(&own)).await, 404, "StreamNotFound");
    let second = server.second_device(&people[0]).await;
    refused(call(&second, &order(&stream)).await, 403, "DeviceUncertified");

    let leaving =
        leave_convo::Input { stream: stream.clone(), idem: idem(), new_admin: None, erase: None, immediate: None };
    people[2].procedure::<LeaveConvo>(&leaving).await.unwrap();
    refused(call(&people[2], &order(&stream)).await, 403, "NotMember");
    people[0].send(&stream, b"nothing has changed").await.unwrap();
    server.stop().await;
}
