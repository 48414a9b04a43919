//! A bent home, and a real server that follows one of its streams.

use std::sync::Arc;

use rookery::federation::replica::FollowError;
use rookery::lexicon::event::defs::Event;
use rookery::lexicon::event::list_events::{ListEvents, Params};
use rookery::log::StreamState;
use rookery::types::{Clock, Did, Seq};
use rookery_testkit::Person;
use serde_json::Value;

use super::Federation;
use super::bent::{BentHome, Chain, Said};
use super::two_servers::{allow, took};

/// The entry by which Bob is seated.
pub const SEATED: u64 = 4;

pub struct Following {
    pub home: BentHome,
    pub servers: Federation,
    /// On the follower.
    pub bob: Arc<Person>,
    pub chain: Chain,
    origin: String,
}

impl Following {
    /// Bob was just added, and nothing was replicated yet.
    pub async fn begin() -> Self {
        Self::begin_at(Clock::System).await
    }

    pub async fn begin_at(clock: Clock) -> Self {
        let home = BentHome::start_at(clock.clone()).await;
        let settings = [("FEDERATION", "open"), ("FEDERATION_ALLOW", home.did.as_str())];
        let servers = Federation::at(1, clock, &settings).await;
        let bob = servers[0].person("bob").await;
        let mut chain = Chain::found(&home);
        chain.add(&bob, servers[0].did());
        let origin = servers[0].proxy.origin();
        let following = Self { home, servers, bob, chain, origin };
        following.follow().await.unwrap();
        following
    }

    /// The same, and Bob's seat is held.
    pub async fn seated() -> Self {
        Self::seated_at(Clock::System).await
    }

    pub async fn seated_at(clock: Clock) -> Self {
        let following = Self::begin_at(clock).await;
        assert_eq!(state(&following.replicates(SEATED, SEATED).await), "ok");
        following
    }

    pub async fn follow(&self) -> Result<(), FollowError> {
        self.follow_as(&self.home, &self.chain).await
    }

    /// Follows what that home says of that order.
    pub async fn follow_as(&self, home: &BentHome, chain: &Chain) -> Result<(), FollowError> {
        home.offers(chain, SEATED);
        took(&self.servers[0], chain.stream().as_str(), &self.bob).await;
        let replicas = &self.servers[0].server().services().replicas;
        replicas.follow(chain.stream(), &home.did, Seq(SEATED), Some(chain.view())).await.map(drop)
    }

    /// Another server that is on no probation.
    pub async fn stranger(&self) -> BentHome {
        let stranger = BentHome::start_at(self.servers.clock.clone()).await;
        allow(&self.servers[0], &stranger.did).await;
        stranger
    }

    pub fn to(&self) -> (&str, &Did) {
        (&self.origin, self.servers[0].did())
    }

    pub async fn replicates(&self, from: u64, until: u64) -> Said {
        self.home.replicates(self.to(), &self.chain, from, until).await
    }

    /// In what state the follower holds the stream, and how far.
    pub async fn held(&self) -> (StreamState, u64) {
        let log = &self.servers[0].server().services().log;
        let info = log.find_stream(self.chain.stream().as_str()).await.unwrap().unwrap();
        let row = log.row(info.id).await.unwrap();
        (row.state, row.head_seq.0)
    }

    /// What Bob was told in his account stream, of one kind.
    pub async fn told(&self, kind: &str) -> Vec<Event> {
        self.servers[0].settled().await;
        told(&self.bob, kind).await
    }

    pub async fn stop(self) {
        self.servers.stop().await;
    }
}

pub async fn told(person: &Person, kind: &str) -> Vec<Event> {
    let params = Params { cursor: Some("0".to_owned()), limit: 100 };
    let page = person.query::<ListEvents>(&params).await.unwrap();
    page.events.into_iter().filter(|event| event.kind == kind).collect()
}

pub fn state(said: &Said) -> &str {
    assert_eq!(said.0, 200, "{}", said.1);
    said.1["state"].as_str().unwrap()
}

/// Status and name of a refusal.
pub fn no(said: &Said) -> (u16, &str) {
    (said.0, said.1["error"].as_str().unwrap_or_default())
}

pub fn seq(said: &Said) -> u64 {
    said.1["seq"].as_u64().unwrap()
}

pub fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}
