//! The private Postgres of the scenarios, and a server of its own for each.

use std::path::Path;

use anyhow::Context;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use rookery::identity::Curve;
use rookery::storage::embedded::{Cluster, Options};
use rookery_client::Service;
use rookery_testkit::{Directory, Form, Identity, Person, Process, open_folder};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::statements::EXTENSION;

/// Connections of the server, of the ceiling and of this program.
const CONNECTIONS: u32 = 100;
/// The settings of a server that carries more than one client of one address.
const SETTINGS: &[(&str, &str)] = &[
    ("DATABASE_POOL", "16"),
    ("MAX_CONNECTIONS", "25000"),
    ("RATE_MESSAGE", "1000000/1"),
    ("RATE_WRITE", "1000000/1"),
    ("RATE_READ", "1000000/1"),
    ("RATE_ACCOUNT", "1000000/1"),
    ("RATE_KEY_PACKAGE", "1000000/1"),
    ("RATE_YOUNG_ACCOUNTS", "1000000/1"),
    ("RATE_FIRST_FETCH", "1000000/1"),
    ("RATE_FIRST_FETCHES", "1000000/1"),
];
/// Calls at one time while a scenario is prepared.
const AT_ONCE: usize = 16;
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
        let person = self.registered(name).await?;
        person.publish(1, true).await?;
        Ok(person)
    }

    async fn registered(&self, name: &str) -> anyhow::Result<Arc<Person>> {
        let account = Identity::plc(Curve::K256, Form::Multikey)?;
        self.directory.add(&account);
        let person = Person::new(name, Arc::new(account), Arc::clone(&self.service))?;
        person.register().await?;
        Ok(Arc::new(person))
    }

    /// The first devices of so many new accounts, registered, without key packages.
    pub async fn people(&self, count: usize) -> anyhow::Result<Vec<Arc<Person>>> {
        let registering = (0..count).map(|number| async move { self.registered(&format!("person {number}")).await });
        iter(registering).buffer_unordered(AT_ONCE).try_collect().await.context("registering devices")
    }

    /// New conversations of one member each: these people are the founders, in turns.
    pub async fn conversations(&self, founders: &[Arc<Person>], count: usize) -> anyhow::Result<Vec<String>> {
        let founding = founders.iter().cycle().take(count).map(|founder| async move { founder.create_convo().await });
        iter(founding).buffer_unordered(AT_ONCE).try_collect().await.context("founding conversations")
    }

    /// Starts the server's process again, on its database; the time from the start until the server is ready.
    pub async fn restart(&mut self) -> anyhow::Result<Duration> {
        restart(&mut self.process).await
    }

    pub fn port(&self) -> u16 {
        self.process.port()
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.end(STOPS_WITHIN).await.context("the server did not stop in order")
    }
}

async fn restart(process: &mut Process) -> anyhow::Result<Duration> {
    process.end(STOPS_WITHIN).await.context("the server did not stop in order")?;
    let began = Instant::now();
    process.spawn();
    process.ready().await;
    Ok(began.elapsed())
}

/// Starts a server with a private Postgres so many times again; the time of each start until the server is ready.
pub async fn private_restart(program: &Path, starts: usize) -> anyhow::Result<Vec<Duration>> {
    let (directory, folder) = (Directory::start().await.context("starting the directory")?, open_folder());
    let mut process = Process::new(folder.path(), &directory.url(), None).of_program(program);
    process.spawn();
    process.ready().await;
    let service = Arc::new(Service::new(&process.url(), process.did())?);
    let account = Arc::new(Identity::plc(Curve::K256, Form::Multikey)?);
    directory.add(&account);
    let person = Person::new("founder", account, service)?;
    person.register().await?;
    person.create_convo().await?;
    let mut times = Vec::with_capacity(starts);
    for _ in 0..starts {
        times.push(restart(&mut process).await?);
    }
    process.end(STOPS_WITHIN).await.context("the server did not stop in order")?;
    Ok(times)
}
