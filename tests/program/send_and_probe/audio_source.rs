//! `send` converts a file or a tone to samples, and reports conversions.

use std::f64::consts::TAU;
use std::path::Path;
use test_support::client;

use client::packet::{AUDIO, INFO};
use client::program::{ProgramOutput, run, run_args};
use client::server::Server;
use client::wav::{self, Wav};
use client::{at_once, document, fixture};

/// Runs `send` with these options and returns the samples that the server received.
fn send(options: &str) -> (Server, ProgramOutput) {
    let server = Server::correct();
    let output = run(&format!("send {options} --to {} --spin 0 --json", server.to()));
    assert_eq!(output.code, 0, "{output:?}");
    (server, output)
}

/// Sends a generated file.
fn send_file(path: &Path, options: &str) -> (Server, ProgramOutput) {
    let server = Server::correct();
    let (to, spin) = (server.to(), ["--spin", "0", "--to"]);
    let line = ["send".as_ref(), "--wav".as_ref(), path.as_os_str()].into_iter().chain(spin.map(AsRef::as_ref));
    let output = run_args(line.chain([to.as_ref()]).chain(options.split_whitespace().map(AsRef::as_ref)));
    assert_eq!(output.code, 0, "{output:?}");
    (server, output)
}

/// A sine of `hz` as 16-bit samples at half of full scale.
fn sine(hz: f64, rate: u32, samples: usize) -> Vec<i16> {
    let sample = |n: usize| (16_384.0 * (TAU * hz * n as f64 / f64::from(rate)).sin()).round() as i16;
    (0..samples).map(sample).collect()
}

/// The maximum difference between `samples` and a sine of `hz`. The sample rate is 48 kHz. The amplitude of the sine is half of full scale.
fn distance_from_sine(samples: &[f32], first: usize, hz: f64) -> f64 {
    let expected = |n: usize| 0.5 * (TAU * hz * (first + n) as f64 / 48_000.0).sin();
    samples.iter().enumerate().map(|(n, sample)| (f64::from(*sample) - expected(n)).abs()).fold(0.0, f64::max)
}

#[test]
fn tone_has_the_requested_frequency_length_and_level() {
    at_once([440.0, 1_000.0, 9_999.5], |hz| {
        let (server, output) = send(&format!("--tone {hz} --duration 500ms"));
        let samples = server.samples();
        assert_eq!(samples.len(), 24_000);
        let rising = samples.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count() as f64;
        // The sound begins with a fade-in, so one zero crossing may be missing.
        assert!((rising + 1.0 - hz / 2.0).abs() <= 1.0, "{hz} Hz: {rising} zero crossings in half a second");
        let peak = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!((0.249..=0.25).contains(&peak), "{peak}");
        assert_eq!(output.stderr, "");
    });
}

#[test]
fn file_looped_three_times_has_no_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short.wav");
    let samples: Vec<i16> = (0..1_000).map(|n| n * 30).collect();
    wav::write(&short, 48_000, 1, &samples);
    let (server, _) = send_file(&short, "--repeat 3");
    let expected: Vec<f32> = samples.repeat(3).iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
    assert_eq!(server.samples(), expected);
    // No packet ends early at a loop point. The 3,000 samples fill 23 packets of 128 samples and a last packet of 56 samples.
    assert_eq!(server.received_of(AUDIO).len(), 24);

    // 4,410 samples at 44.1 kHz are 100 whole periods. Therefore, the looped file is one continuous sine, even after resampling.
    let sines = folder.path().join("sine.wav");
    wav::write(&sines, 44_100, 1, &sine(1_000.0, 44_100, 4_410));
    let (server, _) = send_file(&sines, "--repeat 3");
    let samples = server.samples();
    assert_eq!(samples.len(), 14_400);
    let distance = distance_from_sine(&samples[1_000..13_400], 1_000, 1_000.0);
    assert!(distance < 1e-3, "{distance}");
}

#[test]
fn duration_option_truncates_a_file_and_ends_an_endless_loop() {
    let (server, _) = send("--wav fixtures/audio/24bit-mono-48k.wav --duration 30ms");
    let bell = Wav::read(&fixture("24bit-mono-48k.wav")).samples();
    assert_eq!(server.samples(), bell[..1_440]);
    let (server, _) = send("--wav fixtures/audio/24bit-mono-48k.wav --repeat forever --duration 0.6s");
    assert_eq!(server.samples(), [&bell[..], &bell[..4_800]].concat());
    // If `--duration` is longer than the file, the program sends the whole file.
    let (server, _) = send("--wav fixtures/audio/24bit-mono-48k.wav --duration 1h");
    assert_eq!(server.samples(), bell);
}

#[test]
fn file_at_its_own_sample_rate_is_sent_unchanged() {
    let cases = [("float-96k", 96_000_u32, 1, 375), ("music-16bit-stereo-44k1", 44_100, 2, 345)];
    at_once(cases, |(name, rate, channels, packets)| {
        let (server, output) = send(&format!("--wav fixtures/audio/{name}.wav --resample native"));
        assert!(server.samples() == Wav::read(&fixture(&format!("{name}.wav"))).samples(), "{name}");
        let audio = server.received_of(AUDIO);
        assert_eq!((audio.len(), audio[1].timestamp, audio[1].payload.len()), (packets, 128, 512 * channels));
        assert_eq!(server.received_of(INFO)[0].payload[24..28], rate.to_be_bytes());
        assert_eq!(document::report(&output)["audio"]["sample_rate_hz"], rate);
        assert!(!output.stderr.contains("resampled"), "{}", output.stderr);
    });
}

