//! A tier: the backends that are as good as each other, and the algorithm that chooses among them.
//!
//! Pure, and owned by one worker. Here every event reaches those parts of an algorithm that have to know of it.

use std::time::Duration;

use super::{
    algorithm::Algorithm,
    bound::Bound,
    circle::Walk,
    first,
    ip_hash::IpHash,
    layout::{Layout, Share},
    least_connections::LeastConnections,
    least_response_time::LeastResponseTime,
    p2c,
    random::Draw,
    roster::{Fitness, Roster},
    round_robin::RoundRobin,
};
use crate::io::alarm::Millis;

/// What the algorithms remember.
#[derive(Debug, Clone)]
enum Strategy {
    RoundRobin(RoundRobin),
    LeastConnections(LeastConnections),
    LeastResponseTime(LeastResponseTime),
    Random(Draw),
    PowerOfTwo(Draw),
    IpHash(IpHash),
    Walk(Walk),
    First,
}

/// The primaries of a cluster, or its backups.
#[derive(Debug, Clone)]
pub(super) struct Tier {
    roster: Roster,
    strategy: Strategy,
    bound: Bound,
}

impl Tier {
    pub(super) fn new(layout: &Layout, share: &Share, seed: u64, now: Millis) -> Self {
        let mut roster = Roster::new(&share.weights, layout.slow_start());
        let offset = (seed % (roster.count().max(1) as u64)) as usize;
        let strategy = match (layout.algorithm(), &share.table) {
            (Algorithm::LeastConnections, _) => {
                Strategy::LeastConnections(LeastConnections::new(&roster, offset))
            }
            (Algorithm::LeastResponseTime, _) => {
                Strategy::LeastResponseTime(LeastResponseTime::new(&roster, offset, now))
            }
            (Algorithm::Random, _) => Strategy::Random(Draw::new(&roster, seed)),
            (Algorithm::PowerOfTwo, _) => Strategy::PowerOfTwo(Draw::new(&roster, seed)),
            (Algorithm::IpHash, _) => Strategy::IpHash(IpHash::new(&roster)),
            (Algorithm::Ring | Algorithm::Maglev, Some(table)) => {
                Strategy::Walk(Walk::new(table.clone(), &roster))
            }
            (Algorithm::First, _) => Strategy::First,
            _ => Strategy::RoundRobin(RoundRobin::new(&mut roster, offset)),
        };
        Tier { roster, strategy, bound: layout.bound() }
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Picks one and counts the request as in flight there.
    pub(super) fn pick(&mut self, key: u64, now: Millis) -> Option<usize> {
        if self.roster.usable_count() == 0 {
            return None;
        }
        for position in (0..self.roster.warmup.due(now)).rev() {
            if let Some(place) = self.roster.warmup.advance(position, now) {
                self.reweighed(place);
            }
        }
        let roster = &mut self.roster;
        let place = match &mut self.strategy {
            Strategy::RoundRobin(rotation) => rotation.pick(roster),
            Strategy::LeastConnections(selector) => selector.pick(),
            Strategy::LeastResponseTime(selector) => selector.pick(),
            Strategy::Random(draw) => draw.pick(roster),
            Strategy::PowerOfTwo(draw) => p2c::pick(draw, roster),
            Strategy::IpHash(selector) => selector.pick(key, roster, self.bound),
            Strategy::Walk(walk) => walk.pick(key, roster, self.bound),
            Strategy::First => first::pick(roster),
        }?;
        self.set_in_flight(place, self.roster.in_flight(place).saturating_add(1));
        Some(place)
    }

    pub(super) fn set_in_flight(&mut self, place: usize, in_flight: u32) {
        self.roster.set_in_flight(place, in_flight);
        self.reweighed(place);
    }

    /// True when it has become fit.
    pub(super) fn set_fitness(&mut self, place: usize, fitness: Fitness, now: Millis) -> bool {
        let was_fit = self.roster.is_fit(place);
        let toggled = self.roster.set_fitness(place, fitness);
        let is_fit = self.roster.is_fit(place);
        if was_fit != is_fit {
            if is_fit {
                self.roster.warmup.start(place, now);
            } else {
                self.roster.warmup.stop(place);
            }
            match &mut self.strategy {
                Strategy::Walk(walk) => walk.set_fit(place, is_fit),
                Strategy::LeastResponseTime(selector) if is_fit => selector.renew(place, now, &self.roster),
                _ => {}
            }
        }
        if toggled {
            self.toggled(place);
        }
        is_fit && !was_fit
    }

    pub(super) fn set_full(&mut self, place: usize, is_full: bool) {
        if self.roster.set_full(place, is_full) {
            self.toggled(place);
        }
    }

    pub(super) fn set_hidden(&mut self, place: usize, is_hidden: bool) {
        if self.roster.set_hidden(place, is_hidden) {
            self.toggled(place);
        }
    }

    pub(super) fn responded(&mut self, place: usize, first_byte: Duration, now: Millis) {
        if let Strategy::LeastResponseTime(selector) = &mut self.strategy {
            selector.responded(place, first_byte, now, &self.roster);
        }
    }

    /// Takes over what another tier knows of one, which must be fit here and not have been picked.
    pub(super) fn inherit(&mut self, place: usize, from: &Tier, from_place: usize) {
        if let (Strategy::LeastResponseTime(selector), Strategy::LeastResponseTime(known)) =
            (&mut self.strategy, &from.strategy)
        {
            selector.inherit(place, known, from_place);
        }
        if let Some(since) = from.roster.warmup.since(from_place) {
            self.roster.warmup.start(place, since);
        }
        self.set_in_flight(place, from.roster.in_flight(from_place));
        self.set_full(place, from.roster.is_full(from_place));
        self.set_fitness(place, from.roster.fitness(from_place), 0);
    }

    /// One may be picked from now on, or no longer.
    fn toggled(&mut self, place: usize) {
        let roster = &self.roster;
        match &mut self.strategy {
            Strategy::RoundRobin(rotation) => rotation.toggled(place, roster.is_usable(place)),
            Strategy::LeastConnections(selector) => selector.refresh(place, roster),
            Strategy::LeastResponseTime(selector) => selector.refresh(place, roster),
            Strategy::Random(draw) | Strategy::PowerOfTwo(draw) => draw.toggled(place, roster),
            Strategy::IpHash(selector) => selector.toggled(place, roster),
            Strategy::Walk(walk) => walk.toggled(place, roster),
            Strategy::First => {}
        }
    }

    /// One has more or less in flight than before, or weighs more.
    fn reweighed(&mut self, place: usize) {
        match &mut self.strategy {
            Strategy::LeastConnections(selector) => selector.refresh(place, &self.roster),
            Strategy::LeastResponseTime(selector) => selector.refresh(place, &self.roster),
            _ => {}
        }
    }
}
