//! Budgets of the look-ups that accounts cause: every DID that a call names may cost a request to the directory of
//! did:plc, or to a host of the DID's choice.
//!
//! Invariant: each look-up counts against the account whose call causes it and against all accounts together; did:plc
//! and did:web have separate budgets, so that names which cost nothing do not exhaust the directory's budget.

use crate::config::LookupRates;
use crate::limit::{Budget, Budgets, LimitScope, Standing};
use crate::types::Did;

/// The account, or all accounts together, caused too many look-ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many accounts were looked up; try again in {retry_after_s} s")]
pub struct TooManyLookups {
    pub retry_after_s: u64,
}

pub(super) struct Lookups {
    of_account: Budgets<Did>,
    in_directory: Budget,
    on_hosts: Budget,
}

impl Lookups {
    pub fn new(rates: LookupRates, scope: &LimitScope) -> Self {
        Self {
            of_account: Budgets::new(rates.of_account, scope),
            in_directory: Budget::new(rates.of_all, scope),
            on_hosts: Budget::new(rates.of_all, scope),
        }
    }

    /// Counts the look-up of `subject` for a call of `account`.
    pub fn take(&self, account: &Did, subject: &Did) -> Result<(), TooManyLookups> {
        allowed(self.of_account.take(account))?;
        let of_all = if subject.method() == "plc" { &self.in_directory } else { &self.on_hosts };
        allowed(of_all.take())
    }
}

fn allowed(standing: Standing) -> Result<(), TooManyLookups> {
    match standing.refused_for {
        None => Ok(()),
        Some(wait) => Err(TooManyLookups { retry_after_s: wait.as_secs() + 1 }),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::Lookups;
    use crate::config::{LookupRates, Rate};
    use crate::limit::LimitScope;
    use crate::types::{Clock, Did, UnixMillis};

    #[test]
    fn each_account_all_together_and_each_method_have_a_budget() {
        let rate = |quantity| Rate { quantity: NonZeroU32::new(quantity).unwrap(), period: Duration::from_mins(1) };
        let clock = Clock::manual(UnixMillis(1_795_000_000_000));
        let lookups =
            Lookups::new(LookupRates { of_account: rate(10), of_all: rate(25) }, &LimitScope::of_process(&clock));
        let did = |text: &str| Did::parse(text).unwrap();
        let (web, plc) = (did("did:web:a.example"), did("did:plc:ewvi7nxzyoun6zhxrhs64oiz"));
        let granted =
            |account: &str, subject: &Did| (0..20).filter(|_| lookups.take(&did(account), subject).is_ok()).count();
        assert_eq!(granted("did:web:one.example", &web), 10);
        assert_eq!(granted("did:web:two.example", &web), 10);
        assert_eq!(granted("did:web:three.example", &web), 5, "all together");
        assert_eq!(granted("did:web:four.example", &plc), 10, "the directory has its own slots");
        clock.advance_ms(60_000);
        assert_eq!(granted("did:web:one.example", &web), 10);
    }
}
