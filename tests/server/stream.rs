//! `/events` and `/stream` of a real node, and the commands that hear them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};
use tandem::config::{Config, HttpConfig};
use tandem::edge::client::{ClientError, Stream, StreamEvent, listen};
use tandem::server::Node;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::node::{addresses, servers};
use crate::orders::{Bench, tandem};
use crate::scratch::{Folder, PATIENCE, anew, http_with, insert, own_address, until};

/// The next event of that name; others pass.
async fn hear(stream: &mut Stream, name: &str) -> (StreamEvent, Value) {
    hear_such(stream, name, |_| true).await
}

/// The next event of that name that is meant.
async fn hear_such(stream: &mut Stream, name: &str, is_meant: impl Fn(&Value) -> bool) -> (StreamEvent, Value) {
    let heard = timeout(PATIENCE, async {
        loop {
            let event = stream.next().await.expect("the node is there");
            if event.name == name {
                let data = serde_json::from_str(&event.data).expect("JSON");
                if is_meant(&data) {
                    return (event, data);
                }
            }
        }
    });
    heard.await.unwrap_or_else(|_| panic!("no such {name}"))
}

async fn join(http: SocketAddr, last: Option<&str>) -> Stream {
    listen(&http.into(), "/stream", last, PATIENCE).await.expect("a place")
}

