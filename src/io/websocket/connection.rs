//! One WebSocket connection. Its task reads frames, passes messages to a [`MessageHandler`], and writes the frames of the send queue.
//!
//! A single poll function performs the whole task. Between two polls, the task keeps incomplete frames and messages but no read buffer.
//! Therefore, an idle connection takes little memory.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::io::clock;
use crate::io::websocket::frame::{self, FrameDecoder, FrameError, FrameEvent, Sender};
use crate::io::websocket::send_queue::{NextWrite, PendingClose, QueueFull, SendQueue};
use crate::rate_limit::Gcra;
use crate::signaling::{CloseCode, ConnId};
use crate::time::Time;

/// Size of the read buffer, which is on the stack. A poll reads at most this number of bytes, so that other tasks get their turn.
const READ_BUFFER_BYTES: usize = 16 << 10;

/// Maximum number of bytes of queued frames that a poll writes, so that other tasks get their turn.
const MAX_WRITE_BYTES_PER_POLL: usize = 64 << 10;

/// Maximum number of frames per vectored write.
const MAX_FRAMES_PER_WRITE: usize = 64;

/// Maximum time for sending the reply to a close frame.
const CLOSE_REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// Handles the messages and control frames that a connection reads. Calls have no effect after the connection was closed or lost.
pub(in crate::io) trait MessageHandler {
    /// A whole text message. Returns how long the connection must not be read, if its messages have taken too much processor time.
    fn on_text(&self, conn: ConnId, text: &str) -> Option<Duration>;
    /// A whole binary message.
    fn on_binary(&self, conn: ConnId);
    /// A ping, a pong or a fragment.
    fn on_activity(&self, conn: ConnId);
    /// The peer's close frame.
    fn on_close(&self, conn: ConnId, code: CloseCode, reason: &str);
    /// A frame violates the protocol or a limit. The connection reads nothing more.
    fn on_frame_error(&self, served: &ServedConnection, error: FrameError);
    /// The peer sends more control frames and fragments per second than allowed. The connection reads nothing more.
    fn on_frame_rate_exceeded(&self, served: &ServedConnection);
    /// The buffered bytes of all connections together exceed the shared budget.
    fn enforce_budget(&self);
    /// The memory budget refuses the incomplete message of the connection. Another connection, or this one, is closed. Returns
    /// false if this connection was closed or lost before.
    fn on_memory_refused(&self, conn: ConnId) -> bool;
    /// The connection has ended. This is the last call for a connection, and it is made once.
    fn on_disconnect(&self, conn: ConnId);
}

/// Parameters and shared state that the server passes to the task of a connection.
pub(in crate::io) struct ServedConnection {
    pub(in crate::io) conn: ConnId,
    pub(in crate::io) queue: Arc<SendQueue>,
    /// Maximum size of a received message, in bytes.
    pub(in crate::io) max_message_bytes: usize,
    /// The server's shutdown waits until all clones are dropped.
    pub(in crate::io) _shutdown_guard: Option<mpsc::Sender<Infallible>>,
}

/// Serves a connection until it ends. `control_limit` limits control frames and fragments per second; the handler limits whole messages. If
/// a client exceeds one of these limits, its connection is closed with 1008.
pub(in crate::io) async fn serve<H: MessageHandler>(
    io: TokioIo<Upgraded>,
    served: &ServedConnection,
    handler: &H,
    control_limit: Option<Gcra>,
) {
    let mut connection = WebSocketConnection {
        io,
        served,
        handler,
        decoder: FrameDecoder::default(),
        read_state: ReadState::Open,
        pending_pong: None,
        control_frame: Bytes::new(),
        close_sent: false,
        close_timer: None,
        read_pause: None,
        control_limit,
        control_arrival: Time::ZERO,
    };
    // Even if a handler panics, the guard reports the end of the connection. The member then leaves its room.
    let _guard = DisconnectGuard { handler, conn: served.conn };
    // A lost connection is a normal end.
    let _: io::Result<()> = poll_fn(|cx| connection.poll(cx)).await;
}

/// When this guard is dropped, it reports the end of the connection.
struct DisconnectGuard<'a, H: MessageHandler> {
    handler: &'a H,
    conn: ConnId,
}

