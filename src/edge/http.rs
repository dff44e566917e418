//! The HTTP surface: the operator's page, what monitors and commands ask, orders, and the peers' own words for them. `routes` has
//! all of it, and docs/openapi.json tells of it.
//!
//! It knows nothing of the node but the trait [`Node`], which whoever starts it fills in.

mod access;
mod compat;
mod doors;
mod events;
mod explain;
mod guard;
mod idle;
mod page;
mod query;
mod report;
mod routes;
mod sessions;
mod sets;
mod store;
mod stream;
mod this_node;
mod traces;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time;

use crate::edge::cluster::Peers;
use crate::edge::counters::HttpRefusal;
use crate::edge::journal::Journal;
use crate::edge::metrics::CONTENT_TYPE;
use crate::edge::stories::Stories;
use crate::edge::tls::Identity;
use crate::engine::Snapshot;
use crate::engine::dispatch::{
    DistrustOrder, NoSuchDestination, NotDistrusted, NotOrdered, Observation, OrderTerms, SetId, Standing,
};
use crate::engine::event::{EndOrder, NotEnded};
use crate::engine::explain::{Came, Explained};
use crate::engine::flow::Listener;
use crate::engine::snapshot::SessionPage;
use crate::engine::trace::{NotTraced, TraceOrder};

use access::Asker;
use doors::TlsListener;
use guard::{Cause, Guard, Peer};
use idle::IdleListener;
use routes::{Need, Operation, Routes};
use stream::Stream;

pub use access::{Access, Role, Token};
pub use events::EventsReport;
pub use explain::{
    ConditionReport, ExplainReport, ExplainedDestination, ExplainedSet, FateReport, RuleReport, TryReport, listener_of,
    pasted,
};
pub use report::{
    AddressStory, AgentReport, ClassReport, DestinationReport, DestinationStory, LatencyReport, NodeSessions,
    ObservationReport, OrderReport, SetReport, SetsReport, VoteReport,
};
pub use sessions::{BeingEnded, SessionReport, SessionsReport};
pub use store::{
    ChangedField, PartitionPlan, PartitionReport, PinReport, PlanReport, PlannedChange, ReloadFailed, ReloadOrder,
    Reloaded, RollbackOrder, StoreReport, VersionReport,
};
pub use stream::event_id;
pub use this_node::{ListenerReport, NodeReport, PeerReport};
pub use traces::{BeingTraced, MessageReport, StepReport, StoryReport, TraceSummary, TracesReport};

/// How long an answer may take before 503 is given instead; a reload may take longer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a client may wait for a reload. The reload itself goes on.
const RELOAD: Duration = Duration::from_secs(120);
/// No request of ours has a body worth more.
const BODY: usize = 64 << 10;
/// What who asks is told after [`ANSWER`].
const TOO_LATE: &str = "the node did not answer in time";
/// The document of all that can be asked (OpenAPI 3.1).
const DOCUMENT: &str = include_str!("../../docs/openapi.json");

/// The last observations of a destination by address, oldest first.
type History = Vec<(SocketAddr, Vec<Observation>)>;

