//! WebSocket frames (RFC 6455, section 5): an incremental decoder and an encoder.
//!
//! The decoder stores nothing between two messages. A declared length reserves no memory: the buffer grows with the bytes that arrive.

use std::ops::RangeInclusive;

use axum::body::Bytes;
use thiserror::Error;
use tungstenite::error::ProtocolError;

use crate::signaling::CloseCode;

/// Maximum payload of a control frame, in bytes (section 5.5).
const MAX_CONTROL_PAYLOAD_BYTES: usize = 125;

/// Opcodes (section 11.8).
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Header bit that is set in the last frame of a message.
const FIN: u8 = 0x80;

/// Header bit that is set if the frame contains a masking key.
const MASKED: u8 = 0x80;

/// Special values of the 7-bit length field: another length field of 16 or 64 bits follows (section 5.2).
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// Values allowed in the longer length fields: a length must be encoded in the shortest field that fits, and the highest bit of the 64-bit
/// field must be 0 (section 5.2).
const ALLOWED_16: RangeInclusive<u64> = LENGTH_16 as u64..=u16::MAX as u64;
const ALLOWED_64: RangeInclusive<u64> = u16::MAX as u64 + 1..=i64::MAX as u64;

/// Longest frame header without a masking key, in bytes.
const MAX_HEADER_BYTES: usize = 10;

/// Why the rest of a stream cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("invalid WebSocket frame")]
    Protocol,
    #[error("text is not UTF-8")]
    InvalidUtf8,
    #[error("message too long")]
    MessageTooBig,
}

impl FrameError {
    /// The close code for this error (section 7.4.1).
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig => CloseCode::MESSAGE_TOO_BIG,
        }
    }

    /// `None` if the connection was lost.
    pub(in crate::io) fn from_library(error: &tungstenite::Error) -> Option<Self> {
        match error {
            tungstenite::Error::Utf8(_) => Some(Self::InvalidUtf8),
            tungstenite::Error::Capacity(_) => Some(Self::MessageTooBig),
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            tungstenite::Error::Protocol(_) => Some(Self::Protocol),
            _ => None,
        }
    }
}

/// A decoded frame or message.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameEvent<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message. The content of the message is not used.
    Binary,
    /// A fragment that does not complete its message.
    Fragment,
    Ping(&'a [u8]),
    Pong,
    /// A close frame with its code and reason.
    Close(Option<CloseCode>, &'a str),
}

/// The side that sends a frame. A client masks its frames, a server does not (section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
}

/// Incremental decoder of the frames of one sender. Between two reads, it stores only incomplete frames and messages.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// A frame that has not arrived completely.
    partial_frame: Vec<u8>,
    /// Opcode and length so far of a fragmented message.
    fragmented: Option<(u8, usize)>,
    /// Text of the fragments so far.
    fragment_text: Vec<u8>,
}

/// The masking key of a client frame; `None` for a server frame.
pub type MaskKey = Option<[u8; 4]>;

struct FrameHeader {
    fin: bool,
    opcode: u8,
    len: usize,
    mask: MaskKey,
    /// Offset of the payload.
    payload_offset: usize,
}

