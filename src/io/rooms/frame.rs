//! Frames of the WebSocket protocol (RFC 6455, section 5), as a server reads and writes them.
//!
//! Nothing is kept for a connection that is between two messages, and what a client says of a length is never believed before
//! the bytes are there: memory follows what has arrived.

use axum::body::Bytes;
use thiserror::Error;

use crate::rooms::close_code::may_be_sent;

/// The longest payload of a control frame, in bytes.
const MOST_CONTROL: usize = 125;

/// Opcodes (section 11.8).
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The bit of a frame that ends its message.
const FIN: u8 = 0x80;

/// Why nothing more can be read of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Breach {
    #[error("not the WebSocket protocol")]
    Protocol,
    #[error("text is not UTF-8")]
    Utf8,
    #[error("message too long")]
    TooLong,
}

impl Breach {
    /// The close code that says so (section 7.4.1).
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Utf8 => 1007,
            Self::TooLong => 1009,
        }
    }
}

/// What has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// A whole message.
    Text(&'a str),
    /// A whole message of bytes, which nobody wants.
    Binary,
    /// A part of a message, with more to come.
    Part,
    Ping(&'a [u8]),
    Pong,
    /// The last there is, with its code and reason.
    Close(Option<u16>, &'a str),
}

/// What is kept of a connection between two reads.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// A frame that has not arrived in full.
    rest: Vec<u8>,
    /// A message in fragments: its kind and how long it is so far.
    open: Option<(u8, usize)>,
    /// Its text.
    text: Vec<u8>,
}

/// A frame's head.
struct Head {
    fin: bool,
    opcode: u8,
    len: usize,
    key: [u8; 4],
    /// Where the payload begins.
    at: usize,
}

impl Decoder {
    /// Takes what was read, and tells each event until `tell` says that it was enough.
    pub(super) fn take(
        &mut self,
        read: &mut [u8],
        longest: usize,
        mut tell: impl FnMut(Event<'_>) -> bool,
    ) -> Result<(), Breach> {
        if self.rest.is_empty() {
            let used = self.frames(read, longest, &mut tell)?;
            self.rest.extend_from_slice(&read[used..]);
            return Ok(());
        }
        self.rest.extend_from_slice(read);
        let mut whole = std::mem::take(&mut self.rest);
        let used = self.frames(&mut whole, longest, &mut tell)?;
        if used == 0 {
            self.rest = whole;
        } else {
            // In a place of its own size: an idle connection stays small.
            self.rest = whole[used..].to_vec();
        }
        Ok(())
    }

    /// Bytes of a message that has not come in full.
    pub(super) fn held(&self) -> usize {
        self.rest.len() + self.text.len()
    }

    /// Reads whole frames; how many bytes they were.
    fn frames(
        &mut self,
        bytes: &mut [u8],
        longest: usize,
        tell: &mut impl FnMut(Event<'_>) -> bool,
    ) -> Result<usize, Breach> {
        let mut used = 0;
        while let Some(head) = self.head(&bytes[used..], longest)? {
            let payload = used + head.at..used + head.at + head.len;
            if payload.end > bytes.len() {
                break;
            }
            used = payload.end;
            let payload = &mut bytes[payload];
            unmask(payload, head.key);
            if !self.frame(&head, payload, tell)? {
                return Ok(bytes.len());
            }
        }
        Ok(used)
    }

    /// A frame's head, once it is there, which says nothing that is not allowed here and now.
    fn head(&self, bytes: &[u8], longest: usize) -> Result<Option<Head>, Breach> {
        let &[first, second, ref more @ ..] = bytes else { return Ok(None) };
        let (fin, opcode) = (first & FIN != 0, first & 0x0f);
        let (masked, short) = (second & 0x80 != 0, usize::from(second & 0x7f));
        // No extension was agreed on, so the three reserved bits mean nothing; a client's frames are always masked.
        if first & 0x70 != 0 || !masked {
            return Err(Breach::Protocol);
        }
        let fits = match opcode {
            CONTINUATION => self.open.is_some(),
            TEXT | BINARY => self.open.is_none(),
            CLOSE | PING | PONG => fin && short <= MOST_CONTROL,
            _ => false,
        };
        if !fits {
            return Err(Breach::Protocol);
        }
        let (len, at) = match short {
            126 => {
                let Some(len) = more.first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*len)), 4)
            }
            127 => {
                let Some(len) = more.first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*len), 10)
            }
            short => (short as u64, 2),
        };
        let before = self.open.map_or(0, |(_, len)| len);
        let len = usize::try_from(len).ok().filter(|len| opcode >= CLOSE || *len <= longest.saturating_sub(before));
        let len = len.ok_or(Breach::TooLong)?;
        let Some(key) = bytes.get(at..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
        Ok(Some(Head { fin, opcode, len, key: *key, at: at + 4 }))
    }

    /// Tells what a whole frame says, if it says anything by itself.
    fn frame(&mut self, head: &Head, payload: &[u8], tell: &mut impl FnMut(Event<'_>) -> bool) -> Result<bool, Breach> {
        match head.opcode {
            PING => return Ok(tell(Event::Ping(payload))),
            PONG => return Ok(tell(Event::Pong)),
            CLOSE => {
                let (code, reason) = closing(payload)?;
                return Ok(tell(Event::Close(code, reason)));
            }
            _ => {}
        }
        if head.fin && self.open.is_none() {
            return message(head.opcode, payload, tell);
        }
        let (kind, len) = self.open.unwrap_or((head.opcode, 0));
        if kind == TEXT {
            self.text.extend_from_slice(payload);
        }
        if !head.fin {
            self.open = Some((kind, len + payload.len()));
            return Ok(tell(Event::Part));
        }
        self.open = None;
        message(kind, &std::mem::take(&mut self.text), tell)
    }
}

fn message(kind: u8, payload: &[u8], tell: &mut impl FnMut(Event<'_>) -> bool) -> Result<bool, Breach> {
    if kind == BINARY {
        return Ok(tell(Event::Binary));
    }
    let text = std::str::from_utf8(payload).map_err(|_| Breach::Utf8)?;
    Ok(tell(Event::Text(text)))
}

/// The code of a close frame: none at all, or one that may be sent, with a reason that can be read.
fn closing(payload: &[u8]) -> Result<(Option<u16>, &str), Breach> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(Breach::Protocol) };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(Breach::Protocol);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Breach::Utf8)?;
    Ok((Some(code), reason))
}

fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        word.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    }
    words.into_remainder().iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
}

/// A text message in one frame.
pub(super) fn text(text: &str) -> Bytes {
    frame(TEXT, &[text.as_bytes()])
}

/// A question whether somebody is there.
pub(super) fn ping() -> Bytes {
    frame(PING, &[])
}

/// The answer to a ping.
pub(super) fn pong(payload: &[u8]) -> Bytes {
    frame(PONG, &[payload])
}

/// A close frame; without a code it says nothing.
pub(super) fn close(code: Option<u16>, reason: &str) -> Bytes {
    match code {
        Some(code) => frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()]),
        None => frame(CLOSE, &[]),
    }
}

fn frame(opcode: u8, parts: &[&[u8]]) -> Bytes {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(10 + len);
    frame.push(FIN | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ ..=125), _) => frame.push(short),
        (_, Ok(middle)) => {
            frame.push(126);
            frame.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame.into()
}

#[cfg(test)]
#[path = "frame_differential.rs"]
mod differential;
