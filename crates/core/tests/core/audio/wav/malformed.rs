//! Truncated, damaged and random files: each yields a prefix of its samples or an error.

use proptest::prelude::*;

use super::{DecodedWav, decode, fixture};

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|sample| sample.to_bits()).collect()
}

#[test]
fn truncated_wav_yields_a_prefix_of_its_samples_or_an_error() {
    for name in ["truncated", "data-length-too-big", "data-length-ffffffff", "chunks-in-odd-order", "empty-data"] {
        prefixes(&format!("broken/{name}.wav"), [2, 1], 1);
    }
    prefixes("broken/truncated-24bit.wav", [3, 1], 1);
    for name in ["ima-adpcm", "zero-rate", "not-a-wav"] {
        let file = fixture(&format!("broken/{name}.wav"));
        assert!((0..=file.len()).all(|length| decode(&file[..length]).is_err()), "{name}");
    }
    // These files are longer than a read block. The step of 4,999 bytes is a prime number. Therefore, the files are truncated at every byte
    // position within a frame.
    prefixes("speech-16bit-mono-48k.wav", [2, 1], 4_999);
    prefixes("music-16bit-stereo-44k1.wav", [4, 2], 4_999);
    prefixes("24bit-mono-48k.wav", [3, 1], 4_999);
    prefixes("float-96k.wav", [4, 1], 4_999);
    prefixes("8ch-16bit-48k.wav", [16, 8], 4_999);
}

/// Truncates the file at many lengths. `frame` contains the number of bytes per frame and the number of samples per frame.
fn prefixes(name: &str, frame: [usize; 2], step: usize) {
    let file = fixture(name);
    let original = bits(&decode(&file).unwrap().samples);
    let header = file.windows(4).position(|id| id == b"data").unwrap() + 8;
    for length in (0..header).chain((header..=file.len()).step_by(step)) {
        match decode(&file[..length]) {
            Ok(DecodedWav { samples, .. }) => {
                assert!(length >= header, "{name} cut to {length}");
                assert!(original.starts_with(&bits(&samples)), "{name} cut to {length}");
                let there = (length - header) / frame[0] * frame[1];
                assert_eq!(samples.len(), there.min(original.len()), "{name} cut to {length}");
            }
            Err(error) => {
                assert!(length < header, "{name} cut to {length}: {error}");
                let expected = if length == 0 { "the file is empty" } else { "the file ends inside its header" };
                assert_eq!(error.to_string(), expected, "{name} cut to {length}");
            }
        }
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
        let _ = decode(&file);
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
        let _ = decode(&file);
    }

    #[test]
    fn any_damaged_byte_of_a_real_file_causes_no_panic(at in 0..300_usize, value in any::<u8>()) {
        let mut file = fixture("broken/chunks-in-odd-order.wav");
        file[at] = value;
        let _ = decode(&file);
    }
}
