//! The payload of an AUDIO packet: interleaved 32-bit floats, little-endian, nothing else.

/// Bytes of one sample on the wire.
pub const BYTES_PER_SAMPLE: usize = 4;

/// Appends the bytes of `samples` to `out`. Every bit survives, also of values that are not numbers.
pub fn encode(samples: &[f32], out: &mut Vec<u8>) {
    out.reserve(samples.len() * BYTES_PER_SAMPLE);
    for sample in samples {
        out.extend_from_slice(&sample.to_le_bytes());
    }
}

/// The samples in `payload`, or `None` if its length is not a multiple of four bytes.
pub fn decode(payload: &[u8]) -> Option<impl ExactSizeIterator<Item = f32> + '_> {
    let (samples, rest) = payload.as_chunks::<BYTES_PER_SAMPLE>();
    rest.is_empty().then(|| samples.iter().map(|bytes| f32::from_le_bytes(*bytes)))
}
