use rookery::lexicon::admin::list_actions::{ListActions, Params};
use rookery::lexicon::admin::name_admin::{Input, NameAdmin};
use rookery::lexicon::admin::suspend_account::{self, SuspendAccount};
use rookery_client::CallError;
use rookery_testkit::Person;

use crate::support::{TestServer, conversation, refused};

async fn name(operator: &Person, stream: &str, account: &Person) -> Result<(), CallError> {
    let input = Input { stream: stream.to_owned(), account: account.did().clone() };
    operator.procedure::<NameAdmin>(&input).await.map(|_| ())
}

#[tokio::test]
async fn an_operator_names_an_admin_only_where_none_can_act() {
    let (server, operator) = TestServer::start_with_operator().await;
    let (stream, people) = conversation(&server, 3).await;
    let stranger = server.newcomer("stranger", 0).await;
    refused(name(&operator, &stream, &people[1]).await, 409, "AdminRemains");
    let account = people[0].did().clone();
    let suspension = suspend_account::Input { account, suspended: true, reason: None };
    operator.procedure::<SuspendAccount>(&suspension).await.unwrap();

    refused(name(&operator, &stream, &stranger).await, 404, "MemberNotFound");
    refused(name(&operator, &stream, &people[0]).await, 404, "MemberNotFound");
    refused(name(&operator, "sfqpona3sefnrzydeijvvzw6u54sydlha", &people[1]).await, 404, "StreamNotFound");
    refused(name(&people[1], &stream, &people[1]).await, 403, "NotOperator");
    name(&operator, &stream, &people[1]).await.unwrap();
    name(&operator, &stream, &people[1]).await.unwrap();
    assert_eq!(people[1].convo(&stream).await.unwrap().role, "admin");
    refused(name(&operator, &stream, &people[2]).await, 409, "AdminRemains");
    people[1].arrive(&stream).await.unwrap();
    people[1].remove_members(&stream, &[people[0].did().clone()]).await.unwrap();

    let actions = operator.query::<ListActions>(&Params { limit: 50, cursor: None }).await.unwrap().actions;
    let done: Vec<&str> = actions.iter().map(|action| action.action.as_str()).collect();
    assert_eq!(done, ["suspendAccount", "nameAdmin"], "a repeat changes nothing");
    assert_eq!(actions[1].account.as_ref(), Some(people[1].did()));
    server.stop().await;
}
