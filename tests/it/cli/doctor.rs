//! `rookery doctor federation`: each step, well and wrong, with what to do about it.

use rookery::identity::Curve;
use serde_json::Value;

use crate::support::{Fate, Faults, Federation, Member};

/// What server 0 says of the other, as lines.
async fn examined(servers: &Federation, host: &str) -> (String, bool) {
    servers[0].command(&["doctor", "federation", host]).await
}

#[track_caller]
fn wrong(said: &(String, bool), step: &str, why: &str, fix: &str) {
    let (said, well) = said;
    let at = said.find(&format!("WRONG  {step}")).unwrap_or_else(|| panic!("{step} is not wrong:\n{said}"));
    assert!(!well && said[at..].contains(why) && said[at..].contains(fix), "{said}");
}

fn host(server: &Member) -> String {
    server.did().as_str()["did:web:".len()..].replace("%3A", ":")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_that_can_speak_are_well_at_every_step() {
    let servers = Federation::of(2).await;
    let (said, well) = examined(&servers, &host(&servers[1])).await;
    assert!(well, "{said}");
    for step in ["setting", "own document", "policy", "their document", "clocks", "their keys", "signed call"] {
        assert!(said.contains(&format!("ok     {step}")), "{step}: {said}");
    }
    // Known from then on, by the keys of its document.
    let (said, well) = examined(&servers, servers[1].did().as_str()).await;
    assert!(well && said.contains("they are those that were seen before"), "{said}");
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_decided_here_or_there_is_told_with_who_can_change_it() {
    let servers = Federation::of(2).await;
    let other = host(&servers[1]);
    assert!(servers[0].command(&["peer", "block", &other]).await.1);
    wrong(&examined(&servers, &other).await, "policy", "is blocked here", "rookery peer usual");
    assert!(servers[0].command(&["peer", "usual", &other]).await.1);
    assert!(servers[1].command(&["peer", "block", &host(&servers[0])]).await.1);
    wrong(&examined(&servers, &other).await, "signed call", "403 PeerBlocked", "ask there");
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_nowhere_or_to_something_else_is_told() {
    let servers = Federation::of(2).await;
    let other = host(&servers[1]);
    servers[1].proxy.refuse().await;
    let said = examined(&servers, &other).await;
    wrong(&said, "their document", "no TCP connection", "that it listens there");
    assert!(said.0.contains("-      signed call"), "{}", said.0);
    servers[1].proxy.listen().await;

    // The directory is a web host, too, and no server.
    let web = servers.directory.web_identity(Curve::P256, rookery_testkit::Form::Multikey).unwrap();
    let directory = web.did.as_str()["did:web:".len()..].to_owned();
    wrong(&examined(&servers, &directory).await, "their document", "answered 404", "without a redirect");
    servers.directory.add(&web);
    wrong(
        &examined(&servers, &directory).await,
        "their document",
        "one service #atproto_mls",
        "SERVICE_DID and PUBLIC_URL",
    );
    servers.directory.publish(&web.did, serde_json::json!({ "id": "did:web:elsewhere.example" }));
    wrong(&examined(&servers, &directory).await, "their document", "its id is not the DID", "nothing else may answer");

    servers[1].proxy.suffer(Faults::always(Fate::Lost));
    wrong(&examined(&servers, &other).await, "signed call", "no answer came", "look at its proxy");
    servers[0].proxy.refuse().await;
    wrong(&examined(&servers, &other).await, "own document", "no TCP connection", "the proxy in front");
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_endorsed_waits_until_the_operator_takes_or_refuses_it() {
    let mut servers = Federation::of(2).await;
    let (one, other) = (host(&servers[0]), host(&servers[1]));
    assert!(examined(&servers, &other).await.1);
    assert!(servers[1].command(&["doctor", "federation", &one]).await.1);
    // All its keys are new ones, as after a theft of the domain.
    servers[1].pause().await;
    servers[1].forget_keys();
    servers[1].resume(&[]).await;
    let document: Value = serde_json::from_slice(
        &rookery::identity::http::plain()
            .unwrap()
            .get(format!("{}/.well-known/did.json", servers[1].proxy.origin()))
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
    )
    .unwrap();
    let shown: Vec<String> = document["verificationMethod"]
        .as_array()
        .unwrap()
        .iter()
        .map(|method| method["id"].as_str().unwrap().split_once('#').unwrap().1.to_owned())
        .collect();
    wrong(&examined(&servers, &other).await, "signed call", "its key is not trusted", "try again");
    wrong(
        &examined(&servers, &other).await,
        "their keys",
        "no earlier key endorsed it",
        "then accept-key or refuse-key",
    );
    let (said, _) = servers[0].command(&["peer", "show", &other]).await;
    assert!(said.contains("held until") && shown.iter().all(|id| said.contains(&format!("#{id}"))), "{said}");
    for id in &shown {
        assert!(servers[0].command(&["peer", "accept-key", &other, id]).await.1);
    }
    let (said, well) = examined(&servers, &other).await;
    assert!(well, "{said}");
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_to_nobody_or_to_a_few_is_told_how_to_speak_to_more() {
    let servers = Federation::with(1, &[("FEDERATION", "off")]).await;
    wrong(&examined(&servers, "b.example").await, "setting", "FEDERATION is off", "open or allowlist");
    servers.stop().await;
    let servers = Federation::with(1, &[("FEDERATION", "allowlist")]).await;
    wrong(&examined(&servers, "b.example").await, "policy", "is not allowed", "rookery peer allow");
    let said = examined(&servers, &host(&servers[0])).await;
    assert!(said.0.contains("ok     policy"), "FEDERATION_ALLOW names it: {}", said.0);
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_not_what_they_were_are_told_on_either_side() {
    let servers = Federation::of(2).await;
    let other = host(&servers[1]);
    assert!(examined(&servers, &other).await.1);
    // What was seen under this id once.
    let others = "update peer_key k set public_key = (
                      select p.public_key from peer_key p where p.peer_id = k.peer_id and p.key_id <> k.key_id limit 1
                  ) where k.key_id like '#checkpoint-%'";
    let done = sqlx::query(others).execute(&mut servers[0].database.connect().await).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    wrong(&examined(&servers, &other).await, "their keys", "had other bytes before", "rookery peer forget");

    servers[0].forget_keys();
    rookery::identity::ServerKeys::generate(&servers[0].keys_dir()).unwrap();
    wrong(&examined(&servers, &other).await, "own document", "does not list #peer-", "compare KEYS_DIR");
    servers.stop().await;
}
