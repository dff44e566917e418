//! Checks by other means than SIP, and several together.

use std::time::Duration;

use tandem::engine::Input;
use tandem::engine::dispatch::{Check, CheckKind, Combine, Health, Outcome, Probing};
use tandem::engine::event::{CheckId, CheckTarget};

use super::{health, live, options, probed_by, probes};
use crate::harness::{Bench, SERVERS, seconds, set_19};

fn quick(kind: CheckKind) -> Check {
    options(|check| {
        check.kind = kind;
        (check.interval, check.fast_interval, check.down_interval) = (seconds(1), seconds(1), seconds(1));
        (check.fall, check.rise) = (1, 1);
    })
}

fn tcp(port: Option<u16>) -> Check {
    quick(CheckKind::Tcp { port })
}

fn http() -> Check {
    quick(CheckKind::Http { port: 8080, path: "/ready".into() })
}

fn bench(checks: Vec<Check>, combine: Combine) -> Bench {
    let mut bench = Bench::with(|config| {
        config.sets[0].probing = Probing { checks, combine, ..Probing::default() }.into();
    });
    bench.load(set_19(&SERVERS[..1]));
    bench
}

/// Lets a second pass, and ends each new check as `outcome` says of its target.
fn second(bench: &mut Bench, outcome: impl Fn(&CheckTarget) -> Option<Outcome>) {
    for _ in 0..20 {
        let seen = bench.checks.len();
        bench.pass(Duration::from_millis(50));
        let new: Vec<_> = bench.checks[seen..].iter().map(|(id, target, _)| (*id, target.clone())).collect();
        for (id, target) in new {
            if let Some(outcome) = outcome(&target) {
                bench.handle(Input::Checked { id, outcome });
            }
        }
    }
}

#[test]
fn a_tcp_check_asks_the_given_port_and_counts_connected_refused_and_nothing() {
    let mut bench = bench(vec![tcp(Some(1544))], Combine::All);
    second(&mut bench, |_| Some(Outcome::Connected));
    let (_, target, timeout) = &bench.checks[0];
    assert_eq!(*target, CheckTarget::Tcp("10.129.39.88:1544".parse().expect("an address")));
    assert_eq!(*timeout, seconds(2));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
    second(&mut bench, |_| Some(Outcome::Refused));
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    second(&mut bench, |_| Some(Outcome::Connected));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
    second(&mut bench, |_| Some(Outcome::TimedOut));
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    assert!(bench.history(SERVERS[0]).iter().all(|one| one.witness.name() == "tcp"));
}

#[test]
fn a_check_that_nobody_ends_says_nothing() {
    let mut bench = bench(vec![tcp(Some(1544))], Combine::All);
    (0..10).for_each(|_| second(&mut bench, |_| None));
    assert_eq!((health(&bench, SERVERS[0]), bench.history(SERVERS[0]).len()), (Health::Up, 0));
    second(&mut bench, |_| Some(Outcome::Refused));
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    // What is told of one that is long over is too late.
    let (id, history) = (bench.checks[0].0, bench.history(SERVERS[0]).len());
    bench.handle(Input::Checked { id, outcome: Outcome::Connected });
    bench.handle(Input::Checked { id: CheckId(u64::MAX), outcome: Outcome::Connected });
    bench.handle(Input::Checked { id: CheckId(0), outcome: Outcome::Connected });
    assert_eq!((bench.history(SERVERS[0]).len(), health(&bench, SERVERS[0])), (history, Health::Down));
}

#[test]
fn an_http_check_is_good_with_2xx_and_3xx_alone() {
    for (status, expected) in [
        (200, Health::Up),
        (204, Health::Up),
        (302, Health::Up),
        (404, Health::Down),
        (503, Health::Down),
        (99, Health::Down),
    ] {
        let mut bench = bench(vec![http()], Combine::All);
        second(&mut bench, |_| Some(Outcome::answered(status)));
        let address = "10.129.39.88:8080".parse().expect("an address");
        assert_eq!(bench.checks[0].1, CheckTarget::Http { address, path: "/ready".into() });
        assert_eq!(health(&bench, SERVERS[0]), expected, "{status}");
    }
}

