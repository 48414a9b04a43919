//! This server's own keys, past and present, as others may ask for them.

use chrono::{DateTime, Utc};

use super::Federation;
use super::peers::{Endorsed, Purpose, endorsement_message, store};
use crate::identity::{PublicKey, SigningKey};
use crate::storage;
use crate::types::UnixMillis;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKey {
    pub id: String,
    pub purpose: Purpose,
    pub multikey: String,
    pub not_before: UnixMillis,
    pub not_after: Option<UnixMillis>,
    pub endorsed_by: Option<String>,
    pub endorsement: Option<Vec<u8>>,
}

impl Federation {
    /// Every key that this server ever signed with, oldest first.
    pub async fn own_keys(&self) -> Result<Vec<OwnKey>, storage::Error> {
        store::list_own(self.storage.pool()).await
    }

    /// This server's checkpoint key of that id, present or former.
    pub(super) async fn own_checkpoint_key(&self, key_id: &str) -> Result<Option<PublicKey>, storage::Error> {
        if key_id == self.keys.checkpoint_id() {
            return Ok(Some(self.keys.checkpoint.public()));
        }
        let known = self.own_keys().await?;
        let former = known.iter().find(|key| key.purpose == Purpose::Checkpoint && key.id == key_id);
        former
            .map(|key| PublicKey::from_multikey(&key.multikey))
            .transpose()
            .map_err(|_| storage::Error::Corrupt("server_key.multikey"))
    }

    /// Writes down which keys this server publishes now. One that was not there before is endorsed by the key of its purpose
    /// that this server signs with, if that was known.
    pub async fn publish_keys(&self) -> Result<(), storage::Error> {
        let now = self.clock.now();
        let known = self.own_keys().await?;
        let mut shown = Vec::new();
        for (purpose, current) in [(Purpose::Peer, &self.keys.peer), (Purpose::Checkpoint, &self.keys.checkpoint)] {
            let published = self.keys.published(purpose.name());
            name_replaced(&known, purpose, &published);
            let by = known.iter().any(|key| key.id == id(purpose, current)).then_some(current);
            for key in published {
                let id = id(purpose, key);
                shown.push(id.clone());
                if known.iter().any(|known| known.id == id) {
                    continue;
                }
                let endorsement = by.and_then(|by| self.endorse(by, purpose, &id, key, now));
                let own = OwnKey {
                    id,
                    purpose,
                    multikey: key.public().multikey(),
                    not_before: now,
                    not_after: None,
                    endorsed_by: endorsement.as_ref().map(|(by, _)| by.clone()),
                    endorsement: endorsement.map(|(_, signature)| signature),
                };
                store::insert_own(self.storage.pool(), &own).await?;
            }
        }
        let now: DateTime<Utc> = now.to_datetime();
        store::retire_own(self.storage.pool(), &shown, now).await
    }

    fn endorse(
        &self,
        by: &SigningKey,
        purpose: Purpose,
        id: &str,
        key: &SigningKey,
        now: UnixMillis,
    ) -> Option<(String, Vec<u8>)> {
        let message = endorsement_message(&Endorsed {
            v: 1,
            server: self.settings.server.clone(),
            id: id.to_owned(),
            public_key_multibase: key.public().multikey(),
            not_before: now,
        })?;
        Some((self::id(purpose, by), by.sign(&message).to_vec()))
    }
}

/// Logs that keys replaced others without their endorsement: only the operator can mend that, and only before other
/// servers notice.
fn name_replaced(known: &[OwnKey], purpose: Purpose, published: &[&SigningKey]) {
    let of_purpose: Vec<&OwnKey> = known.iter().filter(|key| key.purpose == purpose).collect();
    let last = of_purpose.iter().rfind(|key| key.not_after.is_none());
    let is_known = published.iter().any(|key| of_purpose.iter().any(|known| known.id == id(purpose, key)));
    if let (Some(last), false) = (last, is_known) {
        tracing::warn!(
            purpose = purpose.name(),
            before = last.id,
            "this server signed with another key until now, which did not vouch for the new one: other servers hold this \
             one for 72 h. Fix: if there is a copy of the old keys, put it back now"
        );
    }
}

pub(super) fn id(purpose: Purpose, key: &SigningKey) -> String {
    format!("#{}-{}", purpose.name(), crate::identity::key_tag(&key.public()))
}
