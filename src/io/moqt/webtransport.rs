//! WebTransport's part of a connection, as much as one session needs: the settings, one CONNECT request, and the end of its stream.
//!
//! What is asked of the other end is what real ones do: the original client sends no setting of WebTransport, and its server
//! wants a header of an old draft.

use std::io;

use bytes::Bytes;
use http::StatusCode;
use quinn::{Connection, RecvStream, SendStream};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::consume_budget;
use url::Url;
use web_transport_proto::{
    Capsule, ConnectError, ConnectRequest, ConnectResponse, Frame, Http3CapsuleReader, Setting, Settings, VarInt,
};

use super::bounded_reader::{BoundedReader, excess};
use crate::moqt::{code, varint};

/// HTTP/3's code for a connection that ends in peace (RFC 9114, section 8.1).
pub(super) const NO_ERROR: u32 = 0x100;
/// For a peer that makes more work than it should.
pub(super) const EXCESSIVE_LOAD: u32 = 0x107;
/// For a request that is not looked at.
pub(super) const REQUEST_REJECTED: u32 = 0x10b;
/// WebTransport's code for a stream of a session that does not exist.
pub(super) const NO_SESSION: u32 = 0x3994_bd84;

/// Maximum bytes of the head of a request or an answer together with all that comes before it: other frames, types and lengths.
const HEAD_BYTES: u64 = 16 << 10;

/// Maximum bytes on the same stream after that, for as long as the session lasts. A normal peer sends a few dozen bytes, at the
/// end of the session.
const SESSION_BYTES: u64 = 64 << 10;

/// The longest reason that may be given for the end of a session, in bytes.
const REASON_BYTES: usize = 1_024;

/// Settings of drafts that the library does not know: WebTransport itself, and how many sessions.
const ENABLED: [u32; 2] = [0x2c7c_f000, 0x14e9_cd29];

/// What the server of the seed wants to see in a request.
const DRAFT: &str = "sec-webtransport-http3-draft02";

/// A session that is there.
pub(super) struct WebTransportSession {
    id: u64,
    send: SendStream,
    recv: Option<BoundedReader<RecvStream>>,
    /// Is never written to again, and must not be closed before the connection.
    _settings: SendStream,
}

/// How the stream of a session's request ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// As it should: with a code, and why, where that is said.
    Said(u32, String),
    /// It broke off.
    Broken,
    /// More came than is read.
    Excessive,
}

/// Why there is no session.
#[derive(Debug, Error)]
pub(super) enum NoSession {
    /// The server said so.
    #[error("HTTP status {0}")]
    Status(StatusCode),
    /// Something else came than what was expected.
    #[error("{0}")]
    Malformed(ConnectError),
    /// The connection is lost.
    #[error(transparent)]
    Lost(#[from] io::Error),
}

impl From<ConnectError> for NoSession {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::WrongStatus(Some(status)) | ConnectError::ErrorStatus(status) => Self::Status(status),
            error => Self::Malformed(error),
        }
    }
}

/// A request that came, with what to answer on.
pub(super) struct Request {
    /// The path that it is for, or why it is none for a session.
    pub(super) path: Result<String, ConnectError>,
    session: WebTransportSession,
}

impl Request {
    /// Says what we are and waits for the first request.
    pub(super) async fn read(connection: &Connection) -> Result<Self, NoSession> {
        let settings = say_settings(connection).await?;
        let (send, recv) = connection.accept_bi().await.map_err(io::Error::from)?;
        let mut recv = BoundedReader::new(recv, HEAD_BYTES);
        let path = match head(&mut recv).await {
            Ok(head) => decode(head).map(|request| request.url.path().to_owned()),
            Err(error) => Err(error),
        };
        Ok(Self { path, session: WebTransportSession::new(send, recv, settings) })
    }

    /// Agrees.
    pub(super) async fn accept(mut self) -> Result<WebTransportSession, NoSession> {
        self.session.answer(&ConnectResponse::OK).await?;
        Ok(self.session)
    }

    /// Refuses, and keeps the connection until the other end has closed it: it could not read the answer after that.
    pub(super) async fn refuse(mut self, status: StatusCode, connection: &Connection) -> Result<(), NoSession> {
        self.session.answer(&ConnectResponse::new(status)).await?;
        let _ = self.session.send.finish();
        connection.closed().await;
        Ok(())
    }
}

