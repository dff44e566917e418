//! What stands before every route: by which name it is asked, whether a page of another place asks, whose token it is and
//! what that may do; and behind it, one line of the log for each order.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use tracing::{info, warn};

use super::access::{Access, Asker, Note, Role};
use super::idle::IdleListener;
use super::routes::{Need, Operation};
use super::{Node, error};
use crate::edge::counters::HttpRefusal;

/// What is refused is told so often at most: whoever tries tokens fills no disk.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest path and order of the log, in characters.
const LONGEST: usize = 512;
/// What a browser is told.
const NOT_FROM_PAGES: &str = "not from a web page of another place";
const BY_ADDRESS: &str =
    "asked by a name that may be anybody's: give an IP address or localhost, or put the name into `http.names`";
const NO_TOKEN: &str = "who asks? Send a token, as Authorization: Bearer TOKEN";
const BAD_TOKEN: &str = "nobody here has this token: see [[http.token]] of this node";

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl<L: Listener<Addr = SocketAddr>> Connected<IncomingStream<'_, IdleListener<L>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, IdleListener<L>>) -> Self {
        Peer(*stream.remote_addr())
    }
}

/// Why an answer is none, for the log.
#[derive(Clone, Debug)]
pub(super) struct Cause(pub(super) String);

/// The surface's guard.
pub(super) struct Guard<N> {
    node: Arc<N>,
    access: Access,
    table: Vec<Operation>,
    /// `http` or `https`.
    scheme: &'static str,
    told: Mutex<Told>,
}

/// When something refused was told of last, and how many since were not.
#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

/// A request that is not let in.
struct Stranger {
    why: HttpRefusal,
    status: StatusCode,
    cause: String,
}

impl Stranger {
    fn new(why: HttpRefusal, status: StatusCode, cause: impl Into<String>) -> Self {
        Stranger { why, status, cause: cause.into() }
    }
}

impl<N: Node> Guard<N> {
    pub(super) fn new(node: Arc<N>, access: Access, table: Vec<Operation>, is_tls: bool) -> Self {
        let scheme = if is_tls { "https" } else { "http" };
        Guard { node, access, table, scheme, told: Mutex::default() }
    }

    /// What is asked for; none: nothing that there is.
    fn operation(&self, request: &Request) -> Option<Operation> {
        let path = request.extensions().get::<MatchedPath>()?;
        // HEAD is answered as GET is.
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        self.table.iter().find(|one| one.path == path.as_str() && *method == one.method).copied()
    }

    /// Who asks, if that may be asked.
    fn admit(&self, need: Need, method: &Method, headers: &HeaderMap) -> Result<Asker, Stranger> {
        let monitored = matches!(need, Need::Nothing | Need::Metrics);
        // A page whose own name leads here (DNS rebinding) could read all and order anything; its browser tells that name.
        if !monitored && !headers.get_all(header::HOST).iter().all(|host| self.is_ours(host)) {
            return Err(Stranger::new(HttpRefusal::Host, StatusCode::FORBIDDEN, BY_ADDRESS));
        }
        // A browser sends Origin with every request that a page makes to change something.
        let asks = *method == Method::GET || *method == Method::HEAD;
        if !asks && headers.contains_key(header::ORIGIN) && !self.is_own_page(headers) {
            return Err(Stranger::new(HttpRefusal::Origin, StatusCode::FORBIDDEN, NOT_FROM_PAGES));
        }
        let role = match need {
            Need::Nothing | Need::Page => return Ok(Asker::default()),
            Need::Metrics if self.access.open_metrics => return Ok(Asker::default()),
            Need::Metrics => Role::Read,
            Need::Role(role) => role,
        };
        if self.access.tokens.is_empty() {
            return Ok(Asker::default());
        }
        let unknown = |why, cause: &str| Stranger::new(why, StatusCode::UNAUTHORIZED, cause);
        let secret = bearer(headers).ok_or_else(|| unknown(HttpRefusal::NoToken, NO_TOKEN))?;
        let token = self.access.find(secret).ok_or_else(|| unknown(HttpRefusal::BadToken, BAD_TOKEN))?;
        let asker = Asker::with(Some(token));
        // Whoever is known may hear that there is no such thing.
        asker.needs(role).map_err(|refusal| Stranger::new(HttpRefusal::Role, refusal.0, refusal.1))?;
        Ok(asker)
    }

