//! What servers may say to a probe, in memory; and which tasks a plan asks for.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{
    call::{self, Miss, Stage},
    http, script, subject,
};
use crate::{
    addr::Endpoint,
    config::plan::{
        Plan,
        health::{HealthPlan, HttpProbe, Step},
    },
    limits::PROBE_BODY_BYTES_MAX,
    proxy_protocol::Version,
    sys::socket::{self, Transport},
};

fn page(body: Option<&str>) -> HttpProbe {
    HttpProbe {
        method: "GET".into(),
        path: "/health?a=b".into(),
        host: None,
        headers: vec![
            ("X-A".into(), "1".into()),
            ("X-A".into(), "2".into()),
            ("user-agent".into(), "me".into()),
        ],
        statuses: vec![(200, 299)],
        body: body.map(Into::into),
    }
}

/// A backend often has an address that nobody listens on, such as `::1` of `localhost`.
#[tokio::test]
async fn the_first_endpoint_that_takes_a_connection_is_asked() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    // Bound and not listening, so it refuses.
    let refusing = socket::bind_listener(Transport::Tcp, any).unwrap();
    let listening = std::net::TcpListener::bind(any).unwrap();
    let endpoints = [socket::local_address(&refusing).unwrap(), listening.local_addr().unwrap()];
    let mut plan = Plan::for_tests(&["10.0.0.1:80"]);
    plan.clusters[0].health = Some(health(|_| ()).into());
    plan.clusters[0].backends[0].endpoints = endpoints.map(Endpoint::from).to_vec();
    let subject = subject::all(&plan).next().unwrap();
    let mut stage = Stage::default();
    assert_eq!(call::make(&subject, vec![(0, None), (1, None)], &mut stage).await, Ok(()));
    assert_eq!(stage.connected, Some(1));
    let mut stage = Stage::default();
    let refused = Err(Miss::Backend("connection refused".to_owned()));
    assert_eq!(call::make(&subject, vec![(0, None)], &mut stage).await, refused);
    assert_eq!(stage.connected, None);
}

/// The verdict on these bytes, behind which the connection ends.
async fn judged(probe: &HttpProbe, answer: &[u8]) -> Result<(), String> {
    let (ours, mut theirs) = duplex(16 * 1024);
    let answer = answer.to_vec();
    let server = tokio::spawn(async move {
        let mut asked = [0; 1024];
        let length = theirs.read(&mut asked).await.unwrap_or(0);
        // Whoever has heard enough hangs up.
        let _ = theirs.write_all(&answer).await;
        String::from_utf8_lossy(&asked[..length]).into_owned()
    });
    let verdict = http::ask(ours, probe, "10.0.0.1:80", &mut Stage::default()).await;
    let asked = server.await.unwrap();
    assert!(asked.starts_with("GET /health?a=b HTTP/1.1\r\nHost: 10.0.0.1:80\r\n"), "{asked}");
    for line in ["\r\nConnection: close\r\n", "\r\nX-A: 1\r\nX-A: 2\r\n", "\r\nUser-Agent: me\r\n"] {
        assert!(asked.contains(line), "{asked}");
    }
    verdict.map_err(|miss| match miss {
        Miss::Backend(reason) => reason,
        Miss::Ours(reason) => panic!("{reason}"),
    })
}

fn is(verdict: Result<(), String>, expected: Result<(), &str>) {
    match (&verdict, expected) {
        (Ok(()), Ok(())) => {}
        (Err(reason), Err(part)) if reason.contains(part) => {}
        _ => panic!("{verdict:?} in place of {expected:?}"),
    }
}

#[tokio::test]
async fn a_status_is_judged_without_its_body() {
    let probe = page(None);
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", Ok(())),
        ("HTTP/1.0 204 No Content\r\n\r\n", Ok(())),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 299 Fine\r\n\r\n", Ok(())),
        ("HTTP/1.1 300 Choices\r\n\r\n", Err("status 300")),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", Err("status 503")),
    ] {
        is(judged(&probe, answer.as_bytes()).await, expected);
    }
}

