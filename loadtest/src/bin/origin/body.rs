//! Where a request body ends. Pure; fed with bytes, says how many of them belong to the body.

/// What is still to come of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    Sized(u64),
    Chunked(Chunk),
}

/// Where in the chunked coding the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    Size(u64),
    /// In a chunk extension or the line end after the size.
    SizeEnd(u64),
    Data(u64),
    DataEnd,
    /// At the start of a trailer line: an empty one ends the body.
    TrailerStart,
    Trailer,
}

/// The size line was no hexadecimal number.
#[derive(Debug, PartialEq, Eq)]
pub struct BadChunk;

/// A chunk larger than this is nonsense, and its size could overflow.
const CHUNK_BYTES_MAX: u64 = 1 << 40;

impl Body {
    pub fn sized(size: u64) -> Self {
        if size == 0 { Self::None } else { Self::Sized(size) }
    }

    pub fn chunked() -> Self {
        Self::Chunked(Chunk::Size(0))
    }

    pub fn ended(&self) -> bool {
        *self == Self::None
    }

    /// Takes bytes off the front of `bytes`; returns how many were taken and how many of those were payload.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, u64), BadChunk> {
        let (mut taken, mut payload) = (0, 0);
        while taken < bytes.len() && !self.ended() {
            match self {
                Self::None => {}
                Self::Sized(left) => {
                    let some = (*left).min((bytes.len() - taken) as u64);
                    taken += some as usize;
                    payload += some;
                    *self = Self::sized(*left - some);
                }
                Self::Chunked(Chunk::Data(left)) => {
                    let some = (*left).min((bytes.len() - taken) as u64);
                    taken += some as usize;
                    payload += some;
                    *left -= some;
                    if *left == 0 {
                        *self = Self::Chunked(Chunk::DataEnd);
                    }
                }
                Self::Chunked(chunk) => {
                    *self = chunk.step(bytes[taken])?;
                    taken += 1;
                }
            }
        }
        Ok((taken, payload))
    }
}

impl Chunk {
    fn step(self, byte: u8) -> Result<Body, BadChunk> {
        let next = match (self, byte) {
            (Self::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if size < CHUNK_BYTES_MAX => {
                Self::Size(size * 16 + u64::from((byte as char).to_digit(16).unwrap_or(0)))
            }
            (Self::Size(size), b'\r' | b';' | b' ') => Self::SizeEnd(size),
            (Self::Size(_), _) => return Err(BadChunk),
            (Self::SizeEnd(0), b'\n') => Self::TrailerStart,
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataEnd, b'\n') => Self::Size(0),
            (Self::TrailerStart, b'\n') => return Ok(Body::None),
            (Self::TrailerStart, b'\r') => Self::TrailerStart,
            (Self::TrailerStart, _) => Self::Trailer,
            (Self::Trailer, b'\n') => Self::TrailerStart,
            (same, _) => same,
        };
        Ok(Body::Chunked(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: &[u8] = b"5\r\nhello\r\n1A;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: 1\r\n\r\nNEXT";

    #[test]
    fn chunked_ends_at_the_same_byte_however_it_is_cut() {
        for piece in 1..=WIRE.len() {
            let (mut body, mut at, mut payload) = (Body::chunked(), 0, 0);
            while !body.ended() {
                let end = (at + piece).min(WIRE.len());
                let (taken, some) = body.take(&WIRE[at..end]).unwrap();
                at += taken;
                payload += some;
            }
            assert_eq!((&WIRE[at..], payload), (&b"NEXT"[..], 31), "pieces of {piece}");
        }
    }

    #[test]
    fn sized_leaves_the_next_request_alone() {
        let mut body = Body::sized(3);
        assert_eq!(body.take(b"ab"), Ok((2, 2)));
        assert_eq!(body.take(b"cGET"), Ok((1, 1)));
        assert!(body.ended());
        assert!(Body::sized(0).ended());
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Body::chunked().take(b"xyz\r\n"), Err(BadChunk));
        assert_eq!(Body::chunked().take(b"ffffffffffffffff\r\n"), Err(BadChunk));
    }
}
