//! Tests the statistics that `send` computes from its audio source before mixing and resampling. In the generated audio, the number of
//! sequences of clipped samples and the length of silence are known.

use std::f64::consts::TAU;
use std::path::Path;
use test_support::client;

use client::program::{ProgramOutput, command, run_args, start};
use client::server::{Server, ServerAction};
use client::wav::{self, Wav};
use client::{at_once, document};
use serde_json::{Value, json};

/// Writes `samples` to a WAV file. Runs `send` with this file and `options`. Returns the reported audio quality and the exit code.
fn quality(rate: u32, channels: u16, samples: &[i16], options: &str) -> (Value, i32) {
    let output = send_file(|file| wav::write(file, rate, channels, samples), &format!("{options} --json"));
    (document::report(&output)["audio_quality"].clone(), output.code)
}

/// Writes a WAV file with the closure `make`. Runs `send` with this file and these options.
fn send_file(make: impl Fn(&Path), options: &str) -> ProgramOutput {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made.wav");
    make(&file);
    let line = ["send".as_ref(), "--wav".as_ref(), file.as_os_str()];
    let options = format!("{options} --embedded --delay 0 --frame-size 480");
    run_args(line.into_iter().chain(options.split_whitespace().map(AsRef::as_ref)))
}

/// One second of a sine with 120 % of full scale. The sine starts at a quarter of its period. The sine is clipped twice per period, for 67
/// degrees each time.
fn clipped_sine(hz: f64, rate: u32) -> Vec<i16> {
    let sample = |n: u32| 1.2 * (TAU * (0.25 + hz * f64::from(n) / f64::from(rate))).sin();
    (0..rate).map(|n| (32_768.0 * sample(n)).clamp(-32_768.0, 32_767.0) as i16).collect()
}

/// Adds a second channel that is silent.
fn with_silent_channel(samples: &[i16]) -> Vec<i16> {
    samples.iter().flat_map(|sample| [*sample, 0]).collect()
}

#[test]
fn clipping_in_the_file_is_counted_after_any_conversion() {
    // The sine is clipped at its maximum and at its minimum, which is twice per period. The file starts and ends in the middle of a clipped
    // maximum. These two halves are counted separately, so 1,000 periods have 2,001 sequences of clipped samples.
    at_once(
        [
            (48_000, 1_000.0, 1, ""),
            (44_100, 1_000.0, 1, ""),
            (96_000, 1_000.0, 1, ""),
            (44_100, 1_000.0, 1, "--resample native"),
            (44_100, 1_000.0, 2, ""),
            (8_000, 100.0, 1, ""),
        ],
        |(rate, hz, channels, options)| {
            let mono = clipped_sine(hz, rate);
            let samples = if channels == 2 { with_silent_channel(&mono) } else { mono };
            let (quality, _) = quality(rate, channels, &samples, options);
            let case = format!("{rate} Hz {hz} {channels} {options}: {quality}");
            assert_eq!(quality["source_clips"], 2.0 * hz + 1.0, "{case}");
            assert_eq!(quality["source_first_clip_at_ms"], 0.0, "{case}");
            let full = samples.iter().filter(|sample| **sample == 32_767 || **sample <= -32_767).count();
            assert_eq!(quality["source_clipped_samples"], full, "{case}");
        },
    );
}

#[test]
fn resampler_overshoot_is_not_counted_as_clipping() {
    // The amplitude of this square wave is 95 % of full scale. If the frequencies above 22 kHz are removed, its peaks exceed full scale.
    let square: Vec<i16> = (0..44_100).map(|n| if n / 21 % 2 == 0 { 31_130 } else { -31_130 }).collect();
    let (quality, code) = quality(44_100, 1, &square, "");
    assert!(quality["sent_levels"][0]["peak_dbfs"].as_f64().unwrap() > 0.0, "{quality}");
    assert_eq!(
        (&quality["source_clips"], &quality["source_first_clip_at_ms"], code),
        (&json!(0), &Value::Null, 0),
        "{quality}"
    );
}

