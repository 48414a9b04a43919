//! 15,000 idle connections from 30 loopback addresses.
//!
//! The connections are opened and say nothing. The bound: the server raises its limit of open files, takes no more
//! connections than it has files for, and closes the oldest that proved nothing; the honest client and the prober, which
//! opens a connection for each look, still get theirs.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use tokio::net::TcpStream;

use super::Attack;
use crate::low_priority::open_files;
use crate::target::Target;

pub const ATTACK: Attack = Attack::new("idle_connections", |target| Box::pin(run(target)));

const CONNECTIONS: u16 = 15_000;
const ADDRESSES: u16 = 30;
/// Files that this process needs beside.
const RESERVE: usize = 500;

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let wanted = CONNECTIONS.min(u16::try_from(open_files().saturating_sub(RESERVE)).unwrap_or(u16::MAX));
    ensure!(wanted >= 500, "this process may open too few files: {}", open_files());
    let mut connections: Vec<TcpStream> = Vec::new();
    let mut refused = 0;
    for number in 0..wanted {
        match tokio::time::timeout(std::time::Duration::from_secs(5), target.connect(number % ADDRESSES)).await {
            Ok(Ok(tcp)) => connections.push(tcp),
            _ => refused += 1,
        }
    }
    let until = target.begins();
    tokio::time::sleep_until(until.into()).await;
    let closed = connections.iter().filter(|tcp| is_closed(tcp)).count();
    let opened = connections.len();
    ensure!(opened > usize::from(wanted / 2), "only {opened} of {wanted} connections were opened");
    ensure!(Instant::now() >= until, "the attack was cut short");
    Ok(format!("{opened} idle connections, {refused} not taken, {closed} closed by the server"))
}

fn is_closed(tcp: &TcpStream) -> bool {
    !matches!(tcp.try_read(&mut [0; 64]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
