//! What counts against a destination, and what nobody may bring forward.

use std::time::Duration;

use tandem::engine::dispatch::{Health, Outcome, RetryOn};
use tandem::engine::event::DropCause;
use tandem::engine::flow::{ConnectionId, Fault, Flow, Listener, ListenerId, Transport};
use tandem::engine::{Config, Input};

use super::{EMPTY, all, eject, health, is_fit, live, mute, probed, probes, sit_out, to, way};
use crate::harness::{Bench, SERVERS, Sent, seconds, set_19, set_19_by_tcp};

/// One destination and the probe that it has just got; one bad one brings it down.
fn asked() -> (Bench, Sent) {
    let mut bench = probed(|check| check.fall = 1);
    bench.load(set_19(&SERVERS[..1]));
    let sent = probes(&bench.pass(Duration::from_millis(5)));
    assert_eq!(sent.len(), 1);
    (bench, sent[0].clone())
}

fn outcomes(bench: &Bench) -> Vec<Outcome> {
    bench.history(SERVERS[0]).iter().map(|one| one.outcome).collect()
}

#[test]
fn an_answer_that_is_not_the_destinations_changes_nothing() {
    let (mut bench, sent) = asked();
    let bad = sent.answer(500, "No", &[]);
    let text = String::from_utf8(bad.clone()).expect("text");
    let branch = text.split("branch=").nth(1).and_then(|rest| rest.split([';', '\r']).next()).expect("a branch");
    let flip = |at: usize| {
        let mut other = branch.as_bytes().to_vec();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        text.replace(branch, &String::from_utf8(other).expect("text"))
    };
    let last = branch.len() - 1;
    for (peer, bytes) in [
        // Another host has seen the probe.
        (SERVERS[0].replace(".88:", ".66:"), text.clone()),
        // The destination itself, or who writes its address, with a branch that we never made.
        (SERVERS[0].to_owned(), flip(8)),
        (SERVERS[0].to_owned(), flip(last / 2)),
        (SERVERS[0].to_owned(), flip(last - 4)),
        (SERVERS[0].to_owned(), text.replace(branch, "z9hG4bK")),
        (SERVERS[0].to_owned(), text.replace(branch, "z9hG4bK-elsewhere")),
        // To another method than was asked.
        (SERVERS[0].to_owned(), text.replace(" OPTIONS\r\n", " INVITE\r\n")),
    ] {
        let dropped = bench.snapshot().totals.dropped[DropCause::StrayResponse as usize];
        assert_eq!(bench.receive(&peer, &bytes).len(), 0);
        assert_eq!(bench.snapshot().totals.dropped[DropCause::StrayResponse as usize], dropped + 1, "{bytes}");
    }
    // By another listener than it was asked from.
    let mut flow = way(&sent);
    flow.listener.0 = 0;
    bench.receive_by(flow, &bad);
    assert_eq!((outcomes(&bench), health(&bench, SERVERS[0])), (vec![], Health::Up));
    bench.receive(SERVERS[0], &bad);
    assert_eq!((outcomes(&bench), health(&bench, SERVERS[0])), (vec![Outcome::answered(500)], Health::Down));
}

#[test]
fn an_answer_counts_once_and_a_provisional_one_not_at_all() {
    let (mut bench, sent) = asked();
    bench.receive(SERVERS[0], sent.answer(180, "Ringing", &[]));
    assert_eq!(outcomes(&bench), []);
    for _ in 0..3 {
        bench.receive(SERVERS[0], sent.answer(200, "OK", &[]));
    }
    bench.receive(SERVERS[0], sent.answer(500, "No", &[]));
    bench.pass(seconds(3));
    assert_eq!(outcomes(&bench), [Outcome::answered(200)]);
}

#[test]
fn a_provisional_answer_does_not_save_a_probe_from_its_timeout() {
    let (mut bench, sent) = asked();
    bench.receive(SERVERS[0], sent.answer(100, "Trying", &[]));
    bench.pass(seconds(2));
    assert_eq!((outcomes(&bench), health(&bench, SERVERS[0])), (vec![Outcome::TimedOut], Health::Down));
}

#[test]
fn an_answer_that_comes_after_the_timeout_changes_nothing() {
    let (mut bench, sent) = asked();
    bench.pass(seconds(2));
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    let before = outcomes(&bench);
    for _ in 0..5 {
        bench.receive(SERVERS[0], sent.answer(200, "OK", &[]));
    }
    assert_eq!((outcomes(&bench), health(&bench, SERVERS[0])), (before, Health::Down));
}

