//! Bodies that the server itself reads and writes: canonical maps. `#message` is not here, it is opaque.
//!
//! Invariant: an unknown field, change or role is ignored and changes nothing; the bytes of the body stay as they were
//! made.

use serde::{Deserialize, Serialize};

use super::chain::{NotCanonical, decode, encode};
use super::fork::ForkProof;
use crate::identity::Signed;
use crate::types::{Bytes, DeviceId, Did, Seq, StreamId, Term, UnixMillis};

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
    /// The account lives on another server now: `server`.
    Moved,
    /// The person took the invitation. It changes no right.
    Accepted,
    /// A change of a later version, which changes nothing here.
    #[serde(other)]
    Unknown,
}

/// Bytes of the longest name of a role.
const ROLE_BYTES: usize = 32;

/// What a seat may do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    Member,
    Admin,
    /// A role of a later version, which may only read the entries of its seat. Its name is kept for servers that know
    /// it.
    Unknown(String),
}

impl Role {
    /// `None` for a text that is no name of a role: up to 32 lower-case ASCII letters, digits and hyphens.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "member" => Some(Self::Member),
            "admin" => Some(Self::Admin),
            _ => {
                let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                let is_name = (1..=ROLE_BYTES).contains(&name.len()) && name.bytes().all(is_letter);
                is_name.then(|| Self::Unknown(name.to_owned()))
            }
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Unknown(name) => name,
        }
    }

    pub const fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    /// The number that Postgres stores; 0 for a role that is stored by name.
    pub const fn to_db(&self) -> i16 {
        match self {
            Self::Member => 1,
            Self::Admin => 2,
            Self::Unknown(_) => 0,
        }
    }

    /// The name that Postgres stores beside the number, for roles without a number.
    pub fn db_name(&self) -> Option<&str> {
        match self {
            Self::Member | Self::Admin => None,
            Self::Unknown(name) => Some(name),
        }
    }

    /// A number without meaning, and without a name beside it, gives no right.
    pub fn from_db(value: i16, name: Option<&str>) -> Self {
        match value {
            1 => Self::Member,
            2 => Self::Admin,
            _ => name.and_then(Self::from_name).unwrap_or_else(|| Self::Unknown("unknown".to_owned())),
        }
    }
}

impl TryFrom<String> for Role {
    type Error = NotCanonical;

    fn try_from(name: String) -> Result<Self, NotCanonical> {
        Self::from_name(&name).ok_or(NotCanonical("name of a role"))
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.name().to_owned()
    }
}

/// `#device` in an account stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceBody {
    /// Whose device it is, if it is not the stream's account: then it was revoked, and has leaves to be removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Did>,
    pub device: DeviceId,
    /// `certified`, `uncertified` or `revoked`.
    pub state: String,
    pub public_key: Bytes,
    /// The link of the device chain that says so; absent for an uncertified device, and for one that was revoked
    /// without a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Bytes>,
}

/// `#deviceChainReset` in an account stream: this account had no certified device left, and began anew with this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceChainResetBody {
    pub account: Did,
    /// Of the new chain: 2 or more.
    pub generation: u32,
    pub device: DeviceId,
    pub public_key: Bytes,
    /// The new chain's genesis.
    pub link: Bytes,
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

/// `#relationship` in an account stream: what stands now between it and another account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelationshipBody {
    pub account: Did,
    /// `outgoing`, `incoming`, `accepted` or `none`.
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Bytes>,
}

/// `#invitation` in an account stream: see listInvitations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InvitationBody {
    pub stream: StreamId,
    pub home: Did,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inviter: Option<Did>,
    /// `waiting`, `accepted` or `declined`.
    pub state: String,
}

/// `#erased`: every holder drops these contents within a day, and keeps the headers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErasedBody {
    /// At most 1,000.
    pub seqs: Vec<Seq>,
}

/// `#keyPackagesLow` in an account stream: every device should publish new ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyPackagesLowBody {
    /// `restored`: the home may have handed some out and forgotten it, so it took all one-time packages back.
    pub reason: String,
}