impl<H: MessageHandler> Drop for DisconnectGuard<'_, H> {
    fn drop(&mut self) {
        self.handler.on_disconnect(self.conn);
    }
}

/// How received bytes are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    /// Messages and control frames are handled.
    Open,
    /// The connection is closing: everything before the peer's close frame is ignored.
    Closing,
    /// Bytes are discarded until the stream ends: it is invalid, or too long a message precedes the peer's close frame.
    Discarding,
    /// The peer has sent its close frame.
    CloseReceived,
}

struct WebSocketConnection<'a, H> {
    io: TokioIo<Upgraded>,
    served: &'a ServedConnection,
    handler: &'a H,
    decoder: FrameDecoder,
    read_state: ReadState,
    /// The reply to the latest ping. Earlier pings need no reply (RFC 6455, section 5.5.3), so replies cannot accumulate.
    pending_pong: Option<Bytes>,
    /// The unsent rest of a pong or close frame.
    control_frame: Bytes,
    /// Whether the close frame is being written or has been written.
    close_sent: bool,
    close_timer: Option<Pin<Box<Sleep>>>,
    /// While it runs, nothing is read.
    read_pause: Option<Pin<Box<Sleep>>>,
    control_limit: Option<Gcra>,
    /// State of `control_limit` (GCRA): the theoretical arrival time of the next control frame or fragment.
    control_arrival: Time,
}

