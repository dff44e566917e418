//! `tandem explain`: of a running node over HTTP, of a configuration alone, and as its users run it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tandem::config::Config;
use tandem::lab::MrcpServer;
use tandem::server::Node;
use tokio::task::spawn_blocking;

use crate::node::{addresses, calls, servers};
use crate::scratch::{Folder, anew, config_text, http, http_with, insert};

struct Bench {
    node: Node,
    servers: Vec<MrcpServer>,
    http: SocketAddr,
    folder: Folder,
}

impl Bench {
    async fn start() -> Self {
        let folder = Folder::new();
        let config = Config { node_id: "n1".to_owned(), ..folder.config("") };
        let node = Node::start(&config).await.expect("it starts");
        let servers = servers(2).await;
        node.store().execute(&insert(&addresses(&servers))).await.expect("rows");
        node.reload(anew()).await.expect("good rows");
        let http = node.http().expect("it is on");
        Bench { node, servers, http, folder }
    }

    /// What the caller of [`calls`] sends.
    fn invite(&self) -> String {
        invite(self.node.server().addresses()[0])
    }

    async fn explain(&self, query: &'static str, message: &str) -> (u16, Value) {
        let (address, message) = (self.http, message.to_owned());
        let ask = move || http_with(address, "POST", &format!("/explain{query}"), &message);
        let (status, text) = spawn_blocking(ask).await.expect("no panic");
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    async fn metrics(&self) -> Vec<String> {
        let address = self.http;
        let text = spawn_blocking(move || http(address, "GET", "/metrics")).await.expect("no panic").1;
        // What the edge has done since, and the time, are no business of the engine's.
        let counted =
            ["tandem_requests", "tandem_selections", "tandem_sessions", "tandem_replies", "tandem_transactions"];
        text.lines().filter(|line| counted.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect()
    }

    async fn tandem(&self, args: &[&str], stdin: &str) -> Output {
        let address = self.http.to_string();
        run(&[args, &["--http", &address]].concat(), stdin).await
    }
}

fn invite(proxy: SocketAddr) -> String {
    format!(
        "INVITE sip:{proxy} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5072;branch=z9hG4bK-explained\r\nMax-Forwards: 70\r\n\
         From: <sip:127.0.0.1:5072>;tag=1\r\nTo: <sip:{proxy}>\r\nCall-ID: explained\r\nCSeq: 1 INVITE\r\n\
         User-Agent: OPENSIPS_TTS_MRCP_CLIENT\r\nContent-Length: 5\r\n\r\nv=0\r\n"
    )
}

/// Runs the binary with that on its standard input.
async fn run(args: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.arg("explain").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let stdin = stdin.to_owned();
    let run = move || {
        let mut child = command.spawn().expect("the binary runs");
        // One that reads a file instead may have ended.
        let _ = child.stdin.take().expect("it is piped").write_all(stdin.as_bytes());
        child.wait_with_output().expect("it ends")
    };
    spawn_blocking(run).await.expect("no panic")
}

fn out(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn fails(output: &Output, status: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(status) && text.contains(words), "{words}: {:?}: {text}", output.status);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_explains_is_what_the_next_call_gets_and_nothing_is_counted() {
    let bench = Bench::start().await;
    let proxy = bench.node.server().addresses()[0];
    for _ in 0..4 {
        let before = bench.metrics().await;
        let (status, told) = bench.explain("", &bench.invite()).await;
        assert_eq!(status, 200, "{told}");
        for _ in 0..3 {
            assert_eq!(bench.explain("", &bench.invite()).await.1["fate"], told["fate"], "no turn is stepped");
        }
        assert_eq!(bench.metrics().await, before);
        assert_eq!((&told["node"], &told["rules"][0]["matches"]), (&json!("n1"), &json!(true)));
        assert_eq!((&told["source"], &told["source_assumed"]), (&json!("127.0.0.1:5072"), &json!(true)));
        let set = &told["sets"][0];
        assert_eq!((&set["set"], &set["outcome"], &set["turn"]), (&json!(19), &json!("somebody"), &json!("session")));
        let fate = &told["fate"];
        assert_eq!((&fate["kind"], &fate["set"], &fate["most_tries"]), (&json!("sent"), &json!(19), &json!(4)));
        let places: Vec<_> = set["destinations"].as_array().expect("a list").iter().map(|one| &one["place"]).collect();
        assert!(places.contains(&&json!(1)) && places.contains(&&json!(2)), "{told}");
        let first = fate["tries"][0]["address"].as_str().expect("an address").to_owned();
        assert_eq!(fate["tries"][0]["request_uri"], format!("sip:{first}"));
        let server = bench.servers.iter().find(|one| one.address().to_string() == first).expect("one of them");
        let report = calls(proxy, 1, 10.0).await;
        assert_eq!(report.answered, 1, "{report}");
        assert!(
            report.destinations.keys().any(|name| name.contains(&server.address().to_string())),
            "{report}: {first}"
        );
    }
    let (_, told) = bench.explain("?source=10.0.0.9:5060", &bench.invite()).await;
    assert_eq!((&told["source"], &told["source_assumed"]), (&json!("10.0.0.9:5060"), &json!(false)));
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_wrongly_is_told_what_to_give() {
    let bench = Bench::start().await;
    let message = bench.invite();
    let listener = format!("udp:{}", bench.node.server().addresses()[0]);
    for (query, message, words) in [
        ("?source=here", message.as_str(), "source is \"here\": give an address"),
        ("?listener=udp:1.2.3.4:5", &message, &*format!("no listener udp:1.2.3.4:5: there are {listener}")),
        ("?sauce=1", &message, "no such part of the query: \"sauce\""),
        ("", "", "no message, only line ends"),
        ("", "{\"order\": 1}", "the first line is not SIP"),
        (
            "",
            "SIP/2.0 200 OK\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\nFrom: <sip:a>;tag=1\nTo: <sip:b>\nCall-ID: 1\nCSeq: 1 INVITE\n\n",
            "this is a response (200)",
        ),
    ] {
        let (status, told) = bench.explain(query, message).await;
        let error = told["error"].as_str().unwrap_or_default();
        assert!(status == 400 && error.contains(words), "{query} {message}: {status} {told}");
    }
    let address = bench.http;
    assert_eq!(spawn_blocking(move || http(address, "GET", "/explain")).await.expect("no panic").0, 405);
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_explains_a_file_or_standard_input() {
    let bench = Bench::start().await;
    let order = |nth: usize| format!("sip:{}", bench.servers[nth].address());
    let (one, other) = (order(0), order(1));
    let drain = json!({ "order": "drain", "reason": "new model", "by": "alice" }).to_string();
    let (address, path) = (bench.http, format!("/sets/19/destination/order?uri={one}"));
    let (status, _) = spawn_blocking(move || http_with(address, "PUT", &path, &drain)).await.expect("no panic");
    assert_eq!(status, 200);

    let pasted = bench.invite().replace("\r\n", "\n");
    let file = bench.folder.write("invite.txt", &pasted);
    let told = out(bench.tandem(&[text(&file)], "").await);
    for words in [
        "from 127.0.0.1:5072, as its Via says",
        "note: its lines end in LF alone: read as CRLF",
        "\"tts\": matches (set 19)",
        "yes  user_agent  wants OPENSIPS_TTS_MRCP_CLIENT",
        "set 19, round_robin, the turn of INVITEs: 1 of 2 may be chosen, 0 sessions",
        "drain by alice: new model\n",
        &format!("it goes to {other} by udp from udp:{}", bench.node.server().addresses()[0]),
        &format!("with Request-URI {other}\n"),
        "if all fail: 480 MRCP server Unavailable\n",
        "(nothing was sent, and nothing has changed)\n",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
    assert!(!told.contains('\x1b'), "no colour but on a terminal: {told:?}");
    for args in [&["-"][..], &[]] {
        assert_eq!(out(bench.tandem(args, &pasted).await), told, "{args:?}");
    }
    let json: Value = serde_json::from_str(&out(bench.tandem(&["--json"], &bench.invite()).await)).expect("JSON");
    assert_eq!((&json["fate"]["tries"][0]["uri"], &json["notes"]), (&json!(other), &json!([])));

    // What no rule matches, and one that is asked for.
    let told = out(bench.tandem(&[], &pasted.replace("OPENSIPS_TTS_MRCP_CLIENT", "Zoiper")).await);
    assert!(told.contains("\"tts\": does not match") && told.contains("it is \"Zoiper\""), "{told}");
    assert!(told.contains("it is answered 404 Not Found: no rule matches ([unroutable])"), "{told}");

    fails(&bench.tandem(&[], "hello\n").await, 1, "not a SIP message: the first line is not SIP");
    fails(&bench.tandem(&[], "").await, 1, "no message, only line ends");
    fails(&bench.tandem(&["nowhere.txt"], "").await, 1, "can't read nowhere.txt");
    fails(&bench.tandem(&["--listener", "udp:1.1.1.1:1"], &pasted).await, 1, "no listener udp:1.1.1.1:1: there are");
    fails(&bench.tandem(&[], &"x".repeat(70_000)).await, 1, "give one SIP message");
    fails(&bench.tandem(&["--source", "here"], "").await, 2, "--source");
    fails(&bench.tandem(&["--config", "x.toml"], "").await, 2, "cannot be used with");
    let Bench { node, http, folder, servers: _servers } = bench;
    node.stop().await;
    fails(&run(&["--http", &http.to_string()], &pasted).await, 1, "is `tandem run` there?");

    // The database that the node has left.
    let file = folder.write("tandem.toml", &config_text(""));
    let offline = ["--config", text(&file), "--json"];
    let json: Value = serde_json::from_str(&out(run(&offline, &pasted).await)).expect("JSON");
    assert_eq!(
        (&json["node"], &json["fate"]["tries"][0]["uri"]),
        (&Value::Null, &json!(one)),
        "no order but the table's"
    );
    assert!(json["notes"][0].as_str().is_some_and(|note| note.starts_with("no node was asked")), "{json}");
    let again: Value = serde_json::from_str(&out(run(&offline, &pasted).await)).expect("JSON");
    assert_eq!(again["fate"], json["fate"], "the same each time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_node_the_configuration_is_checked_first_and_nothing_is_made() {
    let folder = Folder::new();
    let message = invite("127.0.0.1:8060".parse().expect("an address"));
    let file = folder.write("bad.toml", "[[rule]]\nname = \"x\"\nuser_agnet = \"X\"\n");
    fails(&run(&["--config", text(&file)], &message).await, 78, "user_agnet");
    let file = folder.write("tandem.toml", &config_text(""));
    let told = out(run(&["--config", text(&file)], &message).await);
    assert!(told.contains("note: the database is not there yet: no set has a destination"), "{told}");
    assert!(told.contains("it is answered 480 MRCP server Unavailable: nobody of set 19 is fit"), "{told}");
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).expect("a folder").map(|one| one.expect("one").file_name()).collect();
    left.sort();
    assert_eq!(left, ["bad.toml", "tandem.toml"]);
}
