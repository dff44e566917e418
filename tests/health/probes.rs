//! What a probe is, where it leaves from, and when.

use std::time::Duration;

use tandem::engine::dispatch::{Health, InitState, Kept, Probing, Remembered, RetryOn, RowState, SetId, Sets, When};
use tandem::engine::flow::{Listener, ListenerId, Role, Transport};
use tandem::engine::{Config, Input};

use super::{
    EMPTY, all, call_answered, dead, eject, health, is_fit, live, mute, options, probe, probed, probed_by, probes,
    refused, to, view, way,
};
use crate::harness::{Bench, OUTSIDE, SERVERS, Sent, seconds, set_19, set_19_by_tcp, times};

/// A third listener on the servers' side.
fn third(role: Role) -> impl Fn(&mut Config) {
    move |config| {
        let bind = "10.129.39.2:8060".parse().expect("an address");
        config.listeners.push(Listener { id: ListenerId(2), bind, role, ..config.listeners[1].clone() });
    }
}

#[test]
fn a_probe_leaves_from_a_listener_of_the_node_and_never_from_a_vip() {
    let mut bench = Bench::with(|config| {
        third(Role::Node)(config);
        config.listeners[1].role = Role::Vip;
        probed_by(vec![options(|_| ())])(config);
    });
    let sent = probes(&bench.pass(seconds(1)));
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|one| one.by == 2 && one.header("Via").starts_with("SIP/2.0/UDP 10.129.39.2:8060;")));
    // The answer counts where it was asked for.
    bench.receive_by(way(&sent[0]), sent[0].answer(200, "OK", &[]));
    assert_eq!(bench.history(SERVERS[0]).len(), 1);
    // A node that has none sends none.
    let mut bench = Bench::with(|config| {
        config.listeners.iter_mut().for_each(|one| one.role = Role::Vip);
        probed_by(vec![options(|_| ())])(config);
    });
    assert_eq!(bench.pass(seconds(60)).len(), 0);
}

#[test]
fn an_answer_that_the_table_makes_nothing_of_raises_where_the_probe_accepts_it() {
    for (accept, health_then) in [(vec![], Health::Down), (vec!["4xx".parse().expect("a class")], Health::Up)] {
        let mut bench = Bench::with(probed_by(vec![probe(|sip| sip.accept = accept)]));
        live(&mut bench, seconds(60), mute);
        assert_eq!(health(&bench, SERVERS[0]), Health::Down);
        live(&mut bench, seconds(60), all(480));
        assert_eq!(health(&bench, SERVERS[0]), health_then);
    }
}

#[test]
fn a_probe_is_an_options_outside_a_dialog_to_the_destination() {
    let mut bench = probed(|_| ());
    let sent = probes(&bench.pass(seconds(1)));
    let one = &to(&sent, SERVERS[1])[0];
    assert_eq!(one.line(), format!("OPTIONS sip:{} SIP/2.0", SERVERS[1]));
    assert!(one.header("Via").starts_with(&format!("SIP/2.0/UDP {OUTSIDE};")), "{}", one.text());
    assert!(one.header("From").starts_with(&format!("<sip:tandem@{OUTSIDE}>;tag=")), "{}", one.text());
    assert_eq!(one.header("To"), format!("<sip:{}>", SERVERS[1]));
    assert_eq!((one.header("Max-Forwards"), one.header("Content-Length")), ("70".into(), "0".into()));
    assert!(one.header("CSeq").ends_with(" OPTIONS") && one.header("Contact").contains(OUTSIDE));
    let other = &to(&sent, SERVERS[0])[0];
    for name in ["Call-ID", "From", "Via"] {
        assert_ne!(one.header(name), other.header(name), "{name} is each probe's own");
    }
}

#[test]
fn method_from_headers_max_forwards_and_socket_are_the_sets_own() {
    let mut bench = Bench::with(|config| {
        third(Role::Node)(config);
        let check = probe(|sip| {
            sip.method = "INFO".into();
            sip.from = Some("sip:tandem@monitor.example".into());
            sip.socket = Some(ListenerId(2));
            sip.headers = vec![("User-Agent".into(), "probe 1".into()), ("X-Zone".into(), "b".into())];
            sip.max_forwards = 1;
        });
        probed_by(vec![check])(config);
    });
    let sent = probes(&bench.pass(seconds(1)));
    let one = &sent[0];
    assert_eq!((one.by, one.line()), (2, format!("INFO sip:{} SIP/2.0", SERVERS[0])));
    assert!(one.header("From").starts_with("<sip:tandem@monitor.example>;tag="));
    assert!(one.header("CSeq").ends_with(" INFO"));
    let headers = ["Max-Forwards", "User-Agent", "X-Zone"].map(|name| one.header(name));
    assert_eq!(headers, ["1", "probe 1", "b"]);
}

