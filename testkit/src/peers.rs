//! Servers as processes, each with a database of its own, that know each other by their public names alone, and can be
//! killed, stopped, copied and put back to what they were.

use std::sync::Arc;
use std::time::Duration;

use crate::{Directory, Form, Identity, Person};
use rookery::identity::Curve;
use rookery::types::Did;
use rookery_client::Service;

use crate::child::{Process, Version};
use crate::federation::FEDERATES;
use crate::postgres::TestDatabase;
use crate::proxy::Proxy;

pub struct Peers {
    servers: Vec<PeerServer>,
}

pub struct PeerServer {
    pub proxy: Proxy,
    pub database: TestDatabase,
    directory: Arc<Directory>,
    process: Process,
    folder: tempfile::TempDir,
}

/// What a server knew at one moment.
pub struct Backup(TestDatabase);

impl Peers {
    /// All ready. What happens on the ways between them follows from the seed.
    pub async fn start(size: usize, seed: u64, settings: &[(&'static str, &str)]) -> Self {
        let directory = Arc::new(Directory::start().await.unwrap());
        let ways: Vec<Proxy> = (0..size as u64).map(|number| Proxy::reserve(seed.wrapping_add(number))).collect();
        let allowed = ways.iter().map(Proxy::did).collect::<Vec<_>>().join(",");
        let mut servers = Vec::new();
        for proxy in ways {
            let (database, folder) = (TestDatabase::create().await, crate::open_folder());
            let mut process = Process::new(folder.path(), &directory.url(), Some(&database.url))
                .with("SERVICE_DID", &proxy.did())
                .with("PUBLIC_URL", &proxy.origin())
                .with("FEDERATION_ALLOW", &allowed)
                .with("RATE_PEER", "5000/1");
            for (name, value) in FEDERATES.iter().chain(settings) {
                process = process.with(name, value);
            }
            proxy.lead_to(([127, 0, 0, 1], process.port()).into());
            process.spawn();
            servers.push(PeerServer { proxy, database, directory: Arc::clone(&directory), process, folder });
        }
        for server in &servers {
            server.process.ready().await;
        }
        Self { servers }
    }

    /// All become that version at once; the first is reached at another instance meanwhile.
    pub async fn all_become(&mut self, version: Version, other: &Process) {
        let [first, followers @ ..] = &mut self.servers[..] else { return };
        let followers = followers.iter_mut().map(|server| server.becomes(version));
        tokio::join!(first.becomes_beside(version, other), futures_util::future::join_all(followers));
    }

    pub async fn stop(self) {
        for mut server in self.servers {
            server.process.stop().await;
        }
    }
}

impl std::ops::Index<usize> for Peers {
    type Output = PeerServer;

    fn index(&self, number: usize) -> &PeerServer {
        &self.servers[number]
    }
}

impl std::ops::IndexMut<usize> for Peers {
    fn index_mut(&mut self, number: usize) -> &mut PeerServer {
        &mut self.servers[number]
    }
}

impl PeerServer {
    pub fn did(&self) -> Did {
        Did::parse(&self.proxy.did()).unwrap()
    }

    /// As its own clients call it, for so long.
    pub fn service(&self, patience: Duration) -> Arc<Service> {
        Arc::new(Service::new(&self.process.url(), self.did()).unwrap().with_patience(patience))
    }

    /// From now on the account's document says that it lives here.
    pub fn houses(&self, account: &Identity) {
        self.directory.add_at(account, &self.proxy.origin());
    }

    /// The first device of a new account that lives here, registered and with key packages.
    pub async fn person(&self, name: &str, patience: Duration) -> Arc<Person> {
        let account = Identity::plc(Curve::K256, Form::Older).unwrap();
        self.houses(&account);
        let person = Person::new(name, Arc::new(account), self.service(patience)).unwrap();
        person.register().await.unwrap();
        person.publish(5, true).await.unwrap();
        Arc::new(person)
    }

    /// With -9; its name leads nowhere until it runs again.
    pub async fn kill(&mut self) {
        self.proxy.refuse().await;
        self.process.kill().await;
    }

    /// As an operator would.
    pub async fn stop(&mut self) {
        self.proxy.refuse().await;
        self.process.stop().await;
    }

    pub async fn restart(&mut self) {
        self.process.spawn();
        self.process.ready().await;
        self.proxy.listen().await;
    }

    /// Stops the server as an operator would, and starts it as that version.
    pub async fn becomes(&mut self, version: Version) {
        self.stop().await;
        self.start_as(version).await;
    }

    /// Restarts the process with this version, while clients reach another instance of the server.
    pub async fn becomes_beside(&mut self, version: Version, other: &Process) {
        self.proxy.lead_to(([127, 0, 0, 1], other.port()).into());
        self.process.stop().await;
        self.process.becomes(version);
        self.process.spawn();
        self.process.ready().await;
        self.proxy.lead_to(([127, 0, 0, 1], self.process.port()).into());
    }

    /// Starts the server, which was stopped, as that version.
    pub async fn start_as(&mut self, version: Version) {
        self.process.becomes(version);
        self.restart().await;
    }

    /// A further instance of the server, on the same database; not started yet.
    pub fn further_instance(&self) -> Process {
        self.process.beside()
    }

    pub fn url(&self) -> String {
        self.process.url()
    }

    /// A copy of its database, with the server stopped meanwhile.
    pub async fn backup(&mut self) -> Backup {
        self.stop().await;
        let copy = self.database.copy().await;
        self.restart().await;
        Backup(copy)
    }

    /// The same with the server halted meanwhile: to others it is slow, and it loses its connections to the database.
    pub async fn snapshot(&self) -> Backup {
        self.process.halt();
        let copy = self.database.copy_in_use().await;
        self.process.go_on();
        Backup(copy)
    }

    /// Kills it, forgets its database, and leaves the older one in its place; it does not run.
    pub async fn restore(&mut self, backup: &Backup) {
        if self.process.runs() {
            self.kill().await;
        }
        self.database.become_copy_of(&backup.0).await;
    }

    /// Another command on the server's own machine: what it said, and whether it went well.
    pub async fn command(&self, arguments: &[&str]) -> (String, bool) {
        crate::command(self.folder.path(), Some(&self.database.url), arguments).await
    }
}