#[tokio::test]
async fn a_body_is_searched_however_it_comes() {
    let probe = page(Some("all is well"));
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n(all is well)", Ok(())),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nall \r\n7\r\nis well\r\n0\r\n\r\n",
            Ok(()),
        ),
        // Enough was seen, so the end does not matter.
        ("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nall is well", Ok(())),
        ("HTTP/1.0 200 OK\r\n\r\nnow all is well", Ok(())),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nall is wel", Err("the body lacks `all is well`")),
        ("HTTP/1.1 204 No Content\r\n\r\n", Err("the body lacks")),
        ("HTTP/1.1 503 No\r\nContent-Length: 11\r\n\r\nall is well", Err("status 503")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nall is", Err("incomplete response")),
    ] {
        is(judged(&probe, answer.as_bytes()).await, expected);
    }
}

#[tokio::test]
async fn nothing_is_read_without_end() {
    let probe = page(Some("all is well"));
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let body = [&head[..], b"\r\n", &vec![b'x'; 10 << 20], b"all is well"].concat();
    is(judged(&probe, &body).await, Err("the first 64 KiB of the body lack"));
    let field = [&head[..], b"X: ", &vec![b'x'; 10 << 20]].concat();
    is(judged(&probe, &field).await, Err("too large"));
    let fields = [&head[..], &b"X: y\r\n".repeat(1 << 20)].concat();
    is(judged(&probe, &fields).await, Err("too large"));
    let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1 << 20);
    is(judged(&probe, &interim).await, Err("incomplete response"));
    let chunks = [&head[..], b"Transfer-Encoding: chunked\r\n\r\n", &b"1\r\nx\r\n".repeat(1 << 20)].concat();
    is(judged(&probe, &chunks).await, Err("the first 64 KiB of the body lack"));
}

#[tokio::test]
async fn what_is_not_http_is_called_so() {
    let probe = page(None);
    is(judged(&probe, b"220 mail.example.com ESMTP\r\n").await, Err("not HTTP"));
    is(judged(&probe, &[0xff; 2048]).await, Err("not HTTP"));
    is(judged(&probe, b"").await, Err("incomplete response"));
    is(judged(&probe, b"HTTP/1.1 200 OK\r\nContent-Le").await, Err("incomplete response"));
}

fn send(bytes: &[u8]) -> Step {
    Step::Send(bytes.into())
}

fn expect(any: &[&[u8]]) -> Step {
    Step::Expect(any.iter().map(|bytes| (*bytes).into()).collect())
}

/// Goes through the steps with a server that says these pieces, whatever it hears.
async fn played(steps: &[Step], pieces: &[&[u8]]) -> (Result<(), Miss>, Vec<u8>) {
    let (mut ours, mut theirs) = duplex(256 * 1024);
    for piece in pieces {
        theirs.write_all(piece).await.unwrap();
    }
    theirs.shutdown().await.unwrap();
    let verdict = script::ask(&mut ours, steps, &mut Stage::default()).await;
    drop(ours);
    let mut heard = Vec::new();
    theirs.read_to_end(&mut heard).await.unwrap();
    (verdict, heard)
}

#[tokio::test]
async fn a_script_is_followed_in_order() {
    let steps = [
        expect(&[b"220 "]),
        send(b"EHLO a\r\n"),
        expect(&[b"250 ", b"251 "]),
        send(b"QUIT\r\n"),
        expect(&[b"\0\xff"]),
    ];
    let said: [&[u8]; 4] = [b"22", b"0 hello\r\n250-x\r\n2", b"50 y\r\n", b"\0\xff"];
    let (verdict, heard) = played(&steps, &said).await;
    assert_eq!((verdict, &heard[..]), (Ok(()), &b"EHLO a\r\nQUIT\r\n"[..]));
}

