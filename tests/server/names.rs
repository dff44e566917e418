//! A node whose destinations are names: one destination for each address, by the TTL, and the last good ones while DNS
//! fails.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use tandem::config::Config;
use tandem::engine::Snapshot;
use tandem::engine::snapshot::DestinationView;
use tandem::lab::caller::run;
use tandem::lab::{Behaviour, Caller, CallerConfig, MrcpServer, Report};
use tandem::server::Node;

use crate::dns::{Dns, Mood};
use crate::scratch::{Folder, anew, http};

/// A TTL of 5 s, lookups of 2 s, and a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Servers on these hosts of the loopback, all at one port.
async fn servers(hosts: &[&str]) -> Vec<MrcpServer> {
    'ports: for _ in 0..100 {
        let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        let mut servers = Vec::new();
        for host in hosts {
            let address = SocketAddr::new(host.parse().expect("an address"), free.port());
            let Ok(server) = MrcpServer::start(address, Behaviour::default()).await else { continue 'ports };
            servers.push(server);
        }
        return servers;
    }
    panic!("no port is free on {hosts:?}");
}

fn config(folder: &Folder, dns: &Dns) -> Config {
    folder.config(&format!("[dns]\nservers = \"{}\"\ntimeout = \"500ms\"", dns.address))
}

async fn calls(node: &Node, calls: u64, hold: Duration) -> Report {
    let config = CallerConfig {
        proxy: node.server().addresses()[0],
        bind: IpAddr::from([127, 0, 0, 1]),
        user_agent: "OPENSIPS_TTS_MRCP_CLIENT".into(),
        rate: 200.0,
        calls: Some(calls),
        hold,
        ..CallerConfig::default()
    };
    run(config, &Caller::new()).await.expect("a socket")
}

async fn table(node: &Node, uris: &[&str]) {
    let rows: Vec<_> = uris.iter().map(|uri| format!("(19, '{uri}')")).collect();
    let sql = format!("INSERT INTO dispatcher (setid, destination) VALUES {}", rows.join(", "));
    node.store().execute(&sql).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
}

/// Waits until a snapshot is as wanted.
async fn until(node: &Node, wanted: impl Fn(&Snapshot) -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            looks.tick().await;
            if wanted(&node.server().snapshot().await.expect("it runs")) {
                return;
            }
        }
    });
    if waited.await.is_err() {
        panic!("{:?}", node.server().snapshot().await);
    }
}

fn destinations(snapshot: &Snapshot) -> impl Iterator<Item = &DestinationView> {
    snapshot.sets.iter().flat_map(|set| &set.destinations)
}

fn hosts(snapshot: &Snapshot) -> Vec<String> {
    destinations(snapshot).map(|one| one.address.map_or("none".into(), |at| at.ip().to_string())).collect()
}

fn invites(servers: &[MrcpServer]) -> Vec<u64> {
    servers.iter().map(|server| server.counts().invites).collect()
}

