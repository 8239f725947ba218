//! Repeats pieces so that callgrind can count their instructions: `bench/instructions` runs it.
//!
//! `count TURNS NAME…` runs each named piece so often inside [`measured`], whose instructions alone are counted, after
//! a tenth of the turns outside it. `count` alone lists the names; `count cpu` says what this processor is taken for.

use std::{env, process::ExitCode};

use ringway_pieces::{
    all,
    piece::{Piece, Work},
};

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What an empty loop costs is taken off everything else.
const NOTHING: &str = "nothing";

/// Callgrind knows it by this name.
#[inline(never)]
fn measured(work: &mut Work, turns: usize) {
    for _ in 0..turns {
        work();
    }
}

/// What libraries look for before they choose how to do things.
fn cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features = [(env::consts::ARCH, true)];
    let found: Vec<_> = features.iter().filter(|(_, found)| *found).map(|(name, _)| *name).collect();
    found.join(" ")
}

fn main() -> ExitCode {
    let mut pieces = vec![Piece::new(NOTHING, || Box::new(|| {}))];
    pieces.extend(all());
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.split_first() {
        None => pieces.iter().for_each(|piece| println!("{piece}")),
        Some((word, [])) if word == "cpu" => println!("{}", cpu()),
        Some((turns, names)) => {
            let Ok(turns) = turns.parse::<usize>() else {
                eprintln!("usage: count [cpu | TURNS NAME…]");
                return ExitCode::from(2);
            };
            for name in names {
                let Some(piece) = pieces.iter().find(|piece| piece.name() == name) else {
                    eprintln!("count: there is no piece {name:?}");
                    return ExitCode::from(2);
                };
                let mut work = piece.work();
                (0..turns / 10).for_each(|_| work());
                measured(&mut work, turns);
            }
        }
    }
    ExitCode::SUCCESS
}
