//! A hierarchical timer wheel (Varghese and Lauck, 1987): putting in and taking out cost the same however many wait.

use std::time::Duration;

use crate::engine::clock::Instant;

/// How fine the wheel is; nothing fires early, and at most this much late.
const TICK: Duration = Duration::from_millis(1);
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// 64^7 ticks of a millisecond are 139 years.
const LEVELS: usize = 7;
/// A slot that has grown beyond this gives its memory back once it is empty.
const KEPT_CAPACITY: usize = 32;

/// Items that wait for their time.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    levels: Vec<Level<T>>,
    /// Ticks up to which all has fired.
    tick: u64,
    /// What is left of a slot that is too full for one turn; its time is `tick`.
    left: std::vec::IntoIter<(Instant, T)>,
}

#[derive(Debug)]
struct Level<T> {
    /// Bit n: slot n is not empty.
    occupied: u64,
    slots: Vec<Vec<(Instant, T)>>,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel.
    pub(crate) fn new() -> Self {
        let level = || Level { occupied: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect() };
        Wheel { levels: (0..LEVELS).map(|_| level()).collect(), tick: 0, left: Vec::new().into_iter() }
    }

    /// Lets `item` fire at `at`; what is due already fires with the next tick.
    pub(crate) fn insert(&mut self, at: Instant, item: T) {
        let tick = tick_after(at).clamp(self.tick + 1, (1 << (BITS * LEVELS as u32)) - 1);
        // All digits of the time above this level are those of now, so the slot lies ahead on the same turn.
        let level = (tick ^ self.tick).ilog2() / BITS;
        let slot = digit(tick, level as usize);
        let level = &mut self.levels[level as usize];
        level.occupied |= 1 << slot;
        level.slots[slot].push((at, item));
    }

    /// When [`Wheel::advance`] has something to do next; it may find nothing due then, never the other way round.
    pub(crate) fn next(&self) -> Option<Instant> {
        let tick = if self.left.as_slice().is_empty() { self.next_tick()?.0 } else { self.tick };
        Some(Instant::after_start(Duration::from_millis(tick)))
    }

    /// Appends what has become due, each with the time it was put in for.
    pub(crate) fn advance(&mut self, now: Instant, due: &mut Vec<(Instant, T)>) {
        self.advance_some(now, usize::MAX, due);
    }

    /// As [`Wheel::advance`], but moves no more than `most` items; if there are more, [`Wheel::next`] is not after `now`.
    pub(crate) fn advance_some(&mut self, now: Instant, mut most: usize, due: &mut Vec<(Instant, T)>) {
        let target = ticks_until(now);
        loop {
            while !self.left.as_slice().is_empty() {
                let Some(fewer) = most.checked_sub(1) else { return };
                most = fewer;
                self.left.next().into_iter().for_each(|one| self.place(one, due));
            }
            let Some((tick, level)) = self.next_tick().filter(|&(tick, _)| tick <= target) else { break };
            self.tick = tick;
            let slot = digit(tick, level);
            let Level { occupied, slots } = &mut self.levels[level];
            *occupied &= !(1 << slot);
            let mut items = std::mem::take(&mut slots[slot]);
            if items.len() > most {
                self.left = items.into_iter();
                continue;
            }
            most -= items.len();
            items.drain(..).for_each(|one| self.place(one, due));
            if items.capacity() <= KEPT_CAPACITY {
                self.levels[level].slots[slot] = items;
            }
        }
        self.tick = self.tick.max(target);
    }

    /// An item of the slot whose time is now: it is due, or has its place in a level below.
    fn place(&mut self, (at, item): (Instant, T), due: &mut Vec<(Instant, T)>) {
        match tick_after(at) > self.tick {
            true => self.insert(at, item),
            false => due.push((at, item)),
        }
    }

    /// The next tick at which a slot fires or has to be spread over the level below, and its level.
    fn next_tick(&self) -> Option<(u64, usize)> {
        (0..LEVELS).find_map(|level| {
            let ahead = self.levels[level].occupied & (u64::MAX << digit(self.tick, level));
            (ahead != 0).then(|| {
                let below = BITS * level as u32;
                let turn = self.tick >> (below + BITS) << BITS;
                ((turn | u64::from(ahead.trailing_zeros())) << below, level)
            })
        })
    }
}

fn digit(tick: u64, level: usize) -> usize {
    (tick >> (BITS * level as u32)) as usize & (SLOTS - 1)
}

/// The first tick not before `at`.
fn tick_after(at: Instant) -> u64 {
    at.since_start().as_micros().div_ceil(TICK.as_micros()) as u64
}

/// The last tick not after `now`.
fn ticks_until(now: Instant) -> u64 {
    (now.since_start().as_micros() / TICK.as_micros()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any length, short ones as often as long ones.
    fn up_to(random: &mut fastrand::Rng, bits: u32) -> Duration {
        let bits = random.u32(1..bits);
        Duration::from_micros(random.u64(..1 << bits))
    }

    #[test]
    fn everything_fires_once_at_its_tick_and_never_early() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut wheel = Wheel::new();
        let mut waiting = Vec::new();
        let mut now = Instant::ZERO;
        let mut due = Vec::new();
        for item in 0..20_000u32 {
            let at = now + up_to(&mut random, 40);
            wheel.insert(at, item);
            waiting.push((at, item));
            if random.u8(..4) == 0 {
                now = now + up_to(&mut random, 27);
                wheel.advance(now, &mut due);
                for fired in due.drain(..) {
                    assert!(fired.0 <= now, "{fired:?} at {now:?}");
                    let place = waiting.iter().position(|&one| one == fired).expect("it waits");
                    waiting.swap_remove(place);
                }
                let overdue = waiting.iter().filter(|(at, _)| *at + TICK + TICK <= now).count();
                assert_eq!(overdue, 0);
            }
        }
        while let Some(next) = wheel.next() {
            assert!(next > now || waiting.iter().any(|(at, _)| *at <= now + TICK));
            now = now.max(next);
            wheel.advance(now, &mut due);
        }
        assert_eq!(due.len(), waiting.len());
    }

    #[test]
    fn a_part_at_a_time_all_fires_in_its_time() {
        let mut random = fastrand::Rng::with_seed(12);
        let (mut some, mut all) = (Wheel::new(), Wheel::new());
        let mut now = Instant::ZERO;
        for item in 0..30_000u32 {
            let at = now + Duration::from_millis(random.u64(2..10_000));
            some.insert(at, item);
            all.insert(at, item);
            if item % 1000 == 0 {
                now = now + Duration::from_millis(random.u64(..5_000));
            }
            let (mut parts, mut whole) = (Vec::new(), Vec::new());
            all.advance(now, &mut whole);
            while some.next().is_some_and(|next| next <= now) {
                let before = parts.len();
                some.advance_some(now, 7, &mut parts);
                assert!(parts.len() - before <= 7);
                if random.u8(..9) == 0 {
                    // Between two parts.
                    some.insert(now + TICK + TICK, u32::MAX);
                    all.insert(now + TICK + TICK, u32::MAX);
                }
            }
            parts.sort_unstable();
            whole.sort_unstable();
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn an_empty_wheel_has_no_deadline() {
        let mut wheel: Wheel<()> = Wheel::new();
        assert_eq!(wheel.next(), None);
        wheel.advance(Instant::ZERO + Duration::from_secs(3600), &mut Vec::new());
        wheel.insert(Instant::ZERO, ());
        assert_eq!(wheel.next(), Some(Instant::ZERO + Duration::from_secs(3600) + TICK));
    }
}
