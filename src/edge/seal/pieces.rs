//! A sender's messages that have not come whole yet.

use std::collections::VecDeque;

use super::{MOST_MESSAGE, MOST_PIECES, Refusal};

/// Messages of one sender that may be in the making; the oldest makes room.
const MOST_UNFINISHED: usize = 4;

/// Pieces that wait for the rest of their messages.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    unfinished: VecDeque<Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    /// The counter of its first piece.
    first: u64,
    pieces: Vec<Option<Vec<u8>>>,
}

impl Pieces {
    /// The message, if that was the last piece that it lacked. No piece comes twice.
    pub(super) fn take(&mut self, first: u64, place: u8, count: u8, piece: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        let (place, count) = (usize::from(place), usize::from(count));
        if place >= count || count > MOST_PIECES {
            return Err(Refusal::Unreadable);
        }
        if count == 1 {
            return Ok(Some(piece.to_vec()));
        }
        let at = match self.unfinished.iter().position(|one| one.first == first) {
            Some(at) => at,
            None => {
                if self.unfinished.len() >= MOST_UNFINISHED {
                    self.unfinished.pop_front();
                }
                self.unfinished.push_back(Unfinished { first, pieces: vec![None; count] });
                self.unfinished.len() - 1
            }
        };
        let message = &mut self.unfinished[at];
        if message.pieces.len() != count {
            return Err(Refusal::Unreadable);
        }
        message.pieces[place] = Some(piece.to_vec());
        if message.pieces.iter().any(Option::is_none) {
            return Ok(None);
        }
        let whole: Vec<u8> = message.pieces.drain(..).flatten().flatten().collect();
        self.unfinished.remove(at);
        if whole.len() > MOST_MESSAGE {
            return Err(Refusal::Unreadable);
        }
        Ok(Some(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_whole_when_its_last_piece_comes_in_whatever_order() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.take(5, 2, 3, b"c"), Ok(None));
        assert_eq!(pieces.take(8, 0, 2, b"x"), Ok(None));
        assert_eq!(pieces.take(5, 0, 3, b"a"), Ok(None));
        assert_eq!(pieces.take(5, 1, 3, b"b"), Ok(Some(b"abc".to_vec())));
        assert_eq!(pieces.take(8, 1, 2, b"y"), Ok(Some(b"xy".to_vec())));
        assert!(pieces.unfinished.is_empty());
    }

    #[test]
    fn what_never_gets_whole_makes_room() {
        let mut pieces = Pieces::default();
        for first in 0..100 {
            assert_eq!(pieces.take(first * 2, 0, 2, b"a"), Ok(None));
        }
        assert_eq!(pieces.unfinished.len(), MOST_UNFINISHED);
    }

    #[test]
    fn pieces_that_do_not_fit_together_are_refused() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.take(1, 0, 2, b"a"), Ok(None));
        for (place, count) in [(0, 0), (2, 2), (0, 65), (1, 3)] {
            assert_eq!(pieces.take(1, place, count, b"b"), Err(Refusal::Unreadable), "{place} of {count}");
        }
    }
}
