//! Everybody who may come, each with an account of their own, around one conversation.

use std::collections::HashMap;
use std::sync::Arc;

use rookery::identity::{Curve, SigningKey};
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::account::set_block::{self, SetBlock};
use rookery::lexicon::admin::suspend_account::{self, SuspendAccount};
use rookery::lexicon::mls::get_welcomes::{self, GetWelcomes};
use rookery::types::Did;
use rookery_testkit::Person;

use crate::support::{Stranger, TestDatabase, TestServer, certify};

/// The columns of the table, in its order.
pub const ACTORS: [&str; 25] = [
    "anonymous",
    "bad-token",
    "session",
    "proof",
    "uncertified",
    "stranger",
    "invited",
    "member",
    "admin",
    "leafless",
    "former",
    "revoked",
    "blocked",
    "suspended",
    "operator",
    "operator-session",
    "ticket",
    "head",
    "lapsed",
    "proof-expired",
    "elsewhere",
    "unknown-peer",
    "blocked-peer",
    "foreign-peer",
    "former-home",
];

/// By what somebody is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Nothing,
    /// A token in the person's name that another key signed.
    Forgery,
    /// A service token, and the device's name: what a PDS can make alone.
    Session,
    /// A service token, and a device token bound to the body.
    Proof,
    /// A device token; for methods of accounts, a service token.
    Device,
    /// A ticket in the query, and no other credential.
    Ticket,
    /// As by [`Self::Device`], by the verb HEAD.
    Head,
    /// The signature of another server, on behalf of the person.
    Peer,
}

pub struct Actor {
    pub name: &'static str,
    pub by: By,
    pub person: Arc<Person>,
}

pub struct World {
    pub server: TestServer,
    pub stream: String,
    pub actors: Vec<Actor>,
    pub member: Arc<Person>,
    /// An application message of the conversation. The server cannot tell who wrote it.
    pub ciphertext: Vec<u8>,
    /// The invited account's Welcome.
    pub welcome: String,
    /// By device.
    pub public_keys: HashMap<String, Vec<u8>>,
    /// By the actor's name.
    pub peers: HashMap<&'static str, Peer>,
}

/// Another server.
pub struct Peer {
    pub stranger: Stranger,
    /// The account that it speaks for, where that is not the person that others are.
    pub account: Option<Did>,
    /// A key that its document does not list.
    pub forged: Option<SigningKey>,
}

