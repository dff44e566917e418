//! Orders by hand: another thing than health.

use tandem::engine::dispatch::{
    Distrust, DistrustOrder, Fitness, Health, NotDistrusted, Order, OrderTerms, Remembered, RowState, SetId,
};
use tandem::engine::{Event, Input};

use super::{EMPTY, eject, health, is_fit, live, mute, probed, probes, refused, sit_out, standing, to, view};
use crate::harness::{Bench, CALLER, SERVERS, from_destination, in_dialog, lines, seconds, set_19};

/// Gives an order to a destination of set 19.
pub(crate) fn order(bench: &mut Bench, address: &str, order: Order) {
    bench.handle(Input::Order {
        set: SetId(19),
        uri: &format!("sip:{address}"),
        standing: &standing(order),
        terms: &OrderTerms::NONE,
    });
}

/// `ordered OLD NEW SESSIONS` and `drained ADDRESS`, as they were told.
fn told(bench: &Bench) -> Vec<String> {
    let tell = |event: &Event| match event {
        Event::Ordered { old, standing, sessions, .. } => {
            Some(format!("ordered {} {} {sessions} by {}", old.name(), standing.order.name(), standing.by))
        }
        Event::Drained { address, .. } => Some(format!("drained {address}")),
        Event::OrderedInVain(why) => Some(format!("in vain: {why}")),
        _ => None,
    };
    bench.events.iter().filter_map(tell).collect()
}

#[test]
fn a_drained_one_keeps_its_sessions_takes_no_new_one_and_says_when_it_is_empty() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    assert_eq!(invite.to.to_string(), SERVERS[0]);
    order(&mut bench, SERVERS[0], Order::Drain);
    bench.pass(seconds(1));
    assert_eq!(told(&bench), ["ordered ready drain 1 by ada"]);
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Ordered(Order::Drain));
    for call in 0..10 {
        assert_eq!(bench.call(&format!("new-{call}")).to.to_string(), SERVERS[1]);
    }
    bench.pass(seconds(100));
    // Both sides still speak in the session.
    for (cseq, method) in [(2, "INFO"), (3, "INVITE")] {
        let sent = bench.receive(CALLER, in_dialog(method, &ok, cseq));
        assert!(!to(&sent, SERVERS[0]).is_empty(), "{method}");
    }
    assert!(!to(&bench.receive(SERVERS[0], from_destination("INFO", &invite, 1)), CALLER).is_empty());
    assert_eq!(told(&bench).len(), 1);
    let bye = bench.receive(CALLER, in_dialog("BYE", &ok, 4));
    bench.receive(SERVERS[0], bye[0].answer(200, "OK", &[]));
    assert_eq!(view(&bench, SERVERS[0]).sessions, 0);
    bench.pass(seconds(1));
    assert_eq!(told(&bench)[1..], [format!("drained {}", SERVERS[0])]);
    bench.pass(seconds(100));
    assert_eq!(told(&bench).len(), 2, "once");
}

/// `ADDRESS SESSIONS` of each that was told to drain and is not empty, `ADDRESS empty` of each that is, since the last time.
fn progress(bench: &mut Bench) -> Vec<String> {
    let tell = |event: Event| match event {
        Event::Draining { address, sessions, .. } => Some(format!("{address} {sessions}")),
        Event::Drained { address, .. } => Some(format!("{address} empty")),
        _ => None,
    };
    std::mem::take(&mut bench.events).into_iter().filter_map(tell).collect()
}

/// Puts set 19 in place with its first row in this state.
fn load(bench: &mut Bench, state: RowState) {
    let mut sets = set_19(&SERVERS);
    sets.0[0].rows[0].state = state;
    bench.load(sets);
}

