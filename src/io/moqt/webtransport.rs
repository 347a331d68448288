//! The part of WebTransport over HTTP/3 that one session needs: SETTINGS, one CONNECT request, and the end of its stream. Because a peer may
//! send many tiny frames, the received bytes and the reads per poll are limited.
//!
//! Two deviations of gomoqt are supported: its client sends no WebTransport setting, and its server requires a header of an old draft.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, BufReader, ReadBuf};
use tokio::task::{consume_budget, coop};
use url::Url;
use web_transport_proto::{
    Capsule, ConnectError, ConnectRequest, ConnectResponse, Frame, Http3CapsuleReader, Setting, Settings, VarInt,
};

use crate::moqt::codec::write_bytes;
use crate::moqt::error_code;
use crate::sanitize::prefix;

/// HTTP/3 error code `H3_NO_ERROR` (RFC 9114, section 8.1).
pub(super) const H3_NO_ERROR: u32 = 0x100;
/// HTTP/3 error code for a peer that causes excessive load.
pub(super) const H3_EXCESSIVE_LOAD: u32 = 0x107;
/// HTTP/3 error code for a request that is not processed.
pub(super) const H3_REQUEST_REJECTED: u32 = 0x10b;
/// WebTransport error code for a stream of an unknown session.
pub(super) const WT_BUFFERED_STREAM_REJECTED: u32 = 0x3994_bd84;

/// Maximum number of bytes up to the end of the request or response headers. Other frames before the headers also count.
pub const MAX_HEADER_BYTES: u64 = 16 << 10;

/// Maximum number of bytes on the CONNECT stream after the headers, for the whole session. A normal peer sends a few dozen bytes at the end
/// of the session.
pub const MAX_CONNECT_STREAM_BYTES: u64 = 64 << 10;

/// Maximum length of the reason for closing a session, in bytes.
const MAX_CLOSE_REASON_BYTES: usize = 1_024;

/// HTTP/3 settings of WebTransport drafts that the library does not support: WebTransport enabled, and maximum number of sessions.
const EXTRA_SETTINGS: [u32; 2] = [0x2c7c_f000, 0x14e9_cd29];

/// Header that gomoqt's server requires in a request.
const DRAFT02_HEADER: &str = "sec-webtransport-http3-draft02";

/// Maximum time to close a WebTransport session.
const SESSION_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Close reason sent with [`H3_EXCESSIVE_LOAD`].
const EXCESSIVE_LOAD_REASON: &str = "too many bytes on the CONNECT stream";

/// Number of bytes per read from the stream. The transport locks the connection for each read, however short.
const READ_BUFFER_BYTES: usize = 1 << 10;

/// Connection that carries the streams of a session.
pub(super) struct TransportConnection {
    pub(super) connection: Connection,
    /// The WebTransport session on the connection; `None` over raw QUIC.
    pub(super) session: Option<WebTransportSession>,
}

impl TransportConnection {
    /// The WebTransport session id; `None` over raw QUIC.
    pub(super) fn session_id(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.id)
    }

    /// Waits for the end of the session or connection. Returns the code and reason of the close. Closes a connection that receives too many
    /// bytes on the CONNECT stream. Can be called only once.
    pub(super) fn closed(&mut self) -> impl Future<Output = (u32, String)> + Send + 'static {
        let connection = self.connection.clone();
        let connect_stream = self.session.as_mut().and_then(|session| session.recv.take());
        async move {
            let Some(connect_stream) = connect_stream else { return close_reason(&connection.closed().await) };
            tokio::select! {
                biased;
                session_end = read_connect_stream(connect_stream) => match session_end {
                    ConnectStreamEnd::Closed(code, reason) => (code, reason),
                    ConnectStreamEnd::Reset => match connection.close_reason() {
                        Some(error) => close_reason(&error),
                        None => (error_code::NO_ERROR, "the session stream was reset".to_owned()),
                    },
                    ConnectStreamEnd::ExcessiveLoad => {
                        connection.close(quinn::VarInt::from_u32(H3_EXCESSIVE_LOAD), EXCESSIVE_LOAD_REASON.as_bytes());
                        (H3_EXCESSIVE_LOAD, EXCESSIVE_LOAD_REASON.to_owned())
                    }
                },
                error = connection.closed() => close_reason(&error),
            }
        }
    }

    /// Closes the connection after the peer ended the session. Returns true if this side closed the connection before this call.
    pub(super) fn close_after_peer(&self) -> bool {
        let closed = self.connection.close_reason();
        // A second close would hide the first reason.
        if closed.is_none() {
            let code = if self.session.is_some() { H3_NO_ERROR } else { error_code::NO_ERROR };
            self.connection.close(quinn::VarInt::from_u32(code), b"");
        }
        closed == Some(ConnectionError::LocallyClosed)
    }

    /// Closes the session and the connection.
    pub(super) async fn close(self, code: u32, reason: &str) {
        let Self { connection, session } = self;
        let Some(session) = session else { return connection.close(quinn::VarInt::from_u32(code), reason.as_bytes()) };
        // The session is closed before the connection, because a peer ignores the CONNECT stream after a connection close.
        let _ = tokio::time::timeout(SESSION_CLOSE_TIMEOUT, session.close(code, reason, &connection)).await;
        connection.close(quinn::VarInt::from_u32(H3_NO_ERROR), b"");
    }
}