impl World {
    pub async fn begin() -> Self {
        let mut peers = HashMap::new();
        for name in ["unknown-peer", "blocked-peer", "foreign-peer", "former-home"] {
            peers.insert(name, Peer { stranger: Stranger::start().await, account: None, forged: None });
        }
        let names: Vec<&str> = peers.values().map(|peer| peer.stranger.did.as_str()).collect();
        let settings = [("FEDERATION", "open"), ("FEDERATION_ALLOW", &*names.join(","))];
        let database = TestDatabase::create().await;
        let (server, operator) = TestServer::start_with_operator_on_with(database, &settings).await;
        peers.get_mut("unknown-peer").unwrap().forged = Some(SigningKey::generate(Curve::Ed25519));
        let foreign = peers.get_mut("foreign-peer").unwrap();
        let account = server.account();
        server.directory.add_at(&account, &foreign.stranger.origin);
        foreign.account = Some(account.did.clone());
        let elsewhere = server.account();
        server.directory.add_at(&elsewhere, &peers["foreign-peer"].stranger.origin);
        let elsewhere = Person::new("elsewhere", elsewhere, server.service()).unwrap();
        elsewhere.register().await.unwrap();
        let elsewhere = Arc::new(elsewhere);
        let admin = server.person("admin").await;
        let (stranger, blocked) = (server.newcomer("stranger", 0).await, server.newcomer("blocked", 0).await);
        let mut seated = HashMap::new();
        for name in [
            "session",
            "proof",
            "uncertified",
            "invited",
            "member",
            "leafless",
            "former",
            "revoked",
            "suspended",
            "lapsed",
            "proof-expired",
        ] {
            seated.insert(name, server.newcomer(name, 1).await);
        }
        let stream = admin.create_convo().await.unwrap();
        let dids: Vec<Did> = seated.values().map(|person| person.did().clone()).collect();
        admin.add_members(&stream, &dids).await.unwrap();

        for by in [&admin, &seated["member"]] {
            let block = set_block::Input { account: blocked.did().clone(), blocked: true };
            by.procedure::<SetBlock>(&block).await.unwrap();
        }
        admin.remove_members(&stream, &[seated["former"].did().clone()]).await.unwrap();
        let uncertified = server.second_device(&seated["uncertified"]).await;
        let leafless = server.second_device(&seated["leafless"]).await;
        certify(&seated["leafless"], &leafless).await;
        let device = seated["revoked"].device().to_string();
        seated["revoked"].procedure::<RevokeDevice>(&revoke_device::Input { device, revocation: None }).await.unwrap();
        let account = seated["suspended"].did().clone();
        let suspension = suspend_account::Input { account, suspended: true, reason: None };
        operator.procedure::<SuspendAccount>(&suspension).await.unwrap();
        let waiting = seated["invited"].query::<GetWelcomes>(&get_welcomes::Params { limit: 1, cursor: None });
        let welcome = waiting.await.unwrap().welcomes.remove(0).id;
        let (ciphertext, _) = admin.encrypt(&stream, b"whoever says it").await.unwrap();

        let mut connection = server.database.connect().await;
        let block =
            "insert into peer (did, domain, policy, first_seen_at, last_seen_at) values ($1, $1, 2, now(), now())";
        let blocked_peer = peers["blocked-peer"].stranger.did.as_str();
        sqlx::query(block).bind(blocked_peer).execute(&mut connection).await.unwrap();
        let keys = sqlx::query_as::<_, (String, Vec<u8>)>("select public_id, public_key from device");
        let public_keys = keys.fetch_all(&mut connection).await.unwrap().into_iter().collect();

        let member = Arc::clone(&seated["member"]);
        server.directory.add_at(member.account(), "https://rookery.test");
        let actors = ACTORS.map(|name| {
            let (by, person) = match name {
                "anonymous" => (By::Nothing, &member),
                "bad-token" => (By::Forgery, &member),
                "session" => (By::Session, &seated[name]),
                "proof" => (By::Proof, &seated[name]),
                "uncertified" => (By::Device, &uncertified),
                "leafless" => (By::Device, &leafless),
                "stranger" => (By::Device, &stranger),
                "blocked" => (By::Device, &blocked),
                "operator" => (By::Device, &operator),
                "operator-session" => (By::Session, &operator),
                "ticket" => (By::Ticket, &member),
                "head" => (By::Head, &member),
                "elsewhere" => (By::Device, &elsewhere),
                "admin" => (By::Device, &admin),
                "unknown-peer" | "blocked-peer" | "foreign-peer" | "former-home" => (By::Peer, &member),
                _ => (By::Device, &seated[name]),
            };
            Actor { name, by, person: Arc::clone(person) }
        });
        Self { server, stream, actors: actors.into(), member, ciphertext, welcome, public_keys, peers }
    }

    /// Restores an actor's state: a call may have changed it, as registering again does.
    pub async fn prepare(&self, actor: &Actor) {
        if actor.by == By::Session {
            // One address may open twenty pairings, and there are more actors.
            let mut connection = self.server.database.connect().await;
            sqlx::query("delete from pairing").execute(&mut connection).await.unwrap();
        }
        let aged = match actor.name {
            "lapsed" => {
                "update device set created_at = now() - interval '200 days', last_seen_at = now() - interval '100 days'
                 where public_id = $1"
            }
            "proof-expired" => "update device set account_proven_at = now() - interval '40 days' where public_id = $1",
            _ => return,
        };
        let mut connection = self.server.database.connect().await;
        sqlx::query(aged).bind(actor.person.device().as_str()).execute(&mut connection).await.unwrap();
    }

    pub async fn end(self) {
        self.server.stop().await;
    }
}
