//! Choice by load and limits of load, on virtual time: a load is what the dialog table holds, pending calls included.

use std::collections::BTreeMap;
use std::time::Duration;

use tandem::engine::dispatch::{
    Algorithm, Fitness, Panic, PanicMode, Policy, ResourceClass, Row, RowState, Set, SetId, Sets,
};
use tandem::engine::{Config, Event};

use crate::harness::{Bench, CALLER, SERVERS, Sent, from_destination, in_dialog, invite, lines, seconds, set_19};

const BUSY: &str = "SIP/2.0 486 Busy Here";

fn limited(sessions: u32) -> Bench {
    Bench::with(|config| config.sets[0].capacity.max_sessions = Some(sessions))
}

/// A call: where it went, or what the caller was told.
fn call(bench: &mut Bench, id: &str) -> Result<Sent, String> {
    let sent = bench.receive(CALLER, invite(id));
    sent.iter().find(|one| one.line().starts_with("INVITE")).cloned().ok_or_else(|| sent[1].line())
}

/// The article's client's INVITE with a channel for each of these resources.
fn invite_for(id: &str, resources: &[&str]) -> String {
    let channel = |name: &&str| format!("m=application 9 TCP/MRCPv2 1\r\na=setup:active\r\na=resource:{name}\r\n");
    let channels: String = resources.iter().map(channel).collect();
    let sdp = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n{channels}");
    let length = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
    invite(id).replace("Content-Length: 0\r\n\r\n", &length)
}

/// A call for these resources that is being set up: where it went, or what the caller was told.
fn call_for(bench: &mut Bench, id: &str, resources: &[&str]) -> Result<Sent, String> {
    let sent = bench.receive(CALLER, invite_for(id, resources));
    sent.iter().find(|one| one.line().starts_with("INVITE")).cloned().ok_or_else(|| sent[1].line())
}

/// The destination's 200 to it, as the caller gets it.
fn answered(bench: &mut Bench, sent: &Sent) -> Sent {
    let contact = format!("Contact: <sip:{}>", sent.to);
    bench.receive(&sent.to.to_string(), sent.answer(200, "OK", &[&contact]))[0].clone()
}

fn class(name: &str, max_sessions: Option<u32>, attr: Option<&str>) -> ResourceClass {
    let resources = ResourceClass::known(name).expect("a known one");
    ResourceClass { name: name.into(), resources, max_sessions, attr: attr.map(str::to_owned) }
}

/// At most so many sessions of synthesis and of recognition at each destination.
fn classes(tts: u32, asr: u32) -> impl FnOnce(&mut Config) {
    move |config| {
        config.sets[0].capacity.resources = vec![class("tts", Some(tts), None), class("asr", Some(asr), None)];
    }
}

/// Set 19 of the first server alone.
fn one_server(mut bench: Bench) -> Bench {
    bench.load(set_19(&SERVERS[..1]));
    bench
}

/// The sessions of each class at the first destination.
fn of_classes(bench: &Bench) -> Vec<u64> {
    bench.snapshot().sets[0].destinations[0].classes.iter().map(|class| class.sessions).collect()
}

fn hang_up(bench: &mut Bench, ok: &Sent) {
    bench.receive(CALLER, in_dialog("BYE", ok, 2));
}

fn sessions(bench: &Bench) -> BTreeMap<String, u64> {
    let sets = bench.snapshot().sets;
    sets.iter().flat_map(|set| &set.destinations).map(|one| (one.uri.clone(), one.sessions)).collect()
}

#[test]
fn at_its_limit_a_destination_is_not_chosen_and_when_all_are_the_caller_is_told_busy() {
    let mut bench = limited(2);
    let calls: Vec<_> = (0..4).map(|number| bench.answered_call(&number.to_string())).collect();
    assert!(sessions(&bench).values().all(|&sessions| sessions == 2));
    let view = &bench.snapshot().sets[0];
    assert!(view.destinations.iter().all(|one| one.fitness == Fitness::Full));
    assert_eq!(call(&mut bench, "4").expect_err("no room"), BUSY);
    assert_eq!(bench.snapshot().sets[0].full, 1);
    hang_up(&mut bench, &calls[1].1);
    let next = call(&mut bench, "5").expect("room again");
    assert_eq!(next.to, calls[1].0.to, "where there is room");
}