/// Code and reason of a closed connection.
fn close_reason(error: &ConnectionError) -> (u32, String) {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let code = close.error_code.into_inner();
            let code = if code == u64::from(H3_NO_ERROR) {
                error_code::NO_ERROR
            } else {
                u32::try_from(code).unwrap_or(error_code::INTERNAL_ERROR)
            };
            (code, String::from_utf8_lossy(&close.reason).into_owned())
        }
        ConnectionError::TimedOut => (error_code::INTERNAL_ERROR, "idle timeout".to_owned()),
        error => (error_code::INTERNAL_ERROR, error.to_string()),
    }
}

/// An established session.
pub(super) struct WebTransportSession {
    /// The session id: the stream id of the CONNECT request.
    id: u64,
    send: SendStream,
    recv: Option<BoundedReader<RecvStream>>,
    /// Keeps the control stream open until the connection closes. After the setup, nothing is written to this stream.
    _control_stream: SendStream,
}

/// How a CONNECT stream ended.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnectStreamEnd {
    /// The peer ended it, with the code and reason of a `CLOSE_WEBTRANSPORT_SESSION` capsule if it sent one.
    Closed(u32, String),
    /// The stream was reset.
    Reset,
    /// The peer sent more bytes than allowed.
    ExcessiveLoad,
}

/// A received request that is not answered yet.
pub(super) struct SessionRequest {
    /// The requested path and the offered protocols, or the reason why this is not a WebTransport request.
    pub(super) request: Result<(String, Vec<String>), String>,
    session: WebTransportSession,
}

impl SessionRequest {
    /// Sends our settings and waits for the first request.
    pub(super) async fn receive(connection: &Connection) -> io::Result<Self> {
        let settings = send_settings(connection).await?;
        let (send, recv) = connection.accept_bi().await?;
        let mut recv = BoundedReader::new(recv, MAX_HEADER_BYTES);
        let request = match read_headers(&mut recv).await {
            Ok(headers) => decode_request(headers).map(|request| (request.url.path().to_owned(), request.protocols)),
            Err(error) => Err(error.to_string()),
        };
        Ok(Self { request, session: WebTransportSession::new(send, recv, settings) })
    }

    /// Accepts the session, and selects this protocol.
    pub(super) async fn accept(mut self, protocol: Option<&str>) -> Result<WebTransportSession, ConnectError> {
        let response = protocol.map_or(ConnectResponse::OK, |protocol| ConnectResponse::OK.with_protocol(protocol));
        response.write(&mut self.session.send).await?;
        Ok(self.session)
    }

    /// Rejects the session. Keeps the connection until the peer closes it, because a close could overtake the
    /// response.
    pub(super) async fn reject(mut self, status: StatusCode, connection: &Connection) -> Result<(), ConnectError> {
        ConnectResponse::new(status).write(&mut self.session.send).await?;
        let _ = self.session.send.finish();
        connection.closed().await;
        Ok(())
    }
}

