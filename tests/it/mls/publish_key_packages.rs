use rookery::lexicon::mls::publish_key_packages::{Input, Output, PublishKeyPackages};
use rookery::types::Bytes;
use rookery_client::CallError;

use crate::support::{Handmade, TestServer, at_once, bytes, refused};

async fn device(server: &TestServer) -> Handmade {
    let device = Handmade::new(server, server.account());
    device.register().await.unwrap();
    device
}

async fn publish(device: &Handmade, packages: Vec<Vec<u8>>) -> Result<Output, CallError> {
    let input = Input { key_packages: packages.into_iter().map(Bytes).collect() };
    device.procedure::<PublishKeyPackages>(&input).await
}

fn packages(device: &Handmade, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| device.mls.key_package(false).unwrap()).collect()
}

/// For each result the error, or nothing.
fn errors(output: &Output) -> Vec<&str> {
    output.results.iter().map(|result| result.error.as_deref().unwrap_or_default()).collect()
}

#[tokio::test]
async fn each_package_is_judged_for_itself_in_the_order_of_the_input() {
    let server = TestServer::start().await;
    let (alice, bob) = (device(&server).await, device(&server).await);
    let good = packages(&alice, 2);
    let last = alice.mls.key_package(true).unwrap();
    let mixed = vec![
        good[0].clone(),
        bytes::flipped(&good[1]),
        good[0].clone(),
        packages(&bob, 1).remove(0),
        vec![],
        last,
        good[1].clone(),
    ];
    let answer = publish(&alice, mixed).await.unwrap();
    let expected = ["", "InvalidKeyPackage", "DuplicateKeyPackage", "CredentialMismatch", "MalformedMessage", "", ""];
    assert_eq!(errors(&answer), expected);
    for result in &answer.results {
        assert_eq!(result.published.is_some(), result.error.is_none());
        assert_eq!(result.message.is_some(), result.error.is_some());
    }
    assert!(answer.results[5].published.as_ref().unwrap().last_resort);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_takes_no_more_one_by_one_and_at_once() {
    let server = TestServer::start().await;
    let alice = std::sync::Arc::new(device(&server).await);
    publish(&alice, packages(&alice, 90)).await.unwrap();
    let calls = (0..4).map(|_| {
        let alice = std::sync::Arc::clone(&alice);
        async move {
            let more = packages(&alice, 5);
            publish(&alice, more).await.unwrap()
        }
    });
    let answers = at_once(calls).await;
    let taken = answers.iter().flat_map(errors).filter(|error| error.is_empty()).count();
    assert_eq!(taken, 10, "100 in all");
    assert_eq!(errors(&publish(&alice, packages(&alice, 1)).await.unwrap()), ["KeyPackagePoolFull"]);
    server.stop().await;
}

#[tokio::test]
async fn a_call_holds_1_to_100_packages() {
    let server = TestServer::start().await;
    let alice = device(&server).await;
    refused(publish(&alice, vec![]).await, 400, "InvalidRequest");
    refused(publish(&alice, vec![vec![]; 101]).await, 400, "InvalidRequest");
    server.stop().await;
}
