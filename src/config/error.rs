use std::path::PathBuf;

/// Why the settings do not let the server start. Every message names the setting and the fix; a secret's value is
/// never part of one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{name} is {shown} (from {origin}): {why}. Fix: {fix}")]
    Invalid { name: &'static str, shown: String, origin: String, why: String, fix: String },

    #[error("{name} is not set: {why}. Fix: {fix}")]
    Missing { name: &'static str, why: &'static str, fix: &'static str },

    #[error("{name} is set (in {origin}), but {why}. Fix: {fix}")]
    NotYet { name: &'static str, origin: String, why: &'static str, fix: &'static str },

    #[error("{name} in the environment is not UTF-8. Fix: set it again, as text")]
    NotText { name: &'static str },

    #[error("the environment variable {name} is no setting of this server{}. Fix: unset it, or correct its name; \
             `rookery config` lists every setting", meant(*.nearest))]
    UnknownVariable { name: String, nearest: Option<&'static str> },

    #[error("{}: `{key}` is no setting of this server{}. Fix: remove it, or correct its name; keys are the names of \
             the variables in lower case", path.display(), meant(*.nearest))]
    UnknownKey { path: PathBuf, key: String, nearest: Option<&'static str> },

    #[error("{}: `{key}` is {found}. Fix: give a string, an integer, true or false, or an array of strings", path.display())]
    WrongShape { path: PathBuf, key: String, found: &'static str },

    #[error("the settings file {} cannot be read. Fix: correct ROOKERY_CONFIG or --config, or make it readable", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },

    #[error("the settings file {} holds {name}, a secret, and everybody on this machine may use the file (mode \
             {mode:04o}). Fix: give it mode 0600, or 0640 with the server's group; or set {name} in the environment",
             path.display())]
    ReadableByOthers { path: PathBuf, name: &'static str, mode: u32 },

    #[error("the settings file {} is not TOML: {why}. Fix: one `name = value` a line", path.display())]
    NotToml { path: PathBuf, why: String },
}

fn meant(name: Option<&'static str>) -> String {
    name.map(|name| format!(" (is {name} meant?)")).unwrap_or_default()
}
