//! What a request within a dialog is made of, from either end: the dialog state of RFC 3261 section 12, kept in one piece of
//! memory.

use super::Leg;

/// A dialog whose state is longer is counted like any other, but gets no requests of ours.
const MOST: usize = 2048;

/// One end of a dialog, as its first INVITE and 2xx tell.
#[derive(Debug)]
pub(crate) struct Party<'p> {
    /// From's value, or To's, with its tag.
    pub(crate) name: &'p [u8],
    /// The URI of its Contact: the remote target of requests to it.
    pub(crate) target: &'p [u8],
    /// The Route values of requests to it that lie beyond us.
    pub(crate) route: &'p [&'p [u8]],
}

/// The state of one dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DialogState {
    text: Box<[u8]>,
    /// Where each part ends.
    ends: [u16; PARTS],
}

const PARTS: usize = 7;
const CALL_ID: usize = 0;

impl DialogState {
    /// The state with that Call-ID, the caller and the destination; none if it is too long.
    pub(crate) fn new(call_id: &[u8], caller: &Party<'_>, destination: &Party<'_>) -> Option<Self> {
        let routes = [caller.route.join(&b", "[..]), destination.route.join(&b", "[..])];
        Self::of([call_id, caller.name, destination.name, caller.target, destination.target, &routes[0], &routes[1]])
    }

    fn of(parts: [&[u8]; PARTS]) -> Option<Self> {
        let length = parts.iter().map(|part| part.len()).sum();
        if length > MOST {
            return None;
        }
        let mut text = Vec::with_capacity(length);
        let ends = parts.map(|part| {
            text.extend_from_slice(part);
            text.len() as u16
        });
        Some(DialogState { text: text.into(), ends })
    }

    fn part(&self, nth: usize) -> &[u8] {
        let start = nth.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[usize::from(start)..usize::from(self.ends[nth])]
    }

    /// The Call-ID.
    pub(crate) fn call_id(&self) -> &[u8] {
        self.part(CALL_ID)
    }

    /// From's value in requests of that end, To's in requests to it.
    pub(crate) fn name(&self, leg: Leg) -> &[u8] {
        self.part(1 + leg as usize)
    }

    /// The Request-URI of requests to that end.
    pub(crate) fn target(&self, leg: Leg) -> &[u8] {
        self.part(3 + leg as usize)
    }

    /// The Route value of requests to that end; "" if there is none.
    pub(crate) fn route(&self, leg: Leg) -> &[u8] {
        self.part(5 + leg as usize)
    }

    /// The same with another target of one end; none if it is too long.
    pub(crate) fn retargeted(&self, leg: Leg, target: &[u8]) -> Option<Self> {
        let mut parts: [&[u8]; PARTS] = std::array::from_fn(|nth| self.part(nth));
        parts[3 + leg as usize] = target;
        Self::of(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_read_back_and_a_target_can_change() {
        let caller = Party { name: b"<sip:a>;tag=1", target: b"sip:a@h", route: &[] };
        let destination = Party { name: b"<sip:b>;tag=2", target: b"sip:b", route: &[b"<sip:p1;lr>", b"<sip:p2;lr>"] };
        let state = DialogState::new(b"call", &caller, &destination).expect("short");
        let state = state.retargeted(Leg::Caller, b"sip:elsewhere").expect("short");
        assert_eq!((state.call_id(), state.name(Leg::Caller)), (&b"call"[..], &b"<sip:a>;tag=1"[..]));
        assert_eq!(
            (state.name(Leg::Destination), state.target(Leg::Destination)),
            (&b"<sip:b>;tag=2"[..], &b"sip:b"[..])
        );
        assert_eq!((state.target(Leg::Caller), state.route(Leg::Caller)), (&b"sip:elsewhere"[..], &b""[..]));
        assert_eq!(state.route(Leg::Destination), b"<sip:p1;lr>, <sip:p2;lr>");
        assert_eq!(state.retargeted(Leg::Caller, &[b'x'; MOST]), None);
    }
}