    fn is_ours(&self, host: &HeaderValue) -> bool {
        let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is = |name: &str| host.eq_ignore_ascii_case(name);
        is("localhost") || host.parse::<IpAddr>().is_ok() || self.access.names.iter().any(|name| is(name))
    }

    /// Whether the page was served here, by the name that is asked now: the host has been looked at.
    fn is_own_page(&self, headers: &HeaderMap) -> bool {
        let one = |name| {
            let mut all = headers.get_all(name).iter();
            all.next().filter(|_| all.next().is_none()).and_then(|value| value.to_str().ok())
        };
        let origin = one(header::ORIGIN).and_then(|origin| origin.split_once("://"));
        match (origin, one(header::HOST)) {
            (Some((scheme, authority)), Some(host)) => scheme == self.scheme && authority.eq_ignore_ascii_case(host),
            _ => false,
        }
    }

    /// Counts it, and tells of it now and then, without the token.
    fn refuse(&self, stranger: Stranger, source: SocketAddr, request: &str) -> Response {
        let Stranger { why, status, cause } = stranger;
        self.node.refused(why);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.last {
            Some(last) if last.elapsed() < PAUSE => told.untold += 1,
            Some(_) | None => {
                let untold = std::mem::take(&mut told.untold);
                told.last = Some(Instant::now());
                warn!(cause = why.name(), %source, request, untold, "HTTP request refused");
            }
        }
        drop(told);
        let mut response = error(status, &cause);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// RFC 6750 section 2.1. No token: no header, or another scheme.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii()).filter(|token| !token.is_empty())
}

/// The middleware.
pub(super) async fn stand<N: Node>(State(guard): State<Arc<Guard<N>>>, mut request: Request, next: Next) -> Response {
    let source = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(Peer(source))| *source);
    let source = source.expect("the surface tells where requests come from");
    let operation = guard.operation(&request);
    let need = operation.map_or(Need::Role(Role::Read), |operation| operation.need);
    let asked = cut(&format!("{} {}", request.method(), request.uri()));
    let asker = match guard.admit(need, request.method(), request.headers()) {
        Ok(asker) => asker,
        Err(stranger) => {
            // Who it is, if it is known: then it is somebody's order.
            let known = (stranger.why == HttpRefusal::Role).then(|| bearer(request.headers())).flatten();
            let token = known.and_then(|secret| guard.access.find(secret));
            let response = guard.refuse(stranger, source, &asked);
            if token.is_some() && operation.is_some_and(|operation| operation.changes) {
                tell(&Asker::with(token), source, &asked, &response);
            }
            return response;
        }
    };
    let changes = operation.is_some_and(|operation| operation.changes);
    if request.method() == Method::GET || request.method() == Method::HEAD {
        request.extensions_mut().insert(asker);
        return next.run(request).await;
    }
    request.extensions_mut().insert(asker.clone());
    // In a task of its own: a client that hangs up leaves nothing half done, and nothing untold.
    let task = tokio::spawn(async move {
        let response = next.run(request).await;
        // What is asked for may need more than its route.
        if response.status() == StatusCode::FORBIDDEN {
            guard.node.refused(HttpRefusal::Role);
        }
        if changes || asker.note() != Note::default() {
            tell(&asker, source, &asked, &response);
        }
        response
    });
    task.await.unwrap_or_else(|_| error(StatusCode::INTERNAL_SERVER_ERROR, "it broke off; the log tells why"))
}

