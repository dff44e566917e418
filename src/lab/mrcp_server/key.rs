//! What tells the stand-in server's transactions and sessions apart.

use std::sync::Arc;

use crate::engine::sip::{Message, Method};

/// Names a transaction or a session in a table and in its timers.
pub(super) type Key = Arc<[u8]>;

/// What a request has in common with its resends (RFC 3261 section 17.2.3); an ACK goes by its INVITE's.
pub(super) fn transaction_key(request: &Message<'_>) -> Key {
    match request.method() {
        Method::Ack => key_for(request, b"INVITE"),
        method => key_for(request, method.as_bytes()),
    }
}

/// The key of a request as if it had another method: what a CANCEL names.
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

/// One side's session.
pub(super) fn session_key(call_id: &[u8], ours: &[u8], theirs: &[u8]) -> Key {
    join(&[call_id, ours, theirs])
}

/// The parts with a mark between them that none can hold.
fn join(parts: &[&[u8]]) -> Key {
    parts.join(&b'\n').into()
}
