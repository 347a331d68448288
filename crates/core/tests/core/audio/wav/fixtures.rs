//! The files in `fixtures/audio/`.

use jamjam_core::audio::wav::{SampleFormat, WavFormat, WavStream};

use super::{SUPPORTED, decode, fixture, refusal, saw_tooth};

#[test]
fn every_valid_fixture_has_its_format_and_plays_to_its_last_frame() {
    let int = |bits, channels, sample_rate, frames| WavFormat {
        sample_rate,
        channels,
        bits,
        encoding: SampleFormat::Int,
        frames: Some(frames),
    };
    let expected = [
        ("speech-16bit-mono-48k.wav", int(16, 1, 48_000, 72_000)),
        ("music-16bit-stereo-44k1.wav", int(16, 2, 44_100, 44_100)),
        ("24bit-mono-48k.wav", int(24, 1, 48_000, 24_000)),
        ("float-96k.wav", WavFormat { encoding: SampleFormat::Float, ..int(32, 1, 96_000, 48_000) }),
        ("8ch-16bit-48k.wav", int(16, 8, 48_000, 24_000)),
    ];
    for (name, format) in expected {
        let decoded = decode(&fixture(name)).unwrap();
        assert_eq!(decoded.format, format, "{name}");
        assert_eq!(decoded.samples.len() as u64, format.frames.unwrap() * u64::from(format.channels), "{name}");
        assert_eq!(decoded.warning, None, "{name}");
        assert!(!decoded.format.is_lossy(), "{name}");
        let peak = decoded.samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!((0.3..0.9).contains(&peak), "{name} peaks at {peak}");
    }
}

#[test]
fn format_is_printed_in_readable_form() {
    let text = |name: &str| WavStream::open(fixture(name).as_slice()).unwrap().format().to_string();
    assert_eq!(text("music-16bit-stereo-44k1.wav"), "16-bit integer, 2 channels, 44100 Hz");
    assert_eq!(text("float-96k.wav"), "32-bit float, 1 channel, 96000 Hz");
}

#[test]
fn each_of_eight_channels_keeps_its_own_frequency() {
    let samples = decode(&fixture("8ch-16bit-48k.wav")).unwrap().samples;
    for channel in 0..8 {
        let of_channel: Vec<f32> = samples.iter().skip(channel).step_by(8).copied().collect();
        let rises = of_channel.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
        // Channel k contains half a second of a tone of 200 + 100·k Hz. The tone has 100 + 50·k rising zero crossings. The first crossing
        // is at the start of the file and is not counted.
        assert_eq!(rises, 100 + 50 * channel - 1, "channel {channel}");
    }
}

#[test]
fn damaged_file_with_samples_plays_them_with_a_warning() {
    let cases = [
        (
            "truncated",
            Some(2_000),
            1_000,
            Some(
                "data ends early: the header states 2000 frames, but the file contains 1000; \
                 incomplete frame at the end (1 of 2 bytes) dropped",
            ),
        ),
        (
            "truncated-24bit",
            Some(1_000),
            700,
            Some(
                "data ends early: the header states 1000 frames, but the file contains 700; \
                 incomplete frame at the end (2 of 3 bytes) dropped",
            ),
        ),
        (
            "data-length-too-big",
            Some(2_013_265_920),
            1_000,
            Some("data ends early: the header states 2013265920 frames, but the file contains 1000"),
        ),
        ("data-length-0", None, 1_000, None),
        ("data-length-ffffffff", None, 1_000, None),
        ("data-length-odd", Some(1_000), 1_000, Some("incomplete frame at the end (1 of 2 bytes) dropped")),
        ("riff-size-wrong", Some(1_000), 1_000, None),
        ("chunks-in-odd-order", Some(1_000), 1_000, None),
        ("empty-data", None, 0, None),
    ];
    for (name, claimed, frames, warning) in cases {
        let decoded = decode(&fixture(&format!("broken/{name}.wav"))).unwrap();
        assert_eq!(decoded.format.frames, claimed, "{name}");
        assert_eq!(decoded.samples, saw_tooth(frames), "{name}");
        assert_eq!(decoded.warning.as_deref(), warning, "{name}");
    }
}

#[test]
fn damaged_file_without_samples_is_rejected_in_one_line() {
    let unsupported = |found: &str| format!("the format is {found}, which is not supported; {SUPPORTED}");
    let not_wav = |found: &str| format!("not a RIFF WAV file (found {found}); {SUPPORTED}");
    let cases = [
        ("ima-adpcm", unsupported("IMA ADPCM (tag 0x0011), 4 bits, 1 channel, 22050 Hz")),
        (
            "extensible-unknown-subformat",
            unsupported(
                "unknown encoding (tag 0xfffe extensible, sub-format 00000092-0000-0010-8000-00aa00389b71), \
                 16 bits, 2 channels, 48000 Hz",
            ),
        ),
        ("empty-file", "the file is empty".to_owned()),
        ("zero-channels", "the header is damaged: 0 channels; supported: 1 to 256".to_owned()),
        ("zero-rate", "the header is damaged: sample rate 0 Hz; supported: 1000 to 768000 Hz".to_owned()),
        ("not-a-wav", not_wav("text")),
        ("header-cut-in-fmt", "the file ends inside its header".to_owned()),
    ];
    for (name, expected) in cases {
        assert_eq!(refusal(&fixture(&format!("broken/{name}.wav"))), expected, "{name}");
    }
}
