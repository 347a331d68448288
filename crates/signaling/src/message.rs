//! Parses text messages without the hub.

use serde_json::Value;

use super::control_surface::{self, messages as control_surface_messages};
use super::dialect::{Dialect, DialectSet};
use super::foreign_protocol::ForeignProtocol;
use super::json::{self, JsonError, MessageError};
use super::{jamjam, webrtc};

/// Parses the messages of one connection.
#[derive(Clone, Copy, Debug)]
pub struct MessageParser {
    /// `None` until the first message selects the dialect.
    pub(super) dialect: Option<Dialect>,
    /// The dialects that the first message can select.
    pub(super) enabled: DialectSet,
    /// Maximum length of a message, in bytes. The broadcast dialect has its own limit.
    pub(super) max_message_bytes: usize,
}

/// A text message and its content.
pub struct ParsedText<'a> {
    pub(super) text: &'a str,
    /// The dialect of the connection, which the type of the first message selects.
    pub(super) dialect: Option<Dialect>,
    pub(super) message: Result<ParsedMessage<'a>, MessageError>,
}

/// The content of a message.
pub(super) enum ParsedMessage<'a> {
    /// The error is the reason with which the message is rejected.
    Jamjam(Result<jamjam::ClientMessage, &'static str>),
    Broadcast(Result<Value, JsonError>),
    ControlSurface(control_surface_messages::ClientMessage<'a>),
    WebRtc(webrtc::ClientMessage<'a>),
    /// The first message of a client of another server.
    Foreign(ForeignProtocol),
}

impl ParsedText<'_> {
    /// Whether the message only requests the list of jamjam rooms.
    pub fn requests_room_list(&self) -> bool {
        matches!(self.message, Ok(ParsedMessage::Jamjam(Ok(jamjam::ClientMessage::ListRooms))))
    }
}

impl MessageParser {
    /// Parses a message. Its length, depth and number of values are checked first.
    pub fn parse(self, text: &str) -> ParsedText<'_> {
        let mut dialect = self.dialect;
        let message = self.check_size(text).and_then(|()| {
            if dialect.is_none() {
                let message_type = json::message_type(text)?;
                dialect = self.selected_dialect(&message_type, text);
                if let (None, Some(foreign)) = (dialect, ForeignProtocol::of_first_message(&message_type, text)) {
                    return Ok(ParsedMessage::Foreign(foreign));
                }
            }
            match dialect.ok_or(MessageError::UNKNOWN_TYPE)? {
                Dialect::Jamjam => jamjam::parse(text).map(ParsedMessage::Jamjam),
                Dialect::Broadcast => Ok(ParsedMessage::Broadcast(json::parse(text))),
                Dialect::ControlSurface => {
                    control_surface_messages::ClientMessage::parse(text).map(ParsedMessage::ControlSurface)
                }
                Dialect::WebRtc => webrtc::ClientMessage::parse(text).map(ParsedMessage::WebRtc),
            }
        });
        ParsedText { text, dialect, message }
    }

    fn check_size(self, text: &str) -> Result<(), MessageError> {
        // The broadcast dialect has its own limits and replies.
        if self.dialect == Some(Dialect::Broadcast) {
            return Ok(());
        }
        if text.len() > self.max_message_bytes {
            return Err(MessageError::too_big(self.max_message_bytes));
        }
        // Without this check, serde would also accept an array of the field values.
        if !text.trim_start().starts_with('{') {
            return Err(MessageError::ignored("not a JSON object"));
        }
        if json::is_too_large(text) { Err(MessageError::TOO_LARGE) } else { Ok(()) }
    }

    /// The dialect that a first message selects. The URL selects the other dialects.
    fn selected_dialect(self, message_type: &str, text: &str) -> Option<Dialect> {
        let is_selected = |dialect: &Dialect| match dialect {
            Dialect::Jamjam => jamjam::MESSAGE_TYPES.contains(&message_type),
            Dialect::ControlSurface => control_surface::is_selected_by(message_type, text),
            Dialect::Broadcast | Dialect::WebRtc => false,
        };
        Dialect::ALL.into_iter().filter(|dialect| self.enabled.contains(*dialect)).find(is_selected)
    }
}
