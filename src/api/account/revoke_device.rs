//! `blue.catbird.account.revokeDevice`: ends a device's rights at once.
//!
//! Invariant: after the answer no token of the device is accepted, none of its key packages is handed out, and its
//! sockets on this replica are closed. Its leaves stay in their groups until a member removes them. A repeat says yes.

use super::store;
use crate::lexicon::account::revoke_device::{Error, Output, RevokeDevice};
use crate::log::body::{Body, DeviceBody};
use crate::log::{Draft, EntryKind};
use crate::storage;
use crate::types::{Bytes, DeviceId};
use crate::xrpc::{AccountOrDevice, Call, Failure, Services, parse};

pub async fn revoke_device(
    cx: &Services,
    caller: AccountOrDevice,
    call: Call<RevokeDevice>,
) -> Result<Output, Failure<Error>> {
    let not_found = || Failure::Named(Error::DeviceNotFound("the account has no such device".into()));
    let device = parse(DeviceId::parse, &call.input.device)?;
    let account_id = caller.account_id().ok_or_else(not_found)?;
    let stream_id = store::stream_of_account(cx.storage.pool(), account_id).await?.ok_or_else(not_found)?;

    let revoked = storage::retrying(Failure::is_collision, || revoke(cx, account_id, stream_id, &device)).await?;

    cx.log.hub().close_device(revoked.ok_or_else(not_found)?);
    Ok(Output {})
}

/// The device's row, if the account has that device.
async fn revoke(
    cx: &Services,
    account_id: i64,
    stream_id: i64,
    device: &DeviceId,
) -> Result<Option<i64>, Failure<Error>> {
    let mut tx = cx.log.lock(stream_id).await?;
    let known = store::find_device(tx.conn(), device.as_str()).await?;
    let Some(known) = known.filter(|known| known.account_id == account_id) else { return Ok(None) };
    if known.state != "revoked" {
        let now = tx.now().to_datetime();
        store::revoke_device(tx.conn(), known.id, now).await?;
        let public_key = Bytes(known.public_key);
        let body = DeviceBody { device: device.clone(), state: "revoked".to_owned(), public_key };
        let server = tx.server()?;
        tx.append(&server, Draft { kind: EntryKind::Device, epoch: None, body: body.encode()?, identity: None })
            .await?;
        tx.commit().await?;
    }
    Ok(Some(known.id))
}
