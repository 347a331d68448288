//! One WebSocket connection. Its task reads messages, passes them to the hub, and writes the frames of the send queue.
//!
//! A single poll function performs the whole task. Between two polls, the task keeps incomplete frames and messages but no read buffer, so that
//! an idle connection takes little memory. Queued frames are written to the socket directly, because the library would copy each of them into
//! a buffer of its own.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Stream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;
use tokio::time::Sleep;
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::checked_stream::CheckedStream;
use super::connect::error_of_library;
use crate::io::clock;
use crate::memory_budget::MemoryAccount;
use crate::signaling::CloseCode;
use crate::signaling::send_queue::{NextWrite, PendingClose, SendQueue};
use crate::signaling::{self, ConnId, Hub, MAX_POSTPONEMENT, NewConnection, WebSocketError};

/// Maximum number of bytes of queued frames that a poll writes, so that other tasks get their turn.
const MAX_WRITE_BYTES_PER_POLL: usize = 64 << 10;

/// Maximum number of frames per vectored write.
const MAX_FRAMES_PER_WRITE: usize = 64;

/// Size of the library's read buffer, which it keeps and clears for each read. A larger buffer would cost memory per idle connection.
const LIBRARY_BUFFER_BYTES: usize = 256;

/// After a longer frame, the library's buffers are replaced, because they never shrink.
const MAX_KEPT_BYTES: u64 = 4 << 10;

/// Maximum time for sending the reply to a close frame.
const CLOSE_REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// A client that has not taken its oldest message for this time is closed.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a connection until it ends. Its client then leaves its room.
pub(in crate::io) async fn serve(
    io: TokioIo<Upgraded>,
    hub: &Hub,
    connection: NewConnection,
    memory: &Arc<MemoryAccount>,
) {
    let conn = hub.new_conn();
    let queue = hub.on_connect(clock::now(), conn, connection, memory);
    // The hub does not count pings and fragments, so their rate is limited here, to that of messages. They pile up behind a postponed message.
    let control_limit = hub.limits().message_limit().map(|limit| limit.with_larger_burst(MAX_POSTPONEMENT));
    let checked = CheckedStream::new(io, hub.max_message_bytes(conn), memory, control_limit);
    let mut connection = Connection {
        stream: new_stream(checked),
        hub,
        conn,
        queue,
        read_state: ReadState::Open,
        control_frame: Bytes::new(),
        close_sent: false,
        close_timer: None,
        stall_timer: None,
        waiting: None,
    };
    // A lost connection is a normal end.
    let _: io::Result<()> = poll_fn(|cx| connection.poll(cx)).await;
}

type MessageStream = WebSocketStream<CheckedStream<TokioIo<Upgraded>>>;

/// The library's stream, without a write buffer and without limits on lengths, which `stream` has checked.
fn new_stream(stream: CheckedStream<TokioIo<Upgraded>>) -> Option<MessageStream> {
    let config = WebSocketConfig::default()
        .read_buffer_size(LIBRARY_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_frame_size(None)
        .max_message_size(None);
    // Ready at once, because there is no handshake. Awaited, it would make the task of each connection half as large again.
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).now_or_never()
}

/// How received bytes are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    /// Messages and control frames are handled.
    Open,
    /// The connection is closing: everything before the peer's close frame is ignored.
    Closing,
    /// Bytes are discarded until the stream ends, because it is invalid.
    Discarding,
    /// The peer has sent its close frame. Bytes are discarded.
    CloseReceived,
}

struct Connection<'a> {
    /// `None` only while the stream is replaced.
    stream: Option<MessageStream>,
    hub: &'a Hub,
    conn: ConnId,
    /// The frames to write.
    queue: Arc<SendQueue>,
    read_state: ReadState,
    /// The unsent rest of a pong or close frame.
    control_frame: Bytes,
    /// Whether the close frame is being written or has been written.
    close_sent: bool,
    close_timer: Option<Pin<Box<Sleep>>>,
    /// While the socket accepts no data: when the client counts as stalled.
    stall_timer: Option<Pin<Box<Sleep>>>,
    /// A message that is handled later, because its address has sent too costly ones. Until then, nothing is read.
    waiting: Option<(Pin<Box<Sleep>>, Message)>,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.hub.on_disconnect(clock::now(), self.conn);
    }
}

