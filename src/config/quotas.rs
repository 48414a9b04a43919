use super::ConfigError;
use super::values::Values;

/// What strangers may make this server keep.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    pub account_bytes: u64,
    pub account_rows: u64,
    pub convo_bytes: u64,
    pub convo_entries: u64,
    pub domain_bytes: u64,
    pub domain_rows: u64,
}

/// Greatest quota: 1 EiB, or as many rows.
const MOST: u64 = 1 << 60;

impl Quotas {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        let quota = |name| values.number(name, 1..=MOST);
        Ok(Self {
            account_bytes: quota("QUOTA_ACCOUNT_BYTES")?,
            account_rows: quota("QUOTA_ACCOUNT_ROWS")?,
            convo_bytes: quota("QUOTA_CONVO_BYTES")?,
            convo_entries: quota("QUOTA_CONVO_ENTRIES")?,
            domain_bytes: quota("QUOTA_DOMAIN_BYTES")?,
            domain_rows: quota("QUOTA_DOMAIN_ROWS")?,
        })
    }
}
