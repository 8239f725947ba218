//! Selectors in every size, with the load that they see.
//!
//! One turn is one request: a pick, and the end of an earlier request. Two requests per living backend are in flight, and
//! every key is another one.

use std::{collections::VecDeque, fmt, hint::black_box, sync::Arc, time::Duration};

use ringway::balance::{
    algorithm::Algorithm,
    layout::{Layout, Member, Spec},
    roster::Fitness,
    selector::{Request, Selector},
};

use crate::piece::{Piece, Work};

/// What a selector is made of and put through.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// How it chooses.
    pub algorithm: Algorithm,
    /// Among how many.
    pub backends: usize,
    /// Of a hundred, 99 are down.
    pub dead: bool,
    /// All different, instead of all the same.
    pub weighted: bool,
    /// With a `bounded_load` of 1.25.
    pub bounded: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.algorithm.name())?;
        write!(f, "{}", if self.weighted { " weighted" } else { "" })?;
        write!(f, "{}", if self.bounded { " bounded" } else { "" })?;
        write!(f, " {:>5}{}", self.backends, if self.dead { " 99 % dead" } else { "" })
    }
}

/// Every algorithm, plain, in these sizes.
pub fn pieces(sizes: &[usize]) -> Vec<Piece> {
    let plain =
        |algorithm, backends| Case { algorithm, backends, dead: false, weighted: false, bounded: false };
    let cases = Algorithm::ALL
        .into_iter()
        .flat_map(|algorithm| sizes.iter().map(move |size| plain(algorithm, *size)));
    let piece = |case: Case| {
        Piece::new(format!("pick {} {}", case.algorithm.name(), case.backends), move || case.work())
    };
    cases.map(piece).collect()
}

impl Case {
    /// Its tables.
    pub fn layout(&self) -> Layout {
        let members = (0..self.backends).map(|index| Member {
            name: Arc::from(format!("10.{}.{}.{}:8080", index >> 16, index >> 8 & 255, index & 255)),
            weight: if self.weighted { index as u16 + 1 } else { 1 },
            backup: false,
        });
        let spec = Spec::new(self.algorithm, members.collect());
        Layout::new(&Spec { bounded_load: self.bounded.then_some(1.25), ..spec })
    }

    /// Nothing in flight.
    pub fn selector(&self) -> Selector {
        let mut selector = Selector::new(Arc::new(self.layout()), 1, 0);
        for index in (0..self.backends).filter(|index| self.dead && index % 100 != 7) {
            selector.set_fitness(index, Fitness::Ailing, 0);
        }
        selector
    }

    /// A request after the other.
    pub fn work(&self) -> Work {
        let mut selector = self.selector();
        let mut key = 0u64;
        let mut pick = move |selector: &mut Selector| {
            key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
            // A ring looks at the lower half only.
            selector.pick(Request { key: key ^ key >> 32, tried: &[], now: 1 })
        };
        let living = if self.dead { self.backends.div_ceil(100) } else { self.backends };
        let mut running: VecDeque<usize> = VecDeque::with_capacity(2 * living + 1);
        running.extend((0..2 * living).map(|_| pick(&mut selector).unwrap()));
        for index in &running {
            selector.responded(*index, Duration::from_millis(*index as u64 % 5 + 1), 1);
        }
        Box::new(move || {
            let index = pick(&mut selector).unwrap();
            running.push_back(black_box(index));
            if let Some(ended) = running.pop_front() {
                selector.finished(ended);
            }
        })
    }
}
