//! Two thousand clients that disappear, in every phase of a connection and in both modes: whatever they had is given
//! back, to the last descriptor.

use std::thread;

use crate::support::kernel::reset_on_close;
use crate::support::stats::{Stats, entries};
use crate::support::{Backend, Client, Configured, Ringway, eventually};

const ABORTS: usize = 2_000;
/// How many clients do so at a time.
const CROWD: usize = 8;

/// What clients of one kind send, and whether they wait for something to come back before they disappear.
struct Phase {
    name: &'static str,
    sends: &'static [u8],
    hears: bool,
}

const fn phase(name: &'static str, sends: &'static [u8], hears: bool) -> Phase {
    Phase { name, sends, hears }
}

const HTTP: &[Phase] = &[
    phase("connected and silent", b"", false),
    phase("half a request head", b"GET / HTTP/1.1\r\nHost: a\r\nX-Ha", false),
    phase("half a body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf", false),
    phase(
        "half a chunked body",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nf\r\nhal",
        false,
    ),
    phase("waiting", b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n", false),
    phase("in a response", b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n", true),
    phase("idle", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
    phase(
        "in a tunnel",
        b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        true,
    ),
];

const TCP: &[Phase] = &[
    phase("connected and silent", b"", false),
    phase("waiting", b"never", false),
    phase("in a stream", b"endless", true),
    phase("idle", b"plain", true),
];

/// Sends as much as anybody takes.
fn endless(say: &mut impl FnMut(&[u8]) -> bool) {
    let piece = vec![b'x'; 100_000];
    while say(&piece) {}
}

fn http() -> Backend {
    Backend::scripted(|connection| {
        while let Some(request) = connection.request() {
            match request.target() {
                "/never" => drop(connection.wait_closed()),
                "/endless" => {
                    connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
                    endless(&mut |piece| connection.send(piece).is_ok());
                }
                "/chat" => {
                    connection.say(
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                    );
                    connection.wait_closed();
                }
                _ => {
                    connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    continue;
                }
            }
            return;
        }
    })
}

fn tcp() -> Backend {
    Backend::scripted(|connection| {
        let Ok(said) = connection.take_some() else { return };
        match &*said {
            b"endless" => endless(&mut |piece| connection.send(piece).is_ok()),
            b"plain" => connection.say(b"ok"),
            _ => {}
        }
        connection.wait_closed();
    })
}

/// A client comes so far, and disappears with a reset or without one.
fn disappear(ringway: &Ringway, phase: &Phase, reset: bool) {
    let mut client: Client = ringway.client();
    client.send(phase.sends).unwrap();
    if phase.hears {
        client.take_some().unwrap_or_else(|failure| panic!("{}: {failure:?}", phase.name));
    }
    if reset {
        reset_on_close(&client.stream);
    }
}

/// So many clients of each phase, a crowd at a time, and every gauge is zero when this returns.
fn round(ringway: &Ringway, phases: &[Phase], count: usize) -> Stats {
    thread::scope(|scope| {
        for member in 0..CROWD {
            scope.spawn(move || {
                for turn in (member..phases.len() * count).step_by(CROWD) {
                    // Neither takes its turns in step with the other.
                    disappear(ringway, &phases[turn / count], (turn % count).is_multiple_of(2));
                }
            });
        }
    });
    ringway.wait_stats("that every gauge is zero", |stats| {
        let gauges = entries(stats.total(), "gauges");
        gauges.len() >= 6 && gauges.iter().all(|(_, value)| *value == 0) && stats.backend_gauge("active") == 0
    })
}

/// Its descriptors but for what is kept for the next client: idle connections and empty pipes.
fn descriptors(ringway: &Ringway) -> usize {
    let idle = usize::try_from(ringway.stats().backend_gauge("idle")).unwrap();
    ringway.descriptors().saturating_sub(idle + ringway.pipe_ends())
}

fn aborts(mode: &str, backend: &Backend, phases: &[Phase]) {
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nmode = \"{mode}\"\n[[cluster]]\nbackend = \"{}\"\n",
        backend.place
    );
    let ringway = Configured::start(2, &text);
    let (before, threads) = (descriptors(&ringway), ringway.threads());
    round(&ringway, phases, 2);
    let resident = ringway.resident_bytes();
    let each = ABORTS.div_ceil(phases.len());
    let stats = round(&ringway, phases, each);
    assert!(stats.counter("connections_accepted") as usize >= phases.len() * each);
    assert_eq!(stats.counter("connection_panics"), 0);
    eventually("as many descriptors as at first", || (descriptors(&ringway) == before).then_some(()));
    assert_eq!(ringway.threads(), threads);
    let growth = ringway.resident_bytes().saturating_sub(resident);
    assert!(growth < 8 << 20, "{growth} bytes more");
}

#[test]
fn two_thousand_aborts_leave_nothing_behind() {
    aborts("http", &http(), HTTP);
}

#[test]
fn two_thousand_aborts_of_tcp_connections_leave_nothing_behind() {
    aborts("tcp", &tcp(), TCP);
}
