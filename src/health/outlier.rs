//! Outliers: backends that fail more often than the others of their cluster.
//!
//! Pure. A backend is compared with what the others answer together, so a cluster that fails as a whole has none.

/// When a backend is one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// It succeeds less often than this part of the others' ratio, above 0 and at most 1; `None` never looks.
    pub ratio: Option<f64>,
    /// Who has had fewer requests in the interval is not judged.
    pub requests_min: u16,
    /// At most this share of a cluster's backends may be ejected at a time, in percent; one always may.
    pub ejected_max_percent: u16,
}

/// What a backend did in an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Responses below status 500.
    pub successes: u64,
    /// Everything else.
    pub failures: u64,
}

impl Tally {
    fn requests(self) -> u64 {
        self.successes + self.failures
    }

    fn ratio(self) -> f64 {
        self.successes as f64 / self.requests().max(1) as f64
    }
}

/// The places of the outliers, the worst first, as far as there may be that many: of `all` that share the work `ejected`
/// are out already.
pub fn find(tallies: &[Tally], (all, ejected): (usize, usize), rules: &Rules) -> Vec<usize> {
    let Some(part) = rules.ratio else { return Vec::new() };
    let sum = tallies.iter().fold(Tally::default(), |sum, tally| Tally {
        successes: sum.successes + tally.successes,
        failures: sum.failures + tally.failures,
    });
    let judged = |(place, tally): (usize, &Tally)| {
        let others =
            Tally { successes: sum.successes - tally.successes, failures: sum.failures - tally.failures };
        let least = u64::from(rules.requests_min);
        let is_known = tally.requests() >= least && others.requests() >= least;
        (is_known && tally.ratio() < others.ratio() * part).then(|| (place, tally.ratio()))
    };
    let mut found: Vec<_> = tallies.iter().enumerate().filter_map(judged).collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    let most = (all * usize::from(rules.ejected_max_percent) / 100).max(1);
    found.into_iter().map(|(place, _)| place).take(most.saturating_sub(ejected)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { ratio: Some(0.7), requests_min: 20, ejected_max_percent: 50 };

    const NOBODY: [usize; 0] = [];

    fn tallies(of: &[(u64, u64)]) -> Vec<Tally> {
        of.iter().map(|(successes, failures)| Tally { successes: *successes, failures: *failures }).collect()
    }

    #[test]
    fn who_fails_more_often_than_the_others_is_one() {
        assert_eq!(find(&tallies(&[(100, 0), (40, 60), (99, 1)]), (3, 0), &RULES), [1]);
        assert_eq!(find(&tallies(&[(100, 0), (80, 20), (99, 1)]), (3, 0), &RULES), NOBODY);
        assert_eq!(find(&tallies(&[(40, 60), (40, 60), (40, 60)]), (3, 0), &RULES), NOBODY, "all fail alike");
        assert_eq!(find(&tallies(&[(100, 0), (1, 9)]), (2, 0), &RULES), NOBODY, "too few to know");
        assert_eq!(find(&tallies(&[(100, 0), (0, 90)]), (2, 0), &Rules { ratio: None, ..RULES }), NOBODY);
    }

    #[test]
    fn no_more_than_their_share_are_ejected_and_the_worst_first() {
        let all = tallies(&[(100, 0), (100, 0), (10, 90), (0, 100)]);
        assert_eq!(find(&all, (4, 0), &RULES), [3, 2]);
        assert_eq!(find(&all, (4, 1), &RULES), [3]);
        assert_eq!(find(&all, (4, 2), &RULES), NOBODY);
        assert_eq!(find(&all, (4, 0), &Rules { ejected_max_percent: 0, ..RULES }), [3], "one always may");
    }

    proptest! {
        #[test]
        fn the_best_one_is_never_an_outlier(of in prop::collection::vec((0u64..1000, 0u64..1000), 1..20), ejected in 0usize..4) {
            let all = tallies(&of);
            let found = find(&all, (all.len(), ejected), &RULES);
            let best = all.iter().map(|tally| tally.ratio()).fold(0.0, f64::max);
            prop_assert!(found.iter().all(|place| all[*place].ratio() < best));
            prop_assert!(found.len() + ejected <= (all.len() / 2).max(1).max(ejected));
        }
    }
}
