//! Whether an account lets itself be invited by another one.
//!
//! Invariant: every refusal, for whatever reason, takes one query and gives one answer: a block does not
//! show, neither by its name nor by its time.

mod store;

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::config::Invitations;
use crate::storage::{Error, PgConnection};
use crate::types::Did;

pub use store::{blocks, say_if_unsaid, set_policy, unblock};

use super::relationship::{self, Effects};

/// Accounts that one account may block.
const BLOCKS: i64 = 10_000;

/// The facts about an account that decide one inviter's invitation to one stream.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all are looked up at once")]
struct Facts {
    account_id: i64,
    /// The inviter is the account itself, with another device.
    own: bool,
    blocked: bool,
    contact: bool,
    /// Whether the account has accepted this very conversation before.
    seated: bool,
    policy: Option<Invitations>,
}

/// The accounts that let the inviter invite them to this stream.
pub async fn consenting(
    conn: &mut PgConnection,
    unsaid: Invitations,
    inviter: &Did,
    stream: &str,
    account_ids: &[i64],
) -> Result<HashSet<i64>, Error> {
    let facts = store::facts(conn, inviter, stream, account_ids).await?;
    Ok(facts.into_iter().filter(|facts| consents(facts, unsaid)).map(|facts| facts.account_id).collect())
}

/// The accounts of `account_ids` whose devices this account may see: itself, accounts that let it invite them, and
/// accounts that share a stream with it and do not block it.
pub async fn visible(
    conn: &mut PgConnection,
    unsaid: Invitations,
    viewer: (i64, &Did),
    account_ids: &[i64],
) -> Result<HashSet<i64>, Error> {
    let facts = store::facts(&mut *conn, viewer.1, "", account_ids).await?;
    let sharing: HashSet<i64> = store::sharing(conn, viewer.0, account_ids).await?.into_iter().collect();
    let seen = facts.into_iter().map(|facts| Facts { seated: sharing.contains(&facts.account_id), ..facts });
    Ok(seen.filter(|facts| consents(facts, unsaid)).map(|facts| facts.account_id).collect())
}

fn consents(facts: &Facts, unsaid: Invitations) -> bool {
    if facts.own {
        return true;
    }
    if facts.blocked {
        return false;
    }
    match facts.policy.unwrap_or(unsaid) {
        _ if facts.seated => true,
        Invitations::Everyone => true,
        Invitations::Contacts => facts.contact,
        Invitations::Nobody => false,
    }
}

/// Blocks another account, and ends the relationship without a notice; `None` if there is no room for another block.
pub async fn block(
    conn: &mut PgConnection,
    own: (i64, &Did),
    other: &Did,
    now: DateTime<Utc>,
) -> Result<Option<Effects>, Error> {
    // First: it takes the lock that lets one change between the two go first.
    let ended = relationship::forget(conn, own, other, now).await?;
    Ok(store::block(conn, own.0, other, BLOCKS, now).await?.then_some(ended))
}

/// As the wire says it.
pub const fn name(policy: Invitations) -> &'static str {
    match policy {
        Invitations::Everyone => "everyone",
        Invitations::Contacts => "contacts",
        Invitations::Nobody => "nobody",
    }
}

pub fn from_name(name: &str) -> Option<Invitations> {
    [Invitations::Everyone, Invitations::Contacts, Invitations::Nobody].into_iter().find(|it| self::name(*it) == name)
}

/// The policy in force for this account.
pub async fn policy(conn: &mut PgConnection, unsaid: Invitations, account_id: i64) -> Result<Invitations, Error> {
    Ok(store::find_policy(conn, account_id).await?.unwrap_or(unsaid))
}

#[cfg(test)]
mod tests {
    use super::{Facts, Invitations, consents};

    #[test]
    fn a_block_goes_before_everything_and_a_seat_before_the_policy() {
        let facts = Facts { account_id: 1, own: false, blocked: false, contact: false, seated: false, policy: None };
        let stranger = |policy| consents(&Facts { policy: Some(policy), ..facts }, Invitations::Nobody);
        assert!(stranger(Invitations::Everyone) && !stranger(Invitations::Contacts) && !stranger(Invitations::Nobody));
        assert!(consents(&facts, Invitations::Everyone) && !consents(&facts, Invitations::Contacts));

        let contact = Facts { contact: true, ..facts };
        assert!(consents(&contact, Invitations::Contacts) && !consents(&contact, Invitations::Nobody));
        let seated = Facts { seated: true, ..facts };
        assert!(consents(&seated, Invitations::Nobody));
        let blocked = Facts { blocked: true, contact: true, seated: true, ..facts };
        assert!(!consents(&blocked, Invitations::Everyone));
        assert!(consents(&Facts { own: true, ..facts }, Invitations::Nobody), "its own further device");
    }
}
