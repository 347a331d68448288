//! What every kind of WAV file, sound or broken, is read as.

use std::io::Read;
use std::path::Path;

use jamjam_dev::audio::wav::{Format, Kind, WavError, WavStream};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/audio").join(name)).unwrap()
}

struct Played {
    format: Format,
    samples: Vec<f32>,
    warning: Option<String>,
}

fn play(file: &[u8]) -> Result<Played, WavError> {
    let mut stream = WavStream::open(file)?;
    let mut samples = Vec::new();
    while stream.read(1_000, &mut samples)? > 0 {}
    Ok(Played { format: *stream.format(), samples, warning: stream.warning() })
}

fn refusal(file: &[u8]) -> String {
    play(file).err().expect("a refusal").to_string()
}

/// A file of one `fmt ` body and some bytes of samples.
fn wav(fmt: &[u8], data: &[u8]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
    file.extend((fmt.len() as u32).to_le_bytes());
    file.extend(fmt);
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

fn fmt(tag: u16, channels: u16, rate: u32, frame_bytes: u16, bits: u16) -> Vec<u8> {
    let mut body = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
    body.extend(rate.to_le_bytes());
    body.extend((rate * u32::from(frame_bytes)).to_le_bytes());
    body.extend(frame_bytes.to_le_bytes());
    body.extend(bits.to_le_bytes());
    body
}

fn extensible(fmt: &[u8], valid_bits: u8, guid: [u8; 16]) -> Vec<u8> {
    let mut body = fmt.to_vec();
    body[..2].copy_from_slice(&[0xfe, 0xff]);
    body.extend([22, 0, valid_bits, 0, 0, 0, 0, 0]);
    body.extend(guid);
    body
}

const PCM: [u8; 16] = *b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";
const FLOAT: [u8; 16] = *b"\x03\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";
const AMBISONIC_PCM: [u8; 16] = *b"\x01\0\0\0\x21\x07\xd3\x11\x86\x44\xc8\xc1\xca\0\0\0";

#[test]
fn every_sound_fixture_opens_with_its_format_and_plays_to_its_last_frame() {
    let int = |bits, channels, sample_rate, frames| Format {
        sample_rate,
        channels,
        bits,
        kind: Kind::Int,
        frames: Some(frames),
    };
    let expected = [
        ("speech-16bit-mono-48k.wav", int(16, 1, 48_000, 72_000)),
        ("music-16bit-stereo-44k1.wav", int(16, 2, 44_100, 44_100)),
        ("24bit-mono-48k.wav", int(24, 1, 48_000, 24_000)),
        ("float-96k.wav", Format { kind: Kind::Float, ..int(32, 1, 96_000, 48_000) }),
        ("8ch-16bit-48k.wav", int(16, 8, 48_000, 24_000)),
    ];
    for (name, format) in expected {
        let played = play(&fixture(name)).unwrap();
        assert_eq!(played.format, format, "{name}");
        assert_eq!(played.samples.len() as u64, format.frames.unwrap() * u64::from(format.channels), "{name}");
        assert_eq!(played.warning, None, "{name}");
        assert!(!played.format.is_lossy(), "{name}");
        let peak = played.samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!((0.3..0.9).contains(&peak), "{name} peaks at {peak}");
    }
}

#[test]
fn a_format_reads_well() {
    let text = |name: &str| WavStream::open(fixture(name).as_slice()).unwrap().format().to_string();
    assert_eq!(text("music-16bit-stereo-44k1.wav"), "16-bit integer, 2 channels, 44100 Hz");
    assert_eq!(text("float-96k.wav"), "32-bit float, 1 channel, 96000 Hz");
}

#[test]
fn each_of_eight_channels_keeps_its_own_pitch() {
    let samples = play(&fixture("8ch-16bit-48k.wav")).unwrap().samples;
    for channel in 0..8 {
        let of_channel: Vec<f32> = samples.iter().skip(channel).step_by(8).copied().collect();
        let rises = of_channel.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
        // Half a second of 200 + 100·k Hz, less the rise that the file begins with.
        assert_eq!(rises, 100 + 50 * channel - 1, "channel {channel}");
    }
}

/// The saw tooth in the broken fixtures: every sample is known without reading the generator's output.
fn saw(samples: usize) -> Vec<f32> {
    (0..samples).map(|n| ((n % 256) as f32 - 128.0) * 64.0 / 32_768.0).collect()
}

#[test]
fn a_broken_file_that_has_samples_plays_them_and_says_what_is_wrong() {
    let cases = [
        (
            "truncated",
            Some(2_000),
            1_000,
            Some(
                "data ends early: header claims 2000 frames, file holds 1000; \
                 an incomplete frame at the end (1 of 2 bytes) is dropped",
            ),
        ),
        (
            "truncated-24bit",
            Some(1_000),
            700,
            Some(
                "data ends early: header claims 1000 frames, file holds 700; \
                 an incomplete frame at the end (2 of 3 bytes) is dropped",
            ),
        ),
        (
            "data-length-too-big",
            Some(2_013_265_920),
            1_000,
            Some("data ends early: header claims 2013265920 frames, file holds 1000"),
        ),
        ("data-length-0", None, 1_000, None),
        ("data-length-ffffffff", None, 1_000, None),
        ("data-length-odd", Some(1_000), 1_000, Some("an incomplete frame at the end (1 of 2 bytes) is dropped")),
        ("riff-size-wrong", Some(1_000), 1_000, None),
        ("chunks-in-odd-order", Some(1_000), 1_000, None),
        ("empty-data", None, 0, None),
    ];
    for (name, claimed, frames, warning) in cases {
        let played = play(&fixture(&format!("broken/{name}.wav"))).unwrap();
        assert_eq!(played.format.frames, claimed, "{name}");
        assert_eq!(played.samples, saw(frames), "{name}");
        assert_eq!(played.warning.as_deref(), warning, "{name}");
    }
}

const SUPPORTED: &str = "supported are RIFF WAV files of 8, 16, 24 or 32-bit integers or 32-bit floats; \
                         convert with: sox IN -e signed-integer -b 16 OUT.wav";

#[test]
fn a_broken_file_without_samples_is_refused_in_one_line_that_names_what_was_found() {
    let unsupported = |found: &str| format!("{found} is not supported; {SUPPORTED}");
    let not_wav = |found: &str| format!("not a RIFF WAV file, it looks like {found}; {SUPPORTED}");
    let cases = [
        ("ima-adpcm", unsupported("IMA ADPCM (tag 0x0011), 4 bits, 1 channel, 22050 Hz")),
        (
            "extensible-unknown-subformat",
            unsupported(
                "unknown coding (tag 0xfffe extensible, sub-format 00000092-0000-0010-8000-00aa00389b71), \
                 16 bits, 2 channels, 48000 Hz",
            ),
        ),
        ("empty-file", "the file is empty".to_owned()),
        ("zero-channels", "the header is damaged: 0 channels, 1 to 256 are supported".to_owned()),
        ("zero-rate", "the header is damaged: a sample rate of 0 Hz, 1000 to 768000 Hz are supported".to_owned()),
        ("not-a-wav", not_wav("text")),
        ("header-cut-in-fmt", "the file ends inside its header".to_owned()),
    ];
    for (name, expected) in cases {
        assert_eq!(refusal(&fixture(&format!("broken/{name}.wav"))), expected, "{name}");
    }
}

#[test]
fn another_kind_of_file_is_named() {
    let cases: [(&[u8], &str); 9] = [
        (b"RIFX\0\0\0\x24WAVEfmt ", "big-endian WAV (RIFX)"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "RF64, the WAV for more than 4 GiB"),
        (b"RIFF\x24\0\0\0AVI LIST", "RIFF, but not WAVE"),
        (b"fLaC\0\0\0\x22\x10\0\x10\0", "FLAC"),
        (b"ID3\x04\0\0\0\0\0\0\0\0", "MP3"),
        (b"\xff\xfb\x90\x64\0\x0f\xf0\0\0\0\0\0", "MP3"),
        (b"OggS\0\x02\0\0\0\0\0\0", "Ogg (Vorbis, Opus or FLAC)"),
        (b"\0\0\0\x20ftypM4A \0\0", "MP4 or M4A"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0", "nothing known (first bytes 7f 45 4c 46)"),
    ];
    for (file, name) in cases {
        assert_eq!(refusal(file), format!("not a RIFF WAV file, it looks like {name}; {SUPPORTED}"));
    }
}

#[test]
fn integers_are_divided_by_half_their_range() {
    let cases: [(u16, &[u8], &[f32]); 4] = [
        // Eight bits are unsigned: 128 is silence.
        (8, &[0, 128, 192, 255], &[-1.0, 0.0, 0.5, 127.0 / 128.0]),
        (16, &[0x00, 0x80, 0x01, 0x00, 0xff, 0x7f], &[-1.0, 1.0 / 32_768.0, 32_767.0 / 32_768.0]),
        (24, &[0, 0, 0x80, 1, 0, 0, 0, 0, 0x40], &[-1.0, 1.0 / 8_388_608.0, 0.5]),
        (32, &[0, 0, 0, 0x80, 0, 0, 0, 0x20, 0xff, 0xff, 0xff, 0x7f], &[-1.0, 0.25, 1.0]),
    ];
    for (bits, data, expected) in cases {
        let played = play(&wav(&fmt(1, 1, 8_000, bits / 8, bits), data)).unwrap();
        assert_eq!(played.samples, expected, "{bits} bits");
        assert_eq!(played.format.is_lossy(), bits == 32, "{bits} bits");
    }
}

#[test]
fn floats_pass_bit_for_bit_even_if_they_are_no_numbers() {
    let bits = [0x3f80_0000_u32, 0x8000_0000, 0x7fc0_0001, 0xff80_0000, 0x4120_0000, 0x0000_0001];
    let data: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    for header in [fmt(3, 1, 48_000, 4, 32), extensible(&fmt(3, 1, 48_000, 4, 32), 32, FLOAT)] {
        let played = play(&wav(&header, &data)).unwrap();
        assert_eq!(played.samples.iter().map(|sample| sample.to_bits()).collect::<Vec<_>>(), bits);
        assert_eq!(played.format.kind, Kind::Float);
    }
}

#[test]
fn odd_widths_lie_at_the_upper_end_of_their_bytes() {
    let cases = [
        ("12 bits in 16", fmt(1, 1, 8_000, 2, 12), &[0xf0, 0x7f, 0x00, 0xc0][..], [2_047.0 / 2_048.0, -0.5], 12),
        ("5 bits in 8", fmt(1, 1, 8_000, 1, 5), &[0xf8, 0x40], [15.0 / 16.0, -0.5], 5),
        ("20 bits in 24", fmt(1, 1, 8_000, 3, 20), &[0, 0, 0x40, 0x10, 0, 0x80], [0.5, -524_287.0 / 524_288.0], 20),
        (
            "20 bits in 24, extensible",
            extensible(&fmt(1, 1, 8_000, 3, 24), 20, PCM),
            &[0, 0, 0x40, 0x10, 0, 0x80],
            [0.5, -524_287.0 / 524_288.0],
            20,
        ),
        (
            "24 bits in 32, extensible",
            extensible(&fmt(1, 1, 8_000, 4, 32), 24, PCM),
            &[0, 0, 0, 0x40, 0, 1, 0, 0x80],
            [0.5, -8_388_607.0 / 8_388_608.0],
            24,
        ),
    ];
    for (name, header, data, expected, bits) in cases {
        let played = play(&wav(&header, data)).unwrap();
        assert_eq!(played.samples, expected, "{name}");
        assert_eq!(played.format.bits, bits, "{name}");
        assert!(!played.format.is_lossy(), "{name}");
    }
}

#[test]
fn the_recorder_of_alsa_keeps_24_bits_at_the_lower_end_of_32() {
    let played = play(&wav(&fmt(1, 1, 48_000, 4, 24), &[0, 0, 0x40, 0, 0xff, 0xff, 0xff, 0xff])).unwrap();
    assert_eq!(played.samples, [0.5, -1.0 / 8_388_608.0]);
}

#[test]
fn widths_that_nobody_can_guess_are_refused_with_both_numbers() {
    let cases = [
        (fmt(1, 1, 8_000, 4, 20), "integer PCM (tag 0x0001), 20 bits in 32, 1 channel, 8000 Hz"),
        (fmt(1, 2, 8_000, 16, 64), "integer PCM (tag 0x0001), 64 bits, 2 channels, 8000 Hz"),
        (fmt(3, 2, 48_000, 16, 64), "float PCM (tag 0x0003), 64 bits, 2 channels, 48000 Hz"),
        (
            extensible(&fmt(3, 2, 48_000, 16, 64), 64, FLOAT),
            "float PCM (tag 0xfffe extensible), 64 bits, 2 channels, 48000 Hz",
        ),
        (fmt(7, 1, 8_000, 1, 8), "mu-law (tag 0x0007), 8 bits, 1 channel, 8000 Hz"),
        (fmt(2, 2, 44_100, 2_048, 4), "Microsoft ADPCM (tag 0x0002), 4 bits, 2 channels, 44100 Hz"),
        (fmt(1, 2, 44_100, 5, 16), "integer PCM (tag 0x0001), 16 bits, 2 channels, 44100 Hz"),
        (fmt(0xfffe, 2, 44_100, 4, 16), "unknown coding (tag 0xfffe), 16 bits, 2 channels, 44100 Hz"),
        (fmt(1, 1, 8_000, 2, 0xffff), "integer PCM (tag 0x0001), 65535 bits in 16, 1 channel, 8000 Hz"),
    ];
    for (header, found) in cases {
        assert_eq!(refusal(&wav(&header, &[0; 64])), format!("{found} is not supported; {SUPPORTED}"));
    }
}

#[test]
fn what_hound_alone_refuses_or_misreads_plays() {
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
        assert_eq!(play(&file).unwrap().samples, [0.5, -0.5], "{name}");
    }
}

#[test]
fn a_forgotten_pad_byte_is_forgiven() {
    let mut file = wav(&fmt(1, 1, 8_000, 2, 16), &[0x00, 0x40]);
    let list = b"LIST\x05\0\0\0INFOx";
    file.splice(12..12, *list);
    assert_eq!(play(&file).unwrap().samples, [0.5]);
}

#[test]
fn an_empty_data_chunk_before_another_chunk_is_empty() {
    let mut file = wav(&fmt(1, 1, 8_000, 2, 16), &[]);
    file.extend(b"LIST\x04\0\0\0INFO");
    let played = play(&file).unwrap();
    assert_eq!(played.samples, []);
    assert_eq!(played.format.frames, Some(0));
}

#[test]
fn a_length_written_before_it_was_known_plays_to_the_end_without_a_warning() {
    for length in [0_u32, 0x7fff_f000, 0x7fff_ff00, 0x8000_0000, 0xffff_ffdb, 0xffff_ffff] {
        let mut file = wav(&fmt(1, 2, 48_000, 4, 16), &[0x00, 0x40, 0x00, 0xc0, 0x00, 0x20, 0x00, 0xe0]);
        file[40..44].copy_from_slice(&length.to_le_bytes());
        let played = play(&file).unwrap();
        assert_eq!(played.samples, [0.5, -0.5, 0.25, -0.25], "{length:#x}");
        assert_eq!(played.format.frames, None, "{length:#x}");
        assert_eq!(played.warning, None, "{length:#x}");
    }
}

#[test]
fn samples_before_any_format_are_refused() {
    let file = b"RIFF\0\0\0\0WAVEdata\x04\0\0\0\0\0\0\0fmt \x10\0\0\0";
    assert_eq!(refusal(file), "the header is damaged: no format before the samples");
    let file = b"RIFF\0\0\0\0WAVEfmt \x0e\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0data\0\0\0\0";
    assert_eq!(refusal(file), "the header is damaged: its format takes 14 bytes, at least 16 expected");
}

#[test]
fn absurd_channels_and_rates_are_refused() {
    let file = wav(&fmt(1, 257, 8_000, 514, 16), &[]);
    assert_eq!(refusal(&file), "the header is damaged: 257 channels, 1 to 256 are supported");
    let file = wav(&fmt(1, 1, 768_001, 2, 16), &[]);
    assert_eq!(refusal(&file), "the header is damaged: a sample rate of 768001 Hz, 1000 to 768000 Hz are supported");
}

/// Gives one byte at a time, interrupted before each, like the worst of pipes.
struct Trickle<'a>(&'a [u8], bool);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn a_pipe_that_trickles_gives_the_same_sound() {
    let file = fixture("broken/chunks-in-odd-order.wav");
    let mut stream = WavStream::open(Trickle(&file, false)).unwrap();
    let mut samples = Vec::new();
    assert_eq!(stream.read(999, &mut samples).unwrap(), 999);
    assert_eq!(stream.warning(), None);
    assert_eq!(stream.read(2, &mut samples).unwrap(), 1);
    assert_eq!(stream.read(2, &mut samples).unwrap(), 0);
    assert_eq!(samples, saw(1_000));
}

#[test]
fn no_byte_is_read_that_was_not_asked_for() {
    let file = fixture("speech-16bit-mono-48k.wav");
    let mut rest = file.as_slice();
    let mut stream = WavStream::open(&mut rest).unwrap();
    assert_eq!(stream.read(128, &mut Vec::new()).unwrap(), 128);
    drop(stream);
    assert_eq!(rest.len(), file.len() - 44 - 256);
}

/// Fails once its bytes are used up.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() { Err(std::io::Error::other("the disk is on fire")) } else { self.0.read(buffer) }
    }
}

#[test]
fn a_failing_input_is_an_error_and_not_an_end() {
    let file = fixture("speech-16bit-mono-48k.wav");
    for length in [0, 3, 12, 30, 44] {
        let failed = WavStream::open(Failing(&file[..length])).and_then(|mut stream| stream.read(8, &mut Vec::new()));
        assert_eq!(failed.unwrap_err().to_string(), "the disk is on fire", "after {length} bytes");
    }
}
