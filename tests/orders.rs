//! Orders that reach a worker in a row which the whole program gives only now and then.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test: it may panic, and block in its own threads"
)]

#[path = "in_process/worker.rs"]
mod worker;

use std::{
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
};

use ringway::worker::mailbox::Command;
use worker::{PATIENCE, Worker};

/// Returns when everything that was ordered before has been done.
fn wait_done(worker: &Worker) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let (listener, connection) = ("none of this name".into(), theirs.into());
    worker.handle.send(Command::Serve { listener, connection, peer: None }).unwrap();
    // Unlike one `read`, this goes on when the ring that was probed on this thread interrupts it while it goes away.
    assert_eq!(ours.read_to_end(&mut Vec::new()).unwrap(), 0, "it is closed");
}

/// A reload has brought a listener, and the end began before the workers had all heard of it: nobody would accept.
#[test]
fn who_drains_listens_nowhere_more() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let worker = Worker::start(0, nobody, "http");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    worker.handle.send(Command::Drain).unwrap();
    worker.listen_on(socket.into());
    wait_done(&worker);
    let is_refused = |address: SocketAddr| {
        TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    assert!(is_refused(address), "it has never listened there");
    let before = worker.address;
    // It closes what it has listened on when it next looks there, not while it is told to.
    worker.stop();
    assert!(is_refused(before) && is_refused(address));
}
