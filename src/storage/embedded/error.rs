use std::path::PathBuf;

/// Why the private Postgres does not run. Every message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "no Postgres {least} or newer was found on this machine. Fix: install one (Debian, Ubuntu: \
         `apt-get install postgresql`; macOS: `brew install postgresql@17`), or set PG_BIN to the folder of its \
         `postgres` and `initdb`, or set DATABASE_URL to a Postgres that you run"
    )]
    NoPrograms { least: u32 },

    #[error("PG_BIN is {}, which has no usable `postgres` and `initdb` of version {least} or newer. Fix: correct PG_BIN, \
             or unset it to search this machine", dir.display())]
    BadPrograms { dir: PathBuf, least: u32 },

    #[error(
        "the data in {} was made by Postgres {found}, but this machine has {available}. Fix: install Postgres {found} \
         (or set PG_BIN to it); to change versions, dump the data with {found} and restore it into a new DATA_DIR, or \
         run pg_upgrade", dir.display()
    )]
    WrongMajor { dir: PathBuf, found: u32, available: String },

    #[error("{} is neither empty nor the data of a Postgres. Fix: move it away, or set DATA_DIR to another folder", dir.display())]
    NotACluster { dir: PathBuf },

    #[error("DATA_DIR {} is in use by another running server. Fix: stop that server, or set DATA_DIR to another folder", dir.display())]
    InUse { dir: PathBuf },

    #[error("{} belongs to user {owner}, but this server runs as user {ours}. Fix: `chown -R {ours} {}`, or start the \
             server as its owner or as root", dir.display(), dir.display())]
    NotOwner { dir: PathBuf, owner: u32, ours: u32 },

    #[error(
        "Postgres refuses to run as root, and this machine has neither a user `postgres` nor `nobody` to run it as. \
             Fix: start the server as another user, or create one with `useradd --system postgres`"
    )]
    NoUser,

    #[error("Postgres runs as user {user}, who cannot pass through {}. Fix: set DATA_DIR to a folder outside of it, \
             such as /var/lib/rookery, or `chmod o+x {}`", folder.display(), folder.display())]
    Unreachable { folder: PathBuf, user: u32 },

    #[error("the socket folder {} is not a private folder of user {user}. Fix: remove it, or set DATA_DIR to a shorter \
             path, so that the socket fits in there", dir.display())]
    SocketFolder { dir: PathBuf, user: u32 },

    #[error("process {pid} still runs Postgres on {} and does not stop. Fix: end it, then start again", dir.display())]
    Stubborn { pid: i32, dir: PathBuf },

    #[error("`initdb` could not make a database in {}: {output}. Fix: what it says, then start again", dir.display())]
    Initdb { dir: PathBuf, output: String },

    #[error("Postgres ended while it started ({status}): {tail}. Fix: what it says; the rest is in {}", log.display())]
    Ended { status: String, tail: String, log: PathBuf },

    #[error("Postgres did not stop in good order ({status}): {tail}. The next start recovers by itself")]
    Unclean { status: String, tail: String },

    #[error("Postgres did not become ready within {seconds} s. Fix: see {}; a long recovery goes on at the next start", log.display())]
    Slow { seconds: u64, log: PathBuf },

    #[error("cannot {doing} {}. Fix: make DATA_DIR a folder that this user may write, with room on its disk", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },

    #[error("cannot prepare the database `rookery`. Fix: see postgres.log in DATA_DIR")]
    Database(#[from] sqlx::Error),

    #[error("the server is stopping")]
    Stopping,
}
