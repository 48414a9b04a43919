//! A PgBouncer of one test, in transaction mode.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Time in which PgBouncer answers.
const READY: Duration = Duration::from_secs(10);
/// Sessions of Postgres that all clients share.
const SESSIONS: u32 = 4;
const PROGRAMS: [&str; 2] = ["pgbouncer", "/usr/sbin/pgbouncer"];
/// The first version that keeps the prepared statements of its clients.
const KEEPS_STATEMENTS: (u32, u32) = (1, 21);

pub struct PgBouncer {
    port: u16,
    database: String,
    keeps_statements: bool,
    _folder: tempfile::TempDir,
    _child: Child,
}

impl PgBouncer {
    /// Before this database. A version that may keep prepared statements keeps as many for each session.
    pub async fn start(url: &str, max_prepared_statements: u32) -> Self {
        let (program, version) = program().await;
        let is_new = version >= KEEPS_STATEMENTS;
        let url = url::Url::parse(url).unwrap();
        let folder = crate::open_folder();
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let database = url.path().trim_start_matches('/').to_owned();
        let is_root = folder.path().metadata().unwrap().uid() == 0;
        let mut settings = settings(&url, port, is_new.then_some(max_prepared_statements));
        if is_root {
            // It refuses to run as root, and must reach the socket of Postgres.
            let owner = owner(&host(&url)).await;
            let _ = writeln!(settings, "user = {owner}");
        }
        std::fs::write(folder.path().join("pgbouncer.ini"), settings).unwrap();
        let child = Command::new(&program)
            .arg("-q")
            .arg(folder.path().join("pgbouncer.ini"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let keeps_statements = is_new && max_prepared_statements > 0;
        let pooler = Self { port, database, keeps_statements, _folder: folder, _child: child };
        let until = Instant::now() + READY;
        while PgConnection::connect(&pooler.url()).await.is_err() {
            assert!(Instant::now() < until, "PgBouncer did not answer in {} s", READY.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        pooler
    }

    pub fn url(&self) -> String {
        format!("postgres://rookery@127.0.0.1:{}/{}?sslmode=disable", self.port, self.database)
    }

    /// Whether this version, as it was started, keeps prepared statements.
    pub fn keeps_statements(&self) -> bool {
        self.keeps_statements
    }

    /// The most sessions of Postgres that it uses.
    pub const fn sessions() -> u32 {
        SESSIONS
    }
}

/// `PGBOUNCER_BIN`, or the distribution's program; and its version.
async fn program() -> (PathBuf, (u32, u32)) {
    let given = std::env::var_os("PGBOUNCER_BIN").map(PathBuf::from);
    for program in given.into_iter().chain(PROGRAMS.map(PathBuf::from)) {
        if let Some(version) = version(&program).await {
            return (program, version);
        }
    }
    panic!("no pgbouncer is installed: run staging/pgbouncer.sh");
}

async fn version(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.lines().next()?.strip_prefix("PgBouncer ")?;
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// The host of Postgres, or the folder of its socket.
fn host(url: &url::Url) -> String {
    let socket = url.query_pairs().find(|(name, _)| name == "host").map(|(_, folder)| folder.into_owned());
    socket.unwrap_or_else(|| url.host_str().unwrap().to_owned())
}

/// The name of the user whose folder that is.
async fn owner(folder: &str) -> String {
    let uid = std::fs::metadata(folder).map_or(0, |folder| folder.uid());
    if uid == 0 {
        return "nobody".to_owned();
    }
    let output = Command::new("id").args(["-nu", &uid.to_string()]).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn settings(url: &url::Url, port: u16, max_prepared_statements: Option<u32>) -> String {
    let (host, server_port, user) = (host(url), url.port().unwrap_or(5432), url.username());
    let mut text = format!(
        "[databases]\n* = host={host} port={server_port} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\nmax_client_conn = 500\n\
         default_pool_size = {SESSIONS}\nignore_startup_parameters = extra_float_digits\n"
    );
    if let Some(number) = max_prepared_statements {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "max_prepared_statements = {number}");
    }
    text
}
