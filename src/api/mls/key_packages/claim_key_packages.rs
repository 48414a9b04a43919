//! `blue.catbird.mls.claimKeyPackages`: hands out one key package for each certified device of the targets.
//!
//! Invariants: a one-time package is given to one claim, for one stream and home, and never returns to its pool; the same
//! `claimId` gets the same answer; whoever asks too often, an account, a server or all of them, gets the last-resort
//! package, so that nobody can drain a pool; a block, a policy and a stranger are told alike. A server answers for its
//! own accounts; those of others are asked of theirs, before anything is locked.

use std::collections::HashMap;

use super::purpose::{self, Purpose};
use super::store::{self, Asker, Claimed, Target};
use crate::api::mls::access;
use crate::federation::joining::claims::{self, Inviter};
use crate::federation::joining::consent;
use crate::federation::{PeerRefused, Quota};
use crate::lexicon::mls::claim_key_packages::{self as claim, ClaimKeyPackages, Error, Input, Output, Package};
use crate::storage;
use crate::types::{Bytes, Did};
use crate::xrpc::{Call, Device, Failure, Fault, Services, keep_answer, repeated_answer};

/// One-time packages of one account that another account, a server, and all servers that the operator did not allow by
/// name may take in a day; beyond it, the last-resort one is given.
const FOR_AN_INVITER: i64 = 5;
const FOR_A_SERVER: i64 = 20;
const FOR_SERVERS: i64 = 100;

pub async fn claim_key_packages(
    cx: &Services,
    caller: Device,
    call: Call<ClaimKeyPackages>,
) -> Result<Output, Failure<Error>> {
    access::certified(&caller)?;
    if let Ok(answer) = repeated_answer(cx, &caller.author, &call, &call.input.claim_id).await? {
        return Ok(answer);
    }
    let purpose = purpose::of(cx, &caller, &call.input).await?;
    let (answers, asker) = match &caller.via {
        None => {
            let inviter = Inviter { account: caller.author.did.clone(), device: caller.author.device.clone() };
            let part = Input { home: Some(purpose.home.clone()), ..call.input.clone() };
            let homes = purpose::locate(cx, &caller, &call.input.targets).await?;
            let answers = claims::ask_elsewhere(&cx.federation, &inviter, &part, &homes).await;
            (answers, Asker::Ours)
        }
        Some(via) => {
            let count = u64::try_from(call.input.targets.len()).unwrap_or(u64::MAX);
            let taken = cx.federation.take(&via.counted, Quota::KeyPackages, count);
            taken.map_err(|refused: PeerRefused| Fault::from(refused))?;
            let allowed = cx.federation.is_allowed(&via.server).await?;
            (
                purpose::not_ours(cx, &caller, &call.input.targets).await?,
                Asker::Server { did: via.server.clone(), allowed },
            )
        }
    };
    storage::retrying(Failure::is_collision, || claim(cx, &caller, &call, &purpose, &answers, &asker)).await
}

async fn claim(
    cx: &Services,
    caller: &Device,
    call: &Call<ClaimKeyPackages>,
    purpose: &Purpose,
    answers: &HashMap<Did, claim::Target>,
    asker: &Asker,
) -> Result<Output, Failure<Error>> {
    let repeat = match repeated_answer(cx, &caller.author, call, &call.input.claim_id).await? {
        Ok(answer) => return Ok(answer),
        Err(repeat) => repeat,
    };
    let (now, seen_since) = (cx.clock.now().to_datetime(), cx.log.lapsed_before().to_datetime());
    let suites: Vec<i32> = call.input.cipher_suites.iter().filter_map(|&suite| i32::try_from(suite).ok()).collect();
    let ours: Vec<Did> = call.input.targets.iter().filter(|target| !answers.contains_key(target)).cloned().collect();

    let (inviter, unsaid) = (&caller.author, cx.config.identity.invitations);
    let mut tx = cx.storage.begin().await?;
    store::lock_claimer(tx.conn(), inviter.account_id).await?;
    if matches!(asker, Asker::Server { .. }) {
        store::lock_targets(tx.conn(), &ours).await?;
    }
    let targets = store::targets(tx.conn(), &ours, inviter.account_id, asker, now).await?;
    let ids: Vec<i64> = targets.iter().map(|target| target.account_id).collect();
    let consenting = consent::consenting(tx.conn(), unsaid, &inviter.did, &purpose.stream, &ids).await?;
    let (asked, refused): (Vec<_>, Vec<_>) = targets.into_iter().partition(|it| consenting.contains(&it.account_id));
    let claimed = store::claim(tx.conn(), &asked, |target| one_time(asker, target), &suites, seen_since, now).await?;
    store::insert_claims(tx.conn(), &claimed, inviter.account_id, purpose, asker, now).await?;
    let answer = answer(&call.input.targets, &asked, &refused, claimed, answers);
    keep_answer::<ClaimKeyPackages>(tx.conn(), cx, inviter, &repeat, &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Whether this one gets a package that nobody else gets.
fn one_time(asker: &Asker, target: &Target) -> bool {
    let for_server = match asker {
        Asker::Ours => true,
        Asker::Server { allowed, .. } => {
            target.taken_by_server < FOR_A_SERVER && (*allowed || target.taken_by_servers < FOR_SERVERS)
        }
    };
    target.taken_by_inviter < FOR_AN_INVITER && for_server
}

/// For each target that was asked for, its packages or why there are none.
fn answer(
    asked: &[Did],
    targets: &[Target],
    refused: &[Target],
    claimed: Vec<Claimed>,
    elsewhere: &HashMap<Did, claim::Target>,
) -> Output {
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
        if let Some(answered) = elsewhere.get(account) {
            return answered.clone();
        }
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
