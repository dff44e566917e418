//! Server-sent events, as the HTML standard has them (section 9.2), for as long as they come.

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::ACCEPT;
use hyper_util::rt::TokioIo;
use memchr::memchr;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::{ClientError, LONGEST, Server, connect};

/// A node says something every ten seconds at least; who is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest refusal that is read.
const REFUSAL: usize = 64 << 10;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its name; "" if it has none.
    pub name: String,
    /// What a listener who comes again gives as the last that it has heard; none: this event has no place.
    pub id: Option<String>,
    /// What it says.
    pub data: String,
}

/// A stream that is heard.
#[derive(Debug)]
pub struct Stream {
    address: String,
    body: Incoming,
    reader: Reader,
    /// When something came last.
    heard: Instant,
    /// After that long without a word it is over.
    silence: Duration,
    /// The connection, which ends with the stream.
    _connection: JoinSet<()>,
}

/// Asks for the stream at `path`, from after the event `last` on; the head of the answer comes within `time`.
///
/// # Errors
/// [`ClientError`].
pub async fn listen(server: &Server, path: &str, last: Option<&str>, time: Duration) -> Result<Stream, ClientError> {
    let late = || ClientError::TooLate { address: server.to_string(), time };
    timeout(time, begin(server, path, last)).await.unwrap_or_else(|_| Err(late()))
}

async fn begin(server: &Server, path: &str, last: Option<&str>) -> Result<Stream, ClientError> {
    let address = server.to_string();
    let broken = |source: Box<dyn Error + Send + Sync>| ClientError::Broken { address: server.to_string(), source };
    let stream = connect(server).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.into()))?;
    let mut task = JoinSet::new();
    task.spawn(async {
        // Its end, and why, is the body's.
        let _ = connection.await;
    });
    let mut request = server.request("GET", path).header(ACCEPT, "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| broken(error.into()))?;
    let response = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
    let status = response.status().as_u16();
    if status != 200 {
        let body = Limited::new(response.into_body(), REFUSAL).collect().await.map_err(broken)?.to_bytes();
        return Err(ClientError::Refused { address, status, text: String::from_utf8_lossy(&body).into_owned() });
    }
    let (body, reader) = (response.into_body(), Reader::new(LONGEST));
    Ok(Stream { address, body, reader, heard: Instant::now(), silence: SILENCE, _connection: task })
}

impl Stream {
    /// The next event. Whoever stops waiting for it loses none.
    ///
    /// # Errors
    /// [`ClientError`]: nothing more comes after it.
    pub async fn next(&mut self) -> Result<StreamEvent, ClientError> {
        let (address, time) = (|| self.address.clone(), self.silence);
        loop {
            if let Some(event) = self.reader.events.pop_front() {
                return Ok(event);
            }
            let frame = timeout_at(self.heard + time, self.body.frame());
            let frame = frame.await.map_err(|_| ClientError::TooLate { address: address(), time })?;
            let frame = frame.ok_or(ClientError::Ended { address: address() })?;
            let frame = frame.map_err(|error| ClientError::Broken { address: address(), source: error.into() })?;
            self.heard = Instant::now();
            if let Some(bytes) = frame.data_ref() {
                self.reader
                    .read(bytes)
                    .map_err(|TooLong| ClientError::Broken { address: address(), source: TooLong.into() })?;
            }
        }
    }
}

/// An event is longer than any that a node tells.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event that is longer than any of a node's")]
struct TooLong;

/// Makes events of bytes, however they are cut.
#[derive(Debug)]
struct Reader {
    /// The longest event, in bytes.
    longest: usize,
    /// A line whose end is not there yet.
    line: Vec<u8>,
    /// An event whose end is not there yet.
    event: StreamEvent,
    events: VecDeque<StreamEvent>,
}

impl Reader {
    fn new(longest: usize) -> Self {
        Reader { longest, line: Vec::new(), event: StreamEvent::default(), events: VecDeque::new() }
    }

