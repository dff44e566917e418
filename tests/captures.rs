//! A real MRCPv2 client and server talk through the engine: what each of captures/ sent reaches the other, changed only
//! where RFC 3261 section 16.6 says. Each side repeats our Via and Record-Route as it did those of the proxy then.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use tandem::engine::sip::{Message, Method, Start};
use toml_edit::DocumentMut;

use crate::checks::{self, cut};
use crate::harness::{Bench, INSIDE, Sent, lines, seconds, set_19};

/// One captured message.
struct Captured {
    file: String,
    from_client: bool,
    bytes: Vec<u8>,
}

struct Call {
    name: String,
    messages: Vec<Captured>,
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures"))
}

fn calls() -> Vec<Call> {
    let text = fs::read_to_string(folder().join("index.toml")).expect("the index");
    let index: DocumentMut = text.parse().expect("TOML");
    let message = |entry: &toml_edit::Value| {
        let field = |name: &str| entry.as_inline_table().and_then(|table| table.get(name)?.as_str()).expect("a text");
        let file = field("file").to_owned();
        let bytes = fs::read(folder().join(&file)).expect("a message");
        Captured { from_client: field("from") == "client", bytes, file }
    };
    let calls = index["call"].as_array_of_tables().expect("calls").iter();
    calls
        .map(|call| Call {
            name: call["name"].as_str().expect("a name").to_owned(),
            messages: call["messages"].as_array().expect("messages").iter().map(message).collect(),
        })
        .collect()
}

/// A call on its way through the engine.
struct Replay {
    bench: Bench,
    client: String,
    server: String,
    /// What we forwarded to either side, by method and CSeq.
    forwarded: HashMap<(Vec<u8>, u32), Sent>,
    /// The Record-Route lines of the first INVITE, as the server got them.
    record_routes: Vec<Vec<u8>>,
    /// The last INVITE failed, so its ACK ends here.
    failed: bool,
}

impl Replay {
    fn new(call: &Call) -> Self {
        let parsed = |captured: &Captured| Message::parse(&captured.bytes).map(|message| message.via()).is_ok();
        assert!(call.messages.iter().all(parsed));
        let first = Message::parse(&call.messages[0].bytes).expect("SIP");
        let client = first.via().response_address().expect("an address").to_string();
        // Each server tells its port by its name.
        let agents = call.messages.iter().filter(|captured| !captured.from_client).filter_map(|captured| {
            let agent = Message::parse(&captured.bytes).ok()?.user_agent()?;
            Some(String::from_utf8_lossy(agent).rsplit('-').next()?.to_owned())
        });
        let port = agents.into_iter().next().unwrap_or("7010".into());
        let server = format!("127.0.0.1:{port}");
        let mut bench = Bench::without_failover(|config| config.route.rules[0].when.clear());
        bench.load(set_19(&[&server]));
        let (forwarded, record_routes) = (HashMap::new(), Vec::new());
        Replay { bench, client, server, forwarded, record_routes, failed: false }
    }

    fn step(&mut self, captured: &Captured) {
        let message = Message::parse(&captured.bytes).expect("SIP");
        match (message.start(), captured.from_client) {
            (Start::Request { .. }, from_client) => self.request(&captured.bytes, &message, from_client),
            (Start::Response { status, .. }, from_client) => {
                self.response(&captured.bytes, &message, status, from_client);
            }
        }
    }

    fn request(&mut self, bytes: &[u8], message: &Message<'_>, from_client: bool) {
        let (from, to) = self.ends(from_client);
        let method = message.method();
        if method == Method::Ack && self.failed {
            return assert_eq!(lines(&self.bench.receive(&from, bytes)), [""; 0]);
        }
        let bytes = self.along_our_route(bytes, from_client, !message.to_tag().is_empty());
        let mut sent = self.bench.receive(&from, &bytes);
        if method == Method::Invite {
            assert_eq!(sent.remove(0).line(), "SIP/2.0 100 Trying");
        }
        let [sent] = &sent[..] else { panic!("{:?}", lines(&sent)) };
        assert_eq!((sent.to.to_string(), sent.by), (to, 0));
        checks::forwarded(&bytes, from.parse().expect("an address"), &sent.bytes, INSIDE)
            .unwrap_or_else(|error| panic!("{error}"));
        if message.to_tag().is_empty() {
            self.record_routes = whole_lines(&sent.bytes, "Record-Route");
            assert_eq!(self.record_routes.len(), usize::from(method == Method::Invite));
        }
        self.forwarded.insert((method.as_bytes().to_vec(), message.cseq()), sent.clone());
    }

