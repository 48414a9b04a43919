use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::json_lines::JsonLines;
use crate::config::{LogFormat, Telemetry};

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("RUST_LOG is not a filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("this process logs already")]
    Installed(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Sends what is logged to standard error from here on: standard output belongs to what commands answer.
pub fn install_tracing(settings: &Telemetry) -> Result<(), TelemetryError> {
    tracing::subscriber::set_global_default(subscriber(settings, std::io::stderr)?)?;
    Ok(())
}

fn subscriber<W>(
    settings: &Telemetry,
    writer: W,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, tracing_subscriber::filter::ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(&settings.filter)?).with_writer(writer);
    Ok(match settings.format {
        LogFormat::Json => Box::new(builder.json().event_format(JsonLines).finish()),
        LogFormat::Text => Box::new(builder.finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat) -> String {
        logging(format, || {
            let _span = tracing::info_span!("request", request.id = "r1").entered();
            tracing::info!(status = 200, duration_us = 1_u128, "answered");
            tracing::debug!("not this");
        })
    }

    fn logging(format: LogFormat, work: impl FnOnce()) -> String {
        let settings = Telemetry { filter: "info".to_owned(), format, hash_key: None };
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(&settings, move || writer.clone()).unwrap(), work);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line_with_its_fields_at_the_top() {
        let text = logged(LogFormat::Json);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&line["status"], &line["message"]), (&200.into(), &"answered".into()));
        assert_eq!(line["duration_us"], 1, "numbers are numbers");
        assert_eq!((&line["level"], &line["span"]["name"]), (&"INFO".into(), &"request".into()));
        assert!(line["timestamp"].is_string() && line["target"].is_string(), "{text}");
        assert_eq!(line["span"]["request.id"], "r1");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn an_error_is_logged_with_its_causes_in_both_formats() {
        let failing = || {
            let error = Outer("x".parse::<i32>().unwrap_err());
            tracing::error!(error = &error as &dyn std::error::Error, "failed");
        };
        let line: serde_json::Value = serde_json::from_str(logging(LogFormat::Json, failing).trim()).unwrap();
        assert_eq!(line["error"], "outer");
        assert_eq!(line["error.causes"], serde_json::json!(["invalid digit found in string"]));
        let text = logging(LogFormat::Text, failing);
        assert!(text.contains("outer") && text.contains("invalid digit found in string"), "{text}");
    }

    #[test]
    fn text_is_for_people() {
        let text = logged(LogFormat::Text);
        assert!(text.contains("answered") && text.contains("status") && !text.contains("not this"), "{text}");
    }
}
