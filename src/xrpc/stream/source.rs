//! The events of a subscription, and its start, for sockets and for server-sent events.

use http::request::Parts;
use tokio_util::sync::CancellationToken;

use crate::lexicon::Method;
use crate::log::Delivery;
use crate::types::Cursor;
use crate::xrpc::{Caller, Failure, Services, caller, method};

/// Where a stream's events come from.
pub trait Source: Send + 'static {
    /// The next event; the end of the stream as the error for the client. The future may be dropped and called again.
    fn next(&mut self) -> impl Future<Output = Result<Delivery, Over>> + Send;

    /// The next event if there is one already.
    fn next_now(&mut self) -> Option<Delivery>;

    /// Where to go on from: everything up to here came out of [`Self::next`], or was not wanted.
    fn cursor(&self) -> Cursor;

    /// Cancelled when the listener's right ended, even while a client takes nothing.
    fn ended(&self) -> CancellationToken;
}

/// Why the server ends a stream, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    pub name: &'static str,
    pub message: &'static str,
}

impl Over {
    pub const CLOSED: Self =
        Self { name: "SubscriptionClosed", message: "the device's right ended, or newer listeners took its place" };
    pub const TOO_SLOW: Self =
        Self { name: "ConsumerTooSlow", message: "the subscriber did not keep up; resume by cursor" };
    pub const UNAVAILABLE: Self = Self { name: "Unavailable", message: "the log cannot be read now; resume by cursor" };
}

/// An async function `(&Services, Caller, Params) -> Result<Source, Failure<Error>>`.
pub trait Opening<'a, M: Method, C>: Send + Sync {
    type Source: Source;
    type Begin: Future<Output = Result<Self::Source, Failure<M::Error>>> + Send + 'a;

    fn begin(&self, cx: &'a Services, caller: C, params: M::Params) -> Self::Begin;
}

impl<'a, M, C, S, F, Fut> Opening<'a, M, C> for F
where
    M: Method,
    S: Source,
    F: Fn(&'a Services, C, M::Params) -> Fut + Send + Sync,
    Fut: Future<Output = Result<S, Failure<M::Error>>> + Send + 'a,
{
    type Source = S;
    type Begin = Fut;

    fn begin(&self, cx: &'a Services, caller: C, params: M::Params) -> Fut {
        self(cx, caller, params)
    }
}

/// Parameters, then the caller, then the method.
pub(super) async fn begin<'a, M, C, F>(
    cx: &'a Services,
    opening: &F,
    parts: &Parts,
) -> Result<<F as Opening<'a, M, C>>::Source, Failure<M::Error>>
where
    M: Method,
    C: Caller,
    F: Opening<'a, M, C>,
{
    let params = method::params::<M>(parts.uri.query().unwrap_or_default())?;
    let mut caller = caller::prove::<M, C>(cx, parts).await?;
    caller.check_body(cx, b"").await?;
    opening.begin(cx, caller, params).await
}

/// Counts an end that came from our side.
pub(super) fn count_end(reason: &'static str) {
    metrics::counter!(crate::telemetry::metric_name::SUBSCRIPTIONS_ENDED, "reason" => reason).increment(1);
}