impl WebTransportSession {
    /// Requests a session and offers these protocols. Also returns the protocol that the server selected.
    pub(super) async fn connect(
        connection: &Connection,
        url: Url,
        protocols: &[&str],
    ) -> Result<(Self, Option<String>), ConnectError> {
        let settings = send_settings(connection).await?;
        let (mut send, recv) = connection.open_bi().await.map_err(io::Error::from)?;
        let mut recv = BoundedReader::new(recv, MAX_HEADER_BYTES);
        let header_name = http::HeaderName::from_static(DRAFT02_HEADER);
        let request = ConnectRequest::new(url)
            .with_header(header_name, http::HeaderValue::from_static("1"))
            .with_protocols(protocols.iter().map(|protocol| (*protocol).to_owned()));
        request.write(&mut send).await?;
        let response = ConnectResponse::read(&mut recv).await;
        let response = response.map_err(|error| if recv.exceeded { limit_exceeded().into() } else { error })?;
        Ok((Self::new(send, recv, settings), response.protocol))
    }

    fn new(send: SendStream, mut recv: BoundedReader<RecvStream>, settings: SendStream) -> Self {
        recv.remaining = MAX_CONNECT_STREAM_BYTES;
        let id = quinn::VarInt::from(send.id()).into_inner();
        Self { id, send, recv: Some(recv), _control_stream: settings }
    }

    /// Sends `CLOSE_WEBTRANSPORT_SESSION` and waits until the peer has received it.
    pub(super) async fn close(mut self, code: u32, reason: &str, connection: &Connection) {
        let mut capsule = Vec::new();
        let reason = prefix(reason, MAX_CLOSE_REASON_BYTES).to_owned();
        Capsule::CloseWebTransportSession { code, reason }.encode(&mut capsule);
        let mut frame = Vec::new();
        Frame::DATA.encode(&mut frame);
        write_bytes(&capsule, &mut frame);
        if self.send.write_all(&frame).await.is_err() || self.send.finish().is_err() {
            return;
        }
        if connection.side().is_server() {
            // A client closes the connection when it has read the capsule. A QUIC acknowledgment would
            // not show that the client has read the capsule.
            connection.closed().await;
        } else {
            let _ = self.send.stopped().await;
        }
    }
}

/// Opens the control stream and sends its type and the SETTINGS frame, the same for both ends.
async fn send_settings(connection: &Connection) -> Result<SendStream, io::Error> {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    for setting in EXTRA_SETTINGS {
        settings.insert(Setting(VarInt::from_u32(setting)), VarInt::from_u32(1));
    }
    let mut bytes = Vec::new();
    settings.encode(&mut bytes);
    let mut stream = connection.open_uni().await?;
    stream.write_all(&bytes).await?;
    Ok(stream)
}

/// Reads the CONNECT stream to its end.
pub async fn read_connect_stream<R: AsyncRead + Unpin>(mut recv: BoundedReader<R>) -> ConnectStreamEnd {
    let mut capsules = Http3CapsuleReader::new(&mut recv);
    loop {
        match capsules.read().await {
            Ok(Some(Capsule::CloseWebTransportSession { code, reason })) => {
                return ConnectStreamEnd::Closed(code, reason);
            }
            // One DATA frame may contain very many capsules. The library reads the frame into its buffer and parses the capsules there.
            // Parsing consumes no task budget, because only a read from the stream does. Without this call, the loop would parse all
            // capsules in the buffer before other tasks run.
            Ok(Some(_)) => consume_budget().await,
            Ok(None) => {
                return ConnectStreamEnd::Closed(error_code::NO_ERROR, "the session stream ended".to_owned());
            }
            Err(_) if recv.exceeded => return ConnectStreamEnd::ExcessiveLoad,
            Err(_) => return ConnectStreamEnd::Reset,
        }
    }
}

/// The payload of the first HEADERS frame. Reserved frames before the HEADERS frame are skipped (RFC 9114, section 7.2.8).
pub async fn read_headers<R: AsyncRead + Unpin>(recv: &mut BoundedReader<R>) -> Result<Vec<u8>, ConnectError> {
    loop {
        let frame_type = Frame(read_varint(recv).await?);
        let length = read_varint(recv).await?.into_inner();
        if length > recv.remaining {
            return Err(ConnectError::FrameTooLarge);
        }
        let mut payload = Vec::new();
        recv.take(length).read_to_end(&mut payload).await?;
        if (payload.len() as u64) < length {
            return Err(ConnectError::UnexpectedEnd);
        }
        if frame_type == Frame::HEADERS {
            return Ok(payload);
        }
        if !frame_type.is_grease() {
            return Err(ConnectError::UnexpectedFrame(frame_type));
        }
    }
}