#[test]
fn a_call_that_is_being_set_up_counts_and_one_that_fails_gives_its_place_back() {
    let mut bench = limited(1);
    let first = call(&mut bench, "1").expect("room");
    call(&mut bench, "2").expect("room");
    assert_eq!(call(&mut bench, "3").expect_err("no room"), BUSY);
    bench.receive(&first.to.to_string(), first.answer(404, "Not Found", &[]));
    assert_eq!(call(&mut bench, "4").expect("its place is free").to, first.to);
}

#[test]
fn no_failover_goes_over_the_limit() {
    let mut bench = limited(1);
    // Both have room when it is planned, and the other one has none when it fails.
    let first = call(&mut bench, "1").expect("room");
    let (held, _) = bench.answered_call("2");
    assert_ne!(first.to, held.to);
    let sent = bench.receive(&first.to.to_string(), first.answer(500, "Oops", &[]));
    assert!(sent.iter().all(|one| !one.line().starts_with("INVITE")), "the other one is full: {:?}", lines(&sent));
}

#[test]
fn discovery_takes_no_room_and_is_not_refused_for_want_of_it() {
    let mut bench = limited(0);
    assert_eq!(call(&mut bench, "1").expect_err("no room at all"), BUSY);
    let options = invite("2").replace("INVITE", "OPTIONS");
    let sent = bench.receive(CALLER, options);
    assert!(sent[0].line().starts_with("OPTIONS"), "{:?}", lines(&sent));
}

#[test]
fn discovery_that_fails_goes_on_to_one_without_room() {
    let mut bench = limited(0);
    let sent = bench.receive(CALLER, invite("1").replace("INVITE", "OPTIONS"));
    let next = bench.receive(&sent[0].to.to_string(), sent[0].answer(503, "Oops", &[]));
    assert!(next[0].line().starts_with("OPTIONS") && next[0].to != sent[0].to, "{:?}", lines(&next));
}

#[test]
fn calls_beyond_a_set_go_to_the_next_and_a_ring_of_sets_ends() {
    let mut bench = Bench::with(|config| {
        config.sets[0].capacity.max_sessions = Some(0);
        config.sets[0].capacity.overflow = Some(SetId(20));
        let mut next = Policy::of(SetId(20));
        next.capacity.overflow = Some(SetId(19));
        next.capacity.max_sessions = Some(1);
        config.sets.push(next);
    });
    let Sets(mut sets) = set_19(&SERVERS);
    let third = Row {
        uri: "sip:10.129.39.88:7012".into(),
        address: "10.129.39.88:7012".parse().expect("an address"),
        ..sets[0].rows[0].clone()
    };
    sets.push(Set { id: SetId(20), rows: vec![third] });
    bench.load(Sets(sets));
    assert_eq!(call(&mut bench, "1").expect("the second set").to.port(), 7012);
    assert_eq!(call(&mut bench, "2").expect_err("both are full"), BUSY);
}

#[test]
fn a_set_may_have_a_limit_of_its_own() {
    let mut bench = Bench::with(|config| config.sets[0].capacity.set_max_sessions = Some(3));
    for number in 0..3 {
        bench.answered_call(&number.to_string());
    }
    assert_eq!(call(&mut bench, "3").expect_err("no room"), BUSY);
}

#[test]
fn the_attrs_that_operators_already_have_are_read() {
    let mut bench = Bench::with(|config| config.sets[0].capacity.attr = Some("pstn".into()));
    let Sets(mut sets) = set_19(&SERVERS);
    for (row, attrs) in sets[0].rows.iter_mut().zip(["pstn=1", "pstn=3"]) {
        row.attrs = attrs.into();
    }
    bench.load(Sets(sets));
    let reached: Vec<_> =
        (0..5).map(|number| call(&mut bench, &number.to_string()).map(|sent| sent.to.port())).collect();
    assert_eq!(reached.iter().filter(|one| **one == Ok(7010)).count(), 1);
    assert_eq!(reached.iter().filter(|one| **one == Ok(7011)).count(), 3);
    assert_eq!(reached[4], Err(BUSY.to_owned()));
}

#[test]
fn calls_a_second_are_held_to_their_limit_and_come_back_with_time() {
    let mut bench = Bench::with(|config| config.sets[0].capacity.max_cps = Some(5));
    let given = |bench: &mut Bench, name: &str| {
        (0..20).filter(|number| call(bench, &format!("{name}-{number}")).is_ok()).count()
    };
    assert_eq!(given(&mut bench, "a"), 10, "a second's worth at each");
    bench.pass(Duration::from_millis(200));
    assert_eq!(given(&mut bench, "b"), 2);
}

