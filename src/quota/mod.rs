//! Quotas: how many bytes and rows one account, one conversation and one registrable domain make this server keep.
//!
//! Invariants: a conversation's size is a column of its row, counted by each append; totals of accounts and domains are
//! summed by a worker and enforced with 10 % of slack, so that no counter serialises an account's streams; what a call
//! adds is counted in this process until the worker has seen it. Every table that a call of a stranger can grow is
//! registered in [`tables`]. What frees space or takes rights away is never refused.

mod measure;
mod store;
pub mod tables;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::sync::Cache;

pub use measure::{Summed, run};
pub use store::{Override, set_override};

use crate::config;
use crate::lexicon::Method;
use crate::lexicon::account::{revoke_device::RevokeDevice, set_block::SetBlock};
use crate::lexicon::mls::{
    ack_welcome::AckWelcome, decline_convo::DeclineConvo, leave_convo::LeaveConvo, remove_members::RemoveMembers,
    update_cursor::UpdateCursor,
};
use crate::storage::{Error, Storage};
use crate::types::Did;

/// Accounts whose totals are kept in memory.
const CACHED_ACCOUNTS: u64 = 50_000;
/// Totals are read again after this time.
const FRESH: Duration = Duration::from_secs(5);

/// Methods that free space, take rights away or keep one row for ever: never refused for a quota.
const GRANTED: &[&str] = &[
    AckWelcome::NSID,
    DeclineConvo::NSID,
    LeaveConvo::NSID,
    RemoveMembers::NSID,
    RevokeDevice::NSID,
    SetBlock::NSID,
    UpdateCursor::NSID,
];

/// Which quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    AccountBytes,
    AccountRows,
    ConvoBytes,
    ConvoEntries,
    DomainBytes,
    DomainRows,
}

impl Quota {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccountBytes => "accountBytes",
            Self::AccountRows => "accountRows",
            Self::ConvoBytes => "convoBytes",
            Self::ConvoEntries => "convoEntries",
            Self::DomainBytes => "domainBytes",
            Self::DomainRows => "domainRows",
        }
    }
}

/// A call would make this server keep more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the quota {} of {limit} is used up", .quota.name())]
pub struct QuotaExceeded {
    pub quota: Quota,
    pub limit: u64,
}

/// The quotas of every holder for whom the operator set no other.
pub fn limits(settings: &config::Quotas) -> [(Quota, u64); 6] {
    [
        (Quota::AccountBytes, settings.account_bytes),
        (Quota::AccountRows, settings.account_rows),
        (Quota::ConvoBytes, settings.convo_bytes),
        (Quota::ConvoEntries, settings.convo_entries),
        (Quota::DomainBytes, settings.domain_bytes),
        (Quota::DomainRows, settings.domain_rows),
    ]
}

/// How much of one quota is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub quota: Quota,
    pub used: u64,
    pub limit: u64,
}

impl Usage {
    fn judge(self, added: u64) -> Result<(), QuotaExceeded> {
        // The totals are of a moment ago.
        let with_slack = self.limit.saturating_add(self.limit / 10);
        if self.used.saturating_add(added) <= with_slack {
            Ok(())
        } else {
            Err(QuotaExceeded { quota: self.quota, limit: self.limit })
        }
    }
}

/// What one conversation may hold, judged where its row is locked.
#[derive(Clone, Copy, Debug)]
pub struct ConvoQuota {
    pub bytes: u64,
    pub entries: u64,
}

impl ConvoQuota {
    pub fn of(settings: &config::Quotas) -> Self {
        Self { bytes: settings.convo_bytes, entries: settings.convo_entries }
    }

    /// For what changes members: more room, so that a full conversation can still be led.
    pub fn with_slack(self) -> Self {
        let more = |limit: u64| limit.saturating_add(limit / 10);
        Self { bytes: more(self.bytes), entries: more(self.entries) }
    }

    /// Whether a conversation of that size takes another entry of so many bytes.
    pub fn judge(self, held_bytes: u64, entries: u64, added_bytes: usize) -> Result<(), QuotaExceeded> {
        if held_bytes.saturating_add(added_bytes as u64) > self.bytes {
            return Err(QuotaExceeded { quota: Quota::ConvoBytes, limit: self.bytes });
        }
        if entries >= self.entries {
            return Err(QuotaExceeded { quota: Quota::ConvoEntries, limit: self.entries });
        }
        Ok(())
    }
}

/// An account's totals as they were read, and what its calls added since the worker summed them.
struct Known {
    totals: store::Totals,
    read_at: Instant,
    added_bytes: AtomicU64,
    added_rows: AtomicU64,
}

/// The quotas of this server. Cheap to clone.
#[derive(Clone)]
pub struct Quotas(Arc<Inner>);

struct Inner {
    storage: Storage,
    settings: config::Quotas,
    known: Cache<i64, Arc<Known>>,
}

impl Quotas {
    pub fn new(storage: Storage, settings: config::Quotas) -> Self {
        // Fixed size: sums of an account, and the name of its domain, which has 253 bytes at most.
        let known = Cache::new(CACHED_ACCOUNTS);
        Self(Arc::new(Inner { storage, settings, known }))
    }

