//! Serial failover within a set: who is asked, when, and what the caller hears.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tandem::engine::Input;
use tandem::engine::dispatch::RetryOn;
use tandem::engine::flow::{ConnectionId, Flow, ListenerId, Transport};

use crate::harness::{
    Bench, CALLER, INSIDE, SERVERS, Sent, from_destination, in_dialog, invite, lines, request, seconds, set_19,
};

const THIRD: &str = "10.129.39.89:7010";

fn to<'s>(sent: &'s [Sent], peer: &str) -> Vec<&'s Sent> {
    sent.iter().filter(|one| one.to.to_string() == peer).collect()
}

/// The INVITE that a destination got, of what was sent.
fn invite_to(sent: &[Sent], peer: &str) -> Sent {
    let found = to(sent, peer).into_iter().find(|one| one.line().starts_with("INVITE"));
    found.unwrap_or_else(|| panic!("no INVITE to {peer}: {:?}", lines(sent))).clone()
}

#[test]
fn a_busy_or_broken_destination_is_followed_by_the_next_at_once() {
    for status in [408, 480, 486, 500, 502, 503, 504, 580] {
        let mut bench = Bench::new();
        let first = bench.call("1");
        let sent = bench.receive(SERVERS[0], first.answer(status, "No", &[]));
        assert_eq!(
            lines(&sent),
            ["ACK sip:10.129.39.88:7010 SIP/2.0", "INVITE sip:10.129.39.88:7011 SIP/2.0"],
            "{status}"
        );
        let second = sent[1].clone();
        assert_ne!(first.headers("Via")[0], second.headers("Via")[0]);
        let ok = bench.receive(SERVERS[1], second.answer(200, "OK", &["Contact: <sip:10.129.39.88:7011>"]));
        assert_eq!(lines(&ok), ["SIP/2.0 200 OK"]);
        let snapshot = bench.snapshot();
        let sessions: Vec<_> = snapshot.sets[0].destinations.iter().map(|one| one.sessions).collect();
        assert_eq!((sessions, snapshot.sets[0].failovers), (vec![0, 1], 1));
        assert_eq!(bench.receive(CALLER, in_dialog("BYE", &ok[0], 2))[0].to.to_string(), SERVERS[1]);
    }
}

#[test]
fn an_answer_about_the_request_itself_goes_to_the_caller() {
    for status in [302, 400, 403, 404, 415, 488, 501, 505, 600, 603] {
        let mut bench = Bench::new();
        let first = bench.call("1");
        let sent = bench.receive(SERVERS[0], first.answer(status, "Reason", &[]));
        assert_eq!(lines(&sent)[1], format!("SIP/2.0 {status} Reason"));
    }
}

#[test]
fn a_silent_destination_is_left_after_2_s_and_gets_nothing_more() {
    let mut bench = Bench::new();
    bench.call("1");
    let sent = bench.pass(seconds(2));
    let second = invite_to(&sent, SERVERS[1]);
    assert_eq!(second.at, seconds(2));
    bench.receive(SERVERS[1], second.answer(200, "OK", &[]));
    assert_eq!(bench.pass(seconds(70)).len(), 0);
    assert_eq!(bench.snapshot().transactions, 0);
}

#[test]
fn a_destination_that_rings_has_30_s_for_its_final_answer_and_is_cancelled_then() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    bench.receive(SERVERS[0], first.answer(100, "Trying", &[]));
    assert_eq!(bench.pass(Duration::from_millis(29_900)).len(), 0);
    let sent = bench.pass(seconds(1));
    assert_eq!(lines(&sent)[..2], ["CANCEL sip:10.129.39.88:7010 SIP/2.0", "INVITE sip:10.129.39.88:7011 SIP/2.0"]);
    assert_eq!(sent[1].at, seconds(30));
    // Its 487 is acknowledged and goes no further.
    let sent = bench.receive(SERVERS[0], first.answer(487, "Request Terminated", &[]));
    assert_eq!(lines(&sent), ["ACK sip:10.129.39.88:7010 SIP/2.0"]);
}

