//! WebSocket frames of a client and of a server. The decoder gets the bytes in pieces and must decode the same events as `tungstenite`.
//! What this side encodes, both decoders must decode.

use std::io::{self, Cursor, Read, Write};

use jamjam_dev::io::websocket::frame::{
    FrameDecoder, FrameError, FrameEvent, MaskKey, Sender, close_frame, ping_frame, pong_frame, text_frame,
};
use jamjam_dev::signaling::CloseCode;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use crate::input::Input;

const MAX_MESSAGE_BYTES: usize = 300;

/// Longest frame header, and longest payload of a control frame.
const MAX_OVERHEAD: usize = 14 + 125;

/// The first byte selects the sender. The second and third byte are the lengths of the pieces, in turn. The rest is the stream.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let sender = if input.flag() { Sender::Server } else { Sender::Client };
    let pieces = [1 + usize::from(input.byte()), 1 + usize::from(input.byte())];
    let stream = input.rest();
    let ours = decode(stream, sender, &pieces);
    assert_eq!(ours, decode(stream, sender, &[stream.len().max(1)]), "the events depend on the pieces");
    compare(ours.clone(), decode_with_tungstenite(stream, sender), Leniency::of(stream));
    check_encoders(&ours, sender);
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Text(String),
    Binary,
    Ping(Vec<u8>),
    Pong,
    Close(Option<CloseCode>, String),
    Error(FrameError),
}

impl Event {
    fn is_end(&self) -> bool {
        matches!(self, Self::Close(..) | Self::Error(_))
    }
}

fn decode(stream: &[u8], sender: Sender, pieces: &[usize]) -> Vec<Event> {
    let (mut decoder, mut events) = (FrameDecoder::default(), Vec::new());
    let (mut rest, mut lengths) = (stream, pieces.iter().cycle());
    while !rest.is_empty() && !events.last().is_some_and(Event::is_end) {
        let (piece, later) = rest.split_at(rest.len().min(*lengths.next().unwrap_or(&1)));
        rest = later;
        let result = decoder.decode(&mut piece.to_vec(), sender, MAX_MESSAGE_BYTES, |event| {
            events.extend(match event {
                FrameEvent::Text(text) => Some(Event::Text(text.to_owned())),
                FrameEvent::Binary => Some(Event::Binary),
                FrameEvent::Fragment => None,
                FrameEvent::Ping(payload) => Some(Event::Ping(payload.to_vec())),
                FrameEvent::Pong => Some(Event::Pong),
                FrameEvent::Close(code, reason) => Some(Event::Close(code, reason.to_owned())),
            });
            !events.last().is_some_and(Event::is_end)
        });
        if let Err(error) = result {
            assert!(error.close_code().is_allowed_in_frame());
            events.push(Event::Error(error));
        } else {
            assert!(decoder.buffered_bytes() <= MAX_MESSAGE_BYTES + MAX_OVERHEAD, "{}", decoder.buffered_bytes());
        }
    }
    let is_text_within_limit = |event: &Event| !matches!(event, Event::Text(text) if text.len() > MAX_MESSAGE_BYTES);
    assert!(events.iter().all(is_text_within_limit));
    events
}

/// Reads from a buffer and discards writes.
struct ReadOnlyStream<'a>(Cursor<&'a [u8]>);

impl Read for ReadOnlyStream<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to)
    }
}

impl Write for ReadOnlyStream<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn decode_with_tungstenite(stream: &[u8], sender: Sender) -> Vec<Event> {
    let mut config = WebSocketConfig::default().read_buffer_size(512);
    config.max_message_size = Some(MAX_MESSAGE_BYTES);
    config.max_frame_size = Some(MAX_MESSAGE_BYTES);
    let role = if sender == Sender::Client { Role::Server } else { Role::Client };
    let mut socket = WebSocket::from_raw_socket(ReadOnlyStream(Cursor::new(stream)), role, Some(config));
    let mut events = Vec::new();
    while !events.last().is_some_and(Event::is_end) {
        events.push(match socket.read() {
            Ok(Message::Text(text)) => Event::Text(text.to_string()),
            Ok(Message::Binary(_)) => Event::Binary,
            Ok(Message::Ping(payload)) => Event::Ping(payload.to_vec()),
            Ok(Message::Pong(_)) => Event::Pong,
            Ok(Message::Close(None)) => Event::Close(None, String::new()),
            Ok(Message::Close(Some(frame))) => {
                Event::Close(Some(CloseCode(frame.code.into())), frame.reason.as_str().to_owned())
            }
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Event::Error(FrameError::MessageTooBig),
            Err(Error::Utf8(_)) => Event::Error(FrameError::InvalidUtf8),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_)) => break,
            Err(Error::Protocol(_)) => Event::Error(FrameError::Protocol),
            other => panic!("{other:?}"),
        });
    }
    events
}