/// What the surface shows and asks of the node behind it.
pub trait Node: Send + Sync + 'static {
    /// The node's name.
    fn name(&self) -> &str;
    /// When it started.
    fn started(&self) -> SystemTime;
    /// The other nodes of its cluster; none if it stands alone.
    fn peers(&self) -> Option<Peers>;
    /// The engine's state.
    fn snapshot(&self) -> impl Future<Output = Result<Arc<Snapshot>, String>> + Send;
    /// What was seen last of a destination.
    fn history(&self, set: SetId, uri: &str) -> impl Future<Output = Result<History, String>> + Send;
    /// The listeners, ports filled in.
    fn listeners(&self) -> &[Listener];
    /// For each listener, whether its address is this machine's now.
    fn held(&self) -> Vec<bool>;
    /// What would become of a message that came so.
    fn explain(&self, message: Vec<u8>, came: Came) -> impl Future<Output = Result<Explained, String>> + Send;
    /// Gives an operator's order to a destination, if it keeps to its terms, and puts it on disk.
    fn give(
        &self,
        set: SetId,
        uri: &str,
        standing: Standing,
        terms: OrderTerms,
    ) -> impl Future<Output = Result<Given, String>> + Send;
    /// Whether the `state` column of the set's rows follows orders.
    fn persists(&self, set: SetId) -> bool;
    /// Holds a destination for failed, until a probe or a call has shown otherwise.
    fn distrust(&self, order: DistrustOrder) -> impl Future<Output = Result<Result<(), NotDistrusted>, String>> + Send;
    /// Some of the live sessions of a set, or of one of its destinations: so many from there on.
    fn sessions(
        &self,
        set: SetId,
        uri: Option<&str>,
        some: (usize, usize),
    ) -> impl Future<Output = Result<Result<SessionPage, NoSuchDestination>, String>> + Send;
    /// Ends sessions; how many are being ended.
    fn end(&self, order: EndOrder) -> impl Future<Output = Result<Result<u64, NotEnded>, String>> + Send;
    /// Calls' stories.
    fn stories(&self) -> &Stories;
    /// Tells of a call from now on.
    fn trace(&self, order: TraceOrder) -> impl Future<Output = Result<Result<(), NotTraced>, String>> + Send;
    /// Whether the node can take calls, and what is wrong with it.
    fn readiness(&self) -> impl Future<Output = Readiness> + Send;
    /// Why another node would serve calls better; nothing if none would.
    fn unfit(&self) -> impl Future<Output = Result<Vec<String>, String>> + Send;
    /// The metrics as text ([`crate::edge::metrics::render`]).
    fn metrics(&self) -> impl Future<Output = Result<String, String>> + Send;
    /// Reads the sets anew and puts them in place; never called while it runs.
    fn reload(&self, order: ReloadOrder) -> impl Future<Output = Result<Reloaded, ReloadFailed>> + Send;
    /// Puts a former version in place, or ends that; never called while [`Node::reload`] runs.
    fn rollback(&self, order: RollbackOrder) -> impl Future<Output = Result<Reloaded, ReloadFailed>> + Send;
    /// What a reload would do: of all partitions, or of one.
    fn plan(&self, partition: Option<&str>) -> impl Future<Output = Result<PlanReport, ReloadFailed>> + Send;
    /// The partitions: the name of each, and what its sets' numbers are above those of its rows.
    fn partitions(&self) -> Vec<(String, u32)>;
    /// What of the rows is in place, and what was.
    fn store(&self) -> impl Future<Output = StoreReport> + Send;
    /// What has happened since the start.
    fn journal(&self) -> &Journal;
    /// Makes the node leave, as SIGTERM does.
    fn drain(&self);
    /// Counts a request that was not let in.
    fn refused(&self, why: HttpRefusal);
}

/// Whether the node can take calls: one load of the sets is in and it is not draining.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Readiness {
    /// Why it can't, in words; empty if it can.
    pub reasons: Vec<String>,
    /// What is wrong although it can: the store fails, a set is empty.
    pub degraded: Vec<String>,
}

impl Readiness {
    fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }

    /// The same for those who may not know what is wrong: only how much.
    fn outlined(self) -> Self {
        let faults = match self.degraded.len() {
            0 => None,
            1 => Some("1 fault, for those who have a token".to_owned()),
            count => Some(format!("{count} faults, for those who have a token")),
        };
        Readiness { degraded: faults.into_iter().collect(), ..self }
    }

    /// As `/ready` tells it.
    fn report(&self) -> serde_json::Value {
        json!({ "ready": self.is_ready(), "reasons": self.reasons, "degraded": self.degraded })
    }
}

/// What has become of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// It holds, and outlives a restart.
    Kept,
    /// It holds; why a restart would not know of it.
    Unkept(String),
    /// It is not obeyed.
    InVain(NotOrdered),
}

/// Why the surface can't be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address could not be bound.
    #[error("cannot listen on tcp {address} for HTTP: {source}: correct `http.listen`, or stop who has this port")]
    Bind {
        /// The address as configured.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server broke off.
    #[error("the HTTP surface broke off: {0}")]
    Serve(io::Error),
}

/// A bound address that nobody serves yet: connections wait.
#[derive(Debug)]
pub struct Surface {
    listener: TcpListener,
    address: SocketAddr,
}

