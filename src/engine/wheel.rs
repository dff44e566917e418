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
        Wheel { levels: (0..LEVELS).map(|_| level()).collect(), tick: 0 }
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
        self.next_tick().map(|(tick, _)| Instant::after_start(Duration::from_millis(tick)))
    }

    /// Appends what has become due, each with the time it was put in for.
    pub(crate) fn advance(&mut self, now: Instant, due: &mut Vec<(Instant, T)>) {
        let target = ticks_until(now);
        while let Some((tick, level)) = self.next_tick().filter(|&(tick, _)| tick <= target) {
            self.tick = tick;
            let slot = digit(tick, level);
            let Level { occupied, slots } = &mut self.levels[level];
            *occupied &= !(1 << slot);
            let mut items = std::mem::take(&mut slots[slot]);
            for (at, item) in items.drain(..) {
                match tick_after(at) > tick {
                    true => self.insert(at, item),
                    false => due.push((at, item)),
                }
            }
            if items.capacity() <= KEPT_CAPACITY {
                self.levels[level].slots[slot] = items;
            }
        }
        self.tick = self.tick.max(target);
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
    fn an_empty_wheel_has_no_deadline() {
        let mut wheel: Wheel<()> = Wheel::new();
        assert_eq!(wheel.next(), None);
        wheel.advance(Instant::ZERO + Duration::from_secs(3600), &mut Vec::new());
        wheel.insert(Instant::ZERO, ());
        assert_eq!(wheel.next(), Some(Instant::ZERO + Duration::from_secs(3600) + TICK));
    }
}
