//! The journal's ways out: its file, and webhooks to real HTTP servers.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tandem::lab::Behaviour;
use tandem::server::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::node::{addresses, calls, servers};
use crate::scratch::{Folder, PATIENCE, anew, http, http_with, insert, until};

/// Base64 of 24 bytes.
const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PROBE: &str = "[set.probe]\ninterval = \"100ms\"\nfast_interval = \"100ms\"\ndown_interval = \"100ms\"\n\
     fall = 1\nrise = 1\n";

/// A request that a sink has had.
struct Heard {
    head: String,
    body: String,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The webhook-id, and the place that it ends with.
    fn place(&self) -> u64 {
        let id = self.header("webhook-id");
        id.rsplit('-').next().and_then(|place| place.parse().ok()).unwrap_or_else(|| panic!("an id: {id:?}"))
    }

    /// Checks the signature with openssl, as a stranger would.
    fn is_signed(&self) -> bool {
        let signed = format!("{}.{}.{}", self.header("webhook-id"), self.header("webhook-timestamp"), self.body);
        let script = "key=$(printf %s \"$1\" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \\n'); \
             openssl dgst -sha256 -mac HMAC -macopt hexkey:$key -binary | openssl base64 -A";
        let mut child = Command::new("sh")
            .args(["-c", script, "sh", SECRET])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), signed.as_bytes()).expect("written");
        let told = child.wait_with_output().expect("it ends").stdout;
        let told = String::from_utf8(told).expect("base64");
        assert_eq!(told.len(), 44, "openssl is there: {told:?}");
        self.header("webhook-signature") == format!("v1,{told}")
    }
}

/// A sink that answers each request with the next of these statuses, and 204 after them; none: it hangs.
async fn sink(statuses: Option<Vec<u16>>) -> (String, mpsc::UnboundedReceiver<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/tandem", listener.local_addr().expect("bound"));
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut left = statuses.clone().unwrap_or_default().into_iter();
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(request) = read(&mut stream).await else { continue };
            let _ = tell.send(request);
            match statuses {
                None => held.push(stream),
                Some(_) => {
                    let status = left.next().unwrap_or(204);
                    let answer = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        }
    });
    (url, heard)
}

/// A whole request; none if its sender has gone.
async fn read(stream: &mut TcpStream) -> Option<Heard> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let heard = Heard { head: head.to_owned(), body: body.to_owned() };
        if heard.header("content-length").parse() == Ok(body.len()) {
            return Some(heard);
        }
    }
}

async fn next(heard: &mut mpsc::UnboundedReceiver<Heard>) -> Heard {
    timeout(PATIENCE, heard.recv()).await.expect("in time").expect("the sink lives")
}

async fn get(address: SocketAddr, path: &'static str) -> (u16, String) {
    tokio::task::spawn_blocking(move || http(address, "GET", path)).await.expect("no panic")
}

