//! Evidence against a home: contradicting statements are stored, proven if possible, and shown to the servers
//! concerned.
//!
//! Invariant: only a proof of a fork, or a rewind, freezes a stream, in the transaction that stores the evidence and
//! queues the notices; no stream thaws by itself.

use serde::{Deserialize, Serialize};

use super::store;
use super::{Replicas, stream_not_found};
use crate::identity::Signed;
use crate::log::body::{Body, ForkDetectedBody, HistoryRewoundBody, HomeChangedBody};
use crate::log::chain::{Checkpoint, Content, Genesis, Header, encode};
use crate::log::{Conflict, EntryKind, Error, ForkProof, Outgoing, ReplicaTx, StreamRow};
use crate::types::{Bytes, Refusal, Seq};

/// Entries of a home as another server showed them: ascending headers that end with the header of a checkpoint.
pub(super) struct Claim {
    /// The first header's number.
    pub from: Seq,
    pub headers: Vec<Bytes>,
    pub signed: Signed,
    /// The checkpoint in `signed`, whose signature was verified.
    pub checkpoint: Checkpoint,
}

impl Claim {
    /// The headers after a number.
    fn after(&self, seq: Seq) -> Vec<Bytes> {
        let skip = usize::try_from((seq.0 + 1).saturating_sub(self.from.0)).unwrap_or(usize::MAX);
        self.headers.iter().skip(skip).cloned().collect()
    }
}

/// Two headers for one number, without more.
#[derive(Serialize, Deserialize)]
struct Kept {
    held: Bytes,
    shown: Bytes,
    checkpoint: Signed,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Conflict,
    Fork,
    Rewind,
    /// Headers that the operator gave up after a rewind.
    TakenBack,
}

impl Kind {
    pub const fn to_db(self) -> i16 {
        match self {
            Self::Conflict => 1,
            Self::Fork => 2,
            Self::Rewind => 3,
            Self::TakenBack => 4,
        }
    }
}

impl Replicas {
    /// The home showed another entry than the one that is held.
    pub(super) async fn contradicted(&self, row: &StreamRow, conflict: &Conflict, claim: &Claim) -> Result<(), Error> {
        let kept = Kept {
            held: Bytes(conflict.held.clone()),
            shown: Bytes(conflict.shown.clone()),
            checkpoint: claim.signed.clone(),
        };
        let bytes = encode(&kept, "evidence")?;
        let now = self.clock().now();
        store::insert_evidence(self.storage().pool(), row.id, Kind::Conflict, conflict.seq, &bytes, now).await?;
        if let Some(proof) = self.proof(row, conflict.seq, claim).await? {
            return self.convict(row, proof).await;
        }
        // Not the same term: then it says itself that it went back.
        let shown = Header::decode(&conflict.shown)?;
        let restored = EntryKind::from_name(&shown.kind) == Some(EntryKind::HomeRestored) && shown.term > row.term;
        if restored {
            self.rewound(row, conflict).await?;
        }
        Ok(())
    }

    /// The proof that the home signed two hashes at `seq`: the checkpoint that we hold, and the one that we were shown.
    pub(super) async fn proof(&self, row: &StreamRow, seq: Seq, claim: &Claim) -> Result<Option<ForkProof>, Error> {
        let held = self.log().find_checkpoint(row.id, seq, Some(claim.checkpoint.term)).await?;
        let Some((at, a)) = held else { return Ok(None) };
        let a_headers = self.log().headers(row.id, seq, at).await?.into_iter().map(Bytes).collect();
        let proof = ForkProof { a, a_headers, b: claim.signed.clone(), b_headers: claim.after(seq) };
        Ok(proof.examine().is_ok().then_some(proof))
    }

