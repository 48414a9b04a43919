//! Invariant: what leaves by way of logs and metrics names no account, device key or token. An account appears as a
//! keyed hash; metrics carry labels of closed sets only. Field names: docs/LOGGING.md.

mod causes;
mod json_lines;
pub mod metric_name;
mod metrics;
mod redact;
mod tracing;

pub use self::metrics::Metrics;
pub use self::tracing::{TelemetryError, install_tracing};
pub use causes::causes;
pub use redact::Redactor;
