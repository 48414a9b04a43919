//! Bodies that the server itself reads and writes: canonical maps. `#message` is not here, it is opaque.

use serde::{Deserialize, Serialize};

use super::chain::{NotCanonical, decode, encode};
use crate::types::{Bytes, DeviceId, Did, StreamId};

/// A body that is a canonical DAG-CBOR map.
pub trait Body: Serialize + serde::de::DeserializeOwned {
    const WHAT: &'static str;

    fn encode(&self) -> Result<Vec<u8>, NotCanonical> {
        encode(self, Self::WHAT)
    }

    fn decode(bytes: &[u8]) -> Result<Self, NotCanonical> {
        decode(bytes, Self::WHAT)
    }
}

/// `#convo`: what the conversation is, for life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConvoBody {
    pub group_id: Bytes,
    pub cipher_suite: u16,
    pub handshake_policy: String,
    /// The policy that the founder asked for, as JSON text.
    pub policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Bytes>,
}

/// `#commit`: the MLS bytes, and the seats that they change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitBody {
    pub commit: Bytes,
    pub adds: Vec<Addition>,
    pub removes: Vec<Removal>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Addition {
    pub account: Did,
    pub device: DeviceId,
    #[serde(rename = "ref")]
    pub reference: Bytes,
    /// did:web of the account's server, as the home found it.
    pub server: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    pub account: Did,
    pub device: DeviceId,
}

/// `#membership`: every change of a seat that no commit makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MembershipBody {
    pub account: Did,
    pub change: MembershipChange,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MembershipChange {
    /// The founder takes the first seat.
    Opened,
    Left,
    Role,
}

/// What a seat may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Member,
    Admin,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }

    pub const fn to_db(self) -> i16 {
        match self {
            Self::Member => 1,
            Self::Admin => 2,
        }
    }

    pub const fn from_db(value: i16) -> Self {
        if value == 2 { Self::Admin } else { Self::Member }
    }
}

/// `#device` in an account stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceBody {
    pub device: DeviceId,
    /// `certified`, `uncertified` or `revoked`.
    pub state: String,
    pub public_key: Bytes,
}

/// `#account` in an account stream: an operator of this server decided so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountBody {
    /// `active` or `suspended`.
    pub state: String,
}

/// `#welcome` in an account stream: fetch it by getWelcomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WelcomeBody {
    pub stream: StreamId,
    pub device: Vec<DeviceId>,
    pub refs: Vec<Bytes>,
}

impl Body for ConvoBody {
    const WHAT: &'static str = "#convo body";
}
impl Body for CommitBody {
    const WHAT: &'static str = "#commit body";
}
impl Body for MembershipBody {
    const WHAT: &'static str = "#membership body";
}
impl Body for DeviceBody {
    const WHAT: &'static str = "#device body";
}
impl Body for WelcomeBody {
    const WHAT: &'static str = "#welcome body";
}
impl Body for AccountBody {
    const WHAT: &'static str = "#account body";
}
