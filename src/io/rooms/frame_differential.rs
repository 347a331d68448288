//! The same bytes, to this decoder in any pieces and to `tungstenite` whole: they have to hear the same.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::{Breach, Decoder, Event};

/// The longest message of these tests, in bytes.
const LONGEST: usize = 300;

/// What was heard, up to the end or the first breach.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Text(String),
    Binary,
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Breach(Breach),
}

/// A frame as a client might send it, rightly or not.
#[derive(Clone, Debug)]
struct Sent {
    first: u8,
    key: Option<[u8; 4]>,
    payload: Vec<u8>,
    /// Bytes in which the length is written: 0 (within the second byte), 2 or 8.
    wide: usize,
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let len = self.payload.len();
        let mask = if self.key.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        // The library takes a short control frame whose length is written long; the protocol does not (section 5.2).
        match if self.first & 0x08 == 0 { self.wide } else { 0 } {
            0 if len < 126 => bytes.push(mask | len as u8),
            0 | 2 => {
                bytes.push(mask | 0x7e);
                bytes.extend((len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 0x7f);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(self.key.iter().flatten());
        let key = self.key.unwrap_or_default();
        bytes.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-zäß🔊]{0,12}".prop_map(String::into_bytes),
        2 => proptest::collection::vec(any::<u8>(), 0..8),
        1 => proptest::collection::vec(Just(b'x'), 120..320),
        2 => (900_u16..5_000, "[a-z]{0,5}").prop_map(|(code, reason)| [&code.to_be_bytes()[..], reason.as_bytes()].concat()),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    // Mostly what is allowed, or nothing would ever be heard.
    let first = prop_oneof![
        6 => Just(0x81), 3 => Just(0x01), 3 => Just(0x80), 2 => Just(0x00), 2 => Just(0x82), 1 => Just(0x02),
        2 => Just(0x89), 2 => Just(0x8a), 1 => Just(0x88), 1 => any::<u8>(),
    ];
    let key = prop_oneof![20 => any::<[u8; 4]>().prop_map(Some), 1 => Just(None)];
    let wide = prop_oneof![8 => Just(0), 1 => Just(2), 1 => Just(8)];
    (first, key, payload(), wide).prop_map(|(first, key, mut payload, wide)| {
        // Where code and reason are both wrong, either may be said to be.
        if first & 0x0f == 0x08 && std::str::from_utf8(payload.get(2..).unwrap_or_default()).is_err() {
            payload.truncate(2);
        }
        Sent { first, key, payload, wide }
    })
}

/// What our decoder hears of pieces of these lengths, over and over.
fn heard_by_ours(bytes: &[u8], pieces: &[usize]) -> Vec<Heard> {
    let (mut decoder, mut heard) = (Decoder::default(), Vec::new());
    let (mut rest, mut lengths) = (bytes.to_vec(), pieces.iter().cycle());
    while !rest.is_empty() {
        let mut piece: Vec<u8> = rest.drain(..rest.len().min(*lengths.next().unwrap())).collect();
        let taken = decoder.take(&mut piece, LONGEST, |event| {
            heard.extend(match event {
                Event::Text(text) => Some(Heard::Text(text.to_owned())),
                Event::Binary => Some(Heard::Binary),
                Event::Part => None,
                Event::Ping(payload) => Some(Heard::Ping(payload.to_vec())),
                Event::Pong => Some(Heard::Pong),
                Event::Close(code, _) => Some(Heard::Close(code)),
            });
            !matches!(heard.last(), Some(Heard::Close(_)))
        });
        if let Err(breach) = taken {
            heard.push(Heard::Breach(breach));
        }
        if matches!(heard.last(), Some(Heard::Close(_) | Heard::Breach(_))) {
            break;
        }
    }
    if let Some(last @ Heard::Close(Some(1_002))) = heard.last_mut() {
        *last = Heard::Breach(Breach::Protocol);
    }
    heard
}

/// A stream that is read to its end and takes everything.
struct Tape(Cursor<Vec<u8>>);

impl Read for Tape {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to)
    }
}

impl Write for Tape {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the library hears of the same.
fn heard_by_the_library(bytes: Vec<u8>) -> Vec<Heard> {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(LONGEST);
    config.max_frame_size = Some(LONGEST);
    let mut socket = WebSocket::from_raw_socket(Tape(Cursor::new(bytes)), Role::Server, Some(config));
    let mut heard = Vec::new();
    loop {
        heard.push(match socket.read() {
            Ok(Message::Text(text)) => Heard::Text(text.to_string()),
            Ok(Message::Binary(_)) => Heard::Binary,
            Ok(Message::Ping(payload)) => Heard::Ping(payload.to_vec()),
            Ok(Message::Pong(_)) => Heard::Pong,
            Ok(Message::Close(frame)) => match frame.map(|frame| frame.code.into()) {
                // A code that must not be sent becomes this one.
                Some(1_002) => Heard::Breach(Breach::Protocol),
                code => Heard::Close(code),
            },
            Ok(Message::Frame(_)) => unreachable!("frames are not read raw"),
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Heard::Breach(Breach::TooLong),
            Err(Error::Utf8(_)) => Heard::Breach(Breach::Utf8),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_)) => return heard,
            Err(Error::Protocol(_)) => Heard::Breach(Breach::Protocol),
            Err(other) => panic!("{other}"),
        });
        if matches!(heard.last(), Some(Heard::Close(_) | Heard::Breach(_))) {
            return heard;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_arrives_is_heard_as_the_library_hears_it(
        frames in proptest::collection::vec(sent(), 1..8),
        pieces in proptest::collection::vec(1_usize..40, 1..5),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(Sent::bytes).collect();
        for pieces in [pieces, vec![bytes.len()]] {
            let (mut ours, mut library) = (heard_by_ours(&bytes, &pieces), heard_by_the_library(bytes.clone()));
            // Of a frame that is wrong in two ways either may be said; which code goes with which is tested elsewhere.
            for heard in [&mut ours, &mut library] {
                if let Some(last @ Heard::Breach(Breach::TooLong)) = heard.last_mut() {
                    *last = Heard::Breach(Breach::Protocol);
                }
            }
            if library.last() == Some(&Heard::Breach(Breach::Utf8)) {
                // The library looks at each fragment; here a message is looked at when it is whole, if it ever is.
                library.pop();
                let later = ours.split_off(library.len().min(ours.len()));
                prop_assert!(!later.iter().any(|heard| matches!(heard, Heard::Text(_) | Heard::Binary)), "{:?}", later);
            }
            prop_assert_eq!(ours, library);
        }
    }
}
