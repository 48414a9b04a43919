//! What judging a token costs beside the one signature check that nobody can avoid: the claims, the cached DID document,
//! replay memory of the process. `make bench` prints the ratio; it should stay at or below 1.2.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up ends")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{BatchSize, Criterion};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use p256::ecdsa::signature::Verifier as _;
use rookery::identity::resolver::ResolveError;
use rookery::identity::{
    Curve, DidDocument, ReplayMemory, Resolver, Rules, SigningKey, Source, Verifier, service_token,
};
use rookery::types::{Clock, Did};

const AUD: &str = "did:web:chat.example";
const NSID: &str = "blue.catbird.mls.sendMessage";
const ACCOUNT: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
/// The aim of docs: a token check costs at most this many bare signature checks.
const AIM: f64 = 1.2;

/// A directory with one document.
struct Directory(DidDocument);

impl Source for Directory {
    fn fetch<'a>(&'a self, _: &'a Did) -> BoxFuture<'a, Result<DidDocument, ResolveError>> {
        let document = self.0.clone();
        async move { Ok(document) }.boxed()
    }
}

struct World {
    account: Did,
    key: SigningKey,
    verifier: Verifier,
}

impl World {
    fn new(curve: Curve) -> Self {
        let (account, key) = (Did::parse(ACCOUNT).unwrap(), SigningKey::generate(curve));
        let document = serde_json::json!({ "id": ACCOUNT, "verificationMethod": [{
            "id": format!("{ACCOUNT}#atproto"), "type": "Multikey", "controller": ACCOUNT,
            "publicKeyMultibase": key.public().multikey(),
        }] });
        let document = DidDocument::parse(&account, document.to_string().as_bytes()).unwrap();
        let resolver = Arc::new(Resolver::new(Directory(document), Clock::System));
        let audiences = vec![AUD.to_owned(), format!("{AUD}#atproto_mls")];
        let verifier = Verifier::new(audiences, resolver, ReplayMemory::in_process(), Clock::System, Rules::default());
        Self { account, key, verifier }
    }

    async fn judge(&self, token: &str) -> rookery::identity::Claims {
        self.verifier.service(self.verifier.read_service(token, NSID).unwrap(), &|| true).await.unwrap()
    }

    /// A token of its own for every check: none is accepted twice.
    fn token(&self) -> String {
        service_token(&self.key, &self.account, AUD, NSID, Clock::System.now())
    }

    /// The check of one token's signature by the library alone.
    fn bare(&self) -> Box<dyn Fn()> {
        let token = self.token();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (message, signature) = (message.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(signature).unwrap());
        let point = self.key.public().raw();
        match self.key.curve() {
            Curve::P256 => {
                let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
                let signature = p256::ecdsa::Signature::from_slice(&signature).unwrap();
                Box::new(move || key.verify(std::hint::black_box(&message), &signature).unwrap())
            }
            Curve::K256 => {
                let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
                let signature = k256::ecdsa::Signature::from_slice(&signature).unwrap();
                Box::new(move || key.verify(std::hint::black_box(&message), &signature).unwrap())
            }
            Curve::Ed25519 => unreachable!("accounts have no such keys"),
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut criterion = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(5));
    for curve in [Curve::P256, Curve::K256] {
        let world = World::new(curve);
        let alg = curve.alg();
        let bare = world.bare();
        criterion.bench_function(&format!("{alg}: the signature alone"), |bencher| bencher.iter(&bare));
        criterion.bench_function(&format!("{alg}: a service token"), |bencher| {
            bencher.to_async(&runtime).iter_batched(
                || world.token(),
                async |token| world.judge(&token).await,
                BatchSize::SmallInput,
            );
        });
        println_ratio(alg, &runtime, &world);
    }
    criterion.final_summary();
}

/// The two in turns, so that whatever else the machine does falls on both.
#[expect(clippy::print_stdout, reason = "a bench prints")]
fn println_ratio(alg: &str, runtime: &tokio::runtime::Runtime, world: &World) {
    const ROUNDS: usize = 41;
    const EACH: usize = 100;
    let bare = world.bare();
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let tokens: Vec<String> = (0..EACH).map(|_| world.token()).collect();
            let begun = Instant::now();
            for _ in 0..EACH {
                bare();
            }
            let alone = begun.elapsed();
            let begun = Instant::now();
            runtime.block_on(async {
                for token in &tokens {
                    world.judge(token).await;
                }
            });
            begun.elapsed().as_secs_f64() / alone.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ROUNDS / 2];
    let verdict = if median <= AIM { "within" } else { "BEYOND" };
    println!(
        "{alg}: a token check costs {median:.3} signature checks (median of {ROUNDS}); {verdict} the aim of {AIM}"
    );
}
