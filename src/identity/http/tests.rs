//! Against servers on this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{
    Authorities, Guard, Guarded, HttpError, Lane, PER_HOST, Step, Upstream, get_plain, install_crypto_provider,
    plain_trusting,
};

pub async fn serve(router: axum::Router) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

fn guarded(development: bool) -> Guarded {
    Guarded::new(Guard::new(Vec::new(), development).unwrap(), &Authorities::default()).unwrap()
}

#[test]
fn installing_the_provider_twice_is_harmless() {
    install_crypto_provider();
    install_crypto_provider();
}

#[tokio::test]
async fn production_does_not_call_localhost_and_development_does() {
    let port = serve(axum::Router::new().route("/", axum::routing::get(|| async { "hello" }))).await;
    let url = format!("http://localhost:{port}/");
    assert!(matches!(guarded(false).get(&url, "*/*").await, Err(HttpError::BadUrl(_))));
    assert_eq!(guarded(true).get(&url, "*/*").await.unwrap().body().as_ref(), b"hello");
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

#[tokio::test]
async fn a_clients_call_does_not_wait_for_replication() {
    let stalls = || async { std::future::pending::<()>().await };
    let router = axum::Router::new()
        .route("/bulk", axum::routing::get(stalls))
        .route("/person", axum::routing::get(|| async { "hello" }));
    let port = serve(router).await;
    let client = Arc::new(guarded(true));
    let request = move |path: &str| {
        http::Request::get(format!("http://localhost:{port}{path}")).body(bytes::Bytes::new()).unwrap()
    };
    for _ in 0..PER_HOST {
        let (client, request) = (Arc::clone(&client), request("/bulk"));
        tokio::spawn(async move { client.send_in(Lane::Bulk, request, 100).await });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    // The ninth call of its lane is not sent, and its error says so.
    let ninth = client.send_in(Lane::Bulk, request("/bulk"), 100);
    let person = async {
        let began = std::time::Instant::now();
        let answer = client.send_in(Lane::Person, request("/person"), 100).await.unwrap();
        (answer.status(), began.elapsed())
    };
    let (ninth, (status, took)) = tokio::join!(ninth, person);
    assert_eq!(ninth.unwrap_err(), HttpError::Busy);
    assert!(status == 200 && took < Duration::from_secs(2), "{took:?}");
}

/// Answers every connection with two bytes, by the certificate of `testdata` for localhost.
fn serve_tls() -> u16 {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::{Read as _, Write as _};

    install_crypto_provider();
    let certificate = CertificateDer::from_pem_slice(include_bytes!("testdata/localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("testdata/localhost.key")).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    let config = Arc::new(config.unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream.unwrap());
            // A client that does not trust the certificate disconnects.
            if tls.read(&mut [0; 1024]).is_ok() {
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
            }
        }
    });
    port
}

#[tokio::test]
async fn a_private_authority_is_trusted_if_the_operator_names_it() {
    let url = format!("https://localhost:{}/", serve_tls());
    let guarded = |authorities| Guarded::new(Guard::new(Vec::new(), true).unwrap(), authorities).unwrap();
    let named = Authorities::from_pem(include_bytes!("testdata/authority.pem")).unwrap();
    assert_eq!(guarded(&named).get(&url, "*/*").await.unwrap().body().as_ref(), b"hi");
    let unnamed = guarded(&Authorities::default()).get(&url, "*/*").await;
    assert_eq!(unnamed.unwrap_err(), HttpError::NoConnection(Step::Tls));

    // The other clients that call out: the directory's, and the upstream's.
    let get = async |authorities| get_plain(&plain_trusting(authorities).unwrap(), &url, "*/*", 100).await;
    assert_eq!(get(&named).await.unwrap().body().as_ref(), b"hi");
    assert_eq!(get(&Authorities::default()).await.unwrap_err(), HttpError::NoConnection(Step::Tls));
    let upstream = Upstream::new(url.parse().unwrap(), &named).unwrap();
    let (parts, ()) = http::Request::get("/").body(()).unwrap().into_parts();
    let nothing = futures_util::stream::empty::<Result<bytes::Bytes, std::io::Error>>();
    assert_eq!(upstream.send(parts, nothing).await.unwrap().status(), 200);

    for nonsense in [&b""[..], b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(Authorities::from_pem(nonsense).is_err());
    }
}

#[tokio::test]
async fn a_failed_connection_names_the_step_that_failed() {
    struct NoDns;
    impl crate::identity::dns::Dns for NoDns {
        fn addresses<'a>(&'a self, _: &'a str) -> futures_util::future::BoxFuture<'a, DnsAnswer<std::net::IpAddr>> {
            Box::pin(async { Err(crate::identity::dns::DnsError) })
        }
        fn texts<'a>(&'a self, _: &'a str) -> futures_util::future::BoxFuture<'a, DnsAnswer<String>> {
            Box::pin(async { Err(crate::identity::dns::DnsError) })
        }
    }
    type DnsAnswer<T> = Result<Vec<T>, crate::identity::dns::DnsError>;

    let silent = Guarded::with(Guard::default(), &Authorities::default(), Arc::new(NoDns), super::TIMES).unwrap();
    assert_eq!(silent.get("https://a.example/", "*/*").await.unwrap_err(), HttpError::NoConnection(Step::Dns));
    let nobody = guarded(true).get("http://localhost:1/", "*/*").await;
    assert_eq!(nobody.unwrap_err(), HttpError::NoConnection(Step::Tcp));
    let untrusted = guarded(true).get(&format!("https://localhost:{}/", serve_tls()), "*/*").await;
    assert_eq!(untrusted.unwrap_err(), HttpError::NoConnection(Step::Tls));
}
