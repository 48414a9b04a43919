//! The committed floors: ratios and counts that decide how the program ends. Absolute rates depend on the machine.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;

use crate::report::Row;

const FILE: &str = include_str!("../floors.toml");

/// The bounds of the figures of one row, by the names of the figures.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    #[serde(default)]
    least: BTreeMap<String, f64>,
    #[serde(default)]
    most: BTreeMap<String, f64>,
}

pub struct Floors(BTreeMap<String, Floor>);

impl Floors {
    pub fn committed() -> anyhow::Result<Self> {
        Ok(Self(toml::from_str(FILE).context("reading floors.toml")?))
    }

    /// One sentence for each figure of the row that misses its floor. A figure that this Postgres does not count
    /// decides nothing.
    pub fn missed(&self, row: &Row) -> anyhow::Result<Vec<String>> {
        let name = row.name;
        let floor = self.0.get(name).with_context(|| format!("floors.toml has no [{name}]"))?;
        let mut missed = Vec::new();
        for (figure, least) in &floor.least {
            if let Some(reached) = row.figure(figure)?
                && reached < *least
            {
                missed.push(format!("{name}: {figure} is {reached:.3}, and {least} is the floor"));
            }
        }
        for (figure, most) in &floor.most {
            if let Some(reached) = row.figure(figure)?
                && reached > *most
            {
                missed.push(format!("{name}: {figure} is {reached:.3}, and the most is {most}"));
            }
        }
        Ok(missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::SCENARIOS;
    use crate::statements::Counts;

    fn row(name: &'static str, units: usize, ceiling: f64, statements: i64) -> Row {
        let counts = Some(Counts { statements, ..Counts::default() });
        Row { units, counts, ceiling: Some(ceiling), lasted: std::time::Duration::from_secs(1), ..Row::empty(name) }
    }

    #[test]
    fn every_row_has_a_floor() {
        let floors = Floors::committed().unwrap();
        let rows: Vec<&str> = SCENARIOS.iter().flat_map(|scenario| scenario.rows).copied().collect();
        assert_eq!(rows.iter().find(|row| !floors.0.contains_key(**row)), None);
        assert_eq!(floors.0.len(), rows.len());
        assert!(floors.0.values().all(|floor| floor.least.len() + floor.most.len() > 0));
    }

    #[test]
    fn a_low_rate_and_many_statements_are_missed_floors() {
        let floors = Floors::committed().unwrap();
        assert_eq!(floors.missed(&row("hot-conversation", 1000, 1000.0, 10)).unwrap(), [""; 0]);
        assert_eq!(floors.missed(&row("hot-conversation", 1000, 1_000_000.0, 1_000_000)).unwrap().len(), 2);
    }

    #[test]
    fn a_floor_of_a_figure_that_is_not_there_is_an_error() {
        let floors = Floors::committed().unwrap();
        let storm = row("reconnect-storm", 1, 1.0, 1);
        assert!(floors.missed(&storm).is_err());
        let figures = vec![("errors", Some(1.0)), ("live_again_seconds", Some(9.0))];
        assert_eq!(floors.missed(&Row { figures, ..storm }).unwrap().len(), 1);
    }
}
