//! Virtual addresses: what a node lets go of that loses one, and what its next holder makes of it. Two nodes of one cluster,
//! whose listeners have the same addresses.

use std::time::Duration;

use tandem::engine::dispatch::{Ping, PingLegs, PingMethod};
use tandem::engine::event::{Ending, Input};
use tandem::engine::flow::{ConnectionId, Fault, Flow, Listener, ListenerId, Transport};
use tandem::engine::{Config, Event};

use crate::harness::{Bench, CALLER, SERVERS, Sent, from_destination, in_dialog, invite, lines, seconds, set_19};

/// A node of the cluster.
fn node(name: &str) -> Bench {
    node_with(name, |_| {})
}

fn node_with(name: &str, change: impl FnOnce(&mut Config)) -> Bench {
    Bench::with(|config| {
        config.node = name.into();
        change(config);
    })
}

/// Both addresses, the callers' and the servers', are here now or elsewhere. Nothing may be sent for it.
fn hold(bench: &mut Bench, held: bool) {
    for listener in [0, 1] {
        let sent = bench.handle(Input::Held { listener: ListenerId(listener), held });
        assert_eq!(lines(&sent), [""; 0]);
    }
}

fn endings(bench: &Bench) -> Vec<Ending> {
    let ending = |event: &Event| match event {
        Event::Session(record) => Some(record.ending),
        _ => None,
    };
    bench.events.iter().filter_map(ending).collect()
}

/// Live sessions of each destination, in the order of [`SERVERS`].
fn sessions(bench: &Bench) -> Vec<u64> {
    let snapshot = bench.snapshot();
    let all: Vec<_> = snapshot.sets[0].destinations.iter().map(|one| one.sessions).collect();
    assert_eq!(all.iter().sum::<u64>(), snapshot.sessions as u64, "load is the table");
    all
}

fn first(sent: &[Sent], method: &str) -> Sent {
    sent.iter().find(|one| one.line().starts_with(method)).unwrap_or_else(|| panic!("{:?}", lines(sent))).clone()
}

/// That with which it answers an INVITE.
fn ok(invite: &Sent) -> Vec<u8> {
    let contact = format!("Contact: <sip:{}>", invite.to);
    invite.answer(200, "OK", &[&contact])
}

/// No verdict has changed; how much was seen that could change one.
fn seen(bench: &Bench) -> usize {
    assert!(!bench.events.iter().any(|event| matches!(event, Event::Health(_))));
    SERVERS.iter().map(|address| bench.history(address).len()).sum()
}

#[test]
fn an_address_that_goes_takes_its_calls_with_it_without_a_word() {
    let mut bench = node("a");
    bench.call("unheard");
    let ringing = bench.call("ringing");
    bench.receive(&ringing.to.to_string(), ringing.answer(180, "Ringing", &[]));
    let cancelled = bench.call("cancelled");
    bench.receive(CALLER, invite("cancelled").replace("INVITE", "CANCEL").replace("-CANCEL;", "-INVITE;"));
    let (_, answered) = bench.answered_call("answered");
    bench.receive(CALLER, in_dialog("BYE", &answered, 2));
    assert_eq!(cancelled.header("Call-ID"), "cancelled");
    let before = seen(&bench);
    hold(&mut bench, false);
    assert_eq!((bench.snapshot().transactions, sessions(&bench)), (0, vec![0, 0]));
    assert_eq!(lines(&bench.pass(seconds(300))), [""; 0]);
    let endings = endings(&bench);
    let lost = endings.iter().filter(|ending| **ending == Ending::AddressLost).count();
    assert_eq!((lost, endings.len(), endings.contains(&Ending::Cancelled)), (2, 4, true));
    assert_eq!(seen(&bench), before);
    let set = &bench.snapshot().sets[0];
    assert_eq!((set.failovers, set.exhausted), (0, 0));
}

