//! The committed limits: `limits.toml` names every attack.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

/// What one attack may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    pub seconds: u64,
    pub short_seconds: u64,
    /// Whether the attack belongs to the short form.
    pub short: bool,
    pub memory_mib: u64,
    /// Longest time without a positive answer of `/health/ready`.
    pub unready: Duration,
    pub p99: Duration,
    /// Limits of an attack that takes the database away, in place of `unready` and `p99`.
    pub outage: Option<Outage>,
}

#[derive(Clone, Debug)]
pub struct Outage {
    /// Within this time an honest call has an answer, if only 503.
    pub refused: Duration,
    /// Within this time after the database's return the server is ready.
    pub ready: Duration,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    seconds: Option<u64>,
    short_seconds: Option<u64>,
    short: Option<bool>,
    memory_mib: Option<u64>,
    unready_ms: Option<u64>,
    p99_ms: Option<u64>,
    short_p99_ms: Option<u64>,
    refused_within_ms: Option<u64>,
    ready_within_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default: Row,
    attacks: BTreeMap<String, Row>,
}

/// The limits of all attacks.
pub struct Table(File);

impl Table {
    pub fn committed() -> anyhow::Result<Self> {
        Ok(Self(toml::from_str(include_str!("../limits.toml")).context("reading limits.toml")?))
    }

    #[cfg(test)]
    pub fn names(&self) -> Vec<&str> {
        self.0.attacks.keys().map(String::as_str).collect()
    }

    /// The limits of the attack in its long or short form, and the default where the attack's row says nothing.
    pub fn of(&self, attack: &str, is_short: bool) -> anyhow::Result<Limits> {
        let row = self.0.attacks.get(attack).with_context(|| format!("limits.toml has no attack {attack}"))?;
        let default = &self.0.default;
        let number = |own: Option<u64>, usual: Option<u64>, name: &str| {
            own.or(usual).with_context(|| format!("limits.toml has no default {name}"))
        };
        let outage = row.refused_within_ms.zip(row.ready_within_ms).map(|(refused, ready)| Outage {
            refused: Duration::from_millis(refused),
            ready: Duration::from_millis(ready),
        });
        let p99_ms = if is_short {
            number(row.short_p99_ms, default.short_p99_ms, "short_p99_ms")?
        } else {
            number(row.p99_ms, default.p99_ms, "p99_ms")?
        };
        Ok(Limits {
            seconds: number(row.seconds, default.seconds, "seconds")?,
            short_seconds: number(row.short_seconds, default.short_seconds, "short_seconds")?,
            short: row.short.or(default.short).unwrap_or(true),
            memory_mib: number(row.memory_mib, default.memory_mib, "memory_mib")?,
            unready: Duration::from_millis(number(row.unready_ms, default.unready_ms, "unready_ms")?),
            p99: Duration::from_millis(p99_ms),
            outage,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::ATTACKS;

    #[test]
    fn limits_name_each_attack_and_nothing_else() {
        let table = Table::committed().unwrap();
        let mut names: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
        names.sort_unstable();
        assert_eq!(table.names(), names);
        for name in names {
            for is_short in [false, true] {
                table.of(name, is_short).unwrap();
            }
        }
    }
}
