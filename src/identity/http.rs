//! The only builder of HTTP clients. [`Guarded`] is for addresses that strangers choose; [`plain`] for endpoints that
//! the operator configured.
//!
//! Invariant of [`Guarded`]: it sends no request to an address that [`Guard`] refuses, follows no redirect, and keeps
//! its bounds of time and bytes. Invariant of both: they trust the certificates of `OUTBOUND_CA`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::dns::{Dns, DnsError, SystemDns};
use super::guard::{BadUrl, Guard};
use crate::limit::{Weigh, entry_weight};

/// Time limits of a call.
#[derive(Clone, Copy)]
struct Times {
    /// To connect, name lookup and TLS included.
    connect: Duration,
    /// For the whole call: waiting for a slot, connecting, sending and reading.
    in_all: Duration,
}

const TIMES: Times = Times { connect: Duration::from_secs(3), in_all: Duration::from_secs(10) };
/// Times of calls to peers, whose answer must fit into the 10 s of a PDS's proxy.
const PEER_TIMES: Times = Times { connect: Duration::from_secs(3), in_all: Duration::from_secs(8) };
/// Bytes of an answer's body, unless the caller says otherwise.
pub const MAX_BODY_BYTES: usize = 512 * 1024;
/// Concurrent calls to one host in one lane.
const PER_HOST: usize = 8;
/// Bytes of host names in the cache of those counts.
const MAX_HOSTS_BYTES: u64 = 4 << 20;

/// A group of calls. A call waits only for other calls of its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Calls that a client waits for.
    Person,
    /// Calls of workers.
    Background,
    /// Calls with bodies of many megabytes.
    Bulk,
}

impl Weigh for Lane {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>()
    }
}

const USER_AGENT: &str = concat!("rookery/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer. Names no address: texts may reach a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("not called: {0}")]
    BadUrl(#[from] BadUrl),
    #[error("not called: the name has no public address")]
    NotPublic,
    #[error("no answer in time")]
    TimedOut,
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// Nothing was sent.
    #[error("not sent: {}", _0.what_failed())]
    NoConnection(Step),
    /// Nothing was sent: too many calls to the host were in flight.
    #[error("too many calls to the host at one time")]
    Busy,
    #[error("the call failed: {0}")]
    Failed(String),
}

/// The step of a connection that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Dns,
    Tcp,
    Tls,
}

impl Step {
    pub const fn what_failed(self) -> &'static str {
        match self {
            Self::Dns => "the DNS did not answer for its name",
            Self::Tcp => "no TCP connection to its host",
            Self::Tls => "no TLS connection to its host: its certificate is not trusted, expired, or for another name",
        }
    }
}

/// Certificates that clients trust besides the system's (`OUTBOUND_CA`).
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<reqwest::Certificate>);

impl Authorities {
    pub fn from_pem(pem: &[u8]) -> Result<Self, HttpError> {
        let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::from_reqwest)?;
        if certificates.is_empty() {
            return Err(HttpError::Failed("no certificate in PEM form".to_owned()));
        }
        let authorities = Self(certificates);
        // Only the building of a client shows whether a certificate is readable.
        plain_trusting(&authorities)?;
        Ok(authorities)
    }
}

