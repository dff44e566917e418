//! What outlives a reload, and what a restart is told.

use std::time::Duration;

use tandem::engine::Input;
use tandem::engine::dispatch::{Damping, Health, Order, Remembered, RowState, SetId, Sets, Why};

use super::{
    EMPTY, all, alone, call_answered, changes, dead, eject, health, id, is_fit, live, mute, options, probed, probed_by,
    refused, standing, view,
};
use crate::harness::{Bench, SERVERS, seconds, set_19};

/// What a node would keep of all its destinations.
fn kept(bench: &Bench) -> Vec<Remembered> {
    let of = |one: &tandem::engine::snapshot::DestinationView| Remembered {
        set: SetId(19),
        uri: one.uri.clone(),
        address: one.address.expect("resolved"),
        standing: Some(one.standing.clone()).filter(|standing| standing.by != "table"),
        kept: Some(one.kept),
    };
    bench.snapshot().sets[0].destinations.iter().map(of).collect()
}

fn fast() -> Bench {
    probed(|check| check.interval = seconds(1))
}

#[test]
fn a_restart_with_all_down_answers_480_at_once_and_heals_by_probes() {
    let mut before = fast();
    live(&mut before, seconds(10), mute);
    let mut bench = fast();
    bench.handle(Input::Remembered(&kept(&before)));
    assert_eq!(refused(&mut bench, "1"), Some(EMPTY.into()));
    live(&mut bench, seconds(10), all(200));
    assert!(SERVERS.iter().all(|one| health(&bench, one) == Health::Up));
}

#[test]
fn a_restart_with_all_up_loses_no_call() {
    let mut before = fast();
    live(&mut before, seconds(10), all(200));
    let mut bench = fast();
    bench.handle(Input::Remembered(&kept(&before)));
    let peers: Vec<_> = (0..4).map(|call| bench.call(&call.to_string()).to.to_string()).collect();
    assert_eq!(peers, [SERVERS[0], SERVERS[1], SERVERS[0], SERVERS[1]]);
}

#[test]
fn a_restart_remembers_each_for_itself() {
    let mut before = fast();
    live(&mut before, seconds(10), dead(SERVERS[0]));
    let mut bench = fast();
    bench.handle(Input::Remembered(&kept(&before)));
    assert_eq!(SERVERS.map(|one| health(&bench, one)), [Health::Down, Health::Up]);
}

#[test]
fn an_ejection_goes_on_after_a_restart_for_the_rest_of_its_time_and_grows() {
    let mut before = alone(|_| ());
    eject(&mut before, "x");
    before.pass(seconds(2));
    let (left, times) = view(&before, SERVERS[0]).kept.ejected.expect("ejected");
    assert!(left < seconds(5) && times == 1);
    let mut bench = alone(|_| ());
    bench.handle(Input::Remembered(&kept(&before)));
    bench.pass(left - Duration::from_millis(5));
    assert_eq!(refused(&mut bench, "1"), Some(EMPTY.into()));
    bench.pass(Duration::from_millis(10));
    assert_eq!(health(&bench, SERVERS[0]), Health::Unknown);
    call_answered(&mut bench, "trial", 503, &[]);
    let (left, times) = view(&bench, SERVERS[0]).kept.ejected.expect("ejected");
    assert!(left >= seconds(10) && times == 2);
}

#[test]
fn one_that_was_half_open_is_so_after_a_restart() {
    let mut before = alone(|_| ());
    eject(&mut before, "x");
    super::sit_out(&mut before);
    let mut bench = alone(|_| ());
    bench.handle(Input::Remembered(&kept(&before)));
    bench.call("trial");
    assert_eq!(refused(&mut bench, "2"), Some(EMPTY.into()), "one trial");
}

