//! How tunnels end: each direction by itself, and a broken stream never like a whole one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::deadline::{eventually, within};
use crate::support::kernel::{full_listener, reset_now, send_urgent, unacknowledged};
use crate::support::ringway::Options;
use crate::support::stats::Stats;
use crate::support::torrent::Torrent;
use crate::support::wire::{Closing, Wire};
use crate::support::{Acceptor, Client, Directory, Ringway};

const MEGABYTES: usize = 6 << 20;
/// More than every socket and pipe on the way holds.
const ENDLESS: usize = 1 << 40;
/// A side of which nothing is awaited is looked at once a second.
const LOOKED_AT: Duration = Duration::from_millis(2_500);

struct Setting {
    acceptor: Acceptor,
    ringway: Ringway,
    _directory: Directory,
}

impl Setting {
    fn new() -> Self {
        let (acceptor, directory) = (Acceptor::new(), Directory::new());
        let ringway = Ringway::options().tcp().backend(&acceptor.place).json().start();
        Self { acceptor, ringway, _directory: directory }
    }

    fn on_unix_sockets() -> Self {
        Self::on_unix_sockets_with(|options| options)
    }

    fn on_unix_sockets_with(change: impl FnOnce(Options) -> Options) -> Self {
        let directory = Directory::new();
        let acceptor = Acceptor::at(&directory.socket("backend"));
        let options = Ringway::options().tcp().listen(&directory.socket("listener"));
        let ringway = change(options.backend(&acceptor.place).json()).start();
        Self { acceptor, ringway, _directory: directory }
    }

    fn tunnel(&self) -> (Client, Wire) {
        self.acceptor.tunnel(&self.ringway)
    }

    /// Sends to a side that reads nothing, until at least a piece waits in front of the balancer and everything is off
    /// the sender's hands; returns how much that was.
    fn fill_up(&self, from: &mut TcpStream, received: &str) -> usize {
        const PIECE: usize = 32 << 10;
        let before = self.ringway.stats().counter(received);
        let (mut sent, mut torrent) = (0, Torrent::new(9));
        loop {
            torrent.pour(from, PIECE, &AtomicUsize::new(0)).unwrap();
            sent += PIECE;
            let all = || (self.ringway.stats().counter(received) - before == sent as u64).then_some(());
            if within(Duration::from_millis(60), all).is_none() {
                return sent;
            }
        }
    }

    /// Nothing of any tunnel is left.
    fn check(&self) {
        assert_eq!(self.ringway.wait_quiet().counter("connection_panics"), 0);
    }
}

/// Sends until the connection breaks; tells how it broke.
fn flood(stream: &TcpStream) -> thread::JoinHandle<ErrorKind> {
    let mut stream = stream.try_clone().unwrap();
    thread::spawn(move || {
        Torrent::new(5).pour(&mut stream, ENDLESS, &AtomicUsize::new(0)).unwrap_err().kind()
    })
}

/// Reads to the end, whatever comes.
fn ending(stream: &mut TcpStream) -> Closing {
    let mut bin = vec![0; 1 << 20];
    loop {
        match stream.read(&mut bin) {
            Ok(0) => return Closing::Fin,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Closing::Reset,
            Err(error) => panic!("neither an end nor a reset: {error}"),
        }
    }
}

#[test]
fn when_one_side_has_ended_the_other_goes_on() {
    let setting = Setting::new();
    for client_ends_first in [true, false] {
        let (mut client, mut backend) = setting.tunnel();
        let (first, second) = match client_ends_first {
            true => (&mut *client, &mut backend),
            false => (&mut backend, &mut *client),
        };
        first.send(b"that is all").unwrap();
        first.finish();
        assert_eq!(second.take_to_end().unwrap(), b"that is all");
        let mut sink = second.stream.try_clone().unwrap();
        let writer = thread::spawn(move || Torrent::new(3).pour(&mut sink, MEGABYTES, &AtomicUsize::new(0)));
        Torrent::new(3).expect(&mut first.stream, MEGABYTES);
        writer.join().unwrap().unwrap();
        second.send(b"!").unwrap();
        second.finish();
        assert_eq!(first.take_to_end().unwrap(), b"!");
    }
    setting.check();
}

