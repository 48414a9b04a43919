use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::str::FromStr;

use super::ConfigError;
use super::settings::{self, Fallback, NOT_YET, SETTINGS};

/// Bits of a file's mode that give rights to all users.
const OTHERS: u32 = 0o007;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Environment,
    File,
    Default,
}

impl Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Environment => "the environment",
            Self::File => "the settings file",
            Self::Default => "its default",
        })
    }
}

/// Every setting that has a value, before anybody judged it.
pub(super) struct Values(BTreeMap<&'static str, (String, Origin)>);

impl Values {
    /// Defaults, then the file, then the environment. An empty variable counts as not set, as compose files and
    /// shells leave them behind.
    pub fn gather(env: &BTreeMap<String, String>, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut values = Self(BTreeMap::new());
        for setting in SETTINGS {
            if let Fallback::Is(value) = setting.default {
                values.0.insert(setting.name, (value.to_owned(), Origin::Default));
            }
        }
        if let Some(path) = file {
            values.read_file(path)?;
        }
        for (name, value) in env.iter().filter(|(_, value)| !value.is_empty()) {
            refuse_not_yet(name, value, "the environment")?;
            if let Some(setting) = settings::find(name) {
                values.0.insert(setting.name, (value.clone(), Origin::Environment));
            } else if name.starts_with("ROOKERY_") {
                return Err(ConfigError::UnknownVariable { name: name.clone(), nearest: nearest(name) });
            }
        }
        Ok(values)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        // Checks the open file, which is the file that is read.
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(unreadable)?;
        // The parser's own message quotes the line, which may hold a secret.
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::NotToml {
            path: path.to_owned(),
            why: error.message().to_owned(),
        })?;
        for (key, value) in table {
            let name = key.to_uppercase();
            let wrong = |found| ConfigError::WrongShape { path: path.to_owned(), key: key.clone(), found };
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                toml::Value::Array(items) => items
                    .iter()
                    .map(toml::Value::as_str)
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| wrong("an array of something else than strings"))?
                    .join(","),
                toml::Value::Table(_) => return Err(wrong("a table, but the file is flat")),
                toml::Value::Float(_) => return Err(wrong("a number with a fraction")),
                toml::Value::Datetime(_) => return Err(wrong("a date")),
            };
            refuse_not_yet(&name, &text, &path.display().to_string())?;
            // Lower case only. ROOKERY_CONFIG names the file, so it cannot stand in it.
            let known = settings::find(&name).filter(|_| key == name.to_lowercase() && name != "ROOKERY_CONFIG");
            let Some(setting) = known else {
                return Err(ConfigError::UnknownKey { path: path.to_owned(), key, nearest: nearest(&name) });
            };
            if setting.secret && mode & OTHERS != 0 && !text.is_empty() {
                return Err(ConfigError::ReadableByOthers { path: path.to_owned(), name: setting.name, mode });
            }
            self.0.insert(setting.name, (text, Origin::File));
        }
        Ok(())
    }

    pub fn text(&self, name: &'static str) -> Option<&str> {
        self.0.get(name).map(|(value, _)| value.as_str())
    }

    /// The parts of a value that is a list.
    pub fn list(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.text(name).unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
    }

    pub fn origin(&self, name: &'static str) -> Origin {
        self.0.get(name).map_or(Origin::Default, |(_, origin)| *origin)
    }

    /// The value, or one worked out from other settings, which `describe` then shows.
    pub fn text_or(&mut self, name: &'static str, default: impl FnOnce() -> String) -> String {
        self.0.entry(name).or_insert_with(|| (default(), Origin::Default)).0.clone()
    }

    pub fn parsed<T: FromStr>(&self, name: &'static str, why: &str, fix: &str) -> Result<T, ConfigError> {
        self.text(name).unwrap_or_default().parse().map_err(|_| self.invalid(name, why, fix))
    }

    pub fn number<T>(&self, name: &'static str, range: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let (least, most) = (range.start(), range.end());
        let why = format!("not a whole number from {least} to {most}");
        let fix = format!("set {name} to a whole number from {least} to {most}, without a unit");
        let number = self.parsed(name, &why, &fix)?;
        if range.contains(&number) { Ok(number) } else { Err(self.invalid(name, why, fix)) }
    }

    pub fn flag(&self, name: &'static str) -> Result<bool, ConfigError> {
        self.one_of(name, &[("true", true), ("false", false), ("1", true), ("0", false)])
    }

    pub fn one_of<T: Copy>(&self, name: &'static str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let given = self.text(name).unwrap_or_default();
        choices.iter().find(|(choice, _)| *choice == given).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            self.invalid(name, "not one of its values", format!("set {name} to one of: {}", names.join(", ")))
        })
    }

    /// An error about a setting that has a value. A secret's value stays out of it.
    pub fn invalid(&self, name: &'static str, why: impl Into<String>, fix: impl Into<String>) -> ConfigError {
        let shown = match self.shown(name) {
            Some(value) => format!("`{value}`"),
            None => "not set".to_owned(),
        };
        ConfigError::Invalid { name, shown, origin: self.origin(name).to_string(), why: why.into(), fix: fix.into() }
    }

    pub fn shown(&self, name: &'static str) -> Option<String> {
        let secret = settings::find(name).is_some_and(|setting| setting.secret);
        self.text(name).map(|value| if secret { "(hidden)".to_owned() } else { value.to_owned() })
    }
}

fn refuse_not_yet(name: &str, value: &str, origin: &str) -> Result<(), ConfigError> {
    let asks_for_nothing = matches!(value, "" | "false" | "off" | "0");
    match NOT_YET.iter().find(|(refused, ..)| *refused == name) {
        Some((name, why, fix)) if !asks_for_nothing => {
            Err(ConfigError::NotYet { name, origin: origin.to_owned(), why, fix })
        }
        _ => Ok(()),
    }
}

/// The setting whose name is closest, if one is close enough to be a slip of the hand.
fn nearest(name: &str) -> Option<&'static str> {
    let stem = name.trim_start_matches("ROOKERY_");
    let distance = |setting: &'static str| edits(setting, name).min(edits(setting, stem));
    SETTINGS.iter().map(|setting| setting.name).min_by_key(|name| distance(name)).filter(|name| distance(name) <= 2)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
