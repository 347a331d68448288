//! Wire encoding of MOQT: QUIC varints (RFC 9000, section 16), the fields of message bodies, and the [`Deframer`] that splits a stream into
//! messages and frames.
//!
//! Decoding accepts any bytes and returns a value or an error. Counts and lengths are checked against their limits before anything is read or
//! reserved.

use bytes::Bytes;
use thiserror::Error;

/// Maximum value of a varint.
pub const MAX_VARINT: u64 = (1 << 62) - 1;

/// Maximum length of an encoded varint, in bytes.
pub const MAX_VARINT_LEN: usize = 8;

/// Maximum length of a message body or frame, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Maximum number of parts in a path.
pub const MAX_PATH_PARTS: usize = 64;
/// Maximum number of parameters in a message.
pub const MAX_PARAMETERS: usize = 64;
/// Maximum number of versions that a client may offer.
pub const MAX_VERSIONS: usize = 64;
/// Maximum number of suffixes in one `ANNOUNCE_INIT`.
pub const MAX_SUFFIXES: usize = 1_024;
/// Maximum number of hops in an announcement.
pub(crate) const MAX_HOPS: usize = 64;

/// Capacity in bytes that the buffer of a deframer may keep even when it is empty. A larger one is reduced when it exceeds four times the
/// number of buffered bytes, so that a single long message does not keep memory occupied for the rest of the stream.
const MIN_BUFFER_CAPACITY: usize = 4 << 10;

/// Reason why bytes cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The data ends before a field or message is complete. The string is the name of the incomplete field or message.
    #[error("{0} is truncated")]
    UnexpectedEnd(&'static str),
    /// A message or frame of this length exceeds [`MAX_BODY_BYTES`].
    #[error("message or frame of {0} bytes exceeds the maximum of {MAX_BODY_BYTES}")]
    TooLong(u64),
    /// A count exceeds its limit.
    #[error("{field} has {count} items; the maximum is {max}")]
    TooMany {
        /// Name of the list that has too many items.
        field: &'static str,
        /// Received count.
        count: u64,
        /// Maximum count.
        max: usize,
    },
    /// The named string is not UTF-8.
    #[error("{0} is not UTF-8")]
    InvalidUtf8(&'static str),
    /// Unknown status in ANNOUNCE.
    #[error("unknown announcement status {0}")]
    UnknownStatus(u64),
    /// The stream ends within a message, after this number of bytes of the message.
    #[error("stream ends after {0} bytes of an incomplete message")]
    TruncatedStream(usize),
    /// Unknown type of a reply to SUBSCRIBE.
    #[error("unknown type {0} of a reply to SUBSCRIBE")]
    UnknownReplyType(u8),
    /// The named message does not exist in the negotiated version.
    #[error("{0} does not exist in the negotiated version")]
    NotInVersion(&'static str),
}

/// Result of reading or writing fields.
pub(crate) type Decoded = Result<(), DecodeError>;

/// Key-value pairs at the end of a message, in wire order.
pub type Parameters = Vec<(u64, Vec<u8>)>;

/// The fields of a message body. A message lists its fields once, for reading and for writing.
#[derive(Debug)]
pub enum Fields<'a> {
    /// The rest of a received body.
    Read(&'a [u8]),
    /// The written part of a body.
    Write(&'a mut Vec<u8>),
}

impl Fields<'_> {
    /// Whether a received body ends here.
    pub(crate) const fn is_end(&self) -> bool {
        matches!(self, Self::Read([]))
    }

    /// A varint.
    pub fn varint(&mut self, field: &'static str, value: &mut u64) -> Decoded {
        match self {
            Self::Write(to) => write_varint(*value, to),
            Self::Read(body) => {
                let (read, len) = read_varint(body).ok_or(DecodeError::UnexpectedEnd(field))?;
                (*value, *body) = (read, &body[len..]);
            }
        }
        Ok(())
    }

    /// One byte. Values above 255 are written as 255.
    pub fn byte(&mut self, field: &'static str, value: &mut u64) -> Decoded {
        match self {
            Self::Write(to) => to.push(u8::try_from(*value).unwrap_or(u8::MAX)),
            Self::Read(body) => {
                let (read, rest) = body.split_first().ok_or(DecodeError::UnexpectedEnd(field))?;
                (*value, *body) = (u64::from(*read), rest);
            }
        }
        Ok(())
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self, field: &'static str, value: &mut Vec<u8>) -> Decoded {
        let mut len = value.len() as u64;
        self.varint(field, &mut len)?;
        match self {
            Self::Write(to) => to.extend_from_slice(value),
            Self::Read(body) => {
                let read = usize::try_from(len).ok().and_then(|len| body.split_off(..len));
                *value = read.ok_or(DecodeError::UnexpectedEnd(field))?.to_vec();
            }
        }
        Ok(())
    }

    /// A UTF-8 string.
    pub fn string(&mut self, field: &'static str, value: &mut String) -> Decoded {
        let mut bytes = std::mem::take(value).into_bytes();
        self.bytes(field, &mut bytes)?;
        *value = String::from_utf8(bytes).map_err(|_| DecodeError::InvalidUtf8(field))?;
        Ok(())
    }

    /// The number of `items`, at most `max`. The items are not coded. Received items have their default value.
    pub fn count<T: Clone + Default>(&mut self, field: &'static str, max: usize, items: &mut Vec<T>) -> Decoded {
        let mut count = items.len() as u64;
        self.varint(field, &mut count)?;
        if let Self::Read(_) = self {
            let fits = usize::try_from(count).ok().filter(|fits| *fits <= max);
            items.resize(fits.ok_or(DecodeError::TooMany { field, count, max })?, T::default());
        }
        Ok(())
    }

    /// A count of at most `max`, and then the items.
    pub fn list<T: Clone + Default>(
        &mut self,
        field: &'static str,
        max: usize,
        items: &mut Vec<T>,
        mut item: impl FnMut(&mut Self, &mut T) -> Decoded,
    ) -> Decoded {
        self.count(field, max, items)?;
        items.iter_mut().try_for_each(|each| item(self, each))
    }

    /// A list of strings.
    pub fn strings(&mut self, field: &'static str, max: usize, items: &mut Vec<String>) -> Decoded {
        self.list(field, max, items, |fields, item| fields.string(field, item))
    }

    /// A list of varints.
    pub(crate) fn varints(&mut self, field: &'static str, max: usize, items: &mut Vec<u64>) -> Decoded {
        self.list(field, max, items, |fields, item| fields.varint(field, item))
    }

    /// Parameters. If a received body ends here, there are no parameters.
    pub fn parameters(&mut self, parameters: &mut Parameters) -> Decoded {
        if self.is_end() {
            return Ok(());
        }
        self.list("parameters", MAX_PARAMETERS, parameters, |fields, (key, value)| {
            fields.varint("parameters", key)?;
            fields.bytes("parameters", value)
        })
    }
}

/// Splits a stream into its type byte and length-prefixed messages or frames. Allocates memory only for bytes that have
/// arrived, not for the length in a prefix.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that have been returned.
    consumed: usize,
}

impl Deframer {
    /// Appends the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Number of received bytes that have not been returned to the caller yet.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.consumed
    }

    /// Whether the received bytes that have not been returned yet start with `bytes`.
    pub fn starts_with(&self, bytes: &[u8]) -> bool {
        self.buffer[self.consumed..].starts_with(bytes)
    }

    /// Returns the next single byte: the stream type.
    pub fn next_byte(&mut self) -> Option<u8> {
        let byte = *self.buffer.get(self.consumed)?;
        self.consumed += 1;
        Some(byte)
    }

    /// Returns the next length-prefixed message or frame if it is complete. Fails as soon as the length is known to
    /// exceed [`MAX_BODY_BYTES`]. The result is a copy, so it does not keep the buffer in memory.
    pub fn next_length_prefixed(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let unread = &self.buffer[self.consumed..];
        let Some((len, prefix_len)) = read_varint(unread) else { return Ok(None) };
        if len > MAX_BODY_BYTES as u64 {
            return Err(DecodeError::TooLong(len));
        }
        let end = prefix_len + len as usize;
        let Some(message) = unread.get(prefix_len..end) else { return Ok(None) };
        let message = Bytes::copy_from_slice(message);
        self.consumed += end;
        if self.buffer.capacity() > MIN_BUFFER_CAPACITY.max(4 * self.buffered()) {
            *self = Self { buffer: self.buffer[self.consumed..].to_vec(), consumed: 0 };
        }
        Ok(Some(message))
    }

    /// Like [`Deframer::next_length_prefixed`], for a message that follows a byte with its type.
    pub fn next_typed(&mut self) -> Result<Option<(u8, Bytes)>, DecodeError> {
        let start = self.consumed;
        let Some(reply_type) = self.next_byte() else { return Ok(None) };
        let message = self.next_length_prefixed()?;
        if message.is_none() {
            self.consumed = start;
        }
        Ok(message.map(|message| (reply_type, message)))
    }

    /// Fails if the stream ends within a message.
    pub fn check_end(&self) -> Decoded {
        if self.buffered() == 0 { Ok(()) } else { Err(DecodeError::TruncatedStream(self.buffered())) }
    }
}