impl Surface {
    /// Binds `listen`; port 0 takes a free one.
    pub async fn bind(listen: SocketAddr) -> Result<Self, HttpError> {
        let fault = |source| HttpError::Bind { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        Ok(Surface { listener, address })
    }

    /// The address as bound, port filled in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `node` to those who may ask, by TLS if there is an identity, until `shutdown` is done and the requests in being
    /// are answered.
    pub async fn serve<N: Node>(
        self,
        node: Arc<N>,
        access: Access,
        identity: Option<Identity>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), HttpError> {
        let counting = Arc::clone(&node);
        let failed = move || counting.refused(HttpRefusal::Tls);
        let router = router(node, access, identity.is_some());
        let service = router.into_make_service_with_connect_info::<Peer>();
        let served = match identity {
            None => axum::serve(IdleListener::new(self.listener), service).with_graceful_shutdown(shutdown).await,
            Some(identity) => {
                let listener = IdleListener::new(TlsListener::new(self.listener, identity, failed));
                axum::serve(listener, service).with_graceful_shutdown(shutdown).await
            }
        };
        served.map_err(HttpError::Serve)
    }
}

struct Shared<N> {
    node: Arc<N>,
    /// Held during a reload, so that two never run at once.
    reload: Arc<Mutex<()>>,
    stream: Arc<Stream>,
}

impl<N> Clone for Shared<N> {
    fn clone(&self) -> Self {
        Shared { node: Arc::clone(&self.node), reload: Arc::clone(&self.reload), stream: Arc::clone(&self.stream) }
    }
}

/// All that can be asked, and what who asks needs.
fn routes<N: Node>() -> Routes<N> {
    Routes::new()
        .get("/live", Need::Nothing, async || "ok")
        .get("/ready", Need::Nothing, ready::<N>)
        .get("/fit", Need::Nothing, fit::<N>)
        .get("/metrics", Need::Metrics, metrics::<N>)
        .get("/node", Need::Role(Role::Read), this_node::<N>)
        .get("/openapi.json", Need::Page, async || ([(header::CONTENT_TYPE, "application/json")], DOCUMENT))
        .post("/drain", Role::Admin, drain::<N>)
        .merge(sets::routes())
        .merge(sessions::routes())
        .merge(explain::routes())
        .merge(store::routes())
        .merge(traces::routes())
        .merge(compat::routes())
        .merge(events::routes())
        .merge(stream::routes())
        .merge(page::routes())
}

fn router<N: Node>(node: Arc<N>, access: Access, is_tls: bool) -> Router {
    let (router, table) = routes::<N>().into_parts();
    let there = paths(&table);
    let guard = Arc::new(Guard::new(Arc::clone(&node), access, table, is_tls));
    router
        .method_not_allowed_fallback(async || error(StatusCode::METHOD_NOT_ALLOWED, "no such method here"))
        .fallback(async move || error(StatusCode::NOT_FOUND, &format!("no such path: there are {there}")))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn_with_state(guard, guard::stand))
        .with_state(Shared { node, reload: Arc::default(), stream: Arc::default() })
}

/// For whoever asks for another one.
fn paths(table: &[Operation]) -> String {
    let mut paths: Vec<_> = table.iter().map(|one| one.path).collect();
    paths.dedup();
    paths.join(", ")
}

async fn ready<N: Node>(State(shared): State<Shared<N>>, asker: Asker) -> Response {
    let Ok(readiness) = time::timeout(ANSWER, shared.node.readiness()).await else {
        return too_late();
    };
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let readiness = if asker.is_stranger() { readiness.outlined() } else { readiness };
    (status, Json(readiness.report())).into_response()
}

async fn fit<N: Node>(State(shared): State<Shared<N>>) -> Response {
    let reasons = match time::timeout(ANSWER, shared.node.unfit()).await {
        Ok(Ok(reasons)) => reasons,
        Ok(Err(cause)) => return error(StatusCode::INTERNAL_SERVER_ERROR, &cause),
        Err(_) => return error(StatusCode::INTERNAL_SERVER_ERROR, TOO_LATE),
    };
    let fit = reasons.is_empty();
    let status = if fit { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "fit": fit, "reasons": reasons }))).into_response()
}

async fn metrics<N: Node>(State(shared): State<Shared<N>>) -> Response {
    match time::timeout(ANSWER, shared.node.metrics()).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Ok(Err(cause)) => error(StatusCode::SERVICE_UNAVAILABLE, &cause),
        Err(_) => too_late(),
    }
}

