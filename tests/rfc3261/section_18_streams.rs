//! TCP: section 18 of RFC 3261 where the transport is a stream, and the bridge between it and UDP (RFC 5658).

use tandem::engine::Input;
use tandem::engine::flow::{Fault, Flow};
use tandem::engine::sip::FrameFault;

use crate::harness::{
    Bench, CALLER, INSIDE, OUTSIDE, SERVERS, Sent, from_destination, in_dialog, invite, lines, request, seconds,
    set_19_by_tcp,
};

/// Where the caller's connection comes from: not the port that it listens on.
const SOURCE: &str = "127.0.0.1:43210";

fn by_tcp(text: &str) -> String {
    text.replace("SIP/2.0/UDP", "SIP/2.0/TCP").replace(";rport", "")
}

fn caller() -> Flow {
    Bench::stream(SOURCE, 7)
}

/// The INVITE of a caller by TCP as a destination gets it.
fn call(bench: &mut Bench) -> Sent {
    let sent = bench.receive_by(caller(), by_tcp(&invite("1")));
    assert_eq!(lines(&sent)[0], "SIP/2.0 100 Trying");
    assert_eq!((sent[0].by, sent[0].connection, sent[0].to.to_string().as_str()), (2, 7, CALLER));
    sent[1].clone()
}

fn undelivered(bench: &mut Bench, sent: &Sent) -> Vec<Sent> {
    let flow = Flow { peer: sent.to, ..Bench::stream(&sent.to.to_string(), sent.connection) };
    bench.handle(Input::Undelivered { flow, bytes: &sent.bytes, fault: Fault::Theirs })
}

#[test]
fn answers_go_back_on_the_connection_and_failing_that_to_the_port_of_sent_by() {
    let options = by_tcp(&request("OPTIONS", &format!("sip:{INSIDE}"), "1", &[]));
    let sent = Bench::with_tcp().receive_by(caller(), &options);
    assert_eq!((sent[0].by, sent[0].connection, sent[0].to.to_string().as_str()), (2, 7, CALLER));
    // `rport` and `received` tell the source, but nobody listens on a connection's port.
    let asks = options.replace("branch=", "rport;branch=").replace(&format!("TCP {CALLER}"), "TCP 10.9.9.9:5072");
    let sent = Bench::with_tcp().receive_by(caller(), asks);
    let via = "SIP/2.0/TCP 10.9.9.9:5072;rport=43210;branch=z9hG4bK-1-OPTIONS;received=127.0.0.1";
    assert_eq!((sent[0].header("Via").as_str(), sent[0].to.to_string().as_str()), (via, CALLER));
}

#[test]
fn a_tcp_caller_and_a_udp_destination_each_see_their_own_side() {
    let mut bench = Bench::with_tcp();
    let invite = call(&mut bench);
    assert_eq!((invite.by, invite.connection), (1, 0));
    let routes = invite.headers("Record-Route");
    assert!(routes[0].starts_with(&format!("<sip:{OUTSIDE};lr;tdm=")), "{routes:?}");
    assert!(routes[1].starts_with(&format!("<sip:{INSIDE};lr;transport=tcp;tdm=")), "{routes:?}");
    assert!(invite.header("Via").starts_with(&format!("SIP/2.0/UDP {OUTSIDE};branch=")), "{}", invite.text());

    let contact = format!("Contact: <sip:{}>", invite.to);
    let ok = bench.receive(&invite.to.to_string(), invite.answer(200, "OK", &[&contact]));
    assert_eq!((lines(&ok)[0].as_str(), ok[0].by, ok[0].connection), ("SIP/2.0 200 OK", 2, 7));

    // The caller goes on by another connection: the dialog does not hang on the first.
    let ack = bench.receive_by(Bench::stream("127.0.0.1:43211", 8), by_tcp(&in_dialog("ACK", &ok[0], 1)));
    assert_eq!((lines(&ack)[0].split(' ').next(), ack[0].by, ack[0].to), (Some("ACK"), 1, invite.to));
    let bye = bench.receive_by(Bench::stream("127.0.0.1:43211", 8), by_tcp(&in_dialog("BYE", &ok[0], 2)));
    assert_eq!((bye[0].by, bye[0].to, bye[0].headers("Route").len()), (1, invite.to, 0));
    let done = bench.receive(&invite.to.to_string(), bye[0].answer(200, "OK", &[]));
    assert_eq!((done[0].by, done[0].connection), (2, 8));
}

