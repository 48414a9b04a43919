//! Receiving a body: its minimum speed, and the budget that its bytes come from.
//!
//! Invariants: the server holds no byte of a body that it did not take from the budget of all bodies, and returns the
//! bytes when it has answered the request. One account (of did:web: one registrable domain) or, unauthenticated, one
//! address holds at most its share. The server refuses a body slower than 16 KiB a second. Length, chunks and HTTP
//! version make no difference. A WebSocket takes no bytes: a subscriber's frames are read through a buffer of 4 KiB and
//! end the socket.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Address, Visit};
use crate::federation;
use crate::limit::{ByteBudget, ByteHolder, BytesExhausted, STEP_BYTES};
use crate::types::Did;

/// Times that the server waits for a body, and that a body waits for room.
#[derive(Clone, Copy)]
struct Pace {
    /// Time for each step of a body.
    step: Duration,
    /// Time to wait for bytes of the budget.
    room: Duration,
}

/// 16 KiB a second, and a second for room.
const PACE: Pace = Pace { step: Duration::from_secs(4), room: Duration::from_secs(1) };

/// The holder of a body's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BodyOwner {
    Address(Address),
    Account(Did),
    /// A registrable domain: of servers, and of accounts whose names cost nothing.
    Domain(Arc<str>),
}

impl BodyOwner {
    pub(super) fn of_account(did: &Did) -> Self {
        if is_free(did) { Self::of_server(did) } else { Self::Account(did.clone()) }
    }

    pub(super) fn of_server(server: &Did) -> Self {
        Self::Domain(federation::domain(server).into())
    }
}

/// Whether the owner of a domain can create any number of such names.
pub(super) fn is_free(did: &Did) -> bool {
    did.as_str().starts_with("did:web:")
}

/// Why a body is not received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyRefused {
    #[error("the body came slower than 16 KiB a second")]
    TooSlow,
    #[error("bodies of this caller hold all the bytes that one caller may hold")]
    ShareHeld,
    #[error("bodies hold all the bytes that this server keeps for them")]
    AllHeld,
}

impl From<BytesExhausted> for BodyRefused {
    fn from(exhausted: BytesExhausted) -> Self {
        match exhausted {
            BytesExhausted::Share => Self::ShareHeld,
            BytesExhausted::Whole => Self::AllHeld,
        }
    }
}

/// The bytes of one body. The layer around the request releases them once the request is answered.
pub(super) type HeldBody = Arc<Mutex<Option<ByteHolder<BodyOwner>>>>;

struct Receiving {
    body: Body,
    budget: Arc<ByteBudget<BodyOwner>>,
    visit: Visit,
    held: HeldBody,
    pace: Pace,
    /// Bytes left of the current step.
    step_bytes: usize,
    step_until: Option<Instant>,
}

/// Wraps a body that is measured as it is read.
pub(super) fn measured(body: Body, budget: Arc<ByteBudget<BodyOwner>>, visit: Visit) -> (Body, HeldBody) {
    paced(body, budget, visit, PACE)
}

fn paced(body: Body, budget: Arc<ByteBudget<BodyOwner>>, visit: Visit, pace: Pace) -> (Body, HeldBody) {
    let held = HeldBody::default();
    let receiving = Receiving { body, budget, visit, held: Arc::clone(&held), pace, step_bytes: 0, step_until: None };
    let frames = stream::try_unfold(receiving, async |mut receiving| {
        Ok::<_, axum::BoxError>(receiving.next().await?.map(|bytes| (bytes, receiving)))
    });
    (Body::from_stream(frames), held)
}

