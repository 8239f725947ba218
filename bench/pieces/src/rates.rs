//! A rate limit: one more admission, for clients that may and for one that may not.

use std::{hint::black_box, net::IpAddr, time::Duration};

use ringway::{
    admission::rates::{Rates, Taken},
    config::plan::admission::{RATE_COUNT_MAX, Rate, RateKey, RateLimit},
};

use crate::piece::{Piece, Work};

/// Places of the table, as many as a limit of its own has.
const CLIENTS: usize = 128 * 1024;
/// The clock goes on so much with each turn of somebody who may; for who may not it stands still.
const STEP: u64 = 2_000;

/// The limiter as an exchange asks it.
pub fn pieces() -> Vec<Piece> {
    vec![
        Piece::new("rate of a client", || take(RateKey::ClientAddress, RATE_COUNT_MAX, 1, true)),
        Piece::new("rate of 16 clients", || take(RateKey::ClientAddress, RATE_COUNT_MAX, 16, true)),
        Piece::new("rate of all together", || take(RateKey::All, RATE_COUNT_MAX, 1, true)),
        Piece::new("rate exceeded", || take(RateKey::ClientAddress, 1, 1, false)),
    ]
}

/// A limit of so many in a second.
pub fn limit(count: u32, key: RateKey) -> RateLimit {
    RateLimit { rate: Rate { count, per: Duration::from_secs(1) }, burst: count, key }
}

fn take(key: RateKey, count: u32, clients: u32, admitted: bool) -> Work {
    let rates = Rates::new(limit(count, key.clone()), CLIENTS);
    let (mut now, step) = (1_000_000_000, if admitted { STEP } else { 0 });
    // The one admission that there is for who may not.
    let mut turn = 0u32;
    let mut ask = move || {
        now += step;
        turn = (turn + 1) % clients;
        let client = IpAddr::from((0x0a00_0000 + turn).to_be_bytes());
        let holder = if key == RateKey::All { rates.everybody() } else { rates.client(black_box(client)) };
        rates.take(holder, now)
    };
    if !admitted {
        ask();
    }
    Box::new(move || {
        let taken = ask();
        assert_eq!(matches!(taken, Taken::Yes), admitted);
    })
}