#[test]
fn a_row_that_is_switched_off_tells_how_it_drains_as_an_order_by_hand_does() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    assert_eq!(invite.to.to_string(), SERVERS[0]);
    load(&mut bench, RowState::Inactive);
    bench.pass(seconds(11));
    assert_eq!(progress(&mut bench), [format!("{} 1", SERVERS[0]), format!("{} 1", SERVERS[0])]);
    let bye = bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    bench.receive(SERVERS[0], bye[0].answer(200, "OK", &[]));
    bench.pass(seconds(2));
    assert_eq!(progress(&mut bench), [format!("{} empty", SERVERS[0])]);
}

#[test]
fn one_whose_row_puts_it_in_service_again_drains_no_longer() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    order(&mut bench, SERVERS[0], Order::Drain);
    bench.pass(seconds(1));
    assert_eq!(progress(&mut bench), [format!("{} 1", SERVERS[0])]);
    load(&mut bench, RowState::Probing);
    assert_eq!(view(&bench, SERVERS[0]).standing.order, Order::Ready);
    bench.pass(seconds(60));
    let bye = bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    bench.receive(SERVERS[0], bye[0].answer(200, "OK", &[]));
    bench.pass(seconds(60));
    assert_eq!(progress(&mut bench), [""; 0]);
}

#[test]
fn an_order_that_is_remembered_or_comes_with_a_name_tells_how_it_drains_too() {
    let mut bench = Bench::new();
    bench.handle(Input::Remembered(&[Remembered {
        set: SetId(19),
        uri: format!("sip:{}", SERVERS[0]),
        address: SERVERS[0].parse().expect("an address"),
        standing: Some(standing(Order::Drain)),
        kept: None,
    }]));
    bench.pass(seconds(1));
    assert_eq!(progress(&mut bench), [format!("{} empty", SERVERS[0])]);
    // The name that it is gets one more address.
    let mut sets = set_19(&SERVERS);
    sets.0[0].rows[1].uri = sets.0[0].rows[0].uri.clone();
    bench.load(sets);
    bench.pass(seconds(1));
    assert_eq!(progress(&mut bench), [format!("{} empty", SERVERS[1])]);
}

#[test]
fn one_without_sessions_is_drained_at_once() {
    let mut bench = Bench::new();
    order(&mut bench, SERVERS[0], Order::Drain);
    bench.pass(super::STEP);
    assert_eq!(told(&bench), ["ordered ready drain 0 by ada".to_owned(), format!("drained {}", SERVERS[0])]);
}

#[test]
fn the_same_order_again_changes_nothing() {
    let mut bench = Bench::new();
    bench.answered_call("1");
    for _ in 0..3 {
        order(&mut bench, SERVERS[0], Order::Drain);
        bench.pass(seconds(2));
    }
    assert_eq!(told(&bench), ["ordered ready drain 1 by ada"]);
    for _ in 0..2 {
        order(&mut bench, SERVERS[0], Order::Ready);
    }
    assert_eq!(told(&bench)[1..], ["ordered drain ready 1 by ada"]);
    bench.pass(seconds(100));
    assert_eq!(told(&bench).len(), 2, "who serves again is not drained");
    assert!(is_fit(&bench, SERVERS[0]));
}

#[test]
fn one_in_maintenance_is_neither_called_nor_probed_and_one_that_drains_is_probed() {
    let mut bench = probed(|check| check.interval = seconds(1));
    order(&mut bench, SERVERS[0], Order::Maint);
    order(&mut bench, SERVERS[1], Order::Drain);
    let sent = probes(&live(&mut bench, seconds(10), super::all(200)));
    assert_eq!(to(&sent, SERVERS[0]).len(), 0);
    assert!(to(&sent, SERVERS[1]).len() >= 9);
    assert_eq!(refused(&mut bench, "1"), Some(EMPTY.into()));
    order(&mut bench, SERVERS[0], Order::Ready);
    let sent = probes(&live(&mut bench, seconds(10), super::all(200)));
    assert!(to(&sent, SERVERS[0]).len() >= 9);
    assert_eq!(bench.call("2").to.to_string(), SERVERS[0]);
}

