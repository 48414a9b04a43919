//! The replication sender: sends entries to followers.
//!
//! Invariants: a stream's entries go in their order, and entries that a follower acknowledged are not sent again; a
//! refused stream waits by itself, an unreachable server waits as a whole. A backlog is stored as one number.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes as Body;
use rand::RngExt;
use tokio_util::sync::CancellationToken;

use super::store::{self, Lease};
use super::wire::{Replicate, WireEntry, WireErasure};
use super::{REQUEST_BYTES, REQUEST_ENTRIES, Replicas};
use crate::federation::{CallError, PeerRequest};
use crate::lexicon::peer::replicate::{self, Output};
use crate::lexicon::{Kind, Method};
use crate::log::chain::Header;
use crate::log::{Error, Head, RawEntry, StreamState};
use crate::telemetry::metric_name;
use crate::types::{Bytes, Did, Hash, Seq};

/// Longer than a request may take; a dead sender holds a stream back for no longer.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// Requests of one stream before others come first.
const REQUESTS: usize = 64;
/// Bytes of headers and the rest of a body, besides the contents.
const BODY_BYTES: usize = REQUEST_BYTES - (256 << 10);
/// A server that could not be reached for an hour is asked every quarter of an hour.
const PARKED_AFTER_S: i64 = 60 * 60;
const PROBE_EVERY: Duration = Duration::from_mins(15);
pub(super) const TROUBLE: Duration = Duration::from_secs(1);
/// The pauses of a stopped stream as multiples of those after a failed request: the least, and the greatest.
const LONG_PAUSES: (u32, u32) = (60, 36);
const EARLY: Duration = Duration::from_millis(50);

/// Errors that are about this stream, not about the server.
const OF_THE_STREAM: &[&str] = &[
    "StreamNotFound",
    "NotHome",
    "StaleTerm",
    "EntryConflict",
    "ChainBroken",
    "ContentMismatch",
    "CheckpointInvalid",
    "StreamFrozen",
    "NewerVersionNeeded",
    "Malformed",
    "PayloadTooLarge",
    "InvalidRequest",
];

/// The outcome of a leased stream.
pub(super) struct Served {
    pub lease: Lease,
    /// When to look at this server again.
    pub again: Option<Duration>,
    /// There is more for this stream now.
    pub more: bool,
}

/// Why a request did not bring a stream on.
enum Stopped {
    /// Nothing is left to be sent.
    Done,
    /// The follower has no seat any more, or the stream is not ours to send.
    Over,
    /// About this stream alone.
    Refused(String),
    /// The server is well, and takes no more for so long.
    Slowed(Duration),
    /// About the server.
    Unreached,
    Trouble(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Trouble(error)
    }
}

impl From<crate::storage::Error> for Stopped {
    fn from(error: crate::storage::Error) -> Self {
        Self::Trouble(error.into())
    }
}

