//! Proof that a home said two things about one number (FEDERATION section 4).
//!
//! Invariant: anybody can judge it, from its bytes and the home's checkpoint keys alone, and nobody but the home can
//! make one: an honest home has one history under one term, so that no two of its checkpoints ever lead to two hashes.

use serde::{Deserialize, Serialize};

use super::chain::{CHECKPOINT_LABEL, Checkpoint, HEADER_BYTES, Header, entry_hash};
use crate::identity::{PublicKey, Signed};
use crate::types::{Bytes, Hash, Seq, StreamId, Term};

/// Headers on either side, at most.
pub const FORK_HEADERS: usize = 1024;

/// Two checkpoints of one home, one stream and one term. Each list of headers, ascending, leads from its checkpoint back
/// to the same number, where the two hashes differ; empty, the checkpoint's own hash is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForkProof {
    pub a: Signed,
    pub a_headers: Vec<Bytes>,
    pub b: Signed,
    pub b_headers: Vec<Bytes>,
}

/// What is proven: at `seq`, under `term`, the home put both hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    pub home: String,
    pub stream: StreamId,
    pub term: Term,
    pub seq: Seq,
    pub hashes: [Hash; 2],
}

/// Why it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this proves no fork: {0}")]
pub struct NoFork(pub &'static str);

impl ForkProof {
    /// The whole proof. `key` answers the home's checkpoint key of that id, whatever became of it since.
    pub fn verify(&self, key: impl Fn(&str, &str) -> Option<PublicKey>) -> Result<Fork, NoFork> {
        let fork = self.examine()?;
        for signed in [&self.a, &self.b] {
            let key = key(&fork.home, &signed.key).ok_or(NoFork("a key is not the home's"))?;
            signed.verify(CHECKPOINT_LABEL, &key).map_err(|_| NoFork("a signature does not hold"))?;
        }
        Ok(fork)
    }

    /// All of it but the two signatures, which must be judged before anything is done about it.
    pub fn examine(&self) -> Result<Fork, NoFork> {
        let (a, b) = (side(&self.a, &self.a_headers)?, side(&self.b, &self.b_headers)?);
        let (one, other) = (&a.checkpoint, &b.checkpoint);
        if one.home != other.home {
            return Err(NoFork("the checkpoints are of two homes"));
        }
        if one.stream != other.stream {
            return Err(NoFork("the checkpoints are of two streams"));
        }
        if one.term != other.term {
            return Err(NoFork("the checkpoints are of two terms"));
        }
        if a.seq != b.seq {
            return Err(NoFork("the headers lead to two numbers"));
        }
        if a.hash == b.hash {
            return Err(NoFork("the hashes are the same"));
        }
        let Checkpoint { home, stream, term, .. } = a.checkpoint;
        Ok(Fork { home, stream, term, seq: a.seq, hashes: [a.hash, b.hash] })
    }
}

/// Where one side leads.
struct Side {
    checkpoint: Checkpoint,
    seq: Seq,
    hash: Hash,
}

fn side(signed: &Signed, headers: &[Bytes]) -> Result<Side, NoFork> {
    let checkpoint = Checkpoint::of(signed).map_err(|_| NoFork("a checkpoint is not one"))?;
    let (seq, hash) = lead_back(&checkpoint, headers)?;
    Ok(Side { checkpoint, seq, hash })
}

/// The number and hash that a checkpoint's headers, ascending and ending with its own, lead back to.
pub fn lead_back(checkpoint: &Checkpoint, headers: &[Bytes]) -> Result<(Seq, Hash), NoFork> {
    if headers.len() > FORK_HEADERS {
        return Err(NoFork("more than 1,024 headers"));
    }
    let (mut seq, mut hash) = (checkpoint.seq, checkpoint.hash());
    for bytes in headers.iter().rev() {
        if bytes.0.len() > HEADER_BYTES {
            return Err(NoFork("a header is too long"));
        }
        let header = Header::decode_exact(&bytes.0).map_err(|_| NoFork("a header is not one"))?;
        if entry_hash(&bytes.0) != hash || header.seq != seq {
            return Err(NoFork("the headers do not lead to the checkpoint"));
        }
        if header.stream != checkpoint.stream || header.term > checkpoint.term {
            return Err(NoFork("a header is of another stream or of a later term"));
        }
        (seq, hash) = (Seq(seq.0.saturating_sub(1)), header.prev());
    }
    // Before the first entry there is nothing that could differ.
    if seq.0 == 0 { Err(NoFork("the headers lead to no entry")) } else { Ok((seq, hash)) }
}

#[cfg(test)]
mod tests;
