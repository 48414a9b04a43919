//! `blue.catbird.account.registerDevice`: makes a device known by its key, and the account local by its first device.
//!
//! Invariant: nobody registers a key that it does not hold: the device token in the body is signed by it. The same key
//! registered again is the same device, with the same answer.

use super::store::{self, NewDevice};
use crate::identity::{PublicKey, Verifier};
use crate::lexicon::Method;
use crate::lexicon::account::register_device::{Error, Input, Output, RegisterDevice};
use crate::log::body::{Body, DeviceBody, MembershipBody, MembershipChange, Role};
use crate::log::{Draft, EntryKind, StreamKind, StreamTx};
use crate::storage;
use crate::types::{Bytes, Detail};
use crate::xrpc::{Account, Call, Failure, Fault, Services};

/// Devices of one account, revoked ones not counted.
const DEVICES_PER_ACCOUNT: i64 = 50;

pub async fn register_device(
    cx: &Services,
    caller: Account,
    call: Call<RegisterDevice>,
) -> Result<Output, Failure<Error>> {
    if call.input.certificate.is_some() {
        return Err(Fault::NotConfigured("device certificates; leave `certificate` out").into());
    }
    if call.input.mls_keys.is_some() {
        return Err(Fault::NotConfigured("further MLS keys; leave `mlsKeys` out").into());
    }
    let key = proven_key(cx, &caller, &call.input)?;

    storage::retrying(Failure::is_collision, || register(cx, &caller, &call.input, &key)).await
}

/// The new key, proven by a token of this method that it signed. The proof may come again: so does the same answer.
fn proven_key(cx: &Services, caller: &Account, input: &Input) -> Result<PublicKey, Failure<Error>> {
    let invalid = |why: String| Failure::Named(Error::DeviceProofInvalid(Detail::new(why)));
    let nsid = RegisterDevice::NSID;
    let token = cx.verifier.read_device(&input.device_token, nsid).map_err(|refused| invalid(refused.to_string()))?;
    let key = PublicKey::from_raw(token.curve(), input.public_key.as_slice())
        .map_err(|malformed| invalid(malformed.to_string()))?;
    if *token.did() != caller.did {
        return Err(invalid("the device token names another account".to_owned()));
    }
    Verifier::proof(token, &key).map_err(|refused| invalid(refused.to_string()))?;
    Ok(key)
}

async fn register(cx: &Services, caller: &Account, input: &Input, key: &PublicKey) -> Result<Output, Failure<Error>> {
    let mut tx = account_stream(cx, caller).await?;
    let account_id = store::account_id(tx.conn(), &caller.did).await?;
    let device = key.device_id();
    if let Some(known) = store::find_device(tx.conn(), device.as_str()).await? {
        if known.account_id != account_id {
            return Err(key_in_use());
        }
        if known.state == "revoked" {
            return Err(Error::DeviceRevoked("a revoked key stays revoked; make a new one".into()).into());
        }
        // The account stream stays as it was; the device, if it had lapsed, has not any more.
        let stream = tx.row().public_id.to_string();
        store::see_device(tx.conn(), known.id, cx.clock.now().to_datetime()).await?;
        tx.commit().await?;
        return Ok(Output { device: device.into(), state: known.state, stream });
    }

    let devices = store::count_devices(tx.conn(), account_id).await?;
    if devices.standing >= DEVICES_PER_ACCOUNT {
        let why = format!("an account has {DEVICES_PER_ACCOUNT} devices at most; revoke one");
        return Err(Error::TooManyDevices(why.into()).into());
    }
    // Trust on first use. Every later device waits for a certified one to sign its key.
    let state = if devices.ever == 0 { "certified" } else { "uncertified" };

    let public_key = key.raw();
    let new = NewDevice {
        account_id,
        public_id: device.as_str(),
        public_key: &public_key,
        alg: key.curve().alg(),
        kind: &input.kind,
        state,
        name: input.name.as_ref().map(Bytes::as_slice),
        platform: input.platform.as_deref(),
        now: cx.clock.now().to_datetime(),
    };
    store::insert_device(tx.conn(), &new).await.map_err(|error| match error.constraint() {
        // Another account's registration of the same key, at the same moment, was quicker.
        Some("device_public_id_key") => key_in_use(),
        _ => error.into(),
    })?;
    let body = DeviceBody { device: device.clone(), state: state.to_owned(), public_key: Bytes(public_key) };
    let server = tx.server()?;
    tx.append(&server, Draft { kind: EntryKind::Device, epoch: None, body: body.encode()?, identity: None }).await?;
    let stream = tx.row().public_id.to_string();
    tx.commit().await?;
    Ok(Output { device: device.into(), state: state.to_owned(), stream })
}

fn key_in_use() -> Failure<Error> {
    Error::DeviceKeyInUse("this key is registered for another account".into()).into()
}

/// The account's own stream, locked; founded with the account when this is its first device.
async fn account_stream(cx: &Services, caller: &Account) -> Result<StreamTx, Failure<Error>> {
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
