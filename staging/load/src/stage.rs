//! The private Postgres of the scenarios, and a server of its own for each.

use std::path::Path;

use anyhow::Context;
use rookery::identity::Curve;
use rookery::storage::embedded::{Cluster, Options};
use rookery_client::Service;
use rookery_testkit::{Directory, Form, Identity, Person, Process, open_folder};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::sync::Arc;
use std::time::Duration;

use crate::statements::EXTENSION;

/// Connections of the server, of the ceiling and of this program.
const CONNECTIONS: u32 = 100;
/// The settings of a server that carries more than one client of one address.
const SETTINGS: &[(&str, &str)] = &[
    ("DATABASE_POOL", "16"),
    ("RATE_MESSAGE", "1000000/1"),
    ("RATE_WRITE", "1000000/1"),
    ("RATE_READ", "1000000/1"),
    ("RATE_ACCOUNT", "1000000/1"),
    ("RATE_KEY_PACKAGE", "1000000/1"),
    ("RATE_YOUNG_ACCOUNTS", "1000000/1"),
    ("RATE_FIRST_FETCH", "1000000/1"),
    ("RATE_FIRST_FETCHES", "1000000/1"),
];
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// A private Postgres with `fsync` on, which counts statements where it can.
pub struct Postgres {
    cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl Postgres {
    pub async fn start() -> anyhow::Result<Self> {
        let folder = open_folder();
        let options =
            Options { data_dir: folder.path().to_owned(), pg_bin: None, max_connections: CONNECTIONS, durable: true };
        let cluster = Cluster::start(options.clone()).await.context("starting Postgres")?;
        let mut admin = PgConnection::connect(&cluster.url("postgres")).await?;
        let is_there = "select exists (select 1 from pg_available_extensions where name = $1)";
        let counts: bool = sqlx::query_scalar(is_there).bind(EXTENSION).fetch_one(&mut admin).await?;
        if counts {
            admin.execute(AssertSqlSafe(format!("alter system set shared_preload_libraries = '{EXTENSION}'"))).await?;
        }
        drop(admin);
        cluster.stop().await.context("restarting Postgres")?;
        let cluster = Cluster::start(options).await.context("restarting Postgres")?;
        Ok(Self { cluster, _folder: folder })
    }

    pub fn pid(&self) -> u32 {
        self.cluster.pid()
    }

    /// A new, empty database; the URL.
    pub async fn database(&self, name: &str) -> anyhow::Result<String> {
        let mut admin = PgConnection::connect(&self.cluster.url("postgres")).await?;
        let name = format!("load_{name}");
        admin.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await?;
        admin.execute(AssertSqlSafe(format!("create database {name}"))).await?;
        Ok(self.cluster.url(&name))
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.cluster.stop().await.context("stopping Postgres")
    }
}

/// A server that a scenario drives.
pub struct Stage {
    pub database: String,
    pub service: Arc<Service>,
    directory: Directory,
    process: Process,
    _folder: tempfile::TempDir,
}

impl Stage {
    pub async fn start(program: &Path, database: String) -> anyhow::Result<Self> {
        let (directory, folder) = (Directory::start().await.context("starting the directory")?, open_folder());
        let mut process = Process::new(folder.path(), &directory.url(), Some(&database)).of_program(program);
        for (name, value) in SETTINGS {
            process = process.with(name, value);
        }
        process.spawn();
        process.ready().await;
        let service = Arc::new(Service::new(&process.url(), process.did())?.with_patience(Duration::ZERO));
        Ok(Self { database, service, directory, process, _folder: folder })
    }

    pub fn pid(&self) -> anyhow::Result<u32> {
        self.process.pid().context("the server has no process")
    }

    /// The first device of a new account, registered, with key packages.
    pub async fn person(&self, name: &str) -> anyhow::Result<Arc<Person>> {
        let account = Identity::plc(Curve::K256, Form::Multikey)?;
        self.directory.add(&account);
        let person = Person::new(name, Arc::new(account), Arc::clone(&self.service))?;
        person.register().await?;
        person.publish(1, true).await?;
        Ok(Arc::new(person))
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.end(STOPS_WITHIN).await.context("the server did not stop in order")
    }
}
