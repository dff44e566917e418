//! A stand-in MRCPv2 server over UDP or TCP: answers as UniMRCP's does on the SIP side, speaks no MRCP, and fails on request.

mod look;
pub(super) mod machine;
mod reply;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::machine::Server;
use super::wire::{Machine, Wire};
use crate::engine::flow::Transport;

/// How the server treats its callers; all of it may be combined and changed while it runs. The default is a healthy one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Slow: the final answer to a new INVITE comes so long after its 100; zero is at once.
    pub delay: Duration,
    /// As a host that is gone: nothing is read, nothing sent.
    pub silent: bool,
    /// New INVITEs get 486.
    pub busy: bool,
    /// New INVITEs and OPTIONS get 503.
    pub offline: bool,
    /// An OPTIONS in a dialog gets 200, and then the session its end, as real ones do.
    pub bye_after_options: bool,
    /// An OPTIONS in a dialog gets no answer.
    pub ignore_options: bool,
    /// Sessions have no session timer (RFC 4028): no answer names one.
    pub untimed: bool,
    /// The server ends a session so long after its ACK.
    pub hang_up_after: Option<Duration>,
}

/// What the server has seen; requests that came again are not counted again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions now.
    pub sessions: usize,
    /// The most sessions at any time.
    pub peak: usize,
    /// INVITEs for a new session.
    pub invites: u64,
    /// 2xx that were acknowledged.
    pub acks: u64,
    /// BYEs received.
    pub byes: u64,
    /// OPTIONS received, in a dialog and outside.
    pub options: u64,
    /// OPTIONS and UPDATE received in a dialog.
    pub pings: u64,
    /// BYEs of its own that were answered by a 2xx.
    pub hung_up: u64,
    /// BYEs of its own that got another answer or none.
    pub unheard: u64,
    /// Messages received, datagrams whatever they held, those during silence too.
    pub datagrams: u64,
}

/// A running server. Dropping it stops it; its port is free a moment later, or when [`MrcpServer::stop`] has returned.
#[derive(Debug)]
pub struct MrcpServer {
    address: SocketAddr,
    behaviour: watch::Sender<Behaviour>,
    counts: watch::Receiver<Counts>,
    task: JoinHandle<()>,
}

impl MrcpServer {
    /// Starts a server over UDP on `bind`; port 0 takes any. Needs a tokio runtime.
    ///
    /// # Errors
    /// What the system says when the address can't be bound.
    pub async fn start(bind: SocketAddr, behaviour: Behaviour) -> io::Result<Self> {
        Self::start_on(Transport::Udp, bind, behaviour).await
    }

    /// As [`MrcpServer::start`], over UDP or TCP.
    ///
    /// # Errors
    /// What the system says when the address can't be bound.
    pub async fn start_on(transport: Transport, bind: SocketAddr, behaviour: Behaviour) -> io::Result<Self> {
        let wire = Wire::bind(transport, bind).await?;
        let address = wire.address()?;
        let (behaviour, orders) = watch::channel(behaviour);
        let (publish, counts) = watch::channel(Counts::default());
        let task = tokio::spawn(serve(wire, Server::new(transport, address, fastrand::u64(..)), orders, publish));
        Ok(MrcpServer { address, behaviour, counts, task })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Behaves so from now on.
    pub fn set(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// How it behaves now.
    pub fn behaviour(&self) -> Behaviour {
        *self.behaviour.borrow()
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// What it has seen, to be watched.
    pub fn watch(&self) -> watch::Receiver<Counts> {
        self.counts.clone()
    }

    /// Stops it, without a word to its callers, and waits until its port is free.
    pub async fn stop(mut self) {
        self.task.abort();
        // Cancelled is what it should be.
        let _ = (&mut self.task).await;
    }
}

impl Drop for MrcpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut wire: Wire,
    mut server: Server,
    mut orders: watch::Receiver<Behaviour>,
    publish: watch::Sender<Counts>,
) {
    server.behaviour = *orders.borrow_and_update();
    loop {
        tokio::select! {
            () = wire.wait(server.next()) => {}
            changed = orders.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        server.behaviour = *orders.borrow_and_update();
        wire.turn(&mut server).await;
        let counts = server.counts();
        publish.send_if_modified(|shown| std::mem::replace(shown, counts) != counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_server_frees_its_port_and_another_may_take_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let first = MrcpServer::start(any, Behaviour::default()).await.expect("a server");
            let address = first.address();
            assert!(MrcpServer::start(address, Behaviour::default()).await.is_err());
            first.stop().await;
            let busy = Behaviour { busy: true, ..Behaviour::default() };
            let second = MrcpServer::start(address, busy).await.expect("a server");
            assert_eq!((second.address(), second.behaviour(), second.counts()), (address, busy, Counts::default()));
        });
    }
}
