//! A device whose key and MLS client lie open: for what an honest person never does.

use std::sync::Arc;

use rookery::identity::{Curve, DeviceChain, DeviceKeys, DeviceSigner, MlsKey, SigningKey, body_hash};
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::register_device::{self, RegisterDevice};
use rookery::lexicon::event::defs::Event;
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::lexicon::mls::add_members;
use rookery::lexicon::mls::claim_key_packages::{self, ClaimKeyPackages};
use rookery::lexicon::mls::create_convo::{self, CreateConvo, Policy};
use rookery::lexicon::mls::defs::{Addition, PublishedKeyPackage, Removal};
use rookery::lexicon::mls::publish_key_package::{self, PublishKeyPackage};
use rookery::lexicon::{Method, Nothing};
use rookery::types::{Bytes, Did};
use rookery_client::Service;
use rookery_client::mls::Client;
use rookery_client::{CallError, Claimed, read_chain};
use rookery_testkit::{Identity, Person};

use super::{TestServer, idem};

pub struct Handmade {
    pub account: Arc<Identity>,
    pub signer: DeviceSigner,
    pub mls: Client,
    pub(super) seed: [u8; 32],
    pub service: Arc<Service>,
}

impl Handmade {
    /// Not registered yet.
    pub fn new(server: &TestServer, account: Arc<Identity>) -> Self {
        let seed: [u8; 32] = rand::random();
        let key = SigningKey::from_bytes(Curve::Ed25519, &seed).unwrap();
        let mls = Client::new(account.did.clone(), seed, key.public().raw().try_into().unwrap()).unwrap();
        let signer = DeviceSigner::new(account.did.clone(), key);
        Self { signer, mls, seed, service: server.service(), account }
    }

    /// With a device key of that curve, and an Ed25519 key for its leaves.
    pub fn of_curve(server: &TestServer, account: Arc<Identity>, curve: Curve) -> Self {
        let mut device = Self::new(server, account);
        let signer = DeviceSigner::new(device.did().clone(), SigningKey::generate(curve));
        let (id, public) = (signer.device.clone(), device.mls.public_key());
        device.mls = Client::of_device(device.did().clone(), id, device.seed, public).unwrap();
        Self { signer, ..device }
    }

    /// What a certificate of this device lists.
    pub fn keys(&self) -> DeviceKeys {
        let key = self.signer.key().public();
        if key.raw() == self.mls.public_key() {
            return DeviceKeys::of(key);
        }
        DeviceKeys::new(key, vec![self.mls_key()]).unwrap()
    }

    /// The key of its leaves, proven for this device of this account.
    pub fn mls_key(&self) -> MlsKey {
        let key = SigningKey::from_bytes(Curve::Ed25519, &self.seed).unwrap();
        MlsKey::prove(&key, self.did(), &self.signer.device).unwrap()
    }

    /// The account's device chain as the account's PDS reads it, checked.
    pub async fn chain(&self) -> DeviceChain {
        let token = || Some(self.service_token(ListDevices::NSID));
        read_chain(self.did(), &self.service.query::<ListDevices>(&Nothing {}, token).await.unwrap()).unwrap()
    }

    /// The chain's next link: this device vouches for those keys.
    pub async fn vouch_for(&self, keys: &DeviceKeys) -> Bytes {
        Bytes(self.chain().await.certify(self.signer.key(), keys).unwrap().encode().unwrap())
    }

    /// Everything in the account's streams.
    pub async fn events(&self) -> Vec<Event> {
        let params = list_events::Params { cursor: None, limit: 100 };
        let token = || Some(self.token(ListEvents::NSID));
        self.service.query::<ListEvents>(&params, token).await.unwrap().events
    }

    /// The same key under the name of another account.
    pub fn impostor(&self, of: &Did) -> Client {
        Client::new(of.clone(), self.seed, self.mls.public_key()).unwrap()
    }

    /// A second account's claim on the same key.
    pub fn under(&self, account: Arc<Identity>) -> Self {
        let key = SigningKey::from_bytes(Curve::Ed25519, &self.seed).unwrap();
        let signer = DeviceSigner::new(account.did.clone(), key);
        Self { mls: self.impostor(&account.did), signer, seed: self.seed, service: Arc::clone(&self.service), account }
    }

    /// The same device at another address of the service.
    pub fn at(&self, url: &str) -> Self {
        let service = Service::new(url, self.service.did().clone()).unwrap().with_patience(std::time::Duration::ZERO);
        let service = Arc::new(service.with_clock(self.service.clock().clone()));
        Self { service, ..self.under(Arc::clone(&self.account)) }
    }

    pub fn did(&self) -> &Did {
        &self.account.did
    }

    pub fn token(&self, nsid: &str) -> String {
        self.signer.token(self.service.did().as_str(), nsid, self.service.clock().now(), None)
    }

    /// A device token that is bound to a body.
    pub fn proof(&self, nsid: &str, body: &[u8]) -> String {
        let (audience, now) = (self.service.did().as_str(), self.service.clock().now());
        self.signer.token(audience, nsid, now, Some(&body_hash(body)))
    }

