//! `tandem drill` at a site: a node, real servers, a real caller, and commands that stop and kill.

use std::fs::{self, read_to_string};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tandem::server::Node;

use crate::scratch::{Folder, anew, insert, own_address};

const TANDEM: &str = env!("CARGO_BIN_EXE_tandem");

/// A stand-in server in a process of its own, ended with the test.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let address = SocketAddr::new(own_address().ip(), 7010);
        let child = Command::new(TANDEM)
            .args(["mrcp-server", "--listen", &address.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary runs");
        Server { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node whose set has these servers.
async fn node(folder: &Folder, servers: &[Server]) -> Node {
    let node = Node::start(&folder.config("")).await.expect("it starts");
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    node.store().execute(&insert(&addresses)).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    node
}

/// A site of that node and one caller; `more` is what can go wrong.
fn site(folder: &Folder, node: &Node, more: &str) -> String {
    let (proxy, http) = (node.server().addresses()[0], node.http().expect("it is on"));
    let text = format!(
        "[[node]]\nname = \"n\"\nstate = \"{TANDEM} show --json --http {http}\"\n[[caller]]\nname = \"c\"\n\
         calls = \"{TANDEM} calls --json --timeline --to {proxy} --rate $RATE --hold $HOLD --for $TIME\"\n{more}"
    );
    folder.write("site.toml", &text).to_str().expect("text").to_owned()
}

async fn drill(args: &[&str]) -> Output {
    let mut command = Command::new(TANDEM);
    command.arg("drill").args(args);
    tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("the binary runs")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn a_server_that_hangs_is_noticed_and_a_limit_that_nothing_keeps_is_told() {
    let folder = Folder::new();
    let servers = [Server::start(), Server::start()];
    let hung = servers[0].child.id();
    let acts = format!("[hang-destination]\nact = \"kill -STOP {hung}\"\nundo = \"kill -CONT {hung}\"\n");
    let output = runtime().block_on(async {
        let node = node(&folder, &servers).await;
        let site = site(&folder, &node, &acts);
        let args = ["hang-destination", "--site", &site, "--json", "--rate", "40", "--hold", "500ms"];
        let times = ["--before", "2s", "--during", "6s", "--after", "8s"];
        let most = ["--slowest-detection", "1ms", "--slowest-recovery", "1h", "--longest-gap", "1h"];
        drill(&[&args[..], &times, &most].concat()).await
    });
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.starts_with("beyond its limit: detection: ") && err.lines().count() == 1, "{err}");
    let outcome: Value = serde_json::from_str(&out).expect("one JSON object");
    assert!(outcome["calls"].as_u64() > Some(200), "{outcome}");
    assert_eq!((&outcome["lost"], &outcome["failed"]), (&0.into(), &0.into()), "{outcome}");
    assert!(outcome["noticed_ms"]["n"].as_u64() > Some(1000), "it takes 2 s: {outcome}");
    let shares = &outcome["shares"][format!("sip:{}", servers[0].address)];
    assert!(shares[0].as_f64() > Some(40.0) && shares[1].as_f64() < Some(20.0), "{outcome}");
    assert_eq!(outcome["left"]["n"], 0, "{outcome}");
}

#[test]
fn rows_that_can_not_be_read_are_told_of_and_a_change_after_that_is_seen() {
    let folder = Folder::new();
    let servers = [Server::start(), Server::start()];
    let rows = |weight| {
        let row = |server: &Server| {
            format!("[[destination]]\nset = 19\nuri = \"sip:{}\"\nweight = {weight}\n", server.address)
        };
        servers.iter().map(row).collect::<String>()
    };
    let (file, changed) = (folder.write("sets.toml", &rows(1)), folder.write("changed.toml", &rows(2)));
    let (file, changed) = (file.display(), changed.display());
    let acts = format!(
        "[stop-database]\nact = \"mv {file} {file}.away\"\nundo = [\"mv {file}.away {file}\", \"cp {changed} {file}\"]\n"
    );
    let output = runtime().block_on(async {
        let mut config = folder.config("");
        config.database.url = "toml:sets.toml".to_owned();
        config.database.poll_interval = Some(Duration::from_millis(200));
        let node = Node::start(&config).await.expect("it starts");
        let http = node.http().expect("it is on");
        // What curl would do, which need not be there.
        let ask = |path: &str| {
            let (ip, port) = (http.ip(), http.port());
            let request = format!("GET {path} HTTP/1.1\\r\\nHost: {http}\\r\\nConnection: close\\r\\n\\r\\n");
            format!("exec 3<>/dev/tcp/{ip}/{port}; printf '{request}' >&3; sed '1,/^\\r*$/d' <&3\n")
        };
        let script = folder.write("ask.sh", &["/ready", "/store", "/sets"].map(ask).concat());
        let asked = site(&folder, &node, &acts);
        let text = read_to_string(&asked).expect("a site");
        let text = text.replace(&format!("{TANDEM} show --json --http {http}"), &format!("bash {}", script.display()));
        fs::write(&asked, text).expect("a site");
        let args = ["stop-database", "--site", &asked, "--json", "--rate", "20", "--hold", "500ms"];
        let times = ["--before", "1s", "--during", "5s", "--after", "8s"];
        let most = ["--slowest-detection", "1h", "--slowest-recovery", "1h", "--longest-gap", "1h"];
        drill(&[&args[..], &times, &most].concat()).await
    });
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    let outcome: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!((&outcome["lost"], &outcome["failed"]), (&0.into(), &0.into()), "{outcome}");
    assert!(outcome["noticed_ms"]["n"].is_u64() && outcome["recovered_ms"]["n"].is_u64(), "{outcome}");
}

#[test]
fn what_can_not_be_held_exits_2_and_is_undone() {
    let folder = Folder::new();
    let servers = [Server::start()];
    let undone = folder.path().join("undone");
    let acts = format!(
        "[move-vip]\nact = \"true\"\nundo = \"true\"\n[lose-packets]\nact = [\"true\", \"echo why >&2; false\"]\n\
         undo = \"echo yes >>{}\"\n[stop-database]\nact = \"true\"\nundo = \"true\"\n",
        undone.display()
    );
    runtime().block_on(async {
        let node = node(&folder, &servers).await;
        let site = site(&folder, &node, &acts);
        let nothing = "[[node]]\nname = \"n\"\n";
        let faulty = folder.write("faulty.toml", nothing).to_str().expect("text").to_owned();
        for (kind, file, word) in [
            ("lose-packets", &site, "exit status: 1); why: run it by hand"),
            ("kill-node", &site, "give it [kill-node] with act and undo"),
            ("move-vip", &site, "node n: no virtual address is here"),
            ("stop-database", &site, "node n: its rows are not told of: let `state` print GET /ready and /store too"),
            ("move-vip", &faulty, "faulty.toml:1: node: it has no state"),
            ("move-vip", &"nowhere.toml".to_owned(), "nowhere.toml: can't read it"),
        ] {
            let output = drill(&[kind, "--site", file, "--before", "100ms"]).await;
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!((output.status.code(), err.contains(word)), (Some(2), true), "{kind}: {err}");
        }
    });
    assert_eq!(read_to_string(undone).expect("it was undone"), "yes\n", "and once");
}

#[test]
fn an_upgrade_in_the_lab_is_from_some_program() {
    runtime().block_on(async {
        for (args, word) in [
            (&["upgrade-nodes", "--lab"][..], "Give the program with --from"),
            (&["kill-node", "--lab", "--from", TANDEM], "--from is for upgrade-nodes alone"),
            (&["upgrade-nodes", "--lab", "--from", "/nowhere/tandem"], "/nowhere/tandem: No such file"),
        ] {
            let output = drill(args).await;
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!((output.status.code(), err.contains(word)), (Some(2), true), "{args:?}: {err}");
        }
    });
}

/// Starts a drill and reads what it prints up to the act.
fn acted(args: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(TANDEM);
    command.arg("drill").args(args).args(["--rate", "20", "--hold", "200ms", "--before", "500ms"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.ends_with(&format!("  {}\n", args[0])) {
        line.clear();
        assert!(out.read_line(&mut line).expect("text") > 0, "it goes wrong, and that is told");
    }
    (child, out)
}

#[test]
fn who_stops_reading_does_not_stop_the_undoing() {
    let folder = Folder::new();
    let servers = [Server::start()];
    let undone = folder.path().join("undone");
    let acts = format!("[lose-packets]\nact = \"true\"\nundo = \"echo yes >>{}\"\n", undone.display());
    runtime().block_on(async {
        let node = node(&folder, &servers).await;
        let site = site(&folder, &node, &acts);
        let (child, out) = acted(&["lose-packets", "--site", &site, "--during", "1s", "--after", "1s"]);
        drop(out);
        child.wait_with_output().expect("it ends");
    });
    assert_eq!(read_to_string(undone).expect("it was undone"), "yes\n");
}

#[test]
fn a_terminal_that_goes_amid_the_undoing_lets_it_end_and_repeats_nothing() {
    let folder = Folder::new();
    let servers = [Server::start()];
    let [undone, go] = ["undone", "go"].map(|name| folder.path().join(name));
    let file = undone.display();
    let acts = format!(
        "[lose-packets]\nact = \"true\"\nundo = [\"echo first >>{file}\", \"echo begun >>{file}; \
         until [ -e {} ]; do sleep 0.05; done; echo ended >>{file}\"]\n",
        go.display()
    );
    let output = runtime().block_on(async {
        let node = node(&folder, &servers).await;
        let site = site(&folder, &node, &acts);
        let (child, _out) = acted(&["lose-packets", "--site", &site, "--during", "500ms", "--after", "60s"]);
        wait_for(&undone, "begun");
        let hung_up = Command::new("kill").args(["-HUP", &child.id().to_string()]).status();
        assert!(hung_up.expect("kill runs").success());
        fs::write(&go, "").expect("a file");
        child.wait_with_output().expect("it ends")
    });
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), err.contains("interrupted")), (Some(2), true), "{err}");
    assert_eq!(read_to_string(undone).expect("it was undone"), "first\nbegun\nended\n");
}

fn wait_for(file: &Path, word: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while !read_to_string(file).is_ok_and(|text| text.contains(word)) {
        assert!(Instant::now() < until, "{} has no {word}", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_done_while_a_caller_gets_no_answer() {
    let folder = Folder::new();
    let servers = [Server::start()];
    let done = folder.path().join("done");
    let nobody = own_address();
    let acts = format!(
        "share = 50\n[[caller]]\nname = \"d\"\ncalls = \"{TANDEM} calls --json --timeline --give-up-on-icmp \
         --to {nobody} --rate $RATE --hold $HOLD --for $TIME\"\nshare = 50\n\
         [lose-packets]\nact = \"echo yes >>{}\"\nundo = \"true\"\n",
        done.display()
    );
    let output = runtime().block_on(async {
        let node = node(&folder, &servers).await;
        let site = site(&folder, &node, &acts);
        drill(&["lose-packets", "--site", &site]).await
    });
    let err = String::from_utf8_lossy(&output.stderr);
    let told = err.starts_with("caller d: none of its first calls was answered");
    assert_eq!((output.status.code(), told), (Some(2), true), "{err}");
    assert!(!done.exists());
}
