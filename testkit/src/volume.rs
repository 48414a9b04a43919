//! A Postgres whose files may be copied, put back and killed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rookery::storage::embedded::{Cluster, Options};

const CONNECTIONS: u32 = 100;

/// The files of one cluster, and Postgres while it runs on them.
pub struct Volume {
    folder: tempfile::TempDir,
    cluster: Option<Cluster>,
}

impl Volume {
    /// A new cluster: its transaction ids begin anew.
    pub async fn start() -> Self {
        let mut volume = Self { folder: crate::open_folder(), cluster: None };
        volume.restart().await;
        volume
    }

    pub fn url(&self, database: &str) -> String {
        self.cluster.as_ref().unwrap().url(database)
    }

    pub fn pid(&self) -> u32 {
        self.cluster.as_ref().unwrap().pid()
    }

    /// Starts Postgres on what is there, after whatever end the last one had.
    pub async fn restart(&mut self) {
        self.cluster = None;
        let options = Options {
            data_dir: self.folder.path().to_owned(),
            pg_bin: crate::postgres::pg_bin(),
            max_connections: CONNECTIONS,
            durable: false,
        };
        self.cluster = Some(Cluster::start(options).await.unwrap());
    }

    pub async fn stop(&mut self) {
        self.cluster.take().unwrap().stop().await.unwrap();
    }

    /// A copy of the files, with Postgres stopped meanwhile.
    pub async fn snapshot(&mut self) -> tempfile::TempDir {
        self.stop().await;
        let copy = tempfile::tempdir().unwrap();
        copy_all(&self.data(), &copy.path().join("postgres"));
        self.restart().await;
        copy
    }

    /// Puts older files in the place of the present ones, as a volume that is rolled back does.
    pub async fn roll_back_to(&mut self, snapshot: &tempfile::TempDir) {
        self.stop().await;
        std::fs::remove_dir_all(self.data()).unwrap();
        copy_all(&snapshot.path().join("postgres"), &self.data());
        self.restart().await;
    }

    /// Everything in the database, as SQL.
    pub fn dump(&self, database: &str) -> Vec<u8> {
        let dump = Command::new(programs().join("pg_dump")).arg(self.url(database)).output().unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        dump.stdout
    }

    /// Leaves an empty database in the place of one that is connected to by none.
    pub fn recreate(&self, database: &str) {
        for statement in [format!("drop database {database} with (force)"), format!("create database {database}")] {
            let mut psql = Command::new(programs().join("psql"));
            let ran = psql.args(["-X", "-q", "-c", &statement]).arg(self.url("postgres")).output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        }
    }

    /// Runs what `dump` gave in an empty database.
    pub fn load(&self, database: &str, dump: &[u8]) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), dump).unwrap();
        let mut psql = Command::new(programs().join("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(file.path()).arg(self.url(database));
        let loaded = psql.output().unwrap();
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    }

    /// Starts it as one starts a backup that is to recover from an archive: it goes on with a timeline of its own.
    pub async fn restart_on_a_new_timeline(&mut self) {
        self.stop().await;
        let (data, auto) = (self.data(), self.data().join("postgresql.auto.conf"));
        let mut settings = std::fs::read_to_string(&auto).unwrap();
        settings.push_str("restore_command = 'false'\n");
        std::fs::write(&auto, settings).unwrap();
        let signal = data.join("recovery.signal");
        std::fs::write(&signal, "").unwrap();
        let owner = std::fs::metadata(&data).unwrap();
        std::os::unix::fs::chown(&signal, Some(owner.uid()), Some(owner.gid())).unwrap();
        self.restart().await;
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("postgres")
    }
}

/// Where Postgres keeps its programs on this machine.
fn programs() -> PathBuf {
    if let Some(bin) = crate::postgres::pg_bin() {
        return bin;
    }
    let found = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../staging/postgres.sh")).output().unwrap();
    String::from_utf8(found.stdout).unwrap().trim().into()
}

/// With owners and modes.
fn copy_all(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
