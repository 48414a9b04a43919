//! A Postgres whose files may be copied, put back and killed.

use std::path::Path;

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
        let mut volume = Self { folder: super::open_folder(), cluster: None };
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
            pg_bin: None,
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

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("postgres")
    }
}

/// With owners and modes.
fn copy_all(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