impl Replicas {
    /// Sends one follower one stream, request by request, until nothing is left, or something is in the way.
    pub(super) async fn serve(&self, mut lease: Lease, stop: CancellationToken) -> Served {
        let mut stopped = Stopped::Done;
        let mut more = false;
        for sent in 0..=REQUESTS {
            if sent == REQUESTS {
                more = true;
                break;
            }
            if let Err(why) = self.send_next(&mut lease).await {
                stopped = why;
                break;
            }
            if stop.is_cancelled() {
                break;
            }
        }
        let (again, outcome) = self.put_down(&lease, stopped).await;
        match outcome {
            Ok(behind) => more |= behind,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a follower could not be put down");
            }
        }
        Served { lease, again, more }
    }

    async fn put_down(&self, lease: &Lease, stopped: Stopped) -> (Option<Duration>, Result<bool, Error>) {
        let (pool, now) = (self.storage().pool(), self.clock().now());
        let server = lease.server.as_str();
        let outcome: Result<(Option<Duration>, bool), crate::storage::Error> = match stopped {
            Stopped::Done => store::release(pool, lease, Duration::ZERO, now).await.map(|behind| (None, behind)),
            Stopped::Over => match Did::parse(server) {
                Ok(did) => store::delete_follower(pool, lease.stream_id, &did).await.map(|()| (None, false)),
                Err(_) => Ok((None, false)),
            },
            Stopped::Refused(error) => {
                // Who asked a moment ago may not have written it down yet.
                let early = error == "StreamNotFound" && lease.failures == 0;
                let pause = if early { EARLY } else { self.pause(lease.failures) };
                tracing::info!(
                    peer = server,
                    error,
                    pause_ms = pause.as_millis(),
                    "a follower refused what it was sent"
                );
                metrics::counter!(metric_name::REPLICATION_FAILURES, "reason" => "refused").increment(1);
                store::refused(pool, lease, pause, now).await.map(|()| (Some(pause), false))
            }
            Stopped::Slowed(pause) => store::release(pool, lease, pause, now).await.map(|_| (Some(pause), false)),
            Stopped::Unreached => self.park(lease).await.map(|pause| (Some(pause), false)),
            Stopped::Trouble(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "entries could not be read for a follower");
                store::release(pool, lease, TROUBLE, now).await.map(|_| (Some(TROUBLE), false))
            }
        };
        match outcome {
            Ok((again, behind)) => (again, Ok(behind)),
            Err(error) => (Some(LEASE), Err(error.into())),
        }
    }

    /// The whole server waits: longer each time, and for a quarter of an hour once it was away for an hour.
    async fn park(&self, lease: &Lease) -> Result<Duration, crate::storage::Error> {
        let (pool, now) = (self.storage().pool(), self.clock().now());
        let (failures, since) = store::peer_failures(pool, &lease.server).await?.unwrap_or((0, now.to_datetime()));
        let parked = now.to_datetime().signed_duration_since(since).num_seconds() >= PARKED_AFTER_S;
        let pause = if parked { PROBE_EVERY } else { self.pause(failures) };
        tracing::info!(peer = lease.server, pause_ms = pause.as_millis(), parked, "a follower cannot be reached");
        metrics::counter!(metric_name::REPLICATION_FAILURES, "reason" => "unreached").increment(1);
        store::unreached(pool, &lease.server, pause, now).await?;
        self.inner.away.lock().unwrap_or_else(PoisonError::into_inner).insert(lease.server.clone());
        store::release(pool, lease, Duration::ZERO, now).await?;
        Ok(pause)
    }

    /// Full jitter below a bound that doubles.
    pub(super) fn pause(&self, failures: i32) -> Duration {
        let (least, most) = self.inner.timing.pauses;
        let doublings = u32::try_from(failures).unwrap_or_default().min(20);
        let bound = least.saturating_mul(1 << doublings).min(most);
        bound.mul_f64(rand::rng().random_range(0.05..1.0)).max(least / 10)
    }

    /// The pause before this server follows a stopped stream again: 30 to 60 seconds, then doubled up to six hours, of
    /// which half is random.
    pub(super) fn long_pause(&self, failures: i32) -> Duration {
        let (least, most) = self.inner.timing.pauses;
        let doublings = u32::try_from(failures).unwrap_or_default().min(20);
        let bound = least.saturating_mul(LONG_PAUSES.0 << doublings).min(most.saturating_mul(LONG_PAUSES.1));
        bound.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    /// One request. The lease follows what the follower says that it holds.
    async fn send_next(&self, lease: &mut Lease) -> Result<(), Stopped> {
        let row = self.log().row(lease.stream_id).await?;
        let server = Did::parse(&lease.server).map_err(|_| Stopped::Over)?;
        let pool = self.storage().pool();
        // Of a stream that went to another home we still owe what we ordered.
        let handed = if self.is_ours(&row.home) { None } else { store::handed_at(pool, row.id).await? };
        if row.state.is_over() || !self.is_ours(&row.home) && handed.is_none_or(|at| at.to_db() <= lease.acked_seq) {
            return Err(Stopped::Over);
        }
        if row.state == StreamState::Recovering {
            return Err(Stopped::Done);
        }
        let seated = store::seated(pool, lease.stream_id, &server).await?.ok_or(Stopped::Over)?;
        let acked = Seq::from_db(lease.acked_seq);
        if seated.until.is_some_and(|until| until <= acked) {
            return Err(Stopped::Over);
        }
        let (limit, bytes) = (REQUEST_ENTRIES, BODY_BYTES);
        let mut entries = self.log().raw_entries(lease.stream_id, acked.next(), limit, bytes, Some(&server)).await?;
        // What ends a server's last seat is the last that it gets.
        let until = [seated.until, handed].into_iter().flatten().min();
        entries.retain(|entry| until.is_none_or(|until| entry.seq <= until));
        let erasures = self.erasures(lease.stream_id, &server, &mut entries).await?;
        let Some(last) = entries.last() else { return Err(Stopped::Done) };
        let (sent, last_seq) = (entries.len(), last.seq);
        let body = self.body(&row.head(), acked, entries, erasures)?;
        let request = PeerRequest {
            nsid: replicate::Replicate::NSID,
            kind: Kind::Procedure,
            query: "",
            body: Body::from(body),
            content_type: Some("application/vnd.ipld.dag-cbor"),
            actor: None,
        };
        let answer = self.federation().call(&server, request).await.map_err(|error| match judge(error) {
            // It knows of the move already.
            Stopped::Refused(name) if name == "NotHome" && handed.is_some() => Stopped::Over,
            stopped => stopped,
        })?;
        let answer: Output = serde_json::from_slice(answer.body()).map_err(|_| Stopped::Unreached)?;
        if lease.failures > 0 || store::peer_failures(pool, &lease.server).await?.is_some() {
            store::reached(pool, &lease.server).await?;
        }
        // Entries appended after the row was read may be among those sent.
        if answer.seq > row.head_seq.max(last_seq).0 {
            // The follower holds entries that this home does not: this home lost them.
            self.suspect(lease.stream_id, &server).await?;
            return Err(Stopped::Refused("the follower is ahead".to_owned()));
        }
        let now = self.clock().now();
        let holds = Seq(answer.seq).min(last_seq);
        if holds.next() < Seq::from_db(lease.from_seq) {
            return Err(Stopped::Refused("the follower lost what it held".to_owned()));
        }
        if !store::acked(pool, lease, holds, LEASE.as_secs_f64(), now).await? {
            // The server followed again, or another instance took over.
            return Err(Stopped::Done);
        }
        let stuck = holds <= acked;
        (lease.acked_seq, lease.failures) = (holds.to_db(), 0);
        metrics::counter!(metric_name::REPLICATION_SENT).increment(sent as u64);
        match answer.state.as_str() {
            "stop" => Err(Stopped::Over),
            _ if stuck && answer.state != "gap" => Err(Stopped::Refused("the follower takes nothing".to_owned())),
            _ if stuck && holds == acked => Err(Stopped::Refused("gap".to_owned())),
            _ => Ok(()),
        }
    }

    fn body(
        &self,
        head: &Head,
        acked: Seq,
        entries: Vec<RawEntry>,
        erasures: Vec<WireErasure>,
    ) -> Result<Vec<u8>, Error> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(Vec::new()) };
        let prev: Hash = Header::decode(&first.held.header)?.prev();
        let Header { stream, term, seq, time, .. } = Header::decode(&last.held.header)?;
        let checkpoint = self.sign(&Head { stream, term, seq, hash: last.hash, time })?;
        let request = Replicate {
            stream: head.stream.clone(),
            term,
            from: acked.next(),
            prev: Bytes(prev.to_vec()),
            entries: entries.into_iter().map(WireEntry::from).collect(),
            checkpoint,
            erasures,
        };
        Ok(request.encode()?)
    }
}

fn judge(error: CallError) -> Stopped {
    match error {
        CallError::Refused { error, .. } if OF_THE_STREAM.contains(&error.as_str()) => Stopped::Refused(error),
        CallError::Refused { status: 429, retry_after, .. } => {
            Stopped::Slowed(retry_after.unwrap_or(TROUBLE).mul_f64(rand::rng().random_range(1.0..1.5)))
        }
        _ => Stopped::Unreached,
    }
}
