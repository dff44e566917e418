//! The guards: panic, damping, slow start, and how many may be ejected.

use std::time::Duration;

use tandem::engine::Config;
use tandem::engine::dispatch::{Damping, Health, Order, OrderTerms, Panic, PanicMode, SlowStart, Why};

use super::{EMPTY, all, call_answered, dead, health, is_fit, live, options, probed_by, refused, view};
use crate::harness::{Bench, SERVERS, seconds, set_19};

const FOUR: [&str; 4] = ["10.129.39.88:7010", "10.129.39.88:7011", "10.129.39.88:7012", "10.129.39.88:7013"];

/// Probes every second, one bad or good one is enough.
fn quick(config: &mut Config) {
    let check = options(|check| {
        (check.interval, check.fast_interval, check.down_interval) = (seconds(1), seconds(1), seconds(1));
        (check.fall, check.rise) = (1, 1);
    });
    probed_by(vec![check])(config);
}

fn panics(threshold: u8, mode: PanicMode) -> Bench {
    let mut bench = Bench::with(|config| {
        quick(config);
        config.sets[0].panic = Panic { threshold, mode };
    });
    bench.load(set_19(&FOUR));
    live(&mut bench, seconds(3), all(200));
    bench
}

/// These do not answer from now on.
fn die(bench: &mut Bench, which: &'static [&'static str]) {
    let sends = |sent: &crate::harness::Sent| {
        (!which.contains(&sent.to.to_string().as_str())).then(|| sent.answer(200, "OK", &[]))
    };
    live(bench, seconds(5), sends);
    which.iter().for_each(|one| assert_eq!(health(bench, one), Health::Down));
}

/// Where twelve calls go; none: nowhere.
fn asked(bench: &mut Bench, name: &str) -> Vec<String> {
    let mut peers: Vec<_> = (0..12)
        .filter_map(|call| {
            let id = format!("{name}-{call}");
            let sent = bench.receive(crate::harness::CALLER, crate::harness::invite(&id));
            sent.iter().find(|one| one.line().starts_with("INVITE")).map(|one| one.to.to_string())
        })
        .collect();
    peers.sort();
    peers.dedup();
    peers
}

#[test]
fn a_set_that_does_not_panic_sends_to_the_fit_however_few() {
    let mut bench = panics(0, PanicMode::All);
    die(&mut bench, &[FOUR[0], FOUR[1], FOUR[2]]);
    assert_eq!(asked(&mut bench, "x"), [FOUR[3]]);
    assert!(!bench.snapshot().sets[0].panicking);
}

#[test]
fn below_the_threshold_all_get_calls_and_at_it_only_the_fit() {
    let mut bench = panics(50, PanicMode::All);
    die(&mut bench, &[FOUR[0], FOUR[1]]);
    assert_eq!(
        (asked(&mut bench, "x"), bench.snapshot().sets[0].panicking),
        (vec![FOUR[2].into(), FOUR[3].into()], false)
    );
    die(&mut bench, &[FOUR[0], FOUR[1], FOUR[2]]);
    assert_eq!((asked(&mut bench, "y"), bench.snapshot().sets[0].panicking), (FOUR.map(String::from).into(), true));
    live(&mut bench, seconds(3), all(200));
    asked(&mut bench, "z");
    assert!(!bench.snapshot().sets[0].panicking, "it ends with its cause");
}

#[test]
fn a_panicking_set_may_keep_to_those_that_were_good_last() {
    let mut bench = panics(50, PanicMode::LastKnownGood);
    die(&mut bench, &[FOUR[0], FOUR[1]]);
    asked(&mut bench, "x");
    die(&mut bench, &[FOUR[0], FOUR[1], FOUR[2], FOUR[3]]);
    assert_eq!(asked(&mut bench, "y"), [FOUR[2], FOUR[3]]);
}

#[test]
fn a_panicking_set_may_fail() {
    let mut bench = panics(50, PanicMode::Fail);
    die(&mut bench, &[FOUR[0], FOUR[1], FOUR[2]]);
    assert_eq!(refused(&mut bench, "x"), Some(EMPTY.into()), "though one is fit");
    assert!(bench.snapshot().sets[0].panicking);
}