impl FrameDecoder {
    /// Decodes `read` and passes each event to `on_event` until `on_event` returns false.
    pub fn decode(
        &mut self,
        read: &mut [u8],
        sender: Sender,
        max_message_bytes: usize,
        mut on_event: impl FnMut(FrameEvent<'_>) -> bool,
    ) -> Result<(), FrameError> {
        if self.partial_frame.is_empty() {
            let used = self.decode_frames(read, sender, max_message_bytes, &mut on_event)?;
            self.partial_frame.extend_from_slice(&read[used..]);
            return Ok(());
        }
        self.partial_frame.extend_from_slice(read);
        let mut whole = std::mem::take(&mut self.partial_frame);
        let used = self.decode_frames(&mut whole, sender, max_message_bytes, &mut on_event)?;
        if used == 0 {
            self.partial_frame = whole;
        } else {
            // The rest is copied to a buffer of the exact size. Therefore, an idle connection uses little memory.
            self.partial_frame = whole[used..].to_vec();
        }
        Ok(())
    }

    /// Bytes of incomplete frames and messages.
    pub fn buffered_bytes(&self) -> usize {
        self.partial_frame.len() + self.fragment_text.len()
    }

    /// Decodes complete frames. Returns the total length of these frames in bytes.
    fn decode_frames(
        &mut self,
        bytes: &mut [u8],
        sender: Sender,
        max_message_bytes: usize,
        on_event: &mut impl FnMut(FrameEvent<'_>) -> bool,
    ) -> Result<usize, FrameError> {
        let mut used = 0;
        while let Some(header) = self.decode_header(&bytes[used..], sender, max_message_bytes)? {
            let payload = used + header.payload_offset..used + header.payload_offset + header.len;
            if payload.end > bytes.len() {
                break;
            }
            used = payload.end;
            let payload = &mut bytes[payload];
            if let Some(key) = header.mask {
                apply_mask(payload, key);
            }
            if !self.handle_frame(&header, payload, on_event)? {
                return Ok(bytes.len());
            }
        }
        Ok(used)
    }

    /// Parses a frame header and checks that the frame is allowed at this point. `None` if the header is incomplete.
    fn decode_header(
        &self,
        bytes: &[u8],
        sender: Sender,
        max_message_bytes: usize,
    ) -> Result<Option<FrameHeader>, FrameError> {
        let &[first, second, ref more @ ..] = bytes else { return Ok(None) };
        let (fin, opcode) = (first & FIN != 0, first & 0x0f);
        let (masked, short_len) = (second & MASKED != 0, second & 0x7f);
        // No extension is negotiated, so the reserved bits must be zero.
        if first & 0x70 != 0 || masked != (sender == Sender::Client) {
            return Err(FrameError::Protocol);
        }
        let is_allowed = match opcode {
            CONTINUATION => self.fragmented.is_some(),
            TEXT | BINARY => self.fragmented.is_none(),
            CLOSE | PING | PONG => fin && usize::from(short_len) <= MAX_CONTROL_PAYLOAD_BYTES,
            _ => false,
        };
        if !is_allowed {
            return Err(FrameError::Protocol);
        }
        let (len, allowed, payload_offset) = match short_len {
            LENGTH_16 => {
                let Some(len) = more.first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*len)), ALLOWED_16, 4)
            }
            LENGTH_64 => {
                let Some(len) = more.first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*len), ALLOWED_64, 10)
            }
            short => (short.into(), 0..=u64::MAX, 2),
        };
        if !allowed.contains(&len) {
            return Err(FrameError::Protocol);
        }
        let before = self.fragmented.map_or(0, |(_, len)| len);
        let len =
            usize::try_from(len).ok().filter(|len| opcode >= CLOSE || *len <= max_message_bytes.saturating_sub(before));
        let len = len.ok_or(FrameError::MessageTooBig)?;
        if !masked {
            return Ok(Some(FrameHeader { fin, opcode, len, mask: None, payload_offset }));
        }
        let Some(key) = bytes.get(payload_offset..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
        Ok(Some(FrameHeader { fin, opcode, len, mask: Some(*key), payload_offset: payload_offset + 4 }))
    }

    /// Emits the event of a complete frame. Returns false if no more events are wanted.
    fn handle_frame(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        on_event: &mut impl FnMut(FrameEvent<'_>) -> bool,
    ) -> Result<bool, FrameError> {
        match header.opcode {
            PING => return Ok(on_event(FrameEvent::Ping(payload))),
            PONG => return Ok(on_event(FrameEvent::Pong)),
            CLOSE => {
                let (code, reason) = parse_close(payload)?;
                return Ok(on_event(FrameEvent::Close(code, reason)));
            }
            _ => {}
        }
        if header.fin && self.fragmented.is_none() {
            return emit_message(header.opcode, payload, on_event);
        }
        let (kind, len) = self.fragmented.unwrap_or((header.opcode, 0));
        if kind == TEXT {
            self.fragment_text.extend_from_slice(payload);
        }
        if !header.fin {
            self.fragmented = Some((kind, len + payload.len()));
            return Ok(on_event(FrameEvent::Fragment));
        }
        self.fragmented = None;
        emit_message(kind, &std::mem::take(&mut self.fragment_text), on_event)
    }
}

