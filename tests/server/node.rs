//! A node: reload, the last good sets, readiness, metrics, calls through it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tandem::engine::flow::Transport;
use tandem::lab::caller::run;
use tandem::lab::{Behaviour, Caller, CallerConfig, MrcpServer, Report};
use tandem::server::{Node, NodeError};

use crate::scratch::{Folder, anew, http, insert};

const LOCALHOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) async fn servers(count: usize) -> Vec<MrcpServer> {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(MrcpServer::start(LOCALHOST, Behaviour::default()).await.expect("a free port"));
    }
    servers
}

pub(crate) async fn calls(proxy: SocketAddr, calls: u64, rate: f64) -> Report {
    let config = CallerConfig {
        proxy,
        transport: Transport::Udp,
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_agent: "OPENSIPS_TTS_MRCP_CLIENT".into(),
        rate,
        calls: Some(calls),
        hold: Duration::from_millis(50),
        ..CallerConfig::default()
    };
    run(config, &Caller::new()).await.expect("a socket")
}

pub(crate) fn addresses(servers: &[MrcpServer]) -> Vec<SocketAddr> {
    servers.iter().map(MrcpServer::address).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_split_evenly_and_the_metrics_say_so() {
    let folder = Folder::new();
    let node = Node::start(&folder.config("")).await.expect("it starts");
    let servers = servers(2).await;
    node.store().execute(&insert(&addresses(&servers))).await.expect("the article's statement");
    assert_eq!(node.reload(anew()).await.expect("good rows").added, 2);
    let report = calls(node.server().addresses()[0], 100, 400.0).await;
    assert_eq!((report.answered, report.failed, report.lost), (100, 0, 0), "{report}");
    assert!(report.destinations.values().all(|&sessions| sessions == 50), "{report}");
    let http_address = node.http().expect("it is on");
    let (status, metrics) =
        tokio::task::spawn_blocking(move || http(http_address, "GET", "/metrics")).await.expect("no panic");
    assert_eq!(status, 200);
    for server in &servers {
        let uri = format!("sip:{}", server.address());
        for line in [
            format!("tandem_selections_total{{set=\"19\",destination=\"{uri}\",kind=\"session\"}} 50"),
            format!("tandem_sessions{{set=\"19\",destination=\"{uri}\"}} 0"),
        ] {
            assert!(metrics.contains(&line), "{line}\n{metrics}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_loses_no_call() {
    let folder = Folder::new();
    let node = Node::start(&folder.config("")).await.expect("it starts");
    let servers = servers(3).await;
    let all = addresses(&servers);
    node.store().execute(&insert(&all)).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    let proxy = node.server().addresses()[0];
    let running = tokio::spawn(calls(proxy, 400, 400.0));
    for turn in 0..20 {
        let sql = match turn % 2 {
            0 => format!("DELETE FROM dispatcher WHERE destination = 'sip:{}'", all[2]),
            _ => insert(&all[2..]),
        };
        node.store().execute(&sql).await.expect("rows");
        node.reload(anew()).await.expect("good rows");
    }
    let report = running.await.expect("no panic");
    assert_eq!((report.answered, report.failed, report.lost), (400, 0, 0), "{report}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_leave_the_sets_and_a_start_falls_back_on_the_last_good_ones() {
    let folder = Folder::new();
    let config = folder.config("");
    let node = Node::start(&config).await.expect("it starts");
    let servers = servers(1).await;
    node.store().execute(&insert(&addresses(&servers))).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    node.store()
        .execute("INSERT INTO dispatcher (setid, destination) VALUES (19, 'tel:nowhere')")
        .await
        .expect("a row");
    let http_address = node.http().expect("it is on");
    let (status, body) =
        tokio::task::spawn_blocking(move || http(http_address, "POST", "/reload")).await.expect("no panic");
    assert_eq!(status, 422, "{body}");
    assert!(body.contains("dispatcher row 2: destination is"), "{body}");
    assert_eq!(body.matches("tel:nowhere").count(), 1, "it is told once: {body}");
    assert_eq!(calls(node.server().addresses()[0], 2, 100.0).await.answered, 2);
    let (status, body) =
        tokio::task::spawn_blocking(move || http(http_address, "GET", "/ready")).await.expect("no panic");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("row 2"), "{body}");
    node.stop().await;

    let node = Node::start(&config).await.expect("the last good sets are on disk");
    assert_eq!(calls(node.server().addresses()[0], 2, 100.0).await.answered, 2);
    node.stop().await;

    // A lenient node leaves the bad row out.
    let node = Node::start(&folder.config("[database]\nlenient = true")).await.expect("it starts");
    let reloaded = node.reload(anew()).await.expect("lenient");
    assert_eq!(reloaded.faults.len(), 1, "{reloaded:?}");
    node.stop().await;

    // Without last good sets there is nothing to start with.
    std::fs::remove_file(folder.path().join("state/sets.json")).expect("it was there");
    match Node::start(&config).await {
        Err(error @ NodeError::NoSets { .. }) => {
            assert!(error.is_configuration() && error.to_string().contains("row 2"), "{error}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_does_not_come_back_empty() {
    let folder = Folder::new();
    let config = folder.config("");
    let node = Node::start(&config).await.expect("it starts");
    let servers = servers(1).await;
    node.store().execute(&insert(&addresses(&servers))).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    std::fs::remove_file(folder.path().join("tandem.db")).expect("it was there");
    assert!(node.reload(anew()).await.is_err());
    node.stop().await;
    let node = Node::start(&config).await.expect("the last good sets are on disk");
    assert_eq!(calls(node.server().addresses()[0], 1, 100.0).await.answered, 1);
    assert!(!folder.path().join("tandem.db").exists());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_set_answers_480_over_the_wire() {
    let folder = Folder::new();
    let node = Node::start(&folder.config("")).await.expect("it starts");
    let report = calls(node.server().addresses()[0], 1, 100.0).await;
    assert_eq!(report.outcomes.get(&480), Some(&1), "{report}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_a_call_itself_is_heard() {
    let folder = Folder::new();
    let node = Node::start(&folder.config("")).await.expect("it starts");
    let hang_up = Behaviour { hang_up_after: Some(Duration::ZERO), ..Behaviour::default() };
    let server = MrcpServer::start(LOCALHOST, hang_up).await.expect("a free port");
    node.store().execute(&insert(&[server.address()])).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    let report = calls(node.server().addresses()[0], 20, 200.0).await;
    assert_eq!((report.answered, report.lost), (20, 0), "{report}");
    let counts = server.counts();
    assert!(counts.hung_up > 0 && counts.unheard == 0, "{counts:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keep_alives_and_strange_datagrams_are_harmless() {
    let folder = Folder::new();
    let node = Node::start(&folder.config("")).await.expect("it starts");
    let proxy = node.server().addresses()[0];
    let answer = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind(LOCALHOST).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        for bytes in [&b"TEST"[..], b"", b"\0\xff", b"\r\n\r\n"] {
            socket.send_to(bytes, proxy).expect("sent");
        }
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).expect("the pong");
        buffer[..length].to_vec()
    });
    assert_eq!(answer.await.expect("no panic"), b"\r\n");
    let snapshot = node.server().snapshot().await.expect("it runs");
    assert_eq!(snapshot.totals.dropped[0], 2);
    node.stop().await;
}
