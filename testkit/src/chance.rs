//! Chance that can be repeated: every test that draws says its seed, and takes one from `ROOKERY_SEED`.

use rand::SeedableRng;
use rand::rngs::StdRng;

#[expect(clippy::print_stderr, reason = "a test that fails shows what it printed")]
pub fn chance() -> StdRng {
    let given = std::env::var("ROOKERY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(rand::random);
    eprintln!("ROOKERY_SEED={seed}");
    StdRng::seed_from_u64(seed)
}
