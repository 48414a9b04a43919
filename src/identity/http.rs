//! The only builder of HTTP clients. [`Guarded`] is for addresses that strangers choose; [`plain`] for endpoints that
//! the operator configured.
//!
//! Invariant of [`Guarded`]: no request leaves for an address that [`Guard`] refuses, none follows a redirect, and none
//! takes longer or reads more than its bounds.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::dns::{Dns, SystemDns};
use super::guard::{BadUrl, Guard};

/// What a call may take.
#[derive(Clone, Copy)]
struct Times {
    /// To connect, name lookup and TLS included.
    connect: Duration,
    /// For the whole call: waiting for a slot, connecting, sending and reading.
    in_all: Duration,
}

const TIMES: Times = Times { connect: Duration::from_secs(3), in_all: Duration::from_secs(10) };
/// So that an answer of a peer still fits into the 10 s of a PDS's proxy.
const PEER_TIMES: Times = Times { connect: Duration::from_secs(3), in_all: Duration::from_secs(8) };
/// Bytes of an answer's body, unless the caller says otherwise.
pub const MAX_BODY_BYTES: usize = 512 * 1024;
/// Calls at one time to one host in one lane.
const PER_HOST: usize = 8;
/// Hosts that are remembered for that count.
const MAX_HOSTS: u64 = 10_000;

/// Calls of one lane wait for each other alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// What somebody waits for.
    Person,
    /// What a worker does.
    Background,
    /// Bodies of many megabytes.
    Bulk,
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
    #[error("no connection")]
    NoConnection,
    /// Nothing was sent: as many calls to the host as may be were under way.
    #[error("too many calls to the host at one time")]
    Busy,
    #[error("the call failed: {0}")]
    Failed(String),
}

impl HttpError {
    fn from_reqwest(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_timeout() && !error.is_connect() {
            return Self::TimedOut;
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if inner.is::<NotPublic>() {
                return Self::NotPublic;
            }
            cause = inner.source();
        }
        if error.is_connect() {
            return Self::NoConnection;
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

/// A client for endpoints that the operator configured (directory, push, object store), the demo and tests.
/// No redirects, no proxy from the environment, 3 s to connect and 10 s in all.
pub fn plain() -> Result<PlainClient, HttpError> {
    builder(TIMES).build().map_err(HttpError::from_reqwest)
}

/// What [`plain`] gives.
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

fn builder(times: Times) -> reqwest::ClientBuilder {
    endless(times.connect).timeout(times.in_all)
}

/// Without a time for the whole call.
#[expect(clippy::disallowed_methods, reason = "the one place that builds outbound clients")]
fn endless(connect: Duration) -> reqwest::ClientBuilder {
    install_crypto_provider();
    reqwest::Client::builder()
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
    /// `extra_ca_pem` (`OUTBOUND_CA`): certificates that are trusted beside the system's.
    pub fn new(guard: Guard, extra_ca_pem: Option<&[u8]>) -> Result<Self, HttpError> {
        Self::with(guard, extra_ca_pem, Arc::new(SystemDns::default()), TIMES)
    }

    /// The same for calls to peers: 8 s in all.
    pub fn for_peers(guard: Guard, extra_ca_pem: Option<&[u8]>) -> Result<Self, HttpError> {
        Self::with(guard, extra_ca_pem, Arc::new(SystemDns::default()), PEER_TIMES)
    }

    fn with(guard: Guard, extra_ca_pem: Option<&[u8]>, dns: Arc<dyn Dns>, times: Times) -> Result<Self, HttpError> {
        let guard = Arc::new(guard);
        let mut builder = builder(times)
            .https_only(!guard.development())
            .dns_resolver(Arc::new(Checked { guard: Arc::clone(&guard), dns }));
        if let Some(pem) = extra_ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::from_reqwest)?;
            if certificates.is_empty() {
                return Err(HttpError::Failed("no certificate in PEM form".to_owned()));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let hosts = moka::sync::Cache::builder().max_capacity(MAX_HOSTS).time_to_idle(Duration::from_mins(10)).build();
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

    /// The same in a lane of its own.
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

    /// GET with an `accept` header and the usual bound.
    pub async fn get(&self, url: &str, accept: &'static str) -> Result<http::Response<Bytes>, HttpError> {
        let request = http::Request::get(url)
            .header(http::header::ACCEPT, accept)
            .body(Bytes::new())
            .map_err(|_| HttpError::BadUrl(BadUrl::Host))?;
        self.send(request, MAX_BODY_BYTES).await
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
        // One address that is not public spoils the name: nobody honest publishes such a mixture.
        if addresses.is_empty() || addresses.iter().any(|address| !self.guard.allows(*address)) {
            return Err(NotPublic);
        }
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
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
