//! UNIX sockets on both sides, with a place in the file system or a name only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use crate::support::kernel::connect_unix;
use crate::support::ringway::Options;
use crate::support::run::run;
use crate::support::{Backend, Connection, Directory, PATIENCE, Ringway, eventually};

/// Answers each request with `id` and who it is for.
fn answer(connection: &mut Connection) {
    while let Some(request) = connection.request() {
        let told = request.head.value("x-forwarded-for").unwrap_or_else(|| "nobody".to_owned());
        connection.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{told}", told.len()).as_bytes());
    }
}

fn echo(connection: &mut Connection) {
    while let Ok(words) = connection.take_some() {
        connection.say(&words);
    }
}

/// A name that nobody else has.
fn name(of: &str) -> String {
    format!("unix:@ringway-test-{}-{of}", std::process::id())
}

#[test]
fn requests_pass_over_every_combination_and_connections_are_kept() {
    let directory = Directory::new();
    let places = [directory.socket("backend"), name("http-backend"), "127.0.0.1:0".to_owned()];
    for (number, place) in places.iter().enumerate() {
        let own = format!("http{number}");
        let listeners = [directory.socket(&own), name(&own), "127.0.0.1:0".to_owned()];
        let backend = match place.starts_with("unix:") {
            true => Backend::scripted_at(place, answer),
            false => Backend::scripted(answer),
        };
        for listener in &listeners {
            let before = backend.connections();
            let ringway = Ringway::options().backends(&[&backend]).listen(listener).json().start();
            let known = if listener.starts_with("unix:") { "nobody" } else { "127.0.0.1" };
            for _ in 0..3 {
                let mut client = ringway.client();
                for _ in 0..3 {
                    // A client without an address cannot give itself one.
                    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n").unwrap();
                    assert_eq!(client.response().text(), known, "{listener} to {place}");
                }
            }
            assert_eq!(backend.connections(), before + 1, "{listener} to {place}");
            ringway.wait_stats("an idle connection", |stats| stats.backend_gauge("idle") == 1);
        }
    }
}

#[test]
fn connections_pass_over_every_combination() {
    let directory = Directory::new();
    let mut number = 0;
    for (listener, backend) in [("file", "file"), ("file", "name"), ("name", "file"), ("name", "name")] {
        let mut place = |kind: &str| {
            number += 1;
            let own = format!("tcp{number}");
            if kind == "file" { directory.socket(&own) } else { name(&own) }
        };
        let backend = Backend::scripted_at(&place(backend), echo);
        let options = Ringway::options().tcp().backends(&[&backend]).json();
        let ringway = options.listen(&place(listener)).start();
        for count in [1, 100, 1_000_000] {
            let mut client = ringway.client();
            let words = crate::support::Seed::new(count as u64).bytes(count);
            let mut sink = client.stream.try_clone().unwrap();
            let sent = words.clone();
            let writing = std::thread::spawn(move || std::io::Write::write_all(&mut sink, &sent));
            assert!(client.take_exactly(count).unwrap() == words);
            writing.join().unwrap().unwrap();
            client.finish();
            assert_eq!(client.take_to_end().unwrap(), b"");
        }
        ringway.wait_quiet();
    }
}

/// A socket nobody listens on, and one that is not there at all, are backends that refuse.
#[test]
fn a_stale_backend_is_passed_over() {
    let directory = Directory::new();
    drop(UnixListener::bind(directory.path("stale")).unwrap());
    let alive = Backend::scripted_at(&directory.socket("alive"), |connection| connection.say(b"alive\n"));
    let options = Ringway::options().tcp().json().backend(directory.socket("stale"));
    let ringway = options.backend(directory.socket("missing")).backends(&[&alive]).start();
    for _ in 0..6 {
        assert_eq!(ringway.client().take_to_end().unwrap(), b"alive\n");
    }
    let stats = ringway.wait_quiet();
    assert_eq!(stats.counter_per_backend("connect_failures")[2], 0);
    assert_eq!(stats.counter_per_backend("connects"), [0, 0, 6]);
    assert!(stats.counter("retries_connect") >= 2);

    let alive = Backend::scripted_at(&directory.socket("web"), answer);
    let ringway = Ringway::options().backend(directory.socket("stale")).backends(&[&alive]).json().start();
    for _ in 0..4 {
        assert_eq!(ringway.get("/").text(), "127.0.0.1");
    }
}