#[test]
fn silence_has_its_length_in_the_file_and_unsent_parts_do_not_count() {
    // 100 ms of sound, 300 ms of silence, 100 ms of sound, 400 ms of silence.
    let mut samples: Vec<i16> = (0..39_690).map(|n| if n % 2 == 0 { 8_000 } else { -7_000 }).collect();
    samples[4_410..17_640].fill(0);
    samples[22_050..].fill(0);
    at_once(
        [
            ("", 400.0, 0),
            ("--duration 500ms", 300.0, 0),
            // The run sends 100 ms of sound and then 50 ms of silence. The rest of the file is not sent.
            ("--duration 150ms", 50.0, 0),
            // The file is sent twice in succession. The file begins with sound and ends with silence. Therefore, the final silence of pass
            // 1 stops when pass 2 begins. The longest silence stays the same.
            ("--repeat 2", 400.0, 0),
        ],
        |(options, expected, code)| {
            let (quality, output) = quality(44_100, 1, &samples, options);
            assert_eq!((&quality["source_silence_ms"], output), (&json!(expected), code), "{options}: {quality}");
        },
    );
}

/// A tenth of a second of a quiet tone. `value` replaces three of its samples.
fn with_three_values(value: f32, rate: u32, channels: u16) -> Vec<f32> {
    let samples = rate as usize / 10 * usize::from(channels);
    let mut sound: Vec<f32> = (0..samples).map(|n| (n as f32 / 50.0).sin() / 4.0).collect();
    for at in [0, 1_001, samples - 1] {
        sound[at] = value;
    }
    sound
}

/// The warnings about samples that are NaN or infinite.
fn notes(report: &Value) -> Vec<&str> {
    let all = report["warnings"].as_array().unwrap().iter();
    let about = all.filter(|note| note["code"] == "non_finite_samples");
    about.map(|note| note["message"].as_str().unwrap()).collect()
}

#[test]
fn non_finite_file_samples_are_counted_and_become_zero_when_converted() {
    let cases = [
        (44_100, 1, ""),
        (44_100, 2, ""),
        (96_000, 1, ""),
        (96_000, 6, ""),
        (48_000, 6, ""),
        (96_000, 4, "--resample native"),
    ];
    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    at_once(cases.into_iter().zip(values.into_iter().cycle()), |((rate, channels, options), value)| {
        let make = |file: &Path| wav::write_floats(file, rate, channels, &with_three_values(value, rate, channels));
        let output = send_file(make, &format!("{options} --json"));
        let case = format!("{value} {rate} {channels} {options}: {output:?}");
        assert_eq!(output.code, 0, "{case}");
        let report = document::report(&output);
        let quality = &report["audio_quality"];
        assert_eq!(quality["source_non_finite_samples"], 3, "{case}");
        assert_eq!(quality["source_replaced_samples"], 3, "{case}");
        let levels = quality["sent_levels"].as_array().unwrap();
        assert!(
            levels.iter().all(|level| level["non_finite_samples"] == 0 && level["peak_dbfs"].is_number()),
            "{case}"
        );
        assert_eq!(notes(&report), ["3 NaN or infinite samples in the source (replaced with 0)"], "{case}");
    });
}

#[test]
fn non_finite_samples_are_sent_unchanged_and_counted_when_copied() {
    let cases = [(48_000, 1, ""), (48_000, 2, ""), (44_100, 1, "--resample native"), (44_100, 2, "--resample native")];
    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7fc0_0001)];
    at_once(cases.into_iter().zip(values), |((rate, channels, options), value)| {
        let sound = with_three_values(value, rate, channels);
        let folder = tempfile::tempdir().unwrap();
        let [record, both, page] = ["back.wav", "both.wav", "page.html"].map(|name| folder.path().join(name));
        let files = format!("--record {} --record-both {} --html {}", record.display(), both.display(), page.display());
        let make = |file: &Path| wav::write_floats(file, rate, channels, &sound);
        let output = send_file(make, &format!("{options} {files} --json"));
        let case = format!("{value} {rate} {channels} {options}: {output:?}");
        assert_eq!(output.code, 0, "{case}");
        let report = document::report(&output);
        let quality = &report["audio_quality"];
        assert_eq!(quality["source_non_finite_samples"], 3, "{case}");
        assert_eq!(quality["source_replaced_samples"], 0, "{case}");
        for side in ["sent_levels", "returned_levels"] {
            let levels = quality[side].as_array().unwrap().iter();
            assert_eq!(
                levels.map(|level| level["non_finite_samples"].as_u64().unwrap()).sum::<u64>(),
                3,
                "{side} {case}"
            );
        }
        let note = "3 NaN or infinite samples in the source (sent unchanged): playback programs output noise or silence for these \
                    samples";
        assert_eq!(notes(&report), [note], "{case}");
        let back: Vec<u32> = Wav::read(&record).samples().iter().map(|sample| sample.to_bits()).collect();
        let expected: Vec<u32> = sound.iter().map(|sample| sample.to_bits()).collect();
        assert!(back == expected, "{case}");
        let page = std::fs::read_to_string(&page).unwrap();
        assert!(page.contains("3 NaN or infinite samples in the source"), "{page}");
        assert!(!page.contains(">NaN") && !page.contains("inf dBFS") && !page.contains("NaN dBFS"), "{page}");
    });
}

