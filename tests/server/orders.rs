//! What an operator sees of destinations and orders of them: over HTTP, by the commands, in the metrics.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tandem::config::Config;
use tandem::engine::flow::Transport;
use tandem::lab::caller::run;
use tandem::lab::{Caller, CallerConfig, MrcpServer};
use tandem::server::Node;
use tokio::task::spawn_blocking;

use crate::node::{addresses, calls, servers};
use crate::scratch::{Folder, anew, http, http_with, insert, until};

/// A node with two servers in set 19.
pub(crate) struct Bench {
    pub(crate) node: Node,
    pub(crate) servers: Vec<MrcpServer>,
    pub(crate) http: SocketAddr,
    folder: Folder,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let classes = "[set.capacity.resources]\ntts = { max_sessions = 80 }\nasr = { attr = \"pstn\" }";
        Self::with(classes, servers(2).await, &[]).await
    }

    /// The same with another configuration and other servers; `dead` are destinations before these.
    pub(crate) async fn with(more: &str, servers: Vec<MrcpServer>, dead: &[SocketAddr]) -> Self {
        let folder = Folder::new();
        let config = Config { node_id: "n1".to_owned(), ..folder.config(more) };
        let node = Node::start(&config).await.expect("it starts");
        let rows = [dead, &addresses(&servers)].concat();
        node.store().execute(&insert(&rows)).await.expect("rows");
        node.reload(anew()).await.expect("good rows");
        let http = node.http().expect("it is on");
        Bench { node, servers, http, folder }
    }

    pub(crate) fn uri(&self, nth: usize) -> String {
        format!("sip:{}", self.servers[nth].address())
    }

    pub(crate) async fn ask(&self, method: &'static str, path: &str, body: &Value) -> (u16, Value) {
        let (address, path) = (self.http, path.to_owned());
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, text) = spawn_blocking(move || http_with(address, method, &path, &body)).await.expect("no panic");
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, &Value::Null).await
    }

    /// Waits until the journal does not tell the set for empty, as which it began: a spell that is shorter than a look is none.
    pub(crate) async fn set_is_told_fit(&self) {
        until("the set is told to be fit", async || {
            let (_, told) = self.get("/events?limit=1000").await;
            let mut sets = told["events"].as_array().expect("a list").iter().filter(|event| event["kind"] == "set");
            sets.next_back().is_none_or(|event| event["new"] == "fit").then_some(())
        })
        .await;
    }

    pub(crate) async fn metrics(&self) -> String {
        let address = self.http;
        spawn_blocking(move || http(address, "GET", "/metrics")).await.expect("no panic").1
    }

    pub(crate) async fn tandem(&self, args: &[&str]) -> Output {
        let mut command = tandem(args, self.http);
        spawn_blocking(move || command.output()).await.expect("no panic").expect("the binary runs")
    }

    /// Ends with success; what it printed.
    pub(crate) async fn done(&self, args: &[&str]) -> String {
        let output = self.tandem(args).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Ends with this status; what it said.
    pub(crate) async fn refused(&self, args: &[&str], status: i32) -> String {
        let output = self.tandem(args).await;
        assert_eq!(output.status.code(), Some(status), "{args:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

/// The binary, told where the node is.
pub(crate) fn tandem(args: &[&str], http: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.args(args).args(["--http", &http.to_string()]).env("SUDO_USER", "alice");
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_takes_out_too_much_or_comes_too_late_is_refused_unless_it_is_forced() {
    let bench = Bench::start().await;
    bench.set_is_told_fit().await;
    let order = |nth| format!("/sets/19/destination/order?uri={}", bench.uri(nth));
    let body = |order: &str| json!({ "order": order, "reason": "new model", "by": "alice" });
    let with = |mut body: Value, key: &str, value: Value| {
        body[key] = value;
        body
    };
    let (_, told) = bench.get(&format!("/sets/19/destination?uri={}", bench.uri(0))).await;
    let version = told["addresses"][0]["order"]["version"].clone();
    let drain = with(body("drain"), "expected", version.clone());
    let (status, told) = bench.ask("PUT", &order(0), &drain).await;
    assert_eq!((status, &told["addresses"][0]["order"]["order"]), (200, &json!("drain")), "{told}");
    let (status, told) = bench.ask("PUT", &order(0), &with(body("maint"), "expected", version)).await;
    assert!(
        status == 412 && told["error"].as_str().is_some_and(|text| text.contains("drain by alice stands")),
        "{told}"
    );
    let (status, told) = bench.ask("PUT", &order(1), &body("maint")).await;
    let refusal = told["error"].as_str().unwrap_or_default();
    assert!(status == 409 && refusal.contains("0 of 2 destinations") && !refusal.contains("--"), "{told}");
    let told = bench.refused(&["set", "19", &bench.uri(1), "maint", "--reason", "new model"], 1).await;
    assert!(
        told.ends_with(": add --force if you mean it\n") && told.contains("0 of 2 destinations would be fit"),
        "{told}"
    );
    let (_, set) = bench.get("/sets/19").await;
    assert_eq!(set["fit"], 1, "{set}");
    assert_eq!(bench.ask("PUT", &order(1), &with(body("maint"), "force", json!(true))).await.0, 200);
    bench.done(&["set", "19", &bench.uri(0), "maint", "--reason", "new model", "--force"]).await;

    // Both are in the journal, and so is that the set has nobody now.
    let kinds = until("the set's end is told", async || {
        let (_, told) = bench.get("/events?limit=1000").await;
        let events = told["events"].as_array().expect("a list").clone();
        events.iter().any(|event| event["text"] == "set 19 has no fit destination, of 2").then_some(events)
    })
    .await;
    let orders: Vec<_> = kinds.iter().filter(|event| event["kind"] == "order").collect();
    assert_eq!((&orders[0]["old"], &orders[0]["new"]), (&json!("ready"), &json!("drain")));
    assert_eq!((&orders[0]["actor"], &orders[0]["reason"]), (&json!("alice"), &json!("new model")));
    assert_eq!((&kinds[0]["kind"], &kinds[0]["sequence"]), (&json!("start"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_over_http_is_obeyed_told_and_idempotent() {
    let bench = Bench::start().await;
    let (one, other) = (bench.uri(0), bench.uri(1));
    let path = format!("/sets/19/destination?uri={one}");
    let order = format!("/sets/19/destination/order?uri={one}");
    let body = json!({ "order": "drain", "reason": "new model", "by": "alice", "deadline": "2030-01-01T00:00:00Z" });
    let (status, told) = bench.ask("PUT", &order, &body).await;
    assert_eq!(status, 200, "{told}");
    let address = &told["addresses"][0];
    assert_eq!((&told["node"], &told["set"], &told["uri"]), (&json!("n1"), &json!(19), &json!(one)));
    assert_eq!((&address["fit"], &address["fitness"]), (&json!(false), &json!("unfit: order drain")));
    assert_eq!((&address["health"], &address["sessions"]), (&json!("up"), &json!(0)));
    let standing = &address["order"];
    assert_eq!((&standing["order"], &standing["by"]), (&json!("drain"), &json!("alice")));
    assert_eq!((&standing["reason"], &standing["deadline"]), (&json!("new model"), &json!("2030-01-01T00:00:00.000Z")));

    // The same again changes nothing, not even when it was given; with POST too.
    for method in ["PUT", "POST"] {
        assert_eq!(bench.ask(method, &order, &body).await, (200, told.clone()));
    }
    assert_eq!(bench.get(&path).await, (200, told.clone()));

    let report = calls(bench.node.server().addresses()[0], 10, 100.0).await;
    assert_eq!((report.answered, report.destinations.len()), (10, 1), "{report}");
    // What is told may be a quarter of a second old.
    let set = until("the calls are told", async || {
        let (_, set) = bench.get("/sets/19").await;
        (set["destinations"][1]["selections"] != 0).then_some(set)
    })
    .await;
    assert_eq!((&set["fit"], &set["destinations"][1]["uri"]), (&json!(1), &json!(other)));
    assert_eq!((&set["destinations"][0]["selections"], &set["destinations"][1]["selections"]), (&json!(0), &json!(10)));
    let (_, all) = bench.get("/sets").await;
    assert_eq!((&all["node"], &all["sets"].as_array().map(Vec::len)), (&json!("n1"), &Some(1)));

    // Those calls were observed.
    let (_, told) = bench.get(&format!("/sets/19/destination?uri={other}")).await;
    let seen = told["addresses"][0]["observations"].as_array().expect("a list");
    assert_eq!(seen.len(), 10, "{told}");
    for one in seen {
        assert_eq!((&one["witness"], &one["outcome"]), (&json!("traffic"), &json!("200")));
        assert_eq!((&one["meaning"], &one["node"]), (&json!("alive"), &json!("n1")));
        assert!(one["latency_ms"].as_f64() > Some(0.0) && one["at"].as_str().is_some_and(|at| at.ends_with('Z')));
    }
    assert_eq!(told["addresses"][0]["latency"]["traffic"]["count"], 10);

    let metrics = bench.metrics().await;
    for line in [
        format!("tandem_destination_order{{set=\"19\",destination=\"{one}\",order=\"drain\"}} 1"),
        format!("tandem_destination_order{{set=\"19\",destination=\"{one}\",order=\"ready\"}} 0"),
        format!("tandem_destination_fit{{set=\"19\",destination=\"{one}\"}} 0"),
        format!("tandem_destination_health{{set=\"19\",destination=\"{other}\",health=\"up\"}} 1"),
        format!("tandem_destination_share_ratio{{set=\"19\",destination=\"{other}\"}} 1"),
        format!("tandem_latency_seconds_count{{set=\"19\",destination=\"{other}\",witness=\"traffic\"}} 10"),
        format!("tandem_probes_total{{set=\"19\",destination=\"{other}\",result=\"alive\"}} 0"),
        "tandem_set_panicking{set=\"19\"} 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|written| written == line), "{line}\n{metrics}");
    }
    let body = json!({ "order": "ready", "reason": "done", "by": "bob" });
    let (_, told) = bench.ask("PUT", &order, &body).await;
    assert_eq!((&told["addresses"][0]["fit"], &told["addresses"][0]["order"]["by"]), (&json!(true), &json!("bob")));
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_for_what_is_not_there_is_told_what_is() {
    let bench = Bench::start().await;
    let all = format!("{}, {}", bench.uri(0), bench.uri(1));
    let order = json!({ "order": "drain", "reason": "x", "by": "alice" });
    let no_set = |wanted| json!({ "error": format!("no set {wanted}: there are 19") });
    let no_destination = json!({ "error": format!("set 19 has no destination sip:nobody: it has {all}") });
    assert_eq!(bench.get("/sets/20").await, (404, no_set("20")));
    assert_eq!(bench.get("/sets/tts/destination?uri=sip:nobody").await, (404, no_set("tts")));
    assert_eq!(bench.get("/sets/19/destination?uri=sip:nobody").await, (404, no_destination.clone()));
    assert_eq!(bench.ask("PUT", "/sets/20/destination/order?uri=sip:nobody", &order).await, (404, no_set("20")));
    assert_eq!(bench.ask("PUT", "/sets/19/destination/order?uri=sip:nobody", &order).await, (404, no_destination));
    let path = format!("/sets/19/destination/order?uri={}", bench.uri(0));
    let (status, fault) = bench.ask("PUT", &path, &json!({ "order": "off", "reason": "x", "by": "alice" })).await;
    assert_eq!((status, fault), (400, json!({ "error": "order is \"off\": give ready, drain or maint" })));
    let (status, fault) = bench.get("/sets/19/destination").await;
    assert!(status == 400 && fault["error"].as_str().is_some_and(|text| text.contains("add ?uri=")), "{fault}");
    assert_eq!(bench.ask("DELETE", &path, &Value::Null).await.0, 405);
    assert_eq!(bench.get("/sets/19").await.1["fit"], 2, "nothing of it was done");
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_show_and_set() {
    let bench = Bench::start().await;
    let (one, other) = (bench.uri(0), bench.uri(1));
    let (proxy, part) = (bench.node.server().addresses()[0], one.trim_start_matches("sip:").to_owned());
    // A call that stays at each of them.
    let caller = std::sync::Arc::new(Caller::new());
    let config = CallerConfig {
        proxy,
        transport: Transport::Udp,
        bind: [127, 0, 0, 1].into(),
        user_agent: "OPENSIPS_TTS_MRCP_CLIENT".into(),
        rate: 100.0,
        calls: Some(2),
        hold: Duration::from_secs(600),
        ..CallerConfig::default()
    };
    let held = std::sync::Arc::clone(&caller);
    let calls = tokio::spawn(async move { run(config, &held).await });
    until("each has a session that is set up", async || {
        let snapshot = bench.node.server().snapshot().await.expect("it runs");
        snapshot.sets[0].destinations.iter().all(|one| one.sessions == 1 && one.responses[1] > 0).then_some(())
    })
    .await;

    let order = ["set", "19", &part, "drain", "--reason", "new model", "--deadline", "10m"];
    let text = bench.done(&order).await;
    assert_eq!(text, format!("{one} of set 19: drain; 1 session is left\n"));
    let text = bench.done(&["show"]).await;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("SET  DESTINATION "), "{text}");
    assert!(lines[1].ends_with("drain by alice: new model"), "{text}");
    for (nth, words) in [(1, [one.as_str(), "drain", "up", "no"]), (2, [other.as_str(), "ready", "up", "yes"])] {
        let found: Vec<_> = lines[nth].split_whitespace().collect();
        assert_eq!(found[1..5], words, "{text}");
        // Columns stand under their heads.
        let column = |head| lines[0].find(head).expect("a head");
        assert_eq!(lines[nth].find(words[0]), Some(column("DESTINATION")), "{text}");
        assert_eq!(lines[nth].as_bytes()[column("SESSIONS") + "SESSIONS".len() - 1], b'1', "{text}");
        assert_eq!(lines[nth].as_bytes()[column("WHY") - 1], b' ', "{text}");
    }
    assert!(!text.contains('\x1b'), "no colour but on a terminal: {text:?}");

    let text = bench.done(&["show", "19", &part]).await;
    for words in [
        "unfit: order drain",
        "drain by alice at 2",
        "\n  deadline  2",
        ": new model",
        "1 session now",
        "\n  room      tts 1 of 80, asr 0 of 100\n",
        "traffic  200      alive",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let json: Value = serde_json::from_str(&bench.done(&["show", "19", &part, "--json"]).await).expect("JSON");
    assert_eq!((&json["uri"], &json["addresses"][0]["observations"][0]["outcome"]), (&json!(one), &json!("200")));
    let tts = json!({ "class": "tts", "sessions": 1, "max_sessions": 80 });
    assert_eq!((&json["addresses"][0]["resources"][0], &json["addresses"][0]["max_sessions"]), (&tts, &Value::Null));
    let labels = format!("{{set=\"19\",destination=\"{one}\",resource_class=\"tts\"}}");
    let metrics = bench.metrics().await;
    for line in [format!("sessions{labels} 1"), format!("sessions_limit{labels} 80")] {
        assert!(metrics.contains(&format!("\ntandem_destination_resource_{line}\n")), "{line}\n{metrics}");
    }
    let again = ["set", "19", &one, "ready", "--reason", "done", "--by", "bob", "--json"];
    let json: Value = serde_json::from_str(&bench.done(&again).await).expect("JSON");
    assert_eq!((&json["addresses"][0]["fit"], &json["addresses"][0]["order"]["by"]), (&json!(true), &json!("bob")));
    let text = bench.done(&["show", "19"]).await;
    assert!(text.contains("set 19, round_robin: 2 of 2 fit\n"), "{text}");

    // Where the node is stands in its configuration.
    for (address, status, words) in [
        (bench.http.to_string(), 0, one.as_str()),
        ("127.0.0.1:0".to_owned(), 1, "has no port of its own: give the node's address with --http"),
        ("off".to_owned(), 1, "is \"off\": turn it on, or give the node's address with --http"),
    ] {
        let text = format!("[[listener]]\nbind = \"udp:127.0.0.1:8060\"\n[http]\nlisten = \"{address}\"\n");
        let file = bench.folder.write("where.toml", &text);
        let show = move || Command::new(env!("CARGO_BIN_EXE_tandem")).args(["show", "--config"]).arg(file).output();
        let output = spawn_blocking(show).await.expect("no panic").expect("it runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.code() == Some(status) && text.contains(words), "{address}: {text}");
    }

    let text = bench.refused(&["show", "20"], 1).await;
    assert_eq!(text, "no set 20: there are 19\n");
    let text = bench.refused(&["set", "19", "127.0.0.1", "drain", "--reason", "x"], 1).await;
    assert_eq!(text, format!("127.0.0.1 may be each of {one}, {other}: give more of it\n"));
    let text = bench.refused(&["set", "19", &one, "drain", "--reason", " "], 1).await;
    assert!(text.starts_with("reason is missing"), "{text}");
    assert!(bench.refused(&["set", "19", &one, "drain"], 2).await.contains("--reason"));
    assert!(bench.refused(&["set", "19", &one, "off", "--reason", "x"], 2).await.contains("maint"));
    caller.stop();
    let Bench { node, servers: _servers, http, folder: _folder } = bench;
    node.stop().await;
    let output = spawn_blocking(move || tandem(&["show"], http).output()).await.expect("no panic").expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains("is `tandem run` there?"), "{text}");
    calls.abort();
}
