//! Stories to an OpenTelemetry collector, by OTLP over HTTP with JSON. A queue, batches, tries again after a while: calls never
//! wait for it. The one door of the opentelemetry crates.

mod spans;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::build::VERSION;
use super::client;
use super::stories::Stories;

/// Calls that may wait to be sent.
const QUEUE: usize = 1000;
/// Calls that are sent at once.
const BATCH: usize = 100;
/// After its end a call has so long for its last messages, as the answer to a BYE, and a batch to gather.
const LINGER: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a batch is tried again before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between the last tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const TRIES_AGAIN: usize = 12;
/// How long a node that stops goes on sending what is left.
const LAST_BATCHES: Duration = Duration::from_secs(2);

/// Why stories can't be exported.
#[derive(Debug, Error)]
#[error("cannot export to trace.otlp {to}: {source}")]
pub struct OtlpError {
    to: SocketAddr,
    source: ExporterBuildError,
}

/// Takes calls that are over.
#[derive(Debug)]
pub struct Otlp {
    queue: mpsc::Sender<String>,
    /// Calls that are neither sent nor given up.
    waiting: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
    ending: watch::Sender<bool>,
    to: SocketAddr,
}

/// Sends them.
#[derive(Debug)]
pub(super) struct Export {
    node: String,
    to: SocketAddr,
    exporter: SpanExporter,
    queue: mpsc::Receiver<String>,
    waiting: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
    ending: watch::Receiver<bool>,
}

