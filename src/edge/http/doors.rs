//! The listener of the surface by TLS: handshakes run aside, bounded in time and number, so that one that hangs holds up nobody.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::edge::tls::{Identity, ServerStream};

/// Handshakes at once: the oldest gives way to one more.
const MOST: usize = 64;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the files are looked at: a new certificate is shown at most so much later.
const LOOK: Duration = Duration::from_secs(5);

/// Gives connections whose handshake is over.
pub(super) struct TlsListener {
    listener: TcpListener,
    identity: Arc<Identity>,
    shaking: JoinSet<Option<(ServerStream, SocketAddr)>>,
    /// All of them, the oldest first.
    order: VecDeque<AbortHandle>,
    patience: Duration,
    failed: Box<dyn Fn() + Send + Sync>,
}

impl TlsListener {
    /// `failed` hears of each handshake that was none. Needs a tokio runtime, where the files are looked at.
    pub(super) fn new(listener: TcpListener, identity: Identity, failed: impl Fn() + Send + Sync + 'static) -> Self {
        let identity = Arc::new(identity);
        let watched = Arc::downgrade(&identity);
        tokio::spawn(async move {
            let mut look = interval(LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                look.tick().await;
                let Some(identity) = watched.upgrade() else { return };
                // A disk may hang.
                let _ = tokio::task::spawn_blocking(move || identity.renew()).await;
            }
        });
        let (shaking, order, patience, failed) = (JoinSet::new(), VecDeque::new(), PATIENCE, Box::new(failed));
        TlsListener { listener, identity, shaking, order, patience, failed }
    }

    fn begin(&mut self, stream: TcpStream, peer: SocketAddr) {
        self.order.retain(|one| !one.is_finished());
        if self.order.len() >= MOST
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        let (shake, patience) = (self.identity.accept(stream), self.patience);
        self.order.push_back(self.shaking.spawn(async move {
            let stream = timeout(patience, shake).await.ok()?.ok()?;
            Some((stream, peer))
        }));
    }
}