#[test]
fn a_servers_bye_goes_to_the_callers_connection_or_to_the_address_of_its_uri() {
    let mut bench = Bench::with_tcp();
    let invite = call(&mut bench);
    let server = invite.to.to_string();
    bench.receive(&server, invite.answer(200, "OK", &[&format!("Contact: <sip:{server}>")]));
    // The URI names no transport: the cookie knows it.
    let bye = bench.receive(&server, from_destination("BYE", &invite, 1));
    assert_eq!((bye[0].by, bye[0].connection, bye[0].to.to_string().as_str()), (2, 7, CALLER));
    assert!(bye[0].header("Via").starts_with(&format!("SIP/2.0/TCP {INSIDE};branch=")), "{}", bye[0].text());
    let ok = bench.receive_by(caller(), bye[0].answer(200, "OK", &[]));
    assert_eq!((lines(&ok)[0].as_str(), ok[0].by), ("SIP/2.0 200 OK", 1));
}

#[test]
fn a_caller_whose_uri_is_a_name_is_found_by_its_connection() {
    let mut bench = Bench::with_tcp();
    let invite = call(&mut bench);
    let server = invite.to.to_string();
    bench.receive(&server, invite.answer(200, "OK", &[&format!("Contact: <sip:{server}>")]));
    let bye = from_destination("BYE", &invite, 1).replacen(CALLER, "pbx.example.com", 1);
    let bye = bench.receive(&server, bye);
    assert_eq!((bye[0].by, bye[0].connection, bye[0].to.port()), (2, 7, 0));
}

#[test]
fn another_node_s_connection_is_not_taken_for_one_of_ours() {
    let mut bench = Bench::with_tcp();
    let invite = call(&mut bench);
    let server = invite.to.to_string();
    let mut other = Bench::with_tcp_named("b");
    let bye = other.receive(&server, from_destination("BYE", &invite, 1));
    assert_eq!((bye[0].by, bye[0].connection, bye[0].to.to_string().as_str()), (2, 0, CALLER));
}

#[test]
fn a_udp_caller_and_a_tcp_destination() {
    let mut bench = Bench::with_tcp();
    bench.load(set_19_by_tcp(&SERVERS[..1]));
    // A datagram may leave Content-Length out; a stream can't.
    let sent = bench.receive(CALLER, invite("1").replace("Content-Length: 0\r\n", ""));
    let invite = &sent[1];
    assert_eq!((invite.by, invite.connection, invite.to.to_string().as_str()), (3, 0, SERVERS[0]));
    assert_eq!(invite.line(), format!("INVITE sip:{};transport=tcp SIP/2.0", SERVERS[0]));
    assert_eq!(invite.header("Content-Length"), "0");
    let routes = invite.headers("Record-Route");
    assert!(routes[0].starts_with(&format!("<sip:{OUTSIDE};lr;transport=tcp;tdm=")), "{routes:?}");
    assert!(routes[1].starts_with(&format!("<sip:{INSIDE};lr;tdm=")), "{routes:?}");

    // The Contact of a real server may leave the transport out.
    let server = Bench::stream(SERVERS[0], 9);
    let ok = bench.receive_by(server, invite.answer(200, "OK", &[&format!("Contact: <sip:{}>", SERVERS[0])]));
    assert_eq!((ok[0].by, ok[0].to.to_string().as_str()), (0, CALLER));
    let bye = bench.receive(CALLER, in_dialog("BYE", &ok[0], 2));
    assert_eq!((bye[0].by, bye[0].to), (3, invite.to));
    let done = bench.receive_by(server, bye[0].answer(200, "OK", &[]));
    assert_eq!((lines(&done)[0].as_str(), done[0].by), ("SIP/2.0 200 OK", 0));

    // And back: the server's own BYE.
    let sent = bench.receive(CALLER, crate::harness::invite("2"));
    let bye = bench.receive_by(server, by_tcp(&from_destination("BYE", &sent[1], 1)));
    assert_eq!((bye[0].by, bye[0].to.to_string().as_str()), (0, CALLER));
    let done = bench.receive(CALLER, bye[0].answer(200, "OK", &[]));
    assert_eq!((done[0].by, done[0].connection), (3, 9));
}

