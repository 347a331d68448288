//! No input causes a panic, invented samples, or an allocation whose size comes only from a header.

use std::io::{self, Read};

use jamjam_core::audio::wav::{WavError, WavStream};
use proptest::prelude::*;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(test_support::repository().join("fixtures/audio").join(name)).unwrap()
}

/// Records the size of the largest buffer that was requested.
struct Watched<'a> {
    bytes: &'a [u8],
    largest: usize,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.largest = self.largest.max(buffer.len());
        self.bytes.read(buffer)
    }
}

/// Reads all samples and checks the properties that hold for any input.
fn decode(file: &[u8]) {
    let mut watched = Watched { bytes: file, largest: 0 };
    let result: Result<Vec<f32>, WavError> = WavStream::open(&mut watched).and_then(|mut stream| {
        let mut samples = Vec::new();
        while stream.read(usize::MAX, &mut samples)? > 0 {}
        let _ = stream.warning();
        assert_eq!(samples.len() % usize::from(stream.format().channels), 0, "only complete frames are returned");
        Ok(samples)
    });
    assert!(watched.largest <= 256 * 1024, "requested {} bytes at once", watched.largest);
    match result {
        Ok(samples) => {
            assert!(samples.len() <= file.len(), "more samples than bytes");
            assert!(samples.capacity() <= 2 * file.len() + 64, "room for {} samples", samples.capacity());
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
}

proptest! {
    #[test]
    fn arbitrary_chunks_cause_no_panic(
        chunks in prop::collection::vec(
            (prop::sample::select(vec![*b"fmt ", *b"data", *b"LIST", *b"fact"]), any::<Option<u32>>(), prop::collection::vec(any::<u8>(), 0..60)),
            0..6,
        )
    ) {
        let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
        for (id, lie, body) in chunks {
            file.extend(id);
            file.extend(lie.unwrap_or(body.len() as u32).to_le_bytes());
            file.extend(body);
        }
        decode(&file);
    }

    #[test]
    fn any_format_value_causes_no_panic(
        tag in prop::sample::select(vec![1_u16, 3, 0xfffe, 2]),
        channels in prop_oneof![0..9_u16, any::<u16>()],
        rate in prop_oneof![Just(48_000_u32), any::<u32>()],
        frame_bytes in prop_oneof![0..40_u16, any::<u16>()],
        bits in prop_oneof![0..80_u16, any::<u16>()],
        valid_bits in any::<u16>(),
        guid_tag in prop_oneof![Just(1_u16), Just(3), any::<u16>()],
        data_length in any::<u32>(),
        data in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x28\0\0\0".to_vec();
        for number in [tag, channels, rate as u16, (rate >> 16) as u16, 0, 0, frame_bytes, bits, 22, valid_bits, 0, 0, guid_tag] {
            file.extend(number.to_le_bytes());
        }
        file.extend(*b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71data");
        file.extend(data_length.to_le_bytes());
        file.extend(data);
        decode(&file);
    }

    #[test]
    fn any_damaged_byte_of_a_real_file_causes_no_panic(at in 0..300_usize, value in any::<u8>()) {
        let mut file = fixture("broken/chunks-in-odd-order.wav");
        file[at] = value;
        decode(&file);
    }
}
