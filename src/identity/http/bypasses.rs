//! Every way round the guarded client that was tried, each refused with its own error and in its time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tests::serve;
use super::{Authorities, BadUrl, Checked, Guard, Guarded, HttpError, MAX_BODY_BYTES, TIMES, Times};
use crate::identity::dns::tests::FakeDns;

/// For what is endless: the real times are three and ten seconds.
const SHORT: Times = Times { connect: Duration::from_millis(300), in_all: Duration::from_millis(600) };
/// A refusal without a call takes no time, also on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

fn production(dns: FakeDns) -> Guarded {
    Guarded::with(Guard::default(), &Authorities::default(), Arc::new(dns), TIMES).unwrap()
}

fn development(times: Times) -> Guarded {
    let dns = FakeDns::default().with_addresses("localhost", &[&["127.0.0.1"]]);
    Guarded::with(Guard::new(Vec::new(), true).unwrap(), &Authorities::default(), Arc::new(dns), times).unwrap()
}

async fn refused(client: &Guarded, url: &str) -> HttpError {
    let started = Instant::now();
    let error = client.get(url, "*/*").await.expect_err(url);
    assert!(started.elapsed() < AT_ONCE, "{url}: {:?}", started.elapsed());
    error
}

#[tokio::test]
async fn urls_that_are_not_a_public_name_over_https() {
    use BadUrl::{Credentials, Host, IpLiteral, NotHttps, Port};
    let client = production(FakeDns::default());
    let mut wrong = Vec::new();
    for (url, why) in [
        // Other schemes.
        ("http://a.example/", NotHttps),
        ("ftp://a.example/", NotHttps),
        ("ws://a.example/", NotHttps),
        ("data:text/plain,x", Host),
        ("file:///etc/passwd", Host),
        ("/relative", Host),
        ("", Host),
        // IPv4 in its notations: dotted, short, decimal, hexadecimal, octal, mixed, with a dot at the end.
        ("https://127.0.0.1/", IpLiteral),
        ("https://8.8.8.8/", IpLiteral),
        ("https://127.1/", IpLiteral),
        ("https://127.0.1/", IpLiteral),
        ("https://0/", IpLiteral),
        ("https://2130706433/", IpLiteral),
        ("https://017700000001/", IpLiteral),
        ("https://0x7f000001/", IpLiteral),
        ("https://0x7f.1/", IpLiteral),
        ("https://0177.0.0.1/", IpLiteral),
        ("https://0x7f.0.0.0x1/", IpLiteral),
        ("https://127.0.0.1./", IpLiteral),
        ("https://0X7F.0.0.1/", IpLiteral),
        // Not an address, but it ends like one.
        ("https://127.0.0.256/", Host),
        ("https://1.2.3.4.5/", Host),
        ("https://a.example.09/", Host),
        // Digits and dots that are not ASCII, or not written out.
        ("https://%31%32%37.0.0.1/", Host),
        ("https://127%2e0%2e0%2e1/", Host),
        ("https://１２７.0.0.1/", Host),
        ("https://127。0。0。1/", Host),
        ("https://①②⑦.0.0.1/", Host),
        // IPv6 in its forms.
        ("https://[::1]/", IpLiteral),
        ("https://[::]/", IpLiteral),
        ("https://[0:0:0:0:0:0:0:1]/", IpLiteral),
        ("https://[::ffff:127.0.0.1]/", IpLiteral),
        ("https://[::ffff:7f00:1]/", IpLiteral),
        ("https://[::127.0.0.1]/", IpLiteral),
        ("https://[64:ff9b::7f00:1]/", IpLiteral),
        ("https://[2606:4700::1111]/", IpLiteral),
        ("https://[fe80::1%25eth0]/", Host),
        ("https://[fe80::1%eth0]/", Host),
        // Hosts under other spellings.
        ("https://user@a.example/", Credentials),
        ("https://user:secret@a.example/", Credentials),
        ("https://a.example@127.0.0.1/", IpLiteral),
        ("https://:@127.0.0.1/", IpLiteral),
        ("https://a.example%00.b.example/", Host),
        ("https://a.example\\@127.0.0.1/", Host),
        // Names of this machine.
        ("https://localhost/", Host),
        ("https://LOCALHOST./", Host),
        ("http://localhost:8080/", Host),
        ("https://ｌocalhost/", Host),
        // Other ports.
        ("https://a.example:8443/", Port),
        ("https://a.example:80/", Port),
        ("https://a.example:0/", Port),
        ("https://a.example:22/", Port),
        ("https://a.example:65536/", Host),
        // A final dot makes a second name of one host.
        ("https://a.example./", Host),
    ] {
        let refused = refused(&client, url).await;
        if refused != HttpError::BadUrl(why) {
            wrong.push((url, refused));
        }
        // Parsed elsewhere it is no way round either: at most the public name is called, and nothing that hides behind it.
        let parsed = url::Url::parse(url).ok().filter(|parsed| client.guard().check_url(parsed).is_ok());
        assert!(parsed.is_none_or(|parsed| parsed.host_str() == Some("a.example")), "{url}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn names_that_lead_to_addresses_that_are_not_public() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "::8.8.8.8",
        "64:ff9b::0.0.0.0",
        "64:ff9b::10.0.0.1",
        "64:ff9b::100.64.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b::172.16.0.1",
        "64:ff9b::192.0.0.1",
        "64:ff9b::192.0.2.1",
        "64:ff9b::192.88.99.1",
        "64:ff9b::192.168.1.1",
        "64:ff9b::198.18.0.1",
        "64:ff9b::198.51.100.7",
        "64:ff9b::203.0.113.7",
        "64:ff9b::224.0.0.1",
        "64:ff9b::255.255.255.255",
        "64:ff9b:1::808:808",
        "64:ff9b:1::10.0.0.1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
        "e000::1",
    ] {
        let dns = FakeDns::default().with_addresses("a.example", &[&[address]]);
        assert_eq!(refused(&production(dns), "https://a.example/").await, HttpError::NotPublic, "{address}");
    }
    assert_eq!(
        refused(&production(FakeDns::default()), "https://a.example/").await,
        HttpError::NotPublic,
        "no address"
    );
}

#[test]
fn a_bad_address_is_left_out_and_spoils_no_other() {
    let checked = Checked { guard: Arc::new(Guard::default()), dns: Arc::new(FakeDns::default()) };
    for (addresses, expected) in [
        (vec!["8.8.8.8", "10.0.0.1"], vec!["8.8.8.8"]),
        (vec!["10.0.0.1", "8.8.8.8"], vec!["8.8.8.8"]),
        (vec!["::1", "2606:4700::1111"], vec!["2606:4700::1111"]),
        (vec!["8.8.8.8", "64:ff9b::808:808"], vec!["8.8.8.8", "64:ff9b::808:808"]),
        (vec!["64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8"], vec!["64:ff9b::8.8.8.8"]),
        (vec!["10.0.0.1", "64:ff9b::10.0.0.1"], vec![]),
    ] {
        let addresses = addresses.into_iter().map(|address| address.parse().unwrap()).collect();
        let kept = checked.keep_allowed(addresses).unwrap_or_default();
        let expected: Vec<std::net::SocketAddr> =
            expected.into_iter().map(|address| (address.parse::<std::net::IpAddr>().unwrap(), 0).into()).collect();
        assert_eq!(kept, expected);
    }
}

#[tokio::test]
async fn a_name_that_changes_between_the_check_and_the_connection() {
    let port = serve(axum::Router::new().route("/", get(|| async { [("connection", "close")] }))).await;
    let dns = FakeDns::default().with_addresses("a.example", &[&["127.0.0.1"], &["10.0.0.1"], &["127.0.0.1"]]);
    // Loopback stands for what is public here; the URL's own check, of port and scheme, is left out.
    let guard = Arc::new(Guard::new(Vec::new(), true).unwrap());
    let checked = Checked { guard, dns: Arc::new(dns.clone()) };
    let client = super::builder(SHORT, &Authorities::default())
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::new(checked))
        .build()
        .unwrap();
    let url = format!("http://a.example:{port}/");
    let call = async || client.get(&url).send().await.map_err(HttpError::from_reqwest).map(|answer| answer.status());
    // One lookup for a connection: what was checked is what is called.
    assert_eq!((call().await, dns.asked()), (Ok(http::StatusCode::OK), 1));
    assert_eq!((call().await, dns.asked()), (Err(HttpError::NotPublic), 2));
    assert_eq!((call().await, dns.asked()), (Ok(http::StatusCode::OK), 3));
}