#[test]
fn a_socket_of_another_transport_or_side_probes_nobody() {
    for (socket, sets) in [(1, set_19_by_tcp(&SERVERS[..1])), (0, set_19(&SERVERS[..1])), (2, set_19(&SERVERS[..1]))] {
        let mut bench = Bench::with(|config| {
            let tcp = Listener { transport: Transport::Tcp, id: ListenerId(2), ..config.listeners[1].clone() };
            config.listeners.push(tcp);
            probed_by(vec![probe(|sip| sip.socket = Some(ListenerId(socket)))])(config);
        });
        bench.load(sets);
        assert_eq!(bench.pass(seconds(60)).len(), 0, "{socket}");
        assert_eq!(health(&bench, SERVERS[0]), Health::Up, "{socket}");
    }
}

#[test]
fn what_nobody_can_probe_is_not_down_for_ever() {
    let unreached = |init_state| {
        let mut bench = Bench::with(|config| {
            config.listeners.iter_mut().for_each(|one| one.role = Role::Vip);
            let probing = Probing { checks: vec![options(|_| ())], init_state, ..Probing::default() };
            config.sets[0].probing = probing.into();
        });
        bench.load(set_19(&SERVERS[..1]));
        bench
    };
    let by_init_state = unreached(InitState::Down);
    let (mut by_table, mut by_disk) = (unreached(InitState::Up), unreached(InitState::Up));
    let Sets(mut sets) = set_19(&SERVERS[..1]);
    sets[0].rows[0].state = RowState::Probing;
    by_table.load(Sets(sets));
    let kept = Some(Kept { probes_down: true, ..Kept::default() });
    let (uri, address) = (format!("sip:{}", SERVERS[0]), SERVERS[0].parse().expect("an address"));
    by_disk.handle(Input::Remembered(&[Remembered { set: SetId(19), uri, address, standing: None, kept }]));
    for mut bench in [by_init_state, by_table, by_disk] {
        assert_eq!(health(&bench, SERVERS[0]), Health::Down);
        // When the first probe would be due.
        bench.pass(seconds(10));
        assert_eq!((health(&bench, SERVERS[0]), is_fit(&bench, SERVERS[0])), (Health::Unknown, true));
    }
}

#[test]
fn a_destination_of_its_own_name_has_its_own_probes() {
    let mut bench = Bench::with(|config| {
        let instead = Probing { checks: vec![probe(|sip| sip.max_forwards = 5)], ..Probing::default() };
        config.sets[0].probing_instead = vec![(format!("sip:{}", SERVERS[1]), instead.into())];
    });
    let sent = probes(&bench.pass(seconds(1)));
    assert_eq!(sent.len(), 1, "a set without probes, but for one destination");
    assert_eq!((sent[0].to.to_string(), sent[0].header("Max-Forwards")), (SERVERS[1].into(), "5".into()));
    assert_eq!([0, 1].map(|at| view(&bench, SERVERS[at]).probed), [false, true]);
}

/// The first destination's probes, which are answered as `answer` says of the time in seconds.
fn course(bench: &mut Bench, time: u64, mut answer: impl FnMut(u64) -> u16) -> Vec<u64> {
    bench.load(set_19(&SERVERS[..1]));
    let sent = live(bench, seconds(time), |sent| Some(sent.answer(answer(sent.at.as_secs()), "Test", &[])));
    times(&probes(&sent))
}

#[test]
fn it_is_probed_every_interval_faster_in_doubt_and_slower_while_down() {
    let mut bench = probed(|_| ());
    let sent = course(&mut bench, 60, |at| if (10..35).contains(&at) { 500 } else { 200 });
    // In doubt at 10, down at 11, in hope at 37, up at 38; what had been arranged by then still goes out.
    assert_eq!(
        sent,
        [1, 10_000, 11_000, 12_000, 17_000, 22_000, 27_000, 32_000, 37_000, 38_000, 39_000, 49_000, 59_000]
    );
    let told: Vec<_> = super::changes(&bench).iter().map(|one| (one.old, one.new)).collect();
    assert_eq!(told, [(Health::Up, Health::Down), (Health::Down, Health::Up)]);
}

