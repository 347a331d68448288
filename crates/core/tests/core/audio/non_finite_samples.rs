//! The audio of a file or a device may contain NaN, infinite or far too large samples. The conversion of such audio to packets does not
//! panic. If the conversion resamples or mixes the audio, NaN and infinite samples count as 0. The resulting samples are then finite. If
//! the conversion only copies the audio, every sample keeps its bits.

use jamjam_core::audio::convert::{Packetizer, PacketizerConfig, Resampler, decode_payload};
use proptest::prelude::*;
use test_support::rng::Rng;

const NON_FINITE: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|sample| sample.to_bits()).collect()
}

/// Resamples the samples in chunks of these lengths, used in turn.
pub(super) fn resampled(from: u32, to: u32, channels: u16, samples: &[f32], pieces: &[usize]) -> Vec<f32> {
    let mut resampler = Resampler::new(from, to, channels).unwrap();
    let (mut out, mut rest) = (Vec::new(), samples);
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
        resampler.push(head, &mut out);
        rest = tail;
    }
    resampler.finish(&mut out);
    out
}

fn tone(frames: usize, channels: usize) -> Vec<f32> {
    (0..frames).flat_map(|n| std::iter::repeat_n((n as f32 / 7.0).sin() / 2.0, channels)).collect()
}

/// Converts `samples`, which have the rate `input_rate` and `input_channels` channels, to packets of 48,000 Hz. Returns the samples in
/// these packets.
fn framed(input_rate: u32, input_channels: u16, output_channels: u16, samples: &[f32]) -> Vec<f32> {
    let (output_rate, frame_samples, max_samples) = (48_000, 128, None);
    let config =
        PacketizerConfig { input_rate, input_channels, output_rate, output_channels, frame_samples, max_samples };
    let mut framer = Packetizer::new(config).unwrap();
    for piece in samples.chunks(usize::from(input_channels) * 100) {
        framer.push(piece);
    }
    framer.finish();
    let mut bytes = Vec::new();
    while framer.next_payload(&mut bytes) {}
    decode_payload(&bytes).unwrap().collect()
}

#[test]
fn non_finite_sample_is_resampled_as_zero() {
    for (from, to, channels) in [(44_100, 48_000, 1), (44_100, 48_000, 2), (96_000, 48_000, 2), (48_000, 44_100, 1)] {
        for value in NON_FINITE {
            let mut damaged = tone(5_000, usize::from(channels));
            let mut zeroed = damaged.clone();
            for at in [0, 1_001, 4_999] {
                (damaged[at], zeroed[at]) = (value, 0.0);
            }
            let [damaged, zeroed] = [damaged, zeroed].map(|sound| resampled(from, to, channels, &sound, &[333]));
            assert_eq!(bits(&damaged), bits(&zeroed), "{value} {from} {to} {channels}");
        }
    }
}

#[test]
fn largest_samples_are_resampled_to_finite_ones_at_every_rate() {
    for (from, to) in [
        (44_100, 48_000),
        (96_000, 48_000),
        (8_000, 48_000),
        (48_000, 44_100),
        (47_999, 48_000),
        (1_000, 768_000),
        (191_999, 48_000),
    ] {
        expect_finite(from, to, 3_000);
    }
}

/// Resamples samples of the largest possible magnitude. The first `same` samples have the same sign and form a signal of 0 Hz. The other
/// 3,000 have alternating signs and form a signal of half the sample rate.
fn expect_finite(from: u32, to: u32, same: usize) {
    let samples = [vec![f32::MAX; same], [f32::MAX, f32::MIN].repeat(1_500)].concat();
    let found = resampled(from, to, 1, &samples, &[samples.len()]);
    assert!(found.iter().all(|sample| sample.is_finite()), "{from} to {to}");
}

/// These rates have no common divisor, so the blocks are the longest, with 1,535,914 samples.
#[test]
#[ignore = "takes half a minute"]
fn largest_samples_are_resampled_to_finite_ones_by_the_longest_filter() {
    expect_finite(767_957, 768_000, 2 * 767_957);
}

/// Samples with random bits. On average, every fifth sample is one of the values in `ends`.
fn any_samples(seed: u64, count: usize) -> Vec<f32> {
    let ends = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e30, -1e38, 0.0, 1.0];
    let mut rng = Rng::new(seed);
    let sample = || if rng.below(5) == 0 { rng.pick(&ends) } else { f32::from_bits(rng.bits() as u32) };
    std::iter::repeat_with(sample).take(count).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Random samples in chunks of random lengths.
    #[test]
    fn any_bit_pattern_is_resampled_to_finite_samples(
        (from, to) in prop::sample::select(vec![
            (44_100, 48_000), (96_000, 48_000), (192_000, 48_000), (8_000, 48_000), (22_050, 48_000), (11_025, 48_000),
            (7_999, 8_000), (48_000, 44_100), (48_000, 96_000), (1_000, 48_000),
        ]),
        channels in 1..=3_u16,
        seed in any::<u64>(),
        frames in 0..3_000_usize,
        pieces in prop::collection::vec(1..4_000_usize, 1..8),
    ) {
        let samples = any_samples(seed, frames * usize::from(channels));
        let found = resampled(from, to, channels, &samples, &pieces);
        prop_assert!(found.iter().all(|sample| sample.is_finite()));
        let frames = (frames as u64 * u64::from(to)).div_ceil(u64::from(from));
        prop_assert_eq!(found.len() as u64, frames * u64::from(channels));
        let at_once = resampled(from, to, channels, &samples, &[samples.len()]);
        prop_assert_eq!(bits(&found), bits(&at_once));
    }
}

#[test]
fn non_finite_sample_counts_as_zero_in_a_downmix() {
    for value in NON_FINITE {
        assert_eq!(framed(48_000, 2, 1, &[0.5, value, value, value, 0.5, 0.25]), [0.25, 0.0, 0.375]);
        assert_eq!(framed(48_000, 4, 2, &[value, 0.5, 0.5, value]), [0.25, 0.25]);
    }
    // Infinities of opposite signs would sum to NaN.
    assert_eq!(framed(48_000, 2, 1, &[f32::INFINITY, f32::NEG_INFINITY]), [0.0]);
    assert_eq!(framed(48_000, 2, 1, &[f32::MAX, f32::MAX]), [f32::MAX]);
}

#[test]
fn copied_samples_keep_every_bit() {
    let odd = [0x7fc0_0001, 0xffc1_2345, 0x7f80_0001, 0x7f80_0000, 0xff80_0000, 0x7f7f_ffff, 0x0000_0001, 0x8000_0000];
    let samples = odd.map(f32::from_bits);
    assert_eq!(bits(&framed(48_000, 1, 1, &samples)), odd);
    assert_eq!(bits(&framed(48_000, 2, 2, &samples)), odd);
    assert_eq!(bits(&framed(48_000, 1, 2, &samples)), odd.map(|sample| [sample; 2]).concat());
}
