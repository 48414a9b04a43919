use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::metric_name::{ALL, Kind};

/// Upper bounds of the buckets of times, in seconds: from a fast answer to the time-out of a PDS.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of the buckets of counts, up to the largest batch of the writer.
const ITEMS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The recorder of this process, once installed.
static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// What `/metrics` shows. Rendered when somebody asks; nothing is pushed.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder of this process. Later calls give the same one, so several servers in one test process
    /// share it.
    pub fn install() -> Result<Self, BuildError> {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = &*installed {
            return Ok(Self(handle.clone()));
        }
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_items".to_owned()), ITEMS)?
            .install_recorder()?;
        describe();
        *installed = Some(handle.clone());
        Ok(Self(handle))
    }

    /// The text exposition format of Prometheus.
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}

fn describe() {
    for (name, kind, help) in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *help),
            Kind::Histogram => metrics::describe_histogram!(*name, *help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metric_name;

    #[test]
    fn a_counted_request_is_shown_with_its_labels_and_help() {
        let metrics = Metrics::install().unwrap();
        let again = Metrics::install().unwrap();
        metrics::counter!(metric_name::HTTP_REQUESTS, "method" => "a.test.method", "status" => "200").increment(2);
        metrics::histogram!(metric_name::HTTP_REQUEST_SECONDS, "method" => "a.test.method").record(0.02);
        for text in [metrics.render(), again.render()] {
            assert!(text.contains("rookery_http_requests_total{method=\"a.test.method\",status=\"200\"} 2"), "{text}");
            assert!(text.contains("# HELP rookery_http_requests_total"), "{text}");
            assert!(
                text.contains("rookery_http_request_seconds_bucket{method=\"a.test.method\",le=\"0.025\"} 1"),
                "{text}"
            );
        }
    }

    #[test]
    fn names_say_the_server_and_the_unit() {
        for (name, kind, _) in ALL {
            assert!(name.starts_with("rookery_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(*kind != Kind::Histogram || name.ends_with("_seconds") || name.ends_with("_items"), "{name}");
        }
    }
}
