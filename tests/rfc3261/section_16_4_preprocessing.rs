//! Route information preprocessing, loose and strict routers, and never an open relay.

use crate::harness::{Bench, CALLER, INSIDE, OUTSIDE, from_destination, in_dialog, lines, request, seconds};

#[test]
fn an_in_dialog_request_loses_our_routes_and_goes_to_the_contact() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    assert_eq!(ok.headers("Record-Route").len(), 2, "{}", ok.text());
    let sent = bench.receive(CALLER, in_dialog("ACK", &ok, 1));
    assert_eq!((sent.len(), sent[0].to, sent[0].by), (1, invite.to, 1));
    assert_eq!(sent[0].line(), format!("ACK sip:{} SIP/2.0", invite.to));
    assert_eq!(sent[0].headers("Route"), [""; 0]);
    for (cseq, method) in [(2, "INVITE"), (3, "UPDATE"), (4, "INFO"), (5, "BYE")] {
        let sent = bench.receive(CALLER, in_dialog(method, &ok, cseq));
        let forwarded = sent.last().expect("it goes on");
        assert_eq!((forwarded.to, forwarded.line()), (invite.to, format!("{method} sip:{} SIP/2.0", invite.to)));
    }
}

#[test]
fn a_bye_of_the_destination_reaches_the_caller() {
    let mut bench = Bench::new();
    let (invite, _) = bench.answered_call("1");
    let sent = bench.receive(&invite.to.to_string(), from_destination("BYE", &invite, 1));
    assert_eq!(lines(&sent), [format!("BYE sip:{CALLER} SIP/2.0")]);
    assert_eq!((sent[0].to.to_string(), sent[0].by), (CALLER.into(), 0));
    assert_eq!(bench.snapshot().sessions, 0);
    let answer = bench.receive(CALLER, sent[0].answer(200, "OK", &[]));
    assert_eq!((answer[0].to, answer[0].line()), (invite.to, "SIP/2.0 200 OK".into()));
}

#[test]
fn a_strict_router_puts_our_uri_into_the_request_uri() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    let routes: Vec<_> = ok.headers("Record-Route").into_iter().rev().collect();
    let ours = routes[0].trim_matches(['<', '>']).to_owned();
    let target = format!("sip:{}", invite.to);
    let strict = in_dialog("BYE", &ok, 2)
        .replacen(&format!("BYE {target} "), &format!("BYE {ours} "), 1)
        .replacen(&format!("Route: {}\r\n", routes[0]), "", 1)
        .replacen(&format!("Route: {}\r\n", routes[1]), &format!("Route: {}\r\nRoute: <{target}>\r\n", routes[1]), 1);
    let sent = bench.receive(CALLER, strict);
    assert_eq!(lines(&sent), [format!("BYE {target} SIP/2.0")]);
    assert_eq!((sent[0].to, sent[0].headers("Route").len()), (invite.to, 0));
}

#[test]
fn toward_a_strict_router_its_uri_leads_and_the_target_goes_last() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    let target = ok.header("Contact");
    let bye = in_dialog("BYE", &ok, 2).replacen(
        "From:",
        "Route: <sip:10.129.39.88:5070>\r\nRoute: <sip:10.0.0.8;lr>\r\nFrom:",
        1,
    );
    let sent = bench.receive(CALLER, bye);
    assert_eq!(lines(&sent), ["BYE sip:10.129.39.88:5070 SIP/2.0"]);
    assert_eq!(sent[0].headers("Route"), ["<sip:10.0.0.8;lr>".to_owned(), target]);
    assert_eq!(sent[0].to.to_string(), "10.129.39.88:5070");
}

