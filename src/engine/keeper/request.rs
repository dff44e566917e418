//! The requests themselves: in one end's name to the other (RFC 3261 section 12.2.1.1).

use bytes::Bytes;

use crate::engine::dialog::{Dialog, DialogState, Ending, Leg};
use crate::engine::dispatch::PingMethod;
use crate::engine::flow::{Flow, Listener};
use crate::engine::sip::{Method, Within};

/// A request to one end of a session.
#[derive(Debug)]
pub(super) struct Request<'d> {
    state: &'d DialogState,
    /// To whom.
    leg: Leg,
    flow: Flow,
    method: Method<'static>,
    cseq: u32,
    headers: Vec<u8>,
}

/// A ping. It bears the last CSeq number of the end in whose name it goes, never a higher one: that end's own next request
/// would come too low (section 12.2.2). If none was seen, 0 is below all. None if the session's state is not known.
pub(super) fn ping(dialog: &Dialog, leg: Leg, method: PingMethod) -> Option<Request<'_>> {
    let state = dialog.state()?;
    let (method, headers) = match method {
        // An UPDATE refreshes the session timer, or stops it if it says nothing of it (RFC 4028 section 7.2).
        PingMethod::Update if !dialog.has_timer() => {
            // RFC 3311 section 5.1: it has a Contact, and this one changes nothing.
            let contact = [b"Contact: <", state.target(leg.other()), b">\r\n"].concat();
            (Method::Other(b"UPDATE"), contact)
        }
        PingMethod::Options | PingMethod::Update => (Method::Options, b"Accept: application/sdp\r\n".to_vec()),
    };
    let cseq = dialog.cseq(leg.other()).unwrap_or(0);
    Some(Request { state, leg, flow: dialog.flow(leg)?, method, cseq, headers })
}

/// A BYE that tells why (RFC 3326). None if the session's state is not known.
pub(super) fn bye(dialog: &Dialog, leg: Leg, ending: Ending) -> Option<Request<'_>> {
    let reason = match ending {
        Ending::MaxDuration => "SIP;cause=408;text=\"Session too long\"",
        Ending::CallerSilent => "SIP;cause=408;text=\"Caller does not answer\"",
        Ending::DestinationSilent => "SIP;cause=408;text=\"Destination does not answer\"",
        Ending::DestinationDown => "SIP;cause=503;text=\"Destination is down\"",
        Ending::Drained => "SIP;cause=503;text=\"Destination is drained\"",
        Ending::Operator => "SIP;cause=480;text=\"Ended by an operator\"",
        // Nobody is told of these.
        Ending::CallerBye
        | Ending::DestinationBye
        | Ending::Gone
        | Ending::SessionTimer
        | Ending::Quiet
        | Ending::Rejected
        | Ending::Cancelled
        | Ending::Failed
        | Ending::Empty
        | Ending::Full
        | Ending::AddressLost
        | Ending::Moved => return None,
    };
    let cseq = dialog.cseq(leg.other()).map_or(1, |last| last.saturating_add(1));
    let headers = format!("Reason: {reason}\r\n").into_bytes();
    Some(Request { state: dialog.state()?, leg, flow: dialog.flow(leg)?, method: Method::Bye, cseq, headers })
}

impl Request<'_> {
    /// The way that it goes, with the listener that it leaves by.
    pub(super) fn way<'l>(&self, listeners: &'l [Listener]) -> Option<(&'l Listener, Flow)> {
        listeners.get(usize::from(self.flow.listener.0)).map(|us| (us, self.flow))
    }

    /// The request with that branch.
    pub(super) fn compose(&self, us: &Listener, branch: &[u8]) -> Bytes {
        let Request { state, leg, method, cseq, ref headers, .. } = *self;
        let within = Within {
            method,
            target: state.target(leg),
            route: state.route(leg),
            from: state.name(leg.other()),
            to: state.name(leg),
            call_id: state.call_id(),
            cseq,
            headers,
            us,
        };
        within.compose(branch)
    }
}