impl WebTransportSession {
    /// Asks for a session.
    pub(super) async fn ask(connection: &Connection, url: Url) -> Result<Self, NoSession> {
        let settings = say_settings(connection).await?;
        let (mut send, recv) = connection.open_bi().await.map_err(io::Error::from)?;
        let mut recv = BoundedReader::new(recv, HEAD_BYTES);
        let draft = http::HeaderName::from_static(DRAFT);
        let request = ConnectRequest::new(url).with_header(draft, http::HeaderValue::from_static("1"));
        let mut bytes = Vec::new();
        request.encode(&mut bytes)?;
        send.write_all(&bytes).await.map_err(io::Error::from)?;
        let response = ConnectResponse::read(&mut recv).await;
        response.map_err(|error| if recv.exceeded() { excess().into() } else { error })?;
        Ok(Self::new(send, recv, settings))
    }

    fn new(send: SendStream, mut recv: BoundedReader<RecvStream>, settings: SendStream) -> Self {
        recv.allow(SESSION_BYTES);
        let id = quinn::VarInt::from(send.id()).into_inner();
        Self { id, send, recv: Some(recv), _settings: settings }
    }

    async fn answer(&mut self, response: &ConnectResponse) -> Result<(), NoSession> {
        let mut bytes = Vec::new();
        response.encode(&mut bytes)?;
        Ok(self.send.write_all(&bytes).await.map_err(io::Error::from)?)
    }

    /// The number of the stream of the request, which names the session on others.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Waits for the end of the session. Can be taken once.
    pub(super) fn take_ended(&mut self) -> Option<impl Future<Output = SessionEnd> + Send + 'static> {
        self.recv.take().map(ended)
    }

    /// Says the end of the session, and waits until that has arrived.
    pub(super) async fn close(mut self, code: u32, why: &str, connection: &Connection) {
        let mut end = REASON_BYTES.min(why.len());
        while !why.is_char_boundary(end) {
            end -= 1;
        }
        let mut capsule = Vec::new();
        Capsule::CloseWebTransportSession { code, reason: why[..end].to_owned() }.encode(&mut capsule);
        let mut frame = Vec::new();
        Frame::DATA.encode(&mut frame);
        varint::write(capsule.len() as u64, &mut frame);
        frame.extend_from_slice(&capsule);
        if self.send.write_all(&frame).await.is_err() || self.send.finish().is_err() {
            return;
        }
        if connection.side().is_server() {
            // Whoever has read it closes the connection. That it has arrived does not say that it was read.
            connection.closed().await;
        } else {
            let _ = self.send.stopped().await;
        }
    }
}

async fn say_settings(connection: &Connection) -> Result<SendStream, io::Error> {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    for setting in ENABLED {
        settings.insert(Setting(VarInt::from_u32(setting)), VarInt::from_u32(1));
    }
    let mut bytes = Vec::new();
    settings.encode(&mut bytes);
    let mut stream = connection.open_uni().await?;
    stream.write_all(&bytes).await?;
    Ok(stream)
}

/// Reads what comes on the stream of a session's request, to its end.
async fn ended<R: AsyncRead + Unpin>(mut recv: BoundedReader<R>) -> SessionEnd {
    let mut capsules = Http3CapsuleReader::new(&mut recv);
    loop {
        match capsules.read().await {
            Ok(Some(Capsule::CloseWebTransportSession { code, reason })) => return SessionEnd::Said(code, reason),
            // One DATA frame may contain very many capsules, and the library parses them from its buffer without a read that uses
            // the budget.
            Ok(Some(_)) => consume_budget().await,
            Ok(None) => return SessionEnd::Said(code::NONE, "the session's stream has ended".to_owned()),
            Err(_) if recv.exceeded() => return SessionEnd::Excessive,
            Err(_) => return SessionEnd::Broken,
        }
    }
}

/// The payload of the first HEADERS frame. Frames before it are skipped, as those that mean nothing must be.
async fn head<R: AsyncRead + Unpin>(recv: &mut BoundedReader<R>) -> Result<Vec<u8>, ConnectError> {
    loop {
        let kind = Frame(number(recv).await?);
        let length = number(recv).await?.into_inner();
        if length > recv.left() {
            return Err(ConnectError::FrameTooLarge);
        }
        let mut payload = Vec::new();
        recv.take(length).read_to_end(&mut payload).await?;
        if (payload.len() as u64) < length {
            return Err(ConnectError::UnexpectedEnd);
        }
        if kind == Frame::HEADERS {
            return Ok(payload);
        }
        if !kind.is_grease() {
            return Err(ConnectError::UnexpectedFrame(kind));
        }
    }
}

async fn number<R: AsyncRead + Unpin>(recv: &mut BoundedReader<R>) -> Result<VarInt, ConnectError> {
    let read = VarInt::read(recv).await;
    read.map_err(|_| if recv.exceeded() { excess().into() } else { ConnectError::UnexpectedEnd })
}

