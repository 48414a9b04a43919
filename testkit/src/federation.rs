//! Several servers of this process that know each other by their public names alone.
//!
//! Each has a [`Proxy`] in front: others reach it there, clients call it directly. So a server's name outlives it, and
//! the way to it may be as bad as a test wants.

use std::ops::Deref;
use std::sync::Arc;

use crate::{Directory, Form, Identity, Person};
use rookery::identity::Curve;
use rookery::types::{Clock, Did};

use crate::TestServer;
use crate::proxy::Proxy;

/// What every server that federates is started with, beside the names of the others: on probation, a tenth of the quotas
/// would be spent in a moment.
pub const FEDERATES: &[(&str, &str)] = &[("FEDERATION", "open")];

/// Servers that share a directory and a clock.
pub struct Federation {
    pub directory: Arc<Directory>,
    pub clock: Clock,
    members: Vec<Member>,
    /// Names, separated by commas.
    allowed: String,
}

/// One of them. It derefs to the server as its own clients and operators know it.
pub struct Member {
    pub proxy: Proxy,
    server: TestServer,
}

impl Federation {
    pub async fn of(size: usize) -> Self {
        Self::with(size, &[]).await
    }

    /// With settings beside the usual ones.
    pub async fn with(size: usize, settings: &[(&str, &str)]) -> Self {
        Self::at(size, Clock::System, settings).await
    }

    /// With a clock that the test may move on.
    pub async fn at(size: usize, clock: Clock, settings: &[(&str, &str)]) -> Self {
        let directory = Arc::new(Directory::start().await.unwrap());
        let ways: Vec<Proxy> = (0..size as u64).map(Proxy::reserve).collect();
        let allowed = ways.iter().map(Proxy::did).collect::<Vec<_>>().join(",");
        let mut federation = Self { directory, clock, members: Vec::new(), allowed };
        for proxy in ways {
            federation.start(proxy, settings).await;
        }
        federation
    }

    async fn start(&mut self, proxy: Proxy, settings: &[(&str, &str)]) {
        let (origin, did) = (proxy.origin(), Did::parse(&proxy.did()).unwrap());
        let own = [("PUBLIC_URL", origin.as_str()), ("FEDERATION_ALLOW", &self.allowed)];
        let settings = [&own, FEDERATES, settings].concat();
        let server = TestServer::start_named(&self.directory, &did, self.clock.clone(), &settings).await;
        proxy.lead_to(server.server().address());
        self.members.push(Member { proxy, server });
    }

    pub async fn stop(self) {
        for member in self.members {
            member.server.stop().await;
        }
    }
}

impl std::ops::Index<usize> for Federation {
    type Output = Member;

    fn index(&self, number: usize) -> &Member {
        &self.members[number]
    }
}

impl std::ops::IndexMut<usize> for Federation {
    fn index_mut(&mut self, number: usize) -> &mut Member {
        &mut self.members[number]
    }
}

impl Deref for Member {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl Member {
    pub fn did(&self) -> &Did {
        self.server.name()
    }

    /// From now on the account's document says that it lives here.
    pub fn houses(&self, account: &Identity) {
        self.server.directory.add_at(account, &self.proxy.origin());
    }

    /// An account that lives here, with no device yet.
    pub fn account(&self) -> Arc<Identity> {
        let account = Identity::plc(Curve::K256, Form::Multikey).unwrap();
        self.houses(&account);
        Arc::new(account)
    }

    /// The first device of a new account that lives here: registered, and with key packages for everybody.
    pub async fn person(&self, name: &str) -> Arc<Person> {
        let person = Person::new(name, self.account(), self.server.service()).unwrap();
        person.register().await.unwrap();
        person.publish(5, true).await.unwrap();
        Arc::new(person)
    }

    /// The first device of the account that `OPERATOR_DIDS` names, which lives elsewhere.
    pub async fn operator(&self, account: &Arc<Identity>) -> Arc<Person> {
        self.server.directory.add(account);
        let operator = Person::new("operator", Arc::clone(account), self.server.service()).unwrap();
        operator.register().await.unwrap();
        Arc::new(operator)
    }

    /// Stops it; its name leads nowhere.
    pub async fn pause(&mut self) {
        self.proxy.refuse().await;
        self.server.pause().await;
    }

    /// Starts it again; these people find it there.
    pub async fn resume(&mut self, people: &[&Person]) {
        self.server.start_again(&[]).await;
        self.proxy.lead_to(self.server.server().address());
        self.proxy.listen().await;
        for person in people {
            person.service().move_to(&self.server.url());
        }
    }
}
