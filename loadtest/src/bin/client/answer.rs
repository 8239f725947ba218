//! The bytes of one HTTP answer, until it is whole: status 200 and the body that the origin sends for `/`. Pure.

const BODY_BYTES: usize = 128;
const HEADERS_MAX: usize = 32;
const HEAD_BYTES_MAX: usize = 8 * 1024;

pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: load.test\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Partial,
    Whole,
    Wrong,
}

#[derive(Default)]
pub struct Answer {
    seen: Vec<u8>,
    body_at: Option<usize>,
}

impl Answer {
    /// Forgets the answer before it; keeps the memory.
    pub fn begin(&mut self) {
        self.seen.clear();
        self.body_at = None;
    }

    pub fn take(&mut self, bytes: &[u8]) -> Verdict {
        self.seen.extend_from_slice(bytes);
        if self.body_at.is_none() {
            match head(&self.seen) {
                Ok(length) => self.body_at = length,
                Err(()) => return Verdict::Wrong,
            }
        }
        let Some(body) = self.body_at.and_then(|at| self.seen.get(at..)) else {
            return if self.seen.len() > HEAD_BYTES_MAX { Verdict::Wrong } else { Verdict::Partial };
        };
        let as_sent = body.iter().enumerate().all(|(at, byte)| *byte == b'a' + (at % 23) as u8);
        match body.len() {
            _ if !as_sent => Verdict::Wrong,
            BODY_BYTES => Verdict::Whole,
            length if length < BODY_BYTES => Verdict::Partial,
            _ => Verdict::Wrong,
        }
    }
}

/// The length of a whole head, `None` while it is none; an error when it is not that of the answer.
fn head(bytes: &[u8]) -> Result<Option<usize>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).map_err(|_| ())? else { return Ok(None) };
    let sized = |header: &httparse::Header<'_>| {
        header.name.eq_ignore_ascii_case("content-length")
            && header.value == BODY_BYTES.to_string().as_bytes()
    };
    if head.code == Some(200) && head.headers.iter().any(sized) { Ok(Some(length)) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> Vec<u8> {
        let mut wire = b"HTTP/1.1 200 OK\r\ncontent-length: 128\r\n\r\n".to_vec();
        wire.extend((0..BODY_BYTES).map(|at| b'a' + (at % 23) as u8));
        wire
    }

    #[test]
    fn is_whole_at_the_same_byte_however_it_is_cut() {
        let (wire, mut answer) = (wire(), Answer::default());
        for piece in 1..=wire.len() {
            answer.begin();
            let verdicts: Vec<_> = wire.chunks(piece).map(|some| answer.take(some)).collect();
            let (last, others) = verdicts.split_last().unwrap();
            assert_eq!(*last, Verdict::Whole, "pieces of {piece}");
            assert!(others.iter().all(|verdict| *verdict == Verdict::Partial), "pieces of {piece}");
        }
    }

    #[test]
    fn anything_else_is_wrong() {
        let changed = |from: &str, to: &str| {
            let text = String::from_utf8(wire()).unwrap().replacen(from, to, 1);
            Answer::default().take(text.as_bytes())
        };
        assert_eq!(changed("200", "503"), Verdict::Wrong);
        assert_eq!(changed("128", "129"), Verdict::Wrong);
        assert_eq!(changed("abc", "abd"), Verdict::Wrong);
        assert_eq!(changed("HTTP", "ICAP"), Verdict::Wrong);
        let mut longer = wire();
        longer.push(b'x');
        assert_eq!(Answer::default().take(&longer), Verdict::Wrong);
    }
}