/// Tells the log of an order, and what has come of it.
fn tell(asker: &Asker, source: SocketAddr, asked: &str, response: &Response) {
    let Note { by, reason, what } = asker.note();
    let actor = if by.is_empty() { asker.token().unwrap_or_default() } else { &by };
    let role = asker.role().map(Role::name);
    let what = if what.is_empty() { asked.to_owned() } else { cut(&format!("{asked}: {what}")) };
    let cause = response.extensions().get::<Cause>().map(|Cause(cause)| cause.as_str());
    let status = response.status();
    let is_failure = status.is_server_error() || status == StatusCode::UNPROCESSABLE_ENTITY || status.is_success();
    match (status.is_success() && cause.is_none(), is_failure) {
        (true, _) => info!(actor, role, %source, what, reason, result = "ok", "change ordered"),
        (false, true) => warn!(actor, role, %source, what, reason, result = "failed", cause, "change ordered"),
        (false, false) => warn!(actor, role, %source, what, reason, result = "refused", cause, "change ordered"),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::{Value, json};
    use tracing::subscriber::set_default;

    use super::super::access::Token;
    use super::super::tests::{Double, Running, answer, run_with, send};
    use super::super::{DOCUMENT, routes};
    use super::*;

    fn token(name: &str, role: Role) -> Token {
        Token { name: name.to_owned(), role, hash: Token::hash(format!("secret of {name}").as_bytes()) }
    }

    fn access() -> Access {
        let tokens = vec![token("noc", Role::Read), token("bob", Role::Operate), token("ann", Role::Admin)];
        Access { tokens, open_metrics: false, names: vec!["tandem-a.example.com".to_owned()] }
    }

    async fn ask(running: &Running, line: &str, name: &str, more: &str) -> (u16, String, Value) {
        let token = if name.is_empty() { String::new() } else { format!("Authorization: Bearer secret of {name}\r\n") };
        let (status, head, body) = answer(send(running.address, line, &format!("{token}{more}")).await).await;
        (status, head, serde_json::from_str(&body).unwrap_or_default())
    }

    fn with_body(body: &str) -> String {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn every_route_lets_in_whoever_has_its_role_and_nobody_else() {
        let running = run_with(access(), None).await;
        let table = routes::<Double>().into_parts().1;
        assert!(table.len() > 15, "{table:?}");
        for Operation { method, path, need, .. } in table {
            let line = format!("{method} {}", path.replace("{set}", "19").replace("{call_id}", "a84b4c76"));
            let needed = match need {
                Need::Nothing | Need::Page => None,
                Need::Metrics => Some(Role::Read),
                Need::Role(role) => Some(role),
            };
            for (name, has) in [("", None), ("nobody", None), ("noc", Some(Role::Read)), ("bob", Some(Role::Operate))] {
                let (status, head, body) = ask(&running, &line, name, "").await;
                let expected = match needed {
                    None => 0,
                    Some(_) if has.is_none() => 401,
                    Some(_) if has < needed => 403,
                    Some(_) => 0,
                };
                match expected {
                    0 => assert!(status != 401 && status != 403, "{line} by {name:?}: {status} {body}"),
                    _ => assert_eq!(status, expected, "{line} by {name:?}: {body}"),
                }
                assert_eq!(head.contains("www-authenticate: bearer"), status == 401, "{line}: {head}");
                if status == 403 {
                    let role = needed.expect("a role").name();
                    assert!(
                        body["error"].as_str().is_some_and(|error| error.contains(&format!("of role {role}"))),
                        "{body}"
                    );
                }
            }
            let status = ask(&running, &line, "ann", "").await.0;
            assert!(status != 401 && status != 403, "{line}: {status}");
        }
        // What there is not is not told to strangers either.
        for line in ["GET /nothing", "DELETE /sets", "HEAD /sets"] {
            assert_eq!(ask(&running, line, "", "").await.0, 401, "{line}");
        }
        assert_eq!(ask(&running, "GET /nothing", "noc", "").await.0, 404);
        assert_eq!(ask(&running, "HEAD /sets", "noc", "").await.0, 503);
    }

    #[tokio::test]
    async fn the_document_has_the_routes_their_methods_and_roles_and_no_others() {
        let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
        let mut told = Vec::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in
                methods.as_object().expect("methods").iter().filter(|(name, _)| *name != "parameters")
            {
                let role = operation["x-role"].as_str().unwrap_or_default().to_owned();
                let is_open = operation["security"] == json!([]);
                assert_eq!(is_open, role == "none", "{method} {path}");
                told.push((path.clone(), method.to_uppercase(), role));
            }
        }
        let role = |need| match need {
            Need::Nothing | Need::Page => "none",
            Need::Metrics => "read",
            Need::Role(role) => role.name(),
        };
        let table = routes::<Double>().into_parts().1;
        let mut there: Vec<_> =
            table.iter().map(|one| (one.path.to_owned(), one.method.to_owned(), role(one.need).to_owned())).collect();
        told.sort();
        there.sort();
        assert_eq!(told, there);
    }

    #[tokio::test]
    async fn metrics_may_be_open_and_tokens_are_taken_as_rfc_6750_writes_them() {
        let running = run_with(Access { open_metrics: true, ..access() }, None).await;
        assert_eq!(ask(&running, "GET /metrics", "", "").await.0, 200);
        for (header, expected) in [
            ("Authorization: bearer  secret of noc\r\n", 200),
            ("Authorization: Basic secret of noc\r\n", 401),
            ("Authorization: Bearer\r\n", 401),
            ("Authorization: Bearer \r\n", 401),
            ("Authorization: Bearer secret of noc x\r\n", 401),
        ] {
            assert_eq!(ask(&running, "GET /store", "", header).await.0, expected, "{header}");
        }
        use HttpRefusal::{BadToken, NoToken};
        assert_eq!(*running.node.refused.lock().expect("whole"), [NoToken, NoToken, NoToken, BadToken]);
    }

    #[tokio::test]
    async fn a_forced_reload_and_orders_of_the_peers_tools_need_more_than_their_route() {
        let running = run_with(access(), None).await;
        let status = async |line: &str, name: &str, body: &str| ask(&running, line, name, &with_body(body)).await.0;
        assert_eq!(status("POST /reload", "bob", r#"{"force": true}"#).await, 403);
        assert_eq!(status("POST /reload", "bob", r#"{"force": false}"#).await, 200);
        assert_eq!(status("POST /reload", "ann", r#"{"force": true}"#).await, 200);
        let call = |method: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
        for (path, list, reload) in [("/mi", "ds_list", "ds_reload"), ("/RPC", "dispatcher.list", "dispatcher.reload")]
        {
            let line = format!("POST {path}");
            assert_ne!(status(&line, "noc", &call(list)).await, 403);
            assert_eq!(status(&line, "noc", &call(reload)).await, 403);
            // One order among others is enough.
            assert_eq!(status(&line, "noc", &format!("[{},{}]", call(list), call(reload))).await, 403);
            assert_eq!(status(&line, "bob", &call(reload)).await, 200);
        }
        let role = |why: &&HttpRefusal| **why == HttpRefusal::Role;
        assert_eq!(running.node.refused.lock().expect("whole").iter().filter(role).count(), 5);
    }

    #[tokio::test]
    async fn a_name_that_is_configured_is_ours_and_so_is_the_page_that_it_serves() {
        let running = run_with(Access { tokens: Vec::new(), ..access() }, None).await;
        let post = async |host: &str, origin: &str| {
            let mut stream = tokio::net::TcpStream::connect(running.address).await.expect("listening");
            let head =
                format!("POST /reload HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.expect("written");
            answer(stream).await.0
        };
        for (host, origin, expected) in [
            ("tandem-a.example.com", "http://tandem-a.example.com", 200),
            ("TANDEM-A.example.com:9060", "http://tandem-a.example.com:9060", 200),
            ("127.0.0.1:9060", "http://127.0.0.1:9060", 200),
            ("[::1]:9060", "http://[::1]:9060", 200),
            ("localhost", "http://localhost", 200),
            // Another scheme, port, host; a page without a place; a name that is not ours.
            ("127.0.0.1:9060", "https://127.0.0.1:9060", 403),
            ("127.0.0.1:9060", "http://127.0.0.1:9061", 403),
            ("127.0.0.1:9060", "http://127.0.0.1", 403),
            ("127.0.0.1:9060", "http://localhost:9060", 403),
            ("127.0.0.1:9060", "null", 403),
            ("evil.example", "http://evil.example", 403),
            ("a.tandem-a.example.com", "http://a.tandem-a.example.com", 403),
        ] {
            assert_eq!(post(host, origin).await, expected, "{host} {origin}");
        }
    }

    /// What the log is told while it is held.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("whole").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn each_order_is_one_line_of_the_log_with_who_whence_what_why_and_result() {
        let log = Log::default();
        // With a single subscriber tracing asks that of whichever thread comes first to a line, and other tests have none.
        let _second = tracing::Dispatch::new(crate::edge::log::plain(std::io::sink));
        let _held = set_default(crate::edge::log::plain({
            let log = log.clone();
            move || log.clone()
        }));
        let running = run_with(access(), None).await;
        let reload = with_body(r#"{"by": "alice", "reason": "new rack"}"#);
        let forced = with_body(r#"{"by": "alice", "reason": "new rack", "force": true}"#);
        assert_eq!(ask(&running, "POST /reload", "bob", &reload).await.0, 200);
        assert_eq!(ask(&running, "POST /reload", "bob", &forced).await.0, 403);
        assert_eq!(ask(&running, "POST /reload", "noc", &forced).await.0, 403);
        assert_eq!(ask(&running, "POST /drain", "ann", "").await.0, 202);
        assert_eq!(ask(&running, "PUT /sets/19/destination/order?uri=x", "bob", &with_body("{}")).await.0, 400);
        let mi = with_body(r#"{"jsonrpc":"2.0","id":1,"method":"ds_set_state","params":["i",19,"sip:x"]}"#);
        assert_eq!(ask(&running, "POST /mi", "bob", &mi).await.0, 200);
        let list = with_body(r#"{"jsonrpc":"2.0","id":1,"method":"which"}"#);
        assert_eq!(ask(&running, "POST /mi", "bob", &list).await.0, 200);
        assert_eq!(ask(&running, "GET /store", "noc", "").await.0, 200);
        let text = String::from_utf8(log.0.lock().expect("whole").clone()).expect("text");
        assert!(!text.contains("secret"), "{text}");
        let orders: Vec<_> = text.lines().filter_map(|line| line.split_once("change ordered ")).collect();
        let words = [
            (
                "INFO",
                r#"actor="alice via bob" role="operate" source=127.0.0.1:"#,
                r#"what="POST /reload" reason="new rack" result="ok""#,
            ),
            (
                "WARN",
                r#"actor="alice via bob" role="operate""#,
                r#"what="POST /reload: forced" reason="new rack" result="refused" cause="this needs a token of role admin"#,
            ),
            (
                "WARN",
                r#"actor="noc" role="read""#,
                r#"what="POST /reload" reason="" result="refused" cause="this needs a token of role operate"#,
            ),
            ("INFO", r#"actor="ann" role="admin""#, r#"what="POST /drain" reason="" result="ok""#),
            (
                "WARN",
                r#"actor="bob" role="operate""#,
                r#"what="PUT /sets/19/destination/order?uri=x" reason="" result="refused" cause="order is"#,
            ),
            (
                "WARN",
                r#"actor="mi via bob" role="operate""#,
                r#"what="POST /mi: ds_set_state [\"i\",19,\"sip:x\"]" reason="ds_set_state" result="failed" cause="#,
            ),
        ];
        assert_eq!(orders.len(), words.len(), "{text}");
        for ((before, told), (level, who, what)) in orders.iter().zip(words) {
            assert!(before.contains(level) && told.contains(who) && told.contains(what), "{told}, not {who} {what}");
        }
        // Failed tries are told once a second at most.
        for _ in 0..20 {
            ask(&running, "POST /reload", "mallory", "").await;
        }
        let text = String::from_utf8(log.0.lock().expect("whole").clone()).expect("text");
        let refused = text.lines().filter(|line| line.contains("HTTP request refused")).count();
        assert!(refused < 20 && !text.contains("mallory"), "{text}");
        assert_eq!(running.node.refused.lock().expect("whole").len(), 22);
    }
}
