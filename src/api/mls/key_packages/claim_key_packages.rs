//! `blue.catbird.mls.claimKeyPackages`: hands out one key package for each certified device of the targets.
//!
//! Invariants: a one-time package is given to one claim, for one stream, and never returns to its pool; the same
//! `claimId` gets the same answer; an inviter that asks too often gets the last-resort package, so that nobody can drain
//! a pool.

use std::collections::HashMap;

use super::store::{self, Claimed, Target};
use crate::api::mls::access;
use crate::federation::joining::consent;
use crate::lexicon::mls::claim_key_packages::{self as claim, ClaimKeyPackages, Error, Output, Package};
use crate::storage;
use crate::types::{Bytes, Did};
use crate::xrpc::{Call, Device, Failure, Fault, Services, keep_answer, repeated_answer};

/// One-time packages that one account may take of another's in a day; beyond it, the last-resort one is given.
const ONE_TIME_A_DAY: i64 = 5;

pub async fn claim_key_packages(
    cx: &Services,
    caller: Device,
    call: Call<ClaimKeyPackages>,
) -> Result<Output, Failure<Error>> {
    if call.input.home.as_ref().is_some_and(|home| home != cx.log.home()) {
        return Err(Fault::InvalidRequest("input/home: this server is the home of its streams".to_owned()).into());
    }
    access::certified(&caller)?;
    storage::retrying(Failure::is_collision, || claim(cx, &caller, &call)).await
}

async fn claim(cx: &Services, caller: &Device, call: &Call<ClaimKeyPackages>) -> Result<Output, Failure<Error>> {
    let repeat = match repeated_answer(cx, &caller.author, call, &call.input.claim_id).await? {
        Ok(answer) => return Ok(answer),
        Err(repeat) => repeat,
    };
    let stream_id = access::seated(cx, &caller.author, &call.input.stream).await?.stream.id;
    let (now, seen_since) = (cx.clock.now().to_datetime(), cx.log.lapsed_before().to_datetime());
    let suites: Vec<i32> = call.input.cipher_suites.iter().filter_map(|&suite| i32::try_from(suite).ok()).collect();

    let (inviter, stream, unsaid) = (&caller.author, &call.input.stream, cx.config.identity.invitations);
    let mut tx = cx.storage.begin().await?;
    store::lock_claimer(tx.conn(), inviter.account_id).await?;
    let targets = store::targets(tx.conn(), &call.input.targets, inviter.account_id, now).await?;
    let ids: Vec<i64> = targets.iter().map(|target| target.account_id).collect();
    let consenting = consent::consenting(tx.conn(), unsaid, &inviter.did, stream, &ids).await?;
    let (asked, refused): (Vec<_>, Vec<_>) = targets.into_iter().partition(|it| consenting.contains(&it.account_id));
    let one_time = |target: &Target| target.taken_today < ONE_TIME_A_DAY;
    let claimed = store::claim(tx.conn(), &asked, one_time, &suites, seen_since, now).await?;
    store::insert_claims(tx.conn(), &claimed, inviter.account_id, stream_id, now).await?;
    let answer = answer(&call.input.targets, &asked, &refused, claimed);
    keep_answer::<ClaimKeyPackages>(tx.conn(), cx, &caller.author, &repeat, &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// For each target that was asked for, its packages or why there are none.
fn answer(asked: &[Did], targets: &[Target], refused: &[Target], claimed: Vec<Claimed>) -> Output {
    let mut packages: HashMap<i64, Vec<Package>> = HashMap::new();
    for one in claimed {
        packages.entry(one.account_id).or_default().push(Package {
            device: one.device,
            cipher_suite: u64::try_from(one.cipher_suite).unwrap_or_default(),
            r#ref: Bytes(one.reference),
            key_package: Bytes(one.bytes),
            last_resort: one.last_resort,
        });
    }
    let target = |account: &Did| {
        let known = targets.iter().find(|target| target.did == account.as_str());
        let found = known.and_then(|target| packages.get(&target.account_id).cloned());
        let problem = match (known, &found) {
            (None, _) if refused.iter().any(|target| target.did == account.as_str()) => Some("consentRequired"),
            (None, _) => Some("notHere"),
            (Some(_), None) => Some("exhausted"),
            (Some(_), Some(_)) => None,
        };
        claim::Target { account: account.clone(), packages: found, problem: problem.map(str::to_owned) }
    };
    Output { targets: asked.iter().map(target).collect() }
}
