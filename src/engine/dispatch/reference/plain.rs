//! What the plain reference holds of one destination, and what it makes of it.

use super::{World, micros};
use crate::engine::dispatch::health::{Damping, Health, InitState, Witness};
use crate::engine::dispatch::{Fitness, Order, Row, RowState};

/// How far traffic has put it out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Out {
    No,
    /// It comes back then, in microseconds.
    Until(u64),
    /// One may try it; the beginning and the end of the trial that runs.
    HalfOpen(Option<(u64, u64)>),
}

/// What the plain reference holds of one destination. Times are microseconds.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub(super) row: Row,
    pub(super) order: Order,
    /// All outcomes of its probes since their count began: when sent, and whether good; none: says nothing.
    pub(super) probes: Vec<(u64, Option<bool>)>,
    pub(super) probes_begin: Health,
    /// Failures of traffic in a row, and those of the interval with its begin.
    pub(super) in_row: u32,
    pub(super) interval: (u64, u32, u32),
    pub(super) out: Out,
    /// Since when it is as it is to traffic, and how often it has been ejected in short order.
    pub(super) out_since: u64,
    pub(super) times: u32,
    /// Told busy: by whom, since when, until when.
    pub(super) busy: Option<(Option<Witness>, u64, u64)>,
    /// Falls from up to down, for the penalty, and what each adds: at a restart all before are one.
    pub(super) falls: Vec<(u64, f64)>,
    pub(super) suppressed: bool,
    /// What was said last.
    pub(super) said: Health,
    /// Nothing is said before anything is seen; what a load has changed is said at the next tick of a millisecond.
    pub(super) silent_until: u64,
    pub(super) answered: bool,
}

impl Plain {
    pub(super) fn new(row: Row, world: &World) -> Self {
        let probes_begin = match world.probing {
            Some((.., InitState::Down)) => Health::Down,
            Some((.., InitState::Unknown)) => Health::Unknown,
            Some((.., InitState::Up)) | None => Health::Up,
        };
        Plain {
            order: if row.state == RowState::Inactive { Order::Maint } else { Order::Ready },
            row,
            probes: Vec::new(),
            probes_begin,
            in_row: 0,
            interval: (0, 0, 0),
            out: Out::No,
            out_since: 0,
            times: 0,
            busy: None,
            falls: Vec::new(),
            suppressed: false,
            said: probes_begin,
            silent_until: u64::MAX,
            answered: true,
        }
    }

    /// What the probes say, by going through all of them again.
    pub(super) fn by_probes(&self, world: &World) -> Option<Health> {
        let (fall, rise, _) = world.probing?;
        let (mut says, mut bad, mut good, mut newest_good) = (self.probes_begin, 0, 0, 0);
        for &(sent, outcome) in &self.probes {
            match outcome {
                Some(true) => {
                    (bad, good, newest_good) = (0, good + 1, newest_good.max(sent));
                    if says == Health::Unknown || good >= rise {
                        says = Health::Up;
                    }
                }
                Some(false) if sent >= newest_good => {
                    (bad, good) = (bad + 1, 0);
                    if bad >= fall {
                        says = Health::Down;
                    }
                }
                Some(false) | None => {}
            }
        }
        Some(says)
    }

    pub(super) fn penalty(&self, damping: &Damping, now: u64) -> f64 {
        let half_life = damping.half_life.as_secs_f64();
        self.falls.iter().map(|&(at, adds)| adds * 0.5f64.powf((now - at) as f64 / 1e6 / half_life)).sum()
    }

    /// Time alone ends ejections, trials, and suppression.
    pub(super) fn time_passes(&mut self, world: &World) {
        if let Out::Until(until) = self.out
            && until <= world.now
        {
            self.out = Out::HalfOpen(None);
            self.out_since = until;
        }
        if let Out::HalfOpen(Some((_, lost))) = self.out
            && lost <= world.now
        {
            self.out = Out::HalfOpen(None);
        }
        if let Some(damping) = &world.damping
            && self.penalty(damping, world.now) <= f64::from(damping.reuse)
        {
            self.suppressed = false;
        }
    }

    pub(super) fn health(&self, world: &World) -> Health {
        let by_probes = self.by_probes(world);
        if by_probes == Some(Health::Down) || matches!(self.out, Out::Until(_)) || self.suppressed {
            return Health::Down;
        }
        if self.busy.is_some_and(|(.., until)| until > world.now) {
            return Health::Busy;
        }
        if matches!(self.out, Out::HalfOpen(_)) || by_probes == Some(Health::Unknown) || !self.answered {
            return Health::Unknown;
        }
        Health::Up
    }

    pub(super) fn fitness(&self, world: &World) -> Fitness {
        if self.order != Order::Ready {
            return Fitness::Ordered(self.order);
        }
        match self.health(world) {
            unwell @ (Health::Down | Health::Busy) => Fitness::Unwell(unwell),
            Health::Unknown if matches!(self.out, Out::HalfOpen(Some(_))) => Fitness::OnTrial,
            Health::Up | Health::Unknown => Fitness::Fit,
        }
    }

    /// Whoever looks says aloud what has changed; a fall from up to down is a flap.
    pub(super) fn say(&mut self, world: &World) {
        let health = self.health(world);
        if let (Some(damping), Health::Up, Health::Down) = (&world.damping, self.said, health) {
            self.falls.push((world.now, 1000.0));
            self.suppressed |= self.penalty(damping, world.now) > f64::from(damping.suppress);
        }
        self.said = health;
        self.silent_until = 0;
    }

    /// Put out for the `times`-th time; how long exactly is chance's to say, so both bounds come back.
    pub(super) fn eject(&mut self, times: u32, world: &World) {
        self.times = times;
        self.out = Out::Until(u64::MAX);
        self.out_since = world.now;
        self.interval = (0, 0, 0);
    }

    pub(super) fn bounds(&self, world: &World) -> (u64, u64) {
        let (base, most) = (micros(world.observe.base_ejection_time), micros(world.observe.max_ejection_time));
        let mut time = base;
        (1..self.times).for_each(|_| time = (time * 2).min(most.max(base)));
        (time, time + time / 4)
    }
}
