//! A Redis of one test, that can be killed and come back.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Any of them speaks the protocol.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
const READY: Duration = Duration::from_secs(10);
/// A port that was free a moment ago may be taken by another test.
const STARTS: usize = 5;

/// Keeps nothing on disk; ends with the test.
pub struct Redis {
    port: u16,
    child: Child,
    folder: tempfile::TempDir,
}

impl Redis {
    pub async fn start() -> Self {
        for _ in 0..STARTS {
            let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            let folder = tempfile::tempdir().unwrap();
            let mut child = spawn(port, folder.path());
            if answers(port, &mut child).await {
                return Self { port, child, folder };
            }
        }
        panic!("no Redis started on {STARTS} ports");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it with -9.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again after `kill`, on the same port and empty.
    pub async fn restart(&mut self) {
        self.child = spawn(self.port, self.folder.path());
        assert!(answers(self.port, &mut self.child).await, "Redis did not come back");
    }

    /// The answer to one inline command, as it comes: `PUBSUB CHANNELS`.
    pub async fn ask(&self, command: &str) -> String {
        ask(self.port, command).await.unwrap()
    }
}

fn spawn(port: u16, folder: &std::path::Path) -> Child {
    let port = port.to_string();
    for program in PROGRAMS {
        let started = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"])
            .current_dir(folder)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        match started {
            Ok(child) => return child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{program}: {error}"),
        }
    }
    panic!("no {} on PATH: run staging/redis.sh", PROGRAMS[0]);
}

/// Whether it answers, before it ends.
async fn answers(port: u16, child: &mut Child) -> bool {
    let until = Instant::now() + READY;
    while Instant::now() < until && child.try_wait().unwrap().is_none() {
        if ask(port, "PING").await.is_ok_and(|answer| answer.starts_with("+PONG")) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

async fn ask(port: u16, command: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_redis_that_was_killed_comes_back_on_its_port_and_empty() {
    let mut redis = Redis::start().await;
    assert!(redis.ask("SET a b").await.starts_with("+OK"));
    assert!(redis.url().starts_with("redis://127.0.0.1:"));
    redis.kill().await;
    redis.restart().await;
    assert!(redis.ask("GET a").await.starts_with("$-1"));
}
