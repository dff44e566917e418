//! Sessions as people see them: a page of them, at a cost that follows its length.

use super::Keeper;
use crate::engine::clock::{Instant, Now};
use crate::engine::dialog::{Dialog, Dialogs, Leg};
use crate::engine::dispatch::{DestinationId, Dispatch, NoSuchDestination, SetId};
use crate::engine::snapshot::{MOST_SESSIONS, SessionPage, SessionState, SessionView};

impl Keeper {
    /// Some of the sessions of a set, or of one of its destinations: `limit` from `offset` on, in no order that would mean
    /// anything.
    pub(crate) fn page(
        &self,
        (dispatch, dialogs): (&Dispatch, &Dialogs),
        (set, uri): (SetId, Option<&str>),
        (mut offset, limit): (usize, usize),
        now: Now,
    ) -> Result<SessionPage, NoSuchDestination> {
        let named = |id: &DestinationId| dispatch.destination(*id).map(|found| (*id, found.row.uri.as_str()));
        let meant = dispatch.members_of(set).iter().filter_map(named);
        let meant: Vec<_> = meant.filter(|(_, its)| uri.is_none_or(|uri| uri == *its)).collect();
        if let (Some(uri), true) = (uri, meant.is_empty()) {
            return Err(NoSuchDestination { set, uri: uri.to_owned() });
        }
        let mut page = SessionPage::default();
        for (id, uri) in meant {
            let all = dialogs.of_destination(id);
            page.total += all.len() as u64;
            let left = limit.min(MOST_SESSIONS) - page.sessions.len();
            let some = all.iter().skip(offset).take(left).filter_map(|id| dialogs.get(*id));
            page.sessions.extend(some.map(|dialog| self.view(dialog, uri, now)));
            offset = offset.saturating_sub(all.len());
        }
        Ok(page)
    }

    fn view(&self, dialog: &Dialog, uri: &str, now: Now) -> SessionView {
        let at = |at: Instant| now.wall.checked_sub(now.mono.since(at)).unwrap_or(now.wall);
        SessionView {
            call_id: dialog.state().map(|state| String::from_utf8_lossy(state.call_id()).into_owned()),
            destination: uri.to_owned(),
            address: dialog.seat().address,
            state: match (dialog.is_pending(), dialog.is_adopted()) {
                (true, _) => SessionState::Pending,
                (false, true) => SessionState::Adopted,
                (false, false) => SessionState::Confirmed,
            },
            began: at(dialog.began()),
            answered: dialog.set_up().map(at),
            heard: at(dialog.heard()),
            caller_cseq: dialog.cseq(Leg::Caller),
            destination_cseq: dialog.cseq(Leg::Destination),
            not_ours: self.not_ours(dialog),
        }
    }
}
