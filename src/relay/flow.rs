//! A flow: one direction of one message or tunnel, from a source stream to a sink stream.
//!
//! Small bodies are received and sent through one pooled buffer; large ones go by `splice(2)` through a pooled
//! pipe. A flow that waits holds neither. It is polled, so two flows (both directions of an exchange) run in one
//! task; dropping one loses only what it had not sent yet, which its owner answers by aborting the sink.

use std::{
    io,
    rc::Rc,
    task::{Context, Poll, ready},
};

use super::body::{Body, Cursor, Wrong};
use crate::{
    io::{
        buffer::{Buffer, BufferPool},
        pipes::{LentPipe, PipePool},
        ready,
        stream::Stream,
    },
    limits::{PIPE_BYTES, SPLICE_BYTES_MIN, TURN_BYTES_MAX},
    stats::{names::Count, worker::WorkerStats},
};

/// What ended a flow before its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The source ended inside the body.
    SourceEnded,
    /// Receiving failed.
    Source(io::ErrorKind),
    /// Sending failed.
    Sink(io::ErrorKind),
    /// What the source sent is not what it may send.
    Body(Wrong),
}

/// The pools and counters a flow works with.
pub struct Supplies<'a> {
    /// Where its buffer comes from.
    pub buffers: &'a Rc<BufferPool>,
    /// Where its pipe comes from.
    pub pipes: &'a Rc<PipePool>,
    /// What it counts.
    pub stats: &'a WorkerStats,
}

/// One direction of one message.
pub struct Flow {
    body: Body,
    buffer: Option<Buffer>,
    /// Bytes at the front of the buffer that are ready to be sent.
    ready: usize,
    /// How many of them have been sent.
    sent: usize,
    /// Where raw input begins in the buffer, at or behind `ready`.
    raw: usize,
    /// Everything is still in the buffer, so that it can be sent once more.
    whole: bool,
    pipe: Option<LentPipe>,
    /// The source delivers in bulk, so an endless body is worth a pipe.
    bulk: bool,
    received_bytes: u64,
    sent_bytes: u64,
    /// Anything has been handed to the sink.
    touched: bool,
    /// The last receive got all it had asked for, so there may be more in the socket.
    capped: bool,
    /// The last receive seems to have emptied the source: its readiness is asked before the next one.
    dry: bool,
    /// A pipe does not get on, so the next receive is a copy.
    stuck: bool,
    /// The sink's stream ends with this message.
    ends_sink: bool,
}

impl Flow {
    /// A flow whose buffer begins with `head` finished bytes, followed by raw bytes of the body.
    pub fn new(buffer: Buffer, head: usize, body: Body) -> Result<Self, Wrong> {
        let capped = buffer.is_full();
        let mut flow =
            Flow { raw: head, ready: head, capped, dry: !capped, ..Flow::bare(Some(buffer), body) };
        flow.digest()?;
        flow.whole = flow.body.is_done();
        Ok(flow)
    }

    /// A flow that begins empty-handed.
    pub fn empty(body: Body) -> Self {
        Flow::bare(None, body)
    }

    /// The same, from a source that cannot have sent anything yet.
    pub fn silent(body: Body) -> Self {
        Flow { dry: true, ..Flow::bare(None, body) }
    }

    fn bare(buffer: Option<Buffer>, body: Body) -> Self {
        Flow {
            body,
            buffer,
            ready: 0,
            sent: 0,
            raw: 0,
            whole: false,
            pipe: None,
            bulk: false,
            received_bytes: 0,
            sent_bytes: 0,
            touched: false,
            capped: false,
            dry: false,
            stuck: false,
            ends_sink: false,
        }
    }

    /// The sink's stream ends with this message, and its owner sees to that as soon as the message is through: the last bytes
    /// wait for it, which spares a segment.
    pub fn end_sink(&mut self) {
        self.ends_sink = true;
    }

    /// True when everything, head and body, has been sent.
    pub fn is_finished(&self) -> bool {
        self.body.is_done() && self.sent == self.ready && self.pipe.is_none()
    }

    /// True when the source has nothing more to give.
    pub fn is_received(&self) -> bool {
        self.body.is_done()
    }

