//! Beginning to follow.
//!
//! Invariant: a home is believed by the genesis, whose hash is the stream's id, and by the lineage from there on; a stream
//! that is held is followed from its own head, whoever asks for more.

use super::cross_check::Compared;
use super::home::Witnessed;
use super::store::{self, NewReplica};
use super::{Replicas, View};
use crate::federation::{CallError, StatementRefused, own_support};
use crate::identity::Signed;
use crate::lexicon::peer::defs;
use crate::lexicon::peer::follow::{Follow, Input, Output};
use crate::lexicon::peer::unfollow;
use crate::log::chain::{CHECKPOINT_LABEL, Checkpoint, Genesis};
use crate::log::lineage::{self, Lineage, LineageLink, Word};
use crate::log::{Error, Founding, Head};
use crate::storage;
use crate::types::{Did, Hash, Refusal, Seq, StreamId};

/// Why a stream is not followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The home did not answer, or not yes.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The home's answer fails verification.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Log(Error),
}

impl From<Error> for FollowError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => Self::Refused(refusal),
            error => Self::Log(error),
        }
    }
}

impl From<storage::Error> for FollowError {
    fn from(error: storage::Error) -> Self {
        Self::Log(error.into())
    }
}

/// A stream as it is followed from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The stream's row.
    pub stream_id: i64,
    /// The head of the replica.
    pub head: Head,
}

impl Replicas {
    /// Asks the home for the stream from `from` on, and creates the replica from its answer. A stream that is held is
    /// followed from its head; its view, once what lies between is here. Where another home is named, that one is asked,
    /// once.
    pub async fn follow(
        &self,
        stream: &StreamId,
        home: &Did,
        from: Seq,
        view: Option<View>,
    ) -> Result<Followed, FollowError> {
        match self.follow_at(stream, home, from, view.as_ref()).await {
            Err(FollowError::Call(error)) => match error.named_home() {
                Some(named) if named != home && !self.is_ours(named.as_str()) => {
                    self.follow_at(stream, named, from, view.as_ref()).await
                }
                _ => Err(error.into()),
            },
            followed => followed,
        }
    }

    async fn follow_at(
        &self,
        stream: &StreamId,
        home: &Did,
        from: Seq,
        view: Option<&View>,
    ) -> Result<Followed, FollowError> {
        let held = match self.log().find_stream(stream.as_str()).await? {
            Some(info) => Some(self.log().row(info.id).await?),
            None => None,
        };
        let wanted = held.as_ref().map_or(from, |row| row.head_seq.next());
        let input = Input { stream: stream.to_string(), from: wanted.0.max(1), support: Some(own_support()) };
        let answer = self.federation().procedure::<Follow>(home, &input, None).await?;
        let support = answer.support.clone();
        let told = self.verified(stream, home, wanted, answer).await?;
        self.told_support(home, support.as_ref()).await?;
        store::heard(self.storage().pool(), home, self.clock().now()).await?;

        if let (Some(row), Some(signed)) = (&held, &told.signed)
            && told.anchor.seq < row.head_seq
        {
            // It is behind us: either it forgot, and is shown what it signed, or it says something else now.
            let shown = Witnessed { checkpoint: signed.clone(), headers: Vec::new() };
            if self.compare(row, shown).await? == Compared::Different {
                return Err(Refusal::new("EntryConflict", "the home's anchor is another entry than ours").into());
            }
            self.show(home, row).await?;
        }
        let collided = |error: &FollowError| matches!(error, FollowError::Log(error) if error.is_collision());
        storage::retrying(collided, || self.found(&told, from, view)).await
    }

    async fn found(&self, told: &Told, from: Seq, view: Option<&View>) -> Result<Followed, FollowError> {
        let now = self.clock().now();
        let Told { genesis, lineage, anchor, signed } = told;
        // What follows the anchor may have been ordered by a home before the present one.
        let then = lineage.home_in(anchor.term).and_then(|home| Did::parse(home).ok());
        let then = then.ok_or_else(|| Refusal::new("ChainBroken", "the anchor is of no term of the lineage"))?;
        let founding = Founding { home: then, genesis: genesis.clone(), anchor: anchor.clone() };
        let mut tx = self.log().replica(&founding).await?;
        let row = tx.row().clone();
        if row.state.is_over() {
            return Err(Error::Halted(row.state).into());
        }
        if !lineage.leads_through(&row.home, row.term) {
            return Err(Refusal::new("NotHome", "the lineage leaves out the home that is known here").into());
        }
        let begins = from.max(anchor.seq.next());
        let head = row.head();
        if anchor.seq == head.seq && anchor.hash != head.hash {
            return Err(Refusal::new("ChainBroken", "the home's anchor is another entry than ours").into());
        }
        if anchor.seq > head.seq {
            return Err(Refusal::new("ChainBroken", "the home begins beyond what is held").into());
        }
        // What a later home says of an earlier one's entries convicts neither.
        if let Some(signed) = signed.as_ref().filter(|_| founding.home.as_str() == lineage.present.home) {
            tx.keep_checkpoint(anchor, signed).await?;
        }
        // A stream that was gone for a while is seated when what lies between is here.
        let waits = view.filter(|_| head.seq.next() < begins);
        if let (Some(view), None) = (view, waits)
            && head.seq.next() == begins
        {
            let mut roster = view.roster(begins).map_err(|why| Refusal::new("Malformed", why.to_string()))?;
            // No account here has a seat that the replica's entries did not begin.
            let held = tx.roster().await?;
            let ours = self.log().home().as_str();
            roster.seats.retain(|account, seat| seat.server != ours || held.seats.contains_key(account));
            tx.seat(&roster, anchor.seq).await?;
        }
        if let Some(view) = view {
            store::put_convo(tx.conn(), row.id, view, now).await?;
        }
        let new = NewReplica {
            stream_id: row.id,
            begins: view.map(|_| begins),
            from: begins,
            waiting: waits,
            home: &lineage.present.home,
            term: lineage.present.term,
            now,
        };
        store::put_replica(tx.conn(), &new).await?;
        tx.commit().await?;
        Ok(Followed { stream_id: row.id, head })
    }

