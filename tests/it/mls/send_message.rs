//! Repeats and the order of many senders: `laws/idempotency.rs`, `laws/order.rs`.

use rookery::lexicon::mls::send_message::{Input, SendMessage};
use rookery::types::Bytes;
use rookery_testkit::Person;

use crate::support::{TestServer, bytes, certify, conversation, idem, refused};

async fn draft(person: &Person, stream: &str) -> Input {
    person.draft_message(stream, b"hello").await.unwrap()
}

#[tokio::test]
async fn a_message_is_the_next_entry_as_it_was_sent_and_the_others_can_read_it() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let input = draft(&people[0], &stream).await;
    let receipt = people[0].procedure::<SendMessage>(&input).await.unwrap();
    let entries = people[1].entries(&stream, receipt.seq - 1).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].term, entries[0].seq, &entries[0].hash), (receipt.term, receipt.seq, &receipt.hash));
    assert_eq!((entries[0].body.as_ref(), entries[0].epoch), (Some(&input.ciphertext), Some(1)));
    assert_eq!((&entries[0].author, &entries[0].device), (&None, &None), "who sent it stays with the server");
    let read = people[1].try_read(&stream, input.ciphertext.as_slice()).await.unwrap();
    assert!(matches!(read, rookery_client::mls::Received::Application { plaintext, .. } if plaintext == b"hello"));

    let other = Input { idem: input.idem.clone(), ..draft(&people[0], &stream).await };
    refused(people[0].procedure::<SendMessage>(&other).await, 409, "IdempotencyConflict");
    server.stop().await;
}

#[tokio::test]
async fn anything_but_one_message_of_this_group_is_refused_by_what_it_is() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let alice = &people[0];
    let good = draft(alice, &stream).await;
    let commit = alice.draft_commit(&stream, &[], &[people[1].did().clone()]).await.unwrap();
    let elsewhere = alice.create_convo().await.unwrap();
    let other = draft(alice, &elsewhere).await;
    let group_id = alice.convo(&stream).await.unwrap().group_id.0;
    for (what, ciphertext, status, error) in [
        ("nothing", vec![], 400, "MalformedMessage"),
        ("one and more", bytes::longer(&good.ciphertext.0), 400, "MalformedMessage"),
        ("a GroupInfo", commit.group_info.0, 400, "MalformedMessage"),
        ("a commit", commit.commit.0, 400, "WrongWireFormat"),
        ("a message in the open", bytes::public_commit(&group_id, 1), 400, "WrongWireFormat"),
        ("of another group", other.ciphertext.0, 400, "GroupIdMismatch"),
        ("of an epoch to come", bytes::with_epoch(&good.ciphertext.0, 2), 409, "FutureEpoch"),
        ("of the last epoch there is", bytes::with_epoch(&good.ciphertext.0, u64::MAX), 409, "FutureEpoch"),
    ] {
        println!("{what}");
        let input = Input { idem: idem(), ciphertext: Bytes(ciphertext), ..good.clone() };
        refused(alice.procedure::<SendMessage>(&input).await, status, error);
    }
    let large = Input { ciphertext: Bytes(vec![0; 983_041]), ..good.clone() };
    refused(alice.procedure::<SendMessage>(&large).await, 400, "InvalidRequest");
    assert!(alice.procedure::<SendMessage>(&good).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn only_a_device_in_the_group_of_an_account_with_a_seat_sends() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let stranger = server.person("stranger").await;
    let good = draft(&people[0], &stream).await;
    refused(stranger.procedure::<SendMessage>(&good).await, 404, "StreamNotFound");
    let elsewhere = people[0].create_convo().await.unwrap();
    let other = Input { ciphertext: draft(&people[0], &elsewhere).await.ciphertext, ..good.clone() };
    refused(stranger.procedure::<SendMessage>(&other).await, 404, "StreamNotFound");
    let nowhere = Input { stream: "sfqpona3sefnrzydeijvvzw6u54sydlha".to_owned(), ..good.clone() };
    refused(people[0].procedure::<SendMessage>(&nowhere).await, 404, "StreamNotFound");

    let second = server.second_device(&people[0]).await;
    refused(second.procedure::<SendMessage>(&good).await, 403, "DeviceNotInGroup");
    certify(&people[0], &second).await;
    refused(second.procedure::<SendMessage>(&good).await, 403, "DeviceNotInGroup");
    let late = draft(&people[1], &stream).await;
    people[0].remove_members(&stream, &[people[1].did().clone()]).await.unwrap();
    refused(people[1].procedure::<SendMessage>(&late).await, 403, "NotMember");
    server.stop().await;
}

#[tokio::test]
async fn messages_of_five_epochs_ago_are_taken_older_ones_and_those_from_before_a_removal_are_not() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let stream = alice.create_convo().await.unwrap();
    let mut drafts = vec![draft(&alice, &stream).await];
    let mut last = None;
    for epoch in 1..=6 {
        let newcomer = server.newcomer(&format!("newcomer {epoch}"), 1).await;
        assert_eq!(alice.add_members(&stream, &[newcomer.did().clone()]).await.unwrap().epoch, epoch);
        drafts.push(draft(&alice, &stream).await);
        last = Some(newcomer);
    }
    let refusal = refused(alice.procedure::<SendMessage>(&drafts[0]).await, 409, "EpochTooOld");
    assert_eq!((&refusal.body["currentEpoch"], &refusal.body["oldestEpoch"]), (&6.into(), &1.into()));
    assert!(refusal.message.contains('6') && refusal.message.contains('1'), "in words, too: {}", refusal.message);
    for draft in &drafts[1..3] {
        alice.procedure::<SendMessage>(draft).await.unwrap();
    }
    let entries = alice.entries(&stream, 0).await.unwrap();
    assert_eq!(entries.last().unwrap().epoch, Some(2), "that of the message");

    alice.remove_members(&stream, &[last.unwrap().did().clone()]).await.unwrap();
    for draft in &drafts[3..] {
        let refusal = refused(alice.procedure::<SendMessage>(draft).await, 409, "EpochTooOld");
        assert_eq!(refusal.body["oldestEpoch"], 7);
    }
    alice.send(&stream, b"in the new epoch").await.unwrap();
    server.stop().await;
}