#[test]
fn all_any_and_n_of_m_say_one_thing_together() {
    // By SIP, TCP and HTTP: who answers.
    for (combine, good, expected) in [
        (Combine::All, [true, true, true], Health::Up),
        (Combine::All, [true, true, false], Health::Down),
        (Combine::Any, [false, false, true], Health::Up),
        (Combine::Any, [false, false, false], Health::Down),
        (Combine::AtLeast(2), [true, false, true], Health::Up),
        (Combine::AtLeast(2), [false, false, true], Health::Down),
    ] {
        let sip = quick(CheckKind::Sip(Default::default()));
        let mut bench = bench(vec![sip, tcp(Some(1544)), http()], combine);
        for _ in 0..30 {
            let seen = bench.checks.len();
            live(&mut bench, Duration::from_millis(100), |sent| {
                Some(sent.answer(if good[0] { 200 } else { 500 }, "Test", &[]))
            });
            let new: Vec<_> = bench.checks[seen..].iter().map(|(id, target, _)| (*id, target.clone())).collect();
            for (id, target) in new {
                let outcome = match target {
                    CheckTarget::Tcp(_) if good[1] => Outcome::Connected,
                    CheckTarget::Tcp(_) => Outcome::Refused,
                    CheckTarget::Http { .. } => Outcome::answered(if good[2] { 200 } else { 500 }),
                };
                bench.handle(Input::Checked { id, outcome });
            }
        }
        assert_eq!(health(&bench, SERVERS[0]), expected, "{combine:?} {good:?}");
    }
}

/// SDP of a server that takes MRCP there.
fn sdp(port: u16) -> String {
    format!("v=0\r\nc=IN IP4 10.129.39.88\r\nm=application {port} TCP/MRCPv2 1\r\n")
}

fn with_body(answer: Vec<u8>, body: &str) -> Vec<u8> {
    let text = String::from_utf8(answer).expect("text");
    let length = format!("Content-Type: application/sdp\r\nContent-Length: {}", body.len());
    (text.replace("Content-Length: 0", &length) + body).into_bytes()
}

#[test]
fn without_a_port_the_one_that_the_servers_options_names_is_asked_and_nothing_before() {
    let mut bench = bench(vec![quick(CheckKind::Sip(Default::default())), tcp(None)], Combine::All);
    live(&mut bench, seconds(3), |sent| Some(sent.answer(200, "OK", &[])));
    assert_eq!((bench.checks.len(), health(&bench, SERVERS[0])), (0, Health::Up));
    live(&mut bench, seconds(3), |sent| Some(with_body(sent.answer(200, "OK", &[]), &sdp(1544))));
    assert_eq!(bench.checks.last().expect("asked").1, CheckTarget::Tcp("10.129.39.88:1544".parse().expect("one")));
    live(&mut bench, seconds(3), |sent| Some(with_body(sent.answer(200, "OK", &[]), &sdp(1600))));
    assert_eq!(bench.checks.last().expect("asked").1, CheckTarget::Tcp("10.129.39.88:1600".parse().expect("one")));
}

#[test]
fn without_a_port_the_one_that_a_calls_answer_names_is_asked() {
    let mut bench = bench(vec![tcp(None)], Combine::All);
    let call = bench.call("1");
    bench.receive(SERVERS[0], with_body(call.answer(200, "OK", &[]), &sdp(1544)));
    bench.pass(seconds(2));
    assert_eq!(bench.checks[0].1, CheckTarget::Tcp("10.129.39.88:1544".parse().expect("one")));
}

/// A call that is answered with that SDP.
fn call_named(bench: &mut Bench, id: &str, port: u16) {
    let call = bench.call(id);
    bench.receive(SERVERS[0], with_body(call.answer(200, "OK", &[]), &sdp(port)));
}

/// What asks a port.
fn asks(port: u16) -> impl Fn(&CheckTarget) -> Option<Outcome> {
    move |target| {
        let CheckTarget::Tcp(address) = target else { return None };
        Some(if address.port() == port { Outcome::Connected } else { Outcome::Refused })
    }
}

