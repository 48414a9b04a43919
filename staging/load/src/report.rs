//! A row for each measurement, and all rows as one JSON object.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::statements::Counts;

/// What a scenario measured. A unit of work is one acknowledged message, one delivery, or one opened socket; each
/// scenario says which.
pub struct Row {
    /// Name of the row: that of the scenario, or of a part of the scenario.
    pub name: &'static str,
    /// Clients at one time.
    pub clients: usize,
    pub units: usize,
    pub lasted: Duration,
    /// From the call to its answer, or to the delivery, in ascending order.
    pub latencies: Vec<Duration>,
    pub server: Duration,
    pub postgres: Duration,
    /// None where Postgres does not count.
    pub counts: Option<Counts>,
    /// The rate of the ceiling of the same run, in units a second.
    pub ceiling: Option<f64>,
    /// Bytes of the server's memory for each client.
    pub memory: Option<f64>,
    /// Figures of this row alone, by the names that the JSON object and floors.toml use; None where this Postgres does
    /// not count the figure.
    pub figures: Vec<(&'static str, Option<f64>)>,
}

impl Row {
    pub fn empty(name: &'static str) -> Self {
        Self {
            name,
            clients: 0,
            units: 0,
            lasted: Duration::ZERO,
            latencies: Vec::new(),
            server: Duration::ZERO,
            postgres: Duration::ZERO,
            counts: None,
            ceiling: None,
            memory: None,
            figures: Vec::new(),
        }
    }

    fn per_second(&self) -> Option<f64> {
        (!self.lasted.is_zero()).then(|| as_f64(self.units) / self.lasted.as_secs_f64())
    }

    /// Microseconds of CPU time for each unit.
    fn micros(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / as_f64(self.units.max(1))
    }

    fn percentile_ms(&self, percent: usize) -> Option<f64> {
        percentile(&self.latencies, percent).map(milliseconds)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
    fn per_unit(&self, count: impl Fn(&Counts) -> i64) -> Option<f64> {
        self.counts.as_ref().map(|counts| count(counts) as f64 / as_f64(self.units.max(1)))
    }

    /// Takes as the ceiling the rate of a server that uses `bare` CPU time for each unit, in the CPU time of this row.
    pub fn beside_cpu_time(self, bare: Duration) -> Self {
        let ratio = self.micros(self.server) / (bare.as_secs_f64() * 1e6);
        let ceiling = self.per_second().map(|reached| reached * ratio);
        Self { ceiling, ..self }
    }

    fn of_ceiling(&self) -> Option<f64> {
        self.ceiling.zip(self.per_second()).map(|(ceiling, reached)| reached / ceiling)
    }

    fn statements_per_unit(&self) -> Option<f64> {
        self.per_unit(|counts| counts.statements)
    }

    /// The line of the table, and a second line if the row has figures of its own.
    pub fn lines(&self) -> String {
        let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let mut lines = format!(
            "{:<20} {:>7} {:>8} {:>9} {:>8} {:>8} {:>10.0} {:>12.0} {:>13} {:>7} {:>10} {:>11}",
            self.name,
            self.clients,
            self.units,
            self.per_second().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}")),
            optional(self.percentile_ms(50)),
            optional(self.percentile_ms(99)),
            self.micros(self.server),
            self.micros(self.postgres),
            optional(self.statements_per_unit()),
            optional(self.per_unit(|counts| counts.rows)),
            optional(self.of_ceiling()),
            optional(self.memory.map(|bytes| bytes / 1024.0)),
        );
        if !self.figures.is_empty() {
            let written = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
            let figures: Vec<String> =
                self.figures.iter().map(|(name, value)| format!("{name} {}", written(*value))).collect();
            lines = format!("{lines}\n    {}", figures.join(", "));
        }
        lines
    }

    pub fn slowest_statements(&self) -> Vec<String> {
        let slowest = self.counts.iter().flat_map(|counts| &counts.slowest);
        slowest.map(|(calls, ms, text)| format!("    {calls:>8} calls {ms:>9.1} ms  {text}")).collect()
    }

    /// A figure by its name; None where this Postgres does not count it.
    pub fn figure(&self, name: &str) -> anyhow::Result<Option<f64>> {
        let figures = self.json();
        let value = figures.get(name).with_context(|| format!("row {} has no figure {name}", self.name))?;
        Ok(value.as_f64())
    }

    fn json(&self) -> Map<String, Value> {
        let mut members = Map::new();
        let mut insert = |name: &str, value: Value| members.insert(name.to_owned(), value);
        insert("row", json!(self.name));
        insert("clients", json!(self.clients));
        insert("units", json!(self.units));
        insert("seconds", json!(self.lasted.as_secs_f64()));
        insert("per_second", json!(self.per_second()));
        insert("p50_ms", json!(self.percentile_ms(50)));
        insert("p99_ms", json!(self.percentile_ms(99)));
        insert("server_us_per_unit", json!(self.micros(self.server)));
        insert("postgres_us_per_unit", json!(self.micros(self.postgres)));
        insert("statements_per_unit", json!(self.statements_per_unit()));
        insert("rows_per_unit", json!(self.per_unit(|counts| counts.rows)));
        insert("of_ceiling", json!(self.of_ceiling()));
        insert("memory_bytes_per_client", json!(self.memory));
        for (name, value) in &self.figures {
            insert(name, json!(value));
        }
        members
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
pub fn as_f64(count: usize) -> f64 {
    count as f64
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A percentile of values in ascending order, by nearest rank.
pub fn percentile<T: Copy>(ascending: &[T], percent: usize) -> Option<T> {
    let rank = (ascending.len() * percent).div_ceil(100).saturating_sub(1);
    ascending.get(rank).copied()
}

#[derive(Default)]
pub struct Report {
    pub rows: Vec<Row>,
}

impl Report {
    /// The heads of the columns of [`Row::lines`].
    pub fn head() -> &'static str {
        "row                  clients    units  units/s    p50 ms   p99 ms  server us  Postgres us  statements/u  rows/u  of ceiling  KiB/client"
    }

    pub fn json(&self) -> anyhow::Result<String> {
        let cores = std::thread::available_parallelism()?.get();
        let rows: Vec<Value> = self.rows.iter().map(|row| Value::Object(row.json())).collect();
        Ok(serde_json::to_string(&json!({ "version": env!("CARGO_PKG_VERSION"), "cores": cores, "rows": rows }))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let hundred: Vec<usize> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&hundred, 99), Some(99));
        assert_eq!(percentile(&[7, 9], 50), Some(7));
        assert_eq!(percentile::<usize>(&[], 99), None);
    }
}