    /// Asks the home to send no more. This server asks once, and answers further requests with `StreamNotFound`.
    pub async fn unfollow(&self, stream: &StreamId) -> Result<(), FollowError> {
        let Some(info) = self.log().find_stream(stream.as_str()).await? else { return Ok(()) };
        let row = self.log().row(info.id).await?;
        store::end_replica(self.storage().pool(), row.id, self.clock().now()).await?;
        let Ok(home) = Did::parse(&row.home) else { return Ok(()) };
        let input = unfollow::Input { stream: stream.to_string() };
        match self.federation().procedure::<unfollow::Unfollow>(&home, &input, None).await {
            Err(error) if !error.is("StreamNotFound") => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn verified(&self, stream: &StreamId, home: &Did, wanted: Seq, answer: Output) -> Result<Told, FollowError> {
        let broken = |why: String| FollowError::Refused(Refusal::new("ChainBroken", why));
        let links: Vec<LineageLink> = answer.lineage.into_iter().map(link).collect();
        let lineage = lineage::trace(stream, &answer.genesis.0, &links).map_err(|why| broken(why.to_string()))?;
        let reign = &lineage.present;
        if reign.home != home.as_str() || answer.home != *home || self.is_ours(&reign.home) {
            return Err(Refusal::new("NotHome", "another server is the home of this stream").into());
        }
        self.hear(&lineage.words).await?;
        let head = self.checkpoint_by(home, stream, &signed_of(answer.head)).await?;
        let signed = answer.anchor.map(signed_of);
        let genesis = Genesis::decode_exact(&answer.genesis.0).map_err(|why| broken(why.to_string()))?;
        let time = genesis.time;
        let anchor = match &signed {
            // The checkpoint was signed just now; the time of its entry is unknown.
            Some(signed) => Head { time, ..self.checkpoint_by(home, stream, signed).await?.head() },
            None => Head { stream: stream.clone(), term: genesis.term(), seq: Seq(0), hash: Hash::ZERO, time },
        };
        if head.term != reign.term || answer.term != reign.term.0 || anchor.term > reign.term || anchor.seq > head.seq {
            return Err(broken("the home's checkpoints are not of the reign that its lineage leads to".to_owned()));
        }
        if anchor.seq.next() < wanted && head.seq > anchor.seq {
            return Err(broken("the home begins before what was asked for".to_owned()));
        }
        Ok(Told { genesis: answer.genesis.0, lineage, anchor, signed })
    }

    /// A checkpoint that this home signed for this stream.
    pub(super) async fn checkpoint_by(
        &self,
        home: &Did,
        stream: &StreamId,
        signed: &Signed,
    ) -> Result<Checkpoint, Error> {
        let invalid = || Refusal::new("CheckpointInvalid", "a checkpoint is not the home's word for this stream");
        let checkpoint = Checkpoint::of(signed).map_err(|_| invalid())?;
        if checkpoint.home != home.as_str() || checkpoint.stream != *stream {
            return Err(invalid().into());
        }
        self.word_of(home, CHECKPOINT_LABEL, signed).await?;
        Ok(checkpoint)
    }

    /// Verifies the statements that a lineage rests on.
    pub(super) async fn hear(&self, words: &[Word]) -> Result<(), Error> {
        for word in words {
            let by = Did::parse(&word.by).map_err(|why| Refusal::new("ChainBroken", why.to_string()))?;
            self.word_of(&by, word.label, &word.signed).await?;
        }
        Ok(())
    }

    pub(super) async fn word_of(&self, server: &Did, label: &str, signed: &Signed) -> Result<(), Error> {
        judged(self.federation().verify_statement(server, label, signed).await)
    }

    /// Verifies the checkpoint by the keys in the server's present document.
    pub(super) async fn published_word(&self, server: &Did, signed: &Signed) -> Result<(), Error> {
        judged(self.federation().verify_published(server, CHECKPOINT_LABEL, signed).await)
    }
}

fn judged(verified: Result<(), StatementRefused>) -> Result<(), Error> {
    match verified {
        Ok(()) => Ok(()),
        Err(StatementRefused::Invalid) => {
            Err(Refusal::new("CheckpointInvalid", "a statement is not signed by the server that it names").into())
        }
        Err(StatementRefused::Unavailable) => Err(Error::Busy),
    }
}

/// A home's answer, after verification.
struct Told {
    genesis: Vec<u8>,
    lineage: Lineage,
    anchor: Head,
    signed: Option<Signed>,
}

pub(super) fn link(link: defs::LineageLink) -> LineageLink {
    LineageLink { header: link.header, content: link.content, checkpoint: signed_of(link.checkpoint) }
}

pub(super) fn signed_of(signed: defs::Signed) -> Signed {
    Signed { statement: signed.statement, key: signed.key, sig: signed.sig }
}

pub(super) fn wire_of(signed: Signed) -> defs::Signed {
    defs::Signed { statement: signed.statement, key: signed.key, sig: signed.sig }
}
