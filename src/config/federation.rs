use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;

use super::ConfigError;
use super::limits::{Rate, rate};
use super::values::Values;
use crate::types::Did;

/// Which other servers are talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Off,
    /// Everybody who is not blocked.
    Open,
    /// Those whom the operator allowed.
    Allowlist,
}

/// What is decided about other servers.
#[derive(Clone, Debug)]
pub struct Federation {
    pub mode: Mode,
    /// Allowed beside those that `rookery peer allow` named.
    pub allowed: BTreeSet<Did>,
    /// For how long a key that no earlier key endorsed waits.
    pub key_hold: TimeDelta,
    /// How long a stream waits after a restore for followers that do not answer.
    pub recovery_wait: Duration,
    pub rates: PeerRates,
}

/// What the servers of one registrable domain may do.
#[derive(Clone, Copy, Debug)]
pub struct PeerRates {
    pub requests: Rate,
    pub entries: Rate,
    pub kib: Rate,
}

impl Federation {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        let modes = [("off", Mode::Off), ("open", Mode::Open), ("allowlist", Mode::Allowlist)];
        let server = |text: &str| {
            Did::parse(text).ok().filter(|did| did.method() == "web").ok_or_else(|| {
                let why = format!("`{text}` is not the name of a server");
                values.invalid(
                    "FEDERATION_ALLOW",
                    why,
                    "set it to names such as did:web:chat.example.com, separated by commas",
                )
            })
        };
        Ok(Self {
            mode: values.one_of("FEDERATION", &modes)?,
            allowed: values.list("FEDERATION_ALLOW").map(server).collect::<Result<_, _>>()?,
            key_hold: TimeDelta::hours(values.number("FEDERATION_KEY_HOLD_HOURS", 0..=720)?),
            recovery_wait: Duration::from_secs(values.number("RECOVERY_WAIT_SECONDS", 0..=604_800)?),
            rates: PeerRates {
                requests: rate(values, "RATE_PEER")?,
                entries: rate(values, "RATE_PEER_ENTRIES")?,
                kib: rate(values, "RATE_PEER_KIB")?,
            },
        })
    }
}
