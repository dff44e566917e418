//! A list through the table, the dialog that has been quiet longest first: it lapses first.

use slotmap::{Key, SlotMap};

use super::table::{Dialog, DialogId};

/// A dialog's neighbours in the list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    older: DialogId,
    newer: DialogId,
}

/// Both ends of the list; null ids if it is empty.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    oldest: DialogId,
    newest: DialogId,
}

impl Order {
    /// The dialog that has been quiet longest.
    pub(super) fn oldest(&self) -> Option<DialogId> {
        (!self.oldest.is_null()).then_some(self.oldest)
    }

    /// Puts a dialog that is in no list at the young end.
    pub(super) fn push(&mut self, id: DialogId, dialogs: &mut SlotMap<DialogId, Dialog>) {
        dialogs[id].links = Links { older: self.newest, newer: DialogId::null() };
        match dialogs.get_mut(self.newest) {
            Some(newest) => newest.links.newer = id,
            None => self.oldest = id,
        }
        self.newest = id;
    }

    /// Takes a dialog out of the list.
    pub(super) fn remove(&mut self, id: DialogId, dialogs: &mut SlotMap<DialogId, Dialog>) {
        let Links { older, newer } = dialogs[id].links;
        match dialogs.get_mut(older) {
            Some(older) => older.links.newer = newer,
            None => self.oldest = newer,
        }
        match dialogs.get_mut(newer) {
            Some(newer) => newer.links.older = older,
            None => self.newest = older,
        }
    }
}
