//! The binary as its users run it.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Output, Stdio};

use crate::scratch::{Folder, config_text};

fn tandem(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.args(args);
    command
}

fn output(args: &[&str]) -> Output {
    tandem(args).output().expect("the binary runs")
}

#[test]
fn check_tells_ten_faults_and_exits_78() {
    let folder = Folder::new();
    let file = folder.write(
        "bad.toml",
        "node_id = \"a b\"\n[[listener]]\nbind = \"udp:127.0.0.1\"\nrole = \"master\"\n[[set]]\nid = 19\n\
         algorithm = \"fastest\"\n[[rule]]\nname = \"tts\"\nuser_agnet = \"X\"\nsource = \"10.0.0.0/33\"\nset = 19\n\
         [[rule]]\nname = \"tts\"\nrelay = true\n[timing]\ntimer_c = \"3m\"\n[limits]\ntransactions = \"many\"\n",
    );
    let result = output(&["check", "--config", file.to_str().expect("text")]);
    let text = String::from_utf8_lossy(&result.stderr);
    assert_eq!((result.status.code(), text.lines().count()), (Some(78), 10), "{text}");
    assert!(text.lines().all(|line| line.starts_with(file.to_str().expect("text"))), "{text}");
}

#[test]
fn check_of_the_shipped_configuration_finds_none() {
    let result = output(&["check", "--config", concat!(env!("CARGO_MANIFEST_DIR"), "/config/tandem.toml")]);
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
}

#[test]
fn a_file_that_is_not_there_is_told_with_its_name() {
    let result = output(&["run", "--config", "nowhere.toml"]);
    assert_eq!(result.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&result.stderr).contains("nowhere.toml"));
}

#[test]
fn wrong_arguments_are_told_with_their_value_and_exit_2() {
    for (args, words) in [
        (["calls", "--rate", "-1"], ["'-1' for '--rate <N>'", "give a number above 0"]),
        (["demo", "--rate", "nan"], ["'nan' for '--rate <N>'", "give a number above 0"]),
        (["calls", "--from", "::1"], ["--from is ::1", "two addresses of one family"]),
        (["run", "--node-id", "a b"], ["'a b' for '--node-id <NAME>'", "give letters, digits"]),
    ] {
        let result = output(&args);
        let text = String::from_utf8_lossy(&result.stderr);
        assert_eq!(result.status.code(), Some(2), "{args:?}: {text}");
        assert!(words.iter().all(|word| text.contains(word)), "{args:?}: {text}");
    }
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let result = output(&["mrcp-server", "--listen", &address]);
    let text = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(1), "{text}");
    assert!(text.contains(&address) && text.contains("give another one with --listen"), "{text}");
}

#[test]
fn output_that_finds_no_room_is_a_failure() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config/tandem.toml");
    let result = tandem(&["check", "--config", shipped]).stdout(full).output().expect("the binary runs");
    let text = String::from_utf8_lossy(&result.stderr);
    assert_eq!((result.status.code(), text.contains("No space left")), (Some(1), true), "{text}");
}

#[test]
fn check_tells_of_a_database_that_no_start_would_make() {
    let folder = Folder::new();
    let file = folder.write("tandem.toml", &config_text(""));
    let check = |database: &str| output(&["check", "--config", file.to_str().expect("text"), "--database", database]);
    assert!(check("sqlite:later.db").status.success(), "the first start makes it");
    let result = check("sqlite:nowhere/later.db");
    let text = String::from_utf8_lossy(&result.stderr);
    assert_eq!((result.status.code(), text.contains("nowhere/later.db")), (Some(78), true), "{text}");
    let state = folder.path().join("state");
    std::fs::create_dir_all(&state).expect("a folder");
    std::fs::write(state.join("sets.json"), "{}").expect("a file");
    assert_eq!(check("sqlite:later.db").status.code(), Some(78), "it was there once");
}

#[test]
fn the_demo_loses_no_call_and_ends_with_its_json() {
    let result = output(&["demo", "--for", "6s", "--rate", "50", "--hold", "200ms", "--json"]);
    let text = String::from_utf8_lossy(&result.stdout);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(report["calls"].as_u64() >= Some(250), "{text}");
    assert_eq!((&report["failed"], &report["lost"]), (&0.into(), &0.into()), "{text}");
    assert_eq!(report["answered"], report["calls"]);
    assert!(report["p50_ms"].as_f64() <= report["p99_ms"].as_f64());
    let destinations = report["destinations"].as_object().expect("an object");
    let sum: u64 = destinations.values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!((destinations.len(), Some(sum)), (3, report["answered"].as_u64()), "{text}");
}

/// A running node, ended with the test.
struct Run(Child);

impl Run {
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.0.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn run_reloads_on_sighup_and_ends_on_sigterm() {
    let folder = Folder::new();
    let file = folder.write("tandem.toml", &config_text("[log]\nformat = \"json\"\n[drain]\nhandover = \"0s\""));
    let child = tandem(&["run", "--config", file.to_str().expect("text"), "--node-id", "n1"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut run = Run(child);
    let mut lines = BufReader::new(run.0.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let mut wait_for = |word: &str| {
        let line = lines.find(|line| line.contains(word)).unwrap_or_else(|| panic!("no line says {word}"));
        let _: serde_json::Value = serde_json::from_str(&line).expect("each line is one JSON object");
        line
    };
    assert!(wait_for("starting").contains("\"n1\""));
    wait_for("HTTP surface");
    run.signal("-HUP");
    wait_for("sets replaced");
    run.signal("-TERM");
    wait_for("stopping");
    assert!(run.0.wait().expect("it ends").success());
}

#[test]
fn version_is_a_line_or_all_facts_of_the_build() {
    let (short, long) = (output(&["-V"]), output(&["--version"]));
    let (short, long) = (String::from_utf8_lossy(&short.stdout), String::from_utf8_lossy(&long.stdout));
    let version = env!("CARGO_PKG_VERSION");
    let facts = short.strip_prefix(&format!("tandem {version} (")).and_then(|rest| rest.strip_suffix(")\n"));
    let facts: Vec<_> = facts.unwrap_or_else(|| panic!("{short}")).split(", ").collect();
    let [commit, .., target, rustc] = facts.as_slice() else { panic!("{short}") };
    assert!(target.starts_with(std::env::consts::ARCH) && rustc.starts_with("rustc 1."), "{short}");
    let lines: Vec<_> = long.lines().collect();
    let names: Vec<_> = lines[1..].iter().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    assert_eq!(
        (lines[0], names.join(" ")),
        (format!("tandem {version}").as_str(), "commit date profile target rustc".to_owned())
    );
    assert!(lines[1].ends_with(commit) && lines[4].contains(target), "{long}");
}

#[test]
fn a_configuration_that_is_not_named_is_looked_for() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("config")).expect("a folder");
    folder.write("config/tandem.toml", &config_text(""));
    let result = tandem(&["check"]).current_dir(folder.path()).output().expect("the binary runs");
    assert!(String::from_utf8_lossy(&result.stdout).starts_with("config/tandem.toml: no faults"), "{result:?}");
}
