//! Whether a proven caller may call at all: what became of its device and its account since they were registered.
//!
//! Invariant: judged for every call, from rows, so that it takes effect at once. What the DID document says is taken from
//! what is known: a directory that does not answer refuses nobody, and one that says for a day that there is no such DID
//! refuses its devices.

use chrono::{DateTime, TimeDelta, Utc};

use crate::identity::{DidDocument, Remembered, TokenRefused};
use crate::types::{Did, UnixMillis};
use crate::xrpc::store::{self, AccountRow, DeviceRow};
use crate::xrpc::{Denied, Fault, Services};

/// How often a device's last sight is written.
const WRITTEN_EVERY_MS: i64 = 60 * 60 * 1000;
/// A device comes with a service token of its account this often, so that it ends with the account's session.
const ACCOUNT_PROOF_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// How long a DID may have no document before its devices are refused: a directory may lose one by mistake.
const GONE: TimeDelta = TimeDelta::days(1);

/// An account's row, as far as its standing depends on it.
struct Seen<'a> {
    account_id: i64,
    /// The other server that its document named when that was last known.
    server: Option<&'a str>,
    did_gone_at: Option<DateTime<Utc>>,
}

/// What an account whose home is another server may call here: its devices and key packages wait for its move.
const FOR_ANY_HOME: &[&str] = &[
    "blue.catbird.account.registerDevice",
    "blue.catbird.account.listDevices",
    "blue.catbird.account.revokeDevice",
    "blue.catbird.mls.publishKeyPackage",
    "blue.catbird.mls.publishKeyPackages",
];
/// Operators call for the server, not for their account.
const FOR_OPERATORS: &str = "blue.catbird.admin.";

/// An account that came with a service token. One that has no row has registered nothing here.
pub(super) async fn account(cx: &Services, nsid: &str, did: &Did, row: Option<&AccountRow>) -> Result<(), Fault> {
    if row.is_some_and(|row| row.suspended) {
        return Err(Denied::AccountSuspended.into());
    }
    let seen = row.map(|row| Seen { account_id: row.id, server: row.server.as_deref(), did_gone_at: row.did_gone_at });
    home(cx, nsid, did, seen).await
}

/// A device of that account; `with_account`: beside it came a service token of the account.
pub(super) async fn device(
    cx: &Services,
    nsid: &str,
    did: &Did,
    row: &DeviceRow,
    with_account: bool,
) -> Result<(), Fault> {
    of_row(cx, row, with_account)?;
    let now = cx.clock.now();
    let since_proof_ms = now.0 - row.account_proven_at.timestamp_millis();
    let seen = Seen { account_id: row.account_id, server: row.server.as_deref(), did_gone_at: row.did_gone_at };
    home(cx, nsid, did, Some(seen)).await?;

    let unseen = row.last_seen_at.is_none_or(|seen| now.0 - seen.timestamp_millis() > WRITTEN_EVERY_MS);
    if unseen || with_account && since_proof_ms > WRITTEN_EVERY_MS {
        store::touch_device(cx.storage.authentication(), row.id, with_account, now.to_datetime()).await?;
    }
    Ok(())
}

/// What the device's own row says of it.
fn of_row(cx: &Services, row: &DeviceRow, with_account: bool) -> Result<(), Fault> {
    if row.state == "revoked" {
        return Err(TokenRefused::DeviceRevoked.into());
    }
    if row.suspended {
        return Err(Denied::AccountSuspended.into());
    }
    if UnixMillis::from(row.known_at) < cx.log.lapsed_before() {
        return Err(TokenRefused::DeviceLapsed.into());
    }
    let since_proof_ms = cx.clock.now().0 - row.account_proven_at.timestamp_millis();
    if !with_account && since_proof_ms > ACCOUNT_PROOF_MS {
        return Err(TokenRefused::AccountProofExpired.into());
    }
    Ok(())
}

/// Whether a device that listens since a while still may. Asks nobody outside and writes nothing; a document that is not
/// fresh is renewed meanwhile, for the next time.
pub(in crate::xrpc) async fn may_listen(cx: &Services, row: &DeviceRow) -> bool {
    let Ok(did) = Did::parse(&row.did) else { return false };
    let remembered = cx.resolver.known(&did).await;
    if is_gone(cx, row.did_gone_at, &remembered) {
        return false;
    }
    let elsewhere = match remembered {
        Remembered::Document(document) => named_elsewhere(cx, &document).is_some(),
        Remembered::NotFound | Remembered::Nothing => row.server.is_some(),
    };
    !elsewhere && of_row(cx, row, false).is_ok()
}

/// The server that the document names, if that is another one.
fn named_elsewhere(cx: &Services, document: &DidDocument) -> Option<Did> {
    document.mls_server(!cx.config.is_production()).filter(|server| server != cx.log.home())
}

/// Refuses an account that has its home elsewhere; before that, looks once more (at most once a minute): it may have moved
/// here a moment ago. `seen`: what its row says, for when its document is not known now.
async fn home(cx: &Services, nsid: &str, did: &Did, seen: Option<Seen<'_>>) -> Result<(), Fault> {
    let (account_id, stored) = (seen.as_ref().map(|seen| seen.account_id), seen.as_ref().and_then(|seen| seen.server));
    let remembered = cx.resolver.known(did).await;
    if let Some(seen) = &seen {
        still_there(cx, seen, &remembered).await?;
    }
    let mut named = match &remembered {
        Remembered::Document(document) => named_elsewhere(cx, document),
        Remembered::NotFound | Remembered::Nothing => stored.and_then(|server| Did::parse(server).ok()),
    };
    let anywhere = FOR_ANY_HOME.contains(&nsid) || nsid.starts_with(FOR_OPERATORS);
    if named.is_some()
        && !anywhere
        && let Ok(document) = cx.resolver.refresh(did).await
    {
        named = named_elsewhere(cx, &document);
    }
    let other = named.as_ref().map(Did::as_str);
    if let Some(account_id) = account_id.filter(|_| other != stored) {
        store::set_server(cx.storage.authentication(), account_id, other).await?;
    }
    match named {
        Some(server) if !anywhere => Err(Denied::AccountHomeElsewhere(server).into()),
        _ => Ok(()),
    }
}

/// Refuses an account whose DID has had no document for a day: its keys may be anybody's, and nobody can end its session.
async fn still_there(cx: &Services, seen: &Seen<'_>, remembered: &Remembered) -> Result<(), Fault> {
    if cx.config.identity.jwt_secret.is_some() {
        return Ok(());
    }
    let (pool, now) = (cx.storage.pool(), cx.clock.now().to_datetime());
    match (remembered, seen.did_gone_at) {
        (Remembered::Document(_), Some(_)) => store::set_did_gone(pool, seen.account_id, None).await?,
        (Remembered::NotFound, None) => store::set_did_gone(pool, seen.account_id, Some(now)).await?,
        _ if is_gone(cx, seen.did_gone_at, remembered) => return Err(TokenRefused::UnknownDid.into()),
        _ => {}
    }
    Ok(())
}

/// Whether the DID has had no document for a day. Development without accounts invents DIDs that no directory has.
fn is_gone(cx: &Services, since: Option<DateTime<Utc>>, remembered: &Remembered) -> bool {
    let long = since.is_some_and(|since| cx.clock.now().to_datetime() - since > GONE);
    long && cx.config.identity.jwt_secret.is_none() && !matches!(remembered, Remembered::Document(_))
}
