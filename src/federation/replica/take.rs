//! Taking what a home replicates.
//!
//! Invariant: all of a request is stored, with the home's checkpoint, or nothing of it; only the home of the stream's own
//! lineage is listened to, and only under its present term.

use super::evidence::Claim;
use super::store::{self, ReplicaRow};
use super::wire::Replicate;
use super::{Replicas, View, stream_not_found};
use crate::federation::StatementRefused;
use crate::identity::Signed;
use crate::log::acceptance::ACCEPTANCE_LABEL;
use crate::log::body::{Body, HomeChangedBody};
use crate::log::chain::{CHECKPOINT_LABEL, Checkpoint, Content, Header, entry_hash};
use crate::log::{Adopted, EntryKind, Error, Held, Span, StreamRow};
use crate::types::{Did, Hash, Refusal, Seq, StreamId, Term};

/// Requests in a row that do not hold together, after which nothing more is taken.
const FAILURES: i16 = 3;
/// Errors that count towards stopping a stream.
const COUNTED: &[&str] = &["ChainBroken", "ContentMismatch", "CheckpointInvalid"];

/// The answer to the home: our head, and how to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub term: Term,
    pub seq: Seq,
    pub hash: Hash,
    pub state: TakenState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenState {
    Ok,
    /// Entries are missing after our head.
    Gap,
    /// No account of this server has a seat any more.
    Stop,
}

impl TakenState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Gap => "gap",
            Self::Stop => "stop",
        }
    }
}

impl Replicas {
    /// Takes a request of a home.
    pub async fn take(&self, peer: &Did, request: Replicate) -> Result<Taken, Error> {
        let pool = self.storage().pool();
        let info = self.log().find_stream(request.stream.as_str()).await?.ok_or_else(stream_not_found)?;
        let row = self.log().row(info.id).await?;
        let not_home = || Refusal::new("NotHome", "your server is not the home of this stream");
        if self.is_ours(&row.home) {
            return Err(not_home().into());
        }
        let Some(replica) = store::find_replica(pool, row.id).await? else {
            return self.repeat_stop(peer, &row, &request).await;
        };
        if row.home != peer.as_str() && !replica.foretells(peer, row.term) {
            return Err(not_home().into());
        }
        if row.state.refuses().is_some() {
            return Err(Error::Halted(row.state));
        }
        store::heard(pool, peer, self.clock().now()).await?;
        if let Some(name) = replica.stopped_by() {
            return Err(Refusal::new(
                name,
                "three requests did not hold together: this server follows the stream anew after a pause",
            )
            .into());
        }
        let taken = self.judge_and_store(peer, &row, &replica, request).await;
        match &taken {
            Err(Error::Refused(refusal)) if COUNTED.contains(&refusal.name) => {
                let (pause, now) = (self.long_pause(i32::from(replica.stops)), self.clock().now());
                let failures = store::replica_failed(pool, row.id, refusal.name, FAILURES, pause, now).await?;
                if failures >= FAILURES {
                    tracing::error!(
                        peer = peer.as_str(),
                        stream.id = row.public_id.as_str(),
                        error = refusal.name,
                        pause_ms = pause.as_millis(),
                        "stream stopped: three requests of its home did not hold together"
                    );
                }
            }
            Ok(_) if replica.failures > 0 || replica.stops > 0 => store::replica_succeeded(pool, row.id).await?,
            _ => {}
        }
        taken
    }

    /// Answers `stop` again after this server's following of the stream has ended, because the home may not have
    /// received the first `stop`. Entries beyond the held head belong to a following that begins: `StreamNotFound`.
    async fn repeat_stop(&self, peer: &Did, row: &StreamRow, request: &Replicate) -> Result<Taken, Error> {
        let all_held = ends(request, &row.public_id)?.seq <= row.head_seq;
        if row.home != peer.as_str() || !all_held || !store::is_ended(self.storage().pool(), row.id).await? {
            return Err(stream_not_found());
        }
        let head = row.head();
        Ok(Taken { term: head.term, seq: head.seq, hash: head.hash, state: TakenState::Stop })
    }

    async fn judge_and_store(
        &self,
        peer: &Did,
        row: &StreamRow,
        replica: &ReplicaRow,
        request: Replicate,
    ) -> Result<Taken, Error> {
        let ends = ends(&request, &row.public_id)?;
        // A greater term is worth what the entries that open it are worth; a smaller one is over.
        if request.term < row.term || ends.term != request.term {
            let why = format!("the stream is in term {}", row.term);
            return Err(Refusal::new("StaleTerm", why).into());
        }
        let checkpoint = self.checkpoint_of(peer, &ends, &request).await?;
        for (to, acceptance) in moves(&request.entries)? {
            self.word_of(&to, ACCEPTANCE_LABEL, &acceptance).await?;
        }
        let erased = self.erased_by(peer, &request, (ends.term, ends.seq)).await?;
        let pool = self.storage().pool();
        let genesis = store::genesis(pool, row.id).await?;
        let required = replica.from_seq;
        if request.entries.iter().zip(request.from.0..).any(|(entry, seq)| seq == required.0 && entry.content.is_none())
        {
            return Err(
                Refusal::new("ContentMismatch", "the entry that begins a seat here comes without content").into()
            );
        }
        let claim = Claim {
            from: request.from,
            headers: request.entries.iter().map(|entry| entry.header.clone()).collect(),
            signed: request.checkpoint,
            checkpoint,
        };
        let mut entries: Vec<Held> = request.entries.into_iter().map(Held::from).collect();
        let home = Did::parse(&row.home).map_err(|why| Refusal::new("NotHome", why.to_string()))?;
        let span = |entries, checkpoint| Span {
            home: home.clone(),
            genesis: genesis.clone(),
            anchor: None,
            entries,
            erased: erased.clone(),
            checkpoint,
        };
        // The membership snapshot names accounts seated meanwhile, once the earlier entries are here.
        if let Some(view) = &replica.view {
            let before = usize::try_from(required.0.saturating_sub(request.from.0)).unwrap_or(usize::MAX);
            if before > 0 && before < entries.len() {
                let rest = entries.split_off(before);
                let adopted = self.log().adopt(&span(std::mem::replace(&mut entries, rest), None)).await?;
                if !matches!(adopted, Adopted::Stored { .. }) {
                    return self.answer(row, adopted, &claim).await;
                }
            }
            if self.log().row(row.id).await?.head_seq.next() == required {
                self.seat(row, view, required).await?;
            }
        }
        // What a later home says of an earlier one's entries convicts neither.
        let theirs = row.home == peer.as_str() || !replica.foretells(peer, ends.term);
        let adopted = self.log().adopt(&span(entries, theirs.then(|| claim.signed.clone()))).await?;
        let answer = self.answer(row, adopted, &claim).await;
        self.after_move(row).await?;
        answer
    }