#[test]
fn an_order_says_nothing_of_health_and_health_nothing_of_the_order() {
    let mut bench = super::alone(|_| ());
    eject(&mut bench, "x");
    order(&mut bench, SERVERS[0], Order::Drain);
    let seen = view(&bench, SERVERS[0]);
    assert_eq!((seen.health, seen.fitness), (Health::Down, Fitness::Ordered(Order::Drain)));
    assert_eq!((seen.standing.by.as_str(), seen.standing.reason.as_str()), ("ada", "a test"));
    order(&mut bench, SERVERS[0], Order::Ready);
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Unwell(Health::Down), "an order heals nobody");
    order(&mut bench, SERVERS[0], Order::Maint);
    sit_out(&mut bench);
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Ordered(Order::Maint));
    let mut bench = probed(|check| check.interval = seconds(1));
    order(&mut bench, SERVERS[0], Order::Drain);
    live(&mut bench, seconds(10), mute);
    assert_eq!(health(&bench, SERVERS[0]), Health::Down, "it is looked after while it drains");
}

#[test]
fn an_order_for_nobody_is_told_and_changes_nothing() {
    let mut bench = Bench::new();
    for (set, uri) in [(19, "sip:10.0.0.1"), (20, "sip:10.129.39.88:7010"), (19, "SIP:10.129.39.88:7010"), (19, "")] {
        bench.handle(Input::Order {
            set: SetId(set),
            uri,
            standing: &standing(Order::Maint),
            terms: &OrderTerms::NONE,
        });
    }
    assert_eq!((told(&bench).len(), told(&bench)[0].as_str()), (4, "in vain: set 19 has no destination sip:10.0.0.1"));
    assert!(SERVERS.iter().all(|one| is_fit(&bench, one)));
}

/// What an order on these terms has come to; empty if it is obeyed.
pub(crate) fn ordered_on(bench: &mut Bench, address: &str, order: Order, terms: &OrderTerms) -> String {
    bench.events.clear();
    let (set, uri, standing) = (SetId(19), format!("sip:{address}"), standing(order));
    bench.handle(Input::Order { set, uri: &uri, standing: &standing, terms });
    told(bench).into_iter().find(|told| told.starts_with("in vain")).unwrap_or_default()
}

#[test]
fn a_guarded_order_leaves_enough_of_the_set_fit() {
    let guarded = OrderTerms { guarded: true, expected: None };
    let servers = ["10.0.0.1:7010", "10.0.0.2:7010", "10.0.0.3:7010", "10.0.0.4:7010"];
    let mut bench = Bench::new();
    bench.load(set_19(&servers));
    assert_eq!(ordered_on(&mut bench, servers[0], Order::Drain, &guarded), "");
    // What is down counts as much as what was ordered.
    let (uri, by, reason) = (format!("sip:{}", servers[1]), "ada".to_owned(), "x".to_owned());
    let down = DistrustOrder { set: SetId(19), uri, distrust: Distrust::Down, by, reason, guarded: true };
    bench.handle(Input::Distrust(&down));
    // One more would leave too few.
    bench.handle(Input::Distrust(&DistrustOrder { uri: format!("sip:{}", servers[2]), ..down }));
    let refused = |event: &Event| matches!(event, Event::Distrusted { done: Err(NotDistrusted::TooFew(_)), .. });
    assert_eq!((bench.events.iter().filter(|event| refused(event)).count(), is_fit(&bench, servers[2])), (1, true));
    let refusal = "in vain: sip:10.0.0.3:7010 can't be taken out of set 19: 1 of 4 destinations would be fit, and \
                   max_out_percent is 50";
    assert_eq!(ordered_on(&mut bench, servers[2], Order::Maint, &guarded), refusal);
    assert!(is_fit(&bench, servers[2]));
    // Whoever takes nothing away may: what is down already, and what is drained already.
    assert_eq!(ordered_on(&mut bench, servers[1], Order::Maint, &guarded), "");
    assert_eq!(ordered_on(&mut bench, servers[0], Order::Maint, &guarded), "");
    assert_eq!(ordered_on(&mut bench, servers[2], Order::Maint, &OrderTerms::NONE), "");
    let last = ordered_on(&mut bench, servers[3], Order::Drain, &guarded);
    assert!(last.contains("0 of 4 destinations would be fit, and calls would get its empty_reply"), "{last}");
    assert_eq!(ordered_on(&mut bench, servers[0], Order::Ready, &guarded), "");
}

