//! One HTTP request to an address and its answer, or a stream of events: what commands ask a node by. A door of hyper, as
//! `check` is.

mod stream;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time;

pub use stream::{Stream, StreamEvent, listen};

/// The longest answer that is read: ten thousand destinations in words, several times over.
const LONGEST: usize = 64 << 20;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'r> {
    /// `GET`, `PUT`, ...
    pub method: &'r str,
    /// The path, from its slash, with the query.
    pub path: &'r str,
    /// What the body is, as `Content-Type` says it.
    pub kind: &'r str,
    /// The body; empty: none.
    pub body: Vec<u8>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("can't connect to {address}: {source}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It took too long.
    #[error("{address} did not answer within {time:?}")]
    TooLate {
        /// The address.
        address: SocketAddr,
        /// How long it had.
        time: Duration,
    },
    /// What is there does not speak HTTP, or broke off.
    #[error("no whole HTTP answer from {address}: {source}")]
    Broken {
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It gives an answer, but no stream.
    #[error("{address} refuses with status {status}: {text}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The status.
        status: u16,
        /// What it said.
        text: String,
    },
    /// The stream is over.
    #[error("{address} has ended the stream")]
    Ended {
        /// The address.
        address: SocketAddr,
    },
}

/// Sends the request on a connection of its own and reads the whole answer, within `time`.
///
/// # Errors
/// [`ClientError`].
pub async fn ask(address: SocketAddr, request: Request<'_>, time: Duration) -> Result<Answer, ClientError> {
    let answer = async {
        let stream = connect(address).await?;
        converse(stream, address, request).await.map_err(|source| ClientError::Broken { address, source })
    };
    time::timeout(time, answer).await.unwrap_or(Err(ClientError::TooLate { address, time }))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, ClientError> {
    TcpStream::connect(address).await.map_err(|source| ClientError::Connect { address, source })
}

async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    request: Request<'_>,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::builder()
        .method(request.method)
        .uri(request.path)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, request.kind)
        .body(Full::new(Bytes::from(request.body)))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LONGEST).collect().await?.to_bytes();
        Ok::<_, Box<dyn Error + Send + Sync>>(Answer { status, body })
    };
    tokio::pin!(answer, connection);
    // The connection moves the bytes; when it ends first, the answer has got all that it will.
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const TIME: Duration = Duration::from_secs(20);

    /// Answers one request with these bytes; what was asked comes back.
    async fn answering(bytes: &'static [u8]) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut buffer = vec![0; 4096];
            let mut length = 0;
            while !buffer[..length].ends_with(b"}") {
                length += stream.read(&mut buffer[length..]).await.expect("a request");
            }
            stream.write_all(bytes).await.expect("written");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        });
        (address, task)
    }

    fn put() -> Request<'static> {
        Request { method: "PUT", path: "/x?y=z", kind: "application/json", body: b"{}".to_vec() }
    }

    #[tokio::test]
    async fn a_request_is_sent_and_its_answer_read_whatever_the_status() {
        let (address, server) = answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone").await;
        let answer = ask(address, put(), TIME).await.expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (404, &b"none"[..]));
        let request = server.await.expect("no panic").to_lowercase();
        assert!(request.starts_with("put /x?y=z http/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: {address}\r\n")) && request.contains("content-length: 2\r\n"));
    }

    #[tokio::test]
    async fn an_answer_without_a_length_ends_with_its_connection() {
        let (address, _server) = answering(b"HTTP/1.0 200 OK\r\n\r\nall of it").await;
        assert_eq!(&ask(address, put(), TIME).await.expect("an answer").body[..], b"all of it");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_apart() {
        let (address, _server) = answering(b"SIP/2.0 200 OK\r\n\r\n").await;
        assert!(matches!(ask(address, put(), TIME).await, Err(ClientError::Broken { .. })));
        let (address, _server) = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
        assert!(matches!(ask(address, put(), TIME).await, Err(ClientError::Broken { .. })));
        // Bound, and nobody accepts.
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = silent.local_addr().expect("bound");
        let late = ask(address, put(), Duration::from_millis(1)).await;
        assert!(matches!(late, Err(ClientError::TooLate { .. })), "{late:?}");
        drop(silent);
        assert!(matches!(ask(address, put(), TIME).await, Err(ClientError::Connect { .. })));
    }
}
