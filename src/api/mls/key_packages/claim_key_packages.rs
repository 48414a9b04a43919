//! `blue.catbird.mls.claimKeyPackages`: hands out one key package for each certified device of the targets.
//!
//! Invariants: a one-time package goes to one claim, for one stream and home, and never returns to its pool; a repeated
//! `claimId` gets the stored packages; an account, all strangers of this server, a server or all servers that ask too
//! often get the last-resort package, so that no caller can drain a pool; a block, a policy and a stranger get one
//! answer. A server answers for its own accounts, and asks other servers for theirs before it takes any lock.

use std::collections::BTreeSet;

use super::answer::StoredAnswer;
use super::outcome::{Outcome, fitting};
use super::purpose::{self, Purpose};
use super::store::{self, Asker, Target};
use crate::api::mls::access;
use crate::federation::joining::claims::{self, ForeignAnswers, Inviter};
use crate::federation::joining::consent;
use crate::federation::{PeerRefused, Quota};
use crate::lexicon::mls::claim_key_packages::{ClaimKeyPackages, Error, Input, Output};
use crate::storage;
use crate::types::Did;
use crate::xrpc::{Call, Device, Failure, Fault, Services, keep_answer, repeated_answer};

/// One-time packages of one account that another account, all accounts of this server that are no contacts of the
/// account, a server, and all servers that the operator did not allow by name may claim in a day; further claims get
/// the last-resort package. A full pool holds 100.
const FOR_AN_INVITER: i64 = 5;
const FOR_STRANGERS: i64 = 50;
const FOR_A_SERVER: i64 = 20;
const FOR_SERVERS: i64 = 100;

pub async fn claim_key_packages(
    cx: &Services,
    caller: Device,
    call: Call<ClaimKeyPackages>,
) -> Result<Output, Failure<Error>> {
    access::certified(&caller)?;
    let targets = &call.input.targets;
    if targets.iter().collect::<BTreeSet<_>>().len() < targets.len() {
        return Err(Fault::InvalidRequest("input/targets: an account is named twice; name it once".to_owned()).into());
    }
    let inviter = Inviter { account: caller.author.did.clone(), device: caller.author.device.clone() };
    if let Ok(stored) = repeated_answer(cx, &caller.author, &call, &call.input.claim_id).await? {
        return rebuild(cx, &inviter, &call, stored).await;
    }
    let purpose = purpose::of(cx, &caller, &call.input).await?;
    let (elsewhere, asker) = match &caller.via {
        None => {
            let homes = purpose::locate(cx, &caller, targets).await?;
            let part = Input { home: Some(purpose.home.clone()), ..call.input.clone() };
            (claims::ask_elsewhere(&cx.federation, &inviter, &part, &homes).await, Asker::Ours)
        }
        Some(via) => {
            let count = u64::try_from(targets.len()).unwrap_or(u64::MAX);
            let taken = cx.federation.take(&via.counted, Quota::KeyPackages, count);
            taken.map_err(|refused: PeerRefused| Fault::from(refused))?;
            let allowed = cx.federation.is_allowed(&via.server).await?;
            let elsewhere = purpose::not_ours(cx, &caller, targets).await?;
            (elsewhere, Asker::Server { did: via.server.clone(), allowed })
        }
    };
    let claimed = storage::retrying(Failure::is_collision, || claim(cx, &caller, &call, &purpose, &elsewhere, &asker));
    match claimed.await? {
        Ok(answer) => Ok(answer),
        // A concurrent repeat of the call was answered first.
        Err(stored) => rebuild(cx, &inviter, &call, stored).await,
    }
}

/// Rebuilds the stored answer of a repeated call.
async fn rebuild(
    cx: &Services,
    inviter: &Inviter,
    call: &Call<ClaimKeyPackages>,
    stored: StoredAnswer,
) -> Result<Output, Failure<Error>> {
    let claimed = store::find_claimed(cx.storage.pool(), &stored.rows()).await?;
    let elsewhere = match stored.parts() {
        [] => ForeignAnswers::new(),
        parts => {
            let part = Input { home: Some(stored.home().clone()), ..call.input.clone() };
            claims::ask_parts(&cx.federation, inviter, &part, parts.iter().cloned()).await
        }
    };
    Ok(stored.into_output(&call.input.targets, claimed, &elsewhere))
}

/// The answer, or its stored form if the call was answered before.
async fn claim(
    cx: &Services,
    caller: &Device,
    call: &Call<ClaimKeyPackages>,
    purpose: &Purpose,
    elsewhere: &ForeignAnswers,
    asker: &Asker,
) -> Result<Result<Output, StoredAnswer>, Failure<Error>> {
    let repeat = match repeated_answer(cx, &caller.author, call, &call.input.claim_id).await? {
        Ok(stored) => return Ok(Err(stored)),
        Err(repeat) => repeat,
    };
    let (now, seen_since) = (cx.clock.now().to_datetime(), cx.log.lapsed_before().to_datetime());
    let suites: Vec<i32> = call.input.cipher_suites.iter().filter_map(|&suite| i32::try_from(suite).ok()).collect();
    let asked = &call.input.targets;
    let ours: Vec<Did> = asked.iter().filter(|target| !elsewhere.contains_key(target)).cloned().collect();

    let (inviter, unsaid) = (&caller.author, cx.config.identity.invitations);
    let mut tx = cx.storage.begin().await?;
    store::lock_claimer(tx.conn(), inviter.account_id).await?;
    store::lock_targets(tx.conn(), &ours).await?;
    let targets = store::targets(tx.conn(), &ours, inviter, asker, seen_since, now).await?;
    let ids: Vec<i64> = targets.iter().map(|target| target.account_id).collect();
    let consenting = consent::consenting(tx.conn(), unsaid, &inviter.did, &purpose.stream, &ids).await?;
    let (targets, refused): (Vec<_>, Vec<_>) = targets.into_iter().partition(|it| consenting.contains(&it.account_id));
    let (served, too_many) = fitting(asked, targets, elsewhere);
    let claimed = store::claim(tx.conn(), &served, |target| one_time(asker, target), &suites, seen_since, now).await?;
    let strangers: Vec<i64> = served.iter().filter(|target| !target.is_known).map(|target| target.account_id).collect();
    store::insert_claims(tx.conn(), &claimed, &strangers, inviter.account_id, purpose, asker, now).await?;
    let outcome = Outcome {
        asked,
        served: &served,
        too_many: &too_many,
        refused: &refused,
        claimed: &claimed,
        elsewhere,
        home: &purpose.home,
    };
    let stored = StoredAnswer::of(&outcome);
    keep_answer::<ClaimKeyPackages>(tx.conn(), cx, inviter, &repeat, &stored).await?;
    tx.commit().await?;
    Ok(Ok(stored.into_output(asked, claimed, elsewhere)))
}

/// Whether this target gives the claimer a one-time package.
fn one_time(asker: &Asker, target: &Target) -> bool {
    let for_others = match asker {
        Asker::Ours => target.is_known || target.taken_by_strangers < FOR_STRANGERS,
        Asker::Server { allowed, .. } => {
            target.taken_by_server < FOR_A_SERVER && (*allowed || target.taken_by_servers < FOR_SERVERS)
        }
    };
    target.taken_by_inviter < FOR_AN_INVITER && for_others
}