#[test]
fn an_answer_without_length_gets_one_on_its_way_to_a_stream() {
    let mut bench = Bench::with_tcp();
    let invite = call(&mut bench);
    let answer = String::from_utf8(invite.answer(183, "Session Progress", &[])).expect("text");
    let answer = answer.replace("Content-Length: 0\r\n\r\n", "\r\nv=0\n");
    let sent = bench.receive(&invite.to.to_string(), answer);
    assert_eq!(sent[0].header("Content-Length"), "4");
}

#[test]
fn nothing_is_sent_twice_by_a_stream() {
    let mut bench = Bench::with_tcp();
    bench.load(set_19_by_tcp(&SERVERS[..1]));
    let sent = bench.receive_by(caller(), by_tcp(&invite("1")));
    let passed = bench.pass(seconds(31));
    assert_eq!(lines(&passed), Vec::<String>::new());
    let refused = bench.receive_by(Bench::stream(SERVERS[0], 9), sent[1].answer(486, "Busy Here", &[]));
    assert_eq!((lines(&refused)[0].split(' ').next(), refused[0].by), (Some("ACK"), 3));
    assert_eq!(lines(&refused)[1], "SIP/2.0 486 Busy Here");
    assert_eq!(lines(&bench.pass(seconds(31))), Vec::<String>::new());
}

#[test]
fn what_can_not_be_delivered_ends_its_own_transaction_alone() {
    let mut bench = Bench::with_tcp();
    bench.load(set_19_by_tcp(&SERVERS[..1]));
    let first = bench.receive_by(caller(), by_tcp(&invite("1")))[1].clone();
    let second = bench.receive_by(caller(), by_tcp(&invite("2")))[1].clone();
    let told = undelivered(&mut bench, &first);
    assert_eq!((told.len(), told[0].header("Call-ID").as_str()), (1, "1"));
    assert_eq!(told[0].line(), "SIP/2.0 480 MRCP server Unavailable");
    assert_eq!(told[0].header("Reason"), "SIP;cause=503");
    // Once more changes nothing, and neither does an answer's loss.
    assert_eq!((undelivered(&mut bench, &first).len(), undelivered(&mut bench, &told[0]).len()), (0, 0));
    let ok = bench.receive_by(Bench::stream(SERVERS[0], 9), second.answer(200, "OK", &[]));
    assert_eq!(lines(&ok), ["SIP/2.0 200 OK"]);
}

#[test]
fn a_connection_that_breaks_ends_what_waits_for_it() {
    let mut bench = Bench::with_tcp();
    bench.load(set_19_by_tcp(&SERVERS[..1]));
    bench.receive_by(caller(), by_tcp(&invite("1")));
    bench.receive_by(caller(), by_tcp(&invite("2")));
    let told = bench.handle(Input::Unreachable { flow: Bench::stream(SERVERS[0], 0) });
    assert_eq!(told.len(), 2);
}

