//! Sources of DID documents. Invariants: only the guarded client calls a did:web host, which a stranger chose; the
//! operator chose the directory of did:plc; a document is read up to its limit in bytes.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::document::{DidDocument, MAX_DOCUMENT_BYTES};
use super::http::{Authorities, Guarded, HttpError, PlainClient, get_plain, plain_trusting};
use super::resolver::ResolveError;
use crate::types::{Did, Malformed};

const ACCEPT: &str = "application/did+ld+json,application/json";
/// Questions to the directory at one time.
const PLC_AT_ONCE: usize = 32;

/// Fetches one document, without memory.
pub trait Source: Send + Sync + 'static {
    fn fetch<'a>(&'a self, did: &'a Did) -> BoxFuture<'a, Result<DidDocument, ResolveError>>;
}

/// The real thing: a did:plc directory, and did:web hosts.
pub struct Network {
    directory: String,
    plain: PlainClient,
    plc_slots: Semaphore,
    guarded: Arc<Guarded>,
}

impl Network {
    /// `plc_directory` is an http or https URL, like `https://plc.directory`.
    pub fn new(plc_directory: &str, authorities: &Authorities, guarded: Arc<Guarded>) -> Result<Self, NetworkError> {
        let url = Url::parse(plc_directory).map_err(|_| Malformed::new("PLC directory", "not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.query().is_some() {
            return Err(Malformed::new("PLC directory", "expected http or https, a host and no query").into());
        }
        let directory = plc_directory.trim_end_matches('/').to_owned();
        Ok(Self { directory, plain: plain_trusting(authorities)?, plc_slots: Semaphore::new(PLC_AT_ONCE), guarded })
    }

    async fn get(&self, did: &Did) -> Result<http::Response<bytes::Bytes>, ResolveError> {
        match Location::of(did, self.guarded.guard().development())? {
            Location::Directory(path) => {
                let url = format!("{}/{path}", self.directory);
                let closed = |_| ResolveError::Unreachable("shutting down");
                let _slot = self.plc_slots.acquire().await.map_err(closed)?;
                get_plain(&self.plain, &url, ACCEPT, MAX_DOCUMENT_BYTES).await.map_err(|error| unreachable(&error))
            }
            Location::Web(url) => {
                let fetched = self.guarded.get_within(&url, ACCEPT, MAX_DOCUMENT_BYTES).await;
                fetched.map_err(|error| unreachable(&error))
            }
        }
    }
}

/// An invalid configuration of a [`Network`].
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error(transparent)]
    Directory(#[from] Malformed),
    #[error(transparent)]
    Client(#[from] HttpError),
}

impl Source for Network {
    fn fetch<'a>(&'a self, did: &'a Did) -> BoxFuture<'a, Result<DidDocument, ResolveError>> {
        Box::pin(async move {
            let answer = self.get(did).await?;
            match answer.status().as_u16() {
                200 => DidDocument::parse(did, answer.body()).map_err(|error| ResolveError::Invalid(error.why)),
                // 410: the directory reports a tombstone.
                404 | 410 => Err(ResolveError::NotFound),
                _ => Err(ResolveError::Unreachable("the answer is not a document")),
            }
        })
    }
}

fn unreachable(error: &HttpError) -> ResolveError {
    match error {
        HttpError::BadUrl(_) => ResolveError::Unsupported("its host is not called"),
        HttpError::NotPublic => ResolveError::Unreachable("its host has no public address"),
        HttpError::TimedOut => ResolveError::Unreachable("no answer in time"),
        HttpError::TooLarge(_) => ResolveError::Invalid("too large"),
        HttpError::NoConnection(step) => ResolveError::Unreachable(step.what_failed()),
        HttpError::Busy => ResolveError::Unreachable("too many calls to its host at one time"),
        HttpError::Failed(_) => ResolveError::Unreachable("the call failed"),
    }
}

/// Where the document of a DID lies.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    /// A path of the did:plc directory.
    Directory(String),
    Web(String),
}

impl Location {
    fn of(did: &Did, development: bool) -> Result<Self, ResolveError> {
        let id = did.as_str().splitn(3, ':').nth(2).unwrap_or_default();
        match did.method() {
            "plc" if id.len() == 24 && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')) => {
                // The DID percent-encoded; of its characters only the colon needs it.
                Ok(Self::Directory(format!("did%3Aplc%3A{id}")))
            }
            "plc" => Err(ResolveError::Unsupported("not a did:plc")),
            "web" => web(id, development).map(Self::Web),
            _ => Err(ResolveError::Unsupported("only did:plc and did:web are resolved")),
        }
    }
}

