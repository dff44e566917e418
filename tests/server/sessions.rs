//! Sessions on a running node: told a page at a time, and ended by order, with BYE to both ends.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tandem::lab::caller::run;
use tandem::lab::{Caller, CallerConfig, Report};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::orders::Bench;
use crate::scratch::{PATIENCE, until};

/// So many calls, which last until somebody else ends them.
async fn calls(bench: &Bench, count: usize) -> JoinHandle<Report> {
    let proxy = bench.node.server().addresses()[0];
    let hold = Duration::from_secs(6000);
    let config = CallerConfig { proxy, rate: 100.0, calls: Some(count as u64), hold, ..CallerConfig::default() };
    let caller = Arc::new(Caller::new());
    let calls = tokio::spawn(async move { run(config, &caller).await.expect("a socket") });
    until("all are set up", async || {
        let (_, told) = bench.get("/sets/19/sessions?limit=1000").await;
        let all = told["sessions"].as_array().expect("a list");
        (all.len() == count && all.iter().all(|one| one["state"] == "confirmed")).then_some(())
    })
    .await;
    calls
}

/// What its servers have been told of: sessions that they have, and BYEs.
fn heard(bench: &Bench) -> Vec<(usize, u64)> {
    bench.servers.iter().map(|server| server.counts()).map(|counts| (counts.sessions, counts.byes)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_sessions_and_ends_one_all_of_a_server_and_what_a_drain_leaves() {
    let bench = Bench::start().await;
    let (one, other) = (bench.uri(0), bench.uri(1));
    let calls = calls(&bench, 6).await;
    assert_eq!(heard(&bench), [(3, 0), (3, 0)]);

    let (_, page) = bench.get(&format!("/sets/19/sessions?uri={one}&offset=1&limit=1")).await;
    assert_eq!(
        (&page["node"], &page["set"], &page["total"], &page["offset"]),
        (&json!("n1"), &json!(19), &json!(3), &json!(1))
    );
    let sessions = page["sessions"].as_array().expect("a list");
    let first = &sessions[0];
    assert_eq!((sessions.len(), &first["destination"], &first["address"]), (1, &json!(one), &json!(&one[4..])));
    assert_eq!((&first["endable"], &first["parked"], &first["why_not"]), (&json!(true), &json!(false), &Value::Null));
    assert!(first["caller_cseq"].is_u64() && first["destination_cseq"].is_null(), "{first}");
    let call_id = first["call_id"].as_str().expect("it is set up");

    // The same for people.
    let text = bench.done(&["sessions", "--set", "19", "--limit", "4"]).await;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("CALL-ID ") && lines[0].ends_with("CAN BE ENDED"), "{text}");
    assert!(lines[1..5].iter().all(|line| line.contains(" confirmed ") && line.ends_with("yes")), "{text}");
    assert_eq!(lines[5..], ["", "4 of 6 sessions; --offset 4 shows the next"]);
    let json = bench.done(&["sessions", "--set", "19", "--destination", &other, "--json"]).await;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert!(json["total"] == 3 && json["sessions"].as_array().is_some_and(|all| all.len() == 3), "{json}");

    let end = ["end", "--call-id", call_id, "--reason", "stuck"];
    assert_eq!(bench.done(&end).await, "the session is ended\n");
    until("the server has its BYE", async || (heard(&bench) == [(2, 1), (3, 0)]).then_some(())).await;
    assert_eq!(bench.refused(&end, 1).await, format!("no session has the Call-ID {call_id}\n"));

    // Whoever ends many is asked first.
    let end = ["end", "--set", "19", "--destination", &one, "--reason", "stuck"];
    let text = bench.refused(&end, 1).await;
    assert_eq!(
        text,
        format!("{one} of set 19 has 2 sessions: end all? [y/N] nothing is ended: answer y, or give --yes\n")
    );
    assert_eq!(heard(&bench), [(2, 1), (3, 0)]);
    let text = bench.done(&[&end[..], &["--yes"]].concat()).await;
    assert_eq!(text, format!("{one} of set 19: 2 sessions to be ended; what this node can't end stays\n"));
    until("the server has all its BYEs", async || (heard(&bench) == [(0, 3), (3, 0)]).then_some(())).await;
    assert_eq!(bench.done(&["sessions", "--set", "19", "--destination", &one]).await, "no session in set 19\n");

    let drain = ["set", "19", &other, "drain", "--reason", "new model", "--deadline", "1s", "--then-end"];
    let text = bench.done(&drain).await;
    assert!(text.contains("drain; 3 sessions are left, to be ended at 2"), "{text}");
    until("the other one has its BYEs", async || (heard(&bench) == [(0, 3), (0, 3)]).then_some(())).await;
    let text = bench.done(&["show", "19", &other]).await;
    assert!(text.contains(", then its sessions are ended\n"), "{text}");

    // The caller had BYE for each of its calls: else they would last for hours.
    let report = timeout(PATIENCE, calls).await.expect("all calls are over").expect("no panic");
    assert_eq!((report.answered, report.failed, report.lost), (6, 0, 0), "{report}");
    // What is told may be a quarter of a second old.
    let told = until("nobody is left", async || {
        let told = bench.get("/sets").await.1["sessions"].clone();
        (told["live"] == 0).then_some(told)
    })
    .await;
    assert_eq!((&told["parked"], &told["byes"]), (&json!(0), &json!(12)));
    assert_eq!(told["ended"], json!({ "operator": 3, "drain_deadline": 3 }));
    let metrics = bench.metrics().await;
    for line in ["tandem_session_byes_total 12", "tandem_sessions_parked 0"] {
        assert!(metrics.lines().any(|written| written == line), "{line}\n{metrics}");
    }
    bench.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_ends_what_is_not_there_is_told_so() {
    let bench = Bench::start().await;
    let (one, other) = (bench.uri(0), bench.uri(1));
    let end = async |body: Value| bench.ask("POST", "/sessions/end", &body).await;
    let fault = |text: &str| json!({ "error": text });
    let (by, reason) = ("alice", "stuck");
    let nobody = end(json!({ "call_id": "x", "by": by, "reason": reason })).await;
    assert_eq!(nobody, (404, fault("no session has the Call-ID x")));
    let nowhere = end(json!({ "set": 19, "destination": "sip:x", "by": by, "reason": reason })).await;
    assert_eq!(nowhere, (404, fault(&format!("set 19 has no destination sip:x: it has {one}, {other}"))));
    let no_set = end(json!({ "set": 20, "destination": "sip:x", "by": by, "reason": reason })).await;
    assert_eq!(no_set, (404, fault("no set 20: there are 19")));
    let idle = end(json!({ "set": 19, "destination": one, "by": by, "reason": reason })).await;
    assert_eq!(idle, (200, json!({ "node": "n1", "ending": 0 })));
    assert_eq!(end(json!({ "call_id": "x", "by": by })).await.0, 400);
    assert_eq!(bench.get("/sets/19/sessions?uri=sip:x").await.0, 404);
    assert_eq!(bench.get("/sets/20/sessions").await, (404, fault("no set 20: there are 19")));
    assert_eq!(bench.get("/sets/19/sessions?limit=1001").await.0, 400);

    let text = bench.refused(&["end", "--call-id", "x", "--reason", "stuck"], 1).await;
    assert_eq!(text, "no session has the Call-ID x\n");
    let text = bench.refused(&["end", "--set", "20", "--destination", &one, "--reason", "stuck"], 1).await;
    assert_eq!(text, "no set 20: there are 19\n");
    let text = bench.refused(&["sessions", "--set", "19", "--destination", "x"], 1).await;
    assert_eq!(text, format!("set 19 has no destination x: it has {one}, {other}\n"));
    for (args, words) in [
        (&["end", "--call-id", "x"][..], "--reason"),
        (&["end", "--reason", "x"], "--call-id"),
        (&["end", "--set", "19", "--reason", "x"], "--destination"),
        (&["end", "--call-id", "x", "--set", "19", "--destination", "x", "--reason", "x"], "cannot be used with"),
        (&["sessions"], "--set"),
        (&["sessions", "--set", "19", "--limit", "1001"], "1..=1000"),
        (&["set", "19", &one, "drain", "--reason", "x", "--then-end"], "--deadline"),
    ] {
        let text = bench.refused(args, 2).await;
        assert!(text.contains(words), "{args:?}: {text}");
    }
    bench.node.stop().await;
}
