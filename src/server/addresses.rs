//! Which of the listeners' addresses this machine holds. The system alone tells; what moves them there is not asked.

use std::future;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::{info, warn};

use super::node::Shared;
use crate::edge::interfaces::{Changes, Held};
use crate::engine::flow::{Listener, Role};

/// For each listener, whether its address is this machine's now.
#[derive(Debug)]
pub(super) struct Addresses(watch::Sender<Vec<bool>>);

impl Addresses {
    /// All of them, until they are read.
    pub(super) fn new(listeners: &[Listener]) -> Self {
        Addresses(watch::Sender::new(vec![true; listeners.len()]))
    }

    /// In the order of the listeners.
    pub(super) fn held(&self) -> Vec<bool> {
        self.0.borrow().clone()
    }

    /// Tells of changes.
    pub(super) fn changes(&self) -> watch::Receiver<Vec<bool>> {
        self.0.subscribe()
    }

    /// Waits until no virtual address is here. A node without any holds the addresses that callers know, as far as it can
    /// tell, and waits for ever.
    pub(super) async fn without_vip(&self, listeners: &[Listener]) {
        if listeners.iter().all(|listener| listener.role != Role::Vip) {
            return future::pending().await;
        }
        let mut changes = self.0.subscribe();
        let none =
            |held: &Vec<bool>| !listeners.iter().zip(held).any(|(listener, held)| listener.role == Role::Vip && *held);
        // The other end lives as long as we.
        let _ = changes.wait_for(none).await;
    }
}

impl Shared {
    /// Reads which addresses are here, and tells the engine and people of those that came or went. An address that can't be
    /// read is where it was.
    pub(super) async fn look_at_addresses(&self) {
        let here = match Held::read() {
            Ok(here) => here,
            Err(cause) => return warn!(%cause, "this machine's addresses can't be read"),
        };
        let before = self.addresses.held();
        let held: Vec<_> = self.handle.listeners().iter().map(|listener| here.has(listener.bind.ip())).collect();
        self.addresses.0.send_replace(held.clone());
        let all = self.handle.listeners().iter().zip(before.into_iter().zip(held));
        for (listener, (_, is)) in all.filter(|(_, (was, is))| was != is) {
            let (name, address): (_, IpAddr) = (listener.name(), listener.bind.ip());
            match (listener.role, is) {
                (Role::Vip, true) => info!(listener = name, %address, "the virtual address is here"),
                (Role::Vip, false) => info!(listener = name, %address, "the virtual address is elsewhere"),
                (Role::Node, true) => info!(listener = name, %address, "the address is back"),
                (Role::Node, false) => {
                    warn!(listener = name, %address, "this machine has no such address: nothing will come in there");
                }
            }
            if listener.role == Role::Vip {
                let _ = self.handle.hold(listener.id, is).await;
            }
        }
    }

    /// Follows the changes until the node stops.
    pub(super) async fn follow_addresses(self: Arc<Self>, mut changes: Changes, mut stopped: watch::Receiver<bool>) {
        let following = async {
            loop {
                changes.next().await;
                self.look_at_addresses().await;
            }
        };
        tokio::select! {
            () = following => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }
}