#[test]
fn a_slow_set_up_is_not_doubled() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    bench.receive(SERVERS[0], first.answer(100, "Trying", &[]));
    assert_eq!(bench.pass(Duration::from_millis(2500)).len(), 0);
    assert_eq!(lines(&bench.receive(SERVERS[0], first.answer(200, "OK", &[]))), ["SIP/2.0 200 OK"]);
    assert_eq!(bench.snapshot().sets[0].failovers, 0);
}

#[test]
fn when_all_fail_the_set_answers_with_the_last_code_as_reason() {
    let mut bench = Bench::with(|config| {
        config.sets[0].empty_reply.retry_after = Some(seconds(7));
    });
    let first = bench.call("1");
    let sent = bench.receive(SERVERS[0], first.answer(503, "No", &[]));
    let sent = bench.receive(SERVERS[1], sent[1].answer(486, "Busy", &[]));
    let answer = &to(&sent, CALLER)[0];
    assert_eq!(answer.line(), "SIP/2.0 480 MRCP server Unavailable");
    assert_eq!((answer.header("Reason"), answer.header("Retry-After")), ("SIP;cause=486".into(), "7".into()));
    let snapshot = bench.snapshot();
    assert_eq!((snapshot.sets[0].failovers, snapshot.sets[0].exhausted, snapshot.sessions), (1, 1, 0));
}

#[test]
fn when_all_are_silent_the_caller_hears_of_it_after_2_s_each() {
    let mut bench = Bench::new();
    bench.call("1");
    let sent = bench.pass(seconds(5));
    let answer = to(&sent, CALLER)[0];
    assert_eq!((answer.line().as_str(), answer.at), ("SIP/2.0 480 MRCP server Unavailable", seconds(4)));
    assert_eq!(answer.header("Reason"), "SIP;cause=408");
    bench.pass(seconds(70));
    assert_eq!((bench.snapshot().transactions, bench.snapshot().sessions), (0, 0));
}

#[test]
fn the_first_2xx_wins_even_from_a_branch_that_was_left_behind() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    let sent = bench.pass(seconds(2));
    let second = invite_to(&sent, SERVERS[1]);
    bench.receive(SERVERS[1], second.answer(100, "Trying", &[]));
    let contact = "Contact: <sip:10.129.39.88:7010>";
    let sent = bench.receive(SERVERS[0], first.answer(200, "OK", &[contact]));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "CANCEL sip:10.129.39.88:7011 SIP/2.0"]);
    let sessions: Vec<_> = bench.snapshot().sets[0].destinations.iter().map(|one| one.sessions).collect();
    assert_eq!(sessions, [1, 0]);
    assert_eq!(bench.receive(CALLER, in_dialog("ACK", &sent[0], 1))[0].to.to_string(), SERVERS[0]);
    // The repeated 2xx of the winner passes; a 2xx of the other, which crossed the CANCEL, is ended.
    assert_eq!(lines(&bench.receive(SERVERS[0], first.answer(200, "OK", &[contact]))), ["SIP/2.0 200 OK"]);
    let late = second.answer(200, "OK", &["Contact: <sip:tts@10.129.39.88:7011>"]);
    let sent = bench.receive(SERVERS[1], &late);
    assert_eq!(lines(&sent), ["ACK sip:tts@10.129.39.88:7011 SIP/2.0", "BYE sip:tts@10.129.39.88:7011 SIP/2.0"]);
    assert_eq!((sent[0].header("CSeq"), sent[1].header("CSeq")), ("1 ACK".into(), "2 BYE".into()));
    assert_eq!((sent[1].headers("Via").len(), sent[1].headers("Route").len()), (1, 0));
    assert!(sent[1].header("To").ends_with(";tag=srv") && sent[1].header("From").ends_with(";tag=from-1"));
    // Repeated, it is acknowledged again; the BYE has its own transaction.
    assert_eq!(lines(&bench.receive(SERVERS[1], &late)), ["ACK sip:tts@10.129.39.88:7011 SIP/2.0"]);
    assert_eq!(bench.receive(SERVERS[1], sent[1].answer(200, "OK", &[])).len(), 0);
    assert_eq!(bench.snapshot().totals.late_2xx, 1);
    bench.pass(seconds(70));
    assert_eq!(bench.snapshot().transactions, 0);
}