#[test]
fn busy_goes_on_after_a_restart() {
    let mut before = alone(|_| ());
    call_answered(&mut before, "1", 503, &["Retry-After: 30"]);
    before.pass(seconds(10));
    let mut bench = alone(|_| ());
    bench.handle(Input::Remembered(&kept(&before)));
    assert_eq!(health(&bench, SERVERS[0]), Health::Busy);
    bench.pass(seconds(21));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn who_was_down_before_a_restart_has_not_fallen_again() {
    let damped = || {
        let check = options(|check| check.interval = seconds(1));
        Bench::with(|config| {
            probed_by(vec![check])(config);
            config.sets[0].judgement.damping = Some(Damping::default());
        })
    };
    let mut before = damped();
    live(&mut before, seconds(10), mute);
    let first = view(&before, SERVERS[0]);
    assert_eq!((first.falls, first.health), (1, Health::Down));
    // However often it is started.
    for start in 0..6 {
        let mut bench = damped();
        bench.handle(Input::Remembered(&kept(&before)));
        let now = view(&bench, SERVERS[0]);
        assert_eq!((now.falls, now.health, now.penalty <= first.penalty), (0, Health::Down, true), "{start}");
        assert!(changes(&bench).is_empty(), "{start}: it is no news");
        bench.pass(Duration::from_millis(10));
        assert!(changes(&bench).is_empty(), "{start}: nor a moment later");
        before = bench;
    }
    live(&mut before, seconds(10), all(200));
    let told: Vec<_> = changes(&before).iter().map(|one| (one.old, one.new)).collect();
    assert_eq!(told, [(Health::Down, Health::Up); 2], "both come back, and that is");
}

#[test]
fn who_flapped_before_a_restart_stays_out_for_the_rest_of_its_penalty() {
    let damped = || {
        let check = options(|check| {
            (check.interval, check.fast_interval, check.down_interval) = (seconds(1), seconds(1), seconds(1));
            (check.fall, check.rise) = (1, 1);
        });
        Bench::with(|config| {
            probed_by(vec![check])(config);
            config.sets[0].judgement.damping = Some(Damping::default());
        })
    };
    let mut before = damped();
    for _ in 0..4 {
        live(&mut before, seconds(4), dead(SERVERS[0]));
        live(&mut before, seconds(2), all(200));
    }
    let Why::Flapping { left, penalty } = view(&before, SERVERS[0]).why else { panic!("it flaps") };
    let mut bench = damped();
    bench.handle(Input::Remembered(&kept(&before)));
    let Why::Flapping { left: still, penalty: now } = view(&bench, SERVERS[0]).why else { panic!("it still does") };
    assert!(penalty.abs_diff(now) <= 1 && left.abs_diff(still) < Duration::from_millis(200), "{left:?} {still:?}");
    live(&mut bench, still - Duration::from_millis(200), all(200));
    assert!(!is_fit(&bench, SERVERS[0]));
    live(&mut bench, Duration::from_millis(300), all(200));
    assert_eq!([0, 1].map(|at| is_fit(&bench, SERVERS[at])), [true, true]);
}

#[test]
fn what_is_remembered_of_an_ejection_does_not_outlive_its_set_observing_traffic() {
    let mut before = alone(|_| ());
    eject(&mut before, "x");
    let mut bench = alone(|config| config.sets[0].judgement.observe.enabled = false);
    bench.handle(Input::Remembered(&kept(&before)));
    for call in 0..10 {
        assert!(is_fit(&bench, SERVERS[0]), "{call}");
        bench.call(&call.to_string());
    }
}

#[test]
fn orders_are_remembered_and_others_of_the_same_name_are_not_meant() {
    let mut bench = Bench::new();
    let one = |set, uri: &str, address: &str, order| Remembered {
        set: SetId(set),
        uri: format!("sip:{uri}"),
        address: address.parse().expect("an address"),
        standing: Some(standing(order)),
        kept: None,
    };
    bench.handle(Input::Remembered(&[
        one(19, SERVERS[0], SERVERS[0], Order::Drain),
        one(20, SERVERS[1], SERVERS[1], Order::Maint),
        one(19, SERVERS[1], "10.0.0.1:7011", Order::Maint),
        one(19, "else.where", SERVERS[1], Order::Maint),
    ]));
    assert_eq!(SERVERS.map(|at| view(&bench, at).standing.order), [Order::Drain, Order::Ready]);
    assert_eq!(view(&bench, SERVERS[0]).standing, standing(Order::Drain));
}

#[test]
fn a_reload_keeps_health_by_identity() {
    let mut bench = fast();
    live(&mut bench, seconds(10), dead(SERVERS[0]));
    let (before, history) = (id(&bench, SERVERS[0]), bench.history(SERVERS[0]).len());
    let Sets(mut sets) = set_19(&SERVERS);
    sets[0].rows[0].weight = 7;
    sets[0].rows[0].priority = 3;
    sets[0].rows[0].description = "other".into();
    sets[0].rows.reverse();
    bench.load(Sets(sets));
    assert_eq!(SERVERS.map(|one| health(&bench, one)), [Health::Down, Health::Up]);
    assert_eq!((id(&bench, SERVERS[0]), bench.history(SERVERS[0]).len()), (before, history));
    // Another address is another destination, and so is one that was gone for a while.
    bench.load(set_19(&SERVERS[1..]));
    bench.load(set_19(&SERVERS));
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
    assert_ne!(id(&bench, SERVERS[0]), before);
}

#[test]
fn a_reload_neither_hastens_nor_delays_probes() {
    let times = |reloads: bool| {
        let mut bench = probed(|check| check.interval = seconds(3));
        let mut all_sent = Vec::new();
        for _ in 0..60 {
            all_sent.extend(live(&mut bench, Duration::from_millis(500), all(200)));
            if reloads {
                bench.load(set_19(&SERVERS));
            }
        }
        all_sent.iter().map(|one| (one.at, one.to)).collect::<Vec<_>>()
    };
    assert_eq!(times(true), times(false));
}

/// Both rows in state 2: failed, being probed.
fn failed() -> Sets {
    let Sets(mut sets) = set_19(&SERVERS[..1]);
    sets[0].rows[0].state = RowState::Probing;
    Sets(sets)
}

#[test]
fn a_row_in_state_2_begins_down_and_heals_by_probes() {
    for reloaded in [false, true] {
        let mut bench = fast();
        bench.load(if reloaded { set_19(&SERVERS[..1]) } else { Sets::default() });
        live(&mut bench, seconds(5), all(200));
        bench.load(failed());
        assert_eq!((health(&bench, SERVERS[0]), refused(&mut bench, "1")), (Health::Down, Some(EMPTY.into())));
        live(&mut bench, seconds(12), all(200));
        assert_eq!(health(&bench, SERVERS[0]), Health::Up);
        bench.load(failed());
        assert_eq!(health(&bench, SERVERS[0]), Health::Up, "the row says nothing new");
    }
}

#[test]
fn a_row_in_state_2_without_probes_begins_down_and_heals_by_traffic() {
    let mut bench = alone(|_| ());
    bench.load(failed());
    assert_eq!((health(&bench, SERVERS[0]), refused(&mut bench, "1")), (Health::Down, Some(EMPTY.into())));
    super::sit_out(&mut bench);
    call_answered(&mut bench, "2", 200, &[]);
    assert_eq!(health(&bench, SERVERS[0]), Health::Up);
}

#[test]
fn a_row_in_state_2_that_nobody_watches_is_served() {
    let mut bench = alone(|config| config.sets[0].judgement.observe.enabled = false);
    bench.load(failed());
    bench.call("1");
    bench.call("2");
}
