//! Checks of a destination by TCP and HTTP: what a probe is told, and what an agent says. A door of hyper, as `client` is.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time;

use crate::engine::dispatch::Outcome;
use crate::engine::event::CheckTarget;

/// Asks, and tells how it ended; after `timeout` it has timed out.
///
/// # Errors
/// Our own trouble (no descriptor, no port, no route, a path that is none): it says nothing of the destination.
pub async fn ask(target: &CheckTarget, timeout: Duration) -> io::Result<Outcome> {
    let asked = async {
        match target {
            CheckTarget::Tcp(address) => TcpStream::connect(address).await.map(|_| Outcome::Connected),
            CheckTarget::Http { address, path } => get(*address, path).await.map(Outcome::answered),
        }
    };
    match time::timeout(timeout, asked).await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(error)) => blame(error),
        Err(_) => Ok(Outcome::TimedOut),
    }
}

/// Asks an agent by a GET, and tells the start of its answer's body, up to `most` bytes; none if it is silent, refuses, or
/// answers otherwise than 2xx.
///
/// # Errors
/// Our own trouble, as of [`ask`].
pub async fn hear(address: SocketAddr, path: &str, most: usize, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
    match time::timeout(timeout, converse(address, path, most)).await {
        Ok(Ok((200..=299, body))) => Ok(Some(body)),
        Ok(Ok(_)) | Err(_) => Ok(None),
        Ok(Err(error)) => blame(error).map(|_| None),
    }
}

/// The status that a GET is answered, whatever the body.
async fn get(address: SocketAddr, path: &str) -> io::Result<u16> {
    Ok(converse(address, path, 0).await?.0)
}

/// The status and the start of the body that a GET is answered. The connection is closed then, whatever else would come.
async fn converse(address: SocketAddr, path: &str, most: usize) -> io::Result<(u16, Vec<u8>)> {
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, "tandem")
        .header(CONNECTION, "close")
        .body(String::new())
        .map_err(|error| io::Error::new(ErrorKind::InvalidInput, format!("HTTP path {path:?}: {error}")))?;
    let stream = TcpStream::connect(address).await?;
    // What goes wrong from here on is the peer's: no HTTP, or a connection that breaks.
    let theirs = |error: hyper::Error| io::Error::new(ErrorKind::InvalidData, error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(theirs)?;
    let answer = async {
        let mut answer = sender.send_request(request).await?;
        let (status, mut body) = (answer.status().as_u16(), Vec::new());
        while body.len() < most {
            let Some(frame) = answer.frame().await else { break };
            body.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
        }
        body.truncate(most);
        Ok((status, body))
    };
    let (mut connection, mut answer) = (pin!(connection), pin!(answer));
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // The connection moves the answer along; when it has ended, it has said what there was.
        _ = &mut connection => answer.await,
    };
    answer.map_err(theirs)
}