    fn response(&mut self, bytes: &[u8], message: &Message<'_>, status: u16, from_client: bool) {
        let (from, to) = self.ends(from_client);
        let key = (message.method().as_bytes().to_vec(), message.cseq());
        let bytes = with_vias_of(bytes, &self.forwarded[&key]);
        let sent = self.bench.receive(&from, &bytes);
        self.failed |= message.method() == Method::Invite && status >= 300;
        match status {
            // Ours went before; this one's is between the server and us.
            100 => assert_eq!(lines(&sent), [""; 0]),
            // Section 16.7 item 6: a 503 says nothing of us.
            503 => assert_eq!(lines(&sent)[1..], ["SIP/2.0 500 Internal Server Error"]),
            _ => {
                let [sent] = &sent[..] else { panic!("{:?}", lines(&sent)) };
                assert_eq!((sent.to.to_string(), sent.by), (to, 0));
                checks::passed(&bytes, &sent.bytes).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    fn ends(&self, from_client: bool) -> (String, String) {
        match from_client {
            true => (self.client.clone(), self.server.clone()),
            false => (self.server.clone(), self.client.clone()),
        }
    }

    /// The request with the Route that its sender would have learnt from our Record-Routes; one outside a dialog has none.
    fn along_our_route(&self, bytes: &[u8], from_client: bool, inside: bool) -> Vec<u8> {
        let mut routes = self.record_routes.clone();
        if from_client {
            routes.reverse();
        }
        let message = cut(bytes).expect("an end of headers");
        let mut out = message.start.to_vec();
        for line in message.lines.iter().filter(|line| !line.is("Route", "Route")) {
            out.extend_from_slice(line.whole);
            if line.is("Via", "v") && inside {
                routes.iter().for_each(|route| out.extend_from_slice(&route[b"Record-".len()..]));
            }
        }
        [&out, message.rest].concat()
    }
}

/// The response with the Vias and Record-Routes of the request that it answers.
fn with_vias_of(response: &[u8], request: &Sent) -> Vec<u8> {
    let message = cut(response).expect("an end of headers");
    let mut out = message.start.to_vec();
    whole_lines(&request.bytes, "Via").iter().for_each(|line| out.extend_from_slice(line));
    whole_lines(&request.bytes, "Record-Route").iter().for_each(|line| out.extend_from_slice(line));
    for line in message.lines.iter().filter(|line| !line.is("Via", "v") && !line.is("Record-Route", "Record-Route")) {
        out.extend_from_slice(line.whole);
    }
    [&out, message.rest].concat()
}

fn whole_lines(bytes: &[u8], name: &str) -> Vec<Vec<u8>> {
    let lines = cut(bytes).expect("an end of headers").lines;
    lines.iter().filter(|line| line.is(name, name)).map(|line| line.whole.to_vec()).collect()
}

#[test]
fn every_message_passes_and_changes_only_where_it_may() {
    let calls = calls();
    for call in calls.iter().filter(|call| !["empty", "mute"].contains(&call.name.as_str())) {
        let mut replay = Replay::new(call);
        for captured in &call.messages {
            println!("{}", captured.file);
            replay.step(captured);
        }
        // All is said; but two clients (over TCP then) never heard of the server's BYE.
        let later = replay.bench.pass(seconds(300));
        assert_eq!(later.is_empty(), !["server-bye-3", "server-bye-4"].contains(&call.name.as_str()), "{}", call.name);
        let snapshot = replay.bench.snapshot();
        assert_eq!((snapshot.transactions, snapshot.sessions), (0, 0), "{}", call.name);
    }
    assert_eq!(calls.iter().map(|call| call.messages.len()).sum::<usize>(), 100);
}

#[test]
fn the_client_acknowledges_what_we_answer_ourselves() {
    for (name, addresses, first, last) in [
        ("empty", &[][..], &["SIP/2.0 100 Trying", "SIP/2.0 480 MRCP server Unavailable"][..], ""),
        (
            "mute",
            &["127.0.0.1:7010"],
            &["SIP/2.0 100 Trying", "INVITE sip:127.0.0.1:7010 SIP/2.0"],
            "SIP/2.0 480 MRCP server Unavailable",
        ),
    ] {
        let call = calls().into_iter().find(|call| call.name == name).expect("the call");
        let mut replay = Replay::new(&call);
        replay.bench.load(set_19(addresses));
        let sent = replay.bench.receive(&replay.client, &call.messages[0].bytes);
        assert_eq!(lines(&sent), first);
        if !last.is_empty() {
            assert_eq!(lines(&replay.bench.pass(seconds(33))).last().map(String::as_str), Some(last));
        }
        assert_eq!(lines(&replay.bench.receive(&replay.client, &call.messages[1].bytes)), [""; 0]);
        assert_eq!(lines(&replay.bench.pass(seconds(300))), [""; 0]);
    }
}
