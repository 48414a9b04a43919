//! The peer monitor, which checks at intervals: silent homes, due receipts, recovering streams, evidence that a server
//! has not seen yet.
//!
//! Invariant: each check is independent; a failing check waits longer each time and delays no other.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::evidence::Kind;
use super::follow::{FollowError, signed_of, wire_of};
use super::{Replicas, store};
use crate::federation::CallError;
use crate::lexicon::peer::{defs, report_fork, show_checkpoint};
use crate::log::body::{Body, HistoryRewoundBody};
use crate::log::chain::decode;
use crate::log::{Error, ForkProof, StreamRow};
use crate::types::{Did, UnixMillis};

/// Rows of one pass.
const BATCH: i64 = 32;
/// The most streams that are followed again concurrently.
const FOLLOWS: usize = 8;
/// Failed attempts to follow again before the pauses grow to hours.
const SOON: i32 = 8;
const REPORT_LEASE: Duration = Duration::from_mins(1);
/// After so many attempts, the longest pauses take about ten days together.
const REPORT_ATTEMPTS: i32 = 1_500;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Interval of the rarely due work.
const SELDOM: Duration = Duration::from_mins(5);

pub(super) async fn run(replicas: Replicas, stop: CancellationToken) {
    let mut seldom_at = Instant::now();
    loop {
        let seldom = Instant::now() >= seldom_at;
        if seldom {
            seldom_at = Instant::now() + SELDOM;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = replicas.look(seldom) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = replicas.inner.watch.notified() => {}
            () = tokio::time::sleep(replicas.inner.timing.look_every) => {}
        }
    }
}

