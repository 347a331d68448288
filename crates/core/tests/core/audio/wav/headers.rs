//! Handwritten headers: sample widths, encodings, lengths, and files of other formats.

use jamjam_core::audio::wav::SampleFormat;

use super::{SUPPORTED, decode, refusal};

/// A file with this `fmt ` body and these sample bytes.
fn wav(fmt: &[u8], data: &[u8]) -> Vec<u8> {
    let [fmt_len, data_len] = [fmt, data].map(|chunk| (chunk.len() as u32).to_le_bytes());
    [b"RIFF\0\0\0\0WAVEfmt ", &fmt_len[..], fmt, b"data", &data_len, data].concat()
}

fn fmt(tag: u16, channels: u16, rate: u32, frame_bytes: u16, bits: u16) -> Vec<u8> {
    let [tag, channels, frame_size, bits] = [tag, channels, frame_bytes, bits].map(u16::to_le_bytes);
    let [rate, byte_rate] = [rate, rate * u32::from(frame_bytes)].map(u32::to_le_bytes);
    [&tag[..], &channels, &rate, &byte_rate, &frame_size, &bits].concat()
}

fn extensible(fmt: &[u8], valid_bits: u8, guid: [u8; 16]) -> Vec<u8> {
    [&[0xfe, 0xff], &fmt[2..], &[22, 0, valid_bits, 0, 0, 0, 0, 0], &guid].concat()
}

const PCM: [u8; 16] = *b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";

const FLOAT: [u8; 16] = *b"\x03\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";

const AMBISONIC_PCM: [u8; 16] = *b"\x01\0\0\0\x21\x07\xd3\x11\x86\x44\xc8\xc1\xca\0\0\0";