#[test]
fn an_icmp_error_about_a_probe_counts_at_once() {
    let (mut bench, sent) = asked();
    bench.handle(Input::Refused { flow: way(&sent), quoted: &sent.bytes });
    assert_eq!((outcomes(&bench), health(&bench, SERVERS[0])), (vec![Outcome::Refused], Health::Down));
    assert_eq!(bench.snapshot().totals.icmp, 1);
    // Once.
    bench.handle(Input::Refused { flow: way(&sent), quoted: &sent.bytes });
    assert_eq!((outcomes(&bench).len(), bench.snapshot().totals.stray_icmp), (1, 1));
}

#[test]
fn an_icmp_error_that_proves_nothing_changes_nothing() {
    let (mut bench, sent) = asked();
    let forged = sent.text().replace("branch=z9hG4bK", "branch=z9hG4bKx").into_bytes();
    let mut elsewhere = way(&sent);
    elsewhere.peer.set_port(9);
    for (flow, quoted) in
        [(way(&sent), &b""[..]), (way(&sent), b"OPTIONS"), (way(&sent), &forged), (elsewhere, &sent.bytes)]
    {
        bench.handle(Input::Refused { flow, quoted });
    }
    assert_eq!((outcomes(&bench), health(&bench, SERVERS[0])), (vec![], Health::Up));
    assert_eq!((bench.snapshot().totals.icmp, bench.snapshot().totals.stray_icmp), (0, 4));
}

/// The same by TCP: listener 2 is on the servers' side.
fn by_tcp(change: impl FnOnce(&mut Config)) -> Bench {
    let mut bench = Bench::with(|config| {
        let like = config.listeners[1].clone();
        config.listeners.push(Listener { id: ListenerId(2), transport: Transport::Tcp, ..like });
        config.sets[0].failover.retry_on = RetryOn::NONE;
        change(config);
    });
    bench.load(set_19_by_tcp(&SERVERS[..1]));
    bench
}

fn history(bench: &Bench) -> Vec<Outcome> {
    let uri = format!("{};transport=tcp", SERVERS[0]);
    bench.history(&uri).iter().map(|one| one.outcome).collect()
}

/// How the edge tells that a message has not gone out.
type Loss = fn(&mut Bench, &Sent);

const LOSSES: [Loss; 2] = [
    |bench, sent| {
        let (flow, fault) = (by_stream(sent), Fault::Theirs);
        bench.handle(Input::Undelivered { flow, bytes: &sent.bytes, fault });
    },
    |bench, sent| drop(bench.handle(Input::Unreachable { flow: by_stream(sent) })),
];

fn by_stream(sent: &Sent) -> Flow {
    Flow { transport: Transport::Tcp, connection: ConnectionId(sent.connection), ..way(sent) }
}

#[test]
fn a_probe_by_a_connection_that_fails_counts_at_once() {
    for loss in LOSSES {
        let mut bench = by_tcp(super::probed_by(vec![super::options(|check| check.fall = 1)]));
        let sent = probes(&bench.pass(Duration::from_millis(5)));
        loss(&mut bench, &sent[0]);
        assert_eq!((history(&bench), health(&bench, SERVERS[0])), (vec![Outcome::Refused], Health::Down));
    }
}

#[test]
fn a_call_by_a_connection_that_fails_counts_at_once() {
    for loss in LOSSES {
        let mut bench = by_tcp(|_| ());
        for call in 0..3 {
            assert!(is_fit(&bench, SERVERS[0]), "{call}");
            let sent = bench.call(&call.to_string());
            loss(&mut bench, &sent);
        }
        assert_eq!((history(&bench), health(&bench, SERVERS[0])), (vec![Outcome::Refused; 3], Health::Down));
    }
}

#[test]
fn a_call_that_an_icmp_error_ends_counts_as_a_failure_of_its_destination() {
    let mut bench = super::alone(|_| ());
    for call in 0..3 {
        assert!(is_fit(&bench, SERVERS[0]), "{call}");
        let sent = bench.call(&call.to_string());
        bench.handle(Input::Refused { flow: way(&sent), quoted: &sent.bytes });
    }
    assert_eq!((outcomes(&bench), health(&bench, SERVERS[0])), (vec![Outcome::Refused; 3], Health::Down));
}