#[test]
fn an_order_that_expects_another_than_stands_changes_nothing() {
    let mut bench = Bench::new();
    let seen = view(&bench, SERVERS[0]).standing.version();
    let on = |expected: &str| OrderTerms { guarded: false, expected: Some(expected.to_owned()) };
    assert_eq!(ordered_on(&mut bench, SERVERS[0], Order::Drain, &on(&seen)), "");
    let stands = view(&bench, SERVERS[0]).standing;
    assert_eq!((stands.order, stands.version() == seen), (Order::Drain, false));
    let refusal = format!(
        "in vain: sip:{} has been changed meanwhile: drain by ada stands, version {}",
        SERVERS[0],
        stands.version()
    );
    assert_eq!(ordered_on(&mut bench, SERVERS[0], Order::Maint, &on(&seen)), refusal);
    assert_eq!(view(&bench, SERVERS[0]).standing, stands);
    assert_eq!(ordered_on(&mut bench, SERVERS[0], Order::Maint, &on(&stands.version())), "");
}

/// Puts set 19 in place: one name with these addresses.
fn load_name(bench: &mut Bench, addresses: &[&str]) {
    let mut sets = set_19(addresses);
    sets.0[0].rows.iter_mut().for_each(|row| row.uri = "sip:tts".to_owned());
    bench.load(sets);
}

#[test]
fn a_name_that_has_another_address_since_can_be_ordered_by_who_has_seen_it_before() {
    let mut bench = Bench::new();
    load_name(&mut bench, &SERVERS[..1]);
    let version = |bench: &Bench, nth: usize| bench.snapshot().sets[0].destinations[nth].standing.version();
    let seen = version(&bench, 0);
    bench.pass(seconds(60));
    load_name(&mut bench, &SERVERS);
    let mut ordered = |order, expected: &str| {
        bench.events.clear();
        let terms = OrderTerms { guarded: false, expected: Some(expected.to_owned()) };
        bench.handle(Input::Order { set: SetId(19), uri: "sip:tts", standing: &standing(order), terms: &terms });
        (told(&bench), [0, 1].map(|nth| version(&bench, nth)))
    };
    let (told, [one, other]) = ordered(Order::Drain, &seen);
    assert_eq!((told.len(), one == other), (2, true), "both addresses: {told:?}");
    assert_eq!(ordered(Order::Maint, &seen).0.len(), 1, "in vain");
    assert_eq!(ordered(Order::Ready, &one).0.len(), 2);
}

#[test]
fn an_order_outlives_a_reload_until_the_rows_state_says_another() {
    let mut bench = Bench::new();
    order(&mut bench, SERVERS[0], Order::Drain);
    bench.load(set_19(&SERVERS));
    let mut sets = set_19(&SERVERS);
    sets.0[0].rows[0].weight = 9;
    bench.load(sets.clone());
    assert_eq!(view(&bench, SERVERS[0]).standing, standing(Order::Drain));
    sets.0[0].rows[0].state = RowState::Inactive;
    bench.load(sets);
    assert_eq!(view(&bench, SERVERS[0]).standing.order, Order::Maint);
    assert_eq!(view(&bench, SERVERS[0]).standing.by, "table");
}

#[test]
fn a_call_under_way_does_not_fail_over_to_one_that_drains_since() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    order(&mut bench, SERVERS[1], Order::Drain);
    let sent = bench.receive(SERVERS[0], first.answer(503, "No", &[]));
    assert_eq!(lines(&sent)[1], EMPTY);
}
