//! A selector: one worker's choice among the backends of a cluster.
//!
//! Pure: no socket, no clock, no randomness but its own seeded generator; no allocation after it is made. It is told
//! what happens to the backends (`set_fitness`, `set_full`, `responded`, `finished`) and keeps what it needs to pick
//! at a cost that does not depend on how many of them cannot be picked.

use std::{sync::Arc, time::Duration};

use super::{
    algorithm::Algorithm,
    layout::{Layout, Spot},
    roster::Fitness,
    shares::scale,
    tier::Tier,
};
use crate::io::alarm::Millis;

/// What a request brings along.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// From [`Layout::key`] or [`Layout::key_of_client`]; not looked at by algorithms that are not keyed.
    pub key: u64,
    /// The backends it has been tried on. Each costs a little, so this is for a handful.
    pub tried: &'a [usize],
    /// The time.
    pub now: Millis,
}

/// The choice among the backends of one cluster, on one worker. A backend is known by its index in the spec.
#[derive(Debug, Clone)]
pub struct Selector {
    layout: Arc<Layout>,
    /// Primaries, then backups.
    tiers: Box<[Tier]>,
    /// Where the next last resort is looked for.
    cursor: usize,
}

impl Selector {
    /// All backends fit and idle. Workers and instances with different seeds begin at different backends, where the
    /// algorithm is not keyed; successive seeds begin at successive ones.
    pub fn new(layout: Arc<Layout>, seed: u64, now: Millis) -> Self {
        let tiers = layout.tiers().iter().map(|share| Tier::new(&layout, share, seed, now)).collect();
        Selector { layout, tiers, cursor: seed as usize }
    }

    /// What it was made from.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Picks a backend that is fit, not full and not tried; a backup only when there is no other. The request counts
    /// as in flight there until [`Selector::finished`] is called, whether or not it gets that far.
    pub fn pick(&mut self, request: Request<'_>) -> Option<usize> {
        self.hide(request.tried, true);
        let picked = self.tiers.iter_mut().zip(self.layout.tiers()).find_map(|(tier, share)| {
            let place = tier.pick(request.key, request.now)?;
            share.members.get(place).copied()
        });
        self.hide(request.tried, false);
        picked
    }

    /// Picks one that is ailing, when nobody else is left and the caller would rather try than refuse. Never one that
    /// is out, full or tried. To be finished like any other.
    pub fn pick_ailing(&mut self, request: Request<'_>) -> Option<usize> {
        self.hide(request.tried, true);
        let picked = (0..self.tiers.len()).find_map(|tier| self.last_resort(tier, request.key));
        self.hide(request.tried, false);
        picked.inspect(|index| self.started(*index))
    }

    /// A request went to a backend without being picked for it, because a cookie or a table said so.
    pub fn started(&mut self, index: usize) {
        if let Some((tier, place)) = self.find(index) {
            tier.set_in_flight(place, tier.roster().in_flight(place).saturating_add(1));
        }
    }

    /// A request that was picked for or started at a backend has come to its end, however it ended.
    pub fn finished(&mut self, index: usize) {
        if let Some((tier, place)) = self.find(index) {
            tier.set_in_flight(place, tier.roster().in_flight(place).saturating_sub(1));
        }
    }

    /// The first byte of a response has come, or the wait for it was given up after this time.
    pub fn responded(&mut self, index: usize, first_byte: Duration, now: Millis) {
        if let Some((tier, place)) = self.find(index) {
            tier.responded(place, first_byte, now);
        }
    }

    /// A backend has become fit, ailing or is out. One that becomes fit warms up.
    pub fn set_fitness(&mut self, index: usize, fitness: Fitness, now: Millis) {
        if let Some((tier, place)) = self.find(index) {
            tier.set_fitness(place, fitness, now);
        }
    }

    /// A backend has all it can take, or has room again.
    pub fn set_full(&mut self, index: usize, is_full: bool) {
        if let Some((tier, place)) = self.find(index) {
            tier.set_full(place, is_full);
        }
    }

    /// What a backend has in flight from this worker.
    pub fn in_flight(&self, index: usize) -> u32 {
        let spot = self.layout.spot(index);
        spot.and_then(|spot| Some(self.tiers.get(spot.tier)?.roster().in_flight(spot.place))).unwrap_or(0)
    }

    /// True when some backend is fit, be it full or not: then it may be worth waiting for.
    pub fn has_fit(&self) -> bool {
        self.tiers.iter().any(|tier| tier.roster().fit_count() > 0)
    }

    /// Takes over what an older selector knows of a backend that is in both: its fitness, what it has in flight, how
    /// far it has warmed up, how fast it answers. For a selector that has not picked yet.
    pub fn inherit(&mut self, index: usize, from: &Selector, from_index: usize) {
        let Some(old) = from.layout.spot(from_index) else { return };
        if let (Some((tier, place)), Some(known)) = (self.find(index), from.tiers.get(old.tier)) {
            tier.inherit(place, known, old.place);
        }
    }

    fn find(&mut self, index: usize) -> Option<(&mut Tier, usize)> {
        let Spot { tier, place } = self.layout.spot(index)?;
        Some((self.tiers.get_mut(tier)?, place))
    }

    fn hide(&mut self, tried: &[usize], is_hidden: bool) {
        for index in tried {
            if let Some((tier, place)) = self.find(*index) {
                tier.set_hidden(place, is_hidden);
            }
        }
    }

    /// An ailing one of a tier, in turn or by key.
    fn last_resort(&mut self, tier: usize, key: u64) -> Option<usize> {
        let roster = self.tiers.get(tier)?.roster();
        let count = roster.count();
        let first = match self.layout.algorithm() {
            Algorithm::IpHash | Algorithm::Maglev => scale(key, count as u64) as usize,
            Algorithm::Ring => scale(key << 32, count as u64) as usize,
            _ => self.cursor % count.max(1),
        };
        let place = roster.next_last_resort(first)?;
        self.cursor = place + 1;
        self.layout.tiers().get(tier)?.members.get(place).copied()
    }
}