fn emit_message(
    kind: u8,
    payload: &[u8],
    on_event: &mut impl FnMut(FrameEvent<'_>) -> bool,
) -> Result<bool, FrameError> {
    if kind == BINARY {
        return Ok(on_event(FrameEvent::Binary));
    }
    let text = std::str::from_utf8(payload).map_err(|_| FrameError::InvalidUtf8)?;
    Ok(on_event(FrameEvent::Text(text)))
}

/// Code and reason of a close frame. Fails if the code is incomplete or not allowed in a frame. Also fails if the reason is not UTF-8.
fn parse_close(payload: &[u8]) -> Result<(Option<CloseCode>, &str), FrameError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(FrameError::Protocol) };
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.is_allowed_in_frame() {
        return Err(FrameError::Protocol);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| FrameError::InvalidUtf8)?;
    Ok((Some(code), reason))
}

fn apply_mask(payload: &mut [u8], key: [u8; 4]) {
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        word.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    }
    words.into_remainder().iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
}

/// A text message in one frame.
pub fn text_frame(text: &str, mask: MaskKey) -> Bytes {
    encode_frame(TEXT, &[text.as_bytes()], mask)
}

pub fn ping_frame(mask: MaskKey) -> Bytes {
    encode_frame(PING, &[], mask)
}

pub fn pong_frame(payload: &[u8], mask: MaskKey) -> Bytes {
    encode_frame(PONG, &[payload], mask)
}

/// A close frame; without a code its payload is empty.
pub fn close_frame(code: Option<CloseCode>, reason: &str, mask: MaskKey) -> Bytes {
    match code {
        Some(code) => encode_frame(CLOSE, &[&code.get().to_be_bytes(), reason.as_bytes()], mask),
        None => encode_frame(CLOSE, &[], mask),
    }
}

fn encode_frame(opcode: u8, parts: &[&[u8]], mask: MaskKey) -> Bytes {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    let mask_bit = if mask.is_some() { MASKED } else { 0 };
    let mut frame = Vec::with_capacity(MAX_HEADER_BYTES + mask.map_or(0, |key| key.len()) + len);
    frame.push(FIN | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ ..=125), _) => frame.push(mask_bit | short),
        (_, Ok(middle)) => {
            frame.push(mask_bit | LENGTH_16);
            frame.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            frame.push(mask_bit | LENGTH_64);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend(mask.iter().flatten());
    let payload_offset = frame.len();
    for part in parts {
        frame.extend_from_slice(part);
    }
    if let Some(key) = mask {
        apply_mask(&mut frame[payload_offset..], key);
    }
    frame.into()
}