fn is_order(event: &Value) -> bool {
    event["kind"] == "order"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_told_to_all_who_listen_and_to_those_who_ask_later() {
    let bench = Bench::start().await;
    let one = bench.uri(0);
    let path = format!("/sets/19/destination/order?uri={one}");
    let give = async |order: &str, reason: &str| {
        let body = json!({ "order": order, "reason": reason, "by": "alice" });
        let (status, told) = bench.ask("PUT", &path, &body).await;
        assert_eq!(status, 200, "{told}");
    };

    let mut first = join(bench.http, None).await;
    let (_, node) = hear(&mut first, "node").await;
    assert_eq!(
        (&node["node"], &node["ready"]["ready"], &node["ready"]["reasons"]),
        (&json!("n1"), &json!(true), &json!([]))
    );
    let (_, sets) = hear(&mut first, "sets").await;
    assert_eq!(sets["sets"][0]["destinations"].as_array().map(Vec::len), Some(2));
    assert_eq!(sets["sets"][0]["destinations"][0]["uri"], one);
    let (start, entry) = hear_such(&mut first, "event", |event| event["kind"] == "start").await;
    assert_eq!(entry["sequence"], 1);

    // One look tells of it and the journal does, in whichever order.
    give("drain", "new model").await;
    let (mut changed, mut event) = (None, None);
    while changed.is_none() || event.is_none() {
        let heard = timeout(PATIENCE, first.next()).await.expect("in time").expect("the node is there");
        let data: Value = serde_json::from_str(&heard.data).expect("JSON");
        if heard.name == "event" && is_order(&data) {
            event = Some((heard, data));
        } else if heard.name == "changes" && data["destinations"][0]["order"]["order"] == "drain" {
            changed = Some(data);
        }
    }
    let (changed, (order, entry)) = (changed.expect("heard"), event.expect("heard"));
    let destination = &changed["destinations"][0];
    assert_eq!(
        (&destination["set"], &destination["uri"], &destination["fit"]),
        (&json!(19), &json!(one), &json!(false))
    );
    assert_eq!((&changed["sets"][0]["fit"], &changed["sets"][0]["destinations"]), (&json!(1), &Value::Null));
    for (key, value) in
        [("old", "ready"), ("new", "drain"), ("actor", "alice"), ("reason", "new model"), ("node", "n1")]
    {
        assert_eq!(entry[key], value, "{entry}");
    }
    assert_eq!((&entry["set"], &entry["destination"]), (&json!(19), &json!(one)));

    // The same for those who ask.
    let since = entry["sequence"].as_u64().expect("a number") - 1;
    let (status, told) = bench.get(&format!("/events?since={since}&limit=1")).await;
    assert_eq!((status, &told["events"], &told["node"]), (200, &json!([entry]), &json!("n1")));

    // Who comes later hears how it is and how that came about.
    let mut second = join(bench.http, None).await;
    let (_, sets) = hear(&mut second, "sets").await;
    assert_eq!(sets["sets"][0]["destinations"][0]["order"]["by"], "alice");
    assert_eq!(hear_such(&mut second, "event", is_order).await, (order.clone(), entry.clone()));
    // Who comes again hears what it has not heard, each once.
    give("ready", "done").await;
    let (next, _) = hear_such(&mut second, "event", |event| event["new"] == "ready" && is_order(event)).await;
    for (last, expected) in [(&start, &order), (&order, &next)] {
        let mut again = join(bench.http, last.id.as_deref()).await;
        assert_eq!(&hear_such(&mut again, "event", is_order).await.0, expected);
    }
    let mut again = join(bench.http, start.id.as_deref()).await;
    let (_, entry) = hear(&mut again, "event").await;
    assert_eq!(entry["sequence"], 2, "nothing is left out and nothing told again");
    // An id of another start is none.
    let mut again = join(bench.http, Some("1-1")).await;
    assert_eq!(hear(&mut again, "event").await.1["sequence"], 1);

    // Other rows: the whole anew, for both.
    let more = servers(1).await;
    bench.node.store().execute(&insert(&addresses(&more))).await.expect("a row");
    bench.node.reload(anew()).await.expect("good rows");
    for stream in [&mut first, &mut second] {
        // The journal is told at once, the whole at the next look.
        let (mut sets, mut rows) = (Value::Null, Value::Null);
        while sets.is_null() || rows.is_null() {
            let heard = timeout(PATIENCE, stream.next()).await.expect("in time").expect("the node is there");
            let data: Value = serde_json::from_str(&heard.data).expect("JSON");
            match heard.name.as_str() {
                "sets" => sets = data,
                "event" if data["kind"] == "rows" => rows = data,
                _ => {}
            }
        }
        assert_eq!(sets["sets"][0]["destinations"].as_array().map(Vec::len), Some(3));
        assert!(rows["text"].as_str().is_some_and(|text| text.contains("1 added")), "{rows}");
    }

    bench.node.stop().await;
    let ended = timeout(PATIENCE, async { while first.next().await.is_ok() {} });
    ended.await.expect("the stream ends with its node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_may_listen_and_no_more_and_others_are_still_answered() {
    let bench = Bench::start().await;
    let mut streams = Vec::new();
    for _ in 0..32 {
        streams.push(join(bench.http, None).await);
    }
    match listen(&bench.http.into(), "/stream", None, PATIENCE).await {
        Err(ClientError::Refused { status: 503, text, .. }) => assert!(text.contains("too many listen"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.get("/sets").await.0, 200);
    let text = bench.refused(&["top", "--once"], 1).await;
    assert!(text.starts_with("too many listen already"), "{text}");
    streams.pop();
    until("there is a place again", async || listen(&bench.http.into(), "/stream", None, PATIENCE).await.ok()).await;
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_quick_to_leave_has_told_so() {
    let bench = Bench::start().await;
    bench.node.drain().await;
    let (_, told) = bench.get("/events?limit=1000").await;
    let leaving = told["events"].as_array().expect("a list").iter().filter(|event| event["kind"] == "leave");
    let words: Vec<_> = leaving.map(|event| (event["old"].clone(), event["new"].clone())).collect();
    assert_eq!(words, [(json!("serving"), json!("leaving")), (json!("leaving"), json!("refusing"))]);
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_says_what_the_node_says_of_itself_and_exits_so() {
    let bench = Bench::start().await;
    bench.set_is_told_fit().await;
    assert_eq!(bench.done(&["ready"]).await, "ready\n");
    for nth in [0, 1] {
        bench.done(&["set", "19", &bench.uri(nth), "maint", "--reason", "new model", "--force"]).await;
    }
    assert_eq!(bench.done(&["ready"]).await, "ready\ndegraded: set 19 has no fit destination\n");
    bench.node.drain().await;
    assert_eq!(bench.refused(&["ready"], 1).await, "not ready: the node is draining\n");
    assert_eq!(bench.refused(&["ready", "--json"], 1).await, "not ready: the node is draining\n");
    assert_eq!(bench.done(&["ready", "--live"]).await, "live\n");
    let json: Value = serde_json::from_slice(&bench.tandem(&["ready", "--json"]).await.stdout).expect("JSON");
    assert_eq!((&json["ready"], &json["reasons"]), (&json!(false), &json!(["the node is draining"])));
    let http = bench.http;
    bench.node.stop().await;
    for args in [&["ready"][..], &["ready", "--live"]] {
        let output =
            spawn_blocking(move || tandem(args, http).output()).await.expect("no panic").expect("the binary runs");
        let told = String::from_utf8(output.stderr).expect("text");
        assert_eq!((output.status.code(), told.starts_with("can't connect")), (Some(1), true), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_with_check_exit_with_1_if_one_fails() {
    let servers = servers(1).await;
    let call = async |address: SocketAddr| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        command.args([
            "calls",
            "--check",
            "--calls",
            "2",
            "--rate",
            "100",
            "--hold",
            "10ms",
            "--give-up-on-icmp",
            "--to",
        ]);
        command.arg(address.to_string());
        spawn_blocking(move || command.output()).await.expect("no panic").expect("the binary runs")
    };
    let output = call(servers[0].address()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = call(SocketAddr::new(own_address().ip(), 7010)).await;
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!((output.status.code(), told.as_str()), (Some(1), "of 2 calls 2 failed and 0 were lost\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_list_sets_and_events() {
    let bench = Bench::start().await;
    let (one, other) = (bench.uri(0), bench.uri(1));
    let lines =
        |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    let text = bench.done(&["list"]).await;
    let head = "SET NAME ALGORITHM FIT SESSIONS TRIES NOBODY FIT WRONG";
    assert_eq!(lines(&text), [head, "19 - round_robin 2 of 2 0 0 0 nothing"]);
    assert_eq!(bench.done(&["list", "--check"]).await, text);
    assert_eq!(lines(&bench.done(&["list", "19"]).await)[0], lines(&bench.done(&["show", "19"]).await)[0]);

    bench.set_is_told_fit().await;
    for uri in [&one, &other] {
        bench.done(&["set", "19", uri, "maint", "--reason", "new model", "--force"]).await;
    }
    let refused = bench.refused(&["list", "--check"], 1).await;
    assert_eq!(refused, "no fit destination: set 19\n");
    assert_eq!(bench.refused(&["list", "19", "--check", "--json"], 1).await, refused);
    let text = bench.done(&["list"]).await;
    let wrong = format!("19 - round_robin 0 of 2 0 0 0 nobody is fit: {one}: maint by alice: new model; 1 more");
    assert_eq!(lines(&text)[1], wrong);
    let json: Value = serde_json::from_str(&bench.done(&["list", "--json"]).await).expect("JSON");
    assert_eq!(json["sets"][0]["fit"], 0);

    // The set's own entry is made at the next look.
    let text = until("the set is told to be empty", async || {
        let text = bench.done(&["events", "--kind", "order,set", "--set", "19"]).await;
        text.contains("no fit destination, of 2").then_some(text)
    })
    .await;
    let orders = |text: &str| text.lines().filter(|line| line.ends_with("maint by alice: new model")).count();
    assert_eq!(orders(&text), 2, "{text}");
    assert!(
        !text.contains('\x1b') && text.lines().all(|line| line.contains("order") || line.contains("set ")),
        "{text}"
    );
    let objects =
        |text: String| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect() };
    let all = objects(bench.done(&["events", "--since", "0", "--json"]).await);
    assert_eq!((&all[0]["kind"], &all[0]["sequence"]), (&json!("start"), &json!(1)));
    assert!(
        all.windows(2).all(|two| two[1]["sequence"].as_u64() == two[0]["sequence"].as_u64().map(|before| before + 1))
    );
    let first = objects(bench.done(&["events", "--since", "1", "--limit", "2", "--json"]).await);
    assert_eq!(first, all[1..3]);
    let newest = objects(bench.done(&["events", "--limit", "1", "--json", "--kind", "order"]).await);
    assert_eq!((newest.len(), &newest[0]["destination"]), (1, &json!(other)));
    let text = bench.refused(&["events", "--kind", "orders"], 2).await;
    assert!(text.contains("'orders' for '--kind <KIND,...>'") && text.contains("there are start, health"), "{text}");
    assert_eq!(bench.refused(&["events", "--set", "asr"], 1).await, "no set asr: there are 19\n");

    let text = bench.done(&["top", "--once"]).await;
    assert!(
        text.contains("\n0 sessions, 0.0 calls/s, 0 of 2 destinations fit\n") && text.contains(" node n1, "),
        "{text}"
    );
    assert!(text.contains(&one) && text.contains(&other) && text.contains("maint by alice: new model"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    let text = bench.refused(&["top"], 2).await;
    assert!(text.contains("no terminal") && text.contains("tandem list"), "{text}");
    let http = bench.http;
    bench.node.stop().await;
    let following = spawn_blocking(move || Running::start(&["events", "--follow"], http));
    following.await.expect("no panic").wait_for("is `tandem run` there?");
}

/// A command that runs, and its lines as they come.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(args: &[&str], http: SocketAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        command.args(args).args(["--http", &http.to_string()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let (to, lines) = mpsc::channel();
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let errors = to.clone();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| to.send(line))
        });
        std::thread::spawn(move || {
            BufReader::new(err).lines().map_while(Result::ok).try_for_each(|line| errors.send(line))
        });
        Running { child, lines }
    }

    /// Waits for a line that has these words; those before it pass.
    fn wait_for(&self, words: &str) -> String {
        let mut before = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => before += &format!("{line}\n"),
                Err(error) => panic!("no line has {words} ({error}), but:\n{before}"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_hears_each_event_once_across_a_restart() {
    let folder = Folder::new();
    let config = Config {
        node_id: "n1".to_owned(),
        http: HttpConfig { listen: Some(own_address()), ..HttpConfig::default() },
        ..folder.config("")
    };
    let node = Node::start(&config).await.expect("it starts");
    let http = node.http().expect("it is on");
    let servers = servers(1).await;
    node.store().execute(&insert(&addresses(&servers))).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    let uri = format!("sip:{}", servers[0].address());
    let give = async |order: &str, reason: String| {
        let path = format!("/sets/19/destination/order?uri={uri}");
        let body = json!({ "order": order, "reason": reason, "by": "alice", "force": true }).to_string();
        let told = spawn_blocking(move || http_with(http, "PUT", &path, &body)).await.expect("no panic");
        assert_eq!(told.0, 200, "{}", told.1);
    };
    let following = spawn_blocking(move || {
        let following = Running::start(&["events", "--follow", "--json", "--kind", "start,order"], http);
        following.wait_for("\"start\"");
        following
    });
    let mut following = following.await.expect("no panic");
    give("drain", "first".to_owned()).await;
    following.wait_for("\"first\"");

    node.stop().await;
    following.wait_for("not live: ");
    let node = Node::start(&Config { http: HttpConfig { listen: Some(http), ..HttpConfig::default() }, ..config })
        .await
        .expect("it starts again");
    // More than a stream tells of before.
    for nth in 0..130 {
        give(["maint", "drain"][nth % 2], format!("again {nth}")).await;
    }
    let mut starts = Vec::new();
    let mut reasons = Vec::new();
    while reasons.last().is_none_or(|last| last != "again 129") {
        let line = following.lines.recv_timeout(PATIENCE).expect("a line for each");
        if line == "live again" || line.starts_with("not live") {
            continue;
        }
        let entry: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        match entry["kind"].as_str() {
            Some("start") => starts.push(entry["sequence"].clone()),
            _ => reasons.push(entry["reason"].as_str().unwrap_or_default().to_owned()),
        }
    }
    assert_eq!(starts, [1], "the new start, once");
    let again: Vec<_> = reasons.iter().filter(|reason| reason.starts_with("again")).cloned().collect();
    assert_eq!(again, (0..130).map(|nth| format!("again {nth}")).collect::<Vec<_>>());

    let pid = following.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    assert!(following.child.wait().expect("it ends").success());
    node.stop().await;
}