/// Reads the varint at the start of `bytes`. Returns the value of the varint and its encoded length, or `None` if more bytes are needed.
/// Accepts encodings that are longer than necessary, as QUIC does.
pub fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1 << (first >> 6);
    let rest = bytes.get(1..len)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, len))
}

/// Number of bytes that [`write_varint()`] appends for `value`.
pub const fn varint_len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends the shortest encoding of `value`. Values above [`MAX_VARINT`] are written as [`MAX_VARINT`].
pub fn write_varint(value: u64, to: &mut Vec<u8>) {
    let value = value.min(MAX_VARINT);
    match value {
        0..=0x3f => to.push(value as u8),
        0x40..=0x3fff => to.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => to.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => to.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Appends a length and the bytes.
pub fn write_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    write_varint(bytes.len() as u64, to);
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_shrinks_after_a_long_message() {
        let mut stream = Deframer::default();
        // 1,000,000 bytes (0xf4240) after a four-byte length.
        stream.push(&[&[0x80, 0x0f, 0x42, 0x40][..], &vec![b'x'; 1_000_000], &[0x80]].concat());
        assert_eq!(stream.next_length_prefixed().unwrap().unwrap().len(), 1_000_000);
        assert_eq!(stream.buffered(), 1);
        assert!(stream.buffer.capacity() <= MIN_BUFFER_CAPACITY, "{}", stream.buffer.capacity());
        // Reading continues normally: the buffered byte 0x80 starts a four-byte length with the value 2.
        stream.push(&[0, 0, 2, b'a', b'b']);
        assert_eq!(stream.next_length_prefixed().unwrap().unwrap(), "ab");
    }
}
