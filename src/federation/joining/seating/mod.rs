//! Consent of this server's accounts to seats that other homes' entries give them.
//!
//! Invariant: another home may seat any account in its stream; such a seat shows an account of this server nothing
//! until the account has accepted: by accepting the invitation, or by its policy towards the account that claimed its
//! key packages for that very stream.

mod store;

use std::collections::{BTreeMap, HashSet};

use futures_util::future::BoxFuture;

use super::{CLAIM_LIFETIME, consent};
use crate::config::Invitations;
use crate::log;
use crate::storage::{Error, PgConnection};
use crate::types::{Did, Seq, UnixMillis};

pub use store::hold_seat;
pub(super) use store::show_seat;

/// Asked by the log, in the transaction that opens seats in a stream of another home.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seating {
    /// The policy for an account that has set none.
    pub unsaid: Invitations,
}

impl log::Seating for Seating {
    fn opened<'a>(
        &'a self,
        conn: &'a mut PgConnection,
        stream_id: i64,
        seats: &'a [(Did, Seq)],
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.judge(conn, stream_id, seats, now))
    }
}

impl Seating {
    async fn judge(
        self,
        conn: &mut PgConnection,
        stream_id: i64,
        seats: &[(Did, Seq)],
        now: UnixMillis,
    ) -> Result<(), Error> {
        // Read before the invitations are: a delivery that is taken meanwhile spends the claims that it leaves one for.
        let claims = store::claims(conn, stream_id, seats, now.to_datetime() - CLAIM_LIFETIME).await?;
        // Held before consent is asked: a seat that was taken is consent, and this one was not.
        let held = store::hold_unaccepted(conn, stream_id, seats).await?;
        if held.is_empty() {
            return Ok(());
        }
        let mut claimers: BTreeMap<Did, Vec<i64>> = BTreeMap::new();
        let (mut claimed, mut refused, mut public_id) = (HashSet::new(), HashSet::new(), String::new());
        for claim in claims.into_iter().filter(|claim| held.contains(&claim.account_id)) {
            claimed.insert(claim.account_id);
            claimers.entry(claim.claimer).or_default().push(claim.account_id);
            public_id = claim.stream;
        }
        for (claimer, accounts) in &claimers {
            let yes = consent::consenting(conn, self.unsaid, claimer, &public_id, accounts).await?;
            refused.extend(accounts.iter().filter(|account| !yes.contains(account)));
        }
        let shown: Vec<i64> = claimed.difference(&refused).copied().collect();
        store::show(conn, stream_id, &shown).await
    }
}