/// No paths; a port for localhost only, and that under the development flag only.
fn web(id: &str, development: bool) -> Result<String, ResolveError> {
    if id.contains(':') {
        return Err(ResolveError::Unsupported("a did:web with a path"));
    }
    let (host, port) = match id.split_once("%3A") {
        Some((host, port)) => (host, Some(port)),
        None => (id, None),
    };
    if host == "localhost" && development {
        let port = port.map(str::parse::<u16>).transpose();
        let port = port.map_err(|_| ResolveError::Unsupported("a did:web with a bad port"))?;
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        return Ok(format!("http://localhost{port}/.well-known/did.json"));
    }
    if port.is_some() {
        return Err(ResolveError::Unsupported("a did:web with a port"));
    }
    let url = format!("https://{host}/.well-known/did.json");
    // Exactly the written host, as a name and not as an address; a final dot would make a second name of it.
    let same = !host.ends_with('.')
        && Url::parse(&url)
            .is_ok_and(|url| url.host() == Some(Host::Domain(host)) && url.path() == "/.well-known/did.json");
    if same { Ok(url) } else { Err(ResolveError::Unsupported("a did:web whose host is not a name")) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Authorities, Location, Network, Source};
    use crate::identity::guard::Guard;
    use crate::identity::http::{Guarded, Step};
    use crate::identity::resolver::ResolveError;
    use crate::types::Did;

    fn of(did: &str, development: bool) -> Result<Location, ResolveError> {
        Location::of(&Did::parse(did).unwrap(), development)
    }

    #[test]
    fn each_did_has_one_place_and_the_rest_none() {
        let plc = "did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz".to_owned();
        assert_eq!(of("did:plc:ewvi7nxzyoun6zhxrhs64oiz", false), Ok(Location::Directory(plc)));
        let web = |url: &str| Ok(Location::Web(url.to_owned()));
        assert_eq!(of("did:web:a.example", false), web("https://a.example/.well-known/did.json"));
        assert_eq!(of("did:web:localhost%3A8080", true), web("http://localhost:8080/.well-known/did.json"));
        assert_eq!(of("did:web:localhost", true), web("http://localhost/.well-known/did.json"));
        for did in [
            "did:plc:ewvi7nxzyoun6zhxrhs64oi",
            "did:plc:ewvi7nxzyoun6zhxrhs64oi1",
            "did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ",
            "did:plc:..%2Fewvi7nxzyoun6zhxrhs64",
            "did:web:a.example:user",
            "did:web:a.example%3A8080",
            "did:web:a.example%3a8080",
            "did:web:a.example%2Fpath",
            "did:web:a.example%23x",
            "did:web:user%40a.example",
            "did:web:A.example",
            "did:web:a.example.",
            "did:web:127.0.0.1",
            "did:web:2130706433",
            "did:web:0x7f.1",
            "did:web:localhost%3A99999",
            "did:web:localhost%3A8080%3A1",
            "did:key:z6Mkr6sMxacHiEaYxj1iHUEfB3pA6UvjeHTSubfr8aqLMxqL",
        ] {
            assert!(matches!(of(did, true), Err(ResolveError::Unsupported(_))), "{did}");
        }
        assert!(of("did:web:localhost%3A8080", false).is_err());
    }

    async fn serve(router: axum::Router) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    #[tokio::test]
    async fn documents_come_from_the_directory_and_from_the_host_itself() {
        // A directory that answers by what it is asked for, and is a did:web host beside.
        let router = axum::Router::new().route(
            "/{*path}",
            axum::routing::get(async |uri: http::Uri, headers: http::HeaderMap| {
                let id = match uri.path() {
                    "/.well-known/did.json" => {
                        format!("did:web:{}", headers["host"].to_str().unwrap().replace(':', "%3A"))
                    }
                    "/did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz" => "did:plc:ewvi7nxzyoun6zhxrhs64oiz".to_owned(),
                    "/did%3Aplc%3Abbbbbbbbbbbbbbbbbbbbbbbb" => "did:plc:another".to_owned(),
                    "/did%3Aplc%3Acccccccccccccccccccccccc" => return Err(http::StatusCode::GONE),
                    "/did%3Aplc%3Adddddddddddddddddddddddd" => return Err(http::StatusCode::BAD_GATEWAY),
                    _ => return Err(http::StatusCode::NOT_FOUND),
                };
                Ok(serde_json::json!({ "id": id }).to_string())
            }),
        );
        let port = serve(router).await;
        let guarded = Guarded::new(Guard::new(Vec::new(), true).unwrap(), &Authorities::default()).unwrap();
        let network =
            Network::new(&format!("http://localhost:{port}/"), &Authorities::default(), Arc::new(guarded)).unwrap();
        for (did, expected) in [
            ("did:plc:ewvi7nxzyoun6zhxrhs64oiz".to_owned(), Ok(())),
            (format!("did:web:localhost%3A{port}"), Ok(())),
            ("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".to_owned(), Err(ResolveError::NotFound)),
            ("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb".to_owned(), Err(ResolveError::Invalid("its id is not the DID"))),
            ("did:plc:cccccccccccccccccccccccc".to_owned(), Err(ResolveError::NotFound)),
            (
                "did:plc:dddddddddddddddddddddddd".to_owned(),
                Err(ResolveError::Unreachable("the answer is not a document")),
            ),
            ("did:web:localhost%3A1".to_owned(), Err(ResolveError::Unreachable(Step::Tcp.what_failed()))),
        ] {
            let found = network.fetch(&Did::parse(&did).unwrap()).await;
            assert_eq!(found.map(|document| assert_eq!(document.did.as_str(), did)), expected, "{did}");
        }
    }

    #[test]
    fn the_directory_must_be_a_plain_http_url() {
        let guarded = Arc::new(Guarded::new(Guard::default(), &Authorities::default()).unwrap());
        for url in ["", "plc.directory", "ftp://plc.directory", "https://plc.directory/?x=", "file:///etc"] {
            assert!(Network::new(url, &Authorities::default(), Arc::clone(&guarded)).is_err(), "{url}");
        }
        assert!(Network::new("https://plc.directory", &Authorities::default(), guarded).is_ok());
    }
}
