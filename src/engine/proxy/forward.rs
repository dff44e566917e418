//! The copy of a request for one branch: RFC 3261 section 16.6. What this file does not name leaves as it came.

use std::io::Write;
use std::net::SocketAddr;

use bytes::Bytes;

use super::preprocess::{COOKIE, Routed};
use crate::engine::dispatch::Destination;
use crate::engine::flow::{Listener, Transport};
use crate::engine::route::Rewrite;
use crate::engine::sip::{Address, Message, Splice, Text, Uri, header::Name, stamp_via};

/// The Max-Forwards of a request that came without (section 16.6 item 3).
const MAX_FORWARDS: u32 = 70;

/// What one copy differs in from the request.
#[derive(Debug)]
pub(crate) struct Copy<'c> {
    /// The Request-URI; none: as preprocessing left it.
    pub(crate) uri: Option<&'c [u8]>,
    /// The listener that it leaves by.
    pub(crate) leaves_by: &'c Listener,
    /// The branch of our Via, and what may follow it there.
    pub(crate) branch: &'c [u8],
    /// Our Record-Route, if we stay in the path.
    pub(crate) record_route: Option<RecordRoute<'c>>,
}

/// Our Record-Route.
#[derive(Debug)]
pub(crate) struct RecordRoute<'c> {
    /// The listener that the request came by; two values where it differs from the one it leaves by.
    pub(crate) came_by: &'c Listener,
    /// The cookie.
    pub(crate) cookie: &'c [u8],
    /// The configuration's parameters: `nat=yes`, or "".
    pub(crate) params: &'c str,
}

/// Makes the copy.
pub(crate) fn forward(request: &Message<'_>, routed: &Routed<'_>, peer: SocketAddr, copy: &Copy<'_>) -> Bytes {
    let mut splice = Splice::new(request.bytes());
    let strict = strict_next_hop(routed);
    let uri = leaving_uri(routed, copy.uri);
    if uri != request.request_uri() {
        splice.replace(request.request_uri(), |text| text.extend_from_slice(uri));
    }
    let mut via_seen = false;
    let mut hops_seen = false;
    let mut route_values = Values { first: routed.taken + usize::from(strict.is_some()), total: usize::MAX, at: 0 };
    if routed.last_taken {
        route_values.total = request.routes().count() - 1;
    }
    let mut last_route = None;
    // Section 16.6 item 4: ours stands before all others, and some proxies write theirs before the Via.
    let mut record_route = copy.record_route.as_ref();
    for line in request.lines() {
        match line.name {
            Name::RecordRoute => {
                if let Some(record_route) = record_route.take() {
                    splice.insert_before(line.whole, |text| write_record_route(text, copy, record_route));
                }
            }
            Name::Via if !via_seen => {
                via_seen = true;
                splice.insert_before(line.whole, |text| {
                    write_via(text, copy);
                    record_route
                        .take()
                        .into_iter()
                        .for_each(|record_route| write_record_route(text, copy, record_route));
                });
                stamp_via(&mut splice, &request.via(), peer);
            }
            Name::MaxForwards => {
                hops_seen = true;
                let hops = request.max_forwards().unwrap_or(MAX_FORWARDS).saturating_sub(1);
                splice.replace(line.value, |text| write!(text, "{hops}").expect("writing to memory"));
            }
            Name::Route => {
                route_values.take_from(line.whole, line.value, &mut splice);
                last_route = Some(line.whole);
            }
            _ => {}
        }
    }
    let top = request.lines()[0].whole;
    if !hops_seen {
        splice.insert_before(top, |text| write!(text, "Max-Forwards: {MAX_FORWARDS}\r\n").expect("writing to memory"));
    }
    // A stream needs to know where the message ends (section 18.3).
    if copy.leaves_by.transport.is_reliable() && request.values(Name::ContentLength).next().is_none() {
        let length = request.body().len();
        splice.insert_before(top, |text| write!(text, "Content-Length: {length}\r\n").expect("writing to memory"));
    }
    if strict.is_some() {
        let own = copy.uri.unwrap_or(routed.uri);
        let line =
            |text: &mut Text| [&b"Route: <"[..], own, b">\r\n"].iter().for_each(|part| text.extend_from_slice(part));
        splice.insert_after(last_route.unwrap_or(top), line);
    }
    splice.finish()
}

