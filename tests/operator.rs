//! Sessions as an operator sees them, and how he ends them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use tandem::engine::dispatch::{AtDeadline, Deadline, Order, OrderTerms, SetId, Standing};
use tandem::engine::event::{Ending, NotEnded, NotOurs, Which};
use tandem::engine::flow::ListenerId;
use tandem::engine::snapshot::{SessionState, SessionView};
use tandem::engine::{Event, Input};

use crate::harness::{Bench, CALLER, SERVERS, Sent, from_destination, in_dialog, invite, lines, seconds, set_19};

/// A destination answers its INVITE; what the caller gets.
fn pick_up(bench: &mut Bench, invite: &Sent) -> Sent {
    let contact = format!("Contact: <sip:{}>", invite.to);
    let sent = bench.receive(&invite.to.to_string(), invite.answer(200, "OK", &[&contact]));
    sent.into_iter().next().expect("the answer")
}

/// So many sessions, numbered.
fn talk(bench: &mut Bench, calls: Range<usize>) {
    for call in calls {
        bench.answered_call(&format!("call-{call}"));
    }
}

fn call(id: &str) -> Which {
    Which::Call(id.to_owned())
}

fn all_of(server: &str) -> Which {
    Which::Destination { set: SetId(19), uri: format!("sip:{server}") }
}

/// Every session of set 19.
fn all(bench: &Bench) -> Vec<SessionView> {
    bench.sessions(None, (0, 1000)).expect("it is loaded").sessions
}

/// The ends that got a BYE with that Reason, each however often it was sent.
fn told(sent: &[Sent], reason: &str) -> Vec<String> {
    let mut branches = BTreeSet::new();
    let byes = sent.iter().filter(|one| one.line().starts_with("BYE ") && branches.insert(one.header("Via")));
    byes.map(|bye| {
        assert_eq!(bye.header("Reason"), reason);
        bye.to.to_string()
    })
    .collect()
}

const BY_ORDER: &str = "SIP;cause=480;text=\"Ended by an operator\"";
const BY_DRAIN: &str = "SIP;cause=503;text=\"Destination is drained\"";

#[test]
fn pages_tell_of_each_session_once_and_of_no_more_than_were_asked_for() {
    let mut bench = Bench::new();
    talk(&mut bench, 0..25);
    let mut seen = Vec::new();
    for offset in (0..40).step_by(7) {
        let page = bench.sessions(None, (offset, 7)).expect("it is loaded");
        assert_eq!((page.total, page.sessions.len()), (25, 25_usize.saturating_sub(offset).min(7)));
        seen.extend(page.sessions.into_iter().filter_map(|one| one.call_id));
    }
    let ids: BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), ids.len()), (25, 25));
    for (server, count) in SERVERS.into_iter().zip([13, 12]) {
        let page = bench.sessions(Some(server), (0, 1000)).expect("it is loaded");
        assert_eq!((page.total, page.sessions.len()), (count, count as usize));
        assert!(page.sessions.iter().all(|one| one.destination == format!("sip:{server}")));
        assert_eq!(bench.sessions(Some(server), (10, 2)).expect("it is loaded").sessions, page.sessions[10..12]);
    }
    assert_eq!(bench.sessions(None, (usize::MAX, usize::MAX)).expect("it is loaded").sessions, []);
    assert_eq!(bench.sessions(None, (0, 0)).map(|page| page.total), Some(25));
    assert_eq!(bench.sessions(Some("10.0.0.1:1"), (0, 1)), None);
    talk(&mut bench, 25..1100);
    assert_eq!(bench.sessions(None, (0, usize::MAX)).expect("it is loaded").sessions.len(), 1000);
}

#[test]
fn a_session_is_told_with_its_ends_and_times() {
    let mut bench = Bench::new();
    bench.pass(seconds(10));
    let invite = bench.call("1");
    bench.pass(Duration::from_millis(300));
    let ok = pick_up(&mut bench, &invite);
    bench.pass(seconds(5));
    bench.receive(CALLER, in_dialog("INFO", &ok, 7));
    bench.receive(SERVERS[0], from_destination("INFO", &invite, 3));
    bench.pass(seconds(10));
    let [one] = &all(&bench)[..] else { panic!("one") };
    let at = |millis| SystemTime::UNIX_EPOCH + seconds(1_800_000_000) + Duration::from_millis(millis);
    assert_eq!((one.call_id.as_deref(), one.state), (Some("1"), SessionState::Confirmed));
    assert_eq!((one.address.to_string().as_str(), one.not_ours), (SERVERS[0], None));
    assert_eq!((one.began, one.answered, one.heard), (at(10_000), Some(at(10_300)), at(15_300)));
    assert_eq!((one.caller_cseq, one.destination_cseq), (Some(7), Some(3)));
}