/// Known reasons why this side rejects a stream that `tungstenite` accepts so far.
#[derive(Clone, Copy, Default)]
struct Leniency {
    /// A frame states its length in a longer field than needed, which RFC 6455 forbids.
    has_long_length: bool,
    /// The last frame is incomplete, so `tungstenite` has not checked its header yet.
    is_incomplete: bool,
}

impl Leniency {
    fn of(stream: &[u8]) -> Self {
        let mut leniency = Self::default();
        let mut rest = stream;
        while !rest.is_empty() {
            leniency.is_incomplete = true;
            let [_, second, more @ ..] = rest else { break };
            let (len, used, is_long) = match (second & 0x7f, more) {
                (126, [a, b, ..]) => {
                    let len = u64::from(u16::from_be_bytes([*a, *b]));
                    (len, 4, len < 126)
                }
                (127, _) if more.len() >= 8 => {
                    let len = more[..8].iter().fold(0, |len, byte| len << 8 | u64::from(*byte));
                    (len, 10, len < 1 << 16)
                }
                (126 | 127, _) => break,
                (short, _) => (short.into(), 2, false),
            };
            leniency.has_long_length |= is_long;
            let mask = if second & 0x80 != 0 { 4 } else { 0 };
            let whole = usize::try_from(len.saturating_add(used + mask)).unwrap_or(usize::MAX);
            let Some(next) = rest.get(whole..) else { break };
            leniency.is_incomplete = false;
            rest = next;
        }
        leniency
    }
}

/// Compares the events, except for known differences.
fn compare(mut ours: Vec<Event>, mut library: Vec<Event>, leniency: Leniency) {
    for events in [&mut ours, &mut library] {
        match events.last_mut() {
            // If a frame has two errors, either may be reported.
            Some(last @ Event::Error(FrameError::MessageTooBig)) => *last = Event::Error(FrameError::Protocol),
            // `tungstenite` reports the code 1002 instead of a code that is not allowed, and rejects 1014, which IANA has assigned.
            Some(last @ Event::Close(Some(CloseCode::PROTOCOL_ERROR | CloseCode(1014)), _)) => {
                *last = Event::Error(FrameError::Protocol);
            }
            _ => {}
        }
    }
    let is_early_error = leniency.is_incomplete && ours.len() > library.len();
    if (leniency.has_long_length || is_early_error) && ours.last() == Some(&Event::Error(FrameError::Protocol)) {
        ours.pop();
        library.truncate(ours.len());
    }
    if library.last() == Some(&Event::Error(FrameError::InvalidUtf8)) {
        // `tungstenite` checks the text of each fragment, and reports an invalid reason before an invalid code.
        library.pop();
        let later = ours.split_off(library.len().min(ours.len()));
        assert!(!later.iter().any(|event| matches!(event, Event::Text(_) | Event::Binary)), "{later:?}");
    }
    assert_eq!(ours, library);
}

/// Encodes the events as the sender would, and decodes them with both decoders.
fn check_encoders(events: &[Event], sender: Sender) {
    let mask: MaskKey = (sender == Sender::Client).then_some([0x12, 0x80, 0xff, 0]);
    let mut stream = Vec::new();
    let mut sent = Vec::new();
    for event in events {
        let frame = match event {
            Event::Text(text) => text_frame(text, mask),
            Event::Ping(payload) if payload.is_empty() => ping_frame(mask),
            Event::Ping(payload) => pong_frame(payload, mask),
            Event::Close(code, reason) => close_frame(*code, reason, mask),
            Event::Binary | Event::Pong | Event::Error(_) => continue,
        };
        stream.extend_from_slice(&frame);
        sent.push(match event {
            Event::Ping(payload) if !payload.is_empty() => Event::Pong,
            other => other.clone(),
        });
    }
    assert_eq!(decode(&stream, sender, &[7]), sent);
    compare(sent, decode_with_tungstenite(&stream, sender), Leniency::default());
}
