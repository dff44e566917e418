//! What is written down of a call or session when it is over.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{Event, Output};
use crate::engine::clock::Now;
use crate::engine::dialog::{Dialog, Ending};
use crate::engine::dispatch::{Dispatch, SetId};
use crate::engine::sip::printable;

/// What is written down of a call or session when it is over. Text of the caller's is shown with control characters escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Call-ID; "" for a session that was never set up here and that time has ended, since nobody has kept it.
    pub call_id: String,
    /// The set.
    pub set: SetId,
    /// The `destination` column of the last destination tried; none if there was none to try or it is no longer loaded.
    pub destination: Option<String>,
    /// Its address.
    pub address: Option<SocketAddr>,
    /// What each try came to, in order: its final status, 408 if it was not answered, 503 if it could not be delivered. Empty
    /// for a session that another node began.
    pub codes: Vec<u16>,
    /// When the INVITE came; for a session that another node began, when this one first heard of it.
    pub began: SystemTime,
    /// How long its set-up took up to the 2xx; none if there was none here.
    pub answered_after: Option<Duration>,
    /// From `began` to the end.
    pub lasted: Duration,
    /// Why it is over.
    pub ending: Ending,
}

/// Tells of a session that has left the table. `call_id` is for one that was never set up, and so does not know its own.
pub(crate) fn write_down(
    dialog: &Dialog,
    call_id: &[u8],
    ending: Ending,
    dispatch: &Dispatch,
    now: Now,
    out: &mut Vec<Output>,
) {
    let seat = dialog.seat();
    let lasted = now.mono.since(dialog.began());
    let record = Record {
        call_id: printable(dialog.call_id().unwrap_or(call_id)),
        set: seat.set,
        destination: dispatch.destination(seat.destination).map(|found| found.row.uri.clone()),
        address: Some(seat.address),
        codes: dialog.codes().to_vec(),
        began: now.wall.checked_sub(lasted).unwrap_or(now.wall),
        answered_after: dialog.set_up().map(|answered| answered.since(dialog.began())),
        lasted,
        ending,
    };
    out.push(Output::Event(Event::Session(Box::new(record))));
}
