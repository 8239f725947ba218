//! Bodies pass as they are produced, and a slow peer holds its sender back instead of filling our memory.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::torrent::wait_stalled;
use crate::support::{Backend, Failure, PATIENCE, Ringway, Seed, digest};

const HUGE: usize = 64 * 1024 * 1024;
const GROWTH_MAX: u64 = 8 * 1024 * 1024;

/// Writes `HUGE` bytes of a repeated block and counts them.
fn pour(stream: &mut impl Write, block: &[u8], moved: &AtomicUsize) -> std::io::Result<()> {
    for _ in 0..HUGE / block.len() {
        stream.write_all(block)?;
        moved.fetch_add(block.len(), Ordering::SeqCst);
    }
    Ok(())
}

#[test]
fn a_slow_reader_of_a_huge_answer_holds_little_memory() {
    for chunked in [false, true] {
        let block = Seed::new(71).bytes(64 * 1024);
        let moved = Arc::new(AtomicUsize::new(0));
        let backend = Backend::scripted({
            let (block, moved) = (block.clone(), Arc::clone(&moved));
            move |connection| {
                connection.request();
                if chunked {
                    connection.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    let coded = [b"10000\r\n", block.as_slice(), b"\r\n"].concat();
                    let _gone = (0..HUGE / block.len()).try_for_each(|_| {
                        moved.fetch_add(block.len(), Ordering::SeqCst);
                        connection.send(&coded)
                    });
                    connection.say(b"0\r\n\r\n");
                } else {
                    connection.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {HUGE}\r\n\r\n").as_bytes());
                    let _gone = pour(&mut connection.stream, &block, &moved);
                }
            }
        });
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        let before = ringway.resident_bytes();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let head = client.head().head;
        let stalled = wait_stalled(&moved);
        assert!(stalled < HUGE / 2, "the sender was not held back: {stalled} bytes");
        let growth = ringway.resident_bytes().saturating_sub(before);
        assert!(growth < GROWTH_MAX, "{growth} bytes more for one slow reader (chunked: {chunked})");
        let body = client.body(&head).unwrap();
        assert_eq!(body.bytes.len(), HUGE);
        assert!(body.bytes.chunks(block.len()).all(|piece| piece == block), "the bytes changed");
        let growth = ringway.resident_bytes().saturating_sub(before);
        assert!(growth < GROWTH_MAX, "{growth} bytes more after a huge answer (chunked: {chunked})");
    }
}