/// Homes whose database went back in time are shown what they may have forgotten.
pub(super) async fn rises(replicas: Replicas, stop: CancellationToken) {
    let mut rises = replicas.federation().rises();
    loop {
        let home = tokio::select! {
            () = stop.cancelled() => return,
            rise = rises.recv() => match rise {
                Ok(home) => home,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
        };
        say(replicas.show_all(&home).await, "a home that went back could not be shown what it signed");
    }
}

fn say(outcome: Result<(), Error>, what: &'static str) {
    if let Err(error) = outcome {
        tracing::warn!(error = &error as &dyn std::error::Error, "{what}");
    }
}

impl Replicas {
    async fn look(&self, seldom: bool) {
        say(self.recover_due().await, "streams could not be recovered");
        say(self.keep_due().await, "streams whose next home never answered could not go on");
        say(self.open_due().await, "streams that came here could not be opened");
        say(self.backfill_due().await, "what a next home lacks could not be fetched");
        if seldom {
            say(self.tell_homes().await, "failed to tell homes of this version");
        }
        say(self.follow_due().await, "streams could not be followed anew");
        say(self.report_due().await, "evidence could not be shown");
        say(self.judge_receipts().await, "receipts could not be judged");
        if seldom {
            say(self.check_due().await, "homes could not be checked on");
            say(self.tidy().await, "what is over could not be put away");
        }
    }

    /// One pass over everything, however seldom it is due: for tests and for operators.
    pub async fn look_at_everything(&self) {
        self.look(true).await;
    }

    /// Calls `peer.follow` for the due streams, from this server's own head: after a restore of this server or of the
    /// home, after a silence, after requests that failed verification, and once a week.
    async fn follow_due(&self) -> Result<(), Error> {
        let due = store::due_follows(self.storage().pool(), self.clock().now(), BATCH).await?;
        let follows = due.into_iter().map(|(stream_id, failures)| self.follow_anew(stream_id, failures));
        let mut follows = futures_util::stream::iter(follows).buffer_unordered(FOLLOWS);
        while let Some(followed) = follows.next().await {
            say(followed, "failed to follow a stream anew");
        }
        Ok(())
    }

    async fn follow_anew(&self, stream_id: i64, failures: i32) -> Result<(), Error> {
        let (pool, now) = (self.storage().pool(), self.clock().now());
        let row = self.log().row(stream_id).await?;
        let Ok(home) = Did::parse(&row.home) else { return Ok(()) };
        match self.follow(&row.public_id, &home, row.head_seq.next(), None).await {
            Ok(_) => {}
            // No account of this server has a seat in the stream any more.
            Err(FollowError::Call(error)) if error.is("StreamNotFound") => {
                store::end_replica(pool, stream_id, now).await?;
            }
            // The named home claims that this server is the home: it lost the stream.
            Err(FollowError::Call(error)) if error.named_home() == Some(self.log().home()) => {
                let came = self.come_back(&row, &home).await;
                say(came, "a stream that went here could not be taken up again");
                store::put_off_follow(pool, stream_id, self.pause(failures), now).await?;
            }
            Err(error) => {
                tracing::info!(peer = home.as_str(), %error, "stream not followed anew yet");
                let pause = if failures < SOON { self.pause(failures) } else { self.long_pause(failures - SOON) };
                store::put_off_follow(pool, stream_id, pause, now).await?;
            }
        }
        Ok(())
    }

    /// Once a day for each stream with traffic, another server is asked; a home that was silent for an hour, itself.
    async fn check_due(&self) -> Result<(), Error> {
        let (pool, now) = (self.storage().pool(), self.clock().now());
        let yesterday = UnixMillis(now.0 - DAY_MS);
        for unchecked in store::unchecked(pool, self.log().home(), yesterday, BATCH).await? {
            let row = self.log().row(unchecked.stream_id).await?;
            let witness = unchecked.witness.and_then(|witness| Did::parse(&witness).ok());
            if let Some(witness) = witness
                && let Err(error) = self.check_with(&row, &witness).await
            {
                tracing::info!(peer = witness.as_str(), %error, "a witness could not be asked");
            }
            store::checked(pool, row.id, row.head_seq, now).await?;
        }
        for (home, stream_id) in store::silent(pool, now).await? {
            let row = self.log().row(stream_id).await?;
            let Ok(home) = Did::parse(&home) else { continue };
            match self.check_with(&row, &home).await {
                Ok(_) => store::heard(pool, &home, now).await?,
                Err(error) => tracing::warn!(peer = home.as_str(), %error, "the home of a stream is silent"),
            }
        }
        Ok(())
    }

    async fn report_due(&self) -> Result<(), Error> {
        let (pool, now) = (self.storage().pool(), self.clock().now());
        for report in store::due_reports(pool, REPORT_LEASE, now, BATCH).await? {
            let told = match Did::parse(&report.server) {
                Ok(server) => self.report(&server, &report).await?,
                Err(_) => Ok(()),
            };
            match told {
                Ok(()) => store::report_done(pool, &report).await?,
                // It has no such stream, or thinks otherwise: it was told.
                Err(CallError::Refused { status: 400..=499, error, .. }) if error != "RateLimitExceeded" => {
                    tracing::info!(peer = report.server, error, "a server did not take evidence");
                    store::report_done(pool, &report).await?;
                }
                Err(_) if report.failures >= REPORT_ATTEMPTS => store::report_done(pool, &report).await?,
                Err(_) => store::put_off_report(pool, &report, self.pause(report.failures), now).await?,
            }
        }
        Ok(())
    }

    async fn report(&self, server: &Did, report: &store::Report) -> Result<Result<(), CallError>, Error> {
        if report.kind == Kind::Rewind.to_db() {
            let body = HistoryRewoundBody::decode(&report.bytes)?;
            let input = show_checkpoint::Input {
                stream: report.stream.clone(),
                checkpoint: wire_of(body.checkpoint),
                restored: Some(body.restored),
            };
            let told = self.federation().procedure::<show_checkpoint::ShowCheckpoint>(server, &input, None).await;
            return Ok(told.map(drop));
        }
        let proof: ForkProof = decode(&report.bytes, "proof of fork")?;
        let proof = defs::ForkProof {
            a: wire_of(proof.a),
            a_headers: proof.a_headers,
            b: wire_of(proof.b),
            b_headers: proof.b_headers,
        };
        let input = report_fork::Input { stream: report.stream.clone(), proof };
        let told = self.federation().procedure::<report_fork::ReportFork>(server, &input, None).await;
        Ok(told.map(drop))
    }

    /// Shows a home its newest checkpoint of every stream of its that is followed here.
    async fn show_all(&self, home: &Did) -> Result<(), Error> {
        let (pool, now) = (self.storage().pool(), self.clock().now());
        for stream_id in store::replicas_of(pool, home.as_str()).await? {
            let row = self.log().row(stream_id).await?;
            match self.show(home, &row).await {
                Err(FollowError::Call(error)) => {
                    tracing::info!(peer = home.as_str(), %error, "a home was not shown what it signed");
                    store::put_off_follow(pool, stream_id, self.pause(0), now).await?;
                }
                Err(FollowError::Log(error)) => return Err(error),
                Err(FollowError::Refused(_)) | Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Shows a home its newest checkpoint that is held.
    pub(super) async fn show(&self, home: &Did, row: &StreamRow) -> Result<(), FollowError> {
        let Some((_, checkpoint)) = self.log().newest_checkpoint(row.id).await? else { return Ok(()) };
        let input = show_checkpoint::Input {
            stream: row.public_id.to_string(),
            checkpoint: wire_of(checkpoint),
            restored: None,
        };
        self.federation().procedure::<show_checkpoint::ShowCheckpoint>(home, &input, None).await?;
        Ok(())
    }

    async fn tidy(&self) -> Result<(), Error> {
        let (pool, now) = (self.storage().pool(), self.clock().now());
        let dropped = store::drop_lost(pool, now).await?;
        if dropped > 0 {
            tracing::warn!(dropped, "followers that could not be reached for 30 days were dropped");
        }
        while store::forget_ended(pool, now).await? > 0 {}
        store::handover::forget_moves(pool, now).await?;
        store::forget_support(pool, now).await?;
        Ok(())
    }
}

/// The proof as the lexicon shows it.
pub fn proof_of(proof: defs::ForkProof) -> ForkProof {
    ForkProof { a: signed_of(proof.a), a_headers: proof.a_headers, b: signed_of(proof.b), b_headers: proof.b_headers }
}