/// The edge could not send that.
fn unsent(bench: &mut Bench, sent: &Sent, fault: Fault) -> Vec<Sent> {
    bench.handle(Input::Undelivered { flow: way(sent), bytes: &sent.bytes, fault })
}

#[test]
fn a_probe_that_does_not_leave_is_as_if_it_had_never_been_due() {
    for fault in [Fault::Ours, Fault::Passing] {
        let (mut bench, sent) = asked();
        unsent(&mut bench, &sent, fault);
        live(&mut bench, seconds(3), mute);
        assert_eq!((outcomes(&bench), health(&bench, SERVERS[0])), (vec![], Health::Up), "{fault:?}");
        live(&mut bench, seconds(8), all(200));
        assert_eq!(outcomes(&bench), [Outcome::answered(200)], "the next one comes at its time");
    }
    // One that was sent again in time is a probe as any other.
    let (mut bench, sent) = asked();
    unsent(&mut bench, &sent, Fault::Passing);
    bench.handle(Input::Refused { flow: way(&sent), quoted: &sent.bytes });
    assert_eq!((outcomes(&bench), health(&bench, SERVERS[0])), (vec![Outcome::Refused], Health::Down));
}

#[test]
fn calls_that_do_not_leave_go_on_to_the_next_at_once_and_put_nobody_out() {
    let mut bench = Bench::new();
    for call in 0..20 {
        let first = bench.call(&call.to_string());
        let second = unsent(&mut bench, &first, Fault::Ours);
        assert_eq!((second.len(), to(&second, &first.to.to_string()).len()), (1, 0), "another server");
        let told = unsent(&mut bench, &second[0], Fault::Ours);
        assert_eq!((told.len(), told[0].line().as_str()), (1, EMPTY));
    }
    for server in SERVERS {
        assert_eq!(health(&bench, server), Health::Up);
        assert!(bench.history(server).iter().all(|one| one.outcome == Outcome::Unsent));
    }
}

#[test]
fn a_full_buffer_costs_no_try_and_silence_after_it_says_nothing() {
    let mut bench = super::alone(|_| ());
    let first = bench.call("answered");
    assert_eq!(unsent(&mut bench, &first, Fault::Passing).len(), 0);
    let again = bench.pass(Duration::from_millis(500));
    assert_eq!(again[0].bytes, first.bytes);
    bench.receive(SERVERS[0], first.answer(486, "Busy Here", &["Retry-After: 1"]));
    bench.pass(seconds(2));
    for call in 0..4 {
        let first = bench.call(&call.to_string());
        unsent(&mut bench, &first, Fault::Passing);
        let told = to(&bench.pass(seconds(2)), crate::harness::CALLER);
        assert!(told.iter().any(|one| one.header("Call-ID") == call.to_string() && one.line() == EMPTY), "{call}");
    }
    assert_eq!(outcomes(&bench)[1..], [Outcome::Unsent; 4]);
    assert!(is_fit(&bench, SERVERS[0]));
    // What the server's host itself refuses counts all the same.
    let first = bench.call("refused");
    unsent(&mut bench, &first, Fault::Passing);
    bench.handle(Input::Refused { flow: way(&first), quoted: &first.bytes });
    assert_eq!(outcomes(&bench)[5..], [Outcome::Refused]);
}

#[test]
fn a_trial_that_does_not_leave_is_given_back() {
    let mut bench = super::alone(|_| ());
    eject(&mut bench, "fall");
    sit_out(&mut bench);
    for call in 0..3 {
        let trial = bench.call(&call.to_string());
        unsent(&mut bench, &trial, Fault::Ours);
        assert_eq!(health(&bench, SERVERS[0]), Health::Unknown);
    }
    super::call_answered(&mut bench, "works", 486, &[]);
    assert_eq!(outcomes(&bench)[3..6], [Outcome::Unsent; 3]);
}

#[test]
fn the_last_32_observations_are_kept_with_time_witness_and_meaning() {
    let mut bench = probed(|check| check.interval = seconds(1));
    bench.load(set_19(&SERVERS[..1]));
    live(&mut bench, seconds(50), all(200));
    let history = bench.history(SERVERS[0]);
    assert_eq!(history.len(), 32);
    assert!(history.is_sorted_by_key(|one| one.at));
    let last = history[31];
    assert_eq!((last.outcome, last.witness.name()), (Outcome::answered(200), "options"));
    assert_eq!(last.meaning, tandem::engine::dispatch::Meaning::Alive);
}