#[test]
fn it_takes_fall_bad_probes_in_a_row_to_go_down_and_rise_good_ones_to_come_back() {
    let mut bench = probed(|check| (check.fall, check.rise) = (3, 4));
    let mut number = 0;
    // Two bad, one good: nothing. Three bad: down. Three good, one bad: still down. Four good: up.
    let course = [200, 500, 500, 200, 500, 500, 500, 200, 200, 200, 500, 200, 200, 200, 200];
    bench.load(set_19(&SERVERS[..1]));
    let mut healths = Vec::new();
    while number < course.len() {
        for one in probes(&bench.pass(Duration::from_millis(100))) {
            bench.receive(SERVERS[0], one.answer(course[number.min(course.len() - 1)], "Test", &[]));
            healths.push(health(&bench, SERVERS[0]));
            number += 1;
        }
    }
    let up = [Health::Up; 6].into_iter().chain([Health::Down; 8]).chain([Health::Up]);
    assert_eq!(healths, up.collect::<Vec<_>>());
}

#[test]
fn silence_counts_after_the_timeout_and_not_before() {
    let mut bench = probed(|check| (check.fall, check.timeout) = (1, seconds(2)));
    bench.load(set_19(&SERVERS[..1]));
    live(&mut bench, seconds(2), mute);
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
    live(&mut bench, Duration::from_millis(10), mute);
    assert_eq!((health(&bench, SERVERS[0]), refused(&mut bench, "1")), (Health::Down, Some(EMPTY.into())));
}

#[test]
fn a_lost_datagram_is_sent_again_within_the_timeout_and_not_after_it() {
    let mut bench = probed(|check| check.timeout = seconds(2));
    bench.load(set_19(&SERVERS[..1]));
    let sent = bench.pass(seconds(9));
    let first = sent.iter().filter(|one| one.bytes == sent[0].bytes).cloned().collect::<Vec<_>>();
    assert_eq!(times(&first), [1, 501, 1501]);
}

#[test]
fn before_the_first_probe_has_come_back_it_is_what_init_state_says() {
    let begin = |init_state| {
        let mut bench = Bench::with(|config| {
            let probing = Probing { checks: vec![options(|_| ())], init_state, ..Probing::default() };
            config.sets[0].probing = probing.into();
        });
        bench.load(set_19(&SERVERS[..1]));
        bench
    };
    let seen = |bench: &Bench| (health(bench, SERVERS[0]), is_fit(bench, SERVERS[0]));
    let mut bench = begin(InitState::Up);
    assert_eq!(seen(&bench), (Health::Up, true));
    live(&mut bench, seconds(1), all(500));
    assert_eq!(seen(&bench), (Health::Up, true), "one bad one is not enough");
    let mut bench = begin(InitState::Unknown);
    assert_eq!(seen(&bench), (Health::Unknown, true));
    live(&mut bench, seconds(1), all(200));
    assert_eq!(seen(&bench), (Health::Up, true), "one good one is enough");
    let mut bench = begin(InitState::Down);
    assert_eq!((seen(&bench), refused(&mut bench, "1")), ((Health::Down, false), Some(EMPTY.into())));
    live(&mut bench, seconds(1), all(200));
    live(&mut bench, seconds(1), all(200));
    assert_eq!(seen(&bench), (Health::Up, true), "after rise good ones");
}

fn when(when: When) -> Bench {
    let mut bench = Bench::with(|config| {
        config.sets[0].probing = Probing { checks: vec![options(|_| ())], when, ..Probing::default() }.into();
    });
    bench.load(set_19(&SERVERS[..1]));
    bench
}

#[test]
fn a_set_that_probes_when_down_leaves_those_alone_that_are_up() {
    let mut bench = when(When::Down);
    live(&mut bench, seconds(1), all(200));
    assert_eq!(probes(&live(&mut bench, seconds(60), all(200))).len(), 0);
    (0..3).for_each(|call| drop(call_answered(&mut bench, &call.to_string(), 503, &[])));
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    assert!(!probes(&live(&mut bench, seconds(15), all(200))).is_empty());
}

#[test]
fn a_set_that_probes_when_idle_does_not_while_calls_speak() {
    let mut bench = when(When::Idle);
    for second in 0..40 {
        call_answered(&mut bench, &format!("a{second}"), 200, &[]);
        assert_eq!(probes(&live(&mut bench, seconds(1), all(200))).len(), 0, "{second}");
    }
    assert_eq!(probes(&live(&mut bench, seconds(29), all(200))).len(), 2);
}

#[test]
fn calls_that_fail_do_not_keep_a_set_from_being_probed_when_idle() {
    // Nobody but its probes could find that the server is dead.
    let mut bench = Bench::with(|config| {
        let probing = Probing { checks: vec![options(|_| ())], when: When::Idle, ..Probing::default() };
        config.sets[0].probing = probing.into();
        config.sets[0].judgement.observe.enabled = false;
        config.sets[0].failover.retry_on = RetryOn::NONE;
    });
    bench.load(set_19(&SERVERS[..1]));
    live(&mut bench, seconds(1), all(200));
    for second in 0..15 {
        if refused(&mut bench, &format!("a{second}")).is_some() {
            break;
        }
        live(&mut bench, seconds(1), |sent| (!sent.line().starts_with("OPTIONS")).then(|| sent.answer(500, "No", &[])));
    }
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
}

