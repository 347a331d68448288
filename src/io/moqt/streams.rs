//! The streams of one connection, as a peer knows them: actions go in, what happened comes out, one thing at a time.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream};

use super::entering::{Entered, enter};
use super::over::Over;
use super::sending::{Opening, Sending, Sent};
use crate::moqt::{Action, Kind, Stream};

/// The most bytes of one stream that are told at a time.
const CHUNK: usize = 64 << 10;

/// What happened.
pub(super) enum Input {
    /// The other end opened a stream.
    Opened(u64, Kind),
    /// It opened one that does not belong to the session, and was refused.
    Refused,
    /// Bytes came.
    Bytes(Stream, Bytes),
    /// The other end finished its side.
    Finished(Stream),
    /// It gave its side up.
    Reset(Stream, u32),
    /// It does not want to hear more.
    Stopped(Stream, u32),
    /// The transport took so many bytes more.
    Taken(Stream, usize),
    /// The session has ended, or the connection is lost: the code, and why.
    Gone(u32, String),
}

type Accepted = Result<(Option<SendStream>, RecvStream), ConnectionError>;

/// The streams of one connection.
pub(super) struct Streams {
    over: Over,
    receiving: BTreeMap<Stream, RecvStream>,
    sending: BTreeMap<Stream, Sending>,
    /// Ours that are to be opened: those in both directions, and the others.
    opening: [Opening; 2],
    /// The next of theirs, likewise.
    accepting: [Option<BoxFuture<'static, Accepted>>; 2],
    /// Those of theirs that have not said yet what they are for.
    entering: FuturesUnordered<BoxFuture<'static, (Kind, Entered)>>,
    /// Whether one in both directions has entered: the first one that the other end opened, which is not like the others.
    first_entered: bool,
    /// Whether one is about to.
    first_entering: bool,
    gone: Option<BoxFuture<'static, (u32, String)>>,
    /// Whose turn it was last, so that no stream keeps others waiting.
    last_sent: Stream,
    last_received: Stream,
}

impl Streams {
    pub(super) fn new(mut over: Over) -> Self {
        let gone: BoxFuture<'static, _> = Box::pin(over.gone());
        let accepting = [Kind::Bidi, Kind::Uni].map(|kind| Some(accept(kind, over.connection().clone())));
        Self {
            over,
            receiving: BTreeMap::new(),
            sending: BTreeMap::new(),
            opening: [Kind::Bidi, Kind::Uni].map(Opening::new),
            accepting,
            entering: FuturesUnordered::new(),
            first_entered: false,
            first_entering: false,
            gone: Some(gone),
            last_sent: Stream::Ours(0),
            last_received: Stream::Ours(0),
        }
    }

    /// Closes the session and the connection.
    pub(super) async fn close(self, code: u32, reason: &str) {
        self.over.close(code, reason).await;
    }

    /// Leaves a session that has ended. Returns whether we have closed the connection.
    pub(super) fn leave(self) -> bool {
        self.over.leave()
    }