    fn read(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while let Some(end) = memchr(b'\n', bytes) {
            self.gather(&bytes[..end])?;
            let line = std::mem::take(&mut self.line);
            self.take(&String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)));
            bytes = &bytes[end + 1..];
        }
        self.gather(bytes)
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + self.event.data.len() + bytes.len() > self.longest {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn take(&mut self, line: &str) {
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.event);
            if event.data.pop().is_some() {
                self.events.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "id" => self.event.id = Some(value.to_owned()),
            "data" => {
                self.event.data += value;
                self.event.data.push('\n');
            }
            // A comment, which keeps the connection alive, or a field that is not ours to know.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    const TIME: Duration = Duration::from_secs(20);

    fn event(name: &str, id: Option<&str>, data: &str) -> StreamEvent {
        StreamEvent { name: name.to_owned(), id: id.map(str::to_owned), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_however_their_bytes_are_cut() {
        let text =
            ":\n\nevent: event\nid: 17-4\ndata: {\"ä\":1}\n\nretry: 5\n\ndata:a\r\ndata: b\r\n\r\ndata\n\nevent: half";
        let expected = [event("event", Some("17-4"), "{\"ä\":1}"), event("", None, "a\nb"), event("", None, "")];
        for length in 1..text.len() {
            let mut reader = Reader::new(100);
            for bytes in text.as_bytes().chunks(length) {
                assert_eq!(reader.read(bytes), Ok(()));
            }
            assert_eq!(reader.events, expected, "in pieces of {length}");
        }
    }

    #[test]
    fn an_event_without_end_is_no_end_of_memory() {
        let mut reader = Reader::new(100);
        assert_eq!(reader.read(&[b'x'; 100]), Ok(()));
        assert_eq!(reader.read(b"x"), Err(TooLong));
        let mut reader = Reader::new(100);
        let lines = (0..100).map(|_| reader.read(b"data: 1234567\n"));
        assert!(lines.last().expect("a hundred").is_err());
    }

    /// Answers one request with these bytes and stays; what was asked comes back.
    async fn answering(bytes: &'static [u8]) -> (Server, JoinHandle<(String, tokio::net::TcpStream)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = Server::from(listener.local_addr().expect("bound"));
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let length = stream.read_buf(&mut asked).await.expect("a request");
                assert!(length > 0, "a whole request");
            }
            stream.write_all(bytes).await.expect("written");
            (String::from_utf8_lossy(&asked).to_lowercase(), stream)
        });
        (server, task)
    }

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 7\ndata: x\n\n";

    #[tokio::test]
    async fn a_listener_says_what_it_has_heard_and_hears_the_end() {
        let (at, server) = answering(HEAD).await;
        let mut stream = listen(&at, "/stream", Some("17-6"), TIME).await.expect("a stream");
        assert_eq!(stream.next().await.expect("an event"), event("", Some("7"), "x"));
        let (asked, connection) = server.await.expect("no panic");
        assert!(
            asked.starts_with("get /stream http/1.1\r\n") && asked.contains("\r\nlast-event-id: 17-6\r\n"),
            "{asked}"
        );
        drop(connection);
        assert!(matches!(stream.next().await, Err(ClientError::Ended { .. })));
    }

    #[tokio::test]
    async fn who_is_silent_for_too_long_is_gone() {
        let (at, server) = answering(HEAD).await;
        let mut stream = listen(&at, "/stream", None, TIME).await.expect("a stream");
        stream.next().await.expect("an event");
        let _connection = server.await.expect("no panic");
        stream.silence = Duration::from_millis(1);
        assert!(matches!(stream.next().await, Err(ClientError::TooLate { time, .. }) if time == stream.silence));
    }

    #[tokio::test]
    async fn a_refusal_is_told_with_its_status() {
        let (at, _server) = answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nfull").await;
        match listen(&at, "/stream", None, TIME).await {
            Err(ClientError::Refused { status, text, .. }) => assert_eq!((status, text.as_str()), (503, "full")),
            other => panic!("{other:?}"),
        }
    }
}
