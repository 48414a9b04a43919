//! The one way in which methods change a device chain.
//!
//! Invariants: a link is verified against the chain as it was read, before any lock; under the lock of the account's
//! stream it counts only if the chain still ends where the link begins, and its signer is still certified. A new chain
//! begins only while the account has no certified device, at most a few times a day, and then every account that shares
//! a stream with it gets one notice for all undelivered resets. The rows of devices are bounded, so that a session of
//! the account cannot make the list grow without limit.

pub(super) mod store;

use chrono::TimeDelta;

use self::store::NewLink;
use super::store::{KnownDevice, NewDevice};
use crate::identity::{BadLink, ChainHead, Change, DeviceChain, DeviceKeys, DeviceLink, Extension};
use crate::log::body::{Body, DeviceBody, DeviceChainResetBody};
use crate::log::{Draft, EntryKind, Outgoing, StreamTx};
use crate::types::{Bytes, Detail, Did, Named, Refusal};
use crate::xrpc::{Failure, Fault, Services, blocking};

/// Devices of one account that are not revoked.
const DEVICES_PER_ACCOUNT: i64 = 50;
/// Devices of one account, including revoked devices until they are deleted.
const DEVICES_IN_ALL: i64 = 1_000;
/// Age after which a revoked device of an earlier chain may be deleted, if the account needs room.
const REVOKED_KEPT: TimeDelta = TimeDelta::days(30);
/// New chains that an account may begin in a day, besides its first chain.
const RESETS_A_DAY: usize = 3;
/// Links in one chain, from which on no device is certified any more. Every device can still be revoked.
const LINKS_PER_CHAIN: u64 = 1_000;
/// The most accounts that one change notifies.
const NOTICES: i64 = 10_000;

/// An account, by its row and its name.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub account_id: i64,
    pub did: &'a Did,
}

/// A link that fitted the chain when it was read.
pub(super) struct Judged {
    pub extension: Extension,
    /// Where the chain ended.
    before: ChainHead,
    /// The link as it is stored.
    bytes: Vec<u8>,
}

/// A device that wants to be the account's.
pub(super) struct Newcomer<'a> {
    pub keys: &'a DeviceKeys,
    pub kind: &'a str,
    pub name: Option<&'a [u8]>,
    pub platform: Option<&'a str>,
}

/// The registered device, after a change of the chain.
pub(super) struct Admitted {
    pub id: i64,
    pub state: String,
    /// Whether anything was written.
    pub is_new: bool,
}

/// Judges a link by the account's chain as it is now: `DeviceLinkInvalid`, `StaleDeviceChain`.
pub(super) async fn judge<E: Named>(cx: &Services, owner: Owner<'_>, link: &Bytes) -> Result<Judged, Failure<E>> {
    let head = store::find_head(cx.storage.pool(), owner.account_id).await?;
    let head = head.ok_or_else(|| invalid("the account has no device chain"))?;
    let (did, bytes) = (owner.did.clone(), link.0.clone());
    let link = DeviceLink::decode(&bytes).map_err(|bad| misfit(&bad, head))?;
    // The chain is loaded and replayed only for a link that follows its head.
    link.check_place(&did, &head).map_err(|bad| misfit(&bad, head))?;
    let links = store::links(cx.storage.pool(), owner.account_id).await?;
    // A curve's point for each key of the chain, and one signature.
    blocking(cx, move || {
        let mut chain = DeviceChain::replay(&did, &links).map_err(|broken| Failure::Fault(Fault::internal(broken)))?;
        let before = chain.head();
        match chain.extend(&link) {
            Ok(extension) => Ok(Judged { extension, before, bytes }),
            Err(bad) => Err(misfit(&bad, before).into()),
        }
    })
    .await?
}

/// The refusal of a link that does not fit the chain with this head.
fn misfit(bad: &BadLink, head: ChainHead) -> Refusal {
    if *bad == BadLink::NotNext { stale(head) } else { invalid(&bad.to_string()) }
}

