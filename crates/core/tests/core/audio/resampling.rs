//! Compares the output of the resampler with the exact result. The tests compute the exact result without the resampler.

use std::f64::consts::TAU;

use jamjam_core::audio::convert::Resampler;

use super::non_finite_samples::resampled;

fn sine(hz: f64, rate: u32, frames: usize) -> Vec<f32> {
    (0..frames).map(|n| (0.5 * (TAU * hz * n as f64 / f64::from(rate)).sin()) as f32).collect()
}

/// The RMS of `found` minus `wanted`, in dB, without the first and last 60 ms. 0 dB is the RMS of a sine with amplitude 0.5.
fn error_db(found: &[f32], wanted: &[f32], rate: u32) -> f64 {
    let edge = rate as usize * 60 / 1000;
    let inner = edge..wanted.len() - edge;
    let count = inner.len() as f64;
    let power: f64 = inner.map(|n| (f64::from(found[n]) - f64::from(wanted[n])).powi(2)).sum();
    10.0 * (power / count / 0.125).log10()
}

#[test]
fn resampled_sine_equals_the_ideal_sine_without_a_time_shift() {
    for (from, to) in [
        (44_100, 48_000),
        (96_000, 48_000),
        (8_000, 48_000),
        (22_050, 48_000),
        (192_000, 48_000),
        (47_999, 48_000),
        (48_000, 44_100),
    ] {
        let found = resampled(from, to, 1, &sine(1_000.0, from, from as usize), &[480]);
        let wanted = sine(1_000.0, to, to as usize);
        assert_eq!(found.len(), wanted.len(), "{from} to {to}");
        let error = error_db(&found, &wanted, to);
        assert!(error < -80.0, "{from} to {to}: {error:.1} dB");
    }
}

#[test]
fn frequencies_above_the_lower_nyquist_limit_are_removed() {
    let resampled_sine = resampled(96_000, 48_000, 1, &sine(20_000.0, 96_000, 96_000), &[1_000]);
    assert!(error_db(&resampled_sine, &sine(20_000.0, 48_000, 48_000), 48_000) < -80.0);
    let gone = resampled(96_000, 48_000, 1, &sine(30_000.0, 96_000, 96_000), &[1_000]);
    assert!(error_db(&gone, &vec![0.0; 48_000], 48_000) < -80.0);
}

#[test]
fn output_length_is_the_input_duration_rounded_up() {
    // (input frames, input rate, output rate, output frames), calculated by hand.
    let cases = [
        (0, 44_100, 48_000, 0),
        (1, 44_100, 48_000, 2),
        (147, 44_100, 48_000, 160),
        (148, 44_100, 48_000, 162),
        (100_000, 44_100, 48_000, 108_844),
        (9_999, 96_000, 48_000, 5_000),
        (7, 8_000, 48_000, 42),
        (1_000, 47_999, 48_000, 1_001),
    ];
    for (frames, from, to, expected) in cases {
        for channels in [1, 2] {
            let silence = vec![0.25; frames * usize::from(channels)];
            let found = resampled(from, to, channels, &silence, &[4_096]).len();
            assert_eq!(found, expected * usize::from(channels), "{frames} frames, {from} to {to}, {channels} channels");
        }
    }
}

#[test]
fn channels_stay_separate() {
    let (left, right) = (sine(500.0, 44_100, 44_100), sine(3_000.0, 44_100, 44_100));
    let both: Vec<f32> = left.iter().zip(&right).flat_map(|(left, right)| [*left, *right]).collect();
    let out = resampled(44_100, 48_000, 2, &both, &[882]);
    let channel = |first: usize| out.iter().skip(first).step_by(2).copied().collect::<Vec<_>>();
    assert!(error_db(&channel(0), &sine(500.0, 48_000, 48_000), 48_000) < -80.0);
    assert!(error_db(&channel(1), &sine(3_000.0, 48_000, 48_000), 48_000) < -80.0);
}

#[test]
fn invalid_rates_and_channel_counts_are_rejected() {
    for (from, to, channels) in
        [(0, 48_000, 1), (48_000, 0, 1), (999, 48_000, 1), (48_000, 768_001, 1), (44_100, 48_000, 0)]
    {
        assert!(Resampler::new(from, to, channels).is_err(), "{from} {to} {channels}");
    }
}
