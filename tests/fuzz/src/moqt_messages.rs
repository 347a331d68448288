//! MOQT messages are decoded, encoded and decoded again. A stream is split into the same messages, however its bytes arrive.

use std::fmt::Debug;

use bytes::Bytes;
use jamjam_dev::moqt::codec::{
    MAX_BODY_BYTES, MAX_PARAMETERS, MAX_PATH_PARTS, MAX_SUFFIXES, MAX_VERSIONS, read_varint, varint_len,
};
use jamjam_dev::moqt::message::{
    Announce, AnnounceInit, AnnouncePlease, GroupHeader, MessageBody, SessionClient, SessionServer, SessionUpdate,
    Subscribe, SubscribeGap, SubscribeOk, SubscribeUpdate,
};
use jamjam_dev::moqt::version::PathFormat;
use jamjam_dev::moqt::{DecodeError, Deframer, MoqtVersion, TrackPath, path_matches};

use crate::input::Input;

/// The first byte selects the version and the message, or the framing. The rest is the body or the stream.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let config = input.byte();
    let kind = config >> 1 & 0x3f;
    // The lowest bit selects one of the versions of gomoqt, or with the highest bit one of the versions of moq-lite.
    let version = MoqtVersion::ALL[usize::from(if config & 0x80 == 0 { 2 + (config & 1) } else { config & 1 })];
    if kind >= 12 {
        let piece = 1 + usize::from(input.byte());
        return check_deframer(input.rest(), piece);
    }
    let body = input.rest();
    match kind {
        0 => drop(round_trip::<SessionClient>(version, body).inspect(|message| {
            assert!(message.versions.len() <= MAX_VERSIONS && message.parameters.len() <= MAX_PARAMETERS);
            let path = message.path().unwrap_or_default();
            assert!(path.contains('?') || path_matches(path, path) && path_matches(path, &format!("{path}?x")));
        })),
        1 => _ = round_trip::<SessionServer>(version, body),
        2 => _ = round_trip::<SessionUpdate>(version, body),
        3 => drop(round_trip::<AnnouncePlease>(version, body).inspect(|message| check_track(&message.prefix, version))),
        4 => drop(round_trip::<AnnounceInit>(version, body).inspect(|message| {
            assert!(version.rules().has_announce_init && message.suffixes.len() <= MAX_SUFFIXES);
        })),
        5 => drop(round_trip::<Announce>(version, body).inspect(|message| check_track(&message.path, version))),
        6 => drop(round_trip::<SubscribeUpdate>(version, body).inspect(|message| {
            let Some(last) = message.last_group else { return };
            assert!(message.first_group.is_some_and(|first| first > last) || message.contains(last));
            assert!(!message.contains(last + 1));
        })),
        7 => drop(round_trip::<Subscribe>(version, body).inspect(|message| check_track(&message.track, version))),
        8 => drop(round_trip::<SubscribeOk>(version, body)),
        9 => {
            _ = round_trip::<SubscribeGap>(version, body);
            _ = round_trip::<GroupHeader>(version, body);
        }
        _ => {}
    }
}

fn round_trip<T: MessageBody + PartialEq + Debug>(version: MoqtVersion, body: &[u8]) -> Option<T> {
    let message = match T::from_bytes(version, body) {
        Ok(message) => message,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let framed = message.encode_with_length(version);
    let (len, prefix) = read_varint(&framed)?;
    let encoded = &framed[prefix..];
    assert_eq!(len, encoded.len() as u64);
    assert!(encoded.len() <= body.len() + 2, "the numbers of parts and parameters are optional");
    assert_eq!(T::from_bytes(version, encoded).as_ref(), Ok(&message));
    // Every strict prefix of the shortest encoding is incomplete, or ends before the optional parameters.
    if let Some(shorter) = encoded.len().checked_sub(1).and_then(|len| T::from_bytes(version, &encoded[..len]).ok()) {
        assert_eq!(encoded.last(), Some(&0), "{shorter:?}");
    }
    Some(message)
}

fn check_track(path: &TrackPath, version: MoqtVersion) {
    assert!(path.0.len() <= MAX_PATH_PARTS);
    let root = TrackPath::default();
    assert!(path.has_prefix(&root, version) && path.has_prefix(path, version));
    let longer = path.join("x");
    assert!(longer.has_prefix(path, version) && longer.byte_len() == path.byte_len() + 1 && !longer.is_empty());
    assert!(!path.has_prefix(&longer, version), "{path}");
    if longer.has_prefix(path, MoqtVersion::Gomoqt09) {
        let whole = path.to_slash_string() + &longer.suffix_after(path, MoqtVersion::Gomoqt09);
        assert_eq!(whole, longer.to_slash_string());
    }
    if version.rules().paths == PathFormat::Segments {
        assert_eq!(longer.suffix_after(path, version), "x");
    }
}

/// The messages of a stream, and how the stream ends.
fn split(stream: &[u8], piece: usize) -> (Vec<Bytes>, Result<(), DecodeError>) {
    let (mut deframer, mut messages) = (Deframer::default(), Vec::new());
    for bytes in stream.chunks(piece) {
        deframer.push(bytes);
        loop {
            let before = deframer.buffered();
            match deframer.next_length_prefixed() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
            assert!(deframer.buffered() < before);
        }
    }
    let end = deframer.check_end();
    (messages, end)
}

fn check_deframer(stream: &[u8], piece: usize) {
    let pieces = split(stream, piece);
    assert_eq!(pieces, split(stream, stream.len().max(1)));
    let (messages, end) = pieces;
    let total: usize = messages.iter().map(|message| message.len() + varint_len(message.len() as u64)).sum();
    assert!(total <= stream.len() && messages.iter().all(|message| message.len() <= MAX_BODY_BYTES));
    if let Err(DecodeError::TooLong(len)) = end {
        assert!(len > MAX_BODY_BYTES as u64);
    }
}