#[test]
fn five_hundred_calls_that_are_being_set_up_change_no_verdict_at_either_node() {
    // What the servers say of them after the move: a success, nothing at all, and what would speak against a server.
    let said = [Some((200, "OK")), None, Some((503, "Service Unavailable")), Some((486, "Busy Here"))];
    let (mut a, mut b) = (node("a"), node("b"));
    hold(&mut b, false);
    // There, and back again.
    let mut nodes = [&mut a, &mut b];
    for way in ["there", "back"] {
        let [from, to] = &mut nodes;
        let invites: Vec<_> = (0..500).map(|nth| from.call(&format!("{way}-{nth}"))).collect();
        for invite in invites.iter().step_by(2) {
            let ringing = invite.answer(180, "Ringing", &[]);
            assert_eq!(lines(&from.receive(&invite.to.to_string(), ringing)), ["SIP/2.0 180 Ringing"]);
        }
        let lost = endings(from).len() + 500;
        hold(from, false);
        hold(to, true);
        assert_eq!((endings(from).len(), endings(from).iter().all(|one| *one == Ending::AddressLost)), (lost, true));
        for (invite, said) in invites.iter().zip(said.iter().cycle()) {
            let Some((status, reason)) = *said else { continue };
            let contact = format!("Contact: <sip:{}>", invite.to);
            let passed = to.receive(&invite.to.to_string(), invite.answer(status, reason, &[&contact]));
            let told: Vec<_> = passed.iter().map(|one| (one.line(), one.to.to_string())).collect();
            assert_eq!(told, [(format!("SIP/2.0 {status} {reason}"), CALLER.to_owned())], "{way}");
        }
        // All timers of both run out: nobody is asked again, and nobody is blamed.
        // Every fourth has become a session, of the node that its 2xx came to.
        let sessions = [if way == "back" { 125 } else { 0 }, 125];
        for (node, sessions) in nodes.iter_mut().zip(sessions) {
            assert_eq!(lines(&node.pass(seconds(300))), [""; 0], "{way}");
            let snapshot = node.snapshot();
            assert_eq!((seen(node), snapshot.sessions, snapshot.transactions), (0, sessions, 0), "{way}");
            let fit = snapshot.sets[0].destinations.iter().filter(|one| one.fitness.is_fit()).count();
            assert_eq!(fit, SERVERS.len(), "{way}");
        }
        nodes.reverse();
    }
}

#[test]
fn a_2xx_in_flight_reaches_the_caller_by_the_next_holder_and_the_call_goes_on_there() {
    let (mut a, mut b) = (node("a"), node("b"));
    let invite = a.call("1");
    hold(&mut a, false);
    let passed = b.receive(&invite.to.to_string(), ok(&invite));
    assert_eq!((lines(&passed), passed[0].to.to_string()), (vec!["SIP/2.0 200 OK".into()], CALLER.into()));
    let ack = b.receive(CALLER, in_dialog("ACK", &passed[0], 1));
    assert_eq!(ack[0].to, invite.to);
    let info = first(&b.receive(CALLER, in_dialog("INFO", &passed[0], 2)), "INFO");
    b.receive(&info.to.to_string(), info.answer(200, "OK", &[]));
    assert_eq!(sessions(&b).iter().max(), Some(&1), "adopted");
    let bye = b.receive(&invite.to.to_string(), from_destination("BYE", &invite, 1));
    assert_eq!((bye[0].to.to_string().as_str(), b.snapshot().sessions), (CALLER, 0));
}

