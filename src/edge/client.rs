//! One HTTP request to an address and its answer, or a stream of events: what commands ask a node by. A door of hyper, as
//! `check` is.

mod stream;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time;

use super::tls::Trust;

pub use stream::{Stream, StreamEvent, listen};

/// The longest answer that is read: ten thousand destinations in words, several times over.
const LONGEST: usize = 64 << 20;
/// The longest answer of whom only the status is wanted.
const SHORT: usize = 64 << 10;

/// Who is asked, and how.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whom it is believed from, by TLS; none: no TLS.
    pub trust: Option<Trust>,
    /// Whose orders these are.
    pub token: Option<String>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("at", &self.to_string()).finish_non_exhaustive()
    }
}

/// As URLs have it.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.trust.is_some() { "https://" } else { "" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}{}:{}", self.host, self.port),
        }
    }
}

/// Without TLS or a token.
impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Server { host: address.ip().to_string(), port: address.port(), trust: None, token: None }
    }
}

impl Server {
    /// The beginning of a request.
    fn request(&self, method: &str, path: &str) -> hyper::http::request::Builder {
        let head = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.authority())
            .header(USER_AGENT, concat!("tandem/", env!("CARGO_PKG_VERSION")));
        match &self.token {
            Some(token) => head.header(AUTHORIZATION, format!("Bearer {token}")),
            None => head,
        }
    }

    /// What stands in Host.
    fn authority(&self) -> String {
        Server { trust: None, token: None, ..self.clone() }.to_string()
    }
}

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
    /// When to ask again, as `Retry-After` says it.
    pub retry_after: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("can't connect to {address}: {source}")]
    Connect {
        /// Who.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is not believed, or does not speak TLS.
    #[error("no TLS with {address}: {source}")]
    Tls {
        /// Who.
        address: String,
        /// What went wrong.
        source: io::Error,
    },
    /// It took too long.
    #[error("{address} did not answer within {time:?}")]
    TooLate {
        /// Who.
        address: String,
        /// How long it had.
        time: Duration,
    },
    /// What is there does not speak HTTP, or broke off.
    #[error("no whole HTTP answer from {address}: {source}")]
    Broken {
        /// Who.
        address: String,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It gives an answer, but no stream.
    #[error("{address} refuses with status {status}: {text}")]
    Refused {
        /// Who.
        address: String,
        /// The status.
        status: u16,
        /// What it said.
        text: String,
    },
    /// The stream is over.
    #[error("{address} has ended the stream")]
    Ended {
        /// Who.
        address: String,
    },
}

/// Sends the request on a connection of its own and reads the whole answer, within `time`.
///
/// # Errors
/// [`ClientError`].
pub async fn ask(server: &Server, request: Request<'_>, time: Duration) -> Result<Answer, ClientError> {
    within(server, request, (&[], true), time).await
}

/// Tells with these headers too. The answer's body is not wanted: one that is long is not read, and empty here.
///
/// # Errors
/// [`ClientError`].
pub async fn tell_with(
    server: &Server,
    request: Request<'_>,
    headers: &[(&str, String)],
    time: Duration,
) -> Result<Answer, ClientError> {
    within(server, request, (headers, false), time).await
}

async fn within(
    server: &Server,
    request: Request<'_>,
    beside: (&[(&str, String)], bool),
    time: Duration,
) -> Result<Answer, ClientError> {
    let address = || server.to_string();
    let answer = async {
        let answer = converse(connect(server).await?, server, request, beside).await;
        answer.map_err(|source| ClientError::Broken { address: address(), source })
    };
    time::timeout(time, answer).await.unwrap_or_else(|_| Err(ClientError::TooLate { address: address(), time }))
}

/// A connection, whatever it is made of.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

async fn connect(server: &Server) -> Result<Box<dyn Wire>, ClientError> {
    let address = || server.to_string();
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await;
    let stream = stream.map_err(|source| ClientError::Connect { address: address(), source })?;
    match &server.trust {
        None => Ok(Box::new(stream)),
        Some(trust) => {
            let stream = trust.connect(stream, &server.host).await;
            Ok(Box::new(stream.map_err(|source| ClientError::Tls { address: address(), source })?))
        }
    }
}

async fn converse(
    stream: Box<dyn Wire>,
    server: &Server,
    request: Request<'_>,
    (headers, is_wanted): (&[(&str, String)], bool),
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut head = server.request(request.method, request.path).header(CONTENT_TYPE, request.kind);
    for (name, value) in headers {
        head = head.header(*name, value);
    }
    let request = head.body(Full::new(Bytes::from(request.body)))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let longest = if is_wanted { LONGEST } else { SHORT };
        let body = match Limited::new(response.into_body(), longest).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) if !is_wanted => Bytes::new(),
            Err(fault) => return Err(fault),
        };
        Ok::<_, Box<dyn Error + Send + Sync>>(Answer { status, retry_after, body })
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
    use std::net::SocketAddr;

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
        let answer = ask(&Server::from(address), put(), TIME).await.expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (404, &b"none"[..]));
        let request = server.await.expect("no panic").to_lowercase();
        assert!(request.starts_with("put /x?y=z http/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: {address}\r\n")) && request.contains("content-length: 2\r\n"));
    }

    #[tokio::test]
    async fn an_answer_without_a_length_ends_with_its_connection() {
        let (address, _server) = answering(b"HTTP/1.0 200 OK\r\n\r\nall of it").await;
        assert_eq!(&ask(&Server::from(address), put(), TIME).await.expect("an answer").body[..], b"all of it");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_apart() {
        let (address, _server) = answering(b"SIP/2.0 200 OK\r\n\r\n").await;
        assert!(matches!(ask(&Server::from(address), put(), TIME).await, Err(ClientError::Broken { .. })));
        let (address, _server) = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
        assert!(matches!(ask(&Server::from(address), put(), TIME).await, Err(ClientError::Broken { .. })));
        // Bound, and nobody accepts.
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = silent.local_addr().expect("bound");
        let late = ask(&Server::from(address), put(), Duration::from_millis(1)).await;
        assert!(matches!(late, Err(ClientError::TooLate { .. })), "{late:?}");
        drop(silent);
        assert!(matches!(ask(&Server::from(address), put(), TIME).await, Err(ClientError::Connect { .. })));
    }
}
