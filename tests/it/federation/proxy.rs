//! The way between two servers, as tests make it bad.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Redirect;
use axum::routing::{get, post};
use rookery::identity::http::{PlainClient, plain};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Fate, Faults, Proxy};

/// Says again what it is told, and remembers it.
struct Echo {
    proxy: Proxy,
    heard: Arc<Mutex<Vec<String>>>,
    client: PlainClient,
    _serving: AbortOnDropHandle<()>,
}

impl Echo {
    async fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (proxy, heard) = (Proxy::reserve(seed), Arc::new(Mutex::new(Vec::new())));
        proxy.lead_to(listener.local_addr().unwrap());
        let echo = |State(heard): State<Arc<Mutex<Vec<String>>>>, body: Bytes| async move {
            heard.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
            body
        };
        let router = Router::new()
            .route("/xrpc/echo", post(echo).get(async || "read"))
            .route("/elsewhere", get(async || Redirect::to("/xrpc/echo")))
            .with_state(Arc::clone(&heard));
        let serving = AbortOnDropHandle::new(tokio::spawn(async move { drop(axum::serve(listener, router).await) }));
        Self { proxy, heard, client: plain().unwrap(), _serving: serving }
    }

    /// What came back, if all of it did.
    async fn say(&self, what: &str) -> Result<String, ()> {
        let url = format!("{}/xrpc/echo", self.proxy.origin());
        let answer = self.client.post(url).body(what.to_owned()).send().await.map_err(drop)?;
        let bytes = answer.bytes().await.map_err(drop)?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    async fn hears(&self, count: usize) {
        let until = Instant::now() + Duration::from_secs(5);
        while self.heard().len() < count {
            assert!(Instant::now() < until, "heard {:?}", self.heard());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn without_faults_all_goes_through_and_is_counted_once() {
    let echo = Echo::start(1).await;
    let long = "x".repeat(2_000_000);
    for what in ["", "short", &long] {
        assert_eq!(echo.say(what).await.as_deref(), Ok(what));
    }
    let seen = echo.proxy.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.path == "/xrpc/echo" && seen.fate == Fate::Through && seen.by.is_none()));
}

#[tokio::test]
async fn each_fault_does_what_it_says_to_the_server_and_to_the_caller() {
    let echo = Echo::start(2).await;
    for (fate, heard, answered) in [
        (Fate::Lost, 0, false),
        (Fate::Unanswered, 1, false),
        (Fate::Late, 1, true),
        (Fate::CutRequest, 0, false),
        (Fate::CutAnswer, 1, false),
        (Fate::Doubled, 2, true),
        (Fate::Behind, 1, true),
    ] {
        echo.heard.lock().unwrap().clear();
        echo.proxy.suffer(Faults::always(fate));
        let what = "a sentence that is long enough to be cut in the middle ".repeat(50);
        let answer = echo.say(&what).await;
        assert_eq!(answer.is_ok(), answered, "{fate:?}");
        assert!(answer.is_err() || answer == Ok(what.clone()), "{fate:?}");
        echo.hears(heard).await;
        // What is to come again has come; nothing else does.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(echo.heard(), vec![what; heard], "{fate:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_held_back_is_overtaken_by_the_next() {
    let echo = Echo::start(3).await;
    echo.proxy.suffer(Faults::always(Fate::Behind));
    let first = echo.say("first");
    let second = async {
        while echo.proxy.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        echo.proxy.suffer(Faults::none());
        echo.say("second").await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.as_deref(), second.as_deref()), (Ok("first"), Ok("second")));
    assert_eq!(echo.heard(), ["second", "first"]);
}

#[tokio::test]
async fn the_same_seed_has_the_same_accidents_and_another_has_others() {
    let fates = async |seed| {
        let echo = Echo::start(seed).await;
        echo.proxy.suffer(Faults::each(10));
        for number in 0..30 {
            // Whether it is answered is what the fates say.
            let _ = echo.say(&number.to_string()).await;
        }
        echo.proxy.seen().iter().map(|seen| seen.fate).collect::<Vec<_>>()
    };
    let (one, again, other) = (fates(7).await, fates(7).await, fates(8).await);
    assert_eq!(one, again);
    assert_ne!(one, other);
    assert!(one.contains(&Fate::Through));
    assert!(Fate::ACCIDENTS.iter().filter(|fate| one.contains(fate)).count() >= 4, "{one:?}");
}

#[tokio::test]
async fn a_name_that_refuses_is_refused_by_the_system_and_keeps_its_port() {
    let echo = Echo::start(4).await;
    for _ in 0..3 {
        echo.proxy.refuse().await;
        let error = echo.client.get(format!("{}/xrpc/echo", echo.proxy.origin())).send().await.unwrap_err();
        assert!(error.is_connect(), "{error}");
        echo.proxy.listen().await;
        assert_eq!(echo.say("here").await.as_deref(), Ok("here"));
    }
}

#[tokio::test]
async fn one_server_is_banned_by_what_it_signs_and_accidents_happen_to_calls_alone() {
    let echo = Echo::start(5).await;
    let get = async |path: &str, by: &str| {
        let signature = format!("peer=();keyid=\"{by}#peer-aaaaaaaa\"");
        let url = format!("{}{path}", echo.proxy.origin());
        echo.client.get(url).header("signature-input", signature).send().await.map(|answer| answer.status().as_u16())
    };
    echo.proxy.ban("did:web:a.example");
    assert!(get("/xrpc/echo", "did:web:a.example").await.is_err());
    assert_eq!(get("/xrpc/echo", "did:web:b.example").await.unwrap(), 200);
    echo.proxy.admit_all();
    assert_eq!(get("/xrpc/echo", "did:web:a.example").await.unwrap(), 200);
    echo.proxy.suffer(Faults::always(Fate::Lost));
    assert_eq!(get("/elsewhere", "did:web:a.example").await.unwrap(), 303);
    let by: Vec<_> = echo.proxy.seen().into_iter().map(|seen| seen.by.unwrap()).collect();
    assert_eq!(by, ["a", "b", "a", "a"].map(|name| format!("did:web:{name}.example")));
}