impl Receiving {
    async fn next(&mut self) -> Result<Option<Bytes>, axum::BoxError> {
        loop {
            let until = *self.step_until.get_or_insert_with(|| Instant::now() + self.pace.step);
            let frame = tokio::time::timeout_at(until, self.body.frame()).await.map_err(|_| BodyRefused::TooSlow)?;
            let Some(frame) = frame else { return Ok(None) };
            // Trailers say nothing to any method.
            let Ok(bytes) = frame?.into_data() else { continue };
            self.step_bytes += bytes.len();
            if self.step_bytes >= STEP_BYTES {
                self.step_bytes %= STEP_BYTES;
                self.step_until = None;
            }
            let begun = Instant::now();
            let mut held = self.held.lock().await;
            let holder = held.get_or_insert_with(|| self.budget.holder(self.visit.body_owner()));
            holder.take(bytes.len(), self.pace.room).await.map_err(BodyRefused::from)?;
            // Waiting for room is not the client's time.
            self.step_until = self.step_until.map(|until| until + begun.elapsed());
            return Ok(Some(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn visit() -> Visit {
        Visit::new(Address::of("192.0.2.1".parse().unwrap()), None)
    }

    /// A fortieth of the server's own.
    const QUICK: Pace = Pace { step: Duration::from_millis(400), room: Duration::from_millis(50) };

    /// Frames of these sizes, each after its pause.
    fn body(frames: Vec<(usize, Duration)>) -> Body {
        Body::from_stream(stream::unfold(frames.into_iter(), |mut frames| async move {
            let (bytes, pause) = frames.next()?;
            tokio::time::sleep(pause).await;
            Some((Ok::<_, axum::BoxError>(Bytes::from(vec![0; bytes])), frames))
        }))
    }

    async fn received(body: Body, budget: &Arc<ByteBudget<BodyOwner>>) -> Result<usize, String> {
        let (body, _held) = paced(body, Arc::clone(budget), visit(), QUICK);
        let refused = |error: axum::Error| {
            let refused = error.source().and_then(|error| error.downcast_ref::<BodyRefused>()).map(ToString::to_string);
            refused.unwrap_or_else(|| error.to_string())
        };
        body.collect().await.map(|body| body.to_bytes().len()).map_err(refused)
    }

    #[tokio::test]
    async fn a_body_slower_than_its_steps_is_refused() {
        let budget = Arc::new(ByteBudget::new(64 * STEP_BYTES, 0));
        let pause = QUICK.step / 4;
        let steady = vec![(STEP_BYTES, pause); 8];
        assert_eq!(received(body(steady), &budget).await, Ok(8 * STEP_BYTES));
        assert_eq!(received(body(vec![(100, pause)]), &budget).await, Ok(100), "a small body that ends in time");
        assert_eq!(received(body(vec![(1024, pause); 8]), &budget).await, Err(BodyRefused::TooSlow.to_string()));
        // Fast at first, and then nearly nothing.
        let stalling = [vec![(STEP_BYTES, Duration::ZERO); 4], vec![(1, pause); 8]].concat();
        assert_eq!(received(body(stalling), &budget).await, Err(BodyRefused::TooSlow.to_string()));
    }

    #[tokio::test]
    async fn a_body_holds_its_bytes_until_its_request_is_answered() {
        let budget = Arc::new(ByteBudget::new(64 * STEP_BYTES, 0));
        let whole = || Body::from(vec![0; 8 * STEP_BYTES]);
        let (body, held) = paced(whole(), Arc::clone(&budget), visit(), QUICK);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 8 * STEP_BYTES);
        assert_eq!(received(whole(), &budget).await, Err(BodyRefused::ShareHeld.to_string()));
        drop(held);
        assert_eq!(received(whole(), &budget).await, Ok(8 * STEP_BYTES));
    }

    #[test]
    fn names_that_cost_nothing_share_their_domain() {
        let owner = |did: &str| BodyOwner::of_account(&Did::parse(did).unwrap());
        assert_eq!(owner("did:web:a1.evil.example"), owner("did:web:a2.evil.example"));
        assert_ne!(owner("did:web:evil.example"), owner("did:web:good.example"));
        let plc = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
        assert_eq!(owner(plc), BodyOwner::Account(Did::parse(plc).unwrap()));
    }
}