#[test]
fn what_is_not_up_is_probed_though_calls_speak() {
    let mut bench = Bench::with(|config| {
        let init_state = InitState::Unknown;
        let probing = Probing { checks: vec![options(|_| ())], when: When::Idle, init_state, ..Probing::default() };
        config.sets[0].probing = probing.into();
    });
    bench.load(set_19(&SERVERS[..1]));
    call_answered(&mut bench, "1", 200, &[]);
    assert_eq!(probes(&live(&mut bench, seconds(1), all(200))).len(), 1);
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn overlapping_probes_keep_their_own_latency() {
    let mut bench = probed(|check| (check.interval, check.timeout) = (seconds(1), seconds(5)));
    bench.load(set_19(&SERVERS[..1]));
    let sent = probes(&bench.pass(Duration::from_millis(1500)));
    assert_eq!(sent.len(), 2);
    bench.receive(SERVERS[0], sent[1].answer(200, "OK", &[]));
    bench.pass(Duration::from_millis(1501));
    bench.receive(SERVERS[0], sent[0].answer(200, "OK", &[]));
    let latencies: Vec<_> = bench.history(SERVERS[0]).iter().map(|one| one.latency.as_millis()).collect();
    assert_eq!(latencies, [500, 3000]);
    let all = view(&bench, SERVERS[0]).latencies[0];
    assert_eq!((all.count, all.sum), (2, Duration::from_millis(3500)));
}

#[test]
fn a_lost_probe_that_another_has_overtaken_is_no_news() {
    let mut bench = probed(|check| {
        (check.interval, check.fast_interval, check.timeout) = (seconds(1), seconds(1), seconds(3));
        check.fall = 1;
    });
    bench.load(set_19(&SERVERS[..1]));
    let mut first = None;
    let lost =
        |sent: &Sent, first: &mut Option<Vec<u8>>| first.get_or_insert_with(|| sent.bytes.clone()) == &sent.bytes;
    live(&mut bench, seconds(5), |sent| (!lost(sent, &mut first)).then(|| sent.answer(200, "OK", &[])));
    let history = bench.history(SERVERS[0]);
    assert!(history.iter().any(|one| one.outcome == tandem::engine::dispatch::Outcome::TimedOut), "{history:?}");
    assert_eq!((health(&bench, SERVERS[0]), view(&bench, SERVERS[0]).falls), (Health::Up, 0));
}

#[test]
fn a_dead_one_gets_no_call_and_the_other_gets_all() {
    let mut bench = probed(|check| check.interval = seconds(1));
    live(&mut bench, seconds(5), dead(SERVERS[0]));
    assert_eq!([0, 1].map(|at| health(&bench, SERVERS[at])), [Health::Down, Health::Up]);
    for call in 0..20 {
        assert_eq!(bench.call(&call.to_string()).to.to_string(), SERVERS[1]);
    }
    live(&mut bench, seconds(12), all(200));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up, "and serves again");
}

#[test]
fn an_answer_that_says_nothing_makes_no_more_probes_than_any_other() {
    let mut bench = Bench::with(|config| {
        let check = options(|check| (check.interval, check.jitter_percent) = (seconds(1), 50));
        probed_by(vec![check])(config);
    });
    bench.load(set_19(&SERVERS));
    let sent = probes(&live(&mut bench, seconds(60), all(480)));
    assert!((100..140).contains(&sent.len()), "{} probes in a minute of two destinations", sent.len());
}

#[test]
fn a_destination_that_is_gone_is_probed_no_more_and_its_answers_are_nobodys() {
    let mut bench = probed(|_| ());
    let sent = probes(&bench.pass(seconds(1)));
    bench.load(set_19(&SERVERS[1..]));
    bench.receive(SERVERS[0], to(&sent, SERVERS[0])[0].answer(500, "No", &[]));
    let more = probes(&live(&mut bench, seconds(60), all(200)));
    assert!(to(&more, SERVERS[0]).is_empty() && to(&more, SERVERS[1]).len() > 4);
    bench.load(set_19(&[]));
    live(&mut bench, seconds(60), all(200));
    bench.handle(Input::Wake);
    assert_eq!(probes(&bench.pass(seconds(600))).len(), 0);
}

#[test]
fn a_set_without_probes_sends_none() {
    let mut bench = Bench::new();
    bench.load(set_19(&SERVERS[..1]));
    eject(&mut bench, "x");
    assert_eq!(probes(&bench.pass(seconds(600))).len(), 0);
}