#[test]
fn a_stream_that_can_not_be_followed_is_answered_if_it_can_be_and_closed() {
    let broken = by_tcp(&request("OPTIONS", &format!("sip:{INSIDE}"), "1", &[])).replace("Content-Length: 0\r\n", "");
    for (head, fault, line) in [
        (broken.as_str(), FrameFault::ContentLength, Some("SIP/2.0 400 Bad Content-Length Header")),
        (broken.as_str(), FrameFault::MessageTooLarge, Some("SIP/2.0 513 Message Too Large")),
        (&broken[..broken.len() - 2], FrameFault::HeadTooLarge, Some("SIP/2.0 400 Header Too Large")),
        ("GET / HTTP/1.1\r\n", FrameFault::NotSip, None),
        ("", FrameFault::NotSip, None),
        ("SIP/2.0 200 OK\r\n\r\n", FrameFault::ContentLength, None),
    ] {
        let mut bench = Bench::with_tcp();
        let sent = bench.handle(Input::Unframed { flow: caller(), head: head.as_bytes(), fault });
        assert_eq!(sent.first().map(Sent::line).as_deref(), line, "{head}");
        assert!(sent.iter().all(|sent| sent.connection == 7));
        assert_eq!((bench.closed.as_slice(), bench.snapshot().totals.dropped.iter().sum::<u64>()), (&[7][..], 1));
    }
}

#[test]
fn a_ping_is_answered_on_its_connection() {
    let mut bench = Bench::with_tcp();
    let sent = bench.receive_by(caller(), "\r\n\r\n");
    assert_eq!((sent[0].bytes.as_slice(), sent[0].connection), (&b"\r\n"[..], 7));
}

#[test]
fn who_may_not_use_a_listener_is_not_even_answered() {
    let mut bench = Bench::with(|config| {
        for listener in &mut config.listeners {
            listener.sources.allow = vec!["127.0.0.0/30".parse().expect("a network")];
        }
    });
    let options = |host: &str| {
        request("OPTIONS", &format!("sip:{INSIDE}"), host, &[]).replace("127.0.0.1:5072", &format!("{host}:5072"))
    };
    for (host, answers) in [("127.0.0.1", 1), ("127.0.0.9", 0), ("10.129.39.87", 0), ("10.129.39.88", 1)] {
        assert_eq!(bench.receive(&format!("{host}:5072"), options(host)).len(), answers, "{host}");
    }
    assert_eq!(bench.receive("127.0.0.9:5072", "\r\n\r\n").len(), 0);
    assert_eq!(bench.snapshot().totals.dropped[6], 3);
}

#[test]
fn a_request_too_large_for_a_datagram_goes_by_tcp_and_by_udp_where_nobody_takes_it() {
    let mut bench = Bench::with_tcp();
    let large = |id: &str| {
        invite(id)
            .replace("Content-Length: 0\r\n\r\n", &format!("X: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(1300)))
    };
    let sent = bench.receive(CALLER, large("1"));
    assert_eq!((sent[1].by, sent[1].to.to_string()), (3, SERVERS[0].into()));
    assert!(sent[1].header("Via").starts_with("SIP/2.0/TCP "), "{}", sent[1].text());
    assert_eq!(sent[1].line(), "INVITE sip:10.129.39.88:7010 SIP/2.0");
    let again = undelivered(&mut bench, &sent[1]);
    assert_eq!((again[0].by, again[0].to.to_string()), (1, SERVERS[0].into()), "{:?}", lines(&again));
    assert!(again[0].header("Via").starts_with("SIP/2.0/UDP "));
    assert_eq!(bench.snapshot().sets[0].failovers, 0);
    let ok = bench.receive(SERVERS[0], again[0].answer(200, "OK", &[]));
    assert_eq!(lines(&ok), ["SIP/2.0 200 OK"]);
    // A small one goes by a datagram, and so does a large one where we have no stream.
    assert_eq!(bench.receive(CALLER, invite("2"))[1].by, 1);
    assert_eq!(Bench::new().receive(CALLER, large("3"))[1].by, 1);
}