#[test]
fn the_least_loaded_gets_the_next_call_whatever_the_turn() {
    let mut bench = Bench::with(|config| config.sets[0].algorithm = Algorithm::LeastLoad);
    let calls: Vec<_> = (0..6).map(|number| bench.answered_call(&number.to_string())).collect();
    assert!(sessions(&bench).values().all(|&sessions| sessions == 3), "{:?}", sessions(&bench));
    // All of one server's calls end: the next three are its own.
    let freed = calls[0].0.to;
    for (_, ok) in calls.iter().filter(|(sent, _)| sent.to == freed) {
        hang_up(&mut bench, ok);
    }
    for number in 6..9 {
        assert_eq!(bench.answered_call(&number.to_string()).0.to, freed);
    }
}

#[test]
fn relative_load_fills_servers_of_different_size_alike() {
    let mut bench = Bench::with(|config| {
        config.sets[0].algorithm = Algorithm::LeastLoadRelative;
        config.sets[0].capacity.attr = Some("pstn".into());
    });
    let Sets(mut sets) = set_19(&SERVERS);
    for (row, attrs) in sets[0].rows.iter_mut().zip(["pstn=10", "pstn=30"]) {
        row.attrs = attrs.into();
    }
    bench.load(Sets(sets));
    (0..20).for_each(|number| drop(bench.answered_call(&number.to_string())));
    assert_eq!(sessions(&bench).into_values().collect::<Vec<_>>(), [5, 15]);
}

#[test]
fn one_that_answers_slowly_gets_fewer_calls() {
    let mut bench = Bench::with(|config| config.sets[0].algorithm = Algorithm::PeakEwma);
    let mut reached = BTreeMap::new();
    for number in 0..60 {
        let sent = call(&mut bench, &number.to_string()).expect("somebody");
        *reached.entry(sent.to.port()).or_insert(0) += 1;
        bench.pass(if sent.to.port() == 7010 { seconds(1) } else { Duration::from_millis(10) });
        let contact = format!("Contact: <sip:{}>", sent.to);
        let ok = bench.receive(&sent.to.to_string(), sent.answer(200, "OK", &[&contact]));
        hang_up(&mut bench, &ok[0]);
    }
    assert!(reached[&7011] > 4 * reached.get(&7010).copied().unwrap_or(0), "{reached:?}");
    assert!(reached.contains_key(&7010), "and is tried again all the same");
}

#[test]
fn at_a_class_s_limit_calls_for_it_go_elsewhere_and_others_still_come() {
    let mut bench = Bench::with(classes(1, 1));
    let first = call_for(&mut bench, "1", &["speechsynth"]).expect("room");
    let second = call_for(&mut bench, "2", &["basicsynth"]).expect("room");
    assert_ne!(first.to, second.to);
    assert_eq!(call_for(&mut bench, "3", &["speechsynth"]).expect_err("no room for synthesis"), BUSY);
    assert_eq!(bench.snapshot().sets[0].full, 1);
    assert!(bench.snapshot().sets[0].destinations.iter().all(|one| one.fitness == Fitness::Fit), "for other calls");
    let recognisers: Vec<_> =
        ["4", "5"].iter().map(|id| call_for(&mut bench, id, &["dtmfrecog"]).expect("room").to).collect();
    assert_ne!(recognisers[0], recognisers[1]);
    assert_eq!(call_for(&mut bench, "6", &["speechrecog"]).expect_err("no room for recognition"), BUSY);
    assert!(call_for(&mut bench, "7", &["speakverify"]).is_ok(), "no class, no limit");
    assert!(call(&mut bench, "8").is_ok(), "without SDP it counts for none");
}

#[test]
fn a_session_counts_for_its_class_until_its_bye_and_one_that_fails_gives_its_place_back() {
    let mut bench = one_server(Bench::with(classes(1, 5)));
    let sent = call_for(&mut bench, "1", &["speechsynth"]).expect("room");
    assert_eq!(of_classes(&bench), [1, 0], "from the start");
    let ok = answered(&mut bench, &sent);
    assert_eq!(call_for(&mut bench, "2", &["speechsynth"]).expect_err("no room"), BUSY);
    hang_up(&mut bench, &ok);
    assert_eq!(of_classes(&bench), [0, 0]);
    let sent = call_for(&mut bench, "3", &["speechsynth"]).expect("room again");
    bench.receive(&sent.to.to_string(), sent.answer(404, "Not Found", &[]));
    assert_eq!(of_classes(&bench), [0, 0]);
    let sent = call_for(&mut bench, "4", &["speechsynth"]).expect("room again");
    answered(&mut bench, &sent);
    bench.receive(&sent.to.to_string(), from_destination("BYE", &sent, 1));
    assert_eq!(of_classes(&bench), [0, 0]);
}