#[test]
fn a_call_that_began_before_the_panic_fails_over_as_the_mode_says() {
    for (mode, expected) in [(PanicMode::All, 1), (PanicMode::Fail, 0)] {
        let mut bench = Bench::with(|config| {
            quick(config);
            config.sets[0].panic = Panic { threshold: 60, mode };
            config.sets[0].failover.first_response_timeout = seconds(8);
        });
        live(&mut bench, seconds(3), all(200));
        let first = bench.call("1");
        let probes_only = |sent: &crate::harness::Sent| sent.line().starts_with("CANCEL").then(Vec::new);
        live(&mut bench, seconds(5), probes_only);
        refused(&mut bench, "2");
        assert!(bench.snapshot().sets[0].panicking);
        let sent = bench.receive(&first.to.to_string(), first.answer(503, "No", &[]));
        let tried = sent.iter().filter(|one| one.line().starts_with("INVITE")).count();
        assert_eq!(tried, expected, "{mode:?}");
    }
}

#[test]
fn an_order_is_obeyed_in_panic_too() {
    let mut bench = panics(100, PanicMode::All);
    super::orders::order(&mut bench, FOUR[3], tandem::engine::dispatch::Order::Maint);
    die(&mut bench, &[FOUR[0], FOUR[1], FOUR[2]]);
    assert_eq!(asked(&mut bench, "x"), FOUR[..3]);
}

/// Guarded orders to each of these in turn; what each has come to.
fn ordered(bench: &mut Bench, which: &[&str]) -> Vec<String> {
    let guarded = OrderTerms { guarded: true, expected: None };
    which.iter().map(|one| super::orders::ordered_on(bench, one, Order::Drain, &guarded)).collect()
}

#[test]
fn a_guarded_order_leaves_a_panicking_set_enough_of_those_that_get_its_calls() {
    let mut bench = panics(50, PanicMode::All);
    die(&mut bench, &FOUR);
    assert_eq!(asked(&mut bench, "x"), FOUR);
    let refusal = "in vain: sip:10.129.39.88:7012 can't be taken out of set 19: 1 of 4 destinations would get its calls \
                   while it panics, and max_out_percent is 50";
    assert_eq!(ordered(&mut bench, &FOUR[..3]), ["", "", refusal]);
    assert_eq!(asked(&mut bench, "y"), FOUR[2..]);

    // Those that were good last get the calls; the others may go.
    let mut bench = panics(50, PanicMode::LastKnownGood);
    die(&mut bench, &[FOUR[0], FOUR[1]]);
    asked(&mut bench, "x");
    die(&mut bench, &FOUR);
    let told = ordered(&mut bench, &FOUR[..3]);
    assert_eq!((told[0].as_str(), told[1].as_str(), told[2].is_empty()), ("", "", false), "{told:?}");

    // The one that is fit stays, though the others get calls too.
    let mut bench = panics(50, PanicMode::All);
    die(&mut bench, &[FOUR[0], FOUR[1], FOUR[2]]);
    let told = ordered(&mut bench, &FOUR[2..]);
    assert_eq!(told[0], "");
    assert!(told[1].contains("0 of 4 destinations would be fit"), "{told:?}");
}

#[test]
fn what_goes_up_and_down_too_often_stays_out_until_its_penalty_has_worn_off() {
    let mut bench = Bench::with(|config| {
        quick(config);
        config.sets[0].judgement.damping = Some(Damping { half_life: seconds(60), suppress: 3000, reuse: 1500 });
    });
    live(&mut bench, seconds(2), all(200));
    for fall in 1..=4 {
        live(&mut bench, seconds(4), dead(SERVERS[0]));
        assert_eq!(health(&bench, SERVERS[0]), Health::Down, "{fall}");
        assert!(view(&bench, SERVERS[0]).penalty > 700 * fall, "{fall}");
        live(&mut bench, seconds(2), all(200));
        assert_eq!(health(&bench, SERVERS[0]) == Health::Up, fall < 4, "{fall}");
    }
    let Why::Flapping { penalty, left } = view(&bench, SERVERS[0]).why else { panic!("it flaps") };
    assert!(penalty > 3000 && left > seconds(60), "{penalty} {left:?}");
    live(&mut bench, left - Duration::from_millis(50), all(200));
    assert!(!is_fit(&bench, SERVERS[0]));
    live(&mut bench, Duration::from_millis(100), all(200));
    assert_eq!((health(&bench, SERVERS[0]), is_fit(&bench, SERVERS[0])), (Health::Up, true));
    assert_eq!(health(&bench, SERVERS[1]), Health::Up);
}

