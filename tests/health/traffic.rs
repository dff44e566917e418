//! Traffic as a witness: ejection, its end, and the one call that tries.

use std::time::Duration;

use tandem::engine::Input;
use tandem::engine::dispatch::{Fitness, Health, Outcome, Why};
use tandem::engine::flow::{ConnectionId, Fault, Flow, Listener, ListenerId, Transport};

use super::{EMPTY, alone, call_answered, changes, eject, health, is_fit, refused, sit_out, to, view};
use crate::harness::{Bench, CALLER, INSIDE, SERVERS, Sent, invite, lines, request, seconds, set_19};

fn cancel(id: &str) -> String {
    invite(id).replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL")
}

fn left(bench: &Bench) -> Duration {
    view(bench, SERVERS[0]).kept.ejected.expect("it is ejected").0
}

#[test]
fn three_failures_in_a_row_eject_and_the_set_that_is_empty_answers_480_at_once() {
    let mut bench = alone(|_| ());
    for call in 0..3 {
        let why = if call == 0 { Why::Started } else { Why::NoGoodAnswer };
        assert_eq!((is_fit(&bench, SERVERS[0]), view(&bench, SERVERS[0]).why), (true, why));
        call_answered(&mut bench, &call.to_string(), 503, &[]);
    }
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Unwell(Health::Down));
    assert_eq!(refused(&mut bench, "x"), Some(EMPTY.into()), "no INVITE, no wait");
    let snapshot = bench.snapshot();
    assert_eq!((snapshot.sets[0].empty, snapshot.sets[0].destinations[0].ejections), (1, 1));
}

#[test]
fn a_set_whose_servers_are_all_down_is_empty() {
    let mut bench = Bench::new();
    // Each call fails over and fails at both.
    for call in 0..3 {
        let first = bench.call(&call.to_string());
        let sent = bench.receive(&first.to.to_string(), first.answer(503, "No", &[]));
        let second = sent[1].clone();
        bench.receive(&second.to.to_string(), second.answer(503, "No", &[]));
    }
    assert_eq!(refused(&mut bench, "x"), Some(EMPTY.into()));
    assert_eq!(bench.pass(seconds(1)).iter().filter(|one| one.line().starts_with("INVITE")).count(), 0);
}

#[test]
fn two_failures_and_a_success_begin_anew() {
    let mut bench = alone(|_| ());
    for call in 0..30 {
        call_answered(&mut bench, &call.to_string(), [503, 500, 404][call % 3], &[]);
        assert!(is_fit(&bench, SERVERS[0]), "{call}");
    }
}

#[test]
fn silence_is_a_failure_once_the_call_is_left() {
    let mut bench = alone(|_| ());
    (0..3).for_each(|call| drop(bench.call(&call.to_string())));
    bench.pass(Duration::from_millis(1990));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
    bench.pass(Duration::from_millis(20));
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
}

#[test]
fn too_many_failures_of_an_interval_eject_even_if_none_follow_each_other() {
    let course = |good_every: u32, calls: u32| {
        let mut bench = alone(|config| {
            config.sets[0].judgement.observe.consecutive_failures = 1000;
            config.sets[0].judgement.observe.failure_percentage_threshold = 75;
        });
        for call in 0..calls {
            let status = if call % good_every == 0 { 200 } else { 503 };
            if refused(&mut bench, &format!("probe-{call}")).is_some() {
                return Some(call);
            }
            call_answered(&mut bench, &call.to_string(), status, &[]);
        }
        None
    };
    // `refused` opens a call each time, which nobody answers within the interval: only the answered ones count.
    assert_eq!(course(5, 49), None, "below the volume nothing is said");
    assert_eq!(course(5, 200), Some(50), "four of five fail");
    assert_eq!(course(3, 200), None, "two of three fail");
}

#[test]
fn the_ejection_grows_is_never_shorter_than_said_and_at_most_a_quarter_longer() {
    let mut bench = alone(|_| ());
    eject(&mut bench, "x");
    let mut all = Vec::new();
    for (times, wanted) in [5, 10, 20, 40, 60, 60, 60].into_iter().enumerate() {
        let time = left(&bench);
        let (least, most) = (seconds(wanted), seconds(wanted).mul_f64(1.25));
        assert!((least..=most).contains(&time), "{times}: {time:?}");
        all.push(time.as_secs_f64() / wanted as f64);
        sit_out(&mut bench);
        call_answered(&mut bench, &format!("trial-{times}"), 503, &[]);
        assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    }
    all.dedup();
    assert!(all.len() > 5, "chance differs: {all:?}");
}

