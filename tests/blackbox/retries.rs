//! Which attempts are made again, how often, and within which budget.

use std::time::{Duration, Instant};

use crate::support::{Backend, Client, Configured, Ringway, kernel, refusing_address};

/// No backend is ejected, so that only the budget holds retries back.
fn text(listener: &str, keys: &str, backends: &[&str]) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n{listener}\n[[cluster]]\nbalance = \"first\"\n\
         circuit = {{ failures = 0 }}\n{keys}\nbackend = {backends:?}\n"
    )
}

/// Reads a request and dies.
fn dying() -> Backend {
    Backend::scripted(|connection| {
        connection.request();
    })
}

/// Waits until somebody was refused, and more than once.
fn wait_refused(ringway: &Ringway) {
    ringway.wait_stats("pauses", |stats| stats.counter("retries_paused") >= 2);
}

#[test]
fn a_refusal_that_passes_is_not_seen() {
    for mode in ["http", "tcp"] {
        let (socket, refusing) = refusing_address();
        let keys = "attempts = 16\nretry_pause = \"300ms\"";
        let mode = format!("mode = \"{mode}\"");
        let ringway = Configured::start(2, &text(&mode, keys, &[&refusing.to_string()]));
        let mut client = ringway.client();
        // Whatever its method: it was sent nowhere.
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody").unwrap();
        wait_refused(&ringway);
        let backend = Backend::well_behaved_on(socket, "late");
        assert_eq!(client.response().text(), "late");
        assert_eq!(backend.requests()[0].whole().bytes, b"body");
        assert_eq!(ringway.stats().counter("retries_used_up"), 0);
    }
}

#[test]
fn one_that_goes_on_refusing_is_given_up_soon() {
    let (_socket, refusing) = refusing_address();
    let ringway = Configured::start(1, &text("", "", &[&refusing.to_string()]));
    let begun = Instant::now();
    assert_eq!(ringway.get("/").status, 503);
    assert!(begun.elapsed() >= Duration::from_millis(20), "two pauses of ten milliseconds");
    let stats = ringway.stats();
    let counters = ["retries_paused", "retries_connect", "retries_used_up", "fault_upstream_connect"];
    assert_eq!(counters.map(|name| stats.counter(name)), [2, 2, 1, 3]);
    assert_eq!(stats.counter_per_backend("connect_failures"), [3]);
}

/// The others are asked first, each once; then those who refused once more.
#[test]
fn as_many_attempts_as_are_allowed() {
    let refusing: Vec<_> = (0..5).map(|_| refusing_address()).collect();
    let good = Backend::well_behaved("good");
    let mut places: Vec<_> = refusing.iter().map(|(_, address)| address.to_string()).collect();
    places.push(good.place.clone());
    let places: Vec<_> = places.iter().map(String::as_str).collect();
    for (attempts, status) in [(6, 200), (5, 503), (1, 503)] {
        let ringway = Configured::start(1, &text("", &format!("attempts = {attempts}"), &places));
        assert_eq!(ringway.get("/").status, status, "{attempts}");
        let stats = ringway.stats();
        assert_eq!(stats.counter("fault_upstream_connect"), attempts.min(5));
        assert_eq!(stats.counter("retries_connect"), attempts - 1);
        assert_eq!(
            (stats.counter("retries_used_up"), stats.counter("retries_paused")),
            (u64::from(status == 503), 0)
        );
    }
}

/// Nothing is saved up, nothing is always allowed: those who were on their way to one that has just died are served
/// all the same, and one that was not trusted any more has no such claim.
#[test]
fn nobody_sees_that_a_backend_has_just_died() {
    let (_socket, refusing) = refusing_address();
    let good = Backend::well_behaved("good");
    let keys = "retry_budget = 0\nretry_min_per_second = 0";
    let both = [refusing.to_string(), good.place.clone()];
    let both = both.each_ref().map(String::as_str);
    for mode in ["http", "tcp"] {
        let mode = format!("mode = \"{mode}\"");
        let ringway = Configured::start(2, &text(&mode, keys, &both));
        for _ in 0..20 {
            assert_eq!(ringway.get("/").text(), "good");
        }
        let stats = ringway.stats();
        assert!((1..20).contains(&stats.counter("retries_connect")));
        assert_eq!(stats.counter("retries_over_budget"), 0);
    }
    let ringway = Configured::start(1, &text("", keys, &both[..1]));
    for _ in 0..5 {
        assert_eq!(ringway.get("/").status, 503);
    }
    let stats = ringway.stats();
    assert_eq!((stats.counter("retries_connect"), stats.counter("retries_over_budget")), (1, 5));
}