async fn degraded(node: &Node) -> String {
    let address = node.http().expect("it is on");
    tokio::task::spawn_blocking(move || http(address, "GET", "/ready")).await.expect("no panic").1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_one_destination_for_each_address_and_follows_its_ttl() {
    let (folder, dns) = (Folder::new(), Dns::start().await);
    let servers = servers(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]).await;
    let uri = format!("sip:tts.example.test:{}", servers[0].address().port());
    dns.set("tts.example.test", 1, &["127.0.0.2", "127.0.0.3"]);
    let node = Node::start(&config(&folder, &dns)).await.expect("it starts");
    table(&node, &[&uri]).await;
    assert_eq!(calls(&node, 20, Duration::from_millis(20)).await.answered, 20);
    assert_eq!(invites(&servers), [10, 10, 0]);

    // Calls that last longer than the answer does.
    let node = std::sync::Arc::new(node);
    let held = tokio::spawn({
        let node = std::sync::Arc::clone(&node);
        async move { calls(&node, 20, Duration::from_secs(9)).await }
    });
    until(&node, |snapshot| destinations(snapshot).map(|one| one.sessions).sum::<u64>() == 20).await;
    dns.set("tts.example.test", 1, &["127.0.0.3", "127.0.0.4"]);
    until(&node, |snapshot| hosts(snapshot) == ["127.0.0.3", "127.0.0.4"]).await;
    let stays = node.server().snapshot().await.expect("it runs");
    assert_eq!(
        destinations(&stays).map(|one| one.selections).collect::<Vec<_>>(),
        [20, 0],
        "who stays keeps its counts"
    );
    assert_eq!(calls(&node, 20, Duration::from_millis(20)).await.answered, 20);
    assert_eq!(invites(&servers), [20, 30, 10]);
    let report = held.await.expect("no panic");
    assert_eq!((report.answered, report.failed, report.lost), (20, 0, 0), "{report}");
    assert_eq!(servers[0].counts().byes, 20, "sessions on the old address ended there");
    assert_eq!(servers[0].counts().unheard, 0);

    let address = node.http().expect("it is on");
    let metrics = tokio::task::spawn_blocking(move || http(address, "GET", "/metrics")).await.expect("no panic").1;
    let series = format!("tandem_sessions{{set=\"19\",destination=\"{uri} {}\"}} 0", servers[2].address());
    assert!(metrics.contains(&series), "{series}\n{metrics}");
    std::sync::Arc::into_inner(node).expect("the last one").stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_dns_is_dead_the_last_good_answers_serve_and_a_start_takes_them_from_disk() {
    let (folder, dns) = (Folder::new(), Dns::start().await);
    let servers = servers(&["127.0.0.2"]).await;
    let port = servers[0].address().port();
    dns.set("real.example.test", 1, &["127.0.0.2"]);
    dns.services("_sip._udp.tts.example.test", 1, &[(1, 1, port, "real.example.test")]);
    let config = config(&folder, &dns);
    let node = Node::start(&config).await.expect("it starts");
    table(&node, &["sip:tts.example.test"]).await;
    assert_eq!(calls(&node, 2, Duration::ZERO).await.answered, 2);
    dns.be(Mood::Silent);
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    let told = async {
        while !degraded(&node).await.contains("the addresses that are known serve") {
            looks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the node tells that DNS fails");
    assert_eq!(calls(&node, 2, Duration::ZERO).await.answered, 2);
    node.reload(anew()).await.expect("a reload is no reason to lose them");
    assert_eq!(calls(&node, 2, Duration::ZERO).await.answered, 2);
    node.stop().await;

    // Without DNS, with the database and without.
    for missing in [false, true] {
        if missing {
            std::fs::remove_file(folder.path().join("tandem.db")).expect("it was there");
        }
        let node = Node::start(&config).await.expect("sets and addresses are on disk");
        assert_eq!(calls(&node, 2, Duration::ZERO).await.answered, 2, "missing: {missing}");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_resolved_is_unfit_is_told_and_heals() {
    let (folder, dns) = (Folder::new(), Dns::start().await);
    let servers = servers(&["127.0.0.2"]).await;
    let uri = format!("sip:tts.example.test:{}", servers[0].address().port());
    dns.set("v6.example.test", 1, &["::1"]);
    let node = Node::start(&config(&folder, &dns)).await.expect("it starts");
    table(&node, &[&uri, "sip:v6.example.test"]).await;
    let snapshot = node.server().snapshot().await.expect("it runs");
    assert!(destinations(&snapshot).all(|one| !one.fitness.is_fit() && one.address.is_none()), "{snapshot:?}");
    let told = degraded(&node).await;
    assert!(told.contains("tts.example.test has no address in DNS"), "{told}");
    assert!(told.contains("leads to [::1]:5060, and no udp listener"), "{told}");
    assert_eq!(calls(&node, 1, Duration::ZERO).await.outcomes.get(&480), Some(&1));
    dns.set("tts.example.test", 60, &["127.0.0.2"]);
    until(&node, |snapshot| destinations(snapshot).any(|one| one.fitness.is_fit())).await;
    assert_eq!(calls(&node, 2, Duration::ZERO).await.answered, 2);
    assert!(!degraded(&node).await.contains("tts.example.test has no address"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_a_dialog_is_looked_up_for_who_is_in_it() {
    let (folder, dns) = (Folder::new(), Dns::start().await);
    dns.set("contact.example.test", 60, &["127.0.0.5"]);
    let node = Node::start(&config(&folder, &dns)).await.expect("it starts");
    let server = UdpSocket::bind("127.0.0.5:0").expect("a free port");
    let caller = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for socket in [&server, &caller] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    }
    let destination = server.local_addr().expect("bound");
    table(&node, &[&format!("sip:{destination}")]).await;
    let proxy = node.server().addresses()[0];
    tokio::task::spawn_blocking(move || {
        let from = caller.local_addr().expect("bound");
        let request = |method: &str, uri: &str, to: &str, more: &str| {
            format!(
                "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{method}\r\nMax-Forwards: 70\r\n{more}\
                 From: <sip:a@{from}>;tag=1\r\nTo: <sip:b@{proxy}>{to}\r\nCall-ID: names\r\nCSeq: 1 {method}\r\n\
                 User-Agent: OPENSIPS_TTS_MRCP_CLIENT\r\nContent-Length: 0\r\n\r\n"
            )
        };
        caller.send_to(request("INVITE", &format!("sip:{proxy}"), "", "").as_bytes(), proxy).expect("sent");
        let invite = receive(&server, "INVITE");
        let copied: String = invite
            .lines()
            .filter(|line| ["Via:", "Record-Route:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name)))
            .map(|line| format!("{line}{}\r\n", if line.starts_with("To:") { ";tag=2" } else { "" }))
            .collect();
        let contact = format!("sip:contact.example.test:{}", destination.port());
        let ok = format!("SIP/2.0 200 OK\r\n{copied}Contact: <{contact}>\r\nContent-Length: 0\r\n\r\n");
        server.send_to(ok.as_bytes(), proxy).expect("sent");
        let ok = receive(&caller, "SIP/2.0 200");
        let routes: String = ok
            .lines()
            .filter_map(|line| line.strip_prefix("Record-Route:"))
            .map(|route| format!("Route:{route}\r\n"))
            .collect();
        for method in ["ACK", "BYE"] {
            caller.send_to(request(method, &contact, ";tag=2", &routes).as_bytes(), proxy).expect("sent");
            let line = receive(&server, method).lines().next().unwrap_or_default().to_owned();
            assert_eq!(line, format!("{method} {contact} SIP/2.0"));
        }
    })
    .await
    .expect("no panic");
    assert_eq!(dns.zone().asked.iter().filter(|asked| asked.starts_with("contact.")).count(), 2, "A and AAAA, once");
    node.stop().await;
}

/// The next datagram that begins so.
fn receive(socket: &UdpSocket, start: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {start}: {error}"));
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.starts_with(start) {
            return text;
        }
    }
}
