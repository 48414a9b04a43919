//! `peer.getKeys`.

use rookery::federation::StatementRefused;
use rookery::identity::ServerKeys;
use rookery::log::chain::CHECKPOINT_LABEL;
use serde_json::Value;

use crate::support::TestServer;

#[tokio::test]
async fn anybody_is_told_every_key_that_the_server_publishes() {
    let server = TestServer::start().await;
    let answer = server.raw("blue.catbird.peer.getKeys", "").send().await;
    let keys = answer.body["keys"].as_array().unwrap().clone();
    let own: &ServerKeys = &server.server().services().keys;
    let ids: Vec<&str> = keys.iter().map(|key| key["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&own.peer_id().as_str()) && ids.contains(&own.checkpoint_id().as_str()), "{ids:?}");
    assert!(keys.iter().all(|key| key.get("endorsedBy").is_none() && key.get("notAfter").is_none()), "{keys:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_new_key_is_endorsed_by_the_one_before_it_and_an_old_one_says_when_it_ended() {
    let mut server = TestServer::start().await;
    let list = async |server: &TestServer| {
        let answer = server.raw("blue.catbird.peer.getKeys", "").send().await;
        answer.body["keys"].as_array().unwrap().clone()
    };
    let first = list(&server).await;
    let signed = server.server().services().federation.sign_statement(CHECKPOINT_LABEL, b"before".to_vec());
    let dir = server.keys_dir();
    server.pause().await;
    // As `rookery keygen --next` does.
    ServerKeys::generate_next(&dir).unwrap();
    server.start_again(&[]).await;
    let second = list(&server).await;
    assert_eq!(second.len(), 4);
    for key in second.iter().filter(|key| !first.contains(key)) {
        let by = first.iter().find(|old| old["id"] == key["endorsedBy"]).unwrap();
        assert_eq!(by["use"], key["use"]);
        assert!(key["endorsement"]["$bytes"].is_string());
    }
    server.pause().await;
    ServerKeys::rotate(&dir).unwrap();
    ServerKeys::forget_old(&dir).unwrap();
    server.start_again(&[]).await;
    let third = list(&server).await;
    let ended = |key: &&Value| key.get("notAfter").is_some();
    assert_eq!(third.iter().filter(ended).count(), 2);
    // The server's own statements stay valid; a third party's proof needs present keys.
    let (federation, own) = (&server.server().services().federation, server.name());
    assert_eq!(federation.verify_statement(own, CHECKPOINT_LABEL, &signed).await, Ok(()));
    let published = federation.verify_published(own, CHECKPOINT_LABEL, &signed).await;
    assert_eq!(published, Err(StatementRefused::Invalid));
    server.stop().await;
}
