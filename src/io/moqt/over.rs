//! What differs between raw QUIC and WebTransport once a session is there: what a stream begins with, how codes are written,
//! how the end comes.

use std::time::Duration;

use quinn::{ConnectionError, VarInt};
use web_transport_proto::{error_from_http3, error_to_http3};

use super::webtransport::{EXCESSIVE_LOAD, NO_ERROR, SessionEnd, WebTransportSession};
use crate::moqt::{Kind, code, varint};

/// What a WebTransport stream begins with, before the session's number.
pub(super) const UNI: u64 = 0x54;
pub(super) const BIDI: u64 = 0x41;

/// How long the end of a WebTransport session may take to be acknowledged.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// Why a connection is closed with [`EXCESSIVE_LOAD`].
const EXCESSIVE: &str = "too many bytes on the stream of the CONNECT request";

/// What carries the streams.
pub(super) enum Over {
    /// The connection itself.
    Quic(quinn::Connection),
    /// A session in it.
    WebTransport(quinn::Connection, WebTransportSession),
}

impl Over {
    pub(super) fn connection(&self) -> &quinn::Connection {
        match self {
            Self::Quic(connection) | Self::WebTransport(connection, _) => connection,
        }
    }

    /// The number of the WebTransport session, if there is one.
    pub(super) fn session(&self) -> Option<u64> {
        match self {
            Self::Quic(_) => None,
            Self::WebTransport(_, session) => Some(session.id()),
        }
    }

    /// What a stream of ours begins with.
    pub(super) fn prefix(&self, kind: Kind) -> Vec<u8> {
        let mut prefix = Vec::new();
        if let Some(session) = self.session() {
            varint::write(if kind == Kind::Bidi { BIDI } else { UNI }, &mut prefix);
            varint::write(session, &mut prefix);
        }
        prefix
    }

    /// A stream's code, as it is written.
    pub(super) fn written(&self, code: u32) -> VarInt {
        match self {
            Self::Quic(_) => VarInt::from_u32(code),
            // Its last value is far below 2^62.
            Self::WebTransport(..) => VarInt::from_u64(error_to_http3(code)).unwrap_or(VarInt::MAX),
        }
    }

    /// A stream's code, as it was written. What is none of the session's, or too long, is 0.
    pub(super) fn read(&self, code: VarInt) -> u32 {
        let code = code.into_inner();
        match self {
            Self::Quic(_) => u32::try_from(code).unwrap_or(code::NONE),
            Self::WebTransport(..) => error_from_http3(code).unwrap_or(code::NONE),
        }
    }

    /// Waits until the other end has ended the session or the connection is gone: with which code, and why. A connection on which
    /// the session's stream carries too much is closed.
    pub(super) fn gone(&mut self) -> impl Future<Output = (u32, String)> + Send + 'static {
        let connection = self.connection().clone();
        let ended = match self {
            Self::Quic(_) => None,
            Self::WebTransport(_, session) => session.take_ended(),
        };
        async move {
            let Some(ended) = ended else { return reason(&connection.closed().await) };
            tokio::select! {
                biased;
                ended = ended => match ended {
                    SessionEnd::Said(code, why) => (code, why),
                    SessionEnd::Broken => connection.close_reason().map_or_else(unsaid, |error| reason(&error)),
                    SessionEnd::Excessive => {
                        connection.close(VarInt::from_u32(EXCESSIVE_LOAD), EXCESSIVE.as_bytes());
                        (EXCESSIVE_LOAD, EXCESSIVE.to_owned())
                    }
                },
                error = connection.closed() => reason(&error),
            }
        }
    }

    /// Closes the connection after the other end has ended the session. Returns whether it was closed by us before.
    pub(super) fn leave(self) -> bool {
        let closed = self.connection().close_reason();
        // A second end would hide the first.
        if closed.is_none() {
            let code = if self.session().is_some() { NO_ERROR } else { code::NONE };
            self.connection().close(VarInt::from_u32(code), b"");
        }
        closed == Some(ConnectionError::LocallyClosed)
    }

    /// Closes the session, and the connection with it.
    pub(super) async fn close(self, code: u32, why: &str) {
        match self {
            Self::Quic(connection) => connection.close(VarInt::from_u32(code), why.as_bytes()),
            Self::WebTransport(connection, session) => {
                // Whoever hears the connection's close first does not look any more at what the session's stream says.
                let _ = tokio::time::timeout(FAREWELL, session.close(code, why, &connection)).await;
                connection.close(VarInt::from_u32(NO_ERROR), b"");
            }
        }
    }
}

fn unsaid() -> (u32, String) {
    (code::NONE, "the session's stream broke off".to_owned())
}

/// Why a connection is gone.
fn reason(error: &ConnectionError) -> (u32, String) {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let code = close.error_code.into_inner();
            let code =
                if code == u64::from(NO_ERROR) { code::NONE } else { u32::try_from(code).unwrap_or(code::INTERNAL) };
            (code, String::from_utf8_lossy(&close.reason).into_owned())
        }
        ConnectionError::TimedOut => (code::INTERNAL, "nothing was heard any more".to_owned()),
        error => (code::INTERNAL, error.to_string()),
    }
}
