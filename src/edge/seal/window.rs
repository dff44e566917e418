//! Which of a sender's packets have come: RFC 4303 section 3.4.3, with a window of 1,024.

/// Counters behind the highest that are still told apart; older ones count as seen.
const WIDTH: u64 = 1024;
const WORDS: usize = (WIDTH / 64) as usize;

/// The counters that have come.
#[derive(Debug, Default)]
pub(super) struct Window {
    highest: u64,
    /// A bit for each counter of the window, at its remainder.
    seen: [u64; WORDS],
}

impl Window {
    /// Whether that counter comes for the first time; it is noted. Counters are from 1.
    pub(super) fn take(&mut self, counter: u64) -> bool {
        if counter == 0 || self.highest.saturating_sub(counter) >= WIDTH {
            return false;
        }
        if counter > self.highest {
            // What the window moves over is not seen yet.
            match counter - self.highest {
                1..WIDTH => (self.highest + 1..=counter).for_each(|passed| self.clear(passed)),
                _ => self.seen = [0; WORDS],
            }
            self.highest = counter;
        }
        let (word, bit) = place(counter);
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }

    fn clear(&mut self, counter: u64) {
        let (word, bit) = place(counter);
        self.seen[word] &= !bit;
    }
}

fn place(counter: u64) -> (usize, u64) {
    ((counter % WIDTH / 64) as usize, 1 << (counter % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_counter_is_taken_once_and_an_old_one_never() {
        let mut window = Window::default();
        assert!(!window.take(0));
        assert!(window.take(1) && !window.take(1));
        assert!(window.take(WIDTH) && window.take(2));
        assert!(window.take(WIDTH + 2) && !window.take(2) && window.take(3) && !window.take(1));
        assert!(window.take(10 * WIDTH) && window.take(9 * WIDTH + 1) && !window.take(9 * WIDTH));
        assert!(window.take(u64::MAX) && !window.take(u64::MAX) && window.take(u64::MAX - WIDTH + 1));
    }

    #[test]
    fn it_agrees_with_a_set_of_all_counters() {
        let mut random = fastrand::Rng::with_seed(29);
        let (mut window, mut all, mut highest) = (Window::default(), HashSet::new(), 0_u64);
        for _ in 0..200_000 {
            let behind = highest.saturating_sub(random.u64(..2 * WIDTH));
            let counter = (behind + random.u64(..2 * WIDTH + 40)).max(1);
            let expected = counter + WIDTH > highest && all.insert(counter);
            assert_eq!(window.take(counter), expected, "counter {counter}, highest {highest}");
            highest = highest.max(counter);
        }
    }
}