#[test]
fn a_2xx_after_the_sets_480_is_ended() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    bench.pass(seconds(5));
    let sent = bench.receive(SERVERS[0], first.answer(200, "OK", &[]));
    assert_eq!(lines(&sent), ["ACK sip:10.129.39.88:7010 SIP/2.0", "BYE sip:10.129.39.88:7010 SIP/2.0"]);
    // Nobody answers the BYE: it is resent, and ends.
    assert_eq!(to(&bench.pass(seconds(40)), SERVERS[0]).len(), 10);
    assert_eq!(bench.snapshot().sessions, 0);
}

#[test]
fn the_first_1xx_of_a_branch_left_behind_brings_its_cancel() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    bench.pass(seconds(3));
    let sent = bench.receive(SERVERS[0], first.answer(180, "Ringing", &[]));
    assert_eq!(lines(&sent), ["CANCEL sip:10.129.39.88:7010 SIP/2.0"]);
}

#[test]
fn a_cancelled_call_is_not_tried_again() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    bench.receive(SERVERS[0], first.answer(180, "Ringing", &[]));
    bench.receive(CALLER, invite("1").replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL"));
    let sent = bench.receive(SERVERS[0], first.answer(503, "No", &[]));
    assert_eq!(lines(&sent)[1], "SIP/2.0 487 Request Terminated");
    let mut bench = Bench::new();
    bench.call("2");
    bench.receive(CALLER, invite("2").replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL"));
    let sent = bench.pass(seconds(3));
    assert_eq!(to(&sent, CALLER)[0].line(), "SIP/2.0 487 Request Terminated");
    assert_eq!(to(&sent, SERVERS[1]).len(), 0);
}

#[test]
fn max_retries_and_retry_on_are_the_sets_own() {
    let mut bench = Bench::with(|config| config.sets[0].failover.max_retries = 1);
    bench.load(set_19(&[SERVERS[0], SERVERS[1], THIRD]));
    let first = bench.call("1");
    let sent = bench.receive(SERVERS[0], first.answer(503, "No", &[]));
    let (peer, second) = (sent[1].to.to_string(), sent[1].clone());
    let sent = bench.receive(&peer, second.answer(503, "No", &[]));
    assert_eq!(lines(&sent)[1], "SIP/2.0 480 MRCP server Unavailable");

    let mut bench = Bench::with(|config| config.sets[0].failover.retry_on = RetryOn::NONE);
    let first = bench.call("1");
    let sent = bench.receive(SERVERS[0], first.answer(486, "Busy", &[]));
    assert_eq!(lines(&sent)[1], "SIP/2.0 486 Busy");
    bench.call("2");
    let sent = bench.pass(seconds(3));
    let answer =
        sent.iter().find(|one| one.to.to_string() == CALLER && one.header("Call-ID") == "2").expect("an answer");
    assert_eq!(
        (answer.line().as_str(), answer.header("Reason").as_str()),
        ("SIP/2.0 480 MRCP server Unavailable", "SIP;cause=408")
    );

    let mut bench = Bench::with(|config| {
        config.sets[0].failover.retry_on = RetryOn::NONE.and("6xx").expect("a class");
    });
    let first = bench.call("1");
    let sent = bench.receive(SERVERS[0], first.answer(603, "Decline", &[]));
    assert_eq!(lines(&sent)[1], "INVITE sip:10.129.39.88:7011 SIP/2.0");
}

#[test]
fn the_budget_bounds_how_many_calls_are_at_a_later_try() {
    let mut bench = Bench::with(|config| config.sets[0].failover.min_retry_concurrency = 2);
    let firsts: Vec<_> = (0..8).map(|call| bench.call(&call.to_string())).collect();
    let mut tried_again = Vec::new();
    for first in &firsts {
        let peer = first.to.to_string();
        let sent = bench.receive(&peer, first.answer(503, "No", &[]));
        if sent[1].line().starts_with("INVITE") {
            tried_again.push(sent[1].clone());
        } else {
            assert_eq!(sent[1].line(), "SIP/2.0 480 MRCP server Unavailable");
        }
    }
    assert_eq!(tried_again.len(), 2);
    // Those two have ended: there is room again.
    for second in &tried_again {
        bench.receive(&second.to.to_string(), second.answer(200, "OK", &[]));
    }
    let another = bench.call("x");
    let sent = bench.receive(&another.to.to_string(), another.answer(503, "No", &[]));
    assert!(sent[1].line().starts_with("INVITE"));
}

#[test]
fn a_discovery_options_finds_another_destination_too() {
    let mut bench = Bench::new();
    let options = request("OPTIONS", &format!("sip:{INSIDE}"), "1", &["User-Agent: OPENSIPS_TTS_MRCP_CLIENT"]);
    let first = bench.receive(CALLER, &options)[0].clone();
    let sent = bench.pass(seconds(2));
    let second =
        sent.iter().find(|one| one.line().starts_with("OPTIONS") && one.to != first.to).expect("another").clone();
    let peer = second.to.to_string();
    assert_eq!(lines(&bench.receive(&peer, second.answer(200, "OK", &[]))), ["SIP/2.0 200 OK"]);
    // The first one's answer comes too late for anybody.
    assert_eq!(bench.receive(&first.to.to_string(), first.answer(200, "OK", &[])).len(), 0);
    bench.pass(seconds(70));
    assert_eq!(bench.snapshot().transactions, 0);
}

#[test]
fn a_destination_switched_off_meanwhile_is_passed_over() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    bench.load(set_19(&[SERVERS[0], THIRD]));
    let sent = bench.receive(SERVERS[0], first.answer(503, "No", &[]));
    assert_eq!(lines(&sent)[1], "SIP/2.0 480 MRCP server Unavailable", "{:?}", lines(&sent));
}

