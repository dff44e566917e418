//! What a proxy need not change leaves byte for byte, whatever the message looks like; and the bodies of the fuzz
//! targets on seeded input. The checks are in checks.rs, this makes the messages.

use std::fs;
use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::checks::{self, show};
use crate::harness::{Bench, CALLER, INSIDE, OUTSIDE, SERVERS, Sent, invite, set_19};

/// Header names that are none of a proxy's business; some look as if they were.
const NAMES: [&str; 16] = [
    "Subject",
    "s",
    "X-Custom",
    "m",
    "Contact",
    "k",
    "Session-Expires",
    "x",
    "Viaa",
    "Vi",
    "Routes",
    "C%6Fntact",
    "Max-Forward",
    "!%*_+`'~.",
    "From-Tag",
    "Date",
];

/// Any bytes that a header's value may hold on one line, NUL, high bytes and lone CR among them.
fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>().prop_filter("no line end", |b| *b != b'\n'), 0..40)
}

/// Line ends; a sender mixes them at will.
fn line_end() -> impl Strategy<Value = &'static str> {
    select(vec!["\r\n", "\r\n", "\n"])
}

/// White space that may stand between any two parts, folds among it.
fn space() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", "", " ", "\t", "  ", "\r\n ", "\n\t", " \r\n  "])
}

/// What may stand between a header's name and its value.
fn colon() -> impl Strategy<Value = String> {
    (select(vec!["", "", " ", "\t "]), space()).prop_map(|(before, after)| format!("{before}:{after}"))
}

/// A header that is none of a proxy's business, folded or not.
fn other() -> impl Strategy<Value = Vec<u8>> {
    let folds = vec((line_end(), select(vec![" ", "\t", "   "]), text()), 0..3);
    (select(NAMES.to_vec()), colon(), text(), folds, line_end()).prop_map(|(name, colon, first, folds, end)| {
        let mut line = [name.as_bytes(), colon.as_bytes(), &first].concat();
        for (end, space, more) in folds {
            [end.as_bytes(), space.as_bytes(), &more].iter().for_each(|part| line.extend_from_slice(part));
        }
        line.extend_from_slice(end.as_bytes());
        line
    })
}

/// One Via value of somebody else's.
fn via() -> impl Strategy<Value = String> {
    let param = select(vec![
        ";rport",
        ";RPORT=",
        ";rport=1",
        ";received=9.9.9.9",
        ";received",
        ";received=",
        ";x",
        ";ttl=1",
        ";y=\"a,;\\\"b\"",
        ";maddr=1.2.3.4",
    ]);
    let host = select(vec!["192.0.2.7:5070", "h", "[2001:db8::7]", "a.example.com : 99"]);
    let params = proptest::sample::subsequence(vec![0usize, 1, 2, 3], 0..4);
    (select(vec!["UDP", "TCP", "x"]), space(), host, params, vec((space(), param), 4), any::<u16>()).prop_map(
        |(transport, space, host, chosen, params, branch)| {
            let mut value = format!("SIP / 2.0/{transport} {space}{host};branch=z9hG4bKx{branch}");
            let mut names = Vec::new();
            for (space, param) in chosen.into_iter().map(|index| &params[index]) {
                // A parameter stands there once.
                let name = param.to_ascii_lowercase().split('=').next().unwrap_or_default().to_owned();
                if !names.contains(&name) {
                    names.push(name);
                    value += &format!("{space}{param}");
                }
            }
            value
        },
    )
}

/// Values in one line or several, whichever way commas and line ends fall.
fn lines(names: Vec<&'static str>, values: Vec<String>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let count = values.len();
    (vec((any::<bool>(), space(), space()), count), vec((select(names), colon(), line_end()), count)).prop_map(
        move |(joins, heads)| {
            let mut lines: Vec<Vec<u8>> = Vec::new();
            let mut end = "";
            for ((value, (join, before, after)), (name, colon, line_end)) in values.iter().zip(joins).zip(heads) {
                match lines.last_mut().filter(|_| join) {
                    Some(line) => line.extend_from_slice(format!("{before},{after}{value}").as_bytes()),
                    None => {
                        lines.last_mut().into_iter().for_each(|line| line.extend_from_slice(end.as_bytes()));
                        lines.push(format!("{name}{colon}{value}").into_bytes());
                        end = line_end;
                    }
                }
            }
            lines.last_mut().into_iter().for_each(|line| line.extend_from_slice(end.as_bytes()));
            lines
        },
    )
}