#[test]
fn a_call_that_is_ended_gets_bye_at_both_ends_once() {
    let mut bench = Bench::new();
    talk(&mut bench, 0..3);
    let (sent, ended) = bench.end(call("call-1"));
    assert_eq!((ended, told(&sent, BY_ORDER)), (Ok(1), vec![CALLER.to_owned(), SERVERS[1].to_owned()]));
    let record = bench.events.iter().find_map(|event| match event {
        Event::Session(record) => Some((record.call_id.as_str(), record.ending)),
        _ => None,
    });
    assert_eq!(record, Some(("call-1", Ending::Operator)));
    let (sent, ended) = bench.end(call("call-1"));
    assert_eq!((lines(&sent), ended), (vec![], Err(NotEnded::NoSuchCall("call-1".into()))));
    assert_eq!((bench.snapshot().sessions, bench.snapshot().totals.byes), (2, 2));
}

#[test]
fn what_is_not_ours_is_told_as_such_and_not_ended() {
    let (_, ok) = Bench::new().answered_call("elsewhere");
    let mut bench = Bench::new();
    let parked = bench.call("parked");
    pick_up(&mut bench, &parked);
    bench.handle(Input::Held { listener: ListenerId(0), held: false });
    bench.receive(CALLER, in_dialog("INFO", &ok, 2));
    let pending = bench.call("pending");
    // More than we keep of one.
    let contact = format!("Contact: <sip:{}@{CALLER}>\r\nContent-Length", "x".repeat(2048));
    let sent = bench.receive(CALLER, invite("unknown").replacen("Content-Length", &contact, 1));
    pick_up(&mut bench, &sent[1]);
    let held: Vec<_> = all(&bench).into_iter().map(|one| (one.call_id, one.state, one.not_ours)).collect();
    for (call_id, state, why) in [
        // The other node, which may know it, has the address.
        (None, SessionState::Adopted, NotOurs::Parked),
        (None, SessionState::Pending, NotOurs::Pending),
        (Some("parked".to_owned()), SessionState::Confirmed, NotOurs::Parked),
    ] {
        assert!(held.contains(&(call_id, state, Some(why))), "{why}: {held:?}");
    }
    assert_eq!((held.len(), bench.snapshot().parked), (4, 3));
    for (id, why) in [("elsewhere", NotOurs::Parked), ("pending", NotOurs::Pending), ("parked", NotOurs::Parked)] {
        let (sent, ended) = bench.end(call(id));
        assert_eq!((sent.len(), ended), (0, Err(NotEnded::NotOurs { call_id: id.into(), why })));
    }
    bench.handle(Input::Held { listener: ListenerId(0), held: true });
    let (sent, ended) = bench.end(call("unknown"));
    let why = NotOurs::Unknown;
    assert_eq!((sent.len(), ended), (0, Err(NotEnded::NotOurs { call_id: "unknown".into(), why })));
    // Those that can't be ended stay, and those that can be do not.
    pick_up(&mut bench, &pending);
    for server in SERVERS {
        assert!(bench.end(all_of(server)).1.is_ok());
    }
    bench.pass(seconds(1));
    let left: Vec<_> = all(&bench).into_iter().filter_map(|one| one.not_ours).collect();
    assert_eq!(left, [NotOurs::Unknown, NotOurs::Adopted]);
}

#[test]
fn all_of_a_destination_are_ended_at_the_pace_of_its_set_and_no_other_ones() {
    let mut bench = Bench::with(|config| config.sets[0].session.bye_rate = 50);
    talk(&mut bench, 0..200);
    let (sent, ended) = bench.end(all_of(SERVERS[1]));
    assert_eq!((sent.len(), ended), (0, Ok(100)));
    let sent = bench.pass(seconds(1));
    let one = told(&sent, BY_ORDER).iter().filter(|to| *to == SERVERS[1]).count();
    assert!((49..=51).contains(&one), "{one}");
    bench.pass(seconds(2));
    let left = |server| bench.sessions(Some(server), (0, 0)).map(|page| page.total);
    assert_eq!(SERVERS.map(left), [Some(100), Some(0)]);
    let (_, ended) = bench.end(all_of("10.0.0.1:1"));
    assert!(matches!(ended, Err(NotEnded::NoSuchDestination(_))), "{ended:?}");
}