impl HttpError {
    fn from_reqwest(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_timeout() && !error.is_connect() {
            return Self::TimedOut;
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        let mut step = Step::Tcp;
        while let Some(inner) = cause {
            if inner.is::<NotPublic>() {
                return Self::NotPublic;
            }
            if inner.is::<DnsError>() {
                step = Step::Dns;
            }
            if inner.is::<rustls::Error>() {
                step = Step::Tls;
            }
            cause = within(inner);
        }
        if error.is_connect() {
            return Self::NoConnection(step);
        }
        // The kind alone: deeper texts quote the host.
        let kind = if error.is_body() || error.is_decode() { "the answer broke off" } else { "no valid answer" };
        Self::Failed(kind.to_owned())
    }
}

/// Makes ring the process-wide TLS provider, if nothing else is yet. Without one, reqwest panics.
pub fn install_crypto_provider() {
    // An error says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The error within an error. An `io::Error` that wraps another error does not show it as its source.
fn within<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e (dyn std::error::Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// A client for endpoints that the operator configured (directory, push, object store).
/// No redirects, no proxy from the environment, 3 s to connect and 10 s in all.
pub fn plain_trusting(authorities: &Authorities) -> Result<PlainClient, HttpError> {
    builder(TIMES, authorities).build().map_err(HttpError::from_reqwest)
}

/// A client for configured endpoints, for the demo and tests, which have no settings.
pub fn plain() -> Result<PlainClient, HttpError> {
    plain_trusting(&Authorities::default())
}

/// The client that [`plain`] builds.
pub type PlainClient = reqwest::Client;

/// GET through a plain client, with a bound on the body.
pub async fn get_plain(
    client: &PlainClient,
    url: &str,
    accept: &'static str,
    max_bytes: usize,
) -> Result<http::Response<Bytes>, HttpError> {
    let request = client.get(url).header(http::header::ACCEPT, accept);
    read(request.send().await.map_err(HttpError::from_reqwest)?, max_bytes).await
}

/// Any request through a plain client, with a bound on the answer's body.
pub async fn send_plain(
    client: &PlainClient,
    request: http::Request<Bytes>,
    max_bytes: usize,
) -> Result<http::Response<Bytes>, HttpError> {
    let request = reqwest::Request::try_from(request).map_err(|_| HttpError::BadUrl(BadUrl::Host))?;
    read(client.execute(request).await.map_err(HttpError::from_reqwest)?, max_bytes).await
}

fn builder(times: Times, authorities: &Authorities) -> reqwest::ClientBuilder {
    endless(times.connect, authorities).timeout(times.in_all)
}

/// Without a time for the whole call.
#[expect(clippy::disallowed_methods, reason = "the one place that builds outbound clients")]
fn endless(connect: Duration, authorities: &Authorities) -> reqwest::ClientBuilder {
    install_crypto_provider();
    reqwest::Client::builder()
        .tls_certs_merge(authorities.0.iter().cloned())
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(connect)
}

async fn read(mut response: reqwest::Response, max_bytes: usize) -> Result<http::Response<Bytes>, HttpError> {
    let mut answer = http::Response::new(Bytes::new());
    *answer.status_mut() = response.status();
    std::mem::swap(answer.headers_mut(), response.headers_mut());
    *answer.body_mut() = read_body(response, max_bytes).await?;
    Ok(answer)
}

/// Reads at most `max_bytes` of a body, and never buffers more.
async fn read_body(mut response: reqwest::Response, max_bytes: usize) -> Result<Bytes, HttpError> {
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |length| length > max_bytes) {
        return Err(HttpError::TooLarge(max_bytes));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(HttpError::from_reqwest)? {
        if body.len() + chunk.len() > max_bytes {
            return Err(HttpError::TooLarge(max_bytes));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The client for addresses that strangers choose.
pub struct Guarded {
    client: reqwest::Client,
    guard: Arc<Guard>,
    hosts: moka::sync::Cache<(String, Lane), Arc<Semaphore>>,
    times: Times,
}

impl Guarded {
    pub fn new(guard: Guard, authorities: &Authorities) -> Result<Self, HttpError> {
        Self::with(guard, authorities, Arc::new(SystemDns::default()), TIMES)
    }

    /// A client for calls to peers: 8 s in all.
    pub fn for_peers(guard: Guard, authorities: &Authorities) -> Result<Self, HttpError> {
        Self::with(guard, authorities, Arc::new(SystemDns::default()), PEER_TIMES)
    }

    fn with(guard: Guard, authorities: &Authorities, dns: Arc<dyn Dns>, times: Times) -> Result<Self, HttpError> {
        let guard = Arc::new(guard);
        let builder = builder(times, authorities)
            .https_only(!guard.development())
            .dns_resolver(Arc::new(Checked { guard: Arc::clone(&guard), dns }));
        let hosts = moka::sync::Cache::builder().max_capacity(MAX_HOSTS_BYTES).weigher(entry_weight);
        let hosts = hosts.time_to_idle(Duration::from_mins(10)).build();
        Ok(Self { client: builder.build().map_err(HttpError::from_reqwest)?, guard, hosts, times })
    }

    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Sends one request and reads its answer, whatever its status. A redirect is an answer like any other.
    pub async fn send(
        &self,
        request: http::Request<Bytes>,
        max_bytes: usize,
    ) -> Result<http::Response<Bytes>, HttpError> {
        self.send_in(Lane::Background, request, max_bytes).await
    }

    /// Sends a request in a lane.
    pub async fn send_in(
        &self,
        lane: Lane,
        request: http::Request<Bytes>,
        max_bytes: usize,
    ) -> Result<http::Response<Bytes>, HttpError> {
        // What one parser of URLs takes and another does not is nothing to call.
        let request = reqwest::Request::try_from(request).map_err(|_| HttpError::BadUrl(BadUrl::Host))?;
        // Judged as the client will read it, not as the caller wrote it.
        self.guard.check_url(request.url())?;
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let slots = self.hosts.get_with((host, lane), || Arc::new(Semaphore::new(PER_HOST)));
        let until = tokio::time::Instant::now() + self.times.in_all;
        let slot = tokio::time::timeout(self.times.in_all / 2, slots.acquire()).await.map_err(|_| HttpError::Busy)?;
        let _slot = slot.map_err(|_| HttpError::Busy)?;
        let call =
            async { read(self.client.execute(request).await.map_err(HttpError::from_reqwest)?, max_bytes).await };
        tokio::time::timeout_at(until, call).await.map_err(|_| HttpError::TimedOut)?
    }

    /// Sends a GET with an `accept` header and the usual limit on the body.
    pub async fn get(&self, url: &str, accept: &'static str) -> Result<http::Response<Bytes>, HttpError> {
        self.get_within(url, accept, MAX_BODY_BYTES).await
    }

    /// Sends a GET with an `accept` header and a limit on the body.
    pub async fn get_within(
        &self,
        url: &str,
        accept: &'static str,
        max_bytes: usize,
    ) -> Result<http::Response<Bytes>, HttpError> {
        let request = http::Request::get(url)
            .header(http::header::ACCEPT, accept)
            .body(Bytes::new())
            .map_err(|_| HttpError::BadUrl(BadUrl::Host))?;
        self.send(request, max_bytes).await
    }
}

/// Name lookup that gives only addresses the guard allows.
#[derive(Clone)]
struct Checked {
    guard: Arc<Guard>,
    dns: Arc<dyn Dns>,
}

#[derive(Debug, thiserror::Error)]
#[error("the name has no public address")]
struct NotPublic;

impl Checked {
    fn keep_allowed(&self, addresses: Vec<IpAddr>) -> Result<Vec<SocketAddr>, NotPublic> {
        // A forbidden address does not exclude the name's other addresses: split-horizon names and DNS64 mix both. The
        // client connects to the allowed addresses only.
        let allowed = addresses.into_iter().filter(|address| self.guard.allows(*address));
        let allowed: Vec<_> = allowed.map(|address| SocketAddr::new(address, 0)).collect();
        if allowed.is_empty() { Err(NotPublic) } else { Ok(allowed) }
    }
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let checked = self.clone();
        Box::pin(async move {
            let addresses = checked.dns.addresses(name.as_str()).await?;
            let allowed: Addrs = Box::new(checked.keep_allowed(addresses)?.into_iter());
            Ok(allowed)
        })
    }
}

mod upstream;
pub use upstream::{Upstream, UpstreamBody};

#[cfg(test)]
mod bypasses;
#[cfg(test)]
mod tests;
