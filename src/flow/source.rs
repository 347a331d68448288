//! Where the payloads of AUDIO packets come from.

/// What a [`Source`] had to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// The payload of the next packet was appended.
    Frame,
    /// The next one is not ready yet.
    NotYet,
    /// There are no more.
    End,
}

/// A supply of payloads, one a packet, each of the stream's frame length; the last may be shorter.
pub trait Source {
    /// Appends the next payload to `payload`.
    fn next(&mut self, payload: &mut Vec<u8>) -> Pull;
}
