//! One suite for every transport: calls through a real node, in each direction of each bridge, and what else peers do to a
//! listener.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tandem::engine::flow::Transport;
use tandem::engine::flow::Transport::{Tcp, Udp};
use tandem::lab::caller::run;
use tandem::lab::{Behaviour, Caller, CallerConfig, MrcpServer, Report};
use tandem::server::Node;

use crate::scratch::{Folder, anew};

const LOCALHOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const BRIDGES: [(Transport, Transport); 4] = [(Udp, Udp), (Tcp, Tcp), (Udp, Tcp), (Tcp, Udp)];

/// A node that listens to both.
async fn node(folder: &Folder, more: &str) -> Node {
    let tcp = format!("[[listener]]\nbind = \"tcp:127.0.0.1:0\"\n{more}");
    Node::start(&folder.config(&tcp)).await.expect("it starts")
}

fn listener(node: &Node, transport: Transport) -> SocketAddr {
    let spoken = node.server().listeners().iter().find(|listener| listener.transport == transport);
    spoken.expect("a listener").bind
}

/// A server in the table.
async fn server(node: &Node, transport: Transport, behaviour: Behaviour) -> MrcpServer {
    let server = MrcpServer::start_on(transport, LOCALHOST, behaviour).await.expect("a free port");
    row(node, transport, server.address()).await;
    server
}

async fn row(node: &Node, transport: Transport, address: SocketAddr) {
    let name = transport.name();
    let sql = format!("INSERT INTO dispatcher (setid, destination) VALUES (19, 'sip:{address};transport={name}')");
    node.store().execute(&sql).await.expect("a row");
    node.reload(anew()).await.expect("good rows");
}

fn calls(proxy: SocketAddr, transport: Transport, calls: u64, rate: f64) -> CallerConfig {
    let hold = Duration::from_millis(50);
    CallerConfig { proxy, transport, rate, calls: Some(calls), hold, ..CallerConfig::default() }
}

async fn made(config: CallerConfig) -> Report {
    run(config, &Caller::new()).await.expect("a socket")
}

/// Runs what blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    stream
}