#[test]
fn a_session_of_two_resources_counts_for_both_classes_once_each() {
    let mut bench = one_server(Bench::with(classes(2, 1)));
    let both = ["speechsynth", "basicsynth", "speechrecog"];
    call_for(&mut bench, "1", &both).expect("room");
    assert_eq!(of_classes(&bench), [1, 1]);
    assert_eq!(call_for(&mut bench, "2", &both).expect_err("no room for its recognition"), BUSY);
    assert!(call_for(&mut bench, "3", &["speechsynth"]).is_ok());
    assert_eq!(of_classes(&bench), [2, 1]);
}

#[test]
fn no_failover_goes_over_a_class_s_limit_and_none_is_kept_from_where_there_is_room() {
    for (asked, tried) in [("speechsynth", false), ("speechrecog", true)] {
        let mut bench = Bench::with(classes(1, 5));
        let first = call_for(&mut bench, "1", &[asked]).expect("room");
        let held = call_for(&mut bench, "2", &["speechsynth"]).expect("room");
        assert_ne!(first.to, held.to);
        let sent = bench.receive(&first.to.to_string(), first.answer(500, "Oops", &[]));
        assert_eq!(sent.iter().any(|one| one.line().starts_with("INVITE")), tried, "{asked}: {:?}", lines(&sent));
        let all: Vec<_> = bench.snapshot().sets[0].destinations.iter().map(|one| one.sessions).collect();
        assert_eq!(all.iter().sum::<u64>(), if tried { 2 } else { 1 }, "{asked}: {all:?}");
    }
}

#[test]
fn calls_beyond_a_class_s_limit_overflow_to_another_set() {
    let mut bench = Bench::with(|config| {
        classes(0, 5)(config);
        config.sets[0].capacity.overflow = Some(SetId(20));
        let mut next = Policy::of(SetId(20));
        next.capacity.resources = vec![class("tts", Some(1), None)];
        config.sets.push(next);
    });
    let Sets(mut sets) = set_19(&SERVERS);
    let third = Row {
        uri: "sip:10.129.39.88:7012".into(),
        address: "10.129.39.88:7012".parse().expect("an address"),
        ..sets[0].rows[0].clone()
    };
    sets.push(Set { id: SetId(20), rows: vec![third] });
    bench.load(Sets(sets));
    assert_ne!(call_for(&mut bench, "1", &["speechrecog"]).expect("room").to.port(), 7012);
    assert_eq!(call_for(&mut bench, "2", &["speechsynth"]).expect("the second set").to.port(), 7012);
    assert_eq!(call_for(&mut bench, "3", &["speechsynth"]).expect_err("both are full"), BUSY);
}

#[test]
fn the_attrs_of_classes_are_read_where_the_set_names_them_and_a_reload_changes_them() {
    let load = |bench: &mut Bench, attrs: &str| {
        let Sets(mut sets) = set_19(&SERVERS[..1]);
        sets[0].rows[0].attrs = attrs.into();
        bench.load(Sets(sets));
    };
    let limits = |bench: &Bench| -> Vec<_> {
        bench.snapshot().sets[0].destinations[0].classes.iter().map(|class| class.limit).collect()
    };
    let mut bench = Bench::with(|config| {
        config.sets[0].capacity.resources = vec![class("tts", None, Some("tts")), class("asr", Some(7), Some("asr"))];
    });
    load(&mut bench, "tts=1");
    assert_eq!(limits(&bench), [Some(1), Some(7)]);
    call_for(&mut bench, "1", &["speechsynth"]).expect("room");
    assert_eq!(call_for(&mut bench, "2", &["speechsynth"]).expect_err("no room"), BUSY);
    load(&mut bench, "tts=2;asr=0");
    assert_eq!(limits(&bench), [Some(2), Some(0)]);
    assert!(call_for(&mut bench, "3", &["speechsynth"]).is_ok());
    assert_eq!(call_for(&mut bench, "4", &["speechrecog"]).expect_err("it takes none"), BUSY);
    let mut unnamed = Bench::new();
    load(&mut unnamed, "tts=0;asr=0");
    assert!(call_for(&mut unnamed, "1", &["speechsynth"]).is_ok(), "nobody asked for these limits");
}

