//! What a destination went down by, and by what callers' failures ejected it.

use tandem::engine::Input;
use tandem::engine::dispatch::{Distrust, DistrustOrder, EjectionCause, FallCause, Health, SetId};

use super::{alone, call_answered, dead, eject, health, live, probed, sit_out, view};
use crate::harness::{Bench, SERVERS, seconds};

/// How often the first server has gone down by each cause, and was ejected by each.
fn causes(bench: &Bench) -> ([u64; FallCause::ALL.len()], [u64; EjectionCause::ALL.len()]) {
    let one = view(bench, SERVERS[0]);
    assert_eq!((one.falls, one.ejections), (one.falls_by.iter().sum(), one.ejections_by.iter().sum()));
    (one.falls_by, one.ejections_by)
}

fn count<const N: usize>(one: usize) -> [u64; N] {
    std::array::from_fn(|nth| u64::from(nth == one))
}

#[test]
fn failures_in_a_row_and_a_trial_that_fails_are_told_apart() {
    let mut bench = alone(|_| ());
    eject(&mut bench, "first");
    let (falls, ejections) = (count(FallCause::Calls as usize), count(EjectionCause::ConsecutiveFailures as usize));
    assert_eq!(causes(&bench), (falls, ejections));
    sit_out(&mut bench);
    call_answered(&mut bench, "trial", 503, &[]);
    let mut ejections = ejections;
    ejections[EjectionCause::Trial as usize] += 1;
    assert_eq!(causes(&bench), (count::<3>(FallCause::Calls as usize).map(|one| 2 * one), ejections));
}

#[test]
fn a_share_of_failures_is_told_from_failures_in_a_row() {
    let mut bench = alone(|config| {
        let observe = &mut config.sets[0].judgement.observe;
        (observe.failure_percentage_threshold, observe.failure_percentage_request_volume) = (50, 4);
    });
    for (call, status) in [200, 503, 200, 503].into_iter().enumerate() {
        call_answered(&mut bench, &call.to_string(), status, &["Contact: <sip:x>"]);
    }
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    let by_percentage = count(EjectionCause::FailurePercentage as usize);
    assert_eq!(causes(&bench), (count(FallCause::Calls as usize), by_percentage));
}

#[test]
fn probes_that_fail_eject_nobody() {
    let mut bench = probed(|_| ());
    live(&mut bench, seconds(60), dead(SERVERS[0]));
    assert_eq!(causes(&bench), (count(FallCause::Probes as usize), [0; 4]));
}

#[test]
fn an_operators_word_is_no_failure_of_probes_or_calls() {
    for mut bench in [alone(|_| ()), probed(|_| ())] {
        let (uri, by, reason) = (format!("sip:{}", SERVERS[0]), "ada".to_owned(), "a test".to_owned());
        let order = DistrustOrder { set: SetId(19), uri, distrust: Distrust::Down, by, reason, guarded: false };
        bench.handle(Input::Distrust(&order));
        assert_eq!(health(&bench, SERVERS[0]), Health::Down);
        assert_eq!(causes(&bench), (count(FallCause::Order as usize), [0; 4]));
    }
}
