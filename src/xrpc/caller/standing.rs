//! Whether a proven caller may call at all: what became of its device and its account since they were registered.
//!
//! Invariant: judged for every call, from rows, so that it takes effect at once. What the DID document says is taken from
//! what is known: a directory that does not answer refuses nobody.

use crate::identity::{DidDocument, TokenRefused};
use crate::types::{Did, UnixMillis};
use crate::xrpc::store::{self, AccountRow, DeviceRow};
use crate::xrpc::{Denied, Fault, Services};

/// How often a device's last sight is written.
const WRITTEN_EVERY_MS: i64 = 60 * 60 * 1000;
/// A device comes with a service token of its account this often, so that it ends with the account's session.
const ACCOUNT_PROOF_MS: i64 = 30 * 24 * 60 * 60 * 1000;

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
    home(cx, nsid, did, row.map(|row| row.id), row.and_then(|row| row.server.as_deref())).await
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
    home(cx, nsid, did, Some(row.account_id), row.server.as_deref()).await?;

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
    let elsewhere = match cx.resolver.known(&did).await {
        Some(document) => named_elsewhere(cx, &document).is_some(),
        None => row.server.is_some(),
    };
    !elsewhere && of_row(cx, row, false).is_ok()
}

/// The server that the document names, if that is another one.
fn named_elsewhere(cx: &Services, document: &DidDocument) -> Option<Did> {
    document.mls_server(!cx.config.is_production()).filter(|server| server != cx.log.home())
}

/// Refuses an account that has its home elsewhere; before that, looks once more (at most once a minute): it may have moved
/// here a moment ago. `stored`: what its row says, for when its document is not known now.
async fn home(
    cx: &Services,
    nsid: &str,
    did: &Did,
    account_id: Option<i64>,
    stored: Option<&str>,
) -> Result<(), Fault> {
    let mut named = match cx.resolver.known(did).await {
        Some(document) => named_elsewhere(cx, &document),
        None => stored.and_then(|server| Did::parse(server).ok()),
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