async fn events(node: &Node, path: &'static str) -> Value {
    let (status, text) = get(node.http().expect("it is on"), path).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

async fn until_metric(node: &Node, line: &str) {
    let address = node.http().expect("it is on");
    until(line, async || get(address, "/metrics").await.1.lines().any(|written| written == line).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_is_told_signed_and_to_opensips_s_ears_too() {
    let folder = Folder::new();
    folder.write_secret("noc.secret", &format!("whsec_{SECRET}\n"));
    let ((url, mut heard), (mi, mut mi_heard)) = (sink(Some(Vec::new())).await, sink(Some(Vec::new())).await);
    let config = folder.config(&format!(
        "[[events.webhook]]\nname = \"noc\"\nurl = \"{url}\"\nsecret_file = \"noc.secret\"\nkinds = \"health\"\nsets = [19]\n\
         [[events.webhook]]\nurl = \"{mi}\"\nformat = \"opensips\"\n{PROBE}"
    ));
    let node = Node::start(&config).await.expect("it starts");
    let servers = servers(2).await;
    let all = addresses(&servers);
    node.store().execute(&insert(&all)).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    servers[0].set(Behaviour { offline: true, ..Behaviour::default() });
    let uri = format!("sip:{}", all[0]);
    let down = loop {
        let told = next(&mut heard).await;
        assert!(told.head.starts_with("POST /tandem HTTP/1.1\r\n"), "{}", told.head);
        assert!(told.is_signed(), "{}\n{}", told.head, told.body);
        let timestamp: u64 = told.header("webhook-timestamp").parse().expect("a number");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        assert!(now.abs_diff(timestamp) < 60, "{timestamp}, {now}");
        let entry = told.json();
        assert_eq!((&entry["kind"], &entry["set"]), (&json!("health"), &json!(19)), "{entry}");
        assert_eq!(entry["sequence"], json!(told.place()));
        if entry["new"] == "down" {
            break entry;
        }
    };
    assert_eq!((&down["destination"], &down["status"]), (&json!(uri), &json!("inactive")));
    let params = |group, status: &str| json!({ "group": group, "address": uri, "status": status });
    let event = next(&mut mi_heard).await;
    assert_eq!(event.header("webhook-signature"), "", "it has no secret");
    let mut event = event.json();
    assert_eq!((&event["jsonrpc"], &event["method"]), (&json!("2.0"), &json!("E_DISPATCHER_STATUS")));
    let reason = event["params"].as_object_mut().and_then(|params| params.remove("reason"));
    assert!(reason.is_some_and(|reason| reason.as_str().is_some_and(|text| text.contains("options"))), "{event}");
    assert_eq!(event["params"], params(19, "inactive"));
    servers[0].set(Behaviour::default());
    let event = next(&mut mi_heard).await.json();
    assert_eq!((&event["params"]["address"], &event["params"]["status"]), (&json!(uri), &json!("active")));
    let told = events(&node, "/events?format=opensips").await;
    let statuses: Vec<_> =
        told["events"].as_array().expect("a list").iter().map(|one| &one["params"]["status"]).collect();
    assert_eq!(statuses, ["inactive", "active"], "{told}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_fails_hears_the_same_again_and_all_in_order() {
    let folder = Folder::new();
    let (url, mut heard) = sink(Some(vec![503, 503])).await;
    let node = Node::start(&folder.config(&format!("[[events.webhook]]\nurl = \"{url}\"\n"))).await.expect("it starts");
    let servers = servers(1).await;
    node.store().execute(&insert(&addresses(&servers))).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    let first = [next(&mut heard).await, next(&mut heard).await, next(&mut heard).await];
    assert_eq!(first.each_ref().map(Heard::place), [1, 1, 1]);
    let ids: HashSet<_> = first.iter().map(|told| (told.header("webhook-id"), &told.body)).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(first[0].json()["kind"], "start");
    let reported = events(&node, "/events").await;
    let last = reported["last"].as_u64().expect("a number");
    assert!(last > 1, "{reported}");
    for place in 2..=last {
        let told = next(&mut heard).await;
        assert_eq!((told.place(), told.json()), (place, reported["events"][place as usize - 1].clone()));
    }
    until_metric(&node, "tandem_webhook_deliveries_total{hook=\"1\",result=\"failed\"} 2").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_hangs_delays_no_call_no_other_hook_and_not_the_end() {
    let folder = Folder::new();
    let ((hangs, mut asked), (url, mut heard)) = (sink(None).await, sink(Some(Vec::new())).await);
    let hooks = format!(
        "[[events.webhook]]\nname = \"hangs\"\nurl = \"{hangs}\"\ntimeout = \"60s\"\n[[events.webhook]]\nurl = \"{url}\"\n"
    );
    let node = Node::start(&folder.config(&hooks)).await.expect("it starts");
    assert_eq!(next(&mut asked).await.place(), 1);
    let servers = servers(1).await;
    node.store().execute(&insert(&addresses(&servers))).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    let report = calls(node.server().addresses()[0], 300, 300.0).await;
    assert_eq!((report.answered, report.lost), (300, 0), "{report}");
    let last = events(&node, "/events").await["last"].as_u64().expect("a number");
    for place in 1..=last {
        assert_eq!(next(&mut heard).await.place(), place);
    }
    // The one that hangs has its first entry still.
    let metrics = get(node.http().expect("it is on"), "/metrics").await.1;
    assert!(metrics.contains("tandem_webhook_deliveries_total{hook=\"hangs\",result=\"ok\"} 0\n"), "{metrics}");
    assert!(timeout(Duration::from_secs(30), node.stop()).await.is_ok(), "it waits for 2 s, and not for the timeout");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_has_what_get_events_has_and_tells_starts_apart() {
    let folder = Folder::new();
    let config = folder.config("[events]\nfile = \"events.jsonl\"\n");
    let servers = servers(1).await;
    let mut expected = Vec::new();
    for start in 0..2 {
        let node = Node::start(&config).await.expect("it starts");
        if start == 0 {
            node.store().execute(&insert(&addresses(&servers))).await.expect("rows");
            node.reload(anew()).await.expect("good rows");
        }
        let address = node.http().expect("it is on");
        let order = format!("/sets/19/destination/order?uri=sip:{}", addresses(&servers)[0]);
        let body = format!(r#"{{"order":"{}","by":"test","reason":"x","force":true}}"#, ["drain", "ready"][start]);
        let given =
            tokio::task::spawn_blocking(move || http_with(address, "PUT", &order, &body)).await.expect("no panic");
        assert_eq!(given.0, 200, "{}", given.1);
        until("the order is told", async || {
            let all = events(&node, "/events").await;
            all["events"].as_array().expect("a list").iter().any(|one| one["kind"] == "order").then_some(())
        })
        .await;
        // What comes between the report and the end would be in the file alone: nothing does once all is told.
        let report = events(&node, "/events?since=0&limit=4096").await;
        node.stop().await;
        let started = &report["started"];
        expected
            .extend(report["events"].as_array().expect("a list").iter().map(|entry| (started.clone(), entry.clone())));
    }
    let text = fs::read_to_string(folder.path().join("events.jsonl")).expect("it is there");
    let lines = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("a whole line");
        let started = line.as_object_mut().and_then(|line| line.remove("started")).expect("when the node started");
        (started, line)
    });
    let lines: Vec<_> = lines.collect();
    let starts: Vec<_> = lines.iter().filter(|(_, line)| line["kind"] == "start").collect();
    assert_eq!(starts.len(), 2, "{text}");
    assert!(starts.iter().all(|(_, line)| line["sequence"] == 1) && starts[0].0 != starts[1].0, "{text}");
    for one in &expected {
        assert!(lines.contains(one), "{one:?} in\n{text}");
    }
    let places = |of: &Value| -> Vec<_> {
        lines.iter().filter(|(started, _)| started == of).filter_map(|(_, line)| line["sequence"].as_u64()).collect()
    };
    for (started, _) in starts {
        let places = places(started);
        assert!(places.iter().copied().eq(1..=places.len() as u64), "{places:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_holds_nobody_up_and_is_made_good() {
    let folder = Folder::new();
    let (file, real) = (folder.path().join("events.jsonl"), folder.path().join("real"));
    symlink("/dev/full", &file).expect("a link");
    let node = Node::start(&folder.config("[events]\nfile = \"events.jsonl\"")).await.expect("it starts");
    let address = node.http().expect("it is on");
    let is_told = async || {
        let (status, text) = get(address, "/ready").await;
        assert_eq!(status, 200, "{text}");
        text.contains("events can't be written: make room on their disk")
    };
    until("it is told", async || is_told().await.then_some(())).await;
    let servers = servers(1).await;
    node.store().execute(&insert(&addresses(&servers))).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    let report = calls(node.server().addresses()[0], 100, 200.0).await;
    assert_eq!((report.answered, report.lost), (100, 0), "{report}");
    fs::remove_file(&file).and_then(|()| symlink(&real, &file)).expect("another link");
    until("it is told no more", async || (!is_told().await).then_some(())).await;
    node.stop().await;
    let text = fs::read_to_string(&real).expect("it is there");
    let places = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["sequence"].as_u64());
    assert!(places.eq((1..=text.lines().count() as u64).map(Some)), "{text}");
}
