use std::path::PathBuf;

use secrecy::SecretString;

use super::ConfigError;
use super::values::Values;

/// Where the facts are kept.
#[derive(Clone, Debug)]
pub struct Database {
    /// A Postgres that the operator runs. Without it the server runs a private one in `data_dir`.
    pub url: Option<SecretString>,
    /// Connections in the pool of this replica.
    pub pool: u32,
    pub data_dir: PathBuf,
    /// Folder of the programs for the private Postgres; searched for without.
    pub pg_bin: Option<PathBuf>,
}

impl Database {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        if let Some(url) = values.text("DATABASE_URL") {
            let scheme = url::Url::parse(url).map(|url| url.scheme().to_owned()).unwrap_or_default();
            if !matches!(scheme.as_str(), "postgres" | "postgresql") {
                return Err(values.invalid(
                    "DATABASE_URL",
                    "not the URL of a Postgres",
                    "set DATABASE_URL to postgres://user:password@host/database, or unset it for a private Postgres \
                     in DATA_DIR",
                ));
            }
        }
        Ok(Self {
            url: values.text("DATABASE_URL").map(SecretString::from),
            pool: values.number("DATABASE_POOL", 1..=1000)?,
            data_dir: PathBuf::from(values.text("DATA_DIR").unwrap_or_default()),
            pg_bin: values.text("PG_BIN").map(PathBuf::from),
        })
    }
}
