//! Recorded speech from a Debian package returns unchanged.

use std::env;
use std::f64::consts::PI;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use test_support::client;

use client::program::run_args;
use client::wav::Wav;
use client::{at_once, document};

/// The folder of nine WAV files from the package alsa-utils: 48 kHz, 16 bits, one channel.
const ALSA: &str = "/usr/share/sounds/alsa";

/// A recording of a spoken sentence, from the package supercollider-common: 44.1 kHz, 16 bits, one channel.
const SENTENCE: &str = "/usr/share/SuperCollider/sounds/a11wlk01.wav";

/// Whether `path` exists. If the file does not exist, the test prints a line and is skipped. In CI, the file must exist.
fn is_installed(path: &str, package: &str) -> bool {
    if Path::new(path).exists() {
        return true;
    }
    let missing = format!("{path} is not there; sh scripts/setup --tests installs {package} on Debian");
    assert!(env::var_os("CI").is_none_or(|value| value.is_empty()), "{missing}");
    // Writing to stderr directly bypasses the test runner's capture, which hides the output of passing tests.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
    false
}

/// Sends the whole file to an embedded server. Returns the samples of the file and those of the recording.
fn send(wav: &Path, more: &[&str]) -> (Wav, Wav) {
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("returned.wav");
    let fixed = ["send", "--embedded", "--delay", "20", "--spin", "0", "--max-loss", "0%", "--json"];
    let output = run_args((fixed.iter().chain(more).map(AsRef::as_ref)).chain([
        "--wav".as_ref(),
        wav.as_os_str(),
        "--record".as_ref(),
        recording.as_os_str(),
    ]));
    assert_eq!(output.code, 0, "{output:?}");
    let (input, recorded) = (Wav::read(wav), Wav::read(&recording));
    let packets = recorded.samples().len().div_ceil(128) as u64;
    let counts = document::counts(&document::report(&output), "audio", ["sent", "returned", "damaged"]);
    assert_eq!(counts, [packets, packets, 0], "{}", wav.display());
    (input, recorded)
}

#[test]
fn speech_at_48_khz_returns_sample_for_sample() {
    if !is_installed(ALSA, "alsa-utils") {
        return;
    }
    let files = fs::read_dir(ALSA).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "wav")).collect();
    assert!(files.len() >= 9, "{files:?}");
    at_once(&files, |file| {
        let (input, recorded) = send(file, &[]);
        assert_eq!((input.tag, input.channels, input.rate, input.bits), (1, 1, 48_000, 16), "{}", file.display());
        assert_eq!((recorded.tag, recorded.channels, recorded.rate, recorded.bits), (3, 1, 48_000, 32));
        assert!(recorded.samples() == input.samples(), "{}", file.display());
    });
}

#[test]
fn speech_at_44_1_khz_returns_interpolated_or_sample_for_sample() {
    if !is_installed(SENTENCE, "supercollider-common") {
        return;
    }
    let ways: [&[&str]; 2] = [&[], &["--resample", "native"]];
    let mut returned = at_once(ways, |way| send(Path::new(SENTENCE), way));
    let (input, native) = returned.pop().unwrap();
    assert_eq!((native.rate, native.channels), (44_100, 1));
    assert!(native.samples() == input.samples());

    let (input, resampled) = returned.pop().unwrap();
    assert_eq!((input.rate, resampled.rate, resampled.channels), (44_100, 48_000, 1));
    let (input, found) = (input.samples(), resampled.samples());
    // The output has the duration of the input, rounded up: 147 samples become 160.
    assert_eq!(found.len(), (input.len() * 160).div_ceil(147));

    // Every 37th sample is compared. Because 37 and 160 have no common divisor, all 160 phases of the resampler occur.
    let (mut error, mut power) = (0.0, 0.0);
    for n in (0..found.len()).step_by(37) {
        let ideal = interpolated(&input, n as f64 * 147.0 / 160.0);
        error += (f64::from(found[n]) - ideal).powi(2);
        power += ideal.powi(2);
    }
    let decibels = 10.0 * (error / power).log10();
    assert!(decibels < -60.0, "{decibels:.1} dB");
}

/// Interpolates between samples. Each sample is multiplied by sin(πt)/(πt) and by a Hann window that is 400 samples wide. In these factors,
/// t is the distance from the sample to `at` in samples. The result is the sum of the products. The signal is zero before the first and
/// after the last sample.
fn interpolated(samples: &[f32], at: f64) -> f64 {
    const REACH: f64 = 200.0;
    let near = (at - REACH).ceil().max(0.0) as usize..=((at + REACH) as usize).min(samples.len() - 1);
    near.map(|n| {
        let t = at - n as f64;
        let sinc = if t == 0.0 { 1.0 } else { (PI * t).sin() / (PI * t) };
        f64::from(samples[n]) * sinc * (0.5 + 0.5 * (PI * t / REACH).cos())
    })
    .sum()
}
