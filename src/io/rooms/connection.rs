//! One WebSocket: a task that reads, and writes what waits in its queue, until either end has had enough.
//!
//! It is written as one poll: between two of them a connection keeps no buffer, so an idle one stays small.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::frame::{self, Decoder, Event};
use super::queue::{Ending, Full, Next};
use super::switchboard::{Line, Switchboard};
use crate::rooms::Conn;

/// Bytes that are read in one go, on the stack.
const READ: usize = 16 << 10;

/// How often that is done before others have their turn.
const READS: usize = 4;

/// What a close frame without a code says (RFC 6455, section 7.4.1).
const NO_CODE: u16 = 1_005;

/// How long the answer to a close frame may take to leave.
const PATIENCE: Duration = Duration::from_secs(1);

/// Serves `line` over `io` to its end. Beside whole messages, which the hub counts, it may send `rate` frames a second.
pub(super) async fn serve(io: TokioIo<Upgraded>, line: &Line, switchboard: &Switchboard, rate: Option<u32>) {
    let mut serving = Serving {
        io,
        line,
        switchboard,
        decoder: Decoder::default(),
        ears: Ears::Open,
        pong: None,
        own: Bytes::new(),
        said: false,
        overdue: None,
        pace: Pace { rate, busy_until: None },
    };
    // It has gone however this ends: a room's handler that panics must not leave anybody behind in the room.
    let _gone = Gone { switchboard, conn: line.conn };
    // A lost connection is an end like any other.
    let _: io::Result<()> = poll_fn(|cx| serving.poll(cx)).await;
}

/// Tells that a connection has gone, when it is dropped.
struct Gone<'a> {
    switchboard: &'a Switchboard,
    conn: Conn,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.switchboard.gone(self.conn);
    }
}

/// What becomes of that which is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ears {
    /// It takes effect.
    Open,
    /// It cannot be understood any more, and is read so that the other end can finish.
    Deaf,
    /// The other end has closed.
    Closed,
}

struct Serving<'a> {
    io: TokioIo<Upgraded>,
    line: &'a Line,
    switchboard: &'a Switchboard,
    decoder: Decoder,
    ears: Ears,
    /// The answer to the latest ping. Earlier ones need none (RFC 6455, section 5.5.3), so they pile up nowhere.
    pong: Option<Bytes>,
    /// What is left of a pong or close frame that is being written.
    own: Bytes,
    /// Whether the close frame is or was that.
    said: bool,
    overdue: Option<Pin<Box<Sleep>>>,
    pace: Pace,
}

impl Serving<'_> {
    /// Does what can be done now. Ready when the connection is at its end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(end) = self.read(cx) {
            return Poll::Ready(end);
        }
        match self.write(cx) {
            Poll::Ready(Ok(())) if self.said && self.ears == Ears::Closed => {
                // Both have said so.
                let _ = Pin::new(&mut self.io).poll_shutdown(cx);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                if let Some(patience) = self.line.queue.ending(cx.waker()) {
                    self.expect_the_end(patience);
                }
            }
        }
        match &mut self.overdue {
            Some(overdue) => overdue.as_mut().poll(cx).map(Ok),
            None => Poll::Pending,
        }
    }

    /// Reads what is there. Ready when there will be no more.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [MaybeUninit::uninit(); READ];
        for _ in 0..READS {
            let mut buffer = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if self.ears == Ears::Open {
                self.hear(buffer.filled_mut());
            }
        }
        // Others first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn hear(&mut self, bytes: &mut [u8]) {
        let Self { line, switchboard, decoder, ears, pong, pace, .. } = self;
        let heard = decoder.take(bytes, line.longest, |event| {
            match event {
                Event::Text(text) => switchboard.text(line.conn, text),
                Event::Binary => switchboard.binary(line.conn),
                Event::Ping(payload) => {
                    *pong = Some(frame::pong(payload));
                    switchboard.alive(line.conn);
                }
                Event::Part | Event::Pong => switchboard.alive(line.conn),
                Event::Close(code, reason) => {
                    *ears = Ears::Closed;
                    switchboard.closed(line.conn, code.unwrap_or(NO_CODE), reason);
                    line.queue.cut(Ending { code, reason: String::new(), patience: PATIENCE });
                    return false;
                }
            }
            if matches!(event, Event::Ping(_) | Event::Pong | Event::Part) && pace.is_exceeded() {
                *ears = Ears::Deaf;
                switchboard.too_many_frames(line);
            }
            *ears == Ears::Open
        });
        if let Err(breach) = heard {
            self.ears = Ears::Deaf;
            self.switchboard.breach(self.line, breach);
        }
        if self.ears == Ears::Open {
            let held = self.decoder.held();
            let mut room = self.line.queue.hold(held);
            if room == Err(Full::Budget) {
                self.switchboard.make_room();
                room = self.line.queue.hold(held);
            }
            if room == Err(Full::Own) {
                self.ears = Ears::Deaf;
            }
        }
        self.forget_if_deaf();
    }

    /// Nothing is kept of what will not be understood.
    fn forget_if_deaf(&mut self) {
        if self.ears != Ears::Open {
            self.decoder = Decoder::default();
            let _ = self.line.queue.hold(0);
        }
    }

    /// Writes what waits. Ready when nothing does.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.own.is_empty() {
                let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.own))?;
                self.own = self.own.slice(some(written)?..);
                continue;
            }
            if self.said {
                break;
            }
            match self.line.queue.next(cx.waker()) {
                // A pong may not stand within another frame.
                Next::Frames { written: 0, .. } | Next::Nothing if self.pong.is_some() => {
                    self.own = self.pong.take().unwrap_or_default();
                }
                Next::Frames { frames, written } => {
                    let io = Pin::new(&mut self.io);
                    let written = if let [frame] = &*frames {
                        // The usual case, and the cheaper call.
                        ready!(io.poll_write(cx, &frame[written..]))?
                    } else {
                        let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
                        slices[0].advance(written);
                        ready!(io.poll_write_vectored(cx, &slices))?
                    };
                    self.line.queue.written(some(written)?);
                }
                Next::Nothing => break,
                // Nobody is there to be told.
                Next::End(Ending { patience: Duration::ZERO, .. }) => {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Next::End(Ending { code, reason, patience }) => {
                    // The answer to a close is still understood, unless something long would have to come to its end first.
                    if self.ears == Ears::Open && self.decoder.held() > READ {
                        self.ears = Ears::Deaf;
                    }
                    self.forget_if_deaf();
                    self.expect_the_end(patience);
                    self.said = true;
                    self.own = frame::close(code, &reason);
                }
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// From now on the connection has so long to end.
    fn expect_the_end(&mut self, patience: Duration) {
        self.overdue.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
    }
}

/// Nothing written where something could be is a lost connection.
fn some(written: usize) -> io::Result<usize> {
    if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}

/// How many frames a second somebody sends that are no whole messages: pings, pongs, fragments. The rule is that of messages.
struct Pace {
    rate: Option<u32>,
    /// Until when what was sent takes, at the permitted rate.
    busy_until: Option<Instant>,
}

impl Pace {
    /// Counts one more. Whether that was too many.
    fn is_exceeded(&mut self) -> bool {
        let Some(rate) = self.rate else { return false };
        let now = Instant::now();
        let each = Duration::from_secs(1) / rate.max(1);
        let busy_until = self.busy_until.map_or(now, |until| until.max(now)) + each;
        self.busy_until = Some(busy_until);
        busy_until > now + Duration::from_secs(2)
    }
}