#[test]
fn a_2xx_of_the_last_holder_beats_the_next_ones_own_try() {
    for rings in [false, true] {
        let (mut a, mut b) = (node("a"), node("b"));
        // So that the two choose another server for the same call.
        b.answered_call("0");
        let old = a.call("1");
        hold(&mut a, false);
        let new = b.call("1");
        assert_ne!(old.to, new.to);
        if rings {
            b.receive(&new.to.to_string(), new.answer(180, "Ringing", &[]));
        }
        let sent = b.receive(&old.to.to_string(), ok(&old));
        assert_eq!(sent[0].line(), "SIP/2.0 200 OK");
        assert_eq!((sent[0].to.to_string(), sent.len()), (CALLER.into(), 1 + usize::from(rings)));
        if rings {
            assert_eq!((sent[1].line().split(' ').next(), sent[1].to), (Some("CANCEL"), new.to));
        }
        // The session is where its 2xx is from: there it counts, and there its requests go.
        let mut counts = sessions(&b);
        counts.sort_unstable();
        assert_eq!(counts, [0, 2]);
        // Again while the caller's ACK is on its way: he gets it again.
        let again = b.receive(&old.to.to_string(), ok(&old));
        assert_eq!((lines(&again), &again[0].bytes), (vec!["SIP/2.0 200 OK".into()], &sent[0].bytes));
        let ack = b.receive(CALLER, in_dialog("ACK", &sent[0], 1));
        assert_eq!((ack.len(), ack[0].to), (1, old.to));
        // Our own 2xx, which the CANCEL came too late for, is ended where it came from.
        let late = b.receive(&new.to.to_string(), ok(&new));
        let methods: Vec<_> =
            late.iter().map(|one| (one.line().split(' ').next().map(str::to_owned), one.to)).collect();
        assert_eq!(methods, [(Some("ACK".into()), new.to), (Some("BYE".into()), new.to)]);
        assert_eq!(b.snapshot().totals.late_2xx, 1);
        let bye = b.receive(CALLER, in_dialog("BYE", &sent[0], 2));
        assert_eq!((bye[0].to, b.snapshot().sessions), (old.to, 1));
        b.receive(&old.to.to_string(), bye[0].answer(200, "OK", &[]));
        b.receive(&new.to.to_string(), late[1].answer(200, "OK", &[]));
        b.pass(seconds(100));
        assert_eq!(b.snapshot().transactions, 0);
        let told = b.events.iter().filter(|event| matches!(event, Event::Health(_))).count();
        assert_eq!((told, endings(&b)), (0, vec![Ending::CallerBye]));
    }
}

#[test]
fn only_a_2xx_of_the_last_holder_is_an_answer_to_the_next_ones_caller() {
    let (mut a, mut b) = (node("a"), node("b"));
    let old = a.call("1");
    let new = b.call("1");
    for status in [180, 404, 503] {
        assert_eq!(lines(&b.receive(&old.to.to_string(), old.answer(status, "No", &[]))), [""; 0]);
    }
    // Once the caller has his answer another one is ended.
    assert_eq!(lines(&b.receive(&new.to.to_string(), ok(&new))), ["SIP/2.0 200 OK"]);
    let late = b.receive(&old.to.to_string(), ok(&old));
    assert_eq!((late.len(), first(&late, "BYE").to), (2, old.to));
    assert_eq!(b.snapshot().sessions, 1);
}

/// The branch of our Via, with which its receiver knows a request again.
fn branch(sent: &Sent) -> String {
    String::from_utf8_lossy(sent.message().via().branch.expect("a branch")).into_owned()
}

#[test]
fn a_bye_that_comes_again_by_the_next_holder_is_the_same_one_to_the_server() {
    let (mut a, mut b) = (node("a"), node("b"));
    let (invite, answered) = a.answered_call("1");
    let bye = in_dialog("BYE", &answered, 2);
    let old = first(&a.receive(CALLER, &bye), "BYE");
    // The server's 200 goes to an address that is on its way. The nodes' clocks need not agree.
    hold(&mut a, false);
    b.stall(seconds(100));
    let new = first(&b.receive(CALLER, &bye), "BYE");
    assert_eq!((old.to, new.to, branch(&old)), (invite.to, invite.to, branch(&new)));
    // So it sends that answer once more, with the Vias of the first or of the second.
    let server = invite.to.to_string();
    assert_eq!(lines(&b.receive(&server, old.answer(200, "OK", &[]))), ["SIP/2.0 200 OK"]);
    assert_eq!(lines(&b.receive(&server, new.answer(200, "OK", &[]))), [""; 0], "one answer is enough");
    assert_eq!(lines(&b.receive(CALLER, &bye)), ["SIP/2.0 200 OK"], "sent again it is answered the same");
    // And back, while the caller has still heard nothing.
    hold(&mut b, false);
    hold(&mut a, true);
    let third = first(&a.receive(CALLER, &bye), "BYE");
    assert_eq!(branch(&third), branch(&old));
    assert_eq!(lines(&a.receive(&server, new.answer(200, "OK", &[]))), ["SIP/2.0 200 OK"]);
    for bench in [&mut a, &mut b] {
        assert_eq!(lines(&bench.pass(seconds(100))), [""; 0]);
        assert_eq!((bench.snapshot().transactions, bench.snapshot().sessions), (0, 0));
    }
}

