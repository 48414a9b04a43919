//! `blue.catbird.account.registerDevice`: makes a device known by its key, and the account local by its first device.
//!
//! Invariant: a caller registers only a key that it holds: the key signs the device token beside the service token,
//! over the bytes of the body, so that a PDS in between cannot change them. A repeated registration of a key is the
//! existing device, with the stored answer, unless the device was uncertified and may be certified now.

use super::admission;
use super::chain::{self, Judged, Newcomer, Owner};
use super::proof;
use super::store;
use crate::identity::{Change, DeviceKeys};
use crate::lexicon::account::register_device::{Error, Input, Output, RegisterDevice};
use crate::log::body::{Body, MembershipBody, MembershipChange, Role};
use crate::log::{Draft, EntryKind, StreamKind, StreamTx};
use crate::storage;
use crate::types::Bytes;
use crate::xrpc::{Account, Call, Failure, Services};

pub async fn register_device(
    cx: &Services,
    caller: Account,
    call: Call<RegisterDevice>,
) -> Result<Output, Failure<Error>> {
    let keys = proof::proven_keys(cx, &caller, &call)?;

    let answer = storage::retrying(Failure::is_collision, || register(cx, &caller, &call.input, &keys)).await?;
    admission::account_shown(cx, &answer.device).await?;
    Ok(answer)
}

async fn register(cx: &Services, caller: &Account, input: &Input, keys: &DeviceKeys) -> Result<Output, Failure<Error>> {
    let judged = match &input.certificate {
        Some(certificate) => match judge(cx, caller, input, keys, certificate).await {
            Ok(judged) => Some(judged),
            // A chain that this very call has extended takes its link no more.
            Err(failure) => return repeated(cx, caller, keys, failure).await,
        },
        None => None,
    };
    let mut tx = account_stream(cx, caller, input.invite.as_deref()).await?;
    let owner = Owner { account_id: store::account_id(tx.conn(), &caller.did).await?, did: &caller.did };
    let new = Newcomer {
        keys: judged.as_ref().map_or(keys, |(_, keys)| keys),
        kind: &input.kind,
        name: input.name.as_ref().map(Bytes::as_slice),
        platform: input.platform.as_deref(),
    };
    let admitted = chain::admit(&mut tx, owner, &new, judged.as_ref().map(|(judged, _)| judged)).await?;
    let stream = tx.row().public_id.to_string();
    // A transaction that registers nothing new is rolled back.
    if admitted.is_new {
        tx.commit().await?;
    }
    Ok(Output { device: keys.device().into(), state: admitted.state, stream })
}

/// The certificate and the keys that it lists, which must be those that register.
async fn judge(
    cx: &Services,
    caller: &Account,
    input: &Input,
    keys: &DeviceKeys,
    certificate: &Bytes,
) -> Result<(Judged, DeviceKeys), Failure<Error>> {
    let account_id = store::find_account(cx.storage.pool(), &caller.did).await?;
    let account_id = account_id.ok_or_else(|| chain::invalid("the account has no device chain"))?;
    let judged = chain::judge(cx, Owner { account_id, did: &caller.did }, certificate).await?;
    match &judged.extension.change {
        Change::Certify(listed)
            if listed.key() == keys.key()
                && (input.mls_keys.is_none() || raw_mls_keys(listed).eq(raw_mls_keys(keys))) =>
        {
            let listed = listed.clone();
            Ok((judged, listed))
        }
        _ => Err(chain::invalid("the certificate is for other keys than those that register").into()),
    }
}

/// The keys without their proofs, which are not compared: two signatures by one key may differ.
fn raw_mls_keys(keys: &DeviceKeys) -> impl Iterator<Item = &Bytes> {
    keys.mls_keys().iter().map(|one| &one.key)
}

/// The answer of a registration whose certificate fits no more because it was used; otherwise the failure.
async fn repeated(
    cx: &Services,
    caller: &Account,
    keys: &DeviceKeys,
    failure: Failure<Error>,
) -> Result<Output, Failure<Error>> {
    let device = keys.device();
    let known = store::find_device(cx.storage.pool(), device.as_str()).await?;
    let (Some(known), Some((account_id, stream))) =
        (known, store::find_public_stream(cx.storage.pool(), &caller.did).await?)
    else {
        return Err(failure);
    };
    match known.state.as_str() {
        _ if known.account_id != account_id => Err(chain::key_in_use().into()),
        "certified" => Ok(Output { device: device.into(), state: known.state, stream }),
        "revoked" => Err(chain::revoked().into()),
        _ => Err(failure),
    }
}

/// The account's own stream, locked; created with the account at the registration of its first device.
async fn account_stream(cx: &Services, caller: &Account, invite: Option<&str>) -> Result<StreamTx, Failure<Error>> {
    if let Some(stream_id) = store::find_account_stream(cx.storage.pool(), &caller.did).await? {
        return Ok(cx.log.lock(stream_id).await?);
    }
    let mut tx = cx.storage.begin().await?;
    store::lock_account(tx.conn(), &caller.did).await?;
    if let Some(stream_id) = store::find_account_stream(&mut *tx.conn(), &caller.did).await? {
        // Another first registration was quicker.
        tx.rollback().await?;
        return Ok(cx.log.lock(stream_id).await?);
    }
    cx.limits.may_register(caller.address, &caller.did)?;
    admission::admit(cx, tx.conn(), &caller.did, invite).await?;
    let account_id = store::insert_account(tx.conn(), &caller.did, cx.clock.now().to_datetime()).await?;
    let mut tx = cx.log.found(tx, StreamKind::Account).await?;
    let stream_id = tx.row().id;
    store::set_account_stream(tx.conn(), account_id, stream_id).await?;
    let opened = MembershipBody {
        account: caller.did.clone(),
        change: MembershipChange::Opened,
        role: Some(Role::Admin),
        server: Some(cx.log.home().to_string()),
    };
    let server = tx.server()?;
    let draft = Draft { kind: EntryKind::Membership, epoch: None, body: opened.encode()?, identity: None };
    tx.append(&server, draft).await?;
    Ok(tx)
}