#[test]
fn a_to_tag_a_route_or_a_foreign_cookie_open_no_relay() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    let elsewhere = "sip:victim@203.0.113.9:5060";
    let tagged = |id: &str, extra: &[&str]| {
        request("BYE", elsewhere, id, extra).replacen(&format!("To: <sip:{INSIDE}>"), "To: <sip:x@y>;tag=1", 1)
    };
    let stolen = format!("Route: {}", ok.headers("Record-Route")[1]);
    let ours = format!("Route: <sip:{INSIDE};lr>");
    let beyond = "Route: <sip:203.0.113.9:5060;lr>";
    for (id, extra) in [("a", vec![]), ("b", vec![ours.as_str()]), ("c", vec![&stolen]), ("d", vec![&ours, beyond])] {
        assert_eq!(lines(&bench.receive(CALLER, tagged(id, &extra))), ["SIP/2.0 403 Forbidden"], "{extra:?}");
    }
    let maddr = format!("sip:{INSIDE};maddr=203.0.113.9");
    assert_eq!(lines(&bench.receive(CALLER, request("OPTIONS", &maddr, "e", &[]))), ["SIP/2.0 200 OK"]);
    let set_rule = request("INVITE", elsewhere, "f", &["User-Agent: OPENSIPS_TTS_MRCP_CLIENT", beyond]);
    assert_eq!(lines(&bench.receive(CALLER, set_rule)), ["SIP/2.0 403 Route Not Allowed"]);
    let strict = request("INFO", &format!("sip:{INSIDE};lr;tdm=AAAA"), "g", &["Route: <sip:203.0.113.9>"]).replacen(
        &format!("To: <sip:{INSIDE}>"),
        "To: <sip:x@y>;tag=1",
        1,
    );
    let sent = bench.receive(CALLER, strict);
    assert!(sent.iter().all(|one| one.to.to_string() == CALLER), "{:?}", lines(&sent));
    // An ACK is never answered, so it is dropped.
    let ack = tagged("h", &[]).replace("BYE", "ACK");
    assert_eq!(bench.receive(CALLER, ack).len(), 0);
}

#[test]
fn a_request_without_cookie_from_a_destination_passes() {
    let mut bench = Bench::new();
    // Another node's dialog, whose server left our Record-Route out.
    let bye = request("BYE", &format!("sip:{CALLER}"), "old", &[]).replacen(
        &format!("To: <sip:{INSIDE}>"),
        "To: <sip:x@y>;tag=1",
        1,
    );
    let sent = bench.receive("10.129.39.88:7010", bye);
    assert_eq!((sent[0].to.to_string(), sent[0].by), (CALLER.into(), 0));
}

#[test]
fn another_node_with_the_same_key_adopts_the_dialog() {
    let (invite, ok) = Bench::new().answered_call("1");
    let mut other = Bench::with(|config| config.node = "b".into());
    let sent = other.receive(CALLER, in_dialog("UPDATE", &ok, 2));
    assert_eq!((sent[0].to, sent[0].by), (invite.to, 1));
    assert_eq!(other.snapshot().sessions, 1);
    other.receive(CALLER, in_dialog("BYE", &ok, 3));
    assert_eq!(other.snapshot().sessions, 0);
    let mut stranger = Bench::with(|config| config.key = [8; 32]);
    stranger.load(crate::harness::set_19(&["10.0.0.1:1"]));
    assert_eq!(lines(&stranger.receive(CALLER, in_dialog("UPDATE", &ok, 2))), ["SIP/2.0 403 Forbidden"]);
}

#[test]
fn a_session_that_nobody_ends_lapses() {
    let mut bench = Bench::with(|config| config.limits.session_lifetime = seconds(600));
    bench.answered_call("1");
    bench.pass(seconds(599));
    assert_eq!(bench.snapshot().sessions, 1);
    bench.pass(seconds(2));
    assert_eq!(bench.snapshot().sessions, 0);
}

#[test]
fn our_own_listener_as_target_is_no_way_to_loop() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    let bye =
        in_dialog("BYE", &ok, 2).replacen(&ok.header("Contact").replace(['<', '>'], ""), &format!("sip:{OUTSIDE}"), 1);
    let sent = bench.receive(CALLER, bye);
    assert_eq!(sent[0].to.to_string(), "10.129.39.88:7010", "{:?}", lines(&sent));
}

