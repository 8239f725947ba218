//! Requests that no backend may ever see: each is answered with a status and a closed connection, and nobody else notices.

use std::collections::BTreeSet;

use crate::malformed::{self, Refused};
use crate::support::{Backend, Client, Ringway, Seed};

/// How the bytes of a request are cut into writes.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Bytes,
    Random(u64),
}

fn send(client: &mut Client, bytes: &[u8], cut: Cut) {
    match cut {
        Cut::Whole => client.send_pieces(&[bytes]),
        Cut::Bytes => client.send_pieces(&bytes.chunks(1).collect::<Vec<_>>()),
        Cut::Random(seed) => client.send_cut(&mut Seed::new(seed), bytes, 1 + bytes.len() / 3),
    }
}

/// Sends every case, cut like this; collects all that went wrong rather than to stop at the first.
fn refuse_all(cases: &[Refused], cuts: &[Cut]) {
    let backend = Backend::well_behaved("healthy");
    let mut ringway = Ringway::in_front_of(&[&backend]);
    let mut bystander = ringway.client();
    let (mut wrong, mut healthy) = (Vec::new(), 0);
    for (case, &cut) in cases.iter().flat_map(|case| cuts.iter().map(move |cut| (case, cut))) {
        let mut client = ringway.client();
        client.set_patience(std::time::Duration::from_secs(3));
        send(&mut client, &case.bytes, cut);
        match client.last_response() {
            Ok(response) if case.statuses.contains(&response.status) => {}
            Ok(response) => {
                wrong.push(format!("{} ({cut:?}): {}, not {:?}", case.name, response.status, case.statuses))
            }
            Err(failure) => wrong.push(format!("{} ({cut:?}): {failure:?}", case.name)),
        }
        assert!(ringway.ended().is_none(), "{} ({cut:?}) ended the process", case.name);
        healthy += 1;
        assert_eq!(bystander.get("/").text(), "healthy", "after {} ({cut:?})", case.name);
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len() * cuts.len(), wrong.join("\n"));
    let seen = backend.requests();
    let plain = b"GET / HTTP/1.1\r\nHost: ringway.test\r\n";
    let leaked: Vec<_> = seen.iter().filter(|request| !request.head.raw.starts_with(plain)).collect();
    assert!(leaked.is_empty(), "the backend saw {leaked:?}");
    assert_eq!(backend.heads(), healthy, "the backend saw more than the healthy requests");
}

#[test]
fn ambiguous_or_invalid_framing() {
    refuse_all(&malformed::framing(), &[Cut::Whole, Cut::Bytes]);
}

#[test]
fn malformed_field_lines() {
    refuse_all(&malformed::field_lines(), &[Cut::Whole, Cut::Bytes]);
}

#[test]
fn malformed_request_lines() {
    refuse_all(&malformed::request_lines(), &[Cut::Whole, Cut::Bytes]);
}

#[test]
fn missing_repeated_or_invalid_hosts() {
    refuse_all(&malformed::hosts(), &[Cut::Whole, Cut::Bytes]);
}

#[test]
fn heads_that_are_too_large() {
    refuse_all(&malformed::sizes(), &[Cut::Whole, Cut::Random(1), Cut::Random(2)]);
}

#[test]
fn the_same_refusals_whatever_the_cuts() {
    let tables = [malformed::framing(), malformed::request_lines(), malformed::hosts()];
    let cases: Vec<_> = tables.into_iter().flatten().collect();
    refuse_all(&cases, &[Cut::Random(3), Cut::Random(4), Cut::Random(5)]);
}

/// A refused request ends its connection, so what follows it must not be read as a request.
#[test]
fn nothing_behind_a_refused_request_is_served() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let behind = "GET /smuggled HTTP/1.1\r\nHost: ringway.test\r\n\r\n";
    for case in malformed::framing() {
        let mut client = ringway.client();
        client.send_pieces(&[&[&case.bytes, behind.as_bytes()].concat()]);
        let response = client.last_response().unwrap_or_else(|failure| panic!("{}: {failure:?}", case.name));
        assert!(case.statuses.contains(&response.status), "{}: {}", case.name, response.status);
    }
    assert_eq!(backend.heads(), 0);
}

/// The answers to the requests before it are not lost.
#[test]
fn a_malformed_request_behind_good_ones_ends_the_pipeline_after_their_answers() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    let good = "GET / HTTP/1.1\r\nHost: ringway.test\r\n\r\n";
    client.send(format!("{good}{good}GET / HTTP/1.1\r\nX : y\r\n\r\n{good}").as_bytes()).unwrap();
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().status, 200);
    assert_eq!(client.last_response().unwrap().status, 400);
    assert_eq!(backend.heads(), 2);
}

/// A client that is still sending its body must be able to read why it was refused.
#[test]
fn a_refusal_is_readable_behind_a_body_that_nobody_wants() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 400000\r\n\r\n";
    client.send_pieces(&[head.as_bytes(), &[b'x'; 200_000], &[b'x'; 200_000]]);
    assert_eq!(client.last_response().unwrap().status, 400);
    assert_eq!(backend.heads(), 0);
}

#[test]
fn a_refusal_counts_under_its_own_name() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    let kinds: &[(&str, &str)] = &[
        (
            "length and coding",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"),
        ("transfer coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
        ("host", "GET / HTTP/1.1\r\n\r\n"),
        ("version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        ("target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("folding", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
        ("connect", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    ];
    let mut raised: Vec<BTreeSet<String>> = Vec::new();
    for (_, bytes) in kinds {
        let before = ringway.stats().numbers();
        let mut client = ringway.client();
        client.send(bytes.as_bytes()).unwrap();
        client.last_response().unwrap();
        let after = ringway.stats().numbers();
        raised
            .push(after.into_iter().filter(|entry| !before.contains(entry)).map(|(name, _)| name).collect());
    }
    for (at, (kind, _)) in kinds.iter().enumerate() {
        let elsewhere: BTreeSet<_> =
            (0..kinds.len()).filter(|other| *other != at).flat_map(|other| &raised[other]).collect();
        let own = raised[at].iter().filter(|name| !elsewhere.contains(name)).count();
        assert!(own > 0, "no counter of its own for {kind}: {:?}", raised[at]);
    }
}

#[test]
fn a_405_of_our_own_names_what_is_allowed() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(b"CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n").unwrap();
    let response = client.last_response().unwrap();
    assert!([405, 501].contains(&response.status), "{response:?}");
    assert!(response.status == 501 || response.head.lists("allow", "GET"), "{response:?}");
    assert_eq!(backend.heads(), 0);
}
