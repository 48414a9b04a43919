//! Rules that the methods about contacts share.

use crate::types::{Did, Named, Refusal};
use crate::xrpc::{Device, Failure, Fault};

/// Only a device that the account vouches for says whom it knows; and nobody says so of itself.
pub(super) fn may_change<E: Named>(caller: &Device, other: &Did) -> Result<(), Failure<E>> {
    certified(caller)?;
    if caller.author.did == *other {
        return Err(Fault::InvalidRequest("input/account: another account than the caller's own".to_owned()).into());
    }
    Ok(())
}

pub(in crate::api::account) fn certified<E: Named>(caller: &Device) -> Result<(), Failure<E>> {
    if caller.certified {
        Ok(())
    } else {
        Err(Refusal::new("DeviceUncertified", "a certified device of the account must approve this device first")
            .into())
    }
}

/// One page of what was found with one row more than asked for, and the cursor after it.
pub(super) fn page<T>(mut found: Vec<T>, limit: u64, key: impl Fn(&T) -> &Did) -> (Vec<T>, Option<String>) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    found.truncate(limit);
    let cursor = found.last().filter(|_| more).map(|last| key(last).to_string());
    (found, cursor)
}
