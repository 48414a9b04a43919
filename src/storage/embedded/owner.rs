use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{User, getegid, geteuid};

use super::EmbeddedError;
use super::folder::io;

/// The user who runs Postgres and owns its data. Postgres refuses to run as root, so a server that is root names
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// The server is root and becomes this user for Postgres alone.
    other: bool,
}

impl Owner {
    /// The owner of the data that is there, else this process, else `postgres`, else `nobody`.
    pub fn of(data: &Path) -> Result<Self, EmbeddedError> {
        let (ours, held) = (geteuid().as_raw(), std::fs::metadata(data).ok());
        match held {
            Some(held) if ours != 0 && held.uid() != ours => {
                Err(EmbeddedError::NotOwner { dir: data.to_owned(), owner: held.uid(), ours })
            }
            Some(held) if ours == 0 && held.uid() != 0 => Ok(Self { uid: held.uid(), gid: held.gid(), other: true }),
            _ if ours != 0 => Ok(Self { uid: ours, gid: getegid().as_raw(), other: false }),
            _ => ["postgres", "nobody"]
                .iter()
                .find_map(|name| User::from_name(name).ok().flatten())
                .filter(|user| !user.uid.is_root())
                .map(|user| Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), other: true })
                .ok_or(EmbeddedError::NoUser),
        }
    }

    /// A program that runs as this user, with nothing of our environment, and out of reach of a terminal's signals.
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").process_group(0);
        if self.other {
            // As root, `uid` drops our supplementary groups too.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives `path` and all that is in it to this user.
    pub fn give(self, path: &Path) -> Result<(), EmbeddedError> {
        if !self.other {
            return Ok(());
        }
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            std::os::unix::fs::lchown(&path, Some(self.uid), Some(self.gid)).map_err(io("give away", &path))?;
            if path.symlink_metadata().map_err(io("read", &path))?.is_dir() {
                for entry in std::fs::read_dir(&path).map_err(io("read", &path))? {
                    waiting.push(entry.map_err(io("read", &path))?.path());
                }
            }
        }
        Ok(())
    }

    /// Refuses a place that this user cannot get to. `data_dir` itself is ours, so it is opened for passing through
    /// (not for reading); folders above it are the operator's decision.
    pub fn reach(self, data_dir: &Path) -> Result<(), EmbeddedError> {
        if !self.other {
            return Ok(());
        }
        for folder in data_dir.ancestors() {
            let held = std::fs::metadata(folder).map_err(io("read", folder))?;
            let pass = match () {
                () if held.uid() == self.uid => 0o100,
                () if held.gid() == self.gid => 0o010,
                () => 0o001,
            };
            if held.mode() & pass != 0 {
                continue;
            }
            if folder != data_dir {
                return Err(EmbeddedError::Unreachable { folder: folder.to_owned(), user: self.uid });
            }
            let mode = std::fs::Permissions::from_mode((held.mode() & 0o7777) | pass);
            std::fs::set_permissions(folder, mode).map_err(io("open", folder))?;
        }
        Ok(())
    }
}
