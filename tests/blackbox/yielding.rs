//! One client that never lets go does not keep the others of its worker from being served, nor the end from coming.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::{Backend, PATIENCE, Ringway, eventually};

/// A share of one worker in which a request must have been served.
const FAIRLY: Duration = Duration::from_secs(3);

/// Requests that the balancer answers itself, so that no backend slows them down.
const REQUEST: &[u8] = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n";

/// A client that sends such requests without end, and how many bytes of answers it has read.
struct Flood {
    read: Arc<AtomicUsize>,
    stream: TcpStream,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Reads everything, or only a little to begin with.
    fn start(ringway: &Ringway, greedy: bool) -> Self {
        let stream = TcpStream::connect(ringway.address()).unwrap();
        let read = Arc::new(AtomicUsize::new(0));
        let (mut reader, mut writer) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
        let count = Arc::clone(&read);
        let reading = thread::spawn(move || {
            let mut bin = vec![0; 256 * 1024];
            while let Ok(length @ 1..) = reader.read(&mut bin) {
                if count.fetch_add(length, Ordering::SeqCst) > 0 && !greedy {
                    return;
                }
            }
        });
        let writing = thread::spawn(move || {
            let many = REQUEST.repeat(4000);
            while writer.write_all(&many).is_ok() {}
        });
        let flood = Self { read, stream, threads: vec![reading, writing] };
        eventually("the flood's first answers", || (flood.read() > 0).then_some(()));
        flood
    }

    fn read(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _closed_before = self.stream.shutdown(std::net::Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

fn others_are_served(ringway: &Ringway) {
    let mut kept = ringway.client();
    kept.set_patience(FAIRLY);
    for turn in 0..10 {
        assert_eq!(kept.get("/").text(), "a", "turn {turn}");
        let mut fresh = ringway.client();
        fresh.set_patience(FAIRLY);
        assert_eq!(fresh.post("/", b"body").text(), "a", "turn {turn}");
    }
}

#[test]
fn a_client_that_takes_every_answer_leaves_others_their_turn() {
    let backend = Backend::well_behaved("a");
    let mut ringway = Ringway::in_front_of(&[&backend]);
    let flood = Flood::start(&ringway, true);
    others_are_served(&ringway);
    let before = flood.read();
    eventually("the flood to go on", || (flood.read() > before).then_some(()));
    ringway.signal(libc::SIGTERM);
    assert_eq!(ringway.wait_exit(PATIENCE), Some(0));
}

#[test]
fn a_client_that_takes_no_answers_leaves_others_their_turn() {
    let backend = Backend::well_behaved("a");
    let mut ringway = Ringway::in_front_of(&[&backend]);
    let flood = Flood::start(&ringway, false);
    others_are_served(&ringway);
    assert!(flood.read() > 0);
    ringway.signal(libc::SIGTERM);
    // It waits for nobody else than the one that takes nothing, and for that one not for ever.
    ringway.wait_refuses();
    assert_eq!(ringway.wait_exit(PATIENCE * 2), Some(0));
}

/// Several at once, each sent ahead without end, in front of a backend's answers.
#[test]
fn several_such_clients_share_one_worker() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let floods: Vec<_> = (0..3).map(|_| Flood::start(&ringway, true)).collect();
    others_are_served(&ringway);
    let before: Vec<_> = floods.iter().map(Flood::read).collect();
    for (flood, before) in floods.iter().zip(before) {
        eventually("each flood to go on", || (flood.read() > before).then_some(()));
    }
}
