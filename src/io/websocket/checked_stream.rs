//! The transport below the `WebSocketStream` of a server connection. It checks the header of each frame, hands over at most one frame per
//! read, and captures what the library writes.
//!
//! The checks hold the limits before a payload arrives; the library checks some of them late, and reports no fragments. Because the library
//! never has bytes of a second frame, its buffers, which never shrink, can be replaced after each message. Captured pongs are written
//! between two queued frames, never inside one.

use std::io::{self, Cursor};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::io::clock;
use crate::memory_budget::{MemoryAccount, MemoryPermit, OverBudget};
use crate::rate_limit::Gcra;
use crate::signaling::CloseCode;
use crate::time::Time;

/// Maximum number of bytes that are read from the socket per poll, so that other tasks get their turn. The buffer is on the stack.
const READ_BYTES_PER_POLL: usize = 16 << 10;

/// Maximum payload of a control frame, in bytes (RFC 6455, section 5.5).
const MAX_CONTROL_PAYLOAD_BYTES: u64 = 125;

/// Why the rest of a stream is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in crate::io) enum FrameError {
    #[error("invalid WebSocket frame")]
    Protocol,
    #[error("text is not UTF-8")]
    InvalidUtf8,
    #[error("message too long")]
    MessageTooBig,
    #[error("Rate limit exceeded")]
    RateLimit,
    #[error("the server has too little memory for the data of this client")]
    Memory,
}

impl FrameError {
    /// The close code for this error (section 7.4.1).
    pub(in crate::io) fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig => CloseCode::MESSAGE_TOO_BIG,
            Self::RateLimit => CloseCode::POLICY_VIOLATION,
            Self::Memory => CloseCode::TRY_AGAIN_LATER,
        }
    }

    /// `None` if the connection was lost.
    pub(super) fn from_library(error: tungstenite::Error) -> Option<Self> {
        match error {
            tungstenite::Error::Io(error) => error.downcast().ok(),
            tungstenite::Error::Utf8(_) => Some(Self::InvalidUtf8),
            tungstenite::Error::Capacity(_) => Some(Self::MessageTooBig),
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            tungstenite::Error::Protocol(_) => Some(Self::Protocol),
            _ => None,
        }
    }
}

/// See the module documentation.
pub(super) struct CheckedStream<S> {
    pub(super) io: S,
    /// Received bytes that are not handed over.
    input: BytesMut,
    left_in_poll: usize,
    /// Bytes of the current frame that are not handed over.
    frame_left: u64,
    /// Length so far of a fragmented message.
    message_bytes: Option<u64>,
    /// The longest frame so far.
    longest_frame: u64,
    /// Whether a fragment that does not complete its message has been handed over.
    has_fragment: bool,
    max_message_bytes: u64,
    /// The memory of the incomplete message.
    memory: MemoryPermit,
    /// Limits control frames and fragments per second.
    control_limit: Option<Gcra>,
    /// State of `control_limit`: the theoretical arrival time of the next frame.
    control_arrival: Time,
    /// The last frame that the library has written. Only the latest ping needs a reply (section 5.5.3), so replies cannot accumulate.
    pub(super) reply: Option<Bytes>,
}

impl<S: AsyncRead + Unpin> CheckedStream<S> {
    pub(super) fn new(
        io: S,
        max_message_bytes: usize,
        account: &Arc<MemoryAccount>,
        control_limit: Option<Gcra>,
    ) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            left_in_poll: 0,
            frame_left: 0,
            message_bytes: None,
            longest_frame: 0,
            has_fragment: false,
            max_message_bytes: max_message_bytes as u64,
            memory: account.hold(0),
            control_limit,
            control_arrival: Time::ZERO,
            reply: None,
        }
    }

    /// Begins a poll of the connection's task.
    pub(super) fn begin_poll(&mut self) {
        self.left_in_poll = READ_BYTES_PER_POLL;
    }

    /// Whether a fragment has been handed over since the last call.
    pub(super) fn take_fragment(&mut self) -> bool {
        std::mem::take(&mut self.has_fragment)
    }

    /// A message has been handled. Returns the length of the longest frame since the last call.
    pub(super) fn end_message(&mut self) -> u64 {
        // Less memory is never refused.
        let _ = self.memory.resize(self.message_bytes.unwrap_or(0));
        std::mem::take(&mut self.longest_frame)
    }

    /// Reads and discards. Ready at the end of the stream.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.input = BytesMut::new();
            if ready!(self.fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads from the socket. Returns the number of bytes.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.left_in_poll == 0 {
            // Yields to other tasks.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut storage = [MaybeUninit::uninit(); READ_BYTES_PER_POLL];
        let mut buffer = ReadBuf::uninit(&mut storage[..self.left_in_poll]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        self.left_in_poll -= buffer.filled().len();
        self.input.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Checks the header of the next frame. Returns the length of the frame; `None` if the header is incomplete.
    fn check_header(&mut self) -> Result<Option<u64>, FrameError> {
        let mut cursor = Cursor::new(&*self.input);
        let header = FrameHeader::parse(&mut cursor).map_err(|_| FrameError::Protocol)?;
        let Some((header, len)) = header else { return Ok(None) };
        // A length must be encoded in the shortest field that fits. No extension is negotiated, so the reserved bits must be 0.
        let is_shortest = cursor.position() == header.len(len) as u64;
        let is_allowed = match header.opcode {
            OpCode::Data(Data::Continue) => self.message_bytes.is_some(),
            OpCode::Data(_) => self.message_bytes.is_none(),
            OpCode::Control(_) => header.is_final && len <= MAX_CONTROL_PAYLOAD_BYTES,
        };
        if !is_shortest || !is_allowed || header.mask.is_none() || header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(FrameError::Protocol);
        }
        if let OpCode::Data(_) = header.opcode {
            let total = self.message_bytes.unwrap_or(0).saturating_add(len);
            if total > self.max_message_bytes {
                return Err(FrameError::MessageTooBig);
            }
            self.memory.resize(total).map_err(|OverBudget| FrameError::Memory)?;
            self.message_bytes = (!header.is_final).then_some(total);
            self.has_fragment |= !header.is_final;
        }
        let is_limited = !header.is_final || matches!(header.opcode, OpCode::Control(Control::Ping | Control::Pong));
        if let Some(limit) = self.control_limit.filter(|_| is_limited) {
            let arrival = limit.try_advance(self.control_arrival, clock::monotonic_now(), 1);
            self.control_arrival = arrival.ok_or(FrameError::RateLimit)?;
        }
        self.longest_frame = self.longest_frame.max(len);
        Ok(Some(cursor.position() + len))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CheckedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.frame_left == 0
                && let Some(len) = this.check_header().map_err(io::Error::other)?
            {
                this.frame_left = len;
            }
            if this.frame_left > 0 && !this.input.is_empty() {
                let available = this.input.len().min(buffer.remaining());
                let len = usize::try_from(this.frame_left).map_or(available, |left| left.min(available));
                buffer.put_slice(&this.input.split_to(len));
                this.frame_left -= len as u64;
                if this.input.is_empty() {
                    // An idle connection keeps no buffer.
                    this.input = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if ready!(this.fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Captures one frame per write, because the library has no write buffer.
impl<S: Unpin> AsyncWrite for CheckedStream<S> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, frame: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().reply = Some(Bytes::copy_from_slice(frame));
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