#[test]
fn a_bye_of_the_server_that_comes_again_by_the_next_holder_is_the_same_one_to_the_caller() {
    let (mut a, mut b) = (node("a"), node("b"));
    let (invite, _) = a.answered_call("1");
    let (server, bye) = (invite.to.to_string(), from_destination("BYE", &invite, 1));
    let old = first(&a.receive(&server, &bye), "BYE");
    hold(&mut a, false);
    // Only what comes from a destination goes on by its Vias.
    assert_eq!(lines(&b.receive(CALLER, old.answer(200, "OK", &[]))), [""; 0]);
    let new = first(&b.receive(&server, &bye), "BYE");
    assert_eq!((branch(&new), new.to.to_string()), (branch(&old), CALLER.into()));
    let answer = b.receive(CALLER, old.answer(200, "OK", &[]));
    assert_eq!((lines(&answer), answer[0].to), (vec!["SIP/2.0 200 OK".into()], invite.to));
}

#[test]
fn a_re_invite_that_comes_again_by_the_next_holder_is_the_same_one_to_the_server() {
    let (mut a, mut b) = (node("a"), node("b"));
    let (invite, answered) = a.answered_call("1");
    let server = invite.to.to_string();
    let again = in_dialog("INVITE", &answered, 2);
    let old = first(&a.receive(CALLER, &again), "INVITE");
    hold(&mut a, false);
    let new = first(&b.receive(CALLER, &again), "INVITE");
    assert_eq!(branch(&old), branch(&new));
    // What is known by the INVITE's branch is known to the server too, whichever node's INVITE it had.
    b.receive(&server, old.answer(180, "Ringing", &[]));
    let cancel = first(&b.receive(CALLER, again.replace("INVITE", "CANCEL").replace("-CANCEL-", "-INVITE-")), "CANCEL");
    assert_eq!(branch(&cancel), branch(&old));
    b.receive(&server, cancel.answer(200, "OK", &[]));
    let ended = b.receive(&server, old.answer(487, "Request Terminated", &[]));
    assert_eq!(
        (branch(&first(&ended, "ACK")), first(&ended, "SIP/2.0 487").to.to_string()),
        (branch(&old), CALLER.into())
    );
    assert_eq!(sessions(&b).iter().max(), Some(&1), "the session goes on");
}

#[test]
fn requests_that_differ_in_anything_have_branches_of_their_own() {
    let mut bench = node("a");
    let (invite, answered) = bench.answered_call("1");
    let bye = in_dialog("BYE", &answered, 2);
    let via = format!("Via: SIP/2.0/UDP {CALLER};branch=z9hG4bK-1-BYE-2");
    let all = [
        bye.clone(),
        bye.replace("BYE", "INFO").replace("-INFO-", "-BYE-"),
        bye.replace("CSeq: 2", "CSeq: 3"),
        bye.replace("BYE-2", "BYE-2x"),
        bye.replace(&via, &via.replace(CALLER, "127.0.0.1:5073")),
        bye.replace("Call-ID: 1", "Call-ID: 2"),
        // Another destination, as the next hop.
        bye.replacen(
            &invite.to.to_string(),
            SERVERS.iter().find(|one| **one != invite.to.to_string()).expect("two"),
            1,
        ),
    ];
    let mut branches = std::collections::BTreeSet::new();
    let mut hops = std::collections::BTreeSet::new();
    for one in &all {
        // Each by a node that has seen none of the others: it is the request alone that tells them apart.
        let mut other = node("b");
        let sent = other.receive(CALLER, one);
        let forwarded = sent.iter().find(|sent| !sent.line().starts_with("SIP/2.0"));
        let forwarded = forwarded.unwrap_or_else(|| panic!("{one}\n{:?}", lines(&sent)));
        branches.insert(branch(forwarded));
        hops.insert(forwarded.to);
    }
    assert_eq!((branches.len(), hops.len()), (all.len(), 2));
    // A caller of RFC 2543 may give several requests one branch: they get ours, which no other node makes.
    let (old, mut other) = (bye.replace("z9hG4bK-1-BYE-2", "1"), node("b"));
    let ours = [&mut bench, &mut other].map(|bench| branch(&first(&bench.receive(CALLER, &old), "BYE")));
    assert_ne!(ours[0], ours[1]);
}

