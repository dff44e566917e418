//! Route information preprocessing: RFC 3261 section 16.4, strict routers and double Record-Route (RFC 5658) included.

use smallvec::SmallVec;

use super::ourselves::Ourselves;
use crate::engine::dialog::Leg;
use crate::engine::flow::ListenerId;
use crate::engine::sip::{Address, Cookie, Keys, Message, Uri};

/// The parameter of our Record-Route that holds the cookie.
pub(crate) const COOKIE: &[u8] = b"tdm";

/// In how many Route values of ours a cookie is looked for: we write two, and two more on a second way through us.
const LOOKS: usize = 4;

/// A request once what is ours has been taken off its route.
#[derive(Debug)]
pub(crate) struct Routed<'a> {
    /// The Request-URI to go by.
    pub(crate) uri: &'a [u8],
    /// How many Route values from the top are taken off.
    pub(crate) taken: usize,
    /// Whether the last Route value has become the Request-URI, and leaves the list (a strict router sent this).
    pub(crate) last_taken: bool,
    /// The next Route value, which is not ours.
    pub(crate) next: Option<Address<'a>>,
    /// What a cookie of ours says, if one came that is valid for this dialog, and which leg sent it.
    pub(crate) cookie: Option<(Cookie, Leg)>,
    /// The listener that the second of two Record-Routes of ours names: the one to leave by.
    pub(crate) leave_by: Option<ListenerId>,
}

/// Takes what is ours off the route.
pub(crate) fn preprocess<'a>(request: &Message<'a>, uri: &Uri<'a>, us: &Ourselves, keys: &Keys) -> Routed<'a> {
    let routes: SmallVec<[Address<'a>; 8]> = request.routes().collect();
    let mut routed =
        Routed { uri: request.request_uri(), taken: 0, last_taken: false, next: None, cookie: None, leave_by: None };
    // A strict router put our Record-Route URI into the Request-URI; the real one is the last Route value.
    let mut remaining = &routes[..];
    if let (Some(cookie), Some((last, rest))) = (uri.params.get(COOKIE), routes.split_last())
        && us.named_by(uri).is_some()
    {
        routed.cookie = read_cookie(cookie, request, keys);
        routed.uri = last.uri;
        routed.last_taken = true;
        remaining = rest;
    }
    while let Some((first, rest)) = remaining.split_first() {
        let Ok(route) = Uri::parse(first.uri) else { break };
        let Some(listener) = us.named_by(&route) else { break };
        if routed.taken > 0 || routed.last_taken {
            routed.leave_by = Some(listener);
        }
        // Each look hashes the whole Call-ID, so that a thousand would take long.
        if routed.cookie.is_none() && routed.taken < LOOKS {
            routed.cookie = route.params.get(COOKIE).and_then(|cookie| read_cookie(cookie, request, keys));
        }
        routed.taken += 1;
        remaining = rest;
    }
    routed.next = remaining.first().copied();
    routed
}

/// A cookie serves the dialog whose caller's tag it was made with: that tag is in From on requests from the caller, in To
/// on those from the destination.
fn read_cookie(text: &[u8], request: &Message<'_>, keys: &Keys) -> Option<(Cookie, Leg)> {
    let with = |tag: &[u8]| keys.read_cookie(text, request.call_id(), tag);
    with(request.from_tag())
        .map(|cookie| (cookie, Leg::Caller))
        .or_else(|| with(request.to_tag()).map(|cookie| (cookie, Leg::Destination)))
}
