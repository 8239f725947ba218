//! One end of a connection: buffered reading by the framing rules, and how the other side ended it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::PATIENCE;
use super::message::{Head, field, split_lines};

/// How the other side closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    Fin,
    Reset,
}

/// Why a message could not be read to its end.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "every part is shown when a test fails")]
pub(crate) enum Failure {
    /// The connection ended before the first byte of a message.
    Nothing(Closing),
    /// The connection ended inside a message; with what was there of the part that was being read.
    Short { part: Vec<u8>, closing: Closing },
    /// The bytes break the grammar.
    Malformed(String),
    /// Nothing came in time; with what was there of the part that was being read.
    TimedOut { part: Vec<u8> },
}

/// A whole body: its bytes, and its trailer fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// A socket with a buffer of what was received and not yet taken.
pub(crate) struct Wire {
    /// The socket; a UNIX one as well, which knows all the calls that are made here.
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

enum Fill {
    Some,
    End(Closing),
    TimedOut,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // A UNIX socket has no such option, and no such delay.
        let _unix = stream.set_nodelay(true);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Ends our direction; the other stays open.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    fn fill(&mut self) -> Fill {
        let mut piece = [0; 64 * 1024];
        loop {
            return match self.stream.read(&mut piece) {
                Ok(0) => Fill::End(Closing::Fin),
                Ok(count) => {
                    self.buffer.extend_from_slice(&piece[..count]);
                    Fill::Some
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    Fill::TimedOut
                }
                Err(_) => Fill::End(Closing::Reset),
            };
        }
    }

    /// Reads until `enough` says how many bytes of the buffer to take.
    fn take(&mut self, mut enough: impl FnMut(&[u8]) -> Option<usize>) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(count) = enough(&self.buffer) {
                let rest = self.buffer.split_off(count);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            match self.fill() {
                Fill::Some => {}
                Fill::End(closing) => {
                    return Err(Failure::Short { part: std::mem::take(&mut self.buffer), closing });
                }
                Fill::TimedOut => return Err(Failure::TimedOut { part: std::mem::take(&mut self.buffer) }),
            }
        }
    }

    pub(crate) fn take_exactly(&mut self, count: usize) -> Result<Vec<u8>, Failure> {
        self.take(|buffer| (buffer.len() >= count).then_some(count))
    }

    /// Some bytes: whatever is there, at least one.
    pub(crate) fn take_some(&mut self) -> Result<Vec<u8>, Failure> {
        self.take(|buffer| (!buffer.is_empty()).then_some(buffer.len()))
    }

    /// Reads a head; leading bytes of nothing are told apart from half a head.
    pub(crate) fn take_head(&mut self) -> Result<Head, Failure> {
        let found =
            self.take(|buffer| buffer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4));
        match found {
            Ok(raw) => Head::parse(&raw).map_err(Failure::Malformed),
            Err(Failure::Short { part, closing }) if part.is_empty() => Err(Failure::Nothing(closing)),
            Err(failure) => Err(failure),
        }
    }

    fn take_line(&mut self) -> Result<Vec<u8>, Failure> {
        let mut line = self.take(|buffer| buffer.iter().position(|&byte| byte == b'\n').map(|at| at + 1))?;
        if !line.ends_with(b"\r\n") {
            return Err(Failure::Malformed(format!("bare LF after {:?}", line.escape_ascii().to_string())));
        }
        line.truncate(line.len() - 2);
        split_lines(&line).map_err(Failure::Malformed)?;
        Ok(line)
    }

    /// Reads a chunked body to the end of its trailer section. A failure carries the decoded bytes so far.
    pub(crate) fn take_chunked(&mut self) -> Result<Body, Failure> {
        let mut body = Body::default();
        match self.take_chunks(&mut body) {
            Ok(()) => Ok(body),
            Err(Failure::Short { part: _, closing }) => Err(Failure::Short { part: body.bytes, closing }),
            Err(Failure::TimedOut { part: _ }) => Err(Failure::TimedOut { part: body.bytes }),
            Err(failure) => Err(failure),
        }
    }

    fn take_chunks(&mut self, body: &mut Body) -> Result<(), Failure> {
        loop {
            let line = String::from_utf8_lossy(&self.take_line()?).into_owned();
            let digits = line.split(';').next().unwrap().trim_end();
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Failure::Malformed(format!("chunk size line {line:?}")));
            }
            let size = usize::from_str_radix(digits, 16).map_err(|_| Failure::Malformed(line.clone()))?;
            if size == 0 {
                break;
            }
            // In pieces, so that a chunk cut short still shows the bytes that did arrive.
            let mut left = size;
            while left > 0 {
                let piece = self.take(|buffer| (!buffer.is_empty()).then_some(buffer.len().min(left)))?;
                left -= piece.len();
                body.bytes.extend_from_slice(&piece);
            }
            if self.take_exactly(2)? != b"\r\n" {
                return Err(Failure::Malformed("no CRLF after chunk data".to_owned()));
            }
        }
        loop {
            let line = self.take_line()?;
            if line.is_empty() {
                return Ok(());
            }
            let (name, value) = field(&line).map_err(Failure::Malformed)?;
            body.trailers.push((name, String::from_utf8_lossy(&value).into_owned()));
        }
    }

    /// Reads everything up to a clean end.
    pub(crate) fn take_to_end(&mut self) -> Result<Vec<u8>, Failure> {
        match self.take(|_| None) {
            Err(Failure::Short { part, closing: Closing::Fin }) => Ok(part),
            Err(failure) => Err(failure),
            Ok(_) => unreachable!("the condition never holds"),
        }
    }

    /// Waits for the other side to close, and panics when it sends anything first.
    pub(crate) fn closing(&mut self) -> Closing {
        match self.take_some() {
            Err(Failure::Short { closing, .. }) => closing,
            other => panic!("expected the connection to be closed, got {other:?}"),
        }
    }

    /// Waits for the other side to close, whatever it sends first.
    pub(crate) fn wait_closed(&mut self) -> Closing {
        match self.take(|_| None) {
            Err(Failure::Short { closing, .. }) => closing,
            other => panic!("expected the connection to be closed, got {other:?}"),
        }
    }

    /// Whether anything (bytes or an end) has arrived that was not read yet.
    pub(crate) fn has_input(&mut self) -> bool {
        if !self.buffer.is_empty() {
            return true;
        }
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !matches!(peeked, Err(ref error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }
}
