//! Server-sent events as they come.
//!
//! Invariant: each stored event is compared with its lexicon here.

use std::time::Duration;

use crate::Person;
use rookery::lexicon::Method;
use rookery::lexicon::event::stream_events::StreamEvents;
use serde_json::Value;

use crate::TestServer;

/// What is expected comes within this time.
const PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(400);

#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Event {
        id: Option<String>,
        kind: String,
        data: Value,
    },
    Comment,
    /// The answer ended in good order.
    End,
}

pub struct Events {
    response: reqwest::Response,
    unread: String,
    /// Bytes of the answer's body so far.
    pub bytes: usize,
}

impl Events {
    /// `query` begins with `?` or is empty.
    pub async fn open(server: &TestServer, person: &Person, query: &str) -> Self {
        Self::ask(server, query, Some(&person.token(StreamEvents::NSID))).await
    }

    pub async fn ask(server: &TestServer, query: &str, token: Option<&str>) -> Self {
        let mut request = server.at(http::Method::GET, &format!("/xrpc/{}{query}", StreamEvents::NSID));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, unread: String::new(), bytes: 0 }
    }

    pub fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub async fn next(&mut self) -> Told {
        tokio::time::timeout(PATIENCE, self.told()).await.expect("something is told")
    }

    async fn told(&mut self) -> Told {
        loop {
            if let Some(at) = self.unread.find("\n\n") {
                let block: String = self.unread.drain(..at + 2).collect();
                return read(&block);
            }
            match self.response.chunk().await.unwrap() {
                Some(bytes) => {
                    self.bytes += bytes.len();
                    self.unread.push_str(std::str::from_utf8(&bytes).unwrap());
                }
                None => {
                    assert_eq!(self.unread, "", "half an event");
                    return Told::End;
                }
            }
        }
    }

    /// The next event: its id, kind and data.
    pub async fn event(&mut self) -> (Option<String>, String, Value) {
        loop {
            match self.next().await {
                Told::Event { id, kind, data } => return (id, kind, data),
                Told::Comment => {}
                Told::End => panic!("the answer ended"),
            }
        }
    }

    /// Events up to one of this stream with that number; their streams and numbers.
    pub async fn until(&mut self, stream: &str, seq: u64) -> Vec<(String, u64)> {
        let mut heard = Vec::new();
        loop {
            let (_, _, data) = self.event().await;
            heard.push((data["stream"].as_str().unwrap().to_owned(), data["seq"].as_u64().unwrap()));
            if data["stream"] == stream && data["seq"] == seq {
                return heard;
            }
        }
    }

    /// Passes over events; the last is of this kind, and then the answer is over. Its id and data.
    pub async fn ends(&mut self, last: &str) -> (String, Value) {
        loop {
            if let Told::Event { id, kind, data } = self.next().await
                && kind == last
            {
                assert_eq!(self.next().await, Told::End);
                return (id.unwrap(), data);
            }
        }
    }

    /// Passes over what comes now; nothing of it is of this stream.
    pub async fn is_silent_of(&mut self, stream: &str) {
        while let Ok((_, kind, data)) = tokio::time::timeout(SILENCE, self.event()).await {
            assert!(data["stream"] != stream, "{kind}: {data}");
        }
    }

    pub async fn is_silent(&mut self) {
        let told = tokio::time::timeout(SILENCE, self.event()).await;
        assert!(told.is_err(), "{told:?}");
    }
}

fn read(block: &str) -> Told {
    if block.starts_with(':') {
        return Told::Comment;
    }
    let field =
        |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned);
    let (id, kind) = (field("id"), field("event").unwrap());
    let data: Value = serde_json::from_str(&field("data").unwrap()).unwrap();
    if data["header"].is_object() {
        assert_eq!((data["cursor"].as_str(), data["kind"].as_str()), (id.as_deref(), Some(kind.as_str())));
        let page = serde_json::json!({ "events": [data], "cursor": id, "more": false });
        rookery::lexicon::schema::output("blue.catbird.event.listEvents", &page).unwrap();
    }
    Told::Event { id, kind, data }
}