async fn read_varint<R: AsyncRead + Unpin>(recv: &mut BoundedReader<R>) -> Result<VarInt, ConnectError> {
    let read = VarInt::read(recv).await;
    read.map_err(|_| if recv.exceeded { limit_exceeded().into() } else { ConnectError::UnexpectedEnd })
}

/// Decodes a CONNECT request. The library rejects two requests that are valid:
///
/// - Later drafts use the protocol name `webtransport-h3`, but the library accepts only `webtransport`.
/// - If the field `wt-available-protocols` is malformed, it is ignored (draft 14, section 3.3).
///
/// To make it accept them, this function appends a second field with the same name and a valid value: the library uses the last of both.
pub fn decode_request(mut headers: Vec<u8>) -> Result<ConnectRequest, String> {
    // Literal field lines with a literal name (RFC 9204, section 4.5.6). The names have 9 and 22 bytes, the values have 12 and 0 bytes.
    const WEBTRANSPORT_PROTOCOL_FIELD: &[u8] = b"\x27\x02:protocol\x0cwebtransport";
    const NO_PROTOCOLS_FIELD: &[u8] = b"\x27\x0fwt-available-protocols\x00";
    let mut decoded = decode_header_block(&headers);
    if matches!(&decoded, Err(ConnectError::WrongProtocol(Some(protocol))) if protocol == "webtransport-h3") {
        headers.extend_from_slice(WEBTRANSPORT_PROTOCOL_FIELD);
        decoded = decode_header_block(&headers);
    }
    if matches!(decoded, Err(ConnectError::InvalidProtocol)) {
        headers.extend_from_slice(NO_PROTOCOLS_FIELD);
        decoded = decode_header_block(&headers);
    }
    decoded.map_err(|error| error.to_string())
}

fn decode_header_block(headers: &[u8]) -> Result<ConnectRequest, ConnectError> {
    let mut frame = Vec::new();
    Frame::HEADERS.encode(&mut frame);
    write_bytes(headers, &mut frame);
    ConnectRequest::decode(&mut Bytes::from(frame))
}

/// Limits the total bytes read. Yields after 128 reads, because tokio's task budget allows 128 operations per poll.
pub struct BoundedReader<R> {
    inner: BufReader<R>,
    /// Bytes that may still be read.
    pub remaining: u64,
    exceeded: bool,
}

impl<R: AsyncRead> BoundedReader<R> {
    /// Allows `remaining` bytes, including frame headers.
    pub fn new(inner: R, remaining: u64) -> Self {
        Self { inner: BufReader::with_capacity(READ_BUFFER_BYTES, inner), remaining, exceeded: false }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for BoundedReader<R> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, output: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The QUIC library does not consume tokio's task budget. Without `poll_proceed`, a task that reads single bytes would not yield
        // while data is available.
        let budget = ready!(coop::poll_proceed(context));
        let available = ready!(Pin::new(&mut this.inner).poll_fill_buf(context))?;
        budget.made_progress();
        let count = available.len().min(output.remaining());
        if count as u64 > this.remaining {
            this.exceeded = true;
            return Poll::Ready(Err(limit_exceeded()));
        }
        output.put_slice(&available[..count]);
        this.remaining -= count as u64;
        Pin::new(&mut this.inner).consume(count);
        Poll::Ready(Ok(()))
    }
}

