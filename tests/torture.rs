//! RFC 4475: each of its messages has the outcome that torture/outcomes.toml gives it, with the reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use tandem::engine::Event;
use tandem::engine::event::DropCause;
use tandem::engine::flow::HostPort;
use toml_edit::DocumentMut;

use crate::checks;
use crate::harness::{Bench, Sent, seconds, set_19};

/// The only listener, as outcomes.toml has it.
const LISTENER: &str = "127.0.0.1:5080";
/// The set's only destination.
const DESTINATION: &str = "127.0.0.2:7010";
/// Where the messages come from.
const PEER: &str = "127.0.0.3:5060";

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture"))
}

/// Each message's file and outcome.
fn outcomes() -> Vec<(String, String)> {
    let text = fs::read_to_string(folder().join("outcomes.toml")).expect("the table");
    let table: DocumentMut = text.parse().expect("TOML");
    let entries = table["message"].as_array_of_tables().expect("entries");
    let field = |entry: &toml_edit::Table, name: &str| entry[name].as_str().expect("a text").to_owned();
    entries.iter().map(|entry| (field(entry, "file"), field(entry, "outcome"))).collect()
}

fn read(file: &str) -> Vec<u8> {
    fs::read(folder().join(file)).expect("a message")
}

/// What outcomes.toml says that it holds for.
fn bench() -> Bench {
    let mut bench = Bench::with(|config| {
        let address = LISTENER.parse().expect("an address");
        config.listeners.truncate(1);
        config.listeners[0].bind = address;
        config.listeners[0].advertise = HostPort::from(address);
        config.route.rules[0].when.clear();
    });
    bench.load(set_19(&[DESTINATION]));
    bench.events.clear();
    bench
}

/// What became of one message, in the table's words.
fn outcome(file: &str, bench: &mut Bench, sent: &[Sent]) -> Result<String, String> {
    let dropped = bench.events.iter().find_map(|event| match event {
        Event::Dropped { cause, .. } => Some(*cause),
        _ => None,
    });
    let invite = sent.first().is_some_and(|first| first.line() == "SIP/2.0 100 Trying");
    match (&sent[usize::from(invite)..], dropped) {
        ([], Some(DropCause::StrayResponse)) => Ok("stray".into()),
        ([], Some(DropCause::Malformed | DropCause::NotSip)) => Ok("drop".into()),
        ([one], None) if checks::is_response(one) => {
            if one.to.ip() != PEER.parse::<std::net::SocketAddr>().expect("an address").ip() {
                return Err(format!("answered to {}", one.to));
            }
            Ok(format!("reply {}", &one.text()[8..11]))
        }
        ([one], None) if one.to.to_string() == DESTINATION => {
            checks::forwarded(&read(file), PEER.parse().expect("an address"), &one.bytes, LISTENER)?;
            Ok("forward".into())
        }
        (other, cause) => {
            Err(format!("{cause:?} and {:?}", other.iter().map(|one| (one.to, one.line())).collect::<Vec<_>>()))
        }
    }
}

#[test]
fn every_message_has_its_outcome() {
    let mut wrong = Vec::new();
    for (file, expected) in outcomes() {
        let mut bench = bench();
        let sent = bench.receive(PEER, read(&file));
        match outcome(&file, &mut bench, &sent) {
            Ok(found) if found == expected => {}
            Ok(found) => wrong.push(format!("{file}: {found} instead of {expected}")),
            Err(error) => wrong.push(format!("{file}: {expected}, but {error}")),
        }
        // Nothing comes to light later but resends and timeouts.
        bench.pass(seconds(300));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_every_message() {
    let files: BTreeSet<String> = fs::read_dir(folder())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".dat"))
        .collect();
    assert_eq!(outcomes().into_iter().map(|(file, _)| file).collect::<BTreeSet<_>>(), files);
    assert_eq!(files.len(), 49);
}

#[test]
fn octets_behind_the_body_are_not_forwarded() {
    let sent = bench().receive(PEER, read("dblreq.dat"));
    assert_eq!(sent.len(), 1);
    assert!(
        sent[0].text().ends_with("Content-Length: 0\r\n\r\n") && !sent[0].text().contains("INVITE"),
        "{}",
        sent[0].text()
    );
}

#[test]
fn only_what_a_proxy_must_know_stands_in_unsupported() {
    let sent = bench().receive(PEER, read("bext01.dat"));
    let all = sent[0].headers("Unsupported").join(",");
    assert!(all.contains("noProxiesSupportThis") && all.contains("norDoAnyProxiesSupportThis"), "{all}");
    assert!(!all.contains("nothingSupportsThis"), "{all}");
}

#[test]
fn two_requests_without_a_unique_branch_are_two() {
    let first = String::from_utf8(read("badbranch.dat")).expect("text");
    let other = first.replace("Call-ID: ", "Call-ID: other");
    assert_ne!(first, other);
    let mut bench = bench();
    assert_eq!(bench.receive(PEER, &first).len(), 1);
    assert_eq!(bench.receive(PEER, &other).len(), 1);
    // The same again is a retransmission.
    assert_eq!(bench.receive(PEER, &first).len(), 0);
}