/// Both directions have ended at the sender's socket, but not yet at the reader's: that is not a broken connection.
#[test]
fn a_reader_that_rests_gets_the_rest() {
    let settings = [Setting::new(), Setting::on_unix_sockets()];
    let mut resting = Vec::new();
    for (setting, client_rests) in [(0, true), (0, false), (1, true), (1, false)] {
        let (client, backend) = settings[setting].tunnel();
        let (client, backend) = (client.into_stream(), backend.stream);
        let (mut rests, mut says, received) = match client_rests {
            true => (client, backend, "upstream_received_bytes"),
            false => (backend, client, "client_received_bytes"),
        };
        rests.write_all(b"all of it, please").unwrap();
        rests.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        says.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "all of it, please");
        let sent = settings[setting].fill_up(&mut says, received);
        // Nothing more will be said or heard here.
        drop(says);
        resting.push((rests, sent));
    }
    let broken = || resting.iter().find_map(|(rests, _)| rests.take_error().unwrap());
    let broken = within(LOOKED_AT, broken);
    assert!(broken.is_none(), "{broken:?} while bytes wait to be read");
    for (mut rests, sent) in resting {
        Torrent::new(9).expect(&mut rests, sent);
        assert_eq!(ending(&mut rests), Closing::Fin);
    }
    settings.iter().for_each(Setting::check);
}

/// Leaves when all that was said has arrived, the end included: on a busy host that can take longer than what is sent after it.
fn leave(stream: TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
    // What a UNIX socket is told is there at once, and is counted until it is read.
    if stream.local_addr().is_ok() {
        eventually("the last words to arrive", || (unacknowledged(&stream) == 0).then_some(()));
    }
}

/// Somebody who says a lot, wants no answer and leaves has still said it, whether it all has left the balancer or not.
#[test]
fn what_was_sent_before_leaving_arrives_though_the_answer_does_not() {
    for (setting, fits) in [(Setting::new(), 1 << 20), (Setting::on_unix_sockets(), 64 << 10)] {
        for (client_leaves, fits) in [(true, None), (false, None), (true, Some(fits)), (false, Some(fits))] {
            let (client, backend) = setting.tunnel();
            let (client, backend) = (client.into_stream(), backend.stream);
            let (heard, answered) = ("client_received_bytes", "upstream_received_bytes");
            let (mut stays, mut leaves, heard, answered) = match client_leaves {
                true => (backend, client, heard, answered),
                false => (client, backend, answered, heard),
            };
            let sent = match fits {
                Some(count) => {
                    let all = setting.ringway.stats().counter(heard) + count as u64;
                    Torrent::new(9).pour(&mut leaves, count, &AtomicUsize::new(0)).unwrap();
                    setting.ringway.wait_stats("all of it", |stats| stats.counter(heard) == all);
                    count
                }
                None => setting.fill_up(&mut leaves, heard),
            };
            leave(leaves);
            for _ in 0..3 {
                let before = setting.ringway.stats().counter(answered);
                if stays.write_all(b"an answer to nobody").is_err() {
                    break;
                }
                // The first one is answered with a reset, the second one meets it, and then nothing may be taken.
                let taken = || (setting.ringway.stats().counter(answered) > before).then_some(());
                within(Duration::from_millis(100), taken);
            }
            Torrent::new(9).expect(&mut stays, sent);
            ending(&mut stays);
        }
        setting.check();
    }
}

/// What happened before a connection is reset.
const PHASES: &[&str] = &["silence", "bytes", "bytes both ways", "a flood out", "a flood in", "floods"];

