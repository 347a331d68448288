//! `send --mic` and `send --play` without a sound card: the real ALSA library with a simulated card, which delivers samples from a file and
//! writes played samples to another file. No durations are checked, because a busy machine makes the simulated card slower.

#[allow(unreachable_pub, reason = "the module is used only in this test")]
mod card;
mod listening;
mod playing;

use serde_json::Value;
use test_support::client::{ProgramOutput, document};

/// Pseudo-random numbers. The first number is not zero.
fn noise(count: usize) -> Vec<u32> {
    let step = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(*state)
    };
    std::iter::repeat_with(|| ()).scan(7, |state, ()| step(state)).take(count).collect()
}

/// Returns noise as bytes in a device's sample format, and as samples for the network.
fn sound(format: &str, count: usize) -> (Vec<u8>, Vec<f32>) {
    let numbers = noise(count).into_iter().map(u32::cast_signed);
    let (bytes, samples): (Vec<Vec<u8>>, Vec<f32>) = match format {
        "S16_LE" => {
            let numbers = numbers.map(|number| (number >> 16) as i16);
            numbers.map(|number| (number.to_le_bytes().to_vec(), f32::from(number) / 32_768.0)).unzip()
        }
        "S24_LE" => {
            let numbers = numbers.map(|number| number >> 8);
            numbers.map(|number| (number.to_le_bytes().to_vec(), number as f32 / 8_388_608.0)).unzip()
        }
        "FLOAT_LE" => {
            let samples = numbers.map(|number| (f64::from(number) / 2_147_483_648.0) as f32);
            samples.map(|sample| (sample.to_le_bytes().to_vec(), sample)).unzip()
        }
        other => panic!("{other}"),
    };
    (bytes.concat(), samples)
}

fn report(output: &ProgramOutput, code: i32) -> Value {
    assert_eq!(output.code, code, "{output:?}");
    document::report(output)
}

/// Fails at the first sample that differs.
fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    let differs = found.iter().zip(expected).position(|(found, expected)| found.to_bits() != expected.to_bits());
    assert_eq!((differs, found.len()), (None, expected.len()), "{what}: (index of the first different sample, length)");
}

#[test]
fn missing_devices_are_reported_with_cause_and_remedy() {
    let alsa = card::Alsa::empty();
    let output = alsa.run("devices");
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    for line in ["no input devices: there is no sound card,", "no output devices: there is no sound card,"] {
        assert!(output.stdout.lines().any(|printed| printed.starts_with(line)), "{}", output.stdout);
    }
    for (option, cause) in [
        ("--mic", "apt-get install"),
        ("--mic=flute", "apt-get install"),
        ("--play", "cannot play on default"),
        ("--play=flute", "output device"),
    ] {
        let source = if option.starts_with("--play") { "--tone 440" } else { "" };
        let output = alsa.run(&format!("send {source} {option} --embedded"));
        // If the ALSA library printed its own messages, standard error would contain more lines.
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.lines().count()), (3, "", 1), "{output:?}");
        let start = format!("jamjam-dev: {}: ", option.trim_end_matches("=flute"));
        assert!(output.stderr.starts_with(&start) && output.stderr.contains(cause), "{output:?}");
    }
}
