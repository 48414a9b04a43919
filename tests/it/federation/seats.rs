//! A home seats accounts of a server that follows anyway: what they see is their own word.

use rookery::lexicon::Nothing;
use rookery::lexicon::event::list_events::{ListEvents, Params};
use rookery::lexicon::mls::accept_convo::{self, AcceptConvo};
use rookery::lexicon::mls::get_convos::{self, GetConvos};
use rookery::lexicon::mls::list_invitations::ListInvitations;
use rookery_testkit::Person;

use super::joining::{arrives, hears, known, two, until, welcomes};
use crate::support::{Contacts, Events, TwoServers, refused, seat};

/// How many of its conversations and of this one's entries the account is shown, whichever way it asks.
async fn shown(person: &Person, stream: &str) -> (usize, usize) {
    let convos = get_convos::Params { limit: 50, cursor: None };
    let convos = person.query::<GetConvos>(&convos).await.unwrap().convos;
    let page = person.query::<ListEvents>(&Params { cursor: Some("0".to_owned()), limit: 100 }).await.unwrap();
    let events = page.events.iter().filter(|event| event.stream == stream).count();
    if convos.is_empty() {
        refused(person.entries(stream, 0).await, 404, "StreamNotFound");
    } else {
        assert_eq!(person.entries(stream, 0).await.unwrap().len(), events);
    }
    (convos.len(), events)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_seats_whom_it_likes_and_shows_it_only_to_those_whose_word_allows_it() {
    let two = TwoServers::followed().await;
    let at = &two.servers[1];
    // Everyone may invite them, and only Dave was asked and still lets Alice.
    let (carol, dave) = (at.person("carol").await, at.person("dave").await);
    let (erin, frank) = (at.person("erin").await, at.person("frank").await);
    for claimed in [&dave, &erin, &frank] {
        assert_eq!(two.alice.claims(&two.stream, claimed.did()).await, None);
    }
    erin.invitations("nobody").await;
    frank.block(&two.alice, true).await;
    at.settled().await;
    let mut live = Events::open(at, &carol, "").await;
    for person in [&carol, &dave, &erin, &frank] {
        seat(&two.servers[0], &two.stream, &two.alice, person, at.did()).await;
    }
    let sent = two.alice.send(&two.stream, b"all together").await.unwrap();
    two.caught_up(&two.stream).await;
    at.settled().await;
    assert_eq!(two.bob.entries(&two.stream, 0).await.unwrap().last().unwrap().seq, sent.seq);
    assert_eq!(shown(&dave, &two.stream).await, (1, 4), "from his own commit on");
    for person in [&carol, &erin, &frank] {
        assert_eq!(shown(person, &two.stream).await, (0, 0), "{}", person.name());
        assert_eq!(
            (person.query::<ListInvitations>(&Nothing {}).await.unwrap().invitations, welcomes(person).await),
            (vec![], 0)
        );
    }
    live.is_silent_of(&two.stream).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_to_a_stream_that_is_followed_already_shows_nothing_until_it_is_taken() {
    let servers = known(2, &[("INVITATIONS", "everyone")]).await;
    let (stream, alice, bob) = two(&servers).await;
    let (carol, dave) = (servers[1].person("carol").await, servers[1].person("dave").await);
    let claimed = alice.claim(&stream, &[carol.did().clone(), dave.did().clone()]).await.unwrap();
    carol.invitations("nobody").await;
    dave.block(&alice, true).await;
    servers[1].settled().await;
    let mut live = Events::open(&servers[1], &carol, "").await;
    alice.change(&stream, &claimed, &[]).await.unwrap();
    let sent = alice.send(&stream, b"who is there?").await.unwrap();
    hears(&bob, &stream, sent.seq).await;
    let waiting = async |person: &Person| person.query::<ListInvitations>(&Nothing {}).await.unwrap().invitations.len();
    until("the invitation", async || (waiting(&carol).await == 1).then_some(())).await;
    servers[1].settled().await;
    for person in [&carol, &dave] {
        assert_eq!((shown(person, &stream).await, welcomes(person).await), ((0, 0), 0), "{}", person.name());
    }
    assert_eq!(waiting(&dave).await, 0, "a block is silent");
    live.is_silent_of(&stream).await;

    carol.procedure::<AcceptConvo>(&accept_convo::Input { stream: stream.clone() }).await.unwrap();
    arrives(&carol, &stream).await;
    let next = alice.send(&stream, b"there you are").await.unwrap();
    let came = live.until(&stream, next.seq).await;
    assert_eq!(came.iter().filter(|(of, _)| *of == stream).count(), 1, "{came:?}");
    hears(&carol, &stream, next.seq).await;
    assert_eq!(alice.epoch(&stream).await.unwrap(), carol.epoch(&stream).await.unwrap());
    servers[1].settled().await;
    assert_eq!(shown(&carol, &stream).await, (1, 3), "and what came before can be read");
    servers.stop().await;
}