impl Otlp {
    pub(super) fn new(to: SocketAddr, node: &str) -> Result<(Self, Export), OtlpError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client(to))
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(format!("http://{to}/v1/traces"))
            .with_timeout(PATIENCE)
            .with_retry_policy(RetryPolicy::recommended().with_max_retries(TRIES_AGAIN).with_max_delay(LONGEST_PAUSE))
            .build();
        let mut exporter = exporter.map_err(|source| OtlpError { to, source })?;
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", "tandem"),
            KeyValue::new("service.version", VERSION),
            KeyValue::new("service.instance.id", node.to_owned()),
        ]);
        exporter.set_resource(&resource.build());
        let (queue, taken) = mpsc::channel(QUEUE);
        let (waiting, dropped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let ending = watch::Sender::new(false);
        let export = Export {
            node: node.to_owned(),
            to,
            exporter,
            queue: taken,
            waiting: Arc::clone(&waiting),
            dropped: Arc::clone(&dropped),
            ending: ending.subscribe(),
        };
        Ok((Otlp { queue, waiting, dropped, ending, to }, export))
    }

    /// A call that is told of is over.
    pub(super) fn ended(&self, call_id: &str) {
        // Before it can be sent.
        self.waiting.fetch_add(1, Relaxed);
        if self.queue.try_send(call_id.to_owned()).is_err() {
            self.waiting.fetch_sub(1, Relaxed);
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits for a while until what is left is sent by the task that does it; what is not is counted.
    pub(super) async fn close(&self, mut task: JoinHandle<()>) {
        self.ending.send_replace(true);
        if timeout(LAST_BATCHES, &mut task).await.is_err() {
            task.abort();
            let left = self.waiting.load(Relaxed);
            self.dropped.fetch_add(left, Relaxed);
            warn!(to = %self.to, left, "the collector does not get the last stories: it takes none, or is too slow");
        }
    }

    /// Calls that could not be sent.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

impl Export {
    /// Sends what is over, as long as there are stories; once they end, what is left of it.
    pub(super) async fn run(mut self, stories: Weak<Stories>) {
        let mut works = true;
        loop {
            let first = tokio::select! {
                biased;
                first = self.queue.recv() => first,
                _ = self.ending.wait_for(|ending| *ending) => {
                    self.queue.close();
                    continue;
                }
            };
            let Some(first) = first else { return };
            // Of what has ended nothing comes any more.
            tokio::select! {
                _ = self.ending.wait_for(|ending| *ending) => {}
                () = sleep(LINGER) => {}
            }
            let mut calls = vec![first];
            while calls.len() < BATCH
                && let Ok(next) = self.queue.try_recv()
            {
                calls.push(next);
            }
            let Some(stories) = stories.upgrade() else { return };
            let found: Vec<_> = calls.iter().map(|call_id| stories.story(call_id)).collect();
            drop(stories);
            let told = found.iter().flatten().filter(|story| story.is_traced());
            let (mut spans, mut count) = (Vec::new(), 0);
            for story in told {
                count += 1;
                spans.extend(spans::of(story, &self.node));
            }
            // Its story has had to make room.
            let mut lost = calls.len() - count;
            let to = self.to;
            match self.exporter.export(spans).await {
                Ok(()) if !works => info!(%to, "the collector takes stories again"),
                Ok(()) => {}
                Err(cause) => {
                    lost += count;
                    if works {
                        warn!(%to, %cause, "the collector takes no stories: they are lost");
                    }
                }
            }
            works = lost < calls.len() || count == 0;
            self.dropped.fetch_add(lost as u64, Relaxed);
            self.waiting.fetch_sub(calls.len() as u64, Relaxed);
        }
    }
}

/// By our own client.
#[derive(Debug)]
struct Client(SocketAddr);

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let kind = request.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let asked = client::Request {
            method: request.method().as_str(),
            path: request.uri().path(),
            kind,
            body: request.body().to_vec(),
        };
        let client::Answer { status, body, .. } = client::ask(&self.0.into(), asked, ANSWER).await?;
        Ok(Response::builder().status(status).body(body)?)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::{Instant, SystemTime};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::edge::stories::StoriesConfig;
    use crate::engine::Event;
    use crate::engine::dispatch::SetId;
    use crate::engine::event::{Ending, Record};
    use crate::engine::flow::{ConnectionId, Flow, ListenerId, Transport};
    use crate::engine::trace::{Packet, Step, What};

    /// Stories of which one is over.
    fn one_over(to: SocketAddr) -> Arc<Stories> {
        let config = StoriesConfig { otlp: Some(to), ..StoriesConfig::default() };
        let stories = Stories::start(&config, "a").expect("an exporter");
        let (at, peer) = (SystemTime::now(), "127.0.0.1:5060".parse().expect("an address"));
        let flow =
            Flow { listener: ListenerId(0), transport: Transport::Udp, peer, connection: ConnectionId::default() };
        let packet = Packet {
            flow,
            ours: peer,
            listener: String::new(),
            line: "INVITE sip:a SIP/2.0".to_owned(),
            method: "INVITE".to_owned(),
            status: None,
            branch: "b".to_owned(),
            bytes: Bytes::new(),
        };
        let call_id = "the last call".to_owned();
        let step = Step { at, call_id: call_id.clone(), id: 7, asked: false, what: What::Came(packet) };
        let record = Record {
            call_id,
            set: SetId(19),
            destination: None,
            address: None,
            codes: Vec::new(),
            began: at,
            answered_after: None,
            lasted: Duration::ZERO,
            ending: Ending::Failed,
        };
        stories.hear(&Event::Traced(Box::new(step)));
        stories.hear(&Event::Session(Box::new(record)));
        stories
    }

    #[tokio::test]
    async fn the_last_calls_are_sent_before_a_node_is_gone() {
        let collector = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let stories = one_over(collector.local_addr().expect("bound"));
        let taken = tokio::spawn(async move {
            let (mut stream, _) = collector.accept().await.expect("a connection");
            let (mut text, mut some) = (Vec::new(), [0; 4096]);
            while !String::from_utf8_lossy(&text).contains("the last call") {
                let count = stream.read(&mut some).await.expect("a request");
                assert!(count > 0, "{}", String::from_utf8_lossy(&text));
                text.extend_from_slice(&some[..count]);
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
            stream.write_all(answer.as_bytes()).await.expect("it waits for it");
            // Whoever closes first takes the answer back.
            stream.read_to_end(&mut text).await.expect("it has what it wants");
        });
        stories.close().await;
        taken.await.expect("the call came whole");
        assert_eq!(stories.counters().otlp_dropped, 0);
    }

    #[tokio::test]
    async fn a_collector_that_answers_nothing_holds_up_no_end_and_what_it_misses_is_counted() {
        // Its backlog takes the connection.
        let collector = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let stories = one_over(collector.local_addr().expect("bound"));
        let began = Instant::now();
        stories.close().await;
        assert!(began.elapsed() >= LAST_BATCHES);
        assert_eq!(stories.counters().otlp_dropped, 1);
    }
}
