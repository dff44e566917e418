//! Calls' stories on a running node: told by its HTTP surface and by `tandem trace`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::{Value, json};
use tandem::lab::caller::run;
use tandem::lab::{Caller, CallerConfig, Report};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::icmp::closed_port;
use crate::node::servers;
use crate::orders::Bench;
use crate::scratch::{Folder, PATIENCE, until};

fn call(bench: &Bench, hold: Duration) -> JoinHandle<Report> {
    let proxy = bench.node.server().addresses()[0];
    let config = CallerConfig { proxy, rate: 100.0, calls: Some(1), hold, ..CallerConfig::default() };
    tokio::spawn(async move { run(config, &Caller::new()).await.expect("a socket") })
}

/// The newest story once it is as wanted.
async fn newest(bench: &Bench, is_wanted: impl Fn(&Value) -> bool) -> String {
    until("the call is known", async || {
        let (_, told) = bench.get("/traces").await;
        let one = &told["traces"][0];
        is_wanted(one).then(|| one["call_id"].as_str().expect("text").to_owned())
    })
    .await
}

fn kinds(story: &Value) -> Vec<&str> {
    story["steps"].as_array().expect("a list").iter().map(|step| step["kind"].as_str().expect("text")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sampled_call_is_told_from_its_rule_by_a_dead_server_to_its_end() {
    let dead = closed_port(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let bench = Bench::with("[trace]\nsample = 1", servers(1).await, &[dead]).await;
    let live = bench.servers[0].address();
    let report = timeout(PATIENCE, call(&bench, Duration::from_millis(50))).await.expect("in time").expect("no panic");
    assert_eq!((report.answered, report.failed), (1, 0), "{report}");
    let call_id = newest(&bench, |one| one["over"] == true).await;

    // The answer to the BYE is the last of it.
    let path = format!("/traces/{call_id}");
    let story = until("all is told", async || {
        let (_, story) = bench.get(&path).await;
        let last = story["steps"].as_array()?.last()?.clone();
        (last["direction"] == "out" && last["method"] == "BYE" && last["status"] == 200).then_some(story)
    })
    .await;
    assert_eq!((&story["node"], &story["traced"], &story["left_out"]), (&json!("n1"), &json!(true), &json!(0)));
    assert_eq!(story["trace_id"].as_str().map(str::len), Some(32));
    assert_eq!(kinds(&story)[..4], ["message", "decision", "call", "message"]);
    let steps = story["steps"].as_array().expect("a list");
    let lost: Vec<_> = steps.iter().filter(|step| step["direction"] == "lost").collect();
    assert!(lost.iter().all(|step| step["peer"] == dead.to_string() && step["method"] == "INVITE"), "{lost:?}");
    assert!(!lost.is_empty());
    let end = steps.iter().find(|step| step["kind"] == "end").expect("it is over");
    assert_eq!((&end["codes"], &end["destination"]), (&json!([503, 200]), &json!(format!("sip:{live}"))));
    let text: String = steps.iter().map(|step| step["text"].to_string()).collect();
    assert!(text.contains("m=application") && text.contains("bytes of application/sdp left out"), "{text}");
    for left_out in ["o=", "c=IN", "a=resource"] {
        assert!(!text.contains(&format!("\"{left_out}")), "{left_out}: {text}");
    }

    // The same for people.
    let text = bench.done(&["trace", &call_id]).await;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], call_id);
    assert!(lines[1].starts_with("  at node n1, from 2") && lines[1].contains(", trace "), "{text}");
    let place = |words: &[&str]| {
        let found = lines.iter().position(|line| words.iter().all(|word| line.contains(word)));
        found.unwrap_or_else(|| panic!("{words:?}:\n{text}"))
    };
    let (dead, live) = (dead.to_string(), live.to_string());
    let order = [
        place(&[" s  ", "INVITE sip:", "SIP/2.0"]),
        place(&["what is decided:"]),
        place(&["\"tts\": matches (set 19)"]),
        place(&["set 19, ", "2 of 2 may be chosen"]),
        place(&["it goes to", &dead]),
        place(&["if that fails, to", &live]),
        place(&["SIP/2.0 100 Trying"]),
        place(&[&format!("-> {dead}"), "INVITE sip:"]),
        place(&[&format!("-x {dead}"), "INVITE sip:", "(lost: an ICMP error says"]),
        place(&[&format!("-> {live}"), "INVITE sip:"]),
        place(&["SIP/2.0 200 OK"]),
        place(&[&format!("-> {live}"), "ACK sip:"]),
        place(&[&format!("-> {live}"), "BYE sip:"]),
        place(&["over: caller_bye, after", "tries: 503, 200; set up in", &live]),
    ];
    assert!(order.is_sorted(), "{order:?}\n{text}");
    assert!(!text.contains("| "), "no message is printed whole: {text}");
    let text = bench.done(&["trace", &call_id, "--text"]).await;
    assert!(text.contains("            | CSeq: "), "{text}");
    let json: Value = serde_json::from_str(&bench.done(&["trace", &call_id, "--json"]).await).expect("JSON");
    assert_eq!(json, story);
    let list = bench.done(&["trace"]).await;
    assert!(list.lines().nth(1).is_some_and(|line| line.contains(&call_id) && line.ends_with(" kept")), "{list}");
    let metrics = bench.metrics().await;
    assert!(metrics.lines().any(|line| line == "tandem_traces_total 1"), "{metrics}");
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_any_call_something_is_known_and_one_is_kept_from_when_it_is_asked_for() {
    let bench = Bench::start().await;
    let hold = Duration::from_secs(6000);
    let caller = call(&bench, hold);
    let call_id = newest(&bench, |one| one["call_id"].is_string()).await;
    let path = format!("/traces/{call_id}");
    let (_, story) = bench.get(&path).await;
    assert_eq!((&story["traced"], &story["trace_id"], kinds(&story)), (&json!(false), &Value::Null, vec!["call"]));
    let text = bench.done(&["trace", &call_id]).await;
    assert!(text.contains(": rule \"tts\", set 19, to sip:127.0.0.1:"), "{text}");
    assert!(text.contains("note: its messages were not kept: `tandem trace CALL-ID --for 10m`"), "{text}");
    assert!(bench.done(&["trace"]).await.trim_end().ends_with(" not kept"));

    // Its 2xx has passed: it can be ended.
    until("it is set up", async || {
        let (_, told) = bench.get("/sets/19/sessions").await;
        (told["sessions"][0]["state"] == "confirmed").then_some(())
    })
    .await;
    let text = bench.done(&["trace", &call_id, "--for", "10m", "--by", "alice"]).await;
    assert_eq!(text, format!("node n1 keeps the messages of {call_id} for 600 s\n"));
    let args = ["trace", &call_id, "--follow"];
    let end = async {
        let order = json!({ "call_id": call_id, "by": "alice", "reason": "a test" });
        let (status, ended) = bench.ask("POST", "/sessions/end", &order).await;
        assert_eq!((status, &ended["ending"]), (200, &json!(1)));
    };
    let (text, ()) = tokio::join!(bench.done(&args), end);
    let place = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
    let order = [place("rule \"tts\""), place("BYE sip:"), place("over: operator, after")];
    assert!(order.is_sorted(), "{text}");
    let report = timeout(PATIENCE, caller).await.expect("it is over").expect("no panic");
    assert_eq!((report.answered, report.failed), (1, 0), "{report}");

    let nobody = bench.refused(&["trace", "a@b"], 1).await;
    assert!(nobody.starts_with("node n1 knows nothing of the call a@b: ") && nobody.contains("--for 10m"), "{nobody}");
    let body = |call_id: &str, reason: &str| json!({ "call_id": call_id, "by": "alice", "reason": reason });
    for (body, status, words) in
        [(body("a b", "x"), 400, "give the value of a Call-ID header"), (body("a", ""), 400, "reason is missing")]
    {
        let (told, answer) = bench.ask("POST", "/traces", &body).await;
        assert_eq!(told, status, "{answer}");
        assert!(answer["error"].as_str().is_some_and(|text| text.contains(words)), "{answer}");
    }
    for number in 0..99 {
        let (status, answer) = bench.ask("POST", "/traces", &body(&format!("n{number}"), "x")).await;
        assert_eq!(status, 200, "{answer}");
    }
    let (status, answer) = bench.ask("POST", "/traces", &body("one-more", "x")).await;
    assert_eq!(status, 429, "{answer}");
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stories_with_credentials_are_for_administrators() {
    let folder = Folder::new();
    let (mut tokens, mut files) = (String::new(), Vec::new());
    for role in ["operate", "admin"] {
        let file = folder.write_secret(role, &role.repeat(16)).display().to_string();
        tokens += &format!("[[http.token]]\nname = \"{role}\"\nrole = \"{role}\"\nfile = \"{file}\"\n");
        files.push(file);
    }
    let bench = Bench::with(&format!("[trace]\nwhole = true\n{tokens}"), servers(1).await, &[]).await;
    let told = bench.refused(&["trace", "a@b", "--token-file", &files[0]], 1).await;
    assert!(told.contains("this needs a token of role admin, and operate's is operate"), "{told}");
    let told = bench.refused(&["trace", "a@b", "--token-file", &files[1]], 1).await;
    assert!(told.contains("node n1 knows nothing of the call a@b"), "{told}");
    bench.done(&["trace", "--token-file", &files[0]]).await;
    bench.node.stop().await;
}
