//! Where one message ends and the next begins, while bytes of the first still wait to be sent.

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::is_cut;
use crate::support::deadline::within;
use crate::support::{Backend, Client, Connection, PATIENCE, Ringway, eventually};

/// Read as a request, this would be one; as the content of a chunk it never is.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// How long nothing moves when nothing is going to move. Too short costs an attempt, nothing else.
const STILL: Duration = Duration::from_millis(100);

/// A receive of the balancer; how much the tail of an upload may be.
const BUFFER: usize = 64 * 1024;

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

/// A chunked POST of about `size` bytes in all.
fn upload(size: usize) -> Vec<u8> {
    let mut bytes = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let content = SMUGGLED.repeat(6);
    let chunk = format!("{:x}\r\n{content}\r\n", content.len()).into_bytes();
    while bytes.len() < size {
        bytes.extend_from_slice(&chunk);
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Answers with the request's target and how long its body was.
fn answer(connection: &mut Connection) {
    while let Some(request) = connection.request() {
        let said = format!("{} {}", request.target(), request.whole().bytes.len());
        connection.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len()).as_bytes());
    }
}

/// A backend whose first connection reads nothing until the returned sender is dropped, and then does `then`.
fn deaf(then: fn(&mut Connection)) -> (Backend, Sender<()>) {
    let (open, gate) = channel();
    let gate = Mutex::new(gate);
    let backend = Backend::scripted(move |connection| {
        if connection.number == 0 {
            let _opened = gate.lock().unwrap().recv();
            then(connection);
        } else {
            answer(connection);
        }
    });
    (backend, open)
}

/// An upload that the balancer has received to its end, and not sent to its end, with what follows it.
struct Stuck {
    backend: Backend,
    ringway: Ringway,
    client: Client,
    open: Sender<()>,
}

/// What became of an upload to a backend that reads nothing.
enum Attempt {
    /// Everything was sent.
    TooShort,
    /// Not everything was received.
    TooLong,
    /// Everything was received, and not everything was sent.
    Stuck(Box<Stuck>),
}

/// Sends an upload of `size` bytes and `/a` in one stream, and `/b` behind it once the upload is stuck.
fn attempt(size: usize, then: fn(&mut Connection)) -> Attempt {
    let (backend, open) = deaf(then);
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    let mut client = ringway.client();
    let mut writer = client.stream.try_clone().unwrap();
    let (upload, behind) = (upload(size), get("/a"));
    let (length, total) = (upload.len() as u64, (upload.len() + behind.len()) as u64);
    let bytes = [upload, behind].concat();
    let writing = thread::spawn(move || writer.write_all(&bytes));
    let (mut received, mut sent, mut since) = (0, 0, Instant::now());
    eventually("that nothing moves", || {
        let stats = ringway.stats();
        let before = received;
        received = stats.counter("client_received_bytes");
        sent = stats.counter("upstream_sent_bytes");
        if received != before || received == 0 {
            since = Instant::now();
        }
        (received == total || since.elapsed() > STILL).then_some(())
    });
    if received < total {
        client.stream.shutdown(Shutdown::Both).unwrap();
        let _stuck_as_well = writing.join().unwrap();
        return Attempt::TooLong;
    }
    writing.join().unwrap().unwrap();
    // The head is longer behind the balancer, so what was sent is never mistaken for what was not.
    if sent >= length {
        return Attempt::TooShort;
    }
    client.send(&get("/b")).unwrap();
    // It need not be read yet; if it is, it must not get in front of `/a`.
    within(STILL, || (ringway.stats().counter("client_received_bytes") > total).then_some(()));
    Attempt::Stuck(Box::new(Stuck { backend, ringway, client, open }))
}

/// Looks for sizes with which uploads get stuck in their tails, and hands those to `check`.
fn each_stuck(then: fn(&mut Connection), check: impl Fn(Stuck, usize)) {
    // What the kernel's buffers take is not known: look for it in steps that get smaller, down to half a tail.
    let (mut size, mut step, mut checked) = (4_000_000, 1 << 20, 0);
    for _ in 0..60 {
        let longer = match attempt(size, then) {
            Attempt::Stuck(stuck) => {
                check(*stuck, size);
                checked += 1;
                if checked == 2 {
                    return;
                }
                continue;
            }
            Attempt::TooShort => true,
            Attempt::TooLong => false,
        };
        size = if longer { size + step } else { size.saturating_sub(step) };
        step = (step / 2).max(BUFFER / 2);
    }
    assert!(checked > 0, "no upload was stuck in its tail, around {size} bytes");
}

