//! Single functions of the proxy, each with all it needs around it and ready to be called again and again.
//!
//! Micro-benchmarks time them, `count` counts their instructions, `lanes` runs whole exchanges on several threads. A
//! piece calls what the proxy itself calls, in the same way, and adds nothing of its own. No sockets are opened here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are benchmarks: they stop at the first surprise"
)]

pub mod budget;
pub mod figures;
pub mod framing;
pub mod heads;
pub mod lane;
pub mod pick;
pub mod piece;
pub mod plan;
pub mod rates;
pub mod request;
pub mod response;
pub mod routing;

use piece::Piece;

/// Every piece whose instructions are counted, by the name it is counted under.
pub fn all() -> Vec<Piece> {
    let groups = [
        request::pieces(),
        response::pieces(),
        framing::pieces(),
        pick::pieces(&[1, 10, 1_000]),
        routing::pieces(&[1, 100, 10_000]),
        figures::pieces(),
        rates::pieces(),
        budget::pieces(),
        lane::pieces(),
    ];
    groups.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_piece_has_a_name_of_its_own_and_can_be_repeated() {
        let mut names = HashSet::new();
        for piece in all() {
            assert!(names.insert(piece.name().to_owned()), "{piece}");
            let mut work = piece.work();
            (0..3).for_each(|_| work());
        }
    }
}
