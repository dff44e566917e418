//! Requests of our own within sessions: to whom they go, what silence means, and how many go at once.

use std::time::Duration;

use tandem::engine::Input;
use tandem::engine::dispatch::{Ping, PingLegs, SetId};
use tandem::engine::event::{NotEnded, NotOurs, Which};
use tandem::engine::flow::{Fault, Flow, ListenerId, Transport};

use crate::harness::{Bench, CALLER, INSIDE, SERVERS, Sent, from_destination, in_dialog, invite, seconds};

fn pinging(fall: u32, legs: PingLegs) -> Bench {
    let ping = Ping { fall, legs, interval: seconds(30), timeout: seconds(5), ..Ping::default() };
    Bench::with(|config| config.sets[0].session.ping = Some(ping))
}

/// What begins with that method.
fn of(sent: &[Sent], method: &str) -> Vec<Sent> {
    sent.iter().filter(|one| one.line().starts_with(method)).cloned().collect()
}

/// A call whose INVITE has these lines more, answered with that Contact; the INVITE and its 200.
fn call(bench: &mut Bench, line: &str, contact: &str) -> (Sent, Sent) {
    let text = invite("1").replace("Content-Length", &format!("{line}\r\nContent-Length"));
    let invite = of(&bench.receive(CALLER, text), "INVITE").remove(0);
    let contact = format!("Contact: <{contact}>");
    let ok = bench.receive(&invite.to.to_string(), invite.answer(200, "OK", &[&contact])).remove(0);
    (invite, ok)
}

fn end(bench: &mut Bench) -> (Vec<Sent>, Result<u64, NotEnded>) {
    bench.end(Which::Call("1".to_owned()))
}

fn places(sent: &[Sent]) -> Vec<(String, u16)> {
    of(sent, "BYE").iter().map(|bye| (bye.to.to_string(), bye.by)).collect()
}

fn unknown() -> Result<u64, NotEnded> {
    Err(NotEnded::NotOurs { call_id: "1".to_owned(), why: NotOurs::Unknown })
}

const SERVER: &str = "sip:10.129.39.88:7010";
const TO_CALLER: &str = "Contact: <sip:127.0.0.1:5072>";

#[test]
fn pings_on_their_way_are_forgotten_with_the_address_that_they_came_from() {
    let mut bench = pinging(1, PingLegs::Both);
    bench.talking_call("1");
    assert_eq!(of(&bench.pass(seconds(30)), "OPTIONS").len(), 2);
    bench.handle(Input::Held { listener: ListenerId(0), held: false });
    let sent = bench.pass(seconds(100));
    assert!(sent.iter().all(|one| one.by != 0 && !one.line().starts_with("BYE")), "nothing leaves from there");
    assert_eq!((bench.snapshot().sessions, bench.snapshot().parked), (1, 1));
    // What was lost meanwhile is no failure.
    bench.handle(Input::Held { listener: ListenerId(0), held: true });
    bench.pass(seconds(20));
    assert_eq!(bench.snapshot().sessions, 1);
}

#[test]
fn an_adopted_session_is_parked_with_the_address_that_it_came_by() {
    let (_, ok) = Bench::new().answered_call("1");
    let mut bench = Bench::new();
    let info = of(&bench.receive(CALLER, in_dialog("INFO", &ok, 2)), "INFO").remove(0);
    bench.receive(&info.to.to_string(), info.answer(200, "OK", &[]));
    bench.handle(Input::Held { listener: ListenerId(0), held: false });
    assert_eq!((bench.snapshot().sessions, bench.snapshot().parked), (1, 1));
    bench.handle(Input::Held { listener: ListenerId(0), held: true });
    assert_eq!(bench.snapshot().parked, 0);
    let why = NotOurs::Adopted;
    assert_eq!(end(&mut bench).1, Err(NotEnded::NotOurs { call_id: "1".to_owned(), why }));
    bench.receive(CALLER, in_dialog("BYE", &ok, 3));
    assert_eq!(bench.snapshot().sessions, 0);
}

#[test]
fn a_contact_that_names_another_transport_is_spoken_to_by_it() {
    let mut bench = Bench::with_tcp();
    call(&mut bench, TO_CALLER, &format!("{SERVER};transport=tcp"));
    let (sent, _) = end(&mut bench);
    assert_eq!(places(&sent), [(CALLER.to_owned(), 0), (SERVERS[0].to_owned(), 3)]);
}

