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
    /// True when it has become fit.
    pub fn set_fitness(&mut self, index: usize, fitness: Fitness, now: Millis) -> bool {
        self.find(index).is_some_and(|(tier, place)| tier.set_fitness(place, fitness, now))
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

    /// True when some backend that was not tried is fit, be it full or not.
    pub fn has_fit_besides(&self, tried: &[usize]) -> bool {
        let fit: usize = self.tiers.iter().map(|tier| tier.roster().fit_count()).sum();
        let was_tried =
            |spot: &Spot| self.tiers.get(spot.tier).is_some_and(|tier| tier.roster().is_fit(spot.place));
        fit > tried.iter().filter_map(|index| self.layout.spot(*index)).filter(was_tried).count()
    }

    /// True when somebody who was not tried could be picked if all had room. For when nobody can be picked.
    pub fn is_full_for(&self, tried: &[usize]) -> bool {
        if self.has_fit() {
            return self.has_fit_besides(tried);
        }
        let ails = |tier: &Tier, place: usize| tier.roster().fitness(place) == Fitness::Ailing;
        let was_tried = |spot: &Spot| self.tiers.get(spot.tier).is_some_and(|tier| ails(tier, spot.place));
        let ailing: usize = self.tiers.iter().map(|tier| tier.roster().ailing_count()).sum();
        ailing > tried.iter().filter_map(|index| self.layout.spot(*index)).filter(was_tried).count()
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::balance::{
        layout::{Member, Spec},
        steps::tests::taken_by,
    };

    fn members(weights: &[u16], backups: usize) -> Vec<Member> {
        let primaries = weights.len().saturating_sub(backups);
        let member = |(index, weight): (usize, &u16)| Member {
            name: Arc::from(format!("10.0.0.{index}:80")),
            weight: *weight,
            backup: index >= primaries,
        };
        weights.iter().enumerate().map(member).collect()
    }

    fn selector(algorithm: Algorithm, weights: &[u16]) -> Selector {
        Selector::new(Arc::new(Layout::new(&Spec::new(algorithm, members(weights, 0)))), 0, 0)
    }

    fn request(selector: &Selector, number: u32) -> Request<'static> {
        Request { key: selector.layout().key(&number.to_be_bytes()), tried: &[], now: 0 }
    }

    fn any_algorithm() -> impl Strategy<Value = Algorithm> {
        prop::sample::select(Algorithm::ALL.to_vec())
    }

    #[test]
    fn a_backup_works_only_while_no_primary_can() {
        for algorithm in Algorithm::ALL {
            let layout = Layout::new(&Spec::new(algorithm, members(&[1, 1, 1], 1)));
            let mut selector = Selector::new(Arc::new(layout), 0, 0);
            let pick = |selector: &mut Selector, tried: &[usize]| {
                selector
                    .pick(Request { tried, ..request(selector, 5) })
                    .inspect(|index| selector.finished(*index))
            };
            assert_ne!(pick(&mut selector, &[]), Some(2), "{algorithm:?}");
            assert_eq!(pick(&mut selector, &[0, 1]), Some(2), "{algorithm:?}");
            assert_eq!(pick(&mut selector, &[0, 1, 2]), None, "{algorithm:?}");
            selector.set_fitness(0, Fitness::Ailing, 0);
            assert_eq!(pick(&mut selector, &[]), Some(1), "{algorithm:?}");
            selector.set_full(1, true);
            assert_eq!(pick(&mut selector, &[]), Some(2), "{algorithm:?}");
            selector.set_full(1, false);
            assert_eq!(pick(&mut selector, &[]), Some(1), "{algorithm:?}");
        }
    }

    #[test]
    fn workers_and_instances_with_other_seeds_begin_elsewhere_and_even_out() {
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections, Algorithm::LeastResponseTime] {
            let layout = Arc::new(Layout::new(&Spec::new(algorithm, members(&[1; 3], 0))));
            let mut instances = [7, 8, 9].map(|seed| Selector::new(layout.clone(), seed, 0));
            let first: HashSet<_> =
                instances.iter_mut().map(|selector| selector.pick(Request::default())).collect();
            assert_eq!(first.len(), 3, "{algorithm:?}");
        }
        let layout = Arc::new(Layout::new(&Spec::new(Algorithm::RoundRobin, members(&[1; 4], 0))));
        let mut counts = [0; 4];
        for seed in 0..3 {
            let mut selector = Selector::new(layout.clone(), seed, 0);
            (0..300).for_each(|_| counts[selector.pick(Request::default()).unwrap()] += 1);
        }
        assert_eq!(counts, [225; 4]);
    }

    #[test]
    fn keyed_choices_are_the_same_whatever_the_seed_and_the_past() {
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.is_keyed()) {
            let here = &mut selector(algorithm, &[1, 2, 3, 4]);
            let layout = Layout::new(&Spec::new(algorithm, members(&[1, 2, 3, 4], 0)));
            let there = &mut Selector::new(Arc::new(layout), 99, 12_345);
            for fitness in [Fitness::Ailing, Fitness::Out, Fitness::Fit] {
                there.set_fitness(1, fitness, 0);
                there.set_fitness(3, fitness, 0);
            }
            for number in 0..1_000 {
                let request = request(here, number);
                assert_eq!(here.pick(request), there.pick(request), "{algorithm:?}");
            }
        }
    }

    /// A recovered backend among busy ones: its part of the picks grows over the slow start.
    #[test]
    fn a_recovered_backend_ramps_up_whatever_the_algorithm() {
        for algorithm in [
            Algorithm::RoundRobin,
            Algorithm::LeastConnections,
            Algorithm::LeastResponseTime,
            Algorithm::Random,
            Algorithm::PowerOfTwo,
        ] {
            let spec =
                Spec { slow_start: Duration::from_secs(10), ..Spec::new(algorithm, members(&[1; 4], 0)) };
            let mut selector = Selector::new(Arc::new(Layout::new(&spec)), 0, 0);
            selector.set_fitness(0, Fitness::Ailing, 0);
            selector.set_fitness(0, Fitness::Fit, 0);
            let mut window = std::collections::VecDeque::new();
            let mut picks = [0u32; 4];
            for now in 0..12_000 {
                // Each request stays for 60 ms, so 60 are in flight.
                let index = selector.pick(Request { now, ..Request::default() }).unwrap();
                picks[(now / 3_000) as usize] += u32::from(index == 0);
                window.push_back(index);
                if window.len() == 60 {
                    let ended = window.pop_front().unwrap();
                    selector.responded(ended, Duration::from_millis(60), now);
                    selector.finished(ended);
                }
            }
            let [first, second, third, warm] = picks;
            assert!(
                first < 350 && first < second && second < third && third < warm,
                "{algorithm:?}: {picks:?}"
            );
            assert!(warm > 600, "{algorithm:?}: {picks:?}");
        }
    }

    #[test]
    fn a_last_resort_is_ailing_and_neither_out_nor_full_nor_tried() {
        for algorithm in Algorithm::ALL {
            let selector = &mut selector(algorithm, &[1; 5]);
            for (index, fitness) in
                [Fitness::Ailing, Fitness::Ailing, Fitness::Ailing, Fitness::Out, Fitness::Ailing]
                    .into_iter()
                    .enumerate()
            {
                selector.set_fitness(index, fitness, 0);
            }
            assert!(!selector.has_fit());
            selector.set_full(4, true);
            let tried = [0];
            let seen: HashSet<_> = (0..100)
                .map(|number| {
                    selector.pick_ailing(Request { tried: &tried, ..request(selector, number) }).unwrap()
                })
                .collect();
            assert_eq!(seen, HashSet::from([1, 2]), "{algorithm:?}");
            assert_eq!(selector.in_flight(1) + selector.in_flight(2), 100);
            assert_eq!(selector.pick(request(selector, 0)), None);
        }
    }

    #[test]
    fn a_new_selector_knows_what_the_old_one_knew() {
        for algorithm in Algorithm::ALL {
            let spec =
                Spec { slow_start: Duration::from_secs(10), ..Spec::new(algorithm, members(&[1; 3], 0)) };
            let layout = Arc::new(Layout::new(&spec));
            let mut old = Selector::new(layout.clone(), 0, 0);
            old.set_fitness(0, Fitness::Out, 0);
            (0..5).for_each(|_| old.started(1));
            old.set_full(1, true);
            old.set_fitness(2, Fitness::Ailing, 0);
            old.set_fitness(2, Fitness::Fit, 1_000);
            let mut new = Selector::new(layout, 0, 0);
            (0..3).for_each(|index| new.inherit(index, &old, index));
            assert_eq!([0, 1, 2].map(|index| new.in_flight(index)), [0, 5, 0]);
            let picks: Vec<_> = (0..9).map(|_| new.pick(request(&new, 1)).unwrap()).collect();
            assert_eq!(picks, [2; 9], "{algorithm:?}");
            new.set_full(1, false);
            assert!((0..9).any(|number| new.pick(request(&new, number)) == Some(1)), "{algorithm:?}");
        }
    }

    /// Promise 37, counted and not timed: a tree is climbed and descended at most a few times, whoever is left. What the
    /// dead cost beyond that is memory that is not in the cache: the next one alive is farther away.
    #[test]
    fn a_pick_takes_few_steps_however_many_are_dead() {
        const BACKENDS: usize = 4_096;
        /// Three times the height of a binary tree over all of them.
        const STEPS_MAX: usize = 3 * 13;
        for algorithm in Algorithm::ALL {
            let layout = Arc::new(Layout::new(&Spec::new(algorithm, members(&[1; BACKENDS], 0))));
            for one_in in [1, 2, 100, BACKENDS] {
                let mut selector = Selector::new(layout.clone(), 7, 0);
                let lives = |index: usize| index % one_in == one_in / 2;
                for index in (0..BACKENDS).filter(|index| !lives(*index)) {
                    selector.set_fitness(index, Fitness::Ailing, 0);
                }
                let steps = (0..1_000).map(|number| {
                    let request = request(&selector, number);
                    let (steps, picked) = taken_by(|| selector.pick(request));
                    assert!(picked.is_some_and(lives), "{algorithm:?}: {picked:?}");
                    steps
                });
                let most = steps.max().unwrap();
                let told = format!("{algorithm:?}: {most} steps while one in {one_in} is alive");
                assert!((1..=STEPS_MAX).contains(&most), "{told}");
            }
        }
    }

    #[test]
    fn an_empty_cluster_has_nobody() {
        for algorithm in Algorithm::ALL {
            for weights in [&[][..], &[0, 0][..]] {
                let selector = &mut selector(algorithm, weights);
                assert_eq!(selector.pick(Request::default()), None);
                assert_eq!(selector.pick_ailing(Request::default()), None);
                assert!(!selector.has_fit());
                selector.finished(7);
                selector.set_fitness(7, Fitness::Fit, 0);
            }
        }
    }

    proptest! {
        /// Whatever happens in whatever order: a pick is fit, has room, was not tried and weighs something, a backup
        /// has no usable primary, nobody usable means nobody, and all counts come back to zero.
        #[test]
        fn a_pick_is_always_allowed(
            algorithm in any_algorithm(),
            weights in prop::collection::vec(0u16..5, 1..12),
            backups in 0usize..4,
            bounded in prop::option::of(prop::sample::select(vec![1.0, 1.25])),
            steps in prop::collection::vec((0usize..6, 0usize..12, 0u32..1000), 1..120),
        ) {
            let spec = Spec {
                slow_start: Duration::from_millis(300),
                bounded_load: bounded,
                maglev_slots: 101,
                ..Spec::new(algorithm, members(&weights, backups))
            };
            let mut selector = Selector::new(Arc::new(Layout::new(&spec)), 3, 0);
            let count = weights.len();
            let (mut fitness, mut full, mut running) = (vec![Fitness::Fit; count], vec![false; count], Vec::new());
            for (now, (what, index, number)) in (0..).step_by(17).zip(steps) {
                let index = index % count;
                match what {
                    0 => {
                        fitness[index] = [Fitness::Fit, Fitness::Ailing, Fitness::Out][number as usize % 3];
                        selector.set_fitness(index, fitness[index], now);
                    }
                    1 => {
                        full[index] = number % 2 == 0;
                        selector.set_full(index, full[index]);
                    }
                    2 if !running.is_empty() => {
                        let ended = running.swap_remove(number as usize % running.len());
                        selector.responded(ended, Duration::from_millis(u64::from(number)), now);
                        selector.finished(ended);
                    }
                    _ => {}
                }
                let tried = [number as usize % count, (number / 7) as usize % count];
                let tried = &tried[..what % 3];
                let usable = |index: &usize| {
                    weights[*index] > 0 && fitness[*index] == Fitness::Fit && !full[*index] && !tried.contains(index)
                };
                let allowed: Vec<_> = (0..count).filter(usable).collect();
                let primaries: Vec<_> = allowed.iter().copied().filter(|index| !spec.members[*index].backup).collect();
                let allowed = if primaries.is_empty() { allowed } else { primaries };
                let picked = selector.pick(Request { key: selector.layout().key(&number.to_be_bytes()), tried, now });
                match picked {
                    Some(index) => {
                        prop_assert!(allowed.contains(&index), "{} of {:?}", index, allowed);
                        running.push(index);
                    }
                    None => prop_assert!(allowed.is_empty(), "nobody of {:?}", allowed),
                }
                for index in 0..count {
                    let held = running.iter().filter(|running| **running == index).count();
                    prop_assert_eq!(selector.in_flight(index) as usize, held);
                }
            }
            running.into_iter().for_each(|index| selector.finished(index));
            prop_assert!((0..count).all(|index| selector.in_flight(index) == 0));
        }

        /// With all of a thousand dead but a few, the few share the work.
        #[test]
        fn the_few_that_live_among_many_dead_share_the_work(algorithm in any_algorithm(), living in prop::collection::btree_set(0usize..300, 1..4)) {
            prop_assume!(algorithm != Algorithm::First);
            let spec = Spec { maglev_slots: 5_000, ..Spec::new(algorithm, members(&[1; 300], 0)) };
            let mut selector = Selector::new(Arc::new(Layout::new(&spec)), 3, 0);
            for index in (0..300).filter(|index| !living.contains(index)) {
                selector.set_fitness(index, Fitness::Ailing, 0);
            }
            let mut counts = vec![0u32; 300];
            for number in 0..600 {
                let index = selector.pick(request(&selector, number)).unwrap();
                counts[index] += 1;
            }
            for (index, count) in counts.into_iter().enumerate() {
                prop_assert_eq!(living.contains(&index), count > 0, "{}", index);
            }
        }
    }
}