#[tokio::test]
async fn redirects_of_every_kind_are_answers_and_lead_nowhere() {
    let away = async |axum::extract::Path(status): axum::extract::Path<u16>| {
        Response::builder()
            .status(status)
            .header("location", "/secret")
            .header("refresh", "0; url=/secret")
            .body(Body::empty())
            .unwrap()
    };
    let router = axum::Router::new().route("/{status}", get(away)).route("/secret", get(async || "secret"));
    let port = serve(router).await;
    for status in [200, 201, 300, 301, 302, 303, 305, 307, 308] {
        let answer = development(TIMES).get(&format!("http://localhost:{port}/{status}"), "*/*").await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().len()), (status, 0));
    }
}

/// An endless body of such pieces.
fn endless(piece: usize, pause: Duration) -> Body {
    Body::from_stream(futures_util::stream::unfold((piece, pause), async |(piece, pause)| {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; piece])), (piece, pause)))
    }))
}

#[tokio::test]
async fn answers_that_are_too_large_or_do_not_end() {
    let router = axum::Router::new()
        .route("/announced", get(async || vec![b'x'; MAX_BODY_BYTES + 1]))
        .route("/endless", get(async || endless(64 * 1024, Duration::ZERO)))
        .route("/drip", get(async || endless(1, Duration::from_millis(20))))
        .route("/silent", get(async || Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>())))
        .route("/never", get(std::future::pending::<&str>));
    let port = serve(router).await;
    for (path, error) in [
        ("announced", HttpError::TooLarge(MAX_BODY_BYTES)),
        ("endless", HttpError::TooLarge(MAX_BODY_BYTES)),
        ("drip", HttpError::TimedOut),
        ("silent", HttpError::TimedOut),
        ("never", HttpError::TimedOut),
    ] {
        let times = if error == HttpError::TimedOut { SHORT } else { TIMES };
        let started = Instant::now();
        let answer = development(times).get(&format!("http://localhost:{port}/{path}"), "*/*").await;
        assert_eq!(answer.unwrap_err(), error, "{path}");
        assert!(started.elapsed() < SHORT.in_all + Duration::from_secs(2), "{path}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_compressed_answer_is_not_unpacked() {
    // Ten bytes that claim to be gzip: there is nothing here that would make more of them.
    let packed = async || ([("content-encoding", "gzip")], vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    let port = serve(axum::Router::new().route("/", get(packed))).await;
    let answer = development(TIMES).get(&format!("http://localhost:{port}/"), "*/*").await.unwrap();
    assert_eq!((answer.headers()["content-encoding"].as_bytes(), answer.body().len()), (&b"gzip"[..], 10));
}

/// A server below HTTP: says these bytes, one in 20 ms, and then nothing.
async fn slow_server(said: &'static [u8]) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _asked = stream.read(&mut [0; 1024]).await.unwrap();
        for byte in said {
            drop(stream.write_all(&[*byte]).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    });
    port
}

#[tokio::test]
async fn servers_that_take_their_time_with_the_head() {
    for said in [&b""[..], b"HTTP/1.1 200 OK\r\nx-a: bcdefghijklmnopqrstuvwxyz0123456789", b"HTTP/1.1 200 OK\r\n"] {
        let started = Instant::now();
        let answer = development(SHORT).get(&format!("http://localhost:{}/", slow_server(said).await), "*/*").await;
        assert_eq!(answer.unwrap_err(), HttpError::TimedOut, "{said:?}");
        assert!(started.elapsed() < SHORT.in_all + Duration::from_secs(1), "{:?}", started.elapsed());
    }
}