/// What a head asks for. The later drafts' name of the protocol is as good as the earlier: of a field that comes twice the
/// library takes the last, so that name is overruled.
fn decode(mut head: Vec<u8>) -> Result<ConnectRequest, ConnectError> {
    /// A literal field line with a literal name (RFC 9204, section 4.5.6): lengths of 9, with a prefix of 3 bits, and 12.
    const PROTOCOL: &[u8] = b"\x27\x02:protocol\x0cwebtransport";
    match decode_as_it_is(&head) {
        Err(ConnectError::WrongProtocol(Some(protocol))) if protocol == "webtransport-h3" => {
            head.extend_from_slice(PROTOCOL);
            decode_as_it_is(&head)
        }
        decoded => decoded,
    }
}

fn decode_as_it_is(head: &[u8]) -> Result<ConnectRequest, ConnectError> {
    let mut frame = Vec::new();
    Frame::HEADERS.encode(&mut frame);
    varint::write(head.len() as u64, &mut frame);
    frame.extend_from_slice(head);
    ConnectRequest::decode(&mut Bytes::from(frame))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use super::*;

    /// Frames and capsules that say nothing, each of two bytes: DATA, a reserved type, an unknown one.
    const EMPTY: [&[u8]; 3] = [b"\x00\x00", b"\x21\x00", b"\x3f\x00"];
    /// A DATA frame of as many capsules of a reserved type as fit into `bytes` with its type and length.
    fn capsules(bytes: usize) -> Vec<u8> {
        let payload = bytes - 5;
        let header = [&[0x00][..], &(0x8000_0000 | payload as u32).to_be_bytes()].concat();
        [header, b"\x17\x00".repeat(payload / 2)].concat()
    }

    /// Runs to the end on a stream that always has more. Returns the number of polls too.
    fn polled<T>(future: impl Future<Output = T>) -> (T, usize) {
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
    fn one_poll_reads_at_most_128_empty_frames_before_the_head() {
        let bytes = b"\x21\x00".repeat(8_000);
        let (head, polls) = polled(head(&mut BoundedReader::new(&bytes[..], HEAD_BYTES)));
        assert!(matches!(head, Err(ConnectError::UnexpectedEnd)), "{head:?}");
        assert!(polls >= 8_000 / 128, "{polls} polls");
    }

    #[test]
    fn one_poll_reads_at_most_128_empty_frames_or_capsules_of_a_session() {
        for bytes in EMPTY.map(|frame| frame.repeat(8_000)).into_iter().chain([capsules(16_005)]) {
            let (end, polls) = polled(ended(BoundedReader::new(&bytes[..], SESSION_BYTES)));
            assert_eq!(end, SessionEnd::Said(code::NONE, "the session's stream has ended".to_owned()));
            assert!(polls >= 8_000 / 128, "{:x?}: {polls} polls", &bytes[..7]);
        }
    }

    #[test]
    fn a_head_with_all_before_it_is_read_up_to_16_kib() {
        for (frames, fits) in [(8_190, true), (8_191, false)] {
            let bytes = [&b"\x21\x00".repeat(frames)[..], b"\x01\x02ab"].concat();
            let (head, _) = polled(head(&mut BoundedReader::new(&bytes[..], HEAD_BYTES)));
            assert_eq!(head.is_ok_and(|head| head == b"ab"), fits, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn a_sessions_stream_is_read_up_to_64_kib() {
        let all = SESSION_BYTES as usize;
        // CLOSE_WEBTRANSPORT_SESSION without its code, which the library takes for the beginning of a longer one.
        let short = b"\x00\x03\x68\x43\x00".to_vec();
        let filled = |bytes: &[u8]| bytes.repeat(all / bytes.len());
        let full = EMPTY.into_iter().map(filled).chain([[capsules(all - 1), vec![0x00]].concat()]);
        for bytes in full {
            let more = [&bytes[..], b"\x00\x00"].concat();
            let (end, _) = polled(ended(BoundedReader::new(&bytes[..], SESSION_BYTES)));
            assert_ne!(end, SessionEnd::Excessive, "{:x?}", &bytes[..7]);
            let (end, _) = polled(ended(BoundedReader::new(&more[..], SESSION_BYTES)));
            assert_eq!(end, SessionEnd::Excessive, "{:x?}", &bytes[..7]);
        }
        let bytes = [short, capsules(16_385).repeat(4)].concat();
        let (end, _) = polled(ended(BoundedReader::new(&bytes[..], SESSION_BYTES)));
        assert_eq!(end, SessionEnd::Excessive);
    }
}
