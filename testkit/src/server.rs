//! A server of one test, in this process, with a directory of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Directory, Form, Identity, Person};
use rookery::config::Config;
use rookery::identity::Curve;
use rookery::identity::http::{PlainClient, plain};
use rookery::server::Server;
use rookery::types::{Clock, Did};
use rookery_client::Service;

use crate::postgres::TestDatabase;

/// What the server under test calls itself; its address is another, as behind a proxy.
const SERVICE_DID: &str = "did:web:rookery.test";
const PUBLIC_URL: &str = "https://rookery.test";
/// Other tests of the run write in the same cluster, but none for long.
const SETTLES: Duration = Duration::from_secs(20);

pub struct TestServer {
    pub directory: Arc<Directory>,
    pub database: TestDatabase,
    /// What it calls itself.
    name: Did,
    /// Settings that every replica and every start of it has.
    own: Vec<(String, String)>,
    clock: Clock,
    /// For requests that no client of ours sends.
    pub(super) http: PlainClient,
    server: Option<Server>,
    folder: tempfile::TempDir,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With an operator: the first device of the account that `OPERATOR_DIDS` names.
    pub async fn start_with_operator() -> (Self, Arc<Person>) {
        Self::start_with_operator_on(TestDatabase::create().await).await
    }

    pub async fn start_with_operator_on(database: TestDatabase) -> (Self, Arc<Person>) {
        Self::start_with_operator_on_with(database, &[]).await
    }

    pub async fn start_with_operator_on_with(database: TestDatabase, settings: &[(&str, &str)]) -> (Self, Arc<Person>) {
        let account = Arc::new(Identity::plc(Curve::K256, Form::Multikey).unwrap());
        let settings = [settings, &[("OPERATOR_DIDS", account.did.as_str())]].concat();
        let server = Self::start_on(database, Clock::System, &settings).await;
        server.directory.add(&account);
        let operator = Person::new("operator", account, server.service()).unwrap();
        operator.register().await.unwrap();
        (server, Arc::new(operator))
    }

