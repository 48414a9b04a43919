use rookery::lexicon::account::update_device::{Input, UpdateDevice};
use rookery::types::Bytes;

use crate::support::{TestServer, refused};

#[tokio::test]
async fn a_device_changes_its_own_name_and_platform_and_what_is_absent_stays() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let second = server.second_device(&alice).await;
    let name = Some(Bytes(vec![7; 512]));
    second.procedure::<UpdateDevice>(&Input { name: name.clone(), platform: None }).await.unwrap();
    second.procedure::<UpdateDevice>(&Input { name: None, platform: Some("linux".to_owned()) }).await.unwrap();
    second.procedure::<UpdateDevice>(&Input { name: None, platform: None }).await.unwrap();

    let devices = alice.devices().await.unwrap();
    let shown = |person: &rookery_testkit::Person| {
        let device = devices.iter().find(|device| device.device == person.device().as_str()).unwrap();
        (device.name.clone(), device.platform.clone())
    };
    assert_eq!(shown(&second), (name, Some("linux".to_owned())), "an uncertified one too");
    assert_eq!(shown(&alice), (None, Some(std::env::consts::OS.to_owned())), "nobody else's");
    server.stop().await;
}

#[tokio::test]
async fn a_name_of_more_than_512_bytes_is_an_invalid_request() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let long = Input { name: Some(Bytes(vec![7; 513])), platform: None };
    refused(alice.procedure::<UpdateDevice>(&long).await, 400, "InvalidRequest");
    let long = Input { name: None, platform: Some("x".repeat(33)) };
    refused(alice.procedure::<UpdateDevice>(&long).await, 400, "InvalidRequest");
    server.stop().await;
}
