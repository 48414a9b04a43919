//! `blue.catbird.account.revokeDevice`: ends a device's rights at once.
//!
//! Invariant: after the answer no token of the device is accepted, none of its key packages is handed out, and its
//! sockets on this instance are closed. Its leaves stay in their groups until a member removes them; members that may
//! remove them get a notice. A repeat succeeds.

use super::chain::{self, Owner};
use super::store;
use crate::identity::Change;
use crate::lexicon::account::revoke_device::{Error, Input, Output, RevokeDevice};
use crate::storage;
use crate::types::DeviceId;
use crate::xrpc::{AccountOrDevice, Call, Caller, Failure, Services, parse};

pub async fn revoke_device(
    cx: &Services,
    caller: AccountOrDevice,
    call: Call<RevokeDevice>,
) -> Result<Output, Failure<Error>> {
    let device = parse(DeviceId::parse, &call.input.device)?;
    may_revoke(&caller, &device)?;
    let (account_id, did) = (caller.account_id(), caller.did().cloned());
    let (Some(account_id), Some(did)) = (account_id, did) else { return Err(not_found()) };
    let stream_id = store::stream_of_account(cx.storage.pool(), account_id).await?.ok_or_else(not_found)?;

    let target = Target { owner: Owner { account_id, did: &did }, stream_id, device: &device };
    let device_row = storage::retrying(Failure::is_collision, || revoke(cx, &target, &call.input)).await?;

    cx.log.hub().close_device(device_row);
    Ok(Output {})
}

/// A PDS's session may end anything, and so may a device that the account vouches for. Any other only itself.
fn may_revoke(caller: &AccountOrDevice, device: &DeviceId) -> Result<(), Failure<Error>> {
    match caller {
        AccountOrDevice::Device(caller) if !caller.certified && caller.author.device != *device => Err(Failure::Named(
            Error::DeviceUncertified("a device that is not certified may revoke itself alone".into()),
        )),
        _ => Ok(()),
    }
}

struct Target<'a> {
    owner: Owner<'a>,
    stream_id: i64,
    device: &'a DeviceId,
}

/// Answers the device's row.
async fn revoke(cx: &Services, target: &Target<'_>, input: &Input) -> Result<i64, Failure<Error>> {
    let (owner, device) = (target.owner, target.device);
    let known = store::find_device(cx.storage.pool(), device.as_str()).await?;
    let known = known.filter(|known| known.account_id == owner.account_id).ok_or_else(not_found)?;
    let judged = match &input.revocation {
        Some(link) => match chain::judge(cx, owner, link).await {
            Ok(judged) if judged.extension.change == Change::Revoke(device.clone()) => Some(judged),
            Ok(_) => return Err(chain::invalid("the revocation is not for this device").into()),
            // A chain that this very call has extended takes its link no more.
            Err(_) if chain::store::was_ended_by(cx.storage.pool(), known.id, link.as_slice()).await? => {
                return Ok(known.id);
            }
            Err(failure) => return Err(failure),
        },
        None => None,
    };
    let mut tx = cx.log.lock(target.stream_id).await?;
    let known = store::find_device(tx.conn(), device.as_str()).await?.ok_or_else(not_found)?;
    let device_row = known.id;
    if chain::end(&mut tx, owner, known, judged.as_ref()).await? {
        tx.commit().await?;
    }
    Ok(device_row)
}

fn not_found() -> Failure<Error> {
    Failure::Named(Error::DeviceNotFound("the account has no such device".into()))
}
