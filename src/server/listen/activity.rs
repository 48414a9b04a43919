//! The activity of an HTTP/2 connection. TCP alone does not show it, since many answers share a connection and each has
//! a window of its own.
//!
//! Invariant: after a part of an answer was handed to the connection, the client makes room for the next part in time,
//! or the connection ends.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::Version;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::Instant;

/// Bytes of one part of an answer, for which a client must make room.
const PART_BYTES: usize = 16 * 1024;

/// The activity that a connection and its requests share.
#[derive(Clone, Default)]
pub(super) struct Activity(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    requests: watch::Sender<Requests>,
}

/// The requests of a connection.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Requests {
    /// The client has sent no complete head. An HTTP/2 client may greet and answer pings meanwhile.
    #[default]
    NoneYet,
    /// hyper itself limits the time between two requests of HTTP/1.
    Http1,
    /// Open requests of HTTP/2.
    Http2(usize),
}

impl Requests {
    fn are_idle(self) -> bool {
        matches!(self, Self::NoneYet | Self::Http2(0))
    }
}

#[derive(Default)]
struct State {
    next_id: u64,
    /// Answers whose next part waits for room at the client, with the time since when.
    offered: BTreeMap<u64, Instant>,
}

impl Activity {
    pub fn begin(&self, version: Version) -> OpenRequest {
        if version != Version::HTTP_2 {
            self.0.requests.send_replace(Requests::Http1);
            return OpenRequest(None);
        }
        self.0.requests.send_modify(|requests| {
            *requests = Requests::Http2(if let Requests::Http2(open) = requests { *open + 1 } else { 1 });
        });
        let mut state = self.state();
        state.next_id += 1;
        OpenRequest(Some(OpenAnswer { id: state.next_id, activity: self.clone() }))
    }

    /// Completes when no request has been open for `patience`, since the connection began or since its last request.
    pub async fn idle_for(&self, patience: Duration) {
        let mut requests = self.0.requests.subscribe();
        loop {
            if requests.wait_for(|requests| requests.are_idle()).await.is_err() {
                return std::future::pending().await;
            }
            if tokio::time::timeout(patience, requests.wait_for(|requests| !requests.are_idle())).await.is_err() {
                return;
            }
        }
    }

    /// Completes when an answer's next part has waited for room for `patience`.
    pub async fn blocked_for(&self, patience: Duration) {
        loop {
            let oldest = self.state().offered.values().min().copied();
            let next = oldest.map_or_else(|| Instant::now() + patience, |since| since + patience);
            if oldest.is_some() && next <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(next).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request without a complete answer.
pub(super) struct OpenRequest(Option<OpenAnswer>);

impl OpenRequest {
    /// Wraps the answer, to observe how the client receives it.
    pub fn answered(self, response: Response) -> Response {
        match self.0 {
            Some(answer) => response.map(|body| Body::new(Taken::new(body, answer))),
            None => response,
        }
    }
}

struct OpenAnswer {
    id: u64,
    activity: Activity,
}

impl OpenAnswer {
    /// Records that the connection has a part, and asks for the next part once the client has room.
    fn offered(&self) {
        self.activity.state().offered.insert(self.id, Instant::now());
    }

    fn asked(&self) {
        self.activity.state().offered.remove(&self.id);
    }
}

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        self.asked();
        self.activity.0.requests.send_modify(|requests| {
            if let Requests::Http2(open) = requests {
                *open = open.saturating_sub(1);
            }
        });
    }
}

/// The body of an answer, in parts: the connection asks for the next part when the client has room for it. The end
/// follows the last part as a separate step, so that the connection asks once more after the client has received that
/// part.
struct Taken {
    body: Body,
    /// The unsent bytes of the body's latest frame.
    rest: Bytes,
    is_empty: bool,
    answer: OpenAnswer,
}

impl Taken {
    fn new(body: Body, answer: OpenAnswer) -> Self {
        let is_empty = http_body::Body::is_end_stream(&body);
        if !is_empty {
            answer.offered();
        }
        Self { body, rest: Bytes::new(), is_empty, answer }
    }

    fn part(&mut self) -> Frame<Bytes> {
        self.answer.offered();
        Frame::data(self.rest.split_to(self.rest.len().min(PART_BYTES)))
    }
}

impl http_body::Body for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.part())));
        }
        // The client has room: it now waits for the server.
        this.answer.asked();
        match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    this.rest = data;
                    Poll::Ready(Some(Ok(this.part())))
                }
                Err(frame) => Poll::Ready(Some(Ok(frame))),
            },
            ended => Poll::Ready(ended),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::response::Response;
    use http::Version;
    use http_body_util::BodyExt;

    use super::{Activity, PART_BYTES};

    const PATIENCE: Duration = Duration::from_millis(400);

    async fn blocks(activity: &Activity) -> bool {
        tokio::time::timeout(2 * PATIENCE, activity.blocked_for(PATIENCE)).await.is_ok()
    }

    #[tokio::test]
    async fn an_answer_blocks_while_its_next_part_is_not_asked_for() {
        let activity = Activity::default();
        let answer = Response::new(Body::from(vec![7; 3 * PART_BYTES]));
        let mut answer = activity.begin(Version::HTTP_2).answered(answer).into_body();
        assert!(blocks(&activity).await, "no part was handed to the connection");
        let mut taken = 0;
        while let Some(part) = answer.frame().await {
            taken += part.unwrap().into_data().unwrap().len();
            tokio::time::sleep(PATIENCE / 2).await;
            let blocked = activity.blocked_for(PATIENCE);
            assert!(tokio::time::timeout(PATIENCE / 4, blocked).await.is_err(), "a slow client that takes parts");
        }
        assert_eq!(taken, 3 * PART_BYTES);
        drop(answer);
        assert!(!blocks(&activity).await, "nothing is left to take");
    }

    #[tokio::test]
    async fn an_answer_that_waits_for_events_blocks_nothing() {
        let activity = Activity::default();
        let events = Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, axum::Error>>());
        let mut answer = activity.begin(Version::HTTP_2).answered(Response::new(events)).into_body();
        assert!(tokio::time::timeout(PATIENCE, answer.frame()).await.is_err());
        assert!(!blocks(&activity).await);
        let idle = activity.idle_for(PATIENCE);
        assert!(tokio::time::timeout(2 * PATIENCE, idle).await.is_err(), "an open answer is no idle connection");
    }

    #[tokio::test]
    async fn a_connection_is_idle_after_its_last_answer_was_received() {
        let activity = Activity::default();
        let idle = async || tokio::time::timeout(2 * PATIENCE, activity.idle_for(PATIENCE)).await.is_ok();
        assert!(idle().await, "a connection without a request");
        let request = activity.begin(Version::HTTP_2);
        assert!(!idle().await);
        drop(request.answered(Response::new(Body::empty())));
        assert!(idle().await);
        let http_1 = Activity::default();
        drop(http_1.begin(Version::HTTP_11));
        assert!(tokio::time::timeout(2 * PATIENCE, http_1.idle_for(PATIENCE)).await.is_err(), "hyper's own limit");
    }
}
