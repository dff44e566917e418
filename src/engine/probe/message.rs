//! The SIP request that a probe is: outside a dialog, from an address of the node itself.

use bytes::Bytes;

use crate::engine::dispatch::SipProbe;
use crate::engine::flow::Listener;
use crate::engine::sip::{Compose, sip_uri};

/// What one probe is made of.
pub(super) struct Probe<'p> {
    pub(super) sip: &'p SipProbe,
    pub(super) listener: &'p Listener,
    /// The destination's, as in the table: its Request-URI and To.
    pub(super) uri: &'p str,
    pub(super) tag: u64,
    pub(super) call: u128,
    pub(super) cseq: u32,
}

/// The request with that branch.
pub(super) fn compose(probe: &Probe<'_>, branch: &str) -> Bytes {
    let Probe { sip, listener, uri, tag, call, cseq } = probe;
    let contact = sip_uri(listener.bind, listener.transport);
    let from = sip.from.clone().unwrap_or_else(|| contact.replacen("sip:", "sip:tandem@", 1));
    let message =
        Compose::new(&format!("<{from}>;tag={tag:016x}"), &format!("<{uri}>"), &format!("{call:032x}"), *cseq)
            .via(listener.transport, listener.bind, branch)
            .max_forwards(sip.max_forwards)
            .header("Contact", &format!("<{contact}>"))
            .header("Accept", "application/sdp");
    let message = sip.headers.iter().fold(message, |message, (name, value)| message.header(name, value));
    message.request(&sip.method, uri)
}