/// Differential test: this decoder, with the input in arbitrary pieces, must decode the same events as `tungstenite`.
#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, Read, Write};

    use proptest::prelude::*;
    use tungstenite::error::{CapacityError, Error, ProtocolError};
    use tungstenite::protocol::{Role, WebSocketConfig};
    use tungstenite::{Message, WebSocket};

    use super::*;

    const MAX_MESSAGE_BYTES: usize = 300;

    /// An event in a form that both decoders can produce.
    #[derive(Debug, PartialEq, Eq)]
    enum DecodedEvent {
        Text(String),
        Binary,
        Ping(Vec<u8>),
        Pong,
        Close(Option<CloseCode>),
        Error(FrameError),
    }

    /// A client frame, valid or not.
    #[derive(Clone, Debug)]
    struct TestFrame {
        first: u8,
        mask: Option<[u8; 4]>,
        payload: Vec<u8>,
    }

    impl TestFrame {
        fn bytes(&self) -> Vec<u8> {
            let len = self.payload.len();
            let mask = if self.mask.is_some() { 0x80 } else { 0 };
            let mut bytes = vec![self.first];
            if len < 126 {
                bytes.push(mask | len as u8);
            } else {
                bytes.push(mask | 0x7e);
                bytes.extend((len as u16).to_be_bytes());
            }
            bytes.extend(self.mask.iter().flatten());
            let key = self.mask.unwrap_or_default();
            bytes.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
            bytes
        }
    }

    fn payload_strategy() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            6 => "[a-zäß🔊]{0,12}".prop_map(String::into_bytes),
            2 => proptest::collection::vec(any::<u8>(), 0..8),
            1 => proptest::collection::vec(Just(b'x'), 120..320),
            2 => (900_u16..5_000, "[a-z]{0,5}").prop_map(|(code, reason)| [&code.to_be_bytes()[..], reason.as_bytes()].concat()),
        ]
    }

    fn frame_strategy() -> impl Strategy<Value = TestFrame> {
        // Most frames are valid, so that long sequences are decoded.
        let first = prop_oneof![
            6 => Just(0x81), 3 => Just(0x01), 3 => Just(0x80), 2 => Just(0x00), 2 => Just(0x82), 1 => Just(0x02),
            2 => Just(0x89), 2 => Just(0x8a), 1 => Just(0x88), 1 => any::<u8>(),
        ];
        let mask = prop_oneof![20 => any::<[u8; 4]>().prop_map(Some), 1 => Just(None)];
        (first, mask, payload_strategy()).prop_map(|(first, mask, mut payload)| {
            // If both the code and the reason are invalid, either error may be reported.
            if first & 0x0f == 0x08 && std::str::from_utf8(payload.get(2..).unwrap_or_default()).is_err() {
                payload.truncate(2);
            }
            TestFrame { first, mask, payload }
        })
    }

    /// Splits `bytes` into pieces and passes them to the decoder one by one. `pieces` lists the lengths of the pieces. After the last
    /// length, the list starts again.
    fn decode_with_ours(bytes: &[u8], pieces: &[usize]) -> Vec<DecodedEvent> {
        let (mut decoder, mut events) = (FrameDecoder::default(), Vec::new());
        let (mut rest, mut lengths) = (bytes.to_vec(), pieces.iter().cycle());
        while !rest.is_empty() {
            let mut piece: Vec<u8> = rest.drain(..rest.len().min(*lengths.next().unwrap())).collect();
            let result = decoder.decode(&mut piece, Sender::Client, MAX_MESSAGE_BYTES, |event| {
                events.extend(match event {
                    FrameEvent::Text(text) => Some(DecodedEvent::Text(text.to_owned())),
                    FrameEvent::Binary => Some(DecodedEvent::Binary),
                    FrameEvent::Fragment => None,
                    FrameEvent::Ping(payload) => Some(DecodedEvent::Ping(payload.to_vec())),
                    FrameEvent::Pong => Some(DecodedEvent::Pong),
                    FrameEvent::Close(code, _) => Some(DecodedEvent::Close(code)),
                });
                !matches!(events.last(), Some(DecodedEvent::Close(_)))
            });
            if let Err(error) = result {
                events.push(DecodedEvent::Error(error));
            }
            if matches!(events.last(), Some(DecodedEvent::Close(_) | DecodedEvent::Error(_))) {
                break;
            }
        }
        // If `tungstenite` does not allow the code of a close frame, it reports the code 1002 instead. This decoder accepts the close code
        // 1014 (bad gateway), but `tungstenite` rejects it. IANA has assigned this code. Therefore, both 1002 and 1014 count as a protocol
        // error in this comparison.
        if let Some(last @ DecodedEvent::Close(Some(CloseCode::PROTOCOL_ERROR | CloseCode(1014)))) = events.last_mut() {
            *last = DecodedEvent::Error(FrameError::Protocol);
        }
        events
    }

    /// Reads from a buffer and discards writes.
    struct ReadOnlyStream(Cursor<Vec<u8>>);

    impl Read for ReadOnlyStream {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            self.0.read(to)
        }
    }

    impl Write for ReadOnlyStream {
        fn write(&mut self, from: &[u8]) -> io::Result<usize> {
            Ok(from.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn decode_with_tungstenite(bytes: Vec<u8>) -> Vec<DecodedEvent> {
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MAX_MESSAGE_BYTES);
        config.max_frame_size = Some(MAX_MESSAGE_BYTES);
        let mut socket = WebSocket::from_raw_socket(ReadOnlyStream(Cursor::new(bytes)), Role::Server, Some(config));
        let mut events = Vec::new();
        loop {
            events.push(match socket.read() {
                Ok(Message::Text(text)) => DecodedEvent::Text(text.to_string()),
                Ok(Message::Binary(_)) => DecodedEvent::Binary,
                Ok(Message::Ping(payload)) => DecodedEvent::Ping(payload.to_vec()),
                Ok(Message::Pong(_)) => DecodedEvent::Pong,
                Ok(Message::Close(frame)) => match frame.map(|frame| CloseCode(frame.code.into())) {
                    // `tungstenite` reports this code instead of a code that is not allowed.
                    Some(CloseCode::PROTOCOL_ERROR) => DecodedEvent::Error(FrameError::Protocol),
                    code => DecodedEvent::Close(code),
                },
                Ok(Message::Frame(_)) => unreachable!("frames are not read raw"),
                Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                    DecodedEvent::Error(FrameError::MessageTooBig)
                }
                Err(Error::Utf8(_)) => DecodedEvent::Error(FrameError::InvalidUtf8),
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_)) => return events,
                Err(Error::Protocol(_)) => DecodedEvent::Error(FrameError::Protocol),
                Err(other) => panic!("{other}"),
            });
            if matches!(events.last(), Some(DecodedEvent::Close(_) | DecodedEvent::Error(_))) {
                return events;
            }
        }
    }

    /// `tungstenite` accepts these frames.
    #[test]
    fn length_in_a_longer_field_than_needed_is_a_protocol_error() {
        let decode = |sender, first: u8, length: &[u8]| {
            let (mask_bit, key): (u8, &[u8]) = if sender == Sender::Client { (MASKED, &[0; 4]) } else { (0, &[]) };
            let mut bytes = [&[first, mask_bit | length[0]], &length[1..], key].concat();
            FrameDecoder::default().decode(&mut bytes, sender, 1 << 20, |_| true)
        };
        for sender in [Sender::Client, Sender::Server] {
            for first in [0x81, 0x01, 0x82] {
                for len in [0, 1, 125] {
                    let short = [&[LENGTH_16][..], &u16::to_be_bytes(len)].concat();
                    assert_eq!(decode(sender, first, &short), Err(FrameError::Protocol), "{sender:?} {first:#x} {len}");
                }
                for len in [0, 125, 126, 0xffff, 1 << 63, u64::MAX] {
                    let long = [&[LENGTH_64][..], &u64::to_be_bytes(len)].concat();
                    assert_eq!(decode(sender, first, &long), Err(FrameError::Protocol), "{sender:?} {first:#x} {len}");
                }
                assert_eq!(decode(sender, first, &[LENGTH_16, 0, 126]), Ok(()));
                assert_eq!(decode(sender, first, &[LENGTH_64, 0, 0, 0, 0, 0, 1, 0, 0]), Ok(()));
                let too_long = [&[LENGTH_64][..], &i64::MAX.to_be_bytes()].concat();
                assert_eq!(decode(sender, first, &too_long), Err(FrameError::MessageTooBig));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_decoded_as_tungstenite_decodes_them(
            frames in proptest::collection::vec(frame_strategy(), 1..8),
            pieces in proptest::collection::vec(1_usize..40, 1..5),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(TestFrame::bytes).collect();
            for pieces in [pieces, vec![bytes.len()]] {
                let (mut ours, mut library) = (decode_with_ours(&bytes, &pieces), decode_with_tungstenite(bytes.clone()));
                // If a frame has two errors, either may be reported. Other tests check the code of each error.
                for events in [&mut ours, &mut library] {
                    if let Some(last @ DecodedEvent::Error(FrameError::MessageTooBig)) = events.last_mut() {
                        *last = DecodedEvent::Error(FrameError::Protocol);
                    }
                }
                if library.last() == Some(&DecodedEvent::Error(FrameError::InvalidUtf8)) {
                    // `tungstenite` checks the UTF-8 text of each fragment. This decoder checks only complete messages. Therefore,
                    // `tungstenite` may report an error earlier.
                    library.pop();
                    let later = ours.split_off(library.len().min(ours.len()));
                    prop_assert!(!later.iter().any(|event| matches!(event, DecodedEvent::Text(_) | DecodedEvent::Binary)), "{:?}", later);
                }
                prop_assert_eq!(ours, library);
            }
        }
    }
}
