//! Encodes the frames that the server sends, each once for all its recipients.

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::signaling::CloseCode;

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
