//! The device chain of an account: who vouches for whom.
//!
//! Invariant: a chain begins with one device, trusted on first use, in a genesis that nobody signs. Every later link is
//! signed by a device that stands in the chain at that moment, and names the hash of the link before; a key that was in
//! a chain once never comes into it again. [`DeviceChain::extend`] is the only rule, for the server and for clients.
//!
//! Deliberately absent: time. The order of the links is the only one there is.

mod device_keys;

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::keys::{Malleability, PublicKey};
use super::signing::SigningKey;
use super::statement::message;
use crate::types::{Bytes, DeviceId, Did, Hash, Malformed};

pub use device_keys::{DeviceKeys, MlsKey};

/// What a link is signed under.
const LINK_LABEL: &str = "rookery device v1";
/// What a link's statement is hashed under. Not its signature: one statement has many.
const CHAIN_LABEL: &str = "rookery device chain v1";
const VERSION: u8 = 1;

/// One link as it is stored and shown: canonical DAG-CBOR `{sig?, statement}`. A genesis has no signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceLink {
    /// Canonical DAG-CBOR, kept as first made.
    pub statement: Bytes,
    /// 64 bytes over `label ‖ 0x00 ‖ statement`: R‖S with low S, or RFC 8032.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig: Option<Bytes>,
}

/// The first link: the device that everything else follows from.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Genesis {
    v: u8,
    account: Did,
    /// 1 for the account's first chain.
    generation: u32,
    device: DeviceId,
    alg: String,
    public_key: Bytes,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mls_keys: Vec<MlsKey>,
}

/// Every other link. A `certify` has `alg` and `publicKey`, a `revoke` has no keys.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Statement {
    v: u8,
    account: Did,
    /// The genesis is 1.
    seq: u64,
    /// Hash of the link before.
    prev: Bytes,
    change: Verb,
    device: DeviceId,
    /// Who signs.
    by: DeviceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mls_keys: Vec<MlsKey>,
}

impl Statement {
    fn check_place(&self, account: &Did, head: &ChainHead) -> Result<(), BadLink> {
        if self.account != *account {
            return Err(BadLink::OtherAccount);
        }
        let is_next = self.seq == head.seq + 1 && self.prev.as_slice() == head.hash.as_slice();
        if is_next { Ok(()) } else { Err(BadLink::NotNext) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Certify,
    Revoke,
}

/// Where a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    pub generation: u32,
    pub seq: u64,
    pub hash: Hash,
}

/// What a link does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Certify(DeviceKeys),
    Revoke(DeviceId),
}

/// A link that fits its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    pub change: Change,
    /// Who signed.
    pub by: DeviceId,
    /// The chain's end with this link.
    pub head: ChainHead,
}

/// Why a link does not fit its chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLink {
    #[error("the link is not canonical DAG-CBOR of this form")]
    Malformed,
    #[error("the link is of another account")]
    OtherAccount,
    #[error("the link does not follow the chain's newest")]
    NotNext,
    #[error("the signer does not stand in the chain")]
    Signer,
    #[error("the signature does not hold")]
    Signature,
    #[error("the device's id does not follow from its key")]
    DeviceId,
    #[error("one of mlsKeys did not sign that it belongs to this device of this account")]
    MlsKey,
    #[error("a key was in the chain before")]
    KeyUsed,
    #[error("the device does not stand in the chain")]
    Unknown,
    #[error(transparent)]
    Keys(#[from] Malformed),
}

/// Whether the signatures of a link are verified now, or were when the link arrived.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signatures {
    Verified,
    Trusted,
}

/// A chain that was checked from its genesis to its head.
#[derive(Clone, Debug)]
pub struct DeviceChain {
    account: Did,
    generation: u32,
    /// Of each link, from the genesis on.
    hashes: Vec<Hash>,
    standing: BTreeMap<DeviceId, DeviceKeys>,
    used: HashSet<Vec<u8>>,
}

impl DeviceLink {
    pub fn decode(bytes: &[u8]) -> Result<Self, BadLink> {
        decode(bytes)
    }

    pub fn encode(&self) -> Result<Vec<u8>, BadLink> {
        encode(self)
    }

    /// Checks that the link belongs to the account and follows this head. The check reads no other link of the chain.
    pub fn check_place(&self, account: &Did, head: &ChainHead) -> Result<(), BadLink> {
        self.statement()?.check_place(account, head)
    }

