//! What tells one server transaction from another: RFC 3261 section 17.2.3.

use crate::engine::sip::{Keys, Message, Method, Via};

/// A server transaction's key; a hash that nobody outside can steer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u128);

impl Key {
    /// The key of a request's own transaction. An ACK has that of the INVITE that it acknowledges.
    pub(crate) fn of(keys: &Keys, request: &Message<'_>) -> Self {
        match request.method() {
            Method::Ack => Self::with_method(keys, request, Method::Invite),
            method => Self::with_method(keys, request, method),
        }
    }

    /// The key of the INVITE that a CANCEL cancels (section 9.2).
    pub(crate) fn cancelled(keys: &Keys, cancel: &Message<'_>) -> Self {
        Self::with_method(keys, cancel, Method::Invite)
    }

    /// The key of the request that `response` answers, `via` being the Via of that request's sender; none if it has no
    /// unique branch.
    pub(crate) fn answered(keys: &Keys, response: &Message<'_>, via: &Via<'_>) -> Option<Self> {
        Self::of_branch(keys, response.method(), via)
    }

    fn with_method(keys: &Keys, request: &Message<'_>, method: Method<'_>) -> Self {
        let via = request.via();
        // RFC 2543: no unique branch. The To-tag stays out, since only the ACK has it.
        Self::of_branch(keys, method, &via).unwrap_or_else(|| {
            Key(keys.table_hash(&[
                method.as_bytes(),
                request.request_uri(),
                request.from_tag(),
                request.call_id(),
                &request.cseq().to_be_bytes(),
                via.raw,
            ]))
        })
    }

    fn of_branch(keys: &Keys, method: Method<'_>, via: &Via<'_>) -> Option<Self> {
        let (branch, sender) = via.names_transaction()?;
        Some(Key(keys.table_hash(&[method.as_bytes(), branch, sender])))
    }
}