    /// With settings beside the usual ones.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_at(Clock::System, settings).await
    }

    /// On a Postgres of its own, for what measures time.
    pub async fn start_alone() -> Self {
        Self::start_alone_with(&[]).await
    }

    pub async fn start_alone_with(settings: &[(&str, &str)]) -> Self {
        Self::start_on(TestDatabase::own().await, Clock::System, settings).await
    }

    /// On a Postgres that this test has to itself, for what holds everybody's fence.
    pub async fn start_secluded(settings: &[(&str, &str)]) -> Self {
        Self::start_on(TestDatabase::secluded().await, Clock::System, settings).await
    }

    /// With a clock that the test may move on.
    pub async fn start_at(clock: Clock, settings: &[(&str, &str)]) -> Self {
        Self::start_on(TestDatabase::create().await, clock, settings).await
    }

    /// On a Postgres that outlives it.
    pub async fn start_at_url(url: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_on(TestDatabase::at(url), Clock::System, settings).await
    }

    /// Of that name, and beside others that ask the same directory.
    pub async fn start_named(directory: &Arc<Directory>, name: &Did, clock: Clock, settings: &[(&str, &str)]) -> Self {
        let settings = [&[("SERVICE_DID", name.as_str())], settings].concat();
        let mut server = Self::start_in(Arc::clone(directory), TestDatabase::create().await, clock, &settings).await;
        server.name = name.clone();
        server.own = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        server
    }

    async fn start_on(database: TestDatabase, clock: Clock, settings: &[(&str, &str)]) -> Self {
        let directory = Arc::new(Directory::start().await.unwrap());
        Self::start_in(directory, database, clock, settings).await
    }

    async fn start_in(
        directory: Arc<Directory>,
        database: TestDatabase,
        clock: Clock,
        settings: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&database.url, &directory.url(), folder.path(), settings);
        // On the heap: the futures of tests hold many.
        let server = Box::pin(Server::start(config, clock.clone())).await.unwrap();
        let name = Self::did();
        Self { directory, database, name, clock, own: Vec::new(), http: plain().unwrap(), server: Some(server), folder }
    }

    /// As it is started again, with other settings beside.
    fn config(&self, url: &str, settings: &[(&str, &str)]) -> Config {
        let own = self.own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings: Vec<_> = own.chain(settings.iter().copied()).collect();
        config(url, &self.directory.url(), self.folder.path(), &settings)
    }

    /// Why a server does not start on this database.
    pub async fn refused(database: &TestDatabase, settings: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&database.url, "https://plc.invalid", folder.path(), settings);
        match Server::start(config, Clock::System).await {
            Ok(_) => panic!("the server started"),
            Err(error) => error.to_string(),
        }
    }

    /// Where its service keys are.
    pub fn keys_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("keys")
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server().address())
    }

    /// What a server that is told no name is called here.
    pub fn did() -> Did {
        Did::parse(SERVICE_DID).unwrap()
    }

    pub fn name(&self) -> &Did {
        &self.name
    }

    /// The server as clients call it: one try, no patience.
    pub fn service(&self) -> Arc<Service> {
        let service = Service::new(&self.url(), self.name.clone()).unwrap();
        Arc::new(service.with_patience(Duration::ZERO).with_clock(self.clock.clone()))
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

    /// Another device of the same account: registered and uncertified, with key packages that nobody is offered.
    pub async fn second_device(&self, person: &Person) -> Arc<Person> {
        let device = self.next_device(person).await;
        assert_eq!(device.register().await.unwrap().state, "uncertified");
        device.publish(3, false).await.unwrap();
        device
    }

    /// Another device of the same account, registered: certified if no certified one stands.
    pub async fn next_device(&self, person: &Person) -> Arc<Person> {
        let device = Person::new("second device", Arc::clone(person.account()), self.service()).unwrap();
        device.register().await.unwrap();
        Arc::new(device)
    }

    /// Waits until all that was written so far can be read across streams: the courier has delivered, and no older
    /// writer of the cluster, another test's included, holds the readers' fence.
    pub async fn settled(&self) {
        let settled = "select not exists (select 1 from outbox)
                and coalesce((select max(pos) from entry), 0)
                    < base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10)
            from log_origin";
        let mut connection = self.database.connect().await;
        let until = Instant::now() + SETTLES;
        while !sqlx::query_scalar::<_, bool>(settled).fetch_one(&mut connection).await.unwrap() {
            assert!(Instant::now() < until, "something held the fence for {} s", SETTLES.as_secs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What a load balancer is told.
    pub async fn ready(&self) -> (u16, serde_json::Value) {
        let answer = self.http.get(format!("{}/health/ready", self.url())).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    /// A second replica on the same database.
    pub async fn replica(&self) -> Server {
        self.replica_with(&[]).await
    }

    pub async fn replica_with(&self, settings: &[(&str, &str)]) -> Server {
        Server::start(self.config(&self.database.url, settings), self.clock.clone()).await.unwrap()
    }

    /// A replica that can be killed: it has threads of its own.
    pub async fn doomed_replica(&self) -> Doomed {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = self.config(&self.database.url, &[]);
        let server = runtime.spawn(Server::start(config, self.clock.clone())).await.unwrap().unwrap();
        Doomed { runtime, _server: server }
    }

    /// Another command on the server's own machine: what it said, and whether it went well.
    pub async fn command(&self, arguments: &[&str]) -> (String, bool) {
        let directory = self.directory.url();
        let own = self.own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings: Vec<_> = own.chain([("PLC_URL", directory.as_str())]).collect();
        crate::command_with(self.folder.path(), Some(&self.database.url), &settings, arguments).await
    }

    /// While it is stopped: the next start makes others.
    pub fn forget_keys(&self) {
        std::fs::remove_dir_all(self.folder.path().join("keys")).unwrap();
    }

    /// Stops it for a while.
    pub async fn pause(&mut self) {
        self.server.take().unwrap().stop().await.unwrap();
    }

    /// Starts it again, on this Postgres; these people find it there.
    pub async fn resume(&mut self, url: &str, settings: &[(&str, &str)], people: &[Arc<Person>]) {
        self.database = TestDatabase::at(url);
        self.start_again(settings).await;
        for person in people {
            person.service().move_to(&self.url());
        }
    }

    /// Starts it after a pause, on the database that it had.
    pub async fn start_again(&mut self, settings: &[(&str, &str)]) {
        let config = self.config(&self.database.url, settings);
        self.server = Some(Server::start(config, self.clock.clone()).await.unwrap());
    }

    pub async fn stop(mut self) {
        self.pause().await;
    }

    /// Its database outlives it.
    pub async fn stop_and_keep(mut self) -> TestDatabase {
        self.pause().await;
        self.database
    }
}

pub struct Doomed {
    runtime: tokio::runtime::Runtime,
    _server: Server,
}

impl Doomed {
    /// Whatever it does ends where it stands, and its connections break.
    pub fn kill(self) {
        self.runtime.shutdown_background();
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
        // Consent has tests of its own.
        ("INVITATIONS", "everyone"),
        // Servers of tests have no first seven days.
        ("RATE_PEER", "1000000/1"),
        ("RATE_PEER_ENTRIES", "1000000000/1"),
        ("RATE_PEER_KIB", "1000000000/1"),
        // Tests fail, and register, as often as they like.
        ("RATE_FAILING_ISSUER", "1000000/60"),
        ("RATE_REGISTRATION", "1000000/60"),
        ("RATE_REGISTRATIONS", "1000000/60"),
        ("RATE_YOUNG_ACCOUNTS", "1000000/60"),
        // Tests call at once as they like: what one device may have in flight has tests of its own.
        ("MAX_READS_IN_FLIGHT", "1000"),
        ("MAX_WRITES_IN_FLIGHT", "1000"),
    ]
    .iter()
    .chain(settings)
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    .collect();
    env.retain(|_, value| value != "(unset)");
    Config::load(&env, None).unwrap()
}
