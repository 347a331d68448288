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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::io::clock;
use crate::memory_budget::{MemoryAccount, MemoryPermit, OverBudget};
use crate::rate_limit::Gcra;
use crate::signaling::CloseCode;
use crate::signaling::WebSocketError;
use crate::time::Time;

/// Maximum number of bytes that are read from the socket per poll, so that other tasks get their turn. The buffer is on the stack.
const READ_BYTES_PER_POLL: usize = 16 << 10;

/// Number of bytes that are still read after the connection was closed, to find the reply to the close frame. Then nothing is read until the
/// time for the closing handshake is over: a client could otherwise occupy a core with short messages.
const MAX_BYTES_AFTER_CLOSE: usize = 1 << 20;

/// Maximum payload of a control frame, in bytes (RFC 6455, section 5.5).
const MAX_CONTROL_PAYLOAD_BYTES: u64 = 125;

/// See the module documentation.
pub(super) struct CheckedStream<S> {
    pub(super) io: S,
    /// Received bytes that are not handed over.
    input: BytesMut,
    left_in_poll: usize,
    /// Number of bytes that are still read; `None` while the connection is open.
    left_after_close: Option<usize>,
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
    /// The code of the close frame.
    pub(super) close_code: Option<CloseCode>,
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
            left_after_close: None,
            frame_left: 0,
            message_bytes: None,
            longest_frame: 0,
            has_fragment: false,
            max_message_bytes: max_message_bytes as u64,
            memory: account.hold(0),
            control_limit,
            control_arrival: Time::ZERO,
            close_code: None,
            reply: None,
        }
    }

    /// Begins a poll of the connection's task.
    pub(super) fn begin_poll(&mut self, is_open: bool) {
        self.left_in_poll = READ_BYTES_PER_POLL;
        if !is_open {
            self.left_after_close.get_or_insert(MAX_BYTES_AFTER_CLOSE);
        }
    }

    /// Whether a fragment has been handed over since the last call.
    pub(super) fn take_fragment(&mut self) -> bool {
        std::mem::take(&mut self.has_fragment)
    }

    /// A message or control frame has been handled. Between two messages, returns the length of the longest frame since the last message.
    pub(super) fn end_message(&mut self) -> u64 {
        if self.message_bytes.is_some() {
            return 0;
        }
        // Less memory is never refused.
        let _ = self.memory.resize(0);
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
        let left_after_close = self.left_after_close.unwrap_or(usize::MAX);
        if left_after_close == 0 {
            return Poll::Pending;
        }
        if self.left_in_poll == 0 {
            // Yields to other tasks.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut storage = [MaybeUninit::uninit(); READ_BYTES_PER_POLL];
        let mut buffer = ReadBuf::uninit(&mut storage[..self.left_in_poll.min(left_after_close)]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        self.left_in_poll -= buffer.filled().len();
        self.left_after_close = self.left_after_close.map(|left| left - buffer.filled().len());
        self.input.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Checks the header of the next frame, and the code of a close frame. Returns the length of the frame; `None` if they are incomplete.
    fn check_header(&mut self) -> Result<Option<u64>, WebSocketError> {
        let mut cursor = Cursor::new(&*self.input);
        let header = FrameHeader::parse(&mut cursor).map_err(|_| WebSocketError::Protocol)?;
        let Some((header, len)) = header else { return Ok(None) };
        // A length must be encoded in the shortest field that fits, and its highest bit must be 0 (section 5.2). No extension is negotiated,
        // so the reserved bits must be 0.
        let is_valid_len = cursor.position() == header.len(len) as u64 && i64::try_from(len).is_ok();
        let is_allowed = match header.opcode {
            OpCode::Data(Data::Continue) => self.message_bytes.is_some(),
            OpCode::Data(_) => self.message_bytes.is_none(),
            OpCode::Control(_) => header.is_final && len <= MAX_CONTROL_PAYLOAD_BYTES,
        };
        if !is_valid_len || !is_allowed || header.mask.is_none() || header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(WebSocketError::Protocol);
        }
        if let (OpCode::Control(Control::Close), Some([first, second, ..]), 2..) = (header.opcode, header.mask, len) {
            // The library would replace a frame with an invalid code, or with one that it does not know, by a valid one.
            let payload = &self.input[cursor.position() as usize..];
            let Some(code) = payload.first_chunk() else { return Ok(None) };
            let code = CloseCode(u16::from_be_bytes(*code) ^ u16::from_be_bytes([first, second]));
            if !code.is_allowed_in_frame() {
                return Err(WebSocketError::Protocol);
            }
            self.close_code = Some(code);
        }
        if let OpCode::Data(_) = header.opcode {
            let total = self.message_bytes.unwrap_or(0).saturating_add(len);
            if total > self.max_message_bytes {
                return Err(WebSocketError::MessageTooBig);
            }
            // Of a message in fragments, the library holds the text so far and a read buffer that has grown with the frames.
            let copies = if header.is_final && self.message_bytes.is_none() { 1 } else { 2 };
            self.memory.resize(copies * total).map_err(|OverBudget| WebSocketError::Memory)?;
            self.message_bytes = (!header.is_final).then_some(total);
            self.has_fragment |= !header.is_final;
        }
        let is_limited = !header.is_final || matches!(header.opcode, OpCode::Control(Control::Ping | Control::Pong));
        if let Some(limit) = self.control_limit.filter(|_| is_limited) {
            let arrival = limit.try_advance(self.control_arrival, clock::monotonic_now(), 1);
            self.control_arrival = arrival.ok_or(WebSocketError::RateLimit)?;
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::ready;
    use std::task::Waker;

    use futures_util::{FutureExt, StreamExt};
    use proptest::prelude::*;
    use test_support::server::frame;
    use tokio::io::{join, sink};
    use tokio_tungstenite::WebSocketStream;
    use tungstenite::Message;
    use tungstenite::protocol::{Role, WebSocketConfig};

    use super::*;
    use crate::io::websocket::connect::error_of_library;
    use crate::memory_budget::MemoryBudget;

    const MAX_MESSAGE_BYTES: usize = 300;

    /// What a client sends, in the pieces in which it arrives; then the end of the stream.
    struct Pieces(VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let Some(mut piece) = self.0.pop_front() else { return Poll::Ready(Ok(())) };
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    fn checked(pieces: impl IntoIterator<Item = Vec<u8>>, limit: Option<Gcra>) -> CheckedStream<Pieces> {
        let account = MemoryBudget::new(None).account(None);
        let mut stream = CheckedStream::new(Pieces(pieces.into_iter().collect()), MAX_MESSAGE_BYTES, &account, limit);
        stream.begin_poll(true);
        stream
    }

    fn config() -> WebSocketConfig {
        WebSocketConfig::default().read_buffer_size(64).write_buffer_size(0).max_frame_size(None).max_message_size(None)
    }

    /// The messages of a stream, and the error that ended it.
    fn receive(stream: CheckedStream<Pieces>) -> (Vec<Message>, Option<WebSocketError>) {
        let read = async {
            let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await;
            let mut messages = Vec::new();
            while let Some(received) = socket.next().await {
                match received {
                    Ok(message) => messages.push(message),
                    Err(error) => return (messages, error_of_library(&error)),
                }
                socket.get_mut().begin_poll(true);
            }
            (messages, None)
        };
        read.now_or_never().expect("all bytes are available")
    }

    #[test]
    fn invalid_headers_are_rejected_before_their_payload() {
        let header = |bytes: &[u8]| [bytes, &[0; 4]].concat();
        let first_fragment = frame(0x01, b"a");
        let after_fragment = |next: &[u8]| [&first_fragment[..], next].concat();
        for (name, bytes, expected) in [
            ("reserved bit", frame(0xc1, b"a"), WebSocketError::Protocol),
            ("reserved opcode", frame(0x83, b"a"), WebSocketError::Protocol),
            ("no mask", vec![0x81, 1, b'a'], WebSocketError::Protocol),
            ("16-bit length below 126", header(&[0x81, 0xfe, 0, 125]), WebSocketError::Protocol),
            ("64-bit length below 65,536", header(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 1, 0]), WebSocketError::Protocol),
            ("highest bit of the length", header(&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), WebSocketError::Protocol),
            ("long ping", header(&[0x89, 0xfe, 0, 126]), WebSocketError::Protocol),
            ("fragmented ping", frame(0x09, b"a"), WebSocketError::Protocol),
            ("continuation of nothing", frame(0x80, b"a"), WebSocketError::Protocol),
            ("message inside a message", after_fragment(&frame(0x81, b"a")), WebSocketError::Protocol),
            ("declared length", header(&[0x81, 0xfe, 1, 45]), WebSocketError::MessageTooBig),
            ("sum of fragments", after_fragment(&header(&[0x80, 0xfe, 1, 44])), WebSocketError::MessageTooBig),
            ("text", frame(0x81, b"\xff"), WebSocketError::InvalidUtf8),
        ] {
            assert_eq!(receive(checked([bytes], None)).1, Some(expected), "{name}");
        }
        let (messages, error) = receive(checked([after_fragment(&frame(0x80, &[b'a'; 299]))], None));
        assert_eq!((messages, error), (vec![Message::text("a".repeat(300))], None));
    }

    #[test]
    fn close_frames_with_invalid_codes_are_rejected_whatever_their_reason() {
        let close = |code: u16, reason: &[u8]| frame(0x88, &[&code.to_be_bytes(), reason].concat());
        // RFC 6455, section 7.4.
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            assert_eq!(receive(checked([close(code, b"")], None)), (vec![], Some(WebSocketError::Protocol)), "{code}");
        }
        for (code, reason) in
            [(1000, ""), (1002, "Protocol violation"), (1014, "Protocol violation"), (3000, "x"), (4999, "x")]
        {
            let mut bytes = close(code, reason.as_bytes());
            // Masked with another key than zero, and in pieces of one byte.
            bytes[2..6].copy_from_slice(&[1, 2, 3, 4]);
            bytes[6..].iter_mut().enumerate().for_each(|(index, byte)| *byte ^= [1, 2, 3, 4][index % 4]);
            let (messages, error) = receive(checked(bytes.into_iter().map(|byte| vec![byte]), None));
            let [Message::Close(Some(received))] = &messages[..] else { panic!("{code}: {messages:?} {error:?}") };
            // The library does not know code 1014 of the IANA registry.
            let known = if code == 1014 { 1002 } else { code };
            assert_eq!((u16::from(received.code), received.reason.as_str()), (known, reason));
        }
    }

    #[test]
    fn control_frames_and_fragments_share_one_limit() {
        let frames = [frame(0x01, b""), frame(0x89, b""), frame(0x00, b""), frame(0x8a, b""), frame(0x80, b"")];
        let error_with = |burst| receive(checked([frames.concat()], Some(Gcra::with_burst_seconds(burst, 1)))).1;
        assert_eq!([error_with(4), error_with(3)], [None, Some(WebSocketError::RateLimit)]);
    }

    #[test]
    fn announced_message_holds_memory_until_it_has_been_handled() {
        let budget = MemoryBudget::new(Some(450));
        let account = budget.account(None);
        let bytes = [frame(0x01, &[b'a'; 100]), frame(0x80, &[b'a'; 101])].concat();
        let mut stream = CheckedStream::new(Pieces([bytes].into()), 300, &account, None);
        let read = |stream: &mut CheckedStream<Pieces>| {
            stream.begin_poll(true);
            let mut buffer = [0; 1_000];
            let mut buffer = ReadBuf::new(&mut buffer);
            let Poll::Ready(result) = Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer)
            else {
                panic!("data is available");
            };
            result.map(|()| buffer.filled().len())
        };
        // One frame per read, although more has arrived and fits.
        assert_eq!((read(&mut stream).ok(), budget.held()), (Some(106), 200));
        assert_eq!((read(&mut stream).ok(), budget.held()), (Some(107), 402));
        assert_eq!((stream.end_message(), budget.held(), stream.end_message()), (101, 0, 0));
        let other = account.take(400).expect("within the limit");
        stream.io.0.push_back(frame(0x81, &[b'a'; 51]));
        let refused = read(&mut stream).err().map(tungstenite::Error::Io);
        assert_eq!(refused.as_ref().and_then(error_of_library), Some(WebSocketError::Memory));
        drop((other, stream));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn at_most_a_mebibyte_is_read_after_the_close() {
        let mut stream = checked([vec![b'x'; 3 << 20]], None);
        for _ in 0..1_000 {
            stream.begin_poll(false);
            assert!(stream.poll_discard(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(stream.io.0[0].len(), 2 << 20);
    }

    fn frames() -> impl Strategy<Value = Vec<u8>> {
        // Most frames are valid, so that long sequences are decoded.
        let first = prop_oneof![
            6 => Just(0x81), 3 => Just(0x01), 3 => Just(0x80), 2 => Just(0x00), 2 => Just(0x82), 1 => Just(0x02),
            2 => Just(0x89), 2 => Just(0x8a), 1 => Just(0x88), 1 => any::<u8>(),
        ];
        let payload = prop_oneof![
            6 => "[a-zäß🔊]{0,12}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..8),
            1 => proptest::collection::vec(Just(b'x'), 120..200),
        ];
        let frame = (first, payload).prop_map(|(first, payload)| frame(first, &payload));
        proptest::collection::vec(frame, 1..8).prop_map(|frames| frames.concat())
    }

    proptest! {
        /// Whatever the pieces, the library gets the same frames as without the checks, until the first error.
        #[test]
        fn pieces_and_checks_do_not_change_what_is_received(
            bytes in frames(),
            pieces in proptest::collection::vec(1_usize..40, 1..5),
        ) {
            let (mut rest, mut lengths, mut split) = (&bytes[..], pieces.iter().cycle(), Vec::new());
            while let Some(length) = lengths.next().filter(|_| !rest.is_empty()) {
                let (piece, after) = rest.split_at(rest.len().min(*length));
                split.push(piece.to_vec());
                rest = after;
            }
            let whole = receive(checked([bytes.clone()], None));
            prop_assert_eq!(&receive(checked(split, None)), &whole);
            let library = WebSocketStream::from_raw_socket(join(&bytes[..], sink()), Role::Server, Some(config()));
            // The stream ends after the first error.
            let messages = library.flatten_stream().filter_map(|received| ready(received.ok())).collect::<Vec<_>>();
            let messages: Vec<Message> = messages.now_or_never().expect("all bytes are available");
            prop_assert!(messages.starts_with(&whole.0), "{:?} {:?}", messages, whole);
            prop_assert!(whole.1.is_some() || messages.len() == whole.0.len(), "{:?} {:?}", messages, whole);
        }
    }
}
