use std::path::{Path, PathBuf};
use std::process::Command;

use super::EmbeddedError;
use crate::config;

/// The oldest Postgres that the schema and the log's snapshot functions are tested on.
pub(super) const MAJOR_MIN: u32 = 14;

/// Where distributions put each version, newest or not. `*` stands for one name, or a part of one.
const USUAL: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// A folder with `postgres` and `initdb` of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    pub dir: PathBuf,
    pub major: u32,
}

impl Programs {
    /// Finds the programs of `PG_BIN`, or all versions on this machine, newest first.
    pub fn find(pg_bin: Option<&Path>) -> Result<Vec<Self>, EmbeddedError> {
        if let Some(dir) = pg_bin {
            let programs = Self::in_folder(dir);
            return programs
                .map(|programs| vec![programs])
                .ok_or_else(|| EmbeddedError::BadPrograms { dir: dir.to_owned(), least: MAJOR_MIN });
        }
        let folders = config::executable_path().into_iter().chain(USUAL.iter().flat_map(|pattern| expand(pattern)));
        let mut found: Vec<Self> = Vec::new();
        for programs in folders.filter_map(|dir| Self::in_folder(&dir)) {
            if !found.contains(&programs) {
                found.push(programs);
            }
        }
        found.sort_by_key(|programs| std::cmp::Reverse(programs.major));
        if found.is_empty() { Err(EmbeddedError::NoPrograms { least: MAJOR_MIN }) } else { Ok(found) }
    }

    /// Follows links, so that two ways to one installation count once.
    fn in_folder(dir: &Path) -> Option<Self> {
        let postgres = dir.join("postgres").canonicalize().ok()?;
        let dir = postgres.parent().filter(|dir| dir.join("initdb").is_file())?.to_owned();
        let output = Command::new(&postgres).arg("--version").output().ok().filter(|output| output.status.success())?;
        let major = major(&String::from_utf8_lossy(&output.stdout))?;
        (major >= MAJOR_MIN).then_some(Self { dir, major })
    }

    /// The ones that fit data of version `found`; the newest for new data.
    pub fn choose(available: Vec<Self>, found: Option<u32>, data: &Path) -> Result<Self, EmbeddedError> {
        let versions: Vec<_> = available.iter().map(|programs| programs.major.to_string()).collect();
        available.into_iter().find(|programs| found.is_none_or(|found| found == programs.major)).ok_or_else(|| {
            EmbeddedError::WrongMajor {
                dir: data.to_owned(),
                found: found.unwrap_or_default(),
                available: versions.join(", "),
            }
        })
    }
}

/// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    number.split(|other: char| !other.is_ascii_digit()).next()?.parse().ok()
}

/// The folders that fit a pattern with at most one `*`.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let rest = after.trim_start_matches('/');
    let Ok(names) = std::fs::read_dir(parent) else { return Vec::new() };
    names
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| if rest.is_empty() { entry.path() } else { entry.path().join(rest) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("postgres"), None);
    }

    #[test]
    fn a_pattern_stands_for_the_folders_that_fit_it() {
        let root = tempfile::tempdir().unwrap();
        for name in ["pg-14/bin", "pg-15/bin", "other/bin"] {
            std::fs::create_dir_all(root.path().join(name)).unwrap();
        }
        let mut found = expand(&format!("{}/pg-*/bin", root.path().display()));
        found.sort();
        assert_eq!(found, [root.path().join("pg-14/bin"), root.path().join("pg-15/bin")]);
        assert_eq!(expand("/nowhere/at/all/*/bin"), Vec::<PathBuf>::new());
    }

    #[test]
    fn new_data_takes_the_newest_and_old_data_its_own() {
        let programs = |major| Programs { dir: PathBuf::from(format!("/pg/{major}")), major };
        let both = || vec![programs(17), programs(15)];
        assert_eq!(Programs::choose(both(), None, Path::new("/d")).unwrap().major, 17);
        assert_eq!(Programs::choose(both(), Some(15), Path::new("/d")).unwrap().major, 15);
        let message = Programs::choose(both(), Some(13), Path::new("/d")).unwrap_err().to_string();
        assert!(message.contains("made by Postgres 13, but this machine has 17, 15"), "{message}");
    }

    #[test]
    fn a_wrong_pg_bin_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let error = Programs::find(Some(empty.path())).unwrap_err();
        assert!(error.to_string().starts_with("PG_BIN is "), "{error}");
    }
}