#[test]
fn a_final_timeout_counts_from_the_1xx_even_if_it_is_the_shorter_one() {
    let mut bench = Bench::with(|config| {
        config.sets[0].failover.first_response_timeout = seconds(20);
        config.sets[0].failover.final_timeout = seconds(3);
    });
    let first = bench.call("1");
    bench.pass(seconds(1));
    bench.receive(SERVERS[0], first.answer(100, "Trying", &[]));
    assert_eq!(invite_to(&bench.pass(seconds(15)), SERVERS[1]).at, seconds(4));
}

#[test]
fn who_lost_to_another_is_not_asked_again() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    let second = invite_to(&bench.pass(seconds(2)), SERVERS[1]);
    bench.receive(SERVERS[0], first.answer(200, "OK", &[]));
    assert_eq!(bench.pass(seconds(10)).len(), 0);
    assert_eq!(
        lines(&bench.receive(SERVERS[1], second.answer(180, "Ringing", &[]))),
        ["CANCEL sip:10.129.39.88:7011 SIP/2.0"]
    );
}

#[test]
fn one_that_was_unreachable_and_rings_all_the_same_is_cancelled() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    let connection = ConnectionId::default();
    let flow = Flow { listener: ListenerId(first.by), transport: Transport::Udp, peer: first.to, connection };
    let refused = Input::Refused { flow, quoted: &first.bytes };
    assert_eq!(lines(&bench.handle(refused)), ["INVITE sip:10.129.39.88:7011 SIP/2.0"]);
    let sent = bench.receive(SERVERS[0], first.answer(180, "Ringing", &[]));
    assert_eq!(lines(&sent), ["CANCEL sip:10.129.39.88:7010 SIP/2.0"]);
}

