//! A destination that an operator holds for failed.

use tandem::engine::dispatch::{
    Check, CheckKind, Distrust, DistrustOrder, Fitness, Health, NotDistrusted, Order, Probing, SetId,
};
use tandem::engine::{Event, Input};

use super::orders::order;
use super::{EMPTY, all, alone, call_answered, changes, health, is_fit, live, probed, refused, sit_out, view};
use crate::harness::{Bench, SERVERS, seconds, set_19};

/// What has become of the order to hold that one for failed.
fn distrust(bench: &mut Bench, address: &str, distrust: Distrust) -> Result<(), NotDistrusted> {
    let (uri, by, reason) = (format!("sip:{address}"), "ada".to_owned(), "a test".to_owned());
    let order = DistrustOrder { set: SetId(19), uri, distrust, by, reason, guarded: false };
    bench.handle(Input::Distrust(&order));
    let told = bench.events.iter().rev().find_map(|event| match event {
        Event::Distrusted { order: told, done } if *told == order => Some(done.clone()),
        _ => None,
    });
    told.expect("it is told")
}

#[test]
fn what_is_held_for_down_gets_no_call_until_probes_succeed() {
    let mut bench = probed(|check| check.rise = 2);
    live(&mut bench, seconds(15), all(200));
    assert_eq!(distrust(&mut bench, SERVERS[0], Distrust::Down), Ok(()));
    assert_eq!((health(&bench, SERVERS[0]), is_fit(&bench, SERVERS[1])), (Health::Down, true));
    for call in 0..6 {
        assert_eq!(call_answered(&mut bench, &call.to_string(), 200, &[]), SERVERS[1]);
    }
    // Nobody answers: it stays so.
    bench.pass(seconds(60));
    assert_eq!(health(&bench, SERVERS[0]), Health::Down);
    live(&mut bench, seconds(30), all(200));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn what_nobody_probes_is_held_for_down_until_a_call_that_tries_it_succeeds() {
    let mut bench = alone(|_| ());
    assert_eq!(distrust(&mut bench, SERVERS[0], Distrust::Down), Ok(()));
    assert_eq!((health(&bench, SERVERS[0]), refused(&mut bench, "1")), (Health::Down, Some(EMPTY.into())));
    // Again, and it is not held longer.
    bench.pass(seconds(4));
    let before = view(&bench, SERVERS[0]).kept.ejected;
    assert_eq!(distrust(&mut bench, SERVERS[0], Distrust::Down), Ok(()));
    assert_eq!((view(&bench, SERVERS[0]).kept.ejected, changes(&bench).len()), (before, 1));
    sit_out(&mut bench);
    call_answered(&mut bench, "2", 200, &[]);
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn one_call_tries_what_is_put_on_trial() {
    let mut bench = alone(|_| ());
    assert_eq!(distrust(&mut bench, SERVERS[0], Distrust::OnTrial), Ok(()));
    let trial = bench.call("1");
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::OnTrial);
    assert_eq!(refused(&mut bench, "2"), Some(EMPTY.into()));
    bench.receive(SERVERS[0], trial.answer(200, "OK", &[]));
    assert!(is_fit(&bench, SERVERS[0]));
    call_answered(&mut bench, "3", 200, &[]);
}

#[test]
fn what_is_held_for_down_may_be_put_on_trial() {
    for mut bench in [alone(|_| ()), alone(super::probed_by(vec![super::options(|_| ())]))] {
        assert_eq!(distrust(&mut bench, SERVERS[0], Distrust::Down), Ok(()));
        assert_eq!(refused(&mut bench, "1"), Some(EMPTY.into()));
        assert_eq!(distrust(&mut bench, SERVERS[0], Distrust::OnTrial), Ok(()));
        assert_eq!(health(&bench, SERVERS[0]), Health::Unknown);
        call_answered(&mut bench, "2", 200, &[]);
        assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Fit);
    }
}

#[test]
fn one_that_is_ordered_out_of_service_is_held_for_down_all_the_same() {
    let mut bench = probed(|_| ());
    order(&mut bench, SERVERS[0], Order::Maint);
    assert_eq!(distrust(&mut bench, SERVERS[0], Distrust::Down), Ok(()));
    order(&mut bench, SERVERS[0], Order::Ready);
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Unwell(Health::Down));
    live(&mut bench, seconds(15), all(200));
    assert!(is_fit(&bench, SERVERS[0]));
}

#[test]
fn a_probe_that_waits_for_a_call_leaves_it_to_calls() {
    let mut bench = alone(|config| {
        let checks = vec![Check::new(CheckKind::Tcp { port: None })];
        config.sets[0].probing = Probing { checks, ..Probing::default() }.into();
    });
    assert_eq!(distrust(&mut bench, SERVERS[0], Distrust::Down), Ok(()));
    assert_eq!((health(&bench, SERVERS[0]), refused(&mut bench, "1")), (Health::Down, Some(EMPTY.into())));
    sit_out(&mut bench);
    call_answered(&mut bench, "2", 200, &[]);
    assert!(is_fit(&bench, SERVERS[0]));
}

#[test]
fn what_would_be_held_for_ever_or_is_not_there_is_not() {
    let mut bench = alone(|config| config.sets[0].judgement.observe.enabled = false);
    for how in [Distrust::Down, Distrust::OnTrial] {
        let fault = distrust(&mut bench, SERVERS[0], how).expect_err("nobody watches");
        assert!(matches!(fault, NotDistrusted::Unwatched { .. }), "{fault}");
        assert!(is_fit(&bench, SERVERS[0]));
        let fault = distrust(&mut bench, "10.0.0.9:1", how).expect_err("it is not there");
        assert_eq!(fault.to_string(), "set 19 has no destination sip:10.0.0.9:1");
    }
    bench.load(set_19(&SERVERS));
    call_answered(&mut bench, "1", 200, &[]);
}
