//! A network between nodes: what goes to a node goes through it, and it may lose, keep and repeat.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use tandem::edge::cluster::{Cluster, ClusterConfig};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::{loopback, start};

pub(crate) struct Relay {
    /// What has gone through, as it came.
    pub(crate) seen: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A node behind a relay that loses so many of a hundred packets on their way to it.
pub(crate) async fn start_behind(node: &str, config: ClusterConfig, loss: u8, seed: u64) -> (Cluster, Relay) {
    let socket = UdpSocket::bind(loopback()).await.expect("a socket");
    let address: SocketAddr = socket.local_addr().expect("bound");
    let cluster = start(node, ClusterConfig { advertise: Some(address), ..config }).await;
    let (to, seen) = (cluster.bound(), Arc::new(Mutex::new(Vec::new())));
    let record = seen.clone();
    let task = tokio::spawn(async move {
        let (mut random, mut packet) = (Rng::with_seed(seed), [0; 65_536]);
        while let Ok((length, _)) = socket.recv_from(&mut packet).await {
            if random.u8(..100) < loss {
                continue;
            }
            record.lock().expect("no panic").push(packet[..length].to_vec());
            let _ = socket.send_to(&packet[..length], to).await;
        }
    });
    (cluster, Relay { seen, task })
}
