//! Large bodies of known length never touch user space, in both directions, and small ones are copied.

use crate::support::{Backend, Ringway, Seed};

const LARGE: usize = 4 << 20;
/// Below what pays.
const SMALL: usize = 8 << 10;

/// Answers with this body, whatever it is asked.
fn saying(body: &[u8]) -> Backend {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = [head.as_bytes(), body].concat();
    Backend::scripted(move |connection| connection.answer_all(&answer))
}

/// So many large bodies have been spliced, but for what has come with their heads, or is not worth it at their ends.
fn has_spliced(ringway: &Ringway, bodies: u64) {
    let spliced = ringway.wait_quiet().counter("spliced_bytes");
    let most = bodies * LARGE as u64;
    assert!((most * 9 / 10..=most).contains(&spliced), "{spliced} of {most} bytes were spliced");
}

#[test]
fn a_large_upload_of_known_length_is_spliced() {
    let (backend, body) = (saying(b"ok"), Seed::new(81).bytes(LARGE));
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    for turn in 1..=3 {
        assert_eq!(ringway.client().post("/", &body).text(), "ok");
        assert!(backend.last().whole().bytes == body, "other bytes have arrived");
        has_spliced(&ringway, turn);
    }
}

#[test]
fn a_large_download_of_known_length_is_spliced() {
    let body = Seed::new(82).bytes(LARGE);
    let backend = saying(&body);
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    for turn in 1..=3 {
        let answer = ringway.get("/");
        assert!(answer.status == 200 && answer.body == body, "other bytes have arrived");
        has_spliced(&ringway, turn);
    }
}

#[test]
fn small_bodies_are_copied() {
    let body = Seed::new(83).bytes(SMALL);
    let backend = saying(&body);
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    for _ in 0..3 {
        assert!(ringway.client().post("/", &body).body == body, "other bytes have arrived");
        assert!(backend.last().whole().bytes == body, "other bytes have arrived");
    }
    assert_eq!(ringway.wait_quiet().counter("spliced_bytes"), 0);
}