impl Listener for TlsListener {
    type Io = ServerStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (ServerStream, SocketAddr) {
        loop {
            tokio::select! {
                Some(done) = self.shaking.join_next() => match done {
                    Ok(Some(accepted)) => return accepted,
                    Ok(None) | Err(_) => (self.failed)(),
                },
                // axum's own accept waits and tries again on errors.
                (stream, peer) = Listener::accept(&mut self.listener) => self.begin(stream, peer),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::edge::scratch::Folder;
    use crate::edge::tls::{Anchor, TlsFiles, Trust};

    /// The files of tests/tls, as a disk would have them.
    fn files(folder: &Folder, name: &str, client_ca: bool) -> TlsFiles {
        put(folder, name);
        let at = |name: &str| folder.path().join(name);
        TlsFiles { cert: at("cert"), key: at("key"), client_ca: client_ca.then(|| shipped("ca.pem")) }
    }

    fn put(folder: &Folder, name: &str) {
        for (kind, extension) in [("cert", "pem"), ("key", "key")] {
            let draft = folder.path().join(format!("{kind}.new"));
            fs::copy(shipped(&format!("{name}.{extension}")), &draft).expect("a file");
            fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).expect("a mode");
            fs::rename(&draft, folder.path().join(kind)).expect("a place");
        }
    }

    fn shipped(name: &str) -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls")).join(name)
    }

    /// A client's own, in a folder of its own.
    fn of_client(folder: &Folder, name: &str) -> Option<(PathBuf, PathBuf)> {
        put(folder, name);
        Some((folder.path().join("cert"), folder.path().join("key")))
    }

    struct Door {
        address: SocketAddr,
        identity: Arc<Identity>,
        failed: Arc<AtomicUsize>,
    }

    /// Sends back the first octet of each connection.
    async fn door(files: TlsFiles, patience: Duration) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let failed = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&failed);
        let count = move || {
            counting.fetch_add(1, SeqCst);
        };
        let mut listener = TlsListener::new(listener, Identity::load(files).expect("an identity"), count);
        listener.patience = patience;
        let identity = Arc::clone(&listener.identity);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await;
                tokio::spawn(async move {
                    let octet = stream.read_u8().await?;
                    stream.write_u8(octet).await?;
                    stream.flush().await
                });
            }
        });
        Door { address, identity, failed }
    }

    /// Whether a client that trusts so is served.
    async fn served(door: &Door, host: &str, anchor: Anchor, own: Option<(PathBuf, PathBuf)>) -> bool {
        let stream = TcpStream::connect(door.address).await.expect("listening");
        let echo = async {
            let mut stream = Trust { anchor, own }.connect(stream, host).await?;
            stream.write_u8(7).await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        echo.await.is_ok_and(|octet| octet == 7)
    }

    #[tokio::test]
    async fn a_client_believes_whom_it_was_told_to_and_nobody_else() {
        let folder = Folder::new();
        let door = door(files(&folder, "node", false), PATIENCE).await;
        let ca = || Anchor::Authorities(shipped("ca.pem"));
        for host in ["127.0.0.1", "localhost", "tandem-a.example.com"] {
            assert!(served(&door, host, ca(), None).await, "{host}");
        }
        assert!(!served(&door, "tandem-b.example.com", ca(), None).await);
        assert!(!served(&door, "localhost", Anchor::Authorities(shipped("stranger.pem")), None).await);
        assert!(!served(&door, "localhost", Anchor::System, None).await);
        assert!(served(&door, "10.9.9.9", Anchor::Exactly(shipped("node.pem")), None).await);
        assert!(!served(&door, "localhost", Anchor::Exactly(shipped("renewed.pem")), None).await);
    }

    #[tokio::test]
    async fn where_clients_need_a_certificate_strangers_are_turned_away() {
        let folder = Folder::new();
        let door = door(files(&folder, "node", true), PATIENCE).await;
        let ca = || Anchor::Authorities(shipped("ca.pem"));
        let (client, stranger) = (Folder::new(), Folder::new());
        assert!(served(&door, "localhost", ca(), of_client(&client, "client")).await);
        assert!(!served(&door, "localhost", ca(), None).await);
        assert!(!served(&door, "localhost", ca(), of_client(&stranger, "stranger")).await);
    }

    #[tokio::test]
    async fn new_files_are_shown_and_bad_ones_change_nothing() {
        let folder = Folder::new();
        let door = door(files(&folder, "node", false), PATIENCE).await;
        let shows = async |name: &str| served(&door, "localhost", Anchor::Exactly(shipped(name)), None).await;
        assert!(shows("node.pem").await);
        fs::write(folder.path().join("cert"), "half of i").expect("written");
        door.identity.renew();
        assert!(shows("node.pem").await);
        put(&folder, "renewed");
        door.identity.renew();
        assert!(shows("renewed.pem").await && !shows("node.pem").await);
        // A key of another certificate.
        fs::copy(shipped("node.pem"), folder.path().join("cert")).expect("written");
        door.identity.renew();
        assert!(shows("renewed.pem").await);
    }

    #[tokio::test]
    async fn handshakes_that_hang_hold_up_nobody_and_end() {
        let folder = Folder::new();
        let door = door(files(&folder, "node", false), Duration::from_secs(600)).await;
        let mut hanging = Vec::new();
        for _ in 0..MOST + 8 {
            hanging.push(TcpStream::connect(door.address).await.expect("listening"));
        }
        assert!(served(&door, "localhost", Anchor::Authorities(shipped("ca.pem")), None).await);
        // The oldest gave way.
        assert_eq!(hanging[0].read_u8().await.map_err(|fault| fault.kind()), Err(io::ErrorKind::UnexpectedEof));
        assert!(door.failed.load(SeqCst) >= 8, "{:?}", door.failed);
    }

    #[tokio::test]
    async fn a_handshake_has_its_time_and_what_is_no_tls_is_counted() {
        let folder = Folder::new();
        let door = door(files(&folder, "node", false), Duration::from_millis(50)).await;
        let mut silent = TcpStream::connect(door.address).await.expect("listening");
        assert_eq!(silent.read_u8().await.map_err(|fault| fault.kind()), Err(io::ErrorKind::UnexpectedEof));
        let mut plain = TcpStream::connect(door.address).await.expect("listening");
        plain.write_all(b"GET /live HTTP/1.1\r\n\r\n").await.expect("written");
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        while door.failed.load(SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    }
}
