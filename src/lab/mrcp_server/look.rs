//! What the stand-in server reads off a request: what it belongs to, and what it asks for.

use std::sync::Arc;

use crate::engine::sip::{Message, Method};
use crate::lab::leg;

/// Names a transaction or a session in a table and in its timers.
pub(super) type Key = Arc<[u8]>;

/// What a request has in common with its resends (RFC 3261 section 17.2.3); an ACK goes by its INVITE's.
pub(super) fn transaction_key(request: &Message<'_>) -> Key {
    match request.method() {
        Method::Ack => key_for(request, b"INVITE"),
        method => key_for(request, method.as_bytes()),
    }
}

pub(super) fn key_for(request: &Message<'_>, method: &[u8]) -> Key {
    let via = request.via();
    let sent_by = format!("{:?}:{:?}", via.host, via.port);
    let cseq = request.cseq().to_string();
    join(&[via.branch.unwrap_or_default(), sent_by.as_bytes(), method, cseq.as_bytes(), request.call_id()])
}

/// What copies of an initial INVITE that came by other ways have in common (RFC 3261 section 8.2.2.2).
pub(super) fn merge_key(request: &Message<'_>) -> Key {
    join(&[request.call_id(), request.from_tag(), request.cseq().to_string().as_bytes()])
}

pub(super) fn session_key(call_id: &[u8], ours: &[u8], theirs: &[u8]) -> Key {
    join(&[call_id, ours, theirs])
}

/// The parts with a mark between them that none can hold.
fn join(parts: &[&[u8]]) -> Key {
    parts.join(&b'\n').into()
}

/// The options that the request requires and that we do not know.
pub(super) fn unknown_extension(request: &Message<'_>) -> Option<String> {
    let unknown: Vec<_> = request
        .headers(b"Require")
        .flat_map(|line| line.split(|&b| b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty() && !matches!(*option, b"timer" | b"100rel"))
        .map(leg::text)
        .collect();
    (!unknown.is_empty()).then(|| unknown.join(", "))
}

/// The number that a Session-Expires begins with.
pub(super) fn seconds(value: &[u8]) -> Option<u32> {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}
