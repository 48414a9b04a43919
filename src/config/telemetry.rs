use secrecy::SecretString;

use super::values::Values;
use super::{ConfigError, Environment};

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Directives of tracing's EnvFilter; known to parse.
    pub filter: String,
    pub format: LogFormat,
    /// Accounts appear in logs as a hash under this key; a random one is made without.
    pub hash_key: Option<SecretString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Shorter keys could be guessed, and with one every hash in the logs.
const HASH_KEY_CHARACTERS_MIN: usize = 16;

impl Telemetry {
    pub(super) fn read(values: &mut Values, environment: Environment) -> Result<Self, ConfigError> {
        values.text_or("LOG_FORMAT", || match environment {
            Environment::Production => "json".to_owned(),
            Environment::Development => "text".to_owned(),
        });
        let filter = values.text("RUST_LOG").unwrap_or_default().to_owned();
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&filter) {
            let fix = "set RUST_LOG to directives such as info or info,rookery=debug";
            return Err(values.invalid("RUST_LOG", error.to_string(), fix));
        }
        let hash_key = values.text("LOG_HASH_KEY");
        if hash_key.is_some_and(|key| key.len() < HASH_KEY_CHARACTERS_MIN) {
            let why = format!("shorter than {HASH_KEY_CHARACTERS_MIN} characters");
            return Err(values.invalid("LOG_HASH_KEY", why, "set it to the output of `openssl rand -hex 32`"));
        }
        Ok(Self {
            filter,
            format: values.one_of("LOG_FORMAT", &[("json", LogFormat::Json), ("text", LogFormat::Text)])?,
            hash_key: hash_key.map(SecretString::from),
        })
    }
}
