use rookery::lexicon::account::defs::Device;
use rookery::lexicon::account::list_devices::{ListDevices, Output};
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::{Method, Nothing};
use rookery::types::{Bytes, DeviceId};
use rookery_client::{ClientError, read_chain};

use crate::support::{Handmade, TestServer, certify};

#[tokio::test]
async fn an_account_sees_all_of_its_devices_by_either_token_and_nobody_elses() {
    let server = TestServer::start().await;
    let (alice, _bob) = (server.person("alice").await, server.person("bob").await);
    let second = server.second_device(&alice).await;

    let as_device = alice.query::<ListDevices>(&Nothing {}).await.unwrap().devices;
    assert_eq!(as_device.len(), 2);
    assert_eq!((as_device[0].device.as_str(), as_device[0].state.as_str()), (second.device().as_str(), "uncertified"));
    assert_eq!((as_device[1].device.as_str(), as_device[1].state.as_str()), (alice.device().as_str(), "certified"));
    assert_eq!((as_device[1].kind.as_str(), as_device[1].platform.as_deref()), ("app", Some(std::env::consts::OS)));
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
    let last = devices.last().unwrap();
    assert_eq!(
        (last.device.as_str(), last.state.as_str()),
        (second.device().as_str(), "revoked"),
        "those that stand first"
    );
    assert!(last.revoked_at.as_ref().unwrap() >= &last.created_at);
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

#[tokio::test]
async fn a_list_that_differs_from_its_chain_is_noticed() {
    type Forgery = fn(&mut Output);
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let (second, third) = (server.second_device(&alice).await, server.second_device(&alice).await);
    certify(&alice, &second).await;
    certify(&second, &third).await;
    alice.revoke(second.device()).await.unwrap();
    let listed = alice.query::<ListDevices>(&Nothing {}).await.unwrap();
    assert_eq!(listed.chain.as_ref().unwrap().seq, 4);
    let chain = read_chain(alice.did(), &listed).unwrap();
    assert!(chain.device(second.device()).is_none() && chain.device(third.device()).is_some());

    let forgeries: [(&str, Forgery); 8] = [
        ("an uncertified device is called certified", |listed| {
            let stranger =
                Device { certificate: None, device: DeviceId::of_key(b"x").into(), ..listed.devices[0].clone() };
            listed.devices.push(stranger);
        }),
        ("another key under a certified name", |listed| listed.devices[0].public_key = Bytes(vec![2; 32])),
        ("a revoked device is called certified", |listed| listed.devices[2].state = "certified".to_owned()),
        ("a revocation is kept back", |listed| listed.devices[2].revocation = None),
        ("a certificate is kept back", |listed| listed.devices[2].certificate = None),
        ("two certificates are exchanged for one", |listed| {
            listed.devices[2].certificate = listed.devices[0].certificate.clone();
        }),
        ("the chain of another account", |listed| listed.devices.truncate(1)),
        ("no chain", |listed| listed.chain = None),
    ];
    for (what, forge) in forgeries {
        let mut forged = listed.clone();
        forge(&mut forged);
        assert!(read_chain(alice.did(), &forged).is_err(), "{what}");
    }
    assert!(read_chain(&server.account().did, &listed).is_err());
    server.stop().await;
}

#[tokio::test]
async fn a_device_notices_a_chain_that_lost_links_it_had_seen() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let second = server.second_device(&alice).await;
    certify(&alice, &second).await;
    alice.device_chain().await.unwrap();
    // As a server would that takes back what it said.
    let mut database = server.database.connect().await;
    for undo in
        ["delete from device_link where seq = 2", "update device set state = 'uncertified' where public_id = $1"]
    {
        let query = sqlx::query(undo);
        let query = if undo.contains("$1") { query.bind(second.device().as_str()) } else { query };
        query.execute(&mut database).await.unwrap();
    }
    assert!(matches!(alice.device_chain().await, Err(ClientError::Chain(_))));
    server.stop().await;
}