/// `#homeChanged`: the last entry of a home's reign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HomeChangedBody {
    /// The server that orders the stream from here on.
    pub to: Did,
    /// Its first term is this one, or a later one.
    pub term: Term,
    /// Its word that it takes the stream as it stands before this entry (`Acceptance`).
    pub acceptance: Signed,
}

/// `#homeOpened`: the first entry of another home's first term.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HomeOpenedBody {
    /// The home before.
    pub from: Did,
    /// Number and hash of the entry that it goes on from.
    pub base: Seq,
    pub base_hash: Bytes,
}

/// `#homeRestored`: the first entry of a term after a restore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HomeRestoredBody {
    /// Number and hash of the entry that it goes on from.
    pub base: Seq,
    pub base_hash: Bytes,
    /// When the newest entry that the restore left to the home, in any stream, was ordered.
    pub restored_to: UnixMillis,
}

/// `#forkDetected` in an account stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForkDetectedBody {
    /// The conversation that is frozen.
    pub stream: StreamId,
    pub proof: ForkProof,
}

/// `#historyRewound` in an account stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryRewoundBody {
    /// The conversation that is frozen.
    pub stream: StreamId,
    /// The home's word for an entry that it took back.
    pub checkpoint: Signed,
    /// The header of the `#homeRestored` that goes on from before it.
    pub restored: Bytes,
}

/// `#receiptBroken` in an account stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceiptBrokenBody {
    pub stream: StreamId,
    /// The home's word for an entry that it did not send.
    pub receipt: Signed,
}

/// `#peerKeyChanged` in an account stream: nothing goes to the server or comes from it until it is settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerKeyChangedBody {
    pub server: Did,
    /// Ids of the new keys in its document.
    pub keys: Vec<String>,
}

impl Body for PeerKeyChangedBody {
    const WHAT: &'static str = "#peerKeyChanged body";
}
impl Body for ForkDetectedBody {
    const WHAT: &'static str = "#forkDetected body";
}
impl Body for HistoryRewoundBody {
    const WHAT: &'static str = "#historyRewound body";
}
impl Body for ReceiptBrokenBody {
    const WHAT: &'static str = "#receiptBroken body";
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
impl Body for DeviceChainResetBody {
    const WHAT: &'static str = "#deviceChainReset body";
}
impl Body for WelcomeBody {
    const WHAT: &'static str = "#welcome body";
}
impl Body for RelationshipBody {
    const WHAT: &'static str = "#relationship body";
}
impl Body for InvitationBody {
    const WHAT: &'static str = "#invitation body";
}
impl Body for ErasedBody {
    const WHAT: &'static str = "#erased body";
}
impl Body for AccountBody {
    const WHAT: &'static str = "#account body";
}
impl Body for KeyPackagesLowBody {
    const WHAT: &'static str = "#keyPackagesLow body";
}
impl Body for HomeChangedBody {
    const WHAT: &'static str = "#homeChanged body";
}
impl Body for HomeOpenedBody {
    const WHAT: &'static str = "#homeOpened body";
}
impl Body for HomeRestoredBody {
    const WHAT: &'static str = "#homeRestored body";
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_changes_and_roles_are_passed_over() {
        let later = json!({
            "account": "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "change": "promoted", "role": "moderator", "since": 7,
        });
        let body = MembershipBody::decode(&serde_ipld_dagcbor::to_vec(&later).unwrap()).unwrap();
        assert_eq!(body.change, MembershipChange::Unknown);
        assert_eq!(body.role, Some(Role::Unknown("moderator".to_owned())));
        let role = body.role.unwrap();
        assert_eq!((role.to_db(), role.db_name(), role.is_known()), (0, Some("moderator"), false));
        assert_eq!(Role::from_db(0, Some("moderator")), role);
        assert!(!Role::from_db(7, None).is_known(), "a number of a later version is no member");
        for role in [Role::Member, Role::Admin] {
            assert_eq!(Role::from_db(role.to_db(), role.db_name()), role);
        }
        assert_eq!(Role::from_name("Moderator of all"), None);
    }
}