/// Makes a device the account's, or more than it was: certified by a link; or by none, then as the first of a new chain
/// if no certified device stands, and otherwise uncertified.
///
/// Refusals: `DeviceKeyInUse`, `DeviceRevoked`, `TooManyDevices`, `DeviceLinkInvalid`, `StaleDeviceChain`.
pub(super) async fn admit<E: Named>(
    tx: &mut StreamTx,
    owner: Owner<'_>,
    new: &Newcomer<'_>,
    judged: Option<&Judged>,
) -> Result<Admitted, Failure<E>> {
    let known = super::store::find_device(tx.conn(), new.keys.device().as_str()).await?;
    if let Some(known) = &known
        && let Some(done) = standing(owner, known)?
    {
        return Ok(done);
    }
    let devices = super::store::count_devices(tx.conn(), owner.account_id).await?;
    let begins = judged.is_none() && devices.certified == 0;
    if begins {
        may_begin(tx, owner).await?;
    }
    let state = if begins || judged.is_some() { "certified" } else { "uncertified" };
    tx.begin_writes().await?;
    let id = match known {
        Some(known) if state == "uncertified" => {
            return Ok(Admitted { id: known.id, state: known.state, is_new: false });
        }
        Some(known) => {
            super::store::certify_device(tx.conn(), known.id).await?;
            known.id
        }
        None if devices.standing >= DEVICES_PER_ACCOUNT => {
            let why = format!("an account has {DEVICES_PER_ACCOUNT} devices at most; revoke one");
            return Err(Refusal::new("TooManyDevices", why).into());
        }
        None => {
            make_room(tx, owner, devices.in_all).await?;
            insert(tx, owner, new, state).await?
        }
    };
    let link = match judged {
        _ if begins => Some(begin(tx, owner, new.keys, id).await?),
        Some(judged) => Some(record(tx, owner, judged, id).await?),
        None => None,
    };
    if state == "certified" {
        let mls_keys: Vec<Vec<u8>> = new.keys.mls_keys().iter().map(|one| one.key.0.clone()).collect();
        super::store::insert_keys(tx.conn(), id, &mls_keys).await.map_err(in_use)?;
    }
    let (device, public_key) = (new.keys.device(), Bytes(new.keys.key().raw()));
    append(tx, DeviceBody { account: None, device, state: state.to_owned(), public_key, link }).await?;
    Ok(Admitted { id, state: state.to_owned(), is_new: true })
}

/// Refuses a new chain beyond today's limit: `TooManyChainResets`.
async fn may_begin<E: Named>(tx: &mut StreamTx, owner: Owner<'_>) -> Result<(), Failure<E>> {
    let (now, day) = (tx.now().to_datetime(), TimeDelta::days(1));
    let begun = store::chains_begun(tx.conn(), owner.account_id, now - day).await?;
    let Some(earliest) = begun.len().checked_sub(RESETS_A_DAY).and_then(|at| begun.get(at)) else { return Ok(()) };
    let retry_after_s = (*earliest + day - now).num_seconds().max(1);
    let why = format!("the device chain began anew {RESETS_A_DAY} times within a day; try again in {retry_after_s} s");
    Err(Refusal::new("TooManyChainResets", Detail::new(why).with("retryAfter", retry_after_s)).into())
}

/// Deletes revoked devices where there are too many, and refuses another device if that is not enough.
async fn make_room<E: Named>(tx: &mut StreamTx, owner: Owner<'_>, in_all: i64) -> Result<(), Failure<E>> {
    if in_all < DEVICES_IN_ALL {
        return Ok(());
    }
    let before = tx.now().to_datetime() - REVOKED_KEPT;
    let forgotten = store::forget_revoked(tx.conn(), owner.account_id, before).await?;
    if in_all - forgotten < DEVICES_IN_ALL {
        return Ok(());
    }
    let days = REVOKED_KEPT.num_days();
    let why = format!(
        "an account has {DEVICES_IN_ALL} devices at most, those counted that were revoked within {days} days or are in \
         its newest chain"
    );
    Err(Refusal::new("TooManyDevices", why).into())
}

/// A known device that stays what it is, or may not be the account's; nothing for one that may become certified.
fn standing(owner: Owner<'_>, known: &KnownDevice) -> Result<Option<Admitted>, Refusal> {
    if known.account_id != owner.account_id {
        return Err(key_in_use());
    }
    match known.state.as_str() {
        "revoked" => Err(revoked()),
        "certified" => Ok(Some(Admitted { id: known.id, state: known.state.clone(), is_new: false })),
        _ => Ok(None),
    }
}

async fn insert<E: Named>(
    tx: &mut StreamTx,
    owner: Owner<'_>,
    new: &Newcomer<'_>,
    state: &str,
) -> Result<i64, Failure<E>> {
    let (device, public_key, now) = (new.keys.device(), new.keys.key().raw(), tx.now().to_datetime());
    let row = NewDevice {
        account_id: owner.account_id,
        public_id: device.as_str(),
        public_key: &public_key,
        alg: new.keys.key().alg(),
        kind: new.kind,
        state,
        name: new.name,
        platform: new.platform,
        now,
    };
    // A concurrent registration of the key by another account may be quicker.
    let id = super::store::insert_device(tx.conn(), &row).await.map_err(in_use)?;
    super::store::insert_keys(tx.conn(), id, &[public_key]).await.map_err(in_use)?;
    Ok(id)
}