    /// Counts a call of that many bytes against the account and its domain, unless one of their quotas is used up. Some
    /// methods are counted, and never refused.
    pub async fn admit(&self, account_id: i64, nsid: &str, bytes: usize) -> Result<Option<QuotaExceeded>, Error> {
        let known = self.known(account_id).await?;
        let added_bytes = known.added_bytes.fetch_add(bytes as u64, Ordering::Relaxed).saturating_add(bytes as u64);
        let added_rows = known.added_rows.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if GRANTED.contains(&nsid) {
            return Ok(None);
        }
        let refused = self.usage_of(&known.totals).into_iter().find_map(|usage| {
            let added = if usage.quota.is_of_bytes() { added_bytes } else { added_rows };
            usage.judge(added).err()
        });
        if refused.is_some() {
            // What is refused is not kept.
            known.added_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
            known.added_rows.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(refused)
    }

    /// What an account and its domain use, with what its last calls added here.
    pub async fn usage(&self, account_id: i64) -> Result<Vec<Usage>, Error> {
        let known = self.known(account_id).await?;
        let (bytes, rows) = (known.added_bytes.load(Ordering::Relaxed), known.added_rows.load(Ordering::Relaxed));
        let mut usage = self.usage_of(&known.totals);
        for usage in &mut usage {
            usage.used = usage.used.saturating_add(if usage.quota.is_of_bytes() { bytes } else { rows });
        }
        Ok(usage)
    }

    fn usage_of(&self, totals: &store::Totals) -> Vec<Usage> {
        let settings = &self.0.settings;
        let limit = |set: Option<u64>, setting: u64| set.unwrap_or(setting);
        let mut usage = vec![
            Usage {
                quota: Quota::AccountBytes,
                used: totals.bytes,
                limit: limit(totals.quota_bytes, settings.account_bytes),
            },
            Usage {
                quota: Quota::AccountRows,
                used: totals.rows,
                limit: limit(totals.quota_rows, settings.account_rows),
            },
        ];
        if let Some((bytes, rows)) = totals.domain {
            usage.push(Usage { quota: Quota::DomainBytes, used: bytes, limit: settings.domain_bytes });
            usage.push(Usage { quota: Quota::DomainRows, used: rows, limit: settings.domain_rows });
        }
        usage
    }

    async fn known(&self, account_id: i64) -> Result<Arc<Known>, Error> {
        let before = self.0.known.get(&account_id);
        if let Some(known) = before.as_ref().filter(|known| known.read_at.elapsed() < FRESH) {
            return Ok(Arc::clone(known));
        }
        let totals = store::totals(self.0.storage.pool(), account_id).await?;
        // What the worker has not summed yet stays counted here.
        let unseen = before.filter(|known| known.totals.measured_at == totals.measured_at);
        let carried = |added: fn(&Known) -> &AtomicU64| {
            AtomicU64::new(unseen.as_ref().map_or(0, |known| added(known).load(Ordering::Relaxed)))
        };
        let known = Arc::new(Known {
            added_bytes: carried(|known| &known.added_bytes),
            added_rows: carried(|known| &known.added_rows),
            totals,
            read_at: Instant::now(),
        });
        self.0.known.insert(account_id, Arc::clone(&known));
        Ok(known)
    }

    /// Accounts whose calls were counted here and not summed yet.
    fn touched(&self) -> Vec<i64> {
        let added = |known: &Known| known.added_rows.load(Ordering::Relaxed) > 0;
        self.0.known.iter().filter(|(_, known)| added(known)).map(|(account_id, _)| *account_id).collect()
    }
}

impl Quota {
    const fn is_of_bytes(self) -> bool {
        matches!(self, Self::AccountBytes | Self::ConvoBytes | Self::DomainBytes)
    }
}

/// The registrable domain of a did:web account: whoever owns a domain can make accounts without end.
pub fn domain_of(account: &Did) -> Option<String> {
    let host = account.as_str().strip_prefix("did:web:")?;
    let host = host.split(':').next().unwrap_or(host).to_ascii_lowercase();
    let host = host.split("%3a").next().unwrap_or(&host);
    Some(psl::domain_str(host).unwrap_or(host).to_owned())
}

/// What the account uses after an operator looked at it, or changed its quota.
pub async fn usage_for_operator(
    storage: &Storage,
    settings: config::Quotas,
    account: &Did,
) -> Result<Option<Vec<Usage>>, Error> {
    let Some(account_id) = store::find_account(storage.pool(), account.as_str()).await? else { return Ok(None) };
    Quotas::new(storage.clone(), settings).usage(account_id).await.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_ends_ten_percent_above_its_limit() {
        let usage = Usage { quota: Quota::AccountBytes, used: 1_000, limit: 1_000 };
        assert_eq!(usage.judge(100), Ok(()));
        assert_eq!(usage.judge(101), Err(QuotaExceeded { quota: Quota::AccountBytes, limit: 1_000 }));
    }

    #[test]
    fn a_conversation_is_full_at_its_limit() {
        let quota = ConvoQuota { bytes: 100, entries: 3 };
        assert_eq!(quota.judge(60, 2, 40), Ok(()));
        assert_eq!(quota.judge(60, 2, 41).unwrap_err().quota, Quota::ConvoBytes);
        assert_eq!(quota.judge(0, 3, 0).unwrap_err().quota, Quota::ConvoEntries);
    }

    #[test]
    fn accounts_of_one_owner_share_a_domain() {
        let domain = |did: &str| domain_of(&Did::parse(did).unwrap());
        assert_eq!(domain("did:web:a.example.co.uk").as_deref(), Some("example.co.uk"));
        assert_eq!(domain("did:web:example.co.uk").as_deref(), Some("example.co.uk"));
        assert_eq!(domain("did:web:localhost%3A3000").as_deref(), Some("localhost"));
        assert_eq!(domain("did:plc:z72i7hdynmk6r22z27h6tvur"), None);
    }
}