    /// True once anything has been handed to the sink.
    pub fn has_sent(&self) -> bool {
        self.touched
    }

    /// True while bytes are at hand that the sink does not take.
    pub fn is_waiting_for_sink(&self) -> bool {
        self.sent < self.ready || self.pipe.as_ref().is_some_and(|pipe| pipe.filled() > 0)
    }

    /// True when bytes behind the body may wait in the socket; false when it was seen empty.
    pub fn may_have_left_more(&self) -> bool {
        self.capped
    }

    /// The bytes that are ready to be sent, or sent already and still at hand.
    pub fn ready(&self) -> &[u8] {
        self.buffer.as_ref().and_then(|buffer| buffer.filled().get(..self.ready)).unwrap_or_default()
    }

    /// True while the message can be sent again from its first byte.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Starts over from the first byte, for another sink. Only for a flow that [`Self::is_whole`] or has sent
    /// nothing.
    pub fn rewind(&mut self) {
        self.sent = 0;
        self.touched = false;
    }

    /// Bytes received and sent since the last call.
    pub fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.received_bytes), std::mem::take(&mut self.sent_bytes))
    }

    /// Gives up the buffer; what lies behind the body comes back as a buffer of its own.
    pub fn into_leftover(mut self) -> Option<Buffer> {
        let mut buffer = self.buffer.take()?;
        buffer.consume(self.raw);
        if buffer.is_empty() {
            return None;
        }
        buffer.compact();
        Some(buffer)
    }

    /// Takes what lies behind a finished body out of the buffer, for the next message.
    pub fn split_leftover(&mut self) -> Option<Buffer> {
        if !self.body.is_done() {
            return None;
        }
        let mut rest = self.buffer.as_mut()?.split_behind(self.ready)?;
        rest.consume(self.raw - self.ready);
        self.raw = self.ready;
        (!rest.is_empty()).then_some(rest)
    }

    /// Moves bytes until the body is complete, a side would block or the turn is over.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
        supplies: &Supplies<'_>,
    ) -> Poll<Result<(), Broken>> {
        let begin = self.received_bytes;
        loop {
            let is_last = self.has_its_end(source);
            ready!(self.poll_send(cx, sink, is_last))?;
            if self.body.is_done() {
                self.pipe = None;
                return Poll::Ready(Ok(()));
            }
            if self.received_bytes - begin >= TURN_BYTES_MAX {
                supplies.stats.count(Count::Turns);
                ready::give_way(cx);
                return Poll::Pending;
            }
            ready!(self.poll_receive(cx, source, supplies))?;
        }
    }

    /// True when the buffer holds all that the sink still gets. What ends with its source has it when the source was seen to
    /// end and to be empty: then the next receive gets the end.
    fn has_its_end(&self, source: &Stream) -> bool {
        self.ends_sink
            && match self.body {
                Body::UntilEnd => self.dry && source.is_ending(),
                _ => self.body.is_done(),
            }
    }

    /// Sends what is ready, from the buffer or the pipe.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Stream,
        is_last: bool,
    ) -> Poll<Result<(), Broken>> {
        while self.sent < self.ready {
            let bytes = self.buffer.as_ref().and_then(|buffer| buffer.filled().get(self.sent..self.ready));
            let bytes = bytes.unwrap_or_default();
            match if is_last { sink.transmit_more(bytes) } else { sink.transmit(bytes) } {
                Ok(count) => {
                    self.sent += count;
                    self.sent_bytes += count as u64;
                    self.touched = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(sink.poll_writable(cx)),
                Err(error) => return Poll::Ready(Err(Broken::Sink(error.kind()))),
            }
        }
        while let Some(pipe) = self.pipe.as_mut().and_then(LentPipe::pipe).filter(|pipe| pipe.filled() > 0) {
            let moved = sink.drain(pipe);
            match moved {
                Ok(count) => self.sent_bytes += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(sink.poll_writable(cx)),
                Err(error) => {
                    // A splice that got half-way before keeps the reason to itself; what follows is always this one.
                    let kind = error.kind();
                    let told =
                        if kind == io::ErrorKind::BrokenPipe { io::ErrorKind::ConnectionReset } else { kind };
                    return Poll::Ready(Err(Broken::Sink(told)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gets more from the source: by pipe when that pays, else into the buffer.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        supplies: &Supplies<'_>,
    ) -> Poll<Result<(), Broken>> {
        self.recycle();
        let roused = self.dry;
        if roused {
            self.lay_down();
            ready!(source.poll_readable(cx));
            self.dry = false;
        }
        let outcome = match self.wants_pipe(supplies) {
            Some(max) => self.fill_pipe(source, max, supplies),
            None => self.fill_buffer(source, supplies),
        };
        match outcome {
            Ok(0) if self.body.end() => Poll::Ready(Ok(())),
            Ok(0) => Poll::Ready(Err(Broken::SourceEnded)),
            Ok(count) => {
                self.received_bytes += count as u64;
                Poll::Ready(self.digest().map_err(Broken::Body))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Readiness without bytes for a pipe: it cannot get past an urgent one (`tcp(7)`), as a copy does.
                self.stuck = roused && self.pipe.is_some();
                self.dry = !self.stuck;
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(Broken::Source(error.kind()))),
        }
    }

    /// Forgets what was sent, so that the buffer has room again.
    fn recycle(&mut self) {
        if let Some(buffer) = self.buffer.as_mut() {
            buffer.consume(self.raw);
            buffer.compact();
        }
        // The next one may be of another size.
        self.buffer = self.buffer.take().filter(|buffer| !buffer.is_empty());
        (self.ready, self.sent, self.raw, self.whole) = (0, 0, 0, false);
    }

    /// A connection that waits holds no memory.
    fn lay_down(&mut self) {
        self.pipe = None;
        self.buffer = self.buffer.take().filter(|buffer| !buffer.is_empty());
    }

    /// How much to splice next, with the pipe at hand; `None` to copy.
    fn wants_pipe(&mut self, supplies: &Supplies<'_>) -> Option<usize> {
        let opaque = self.body.opaque();
        let worth = match self.body {
            Body::UntilEnd => self.bulk,
            _ => opaque >= SPLICE_BYTES_MIN || self.pipe.is_some(),
        };
        let raw_waits = self.buffer.as_ref().is_some_and(|buffer| !buffer.is_empty());
        if !worth || opaque == 0 || raw_waits || self.stuck {
            return None;
        }
        if self.pipe.is_none() {
            self.pipe = supplies.pipes.take();
        }
        self.pipe.as_ref().map(|_| usize::try_from(opaque).unwrap_or(usize::MAX).min(PIPE_BYTES))
    }

    fn fill_pipe(&mut self, source: &mut Stream, max: usize, supplies: &Supplies<'_>) -> io::Result<usize> {
        let Some(pipe) = self.pipe.as_mut().and_then(LentPipe::pipe) else { return Ok(0) };
        self.buffer = None;
        let moved = source.fill(pipe, max)?;
        self.body.passed(moved as u64);
        self.bulk = moved as u64 >= SPLICE_BYTES_MIN / 2;
        self.capped = moved == max;
        supplies.stats.add(Count::SplicedBytes, moved as u64);
        Ok(moved)
    }

    fn fill_buffer(&mut self, source: &mut Stream, supplies: &Supplies<'_>) -> io::Result<usize> {
        self.pipe = None;
        let buffer = self.buffer.get_or_insert_with(|| supplies.buffers.take());
        // Raw bytes that are not a whole line yet may fill a small one.
        buffer.enlarge_when_full();
        let space = buffer.space();
        let room = space.len();
        let count = source.receive(space)?;
        buffer.grow(count);
        self.bulk = count as u64 >= SPLICE_BYTES_MIN;
        self.capped = count == room;
        self.stuck = false;
        // Less than asked for is all there was.
        self.dry = !self.capped;
        Ok(count)
    }

    /// Turns raw bytes in the buffer into bytes ready to be sent.
    fn digest(&mut self) -> Result<(), Wrong> {
        let Some(buffer) = self.buffer.as_mut() else { return Ok(()) };
        let at = Cursor { write: self.ready, read: self.raw };
        let at = self.body.advance(buffer.filled_mut(), at)?;
        (self.ready, self.raw) = (at.write, at.read);
        Ok(())
    }
}