#[test]
fn a_slow_backend_of_a_huge_upload_holds_little_memory() {
    let block = Seed::new(72).bytes(64 * 1024);
    let (release, released) = channel::<()>();
    let backend = Backend::scripted({
        let (block, released) = (block.clone(), Mutex::new(released));
        move |connection| {
            connection.request_head().unwrap();
            released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            let early = connection.take_some().unwrap_or_default();
            let mut stream = connection.stream.try_clone().unwrap();
            let rest = (block.len() - early.len() % block.len()) % block.len();
            let mut piece = vec![0; rest];
            stream.read_exact(&mut piece).unwrap();
            let mut left = HUGE - early.len() - rest;
            let mut piece = vec![0; block.len()];
            while left > 0 {
                stream.read_exact(&mut piece).unwrap();
                assert_eq!(digest(&piece), digest(&block));
                left -= piece.len();
            }
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    let before = ringway.resident_bytes();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {HUGE}\r\n\r\n").as_bytes()).unwrap();
    let moved = Arc::new(AtomicUsize::new(0));
    let mut writer = client.stream.try_clone().unwrap();
    let pouring = thread::spawn({
        let moved = Arc::clone(&moved);
        move || pour(&mut writer, &block, &moved)
    });
    let stalled = wait_stalled(&moved);
    assert!(stalled < HUGE / 2, "the client was not held back: {stalled} bytes");
    let growth = ringway.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_MAX, "{growth} bytes more for one slow backend");
    release.send(()).unwrap();
    pouring.join().unwrap().unwrap();
    assert_eq!(client.response().text(), "done");
}

/// Each byte must arrive before the next one is made.
#[test]
fn a_response_arrives_as_it_is_produced() {
    let framings = [
        ("Content-Length: 20\r\n\r\n", false, 1),
        ("Transfer-Encoding: chunked\r\n\r\n", true, 1),
        ("\r\n", false, 1),
        ("Content-Length: 10000000\r\n\r\n", false, 500_000),
    ];
    for (head, chunked, size) in framings {
        let (next, wanted) = channel::<()>();
        let backend = Backend::scripted({
            let wanted = Mutex::new(wanted);
            move |connection| {
                connection.request();
                connection.say(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes());
                for _ in 0..20 {
                    wanted.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                    let piece = vec![b'x'; size];
                    connection.say(&if chunked { b"1\r\nx\r\n".to_vec() } else { piece });
                }
                connection.say(if chunked { b"0\r\n\r\n" } else { b"" });
            }
        });
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        // The head comes before the first byte of the body is made.
        let answer = client.head().head;
        let recoded = answer.has("transfer-encoding");
        for _ in 0..20 {
            next.send(()).unwrap();
            let arrived = if recoded { client.take_exactly(6) } else { client.take_exactly(size) };
            let arrived = arrived.unwrap_or_else(|failure| panic!("{head:?}: {failure:?}"));
            assert!(if recoded { arrived == b"1\r\nx\r\n" } else { arrived == vec![b'x'; size] }, "{head:?}");
        }
    }
}

#[test]
fn an_upload_arrives_as_it_is_produced() {
    for (head, piece) in [("Content-Length: 10", "x"), ("Transfer-Encoding: chunked", "1\r\nx\r\n")] {
        let (arrived, wait_arrived) = channel();
        let backend = Backend::scripted(move |connection| {
            let head = connection.request_head().unwrap();
            arrived.send(()).unwrap();
            for _ in 0..10 {
                connection.take_exactly(if head.has("content-length") { 1 } else { 6 }).unwrap();
                arrived.send(()).unwrap();
            }
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone");
            connection.wait_closed();
        });
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n").as_bytes()).unwrap();
        let wait =
            || wait_arrived.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{head}: nothing arrived"));
        wait();
        for _ in 0..10 {
            client.send(piece.as_bytes()).unwrap();
            wait();
        }
        client.send(if head.starts_with('T') { b"0\r\n\r\n" } else { b"" }).unwrap();
        assert_eq!(client.response().text(), "done");
    }
}

/// What `curl -C -` does (promise 39): whoever has half of an answer asks for the rest of it (RFC 9110 section 14).
#[test]
fn a_download_resumes_where_it_broke_off() {
    let whole = Seed::new(39).bytes(600_000);
    let size = whole.len();
    let backend = Backend::scripted({
        let whole = whole.clone();
        move |connection| {
            while let Some(request) = connection.request() {
                let range = request.head.value("range");
                let first =
                    range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
                let from = first.map_or(0, |first| first.parse().unwrap());
                let (status, range) = match from {
                    0 => ("200 OK", String::new()),
                    from if from < size => ("206 Partial Content", format!("{from}-{}/{size}", size - 1)),
                    _ => ("416 Range Not Satisfiable", format!("*/{size}")),
                };
                let rest = whole.get(from..).unwrap_or_default();
                let field =
                    if range.is_empty() { range } else { format!("Content-Range: bytes {range}\r\n") };
                let length = rest.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n{field}Content-Length: {length}\r\n\r\n"
                );
                connection.say(head.as_bytes());
                // The first answer breaks off.
                if from == 0 {
                    return connection.say(&rest[..size / 3]);
                }
                connection.say(rest);
            }
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let Err(Failure::Short { part: mut got, .. }) = client.response_to("GET") else {
        panic!("half an answer was taken for a whole one")
    };
    assert_eq!(got, whole[..size / 3], "what came is passed on");

    let mut client = ringway.client();
    let mut ask_from = |from: usize| {
        let range = format!("Range: bytes={from}-\r\nIf-Range: \"v1\"\r\n");
        client.ask("GET /big", &format!("Host: a\r\n{range}"))
    };
    let rest = ask_from(got.len());
    assert_eq!((rest.status, rest.head.value("accept-ranges").as_deref()), (206, Some("bytes")));
    let place = format!("bytes {}-{}/{size}", got.len(), size - 1);
    assert_eq!(rest.head.values("content-range"), [place]);
    got.extend(rest.body);
    assert_eq!(digest(&got), digest(&whole));
    let asked = backend.last().head;
    assert_eq!(
        (asked.values("range"), asked.values("if-range")),
        (vec![format!("bytes={}-", size / 3)], vec!["\"v1\"".to_owned()])
    );
    // There is nothing more to ask for.
    let none = ask_from(size);
    assert_eq!((none.status, none.head.values("content-range")), (416, vec![format!("bytes */{size}")]));
}