/// Via lines with `values` values.
fn vias(values: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(via(), values).prop_flat_map(|values| lines(vec!["Via", "v", "VIA", "V"], values))
}

/// A Route value of somebody else's; what stands in quotes is no list.
fn route() -> impl Strategy<Value = String> {
    select(vec![
        "<sip:192.0.2.1:5060;lr>",
        "<sip:192.0.2.2;lr=on;x=1>;y=2",
        "\"a, b\" <sip:u@192.0.2.3:99;lr>",
        "name <sip:192.0.2.4;x>",
    ])
    .prop_map(str::to_owned)
}

/// Route lines and the values in them.
fn routes(values: Vec<String>) -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<String>)> {
    (lines(vec!["Route", "ROUTE"], values.clone()), Just(values))
}

/// Call-ID, From-tag, and To-tag with its name.
type Dialog = (&'static str, &'static str, &'static str);

/// A request outside a dialog.
const OUTSIDE_DIALOG: Dialog = ("c(:)<a>@\"x\"", "1", "");
/// One in the dialog that `Bench::answered_call` makes for "x".
const INSIDE_DIALOG: Dialog = ("x", "from-x", ";tag=srv");

/// The headers that every message has, each written in one of its ways, and others around them, in any order.
fn headers(method: &'static str, dialog: Dialog) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let (call_id, from_tag, to_tag) = dialog;
    let fixed = [
        (["From", "f"], format!("\"A, <B>\" <sip:a@example.com;x=y>;tag={from_tag}")),
        (["To", "T"], format!("<sip:b@example.com>{to_tag}")),
        (["Call-ID", "i"], call_id.to_owned()),
        (["CSeq", "CSEQ"], format!("7 {method}")),
    ];
    let one = |(names, value): ([&'static str; 2], String)| {
        (select(names.to_vec()), colon(), space(), line_end())
            .prop_map(move |(name, colon, space, end)| format!("{name}{colon}{value}{space}{end}").into_bytes())
    };
    let [a, b, c, d] = fixed.map(one);
    let hops = prop_oneof![
        Just(None),
        (colon(), 1u32..=255, line_end())
            .prop_map(|(colon, hops, end)| Some(format!("max-Forwards{colon}{hops}{end}").into_bytes()))
    ];
    (a, b, c, d, hops, vec(other(), 0..8)).prop_flat_map(|(a, b, c, d, hops, others)| {
        let all: Vec<_> = [a, b, c, d].into_iter().chain(hops).chain(others).collect();
        Just(all).prop_shuffle()
    })
}

/// Bodies of any bytes, told by Content-Length or running to the datagram's end.
fn body() -> impl Strategy<Value = (Option<String>, Vec<u8>)> {
    (vec(any::<u8>(), 0..200), select(vec![None, Some("l"), Some("Content-Length")]), colon(), line_end())
        .prop_map(|(body, name, colon, end)| (name.map(|name| format!("{name}{colon}{}{end}", body.len())), body))
}

/// Puts the Via lines, in their order, among the headers.
fn join(start: &str, vias: &[Vec<u8>], headers: &[Vec<u8>], gap: usize, length: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut out = start.as_bytes().to_vec();
    let mut vias = vias.iter();
    for header in headers {
        for via in vias.by_ref().take(gap) {
            out.extend_from_slice(via);
        }
        out.extend_from_slice(header);
    }
    vias.for_each(|via| out.extend_from_slice(via));
    [&out, length.unwrap_or_default().as_bytes(), b"\r\n", body].concat()
}

fn open_bench() -> Bench {
    Bench::without_failover(|config| config.route.rules[0].when.clear())
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The values of all Via lines, without white space around them, as a stranger reads them: quotes hide commas.
fn via_values(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for line in checks::cut(bytes).expect("an end of headers").lines.iter().filter(|line| line.is("Via", "v")) {
        let colon = line.whole.iter().position(|&b| b == b':').expect("a colon");
        let (mut quoted, mut escaped) = (false, false);
        let parts = line.whole[colon + 1..].split(|&b| {
            let comma = b == b',' && !quoted;
            quoted ^= b == b'"' && !escaped;
            escaped = b == b'\\' && quoted && !escaped;
            comma
        });
        values.extend(parts.map(|part| part.trim_ascii().to_vec()));
    }
    values
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_leaves_as_it_came_but_for_what_a_proxy_changes(
        vias in vias(1..6),
        method in select(vec!["INVITE", "OPTIONS", "REGISTER", "x!Y"]),
        blank in select(vec!["", "\r\n", "\n\r\n"]),
        headers in headers("METHOD", OUTSIDE_DIALOG),
        gap in 0usize..3,
        (length, body) in body(),
        end in line_end(),
    ) {
        let headers: Vec<_> = headers.iter().map(|header| replace(header, b"METHOD", method.as_bytes())).collect();
        let start = format!("{blank}{method} sip:u%00@h;p SIP/2.0{end}");
        let message = join(&start, &vias, &headers, gap, length.as_deref(), &body);
        let sent = open_bench().receive(CALLER, &message);
        let sent: Vec<_> = sent.iter().filter(|sent| !checks::is_response(sent)).collect();
        prop_assert_eq!(sent.len(), 1, "not forwarded: {}", show(&message));
        if let Err(error) = checks::forwarded(&message, address(CALLER), &sent[0].bytes, OUTSIDE) {
            prop_assert!(false, "{}\nof\n{}", error, show(&message));
        }
        prop_assert!(sent[0].bytes.ends_with(&[b"\r\n", &body[..]].concat()));
        // Ours is on top, and only the next one may have changed.
        let (before, after) = (via_values(&message), via_values(&sent[0].bytes));
        prop_assert_eq!(&before[1..], &after[2..]);
    }

    #[test]
    fn a_route_beyond_us_leaves_as_it_came(
        vias in vias(1..4),
        headers in headers("BYE", INSIDE_DIALOG),
        (own, routes) in (0usize..3, vec(route(), 0..5)).prop_flat_map(|(own, values)| {
            let ours = (0..own).map(|index| format!("<sip:{};lr>", [INSIDE, OUTSIDE][index]));
            (Just(own), routes(ours.chain(values).collect()))
        }),
        gap in 0usize..3,
        (length, body) in body(),
    ) {
        let (lines, values) = routes;
        let mut bench = open_bench();
        let (invite, _) = bench.answered_call("x");
        // Routes lead to the destinations' side alone.
        let far = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"];
        bench.load(set_19(&[&SERVERS[..], &far].concat()));
        let mut headers = headers;
        let at = gap.min(headers.len());
        headers.splice(at..at, lines);
        let message = join(&format!("BYE sip:{} SIP/2.0\r\n", invite.to), &vias, &headers, gap, length.as_deref(), &body);
        let sent = bench.receive(CALLER, &message);
        prop_assert_eq!(sent.len(), 1, "not forwarded: {}", show(&message));
        if let Err(error) = checks::forwarded(&message, address(CALLER), &sent[0].bytes, OUTSIDE) {
            prop_assert!(false, "{}\nof\n{}", error, show(&message));
        }
        let mut expected = values[own..].to_vec();
        let mut uri = format!("sip:{}", invite.to);
        if expected.first().is_some_and(|next| !next.contains(";lr")) {
            // A strict router is next.
            expected.push(format!("<{uri}>"));
            uri = expected.remove(0).split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        }
        prop_assert_eq!(sent[0].line(), format!("BYE {uri} SIP/2.0"));
        let message = sent[0].message();
        let found: Vec<_> = message.routes().map(|route| String::from_utf8_lossy(route.raw).into_owned()).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_response_leaves_as_it_came_but_for_our_via(
        vias in vias(1..5),
        ours in (select(vec!["Via", "v"]), colon(), any::<bool>(), line_end()),
        status in select(vec![180u16, 200, 299, 404, 486, 603]),
        headers in headers("INVITE", OUTSIDE_DIALOG),
        gap in 0usize..3,
        (length, body) in body(),
        end in line_end(),
    ) {
        let mut bench = open_bench();
        let forwarded = bench.call("x");
        let (name, colon, alone, line_end) = ours;
        let own = format!("{name}{colon}{}", forwarded.header("Via"));
        let mut vias = vias;
        if alone {
            vias.insert(0, format!("{own}{line_end}").into_bytes());
        } else {
            let colon = vias[0].iter().position(|&b| b == b':').expect("a colon");
            vias[0] = [own.as_bytes(), b",", &vias[0][colon + 1..]].concat();
        }
        let start = format!("SIP/2.0 {status} \u{fc}\u{0} why{end}");
        let message = join(&start, &vias, &headers, gap, length.as_deref(), &body);
        let sent = bench.receive(&forwarded.to.to_string(), &message);
        let sent: Vec<&Sent> = sent.iter().filter(|sent| checks::is_response(sent)).collect();
        prop_assert_eq!(sent.len(), 1, "not passed on: {}", show(&message));
        if let Err(error) = checks::passed(&message, &sent[0].bytes) {
            prop_assert!(false, "{}\nof\n{}", error, show(&message));
        }
        prop_assert_eq!(&via_values(&message)[1..], &via_values(&sent[0].bytes)[..]);
    }

    #[test]
    fn the_fuzz_targets_hold_for_broken_messages(
        seed in any::<proptest::sample::Index>(),
        edits in vec((any::<proptest::sample::Index>(), 0usize..8, vec(any::<u8>(), 0..8)), 0..4),
    ) {
        let seeds = seeds();
        let mut bytes = seeds[seed.index(seeds.len())].clone();
        for (at, remove, insert) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + remove).min(bytes.len());
            bytes.splice(at..end, insert);
        }
        checks::parse(&bytes);
        checks::preserve(&bytes);
    }

    #[test]
    fn the_fuzz_targets_hold_for_random_messages(
        vias in vias(0..3),
        headers in headers("INVITE", OUTSIDE_DIALOG),
        (length, body) in body(),
        start in select(vec!["INVITE sip:h SIP/2.0\r\n", "SIP/2.0 200 OK\r\n", "ACK sip:h SIP/2.0\n", "INVITE h SIP/2.0\r\n"]),
    ) {
        let message = join(start, &vias, &headers, 1, length.as_deref(), &body);
        checks::parse(&message);
        checks::preserve(&message);
    }
}

/// The messages that fuzzing begins with: RFC 4475's, the captured ones and one of ours.
fn seeds() -> Vec<Vec<u8>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let mut paths: Vec<_> = ["torture", "captures"]
        .iter()
        .flat_map(|folder| fs::read_dir(format!("{root}/{folder}")).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "dat" || kind == "sip"))
        .collect();
    paths.sort();
    let files = paths.iter().map(|path| fs::read(path).expect("a message"));
    files.chain([invite("seed").into_bytes()]).collect()
}

fn replace(text: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    match text.windows(what.len()).position(|part| part == what) {
        Some(at) => [&text[..at], with, &text[at + what.len()..]].concat(),
        None => text.to_vec(),
    }
}

#[test]
fn any_cut_of_all_seeds_in_one_stream_gives_the_same_messages() {
    let whole = |seed: Vec<u8>| replace(&seed, b"Content-Length: 0", b"l:0");
    let mut streams = vec![Vec::new(); 8];
    for (place, seed) in seeds().into_iter().enumerate() {
        let stream = &mut streams[place % 8];
        for part in [b"\r\n\r\n", &invite("before").into_bytes()[..], &whole(seed)] {
            stream.extend_from_slice(part);
        }
    }
    streams.iter().for_each(|stream| checks::stream(stream));
}

#[test]
fn the_fuzz_targets_hold_for_every_seed() {
    for seed in seeds() {
        checks::parse(&seed);
        checks::preserve(&seed);
        checks::stream(&seed);
    }
    assert_eq!(SERVERS.len(), 2);
}
