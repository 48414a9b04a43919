//! Invariant: this is the only reader of the environment, and nothing that an operator wrote is ignored. A wrong
//! value, an unknown key of the file and an unknown `ROOKERY_*` variable all stop the start, each with its fix.
//!
//! A setting comes from the environment, else from a flat TOML file, else from its default; `settings` lists them all.
//! What is deliberately absent: reloading. Settings change by a restart.

mod database;
mod development;
mod error;
mod federation;
mod http;
mod identity;
mod limits;
mod log;
mod operator;
mod quotas;
mod role;
mod settings;
mod streams;
mod telemetry;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use database::Database;
pub use development::{REFUSED, Refused};
pub use error::ConfigError;
pub use federation::{Federation, Mode, PeerRates};
pub use http::{Bodies, Http};
pub use identity::{Admission, Identity, Invitations};
pub use limits::{AccountRates, AddressRates, DomainRates, Limits, LookupRates, OverallRates, Rate};
pub use log::{Log, Retention, SubscriberBuffer};
pub use operator::OperatorInfo;
pub use quotas::Quotas;
pub use role::Role;
pub use settings::{Fallback, SETTINGS, Setting, markdown};
pub use streams::Streams;
pub use telemetry::{LogFormat, Telemetry};
pub use values::Origin;

use secrecy::SecretString;
use values::Values;

/// Everything that an operator decides, parsed and judged.
#[derive(Clone, Debug)]
pub struct Config {
    pub environment: Environment,
    pub role: Role,
    pub http: Http,
    pub database: Database,
    pub identity: Identity,
    pub limits: Limits,
    pub federation: Federation,
    pub log: Log,
    pub quotas: Quotas,
    pub streams: Streams,
    pub telemetry: Telemetry,
    pub operator: OperatorInfo,
    shown: Vec<Shown>,
    /// What only development may have, and has.
    weakened: Vec<&'static Refused>,
}

/// Production unless somebody says otherwise: what development opens must be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    Production,
    Development,
}

/// One setting as `rookery config` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub name: &'static str,
    /// `None`: not set. A secret shows that it is set, never its value.
    pub value: Option<String>,
    pub origin: Origin,
}

impl Config {
    /// Reads and judges every setting. `file` is the operand of `--config`; without it, `ROOKERY_CONFIG` of `env`
    /// names the file, and without that there is none.
    pub fn load(env: &BTreeMap<String, String>, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut values = gather(env, file)?;
        let environment = values.one_of(
            "ROOKERY_ENV",
            &[("production", Environment::Production), ("development", Environment::Development)],
        )?;
        if environment == Environment::Production {
            development::refuse(&values)?;
        }
        let weakened = development::in_force(&values).collect();

        let identity = Identity::read(&mut values, environment)?;
        let telemetry = Telemetry::read(&mut values, environment)?;
        let http = Http::read(&mut values, environment)?;
        let (database, log) = (Database::read(&values)?, Log::read(&values)?);
        let (streams, limits) = (Streams::read(&values)?, Limits::read(&values)?);
        let (federation, operator) = (Federation::read(&values)?, OperatorInfo::read(&values)?);
        let (quotas, role) = (Quotas::read(&values)?, Role::read(&values)?);
        let shown = SETTINGS
            .iter()
            .map(|setting| Shown {
                name: setting.name,
                value: values.shown(setting.name),
                origin: values.origin(setting.name),
            })
            .collect();
        Ok(Self {
            environment,
            role,
            http,
            database,
            identity,
            limits,
            federation,
            log,
            quotas,
            streams,
            telemetry,
            operator,
            shown,
            weakened,
        })
    }

    /// Reads the environment of this process.
    pub fn from_process(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load(&process_environment()?, file)
    }

    /// Every setting with the value in force, in the order of the table.
    pub fn describe(&self) -> &[Shown] {
        &self.shown
    }

    pub fn is_production(&self) -> bool {
        self.environment == Environment::Production
    }

    /// What an operator should hear at every start: settings that make the server weaker than its default.
    pub fn warnings(&self) -> Vec<String> {
        let development = "ROOKERY_ENV=development: loopback is open to outbound calls; not for real users";
        let weakened = self.weakened.iter().map(|row| format!("{}: {}", row.name, row.why));
        (!self.is_production()).then(|| development.to_owned()).into_iter().chain(weakened).collect()
    }
}

/// ROOKERY_PDS_PASSWORD alone: who publishes lexicons need not have the settings of a server. Whatever else is set is
/// still refused if no setting has that name.
pub fn publisher(file: Option<&Path>) -> Result<Publisher, ConfigError> {
    let values = gather(&process_environment()?, file)?;
    Ok(Publisher {
        pds_password: values.text("ROOKERY_PDS_PASSWORD").map(SecretString::from),
        outbound_ca: values.text("OUTBOUND_CA").map(PathBuf::from),
    })
}

/// The settings that `rookery lexicons publish` reads, which need not be those of a server.
pub struct Publisher {
    pub pds_password: Option<SecretString>,
    pub outbound_ca: Option<PathBuf>,
}

fn gather(env: &BTreeMap<String, String>, file: Option<&Path>) -> Result<Values, ConfigError> {
    let named = env.get("ROOKERY_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    Values::gather(env, file.or(named.as_deref()))
}

fn process_environment() -> Result<BTreeMap<String, String>, ConfigError> {
    let mut env = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        // A name that is not text is no setting; a setting whose value is not text is a mistake.
        let Ok(name) = name.into_string() else { continue };
        match (value.into_string(), settings::find(&name)) {
            (Ok(value), _) => drop(env.insert(name, value)),
            (Err(_), Some(setting)) => return Err(ConfigError::NotText { name: setting.name }),
            (Err(_), None) => {}
        }
    }
    Ok(env)
}

/// The folders of `PATH`, in its order: where programs are looked for.
pub fn executable_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}
