//! No algorithm allocates when it picks, nor when it is told what has happened meanwhile.

use std::{sync::Arc, sync::PoisonError, time::Duration};

use ringway::balance::{
    algorithm::Algorithm,
    layout::{Layout, Member, Spec},
    roster::Fitness,
    selector::{Request, Selector},
};

use super::{TURN, counting::Counted};

const BACKENDS: usize = 1000;
const PICKS: usize = 5000;

/// A thousand backends of three weights, a tenth of them backups.
fn selector(algorithm: Algorithm, bounded_load: Option<f64>) -> Selector {
    let member = |number: usize| Member {
        name: Arc::from(format!("10.0.{}.{}:80", number / 250, number % 250)),
        weight: [1, 1, 2, 5][number % 4],
        backup: number % 10 == 9,
    };
    let grows = !algorithm.is_keyed() && algorithm != Algorithm::First;
    let spec = Spec {
        slow_start: if grows { Duration::from_millis(500) } else { Duration::ZERO },
        bounded_load,
        ..Spec::new(algorithm, (0..BACKENDS).map(member).collect())
    };
    Selector::new(Arc::new(Layout::new(&spec)), 7, 0)
}

/// Backends fall ill, leave, fill up and come back while requests come and go, some of them for another try; at last nobody
/// is well, and one of the ailing is asked. How many picks there were.
fn serve(selector: &mut Selector) -> usize {
    let mut running = [None; 64];
    let mut picks = 0;
    for number in 0..PICKS {
        let (now, index) = (number as u64, number * 7 % BACKENDS);
        let fitness = [Fitness::Ailing, Fitness::Fit, Fitness::Out, Fitness::Fit][number % 4];
        selector.set_fitness(index, fitness, now);
        selector.set_full(number * 11 % BACKENDS, number % 3 == 0);
        let tried = [index, number % BACKENDS];
        let key = selector.layout().key(&number.to_be_bytes());
        let request = Request { key, tried: &tried[..number % 3], now };
        let picked = selector.pick(request);
        picks += usize::from(picked.is_some());
        if let Some(ended) = std::mem::replace(&mut running[number % 64], picked) {
            selector.responded(ended, Duration::from_micros(100 + now % 900), now);
            selector.finished(ended);
        }
    }
    for index in 0..BACKENDS {
        selector.set_full(index, false);
        selector.set_fitness(index, Fitness::Ailing, PICKS as u64);
    }
    assert_eq!(selector.pick(Request::default()), None);
    picks + usize::from(selector.pick_ailing(Request::default()).is_some())
}

#[test]
fn no_algorithm_allocates_when_it_picks() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = Counted::this();
    for algorithm in Algorithm::ALL {
        for bounded_load in [None, Some(1.25)].into_iter().take(1 + usize::from(algorithm.is_keyed())) {
            let before = thread.allocations();
            let mut selector = selector(algorithm, bounded_load);
            assert!(thread.allocations() > before, "the allocations of this thread are counted");
            let (allocations, picks) = thread.during(|| serve(&mut selector));
            assert_eq!(picks, PICKS + 1, "{algorithm:?}: somebody was always there");
            assert_eq!(allocations, 0, "{algorithm:?}, bounded by {bounded_load:?}");
        }
    }
}
