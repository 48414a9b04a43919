//! A Postgres that is reached over TLS, as managed databases are.

use std::path::Path;
use std::sync::Arc;

use rookery::identity::http::install_crypto_provider;
use rookery_testkit::Directory;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{PostgresProxy, Process, TestDatabase, open_folder, person};

/// The certificate is for localhost; `authority.pem` signed it.
const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/identity/http/testdata");
/// SSLRequest: the length of the message, and the code in the place of a protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Ends TLS in front of a Postgres (PostgreSQL's "SSL Session Encryption"), and takes no other connection.
async fn end_tls_before(postgres: u16) -> u16 {
    install_crypto_provider();
    let testdata = Path::new(TESTDATA);
    let certificate = CertificateDer::from_pem_file(testdata.join("localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(testdata.join("localhost.key")).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A client that does not trust the certificate disconnects.
            tokio::spawn(carry(acceptor.clone(), client, postgres));
        }
    });
    port
}

async fn carry(acceptor: TlsAcceptor, mut client: TcpStream, postgres: u16) -> std::io::Result<()> {
    let mut request = [0; SSL_REQUEST.len()];
    client.read_exact(&mut request).await?;
    if request != SSL_REQUEST {
        return Ok(());
    }
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(("127.0.0.1", postgres)).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systems_authorities_count_for_postgres() {
    let database = TestDatabase::create().await;
    let plain = PostgresProxy::before(&database.url).await;
    let mut url = url::Url::parse(&plain.url).unwrap();
    let port = end_tls_before(url.port().unwrap()).await;
    url.set_host(Some("localhost")).unwrap();
    url.set_port(Some(port)).unwrap();
    url.set_query(Some("sslmode=verify-full"));
    let directory = Directory::start().await.unwrap();
    let folder = open_folder();
    let log = folder.path().join("log");
    let process = |authorities: &str| {
        let process = Process::new(folder.path(), &directory.url(), Some(url.as_str())).logging_to(&log);
        process.with("SSL_CERT_FILE", &format!("{TESTDATA}/{authorities}"))
    };

    // The variable stands for the system's store; this authority signed no certificate here.
    let mut distrusting = process("localhost.pem");
    distrusting.spawn();
    assert!(!distrusting.ends().await);
    let why = std::fs::read_to_string(&log).unwrap();
    assert!(why.contains("sslrootcert="), "{why}");

    let mut trusting = process("authority.pem");
    trusting.spawn();
    trusting.ready().await;
    let alice = person("alice", &directory, &Arc::new(trusting.service(trusting.did()))).await;
    assert_eq!(alice.devices().await.unwrap().len(), 1);
    trusting.stop().await;
}