/// The Request-URI that a request leaves with; `chosen`: the one that is written for a destination.
pub(crate) fn leaving_uri<'a>(routed: &Routed<'a>, chosen: Option<&'a [u8]>) -> &'a [u8] {
    // Section 16.6 item 6: the strict router's URI leads, ours goes to the end of the route.
    strict_next_hop(routed).or(chosen).unwrap_or(routed.uri)
}

/// The next hop's URI if it is a strict router's.
fn strict_next_hop<'a>(routed: &Routed<'a>) -> Option<&'a [u8]> {
    routed.next.filter(Address::is_strict).map(|next| next.uri)
}

fn write_via(text: &mut Text, copy: &Copy<'_>) {
    let Listener { transport, advertise, .. } = copy.leaves_by;
    write!(text, "Via: SIP/2.0/{} {advertise};branch=", transport.via_name()).expect("writing to memory");
    text.extend_from_slice(copy.branch);
    text.extend_from_slice(b"\r\n");
}

/// One value where the request leaves as it came, else two: the destination's side on top (RFC 5658 section 5.1).
fn write_record_route(text: &mut Text, copy: &Copy<'_>, record_route: &RecordRoute<'_>) {
    let mut value = |listener: &Listener| {
        write!(text, "Record-Route: <sip:{};lr", listener.advertise).expect("writing to memory");
        if listener.transport != Transport::Udp {
            write!(text, ";transport={}", listener.transport.name()).expect("writing to memory");
        }
        for part in [b";", COOKIE, b"=", record_route.cookie] {
            text.extend_from_slice(part);
        }
        if !record_route.params.is_empty() {
            write!(text, ";{}", record_route.params).expect("writing to memory");
        }
        text.extend_from_slice(b">\r\n");
    };
    value(copy.leaves_by);
    if record_route.came_by.id != copy.leaves_by.id {
        value(record_route.came_by);
    }
}

/// The Route values to keep: from `first` to `total`, counted over all lines.
struct Values {
    first: usize,
    total: usize,
    at: usize,
}

impl Values {
    /// Takes what is not kept out of one line.
    fn take_from(&mut self, whole: &[u8], value: &[u8], splice: &mut Splice<'_>) {
        let mut kept: Option<(usize, usize)> = None;
        for one in crate::engine::sip::list_values(value) {
            if (self.first..self.total).contains(&self.at) {
                let start = one.as_ptr().addr() - value.as_ptr().addr();
                kept = Some((kept.map_or(start, |(first, _)| first), start + one.len()));
            }
            self.at += 1;
        }
        match kept {
            None => splice.remove(whole),
            Some((start, end)) => {
                splice.remove(&value[..start]);
                splice.remove(&value[end..]);
            }
        }
    }
}

/// The Request-URI on the way to a destination.
pub(crate) fn rewrite_uri(destination: &Destination, rewrite: Rewrite, uri: &[u8]) -> Option<Text> {
    let mut text = Text::new();
    let Destination { row, .. } = destination;
    match rewrite {
        Rewrite::None => return None,
        Rewrite::Article => text.extend_from_slice(b"sip:"),
        Rewrite::Host => {
            text.extend_from_slice(b"sip:");
            if let Some(user) = Uri::parse(uri).ok().and_then(|uri| uri.user) {
                text.extend_from_slice(user);
                text.push(b'@');
            }
        }
    }
    write!(text, "{}", row.address).expect("writing to memory");
    if row.transport != Transport::Udp {
        write!(text, ";transport={}", row.transport.name()).expect("writing to memory");
    }
    if rewrite == Rewrite::Host {
        let params = Uri::parse(uri).map(|uri| uri.params).unwrap_or_default();
        let stays = |name: &[u8]| !name.eq_ignore_ascii_case(b"transport") && !name.eq_ignore_ascii_case(b"maddr");
        for (name, value) in params.filter(|(name, _)| stays(name)) {
            text.push(b';');
            text.extend_from_slice(name);
            if let Some(value) = value {
                text.push(b'=');
                text.extend_from_slice(value);
            }
        }
    }
    Some(text)
}
