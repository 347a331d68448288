//! Encodes the frames that the server sends, each once for all its recipients, and names the errors that end a connection.

use thiserror::Error;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::close_code::CloseCode;

pub(in crate::io) fn text_frame(text: String) -> Vec<u8> {
    encode(Frame::message(text, OpCode::Data(Data::Text), true))
}

pub(in crate::io) fn ping_frame() -> Vec<u8> {
    encode(Frame::ping(Vec::new()))
}

/// A close frame; without a code its payload is empty.
pub(super) fn close_frame(code: Option<CloseCode>, reason: String) -> Vec<u8> {
    encode(Frame::close(code.map(|code| CloseFrame { code: code.get().into(), reason: reason.into() })))
}

fn encode(frame: Frame) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frame.len());
    // Writing to a vector never fails.
    let _ = frame.format(&mut bytes);
    bytes
}

/// Why an endpoint ends a WebSocket connection: a frame, a limit, or a peer that reads too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in crate::io) enum WebSocketError {
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
    #[error("the client reads too slowly")]
    SlowReader,
}

impl WebSocketError {
    /// The close code for this error (section 7.4.1).
    pub(in crate::io) fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig => CloseCode::MESSAGE_TOO_BIG,
            Self::RateLimit => CloseCode::POLICY_VIOLATION,
            Self::Memory | Self::SlowReader => CloseCode::TRY_AGAIN_LATER,
        }
    }

    /// `None` if the connection was lost.
    pub(in crate::io) fn from_library(error: &tungstenite::Error) -> Option<Self> {
        match error {
            tungstenite::Error::Io(error) => error.get_ref()?.downcast_ref().copied(),
            tungstenite::Error::Utf8(_) => Some(Self::InvalidUtf8),
            tungstenite::Error::Capacity(_) => Some(Self::MessageTooBig),
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            tungstenite::Error::Protocol(_) => Some(Self::Protocol),
            _ => None,
        }
    }
}