/// One side plays a phase and resets; the other one must see a reset, never a clean end.
fn play(setting: &Setting, phase: &str, client_resets: bool) {
    let (client, backend) = setting.tunnel();
    let (client, backend) = (client.into_stream(), backend.stream);
    let (mut resets, mut sees) = if client_resets { (client, backend) } else { (backend, client) };
    let mut floods = Vec::new();
    // A backend that dies while it is connected to is another one's turn.
    setting.ringway.wait_stats("a tunnel", |stats| stats.gauge("tunnels_active") == 1);
    if phase.starts_with("bytes") {
        resets.write_all(b"bytes").unwrap();
        sees.read_exact(&mut [0; 5]).unwrap();
    }
    if phase == "bytes both ways" {
        sees.write_all(b"back").unwrap();
        resets.read_exact(&mut [0; 4]).unwrap();
    }
    if ["a flood out", "floods"].contains(&phase) {
        floods.push(flood(&resets));
        sees.read_exact(&mut vec![0; 1 << 20]).unwrap();
    }
    if ["a flood in", "floods"].contains(&phase) {
        floods.push(flood(&sees));
        resets.read_exact(&mut vec![0; 1 << 20]).unwrap();
    }
    reset_now(&resets);
    let read = ending(&mut sees);
    // Whoever asks first is told, the reader or the writer.
    let broke: Vec<_> = floods.into_iter().map(|flood| flood.join().unwrap()).collect();
    let seen = read == Closing::Reset || broke.contains(&ErrorKind::ConnectionReset);
    assert!(seen, "{phase}, client resets: {client_resets}: a clean end, {broke:?}");
    setting.check();
}

#[test]
fn a_reset_is_passed_on_in_every_phase() {
    let setting = Setting::new();
    for client_resets in [true, false] {
        for phase in PHASES {
            for _ in 0..if phase.contains("flood") { 5 } else { 2 } {
                play(&setting, phase, client_resets);
            }
        }
    }
}

/// A side that has ended its direction is not read any more, but looked at.
#[test]
fn a_reset_behind_an_end_is_noticed_within_about_a_second() {
    let setting = Setting::new();
    let mut watched = Vec::new();
    for client_resets in [true, false] {
        for words in ["", "some words"] {
            let (client, backend) = setting.tunnel();
            let (client, backend) = (client.into_stream(), backend.stream);
            let (mut resets, mut sees) = if client_resets { (client, backend) } else { (backend, client) };
            resets.write_all(words.as_bytes()).unwrap();
            resets.shutdown(Shutdown::Write).unwrap();
            let mut heard = String::new();
            sees.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, words);
            reset_now(&resets);
            watched.push((client_resets, words, sees));
        }
    }
    let begun = Instant::now();
    for (client_resets, words, sees) in watched {
        // Behind a clean end a reset is an error of the socket, and no news for a reader.
        let left = LOOKED_AT.saturating_sub(begun.elapsed());
        let error = within(left, || sees.take_error().unwrap());
        assert!(error.is_some(), "after {words:?} not noticed, client resets: {client_resets}");
    }
    setting.check();
}

/// A client that is reset while its backend does not shake hands: the next backend must not take it for a whole one.
#[test]
fn a_reset_while_a_backend_is_awaited_reaches_the_next_one() {
    if !cfg!(debug_assertions) {
        return;
    }
    let (hanging, acceptor) = (full_listener(), Acceptor::new());
    let options = Ringway::options().tcp().hastened(2).json();
    let ringway = options.backend(hanging.address).backend(&acceptor.place).start();
    // One of the two, or both in a row, meet the one that hangs first.
    for _ in 0..2 {
        let mut client = ringway.client();
        client.send(b"half a wo").unwrap();
        let first = within(Duration::from_millis(100), || acceptor.try_accept());
        reset_now(&client.stream);
        let mut backend = first.unwrap_or_else(|| acceptor.accept());
        assert_eq!(backend.wait_closed(), Closing::Reset);
    }
    let stats = ringway.wait_quiet();
    assert!(stats.counter("fault_upstream_connect_timeout") >= 1);
    assert_eq!(stats.counter("fault_client_aborted"), 2);
}