#[test]
fn other_file_type_is_named_in_the_error() {
    let cases: [(&[u8], &str); 8] = [
        (b"RIFX\0\0\0\x24WAVEfmt ", "big-endian WAV (RIFX)"),
        (b"RIFF\x24\0\0\0AVI LIST", "RIFF, but not WAVE"),
        (b"fLaC\0\0\0\x22\x10\0\x10\0", "FLAC"),
        (b"ID3\x04\0\0\0\0\0\0\0\0", "MP3"),
        (b"\xff\xfb\x90\x64\0\x0f\xf0\0\0\0\0\0", "MP3"),
        (b"OggS\0\x02\0\0\0\0\0\0", "Ogg (Vorbis, Opus or FLAC)"),
        (b"\0\0\0\x20ftypM4A \0\0", "MP4 or M4A"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0", "unknown type, first bytes 7f 45 4c 46"),
    ];
    for (file, name) in cases {
        assert_eq!(refusal(file), format!("not a RIFF WAV file (found {name}); {SUPPORTED}"));
    }
}

#[test]
fn float_samples_pass_bit_for_bit_even_if_non_finite() {
    let bits = [0x3f80_0000_u32, 0x8000_0000, 0x7fc0_0001, 0xff80_0000, 0x4120_0000, 0x0000_0001];
    let data: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    for header in [fmt(3, 1, 48_000, 4, 32), extensible(&fmt(3, 1, 48_000, 4, 32), 32, FLOAT)] {
        let decoded = decode(&wav(&header, &data)).unwrap();
        assert_eq!(decoded.samples.iter().map(|sample| sample.to_bits()).collect::<Vec<_>>(), bits);
        assert_eq!(decoded.format.encoding, SampleFormat::Float);
    }
}

#[test]
fn unusual_bit_widths_are_left_aligned_in_their_bytes() {
    let cases = [
        ("12 bits in 16", fmt(1, 1, 8_000, 2, 12), &[0xf0, 0x7f, 0x00, 0xc0][..], [2_047.0 / 2_048.0, -0.5], 12),
        ("5 bits in 8", fmt(1, 1, 8_000, 1, 5), &[0xf8, 0x40], [15.0 / 16.0, -0.5], 5),
        ("20 bits in 24", fmt(1, 1, 8_000, 3, 20), &[0, 0, 0x40, 0x10, 0, 0x80], [0.5, -524_287.0 / 524_288.0], 20),
        (
            "24 bits in 32, extensible",
            extensible(&fmt(1, 1, 8_000, 4, 32), 24, PCM),
            &[0, 0, 0, 0x40, 0, 1, 0, 0x80],
            [0.5, -8_388_607.0 / 8_388_608.0],
            24,
        ),
    ];
    for (name, header, data, expected, bits) in cases {
        let decoded = decode(&wav(&header, data)).unwrap();
        assert_eq!(decoded.samples, expected, "{name}");
        assert_eq!((decoded.format.bits, decoded.format.is_lossy()), (bits, false), "{name}");
    }
}

#[test]
fn ambiguous_bit_widths_are_rejected_with_both_numbers() {
    let cases = [
        (fmt(1, 1, 8_000, 4, 20), "integer PCM (tag 0x0001), 20 bits in 32, 1 channel, 8000 Hz"),
        (fmt(3, 2, 48_000, 16, 64), "float PCM (tag 0x0003), 64 bits, 2 channels, 48000 Hz"),
        (fmt(7, 1, 8_000, 1, 8), "mu-law (tag 0x0007), 8 bits, 1 channel, 8000 Hz"),
        (fmt(2, 2, 44_100, 2_048, 4), "Microsoft ADPCM (tag 0x0002), 4 bits, 2 channels, 44100 Hz"),
        (fmt(0xfffe, 2, 44_100, 4, 16), "unknown encoding (tag 0xfffe), 16 bits, 2 channels, 44100 Hz"),
        (fmt(1, 1, 8_000, 2, 0xffff), "integer PCM (tag 0x0001), 65535 bits in 16, 1 channel, 8000 Hz"),
    ];
    for (header, found) in cases {
        let expected = format!("the format is {found}, which is not supported; {SUPPORTED}");
        assert_eq!(refusal(&wav(&header, &[0; 64])), expected);
    }
}

#[test]
fn files_that_hound_rejects_or_misreads_play() {
    let plain = fmt(1, 1, 8_000, 2, 16);
    let data = [0x00, 0x40, 0x00, 0xc0];
    let with_size = |extra: usize| [plain.clone(), vec![0; extra]].concat();
    let mut wrong_byte_rate = plain.clone();
    wrong_byte_rate[8] = 1;
    let cases = [
        ("fmt of 18 bytes", with_size(2)),
        ("fmt of 20 bytes", with_size(4)),
        ("fmt of 40 bytes, not extensible", with_size(24)),
        ("fmt of 17 bytes, padded", with_size(1)),
        ("wrong byte rate", wrong_byte_rate),
        ("ambisonic", extensible(&plain, 16, AMBISONIC_PCM)),
        ("extensible with more behind it", [extensible(&plain, 16, PCM), vec![7; 6]].concat()),
    ];
    for (name, header) in cases {
        let mut file = wav(&header, &data);
        if header.len() % 2 == 1 {
            file.insert(20 + header.len(), 0);
        }
        assert_eq!(decode(&file).unwrap().samples, [0.5, -0.5], "{name}");
    }
}

#[test]
fn pad_byte_may_be_missing_or_not_zero() {
    for pad in ["", "\0", "x", "\x7f"] {
        let mut file = wav(&fmt(1, 1, 8_000, 2, 16), &[0x00, 0x40]);
        file.splice(12..12, [b"LIST\x05\0\0\0INFOx", pad.as_bytes()].concat());
        assert_eq!(decode(&file).unwrap().samples, [0.5], "{pad:?}");
    }
}

#[test]
fn empty_data_chunk_before_another_chunk_is_empty() {
    for chunk in [b"LIST\x04\0\0\0INFO", b"acid\x04\0\0\0\0\0\0\0"] {
        let file = [wav(&fmt(1, 1, 8_000, 2, 16), &[]), chunk.to_vec()].concat();
        let decoded = decode(&file).unwrap();
        assert_eq!((decoded.samples, decoded.format.frames), (vec![], Some(0)));
        assert_eq!(decode(&[&file[..], b"data\x02\0\0\0\x00\x40"].concat()).unwrap().samples, [0.5]);
    }
}

/// Samples for each layout, with their bytes.
fn packed_samples() -> [(u16, u16, Vec<u8>, [f32; 4]); 5] {
    let float = [0.5, -0.25, 1.5, -1.0_f32];
    let int24 = [0.5, -0.25, 2_097_665.0 / 8_388_608.0, -8_388_605.0 / 8_388_608.0];
    [
        (1, 8, vec![192, 96, 255, 0], [0.5, -0.25, 127.0 / 128.0, -1.0]),
        (1, 16, vec![0, 0x40, 0, 0xe0, 0xff, 0x7f, 0, 0x80], [0.5, -0.25, 32_767.0 / 32_768.0, -1.0]),
        (1, 24, vec![0, 0, 0x40, 0, 0, 0xe0, 1, 2, 0x20, 3, 0, 0x80], int24),
        (1, 32, vec![0, 0, 0, 0x40, 0, 0, 0, 0xe0, 0, 0, 0, 0x20, 0, 0, 0, 0x80], [0.5, -0.25, 0.25, -1.0]),
        (3, 32, float.iter().flat_map(|sample| sample.to_le_bytes()).collect(), float),
    ]
}

#[test]
fn packed_samples_play_whatever_frame_length_the_header_states() {
    for (tag, bits, data, samples) in packed_samples() {
        for channels in [1, 2] {
            let right = channels * bits / 8;
            for stated in [0, 1, right - 1, right, right + 1, 2 * right, channels * 4, bits, u16::MAX] {
                let mut header = fmt(tag, channels, 48_000, right, bits);
                header[12..14].copy_from_slice(&stated.to_le_bytes());
                let decoded = decode(&wav(&header, &data)).unwrap();
                assert_eq!(decoded.samples, samples, "{bits} bits, {channels} channels, {stated} bytes");
                assert_eq!((decoded.format.frames, decoded.warning), (Some(4 / u64::from(channels)), None));
            }
        }
    }
}

#[test]
fn packed_24_bit_samples_are_told_apart_from_padded_ones() {
    let [.., (_, _, packed, samples), _, _] = packed_samples();
    let padded = |pad: fn(u8) -> u8| packed.chunks(3).flat_map(|s| [s[0], s[1], s[2], pad(s[2])]).collect::<Vec<_>>();
    let extended = |header: &[u8]| extensible(header, 24, PCM);
    for channels in [1, 2] {
        // The bytes per second are those of padded samples.
        let header = fmt(1, channels, 48_000, 4 * channels, 24);
        for header in [extended(&header), header] {
            let zero = padded(|_| 0);
            let sign = padded(|high| if high < 0x80 { 0 } else { 0xff });
            for data in [&packed, &zero, &sign] {
                let decoded = decode(&wav(&header, data)).unwrap();
                assert_eq!((decoded.samples, decoded.format.frames), (samples.to_vec(), Some(4 / u64::from(channels))));
            }
        }
    }
    // The bytes per second of packed samples decide even if each fourth byte is zero.
    let mut header = fmt(1, 1, 48_000, 4, 24);
    header[8..12].copy_from_slice(&144_000_u32.to_le_bytes());
    assert_eq!(decode(&wav(&header, &[0; 24])).unwrap().format.frames, Some(8));
}

#[test]
fn tag_before_the_file_and_long_lengths_are_read() {
    let plain = wav(&fmt(1, 1, 8_000, 2, 16), &[0x00, 0x40, 0x00, 0xc0]);
    // The length 0x102 as two groups of seven bits.
    let tag = [b"ID3\x04\0\0\0\0\x02\x02".as_slice(), &[b'x'; 0x102]].concat();
    assert_eq!(decode(&[tag.clone(), plain.clone()].concat()).unwrap().samples, [0.5, -0.5]);
    assert!(refusal(&[tag, vec![b'x'; 40]].concat()).contains("found MP3"));
    for id in [b"RF64", b"BW64"] {
        let mut file = [id, &plain[4..]].concat();
        file[40..44].copy_from_slice(&[0xff; 4]);
        let mut long = b"ds64\x1c\0\0\0".to_vec();
        long.extend([0, 4, 2, 0].map(u64::to_le_bytes).concat().get(..28).unwrap());
        file.splice(12..12, long);
        file.extend(b"LIST\x04\0\0\0INFO");
        let decoded = decode(&file).unwrap();
        assert_eq!((decoded.samples, decoded.format.frames), (vec![0.5, -0.5], Some(2)));
    }
}

#[test]
fn samples_outside_the_data_chunk_add_a_warning() {
    let plain = |data: &[u8]| wav(&fmt(1, 1, 8_000, 2, 16), data);
    let samples = [0x00, 0x40].repeat(500);
    let mut short = plain(&samples);
    short[40..44].copy_from_slice(&200_u32.to_le_bytes());
    let second = [plain(&samples[..250]), b"data\xee\x02\0\0".to_vec(), samples[250..].to_vec()].concat();
    let list = [plain(&samples), b"LIST\xe8\x03\0\0".to_vec(), vec![b'x'; 1_000]].concat();
    let cases = [
        (short, 100, Some("80% of the file is outside its data chunk and is not sent")),
        (second, 125, Some("75% of the file is outside its data chunk and is not sent")),
        ([list.clone(), b"TAG".to_vec()].concat(), 500, None),
        (list, 500, None),
    ];
    for (file, frames, warning) in cases {
        let decoded = decode(&file).unwrap();
        assert_eq!(decoded.samples, vec![0.5; frames]);
        assert_eq!(decoded.warning.as_deref(), warning);
    }
}

#[test]
fn placeholder_data_length_plays_to_the_end_without_a_warning() {
    for length in [0_u32, 0x7fff_f000, 0x7fff_ff00, 0x8000_0000, 0xffff_ffdb, 0xffff_ffff] {
        let mut file = wav(&fmt(1, 2, 48_000, 4, 16), &[0x00, 0x40, 0x00, 0xc0, 0x00, 0x20, 0x00, 0xe0]);
        file[40..44].copy_from_slice(&length.to_le_bytes());
        let decoded = decode(&file).unwrap();
        assert_eq!(decoded.samples, [0.5, -0.5, 0.25, -0.25], "{length:#x}");
        assert_eq!((decoded.format.frames, decoded.warning), (None, None), "{length:#x}");
    }
}

#[test]
fn data_before_the_format_is_rejected() {
    let file = b"RIFF\0\0\0\0WAVEdata\x04\0\0\0\0\0\0\0fmt \x10\0\0\0";
    assert_eq!(refusal(file), "the header is damaged: there is no fmt chunk before the data chunk");
    let short = wav(&fmt(1, 1, 8_000, 2, 16)[..14], &[]);
    assert_eq!(refusal(&short), "the header is damaged: the fmt chunk has 14 bytes; the minimum is 16");
}

#[test]
fn unreasonable_channels_and_rates_are_rejected() {
    let file = wav(&fmt(1, 257, 8_000, 514, 16), &[]);
    assert_eq!(refusal(&file), "the header is damaged: 257 channels; supported: 1 to 256");
    let file = wav(&fmt(1, 1, 768_001, 2, 16), &[]);
    assert_eq!(refusal(&file), "the header is damaged: sample rate 768001 Hz; supported: 1000 to 768000 Hz");
}
