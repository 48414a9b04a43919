use rookery::lexicon::Nothing;
use rookery::lexicon::mls::get_key_package_status::{GetKeyPackageStatus, Pool};
use rookery_testkit::Person;

use crate::support::TestServer;

async fn pools(person: &Person) -> Vec<Pool> {
    person.query::<GetKeyPackageStatus>(&Nothing {}).await.unwrap().pools
}

#[tokio::test]
async fn a_device_sees_how_full_its_own_pools_are() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 3).await);
    let second = server.second_device(&bob).await;
    assert_eq!(pools(&alice).await, []);
    let mut pool = Pool { cipher_suite: 1, available: 3, claimed: 0, last_resort: false, target: 50, low_water: 10 };
    assert_eq!(pools(&bob).await, std::slice::from_ref(&pool));
    assert_eq!(pools(&second).await, std::slice::from_ref(&pool), "of this device alone, and of an uncertified one");

    bob.publish(0, true).await.unwrap();
    let stream = alice.create_convo().await.unwrap();
    alice.claim(&stream, &[bob.did().clone()]).await.unwrap();
    (pool.available, pool.claimed, pool.last_resort) = (2, 1, true);
    assert_eq!(pools(&bob).await, [pool]);
    server.stop().await;
}