    async fn answer(&self, row: &StreamRow, adopted: Adopted, claim: &Claim) -> Result<Taken, Error> {
        let (head, state) = match adopted {
            Adopted::Stored { head, .. } => (head, TakenState::Ok),
            Adopted::Gap { head } => (head, TakenState::Gap),
            Adopted::Conflict(conflict) => {
                self.contradicted(row, &conflict, claim).await?;
                let why = format!("another entry {} is held; both are kept", conflict.seq);
                return Err(Refusal::new("EntryConflict", why).into());
            }
        };
        let ended =
            state == TakenState::Ok && store::has_ended(self.storage().pool(), row.id, self.log().home()).await?;
        let state = if ended {
            store::end_replica(self.storage().pool(), row.id, self.clock().now()).await?;
            TakenState::Stop
        } else {
            state
        };
        Ok(Taken { term: head.term, seq: head.seq, hash: head.hash, state })
    }

    /// The home's checkpoint for the last entry of the request, and for no other.
    async fn checkpoint_of(&self, peer: &Did, ends: &Ends, request: &Replicate) -> Result<Checkpoint, Error> {
        let invalid = || Refusal::new("CheckpointInvalid", "the checkpoint is not the home's word for the last entry");
        let checkpoint = Checkpoint::of(&request.checkpoint).map_err(|_| invalid())?;
        let fits = checkpoint.home == peer.as_str()
            && checkpoint.stream == request.stream
            && (checkpoint.term, checkpoint.seq, checkpoint.hash()) == (ends.term, ends.seq, ends.hash);
        if !fits {
            return Err(invalid().into());
        }
        match self.federation().verify_statement(peer, CHECKPOINT_LABEL, &request.checkpoint).await {
            Ok(()) => Ok(checkpoint),
            Err(StatementRefused::Invalid) => Err(invalid().into()),
            Err(StatementRefused::Unavailable) => Err(Error::Busy),
        }
    }

    /// Seats become what the view says.
    pub(super) async fn seat(&self, row: &StreamRow, view: &View, begins: Seq) -> Result<(), Error> {
        let roster = view.roster(begins).map_err(|why| Refusal::new("Malformed", why.to_string()))?;
        let mut tx = self.log().replica_of(row.id).await?;
        tx.seat(&roster, Seq(begins.0 - 1)).await?;
        store::seated_by_view(tx.conn(), row.id).await?;
        tx.commit().await
    }
}

/// The last entry of a request.
struct Ends {
    term: Term,
    seq: Seq,
    hash: Hash,
}

/// The homes that these entries move the stream to, each with that server's acceptance.
pub(super) fn moves(entries: &[super::WireEntry]) -> Result<Vec<(Did, Signed)>, Error> {
    let mut moves = Vec::new();
    for entry in entries {
        let header = Header::decode(&entry.header.0).map_err(|why| Refusal::new("Malformed", why.to_string()))?;
        if let (Some(EntryKind::HomeChanged), Some(content)) = (EntryKind::from_name(&header.kind), &entry.content) {
            let body = Content::decode(&content.0).and_then(|content| HomeChangedBody::decode(&content.body));
            let body = body.map_err(|why| Refusal::new("Malformed", why.to_string()))?;
            moves.push((body.to, body.acceptance));
        }
    }
    Ok(moves)
}

/// The first and the last entry of a request, if its own fields agree.
fn ends(request: &Replicate, stream: &StreamId) -> Result<Ends, Refusal> {
    let malformed = || Refusal::new("Malformed", "a header is not canonical");
    let read = |at: Option<&super::WireEntry>| {
        let header = &at.ok_or_else(malformed)?.header.0;
        Ok::<_, Refusal>((Header::decode_exact(header).map_err(|_| malformed())?, entry_hash(header)))
    };
    let (first, _) = read(request.entries.first())?;
    let (last, hash) = read(request.entries.last())?;
    if first.seq != request.from || first.prev().as_slice() != request.prev.as_slice() || first.stream != *stream {
        return Err(Refusal::new("ChainBroken", "the first entry is not the one that the request begins with"));
    }
    Ok(Ends { term: last.term, seq: last.seq, hash })
}
