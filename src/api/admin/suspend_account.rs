//! `blue.catbird.admin.suspendAccount`: suspends an account, or ends its suspension.
//!
//! Invariant: after the answer every instance refuses the account's tokens, hands out none of its key packages, and
//! closes its sockets. Its seats and devices stay.

use super::accounts;
use crate::lexicon::admin::suspend_account::{Error, Output, SuspendAccount};
use crate::xrpc::{Call, Failure, Operator, Services};

pub async fn suspend_account(
    cx: &Services,
    caller: Operator,
    call: Call<SuspendAccount>,
) -> Result<Output, Failure<Error>> {
    let input = call.input;
    let (account, reason) = (&input.account, input.reason.as_deref());
    let (by, now) = (caller.name(), cx.clock.now());
    let found = accounts::set_suspended(&cx.storage, &by, account, input.suspended, reason, now).await?;
    cx.log.wake_courier();
    let account = found
        .ok_or_else(|| Failure::Named(Error::AccountNotFound("this account has registered no device here".into())))?;
    Ok(Output { account })
}