    fn statement(&self) -> Result<Statement, BadLink> {
        let statement: Statement = decode(self.statement.as_slice())?;
        if statement.v != VERSION || self.sig.is_none() { Err(BadLink::Malformed) } else { Ok(statement) }
    }

    fn hash(&self) -> Hash {
        Hash::labelled(CHAIN_LABEL, self.statement.as_slice())
    }
}

impl DeviceChain {
    /// A chain of one device, and its genesis.
    pub fn begin(account: &Did, generation: u32, first: &DeviceKeys) -> Result<(Self, DeviceLink), BadLink> {
        let genesis = Genesis {
            v: VERSION,
            account: account.clone(),
            generation,
            device: first.device(),
            alg: first.key().alg().to_owned(),
            public_key: Bytes(first.key().raw()),
            mls_keys: first.mls_keys().to_vec(),
        };
        let link = DeviceLink { statement: Bytes(encode(&genesis)?), sig: None };
        Ok((Self::of_genesis(account, &link, Signatures::Verified)?, link))
    }

    fn of_genesis(account: &Did, link: &DeviceLink, signatures: Signatures) -> Result<Self, BadLink> {
        let genesis: Genesis = decode(link.statement.as_slice())?;
        if genesis.v != VERSION || link.sig.is_some() {
            return Err(BadLink::Malformed);
        }
        if genesis.account != *account {
            return Err(BadLink::OtherAccount);
        }
        let keys = DeviceKeys::read(&genesis.alg, &genesis.public_key, genesis.mls_keys, &genesis.device)?;
        if signatures == Signatures::Verified {
            keys.verify(account)?;
        }
        Ok(Self {
            account: genesis.account,
            generation: genesis.generation,
            hashes: vec![link.hash()],
            used: keys.all().collect(),
            standing: BTreeMap::from([(genesis.device, keys)]),
        })
    }

    /// Checks every link, from the genesis on.
    pub fn read(account: &Did, links: &[DeviceLink]) -> Result<Self, BadLink> {
        let (genesis, links) = links.split_first().ok_or(BadLink::Malformed)?;
        let mut chain = Self::of_genesis(account, genesis, Signatures::Verified)?;
        for link in links {
            chain.extend(link)?;
        }
        Ok(chain)
    }

    /// The same for links in any order, those of other generations among them: the chain of `generation`.
    pub fn gather(account: &Did, generation: u32, links: &[DeviceLink]) -> Result<Self, BadLink> {
        let mut next = BTreeMap::new();
        let mut begun = None;
        for link in links {
            if link.sig.is_some() {
                let statement: Statement = decode(link.statement.as_slice())?;
                next.insert(statement.prev.0, link);
            } else {
                begun = Some(Self::of_genesis(account, link, Signatures::Verified)?)
                    .filter(|chain| chain.generation == generation)
                    .or(begun);
            }
        }
        let mut chain = begun.ok_or(BadLink::Malformed)?;
        while let Some(link) = next.remove(chain.head().hash.as_slice()) {
            chain.extend(link)?;
        }
        Ok(chain)
    }

    /// For whoever checked each link when it came: signatures are not verified again.
    pub fn replay(account: &Did, links: &[DeviceLink]) -> Result<Self, BadLink> {
        let (genesis, links) = links.split_first().ok_or(BadLink::Malformed)?;
        let mut chain = Self::of_genesis(account, genesis, Signatures::Trusted)?;
        for link in links {
            let extension = chain.fitting(link)?.1;
            chain.apply(&extension);
        }
        Ok(chain)
    }

    /// Checks a link, and moves on to it.
    pub fn extend(&mut self, link: &DeviceLink) -> Result<Extension, BadLink> {
        let (signer, extension) = self.fitting(link)?;
        let signature = link.sig.as_ref().ok_or(BadLink::Malformed)?;
        let signed = message(LINK_LABEL, link.statement.as_slice());
        signer.verify(&signed, signature.as_slice(), Malleability::Refused).map_err(|_| BadLink::Signature)?;
        if let Change::Certify(keys) = &extension.change {
            keys.verify(&self.account)?;
        }
        self.apply(&extension);
        Ok(extension)
    }