/// The error of a read beyond the limit.
fn limit_exceeded() -> io::Error {
    io::Error::other("too many bytes")
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use super::*;

    /// Empty frames, each two bytes long (type and length 0): DATA, a reserved type, an unknown type.
    const EMPTY_FRAMES: [&[u8]; 3] = [b"\x00\x00", b"\x21\x00", b"\x3f\x00"];
    /// A DATA frame of `bytes` bytes that contains empty capsules of a reserved type.
    fn capsules(bytes: usize) -> Vec<u8> {
        let payload = bytes - 5;
        let header = [&[0x00][..], &(0x8000_0000 | payload as u32).to_be_bytes()].concat();
        [header, b"\x17\x00".repeat(payload / 2)].concat()
    }

    /// Runs a future that reads from memory, where data is always available. Returns the future's result and the number of polls.
    fn run_counting_polls<T>(future: impl Future<Output = T>) -> (T, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        let mut polls = 0;
        let mut future = pin!(future);
        let end = runtime.block_on(poll_fn(|context| {
            polls += 1;
            future.as_mut().poll(context)
        }));
        (end, polls)
    }

    #[test]
    fn empty_frames_before_headers_are_read_in_bounded_polls() {
        let bytes = b"\x21\x00".repeat(8_000);
        let (headers, polls) = run_counting_polls(read_headers(&mut BoundedReader::new(&bytes[..], MAX_HEADER_BYTES)));
        assert!(matches!(headers, Err(ConnectError::UnexpectedEnd)), "{headers:?}");
        assert!(polls >= 8_000 / 128, "{polls} polls");
    }

    #[test]
    fn empty_frames_of_a_session_are_read_in_bounded_polls() {
        for bytes in EMPTY_FRAMES.map(|frame| frame.repeat(8_000)).into_iter().chain([capsules(16_005)]) {
            let (end, polls) =
                run_counting_polls(read_connect_stream(BoundedReader::new(&bytes[..], MAX_CONNECT_STREAM_BYTES)));
            assert_eq!(end, ConnectStreamEnd::Closed(error_code::NO_ERROR, "the session stream ended".to_owned()));
            assert!(polls >= 8_000 / 128, "{:x?}: {polls} polls", &bytes[..7]);
            // Code 7 and the reason "bye" (draft 02, section 6).
            let bytes = [&bytes[..], b"\x00\x0a\x68\x43\x07\x00\x00\x00\x07bye"].concat();
            let (end, _) =
                run_counting_polls(read_connect_stream(BoundedReader::new(&bytes[..], MAX_CONNECT_STREAM_BYTES)));
            assert_eq!(end, ConnectStreamEnd::Closed(7, "bye".to_owned()));
        }
    }

    #[test]
    fn headers_beyond_16_kib_are_rejected() {
        for (frames, fits) in [(8_190, true), (8_191, false)] {
            let bytes = [&b"\x21\x00".repeat(frames)[..], b"\x01\x02ab"].concat();
            let (headers, _) = run_counting_polls(read_headers(&mut BoundedReader::new(&bytes[..], MAX_HEADER_BYTES)));
            assert_eq!(headers.is_ok_and(|headers| headers == b"ab"), fits, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn connect_stream_beyond_64_kib_closes_the_session() {
        let limit = MAX_CONNECT_STREAM_BYTES as usize;
        // A CLOSE_WEBTRANSPORT_SESSION capsule that lacks its code. The library treats a capsule without a code as incomplete.
        let short = b"\x00\x03\x68\x43\x00".to_vec();
        let filled = |bytes: &[u8]| bytes.repeat(limit / bytes.len());
        let full = EMPTY_FRAMES.into_iter().map(filled).chain([[capsules(limit - 1), vec![0x00]].concat()]);
        for bytes in full {
            let more = [&bytes[..], b"\x00\x00"].concat();
            let (end, _) =
                run_counting_polls(read_connect_stream(BoundedReader::new(&bytes[..], MAX_CONNECT_STREAM_BYTES)));
            assert_ne!(end, ConnectStreamEnd::ExcessiveLoad, "{:x?}", &bytes[..7]);
            let (end, _) =
                run_counting_polls(read_connect_stream(BoundedReader::new(&more[..], MAX_CONNECT_STREAM_BYTES)));
            assert_eq!(end, ConnectStreamEnd::ExcessiveLoad, "{:x?}", &bytes[..7]);
        }
        let bytes = [short, capsules(16_385).repeat(4)].concat();
        let (end, _) =
            run_counting_polls(read_connect_stream(BoundedReader::new(&bytes[..], MAX_CONNECT_STREAM_BYTES)));
        assert_eq!(end, ConnectStreamEnd::ExcessiveLoad);
    }
}
