use std::path::PathBuf;

use secrecy::SecretString;

use super::ConfigError;
use super::values::Values;

/// Where the facts are kept.
#[derive(Clone, Debug)]
pub struct Database {
    /// A Postgres that the operator runs. Without it the server runs a private one in `data_dir`.
    pub url: Option<SecretString>,
    /// Connections in the pools of this process.
    pub pool: u32,
    pub data_dir: PathBuf,
    /// Bytes that must stay free on the disk of the private Postgres.
    pub least_free: u64,
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
            least_free: values.number::<u64>("DISK_FREE_MIN_MIB", 0..=1_000_000_000)? << 20,
            pg_bin: values.text("PG_BIN").map(PathBuf::from),
        })
    }
}
