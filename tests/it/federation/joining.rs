//! Alice lives on one server and Bob on another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::lexicon::mls::get_welcomes::{self, GetWelcomes};
use rookery::lexicon::mls::leave_convo::{self, LeaveConvo};
use rookery_client::ClientError;
use rookery_testkit::Person;

use crate::support::{Federation, allow, certify, idem};

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

#[tokio::test(flavor = "multi_thread")]
async fn people_and_devices_of_both_servers_come_and_go() {
    let servers = known(2, &[("INVITATIONS", "everyone")]).await;
    let (stream, alice, bob) = two(&servers).await;
    // A further device of an account that is in comes by a Welcome of its own.
    let second = servers[1].second_device(&bob).await;
    certify(&bob, &second).await;
    alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
    arrives(&second, &stream).await;
    // Whoever is in invites, from wherever: somebody who lives at the home, for whom the home is asked.
    let carol = servers[0].person("carol").await;
    until("the epoch", async || {
        bob.arrive(&stream).await.unwrap();
        bob.add_members(&stream, &[carol.did().clone()]).await.ok()
    })
    .await;
    arrives(&carol, &stream).await;
    alice.arrive(&stream).await.unwrap();
    let epochs = [alice.epoch(&stream).await.unwrap(), carol.epoch(&stream).await.unwrap()];
    assert_eq!(epochs[0], epochs[1]);

    // Both devices of another server's account are found by their leaves' keys, and its server is told no more.
    alice.remove_members(&stream, &[bob.did().clone()]).await.unwrap();
    let ended = async || {
        let ended = sqlx::query_scalar::<_, bool>("select ended_at is not null from replica");
        ended.fetch_one(&mut servers[1].database.connect().await).await.unwrap().then_some(())
    };
    until("the end of following", ended).await;
    let after = alice.send(&stream, b"he is gone").await.unwrap();
    let seen = bob.entries(&stream, 0).await.unwrap();
    assert!(seen.iter().all(|entry| entry.seq < after.seq));
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_may_erase_what_it_said_wherever_it_is_held() {
    let servers = known(2, &[("INVITATIONS", "everyone")]).await;
    let (stream, alice, bob) = two(&servers).await;
    let said = bob.send(&stream, b"forget this").await.unwrap();
    hears(&bob, &stream, said.seq).await;
    let kept = alice.send(&stream, b"and keep this").await.unwrap();
    hears(&bob, &stream, kept.seq).await;
    let input = leave_convo::Input {
        stream: stream.clone(),
        idem: idem(),
        new_admin: None,
        erase: Some(true),
        immediate: None,
    };
    let left = bob.procedure::<LeaveConvo>(&input).await.unwrap();
    for number in 0..2 {
        let server = &servers[number];
        until("erasing", async || {
            let contents =
                "select e.seq, e.content is null, h.head_seq from entry_content e join stream h on h.id = e.stream_id
                            where h.public_id = $1 and e.kind = 4 order by e.seq";
            let contents = sqlx::query_as::<_, (i64, bool, i64)>(contents).bind(&stream);
            let found = contents.fetch_all(&mut server.database.connect().await).await.unwrap();
            let expected = [(said.seq, true), (kept.seq, false)].map(|(seq, gone)| (i64::try_from(seq).unwrap(), gone));
            let found_now: Vec<(i64, bool)> = found.iter().map(|(seq, gone, _)| (*seq, *gone)).collect();
            (found_now == expected && found[0].2 >= i64::try_from(left.seq).unwrap()).then_some(())
        })
        .await;
    }
    servers.stop().await;
}
