use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::owner::Owner;
use super::programs::Programs;
use super::{EmbeddedError, Options};
use crate::types::Hash;

/// Longest path of a socket, in bytes, on any system that we run on (macOS 103, Linux 107).
const SOCKET_BYTES_MAX: usize = 103;
/// The name that Postgres gives the socket of port 5432.
const SOCKET_NAME: &str = ".s.PGSQL.5432";
/// A log that has grown beyond this is put aside at the next start; one older log is kept.
const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// Adds what was being done to an error of the file system.
pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EmbeddedError {
    move |source| EmbeddedError::Io { doing, path: path.to_owned(), source }
}

/// `DATA_DIR` as Postgres uses it, held by one server at a time.
pub(super) struct Folder {
    /// The data directory of Postgres.
    pub data: PathBuf,
    pub socket: PathBuf,
    pub log: PathBuf,
    pub owner: Owner,
    pub programs: Programs,
    /// The system takes the lock back when this process ends, however it ends.
    _lock: File,
}

impl Folder {
    /// Makes what is missing, and refuses what is not ours to use. Blocks: `initdb` takes a second or two.
    pub fn prepare(options: &Options) -> Result<Self, EmbeddedError> {
        std::fs::create_dir_all(&options.data_dir).map_err(io("make", &options.data_dir))?;
        let data_dir = options.data_dir.canonicalize().map_err(io("read", &options.data_dir))?;
        let lock = lock(&data_dir)?;

        let data = data_dir.join("postgres");
        let found = version(&data)?;
        let programs = Programs::choose(Programs::find(options.pg_bin.as_deref())?, found, &data)?;
        let owner = Owner::of(&data)?;
        owner.reach(&data_dir)?;
        if found.is_none() {
            make(&data_dir, &data, owner, &programs, options.durable)?;
        } else if data.metadata().map_err(io("read", &data))?.uid() != owner.uid {
            owner.give(&data)?;
        }
        Ok(Self {
            socket: socket(&data, owner)?,
            log: data_dir.join("postgres.log"),
            data,
            owner,
            programs,
            _lock: lock,
        })
    }

    /// The log for a new run, and where that run begins in it.
    pub fn open_log(&self) -> Result<(File, u64), EmbeddedError> {
        if self.log.metadata().is_ok_and(|held| held.len() > LOG_BYTES_MAX) {
            std::fs::rename(&self.log, self.log.with_extension("log.1")).map_err(io("put aside", &self.log))?;
        }
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.log);
        let file = opened.map_err(io("write", &self.log))?;
        let begin = file.metadata().map_err(io("read", &self.log))?.len();
        Ok((file, begin))
    }
}

fn lock(data_dir: &Path) -> Result<File, EmbeddedError> {
    let path = data_dir.join("rookery.lock");
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(io("write", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EmbeddedError::InUse { dir: data_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io("lock", &path)(source)),
    }
}

/// The version that made the data; `None` where there is none yet.
fn version(data: &Path) -> Result<Option<u32>, EmbeddedError> {
    let not_a_cluster = || EmbeddedError::NotACluster { dir: data.to_owned() };
    match std::fs::read_to_string(data.join("PG_VERSION")) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| not_a_cluster()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let empty = std::fs::read_dir(data).map_or(true, |mut entries| entries.next().is_none());
            if empty { Ok(None) } else { Err(not_a_cluster()) }
        }
        Err(source) => Err(io("read", data)(source)),
    }
}

/// `initdb` beside the final place, then one rename: a crash in between leaves no half-made data behind.
fn make(data_dir: &Path, data: &Path, owner: Owner, programs: &Programs, durable: bool) -> Result<(), EmbeddedError> {
    let unfinished = data_dir.join("postgres.new");
    match std::fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("remove", &unfinished)(error)),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&unfinished).map_err(io("make", &unfinished))?;
    owner.give(&unfinished)?;

    let mut command = owner.command(&programs.dir.join("initdb"));
    command.current_dir(&unfinished).arg("--pgdata").arg(&unfinished);
    // Only users with access to the socket's folder reach the password-less socket.
    command.args(["--username=rookery", "--auth-local=trust", "--auth-host=reject"]);
    command.args(["--encoding=UTF8", "--locale=C", "--data-checksums"]);
    if !durable {
        command.arg("--no-sync");
    }
    let output = command.output().map_err(io("run initdb for", &unfinished))?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " / ");
        return Err(EmbeddedError::Initdb { dir: unfinished, output });
    }
    std::fs::rename(&unfinished, data).map_err(io("rename to", data))?;
    File::open(data_dir).and_then(|folder| folder.sync_all()).map_err(io("write", data_dir))
}

/// The folder of the socket: the data's own, or where that path is too long for a socket, a private one in /tmp. Its
/// name follows from the data's, so that the next start finds what this one left.
pub(super) fn socket(data: &Path, owner: Owner) -> Result<PathBuf, EmbeddedError> {
    let fits = data.as_os_str().len() + 1 + SOCKET_NAME.len() <= SOCKET_BYTES_MAX;
    if fits && data.to_str().is_some() {
        return Ok(data.to_owned());
    }
    let name = hex::encode(&Hash::of(data.as_os_str().as_encoded_bytes()).as_slice()[..8]);
    let dir = PathBuf::from(format!("/tmp/rookery-{name}"));
    match DirBuilder::new().mode(0o700).create(&dir) {
        Ok(()) => owner.give(&dir)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io("make", &dir)(error)),
    }
    // Another user may have created the folder: then it is not used.
    let held = dir.symlink_metadata().map_err(io("read", &dir))?;
    if !held.is_dir() || held.uid() != owner.uid || held.permissions().mode() & 0o077 != 0 {
        return Err(EmbeddedError::SocketFolder { dir, user: owner.uid });
    }
    Ok(dir)
}
