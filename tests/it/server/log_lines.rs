use std::sync::{Arc, Mutex};

use rookery::lexicon::Method;
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::event::get_ticket::{self, GetTicket};
use rookery::lexicon::event::stream_events::StreamEvents;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Events, Socket, TestServer, conversation, refused};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Written {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// On one thread, so that all that the server does is heard here.
#[tokio::test]
async fn the_log_has_a_line_for_each_request_and_names_nobody() {
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt().json().with_max_level(LevelFilter::DEBUG);
    let _listening = tracing::subscriber::set_default(subscriber.with_writer(written.clone()).finish());

    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    people[0].send(&stream, b"hello").await.unwrap();
    let stranger = server.person("stranger").await;
    refused(stranger.convo(&stream).await, 404, "StreamNotFound");
    let mut socket = Socket::open(&server, &people[1], "?cursor=0").await;
    socket.event().await;
    let input = get_ticket::Input { lxm: StreamEvents::NSID.to_owned() };
    let ticket = people[1].procedure::<GetTicket>(&input).await.unwrap().ticket;
    Events::ask(&server, &format!("?cursor=0&ticket={ticket}"), None).await.event().await;
    let device = people[1].device().to_string();
    people[1].procedure::<RevokeDevice>(&revoke_device::Input { device, revocation: None }).await.unwrap();
    refused(people[1].convo(&stream).await, 401, "DeviceRevoked");
    server.stop().await;

    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let answered: Vec<&str> = log.lines().filter(|line| line.contains("\"answered\"")).collect();
    for expected in ["mls.sendMessage", "StreamNotFound", "DeviceRevoked", "duration_us", "request.id"] {
        assert!(answered.iter().any(|line| line.contains(expected)), "no line of a request says {expected}");
    }
    for person in people.iter().chain([&stranger]) {
        let name = person.did().as_str().rsplit(':').next().unwrap();
        assert!(!log.contains(name), "an account is named: {}", log.lines().find(|line| line.contains(name)).unwrap());
    }
    assert!(log.contains("event.streamEvents") && !log.contains(&ticket), "no ticket is written");
    assert!(!log.contains("Bearer ") && !log.contains("eyJ"), "no token is written");
}
