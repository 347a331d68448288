//! Our side of a stream: what waits for the transport, and the wait for a stream to write it on.
//!
//! That the other end does not want to hear more is noticed at the next write. `quinn` has a future that tells at once
//! (`SendStream::stopped`), but keeps 100 bytes of each until the connection's end if the stream is reset, and what is dropped
//! for slow readers is reset.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures_util::future::BoxFuture;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt, WriteError};

use crate::moqt::{Kind, Stream};

/// Bytes for which there is memory whatever waits. Beyond it no more than four times what waits: a long frame that was slow to leave does
/// not occupy it for as long as its group lasts.
const KEPT: usize = 4 << 10;

/// What may be written, once there is a stream.
pub(super) struct Sending {
    stream: Option<SendStream>,
    waiting: BytesMut,
    /// The most bytes that have waited since there was new memory for them.
    room: usize,
    /// How many of the bytes that wait are the stream's prefix, of which the peer knows nothing.
    prefix: usize,
    finish: bool,
    /// The code with which the other end's side was given up before there was a stream.
    pub(super) given_up: Option<u32>,
}

/// What has happened to our side.
pub(super) enum Sent {
    /// The transport took so many bytes.
    Taken(usize),
    /// The other end does not want more.
    Stopped(VarInt),
    /// All is written and finished, or the connection is lost.
    Over,
}

impl Sending {
    /// A stream that is to be opened.
    pub(super) fn unopened(prefix: &[u8]) -> Self {
        let (waiting, prefix) = (BytesMut::from(prefix), prefix.len());
        Self { stream: None, room: prefix, waiting, prefix, finish: false, given_up: None }
    }

    /// A stream that the other end opened.
    pub(super) fn opened(stream: SendStream) -> Self {
        Self { stream: Some(stream), ..Self::unopened(&[]) }
    }

    /// There is a stream now.
    pub(super) fn attach(&mut self, stream: SendStream) {
        self.stream = Some(stream);
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        self.room = self.room.max(self.waiting.len());
    }

    pub(super) fn finish(&mut self) {
        self.finish = true;
    }

    /// Gives it up. What was never opened needs no word.
    pub(super) fn reset(self, code: VarInt) {
        if let Some(mut stream) = self.stream {
            let _ = stream.reset(code);
        }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Sent> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(context, &self.waiting)) {
                Ok(taken) => {
                    self.waiting.advance(taken);
                    if self.room > KEPT.max(4 * self.waiting.len()) {
                        (self.waiting, self.room) = (BytesMut::from(&self.waiting[..]), self.waiting.len());
                    }
                    let of_prefix = taken.min(self.prefix);
                    self.prefix -= of_prefix;
                    if taken > of_prefix {
                        return Poll::Ready(Sent::Taken(taken - of_prefix));
                    }
                }
                Err(WriteError::Stopped(code)) => return Poll::Ready(Sent::Stopped(code)),
                Err(_) => return Poll::Ready(Sent::Over),
            }
        }
        if self.finish {
            let _ = stream.finish();
            return Poll::Ready(Sent::Over);
        }
        Poll::Pending
    }
}

type Opened = (SendStream, Option<RecvStream>);

/// Streams of one kind that wait for the other end to allow one more.
pub(super) struct Opening {
    kind: Kind,
    queue: VecDeque<Stream>,
    /// The one that the transport was asked for, whoever it will be for.
    next: Option<BoxFuture<'static, Result<Opened, ConnectionError>>>,
    /// One that nobody wanted any more.
    spare: Option<Opened>,
}

impl Opening {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, queue: VecDeque::new(), next: None, spare: None }
    }

    pub(super) fn push(&mut self, stream: Stream) {
        self.queue.push_back(stream);
    }

    /// The next stream that is open now. Those that are not `wanted` any more are passed over.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        connection: &Connection,
        wanted: impl Fn(Stream) -> bool,
    ) -> Poll<(Stream, Opened)> {
        while self.queue.front().is_some_and(|stream| !wanted(*stream)) {
            self.queue.pop_front();
        }
        let Some(stream) = self.queue.front().copied() else { return Poll::Pending };
        if self.spare.is_none() {
            let next = self.next.get_or_insert_with(|| open(self.kind, connection.clone()));
            let opened = ready!(next.as_mut().poll(context));
            self.next = None;
            // Where the connection is lost, somebody else tells.
            self.spare = opened.ok();
        }
        let Some(opened) = self.spare.take() else { return Poll::Pending };
        self.queue.pop_front();
        Poll::Ready((stream, opened))
    }
}

fn open(kind: Kind, connection: Connection) -> BoxFuture<'static, Result<Opened, ConnectionError>> {
    Box::pin(async move {
        Ok(match kind {
            Kind::Bidi => connection.open_bi().await.map(|(send, recv)| (send, Some(recv)))?,
            Kind::Uni => (connection.open_uni().await?, None),
        })
    })
}
