//! The standing of a proven caller: the state of its device and its account since their registration.
//!
//! Invariant: every call checks the standing, from rows, so that changes take effect at once. The state of the DID
//! document comes from the cache: an unreachable directory refuses no caller, and a DID that the directory has reported
//! missing for a day has its devices refused.

use chrono::{DateTime, TimeDelta, Utc};

use super::Asked;
use crate::identity::{DidDocument, Remembered, TokenRefused};
use crate::types::{Did, UnixMillis};
use crate::xrpc::limits::Visit;
use crate::xrpc::store::{self, AccountRow, DeviceRow};
use crate::xrpc::{Denied, Fault, Services};

/// How often a device's last sight is written.
const WRITTEN_EVERY_MS: i64 = 60 * 60 * 1000;
/// A device comes with a service token of its account this often, so that it ends with the account's session.
const ACCOUNT_PROOF_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// Time that a DID may have no document before its devices are refused: a directory may lose a document by mistake.
const GONE: TimeDelta = TimeDelta::days(1);

/// Time for which an account counts as young: its calls count against its address, too.
const YOUNG: TimeDelta = TimeDelta::days(1);

/// The columns of an account's row that decide its standing.
struct Seen<'a> {
    account_id: i64,
    /// The other server that the account's document named when it was last known.
    server: Option<&'a str>,
    did_gone_at: Option<DateTime<Utc>>,
}

/// Methods that an account of another server may call here, to prepare its devices and key packages for its move.
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
pub(super) async fn account(cx: &Services, asked: Asked<'_>, did: &Did, row: Option<&AccountRow>) -> Result<(), Fault> {
    count_young(cx, asked.visit, row.map(|row| row.created_at))?;
    if row.is_some_and(|row| row.suspended) {
        return Err(Denied::AccountSuspended.into());
    }
    let seen = row.map(|row| Seen { account_id: row.id, server: row.server.as_deref(), did_gone_at: row.did_gone_at });
    home(cx, asked.nsid, did, seen).await
}

/// A device of that account; `with_account`: beside it came a service token of the account.
pub(super) async fn device(
    cx: &Services,
    asked: Asked<'_>,
    did: &Did,
    row: &DeviceRow,
    with_account: bool,
) -> Result<(), Fault> {
    count_young(cx, asked.visit, Some(row.account_created_at))?;
    of_row(cx, row, with_account)?;
    let now = cx.clock.now();
    let since_proof_ms = now.0 - row.account_proven_at.timestamp_millis();
    let seen = Seen { account_id: row.account_id, server: row.server.as_deref(), did_gone_at: row.did_gone_at };
    home(cx, asked.nsid, did, Some(seen)).await?;

    let unseen = row.last_seen_at.is_none_or(|seen| now.0 - seen.timestamp_millis() > WRITTEN_EVERY_MS);
    if unseen || with_account && since_proof_ms > WRITTEN_EVERY_MS {
        store::touch_device(cx.storage.authentication(), row.id, with_account, now.to_datetime()).await?;
    }
    Ok(())
}

/// Counts a call of a young account, or of one without a row, against its address: names cost little, and the budget of
/// each account would multiply with them.
fn count_young(cx: &Services, visit: &Visit, created_at: Option<DateTime<Utc>>) -> Result<(), Fault> {
    let now = cx.clock.now().to_datetime();
    if created_at.is_none_or(|at| now - at < YOUNG) { cx.limits.young(visit) } else { Ok(()) }
}

/// Checks the standing by the device's own row.
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

/// Whether a device with an open subscription may still listen. Makes no call and writes nothing; the cache renews a
/// stale document meanwhile, for the next check.
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

/// The server that the document names, if that is another server.
fn named_elsewhere(cx: &Services, document: &DidDocument) -> Option<Did> {
    document.mls_server(!cx.config.is_production()).filter(|server| server != cx.log.home())
}

/// Refuses an account that lives on another server. Before that, looks its document up again (at most once a minute),
/// because the account may just have moved here. `seen`: the account's row, for a document that is not in the cache.
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

/// Refuses an account whose DID has had no document for a day: its keys may be in anyone's hands, and no document can
/// end its session.
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

/// Whether the DID has had no document for a day. Never in development with `JWT_SECRET`, whose DIDs have no documents.
fn is_gone(cx: &Services, since: Option<DateTime<Utc>>, remembered: &Remembered) -> bool {
    let long = since.is_some_and(|since| cx.clock.now().to_datetime() - since > GONE);
    long && cx.config.identity.jwt_secret.is_none() && !matches!(remembered, Remembered::Document(_))
}
