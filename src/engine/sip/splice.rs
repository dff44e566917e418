//! Editing by insertion and removal: every byte that no edit names is copied once, as it stands.

use bytes::Bytes;
use smallvec::SmallVec;

/// What inserted text is written into; it spills to the heap beyond what an ordinary forward needs.
pub(crate) type Text = SmallVec<[u8; 512]>;

/// Edits over one text, made in any order.
#[derive(Debug)]
pub(crate) struct Splice<'a> {
    source: &'a [u8],
    cuts: SmallVec<[Cut; 12]>,
    text: Text,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    at: usize,
    remove: usize,
    text_end: usize,
    text_start: usize,
}

impl<'a> Splice<'a> {
    /// No edits yet.
    pub(crate) fn new(source: &'a [u8]) -> Self {
        Splice { source, cuts: SmallVec::new(), text: Text::new() }
    }

    /// Puts what `write` writes in place of `part`, which is a part of the source.
    pub(crate) fn replace(&mut self, part: &[u8], write: impl FnOnce(&mut Text)) {
        self.cut(self.offset(part), part.len(), write);
    }

    /// Puts what `write` writes before `part`; several inserts at one place keep their order.
    pub(crate) fn insert_before(&mut self, part: &[u8], write: impl FnOnce(&mut Text)) {
        self.cut(self.offset(part), 0, write);
    }

    /// Puts what `write` writes after `part`.
    pub(crate) fn insert_after(&mut self, part: &[u8], write: impl FnOnce(&mut Text)) {
        self.cut(self.offset(part) + part.len(), 0, write);
    }

    /// Takes `part` out.
    pub(crate) fn remove(&mut self, part: &[u8]) {
        self.cut(self.offset(part), part.len(), |_| {});
    }

    fn cut(&mut self, at: usize, remove: usize, write: impl FnOnce(&mut Text)) {
        let text_start = self.text.len();
        write(&mut self.text);
        self.cuts.push(Cut { at, remove, text_start, text_end: self.text.len() });
    }

    /// Where a part of the source begins in it.
    fn offset(&self, part: &[u8]) -> usize {
        let offset = part.as_ptr().addr().wrapping_sub(self.source.as_ptr().addr());
        assert!(offset.saturating_add(part.len()) <= self.source.len(), "a part of the text that is edited");
        offset
    }

    /// The edited text. Edits must not overlap.
    pub(crate) fn finish(mut self) -> Bytes {
        let removed: usize = self.cuts.iter().map(|cut| cut.remove).sum();
        let mut out = Vec::with_capacity(self.source.len() + self.text.len() - removed);
        self.write(&mut out);
        out.into()
    }

    /// Appends the edited text to `out`.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) {
        // Stable: inserts at one place stay in the order in which they were made, before what is removed there.
        self.cuts.sort_by_key(|cut| (cut.at, cut.remove > 0));
        let mut at = 0;
        for cut in &self.cuts {
            debug_assert!(cut.at >= at, "edits do not overlap");
            out.extend_from_slice(&self.source[at..cut.at]);
            out.extend_from_slice(&self.text[cut.text_start..cut.text_end]);
            at = cut.at + cut.remove;
        }
        out.extend_from_slice(&self.source[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_may_come_in_any_order() {
        let source = b"one two three";
        let mut splice = Splice::new(source);
        splice.replace(&source[8..], |text| text.extend_from_slice(b"3"));
        splice.insert_before(&source[0..3], |text| text.extend_from_slice(b"a "));
        splice.insert_before(&source[0..3], |text| text.extend_from_slice(b"b "));
        splice.insert_after(&source[0..3], |text| text.extend_from_slice(b"!"));
        splice.remove(&source[4..8]);
        assert_eq!(splice.finish(), &b"a b one! 3"[..]);
    }

    #[test]
    fn what_is_removed_takes_no_insert_with_it() {
        let source = b"one two";
        let mut splice = Splice::new(source);
        splice.remove(&source[0..4]);
        splice.insert_before(&source[0..3], |text| text.extend_from_slice(b"a "));
        assert_eq!(splice.finish(), &b"a two"[..]);
    }

    #[test]
    fn without_edits_nothing_changes() {
        assert_eq!(Splice::new(b"x").finish(), &b"x"[..]);
    }
}
