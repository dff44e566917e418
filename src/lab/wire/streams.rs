//! TCP of the laboratory: one connection for each peer, made when it is first needed.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::engine::sip::{Frame, FrameLimits, Framer, PONG};

/// Messages that may wait for the machine.
const HEARD: usize = 1024;

/// A listener and its connections.
#[derive(Debug)]
pub(super) struct Streams {
    address: SocketAddr,
    shared: Arc<Shared>,
    heard: mpsc::Receiver<(SocketAddr, Bytes)>,
    /// What [`Streams::ready`] found.
    found: Option<(SocketAddr, Bytes)>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    peers: Mutex<HashMap<SocketAddr, mpsc::UnboundedSender<Bytes>>>,
    heard: mpsc::Sender<(SocketAddr, Bytes)>,
}

impl Streams {
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (told, heard) = mpsc::channel(HEARD);
        let shared = Arc::new(Shared { peers: Mutex::default(), heard: told });
        let listening = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Streams { address, shared, heard, found: None, listening })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until [`Streams::next`] has something.
    pub(super) async fn ready(&mut self) {
        if self.found.is_none() {
            self.found = self.heard.recv().await;
        }
    }

    pub(super) fn next(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.found.take().or_else(|| self.heard.try_recv().ok())
    }

    pub(super) fn send(&self, to: SocketAddr, message: Bytes) {
        let mut peers = self.shared.peers();
        let unsent = match peers.get(&to) {
            Some(queue) => queue.send(message).err().map(|unsent| unsent.0),
            None => Some(message),
        };
        let Some(message) = unsent else { return };
        let (queue, waiting) = mpsc::unbounded_channel();
        // The receiver is in our hand.
        let _ = queue.send(message);
        peers.insert(to, queue);
        tokio::spawn(make(to, waiting, Arc::clone(&self.shared)));
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.listening.abort();
        // The connections' queues end, and they with them.
        self.shared.peers().clear();
    }
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, HashMap<SocketAddr, mpsc::UnboundedSender<Bytes>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        if let Ok((stream, peer)) = listener.accept().await {
            let (queue, waiting) = mpsc::unbounded_channel();
            shared.peers().insert(peer, queue);
            tokio::spawn(serve(stream, peer, waiting, Arc::clone(&shared)));
        }
    }
}

/// What can't be delivered is lost, and its timers tell the machine.
async fn make(peer: SocketAddr, waiting: mpsc::UnboundedReceiver<Bytes>, shared: Arc<Shared>) {
    if let Ok(stream) = TcpStream::connect(peer).await {
        serve(stream, peer, waiting, shared).await;
    }
}

async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    mut waiting: mpsc::UnboundedReceiver<Bytes>,
    shared: Arc<Shared>,
) {
    let _ = stream.set_nodelay(true);
    let (mut input, mut output) = stream.split();
    let mut framer = Framer::new(FrameLimits::default());
    let mut buffer = vec![0; 16_384];
    loop {
        tokio::select! {
            read = input.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(count) => framer.feed(&buffer[..count]),
            },
            message = waiting.recv() => match message {
                Some(message) => {
                    if output.write_all(&message).await.is_err() {
                        return;
                    }
                }
                None => return,
            },
        }
        loop {
            match framer.next_frame() {
                Ok(None) => break,
                Ok(Some(Frame::Ping)) => {
                    if output.write_all(PONG).await.is_err() {
                        return;
                    }
                }
                Ok(Some(Frame::Message(message))) => {
                    if shared.heard.send((peer, message)).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}
