use rookery::lexicon::admin::list_actions::{Action, ListActions, Params};
use rookery::lexicon::admin::put_peer::{self, PutPeer};
use rookery::lexicon::admin::suspend_account::{self, SuspendAccount};
use rookery::types::{Did, Hash};
use rookery_testkit::Person;

use crate::support::{TestServer, paged, refused};

async fn suspend(operator: &Person, account: &Did, suspended: bool) {
    let reason = suspended.then(|| "sends spam".to_owned());
    let input = suspend_account::Input { account: account.clone(), suspended, reason };
    operator.procedure::<SuspendAccount>(&input).await.unwrap();
}

async fn actions(operator: &Person) -> Vec<Action> {
    paged(async |cursor| {
        let page = operator.query::<ListActions>(&Params { limit: 2, cursor }).await.unwrap();
        (page.actions, page.cursor)
    })
    .await
}

#[tokio::test]
async fn actions_of_operators_are_recorded_once_and_in_order() {
    let (server, operator) = TestServer::start_with_operator().await;
    let alice = server.newcomer("alice", 0).await;
    let peer = Did::parse("did:web:peer.example").unwrap();
    suspend(&operator, alice.did(), true).await;
    suspend(&operator, alice.did(), true).await;
    suspend(&operator, alice.did(), false).await;
    let policy = Some("blocked".to_owned());
    let decision = put_peer::Input { server: peer.clone(), policy, accept_key: None, refuse_key: None };
    operator.procedure::<PutPeer>(&decision).await.unwrap();
    let unknown = suspend_account::Input { account: peer, suspended: true, reason: None };
    refused(operator.procedure::<SuspendAccount>(&unknown).await, 404, "AccountNotFound");
    let (said, done) = server.command(&["account", "allow", alice.did().as_str()]).await;
    assert!(done, "{said}");

    let found = actions(&operator).await;
    let names: Vec<&str> = found.iter().map(|action| action.action.as_str()).collect();
    assert_eq!(names, ["suspendAccount", "resumeAccount", "setPeerPolicy", "allowAccount"], "a repeat changes nothing");
    assert_eq!(found.iter().map(|action| action.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let device = format!("{} {}", operator.did(), operator.device());
    assert!(found[..3].iter().all(|action| action.by == device), "{found:?}");
    assert!(found[3].by.starts_with("command line, uid "), "{}", found[3].by);
    assert_eq!(found[0].account.as_ref(), Some(alice.did()));
    for action in &found {
        let hash = Hash::labelled("rookery operator action v1", action.statement.as_slice());
        assert_eq!(action.hash.as_slice(), hash.as_slice());
    }
    for pair in found.windows(2) {
        let names_it = pair[1].statement.as_slice().windows(32).any(|bytes| bytes == pair[0].hash.as_slice());
        assert!(names_it, "a record holds the hash of the one before");
    }
    refused(alice.query::<ListActions>(&Params { limit: 50, cursor: None }).await, 403, "NotOperator");
    server.stop().await;
}

#[tokio::test]
async fn a_changed_or_removed_record_is_found() {
    let (server, operator) = TestServer::start_with_operator().await;
    let alice = server.newcomer("alice", 0).await;
    for suspended in [true, false, true] {
        suspend(&operator, alice.did(), suspended).await;
    }
    let (said, done) = server.command(&["actions"]).await;
    assert!(done && said.lines().count() == 4 && said.contains("reason: sends spam"), "{said}");

    let mut database = server.database.connect().await;
    for refused in [
        "update operator_action set account = null",
        "delete from operator_action where seq = 2",
        "truncate operator_action",
    ] {
        let error = sqlx::query(refused).execute(&mut database).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
    // Only an owner of the database can do this.
    let unlocked = "alter table operator_action disable trigger user";
    sqlx::query(unlocked).execute(&mut database).await.unwrap();
    let changed = "update operator_action set statement = statement || '\\x00' where seq = 2";
    sqlx::query(changed).execute(&mut database).await.unwrap();
    let (said, done) = server.command(&["actions"]).await;
    assert!(!done && said.contains("record 2"), "{said}");
    sqlx::query("delete from operator_action where seq = 2").execute(&mut database).await.unwrap();
    let (said, done) = server.command(&["actions"]).await;
    assert!(!done && said.contains("record 2 is missing"), "{said}");
    server.stop().await;
}
