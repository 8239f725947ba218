//! One connection: read heads, answer them, in order, until either side has had enough.
//!
//! Answers to pipelined requests are collected and leave together. Dropping the future closes the socket.

use std::io;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;

use crate::answer::{self, CHUNK_BYTES, Length, Pieces};
use crate::body::Body;
use crate::request::{self, Head, Request, Route};
use crate::tally::{Tallies, Tally};

/// Also the largest head, and what is read of a body at once.
const INBOX_BYTES: usize = 64 * 1024;
/// Collected answers leave when they are more than this.
const OUTBOX_BYTES: usize = 64 * 1024;
/// A piece of a stream that comes slowly.
const PIECE_BYTES: usize = 1024;

pub async fn serve(stream: TcpStream, tallies: &Tallies, tally: &Tally) -> io::Result<()> {
    let inbox = vec![0; INBOX_BYTES].into_boxed_slice();
    let mut connection = Connection { stream, inbox, start: 0, end: 0, out: Vec::new(), tallies, tally };
    connection.run().await
}

struct Connection<'a> {
    stream: TcpStream,
    inbox: Box<[u8]>,
    start: usize,
    end: usize,
    out: Vec<u8>,
    tallies: &'a Tallies,
    tally: &'a Tally,
}

impl Connection<'_> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            match request::parse(&self.inbox[self.start..self.end]) {
                Head::Complete(request, length) => {
                    self.start += length;
                    self.tally.requests.add(1);
                    if !self.exchange(request).await? {
                        break;
                    }
                }
                Head::Partial if self.end - self.start < INBOX_BYTES => {
                    self.flush().await?;
                    if !self.fill().await? {
                        return Ok(());
                    }
                }
                Head::Partial | Head::Malformed => {
                    self.refuse();
                    break;
                }
            }
            if self.out.len() > OUTBOX_BYTES {
                self.flush().await?;
            }
        }
        self.flush().await?;
        self.stream.close().await
    }

    /// Answers one request; `false` when the connection ends with it.
    async fn exchange(&mut self, mut request: Request) -> io::Result<bool> {
        if request.expects_continue && !request.body.ended() {
            self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.flush().await?;
        }
        let Some(received) = self.drain(&mut request.body).await? else {
            self.refuse();
            return Ok(false);
        };
        if let Some(number) = request.number {
            self.tally.note(number);
        }
        self.answer(request, received).await
    }

    async fn answer(&mut self, request: Request, received: u64) -> io::Result<bool> {
        let Request { route, head_only, keep_alive, .. } = request;
        let text =
            |out: &mut Vec<u8>, status, text: &str| answer::text(out, status, text, keep_alive, head_only);
        match route {
            Route::Bytes(size) => self.bytes(size, Length::Known(size), keep_alive, head_only).await?,
            Route::Close(size) => {
                self.bytes(size, Length::UntilClose, false, head_only).await?;
                return Ok(false);
            }
            Route::Chunked(size) => self.chunked(size, None, keep_alive, head_only).await?,
            Route::Stream(size, pause) => {
                let pause = Duration::from_millis(pause);
                self.chunked(size, Some(pause), keep_alive, head_only).await?;
            }
            Route::Slow(milliseconds) => {
                self.flush().await?;
                glommio::timer::sleep(Duration::from_millis(milliseconds)).await;
                answer::small(&mut self.out, keep_alive, head_only);
            }
            Route::Hang => {
                self.flush().await?;
                while self.fill().await? {
                    (self.start, self.end) = (0, 0);
                }
                return Ok(false);
            }
            Route::Drop(among) if self.tally.fails(among) => return Ok(false),
            Route::Cut(among) if self.tally.fails(among) => {
                answer::half(&mut self.out);
                return Ok(false);
            }
            Route::Flaky(among) if self.tally.fails(among) => {
                text(&mut self.out, "503 Service Unavailable", "flaky\n");
            }
            Route::Small | Route::Drop(_) | Route::Cut(_) | Route::Flaky(_) => {
                answer::small(&mut self.out, keep_alive, head_only);
            }
            Route::Count(number) => {
                text(&mut self.out, "200 OK", &format!("{}\n", self.tallies.count(number)));
            }
            Route::Stats => text(&mut self.out, "200 OK", &self.tallies.json()),
            Route::Upload => text(&mut self.out, "200 OK", &format!("{received}\n")),
            Route::Unknown => text(&mut self.out, "404 Not Found", "no such path\n"),
        }
        Ok(keep_alive)
    }

    async fn bytes(
        &mut self,
        size: usize,
        length: Length,
        keep_alive: bool,
        head_only: bool,
    ) -> io::Result<()> {
        answer::head(&mut self.out, "200 OK", length, keep_alive);
        if head_only {
            return Ok(());
        }
        let mut pieces = Pieces::begin(&mut self.out, size).peekable();
        if pieces.peek().is_some() {
            self.flush().await?;
        }
        for piece in pieces {
            self.stream.write_all(piece).await?;
        }
        Ok(())
    }

    /// In chunks: as fast as they are taken, or small ones with a pause after each.
    async fn chunked(
        &mut self,
        size: usize,
        pause: Option<Duration>,
        keep_alive: bool,
        head_only: bool,
    ) -> io::Result<()> {
        answer::head(&mut self.out, "200 OK", Length::Chunked, keep_alive);
        let mut left = (!head_only).then_some(size);
        while let Some(some) = left {
            left = answer::chunk(&mut self.out, some, pause.map_or(CHUNK_BYTES, |_| PIECE_BYTES));
            if let Some(pause) = pause.filter(|_| left.is_some()) {
                self.flush().await?;
                glommio::timer::sleep(pause).await;
            } else if self.out.len() > OUTBOX_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Reads a body to its end; `None` when it makes no sense.
    async fn drain(&mut self, body: &mut Body) -> io::Result<Option<u64>> {
        let mut received = 0;
        while !body.ended() {
            if self.start == self.end && !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Ok((taken, payload)) = body.take(&self.inbox[self.start..self.end]) else { return Ok(None) };
            self.start += taken;
            received += payload;
        }
        self.tally.body_bytes.add(received);
        Ok(Some(received))
    }

    fn refuse(&mut self) {
        self.tally.malformed.add(1);
        answer::text(&mut self.out, "400 Bad Request", "malformed\n", false, false);
    }

    /// Reads more; `false` when the client has ended.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.inbox.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let received = self.stream.read(&mut self.inbox[self.end..]).await?;
        self.end += received;
        Ok(received > 0)
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }
}