#[test]
fn the_next_holder_passes_on_an_answer_inside_a_session_that_is_young_and_was_asked_for() {
    let mut a = node("a");
    let (invite, answered) = a.answered_call("1");
    let server = invite.to.to_string();
    let bye = first(&a.receive(CALLER, in_dialog("BYE", &answered, 2)), "BYE");
    let other = first(&a.receive(CALLER, in_dialog("INFO", &answered, 3)), "INFO");
    let stamp = |sent: &Sent| sent.header("Via").split(";tdm=").nth(1).expect("a stamp").to_owned();
    let ok = String::from_utf8(bye.answer(200, "OK", &[])).expect("text");
    let first_of = |text: &str| if text.starts_with('A') { "B" } else { "A" };
    let bent = format!("{}{}", first_of(&stamp(&bye)), &stamp(&bye)[1..]);
    for (name, answer, age, passes) in [
        ("as it is", ok.clone(), 0, true),
        ("three minutes later", ok.clone(), 180, true),
        ("six minutes later", ok.clone(), 360, false),
        ("another time", ok.replace(&stamp(&bye), &bent), 0, false),
        ("the time of another", ok.replace(&stamp(&bye), &stamp(&other)), 0, false),
        ("no time", ok.replace(&format!(";tdm={}", stamp(&bye)), ""), 0, false),
        ("another call", ok.replace("Call-ID: 1", "Call-ID: 2"), 0, false),
        ("another caller", ok.replace("rport=5072", "rport=6666"), 0, false),
    ] {
        let mut b = node("b");
        b.stall(seconds(age));
        assert_eq!(b.receive(&server, answer).len(), usize::from(passes), "{name}");
    }
    assert_eq!(lines(&node("b").receive("10.9.9.9:7010", ok)), [""; 0], "it must come from a destination");
}

/// What a node has to say by an address that its machine has not: all of it, until it says nothing more.
fn nothing_leaves(bench: &mut Bench, mut sent: Vec<Sent>) {
    while let Some(one) = sent.pop() {
        let (listener, connection) = (ListenerId(one.by), ConnectionId::default());
        let flow = Flow { listener, transport: Transport::Udp, peer: one.to, connection };
        sent.extend(bench.handle(Input::Undelivered { flow, bytes: &one.bytes, fault: Fault::Ours }));
    }
}

#[test]
fn what_had_waited_here_while_the_address_went_is_for_the_next_holder() {
    let (mut a, mut b) = (node("a"), node("b"));
    let (_, up) = a.answered_call("up");
    hold(&mut a, false);
    // It was in our socket's buffer, and nothing can leave.
    let bye = in_dialog("BYE", &up, 2);
    for request in [invite("1"), bye.clone()] {
        let sent = a.receive(CALLER, &request);
        assert!(!sent.is_empty());
        nothing_leaves(&mut a, sent);
    }
    assert_eq!((a.snapshot().transactions, a.snapshot().sets[0].exhausted), (0, 0));
    assert_eq!(seen(&a), 1, "the call that was answered");
    // An answer that needs nobody's help is none either.
    a.load(set_19(&[]));
    let empty = a.receive(CALLER, invite("2"));
    nothing_leaves(&mut a, empty);
    a.load(set_19(&SERVERS));
    // The next holder answers both; when the address is here again, nothing is said to callers who have their answers.
    let new = b.call("1");
    assert_eq!(lines(&b.receive(&new.to.to_string(), ok(&new))), ["SIP/2.0 200 OK"]);
    assert_eq!(first(&b.receive(CALLER, &bye), "BYE").header("Call-ID"), "up");
    hold(&mut a, true);
    assert_eq!(lines(&a.pass(seconds(100))), [""; 0]);
    // What comes by an address that is here before we are told is served as ever.
    hold(&mut b, false);
    assert_eq!(lines(&b.receive(CALLER, invite("3"))).len(), 2);
}

#[test]
fn a_session_goes_and_comes_back_with_its_address() {
    let ping = Ping {
        method: PingMethod::Options,
        legs: PingLegs::Both,
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        fall: 1,
    };
    let mut bench = node_with("a", |config| config.sets[0].session.ping = Some(ping));
    bench.answered_call("1");
    // Pings are on their way: nobody misses their answers.
    assert_eq!(lines(&bench.pass(seconds(30))).len(), 2);
    hold(&mut bench, false);
    assert_eq!((bench.snapshot().parked, lines(&bench.pass(seconds(100)))), (1, vec![]));
    hold(&mut bench, true);
    assert_eq!((bench.snapshot().parked, bench.snapshot().totals.failed_pings, bench.snapshot().sessions), (0, 0, 1));
    let pings = bench.pass(seconds(30));
    assert_eq!(first(&pings, "OPTIONS").header("Call-ID"), "1");
}