#[test]
fn what_a_caller_writes_sends_nothing_of_ours_to_others() {
    for (line, to) in [
        // The same host, whatever the port; a name; what is ours; nothing.
        ("Contact: <sip:127.0.0.1:5099>", Some("127.0.0.1:5099")),
        ("Contact: <sip:caller.example>", Some(CALLER)),
        ("Contact: <sip:127.0.0.1:8060>", Some(CALLER)),
        ("Subject: none", Some(CALLER)),
        ("Record-Route: <sip:127.0.0.1:5088;lr>\r\nContact: <sip:10.9.9.9>", Some("127.0.0.1:5088")),
        // Others.
        ("Contact: <sip:10.9.9.9:53>", None),
        ("Contact: <sip:10.129.39.88:7010>", None),
        ("Contact: <sip:[2001:db8::1]>", None),
        ("Contact: <sip:0.0.0.0>", None),
        ("Record-Route: <sip:10.9.9.9;lr>\r\nContact: <sip:127.0.0.1:5072>", None),
        // What no request could bear.
        ("Record-Route: <sip:127.0.0.1:5088;\r\n lr>", None),
        ("Record-Route: <sip:127.0.0.1:5088;lr;x=\u{e9}>", None),
    ] {
        let mut bench = pinging(1, PingLegs::Both);
        call(&mut bench, line, SERVER);
        let pings = of(&bench.pass(seconds(30)), "OPTIONS");
        let (sent, ended) = end(&mut bench);
        let expected: Vec<_> = to.into_iter().flat_map(|to| [(to.to_owned(), 0), (SERVERS[0].to_owned(), 1)]).collect();
        assert_eq!((places(&sent), pings.len()), (expected.clone(), expected.len()), "{line}");
        assert_eq!(ended, if to.is_some() { Ok(1) } else { unknown() }, "{line}");
    }
}

#[test]
fn a_destination_may_name_itself_and_another_host_but_none_that_is_no_host() {
    for (contact, known) in [
        ("sip:10.129.39.88:7077", true),
        ("sip:10.129.39.99:7010", true),
        ("sip:0.0.0.0:7010", false),
        ("sip:224.0.0.1:7010", false),
        ("sip:[2001:db8::1]", false),
    ] {
        let mut bench = Bench::new();
        call(&mut bench, TO_CALLER, contact);
        let (sent, ended) = end(&mut bench);
        assert_eq!((places(&sent).len(), ended), if known { (2, Ok(1)) } else { (0, unknown()) }, "{contact}");
    }
}

#[test]
fn a_caller_by_a_stream_is_spoken_to_by_it_wherever_its_contact_leads() {
    let mut bench = Bench::with_tcp();
    let text = invite("1").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let text = text.replace("Content-Length", "Contact: <sip:127.0.0.9:6379;transport=tcp>\r\nContent-Length");
    let invite = of(&bench.receive_by(Bench::stream(CALLER, 7), text), "INVITE").remove(0);
    let contact = format!("Contact: <{SERVER}>");
    bench.receive(&invite.to.to_string(), invite.answer(200, "OK", &[&contact]));
    let (sent, _) = end(&mut bench);
    let bye = &of(&sent, "BYE")[0];
    assert_eq!((bye.to.to_string(), bye.by, bye.connection), (CALLER.to_owned(), 2, 7));
}

#[test]
fn a_re_invite_turns_our_requests_to_nobody_else() {
    let mut bench = pinging(1, PingLegs::Both);
    let (_, ok) = call(&mut bench, TO_CALLER, SERVER);
    let elsewhere =
        in_dialog("INVITE", &ok, 2).replace("Content-Length", "Contact: <sip:10.9.9.9:53>\r\nContent-Length");
    let again = of(&bench.receive(CALLER, elsewhere), "INVITE").remove(0);
    bench.receive(&again.to.to_string(), again.answer(200, "OK", &[&format!("Contact: <{SERVER}>")]));
    assert!(of(&bench.pass(seconds(31)), "OPTIONS").is_empty());
    assert_eq!(end(&mut bench).1, unknown());
}

#[test]
fn our_own_record_route_is_no_route_of_ours() {
    let mut bench = Bench::new();
    let line = format!("Record-Route: <sip:{INSIDE};lr>, <sip:127.0.0.1:5088;lr>\r\n{TO_CALLER}");
    call(&mut bench, &line, SERVER);
    let bye = of(&end(&mut bench).0, "BYE").remove(0);
    assert_eq!(
        (bye.to.to_string(), bye.header("Route")),
        ("127.0.0.1:5088".to_owned(), "<sip:127.0.0.1:5088;lr>".to_owned())
    );
}

#[test]
fn an_end_that_has_never_spoken_is_not_dead_and_is_asked_no_more() {
    let mut bench = pinging(2, PingLegs::Caller);
    let (_, ok) = bench.answered_call("1");
    let pings = of(&bench.pass(seconds(300)), "OPTIONS");
    let branches: std::collections::BTreeSet<_> = pings.iter().map(|ping| ping.header("Via")).collect();
    assert_eq!((bench.snapshot().sessions, branches.len()), (1, 2));
    // Once it has spoken its silence means something.
    bench.receive(CALLER, in_dialog("ACK", &ok, 1));
    let sent = bench.pass(seconds(100));
    assert_eq!((bench.snapshot().sessions, of(&sent, "BYE")[0].to.to_string()), (0, SERVERS[0].to_owned()));
    // Who says at once that he has no such session is not silent.
    let mut bench = pinging(1, PingLegs::Destination);
    bench.answered_call("1");
    let ping = of(&bench.pass(seconds(30)), "OPTIONS").remove(0);
    bench.receive(&ping.to.to_string(), ping.answer(481, "Gone", &[]));
    assert_eq!(bench.snapshot().sessions, 0);
}