#[test]
fn neither_a_session_nor_its_cookie_leads_anywhere_but_to_the_destinations_side() {
    let mut bench = Bench::new();
    bench.call("1");
    // Two datagrams that anybody can send: an INVITE, and a request with its tags.
    let with_tag = request("MESSAGE", "sip:198.51.100.7:5060", "1", &[]).replacen(
        &format!("To: <sip:{INSIDE}>"),
        "To: <sip:x@y>;tag=zz",
        1,
    );
    assert_eq!(lines(&bench.receive("203.0.113.9:5060", &with_tag)), ["SIP/2.0 403 Forbidden"]);
    let (_, ok) = bench.answered_call("2");
    let contact = ok.header("Contact").replace(['<', '>'], "");
    for elsewhere in ["sip:198.51.100.7:53", "sip:10.0.0.5:22", "sip:victim.example.com"] {
        let message =
            in_dialog("MESSAGE", &ok, 2).replacen(&format!("MESSAGE {contact}"), &format!("MESSAGE {elsewhere}"), 1);
        assert_eq!(lines(&bench.receive(CALLER, message)), ["SIP/2.0 403 Forbidden"], "{elsewhere}");
    }
    assert_eq!(bench.lookups.len(), 0);
    // Nor in the destination's name.
    let routes: String = ok.headers("Record-Route").iter().map(|route| format!("Route: {route}\r\n")).collect();
    let forged = request("MESSAGE", "sip:198.51.100.7:5060", "2", &[])
        .replacen("From: <sip:127.0.0.1:5072>;tag=from-2", "From: <sip:x@y>;tag=srv", 1)
        .replacen(&format!("To: <sip:{INSIDE}>"), &format!("{routes}To: <sip:127.0.0.1:5072>;tag=from-2"), 1);
    assert_eq!(lines(&bench.receive(CALLER, forged)), ["SIP/2.0 403 Forbidden"]);
}

#[test]
fn a_far_end_behind_the_destination_is_reached_as_its_2xx_says() {
    let mut bench = Bench::new();
    let invite = bench.call("1");
    let extra = ["Record-Route: <sip:10.7.7.7:5080;lr>", "Contact: <sip:10.8.8.8:7010>"];
    let answer = String::from_utf8(invite.answer(200, "OK", &extra[1..])).expect("text");
    let answer = answer.replacen("Record-Route:", &format!("{}\r\nRecord-Route:", extra[0]), 1);
    let ok = bench.receive(&invite.to.to_string(), answer)[0].clone();
    let sent = bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    assert_eq!(
        (lines(&sent), sent[0].to.to_string()),
        (vec!["BYE sip:10.8.8.8:7010 SIP/2.0".to_owned()], "10.7.7.7:5080".into())
    );
}

#[test]
fn an_invite_with_the_tags_of_a_session_does_not_move_it() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    let again =
        crate::harness::invite("1").replace("z9hG4bK-1-INVITE", "z9hG4bK-other").replace("CSeq: 1 ", "CSeq: 9 ");
    let sent = bench.receive(CALLER, again);
    bench.receive(&sent[1].to.to_string(), sent[1].answer(482, "Merged", &[]));
    bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    assert_eq!(bench.snapshot().sessions, 0);
}

#[test]
fn a_destination_of_a_late_answer_may_have_left_the_table_and_its_place_been_taken() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    bench.pass(seconds(3));
    bench.load(crate::harness::set_19(&["10.129.39.88:7011"]));
    bench.load(crate::harness::set_19(&["10.129.39.88:7011", "10.129.39.89:7010"]));
    bench.call("2");
    bench.call("3");
    bench.receive("10.129.39.88:7010", first.answer(200, "OK", &["Contact: <sip:10.129.39.88:7010>"]));
    bench.pass(seconds(13 * 3600));
    assert_eq!((bench.snapshot().sessions, bench.snapshot().transactions), (0, 0));
}
