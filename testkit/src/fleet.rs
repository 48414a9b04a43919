//! Replicas as processes on one Postgres and one Redis, all of which can be killed.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::{Directory, Person};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rookery::storage::embedded::DATABASE;
use rookery::types::Did;
use rookery_client::Service;
use sqlx::{Connection, PgConnection};

use crate::child::{Process, kill_9, person};
use crate::redis::Redis;
use crate::volume::Volume;

const SERVICE_DID: &str = "did:web:rookery.test";

/// Several servers that are one.
pub struct Fleet {
    directory: Directory,
    folder: tempfile::TempDir,
    volume: Volume,
    redis: Redis,
    replicas: Vec<Process>,
}

impl Fleet {
    pub async fn start(size: usize) -> Self {
        let (directory, folder) = (Directory::start().await.unwrap(), crate::open_folder());
        let (volume, redis) = (Volume::start().await, Redis::start().await);
        let database = volume.url(DATABASE);
        let replica = || {
            Process::new(folder.path(), &directory.url(), Some(&database))
                .with("SERVICE_DID", SERVICE_DID)
                .with("REDIS_URL", &redis.url())
                .with("PUBLIC_URL", "https://rookery.test")
                // A person calls one replica alone, which has a part of each budget.
                .with("RATE_READ", "1000000/60")
                .with("RATE_WRITE", "1000000/60")
                .with("RATE_MESSAGE", "1000000/60")
                .with("RATE_ACCOUNT", "1000000/60")
                .with("RATE_KEY_PACKAGE", "1000000/60")
                .with("RATE_SUBSCRIBE", "1000000/60")
        };
        let replicas = (0..size).map(|_| replica()).collect();
        let mut fleet = Self { directory, folder, volume, redis, replicas };
        // One after the other: the first makes the keys that all share.
        for replica in 0..size {
            fleet.restart(replica).await;
        }
        fleet
    }

    pub fn did() -> Did {
        Did::parse(SERVICE_DID).unwrap()
    }

    pub fn address(&self, replica: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.replicas[replica].port()).into()
    }

    pub fn url(&self, replica: usize) -> String {
        self.replicas[replica].url()
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Beside the servers' own connections.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.volume.url(DATABASE)).await.unwrap()
    }

    /// That replica as patient clients call it.
    pub fn service(&self, replica: usize) -> Arc<Service> {
        Arc::new(self.replicas[replica].service(Self::did()))
    }

    /// The first device of a new account, which always calls that replica.
    pub async fn person(&self, name: &str, replica: usize) -> Arc<Person> {
        person(name, &self.directory, &self.service(replica)).await
    }

    pub async fn kill(&mut self, replica: usize) {
        self.replicas[replica].kill().await;
    }

    pub async fn restart(&mut self, replica: usize) {
        self.replicas[replica].spawn();
        self.replicas[replica].ready().await;
    }

    /// That replica does nothing until it resumes.
    pub fn suspend(&self, replica: usize) {
        self.replicas[replica].halt();
    }

    pub fn resume(&self, replica: usize) {
        self.replicas[replica].go_on();
    }

    /// Lets Postgres end connections of the replicas, each by a chance of one in three; one at least. Answers how many.
    pub async fn terminate_connections(&self, chance: &mut impl Rng) -> usize {
        let mut connection = self.connect().await;
        let theirs = "select pid from pg_stat_activity where application_name = 'rookery' order by pid";
        let mut pids: Vec<i32> = sqlx::query_scalar(theirs).fetch_all(&mut connection).await.unwrap();
        pids.shuffle(chance);
        let count = pids.iter().filter(|_| chance.random_ratio(1, 3)).count().max(1);
        pids.truncate(count);
        let terminate = "select count(*) from unnest($1::int[]) n (pid) where pg_terminate_backend(n.pid)";
        let ended: i64 = sqlx::query_scalar(terminate).bind(&pids).fetch_one(&mut connection).await.unwrap();
        usize::try_from(ended).unwrap()
    }

    pub async fn postgres_version(&self) -> String {
        sqlx::query_scalar("show server_version").fetch_one(&mut self.connect().await).await.unwrap()
    }

    /// Kills Postgres with -9 under the running replicas, and starts it again: it recovers from its log.
    pub async fn crash_postgres(&mut self) {
        kill_9(self.volume.pid().cast_signed());
        self.volume.restart().await;
    }

    pub async fn kill_redis(&mut self) {
        self.redis.kill().await;
    }

    pub async fn restart_redis(&mut self) {
        self.redis.restart().await;
    }

    /// Whether all replicas answer that they are ready.
    pub async fn ready(&self) {
        for replica in &self.replicas {
            replica.ready().await;
        }
    }

    pub async fn stop(mut self) {
        for replica in &mut self.replicas {
            replica.stop().await;
        }
        self.volume.stop().await;
        drop(self.folder);
    }
}