/// What comes until the other end closes the connection.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "it is closed: {error}"),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn options(proxy: SocketAddr, id: u32) -> String {
    format!(
        "OPTIONS sip:{proxy} SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK{id}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:{proxy}>\r\nCall-ID: {id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_calls_over_every_bridge_and_none_is_lost() {
    for (caller, destination) in BRIDGES {
        let folder = Folder::new();
        let node = node(&folder, "").await;
        let server = server(&node, destination, Behaviour::default()).await;
        let report = made(calls(listener(&node, caller), caller, 200, 400.0)).await;
        assert_eq!(
            (report.answered, report.failed, report.lost),
            (200, 0, 0),
            "{caller:?} to {destination:?}: {report}"
        );
        // The server counts a message a moment after it has answered it.
        let mut seen = server.watch();
        let all = seen.wait_for(|counts| (counts.acks, counts.byes, counts.sessions) == (200, 200, 0));
        let all = tokio::time::timeout(Duration::from_secs(10), all).await.map(drop);
        assert!(all.is_ok(), "{:?}", server.counts());
        let streams = node.server().edge_counters().streams;
        // One connection carries all calls of a caller, and one all that go to a server.
        assert_eq!(streams.accepted, u64::from(caller == Tcp), "{caller:?} to {destination:?}");
        assert!(streams.connections <= u64::from(caller == Tcp) + u64::from(destination == Tcp), "{streams:?}");
        assert_eq!((streams.connect_failures, streams.refused, streams.full), (0, 0, 0));
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_the_server_ends_is_heard_of_on_the_callers_connection() {
    for (caller, destination) in BRIDGES {
        let folder = Folder::new();
        let node = node(&folder, "").await;
        let hang_up = Behaviour { hang_up_after: Some(Duration::ZERO), ..Behaviour::default() };
        let server = server(&node, destination, hang_up).await;
        let config = calls(listener(&node, caller), caller, 20, 200.0);
        let report = made(CallerConfig { hold: Duration::from_secs(20), ..config }).await;
        assert_eq!((report.answered, report.lost), (20, 0), "{caller:?} to {destination:?}: {report}");
        let mut seen = server.watch();
        let all = seen.wait_for(|counts| counts.hung_up == 20).await.map(|counts| *counts);
        assert_eq!(all.map(|counts| (counts.unheard, counts.byes)).ok(), Some((0, 0)));
        // None was made to the caller, though it listens; the server has made one to say BYE, beside ours to it.
        let streams = node.server().edge_counters().streams;
        assert!(streams.connections <= u64::from(caller == Tcp) + 2 * u64::from(destination == Tcp), "{streams:?}");
        assert_eq!(streams.accepted, u64::from(caller == Tcp) + u64::from(destination == Tcp), "{streams:?}");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_and_stalled_connections_delay_nobody() {
    let folder = Folder::new();
    let node = node(&folder, "").await;
    let _server = server(&node, Tcp, Behaviour::default()).await;
    let proxy = listener(&node, Tcp);
    let others = blocking(move || {
        let mut others: Vec<_> = (0..200).map(|_| connect(proxy)).collect();
        // They ask and never read: the answers are more than all buffers hold.
        let large = format!("From: \"{}\" <sip:", "x".repeat(12_000));
        for _ in 0..10 {
            let mut stalled = connect(proxy);
            for id in 0..1000 {
                let text = options(proxy, id).replace("From: <sip:", &large);
                stalled.write_all(text.as_bytes()).expect("sent");
            }
            others.push(stalled);
        }
        others
    })
    .await;
    let report = made(calls(proxy, Tcp, 200, 200.0)).await;
    assert_eq!((report.answered, report.failed, report.lost), (200, 0, 0), "{report}");
    assert!(report.p99_ms < 500.0, "{report}");
    let streams = node.server().edge_counters().streams;
    assert!(streams.accepted == 211 && streams.full > 0, "{streams:?}");
    drop(others);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_sip_is_answered_if_it_can_be_and_closed() {
    let folder = Folder::new();
    let node = node(&folder, "").await;
    let proxy = listener(&node, Tcp);
    blocking(move || {
        let answer = |bytes: &[u8]| {
            let mut stream = connect(proxy);
            stream.write_all(bytes).expect("sent");
            rest(stream)
        };
        assert_eq!(answer(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "");
        assert_eq!(answer(b"\x16\x03\x01\x02\x00\x01"), "");
        assert_eq!(answer(&[b'x'; 70_000]), "");
        let unmeasured = options(proxy, 1).replace("Content-Length: 0\r\n", "");
        let text = answer(unmeasured.as_bytes());
        assert!(text.starts_with("SIP/2.0 400 Bad Content-Length Header\r\n"), "{text}");
        // What came before the fault is answered first.
        let text = answer(format!("{}{unmeasured}{}", options(proxy, 2), "x".repeat(100_000)).as_bytes());
        assert!(text.starts_with("SIP/2.0 200 OK\r\n") && text.contains("SIP/2.0 400 "), "{text}");
        let large = options(proxy, 3).replace("Length: 0", "Length: 65000");
        assert!(answer(large.replace("65000", "66000").as_bytes()).starts_with("SIP/2.0 513 "));
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_come_in_any_pieces_and_a_ping_is_answered() {
    let folder = Folder::new();
    let node = node(&folder, "").await;
    let proxy = listener(&node, Tcp);
    blocking(move || {
        let mut stream = connect(proxy);
        stream.set_nodelay(true).expect("a socket");
        stream.write_all(b"\r\n\r\n").expect("sent");
        let mut pong = [0; 2];
        stream.read_exact(&mut pong).expect("the pong");
        assert_eq!(&pong, b"\r\n");
        for byte in options(proxy, 1).bytes() {
            stream.write_all(&[byte]).expect("sent");
        }
        let mut start = [0; 14];
        stream.read_exact(&mut start).expect("an answer");
        assert_eq!(&start, b"SIP/2.0 200 OK");
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_close_connections_that_are_too_many_or_say_nothing() {
    let folder = Folder::new();
    let limits = "[limits]\nconnections_per_source = 4\nmessage_timeout = \"300ms\"\nidle_timeout = \"900ms\"\n";
    let node = node(&folder, limits).await;
    let proxy = listener(&node, Tcp);
    blocking(move || {
        let began = Instant::now();
        let mut speaks = connect(proxy);
        speaks.write_all(options(proxy, 1).as_bytes()).expect("sent");
        let mut start = [0; 14];
        speaks.read_exact(&mut start).expect("an answer");
        let mut pings = connect(proxy);
        pings.write_all(b"\r\n\r\n").expect("sent");
        let silent = connect(proxy);
        let mut drips = connect(proxy);
        drips.write_all(format!("{}OPTI", options(proxy, 2)).as_bytes()).expect("sent");
        // The fifth is closed at once.
        assert_eq!(rest(connect(proxy)), "");
        assert_eq!((rest(silent).as_str(), rest(pings).as_str()), ("", "\r\n"));
        assert!(rest(drips).starts_with("SIP/2.0 200 OK"));
        assert!(began.elapsed() >= Duration::from_millis(250) && began.elapsed() < Duration::from_millis(850));
        rest(speaks);
        assert!(began.elapsed() >= Duration::from_millis(850));
    })
    .await;
    let streams = node.server().edge_counters().streams;
    assert_eq!((streams.accepted, streams.refused), (4, 1), "{streams:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_or_does_not_answer_the_connection_fails_the_call_soon() {
    // Nobody listens there.
    let refusing = TcpListener::bind(LOCALHOST).and_then(|one| one.local_addr()).expect("a free port");
    // There the kernel takes no more connections.
    let full = socket_that_takes_nothing();
    for (address, most) in [(refusing, 1.0), (full.0, 2.0)] {
        let folder = Folder::new();
        let node = node(&folder, "[limits]\nconnect_timeout = \"500ms\"").await;
        row(&node, Tcp, address).await;
        let began = Instant::now();
        let report = made(calls(listener(&node, Udp), Udp, 3, 100.0)).await;
        assert!(began.elapsed().as_secs_f64() < most, "{:?}", began.elapsed());
        assert_eq!(report.failed, 3, "{report}");
        assert!(report.outcomes.keys().all(|&status| status >= 480), "{report}");
        assert!(node.server().edge_counters().streams.connect_failures > 0);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_breaks_the_connection_over_an_invite_fails_the_call_soon() {
    // It closes the connection, speaks something else, or begins an answer that never ends.
    for answer in ["", "HTTP/1.1 400 Bad Request\r\n\r\n", "SIP/2.0 200 OK\r\n"] {
        let folder = Folder::new();
        let node = node(&folder, "[limits]\nmessage_timeout = \"300ms\"").await;
        let breaking = TcpListener::bind(LOCALHOST).expect("a free port");
        row(&node, Tcp, breaking.local_addr().expect("bound")).await;
        let server = std::thread::spawn(move || {
            let (mut stream, _) = breaking.accept().expect("a connection");
            stream.read_exact(&mut [0; 6]).expect("an INVITE");
            stream.write_all(answer.as_bytes()).expect("sent");
            if !answer.is_empty() {
                rest(stream);
            }
        });
        let began = Instant::now();
        let report = made(calls(listener(&node, Udp), Udp, 1, 100.0)).await;
        assert_eq!(report.failed, 1, "{report}");
        assert!(report.outcomes.keys().all(|&status| status >= 480), "{report}");
        assert!(began.elapsed() < Duration::from_secs(3), "{answer}: {:?}", began.elapsed());
        server.join().expect("no panic");
        node.stop().await;
    }
}

/// A listener whose queue of connections is full, with what fills it.
fn socket_that_takes_nothing() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind(LOCALHOST).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut fill = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        fill.push(stream);
    }
    (address, listener, fill)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_finds_the_caller_whose_connection_is_gone() {
    let folder = Folder::new();
    let node = node(&folder, "").await;
    let slow = Behaviour { delay: Duration::from_millis(300), ..Behaviour::default() };
    let _server = server(&node, Udp, slow).await;
    let proxy = listener(&node, Tcp);
    let text = blocking(move || {
        let listener = TcpListener::bind(LOCALHOST).expect("a free port");
        let us = listener.local_addr().expect("bound");
        let sdp = "v=0\r\no=a 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
            m=application 9 TCP/MRCPv2 1\r\na=setup:active\r\na=connection:new\r\na=resource:speechsynth\r\na=cmid:1\r\n\
            m=audio 4000 RTP/AVP 0\r\na=recvonly\r\na=mid:1\r\n";
        let invite = options(proxy, 1)
            .replace("OPTIONS", "INVITE")
            .replace("127.0.0.1:9;", &format!("{us};"))
            .replace("CSeq", "User-Agent: OPENSIPS_TTS_MRCP_CLIENT\r\nContent-Type: application/sdp\r\nCSeq")
            .replace("Length: 0\r\n\r\n", &format!("Length: {}\r\n\r\n{sdp}", sdp.len()));
        let mut stream = connect(proxy);
        stream.write_all(invite.as_bytes()).expect("sent");
        let mut trying = [0; 11];
        stream.read_exact(&mut trying).expect("an answer");
        assert_eq!(&trying, b"SIP/2.0 100");
        drop(stream);
        let (mut back, _) = listener.accept().expect("a connection");
        back.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        let mut start = [0; 14];
        back.read_exact(&mut start).expect("the answer");
        start
    })
    .await;
    assert_eq!(&text, b"SIP/2.0 200 OK");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_frees_its_tcp_address() {
    let folder = Folder::new();
    let node = node(&folder, "").await;
    let proxy = listener(&node, Tcp);
    let open = blocking(move || connect(proxy)).await;
    node.stop().await;
    TcpListener::bind(proxy).expect("free again");
    assert_eq!(blocking(move || rest(open)).await, "");
}
