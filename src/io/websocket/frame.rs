//! Encodes close frames, and names the errors of the library.

use tungstenite::error::ProtocolError;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;

use crate::signaling::CloseCode;
use crate::signaling::WebSocketError;

/// A close frame; without a code its payload is empty.
pub(super) fn close_frame(code: Option<CloseCode>, reason: String) -> Vec<u8> {
    let frame = Frame::close(code.map(|code| CloseFrame { code: code.get().into(), reason: reason.into() }));
    let mut bytes = Vec::with_capacity(frame.len());
    // Writing to a vector never fails.
    let _ = frame.format(&mut bytes);
    bytes
}

/// Why the library ends a connection. `None` if the connection was lost.
pub(in crate::io) fn error_of_library(error: &tungstenite::Error) -> Option<WebSocketError> {
    match error {
        tungstenite::Error::Io(error) => error.get_ref()?.downcast_ref().copied(),
        tungstenite::Error::Utf8(_) => Some(WebSocketError::InvalidUtf8),
        tungstenite::Error::Capacity(_) => Some(WebSocketError::MessageTooBig),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        tungstenite::Error::Protocol(_) => Some(WebSocketError::Protocol),
        _ => None,
    }
}
