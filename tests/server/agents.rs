//! Agents of destinations: real HTTP servers that a real node asks what they want, and calls that follow it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tandem::lab::{Behaviour, MrcpServer};
use tandem::server::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::node::{addresses, calls};
use crate::scratch::{Folder, anew, http, insert, own_address, until};

/// An agent that answers with what stands there, status and body; its address.
async fn agent(at: SocketAddr, says: Arc<Mutex<(u16, String)>>) -> SocketAddr {
    let listener = TcpListener::bind((at.ip(), 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1000];
            let length = stream.read(&mut head).await.unwrap_or(0);
            assert!(head[..length].starts_with(b"GET /wants?of=tts HTTP/1.1\r\n"), "{head:?}");
            let (status, body) = says.lock().expect("no panic").clone();
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// What the surface says there.
async fn get(node: &Node, path: &'static str) -> String {
    let address = node.http().expect("it is on");
    let (status, body) = tokio::task::spawn_blocking(move || http(address, "GET", path)).await.expect("no panic");
    assert_eq!(status, 200, "{body}");
    body
}

/// Waits until the first destination is told so of.
async fn until_told(node: &Node, is: impl Fn(&serde_json::Value) -> bool) {
    until("the first destination is told so of", async || {
        let set: serde_json::Value = serde_json::from_str(&get(node, "/sets/19").await).expect("JSON");
        is(&set["destinations"][0]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_follow_what_a_servers_agent_says_over_http() {
    let folder = Folder::new();
    let mut servers = Vec::new();
    for _ in 0..2 {
        servers.push(MrcpServer::start(own_address(), Behaviour::default()).await.expect("a free port"));
    }
    let all = addresses(&servers);
    let says = Arc::new(Mutex::new((200, "drain # new model\nignored".to_owned())));
    let port = agent(all[0], Arc::clone(&says)).await.port();
    let node = Node::start(&folder.config(&format!(
        r#"
        [[set.destination]]
        uri = "sip:{}"
        agent = {{ port = {port}, path = "/wants?of=tts", interval = "100ms", fall = 1000 }}"#,
        all[0]
    )))
    .await
    .expect("it starts");
    node.store().execute(&insert(&all)).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    let proxy = node.server().addresses()[0];
    let say = |status, body: &str| *says.lock().expect("no panic") = (status, body.to_owned());

    until_told(&node, |one| one["fitness"] == "unfit: its agent says drain (new model)").await;
    let report = calls(proxy, 20, 200.0).await;
    assert_eq!((report.answered, report.failed), (20, 0), "{report}");
    assert_eq!(report.destinations.values().collect::<Vec<_>>(), [&20], "{report}");

    say(200, "ready 25%");
    until_told(&node, |one| one["agent"]["share_percent"] == 25 && one["fit"] == true).await;
    let report = calls(proxy, 50, 200.0).await;
    let mut reached: Vec<_> = report.destinations.into_values().collect();
    reached.sort_unstable();
    assert_eq!(reached, [10, 40]);

    // What is no good answer changes nothing, and is counted.
    say(503, "maint");
    until_told(&node, |one| one["agent"]["silences"].as_u64() >= Some(3)).await;
    until_told(&node, |one| one["agent"]["share_percent"] == 25 && one["fit"] == true && one["health"] == "up").await;
    let metrics = get(&node, "/metrics").await;
    let labels = format!("{{set=\"19\",destination=\"sip:{}\"}}", all[0]);
    for line in [
        format!("tandem_destination_agent_share_ratio{labels} 0.25"),
        format!("tandem_destination_share_ratio{labels} 0.25"),
        format!("tandem_destination_agent_refuses{labels} 0"),
    ] {
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    assert_eq!(metrics.matches("tandem_destination_agent_share_ratio{").count(), 1, "the other one has no agent");
    node.stop().await;
}
