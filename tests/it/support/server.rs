//! A server of one test, in this process, with a directory of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rookery::cli::demo::{Directory, Form, Identity, Person, Service};
use rookery::config::Config;
use rookery::identity::Curve;
use rookery::server::Server;
use rookery::types::{Clock, Did};

use super::postgres::TestDatabase;

/// What the server under test calls itself; its address is another, as behind a proxy.
const SERVICE_DID: &str = "did:web:rookery.test";
const PUBLIC_URL: &str = "https://rookery.test";

pub struct TestServer {
    pub directory: Directory,
    pub database: TestDatabase,
    server: Option<Server>,
    _folder: tempfile::TempDir,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With settings beside the usual ones.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let database = TestDatabase::create().await;
        let directory = Directory::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = config(&database.url, &directory.url(), folder.path(), settings);
        let server = Server::start(config, Clock::System).await.unwrap();
        Self { directory, database, server: Some(server), _folder: folder }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server().address())
    }

    pub fn did() -> Did {
        Did::parse(SERVICE_DID).unwrap()
    }

    /// The server as clients call it: one try, no patience.
    pub fn service(&self) -> Arc<Service> {
        let service = Service::new(&self.url(), Self::did()).unwrap();
        Arc::new(service.with_patience(Duration::ZERO))
    }

    /// An account that the directory knows, with no device yet.
    pub fn account(&self) -> Arc<Identity> {
        let account = Identity::plc(Curve::K256, Form::Multikey).unwrap();
        self.directory.add(&account);
        Arc::new(account)
    }

    /// The first device of a new account: registered, and with key packages for everybody.
    pub async fn person(&self, name: &str) -> Arc<Person> {
        let person = self.newcomer(name, 5).await;
        person.publish(0, true).await.unwrap();
        person
    }

    /// The same, with so many one-time key packages and none of last resort.
    pub async fn newcomer(&self, name: &str, key_packages: usize) -> Arc<Person> {
        let person = Person::new(name, self.account(), self.service()).unwrap();
        person.register().await.unwrap();
        person.publish(key_packages, false).await.unwrap();
        Arc::new(person)
    }

    /// A second replica on the same database.
    pub async fn replica(&self) -> Server {
        let config = config(&self.database.url, &self.directory.url(), self._folder.path(), &[]);
        Server::start(config, Clock::System).await.unwrap()
    }

    pub async fn stop(mut self) {
        self.server.take().unwrap().stop().await.unwrap();
    }
}

fn config(database: &str, directory: &str, folder: &std::path::Path, settings: &[(&str, &str)]) -> Config {
    let data_dir = folder.to_string_lossy().into_owned();
    let mut env: BTreeMap<String, String> = [
        ("ROOKERY_ENV", "development"),
        ("DATABASE_URL", database),
        ("DATABASE_POOL", "8"),
        ("SERVER_HOST", "127.0.0.1"),
        ("SERVER_PORT", "0"),
        ("METRICS_PORT", "0"),
        ("SERVICE_DID", SERVICE_DID),
        ("PUBLIC_URL", PUBLIC_URL),
        ("PLC_URL", directory),
        ("DATA_DIR", &data_dir),
        ("SHUTDOWN_GRACE_MS", "2000"),
    ]
    .iter()
    .chain(settings)
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    .collect();
    env.retain(|_, value| value != "(unset)");
    Config::load(&env, None).unwrap()
}
