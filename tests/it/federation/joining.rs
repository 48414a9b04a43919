//! Alice lives on one server and Bob on another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::cli::demo::Person;
use rookery::lexicon::mls::get_welcomes::{self, GetWelcomes};
use rookery_client::ClientError;

use crate::support::{Federation, allow};

/// What is expected comes within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tries until it goes well.
pub async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(done) = attempt().await {
            return done;
        }
        assert!(Instant::now() < end, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many Welcomes wait for the device.
pub async fn welcomes(person: &Person) -> usize {
    let page = person.query::<GetWelcomes>(&get_welcomes::Params { limit: 20, cursor: None }).await.unwrap();
    page.welcomes.len()
}

/// Takes in what came until it is in the conversation.
pub async fn arrives(person: &Person, stream: &str) {
    until("a Welcome", async || (welcomes(person).await > 0).then_some(())).await;
    until("the conversation", async || match person.arrive(stream).await {
        Ok(()) => Some(()),
        Err(ClientError::Call(error)) if error.is("StreamNotFound") => None,
        Err(error) => panic!("{error}"),
    })
    .await;
}

/// Waits until an entry of this kind is the last that the person sees.
pub async fn hears(person: &Person, stream: &str, seq: u64) {
    until("an entry", async || {
        let entries = person.entries(stream, 0).await.unwrap_or_default();
        entries.iter().any(|entry| entry.seq == seq).then_some(())
    })
    .await;
    person.arrive(stream).await.unwrap();
}

/// Servers whose operators know of each other: on no probation.
pub async fn known(size: usize, settings: &[(&str, &str)]) -> Federation {
    if std::env::var("RUST_LOG").is_ok() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
    let servers = Federation::with(size, settings).await;
    for one in 0..size {
        for other in (0..size).filter(|other| *other != one) {
            allow(&servers[one], servers[other].did()).await;
        }
    }
    servers
}

/// Alice's conversation on the first server with Bob of the second.
pub async fn two(servers: &Federation) -> (String, Arc<Person>, Arc<Person>) {
    let (alice, bob) = (servers[0].person("alice").await, servers[1].person("bob").await);
    let stream = alice.create_convo().await.unwrap();
    alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
    arrives(&bob, &stream).await;
    (stream, alice, bob)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_live_on_servers_that_never_met_talk_and_each_hears_the_other() {
    let servers = known(2, &[("INVITATIONS", "everyone")]).await;
    let (stream, alice, bob) = two(&servers).await;
    let sent = alice.send(&stream, b"from the home").await.unwrap();
    hears(&bob, &stream, sent.seq).await;
    let sent = bob.send(&stream, b"from elsewhere").await.unwrap();
    hears(&alice, &stream, sent.seq).await;
    hears(&bob, &stream, sent.seq).await;
    let (a, b) = (alice.epoch(&stream).await.unwrap(), bob.epoch(&stream).await.unwrap());
    assert_eq!(a, b, "one epoch, one authenticator");
    servers.stop().await;
}
