//! A listener for few and local clients: bounded in number, and closed when nothing moves. Where all places are taken, who has
//! shown no token gives way first, so that silence shuts nobody out.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once: one gives way to one more.
const MOST: usize = 64;
/// How long a connection may stand without a byte in either direction. Longer than the longest answer takes.
const IDLE: Duration = Duration::from_secs(150);

/// Holds at most `MOST` connections at a time.
pub(super) struct IdleListener<L> {
    listener: L,
    began: Instant,
    places: Vec<Place>,
    idle: Duration,
}

/// Who has connected.
#[derive(Debug, Default)]
pub(super) struct Guest {
    is_let_in: AtomicBool,
    /// When a byte moved last, in ms since the listener's start.
    moved: AtomicU64,
}

impl Guest {
    /// It has asked for something that not everybody may have, and got in.
    pub(super) fn let_in(&self) {
        self.is_let_in.store(true, Relaxed);
    }
}

struct Place {
    guest: Arc<Guest>,
    /// Whether it comes from this machine.
    is_own: bool,
    leave: oneshot::Sender<()>,
}

impl Place {
    /// The least gives way first: strangers, then those from other machines, then who has been quiet for longest.
    fn rank(&self) -> (bool, bool, u64) {
        (self.guest.is_let_in.load(Relaxed), self.is_own, self.guest.moved.load(Relaxed))
    }
}

impl<L: Listener<Addr = SocketAddr>> IdleListener<L> {
    pub(super) fn new(listener: L) -> Self {
        IdleListener { listener, began: Instant::now(), places: Vec::new(), idle: IDLE }
    }

    /// A place for one more, and how it hears that it has to leave.
    fn place(&mut self, peer: SocketAddr) -> (Arc<Guest>, oneshot::Receiver<()>) {
        self.places.retain(|place| !place.leave.is_closed());
        if self.places.len() >= MOST
            && let Some((first, _)) = self.places.iter().enumerate().min_by_key(|(_, place)| place.rank())
        {
            // If it is gone meanwhile, so much the better.
            let _ = self.places.remove(first).leave.send(());
        }
        let ip = peer.ip().to_canonical();
        let is_own = ip.is_loopback() || self.listener.local_addr().is_ok_and(|own| own.ip().to_canonical() == ip);
        let guest = Arc::new(Guest::default());
        guest.moved.store(since(self.began), Relaxed);
        let (leave, leaves) = oneshot::channel();
        self.places.push(Place { guest: Arc::clone(&guest), is_own, leave });
        (guest, leaves)
    }
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl<L: Listener<Addr = SocketAddr>> Listener for IdleListener<L> {
    type Io = IdleStream<L::Io>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (IdleStream<L::Io>, SocketAddr) {
        // axum's own accept waits and tries again on errors.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let (guest, leaves) = self.place(peer);
        let (timer, idle, began) = (Box::pin(sleep(self.idle)), self.idle, self.began);
        (IdleStream { stream, timer, idle, began, guest, leaves: Leaves::Told(leaves) }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection whose reads and writes fail when nothing has moved for too long, or when it has to give way.
pub(super) struct IdleStream<S> {
    stream: S,
    timer: Pin<Box<Sleep>>,
    idle: Duration,
    began: Instant,
    guest: Arc<Guest>,
    leaves: Leaves,
}

/// Whether a connection has to give way.
enum Leaves {
    /// It would be told.
    Told(oneshot::Receiver<()>),
    /// It has to.
    Now,
    /// Nobody is let in any more, and who is in stays.
    Never,
}

impl Leaves {
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if let Leaves::Told(leaves) = self {
            match Pin::new(leaves).poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => *self = Leaves::Now,
                Poll::Ready(Err(_)) => *self = Leaves::Never,
            }
        }
        matches!(self, Leaves::Now)
    }
}

impl<S> IdleStream<S> {
    /// Who has connected.
    pub(super) fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    /// Winds the timer up if something moved, and lets the operation fail if nothing has for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.leaves.poll(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if moved.is_ready() {
            self.timer.as_mut().reset(Instant::now() + self.idle);
            self.guest.moved.store(since(self.began), Relaxed);
            return moved;
        }
        self.timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for IdleStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch(cx, moved)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for IdleStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, moved)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn listener() -> IdleListener<TcpListener> {
        IdleListener::new(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    async fn one_more(listener: &mut IdleListener<TcpListener>) -> (TcpStream, IdleStream<TcpStream>) {
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("listening");
        (client, listener.accept().await.0)
    }

    async fn accepted(idle: Duration) -> (TcpStream, IdleStream<TcpStream>) {
        one_more(&mut IdleListener { idle, ..listener().await }).await
    }

    #[tokio::test]
    async fn a_silent_connection_fails_in_the_end() {
        let (_client, mut stream) = accepted(Duration::from_millis(1)).await;
        let error = stream.read_u8().await.expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_moving_connection_winds_its_timer_up() {
        // Its listener is gone, as while the node ends.
        let (mut client, mut stream) = accepted(IDLE).await;
        let before = stream.timer.deadline();
        client.write_all(b"x").await.expect("written");
        assert_eq!(stream.read_u8().await.expect("a byte"), b'x');
        assert!(stream.timer.deadline() > before);
    }

    #[tokio::test]
    async fn where_all_places_are_taken_the_oldest_stranger_gives_way() {
        let mut listener = listener().await;
        let mut all = Vec::new();
        for _ in 0..MOST {
            all.push(one_more(&mut listener).await);
        }
        all[0].1.guest().let_in();
        let newest = one_more(&mut listener).await;
        let fault = all[1].1.read_u8().await.map_err(|fault| fault.kind());
        assert_eq!(fault, Err(io::ErrorKind::ConnectionAborted));
        for at in [0, 2] {
            let (client, stream) = &mut all[at];
            client.write_all(b"x").await.expect("written");
            assert_eq!(stream.read_u8().await.expect("a byte"), b'x');
        }
        // Those from here stay longer, and one that is gone is nobody's place.
        listener.places[2].is_own = false;
        drop(newest);
        let _in_its_place = one_more(&mut listener).await;
        let gone = |listener: &IdleListener<_>| listener.places.iter().filter(|place| !place.is_own).count();
        assert_eq!(gone(&listener), 1);
        let _one_more = one_more(&mut listener).await;
        assert_eq!((gone(&listener), listener.places.len()), (0, MOST));
    }
}
