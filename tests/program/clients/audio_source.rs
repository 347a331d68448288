//! `send` converts a file or a tone to samples, and reports conversions.

use std::f64::consts::TAU;

use test_support::client::{
    AUDIO, INFO, ProgramOutput, Server, Wav, fixture, run_to_success, run_with_input, together, wav,
};

use crate::clients::report;

/// Runs `send` with these options. The server has received the samples.
fn send(options: &str) -> (Server, ProgramOutput) {
    let server = Server::correct();
    let output = run_to_success(&format!("send {options} --to {} --spin 0", server.to()));
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
fn file_looped_three_times_has_no_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let [short, sines] = ["short.wav", "sine.wav"].map(|name| folder.path().join(name));
    let samples: Vec<i16> = (0..1_000).map(|n| n * 30).collect();
    wav::write(&short, 48_000, 1, &samples);
    let (server, _) = send(&format!("{} --repeat 3", short.display()));
    let expected: Vec<f32> = samples.repeat(3).iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
    assert_eq!(server.samples(), expected);
    // No packet ends early at a loop point. The 3,000 samples fill 23 packets of 128 samples and a last packet of 56 samples.
    assert_eq!(server.received_of(AUDIO).len(), 24);

    // 4,410 samples at 44.1 kHz are 100 whole periods. Therefore, the looped file is one continuous sine, even after resampling.
    wav::write(&sines, 44_100, 1, &sine(1_000.0, 44_100, 4_410));
    let (server, output) = send(&format!("{} --repeat 3", sines.display()));
    let samples = server.samples();
    let distance = distance_from_sine(&samples[1_000..13_400], 1_000, 1_000.0);
    assert!(samples.len() == 14_400 && distance < 1e-3, "{} {distance}", samples.len());
    let notice = "jamjam-dev: resampled from 44100 Hz to 48000 Hz; --resample native keeps the rate\n";
    assert!(output.stderr.ends_with(notice), "{}", output.stderr);
}

#[test]
fn duration_option_truncates_a_file_and_ends_an_endless_loop() {
    let bell = Wav::read(&fixture("24bit-mono-48k.wav")).samples();
    for (options, expected) in [
        ("--duration 30ms", bell[..1_440].to_vec()),
        ("--repeat forever --duration 0.6s", [&bell[..], &bell[..4_800]].concat()),
        // A longer duration sends the whole file.
        ("--duration 1h", bell.clone()),
    ] {
        let (server, _) = send(&format!("--wav fixtures/audio/24bit-mono-48k.wav {options}"));
        assert!(server.samples() == expected, "{options}");
    }
}

#[test]
fn file_at_its_own_sample_rate_is_sent_unchanged() {
    let cases = [("float-96k", 96_000_u32, 1, 375), ("music-16bit-stereo-44k1", 44_100, 2, 345)];
    together(cases, |(name, rate, channels, packets)| {
        let server = Server::correct();
        let line = format!("send fixtures/audio/{name}.wav --resample native --to {} --spin 0", server.to());
        assert_eq!(report(0, &line)["audio"]["sample_rate_hz"], rate);
        assert!(server.samples() == Wav::read(&fixture(&format!("{name}.wav"))).samples(), "{name}");
        let audio = server.received_of(AUDIO);
        assert_eq!((audio.len(), audio[1].timestamp, audio[1].payload.len()), (packets, 128, 512 * channels));
        assert_eq!(server.received_of(INFO)[0].payload[24..28], rate.to_be_bytes());
    });
}

#[test]
fn format_and_conversions_of_a_file_are_printed_on_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("32.wav");
    wav::write_integers(&file, 48_000, 1, &[[0xff, 0xff, 0xff, 0x7f], [0, 0, 0, 0xc0]]);
    let (server, output) = send(&format!("--wav {}", file.display()));
    let notice =
        "32-bit integer, 1 channel, 48000 Hz\njamjam-dev: integers of more than 24 bits are rounded to 32-bit floats\n";
    assert!(server.samples() == [1.0, -0.5] && output.stderr.ends_with(notice), "{output:?}");
    let resampled = |rate: u32| format!("resampled from {rate} Hz to 48000 Hz; --resample native keeps the rate");
    let cases = [
        ("speech-16bit-mono-48k", "16-bit integer, 1 channel, 48000 Hz", vec![]),
        ("music-16bit-stereo-44k1", "16-bit integer, 2 channels, 44100 Hz", vec![resampled(44_100)]),
        ("float-96k", "32-bit float, 1 channel, 96000 Hz", vec![resampled(96_000)]),
        ("8ch-16bit-48k", "16-bit integer, 8 channels, 48000 Hz", vec!["8 channels are mixed to 2".to_owned()]),
    ];
    together(cases, |(name, format, done)| {
        let (_, output) = send(&format!("--wav fixtures/audio/{name}.wav --duration 10ms"));
        let lines = [format!("fixtures/audio/{name}.wav: {format}")].into_iter().chain(done);
        let lines: Vec<String> = lines.map(|line| format!("jamjam-dev: {line}")).collect();
        assert_eq!(output.stderr.lines().collect::<Vec<_>>(), lines);
    });
}

/// The sawtooth of the damaged files: a period of 256 samples, each 64 above the sample before (on a 16-bit scale).
fn saw_tooth(samples: i16) -> Vec<f32> {
    (0..samples).map(|n| f32::from((n % 256 - 128) * 64) / 32_768.0).collect()
}

#[test]
fn damaged_file_is_sent_to_its_last_whole_sample_with_one_warning() {
    let cut = "data ends early: the header states 1000 frames, but the file contains 700; incomplete frame at the end (2 of 3 bytes) \
               dropped";
    for (name, samples, warnings) in [("truncated-24bit", 700, 1), ("riff-size-wrong", 1_000, 0)] {
        // The warning is printed even with `--quiet`, and only once for both passes.
        let options = "--resample native --repeat 2 --quiet";
        let (server, output) = send(&format!("fixtures/audio/broken/{name}.wav {options}"));
        assert!(server.samples() == saw_tooth(samples).repeat(2), "{name}");
        let warning = format!("warning: {name}.wav: {cut}\n");
        assert_eq!((output.stdout.matches(&warning).count(), output.stderr.as_str()), (warnings, ""), "{output:?}");
        assert_eq!(output.stdout.matches(&format!("warning: {name}.wav")).count(), warnings, "{output:?}");
    }
}

#[test]
fn standard_input_is_sent_like_a_file() {
    let server = Server::correct();
    let line = ["send", "--wav", "-", "--to", &server.to(), "--spin", "0"];
    let output = run_with_input(line, std::fs::read(fixture("24bit-mono-48k.wav")).unwrap());
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(server.samples(), Wav::read(&fixture("24bit-mono-48k.wav")).samples());
    assert_eq!(output.stderr, "jamjam-dev: standard input: 24-bit integer, 1 channel, 48000 Hz\n");

    let output = run_with_input(line, std::fs::read(fixture("broken/not-a-wav.wav")).unwrap());
    assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
    assert!(output.stderr.starts_with("jamjam-dev: cannot read standard input: not a RIFF WAV file"), "{output:?}");
}
