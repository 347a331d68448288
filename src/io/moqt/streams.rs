//! Carries data between a [`MoqtEndpoint`] and the streams of a connection, for server and client. [`drive_session`] is the loop;
//! [`ConnectionStreams`] performs actions and returns one event at a time, fairly among streams.

use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, FuturesUnordered};
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt, WriteError};
use web_transport_proto::{Frame, StreamUni, error_from_http3, error_to_http3};

use super::webtransport::{H3_REQUEST_REJECTED, TransportConnection, WT_BUFFERED_STREAM_REJECTED};
use crate::io::clock::monotonic_now;
use crate::io::os::random_u64s;
use crate::moqt::codec::{MAX_VARINT, write_varint};
use crate::moqt::{
    EndpointRole, MoqtEndpoint, MoqtVersion, Session, SessionAction, SessionHandler, SessionLimits, StreamDir,
    StreamHandle, error_code,
};
use crate::time::Time;

/// Number of iterations after which the loop yields and checks the deadline, even while events keep arriving.
const ITERATIONS_PER_YIELD: usize = 64;

/// Maximum number of received bytes in one event.
const MAX_CHUNK_BYTES: usize = 64 << 10;

/// Capacity in bytes that a send buffer may keep even when it is empty. A larger capacity is reduced when it exceeds four times the number
/// of unsent bytes, so that the buffer occupies little memory again after one long frame.
const MIN_BUFFER_CAPACITY: usize = 4 << 10;

/// Maximum time to receive the header of a WebTransport stream.
const STREAM_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// First varint of a WebTransport stream; the session id follows.
fn stream_type(dir: StreamDir) -> u64 {
    let bidi_or_uni = if dir == StreamDir::Bi { Frame::WEBTRANSPORT.0 } else { StreamUni::WEBTRANSPORT.0 };
    bidi_or_uni.into_inner()
}

/// Sleeps until `deadline`. Never returns without one.
async fn sleep_until(deadline: Option<Time>) {
    let Some(deadline) = deadline else { return pending().await };
    let left = deadline.duration_since(monotonic_now());
    // A timer would sleep until the end of the current millisecond.
    if !left.is_zero() {
        tokio::time::sleep(left).await;
    }
}

/// Creates a session. `version` is the version that the transport has selected; `None` if the setup messages select it.
pub(super) fn new_session(role: EndpointRole, limits: SessionLimits, version: Option<MoqtVersion>) -> Session {
    let Some(version) = version else { return Session::new(monotonic_now(), role, limits) };
    // 62 bits, and not 0, which means unknown.
    let [random] = random_u64s();
    Session::established(role, limits, version, (random & MAX_VARINT).max(1))
}

/// How a session was closed.
#[derive(Debug)]
pub(super) struct SessionClose {
    pub(super) code: u32,
    pub(super) reason: String,
    pub(super) closed_locally: bool,
}

