//! The audio quality that `send` reports, for generated audio with known clipping and silence. The figures of the source are computed
//! before mixing and resampling.

use std::f64::consts::TAU;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::client::{Server, document, start_line, together, wav};

use crate::clients::report;

/// Runs `send` with a file that `make` writes, and with these options. Returns the report.
fn send_file(make: impl Fn(&Path), options: &str) -> Value {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("made.wav");
    make(&file);
    report(0, &format!("send --wav {} {options} --embedded --delay 0 --frame-size 480", file.display()))
}

/// One second of a sine with 120 % of full scale from a quarter of its period on, clipped twice per period for 67 degrees.
fn clipped_sine(hz: f64, rate: u32) -> Vec<i16> {
    let sample = |n: u32| 1.2 * (TAU * (0.25 + hz * f64::from(n) / f64::from(rate))).sin();
    (0..rate).map(|n| (32_768.0 * sample(n)).clamp(-32_768.0, 32_767.0) as i16).collect()
}

#[test]
fn clipping_in_the_file_is_counted_before_any_conversion() {
    // Both ends of the file are half of a clipped maximum, which counts separately, so 1,000 periods have 2,001 clipped sequences.
    let cases = [(48_000, 1, ""), (44_100, 1, ""), (44_100, 2, ""), (44_100, 1, "--resample native")];
    together(cases, |(rate, channels, options)| {
        let mono = clipped_sine(1_000.0, rate);
        let full = mono.iter().filter(|sample| **sample == 32_767 || **sample <= -32_767).count();
        // The second channel is silent.
        let stereo: Vec<i16> = mono.iter().flat_map(|sample| [*sample, 0]).collect();
        let samples = if channels == 2 { &stereo } else { &mono };
        let quality = &send_file(|file| wav::write(file, rate, channels, samples), options)["audio_quality"];
        let figures = ["source_clips", "source_first_clip_at_ms", "source_clipped_samples"].map(|name| &quality[name]);
        assert_eq!(figures, [&json!(2_001), &json!(0.0), &json!(full)], "{rate} {channels} {options}");
    });
    // The amplitude of this square wave is 95 % of full scale. If the frequencies above 22 kHz are removed, its peaks exceed full scale.
    let square: Vec<i16> = (0..44_100).map(|n| if n / 21 % 2 == 0 { 31_130 } else { -31_130 }).collect();
    let quality = &send_file(|file| wav::write(file, 44_100, 1, &square), "")["audio_quality"];
    assert!(quality["sent_levels"][0]["peak_dbfs"].as_f64().unwrap() > 0.0, "{quality}");
    assert_eq!((&quality["source_clips"], &quality["source_first_clip_at_ms"]), (&json!(0), &Value::Null));
}

#[test]
fn silence_has_its_length_in_the_file_and_unsent_parts_do_not_count() {
    // 100 ms of sound, 300 ms of silence, 100 ms of sound, 400 ms of silence.
    let mut samples: Vec<i16> = (0..39_690).map(|n| if n % 2 == 0 { 8_000 } else { -7_000 }).collect();
    samples[4_410..17_640].fill(0);
    samples[22_050..].fill(0);
    // The silence at the end of the first pass stops when the second pass begins.
    let cases = [("", 400.0), ("--duration 500ms", 300.0), ("--duration 150ms", 50.0), ("--repeat 2", 400.0)];
    together(cases, |(options, expected)| {
        let report = send_file(|file| wav::write(file, 44_100, 1, &samples), options);
        assert_eq!(report["audio_quality"]["source_silence_ms"], expected, "{options}");
    });
}

#[test]
fn source_of_an_interrupted_run_is_the_part_that_was_sent() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("long.wav");
    // Eight packets are sent per second, and many seconds are read ahead.
    wav::write(&file, 48_000, 1, &clipped_sine(1_000.0, 48_000).repeat(60));
    let server = Server::correct();
    let line = format!("send --frame-size 6000 --delay 0 --json --to {} --wav {}", server.to(), file.display());
    let program = start_line(&line);
    server.wait_for(20);
    program.signal("INT");
    let report = document::report(&program.end());
    let quality = &report["audio_quality"];
    let [sent, source] =
        [&quality["sent_levels"][0]["clips"], &quality["source_clips"]].map(|clips| clips.as_u64().unwrap());
    // The next packet may be analyzed but not sent: up to 250 clipped sequences, two in each of 125 periods. The 1,024 samples that are
    // read ahead have up to 43.
    assert!((sent..=sent + 250 + 43 + 1).contains(&source) && sent >= 500, "{sent} {source}");
}