    /// Freezes a stream after a proof of a fork, whose signatures are verified.
    pub(super) async fn convict(&self, row: &StreamRow, proof: ForkProof) -> Result<(), Error> {
        let Some(mut tx) = self.log().freezing(row.id).await? else { return Ok(()) };
        let fork = proof.examine().map_err(|why| Refusal::new("NoFork", why.to_string()))?;
        let bytes = encode(&proof, "proof of fork")?;
        let notice = ForkDetectedBody { stream: row.public_id.clone(), proof }.encode()?;
        self.tell_members(&mut tx, EntryKind::ForkDetected, &notice).await?;
        let now = self.clock().now();
        let evidence = store::insert_evidence(tx.conn(), row.id, Kind::Fork, fork.seq, &bytes, now).await?;
        if let Some(evidence) = evidence {
            store::insert_reports(tx.conn(), evidence, row.id, self.log().home(), now).await?;
        }
        tx.commit().await?;
        tracing::error!(
            home = fork.home,
            stream.id = row.public_id.as_str(),
            seq = fork.seq.0,
            "the home of a stream said two things about one number: the stream is frozen"
        );
        self.after_freezing();
        Ok(())
    }

    /// The home went back behind what it had promised, and says so: the stream is frozen here.
    async fn rewound(&self, row: &StreamRow, conflict: &Conflict) -> Result<(), Error> {
        let Some((_, checkpoint)) = self.log().find_checkpoint(row.id, conflict.seq, Some(row.term)).await? else {
            return Ok(());
        };
        let Some(mut tx) = self.log().freezing(row.id).await? else { return Ok(()) };
        let restored = Bytes(conflict.shown.clone());
        let body = HistoryRewoundBody { stream: row.public_id.clone(), checkpoint, restored };
        let bytes = body.encode()?;
        self.tell_members(&mut tx, EntryKind::HistoryRewound, &bytes).await?;
        let now = self.clock().now();
        let evidence = store::insert_evidence(tx.conn(), row.id, Kind::Rewind, conflict.seq, &bytes, now).await?;
        if let Some(evidence) = evidence {
            store::insert_report(tx.conn(), evidence, &row.home, now).await?;
        }
        tx.commit().await?;
        tracing::error!(
            home = row.home,
            stream.id = row.public_id.as_str(),
            base = conflict.seq.0.saturating_sub(1),
            "the home of a stream went back behind what is held: the stream is frozen"
        );
        self.after_freezing();
        Ok(())
    }

    fn after_freezing(&self) {
        self.log().wake_courier();
        self.inner.watch.notify_one();
    }

    async fn tell_members(&self, tx: &mut ReplicaTx, kind: EntryKind, body: &[u8]) -> Result<(), Error> {
        let stream_id = tx.row().id;
        let accounts = store::local_members(tx.conn(), stream_id).await?;
        let outgoing: Vec<_> =
            accounts.into_iter().map(|account_id| Outgoing { account_id, kind, body: body.to_vec() }).collect();
        crate::log::queue(tx.conn(), &outgoing, self.clock().now()).await
    }

    /// Whether this server once was the stream's home.
    async fn reigned(&self, row: &StreamRow, server: &str) -> Result<bool, Error> {
        let (genesis, changes) = self.log().lineage(row.id).await?;
        if Genesis::decode_exact(&genesis)?.home == server {
            return Ok(true);
        }
        for change in changes {
            let kind = EntryKind::from_name(&Header::decode(&change.held.header)?.kind);
            if let (Some(EntryKind::HomeChanged), Some(content)) = (kind, change.held.content)
                && HomeChangedBody::decode(&Content::decode(&content)?.body)?.to.as_str() == server
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Verifies a proof of a fork from another server, which needs no trust in that server. Keys that left the home's
    /// document prove nothing: the thief of such a key could sign two checkpoints of any stream.
    pub async fn judge_fork(&self, stream: &str, proof: ForkProof) -> Result<(), Error> {
        let info = self.log().find_stream(stream).await?.ok_or_else(stream_not_found)?;
        let row = self.log().row(info.id).await?;
        let no = |why: String| Error::from(Refusal::new("NoFork", why));
        let fork = proof.examine().map_err(|why| no(why.to_string()))?;
        if fork.stream != row.public_id || !(fork.home == row.home || self.reigned(&row, &fork.home).await?) {
            return Err(no("the proof is of another stream or another home".to_owned()));
        }
        let home = crate::types::Did::parse(&fork.home).map_err(|why| no(why.to_string()))?;
        for signed in [&proof.a, &proof.b] {
            match self.published_word(&home, signed).await {
                Ok(()) => {}
                Err(Error::Refused(refusal)) => return Err(no(refusal.to_string())),
                Err(error) => return Err(error),
            }
        }
        self.convict(&row, proof).await
    }
}
