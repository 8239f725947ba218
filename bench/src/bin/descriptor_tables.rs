//! What a table of descriptors costs that threads share: a descriptor is opened and closed again, by one thread and by two at
//! once, in one table for all and in a table for each.
//!
//! `descriptor_tables [ROUNDS]` prints the medians, in nanoseconds of the thread's own time; it needs two cores.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use ringway::sys::descriptor_table;
use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

const TURNS: u32 = 200_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Nanoseconds of a turn on a core, with its descriptor in a table of its own or in everybody's.
fn turns(core: usize, separate: bool, begin: &Barrier) -> Result<f64, Failure> {
    let mut cores = CpuSet::new();
    cores.set(core);
    let pinned = sched_setaffinity(None, &cores);
    let ready = || -> Result<OwnedFd, Failure> {
        pinned?;
        if separate {
            descriptor_table::separate([])?;
        }
        Ok(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?)
    };
    let ready = ready();
    begin.wait();
    let descriptor = ready?;
    let before = spent()?;
    for _ in 0..TURNS {
        drop(descriptor.try_clone()?);
    }
    Ok((spent()? - before).as_nanos() as f64 / f64::from(TURNS))
}

fn spent() -> Result<Duration, Failure> {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

/// The slower of so many threads at once.
fn at_once(threads: usize, separate: bool) -> Result<f64, Failure> {
    let begin = Arc::new(Barrier::new(threads));
    let threads: Vec<_> = (0..threads)
        .map(|core| {
            let begin = Arc::clone(&begin);
            thread::spawn(move || turns(core, separate, &begin))
        })
        .collect();
    let times = threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread has panicked")?);
    times.collect::<Result<Vec<_>, Failure>>().map(|times| times.into_iter().fold(0.0, f64::max))
}

fn main() -> Result<(), Failure> {
    let rounds = std::env::args().nth(1).map_or(Ok(9), |rounds| rounds.parse::<usize>())?.max(1);
    let ways = [(1, false), (1, true), (2, false), (2, true)];
    let mut times = ways.map(|_| Vec::new());
    for _ in 0..rounds {
        for ((threads, separate), times) in ways.into_iter().zip(&mut times) {
            times.push(at_once(threads, separate)?);
        }
    }
    println!(
        "| threads at once | table | ns to open and close a descriptor | least–most |\n|---|---|---|---|"
    );
    for ((threads, separate), mut times) in ways.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let table = if separate { "one for each" } else { "one for all" };
        let (least, most) = (times[0], times[rounds - 1]);
        println!("| {threads} | {table} | {:.0} | {least:.0}–{most:.0} |", times[rounds / 2]);
    }
    Ok(())
}
