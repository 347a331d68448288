//! What `send` says of its source, before it is mixed and brought to another rate: against sounds whose clipped stretches and silence are
//! known because they were made so.

mod client;

use std::f64::consts::TAU;

use client::program::{command, run_args, start};
use client::server::Server;
use client::wav;
use client::{at_once, document};
use serde_json::{Value, json};

/// What is heard of a file with these samples, sent with `options`, and the code that the run ended with.
fn heard(rate: u32, channels: u16, samples: &[i16], options: &str) -> (Value, i32) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made.wav");
    wav::write(&file, rate, channels, samples);
    let line = ["send".as_ref(), "--wav".as_ref(), file.as_os_str()];
    let options = format!("{options} --embedded --delay 0 --frame 480 --json");
    let ended = run_args(line.into_iter().chain(options.split_whitespace().map(AsRef::as_ref)));
    (document::report(&ended)["heard"].clone(), ended.code)
}

/// A second of a sine that is a fifth too loud for its file, from a quarter of its period on. What is too loud is cut off twice a
/// period, for 67 degrees.
fn too_loud(hz: f64, rate: u32) -> Vec<i16> {
    let sample = |n: u32| 1.2 * (TAU * (0.25 + hz * f64::from(n) / f64::from(rate))).sin();
    (0..rate).map(|n| (32_768.0 * sample(n)).clamp(-32_768.0, 32_767.0) as i16).collect()
}

/// Two channels, the other one silent.
fn beside_silence(samples: &[i16]) -> Vec<i16> {
    samples.iter().flat_map(|sample| [*sample, 0]).collect()
}

#[test]
fn what_was_clipped_in_the_file_is_counted_whatever_is_done_to_it() {
    // The first peak is cut through by the file's beginning, and what is left of it at the end: 2,001 stretches of 1,000 periods.
    at_once(
        [
            (48_000, 1_000.0, 1, ""),
            (44_100, 1_000.0, 1, ""),
            (96_000, 1_000.0, 1, ""),
            (44_100, 1_000.0, 1, "--resample native"),
            (44_100, 1_000.0, 2, "--channels 1"),
            (8_000, 100.0, 1, ""),
        ],
        |(rate, hz, channels, options)| {
            let mono = too_loud(hz, rate);
            let samples = if channels == 2 { beside_silence(&mono) } else { mono };
            let (heard, _) = heard(rate, channels, &samples, options);
            let case = format!("{rate} Hz {hz} {channels} {options}: {heard}");
            assert_eq!(heard["source_clips"], 2.0 * hz + 1.0, "{case}");
            assert_eq!(heard["source_first_clip_at_ms"], 0.0, "{case}");
            let full = samples.iter().filter(|sample| **sample == 32_767 || **sample <= -32_767).count();
            assert_eq!(heard["source_clipped_samples"], full, "{case}");
        },
    );
}

#[test]
fn what_is_not_clipped_is_not_said_to_be_because_a_resampler_overshoots() {
    // A square wave of 95 % has, without what is above 22 kHz, peaks beyond full scale.
    let square: Vec<i16> = (0..44_100).map(|n| if n / 21 % 2 == 0 { 31_130 } else { -31_130 }).collect();
    let (heard, code) = heard(44_100, 1, &square, "--max-clips 0");
    assert!(heard["sent_levels"][0]["peak_dbfs"].as_f64().unwrap() > 0.0, "{heard}");
    assert_eq!(
        (&heard["source_clips"], &heard["source_first_clip_at_ms"], code),
        (&json!(0), &Value::Null, 0),
        "{heard}"
    );
}

#[test]
fn silence_is_as_long_as_it_is_in_the_file_and_what_is_not_sent_is_not_counted() {
    // 100 ms of sound, 300 ms of silence, 100 ms of sound, 400 ms of silence.
    let mut samples: Vec<i16> = (0..39_690).map(|n| if n % 2 == 0 { 8_000 } else { -7_000 }).collect();
    samples[4_410..17_640].fill(0);
    samples[22_050..].fill(0);
    at_once(
        [
            ("--max-silence 400ms", 400.0, 0),
            ("--max-silence 399ms", 400.0, 1),
            ("--duration 500ms --max-silence 300ms", 300.0, 0),
            ("--duration 500ms --max-silence 299ms", 300.0, 1),
            // What is sent of it is 50 ms.
            ("--duration 150ms", 50.0, 0),
            // The silence at its end runs into that at its beginning, if there is any: there is none.
            ("--repeat 2", 400.0, 0),
        ],
        |(options, expected, code)| {
            let (heard, ended) = heard(44_100, 1, &samples, options);
            assert_eq!((&heard["source_silence_ms"], ended), (&json!(expected), code), "{options}: {heard}");
        },
    );
}

#[test]
fn of_a_run_that_is_cut_short_the_source_is_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.wav");
    // Eight packets a second, of which many seconds are read ahead.
    wav::write(&file, 48_000, 1, &too_loud(1_000.0, 48_000).repeat(60));
    let server = Server::faithful();
    let line = format!("send --frame 6000 --hold 0 --json --to {} --wav", server.to());
    let program = start(command(line.split_whitespace()).arg(&file));
    server.wait_for(20);
    program.signal("INT");
    let report = document::report(&program.end());
    let heard = &report["heard"];
    let [sent, source] =
        [&heard["sent_levels"][0]["clips"], &heard["source_clips"]].map(|clips| clips.as_u64().unwrap());
    // The packet that would have left next, 125 periods, and what was read for it, at most 1,024 samples.
    assert!((sent..=sent + 250 + 43 + 1).contains(&source), "{sent} {source}");
    assert!(sent >= 500, "{sent}");
}