impl Connection<'_> {
    /// Reads and writes what is possible, within the limits per poll. Returns `Ready` when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = self.read(cx) {
            return Poll::Ready(result);
        }
        match self.write(cx) {
            Poll::Ready(Ok(())) if self.close_sent && self.read_state == ReadState::CloseReceived => {
                // The closing handshake is complete.
                let _ = Pin::new(self.io()).poll_shutdown(cx);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                if let Some(timeout) = self.queue.poll_pending_close(cx.waker()) {
                    self.start_close_timer(timeout);
                }
                let stall = self.stall_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_TIMEOUT)));
                if stall.as_mut().poll(cx).is_ready() {
                    self.hub.on_error(clock::now(), self.conn, WebSocketError::SlowReader);
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        match &mut self.close_timer {
            Some(timer) => timer.as_mut().poll(cx).map(Ok),
            None => Poll::Pending,
        }
    }

    /// Reads what is available, within the limit of [`CheckedStream`] per poll. Returns `Poll::Ready` at the end of the stream.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_open = self.read_state == ReadState::Open;
        self.checked().begin_poll(is_open);
        loop {
            if let Some((wait, _)) = &mut self.waiting {
                ready!(wait.as_mut().poll(cx));
                if let Some((_, message)) = self.waiting.take() {
                    self.hub.on_message(clock::now(), self.conn, for_hub(&message));
                    self.end_message();
                }
            }
            if matches!(self.read_state, ReadState::Discarding | ReadState::CloseReceived) {
                return self.checked().poll_discard(cx);
            }
            let Some(stream) = &mut self.stream else { return Poll::Pending };
            let received = Pin::new(stream).poll_next(cx);
            if self.checked().take_fragment() && self.read_state == ReadState::Open {
                self.hub.on_activity(clock::now(), self.conn);
            }
            match ready!(received) {
                Some(Ok(message)) => self.on_message(message),
                Some(Err(error)) => {
                    let Some(error) = error_of_library(&error) else { return Poll::Ready(Ok(())) };
                    self.read_state = ReadState::Discarding;
                    self.hub.on_error(clock::now(), self.conn, error);
                }
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        // What arrives after the server has closed the connection has no effect.
        let (is_open, now) = (self.read_state == ReadState::Open && !self.queue.is_closing(), clock::now());
        match message {
            Message::Close(frame) => {
                self.read_state = ReadState::CloseReceived;
                let code = self.checked().close_code;
                // The library replaces a frame whose code it does not know.
                let frame = frame.filter(|frame| code == Some(CloseCode(frame.code.into())));
                let reason = frame.as_ref().map_or("", |frame| frame.reason.as_str());
                self.hub.on_close(now, self.conn, code.unwrap_or(CloseCode::NO_STATUS_RECEIVED), reason);
                let close = PendingClose { code, reason: String::new(), timeout: CLOSE_REPLY_TIMEOUT };
                self.queue.discard_and_close(close);
                return;
            }
            Message::Text(_) | Message::Binary(_) if is_open => {
                let wait = self.hub.charge(now, self.conn, for_hub(&message));
                if !wait.is_zero() {
                    self.waiting = Some((Box::pin(tokio::time::sleep(wait)), message));
                    return;
                }
                self.hub.on_message(now, self.conn, for_hub(&message));
            }
            Message::Ping(_) | Message::Pong(_) if is_open => self.hub.on_activity(now, self.conn),
            _ => {}
        }
        self.end_message();
    }

    /// A message has been handled.
    fn end_message(&mut self) {
        if self.checked().end_message() > MAX_KEPT_BYTES
            && let Some(stream) = self.stream.take()
        {
            self.stream = new_stream(stream.into_inner());
        }
    }

    /// Writes queued bytes. Ready unless the socket accepts no more data.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut left = MAX_WRITE_BYTES_PER_POLL;
        loop {
            if !self.control_frame.is_empty() {
                let frame = self.control_frame.clone();
                let written = ready!(Pin::new(self.io()).poll_write(cx, &frame))?;
                self.control_frame = frame.slice(nonzero(written)?..);
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
            let has_pong = self.read_state == ReadState::Open && self.checked().reply.is_some();
            let max_frames = if has_pong { 1 } else { MAX_FRAMES_PER_WRITE };
            match self.queue.next_write(max_frames, left, cx.waker()) {
                NextWrite::Frames { written: 0, .. } | NextWrite::Empty if has_pong => {
                    self.control_frame = self.checked().reply.take().unwrap_or_default();
                }
                NextWrite::Frames { frames, written } => {
                    let io = Pin::new(self.io());
                    let written = if let [frame] = &*frames {
                        // A single frame is the usual case, and a plain write is cheaper than a vectored write.
                        ready!(io.poll_write(cx, &frame[written..]))?
                    } else {
                        let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
                        slices[0].advance(written);
                        ready!(io.poll_write_vectored(cx, &slices))?
                    };
                    left -= written;
                    if self.queue.advance(nonzero(written)?) > 0 {
                        self.stall_timer = None;
                    }
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
                    // A postponed message no longer has an effect, and must not hold up the reply.
                    if self.waiting.take().is_some() {
                        self.end_message();
                        cx.waker().wake_by_ref();
                    }
                    self.start_close_timer(timeout);
                    self.close_sent = true;
                    self.control_frame = close_frame(code, reason).into();
                }
            }
        }
        ready!(Pin::new(self.io()).poll_flush(cx))?;
        self.stall_timer = None;
        Poll::Ready(Ok(()))
    }

    /// Ends the connection after `timeout`, unless the timer is already running.
    fn start_close_timer(&mut self, timeout: Duration) {
        self.close_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
    }

    fn checked(&mut self) -> &mut CheckedStream<TokioIo<Upgraded>> {
        self.stream.as_mut().expect("the stream is replaced within one call").get_mut()
    }

    fn io(&mut self) -> &mut TokioIo<Upgraded> {
        &mut self.checked().io
    }
}

/// A close frame; without a code its payload is empty.
fn close_frame(code: Option<CloseCode>, reason: String) -> Vec<u8> {
    let frame = Frame::close(code.map(|code| CloseFrame { code: code.get().into(), reason: reason.into() }));
    let mut bytes = Vec::with_capacity(frame.len());
    // Writing to a vector never fails.
    let _ = frame.format(&mut bytes);
    bytes
}

/// A message as the hub receives it.
fn for_hub(message: &Message) -> signaling::Message<'_> {
    match message {
        Message::Text(text) => signaling::Message::Text(text),
        other => signaling::Message::Binary(other.len()),
    }
}

/// A write of zero bytes means that the connection is lost.
fn nonzero(written: usize) -> io::Result<usize> {
    if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}
