//! What is in the frames that a client sends: made anew when it comes back, so nothing has to be kept to compare it with.

use bytes::Bytes;

use super::Feed;

/// What is in the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// These texts in turn; not empty.
    Texts(Vec<Bytes>),
    /// As many bytes as this, no two frames alike.
    Noise(usize),
    /// What is given while the run goes on, a frame for each.
    Fed(Feed),
}

impl Payload {
    /// The payload of the frame with this number, counted over all groups.
    pub fn of(&self, frame: u64) -> Bytes {
        match self {
            Self::Texts(texts) if texts.is_empty() => Bytes::new(),
            Self::Texts(texts) => texts[(frame % texts.len() as u64) as usize].clone(),
            // What was given only its receiver knows.
            Self::Fed(_) => Bytes::new(),
            Self::Noise(size) => {
                let words = (0..size.div_ceil(8) as u64).flat_map(|word| mix(frame << 20 ^ word).to_be_bytes());
                words.take(*size).collect()
            }
        }
    }
}

/// `SplitMix64`'s output for a state.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
