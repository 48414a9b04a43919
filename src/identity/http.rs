//! The only builder of HTTP clients. [`Guarded`] is for addresses that strangers choose; [`plain`] for endpoints that
//! the operator configured.
//!
//! Invariant of [`Guarded`]: no request leaves for an address that [`Guard`] refuses, none follows a redirect, and none
//! takes longer or reads more than its bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hickory_resolver::TokioResolver;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::{OnceCell, Semaphore};

use super::guard::{BadUrl, Guard, is_localhost};

/// Time to connect, name lookup and TLS included.
const CONNECT: Duration = Duration::from_secs(3);
/// Time for the whole call: waiting for a slot, connecting, sending and reading.
const IN_ALL: Duration = Duration::from_secs(10);
/// Bytes of an answer's body, unless the caller says otherwise.
pub const MAX_BODY_BYTES: usize = 512 * 1024;
/// Calls at one time to one host.
const PER_HOST: usize = 8;
/// Hosts that are remembered for that count.
const MAX_HOSTS: u64 = 10_000;

const USER_AGENT: &str = concat!("rookery/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer. Names no address: texts may reach a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("not called: {0}")]
    BadUrl(#[from] BadUrl),
    #[error("not called: the name has no public address")]
    NotPublic,
    #[error("no answer within {} s", IN_ALL.as_secs())]
    TimedOut,
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the call failed: {0}")]
    Failed(String),
}

impl HttpError {
    fn from_reqwest(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_timeout() {
            return Self::TimedOut;
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if inner.is::<NotPublic>() {
                return Self::NotPublic;
            }
            cause = inner.source();
        }
        // The kind alone: deeper texts quote the host.
        let kind = if error.is_connect() {
            "no connection"
        } else if error.is_body() || error.is_decode() {
            "the answer broke off"
        } else {
            "no valid answer"
        };
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
    builder().build().map_err(HttpError::from_reqwest)
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

#[expect(clippy::disallowed_methods, reason = "the one place that builds outbound clients")]
fn builder() -> reqwest::ClientBuilder {
    install_crypto_provider();
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(IN_ALL)
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
    hosts: moka::sync::Cache<String, Arc<Semaphore>>,
}

impl Guarded {
    /// `extra_ca_pem` (`OUTBOUND_CA`): certificates that are trusted beside the system's.
    pub fn new(guard: Guard, extra_ca_pem: Option<&[u8]>) -> Result<Self, HttpError> {
        let guard = Arc::new(guard);
        let mut builder = builder()
            .https_only(!guard.development())
            .dns_resolver(Arc::new(Dns { guard: Arc::clone(&guard), resolver: Arc::default() }));
        if let Some(pem) = extra_ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::from_reqwest)?;
            builder = builder.tls_certs_merge(certificates);
        }
        let hosts = moka::sync::Cache::builder().max_capacity(MAX_HOSTS).time_to_idle(Duration::from_mins(10)).build();
        Ok(Self { client: builder.build().map_err(HttpError::from_reqwest)?, guard, hosts })
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
        let request = reqwest::Request::try_from(request).map_err(HttpError::from_reqwest)?;
        // Judged as the client will read it, not as the caller wrote it.
        self.guard.check_url(request.url())?;
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let slots = self.hosts.get_with(host, || Arc::new(Semaphore::new(PER_HOST)));
        let call = async {
            let _slot = slots.acquire().await.map_err(|_| HttpError::Failed("closed".to_owned()))?;
            read(self.client.execute(request).await.map_err(HttpError::from_reqwest)?, max_bytes).await
        };
        tokio::time::timeout(IN_ALL, call).await.map_err(|_| HttpError::TimedOut)?
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
struct Dns {
    guard: Arc<Guard>,
    /// Built at the first lookup, because it wants a running reactor.
    resolver: Arc<OnceCell<TokioResolver>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the name has no public address")]
struct NotPublic;

impl Dns {
    async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        if is_localhost(host) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let resolver = self.resolver.get_or_try_init(|| async { TokioResolver::builder_tokio()?.build() }).await?;
        // Rooted, so that no search domain of this machine is tried: `pds` is not `pds.default.svc.cluster.local`.
        let rooted = format!("{}.", host.trim_end_matches('.'));
        Ok(resolver.lookup_ip(rooted).await?.iter().collect())
    }

    fn keep_allowed(&self, addresses: Vec<IpAddr>) -> Result<Vec<SocketAddr>, NotPublic> {
        // One address that is not public spoils the name: nobody honest publishes such a mixture.
        if addresses.is_empty() || addresses.iter().any(|address| !self.guard.allows(*address)) {
            return Err(NotPublic);
        }
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
    }
}

impl Resolve for Dns {
    fn resolve(&self, name: Name) -> Resolving {
        let dns = self.clone();
        Box::pin(async move {
            let addresses = dns.lookup(name.as_str()).await?;
            let allowed: Addrs = Box::new(dns.keep_allowed(addresses)?.into_iter());
            Ok(allowed)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::{Dns, Guard, Guarded, HttpError, PER_HOST, install_crypto_provider};

    async fn serve(router: axum::Router) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    fn guarded(development: bool) -> Guarded {
        Guarded::new(Guard::new(Vec::new(), development).unwrap(), None).unwrap()
    }

    #[test]
    fn installing_the_provider_twice_is_harmless() {
        install_crypto_provider();
        install_crypto_provider();
    }

    #[test]
    fn a_name_with_one_private_address_is_refused_whole() {
        let dns = Dns { guard: Arc::new(Guard::default()), resolver: Arc::default() };
        let keep = |texts: &[&str]| dns.keep_allowed(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(keep(&["8.8.8.8", "2606:4700::1111"]).unwrap().len(), 2);
        assert!(keep(&["8.8.8.8", "10.0.0.1"]).is_err());
        assert!(keep(&["::1"]).is_err());
        assert!(keep(&[]).is_err());
    }

    #[tokio::test]
    async fn an_address_is_checked_when_connecting_even_if_the_name_passed() {
        // The development client may name localhost; its resolver is then made to judge as in production.
        let client = super::builder()
            .dns_resolver(Arc::new(Dns { guard: Arc::new(Guard::default()), resolver: Arc::default() }))
            .build()
            .unwrap();
        let error = client.get("http://localhost:9/").send().await.unwrap_err();
        assert_eq!(HttpError::from_reqwest(error), HttpError::NotPublic);
    }

    #[tokio::test]
    async fn production_does_not_call_localhost_and_development_does() {
        let port = serve(axum::Router::new().route("/", axum::routing::get(|| async { "hello" }))).await;
        let url = format!("http://localhost:{port}/");
        assert!(matches!(guarded(false).get(&url, "*/*").await, Err(HttpError::BadUrl(_))));
        assert_eq!(guarded(true).get(&url, "*/*").await.unwrap().body().as_ref(), b"hello");
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let away = || async { axum::response::Redirect::temporary("/secret") };
        let router = axum::Router::new()
            .route("/", axum::routing::get(away))
            .route("/secret", axum::routing::get(|| async { "secret" }));
        let port = serve(router).await;
        let answer = guarded(true).get(&format!("http://localhost:{port}/"), "*/*").await.unwrap();
        assert_eq!(answer.status(), 307);
        assert!(answer.body().is_empty());
    }

    #[tokio::test]
    async fn a_body_over_the_bound_is_cut_off_announced_or_not() {
        let announced = || async { vec![b'x'; super::MAX_BODY_BYTES + 1] };
        let chunked = || async {
            let chunk = || Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b'x'; 64 * 1024]));
            axum::body::Body::from_stream(futures_util::stream::repeat_with(chunk))
        };
        let router = axum::Router::new()
            .route("/announced", axum::routing::get(announced))
            .route("/endless", axum::routing::get(chunked));
        let port = serve(router).await;
        for path in ["announced", "endless"] {
            let answer = guarded(true).get(&format!("http://localhost:{port}/{path}"), "*/*").await;
            assert_eq!(answer.unwrap_err(), HttpError::TooLarge(super::MAX_BODY_BYTES), "{path}");
        }
    }

    #[tokio::test]
    async fn at_most_eight_calls_go_to_one_host_at_a_time() {
        static NOW: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let slow = || async {
            MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(30)).await;
            NOW.fetch_sub(1, Ordering::SeqCst);
        };
        let port = serve(axum::Router::new().route("/", axum::routing::get(slow))).await;
        let (client, url) = (guarded(true), format!("http://localhost:{port}/"));
        let calls = (0..3 * PER_HOST).map(|_| client.get(&url, "*/*"));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.unwrap().status(), 200);
        }
        assert_eq!(MOST.load(Ordering::SeqCst), PER_HOST);
    }
}
