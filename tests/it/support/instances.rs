//! Several instances of one server, in this process, on one database.

use std::sync::Arc;

use rookery::server::Server;
use rookery_client::Service;
use rookery_testkit::{Person, TestServer};

pub struct Instances {
    /// Instance 0, which owns the database and registers people.
    pub first: TestServer,
    others: Vec<Server>,
}

impl Instances {
    pub async fn start(count: usize) -> Self {
        Self::beside(TestServer::start().await, count).await
    }

    /// Instances beside a server that runs; the server is one of `count`.
    pub async fn beside(first: TestServer, count: usize) -> Self {
        let mut others = Vec::new();
        for _ in 1..count {
            others.push(Box::pin(first.replica()).await);
        }
        Self { first, others }
    }

    pub fn urls(&self) -> Vec<String> {
        let others = self.others.iter().map(|other| format!("http://{}", other.address()));
        std::iter::once(self.first.url()).chain(others).collect()
    }

    /// The device of that person as it calls each instance: one device, with one set of groups.
    pub fn spread(&self, person: &Person) -> Vec<Arc<Person>> {
        let services = self.urls().into_iter().map(|url| Service::new(&url, TestServer::did()).unwrap());
        services.map(|service| Arc::new(person.at(Arc::new(service)))).collect()
    }

    pub async fn stop(self) {
        for other in self.others {
            other.stop().await.unwrap();
        }
        self.first.stop().await;
    }
}
