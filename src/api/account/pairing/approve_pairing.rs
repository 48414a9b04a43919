//! `blue.catbird.account.approvePairing`: certifies the device that waits, and leaves a payload for it.
//!
//! Invariant: the device, its link and the approval are one transaction, and a pairing has one approval: of two that
//! race, the later finds the pairing approved. A repeat with the same bytes gets the stored answer.

use super::not_found;
use super::store::{self, Waiting};
use crate::api::account::chain::{self, Judged, Newcomer, Owner};
use crate::identity::{Change, DeviceKeys};
use crate::lexicon::account::approve_pairing::{ApprovePairing, Error, Output};
use crate::storage;
use crate::types::Hash;
use crate::xrpc::{Call, Device, Failure, Fault, Services};

pub async fn approve_pairing(
    cx: &Services,
    caller: Device,
    call: Call<ApprovePairing>,
) -> Result<Output, Failure<Error>> {
    if !caller.certified {
        return Err(Failure::Named(Error::DeviceUncertified("only a certified device approves another".into())));
    }
    storage::retrying(Failure::is_collision, || approve(cx, &caller, &call)).await
}

async fn approve(cx: &Services, caller: &Device, call: &Call<ApprovePairing>) -> Result<Output, Failure<Error>> {
    let (input, owner) = (&call.input, Owner { account_id: caller.author.account_id, did: &caller.author.did });
    let now = cx.clock.now().to_datetime();
    let waiting = store::find(cx.storage.pool(), &input.pairing, now).await?.ok_or_else(not_found)?;
    if let Some(answer) = approved(&waiting, owner, call.request_hash)? {
        return Ok(answer);
    }
    let judged = chain::judge(cx, owner, &input.certificate).await?;
    let keys = certified(&waiting, &judged)?;
    let stream_id = crate::api::account::store::stream_of_account(cx.storage.pool(), owner.account_id).await?;
    let stream_id = stream_id.ok_or_else(|| Fault::internal("a device's account has no stream"))?;

    let mut tx = cx.log.lock(stream_id).await?;
    // The pairing's row is locked, which is a write.
    tx.begin_writes().await?;
    let waiting = store::find_for_update(tx.conn(), &input.pairing, now).await?.ok_or_else(not_found)?;
    if let Some(answer) = approved(&waiting, owner, call.request_hash)? {
        return Ok(answer);
    }
    let new =
        Newcomer { keys, kind: &waiting.kind, name: waiting.name.as_deref(), platform: waiting.platform.as_deref() };
    let admitted = chain::admit(&mut tx, owner, &new, Some(&judged)).await?;
    store::approve(tx.conn(), waiting.id, admitted.id, call.request_hash, input.payload.as_slice()).await?;
    tx.commit().await?;
    Ok(Output { device: keys.device().into() })
}

/// The first answer, if this very call approved it.
fn approved(waiting: &Waiting, owner: Owner<'_>, request_hash: Hash) -> Result<Option<Output>, Failure<Error>> {
    match &waiting.approval {
        None => Ok(None),
        Some(approval)
            if approval.account_id == owner.account_id && approval.request_hash == request_hash.as_slice() =>
        {
            Ok(Some(Output { device: waiting.key.device_id().into() }))
        }
        Some(_) => {
            Err(Failure::Named(Error::PairingApproved("the pairing was approved already, by another call".into())))
        }
    }
}

/// The keys that the certificate lists, if the waiting device's is the one that it vouches for.
fn certified<'a>(waiting: &Waiting, judged: &'a Judged) -> Result<&'a DeviceKeys, Failure<Error>> {
    match &judged.extension.change {
        Change::Certify(keys) if *keys.key() == waiting.key => Ok(keys),
        _ => Err(chain::invalid("the certificate is for another key than the one that waits").into()),
    }
}