#[test]
fn what_follows_an_upload_whose_tail_waits_is_answered_in_order() {
    each_stuck(answer, |stuck, size| {
        let Stuck { backend, ringway, mut client, open } = stuck;
        drop(open);
        let first = client.response();
        let body = backend.requests()[0].whole().bytes.len();
        assert!(body > size / 2, "{body} of {size} bytes");
        assert_eq!(first.status, 200, "{first:?}");
        assert_eq!(first.text(), format!("/upload {body}"));
        assert_eq!(client.response().text(), "/a 0", "the request behind an upload of {size}");
        assert_eq!(client.response().text(), "/b 0", "the second one behind an upload of {size}");
        assert_eq!(client.get("/c").text(), "/c 0");
        backend.check();
        drop(ringway);
    });
}

/// Reads what the balancer makes of an upload that failed, with `/a` and `/b` behind it.
fn failed_upload(stuck: Stuck, size: usize) {
    let Stuck { backend, ringway, mut client, open } = stuck;
    drop(open);
    let mut expected = ["/a 0", "/b 0"].into_iter();
    match client.response_to("GET") {
        Ok(first) => {
            assert_eq!(first.status, 502, "upload of {size}: {first:?}");
            let mut closes = first.says_close();
            loop {
                match client.response_to("GET") {
                    Ok(next) => {
                        assert!(!closes, "an answer behind the last one: {next:?}");
                        closes = next.says_close();
                        assert_eq!(Some(next.text().as_str()), expected.next(), "upload of {size}: {next:?}");
                        if expected.len() == 0 {
                            break;
                        }
                    }
                    Err(failure) => {
                        assert!(is_cut(&failure), "upload of {size}: {failure:?}");
                        break;
                    }
                }
            }
        }
        Err(failure) => assert!(is_cut(&failure), "upload of {size}: {failure:?}"),
    }
    assert!(backend.requests().iter().all(|request| request.target() != "/smuggled"));
    assert_eq!(ringway.get("/c").text(), "/c 0");
}

#[test]
fn an_upload_whose_tail_waits_when_the_backend_resets_is_a_502() {
    each_stuck(Connection::reset, failed_upload);
}

#[test]
fn an_upload_whose_tail_waits_when_the_backend_talks_nonsense_is_a_502() {
    each_stuck(
        |connection| {
            connection.say(b"\x01\x02 nonsense\r\n\r\n");
            connection.wait_closed();
        },
        failed_upload,
    );
}

/// What a backend and its test say to each other.
struct Stage {
    asked: Sender<()>,
    go: Receiver<()>,
    said: Sender<()>,
}

/// The head and a body so that both are `total` bytes.
fn exactly(total: usize) -> Vec<u8> {
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let length = total - head(total).len();
    let answer = [head(length).into_bytes(), vec![b'x'; length]].concat();
    assert_eq!(answer.len(), total);
    answer
}

/// The balancer stands still while the answer is written, so that it finds as much as fits in one receive.
#[test]
fn bytes_behind_a_response_that_fills_the_buffer_are_never_an_answer() {
    const SURPLUS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsurplus";
    let (asked_here, asked) = channel();
    let (go_there, go) = channel();
    let (said_here, said) = channel();
    let stage = Arc::new(Mutex::new(Stage { asked: asked_here, go, said: said_here }));
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.request() {
            let target = request.target();
            if let Some(total) = target.strip_prefix("/edge/") {
                let bytes = [&exactly(total.parse().unwrap()), SURPLUS].concat();
                let stage = stage.lock().unwrap();
                stage.asked.send(()).unwrap();
                stage.go.recv_timeout(PATIENCE).unwrap();
                // What does not fit waits for the balancer to go on.
                let mut rest = bytes.as_slice();
                connection.stream.set_nonblocking(true).unwrap();
                while let Ok(count @ 1..) = connection.stream.write(rest) {
                    rest = &rest[count..];
                }
                connection.stream.set_nonblocking(false).unwrap();
                stage.said.send(()).unwrap();
                connection.say(rest);
            } else if target == "/large" {
                connection.say(&exactly(3_000_000));
            } else {
                let said = target.to_owned();
                connection.say(
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len()).as_bytes(),
                );
            }
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    for total in 65_534..=65_538 {
        for warm in [false, true] {
            if warm {
                // Widens the window of the connection that is used next.
                assert_eq!(client.get("/large").status, 200);
            }
            // The next request is there already, so it looks for a connection the moment this one is done.
            let next = format!("/next/{total}/{warm}");
            client.send(&[get(&format!("/edge/{total}")), get(&next)].concat()).unwrap();
            asked.recv_timeout(PATIENCE).unwrap();
            ringway.pause();
            go_there.send(()).unwrap();
            said.recv_timeout(PATIENCE).unwrap();
            ringway.resume();
            let edge = client.response();
            assert_eq!(edge.status, 200);
            assert!(edge.body.iter().all(|&byte| byte == b'x'), "{total}, warm: {warm}");
            assert_eq!(client.response().text(), next);
            for turn in 0..3 {
                let own = format!("/own/{total}/{warm}/{turn}");
                assert_eq!(client.get(&own).text(), own);
            }
            let own = format!("/other/{total}/{warm}");
            assert_eq!(ringway.get(&own).text(), own);
        }
    }
}
