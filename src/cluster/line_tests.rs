//! The line: who stands where in it, and who gets what.

use super::*;
use crate::cluster::{
    accounts::{Account, Terms},
    bells::Bells,
    ledger::Ledger,
};

/// The lines of two workers whose requests wait for the same.
fn lines() -> [Rc<Line>; 2] {
    let callers = Arc::new(Callers::new(Arc::new(Bells::new(2))));
    [0, 1].map(|me| {
        let line = Line::new(me, Arc::clone(&callers));
        line.update(4, true);
        line
    })
}

fn join(line: &Rc<Line>, stood: Option<u64>) -> Ticket {
    line.join(None, stood, &Arc::default()).unwrap().0
}

#[test]
fn who_comes_back_stands_where_it_stood() {
    let [line, _] = lines();
    let (first, second) = (join(&line, None), join(&line, None));
    let (number, behind) = (first.number(), second.number());
    assert!(number < behind);
    // Taken by somebody else, or never given to anybody: it is not to be had.
    assert!(
        [join(&line, Some(number)).number(), join(&line, Some(1_000)).number()]
            .iter()
            .all(|fresh| *fresh > behind)
    );
    drop(first);
    let back = join(&line, Some(number));
    assert_eq!(back.number(), number);
    let order: Vec<_> = line.waiters.borrow().keys().copied().collect();
    assert_eq!(order, [number, behind]);
}

/// Whoever was called sits down after it has left the line, and each fourth place is another worker's.
#[test]
fn who_was_called_gets_the_connection_it_was_called_for() {
    let [line, other] = lines();
    let _waits_elsewhere = join(&other, None);
    let ledger = Arc::new(Ledger::new(1, 2, 0));
    let account =
        Account { requests: None, connections: Some(Terms { ledger: Arc::clone(&ledger), limit: 1 }) };
    let room = Rc::new(Room::default());
    room.joins(0, &line, Some(&account));
    let mut served = 0;
    for _ in 0..4 * TURN_OF_OTHERS {
        let ticket = join(&line, None);
        room.yields_no_longer();
        room.stir();
        if ticket.poll_called(&mut Context::from_waker(Waker::noop())).is_ready() {
            assert!(room.enter());
            ticket.goes_to(&room);
            drop(ticket);
            assert!(!ledger.has_free(), "it is for others, behind {served}");
            assert!(room.sit().is_some(), "behind {served}");
            room.exit();
            served += 1;
        }
    }
    assert!(served > TURN_OF_OTHERS, "{served}");
}
