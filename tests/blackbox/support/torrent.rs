//! Streams too large to keep: both ends make the same random bytes from a seed, one sends them, the other compares.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::deadline::PATIENCE;
use super::seed::Seed;

const BLOCK_BYTES: usize = 128 * 1024;
/// How long nothing must move before a sender counts as held back.
const STALL: Duration = Duration::from_millis(300);

/// The same bytes for the same seed, without end.
pub(crate) struct Torrent {
    seed: Seed,
    block: Vec<u8>,
    at: usize,
}

impl Torrent {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed: Seed::new(seed), block: Vec::new(), at: 0 }
    }

    /// The next bytes, at least one and at most `most`.
    fn next(&mut self, most: usize) -> &[u8] {
        if self.at == self.block.len() {
            (self.block, self.at) = (self.seed.bytes(BLOCK_BYTES), 0);
        }
        let from = self.at;
        self.at = self.block.len().min(from + most);
        &self.block[from..self.at]
    }

    /// Sends `count` bytes in writes of odd sizes, and adds them to `moved`.
    pub(crate) fn pour(
        &mut self,
        into: &mut impl Write,
        count: usize,
        moved: &AtomicUsize,
    ) -> std::io::Result<()> {
        let (mut left, mut sizes) = (count, Seed::new(count as u64));
        while left > 0 {
            let size = sizes.between(1, BLOCK_BYTES).min(left);
            let piece = self.next(size);
            into.write_all(piece)?;
            left -= piece.len();
            moved.fetch_add(piece.len(), Ordering::SeqCst);
        }
        Ok(())
    }

    /// Receives `count` bytes, which must be the right ones.
    pub(crate) fn expect(&mut self, from: &mut impl Read, count: usize) {
        let (mut piece, mut at) = (vec![0; BLOCK_BYTES], 0);
        while at < count {
            let most = piece.len().min(count - at);
            let received = from.read(&mut piece[..most]).unwrap_or_else(|error| panic!("at {at}: {error}"));
            assert_ne!(received, 0, "the stream ends at {at} of {count}");
            let mut rest = &piece[..received];
            while !rest.is_empty() {
                let wanted = self.next(rest.len());
                let (these, others) = rest.split_at(wanted.len());
                assert!(these == wanted, "other bytes between {at} and {}", at + these.len());
                (rest, at) = (others, at + these.len());
            }
        }
    }
}

/// Sends `count` bytes each way at once, different ones, and compares what arrives.
pub(crate) fn both_ways(one: &TcpStream, other: &TcpStream, count: usize) {
    thread::scope(|scope| {
        for (from, to, seed) in [(one, other, 1), (other, one, 2)] {
            let (mut from, mut to) = (from, to);
            scope.spawn(move || Torrent::new(seed).pour(&mut from, count, &AtomicUsize::new(0)).unwrap());
            scope.spawn(move || Torrent::new(seed).expect(&mut to, count));
        }
    });
}

/// Waits until `moved` bytes stop growing, and returns how many there were.
pub(crate) fn wait_stalled(moved: &AtomicUsize) -> usize {
    let (mut last, mut since, start) = (0, Instant::now(), Instant::now());
    loop {
        let now = moved.load(Ordering::SeqCst);
        if now != last || now == 0 {
            (last, since) = (now, Instant::now());
        }
        if since.elapsed() >= STALL {
            return now;
        }
        assert!(start.elapsed() < PATIENCE, "{now} bytes and still moving");
        thread::park_timeout(Duration::from_millis(10));
    }
}
