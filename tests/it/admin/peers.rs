//! `admin.listPeers`, `admin.putPeer` and `admin.deletePeer`.

use std::sync::Arc;

use rookery::identity::Curve;
use rookery::lexicon::admin::defs::Peer;
use rookery::lexicon::admin::delete_peer::{self, DeletePeer};
use rookery::lexicon::admin::list_peers::{self, ListPeers};
use rookery::lexicon::admin::put_peer::{Input, PutPeer};
use rookery::types::Did;
use rookery_client::CallError;
use rookery_testkit::{Form, Identity, Person};

use crate::support::{Federation, paged, refused};

fn decides(server: &Did, policy: &str) -> Input {
    Input { server: server.clone(), policy: Some(policy.to_owned()), accept_key: None, refuse_key: None }
}

async fn put(operator: &Person, server: &Did, policy: &str) -> Result<Peer, CallError> {
    Ok(operator.procedure::<PutPeer>(&decides(server, policy)).await?.peer)
}

async fn operated(size: usize) -> (Federation, Arc<Person>) {
    let account = Arc::new(Identity::plc(Curve::K256, Form::Multikey).unwrap());
    let servers = Federation::with(size, &[("OPERATOR_DIDS", account.did.as_str())]).await;
    let operator = servers[0].operator(&account).await;
    (servers, operator)
}

#[tokio::test]
async fn an_operator_pages_through_servers_that_were_decided_about() {
    let (servers, operator) = operated(1).await;
    let names = ["a", "b", "c", "d", "e"].map(|name| Did::parse(&format!("did:web:chat.{name}.example")).unwrap());
    for (name, policy) in names.iter().zip(["allowed", "blocked", "usual", "allowed", "blocked"]) {
        let peer = put(&operator, name, policy).await.unwrap();
        assert_eq!((&peer.server, peer.policy.as_str(), peer.keys.len()), (name, policy, 0));
        assert_eq!(peer.domain, name.as_str()["did:web:chat.".len()..]);
        assert_eq!(put(&operator, name, policy).await.unwrap(), peer, "a repeat changes nothing");
    }
    let peers = paged(async |cursor| {
        let page = operator.query::<ListPeers>(&list_peers::Params { limit: 2, cursor }).await.unwrap();
        (page.peers, page.cursor)
    })
    .await;
    assert_eq!(peers.iter().map(|peer| &peer.server).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    servers.stop().await;
}

#[tokio::test]
async fn what_is_no_server_what_was_never_seen_and_what_it_never_showed_are_told_apart() {
    let (servers, operator) = operated(1).await;
    for no_server in ["did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:web:a.example%3A8443", "did:web:a.example:path"] {
        refused(put(&operator, &Did::parse(no_server).unwrap(), "allowed").await, 400, "NotAServer");
    }
    let server = Did::parse("did:web:a.example").unwrap();
    let key = |accept: &str| Input { policy: None, accept_key: Some(accept.to_owned()), ..decides(&server, "") };
    refused(operator.procedure::<PutPeer>(&key("#peer-aaaaaaaa")).await, 404, "PeerNotFound");
    let forget = delete_peer::Input { server: server.clone() };
    refused(operator.procedure::<DeletePeer>(&forget).await, 404, "PeerNotFound");

    put(&operator, &server, "blocked").await.unwrap();
    refused(operator.procedure::<PutPeer>(&key("#peer-aaaaaaaa")).await, 404, "KeyNotFound");
    operator.procedure::<DeletePeer>(&forget).await.unwrap();
    refused(operator.procedure::<DeletePeer>(&forget).await, 404, "PeerNotFound");
    servers.stop().await;
}

#[tokio::test]
async fn a_server_with_which_conversations_are_shared_is_not_forgotten() {
    let (servers, operator) = operated(1).await;
    // Its own name is the home of every stream here.
    let own = servers[0].did().clone();
    put(&operator, &own, "usual").await.unwrap();
    servers[0].person("alice").await.create_convo().await.unwrap();
    let forget = delete_peer::Input { server: own };
    refused(operator.procedure::<DeletePeer>(&forget).await, 409, "PeerInUse");
    servers.stop().await;
}
