//! The committed floors: ratios and counts that decide how the program ends. Absolute rates depend on the machine.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;

use crate::report::Row;

const FILE: &str = include_str!("../floors.toml");

/// What one scenario must reach.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The least rate, as a part of the ceiling's in the same run.
    least_of_ceiling: Option<f64>,
    /// The most statements of Postgres for each message.
    most_statements: f64,
}

pub struct Floors(BTreeMap<String, Floor>);

impl Floors {
    pub fn committed() -> anyhow::Result<Self> {
        Ok(Self(toml::from_str(FILE).context("reading floors.toml")?))
    }

    /// What the row misses, one sentence each.
    pub fn missed(&self, row: &Row) -> anyhow::Result<Vec<String>> {
        let name = row.scenario;
        let floor = self.0.get(name).with_context(|| format!("floors.toml has no [{name}]"))?;
        let mut missed = Vec::new();
        if let (Some(least), Some(reached)) = (floor.least_of_ceiling, row.of_ceiling())
            && reached < least
        {
            missed.push(format!("{name}: {reached:.2} of the ceiling's rate, and {least} is the floor"));
        }
        // A Postgres that counts no statements decides nothing.
        if let Some(statements) = row.statements_per_unit()
            && statements > floor.most_statements
        {
            let most = floor.most_statements;
            missed.push(format!("{name}: {statements:.2} statements for each message, and {most} are the most"));
        }
        Ok(missed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenarios::SCENARIOS;
    use crate::statements::Counts;

    fn row(units: usize, ceiling: f64, statements: i64) -> Row {
        Row {
            scenario: "hot-conversation",
            clients: 1,
            units,
            lasted: Duration::from_secs(1),
            latencies: Vec::new(),
            server: Duration::ZERO,
            postgres: Duration::ZERO,
            counts: Some(Counts { statements, rows: 0, slowest: Vec::new() }),
            ceiling: Some(ceiling),
            memory: None,
        }
    }

    #[test]
    fn every_scenario_has_a_floor() {
        let floors = Floors::committed().unwrap();
        assert!(SCENARIOS.iter().all(|scenario| floors.0.contains_key(scenario.name())));
        assert_eq!(floors.0.len(), SCENARIOS.len());
    }

    #[test]
    fn a_low_rate_and_many_statements_are_missed_floors() {
        let floors = Floors::committed().unwrap();
        assert_eq!(floors.missed(&row(1000, 1000.0, 10)).unwrap(), [""; 0]);
        assert_eq!(floors.missed(&row(1000, 1_000_000.0, 1_000_000)).unwrap().len(), 2);
    }
}
