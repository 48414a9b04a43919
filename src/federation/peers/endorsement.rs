//! Endorsements of a server's new keys by its earlier keys.

use serde::{Deserialize, Serialize};

use super::{KeyState, KnownKey, ServerKey};
use crate::identity::Malleability;
use crate::log::chain::encode;
use crate::types::{Did, UnixMillis};

const KEY_LABEL: &str = "rookery key v1";

/// The statement that an earlier key signs for a later key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endorsed {
    pub v: u8,
    pub server: Did,
    pub id: String,
    pub public_key_multibase: String,
    pub not_before: UnixMillis,
}

/// The fields that this server reads of an item of a peer's getKeys answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::federation) struct Listed {
    pub id: String,
    pub public_key_multibase: String,
    pub not_before: i64,
    pub endorsed_by: Option<String>,
    pub endorsement: Option<crate::types::Bytes>,
}

/// The bytes that an endorsement covers.
pub fn endorsement_message(endorsed: &Endorsed) -> Option<Vec<u8>> {
    let statement = encode(endorsed, "endorsement").ok()?;
    Some([KEY_LABEL.as_bytes(), &[0], &statement].concat())
}

/// Whether an earlier, accepted key of the server endorses the new key.
pub(super) fn is_endorsed(server: &Did, known: &[KnownKey], new: &ServerKey, listed: &[Listed]) -> bool {
    let Some(item) = listed.iter().find(|item| item.id == new.id) else { return false };
    let (Some(by), Some(signature)) = (&item.endorsed_by, &item.endorsement) else { return false };
    let earlier = known.iter().find(|known| known.key.id == *by && known.state == KeyState::Accepted);
    let endorsed = Endorsed {
        v: 1,
        server: server.clone(),
        id: new.id.clone(),
        public_key_multibase: new.key.multikey(),
        not_before: UnixMillis(item.not_before),
    };
    match (earlier, endorsement_message(&endorsed)) {
        (Some(earlier), Some(message)) => {
            item.public_key_multibase == endorsed.public_key_multibase
                && earlier.key.key.verify(&message, signature.as_slice(), Malleability::Refused).is_ok()
        }
        _ => false,
    }
}
