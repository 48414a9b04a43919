//! Which accounts may become local (`ACCOUNTS`), and when a device last showed its account.
//!
//! Invariant: checked only where an account is created, inside the transaction that creates it: a code is used up if
//! and only if its account came to be, and an account that is here already is not asked again.

mod store;

use crate::config::Admission;
use crate::lexicon::account::register_device::Error;
use crate::storage::{self, PgConnection};
use crate::types::{Did, Hash, UnixMillis, base32_lower};
use crate::xrpc::{Failure, Fault, Services};

/// Lets an account in that is not here yet, or says why not.
pub(super) async fn admit(
    cx: &Services,
    conn: &mut PgConnection,
    account: &Did,
    invite: Option<&str>,
) -> Result<(), Failure<Error>> {
    let (admitted, refusal) = match cx.config.identity.admission {
        Admission::Open => return Ok(()),
        Admission::Allowlist => (
            store::is_allowed(conn, account).await?,
            Error::AccountNotAllowed("this server takes accounts that its operator has named; ask them".into()),
        ),
        Admission::Invite => (
            match invite {
                Some(code) => store::use_invite(conn, hash(code), cx.clock.now().to_datetime()).await?,
                None => false,
            },
            Error::InviteInvalid("this server takes a new account by an invite that is good: ask for another".into()),
        ),
    };
    if admitted { Ok(()) } else { Err(Failure::Named(refusal)) }
}

/// The device was registered, for the first time or again, with a service token of its account.
pub(super) async fn account_shown(cx: &Services, device: &str) -> Result<(), Fault> {
    Ok(store::set_account_proven(cx.storage.pool(), device, cx.clock.now().to_datetime()).await?)
}

/// Names an account that may register where `ACCOUNTS` is `allowlist`. Again changes nothing.
pub async fn allow(conn: &mut PgConnection, account: &Did, now: UnixMillis) -> Result<(), storage::Error> {
    store::insert_allowance(conn, account, now.to_datetime()).await
}

/// A new code for so many accounts, good until `expires_at`. It is shown here and kept nowhere.
pub async fn invite(
    conn: &mut PgConnection,
    uses: u16,
    expires_at: UnixMillis,
    now: UnixMillis,
) -> Result<String, storage::Error> {
    let code = format!("invite-{}", base32_lower(&rand::random::<[u8; 16]>()));
    store::insert_invite(conn, hash(&code), uses, expires_at.to_datetime(), now.to_datetime()).await?;
    Ok(code)
}

/// 128 random bits need no salt and no slow hash.
fn hash(code: &str) -> Hash {
    Hash::of(code.as_bytes())
}
