use rookery::identity::DidDocument;
use rookery::types::Did;

use crate::support::TestServer;

#[tokio::test]
async fn the_server_says_who_it_is_and_where() {
    let server = TestServer::start().await;
    let response = server.at(http::Method::GET, "/.well-known/did.json").send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let bytes = response.bytes().await.unwrap();
    let did: Did = TestServer::did();
    assert!(DidDocument::parse(&did, &bytes).is_ok(), "as another server reads it");
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(document["id"], did.as_str());
    let service = &document["service"][0];
    assert_eq!((&service["id"], &service["type"]), (&"#atproto_mls".into(), &"AtprotoMlsService".into()));
    assert_eq!(service["serviceEndpoint"], "https://rookery.test");
    let methods = document["verificationMethod"].as_array().unwrap();
    assert!(methods.iter().all(|method| method["id"].as_str().unwrap().starts_with(did.as_str())));
    server.stop().await;
}
