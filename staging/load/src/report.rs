//! A row for each scenario, and all of them as one JSON object.

use std::time::Duration;

use serde_json::{Value, json};

use crate::statements::Counts;

/// What a scenario measured. A unit of work is one acknowledged message, one delivery, or one opened socket.
pub struct Row {
    pub scenario: &'static str,
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
}

impl Row {
    fn per_second(&self) -> f64 {
        as_f64(self.units) / self.lasted.as_secs_f64()
    }

    /// Microseconds of CPU time for each unit.
    fn micros(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / as_f64(self.units.max(1))
    }

    fn percentile_ms(&self, percent: usize) -> Option<f64> {
        let rank = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies.get(rank).map(|latency| latency.as_secs_f64() * 1000.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
    fn per_unit(&self, count: impl Fn(&Counts) -> i64) -> Option<f64> {
        self.counts.as_ref().map(|counts| count(counts) as f64 / as_f64(self.units.max(1)))
    }

    /// Takes as the ceiling the rate of a server that uses `bare` CPU time for each unit, in the CPU time of this row.
    pub fn beside_cpu_time(self, bare: Duration) -> Self {
        let ceiling = self.per_second() * self.micros(self.server) / (bare.as_secs_f64() * 1e6);
        Self { ceiling: Some(ceiling), ..self }
    }

    pub fn of_ceiling(&self) -> Option<f64> {
        self.ceiling.map(|ceiling| self.per_second() / ceiling)
    }

    pub fn statements_per_unit(&self) -> Option<f64> {
        self.per_unit(|counts| counts.statements)
    }

    pub fn line(&self) -> String {
        let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        format!(
            "{:<20} {:>7} {:>8} {:>9.0} {:>8} {:>8} {:>10.0} {:>12.0} {:>13} {:>7} {:>10} {:>11}",
            self.scenario,
            self.clients,
            self.units,
            self.per_second(),
            optional(self.percentile_ms(50)),
            optional(self.percentile_ms(99)),
            self.micros(self.server),
            self.micros(self.postgres),
            optional(self.statements_per_unit()),
            optional(self.per_unit(|counts| counts.rows)),
            optional(self.of_ceiling()),
            optional(self.memory.map(|bytes| bytes / 1024.0)),
        )
    }

    pub fn slowest_statements(&self) -> Vec<String> {
        let slowest = self.counts.iter().flat_map(|counts| &counts.slowest);
        slowest.map(|(calls, ms, text)| format!("    {calls:>8} calls {ms:>9.1} ms  {text}")).collect()
    }

    fn json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "clients": self.clients,
            "units": self.units,
            "seconds": self.lasted.as_secs_f64(),
            "per_second": self.per_second(),
            "p50_ms": self.percentile_ms(50),
            "p99_ms": self.percentile_ms(99),
            "server_us_per_unit": self.micros(self.server),
            "postgres_us_per_unit": self.micros(self.postgres),
            "statements_per_unit": self.statements_per_unit(),
            "rows_per_unit": self.per_unit(|counts| counts.rows),
            "of_ceiling": self.of_ceiling(),
            "memory_bytes_per_client": self.memory,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[derive(Default)]
pub struct Report {
    pub rows: Vec<Row>,
}

impl Report {
    /// The heads of the columns of [`Row::line`].
    pub fn head() -> &'static str {
        "scenario             clients    units  units/s    p50 ms   p99 ms  server us  Postgres us  statements/u  rows/u  of ceiling  KiB/client"
    }

    pub fn json(&self) -> anyhow::Result<String> {
        let cores = std::thread::available_parallelism()?.get();
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        Ok(serde_json::to_string(&json!({ "version": env!("CARGO_PKG_VERSION"), "cores": cores, "rows": rows }))?)
    }
}
