//! The files in `fixtures/audio/`.

use std::fmt::Write;

use jamjam_core::audio::wav::{SampleFormat, WavFormat, WavStream};
use test_support::snapshot;

use super::{DecodedWav, decode, fixture, saw_tooth};

#[test]
fn every_valid_fixture_has_its_format_and_plays_to_its_last_frame() {
    let encoding = SampleFormat::Int;
    let int =
        |bits, channels, sample_rate, frames| WavFormat { sample_rate, channels, bits, encoding, frames: Some(frames) };
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
        assert_eq!((decoded.format.is_lossy(), decoded.warning), (false, None), "{name}");
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

/// A damaged file plays its samples, with a warning if some are missing, or it is rejected in one line.
#[test]
fn damaged_files_match_their_snapshot() {
    let folder = std::fs::read_dir(test_support::repository().join("fixtures/audio/broken")).unwrap();
    let mut names: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut lines = String::new();
    for name in names {
        let outcome = match decode(&fixture(&format!("broken/{name}"))) {
            Ok(DecodedWav { format, samples, warning }) => {
                assert_eq!(samples, saw_tooth(samples.len()), "{name}");
                let warning = warning.unwrap_or_else(|| "no warning".to_owned());
                format!("{} samples, {:?} frames stated; {warning}", samples.len(), format.frames)
            }
            Err(error) => error.to_string(),
        };
        writeln!(lines, "{name}: {outcome}").unwrap();
    }
    snapshot::assert_matches("core/damaged_wav", &lines);
}
