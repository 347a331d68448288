//! A private attribute by which a jamjam-dev client asks the server what it has heard from it, and is told
//! (`docs/protocol.md`). Whoever does not know it passes over it, since its type is from 0x8000 on.

/// Its type, from the range that is given to whoever comes first (RFC 8489, section 18.3); it is not registered.
pub(super) const HEARD: u16 = 0xc0ec;

/// Length of an answer's value in bytes.
pub(super) const HEARD_LEN: usize = 20;

/// Zeros that a question holds in its place: as many more than in the answer as an IPv6 address takes there.
pub(super) const PLACEHOLDER_LEN: usize = HEARD_LEN + 24;

/// What the value begins with, so that nobody's zeros are taken for counts.
const MARK: [u8; 4] = *b"jam1";

/// How many distinct packets a server has heard from one address and port. All counts wrap at 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Names the moment from which on it counts; two answers are comparable if they have the same.
    pub since: u32,
    /// AUDIO packets.
    pub audio: u32,
    /// `LATENCY_PING` packets.
    pub ping: u32,
    /// KEEPALIVE packets.
    pub keepalive: u32,
}

impl Heard {
    pub(super) fn to_bytes(self) -> [u8; HEARD_LEN] {
        let mut bytes = [0; HEARD_LEN];
        let words = [self.since, self.audio, self.ping, self.keepalive].map(u32::to_be_bytes);
        for (place, word) in bytes.chunks_exact_mut(4).zip([MARK].iter().chain(&words)) {
            place.copy_from_slice(word);
        }
        bytes
    }

    pub(super) fn from_bytes(value: &[u8]) -> Option<Self> {
        let (words, rest) = value.as_chunks::<4>();
        let [mark, since, audio, ping, keepalive] = *words else { return None };
        let [since, audio, ping, keepalive] = [since, audio, ping, keepalive].map(u32::from_be_bytes);
        (mark == MARK && rest.is_empty()).then_some(Self { since, audio, ping, keepalive })
    }
}