/// Connected, with these words, and reset before the balancer has looked: its counters.
fn gone_before_it_was_seen(setting: &Setting, words: &[u8]) -> Stats {
    setting.ringway.pause();
    let mut client = setting.ringway.client();
    client.send(words).unwrap();
    reset_now(&client.stream);
    setting.ringway.resume();
    let over = |stats: &Stats| stats.counter("fault_client_aborted") == 1 && stats.is_quiet();
    setting.ringway.wait_stats("the end of the connection", over)
}

#[test]
fn a_client_that_is_reset_before_it_was_accepted_reaches_no_backend() {
    let setting = Setting::new();
    let stats = gone_before_it_was_seen(&setting, b"");
    assert_eq!((stats.counter("connections_accepted"), stats.counter("tunnels")), (1, 0));
    let asked = ["picks", "connects"].map(|name| stats.counter_per_backend(name)[0]);
    assert_eq!((asked, stats.counter("tunnels_refused")), ([0, 0], 0));
    assert!(setting.acceptor.try_accept().is_none(), "a backend was connected to");
}

/// The kernel hands its words over before it tells of the reset, and so do we.
#[test]
fn what_was_said_before_a_reset_is_never_shown_as_all_of_it() {
    let setting = Setting::new();
    let stats = gone_before_it_was_seen(&setting, b"half a wo");
    assert_eq!(stats.counter("connections_accepted"), 1);
    if let Some(mut backend) = setting.acceptor.try_accept() {
        assert_eq!(backend.wait_closed(), Closing::Reset);
    }
}

/// A byte out of band is not of the stream (`tcp(7)`), and it is not the end of it either.
#[test]
fn urgent_bytes_in_bulk_hold_nothing_up() {
    let setting = Setting::new();
    let (client, mut backend) = setting.tunnel();
    let mut client = client.into_stream();
    let mut torrent = Torrent::new(4);
    let mut sink = client.try_clone().unwrap();
    let (mut sent, mut nothing) = (Torrent::new(4), AtomicUsize::new(0));
    for _ in 0..20 {
        let writer = thread::spawn(move || {
            sent.pour(&mut sink, 1_000_001, &nothing).unwrap();
            send_urgent(&sink);
            sent.pour(&mut sink, 500_000, &nothing).unwrap();
            (sent, sink, nothing)
        });
        torrent.expect(&mut backend.stream, 1_500_001);
        (sent, sink, nothing) = writer.join().unwrap();
    }
    // Silence again, and no worker that turns in a circle.
    let before = setting.ringway.processor_time();
    assert!(within(Duration::from_millis(300), || backend.has_input().then_some(())).is_none());
    let spent = setting.ringway.processor_time() - before;
    assert!(spent < Duration::from_millis(100), "{spent:?} for nothing");
    client.write_all(b"!").unwrap();
    assert_eq!(backend.take_exactly(1).unwrap(), b"!");
    drop((client, sink, backend));
    setting.check();
}

/// The client has left, as the answer to it has shown, and its backend neither takes the rest of what it had said nor
/// says anything: that is not waited for as long as for a tunnel that is only silent.
#[test]
fn a_backend_that_takes_no_last_words_is_left_soon() {
    if !cfg!(debug_assertions) {
        return;
    }
    // Half a second for last words, and three minutes for silence. What a UNIX socket holds does not grow.
    let setting = Setting::on_unix_sockets_with(|options| options.hastened(20));
    let (mut silent, mut other) = setting.tunnel();
    let (client, mut backend) = setting.tunnel();
    let mut client = client.into_stream();
    setting.fill_up(&mut client, "client_received_bytes");
    drop(client);
    backend.send(b"an answer to nobody").unwrap();
    setting.ringway.wait_stats("the end of the tunnel", |stats| stats.gauge("tunnels_active") == 1);
    assert_eq!(setting.ringway.stats().counter("tunnel_timeouts"), 1);
    backend.wait_closed();
    silent.send(b"still here").unwrap();
    assert_eq!(other.take_exactly(10).unwrap(), b"still here");
    drop((silent, other));
    setting.check();
}