/// Begins the account's next chain with this device, and says so if it is not the first. Answers the genesis.
async fn begin<E: Named>(
    tx: &mut StreamTx,
    owner: Owner<'_>,
    keys: &DeviceKeys,
    device_row: i64,
) -> Result<Bytes, Failure<E>> {
    let before = store::find_head(tx.conn(), owner.account_id).await?;
    let generation = before.map_or(1, |head| head.generation + 1);
    let (chain, genesis) = DeviceChain::begin(owner.did, generation, keys).map_err(Fault::internal)?;
    let link = genesis.encode().map_err(Fault::internal)?;
    let (head, now) = (chain.head(), tx.now().to_datetime());
    let row = NewLink { account_id: owner.account_id, head, device_row, revokes: false, bytes: &link, now };
    store::insert_link(tx.conn(), &row).await?;
    if before.is_some() {
        let body = DeviceChainResetBody {
            account: owner.did.clone(),
            generation,
            device: keys.device(),
            public_key: Bytes(keys.key().raw()),
            link: Bytes(link.clone()),
        };
        let (kind, body) = (EntryKind::DeviceChainReset, body.encode()?);
        let server = tx.server()?;
        tx.append(&server, Draft { kind, epoch: None, body: body.clone(), identity: None }).await?;
        let told = store::sharing_a_stream(tx.conn(), owner.account_id, NOTICES).await?;
        // The newest reset supersedes every earlier one.
        let about = owner.did.as_str().as_bytes();
        crate::log::withdraw(tx.conn(), &told, kind, about).await?;
        tell(tx, told, kind, &body).await?;
    }
    Ok(Bytes(link))
}

/// Puts a judged link at the end of the chain. Answers it as it is stored.
async fn record<E: Named>(
    tx: &mut StreamTx,
    owner: Owner<'_>,
    judged: &Judged,
    device_row: i64,
) -> Result<Bytes, Failure<E>> {
    let Extension { change, by, head } = &judged.extension;
    let now_at = store::find_head(tx.conn(), owner.account_id).await?;
    if now_at != Some(judged.before) {
        return Err(stale(now_at.unwrap_or(judged.before)).into());
    }
    // It may have been revoked without a link: in the chain it still stands.
    let signer = super::store::find_device(tx.conn(), by.as_str()).await?;
    if signer.is_none_or(|signer| signer.state != "certified") {
        return Err(invalid("the signer was revoked").into());
    }
    let revokes = matches!(change, Change::Revoke(_));
    if !revokes && head.seq > LINKS_PER_CHAIN {
        let why = format!("a device chain has {LINKS_PER_CHAIN} links at most; revoke all devices to begin a new one");
        return Err(Refusal::new("TooManyDevices", why).into());
    }
    let now = tx.now().to_datetime();
    let row = NewLink { account_id: owner.account_id, head: *head, device_row, revokes, bytes: &judged.bytes, now };
    store::insert_link(tx.conn(), &row).await?;
    Ok(Bytes(judged.bytes.clone()))
}

/// Ends a device, by a link or without. A repeat writes nothing, unless it brings the link that was not there yet.
pub(super) async fn end<E: Named>(
    tx: &mut StreamTx,
    owner: Owner<'_>,
    known: KnownDevice,
    judged: Option<&Judged>,
) -> Result<bool, Failure<E>> {
    let was_revoked = known.state == "revoked";
    if was_revoked && judged.is_none() {
        return Ok(false);
    }
    tx.begin_writes().await?;
    let link = match judged {
        Some(judged) => Some(record(tx, owner, judged, known.id).await?),
        None => None,
    };
    let (device, public_key) = (known.device, Bytes(known.public_key));
    let body = DeviceBody { account: None, device, state: "revoked".to_owned(), public_key, link };
    if !was_revoked {
        let now = tx.now().to_datetime();
        super::store::revoke_device(tx.conn(), known.id, now).await?;
        // Those who share a conversation with it can commit the removal of its leaves.
        let told = store::sharing_with_device(tx.conn(), known.id, NOTICES).await?;
        let body = DeviceBody { account: Some(owner.did.clone()), ..body.clone() };
        tell(tx, told, EntryKind::Device, &body.encode()?).await?;
    }
    append(tx, body).await?;
    Ok(true)
}

async fn append<E: Named>(tx: &mut StreamTx, body: DeviceBody) -> Result<(), Failure<E>> {
    let server = tx.server()?;
    let draft = Draft { kind: EntryKind::Device, epoch: None, body: body.encode()?, identity: None };
    tx.append(&server, draft).await?;
    Ok(())
}

async fn tell<E: Named>(tx: &mut StreamTx, told: Vec<i64>, kind: EntryKind, body: &[u8]) -> Result<(), Failure<E>> {
    let outgoing = told.into_iter().map(|account_id| Outgoing { account_id, kind, body: body.to_vec() });
    Ok(tx.send(outgoing.collect()).await?)
}

pub(super) fn invalid(why: &str) -> Refusal {
    Refusal::new("DeviceLinkInvalid", why)
}

fn stale(head: ChainHead) -> Refusal {
    let ChainHead { generation, seq, .. } = head;
    let why = format!("the device chain ends with link {seq} of generation {generation}: sign the one after it");
    Refusal::new("StaleDeviceChain", Detail::new(why).with("generation", generation).with("seq", seq))
}

pub(super) fn revoked() -> Refusal {
    Refusal::new("DeviceRevoked", "a revoked key stays revoked; make a new one")
}

pub(super) fn key_in_use() -> Refusal {
    Refusal::new("DeviceKeyInUse", "this key is registered for another account or device")
}

fn in_use<E: Named>(error: crate::storage::Error) -> Failure<E> {
    match error.constraint() {
        Some("device_public_id_key" | "device_key_pkey") => key_in_use().into(),
        _ => error.into(),
    }
}
