//! Request validation: RFC 3261 section 16.3, in its order.

use super::ourselves::Ourselves;
use crate::engine::sip::{Fault, Keys, Message, Method, Reply, Scheme, Uri, header::Name};

/// Why a request is refused before anything is done with it; answered without a transaction (section 8.2.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status code.
    pub(crate) status: u16,
    /// The reason phrase.
    pub(crate) reason: String,
    /// Header lines, each with its CRLF.
    pub(crate) headers: Vec<u8>,
}

impl Refusal {
    /// A refusal without further headers.
    pub(crate) fn new(status: u16, reason: impl Into<String>) -> Self {
        Refusal { status, reason: reason.into(), headers: Vec::new() }
    }
}

/// An answer that the configuration chose. It needs no transaction: a request that comes again gets it again (section
/// 8.2.7), and a forged one does not make us repeat it.
impl From<&Reply> for Refusal {
    fn from(reply: &Reply) -> Self {
        Refusal { headers: reply.retry_after_line().into_bytes(), ..Refusal::new(reply.status, &*reply.reason) }
    }
}

/// Checks a request that belongs to no transaction of ours.
///
/// # Errors
/// What is answered instead of forwarding: 505, 501, 400, 416, 483, 482 or 420.
pub(crate) fn validate<'a>(request: &Message<'a>, us: &Ourselves, keys: &Keys) -> Result<Uri<'a>, Refusal> {
    match request.fault() {
        Some(Fault::Version) => return Err(Refusal::new(505, Fault::Version.to_string())),
        // RFC 4475 section 3.1.2.18: which of two names a method that nobody knows is not for us to say.
        Some(Fault::CSeqMethod) if !request.method().is_defined() => {
            return Err(Refusal::new(501, "Not Implemented"));
        }
        Some(fault) => return Err(Refusal::new(400, fault.to_string())),
        None => {}
    }
    let uri = Uri::parse(request.request_uri()).map_err(|_| Refusal::new(400, "Bad Request-URI"))?;
    match uri.scheme {
        // Section 19.1: headers have no place in a Request-URI.
        Scheme::Sip | Scheme::Sips if !uri.headers.is_empty() => return Err(Refusal::new(400, "Bad Request-URI")),
        Scheme::Sip | Scheme::Sips | Scheme::Tel => {}
        Scheme::Other(_) => return Err(Refusal::new(416, "Unsupported URI Scheme")),
    }
    // An OPTIONS that ends here is for us to answer (section 16.3 item 3 leaves it to the element).
    if request.max_forwards() == Some(0) && !(request.method() == Method::Options && us.named_by(&uri).is_some()) {
        return Err(Refusal::new(483, "Too Many Hops"));
    }
    if loops(request, us, keys) {
        return Err(Refusal::new(482, "Loop Detected"));
    }
    unsupported(request).map_or(Ok(uri), Err)
}

/// Section 16.3 item 4 with RFC 5393: we have forwarded this request before, routed by the very same values. A request
/// that comes again with others is a spiral and passes.
fn loops(request: &Message<'_>, us: &Ourselves, keys: &Keys) -> bool {
    let mut route = None;
    // A Via that can't be read is not ours.
    request.vias().flatten().filter(|via| us.wrote(via)).any(|via| {
        let ours = via.branch.and_then(|text| keys.read_branch(text));
        ours.is_some_and(|branch| branch.route == *route.get_or_insert_with(|| route_hash(request, keys)))
    })
}

/// What a request is routed by, as a number (RFC 5393 section 4.2.1): the Request-URI, the route set and what tells
/// the request from others, but neither Via nor Max-Forwards.
pub(crate) fn route_hash(request: &Message<'_>, keys: &Keys) -> u32 {
    let cseq = request.cseq().to_be_bytes();
    let fixed = [
        request.request_uri(),
        request.call_id(),
        request.from_tag(),
        request.to_tag(),
        &cseq,
        request.method().as_bytes(),
    ];
    keys.route_hash(&fixed, request.values(Name::Route))
}

/// Section 16.3 item 5: we support no extension that a proxy must, so whatever Proxy-Require names is refused.
fn unsupported(request: &Message<'_>) -> Option<Refusal> {
    let mut headers = Vec::new();
    for tag in request.headers(b"Proxy-Require") {
        headers.extend_from_slice(b"Unsupported: ");
        // A folded value comes back on one line.
        headers.extend(tag.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }));
        headers.extend_from_slice(b"\r\n");
    }
    (!headers.is_empty()).then(|| Refusal { headers, ..Refusal::new(420, "Bad Extension") })
}
