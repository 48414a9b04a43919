use rookery::lexicon::mls::get_convo::{GetConvo, Params};

use crate::support::{TestServer, conversation, refused};

#[tokio::test]
async fn a_member_sees_the_roster_of_the_log_and_what_it_has_not_read() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    people[0].send(&stream, b"one").await.unwrap();
    let last = people[0].send(&stream, b"two").await.unwrap();
    let convo = people[1].convo(&stream).await.unwrap();
    assert_eq!((convo.role.as_str(), convo.epoch, convo.unread), ("member", 1, 2));
    assert_eq!((convo.head.seq, convo.settings.last_read_seq), (last.seq, 0));
    assert_eq!((convo.handshake_policy.as_str(), convo.metadata), ("opaque", None));
    let mut devices: Vec<_> =
        convo.members.iter().map(|member| (member.account.clone(), member.devices[0].device.clone())).collect();
    let mut expected: Vec<_> = people.iter().map(|one| (one.did().clone(), one.device().to_string())).collect();
    devices.sort();
    expected.sort();
    assert_eq!(devices, expected);
    assert_eq!(convo.members[0].account, *people[0].did(), "the founder's seat is the oldest");

    let second = server.second_device(&people[1]).await;
    assert_eq!(second.convo(&stream).await.unwrap().members, convo.members, "an uncertified device sees it, too");
    server.stop().await;
}

#[tokio::test]
async fn without_an_open_seat_there_is_no_such_stream() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let stranger = server.person("stranger").await;
    refused(stranger.convo(&stream).await, 404, "StreamNotFound");
    refused(people[0].convo("sfqpona3sefnrzydeijvvzw6u54sydlha").await, 404, "StreamNotFound");
    let account = stranger.register().await.unwrap().stream;
    refused(stranger.convo(&account).await, 404, "StreamNotFound");
    people[0].remove_members(&stream, &[people[1].did().clone()]).await.unwrap();
    refused(people[1].query::<GetConvo>(&Params { stream }).await, 404, "StreamNotFound");
    server.stop().await;
}