#[test]
fn answers_of_a_branch_that_is_long_forgotten_do_not_reach_a_caller_who_waits_for_another() {
    let mut bench = Bench::with(|config| config.sets[0].failover.final_timeout = seconds(100));
    let first = bench.call("1");
    let second = invite_to(&bench.pass(seconds(2)), SERVERS[1]);
    bench.receive(SERVERS[1], second.answer(100, "Trying", &[]));
    bench.pass(seconds(38));
    assert_eq!(bench.receive(SERVERS[0], first.answer(180, "Ringing", &[])).len(), 0);
    assert_eq!(bench.receive(SERVERS[0], first.answer(486, "Busy", &[])).len(), 0);
    let late = first.answer(200, "OK", &["Contact: <sip:10.129.39.88:7010>"]);
    let ended = ["ACK sip:10.129.39.88:7010 SIP/2.0", "BYE sip:10.129.39.88:7010 SIP/2.0"];
    assert_eq!(lines(&bench.receive(SERVERS[0], &late)), ended);
    assert_eq!(lines(&bench.receive(SERVERS[1], second.answer(200, "OK", &[]))), ["SIP/2.0 200 OK"]);
    bench.pass(seconds(20));
    assert_eq!(lines(&bench.receive(SERVERS[0], &late)), ended, "nor when it has that answer");
    assert_eq!((bench.snapshot().totals.late_2xx, bench.snapshot().sessions), (2, 1));
}

#[test]
fn a_late_2xx_without_contact_is_ended_even_if_its_row_is_gone() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    bench.pass(seconds(5));
    bench.load(set_19(&[THIRD, SERVERS[1]]));
    let sent = bench.receive(SERVERS[0], first.answer(200, "OK", &[]));
    assert_eq!(lines(&sent), ["ACK sip:10.129.39.88:7010 SIP/2.0", "BYE sip:10.129.39.88:7010 SIP/2.0"]);
}

#[test]
fn an_answer_about_the_request_counts_even_if_it_comes_late() {
    let mut bench = Bench::new();
    bench.load(set_19(&[SERVERS[0], SERVERS[1], THIRD]));
    let first = bench.call("1");
    let sent = bench.pass(seconds(2));
    let second =
        sent.iter().find(|one| one.line().starts_with("INVITE") && one.to != first.to).expect("another").clone();
    let late = bench.receive(SERVERS[0], first.answer(404, "Not Found", &[]));
    assert_eq!(lines(&late), ["ACK sip:10.129.39.88:7010 SIP/2.0"]);
    // The one that is at work may still succeed; if it does not, nobody else is asked.
    let sent = bench.receive(&second.to.to_string(), second.answer(503, "No", &[]));
    assert_eq!(lines(&sent)[1], "SIP/2.0 404 Not Found");
    assert_eq!((sent.len(), bench.snapshot().sets[0].exhausted, bench.snapshot().sessions), (2, 0, 0));
}

#[test]
fn each_request_that_the_set_answers_itself_is_counted() {
    let mut bench = Bench::with(|config| config.sets[0].failover.max_retries = 0);
    let first = bench.call("1");
    bench.receive(SERVERS[0], first.answer(503, "No", &[]));
    assert_eq!((bench.snapshot().sets[0].failovers, bench.snapshot().sets[0].exhausted), (0, 1));
}