#[tokio::test]
async fn a_script_says_what_it_missed() {
    let steps = [expect(&[b"220 "]), send(b"PING\r\n"), expect(&[b"+PONG", b"+pong"])];
    let reason = async |said: &[u8]| match played(&steps, &[said]).await.0 {
        Err(Miss::Backend(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(b"").await, "closed without `220 `, having said nothing");
    // What was matched before does not count again.
    let missed = "closed without `+PONG` or `+pong`, having said `-NOAUTH\\r\\n`";
    assert_eq!(reason(b"+PONG 220 -NOAUTH\r\n").await, missed);
    let long = [&b"220 "[..], &vec![b'x'; PROBE_BODY_BYTES_MAX + 9]].concat();
    assert_eq!(reason(&long).await, "64 KiB without `+PONG` or `+pong`");
}

proptest! {
    /// Whatever is expected is found wherever it stands and however it is cut.
    #[test]
    fn cuts_make_no_difference(before in "[ab]{0,40}", wanted in "[ab]{1,5}", after in "[ab]{0,9}", cut in 1usize..7) {
        let whole = format!("{before}{wanted}{after}");
        let pieces: Vec<&[u8]> = whole.as_bytes().chunks(cut).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (verdict, ..) = runtime.block_on(played(&[expect(&[wanted.as_bytes()])], &pieces));
        prop_assert_eq!(verdict, Ok(()));
    }
}

fn health(change: impl FnOnce(&mut HealthPlan)) -> HealthPlan {
    let mut health = HealthPlan::for_tests();
    change(&mut health);
    health
}

#[test]
fn probes_go_where_they_are_sent() {
    let unix: crate::addr::ListenAddress = "unix:/a".parse().unwrap();
    let with = |change: fn(&mut HealthPlan)| {
        let mut plan = Plan::for_tests(&["10.0.0.1:80", "[::1]:81"]);
        plan.clusters[0].health = Some(health(change).into());
        plan.clusters[0].send_proxy = Some(Version::V2);
        let mut third = plan.clusters[0].backends[0].clone();
        third.endpoints = vec![unix.0.clone(), plan.clusters[0].backends[0].endpoints[0].clone()];
        plan.clusters[0].backends.push(third);
        let shown = |of: subject::Subject| {
            let places: Vec<_> = of.endpoints.iter().map(ToString::to_string).collect();
            format!("{} {}", places.join(" "), of.greeting.is_some())
        };
        subject::all(&plan).map(shown).collect::<Vec<_>>()
    };
    assert_eq!(with(|_| ()), ["10.0.0.1:80 true", "[::1]:81 true", "unix:/a 10.0.0.1:80 true"]);
    let port = with(|health| health.port = Some(8));
    assert_eq!(port, ["10.0.0.1:8 false", "[::1]:8 false", "unix:/a 10.0.0.1:8 false"]);
    let both = with(|health| {
        health.port = Some(8);
        health.address = Some(IpAddr::from([10, 9, 9, 9]));
    });
    assert_eq!(both, ["10.9.9.9:8 false"; 3]);
    assert_eq!(subject::all(&Plan::for_tests(&["10.0.0.1:80"])).count(), 0);
}

#[test]
fn a_backend_that_is_somewhere_else_is_another_one_wherever_it_is_probed() {
    let with = |address: &str| {
        let mut plan = Plan::for_tests(&["10.0.0.1:80"]);
        plan.clusters[0].health = Some(
            health(|health| {
                health.port = Some(8);
                health.address = Some(IpAddr::from([10, 9, 9, 9]));
            })
            .into(),
        );
        plan.clusters[0].backends[0].endpoints = vec![Endpoint::Inet(address.parse().unwrap())];
        subject::all(&plan).next().unwrap()
    };
    assert_eq!(with("10.0.0.1:80"), with("10.0.0.1:80"));
    assert_ne!(with("10.0.0.1:80"), with("10.0.0.2:80"));
}