/// What all workers together send is the requests and a fifth more, and what the floor allows.
#[test]
fn retries_stay_within_their_budget() {
    const REQUESTS: u64 = 200;
    for (floor, most) in [(0, REQUESTS * 12 / 10), (1, REQUESTS * 12 / 10 + 10)] {
        let (first, second) = (dying(), dying());
        let keys = format!("retry_min_per_second = {floor}");
        let ringway = Configured::start(2, &text("", &keys, &[&first.place, &second.place]));
        let begun = Instant::now();
        for _ in 0..REQUESTS {
            assert_eq!(ringway.get("/").status, 502);
        }
        let seconds = begun.elapsed().as_secs() + 1;
        let asked = (first.heads() + second.heads()) as u64;
        // After the window's end, what it had allowed is allowed again.
        let windows = 1 + seconds / 10;
        assert!(asked > REQUESTS && asked <= most * windows + floor * seconds, "{asked} in {seconds} s");
        let stats = ringway.stats();
        assert_eq!(stats.counter("retries_replay") + stats.counter("retries_over_budget"), REQUESTS);
        assert_eq!(stats.counter("retries_replay"), asked - REQUESTS);
    }
}

fn ask(ringway: &Ringway, method: &str, field: &str) -> u16 {
    let mut client: Client = ringway.client();
    let request = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n{field}\r\nbody");
    client.send(request.as_bytes()).unwrap();
    client.response().status
}

#[test]
fn what_may_change_something_is_sent_again_only_when_the_operator_says_so() {
    const KEY: &str = "Idempotency-Key: 7\r\n";
    let (dying, good) = (dying(), Backend::well_behaved("good"));
    for (keys, put, delete, post, with_key) in [
        ("", 502, 502, 502, 502),
        ("retry_idempotent = true", 200, 200, 502, 502),
        ("retry_idempotency_key = true", 502, 502, 502, 200),
        ("retry_idempotent = true\nretry_idempotency_key = true", 200, 200, 502, 200),
    ] {
        let ringway = Configured::start(1, &text("", keys, &[&dying.place, &good.place]));
        let told = [("PUT", ""), ("DELETE", ""), ("POST", ""), ("POST", KEY)]
            .map(|(method, field)| ask(&ringway, method, field));
        assert_eq!(told, [put, delete, post, with_key], "{keys}");
        assert_eq!(ask(&ringway, "PATCH", KEY), with_key, "{keys}");
        assert_eq!(ringway.get("/").status, 200, "{keys}");
        let refused = told.iter().filter(|status| **status == 502).count() as u64;
        let stats = ringway.stats();
        assert_eq!(stats.counter("retries_refused"), refused + u64::from(with_key == 502));
    }
    assert!(good.requests().iter().filter(|request| request.method() != "GET").all(|request| {
        request.whole().bytes == b"body" && request.head.values("idempotency-key").len() < 2
    }));
}

#[test]
fn a_response_that_is_late_is_asked_for_elsewhere_only_when_the_operator_says_so() {
    let silent = Backend::scripted(|connection| {
        connection.request();
        connection.wait_closed();
    });
    let good = Backend::well_behaved("good");
    let with = |keys: &str, backends: &[&Backend]| {
        let places: Vec<_> = backends.iter().map(|backend| backend.place.as_str()).collect();
        let text = text("", keys, &places);
        Configured::start(1, &format!("{text}[defaults]\nresponse_timeout = \"100ms\"\n"))
    };
    let wanted = "retry_response_timeout = true";
    for (keys, backends, get, post) in [
        ("", &[&silent, &good][..], 504, 504),
        (wanted, &[&silent, &good], 200, 504),
        (wanted, &[&silent], 504, 504),
    ] {
        let ringway = with(keys, backends);
        assert_eq!((ringway.get("/").status, ask(&ringway, "POST", "")), (get, post), "{keys}");
        let stats = ringway.wait_quiet();
        assert_eq!(stats.counter("retries_replay"), u64::from(get == 200));
        assert_eq!(stats.counter("fault_upstream_timeout"), 2);
    }
    // The rest of what was asked has been refused since, and 504 is still the truth.
    let (_socket, refusing) = refusing_address();
    let places = [silent.place.as_str(), &refusing.to_string()];
    let ringway = Configured::start(
        1,
        &format!("{}[defaults]\nresponse_timeout = \"100ms\"\n", text("", wanted, &places)),
    );
    assert_eq!(ringway.get("/").status, 504);
}

/// What was lost on others is not a backend's own time.
#[test]
fn a_backend_is_not_charged_for_the_time_of_others() {
    let (silent, good) = (kernel::full_listener(), Backend::well_behaved("good"));
    let keys = "[defaults]\nconnect_timeout = \"500ms\"\n";
    let ringway =
        Configured::start(1, &(keys.to_owned() + &text("", "", &[&silent.address.to_string(), &good.place])));
    assert_eq!(ringway.get("/").text(), "good");
    let stats = ringway.wait_stats("its end", |stats| stats.total()["latency_us"]["total"]["count"] == 1);
    let latency = |name: &str| stats.total()["latency_us"][name]["p999"].as_u64().unwrap();
    let (total, first_byte) = (latency("total"), latency("first_byte"));
    assert!(total >= 400_000 && first_byte < total - 300_000, "{first_byte} of {total} us");
}
