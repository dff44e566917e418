//! What an answer means: by whose fault it came, as the set says.

use tandem::engine::dispatch::{Answers, Health, Meaning};

use super::{alone, call_answered, changes, health, is_fit, probed, probed_by, probes};
use crate::harness::{Bench, SERVERS, seconds, set_19};

const ALIVE: [u16; 17] = [200, 202, 302, 400, 401, 403, 404, 405, 420, 481, 488, 501, 505, 513, 604, 606, 607];
const BUSY: [u16; 3] = [486, 600, 603];
const FALL: [u16; 7] = [408, 500, 502, 503, 504, 580, 599];
const NEUTRAL: [u16; 4] = [480, 482, 487, 491];

/// A probe of a destination that is up, answered so.
fn after_probe(bench: &mut Bench, status: u16, extra: &[&str]) -> Health {
    let sent = probes(&bench.pass(seconds(1)));
    bench.receive(SERVERS[0], sent[0].answer(status, "Test", extra));
    health(bench, SERVERS[0])
}

#[test]
fn by_default_a_probes_answer_counts_by_whose_fault_it_is() {
    let expected = [(&ALIVE[..], Health::Up), (&BUSY, Health::Busy), (&FALL, Health::Down), (&NEUTRAL, Health::Up)];
    for (codes, expected) in expected {
        for &status in codes {
            let mut bench = probed(|check| check.fall = 1);
            assert_eq!(after_probe(&mut bench, status, &[]), expected, "{status}");
        }
    }
}

#[test]
fn by_default_a_calls_answer_counts_by_whose_fault_it_is() {
    let expected = [(&ALIVE[..], Health::Up), (&BUSY, Health::Busy), (&FALL, Health::Down), (&NEUTRAL, Health::Up)];
    for (codes, expected) in expected {
        for &status in codes {
            let mut bench = alone(|config| config.sets[0].judgement.observe.consecutive_failures = 1);
            call_answered(&mut bench, "1", status, &[]);
            assert_eq!(health(&bench, SERVERS[0]), expected, "{status}");
        }
    }
}

#[test]
fn the_callers_faults_never_count_however_many() {
    let mut bench = alone(|_| ());
    for call in 0..200 {
        call_answered(&mut bench, &call.to_string(), [404, 488, 403, 481, 480, 606][call % 6], &[]);
    }
    assert_eq!((health(&bench, SERVERS[0]), is_fit(&bench, SERVERS[0])), (Health::Up, true));
    assert!(changes(&bench).iter().all(|one| one.new == Health::Up));
}

#[test]
fn a_set_gives_codes_another_meaning() {
    let mut answers = Answers::default();
    answers.mean("404", Meaning::Fall).expect("a code");
    answers.mean("5xx", Meaning::Alive).expect("a class");
    for (status, expected) in [(404, Health::Down), (503, Health::Up), (403, Health::Up)] {
        let mut bench = Bench::with(|config| {
            config.sets[0].judgement.answers = answers.clone();
            probed_by(vec![super::options(|check| check.fall = 1)])(config);
        });
        assert_eq!(after_probe(&mut bench, status, &[]), expected, "{status}");
    }
}

#[test]
fn a_busy_one_is_held_out_for_five_seconds_and_comes_back_by_itself() {
    for status in BUSY {
        let mut bench = alone(|_| ());
        call_answered(&mut bench, "1", status, &[]);
        bench.pass(seconds(4));
        assert_eq!((health(&bench, SERVERS[0]), is_fit(&bench, SERVERS[0])), (Health::Busy, false));
        assert_eq!(super::refused(&mut bench, "2"), Some(super::EMPTY.into()));
        bench.pass(seconds(1));
        assert_eq!((health(&bench, SERVERS[0]), is_fit(&bench, SERVERS[0])), (Health::Up, true));
        let told: Vec<_> = changes(&bench).iter().map(|one| one.new).collect();
        assert_eq!(told.last(), Some(&Health::Up), "time alone tells of it");
    }
}

#[test]
fn a_503_with_retry_after_is_busy_until_then_and_five_minutes_at_most() {
    for (retry_after, held) in
        [("30", 30), ("0", 1), ("86400", 300), ("99999999999999999999", 300), ("7 (too many);duration=3", 7)]
    {
        let mut bench = alone(|_| ());
        call_answered(&mut bench, "1", 503, &[&format!("Retry-After: {retry_after}")]);
        assert_eq!(health(&bench, SERVERS[0]), Health::Busy, "{retry_after}");
        bench.pass(seconds(held) - super::STEP);
        assert!(!is_fit(&bench, SERVERS[0]), "{retry_after}");
        bench.pass(super::STEP);
        assert!(is_fit(&bench, SERVERS[0]), "{retry_after}");
    }
}

#[test]
fn what_a_call_was_told_of_room_no_probe_takes_back() {
    let mut bench = probed(|check| check.interval = seconds(1));
    bench.load(set_19(&SERVERS[..1]));
    call_answered(&mut bench, "1", 503, &["Retry-After: 20"]);
    super::live(&mut bench, seconds(19), super::all(200));
    assert_eq!(health(&bench, SERVERS[0]), Health::Busy, "an OPTIONS needs no room");
    super::live(&mut bench, seconds(1), super::all(200));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn a_probe_that_was_told_busy_takes_it_back_itself() {
    let mut bench = probed(|check| check.interval = seconds(1));
    assert_eq!(after_probe(&mut bench, 503, &["Retry-After: 200"]), Health::Busy);
    super::live(&mut bench, seconds(3), super::all(200));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn a_busy_one_counts_as_alive() {
    let mut bench = alone(|_| ());
    for call in 0..10 {
        let status = if call % 3 == 2 { 486 } else { 503 };
        call_answered(&mut bench, &call.to_string(), status, &[]);
        bench.pass(seconds(if status == 486 { 6 } else { 0 }));
        assert!(is_fit(&bench, SERVERS[0]), "no three failures in a row");
    }
}
