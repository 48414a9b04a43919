//! Replicas as processes on one Postgres and one Redis, all of which can be killed.

use std::sync::Arc;

use crate::{Directory, Person};
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
