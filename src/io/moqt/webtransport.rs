//! WebTransport's part of a connection, as much as one session needs: the settings, one CONNECT request, and the end of its stream.
//!
//! What is asked of the other end is what real ones do: the original client sends no setting of WebTransport, and its server
//! wants a header of an old draft.

use std::io;

use bytes::Bytes;
use http::StatusCode;
use quinn::{Connection, RecvStream, SendStream};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use url::Url;
use web_transport_proto::{
    Capsule, ConnectError, ConnectRequest, ConnectResponse, Frame, Http3CapsuleReader, Setting, Settings, VarInt,
};

use crate::moqt::{code, varint};

/// HTTP/3's code for a connection that ends in peace (RFC 9114, section 8.1).
pub(super) const NO_ERROR: u32 = 0x100;
/// For a request that is not looked at.
pub(super) const REQUEST_REJECTED: u32 = 0x10b;
/// WebTransport's code for a stream of a session that does not exist.
pub(super) const NO_SESSION: u32 = 0x3994_bd84;

/// The longest head of a request, in bytes, and the most that may come before it.
const HEAD_BYTES: u64 = 16 << 10;

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
    recv: Option<RecvStream>,
    /// Is never written to again, and must not be closed before the connection.
    _settings: SendStream,
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
        let (send, mut recv) = connection.accept_bi().await.map_err(io::Error::from)?;
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
        let (mut send, mut recv) = connection.open_bi().await.map_err(io::Error::from)?;
        let draft = http::HeaderName::from_static(DRAFT);
        let request = ConnectRequest::new(url).with_header(draft, http::HeaderValue::from_static("1"));
        let mut bytes = Vec::new();
        request.encode(&mut bytes)?;
        send.write_all(&bytes).await.map_err(io::Error::from)?;
        ConnectResponse::read(&mut recv).await?;
        Ok(Self::new(send, recv, settings))
    }

    fn new(send: SendStream, recv: RecvStream, settings: SendStream) -> Self {
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

    /// Waits for the end of the session: with which code and why, where that is said. Can be taken once.
    pub(super) fn take_ended(&mut self) -> Option<impl Future<Output = Option<(u32, String)>> + Send + 'static> {
        let mut reader = Http3CapsuleReader::new(self.recv.take()?);
        Some(async move {
            loop {
                match reader.read().await {
                    Ok(Some(Capsule::CloseWebTransportSession { code, reason })) => return Some((code, reason)),
                    Ok(Some(_)) => {}
                    Ok(None) => return Some((code::NONE, "the session's stream has ended".to_owned())),
                    Err(_) => return None,
                }
            }
        })
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

/// The payload of the first HEADERS frame. Frames before it are skipped, as those that mean nothing must be.
async fn head(recv: &mut RecvStream) -> Result<Vec<u8>, ConnectError> {
    let mut budget = HEAD_BYTES;
    loop {
        let unexpected = |_| ConnectError::UnexpectedEnd;
        let kind = Frame(VarInt::read(recv).await.map_err(unexpected)?);
        let length = VarInt::read(recv).await.map_err(unexpected)?.into_inner();
        budget = budget.checked_sub(length).ok_or(ConnectError::FrameTooLarge)?;
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
