use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::{Method, Nothing};

use crate::support::{Handmade, TestServer};

#[tokio::test]
async fn an_account_sees_all_of_its_devices_by_either_token_and_nobody_elses() {
    let server = TestServer::start().await;
    let (alice, _bob) = (server.person("alice").await, server.person("bob").await);
    let second = server.second_device(&alice).await;

    let as_device = alice.query::<ListDevices>(&Nothing {}).await.unwrap().devices;
    assert_eq!(as_device.len(), 2);
    assert_eq!((as_device[0].device.as_str(), as_device[0].state.as_str()), (second.device().as_str(), "uncertified"));
    assert_eq!((as_device[1].device.as_str(), as_device[1].state.as_str()), (alice.device().as_str(), "certified"));
    assert_eq!((as_device[1].kind.as_str(), as_device[1].platform.as_deref()), ("app", Some("demo")));
    assert!(as_device.iter().all(|device| device.last_seen_at.is_some() && device.revoked_at.is_none()));

    let as_account = alice.devices().await.unwrap();
    assert_eq!(as_account, as_device);
    assert_eq!(second.query::<ListDevices>(&Nothing {}).await.unwrap().devices, as_device, "an uncertified one too");
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_device_stays_in_the_list_with_the_time_of_it() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let second = server.second_device(&alice).await;
    alice
        .procedure::<RevokeDevice>(&revoke_device::Input { device: second.device().to_string(), revocation: None })
        .await
        .unwrap();

    let devices = alice.devices().await.unwrap();
    assert_eq!((devices[0].device.as_str(), devices[0].state.as_str()), (second.device().as_str(), "revoked"));
    assert!(devices[0].revoked_at.as_ref().unwrap() >= &devices[0].created_at);
    server.stop().await;
}

#[tokio::test]
async fn an_account_that_registered_nothing_here_has_no_devices() {
    let server = TestServer::start().await;
    let nobody = Handmade::new(&server, server.account());
    let token = || Some(nobody.service_token(ListDevices::NSID));
    assert_eq!(nobody.service.query::<ListDevices>(&Nothing {}, token).await.unwrap().devices, []);
    server.stop().await;
}