    /// Does what the peer wants done, but for the end of the connection. What is for streams that are over is ignored.
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Open(stream, kind) => {
                self.sending.insert(stream, Sending::unopened(&self.over.prefix(kind)));
                self.opening[kind as usize].push(stream);
            }
            Action::Write(stream, bytes) => {
                if let Some(sending) = self.sending.get_mut(&stream) {
                    sending.write(&bytes);
                }
            }
            Action::Finish(stream) => {
                if let Some(sending) = self.sending.get_mut(&stream) {
                    sending.finish();
                }
            }
            Action::Reset(stream, code) => {
                if let Some(sending) = self.sending.remove(&stream) {
                    sending.reset(self.over.written(code));
                }
            }
            Action::Stop(stream, code) => {
                if let Some(mut recv) = self.receiving.remove(&stream) {
                    // One that has ended meanwhile needs no word.
                    let _ = recv.stop(self.over.written(code));
                } else if let Some(sending) = self.sending.get_mut(&stream) {
                    sending.given_up = Some(code);
                }
            }
            Action::Close { .. } => {}
        }
    }

    /// Waits for what happens next; for bytes that come, and the end after them, only if they are to be `read`.
    pub(super) async fn next(&mut self, read: bool) -> Input {
        poll_fn(|context| self.poll(context, read)).await
    }

    /// What has been sent goes first, so that what comes in is answered into room that is there.
    fn poll(&mut self, context: &mut Context<'_>, read: bool) -> Poll<Input> {
        self.poll_opening(context);
        if let Poll::Ready(input) = self.poll_sending(context) {
            return Poll::Ready(input);
        }
        if let Poll::Ready(input) = self.poll_accepting(context) {
            return Poll::Ready(input);
        }
        if !read {
            return Poll::Pending;
        }
        if let Poll::Ready(input) = self.poll_receiving(context) {
            return Poll::Ready(input);
        }
        // Last, so that what had come before the end is told.
        let Some(gone) = &mut self.gone else { return Poll::Pending };
        let Poll::Ready((code, reason)) = gone.as_mut().poll(context) else { return Poll::Pending };
        self.gone = None;
        Poll::Ready(Input::Gone(code, reason))
    }

    fn poll_opening(&mut self, context: &mut Context<'_>) {
        for opening in &mut self.opening {
            let sending = &mut self.sending;
            while let Poll::Ready((stream, (send, recv))) =
                opening.poll(context, self.over.connection(), |stream| sending.contains_key(&stream))
            {
                let given_up = sending.get_mut(&stream).and_then(|sending| {
                    sending.attach(send);
                    sending.given_up
                });
                match (recv, given_up) {
                    (Some(mut recv), Some(code)) => drop(recv.stop(self.over.written(code))),
                    (Some(recv), None) => drop(self.receiving.insert(stream, recv)),
                    (None, _) => {}
                }
            }
        }
    }

    fn poll_sending(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        loop {
            let sent = in_turn(&mut self.sending, &mut self.last_sent, |sending| sending.poll(context));
            let Poll::Ready((stream, sent)) = sent else { return Poll::Pending };
            match sent {
                Sent::Taken(bytes) => return Poll::Ready(Input::Taken(stream, bytes)),
                Sent::Stopped(code) => return Poll::Ready(Input::Stopped(stream, self.over.read(code))),
                Sent::Over => drop(self.sending.remove(&stream)),
            }
        }
    }

    fn poll_accepting(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        for kind in [Kind::Bidi, Kind::Uni] {
            // Until the first one has entered the second waits, or it could be taken for the first.
            while self.may_accept(kind)
                && let Some(Poll::Ready(accepted)) =
                    self.accepting[kind as usize].as_mut().map(|accepting| accepting.as_mut().poll(context))
            {
                self.accepting[kind as usize] = None;
                // Where the connection is lost, somebody else tells.
                let Ok((send, recv)) = accepted else { break };
                self.accepting[kind as usize] = Some(accept(kind, self.over.connection().clone()));
                match self.over.session() {
                    None => return Poll::Ready(self.entered(kind, send, recv)),
                    Some(session) => {
                        self.first_entering |= kind == Kind::Bidi;
                        self.entering.push(Box::pin(async move { (kind, enter(session, send, recv).await) }));
                    }
                }
            }
        }
        while let Poll::Ready(Some((kind, entered))) = self.entering.poll_next_unpin(context) {
            self.first_entering &= kind == Kind::Uni;
            match entered {
                Entered::Stream(send, recv) => return Poll::Ready(self.entered(kind, send, recv)),
                Entered::Refused => return Poll::Ready(Input::Refused),
                Entered::Ignored => {}
            }
        }
        Poll::Pending
    }

    fn may_accept(&self, kind: Kind) -> bool {
        kind == Kind::Uni || self.first_entered || !self.first_entering
    }

    fn entered(&mut self, kind: Kind, send: Option<SendStream>, recv: RecvStream) -> Input {
        self.first_entered |= kind == Kind::Bidi;
        let id = quinn::VarInt::from(recv.id()).into_inner();
        self.receiving.insert(Stream::Theirs(id), recv);
        if let Some(send) = send {
            self.sending.insert(Stream::Theirs(id), Sending::opened(send));
        }
        Input::Opened(id, kind)
    }

    fn poll_receiving(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        loop {
            let received = in_turn(&mut self.receiving, &mut self.last_received, |recv| {
                // It keeps nothing between two polls.
                pin!(recv.read_chunk(CHUNK, true)).poll(context)
            });
            let Poll::Ready((stream, received)) = received else { return Poll::Pending };
            if let Ok(Some(chunk)) = received {
                return Poll::Ready(Input::Bytes(stream, chunk.bytes));
            }
            self.receiving.remove(&stream);
            match received {
                Ok(_) => return Poll::Ready(Input::Finished(stream)),
                Err(ReadError::Reset(code)) => return Poll::Ready(Input::Reset(stream, self.over.read(code))),
                // The connection is lost, which is told once for all of them.
                Err(_) => {}
            }
        }
    }
}

/// Polls one after the other, beginning behind the one that was ready last; with the oldest after a pause, so that of what has
/// piled up the oldest comes first.
fn in_turn<V, T>(
    streams: &mut BTreeMap<Stream, V>,
    last: &mut Stream,
    mut poll: impl FnMut(&mut V) -> Poll<T>,
) -> Poll<(Stream, T)> {
    for range in [(Excluded(*last), Unbounded), (Unbounded, Included(*last))] {
        for (stream, value) in streams.range_mut(range) {
            if let Poll::Ready(ready) = poll(value) {
                *last = *stream;
                return Poll::Ready((*stream, ready));
            }
        }
    }
    *last = Stream::Ours(0);
    Poll::Pending
}

fn accept(kind: Kind, connection: Connection) -> BoxFuture<'static, Accepted> {
    Box::pin(async move {
        Ok(match kind {
            Kind::Bidi => connection.accept_bi().await.map(|(send, recv)| (Some(send), recv))?,
            Kind::Uni => (None, connection.accept_uni().await?),
        })
    })
}
