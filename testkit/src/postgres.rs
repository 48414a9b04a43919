//! A database for each test, from a template that was migrated once.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rookery::storage::Storage;
use rookery::storage::embedded::{Cluster, Options};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::Mutex;

/// Anything: the same number for all who make the template.
const TEMPLATE_LOCK: i64 = 0x0052_6f6f_6b65_7279;
const CONNECTIONS: u32 = 300;

/// The cluster of this process, for as long as a test holds it.
static OWN: Mutex<Weak<OwnCluster>> = Mutex::const_new(Weak::new());

struct OwnCluster {
    cluster: Cluster,
    _folder: tempfile::TempDir,
}

/// A database of one test, dropped with it.
pub struct TestDatabase {
    pub url: String,
    name: String,
    admin: String,
    /// Ends with the last test that uses it.
    own: Option<Arc<OwnCluster>>,
}

impl TestDatabase {
    /// On the Postgres that `DATABASE_URL` names (`make test` starts one), otherwise on one of this process.
    pub async fn create() -> Self {
        match std::env::var("DATABASE_URL") {
            Ok(admin) if !admin.is_empty() => Self::on(admin, None).await,
            _ => Self::own().await,
        }
    }

    /// On a cluster that no other test writes to, for what measures time: any open writer of a cluster holds everybody's
    /// fence.
    pub async fn own() -> Self {
        let own = own_cluster().await;
        Self::on(own.cluster.url("postgres"), Some(own)).await
    }

    /// On a cluster that no other test has anything to do with, not even one of this process.
    pub async fn secluded() -> Self {
        let own = start_cluster().await;
        Self::on(own.cluster.url("postgres"), Some(own)).await
    }

    /// One that is there, and stays.
    pub fn at(url: &str) -> Self {
        Self { url: url.to_owned(), name: String::new(), admin: String::new(), own: None }
    }

    /// Beside the server's own connections.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    async fn on(admin: String, own: Option<Arc<OwnCluster>>) -> Self {
        let template = template(&admin).await;
        Self::copy_of(&template, admin, own).await
    }

    async fn copy_of(template: &str, admin: String, own: Option<Arc<OwnCluster>>) -> Self {
        let name = format!("rookery_test_{}", hex::encode(rand::random::<[u8; 8]>()));
        let mut connection = PgConnection::connect(&admin).await.unwrap();
        connection.execute(AssertSqlSafe(format!("create database {name} template {template}"))).await.unwrap();
        Self { url: with_database(&admin, &name), name, admin, own }
    }

    /// All that is in it now, as another database of the same cluster. Nobody may be connected to it meanwhile.
    pub async fn copy(&self) -> Self {
        Self::copy_of(&self.name, self.admin.clone(), self.own.clone()).await
    }

    /// The same of one that a halted server uses, which loses its connections.
    pub async fn copy_in_use(&self) -> Self {
        let mut connection = PgConnection::connect(&self.admin).await.unwrap();
        loop {
            let ends = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1";
            let open: i64 = sqlx::query_scalar(ends).bind(&self.name).fetch_one(&mut connection).await.unwrap();
            if open == 0 {
                return self.copy().await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What is in it is forgotten, and what is in the copy takes its place. Nobody may be connected to either.
    pub async fn become_copy_of(&self, copy: &Self) {
        let mut connection = PgConnection::connect(&self.admin).await.unwrap();
        let (name, copy) = (&self.name, &copy.name);
        for statement in
            [format!("drop database {name} with (force)"), format!("create database {name} template {copy}")]
        {
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (admin, name) = (self.admin.clone(), self.name.clone());
        if name.is_empty() {
            return;
        }
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&admin).await.ok()?;
                connection.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await.ok()
            })
        });
        // A database that stays behind is no reason to fail a test.
        drop(dropped.join());
    }
}

/// The migrated template; its name holds the newest migration, so that an old one is never used for new code.
async fn template(admin: &str) -> String {
    let name = format!("rookery_template_{}", &hex::encode(fingerprint().0)[..16]);
    let mut connection = PgConnection::connect(admin).await.unwrap();
    connection.execute(sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK)).await.unwrap();
    let found: Option<(i32,)> = sqlx::query_as("select 1 from pg_database where datname = $1")
        .bind(&name)
        .fetch_optional(&mut connection)
        .await
        .unwrap();
    if found.is_none() {
        // Renamed when it is done: a run that was cut short leaves no half-made template.
        let making = format!("{name}_making");
        for statement in [format!("drop database if exists {making} with (force)"), format!("create database {making}")]
        {
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        let storage = Storage::connect(&with_database(admin, &making), 2).await.unwrap();
        storage.migrate().await.unwrap();
        storage.close();
        connection.execute(AssertSqlSafe(format!("alter database {making} rename to {name}"))).await.unwrap();
    }
    connection.execute(sqlx::query("select pg_advisory_unlock($1)").bind(TEMPLATE_LOCK)).await.unwrap();
    name
}

/// Of all migrations as they are now.
fn fingerprint() -> rookery::types::Hash {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let texts: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    rookery::types::Hash::of(&texts)
}

fn with_database(url: &str, name: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_path(name);
    url.into()
}

/// The folder of the Postgres that the environment selects; the newest of the machine without it.
pub(crate) fn pg_bin() -> Option<std::path::PathBuf> {
    std::env::var_os("PG_BIN").map(Into::into)
}

async fn own_cluster() -> Arc<OwnCluster> {
    let mut own = OWN.lock().await;
    if let Some(running) = own.upgrade() {
        return running;
    }
    let started = start_cluster().await;
    *own = Arc::downgrade(&started);
    started
}

async fn start_cluster() -> Arc<OwnCluster> {
    let folder = crate::open_folder();
    let data_dir = folder.path().to_owned();
    let options = Options { data_dir, pg_bin: pg_bin(), max_connections: CONNECTIONS, durable: false };
    Arc::new(OwnCluster { cluster: Cluster::start(options).await.unwrap(), _folder: folder })
}
