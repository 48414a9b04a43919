//! `rookery peer`, beside a running server.

use crate::support::Federation;

#[tokio::test]
async fn servers_are_allowed_blocked_shown_and_forgotten_beside_a_running_server() {
    let servers = Federation::of(1).await;
    let peer = async |arguments: &[&str]| servers[0].command(&[&["peer"], arguments].concat()).await;
    let says = async |arguments: &[&str], parts: &[&str]| {
        let (said, well) = peer(arguments).await;
        assert!(well && parts.iter().all(|part| said.contains(part)), "{arguments:?}: {said}");
    };
    says(&["list"], &[]).await;
    says(&["allow", "chat.a.example"], &["did:web:chat.a.example  allowed", "counted as a.example, keys: 0"]).await;
    says(&["block", "did:web:b.example"], &["did:web:b.example  blocked"]).await;
    says(&["list"], &["did:web:chat.a.example  allowed", "did:web:b.example  blocked"]).await;
    says(&["usual", "b.example"], &["did:web:b.example  usual"]).await;
    says(&["show", "b.example"], &["did:web:b.example  usual"]).await;
    says(&["forget", "b.example"], &["b.example is forgotten"]).await;

    let fails = async |arguments: &[&str], part: &str| {
        let (said, well) = peer(arguments).await;
        assert!(!well && said.contains(part), "{arguments:?}: {said}");
    };
    fails(&["show", "b.example"], "never in touch with it. `rookery peer list`").await;
    fails(&["accept-key", "chat.a.example", "peer-aaaaaaaa"], "no such key. `rookery peer show`").await;
    fails(&["allow", "chat.a.example:8443"], "not the name of a server").await;
    fails(&["allow", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"], "is not a server. Fix").await;
    servers.stop().await;
}