#[test]
fn a_bye_of_a_session_that_lost_does_not_end_the_one_that_won() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    let second = invite_to(&bench.pass(seconds(2)), SERVERS[1]);
    let ok = bench.receive(SERVERS[1], second.answer(200, "OK", &["Contact: <sip:10.129.39.88:7011>"]))[0].clone();
    // Its 2xx was lost on the way; without ACK it gives up.
    let sent = bench.receive(SERVERS[0], from_destination("BYE", &first, 7).replace("tag=srv", "tag=lost"));
    assert_eq!((sent[0].to.to_string().as_str(), bench.snapshot().sessions), (CALLER, 1));
    let sent = bench.receive(SERVERS[1], from_destination("BYE", &second, 7));
    assert_eq!((sent[0].to.to_string().as_str(), bench.snapshot().sessions), (CALLER, 0));
    assert_eq!(ok.header("To"), format!("<sip:{INSIDE}>;tag=srv"));
}

/// What happens to a set whose budget is tested: a call comes, or one of the open calls has an answer.
#[derive(Clone, Debug)]
enum Step {
    Call,
    Answer(prop::sample::Index, u16),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop::sample::select(vec![100, 200, 404, 486, 503, 503, 503]);
    prop_oneof![
        4 => Just(Step::Call),
        4 => (any::<prop::sample::Index>(), status).prop_map(|(which, status)| Step::Answer(which, status)),
        1 => (1..3000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn no_search_goes_on_to_its_second_try_beyond_the_budget(
        steps in prop::collection::vec(step(), 1..120), percent in 0..=100u8, least in 0..6usize
    ) {
        let mut bench = Bench::with(|config| {
            config.sets[0].failover.retry_budget = percent;
            config.sets[0].failover.min_retry_concurrency = least;
        });
        bench.load(set_19(&[SERVERS[0], SERVERS[1], THIRD]));
        // The INVITEs that each open call has sent.
        let mut open: BTreeMap<String, Vec<Sent>> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            let sent = match step {
                Step::Call => bench.receive(CALLER, invite(&number.to_string())),
                Step::Answer(which, status) if !open.is_empty() => {
                    let last = which.get(&open.values().cloned().collect::<Vec<_>>()).last().cloned().expect("a try");
                    bench.receive(&last.to.to_string(), last.answer(status, "Said", &[]))
                }
                Step::Answer(..) => continue,
                Step::Wait(ms) => bench.pass(Duration::from_millis(ms)),
            };
            for one in sent {
                let (call, line) = (one.header("Call-ID"), one.line());
                let final_answer = line.starts_with("SIP/2.0") && !line.starts_with("SIP/2.0 1");
                if final_answer {
                    open.remove(&call);
                } else if line.starts_with("INVITE") {
                    let tries = open.entry(call).or_default();
                    let again = tries.iter().any(|before| before.bytes == one.bytes);
                    if !again {
                        tries.push(one);
                    }
                    if !again && tries.len() == 2 {
                        let retrying = open.values().filter(|tries| tries.len() > 1).count();
                        let most = least.max(open.len() * usize::from(percent) / 100);
                        prop_assert!(retrying <= most, "{retrying} of {} at a later try, {most} allowed", open.len());
                    }
                }
            }
        }
    }
}

#[test]
fn a_late_2xx_to_a_re_invite_does_not_end_its_session() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    let again = bench.receive(CALLER, in_dialog("INVITE", &ok, 2))[1].clone();
    let peer = again.to;
    let sent = bench.pass(seconds(32));
    assert_eq!(to(&sent, CALLER).last().map(|one| one.line()).as_deref(), Some("SIP/2.0 408 Request Timeout"));
    let sent = bench.receive(&peer.to_string(), again.answer(200, "OK", &[&format!("Contact: <sip:{peer}>")]));
    assert_eq!(lines(&sent), [format!("ACK sip:{peer} SIP/2.0")]);
    // Nobody is sent a BYE by us: who has had a 408 inside its dialog ends it itself (section 12.2.1.2), and it counts no more.
    assert_eq!((bench.snapshot().totals.late_2xx, bench.snapshot().sessions), (0, 0));
}
