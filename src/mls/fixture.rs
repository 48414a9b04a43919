//! Rooms full of real clients, and a server that is nothing but this module's judgements.

use std::collections::BTreeMap;

use openmls::prelude::{KeyPackage, Lifetime, MlsGroupJoinConfig, PURE_PLAINTEXT_WIRE_FORMAT_POLICY};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::SignatureScheme;

use super::client::{Client, Received};
use super::{Declared, DeclaredAdd, Stored, StoredLeaf, VerifiedCommit, founding, judge, key_package};
use crate::types::{Clock, Did, Epoch, Refusal, UnixMillis};

pub fn now() -> UnixMillis {
    Clock::System.now()
}

pub fn did(name: &str) -> Did {
    Did::parse(&format!("did:web:{name}.example")).unwrap()
}

pub fn key_pair() -> ([u8; 32], [u8; 32]) {
    let (seed, public) = RustCrypto::default().signature_key_gen(SignatureScheme::ED25519).unwrap();
    (seed.try_into().unwrap(), public.try_into().unwrap())
}

pub fn client(name: &str) -> Client {
    let (seed, public) = key_pair();
    Client::new(did(name), seed, public).unwrap()
}

pub fn leaf_of(client: &Client) -> StoredLeaf {
    StoredLeaf {
        account: client.did().clone(),
        device: client.device().clone(),
        signature_keys: vec![client.public_key().to_vec()],
    }
}

pub fn lifetime_in_the_past() -> Lifetime {
    Lifetime::init(1_000_000_000, 1_000_000_100)
}

/// One change with everything that goes to the server, and may be spoilt on its way.
#[derive(Clone)]
pub struct Change {
    pub commit: Vec<u8>,
    pub group_info: Vec<u8>,
    pub welcome: Option<Vec<u8>>,
    pub declared: Declared,
}

/// One group, its clients by name, and what the server has stored of it.
pub struct Room {
    pub group_id: Vec<u8>,
    pub group_info: Vec<u8>,
    pub stored: Stored,
    clients: BTreeMap<String, Client>,
}

impl Room {
    /// The first founds the group and adds the others in one commit.
    pub fn of(names: &[&str]) -> Self {
        Self::founded_by(client(names[0]), names)
    }

    pub fn founded_by(mut founder: Client, names: &[&str]) -> Self {
        let (group_id, group_info) = founder.create_group().unwrap();
        let founded = founding(&group_info, &leaf_of(&founder)).unwrap();
        let stored = Stored {
            group_id: group_id.clone(),
            cipher_suite: founded.cipher_suite(),
            epoch: Epoch(0),
            leaves: vec![founded.founder().clone()],
        };
        let clients = names[1..].iter().map(|name| ((*name).to_owned(), client(name)));
        let clients = clients.chain([(names[0].to_owned(), founder)]).collect();
        let mut room = Self { group_id, group_info, stored, clients };
        if names.len() > 1 {
            room.change(names[0], &names[1..], &[]);
        }
        room
    }

    pub fn invite(&mut self, name: &str, client: Client) {
        self.clients.insert(name.to_owned(), client);
    }

    pub fn client(&mut self, name: &str) -> &mut Client {
        self.clients.get_mut(name).unwrap()
    }

    pub fn leaf(&self, name: &str) -> StoredLeaf {
        leaf_of(&self.clients[name])
    }

    /// Stages a change with fresh key packages, as the server's pools would hand them out.
    pub fn stage(&mut self, actor: &str, adds: &[&str], removes: &[&str]) -> Change {
        let mut packages = Vec::new();
        let mut declared = Declared { committer: self.leaf(actor), adds: Vec::new(), removes: Vec::new() };
        for name in adds {
            let StoredLeaf { account, device, signature_keys } = self.leaf(name);
            let bytes = self.clients[*name].key_package(false).unwrap();
            let checked = key_package::check(&bytes, &account, &device, &signature_keys, now()).unwrap();
            let reference = checked.reference;
            declared.adds.push(DeclaredAdd { account, device, reference, signature_keys });
            packages.push(bytes);
        }
        declared.removes = removes.iter().map(|name| (self.leaf(name).account, self.leaf(name).device)).collect();
        let devices: Vec<_> = removes.iter().map(|name| self.leaf(name).device).collect();
        let group_id = self.group_id.clone();
        let staged = self.client(actor).stage_change(&group_id, &packages, &devices).unwrap();
        Change { commit: staged.commit, group_info: staged.group_info, welcome: staged.welcome, declared }
    }