#[test]
fn two_that_fall_together_do_not_come_back_together() {
    let mut bench = Bench::new();
    for call in 0..3 {
        let first = bench.call(&call.to_string());
        let sent = bench.receive(&first.to.to_string(), first.answer(503, "No", &[]));
        bench.receive(&sent[1].to.to_string(), sent[1].answer(503, "No", &[]));
    }
    let [one, other] = [0, 1].map(|at| view(&bench, SERVERS[at]).kept.ejected.expect("ejected").0);
    assert_ne!(one, other);
}

#[test]
fn an_ejection_ends_by_itself_in_unknown() {
    let mut bench = alone(|_| ());
    eject(&mut bench, "x");
    let left = left(&bench);
    bench.pass(left - Duration::from_millis(2));
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    bench.pass(Duration::from_millis(4));
    assert_eq!((health(&bench, SERVERS[0]), is_fit(&bench, SERVERS[0])), (Health::Unknown, true));
    let last = changes(&bench).pop().expect("it was told");
    assert_eq!((last.old, last.new, last.cause), (Health::Down, Health::Unknown, None));
    assert_eq!(view(&bench, SERVERS[0]).why, Why::HalfOpen { trial: false });
    bench.pass(seconds(36_000));
    assert!(is_fit(&bench, SERVERS[0]), "and stays so, on a node without traffic");
}

/// One that is half open; its set's second destination if there are two.
fn half_open(servers: &[&str]) -> Bench {
    let mut bench = alone(|config| config.sets[0].failover = Default::default());
    eject(&mut bench, "x");
    sit_out(&mut bench);
    bench.load(set_19(servers));
    bench
}

fn call_to(bench: &mut Bench, peer: &str, name: &str) -> Sent {
    for at in 0..2 {
        let sent = bench.call(&format!("{name}-{at}"));
        if sent.to.to_string() == peer {
            return sent;
        }
        bench.receive(&sent.to.to_string(), sent.answer(200, "OK", &[]));
    }
    panic!("nobody's turn is {peer}'s");
}

#[test]
fn one_call_tries_it_and_no_other_meanwhile() {
    let mut bench = half_open(&SERVERS[..1]);
    let trial = bench.call("trial");
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::OnTrial);
    assert_eq!(view(&bench, SERVERS[0]).why, Why::HalfOpen { trial: true });
    for call in 0..10 {
        assert_eq!(refused(&mut bench, &call.to_string()), Some(EMPTY.into()));
    }
    bench.receive(SERVERS[0], trial.answer(100, "Trying", &[]));
    bench.receive(SERVERS[0], trial.answer(180, "Ringing", &[]));
    assert!(!is_fit(&bench, SERVERS[0]), "a provisional answer proves nothing");
    bench.receive(SERVERS[0], trial.answer(200, "OK", &[]));
    assert_eq!((health(&bench, SERVERS[0]), is_fit(&bench, SERVERS[0])), (Health::Up, true));
    (0..10).for_each(|call| drop(bench.call(&format!("after-{call}"))));
}

#[test]
fn an_answer_about_the_request_is_a_success_of_the_trial_too() {
    for status in [404, 488, 302] {
        let mut bench = half_open(&SERVERS[..1]);
        call_answered(&mut bench, "trial", status, &[]);
        assert_eq!(health(&bench, SERVERS[0]), Health::Up, "{status}");
    }
}