#[test]
fn relative_load_is_that_of_the_class_which_a_call_asks_for() {
    let mut bench = Bench::with(|config| {
        config.sets[0].algorithm = Algorithm::LeastLoadRelative;
        config.sets[0].capacity.resources = vec![class("tts", None, Some("tts")), class("asr", None, Some("asr"))];
    });
    let Sets(mut sets) = set_19(&SERVERS);
    for (row, attrs) in sets[0].rows.iter_mut().zip(["tts=30;asr=10", "tts=10;asr=10"]) {
        row.attrs = attrs.into();
    }
    bench.load(Sets(sets));
    for number in 0..20 {
        call_for(&mut bench, &format!("s{number}"), &["speechsynth"]).expect("room");
        call_for(&mut bench, &format!("r{number}"), &["speechrecog"]).expect("room");
    }
    let view = &bench.snapshot().sets[0];
    let of = |nth: usize| view.destinations.iter().map(|one| one.classes[nth].sessions).collect::<Vec<_>>();
    assert_eq!((of(0), of(1)), (vec![15, 5], vec![10, 10]));
}

#[test]
fn an_adopted_session_counts_for_what_its_invite_asked_for() {
    let node = |name: &str| {
        let name = name.to_owned();
        one_server(Bench::with(|config| {
            config.node = name;
            classes(1, 1)(config);
        }))
    };
    let mut first = node("a");
    let sent = call_for(&mut first, "1", &["speechrecog"]).expect("room");
    let ok = answered(&mut first, &sent);
    for leg in ["caller", "destination"] {
        let mut other = node("b");
        let bytes = match leg {
            "caller" => in_dialog("UPDATE", &ok, 2),
            _ => from_destination("UPDATE", &sent, 2),
        };
        other.receive(if leg == "caller" { CALLER } else { SERVERS[0] }, bytes);
        assert_eq!(of_classes(&other), [0, 1], "{leg}");
        assert_eq!(call_for(&mut other, "2", &["speechrecog"]).expect_err("no room"), BUSY);
        assert!(call_for(&mut other, "3", &["speechsynth"]).is_ok());
        hang_up(&mut other, &ok);
        assert_eq!(of_classes(&other), [1, 0], "{leg}");
    }
}

#[test]
fn of_a_body_no_more_is_told_than_its_media_lines() {
    let mut bench = Bench::with(classes(1, 1));
    call_for(&mut bench, "1", &["speechsynth"]).expect("room");
    let media = bench.events.iter().find_map(|event| match event {
        Event::Call(call) => Some(call.media.clone()),
        _ => None,
    });
    assert_eq!(media, Some(vec!["m=application 9 TCP/MRCPv2 1".to_owned()]));
}

#[test]
fn discovery_fails_over_to_one_that_is_full() {
    let mut bench = limited(0);
    let sent = bench.receive(CALLER, invite("1").replace("INVITE", "OPTIONS"));
    let (first, at) = (sent[0].clone(), sent[0].to);
    let sent = bench.receive(&at.to_string(), first.answer(503, "Service Unavailable", &[]));
    assert!(sent.iter().any(|one| one.line().starts_with("OPTIONS") && one.to != at), "{:?}", lines(&sent));
}

#[test]
fn no_failover_of_a_panicking_set_goes_over_a_limit() {
    for (limit, tried) in [(Some(1), false), (None, true)] {
        let mut bench = Bench::with(|config| {
            config.sets[0].capacity.max_sessions = limit;
            config.sets[0].panic = Panic { threshold: 100, mode: PanicMode::All };
        });
        let Sets(mut sets) = set_19(&SERVERS);
        sets[0].rows[1].state = RowState::Probing;
        bench.load(Sets(sets));
        // One is down, so both get calls; the one that is down has one more when the first call fails.
        let first = call(&mut bench, "1").expect("room");
        let held = call(&mut bench, "2").expect("panic");
        assert_eq!((first.to.to_string(), held.to.to_string()), (SERVERS[0].into(), SERVERS[1].into()));
        let sent = bench.receive(&first.to.to_string(), first.answer(500, "Oops", &[]));
        assert_eq!(sent.iter().any(|one| one.line().starts_with("INVITE")), tried, "{:?}", lines(&sent));
    }
}