/// An order to drain within so many seconds from the start.
fn drain(bench: &mut Bench, deadline: u64, then: AtDeadline) {
    let at = |after| SystemTime::UNIX_EPOCH + seconds(1_800_000_000 + after);
    let deadline = Some(Deadline { at: at(deadline), then });
    let standing = Standing { order: Order::Drain, by: "ada".into(), reason: "a test".into(), at: at(0), deadline };
    bench.handle(Input::Order {
        set: SetId(19),
        uri: &format!("sip:{}", SERVERS[0]),
        standing: &standing,
        terms: &OrderTerms::NONE,
    });
}

/// Endings written down so far.
fn endings(bench: &Bench) -> Vec<Ending> {
    let ending = |event: &Event| if let Event::Session(record) = event { Some(record.ending) } else { None };
    bench.events.iter().filter_map(ending).collect()
}

#[test]
fn what_a_drained_one_has_at_its_deadline_is_ended_if_the_order_says_so() {
    for (then, left) in [(AtDeadline::Tell, 20), (AtDeadline::End, 10)] {
        let mut bench = Bench::new();
        bench.load(set_19(&SERVERS));
        talk(&mut bench, 0..20);
        drain(&mut bench, 60, then);
        let early = bench.pass(seconds(59));
        assert_eq!((early.len(), bench.snapshot().sessions), (0, 20));
        let sent = bench.pass(seconds(2));
        assert_eq!((told(&sent, BY_DRAIN).len(), bench.snapshot().sessions), (2 * (20 - left), left), "{then:?}");
        assert_eq!(endings(&bench), vec![Ending::Drained; 20 - left]);
        let late = bench.events.iter().filter_map(|event| match event {
            Event::Draining { late, sessions, .. } => late.map(|then| (then, *sessions)),
            _ => None,
        });
        assert_eq!(late.collect::<Vec<_>>(), [(then, 10)], "it is told once");
        bench.pass(seconds(60));
        assert_eq!(bench.snapshot().sessions, left);
        let is_empty = bench.events.iter().any(|event| matches!(event, Event::Drained { .. }));
        assert_eq!(is_empty, then == AtDeadline::End);
    }
}

#[test]
fn a_call_that_is_being_set_up_at_the_deadline_is_ended_soon_after_it() {
    let mut bench = Bench::with(|config| config.sets[0].failover.first_response_timeout = seconds(60));
    let invite = bench.call("1");
    drain(&mut bench, 20, AtDeadline::End);
    bench.receive(SERVERS[0], invite.answer(180, "Ringing", &[]));
    bench.pass(seconds(22));
    pick_up(&mut bench, &invite);
    assert_eq!(bench.snapshot().sessions, 1);
    let sent = bench.pass(seconds(11));
    assert_eq!((told(&sent, BY_DRAIN).len(), bench.snapshot().sessions), (2, 0));
}

#[test]
fn sessions_that_are_left_go_on_when_the_order_no_longer_ends_them() {
    let later = |bench: &mut Bench| drain(bench, 600, AtDeadline::End);
    let only_told = |bench: &mut Bench| drain(bench, 60, AtDeadline::Tell);
    let ready = |bench: &mut Bench| crate::health::orders::order(bench, SERVERS[0], Order::Ready);
    for change in [later as fn(&mut Bench), only_told, ready] {
        let mut bench = Bench::with(|config| config.sets[0].session.bye_rate = 10);
        talk(&mut bench, 0..200);
        drain(&mut bench, 60, AtDeadline::End);
        bench.pass(seconds(65));
        let left = bench.snapshot().sessions;
        assert!((140..=160).contains(&left), "{left}");
        change(&mut bench);
        bench.pass(seconds(60));
        assert_eq!(bench.snapshot().sessions, left);
    }
}

#[test]
fn an_eviction_under_way_is_not_begun_anew_at_each_look() {
    let mut bench = Bench::with(|config| config.sets[0].session.bye_rate = 10);
    talk(&mut bench, 0..1000);
    drain(&mut bench, 5, AtDeadline::End);
    bench.pass(seconds(5));
    let sent = bench.pass(seconds(50));
    let ended = told(&sent, BY_DRAIN).len() / 2;
    assert!((490..=500).contains(&ended), "{ended}");
}