    /// Another change in place of the one that is staged.
    pub fn stage_again(&mut self, actor: &str, adds: &[&str]) -> Change {
        let group_id = self.group_id.clone();
        self.client(actor).discard(&group_id).unwrap();
        self.stage(actor, adds, &[])
    }

    pub fn judge(&self, change: &Change) -> Result<VerifiedCommit, Refusal> {
        judge(&self.stored, &change.commit, &change.group_info, change.welcome.as_deref(), &change.declared)
    }

    /// What the server does once it has taken a commit: the row, then everybody's devices.
    pub fn deliver(&mut self, actor: &str, verified: &VerifiedCommit) {
        let group_id = self.group_id.clone();
        self.client(actor).confirm(&group_id).unwrap();
        let adds = verified.adds();
        for (name, client) in &mut self.clients {
            let me = leaf_of(client);
            let member = self.stored.leaves.contains(&me);
            let removed = verified.removes().contains(&(me.account, me.device.clone()));
            if name != actor && member {
                let received = client.receive(&group_id, verified.commit()).unwrap();
                let Received::Commit { removed_me, .. } = received else { panic!("expected a commit") };
                assert_eq!(removed_me, removed);
            }
            if adds.iter().any(|add| add.device == me.device) {
                assert_eq!(client.join(verified.welcome().unwrap()).unwrap(), group_id);
            }
        }
        self.stored.epoch = verified.epoch();
        self.stored.leaves = verified.leaves().to_vec();
        self.group_info = verified.group_info().to_vec();
        self.agree();
    }

    pub fn change(&mut self, actor: &str, adds: &[&str], removes: &[&str]) -> VerifiedCommit {
        let change = self.stage(actor, adds, removes);
        let verified = self.judge(&change).unwrap();
        self.deliver(actor, &verified);
        verified
    }

    /// Everybody on the server's roster is in the same epoch with the same secrets, and sees the same roster.
    fn agree(&self) {
        let roster: Vec<_> = self.stored.leaves.iter().map(|leaf| leaf.signature_keys[0].clone()).collect();
        let members = self.clients.values().filter(|client| self.stored.leaves.contains(&leaf_of(client)));
        let mut authenticators: Vec<_> = members
            .map(|client| {
                assert_eq!(client.epoch(&self.group_id).unwrap(), self.stored.epoch);
                let seen = client.members(&self.group_id).unwrap();
                assert_eq!(seen.into_iter().map(|member| member.signature_key).collect::<Vec<_>>(), roster);
                client.epoch_authenticator(&self.group_id).unwrap()
            })
            .collect();
        assert_eq!(authenticators.len(), roster.len());
        authenticators.dedup();
        assert_eq!(authenticators.len(), 1, "the room has forked");
    }
}

/// Alice, whose leaf has expired, adds somebody by a commit that does not renew it. Commit, Welcome, GroupInfo.
pub fn silent_alice_adds(package: KeyPackage) -> (Client, Vec<u8>, [Vec<u8>; 3]) {
    let mut alice = client("alice");
    alice.set_leaf_lifetime(lifetime_in_the_past());
    let (group_id, _) = alice.create_group().unwrap();
    let (group, provider, signer) = alice.parts(&group_id).unwrap();
    let builder = group.commit_builder().propose_adds([package]).load_psks(provider.storage()).unwrap();
    let built = builder.build(provider.rand(), provider.crypto(), signer, |_| true).unwrap();
    let (commit, welcome, group_info) = built.stage_commit(provider).unwrap().into_messages();
    let bytes = [commit, welcome.unwrap(), group_info.unwrap()].map(|message| message.to_bytes().unwrap());
    (alice, group_id, bytes)
}

/// A commit as a PublicMessage, which no client of ours sends.
pub fn public_commit(room: &mut Room, name: &str) -> Vec<u8> {
    let group_id = room.group_id.clone();
    let (group, provider, signer) = room.client(name).parts(&group_id).unwrap();
    let config = MlsGroupJoinConfig::builder().wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY).build();
    group.set_configuration(provider.storage(), &config).unwrap();
    let builder = group.commit_builder().force_self_update(true).load_psks(provider.storage()).unwrap();
    let built = builder.build(provider.rand(), provider.crypto(), signer, |_| true).unwrap();
    let (commit, ..) = built.stage_commit(provider).unwrap().into_messages();
    commit.to_bytes().unwrap()
}