#[test]
fn a_trial_that_finds_it_busy_ends_the_ejection_and_holds_it_for_busy() {
    let mut bench = half_open(&SERVERS[..1]);
    call_answered(&mut bench, "trial", 486, &[]);
    assert_eq!(health(&bench, SERVERS[0]), Health::Busy);
    bench.pass(seconds(5));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn a_failed_trial_waits_longer_and_its_caller_is_served_by_another_in_time() {
    let mut bench = half_open(&SERVERS);
    call_to(&mut bench, SERVERS[0], "trial");
    let begun = bench.time();
    let sent = bench.pass(seconds(2) + Duration::from_millis(10));
    let second = to(&sent, SERVERS[1]).into_iter().find(|one| one.line().starts_with("INVITE")).expect("a failover");
    assert!(second.at - begun <= seconds(2) + Duration::from_millis(10));
    let ok = bench.receive(SERVERS[1], second.answer(200, "OK", &[]));
    assert_eq!(lines(&ok), ["SIP/2.0 200 OK"]);
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    assert!(left(&bench) > seconds(9), "{:?}", left(&bench));
}

#[test]
fn a_trial_that_says_nothing_frees_the_place_for_the_next() {
    for status in [480, 491] {
        let mut bench = half_open(&SERVERS[..1]);
        call_answered(&mut bench, "trial", status, &[]);
        assert_eq!(view(&bench, SERVERS[0]).why, Why::HalfOpen { trial: false }, "{status}");
        call_answered(&mut bench, "next", 200, &[]);
        assert_eq!(health(&bench, SERVERS[0]), Health::Up);
    }
}

#[test]
fn a_trial_whose_caller_gives_up_says_nothing_and_frees_the_place() {
    let mut bench = half_open(&SERVERS[..1]);
    let trial = bench.call("trial");
    bench.receive(SERVERS[0], trial.answer(180, "Ringing", &[]));
    bench.receive(CALLER, cancel("trial"));
    bench.receive(SERVERS[0], trial.answer(487, "Request Terminated", &[]));
    assert_eq!(view(&bench, SERVERS[0]).why, Why::HalfOpen { trial: false });
}

#[test]
fn a_trial_whose_caller_gives_up_in_silence_frees_its_place_when_its_time_is_over() {
    let mut bench = half_open(&SERVERS[..1]);
    bench.call("trial");
    // The destination never says a word.
    bench.receive(CALLER, cancel("trial"));
    bench.pass(seconds(2) + Duration::from_millis(10));
    assert_eq!(view(&bench, SERVERS[0]).why, Why::HalfOpen { trial: false });
    call_answered(&mut bench, "next", 200, &[]);
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn a_trial_that_rings_for_long_is_the_only_one_all_the_time() {
    let mut bench = half_open(&SERVERS[..1]);
    let trial = bench.call("trial");
    for call in 0..9 {
        bench.receive(SERVERS[0], trial.answer(180, "Ringing", &[]));
        bench.pass(seconds(20));
        assert_eq!(refused(&mut bench, &call.to_string()), Some(EMPTY.into()), "{call}");
    }
    bench.receive(SERVERS[0], trial.answer(200, "OK", &[]));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn a_trial_that_an_earlier_try_overtakes_frees_its_place() {
    let mut bench = half_open(&SERVERS);
    // If it is the half-open one's turn, that call says nothing of it.
    let mut first = bench.call("1");
    if first.to.to_string() == SERVERS[0] {
        bench.receive(SERVERS[0], first.answer(480, "Away", &[]));
        first = bench.call("2");
    }
    assert_eq!(first.to.to_string(), SERVERS[1]);
    let sent = bench.pass(seconds(2) + Duration::from_millis(10));
    assert_eq!(to(&sent, SERVERS[0])[0].line(), "INVITE sip:10.129.39.88:7010 SIP/2.0");
    assert_eq!(view(&bench, SERVERS[0]).why, Why::HalfOpen { trial: true });
    let ok = bench.receive(SERVERS[1], first.answer(200, "OK", &[]));
    assert_eq!(lines(&to(&ok, CALLER)), ["SIP/2.0 200 OK"]);
    assert_eq!(view(&bench, SERVERS[0]).why, Why::HalfOpen { trial: false });
}

/// The same with a stream to the servers; the INVITE by it that tries the first one after the second one did not take it.
fn tried_by_stream() -> (Bench, Sent) {
    let mut bench = alone(|config| {
        let like = config.listeners[1].clone();
        config.listeners.push(Listener { id: ListenerId(2), transport: Transport::Tcp, ..like });
        config.sets[0].failover = Default::default();
    });
    eject(&mut bench, "x");
    sit_out(&mut bench);
    bench.load(set_19(&SERVERS));
    let length = "Content-Length: 0\r\n\r\n";
    for at in 0..2 {
        let large = invite(&format!("large-{at}")).replace(length, &format!("X: {}\r\n{length}", "x".repeat(1300)));
        let first = bench.receive(CALLER, large)[1].clone();
        let answer = |status| first.answer(status, "Test", &[]);
        match first.to.to_string() == SERVERS[1] {
            true => {
                let sent = bench.receive_by(by_stream(&first), answer(503));
                return (bench, to(&sent, SERVERS[0])[0].clone());
            }
            false => drop(bench.receive_by(by_stream(&first), answer(480))),
        }
    }
    panic!("nobody's turn is {}'s", SERVERS[1]);
}

fn by_stream(sent: &Sent) -> Flow {
    assert_eq!(sent.by, 2, "{}", sent.line());
    let connection = ConnectionId(sent.connection);
    Flow { listener: ListenerId(2), transport: Transport::Tcp, peer: sent.to, connection }
}

#[test]
fn a_trial_by_a_stream_that_nobody_takes_goes_on_by_a_datagram() {
    for (status, health_then, told) in
        [(200, Health::Up, "SIP/2.0 200 OK"), (503, Health::Down, EMPTY), (480, Health::Unknown, EMPTY)]
    {
        let (mut bench, trial) = tried_by_stream();
        assert_eq!(view(&bench, SERVERS[0]).why, Why::HalfOpen { trial: true });
        let sent =
            bench.handle(Input::Undelivered { flow: by_stream(&trial), bytes: &trial.bytes, fault: Fault::Theirs });
        assert_eq!((sent[0].by, sent[0].to.to_string()), (1, SERVERS[0].into()), "{:?}", lines(&sent));
        assert_eq!(view(&bench, SERVERS[0]).why, Why::HalfOpen { trial: true });
        let sent = bench.receive(SERVERS[0], sent[0].answer(status, "OK", &[]));
        assert_eq!(to(&sent, CALLER)[0].line(), told);
        assert_eq!(health(&bench, SERVERS[0]), health_then);
    }
}

#[test]
fn who_recovers_and_soon_fails_again_waits_longer_and_who_was_long_good_does_not() {
    for (good, wanted) in [(10, 10), (61, 5)] {
        let mut bench = alone(|_| ());
        eject(&mut bench, "x");
        sit_out(&mut bench);
        call_answered(&mut bench, "trial", 200, &[]);
        bench.pass(seconds(good));
        eject(&mut bench, "y");
        let time = left(&bench);
        assert!((seconds(wanted)..=seconds(wanted).mul_f64(1.25)).contains(&time), "{good}: {time:?}");
    }
}

#[test]
fn what_was_sent_before_an_ejection_says_nothing_after_it() {
    let mut bench = alone(|_| ());
    let old: Vec<_> = (0..8).map(|call| bench.call(&format!("old-{call}"))).collect();
    old.iter().for_each(|call| drop(bench.receive(SERVERS[0], call.answer(180, "Ringing", &[]))));
    bench.pass(seconds(1));
    eject(&mut bench, "x");
    // A success of before does not end it, a failure of before does not make it longer.
    bench.receive(SERVERS[0], old[0].answer(200, "OK", &[]));
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    sit_out(&mut bench);
    bench.receive(SERVERS[0], old[1].answer(503, "No", &[]));
    assert_eq!(health(&bench, SERVERS[0]), Health::Unknown);
    call_answered(&mut bench, "trial", 200, &[]);
    for call in &old[2..] {
        bench.receive(SERVERS[0], call.answer(503, "No", &[]));
    }
    assert_eq!(health(&bench, SERVERS[0]), Health::Up, "nor after it has come back");
    eject(&mut bench, "y");
}

#[test]
fn a_487_after_a_cancel_and_a_call_given_up_in_silence_say_nothing() {
    let mut bench = alone(|_| ());
    for call in 0..10 {
        let (ringing, silent) = (format!("ringing-{call}"), format!("silent-{call}"));
        let first = bench.call(&ringing);
        bench.receive(SERVERS[0], first.answer(180, "Ringing", &[]));
        bench.receive(CALLER, cancel(&ringing));
        bench.receive(SERVERS[0], first.answer(487, "Request Terminated", &[]));
        bench.call(&silent);
        bench.receive(CALLER, cancel(&silent));
        bench.pass(seconds(3));
    }
    assert_eq!((health(&bench, SERVERS[0]), is_fit(&bench, SERVERS[0])), (Health::Up, true));
}

#[test]
fn discovery_obeys_health_and_is_no_witness() {
    let mut bench = half_open(&SERVERS);
    eject(bench_alone(&mut bench), "again");
    bench.load(set_19(&SERVERS));
    let options =
        |id: &str| request("OPTIONS", &format!("sip:{INSIDE}"), id, &["User-Agent: OPENSIPS_TTS_MRCP_CLIENT"]);
    for call in 0..10 {
        let sent = bench.receive(CALLER, options(&call.to_string()));
        assert_eq!(sent[0].to.to_string(), SERVERS[1], "{call}");
        bench.receive(SERVERS[1], sent[0].answer(200, "OK", &[]));
    }
    sit_out(&mut bench);
    // The trial is an INVITE's.
    for call in 0..10 {
        assert_eq!(bench.receive(CALLER, options(&format!("t{call}")))[0].to.to_string(), SERVERS[1], "{call}");
    }
    assert_eq!(view(&bench, SERVERS[0]).why, Why::HalfOpen { trial: false });
    // Who has nobody else is asked, and what it says does not bring it back.
    bench_alone(&mut bench);
    for status in [200, 500] {
        let sent = bench.receive(CALLER, options(&format!("alone-{status}")));
        bench.receive(SERVERS[0], sent[0].answer(status, "Test", &[]));
        assert_eq!(view(&bench, SERVERS[0]).why, Why::HalfOpen { trial: false }, "{status}");
    }
    let trial = bench.call("trial");
    assert_eq!(lines(&bench.receive(CALLER, options("meanwhile"))), [EMPTY]);
    bench.receive(SERVERS[0], trial.answer(200, "OK", &[]));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn who_answers_options_and_fails_every_call_is_ejected() {
    let mut bench = alone(|_| ());
    for call in 0..3 {
        let options = request(
            "OPTIONS",
            &format!("sip:{INSIDE}"),
            &format!("options-{call}"),
            &["User-Agent: OPENSIPS_TTS_MRCP_CLIENT"],
        );
        let sent = bench.receive(CALLER, options);
        bench.receive(SERVERS[0], sent[0].answer(200, "OK", &[]));
        call_answered(&mut bench, &call.to_string(), 500, &[]);
    }
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    let last = bench.history(SERVERS[0])[4];
    assert_eq!((last.witness.name(), last.meaning.name()), ("other", "neutral"));
}

#[test]
fn who_fails_options_and_takes_every_call_stays() {
    let mut bench = alone(|_| ());
    for number in 0..10 {
        let id = format!("options-{number}");
        let options = request("OPTIONS", &format!("sip:{INSIDE}"), &id, &["User-Agent: OPENSIPS_TTS_MRCP_CLIENT"]);
        let sent = bench.receive(CALLER, options);
        bench.receive(SERVERS[0], sent[0].answer(500, "No", &[]));
    }
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn a_408_to_another_request_than_an_invite_is_noted_once() {
    let mut bench = alone(|_| ());
    let uri = format!("sip:{INSIDE}");
    let sent = bench.receive(CALLER, request("OPTIONS", &uri, "1", &["User-Agent: OPENSIPS_TTS_MRCP_CLIENT"]));
    bench.receive(SERVERS[0], sent[0].answer(408, "Request Timeout", &[]));
    let outcomes: Vec<_> = bench.history(SERVERS[0]).iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [Outcome::answered(408)]);
}

/// The same with the first destination alone.
fn bench_alone(bench: &mut Bench) -> &mut Bench {
    bench.load(set_19(&SERVERS[..1]));
    bench
}

#[test]
fn a_set_that_does_not_observe_makes_nothing_of_its_traffic() {
    let mut bench = alone(|config| config.sets[0].judgement.observe.enabled = false);
    for call in 0..20 {
        call_answered(&mut bench, &call.to_string(), [503, 486, 500, 603][call % 4], &[]);
        assert!(is_fit(&bench, SERVERS[0]), "{call}");
    }
    assert_eq!(bench.history(SERVERS[0]).len(), 20, "but keeps what it saw");
}

#[test]
fn requests_inside_a_session_say_nothing() {
    let mut bench = alone(|_| ());
    let (_, ok) = bench.answered_call("1");
    for cseq in 2..12 {
        let sent = bench.receive(CALLER, crate::harness::in_dialog("INFO", &ok, cseq));
        bench.receive(SERVERS[0], sent[0].answer(503, "No", &[]));
    }
    assert_eq!((health(&bench, SERVERS[0]), bench.history(SERVERS[0]).len()), (Health::Up, 1));
}