#[test]
fn many_ends_that_fall_silent_at_once_are_buried_a_few_a_turn() {
    let mut bench = pinging(1, PingLegs::Caller);
    for call in 0..300 {
        bench.talking_call(&call.to_string());
    }
    bench.pass(seconds(34));
    bench.stall(seconds(2));
    let mut byes = Vec::new();
    while bench.snapshot().sessions > 0 {
        byes.push(of(&bench.handle(Input::Wake), "BYE").len());
        assert!(byes.len() < 10);
    }
    assert_eq!(byes, [100, 100, 100]);
}

#[test]
fn many_pings_on_a_connection_that_breaks_end_their_sessions_a_few_a_turn() {
    let mut bench = Bench::with_tcp_and(|config| {
        let ping = Ping { fall: 1, legs: PingLegs::Destination, interval: seconds(30), ..Ping::default() };
        config.sets[0].session.ping = Some(ping);
    });
    bench.load(crate::harness::set_19_by_tcp(&SERVERS[..1]));
    // The engine knows it as the way there, not by its number.
    let (trunk, way) = (Bench::stream(SERVERS[0], 7), Bench::stream(SERVERS[0], 0));
    for call in 0..250 {
        let invite = bench.call(&call.to_string());
        let contact = format!("Contact: <{SERVER};transport=tcp>");
        bench.receive_by(trunk, invite.answer(200, "OK", &[&contact]));
        let info = from_destination("INFO", &invite, 7).replace("SIP/2.0/UDP", "SIP/2.0/TCP");
        let info = of(&bench.receive_by(trunk, info), "INFO").remove(0);
        bench.receive(CALLER, info.answer(200, "OK", &[]));
    }
    assert_eq!(of(&bench.pass(seconds(31)), "OPTIONS").len(), 250);
    let mut byes = vec![of(&bench.handle(Input::Unreachable { flow: way }), "BYE").len()];
    while bench.snapshot().sessions > 0 {
        byes.push(of(&bench.handle(Input::Wake), "BYE").len());
        assert!(byes.len() < 10);
    }
    assert_eq!(byes, [100, 100, 50]);
}

#[test]
fn no_second_has_more_ends_than_its_rate() {
    for (rate, most) in [(150, 150), (30, 30), (1, 1)] {
        let mut bench = Bench::with(|config| config.sets[0].session.bye_rate = rate);
        bench.load(crate::harness::set_19(&SERVERS[..1]));
        for call in 0..400 {
            bench.answered_call(&call.to_string());
        }
        let uri = format!("sip:{}", SERVERS[0]);
        assert_eq!(bench.end(Which::Destination { set: SetId(19), uri }).1, Ok(400));
        bench.pass(Duration::from_millis(999));
        assert_eq!(400 - bench.snapshot().sessions, most, "{rate}");
    }
}

#[test]
fn byes_that_nobody_takes_are_counted() {
    let mut bench = Bench::new();
    for call in ["1", "2"] {
        bench.answered_call(call);
    }
    let byes = of(&end(&mut bench).0, "BYE");
    bench.receive(CALLER, byes[0].answer(200, "OK", &[]));
    bench.pass(seconds(40));
    assert_eq!((bench.snapshot().totals.byes, bench.snapshot().totals.failed_byes), (2, 1));
    let byes = of(&bench.end(Which::Call("2".to_owned())).0, "BYE");
    bench.receive(CALLER, byes[0].answer(403, "Forbidden", &[]));
    let (transport, connection) = (Transport::Udp, Default::default());
    let flow = Flow { listener: ListenerId(byes[1].by), transport, peer: byes[1].to, connection };
    bench.handle(Input::Undelivered { flow, bytes: &byes[1].bytes, fault: Fault::Ours });
    assert_eq!((bench.snapshot().totals.byes, bench.snapshot().totals.failed_byes), (4, 3));
}

#[test]
fn a_request_of_the_destination_proves_that_it_lives() {
    let mut bench = pinging(1, PingLegs::Destination);
    let (first, _) = bench.answered_call("1");
    let info = of(&bench.receive(SERVERS[0], from_destination("INFO", &first, 7)), "INFO").remove(0);
    bench.receive(CALLER, info.answer(200, "OK", &[]));
    bench.pass(seconds(36));
    assert_eq!(bench.snapshot().sessions, 0);
}
