//! A destination whose port is closed: its host says so by ICMP, and the call goes on to the next.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tandem::config::Config;
use tandem::lab::caller::run;
use tandem::lab::{Behaviour, Caller, CallerConfig, MrcpServer};
use tandem::server::Node;

use crate::scratch::{Folder, anew, config_text, insert};

/// Where nobody listens: the socket that had this port is closed again.
pub(crate) fn closed_port(host: IpAddr) -> SocketAddr {
    let socket = UdpSocket::bind((host, 0)).expect("a free port");
    socket.local_addr().expect("bound")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_a_closed_port_go_on_to_the_next_destination_at_once() {
    for (listener, host) in [(0, IpAddr::V4(Ipv4Addr::LOCALHOST)), (1, IpAddr::V6(Ipv6Addr::LOCALHOST))] {
        let folder = Folder::new();
        // Silence alone would end no try before the caller gives up.
        let patient = "id = 19\nfirst_response_timeout = \"60s\"\nmin_retry_concurrency = 1000";
        let text = config_text("[[listener]]\nbind = \"udp:[::1]:0\"").replacen("id = 19", patient, 1);
        let config = Config::parse("test.toml", &text, folder.path()).expect("valid");
        let node = Node::start(&config).await.expect("it starts");
        let server = MrcpServer::start((host, 0).into(), Behaviour::default()).await.expect("a free port");
        node.store().execute(&insert(&[closed_port(host), server.address()])).await.expect("rows");
        node.reload(anew()).await.expect("good rows");

        let config = CallerConfig {
            proxy: node.server().addresses()[listener],
            bind: host,
            rate: 200.0,
            calls: Some(50),
            hold: Duration::from_millis(50),
            timeout: Duration::from_secs(30),
            ..CallerConfig::default()
        };
        let report = run(config, &Caller::new()).await.expect("a socket");
        assert_eq!((report.answered, report.failed, report.lost), (50, 0, 0), "{host}: {report}");
        let snapshot = node.server().snapshot().await.expect("it runs");
        let set = &snapshot.sets[0];
        let tries: Vec<_> = set.destinations.iter().map(|one| one.selections).collect();
        // Every second call tried the closed port first, until three of them had failed there.
        let refused = tries[0];
        assert!((3..=25).contains(&refused), "{host}: {tries:?}");
        assert_eq!((set.failovers, set.exhausted, tries[1]), (refused, 0, 50), "{host}");
        // Copies of an INVITE that was resent before the error came are refused once more.
        assert_eq!(snapshot.totals.icmp, refused, "{host}: {:?}", snapshot.totals);
        let edge = node.server().edge_counters();
        assert_eq!((edge.send_faults.iter().sum::<u64>(), edge.receive_faults), (0, 0), "{host}: {edge:?}");
        node.stop().await;
    }
}