/// Runs an endpoint until either end closes the session. Closes the session without an error when `stop` completes. `observe` is called
/// after each turn and once more at the end.
pub(super) async fn drive_session<A: SessionHandler>(
    mut streams: ConnectionStreams,
    endpoint: &mut MoqtEndpoint<A>,
    stop: impl Future<Output = &'static str>,
    mut observe: impl FnMut(&mut MoqtEndpoint<A>, &ConnectionStreams),
) -> SessionClose {
    let mut stop = pin!(stop);
    let mut stopping = false;
    let mut iterations = 0_usize;
    loop {
        iterations = iterations.wrapping_add(1);
        while let Some(action) = endpoint.poll_action() {
            if let SessionAction::Close { code, reason } = action {
                observe(endpoint, &streams);
                streams.transport.close(code, &reason).await;
                return SessionClose { code, reason, closed_locally: true };
            }
            streams.apply(action);
        }
        observe(endpoint, &streams);
        let (deadline, has_backlog) = (endpoint.next_deadline(), endpoint.has_backlog());
        if iterations.is_multiple_of(ITERATIONS_PER_YIELD) {
            tokio::task::yield_now().await;
            if deadline.is_some_and(|deadline| deadline <= monotonic_now()) {
                endpoint.handle_timeout(monotonic_now());
                continue;
            }
        }
        tokio::select! {
            biased;
            reason = &mut stop, if !stopping => {
                stopping = true;
                endpoint.update(monotonic_now(), |session| session.close(error_code::NO_ERROR, reason));
            }
            event = poll_fn(|context| streams.poll(context, !has_backlog)) => match event {
                TransportEvent::StreamRejected => streams.rejected_count += 1,
                TransportEvent::Closed(code, reason) => {
                    let closed_locally = streams.transport.close_after_peer();
                    endpoint.update(monotonic_now(), |session| {
                        if closed_locally {
                            session.close(code, &reason);
                        } else {
                            session.on_connection_closed(code, &reason);
                        }
                    });
                    observe(endpoint, &streams);
                    return SessionClose { code, reason, closed_locally };
                }
                event => dispatch(endpoint, event),
            },
            () = sleep_until(deadline) => {
                endpoint.handle_timeout(monotonic_now());
                if has_backlog {
                    // This lets other tasks run before the next part of the backlog is handled.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

fn dispatch<A: SessionHandler>(endpoint: &mut MoqtEndpoint<A>, event: TransportEvent) {
    endpoint.update(monotonic_now(), |session| match event {
        TransportEvent::StreamRejected | TransportEvent::Closed(..) => {}
        TransportEvent::Opened(id, dir) => session.on_stream_opened(id, dir),
        TransportEvent::Data(stream, bytes) => session.on_stream_data(stream, &bytes),
        TransportEvent::Finished(stream) => session.on_stream_finished(stream),
        TransportEvent::Reset(stream, code) => session.on_stream_reset(stream, code),
        TransportEvent::Stopped(stream, code) => session.on_stop_sending(stream, code),
        TransportEvent::Written(stream, bytes) => session.on_bytes_written(stream, bytes),
    });
}

/// An event of the transport.
enum TransportEvent {
    /// The peer opened a stream.
    Opened(u64, StreamDir),
    /// The peer opened a stream outside of the session, and it was rejected.
    StreamRejected,
    /// Data arrived.
    Data(StreamHandle, Bytes),
    /// The peer finished its side.
    Finished(StreamHandle),
    /// The peer reset its side.
    Reset(StreamHandle, u32),
    /// The peer sent `STOP_SENDING`.
    Stopped(StreamHandle, u32),
    /// The transport took this many bytes.
    Written(StreamHandle, usize),
    /// The session was closed or the connection lost: code and reason.
    Closed(u32, String),
}

/// A stream that the peer opened.
type AcceptedStream = (Option<SendStream>, RecvStream);

/// A stream that this end opened.
type OpenedStream = (SendStream, Option<RecvStream>);

/// The streams of one connection.
pub(super) struct ConnectionStreams {
    transport: TransportConnection,
    /// The WebTransport session id; `None` over raw QUIC.
    session_id: Option<u64>,
    /// Streams that were rejected so far, because their header was late, incomplete or not of this session.
    pub(super) rejected_count: u64,
    recv_streams: BTreeMap<StreamHandle, RecvStream>,
    /// Our sides of the open streams. Every event polls each of them, so streams that are not open yet are in `openers`.
    send_buffers: BTreeMap<StreamHandle, SendBuffer>,
    /// Opens our streams. The first item opens bidirectional streams, and the second item opens unidirectional streams.
    openers: [StreamOpener; 2],
    /// The bidirectional streams and the unidirectional streams that the peer opens.
    incoming: [BoxStream<'static, AcceptedStream>; 2],
    /// Over WebTransport: unfinished futures, each of which reads the header of a stream opened by the peer. Control, QPACK and reserved
    /// streams also stay here until they end.
    header_reads: FuturesUnordered<BoxFuture<'static, (StreamDir, PeerStream)>>,
    /// Whether the session stream was accepted: the first bidirectional stream. Always true if the version has no session stream.
    first_bi_accepted: bool,
    /// Whether the header of the first bidirectional stream is being read.
    first_bi_pending: bool,
    closed: BoxFuture<'static, (u32, String)>,
    /// The send stream and the receive stream that were ready at the most recent poll. For fairness, the next poll starts with the streams
    /// after these.
    last_polled_send: StreamHandle,
    last_polled_recv: StreamHandle,
}

impl ConnectionStreams {
    /// `has_session_stream`: whether the peer's first bidirectional stream is the session stream.
    pub(super) fn new(mut transport: TransportConnection, has_session_stream: bool) -> Self {
        let dirs = [StreamDir::Bi, StreamDir::Uni];
        Self {
            session_id: transport.session_id(),
            rejected_count: 0,
            incoming: dirs.map(|dir| accept_streams(dir, transport.connection.clone())),
            openers: dirs.map(|dir| StreamOpener::new(dir, transport.connection.clone())),
            closed: Box::pin(transport.closed()),
            transport,
            recv_streams: BTreeMap::new(),
            send_buffers: BTreeMap::new(),
            header_reads: FuturesUnordered::new(),
            first_bi_accepted: !has_session_stream,
            first_bi_pending: false,
            last_polled_send: StreamHandle::Local(0),
            last_polled_recv: StreamHandle::Local(0),
        }
    }

    /// Number of streams that the peer may still send on.
    pub(super) fn open_count(&self) -> usize {
        self.recv_streams.len() + self.header_reads.len()
    }

    /// Performs an action, except for [`SessionAction::Close`]. Actions for removed streams are ignored.
    fn apply(&mut self, action: SessionAction) {
        match action {
            SessionAction::OpenStream(stream, dir) => {
                let unsent = UnsentData::new(&stream_header(self.session_id, dir));
                self.openers[dir as usize].waiting.insert(stream, UnopenedStream { unsent, stop_code: None });
            }
            SessionAction::Write(stream, bytes) => {
                if let Some(unsent) = self.unsent_data(stream) {
                    unsent.write(&bytes);
                }
            }
            SessionAction::Finish(stream) => {
                if let Some(unsent) = self.unsent_data(stream) {
                    unsent.finish_requested = true;
                }
            }
            SessionAction::Reset(stream, code) => {
                if let Some(mut buffer) = self.send_buffers.remove(&stream) {
                    // Fails only if the stream has already ended.
                    let _ = buffer.stream.reset(encode_error_code(self.session_id, code));
                } else {
                    self.openers.iter_mut().for_each(|opener| drop(opener.waiting.remove(&stream)));
                }
            }
            SessionAction::StopSending(stream, code) => {
                if let Some(mut recv) = self.recv_streams.remove(&stream) {
                    // Fails only if the stream has already ended.
                    let _ = recv.stop(encode_error_code(self.session_id, code));
                } else if let Some(unopened) =
                    self.openers.iter_mut().find_map(|opener| opener.waiting.get_mut(&stream))
                {
                    unopened.stop_code = Some(code);
                }
            }
            SessionAction::Close { .. } => {}
        }
    }

    /// The unsent data of a stream, which may not be open yet.
    fn unsent_data(&mut self, stream: StreamHandle) -> Option<&mut UnsentData> {
        match self.send_buffers.get_mut(&stream) {
            Some(buffer) => Some(&mut buffer.unsent),
            None => self.openers.iter_mut().find_map(|opener| Some(&mut opener.waiting.get_mut(&stream)?.unsent)),
        }
    }

    /// Polls for the next event. Sends pending data first, so that there is room for replies to incoming data. Incoming data and the end of the
    /// connection are reported only if `read` is set.
    fn poll(&mut self, context: &mut Context<'_>, read: bool) -> Poll<TransportEvent> {
        self.poll_openers(context);
        if let Poll::Ready(event) = self.poll_send(context) {
            return Poll::Ready(event);
        }
        if let Poll::Ready(event) = self.poll_accept(context) {
            return Poll::Ready(event);
        }
        if !read {
            return Poll::Pending;
        }
        if let Poll::Ready(event) = self.poll_recv(context) {
            return Poll::Ready(event);
        }
        // This check is the last one, so that data received before the close is reported first.
        self.closed.as_mut().poll(context).map(|(code, reason)| TransportEvent::Closed(code, reason))
    }

    fn poll_openers(&mut self, context: &mut Context<'_>) {
        for opener in &mut self.openers {
            while !opener.waiting.is_empty()
                && let Poll::Ready(Some((send, recv))) = opener.opened.poll_next_unpin(context)
                && let Some((stream, unopened)) = opener.waiting.pop_first()
            {
                self.send_buffers.insert(stream, SendBuffer { stream: send, unsent: unopened.unsent });
                match (recv, unopened.stop_code) {
                    (Some(mut recv), Some(code)) => drop(recv.stop(encode_error_code(self.session_id, code))),
                    (Some(recv), None) => drop(self.recv_streams.insert(stream, recv)),
                    (None, _) => {}
                }
            }
        }
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<TransportEvent> {
        loop {
            let sent =
                poll_round_robin(&mut self.send_buffers, &mut self.last_polled_send, |buffer| buffer.poll(context));
            let Poll::Ready((stream, sent)) = sent else { return Poll::Pending };
            match sent {
                SendProgress::Written(bytes) => return Poll::Ready(TransportEvent::Written(stream, bytes)),
                SendProgress::Stopped(code) => {
                    return Poll::Ready(TransportEvent::Stopped(stream, decode_error_code(self.session_id, code)));
                }
                SendProgress::Done => drop(self.send_buffers.remove(&stream)),
            }
        }
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<TransportEvent> {
        for dir in [StreamDir::Bi, StreamDir::Uni] {
            // A second bidirectional stream waits for the header of the first. Otherwise the second stream could be mistaken for the
            // session stream.
            while (dir == StreamDir::Uni || self.first_bi_accepted || !self.first_bi_pending)
                && let Poll::Ready(Some((send, recv))) = self.incoming[dir as usize].poll_next_unpin(context)
            {
                let Some(session) = self.session_id else { return Poll::Ready(self.register(dir, send, recv)) };
                self.first_bi_pending |= dir == StreamDir::Bi;
                self.header_reads.push(Box::pin(async move { (dir, read_stream_header(session, send, recv).await) }));
            }
        }
        while let Poll::Ready(Some((dir, header))) = self.header_reads.poll_next_unpin(context) {
            self.first_bi_pending &= dir == StreamDir::Uni;
            match header {
                PeerStream::InSession(send, recv) => return Poll::Ready(self.register(dir, send, recv)),
                PeerStream::Rejected => return Poll::Ready(TransportEvent::StreamRejected),
                PeerStream::Ignored => {}
            }
        }
        Poll::Pending
    }

    fn register(&mut self, dir: StreamDir, send: Option<SendStream>, recv: RecvStream) -> TransportEvent {
        self.first_bi_accepted |= dir == StreamDir::Bi;
        let id = quinn::VarInt::from(recv.id()).into_inner();
        self.recv_streams.insert(StreamHandle::Remote(id), recv);
        if let Some(send) = send {
            self.send_buffers
                .insert(StreamHandle::Remote(id), SendBuffer { stream: send, unsent: UnsentData::new(&[]) });
        }
        TransportEvent::Opened(id, dir)
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<TransportEvent> {
        loop {
            let received = poll_round_robin(&mut self.recv_streams, &mut self.last_polled_recv, |recv| {
                // The future keeps no state between polls.
                pin!(recv.read_chunk(MAX_CHUNK_BYTES, true)).poll(context)
            });
            let Poll::Ready((stream, received)) = received else { return Poll::Pending };
            if let Ok(Some(chunk)) = received {
                return Poll::Ready(TransportEvent::Data(stream, chunk.bytes));
            }
            self.recv_streams.remove(&stream);
            match received {
                Ok(_) => return Poll::Ready(TransportEvent::Finished(stream)),
                Err(ReadError::Reset(code)) => {
                    return Poll::Ready(TransportEvent::Reset(stream, decode_error_code(self.session_id, code)));
                }
                // The error is ignored here, because the `closed` future reports a lost connection.
                Err(_) => {}
            }
        }
    }
}

/// Data that has not yet been sent on our side of a stream.
struct UnsentData {
    bytes: BytesMut,
    /// Maximum length of `bytes` since its memory was allocated.
    peak: usize,
    /// Bytes of the stream header at the start of `bytes`, which the endpoint does not count.
    header: usize,
    finish_requested: bool,
}

impl UnsentData {
    /// The header of a stream, which may be empty.
    fn new(header: &[u8]) -> Self {
        Self { bytes: BytesMut::from(header), peak: header.len(), header: header.len(), finish_requested: false }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.peak = self.peak.max(self.bytes.len());
    }

    /// Removes `written` bytes and returns how many of them the endpoint counts.
    fn advance(&mut self, written: usize) -> usize {
        self.bytes.advance(written);
        if self.peak > MIN_BUFFER_CAPACITY.max(4 * self.bytes.len()) {
            (self.bytes, self.peak) = (BytesMut::from(&self.bytes[..]), self.bytes.len());
        }
        let header = written.min(self.header);
        self.header -= header;
        written - header
    }
}

/// Our side of an open stream.
///
/// `STOP_SENDING` is noticed at the next write. quinn's `SendStream::stopped` would report it at once, but keeps 100 bytes for each reset
/// stream until the connection ends, and the streams of all groups dropped for a slow reader are reset.
struct SendBuffer {
    stream: SendStream,
    unsent: UnsentData,
}

/// Result of [`SendBuffer::poll`].
enum SendProgress {
    /// The transport took this many bytes.
    Written(usize),
    /// The peer sent `STOP_SENDING`.
    Stopped(VarInt),
    /// All data was written and finished, or the connection was lost.
    Done,
}

impl SendBuffer {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<SendProgress> {
        while !self.unsent.bytes.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.unsent.bytes)) {
                Ok(written) => {
                    let counted = self.unsent.advance(written);
                    if counted > 0 {
                        return Poll::Ready(SendProgress::Written(counted));
                    }
                }
                Err(WriteError::Stopped(code)) => return Poll::Ready(SendProgress::Stopped(code)),
                Err(_) => return Poll::Ready(SendProgress::Done),
            }
        }
        if self.unsent.finish_requested {
            let _ = self.stream.finish();
            return Poll::Ready(SendProgress::Done);
        }
        Poll::Pending
    }
}

/// A stream of ours that is not open yet.
struct UnopenedStream {
    unsent: UnsentData,
    /// Code for `STOP_SENDING`, which is sent when the stream opens.
    stop_code: Option<u32>,
}

/// Opens our streams of one type, bidirectional or unidirectional, when the peer permits us to open more streams of this type.
struct StreamOpener {
    /// The oldest stream, which has the lowest handle, is opened first. A stream that is reset before that is never opened.
    waiting: BTreeMap<StreamHandle, UnopenedStream>,
    /// Opens a transport stream for each poll. Each opened stream is given to the oldest stream in `waiting`.
    opened: BoxStream<'static, OpenedStream>,
}

impl StreamOpener {
    fn new(dir: StreamDir, connection: Connection) -> Self {
        let open = move |connection: Connection| async move {
            let opened = match dir {
                StreamDir::Bi => connection.open_bi().await.map(|(send, recv)| (send, Some(recv))),
                StreamDir::Uni => connection.open_uni().await.map(|send| (send, None)),
            };
            // The error is ignored here, because the `closed` future reports a lost connection.
            Some((opened.ok()?, connection))
        };
        Self { waiting: BTreeMap::new(), opened: stream::unfold(connection, open).fuse().boxed() }
    }
}

/// Result of reading a stream header.
enum PeerStream {
    /// The stream belongs to the session.
    InSession(Option<SendStream>, RecvStream),
    /// A stream of HTTP/3 or of a reserved type. The stream was read to its end.
    Ignored,
    /// The stream was rejected.
    Rejected,
}

/// Reads the header of a stream opened by the peer.
async fn read_stream_header(session: u64, send: Option<SendStream>, mut recv: RecvStream) -> PeerStream {
    let expected = stream_type(if send.is_some() { StreamDir::Bi } else { StreamDir::Uni });
    let read_header = async {
        if web_transport_proto::VarInt::read(&mut recv).await.ok()?.into_inner() != expected {
            return Some(None);
        }
        Some(Some(web_transport_proto::VarInt::read(&mut recv).await.ok()?.into_inner()))
    };
    match tokio::time::timeout(STREAM_HEADER_TIMEOUT, read_header).await {
        Ok(Some(Some(id))) if id == session => PeerStream::InSession(send, recv),
        // Control, QPACK and reserved streams. These streams may carry data until the connection ends.
        Ok(Some(None)) if send.is_none() => {
            let _ = tokio::io::copy(&mut recv, &mut tokio::io::sink()).await;
            PeerStream::Ignored
        }
        Ok(Some(None)) => reject_stream(send, recv, H3_REQUEST_REJECTED),
        _ => reject_stream(send, recv, WT_BUFFERED_STREAM_REJECTED),
    }
}

fn reject_stream(send: Option<SendStream>, mut recv: RecvStream, code: u32) -> PeerStream {
    let code = VarInt::from_u32(code);
    // Fails only if the stream has already ended.
    let _ = recv.stop(code);
    if let Some(mut send) = send {
        let _ = send.reset(code);
    }
    PeerStream::Rejected
}

/// Polls the values in the order of their handles, in which the peer's streams follow our own, starting after the value that was ready last.
/// If no value is ready, `last_ready` is reset to `Local(0)`, which the next call then polls last.
fn poll_round_robin<V, T>(
    streams: &mut BTreeMap<StreamHandle, V>,
    last_ready: &mut StreamHandle,
    mut poll: impl FnMut(&mut V) -> Poll<T>,
) -> Poll<(StreamHandle, T)> {
    for range in [(Excluded(*last_ready), Unbounded), (Unbounded, Included(*last_ready))] {
        for (stream, value) in streams.range_mut(range) {
            if let Poll::Ready(ready) = poll(value) {
                *last_ready = *stream;
                return Poll::Ready((*stream, ready));
            }
        }
    }
    *last_ready = StreamHandle::Local(0);
    Poll::Pending
}

/// The streams that the peer opens.
fn accept_streams(dir: StreamDir, connection: Connection) -> BoxStream<'static, AcceptedStream> {
    let accept = move |connection: Connection| async move {
        let accepted = match dir {
            StreamDir::Bi => connection.accept_bi().await.map(|(send, recv)| (Some(send), recv)),
            StreamDir::Uni => connection.accept_uni().await.map(|recv| (None, recv)),
        };
        // The error is ignored here, because the `closed` future reports a lost connection.
        Some((accepted.ok()?, connection))
    };
    stream::unfold(connection, accept).fuse().boxed()
}

/// The header of a stream that we open.
fn stream_header(session_id: Option<u64>, dir: StreamDir) -> Vec<u8> {
    let mut header = Vec::new();
    if let Some(session_id) = session_id {
        write_varint(stream_type(dir), &mut header);
        write_varint(session_id, &mut header);
    }
    header
}

/// Encodes an application error code of a stream. WebTransport maps the code into a range of HTTP/3 error codes.
fn encode_error_code(session_id: Option<u64>, code: u32) -> VarInt {
    match session_id {
        None => VarInt::from_u32(code),
        // WebTransport's range of HTTP/3 error codes ends far below 2^62, so `VarInt::MAX` is never used.
        Some(_) => VarInt::from_u64(error_to_http3(code)).unwrap_or(VarInt::MAX),
    }
}

/// Decodes an application error code of a stream. Codes outside of WebTransport's range, or above 32 bits over raw QUIC, become 0.
fn decode_error_code(session_id: Option<u64>, code: VarInt) -> u32 {
    let code = code.into_inner();
    match session_id {
        None => u32::try_from(code).unwrap_or(error_code::NO_ERROR),
        Some(_) => error_from_http3(code).unwrap_or(error_code::NO_ERROR),
    }
}
