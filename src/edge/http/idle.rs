//! A listener for few and local clients: bounded in number, and closed when nothing moves.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once; more wait in the kernel's queue.
const MOST: usize = 64;
/// How long a connection may stand without a byte in either direction. Longer than the longest answer takes.
const IDLE: Duration = Duration::from_secs(150);

/// Accepts at most `MOST` connections at a time.
pub(super) struct IdleListener<L> {
    listener: L,
    places: Arc<Semaphore>,
    idle: Duration,
}

impl<L> IdleListener<L> {
    pub(super) fn new(listener: L) -> Self {
        IdleListener { listener, places: Arc::new(Semaphore::new(MOST)), idle: IDLE }
    }
}

impl<L: Listener<Addr = SocketAddr>> Listener for IdleListener<L> {
    type Io = IdleStream<L::Io>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (IdleStream<L::Io>, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("nobody closes the semaphore");
        // axum's own accept waits and tries again on errors.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (IdleStream { stream, timer: Box::pin(sleep(self.idle)), idle: self.idle, _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection whose reads and writes fail when nothing has moved for too long.
pub(super) struct IdleStream<S> {
    stream: S,
    timer: Pin<Box<Sleep>>,
    idle: Duration,
    _place: OwnedSemaphorePermit,
}

impl<S> IdleStream<S> {
    /// Winds the timer up if something moved, and lets the operation fail if nothing has for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.timer.as_mut().reset(Instant::now() + self.idle);
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

    async fn accepted(idle: Duration) -> (TcpStream, IdleStream<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut listener = IdleListener { idle, ..IdleListener::new(listener) };
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("listening");
        (client, listener.accept().await.0)
    }

    #[tokio::test]
    async fn a_silent_connection_fails_in_the_end() {
        let (_client, mut stream) = accepted(Duration::from_millis(1)).await;
        let error = stream.read_u8().await.expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_moving_connection_winds_its_timer_up() {
        let (mut client, mut stream) = accepted(IDLE).await;
        let before = stream.timer.deadline();
        client.write_all(b"x").await.expect("written");
        assert_eq!(stream.read_u8().await.expect("a byte"), b'x');
        assert!(stream.timer.deadline() > before);
    }
}
