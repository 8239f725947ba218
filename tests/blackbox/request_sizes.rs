//! Requests with more content than they may have: 413 (RFC 9110 section 15.5.14), and nobody else notices.

use crate::support::wire::Closing;
use crate::support::{Acceptor, Backend, Configured, Seed, eventually, mistakes};

fn text(place: &str, keys: &str, routes: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n{keys}\n[[cluster]]\nname = \"a\"\nbackend = \"{place}\"\n{routes}"
    )
}

const LIMIT: &str = "request_body_max = \"10B\"";

fn post(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

fn chunked(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
}

#[test]
fn a_length_that_is_too_much_is_refused_before_its_content_is_sent() {
    let backend = Backend::echoing();
    let ringway = Configured::start(1, &text(&backend.place, LIMIT, ""));
    let mut bystander = ringway.client();
    let mut client = ringway.client();
    assert_eq!(client.post("/", b"0123456789").body, b"0123456789");
    let connections = backend.connections();
    for head in [
        post("/", 11),
        post("/", 1 << 40),
        post("/", 11).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"),
        post("/", 11).replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        let mut client = ringway.client();
        client.send(head.as_bytes()).unwrap();
        let response = client.last_response().unwrap();
        assert_eq!(response.status, 413, "{head}");
        assert!(response.says_close(), "{head}");
    }
    assert_eq!(bystander.post("/", b"x").body, b"x");
    assert_eq!((backend.heads(), backend.connections()), (2, connections));
    assert_eq!(ringway.stats().refused("body_too_large"), 4);
}

/// What has been sent of it meanwhile reaches the backend, which never sees an end.
#[test]
fn chunks_are_refused_when_they_have_become_too_much() {
    let backend = Backend::echoing();
    let ringway = Configured::start(1, &text(&backend.place, LIMIT, ""));
    let fits = "4\r\nabcd\r\n6\r\nefghij\r\n0\r\n\r\n";
    for longest in [1, 7, usize::MAX] {
        let mut client = ringway.client();
        let request = chunked("/") + fits;
        client.send_cut(&mut Seed::new(93), request.as_bytes(), longest.min(request.len()));
        assert_eq!(client.response().body, b"abcdefghij");
        // Trailers are no content.
        client.send((chunked("/") + "a\r\n0123456789\r\n0\r\nX-Sum: 0123456789\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(client.response().body, b"0123456789");
    }
    let served = backend.heads();
    const TOO_MUCH: [&str; 4] =
        ["b\r\n", "4\r\nabcd\r\n7\r\n", "a\r\n0123456789\r\n1\r\n", "7fffffffffffffff\r\n"];
    for (turn, chunks) in TOO_MUCH.iter().enumerate() {
        let mut at_once = ringway.client();
        at_once.send((chunked("/") + chunks).as_bytes()).unwrap();
        let mut bit_by_bit = ringway.client();
        bit_by_bit.send(chunked("/").as_bytes()).unwrap();
        // Only then the rest comes too late to be seen with the head.
        let on_its_way = served + turn + 1;
        eventually("the head at the backend", || (backend.heads() == on_its_way).then_some(()));
        bit_by_bit.send_cut(&mut Seed::new(94), chunks.as_bytes(), 1);
        for mut client in [at_once, bit_by_bit] {
            let response = client.last_response().unwrap();
            assert_eq!((response.status, response.says_close()), (413, true), "{chunks:?}");
        }
    }
    eventually("the counts", || (ringway.stats().refused("body_too_large") == 8).then_some(()));
    eventually("the backend's connections end", || (backend.closed() == backend.connections()).then_some(()));
    let whole = backend.requests().into_iter().filter(|request| request.body.is_ok());
    assert_eq!(whole.count(), 6);
    assert!(ringway.stats().counter("fault_client_too_large") >= 1);
    assert_eq!(ringway.client().post("/", b"x").body, b"x");
}

/// The response has begun when it becomes too much: there is no other answer, and it never looks complete.
#[test]
fn what_becomes_too_much_behind_the_response_resets_its_client() {
    let acceptor = Acceptor::new();
    let ringway = Configured::start(1, &text(&acceptor.place, LIMIT, ""));
    let mut client = ringway.client();
    client.send((chunked("/") + "4\r\nabcd\r\n").as_bytes()).unwrap();
    let mut backend = acceptor.accept();
    backend.take_head().unwrap();
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
    client.take_head().unwrap();
    assert_eq!(client.take_exactly(4).unwrap(), b"half");
    client.send(b"7\r\nefghijk\r\n").unwrap();
    assert_eq!((client.wait_closed(), backend.wait_closed()), (Closing::Reset, Closing::Reset));
    let stats = ringway.wait_quiet();
    assert_eq!((stats.refused("body_too_large"), stats.counter("fault_client_too_large")), (1, 1));
    assert_eq!(stats.counter("fault_client_aborted"), 0);
}

#[test]
fn a_route_has_its_own_limit() {
    let backend = Backend::echoing();
    let routes = "[[route]]\npath_prefix = \"/upload\"\ncluster = \"a\"\nrequest_body_max = \"0B\"\n\
                  [[route]]\npath_prefix = \"/small\"\ncluster = \"a\"\nrequest_body_max = \"1B\"\n\
                  [[route]]\npath_prefix = \"/else\"\ncluster = \"a\"\n\
                  [[route]]\npath = \"/fixed\"\nrespond = { status = 200, body = \"fixed\" }\n";
    let ringway = Configured::start(1, &text(&backend.place, &format!("cluster = \"a\"\n{LIMIT}"), routes));
    let large = Seed::new(95).bytes(300_000);
    assert_eq!(ringway.client().post("/upload", &large).body, large);
    for (path, length, status) in [
        ("/small", 1, 200),
        ("/small", 2, 413),
        ("/else", 10, 200),
        ("/else", 11, 413),
        ("/no-route", 10, 200),
        ("/no-route", 11, 413),
        ("/fixed", 10, 200),
        ("/fixed", 11, 413),
    ] {
        assert_eq!(ringway.client().post(path, &vec![b'x'; length]).status, status, "{path} {length}");
    }
}

/// Connections that are open go by the new limit with their next request.
#[test]
fn a_reload_changes_it() {
    let backend = Backend::echoing();
    let ringway = Configured::start(1, &text(&backend.place, "", ""));
    let mut client = ringway.client();
    let content = [b'x'; 11];
    assert_eq!(client.post("/", &content).body, content);
    ringway.reload(&text(&backend.place, LIMIT, ""));
    assert_eq!(client.post("/", &content[..10]).status, 200);
    assert_eq!(client.post("/", &content).status, 413);
    let other = "request_body_max = \"1MB\"";
    assert!(mistakes(&text(&backend.place, other, "")).contains("such as `\"512B\"`, `\"64KiB\"`"));
    let tcp = format!("mode = \"tcp\"\n{LIMIT}");
    assert!(
        mistakes(&text(&backend.place, &tcp, "")).contains("`request_body_max` does not go with mode `tcp`")
    );
}
