//! A plain proxy before several instances: it knows connections alone, and has no idea who calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Hands each connection to the next instance. The clients of these tests keep no connection after a call.
pub struct RoundRobin {
    address: SocketAddr,
    carried: Arc<Vec<AtomicUsize>>,
    _serving: AbortOnDropHandle<()>,
}

impl RoundRobin {
    pub async fn start(instances: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let carried: Arc<Vec<_>> = Arc::new(instances.iter().map(|_| AtomicUsize::new(0)).collect());
        let counts = Arc::clone(&carried);
        let serving = tokio::spawn(async move {
            for turn in 0.. {
                let Ok((mut client, _)) = listener.accept().await else { continue };
                let next = turn % instances.len();
                let (instance, counts) = (instances[next], Arc::clone(&counts));
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(instance).await {
                        counts[next].fetch_add(1, Ordering::Relaxed);
                        // Either side may end the connection at any time.
                        let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, carried, _serving: AbortOnDropHandle::new(serving) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The connections that each instance got.
    pub fn carried(&self) -> Vec<usize> {
        self.carried.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}