    pub fn service_token(&self, nsid: &str) -> String {
        self.account.service_token(self.service.did().as_str(), nsid, self.service.clock().now())
    }

    pub async fn procedure<M: Method>(&self, input: &M::Input) -> Result<M::Output, CallError> {
        self.service.procedure::<M>(input, || Some(self.token(M::NSID))).await
    }

    /// What it would register with.
    pub fn registration(&self) -> register_device::Input {
        register_device::Input {
            public_key: Bytes(self.signer.key().public().raw()),
            kind: "app".to_owned(),
            name: Some(Bytes(b"sealed".to_vec())),
            platform: Some("test".to_owned()),
            certificate: None,
            mls_keys: Some(self.keys().mls_keys().iter().map(listed).collect::<Vec<_>>())
                .filter(|keys| !keys.is_empty()),
            invite: None,
        }
    }

    pub async fn register(&self) -> Result<register_device::Output, CallError> {
        self.register_with(&self.registration()).await
    }

    pub async fn register_with(&self, input: &register_device::Input) -> Result<register_device::Output, CallError> {
        self.register_proven(input, |body| self.proof(RegisterDevice::NSID, body)).await
    }

    /// With another proof than the device's own over the body.
    pub async fn register_proven(
        &self,
        input: &register_device::Input,
        proof: impl Fn(&[u8]) -> String,
    ) -> Result<register_device::Output, CallError> {
        let token = || std::future::ready(Ok(Some(self.service_token(RegisterDevice::NSID))));
        self.service.procedure_proven::<RegisterDevice, _>(input, token, proof).await
    }

    pub async fn publish(&self, key_package: Vec<u8>) -> Result<PublishedKeyPackage, CallError> {
        let input = publish_key_package::Input { key_package: Bytes(key_package) };
        self.procedure::<PublishKeyPackage>(&input).await
    }

    /// A group of its own, and what founds a conversation of it.
    pub fn founding(&mut self, max_devices: Option<u64>) -> (Vec<u8>, create_convo::Input) {
        let (group_id, group_info) = self.mls.create_group().unwrap();
        let input = create_convo::Input {
            idem: idem(),
            group_info: Bytes(group_info),
            handshake_policy: "opaque".to_owned(),
            policy: max_devices.map(|max| Policy { max_devices: Some(max) }),
            metadata: None,
        };
        (group_id, input)
    }

    pub async fn found(&mut self, max_devices: Option<u64>) -> (Vec<u8>, String) {
        let (group_id, input) = self.founding(max_devices);
        (group_id, self.procedure::<CreateConvo>(&input).await.unwrap().stream)
    }

    /// Claims one key package of each certified device of the account.
    pub async fn claim(&self, stream: &str, account: &Did) -> Vec<Claimed> {
        let input = claim_key_packages::Input {
            claim_id: idem(),
            stream: stream.to_owned(),
            home: None,
            targets: vec![account.clone()],
            cipher_suites: vec![1],
        };
        let answer = self.procedure::<ClaimKeyPackages>(&input).await.unwrap();
        let packages = answer.targets.into_iter().flat_map(|target| target.packages.unwrap_or_default());
        packages
            .map(|package| Claimed {
                account: account.clone(),
                device: package.device,
                reference: package.r#ref,
                key_package: package.key_package,
                last_resort: package.last_resort,
            })
            .collect()
    }

    /// A commit that adds what was claimed and removes these devices. It is staged: confirm or discard it.
    pub fn change(
        &mut self,
        group_id: &[u8],
        stream: &str,
        adds: &[Claimed],
        removes: &[&Person],
    ) -> add_members::Input {
        let packages: Vec<Vec<u8>> = adds.iter().map(|add| add.key_package.0.clone()).collect();
        let devices: Vec<_> = removes.iter().map(|person| person.device().clone()).collect();
        let staged = self.mls.stage_change(group_id, &packages, &devices).unwrap();
        add_members::Input {
            stream: stream.to_owned(),
            idem: idem(),
            commit: Bytes(staged.commit),
            group_info: Bytes(staged.group_info),
            welcome: Bytes(staged.welcome.unwrap_or_default()),
            adds: adds.iter().map(addition).collect(),
            removes: (!removes.is_empty()).then(|| removes.iter().map(|person| removal(person)).collect()),
        }
    }
}

/// How a registration lists a further key.
pub fn listed(key: &MlsKey) -> register_device::MlsKey {
    register_device::MlsKey { key: key.key.clone(), proof: key.proof.clone() }
}

/// How an addition of a claimed package is declared.
pub fn addition(claimed: &Claimed) -> Addition {
    Addition { account: claimed.account.clone(), device: claimed.device.clone(), r#ref: claimed.reference.clone() }
}

/// How the removal of a device is declared.
pub fn removal(person: &Person) -> Removal {
    Removal { account: person.did().clone(), device: person.device().to_string() }
}