#[test]
fn the_file_is_there_while_it_listens_with_the_mode_that_was_asked_for() {
    let directory = Directory::new();
    let path = directory.path("listener");
    for (mode, expected) in [(None, 0o666), (Some("600"), 0o600), (Some("660"), 0o660)] {
        let mut options =
            Ringway::options().tcp().backend("127.0.0.1:1").listen(&directory.socket("listener"));
        if let Some(mode) = mode {
            options = options.arg("--socket-mode").arg(mode);
        }
        let mut ringway = options.start();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, expected);
        ringway.signal(libc::SIGTERM);
        assert_eq!(ringway.wait_exit(PATIENCE), Some(0));
        assert!(!path.exists(), "left behind");
    }
}

#[test]
fn a_stale_file_is_replaced() {
    let directory = Directory::new();
    let place = directory.socket("listener");
    let backend = Backend::scripted(echo);
    for _ in 0..2 {
        // The first one is killed, which leaves its file behind for the second one.
        let ringway = Ringway::options().tcp().backends(&[&backend]).listen(&place).start();
        let mut client = ringway.client();
        client.send(b"hello").unwrap();
        assert_eq!(client.take_exactly(5).unwrap(), b"hello");
        drop(ringway);
        let path = directory.path("listener");
        assert!(path.exists());
        // The kernel lets go of a killed process's sockets a moment after the process.
        eventually("a stale socket", || connect_unix(path.to_str().unwrap()).err());
    }
}

/// Starts a second balancer there, which must not come up; what it says.
fn refused(place: &str) -> String {
    let options = Ringway::options().tcp().backend("127.0.0.1:1").listen(place);
    let (code, _, stderr) = run(&mut options.into_command());
    assert_eq!(code, Some(4), "{stderr}");
    assert!(stderr.contains(place) && !stderr.contains("listening on"), "{stderr}");
    stderr
}

#[test]
fn a_place_that_is_taken_is_exit_4_with_advice_and_left_alone() {
    let directory = Directory::new();
    let backend = Backend::scripted(echo);
    for place in [directory.socket("listener"), name("taken")] {
        let ringway = Ringway::options().tcp().backends(&[&backend]).listen(&place).start();
        assert!(refused(&place).contains("another program listens there"));
        let mut client = ringway.client();
        client.send(b"still here").unwrap();
        assert_eq!(client.take_exactly(10).unwrap(), b"still here");
    }
    // As long as the queue of whoever listens there is full, nobody can connect, but that is not stale.
    let busy = directory.path("busy");
    let listener = UnixListener::bind(&busy).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _waits = connect_unix(busy.to_str().unwrap()).unwrap();
    assert!(refused(&directory.socket("busy")).contains("another program listens there"));
    assert!(busy.exists());

    fs::write(directory.path("file"), "precious").unwrap();
    assert!(refused(&directory.socket("file")).contains("no socket"));
    assert_eq!(fs::read_to_string(directory.path("file")).unwrap(), "precious");
    assert!(refused(&directory.socket("missing/listener")).contains("directory does not exist"));
}

#[test]
fn a_path_that_cannot_be_is_a_usage_error() {
    for place in ["unix:", "unix:@", "unix:relative", &format!("unix:/{}", "x".repeat(200))] {
        let mut command = Options::bare();
        command.args(["--mode", "tcp", "--backends", "127.0.0.1:1", "--listen", place]);
        let (code, _, stderr) = run(&mut command);
        assert_eq!(code, Some(2), "{place}: {stderr}");
    }
}
