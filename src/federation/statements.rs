//! Statements: what convinces a third party.

use super::peers::{KnownPeer, Purpose};
use super::{Federation, PeerRefused, own_keys};
use crate::identity::{PublicKey, Signed};
use crate::types::Did;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementRefused {
    #[error("the statement's signature does not hold, or its key is not one of the server's")]
    Invalid,
    #[error("the server's keys cannot be looked up now")]
    Unavailable,
}

impl Federation {
    /// Signs with this server's checkpoint key. A checkpoint is signed only after the commit that stored its entry.
    pub fn sign_statement(&self, label: &str, statement: Vec<u8>) -> Signed {
        Signed::sign(label, statement, &self.keys.checkpoint_id(), &self.keys.checkpoint)
    }

    /// Verifies that a checkpoint key of `server` signed the statement. Pinned keys, and this server's own former keys,
    /// count for as long as statements of theirs exist.
    pub async fn verify_statement(&self, server: &Did, label: &str, signed: &Signed) -> Result<(), StatementRefused> {
        if *server == self.settings.server {
            let key = self.own_checkpoint_key(&signed.key).await.map_err(|_| StatementRefused::Unavailable)?;
            return key.map_or(Err(StatementRefused::Invalid), |key| judge(signed, label, &key));
        }
        let known = self.known(server).await.map_err(|_| StatementRefused::Unavailable)?;
        if let Some(key) = known.as_ref().and_then(|peer| Self::pinned(peer, &signed.key)) {
            return judge(signed, label, key);
        }
        let document = self.document_of(server, known.as_ref(), Some(&signed.key)).await.map_err(why)?;
        let peer = self.meet(server, known, &document).await.map_err(why)?;
        match Self::pinned(&peer, &signed.key) {
            Some(key) => judge(signed, label, key),
            None => Err(StatementRefused::Invalid),
        }
    }

    /// Verifies the statement as [`Self::verify_statement`] does, but only by keys in the server's present document. A
    /// third party's proof against `server` needs such keys: a stolen key that the document no longer lists proves
    /// nothing.
    pub async fn verify_published(&self, server: &Did, label: &str, signed: &Signed) -> Result<(), StatementRefused> {
        if *server == self.settings.server {
            let published = self.keys.published(Purpose::Checkpoint.name());
            let signer = published.into_iter().find(|key| own_keys::id(Purpose::Checkpoint, key) == signed.key);
            return signer.map_or(Err(StatementRefused::Invalid), |key| judge(signed, label, &key.public()));
        }
        let document = self.document(server, Some(&signed.key)).await.map_err(why)?;
        if document.key(&signed.key).is_none() {
            return Err(StatementRefused::Invalid);
        }
        self.verify_statement(server, label, signed).await
    }

    fn pinned<'p>(peer: &'p KnownPeer, key_id: &str) -> Option<&'p PublicKey> {
        let key = Self::counts(peer, key_id).ok()?;
        (key.purpose == Purpose::Checkpoint).then_some(&key.key)
    }
}

fn judge(signed: &Signed, label: &str, key: &PublicKey) -> Result<(), StatementRefused> {
    signed.verify(label, key).map_err(|_| StatementRefused::Invalid)
}

fn why(refused: PeerRefused) -> StatementRefused {
    match refused {
        PeerRefused::Unavailable | PeerRefused::RateLimited { .. } => StatementRefused::Unavailable,
        _ => StatementRefused::Invalid,
    }
}
