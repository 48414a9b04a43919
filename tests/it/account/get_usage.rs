use std::sync::Arc;
use std::time::Duration;

use rookery::lexicon::account::get_usage::{GetUsage, Params};
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::mls::leave_convo::{self, LeaveConvo};
use rookery_client::{CallError, ClientError};
use rookery_testkit::Person;

use crate::support::{TestServer, conversation, idem, refused, write_messages};

const BODY: usize = 20_000;
/// Totals that were read are good for five seconds.
const READ_AGAIN: Duration = Duration::from_millis(5_500);

/// Used and limit of one quota.
async fn usage(person: &Person, name: &str) -> (u64, u64) {
    let answer = person.query::<GetUsage>(&Params {}).await.unwrap();
    let quota = answer.quotas.into_iter().find(|quota| quota.name == name).unwrap();
    (quota.used, quota.limit)
}

async fn measure(server: &TestServer) {
    server.settled().await;
    let services = server.server().services();
    services.quotas.measure(services.clock.now()).await.unwrap();
}

/// Sends until the server refuses; answers how many messages it took.
async fn fill(person: &Arc<Person>, stream: &str) -> usize {
    for sent in 0..1_000 {
        match person.send(stream, &vec![7; BODY]).await {
            Ok(_) => {}
            Err(error) => {
                let refused = refused::<()>(Err(error), 403, "QuotaExceeded");
                assert!(refused.body["limit"].as_u64().is_some() && refused.body["quota"].is_string(), "{refused:?}");
                return sent;
            }
        }
    }
    panic!("nothing is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_refused_above_its_quota_of_bytes() {
    let server = TestServer::start_with(&[("QUOTA_ACCOUNT_BYTES", "1000000")]).await;
    let (stream, people) = conversation(&server, 2).await;
    let bob = &people[1];
    assert!(usage(bob, "accountBytes").await.0 > 0, "key packages count");
    let sent = fill(bob, &stream).await;
    // A megabyte and a tenth, in bodies of base64 with JSON around.
    assert!((30..=45).contains(&sent), "{sent} messages");
    let (used, limit) = usage(bob, "accountBytes").await;
    assert!(limit == 1_000_000 && used > 900_000 && used <= 1_100_000, "{used}");
    people[0].send(&stream, b"somebody else's quota").await.unwrap();

    // What the worker sums is what is there: no base64, no JSON.
    measure(&server).await;
    let (used, _) = usage(bob, "accountBytes").await;
    let written = (sent * BODY) as u64;
    assert!(used > written && used < written + 200_000, "{used} of {written}");

    // What frees space and takes rights away is always taken.
    fill(bob, &stream).await;
    let leaving = leave_convo::Input { stream, idem: idem(), new_admin: None, erase: Some(true), immediate: None };
    bob.procedure::<LeaveConvo>(&leaving).await.unwrap();
    let revoking = revoke_device::Input { device: bob.device().to_string(), revocation: None };
    bob.procedure::<RevokeDevice>(&revoking).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_messages_give_their_quota_back() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let bob = &people[1];
    let mut database = server.database.connect().await;
    write_messages(&mut database, &stream, bob.did(), 1_000, &[7; 1_000]).await;
    bob.send(&stream, b"counted").await.unwrap();
    measure(&server).await;
    let before = usage(bob, "accountBytes").await.0;
    assert!(before > 1_000_000, "{before}");
    let held = "select size_bytes - coalesce((select freed_bytes from stream_freed f where f.stream_id = s.id), 0)
                from stream s where public_id = $1";

    let leaving = leave_convo::Input {
        stream: stream.clone(),
        idem: idem(),
        new_admin: None,
        erase: Some(true),
        immediate: None,
    };
    bob.procedure::<LeaveConvo>(&leaving).await.unwrap();
    while sqlx::query_scalar::<_, i64>("select count(*) from erasure_job").fetch_one(&mut database).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    measure(&server).await;
    tokio::time::sleep(READ_AGAIN).await;
    let after = usage(bob, "accountBytes").await.0;
    assert!(after + 1_000_000 < before, "{after} after {before}");
    let held: i64 = sqlx::query_scalar(held).bind(&stream).fetch_one(&mut database).await.unwrap();
    // The rows that the test wrote behind the server's back were never added.
    assert!(held < 0, "{held}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_refused_above_its_quota() {
    let server = TestServer::start_with(&[("QUOTA_CONVO_BYTES", "300000")]).await;
    let (full, people) = conversation(&server, 3).await;
    let sent = fill(&people[1], &full).await;
    assert!((5..=14).contains(&sent), "{sent} messages");
    refused::<()>(people[0].send(&full, &vec![7; BODY]).await.map(|_| ()), 403, "QuotaExceeded");
    // Who is in it still decides who is in it.
    people[0].remove_members(&full, &[people[2].did().clone()]).await.unwrap();
    let other = people[0].create_convo().await.unwrap();
    people[0].send(&other, b"another conversation").await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_refused_above_its_quota_of_entries() {
    let server = TestServer::start_with(&[("QUOTA_CONVO_ENTRIES", "20")]).await;
    let (stream, people) = conversation(&server, 2).await;
    let before = people[0].entries(&stream, 0).await.unwrap().len();
    assert_eq!(before + fill(&people[1], &stream).await, 20);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_gives_one_account_more() {
    let server = TestServer::start_with(&[("QUOTA_ACCOUNT_BYTES", "300000")]).await;
    let (stream, people) = conversation(&server, 2).await;
    let bob = &people[1];
    fill(bob, &stream).await;
    let did = bob.did().as_str();
    let (said, well) = server.command(&["account", "quota", did, "--bytes", "10000000"]).await;
    assert!(well && said.contains("10000000"), "{said}");
    tokio::time::sleep(READ_AGAIN).await;
    bob.send(&stream, &vec![7; BODY]).await.unwrap();
    assert_eq!(usage(bob, "accountBytes").await.1, 10_000_000);
    let (said, well) = server.command(&["account", "quota", did, "--reset"]).await;
    assert!(well && said.contains("1073741824"), "as the command's own settings say: {said}");
    tokio::time::sleep(READ_AGAIN).await;
    let error = bob.send(&stream, &vec![7; BODY]).await.unwrap_err();
    assert!(matches!(error, ClientError::Call(CallError::Refused(refused)) if refused.error == "QuotaExceeded"));
    let (said, well) = server.command(&["account", "quota", "did:plc:nobodynobodynobodynobody"]).await;
    assert!(!well && said.contains("no account"), "{said}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn welcomes_that_an_account_imports_count() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let mut database = server.database.connect().await;
    let before = {
        measure(&server).await;
        usage(&people[1], "accountBytes").await.0
    };
    let insert = "insert into welcome (stream_id, term, seq, epoch, bytes, created_at, account_id)
                  select s.id, 1, 1, 1, $3, now(), a.id from stream s, account a where s.public_id = $1 and a.did = $2";
    sqlx::query(insert)
        .bind(&stream)
        .bind(people[1].did().as_str())
        .bind(vec![7_u8; 100_000])
        .execute(&mut database)
        .await
        .unwrap();
    people[1].send(&stream, b"touched").await.unwrap();
    measure(&server).await;
    assert!(usage(&people[1], "accountBytes").await.0 > before + 100_000);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn group_infos_that_an_account_brought_count() {
    let server = TestServer::start().await;
    let (_, people) = conversation(&server, 2).await;
    people[0].create_convo().await.unwrap();
    measure(&server).await;
    let before = usage(&people[0], "accountBytes").await.0;
    let mut database = server.database.connect().await;
    // One of the founding, one of the commit, one of the second conversation; as large as a tree of thousands.
    let grown = sqlx::query("update group_info set bytes = $1").bind(vec![7_u8; 100_000]);
    assert_eq!(grown.execute(&mut database).await.unwrap().rows_affected(), 3);
    people[0].create_convo().await.unwrap();
    measure(&server).await;
    let after = usage(&people[0], "accountBytes").await.0;
    assert!(after > before + 290_000 && after < before + 350_000, "{after} after {before}");
    server.stop().await;
}