#[test]
fn file_of_the_largest_floats_is_sent_at_every_rate() {
    let cases = [(44_100, 1, ""), (96_000, 2, ""), (44_100, 4, ""), (48_000, 2, ""), (96_000, 1, "--resample native")];
    at_once(cases, |(rate, channels, options)| {
        let sound: Vec<f32> = (0..6_000).map(|n| if n / 500 % 2 == 0 { f32::MAX } else { -1e38 }).collect();
        let output = send_file(|file| wav::write_floats(file, rate, channels, &sound), &format!("{options} --json"));
        assert_eq!(output.code, 0, "{rate} {channels} {options}: {output:?}");
        let quality = &document::report(&output)["audio_quality"];
        // The values are large but finite, so none is counted as not finite.
        assert_eq!(
            (&quality["source_non_finite_samples"], &quality["source_replaced_samples"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(quality["sent_levels"][0]["non_finite_samples"], 0, "{quality}");
    });
}

#[test]
fn text_report_lists_non_finite_samples_of_both_sides() {
    let lines = |options: &str, rate: u32, sound: &[f32]| {
        let output = send_file(|file| wav::write_floats(file, rate, 1, sound), options);
        assert_eq!(output.code, 0, "{output:?}");
        output.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let reported = lines("", 44_100, &with_three_values(f32::NAN, 44_100, 1));
    assert!(
        reported.contains(&"warning: 3 NaN or infinite samples in the source (replaced with 0)".to_owned()),
        "{reported:#?}"
    );
    // All samples are infinite, which is not silence.
    let reported = lines("", 48_000, &[f32::INFINITY; 960]);
    let level = reported.iter().find(|line| line.starts_with("level ")).unwrap();
    assert!(level.ends_with("sent peak -\u{221e} dBFS, RMS -\u{221e} dBFS, 960 NaN or infinite samples"), "{level}");
    assert!(!reported.iter().any(|line| line.contains("digital silence")), "{reported:#?}");
}

#[test]
fn non_finite_samples_of_changed_packets_are_reported_as_returned() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made.wav");
    wav::write_floats(&file, 48_000, 1, &with_three_values(f32::NAN, 48_000, 1));
    // The server halves all samples. A NaN stays NaN.
    let server = Server::with_audio(|_| ServerAction::Halve);
    let line = format!("send --frame-size 480 --delay 0 --to {} --wav", server.to());
    let run = |more: &[&str]| {
        let words = line.split_whitespace().map(AsRef::as_ref).chain([file.as_os_str()]);
        run_args(words.chain(more.iter().map(AsRef::as_ref)))
    };
    let quality = &document::report(&run(&["--json"]))["audio_quality"];
    assert_eq!(quality["returned_levels"][0]["non_finite_samples"], 3, "{quality}");
    for name in ["correlation", "gain_db"] {
        assert!(quality[name].is_number(), "{quality}");
    }
    let text = run(&[]).stdout;
    let level = text.lines().find(|line| line.starts_with("level ")).unwrap();
    let [sent, returned] = <[&str; 2]>::try_from(level.split(';').collect::<Vec<_>>()).unwrap();
    assert!([sent, returned].iter().all(|side| side.ends_with(", 3 NaN or infinite samples")), "{level}");
}

#[test]
fn source_of_an_interrupted_run_is_the_part_that_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.wav");
    // Eight packets are sent per second, and many seconds are read ahead.
    wav::write(&file, 48_000, 1, &clipped_sine(1_000.0, 48_000).repeat(60));
    let server = Server::correct();
    let line = format!("send --frame-size 6000 --delay 0 --json --to {} --wav", server.to());
    let program = start(command(line.split_whitespace()).arg(&file));
    server.wait_for(20);
    program.signal("INT");
    let report = document::report(&program.end());
    let quality = &report["audio_quality"];
    let [sent, source] =
        [&quality["sent_levels"][0]["clips"], &quality["source_clips"]].map(|clips| clips.as_u64().unwrap());
    // Some audio was analyzed but not sent. Therefore, the source may have more sequences of clipped samples than the sent audio. The next
    // packet has up to 250 such sequences: two in each of 125 periods. The 1,024 samples that are read ahead have up to 43 such sequences.
    assert!((sent..=sent + 250 + 43 + 1).contains(&source), "{sent} {source}");
    assert!(sent >= 500, "{sent}");
}
