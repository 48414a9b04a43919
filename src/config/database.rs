use std::path::PathBuf;

use secrecy::SecretString;

use super::ConfigError;
use super::values::Values;

/// Where the facts are kept.
#[derive(Clone, Debug)]
pub struct Database {
    /// A Postgres that the operator runs. Without it the server runs a private one in `data_dir`.
    pub url: Option<SecretString>,
    /// The URL of the database without a pooler; `url` then leads through a pooler.
    pub direct_url: Option<SecretString>,
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
        let postgres = |name: &'static str, unset: &str| {
            let Some(url) = values.text(name) else { return Ok(None) };
            let scheme = url::Url::parse(url).map(|url| url.scheme().to_owned()).unwrap_or_default();
            if matches!(scheme.as_str(), "postgres" | "postgresql") {
                return Ok(Some(SecretString::from(url)));
            }
            let fix = format!("set {name} to postgres://user:password@host/database, or unset it {unset}");
            Err(values.invalid(name, "not the URL of a Postgres", fix))
        };
        let url = postgres("DATABASE_URL", "for a private Postgres in DATA_DIR")?;
        let direct_url = postgres("DATABASE_DIRECT_URL", "where DATABASE_URL leads through no pooler")?;
        if direct_url.is_some() && url.is_none() {
            let fix = "set DATABASE_URL to the pooler, or unset DATABASE_DIRECT_URL";
            return Err(values.invalid("DATABASE_DIRECT_URL", "DATABASE_URL is not set", fix));
        }
        Ok(Self {
            url,
            direct_url,
            pool: values.number("DATABASE_POOL", 1..=1000)?,
            data_dir: PathBuf::from(values.text("DATA_DIR").unwrap_or_default()),
            least_free: values.number::<u64>("DISK_FREE_MIN_MIB", 0..=1_000_000_000)? << 20,
            pg_bin: values.text("PG_BIN").map(PathBuf::from),
        })
    }
}
