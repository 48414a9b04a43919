//! Cross-checks: comparisons of a home's statements to this server with those to others.
//!
//! Invariant: only the home's signature counts, never another server's claim.

use super::Replicas;
use super::evidence::{Claim, Kind};
use super::follow::signed_of;
use super::home::Witnessed;
use super::store;
use crate::federation::CallError;
use crate::lexicon::peer::get_checkpoint::{GetCheckpoint, Params};
use crate::log::fork::lead_back;
use crate::log::{Error, StreamRow};
use crate::types::{Did, Refusal, Seq};

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Same,
    /// There is no number that both hold.
    Apart,
    /// The home made two contradicting statements: the stream is frozen, if that could be proven.
    Different,
}

impl Replicas {
    /// A server's checkpoint of a stream; nothing if it answers that it has none.
    pub(super) async fn ask(
        &self,
        server: &Did,
        stream: &str,
        seq: Option<Seq>,
    ) -> Result<Option<Witnessed>, CallError> {
        let params = Params { stream: stream.to_owned(), seq: seq.map(|seq| seq.0) };
        match self.federation().query::<GetCheckpoint>(server, &params, None).await {
            Ok(answer) => Ok(Some(Witnessed { checkpoint: signed_of(answer.checkpoint), headers: answer.headers })),
            Err(error) if error.is("NotHere") || error.is("StreamNotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks a server where the stream stands, and compares.
    pub(super) async fn check_with(&self, row: &StreamRow, server: &Did) -> Result<Compared, CallError> {
        let stream = row.public_id.as_str();
        let mut answer = self.ask(server, stream, Some(row.head_seq)).await?;
        if answer.is_none() {
            // It is behind us.
            answer = self.ask(server, stream, None).await?;
        }
        let Some(answer) = answer else { return Ok(Compared::Apart) };
        match self.compare(row, answer).await {
            Ok(compared) => Ok(compared),
            Err(error) => {
                tracing::info!(peer = server.as_str(), %error, "a checkpoint of a witness could not be compared");
                Ok(Compared::Apart)
            }
        }
    }

    /// Compares a checkpoint of the home, as another server shows it, with the stored entries.
    pub(super) async fn compare(&self, row: &StreamRow, shown: Witnessed) -> Result<Compared, Error> {
        let home = Did::parse(&row.home).map_err(|why| Refusal::new("CheckpointInvalid", why.to_string()))?;
        let checkpoint = self.checkpoint_by(&home, &row.public_id, &shown.checkpoint).await?;
        let led = lead_back(&checkpoint, &shown.headers);
        let (seq, hash) = led.map_err(|why| Refusal::new("CheckpointInvalid", why.to_string()))?;
        let Some(held) = self.log().head_at(row.id, seq).await? else { return Ok(Compared::Apart) };
        if held.hash == hash {
            return Ok(Compared::Same);
        }
        let claim = Claim { from: seq.next(), headers: shown.headers, signed: shown.checkpoint, checkpoint };
        // A witness may have stolen a former key of the home: the server keeps such a signature, and it proves no fork.
        let published = self.published_word(&home, &claim.signed).await.is_ok();
        if published && let Some(proof) = self.proof(row, seq, &claim).await? {
            self.convict(row, proof).await?;
        } else {
            // Signed by a former key, or of two terms, of which the home took one back: the entry that opens the later
            // term shows that.
            let bytes = crate::log::chain::encode(&claim.signed, "evidence")?;
            let now = self.clock().now();
            store::insert_evidence(self.storage().pool(), row.id, Kind::Conflict, seq, &bytes, now).await?;
        }
        Ok(Compared::Different)
    }
}
