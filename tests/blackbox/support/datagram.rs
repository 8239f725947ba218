//! Backends and clients that speak in datagrams.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::deadline::PATIENCE;
use super::ringway::{Options, Ringway};

/// Larger than any datagram.
const ROOM: usize = 70_000;
/// Bytes of a datagram that a backend keeps, so that a flood does not fill the memory.
const KEPT: usize = 256;

/// A datagram as a backend received it, or the beginning of a large one.
pub(crate) type Arrival = (SocketAddr, Vec<u8>);

/// A receiving backend. When it is dropped its port is closed.
pub(crate) struct DatagramBackend {
    pub(crate) address: SocketAddr,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DatagramBackend {
    /// Sends what `answer` makes of each datagram back to its sender.
    pub(crate) fn scripted(
        address: &str,
        mut answer: impl FnMut(&UdpSocket, SocketAddr, &[u8]) + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let (arrivals, stopped) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (kept, stop) = (Arc::clone(&arrivals), Arc::clone(&stopped));
        let thread = thread::spawn(move || {
            let kept: Arc<Mutex<Vec<Arrival>>> = kept;
            let mut room = vec![0; ROOM];
            loop {
                // An error is that of a former receiver who is gone.
                let Ok((length, from)) = socket.recv_from(&mut room) else { continue };
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                kept.lock().unwrap().push((from, room[..length.min(KEPT)].to_vec()));
                answer(&socket, from, &room[..length]);
            }
        });
        Self { address, arrivals, stopped, thread: Some(thread) }
    }

    /// Answers each datagram with itself.
    pub(crate) fn echoing() -> Self {
        Self::echoing_at("127.0.0.1:0")
    }

    pub(crate) fn echoing_at(address: &str) -> Self {
        Self::scripted(address, |socket, from, bytes| _ = socket.send_to(bytes, from))
    }

    /// Answers each datagram with `id`, a colon and the datagram.
    pub(crate) fn named(id: &str) -> Self {
        let id = format!("{id}:").into_bytes();
        Self::scripted("127.0.0.1:0", move |socket, from, bytes| {
            let _gone = socket.send_to(&[&id, bytes].concat(), from);
        })
    }

    /// Answers nothing.
    pub(crate) fn silent() -> Self {
        Self::scripted("127.0.0.1:0", |_, _, _| ())
    }

    /// Everything that arrived so far.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap().clone()
    }
}

impl Drop for DatagramBackend {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let local = if self.address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let waker = UdpSocket::bind(local).unwrap();
        let _sent = waker.send_to(b"", self.address);
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

/// An address where nobody receives for as long as the socket lives, and nobody else can: its owner speaks with
/// another peer only, so others are refused by ICMP.
pub(crate) fn deaf_address() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect("127.0.0.1:9").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// One worker that passes datagrams on to these addresses, with statistics.
pub(crate) fn udp_options(backends: &[SocketAddr]) -> Options {
    let options = Ringway::options().json().arg("--mode").arg("udp");
    backends.iter().fold(options, |options, backend| options.backend(format!("udp://{backend}")))
}

/// A client with a port of its own.
pub(crate) struct DatagramClient {
    pub(crate) socket: UdpSocket,
    to: SocketAddr,
    room: Vec<u8>,
}

impl DatagramClient {
    pub(crate) fn new(to: SocketAddr) -> Self {
        let local = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(local).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, to, room: vec![0; ROOM] }
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.to).unwrap();
    }

    /// The next datagram; it must come from the address that was sent to.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        self.try_receive().unwrap_or_else(|error| panic!("no datagram: {error}"))
    }

    pub(crate) fn try_receive(&mut self) -> std::io::Result<Vec<u8>> {
        let (length, from) = self.socket.recv_from(&mut self.room)?;
        assert_eq!(from, self.to, "an answer from an address that was not asked");
        Ok(self.room[..length].to_vec())
    }

    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.receive()
    }

    /// Asks again and again, as a resolver does whose answers are lost.
    pub(crate) fn ask_patiently(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.socket.set_read_timeout(Some(PATIENCE / 50)).unwrap();
        let answer = super::eventually("an answer", || {
            self.send(bytes);
            self.try_receive().ok()
        });
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        answer
    }
}