    /// Validates everything except the signatures: the key that must have signed the link, and the link's effect.
    fn fitting(&self, link: &DeviceLink) -> Result<(&PublicKey, Extension), BadLink> {
        let (statement, head) = (link.statement()?, self.head());
        statement.check_place(&self.account, &head)?;
        let signer = self.standing.get(&statement.by).ok_or(BadLink::Signer)?;
        let change = match (statement.change, statement.alg, statement.public_key) {
            (Verb::Certify, Some(alg), Some(public_key)) => {
                let keys = DeviceKeys::read(&alg, &public_key, statement.mls_keys, &statement.device)?;
                if keys.all().any(|key| self.used.contains(&key)) {
                    return Err(BadLink::KeyUsed);
                }
                Change::Certify(keys)
            }
            (Verb::Revoke, None, None) if statement.mls_keys.is_empty() => {
                if !self.standing.contains_key(&statement.device) {
                    return Err(BadLink::Unknown);
                }
                Change::Revoke(statement.device)
            }
            _ => return Err(BadLink::Malformed),
        };
        let head = ChainHead { seq: statement.seq, hash: link.hash(), ..head };
        Ok((signer.key(), Extension { change, by: statement.by, head }))
    }

    fn apply(&mut self, extension: &Extension) {
        match &extension.change {
            Change::Certify(keys) => {
                self.used.extend(keys.all());
                self.standing.insert(keys.device(), keys.clone());
            }
            Change::Revoke(device) => {
                self.standing.remove(device);
            }
        }
        self.hashes.push(extension.head.hash);
    }

    pub fn head(&self) -> ChainHead {
        let hash = self.hashes.last().copied().unwrap_or(Hash::ZERO);
        ChainHead { generation: self.generation, seq: self.hashes.len() as u64, hash }
    }

    /// Whether this chain went through that head: one that does not is another chain.
    pub fn went_through(&self, head: &ChainHead) -> bool {
        let at = usize::try_from(head.seq).ok().and_then(|seq| seq.checked_sub(1));
        self.generation == head.generation && at.and_then(|at| self.hashes.get(at)) == Some(&head.hash)
    }

    /// The keys of a device that stands in the chain.
    pub fn device(&self, device: &DeviceId) -> Option<&DeviceKeys> {
        self.standing.get(device)
    }

    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.standing.keys()
    }

    /// The next link, by which the device of `by` vouches for these keys.
    pub fn certify(&self, by: &SigningKey, keys: &DeviceKeys) -> Result<DeviceLink, BadLink> {
        let next = self.next(by, Verb::Certify, keys.device());
        let (alg, public_key) = (Some(keys.key().alg().to_owned()), Some(Bytes(keys.key().raw())));
        sign(by, &Statement { alg, public_key, mls_keys: keys.mls_keys().to_vec(), ..next })
    }

    /// The next link, by which the device of `by` ends another, or itself.
    pub fn revoke(&self, by: &SigningKey, device: &DeviceId) -> Result<DeviceLink, BadLink> {
        sign(by, &self.next(by, Verb::Revoke, device.clone()))
    }

    fn next(&self, by: &SigningKey, change: Verb, device: DeviceId) -> Statement {
        let head = self.head();
        Statement {
            v: VERSION,
            account: self.account.clone(),
            seq: head.seq + 1,
            prev: Bytes(head.hash.to_vec()),
            change,
            device,
            by: by.public().device_id(),
            alg: None,
            public_key: None,
            mls_keys: Vec::new(),
        }
    }
}

fn sign(by: &SigningKey, statement: &Statement) -> Result<DeviceLink, BadLink> {
    let statement = encode(statement)?;
    let sig = by.sign(&message(LINK_LABEL, &statement)).to_vec();
    Ok(DeviceLink { statement: Bytes(statement), sig: Some(Bytes(sig)) })
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, BadLink> {
    serde_ipld_dagcbor::to_vec(value).map_err(|_| BadLink::Malformed)
}

/// Bytes that are not the canonical ones of their value are refused: a link has one form.
fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, BadLink> {
    let value: T = serde_ipld_dagcbor::from_slice(bytes).map_err(|_| BadLink::Malformed)?;
    if encode(&value)? == bytes { Ok(value) } else { Err(BadLink::Malformed) }
}

#[cfg(test)]
mod tests;
