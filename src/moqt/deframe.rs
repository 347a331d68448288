//! Cuts what comes on a stream into the byte that names its type, and pieces with a length before them: messages, or the
//! frames of a group. What comes in any number of chunks is handed on piece by piece, each whole.

use bytes::Bytes;

use super::fields::{BODY_BYTES, Malformed};
use super::message::{Body, Flavour, Group};
use super::varint;

/// The most memory in bytes that is kept whatever waits. Beyond it no more than four times what waits: whoever sent one long piece, and one
/// byte of the next, does not occupy it for ever.
const KEPT: usize = 4 << 10;

/// Holds what has come of a piece that is not whole yet: at most its length, of which nothing is reserved before it comes.
#[derive(Debug, Default)]
pub struct Deframer {
    bytes: Vec<u8>,
    /// How many of `bytes` have been handed on.
    read: usize,
}

impl Deframer {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that wait here.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// The next single byte: a stream's type.
    pub fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.read)?;
        self.read += 1;
        Some(byte)
    }

    /// The next whole piece, if it is here. One that is longer than [`BODY_BYTES`] is refused once its length is known. What
    /// is handed on has memory of its own, no more than it needs.
    pub fn piece(&mut self) -> Result<Option<Bytes>, Malformed> {
        let waiting = &self.bytes[self.read..];
        let Some((len, prefix)) = varint::read(waiting) else { return Ok(None) };
        if len > BODY_BYTES as u64 {
            return Err(Malformed::Long { len, most: BODY_BYTES });
        }
        let end = prefix + len as usize;
        let Some(piece) = waiting.get(prefix..end) else { return Ok(None) };
        let piece = Bytes::copy_from_slice(piece);
        self.read += end;
        if self.bytes.capacity() > KEPT.max(4 * self.held()) {
            *self = Self { bytes: self.bytes[self.read..].to_vec(), read: 0 };
        }
        Ok(Some(piece))
    }

    /// Whether the stream may end here.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.held() == 0 { Ok(()) } else { Err(Malformed::Truncated(self.held())) }
    }
}

/// What a group's stream says next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupPiece {
    /// It begins.
    Began(Group),
    /// A whole frame.
    Frame(Bytes),
}

/// A group's stream after the byte that names its type.
#[derive(Debug, Default)]
pub struct GroupDeframer {
    /// Whether GROUP has been read.
    began: bool,
}

impl GroupDeframer {
    /// What `stream` has next, if it is whole.
    pub fn next(&mut self, stream: &mut Deframer) -> Result<Option<GroupPiece>, Malformed> {
        let Some(piece) = stream.piece()? else { return Ok(None) };
        if self.began {
            return Ok(Some(GroupPiece::Frame(piece)));
        }
        self.began = true;
        // GROUP is the same in both flavours.
        Ok(Some(GroupPiece::Began(Group::parse(Flavour::Seed, &piece)?)))
    }

    /// Whether a stream that ends here had a group on it.
    pub fn finish(&self, stream: &Deframer) -> Result<(), Malformed> {
        stream.finish()?;
        if self.began { Ok(()) } else { Err(Malformed::Short("GROUP")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_after_a_long_piece_does_not_keep_its_memory() {
        let mut stream = Deframer::default();
        // 1,000,000 bytes (0xf4240) under a length of four.
        stream.push(&[&[0x80, 0x0f, 0x42, 0x40][..], &vec![b'x'; 1_000_000], &[0x80]].concat());
        assert_eq!(stream.piece().unwrap().unwrap().len(), 1_000_000);
        assert_eq!(stream.held(), 1);
        assert!(stream.bytes.capacity() <= KEPT, "{}", stream.bytes.capacity());
        // What comes next is read as if nothing had happened: 0x80 begins a length of four bytes, here 2.
        stream.push(&[0, 0, 2, b'a', b'b']);
        assert_eq!(stream.piece().unwrap().unwrap(), "ab");
    }
}