#[test]
fn other_sample_rate_is_resampled_to_48_khz_with_pitch_and_position() {
    let folder = tempfile::tempdir().unwrap();
    at_once([8_000, 22_050, 44_100, 96_000], |rate| {
        let file = folder.path().join(format!("{rate}.wav"));
        let samples = rate as usize / 4;
        wav::write(&file, rate, 1, &sine(1_000.0, rate, samples));
        let (server, output) = send_file(&file, "");
        let received = server.samples();
        // A quarter of a second, rounded up to a whole sample.
        assert_eq!(received.len(), (samples * 48_000).div_ceil(rate as usize), "{rate} Hz");
        let distance = distance_from_sine(&received[2_000..10_000], 2_000, 1_000.0);
        assert!(distance < 1e-3, "{rate} Hz: {distance}");
        let message = format!("jamjam-dev: resampled from {rate} Hz to 48000 Hz; --resample native keeps the rate\n");
        assert!(output.stderr.contains(&message), "{}", output.stderr);
    });
}

#[test]
fn downmix_equals_hand_computed_averages() {
    let eight = Wav::read(&fixture("8ch-16bit-48k.wav"));
    let frames: Vec<Vec<i64>> = eight
        .data
        .chunks(16)
        .map(|frame| frame.chunks(2).map(|b| i64::from(i16::from_le_bytes([b[0], b[1]]))).collect())
        .collect();
    let sum = |frame: &[i64], channels: &[usize]| channels.iter().map(|channel| frame[*channel]).sum::<i64>() as f32;
    // The left channel is the mix of channels 0, 2, 4 and 6. The right channel is the mix of channels 1, 3, 5 and 7. The sum of four 16-bit
    // numbers is exact.
    let stereo: Vec<f32> = frames
        .iter()
        .flat_map(|frame| [sum(frame, &[0, 2, 4, 6]), sum(frame, &[1, 3, 5, 7])].map(|sum| sum / 4.0 / 32_768.0))
        .collect();
    let speech = Wav::read(&fixture("speech-16bit-mono-48k.wav")).samples()[..2_400].to_vec();
    let cases = [
        ("8ch-16bit-48k.wav", stereo, "8 channels are mixed to 2"),
        ("speech-16bit-mono-48k.wav --duration 50ms", speech, ""),
    ];
    at_once(cases, |(options, expected, message)| {
        let (server, output) = send(&format!("--wav fixtures/audio/{options}"));
        assert!(server.samples() == expected, "{options}");
        let format = output.stderr.lines().count();
        assert!(output.stderr.contains(message) && format == 1 + usize::from(!message.is_empty()), "{}", output.stderr);
    });
}

#[test]
fn each_conversion_is_reported_on_standard_error() {
    let cases = [
        ("speech-16bit-mono-48k", vec!["16-bit integer, 1 channel, 48000 Hz"], vec![]),
        (
            "music-16bit-stereo-44k1",
            vec!["16-bit integer, 2 channels, 44100 Hz"],
            vec!["resampled from 44100 Hz to 48000 Hz; --resample native keeps the rate"],
        ),
        (
            "float-96k",
            vec!["32-bit float, 1 channel, 96000 Hz"],
            vec!["resampled from 96000 Hz to 48000 Hz; --resample native keeps the rate"],
        ),
        ("8ch-16bit-48k", vec!["16-bit integer, 8 channels, 48000 Hz"], vec!["8 channels are mixed to 2"]),
    ];
    at_once(cases, |(name, found, done)| {
        let (_, output) = send(&format!("--wav fixtures/audio/{name}.wav --duration 10ms"));
        let found = found.iter().map(|found| format!("jamjam-dev: fixtures/audio/{name}.wav: {found}"));
        let done = done.iter().map(|done| format!("jamjam-dev: {done}"));
        assert_eq!(output.stderr.lines().collect::<Vec<_>>(), found.chain(done).collect::<Vec<_>>());
    });
}

#[test]
fn samples_of_32_bit_integers_are_rounded_with_a_notice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("32.wav");
    wav::write(&file, 48_000, 1, &[0; 960]);
    // The header now declares 32-bit samples. Therefore, the same data contains half as many samples. The first two samples are set to
    // known values.
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[28..36].copy_from_slice(&[0x00, 0xee, 0x02, 0x00, 4, 0, 32, 0]);
    bytes[44..52].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f, 0x00, 0x00, 0x00, 0xc0]);
    std::fs::write(&file, bytes).unwrap();
    let (server, output) = send_file(&file, "");
    assert_eq!(server.samples()[..3], [1.0, -0.5, 0.0]);
    assert_eq!(server.samples().len(), 480);
    assert!(output.stderr.contains("integers of more than 24 bits are rounded to 32-bit floats"), "{}", output.stderr);
}