#[test]
fn a_server_whose_calls_alone_name_the_port_comes_back_with_another_one() {
    // By TCP alone, and beside an OPTIONS whose answers name none.
    for beside in [vec![], vec![quick(CheckKind::Sip(Default::default()))] as Vec<Check>] {
        let by_sip = !beside.is_empty();
        let mut bench = bench([beside, vec![tcp(None)]].concat(), Combine::All);
        let live_second = |bench: &mut Bench, port| {
            let seen = bench.checks.len();
            live(bench, seconds(1), |sent| sent.line().starts_with("OPTIONS").then(|| sent.answer(200, "OK", &[])));
            let new: Vec<_> = bench.checks[seen..].iter().map(|(id, target, _)| (*id, target.clone())).collect();
            for (id, target) in new {
                let outcome = asks(port)(&target).expect("TCP");
                bench.handle(Input::Checked { id, outcome });
            }
        };
        call_named(&mut bench, "before", 1544);
        (0..3).for_each(|_| live_second(&mut bench, 1544));
        assert_eq!(health(&bench, SERVERS[0]), Health::Up);
        // It has been started anew, and takes MRCP elsewhere.
        (0..2).for_each(|_| live_second(&mut bench, 1600));
        assert_eq!(super::refused(&mut bench, "down"), Some(super::EMPTY.into()), "{by_sip}");
        (0..7).for_each(|_| live_second(&mut bench, 1600));
        assert_eq!(health(&bench, SERVERS[0]), Health::Unknown, "{by_sip}");
        call_named(&mut bench, "after", 1600);
        (0..3).for_each(|_| live_second(&mut bench, 1600));
        assert_eq!(health(&bench, SERVERS[0]), Health::Up, "{by_sip}");
        // One whose port stays closed is held out longer.
        (0..2).for_each(|_| live_second(&mut bench, 0));
        let (left, times) = super::view(&bench, SERVERS[0]).kept.ejected.expect("out");
        assert!(times == 2 && left > seconds(7), "{times} {left:?}");
    }
}

#[test]
fn a_port_that_the_servers_options_names_is_asked_until_it_is_open() {
    let sip = quick(CheckKind::Sip(Default::default()));
    let mut bench = bench(vec![sip, tcp(None)], Combine::All);
    let live_second = |bench: &mut Bench, named, open| {
        let seen = bench.checks.len();
        live(bench, seconds(1), |sent| Some(with_body(sent.answer(200, "OK", &[]), &sdp(named))));
        let new: Vec<_> = bench.checks[seen..].iter().map(|(id, target, _)| (*id, target.clone())).collect();
        for (id, target) in new {
            let outcome = asks(open)(&target).expect("TCP");
            bench.handle(Input::Checked { id, outcome });
        }
    };
    (0..30).for_each(|_| live_second(&mut bench, 1544, 0));
    assert_eq!(health(&bench, SERVERS[0]), Health::Down, "and gets no call meanwhile");
    (0..3).for_each(|_| live_second(&mut bench, 1600, 1600));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn a_connection_says_nothing_of_room() {
    let mut bench = bench(vec![tcp(Some(1544))], Combine::All);
    super::call_answered(&mut bench, "1", 486, &[]);
    (0..4).for_each(|_| second(&mut bench, |_| Some(Outcome::Connected)));
    assert_eq!(health(&bench, SERVERS[0]), Health::Busy);
}

#[test]
fn a_check_of_a_destination_that_is_gone_is_nobodys() {
    let mut bench = Bench::with(probed_by(vec![tcp(Some(1544))]));
    bench.pass(seconds(1));
    bench.load(set_19(&[]));
    let ids: Vec<_> = bench.checks.iter().map(|(id, ..)| *id).collect();
    ids.into_iter().for_each(|id| drop(bench.handle(Input::Checked { id, outcome: Outcome::Refused })));
    bench.load(set_19(&SERVERS));
    assert_eq!((bench.history(SERVERS[0]).len(), probes(&bench.pass(seconds(1))).len()), (0, 0));
}