async fn this_node<N: Node>(State(shared): State<Shared<N>>) -> Response {
    match time::timeout(ANSWER, shared.node.snapshot()).await {
        Ok(Ok(snapshot)) => Json(NodeReport::new(&*shared.node, &snapshot)).into_response(),
        Ok(Err(cause)) => error(StatusCode::SERVICE_UNAVAILABLE, &cause),
        Err(_) => too_late(),
    }
}

async fn drain<N: Node>(State(shared): State<Shared<N>>, asker: Asker) -> Response {
    asker.orders(&asker.giver(""), "", String::new());
    shared.node.drain();
    (StatusCode::ACCEPTED, Json(json!({ "draining": true }))).into_response()
}

/// A page may send text and forms anywhere unasked, but not this.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn too_late() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, TOO_LATE)
}

fn error(status: StatusCode, cause: &str) -> Response {
    because(cause, (status, Json(json!({ "error": cause }))))
}

/// An answer that is none, with its cause for the log.
fn because(cause: &str, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.extensions_mut().insert(Cause(cause.to_owned()));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::edge::stories::StoriesConfig;

    pub(super) struct Double {
        journal: Journal,
        stories: Arc<Stories>,
        readiness: std::sync::Mutex<Readiness>,
        broken: AtomicBool,
        reloads: AtomicUsize,
        inside: AtomicUsize,
        entered: Notify,
        go_on: Notify,
        held: AtomicBool,
        drained: AtomicBool,
        pub(super) refused: std::sync::Mutex<Vec<HttpRefusal>>,
    }

    impl Default for Double {
        fn default() -> Self {
            Double {
                journal: Journal::new("a"),
                stories: Stories::start(&StoriesConfig::default(), "a").expect("they go nowhere"),
                readiness: Default::default(),
                broken: Default::default(),
                reloads: Default::default(),
                inside: Default::default(),
                entered: Default::default(),
                go_on: Default::default(),
                held: Default::default(),
                drained: Default::default(),
                refused: Default::default(),
            }
        }
    }

    impl Node for Double {
        fn name(&self) -> &str {
            "a"
        }

        fn started(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn peers(&self) -> Option<Peers> {
            None
        }

        async fn snapshot(&self) -> Result<Arc<Snapshot>, String> {
            Err("no engine".to_owned())
        }

        async fn history(&self, _: SetId, _: &str) -> Result<History, String> {
            Err("no engine".to_owned())
        }

        fn listeners(&self) -> &[Listener] {
            &[]
        }

        fn held(&self) -> Vec<bool> {
            Vec::new()
        }

        async fn explain(&self, _: Vec<u8>, _: Came) -> Result<Explained, String> {
            Err("no engine".to_owned())
        }

        async fn give(&self, _: SetId, _: &str, _: Standing, _: OrderTerms) -> Result<Given, String> {
            panic!("nothing here is to be ordered")
        }

        fn persists(&self, _: SetId) -> bool {
            false
        }

        async fn distrust(&self, _: DistrustOrder) -> Result<Result<(), NotDistrusted>, String> {
            panic!("nothing here is to be ordered")
        }

        async fn sessions(
            &self,
            _: SetId,
            _: Option<&str>,
            _: (usize, usize),
        ) -> Result<Result<SessionPage, NoSuchDestination>, String> {
            Err("no engine".to_owned())
        }

        async fn end(&self, _: EndOrder) -> Result<Result<u64, NotEnded>, String> {
            panic!("nothing here is to be ended")
        }

        fn journal(&self) -> &Journal {
            &self.journal
        }

        fn stories(&self) -> &Stories {
            &self.stories
        }

        async fn trace(&self, _: TraceOrder) -> Result<Result<(), NotTraced>, String> {
            panic!("nobody calls here")
        }

        fn drain(&self) {
            self.drained.store(true, SeqCst);
        }

        fn refused(&self, why: HttpRefusal) {
            self.refused.lock().expect("whole").push(why);
        }

        async fn readiness(&self) -> Readiness {
            self.readiness.lock().expect("whole").clone()
        }

        async fn unfit(&self) -> Result<Vec<String>, String> {
            match self.broken.load(SeqCst) {
                true => Err("no engine".to_owned()),
                false => Ok(self.readiness.lock().expect("whole").degraded.clone()),
            }
        }

        async fn metrics(&self) -> Result<String, String> {
            if self.broken.load(SeqCst) { Err("no engine".to_owned()) } else { Ok("tandem_draining 0\n".to_owned()) }
        }

        async fn rollback(&self, _: RollbackOrder) -> Result<Reloaded, ReloadFailed> {
            panic!("nothing here is to go back")
        }

        async fn plan(&self, _: Option<&str>) -> Result<PlanReport, ReloadFailed> {
            Ok(PlanReport::default())
        }

        fn partitions(&self) -> Vec<(String, u32)> {
            vec![("default".to_owned(), 0)]
        }

        async fn store(&self) -> StoreReport {
            StoreReport::default()
        }

        async fn reload(&self, _: ReloadOrder) -> Result<Reloaded, ReloadFailed> {
            assert_eq!(self.inside.fetch_add(1, SeqCst), 0, "one reload at a time");
            self.entered.notify_one();
            if self.held.load(SeqCst) {
                self.go_on.notified().await;
            }
            self.inside.fetch_sub(1, SeqCst);
            let count = self.reloads.fetch_add(1, SeqCst) + 1;
            if self.broken.load(SeqCst) {
                let (error, faults) = ("two rows".to_owned(), vec!["row 7: bad URI".to_owned()]);
                return Err(ReloadFailed { error, faults, ..ReloadFailed::default() });
            }
            Ok(Reloaded { added: count, removed: 1, ..Reloaded::default() })
        }
    }

    pub(super) struct Running {
        pub(super) node: Arc<Double>,
        pub(super) address: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<Result<(), HttpError>>,
    }

    async fn run() -> Running {
        run_with(Access::default(), None).await
    }

    pub(super) async fn run_with(access: Access, identity: Option<Identity>) -> Running {
        let node = Arc::new(Double::default());
        let surface = Surface::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = surface.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(surface.serve(Arc::clone(&node), access, identity, async { drop(stopped.await) }));
        Running { node, address, stop, task }
    }

    pub(super) async fn send(address: SocketAddr, line: &str, more: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        stream
    }

    pub(super) async fn answer(mut stream: TcpStream) -> (u16, String, String) {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn ask(address: SocketAddr, line: &str) -> (u16, String, String) {
        answer(send(address, line, "").await).await
    }

    fn value(body: &str) -> Value {
        serde_json::from_str(body).expect("JSON")
    }

    #[tokio::test]
    async fn live_and_metrics_answer_as_text() {
        let running = run().await;
        let (status, _, body) = ask(running.address, "GET /live").await;
        assert_eq!((status, body.as_str()), (200, "ok"));
        let (status, head, body) = ask(running.address, "GET /metrics").await;
        assert_eq!((status, body.as_str()), (200, "tandem_draining 0\n"));
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        running.node.broken.store(true, SeqCst);
        let (status, _, body) = ask(running.address, "GET /metrics").await;
        assert_eq!((status, value(&body)), (503, json!({ "error": "no engine" })));
    }

    #[tokio::test]
    async fn a_degraded_node_is_ready_and_one_with_reasons_is_not() {
        let running = run().await;
        let set = |reasons: &[&str], degraded: &[&str]| {
            let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
            *running.node.readiness.lock().expect("whole") =
                Readiness { reasons: owned(reasons), degraded: owned(degraded) };
        };
        set(&[], &["the store fails"]);
        let (status, head, body) = ask(running.address, "GET /ready").await;
        let expected = json!({ "ready": true, "reasons": [], "degraded": ["the store fails"] });
        assert_eq!((status, value(&body)), (200, expected));
        assert!(head.contains("content-type: application/json"), "{head}");
        set(&["draining"], &[]);
        let (status, _, body) = ask(running.address, "GET /ready").await;
        let expected = json!({ "ready": false, "reasons": ["draining"], "degraded": [] });
        assert_eq!((status, value(&body)), (503, expected));
    }

    #[tokio::test]
    async fn where_there_are_tokens_ready_tells_strangers_how_much_is_wrong_but_not_what() {
        let noc = Token { name: "noc".to_owned(), role: Role::Read, hash: Token::hash(b"secret") };
        let running = run_with(Access { tokens: vec![noc], ..Access::default() }, None).await;
        let degraded = async |header: &str| {
            let (status, _, body) = answer(send(running.address, "GET /ready", header).await).await;
            assert_eq!(status, 200);
            value(&body)["degraded"].clone()
        };
        assert_eq!(degraded("").await, json!([]));
        let faults = vec!["db.example.com is away".to_owned(), "set 19 has no fit destination".to_owned()];
        running.node.readiness.lock().expect("whole").degraded = faults.clone();
        for header in ["", "Authorization: Bearer x\r\n"] {
            assert_eq!(degraded(header).await, json!(["2 faults, for those who have a token"]));
        }
        assert_eq!(degraded("Authorization: Bearer secret\r\n").await, json!(faults));
    }

    #[tokio::test]
    async fn who_is_not_fit_says_why_and_only_then_503() {
        let running = run().await;
        let (status, _, body) = ask(running.address, "GET /fit").await;
        assert_eq!((status, value(&body)), (200, json!({ "fit": true, "reasons": [] })));
        running.node.readiness.lock().expect("whole").degraded = vec!["b has some".to_owned()];
        let (status, _, body) = ask(running.address, "GET /fit").await;
        assert_eq!((status, value(&body)), (503, json!({ "fit": false, "reasons": ["b has some"] })));
        // That is for /ready to say, and no reason to think another node better.
        running.node.broken.store(true, SeqCst);
        assert_eq!(ask(running.address, "GET /fit").await.0, 500);
    }

    #[tokio::test]
    async fn a_reload_tells_what_changed_or_what_is_at_fault() {
        let running = run().await;
        let (status, _, body) = ask(running.address, "POST /reload").await;
        assert_eq!(
            (status, value(&body)),
            (200, json!({ "added": 1, "removed": 1, "changed": 0, "faults": [], "partitions": [] }))
        );
        running.node.broken.store(true, SeqCst);
        let (status, _, body) = ask(running.address, "POST /reload").await;
        assert_eq!(
            (status, value(&body)),
            (422, json!({ "error": "two rows", "faults": ["row 7: bad URI"], "refused": [] }))
        );
    }

    #[tokio::test]
    async fn reloads_run_one_after_the_other_and_outlive_their_clients() {
        let running = run().await;
        running.node.held.store(true, SeqCst);
        let first = send(running.address, "POST /reload", "").await;
        running.node.entered.notified().await;
        drop(first);
        let second = send(running.address, "POST /reload", "").await;
        running.node.held.store(false, SeqCst);
        running.node.go_on.notify_one();
        let (status, _, body) = answer(second).await;
        assert_eq!((status, value(&body)["added"].clone()), (200, json!(2)));
        assert_eq!(running.node.reloads.load(SeqCst), 2);
    }

    #[tokio::test]
    async fn a_web_page_can_neither_reload_nor_drain_nor_order() {
        let running = run().await;
        for line in ["POST /reload", "POST /drain", "POST /explain", "POST /mi", "POST /RPC"] {
            let (status, ..) = answer(send(running.address, line, "Origin: http://evil.example\r\n").await).await;
            assert_eq!((status, running.node.reloads.load(SeqCst), running.node.drained.load(SeqCst)), (403, 0, false));
        }
        let line = "PUT /sets/19/destination/order?uri=x";
        for (header, expected) in [
            ("Origin: http://evil.example\r\nContent-Type: application/json\r\n", 403),
            ("", 415),
            ("Content-Type: text/plain\r\n", 415),
            ("Content-Type: application/x-www-form-urlencoded\r\n", 415),
            // It is read, and is empty.
            ("Content-Type: Application/JSON; charset=utf-8\r\n", 400),
        ] {
            assert_eq!(answer(send(running.address, line, header).await).await.0, expected, "{header}");
        }
        assert_eq!(ask(running.address, "POST /drain").await.0, 202);
        assert!(running.node.drained.load(SeqCst));
    }

    #[tokio::test]
    async fn who_came_by_a_name_that_may_be_anybodys_gets_nothing() {
        let running = run().await;
        for (hosts, expected) in [
            (&["127.0.0.1:9060"][..], 200),
            (&["[::1]:9060"], 200),
            (&["[::1]"], 200),
            (&["10.0.0.1"], 200),
            (&["LOCALHOST:9060"], 200),
            (&["evil.example:9060"], 403),
            (&["localhost.evil.example"], 403),
            (&["127.0.0.1.evil.example"], 403),
            (&["127.0.0.1", "evil.example"], 403),
            (&[""], 403),
        ] {
            let mut stream = TcpStream::connect(running.address).await.expect("listening");
            let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
            let request = |path| format!("GET {path} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
            stream.write_all(request("/sets").as_bytes()).await.expect("written");
            let (status, ..) = answer(stream).await;
            assert_eq!(status == 403, expected == 403, "{hosts}");
            let mut stream = TcpStream::connect(running.address).await.expect("listening");
            stream.write_all(request("/metrics").as_bytes()).await.expect("written");
            assert_eq!(answer(stream).await.0, 200, "a monitor's: {hosts}");
        }
    }

    #[tokio::test]
    async fn without_an_engine_nothing_is_told_of_sets() {
        let running = run().await;
        for path in ["/sets", "/sets/19", "/sets/19/destination?uri=x"] {
            let (status, _, body) = ask(running.address, &format!("GET {path}")).await;
            assert_eq!((status, value(&body)), (503, json!({ "error": "no engine" })), "{path}");
        }
    }

    #[tokio::test]
    async fn the_peers_tools_are_told_of_no_engine_and_must_speak_json() {
        let running = run().await;
        let ask = async |path: &str, method: &str, kind: &str| {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
            let length = body.len();
            let more = format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
            let (status, _, body) = answer(send(running.address, &format!("POST {path}"), &more).await).await;
            (status, value(&body))
        };
        let json = "application/json";
        let error = json!({ "code": -32000, "message": "Server error", "data": "no engine" });
        assert_eq!(ask("/mi", "ds_list", json).await, (200, json!({ "jsonrpc": "2.0", "error": error, "id": 1 })));
        let error = json!({ "code": 500, "message": "no engine" });
        let told = json!({ "jsonrpc": "2.0", "error": error, "id": 1 });
        assert_eq!(ask("/RPC", "dispatcher.list", json).await, (500, told));
        for (path, method) in [("/mi", "ds_reload"), ("/RPC", "dispatcher.reload")] {
            assert_eq!(ask(path, method, "text/plain").await.0, 415);
            assert_eq!(running.node.reloads.load(SeqCst), 0);
        }
        assert_eq!(ask("/mi", "ds_reload", json).await.1["result"], "OK");
        assert_eq!(ask("/RPC", "dispatcher.reload", json).await.1["result"], "Ok. Dispatcher successfully reloaded.");
        assert_eq!(running.node.reloads.load(SeqCst), 2);
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_are_answered_in_json() {
        let running = run().await;
        for (line, expected) in [("GET /nothing?x=1", 404), ("GET /reload", 405), ("POST /ready", 405)] {
            let (status, _, body) = ask(running.address, line).await;
            assert_eq!(status, expected, "{line}");
            assert!(value(&body)["error"].is_string(), "{line}: {body}");
        }
        assert_eq!(running.node.reloads.load(SeqCst), 0);
        // Nor is a name of no text.
        for line in ["GET /sets/%ff", "GET /sets/%ff/sessions", "GET /sets/%ff/destination?uri=x", "GET /traces/%ff"] {
            let (status, _, body) = ask(running.address, line).await;
            assert_eq!(status, 400, "{line}");
            assert!(value(&body)["error"].is_string(), "{line}: {body}");
        }
    }

    #[tokio::test]
    async fn shutdown_answers_what_is_in_being_and_frees_the_address() {
        let running = run().await;
        running.node.held.store(true, SeqCst);
        let waiting = send(running.address, "POST /reload", "").await;
        running.node.entered.notified().await;
        running.stop.send(()).expect("serving");
        running.node.go_on.notify_one();
        assert_eq!(answer(waiting).await.0, 200);
        running.task.await.expect("no panic").expect("served to the end");
        assert!(TcpStream::connect(running.address).await.is_err());
    }

    #[tokio::test]
    async fn a_taken_address_is_named_with_a_remedy() {
        let running = run().await;
        let error = Surface::bind(running.address).await.expect_err("taken").to_string();
        assert!(error.contains(&running.address.to_string()) && error.contains("`http.listen`"), "{error}");
    }
}