#[test]
fn a_try_of_one_that_is_half_open_is_free_again() {
    let mut bench = node("a");
    bench.load(set_19(&SERVERS[..1]));
    for id in ["1", "2", "3"] {
        let invite = bench.call(id);
        bench.receive(SERVERS[0], invite.answer(503, "No", &[]));
    }
    let refused = bench.receive(CALLER, invite("4"));
    assert!(refused.iter().any(|one| one.line().starts_with("SIP/2.0 480")), "{:?}", lines(&refused));
    bench.pass(seconds(10));
    bench.call("5");
    let another = bench.receive(CALLER, invite("6"));
    assert!(another.iter().any(|one| one.line().starts_with("SIP/2.0 480")), "{:?}", lines(&another));
    hold(&mut bench, false);
    hold(&mut bench, true);
    assert_eq!(bench.call("7").to.to_string(), SERVERS[0]);
}

#[test]
fn what_waits_by_an_address_that_stays_is_let_go_too_if_its_caller_came_by_the_other() {
    let mut bench = node("a");
    let invite = bench.call("1");
    let lost = |listener, held| Input::Held { listener: ListenerId(listener), held };
    assert_eq!(lines(&bench.handle(lost(0, false))), [""; 0]);
    assert_eq!((bench.snapshot().transactions, endings(&bench)), (0, vec![Ending::AddressLost]));
    // Its answer comes here all the same, and goes on by its Vias.
    let passed = bench.receive(&invite.to.to_string(), ok(&invite));
    assert_eq!((lines(&passed), passed[0].to.to_string()), (vec!["SIP/2.0 200 OK".into()], CALLER.into()));
}

#[test]
fn a_caller_whose_own_address_stays_is_tried_for_by_another_address() {
    let mut bench = node_with("a", |config| {
        let beside = "10.129.39.2:8060".parse().expect("an address");
        config.listeners.push(Listener { id: ListenerId(2), bind: beside, ..config.listeners[1].clone() });
    });
    let (_, up) = bench.answered_call("0");
    let first_try = bench.call("1");
    let sent = bench.handle(Input::Held { listener: ListenerId(1), held: false });
    assert_eq!((sent.len(), sent[0].by, first_try.by), (1, 2, 1));
    assert_ne!(sent[0].to, first_try.to);
    assert_eq!(seen(&bench), 1, "the call that was answered");
    assert_eq!(lines(&bench.receive(&sent[0].to.to_string(), ok(&sent[0]))), ["SIP/2.0 200 OK"]);
    // Others go by it from the start, and so does what is said in a session that began by the lost one.
    assert_eq!(bench.call("2").by, 2);
    assert_eq!(first(&bench.receive(CALLER, in_dialog("BYE", &up, 2)), "BYE").by, 2);
}

#[test]
fn connections_of_the_address_are_closed_and_what_comes_by_it_is_served() {
    let mut bench = Bench::with_tcp();
    let caller = Bench::stream(CALLER, 7);
    // By a stream from the caller, by datagrams to the server, both by one address: when its listeners go one after the other,
    // nothing is tried by the second one.
    bench.load(set_19(&["127.0.0.9:7010", "127.0.0.9:7011"]));
    let begun = bench.receive_by(caller, invite("stream").replace("SIP/2.0/UDP", "SIP/2.0/TCP"));
    assert_eq!(first(&begun, "INVITE").by, 0);
    for listener in 0..4 {
        assert_eq!(lines(&bench.handle(Input::Held { listener: ListenerId(listener), held: false })), [""; 0]);
    }
    assert_eq!((bench.let_go.as_slice(), endings(&bench)), ([2, 3].as_slice(), vec![Ending::AddressLost]));
    bench.load(set_19(&SERVERS));
    assert_eq!(bench.call("1").line().split(' ').next(), Some("INVITE"));
    for listener in 0..5 {
        bench.handle(Input::Held { listener: ListenerId(listener), held: true });
    }
    assert_eq!(bench.let_go.len(), 2);
}