/// What an error says of the peer; ours stay errors.
fn blame(error: io::Error) -> io::Result<Outcome> {
    match error.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::HostUnreachable
        | ErrorKind::InvalidData => Ok(Outcome::Refused),
        ErrorKind::TimedOut => Ok(Outcome::TimedOut),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Long enough for any machine.
    const PATIENCE: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(50);

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    fn http(address: SocketAddr) -> CheckTarget {
        CheckTarget::Http { address, path: "/health?deep=1".to_owned() }
    }

    /// What a GET makes of a server that answers so, and what that server was asked.
    async fn answered(answer: &'static [u8]) -> (Outcome, String) {
        let (listener, address) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a request"));
            }
            stream.write_all(answer).await.expect("written");
            // Held open: nobody may wait for the end.
            let _ = stream.read_u8().await;
            String::from_utf8(head).expect("text")
        });
        let outcome = ask(&http(address), PATIENCE).await.expect("no trouble of ours");
        (outcome, server.await.expect("no panic").replace(&address.to_string(), "ADDRESS"))
    }

    #[tokio::test]
    async fn an_open_port_is_connected_and_closed_again() {
        let (listener, address) = listener().await;
        assert_eq!(ask(&CheckTarget::Tcp(address), PATIENCE).await.expect("ours is well"), Outcome::Connected);
        let (mut stream, _) = listener.accept().await.expect("it was there");
        assert_eq!(stream.read(&mut [0; 1]).await.expect("closed, not reset"), 0);
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let (listener, address) = listener().await;
        drop(listener);
        for target in [CheckTarget::Tcp(address), http(address)] {
            assert_eq!(ask(&target, PATIENCE).await.expect("ours is well"), Outcome::Refused, "{target:?}");
        }
    }

    #[tokio::test]
    async fn a_mute_server_connects_and_never_answers() {
        let (_listener, address) = listener().await;
        assert_eq!(ask(&CheckTarget::Tcp(address), PATIENCE).await.expect("ours is well"), Outcome::Connected);
        assert_eq!(ask(&http(address), SHORT).await.expect("ours is well"), Outcome::TimedOut);
    }

    #[tokio::test]
    async fn a_status_is_told_whatever_the_body() {
        let (outcome, asked) = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc").await;
        assert_eq!(outcome, Outcome::answered(200));
        assert!(asked.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("host: ADDRESS\r\n") && asked.contains("connection: close\r\n"), "{asked}");
        let (outcome, _) = answered(b"HTTP/1.0 503 Busy\r\n\r\n").await;
        assert_eq!(outcome, Outcome::answered(503));
        let (outcome, _) = answered(b"HTTP/1.1 301 Moved\r\nTransfer-Encoding: chunked\r\n\r\nzz").await;
        assert_eq!(outcome, Outcome::answered(301));
    }

    /// What an agent is heard to say, of which 8 bytes are wanted, that answers so.
    async fn heard(answer: &'static [u8]) -> Option<Vec<u8>> {
        let (listener, address) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a request"));
            }
            stream.write_all(answer).await.expect("written");
        });
        let heard = hear(address, "/agent", 8, PATIENCE).await.expect("no trouble of ours");
        server.await.expect("no panic");
        heard
    }

    #[tokio::test]
    async fn an_agents_line_is_read_however_long_its_body_and_however_it_ends() {
        let of = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(heard(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n75%\n").await, of("75%\n"));
        assert_eq!(heard(b"HTTP/1.0 200 OK\r\n\r\n75%").await, of("75%"));
        assert_eq!(heard(b"HTTP/1.1 204 No Content\r\n\r\n").await, of(""));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n75\r\n2\r\n% \r\n0\r\n\r\n";
        assert_eq!(heard(chunked).await, of("75% "));
        // More than is wanted, and never all of it.
        assert_eq!(heard(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nmaxconn:300").await, of("maxconn:"));
    }

    #[tokio::test]
    async fn an_agent_that_says_nothing_good_is_silent() {
        assert_eq!(heard(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\ndown").await, None);
        assert_eq!(heard(b"HTTP/1.1 302 Found\r\nContent-Length: 4\r\n\r\ndown").await, None);
        assert_eq!(heard(b"drain\n").await, None);
        assert_eq!(heard(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ndra").await, None, "half a body");
        let (listener, address) = listener().await;
        assert_eq!(hear(address, "/", 8, SHORT).await.expect("ours is well"), None, "mute");
        drop(listener);
        assert_eq!(hear(address, "/", 8, PATIENCE).await.expect("ours is well"), None, "closed");
    }

    #[tokio::test]
    async fn garbage_and_a_hung_up_line_are_failures() {
        let (outcome, _) = answered(b"SIP/2.0 200 OK\r\n\r\n").await;
        assert_eq!(outcome, Outcome::Refused);
        let (outcome, _) = answered(b"\0\xff\r\n\r\n").await;
        assert_eq!(outcome, Outcome::Refused);
        let (listener, address) = listener().await;
        let server = tokio::spawn(async move { drop(listener.accept().await) });
        assert_eq!(ask(&http(address), PATIENCE).await.expect("ours is well"), Outcome::Refused);
        server.await.expect("no panic");
    }

    #[tokio::test]
    async fn our_own_trouble_is_no_outcome() {
        // A link-local address without its link is none that anything could be sent to.
        let nowhere = "[fe80::1]:9".parse().expect("an address");
        assert!(ask(&CheckTarget::Tcp(nowhere), PATIENCE).await.is_err());
        let (_listener, address) = listener().await;
        let target = CheckTarget::Http { address, path: "/a b".to_owned() };
        let fault = ask(&target, PATIENCE).await.expect_err("no path").to_string();
        assert!(fault.contains("HTTP path \"/a b\""), "{fault}");
        for ours in [
            ErrorKind::AddrNotAvailable,
            ErrorKind::AddrInUse,
            ErrorKind::NetworkDown,
            ErrorKind::NetworkUnreachable,
            ErrorKind::PermissionDenied,
            ErrorKind::OutOfMemory,
            ErrorKind::InvalidInput,
        ] {
            assert!(blame(ours.into()).is_err(), "{ours:?}");
        }
        const EMFILE: i32 = 24;
        assert!(blame(io::Error::from_raw_os_error(EMFILE)).is_err());
    }
}
