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
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{info, warn};

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
    dropped: Arc<AtomicU64>,
}

/// Sends them.
#[derive(Debug)]
pub(super) struct Export {
    node: String,
    to: SocketAddr,
    exporter: SpanExporter,
    queue: mpsc::Receiver<String>,
    dropped: Arc<AtomicU64>,
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
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.to_owned()),
        ]);
        exporter.set_resource(&resource.build());
        let (queue, taken) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let export = Export { node: node.to_owned(), to, exporter, queue: taken, dropped: Arc::clone(&dropped) };
        Ok((Otlp { queue, dropped }, export))
    }

    /// A call that is told of is over.
    pub(super) fn ended(&self, call_id: &str) {
        if self.queue.try_send(call_id.to_owned()).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Calls that could not be sent.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

impl Export {
    /// Sends what is over, as long as there are stories.
    pub(super) async fn run(mut self, stories: Weak<Stories>) {
        let mut works = true;
        while let Some(first) = self.queue.recv().await {
            sleep(LINGER).await;
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