impl<H: MessageHandler> WebSocketConnection<'_, H> {
    /// Reads and writes what is possible, within the limits per poll. Returns `Ready` when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = self.read(cx) {
            return Poll::Ready(result);
        }
        match self.write(cx) {
            Poll::Ready(Ok(())) if self.close_sent && self.read_state == ReadState::CloseReceived => {
                // The closing handshake is complete.
                let _ = Pin::new(&mut self.io).poll_shutdown(cx);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                if let Some(timeout) = self.served.queue.poll_pending_close(cx.waker()) {
                    self.start_close_timer(timeout);
                }
            }
        }
        match &mut self.close_timer {
            Some(timer) => timer.as_mut().poll(cx).map(Ok),
            None => Poll::Pending,
        }
    }

    /// Reads what is available, at most [`READ_BUFFER_BYTES`]. Returns `Poll::Ready` at the end of the stream.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.read_pause {
            ready!(pause.as_mut().poll(cx));
            self.read_pause = None;
        }
        let mut storage = [MaybeUninit::uninit(); READ_BUFFER_BYTES];
        let mut left = READ_BUFFER_BYTES;
        while left > 0 && self.read_pause.is_none() {
            let mut buffer = ReadBuf::uninit(&mut storage[..left]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            left -= buffer.filled().len();
            if matches!(self.read_state, ReadState::Open | ReadState::Closing) {
                self.decode(buffer.filled_mut());
            }
        }
        // Yields to other tasks.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn decode(&mut self, bytes: &mut [u8]) {
        let Self { served, handler, decoder, read_state, pending_pong, control_limit, control_arrival, .. } = self;
        let mut pause = None;
        let result = decoder.decode(bytes, Sender::Client, served.max_message_bytes, |event| {
            if *read_state == ReadState::Closing && !matches!(event, FrameEvent::Close(..)) {
                return true;
            }
            match event {
                FrameEvent::Text(text) => pause = pause.max(handler.on_text(served.conn, text)),
                FrameEvent::Binary => handler.on_binary(served.conn),
                FrameEvent::Ping(payload) => {
                    *pending_pong = Some(frame::pong_frame(payload, None));
                    handler.on_activity(served.conn);
                }
                FrameEvent::Fragment | FrameEvent::Pong => handler.on_activity(served.conn),
                FrameEvent::Close(code, reason) => {
                    *read_state = ReadState::CloseReceived;
                    handler.on_close(served.conn, code.unwrap_or(CloseCode::NO_STATUS_RECEIVED), reason);
                    served.queue.close_after_started_frame(PendingClose {
                        code,
                        reason: String::new(),
                        timeout: CLOSE_REPLY_TIMEOUT,
                    });
                    return false;
                }
            }
            if let (FrameEvent::Ping(_) | FrameEvent::Pong | FrameEvent::Fragment, Some(limit)) =
                (event, *control_limit)
            {
                if let Some(arrival) = limit.try_advance(*control_arrival, clock::monotonic_now(), 1) {
                    *control_arrival = arrival;
                } else {
                    *read_state = ReadState::Discarding;
                    handler.on_frame_rate_exceeded(served);
                }
            }
            *read_state == ReadState::Open
        });
        self.read_pause = pause.map(|pause| Box::pin(tokio::time::sleep(pause)));
        if let Err(error) = result {
            self.read_state = ReadState::Discarding;
            self.handler.on_frame_error(self.served, error);
        }
        if self.read_state == ReadState::Open {
            let buffered = self.decoder.buffered_bytes();
            // Each step frees memory. The loop ends at the latest when this connection is closed.
            loop {
                match self.served.queue.charge_partial_message(buffered) {
                    Ok(()) => break,
                    Err(QueueFull::Budget) => self.handler.enforce_budget(),
                    Err(QueueFull::Memory) if self.handler.on_memory_refused(self.served.conn) => {}
                    Err(QueueFull::Memory | QueueFull::Connection) => {
                        self.read_state = ReadState::Closing;
                        break;
                    }
                }
            }
        }
        self.release_if_discarding();
    }

    /// Frees the decoder when the rest of the stream is discarded. A closing connection is no longer charged for incomplete messages, so it
    /// may hold only a short one.
    fn release_if_discarding(&mut self) {
        if self.read_state == ReadState::Closing && self.decoder.buffered_bytes() > READ_BUFFER_BYTES {
            self.read_state = ReadState::Discarding;
        }
        if matches!(self.read_state, ReadState::Discarding | ReadState::CloseReceived) {
            self.decoder = FrameDecoder::default();
            let _ = self.served.queue.charge_partial_message(0);
        }
    }

    /// Writes queued bytes. Ready unless the socket accepts no more data.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut left = MAX_WRITE_BYTES_PER_POLL;
        loop {
            if !self.control_frame.is_empty() {
                let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.control_frame))?;
                self.control_frame = self.control_frame.slice(nonzero(written)?..);
                continue;
            }
            if self.close_sent {
                break;
            }
            if left == 0 {
                // Yields to other tasks.
                cx.waker().wake_by_ref();
                break;
            }
            // A pong cannot be sent inside another frame. It is sent after the first frame.
            let max_frames = if self.pending_pong.is_some() { 1 } else { MAX_FRAMES_PER_WRITE };
            match self.served.queue.next_write(max_frames, left, cx.waker()) {
                NextWrite::Frames { written: 0, .. } | NextWrite::Empty if self.pending_pong.is_some() => {
                    self.control_frame = self.pending_pong.take().unwrap_or_default();
                }
                NextWrite::Frames { frames, written } => {
                    let io = Pin::new(&mut self.io);
                    let written = if let [frame] = &*frames {
                        // A single frame is the usual case, and a plain write is cheaper than a vectored write.
                        ready!(io.poll_write(cx, &frame[written..]))?
                    } else {
                        let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
                        slices[0].advance(written);
                        ready!(io.poll_write_vectored(cx, &slices))?
                    };
                    left -= written;
                    self.served.queue.advance(nonzero(written)?);
                }
                NextWrite::Empty => break,
                // Abort without a close frame.
                NextWrite::Close(PendingClose { timeout: Duration::ZERO, .. }) => {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                NextWrite::Close(PendingClose { code, reason, timeout }) => {
                    // Received bytes are still decoded to find the reply to the close frame.
                    if self.read_state == ReadState::Open {
                        self.read_state = ReadState::Closing;
                    }
                    self.release_if_discarding();
                    self.start_close_timer(timeout);
                    self.close_sent = true;
                    self.control_frame = frame::close_frame(code, &reason, None);
                }
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Ends the connection after `timeout`, unless the timer is already running.
    fn start_close_timer(&mut self, timeout: Duration) {
        self.close_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
    }
}

/// A write of zero bytes means that the connection is lost.
fn nonzero(written: usize) -> io::Result<usize> {
    if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}
