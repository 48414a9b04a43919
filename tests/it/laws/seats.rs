//! Nobody without a seat reads or writes, and nobody reads from before a seat began or after it ended.

use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::lexicon::mls::claim_key_packages::{self, ClaimKeyPackages};
use rookery::lexicon::mls::get_group_state::{self, GetGroupState};
use rookery::lexicon::mls::leave_convo::{self, LeaveConvo};
use rookery::lexicon::mls::send_message::{self, SendMessage};
use rookery::lexicon::mls::update_cursor::{self, UpdateCursor};
use rookery_testkit::Person;

use crate::support::{TestServer, conversation, idem};

/// What each method that names a stream says to this caller.
async fn refusals(caller: &Person, insider: &Person, stream: &str) -> Vec<(&'static str, String)> {
    let name = |error: rookery_client::CallError| error.refused().unwrap().error.clone();
    let stolen = insider.draft_message(stream, b"in another's name").await.unwrap();
    let send = send_message::Input { stream: stream.to_owned(), idem: idem(), ciphertext: stolen.ciphertext };
    let state = get_group_state::Params { stream: stream.to_owned(), if_not: None };
    let leave =
        leave_convo::Input { stream: stream.to_owned(), idem: idem(), new_admin: None, erase: None, immediate: None };
    let claim = claim_key_packages::Input {
        claim_id: idem(),
        stream: stream.to_owned(),
        home: None,
        targets: vec![insider.did().clone()],
        cipher_suites: vec![1],
    };
    vec![
        ("sendMessage", name(caller.procedure::<SendMessage>(&send).await.unwrap_err())),
        ("getGroupState", name(caller.query::<GetGroupState>(&state).await.unwrap_err())),
        ("leaveConvo", name(caller.procedure::<LeaveConvo>(&leave).await.unwrap_err())),
        ("claimKeyPackages", name(caller.procedure::<ClaimKeyPackages>(&claim).await.unwrap_err())),
        ("getConvo", name(caller.convo(stream).await.unwrap_err())),
    ]
}

/// Everything that the account's events show of a stream.
async fn events(person: &Person, stream: &str) -> Vec<u64> {
    let (mut seqs, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let page = person.query::<ListEvents>(&list_events::Params { cursor: Some(cursor), limit: 100 }).await.unwrap();
        seqs.extend(page.events.iter().filter(|event| event.stream == stream).map(|event| event.seq));
        cursor = page.cursor;
        if !page.more {
            return seqs;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_stranger_a_conversation_does_not_exist() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let stranger = server.person("stranger").await;

    for (method, error) in refusals(&stranger, &people[0], &stream).await {
        assert_eq!(error, "StreamNotFound", "{method}");
    }
    let update = update_cursor::Input { stream: stream.clone(), seq: 1 };
    assert!(stranger.procedure::<UpdateCursor>(&update).await.unwrap_err().is("StreamNotFound"));
    let error = stranger.entries(&stream, 0).await.unwrap_err();
    assert!(error.is("StreamNotFound"), "{error}");
    server.settled().await;
    assert_eq!(events(&stranger, &stream).await, Vec::<u64>::new());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_reads_from_its_first_entry_to_its_last_and_writes_only_between() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let (alice, late) = (&people[0], server.person("late").await);
    alice.send(&stream, b"before").await.unwrap();
    let joined = alice.add_members(&stream, &[late.did().clone()]).await.unwrap();
    alice.send(&stream, b"between").await.unwrap();
    let removed = alice.remove_members(&stream, &[late.did().clone()]).await.unwrap();
    alice.send(&stream, b"after").await.unwrap();

    let covered: Vec<u64> = (joined.seq..=removed.seq).collect();
    let entries = late.entries(&stream, 0).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), covered);
    server.settled().await;
    assert_eq!(events(&late, &stream).await, covered);
    for (method, error) in refusals(&late, alice, &stream).await {
        // A view of the present is not there for whoever is not in it.
        let expected = if method == "getConvo" { "StreamNotFound" } else { "NotMember" };
        assert_eq!(error, expected, "{method}");
    }
    server.stop().await;
}