#[test]
fn a_trial_that_fails_is_no_flap() {
    let mut bench = super::alone(|config| config.sets[0].judgement.damping = Some(Damping::default()));
    super::eject(&mut bench, "x");
    for trial in 0..6 {
        super::sit_out(&mut bench);
        call_answered(&mut bench, &trial.to_string(), 503, &[]);
    }
    assert!(view(&bench, SERVERS[0]).penalty <= 1000);
    assert!(!matches!(view(&bench, SERVERS[0]).why, Why::Flapping { .. }));
}

fn slow() -> Bench {
    let mut bench = Bench::with(|config| {
        quick(config);
        config.sets[0].judgement.slow_start = Some(SlowStart::default());
    });
    live(&mut bench, seconds(2), all(200));
    bench
}

fn share(bench: &mut Bench, name: &str) -> usize {
    (0..110).filter(|call| call_answered(bench, &format!("{name}-{call}"), 200, &[]) == SERVERS[0]).count()
}

#[test]
fn who_comes_back_gets_its_share_little_by_little() {
    let mut bench = slow();
    assert_eq!(view(&bench, SERVERS[0]).share, 100, "a start is no recovery");
    assert_eq!(share(&mut bench, "a"), 55);
    live(&mut bench, seconds(5), dead(SERVERS[0]));
    live(&mut bench, seconds(2), all(200));
    assert_eq!((health(&bench, SERVERS[0]), view(&bench, SERVERS[0]).share), (Health::Up, 10));
    assert_eq!(share(&mut bench, "b"), 10, "a tenth of the other's");
    let mut shares = Vec::new();
    for _ in 0..62 {
        live(&mut bench, seconds(1), all(200));
        shares.push(view(&bench, SERVERS[0]).share);
    }
    assert!(shares.is_sorted(), "{shares:?}");
    assert_eq!((shares[25], shares[61]), (40, 100), "linear over a minute, in steps: {shares:?}");
    assert_eq!(share(&mut bench, "c"), 55);
}

#[test]
fn who_was_only_busy_has_all_of_its_share_at_once() {
    let mut bench = super::alone(|config| config.sets[0].judgement.slow_start = Some(SlowStart::default()));
    super::eject(&mut bench, "x");
    super::sit_out(&mut bench);
    call_answered(&mut bench, "trial", 200, &[]);
    assert_eq!(view(&bench, SERVERS[0]).share, 10);
    bench.pass(seconds(100));
    assert_eq!(view(&bench, SERVERS[0]).share, 100);
    call_answered(&mut bench, "busy", 486, &[]);
    bench.pass(seconds(6));
    assert_eq!((health(&bench, SERVERS[0]), view(&bench, SERVERS[0]).share), (Health::Up, 100));
}

#[test]
fn no_more_are_ejected_than_the_set_allows() {
    let mut bench = Bench::with(|config| {
        config.sets[0].judgement.observe.max_ejection_percent = 50;
        config.sets[0].failover.retry_on = tandem::engine::dispatch::RetryOn::NONE;
    });
    bench.load(set_19(&FOUR));
    for call in 0..100 {
        call_answered(&mut bench, &call.to_string(), 503, &[]);
        let down = FOUR.iter().filter(|one| health(&bench, one) == Health::Down).count();
        assert!(down <= 2, "{call}");
    }
    assert_eq!(FOUR.iter().filter(|one| health(&bench, one) == Health::Down).count(), 2);
}
