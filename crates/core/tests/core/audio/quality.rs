//! Audio quality figures, compared with values computed by hand.

use jamjam_core::audio::quality::{
    Alignment, Analyzer, AudioQuality, CORRELATION_WINDOW, ChannelLevel, CorrelationPeak, Gap, MAX_GAPS, MAX_SHIFT,
    PacketFormat, SourceMeter, SourceQuality,
};
use proptest::prelude::*;

const MONO: PacketFormat = PacketFormat { sample_rate: 48_000, channels: 1, frame_samples: 128 };

/// Noise with a period of 2^32 samples. Each sample is the upper 16 bits of the linear congruential generator from Numerical Recipes.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from((state >> 16) as u16 as i16) / 65_536.0
        })
        .collect()
}

/// An analyzer of a run that sends these samples in packets of this format.
fn sending(format: PacketFormat, sent: &[f32]) -> Analyzer {
    let mut analyzer = Analyzer::new(format);
    for (index, packet) in (0..).zip(sent.chunks((format.frame_samples * u32::from(format.channels)) as usize)) {
        analyzer.on_sent(index, packet);
    }
    analyzer
}

/// The analysis of a run that sends `sent` and receives `returned`, with every packet reported as damaged.
fn changed(sent: &[f32], returned: &[f32]) -> AudioQuality {
    let mut analyzer = sending(MONO, sent);
    for (index, packet) in returned.chunks(128).enumerate() {
        analyzer.on_damaged(index as u64, packet);
    }
    analyzer.finish()
}

fn gap(first_packet: u64, packets: u64, samples: u64) -> Gap {
    Gap { first_packet, packets, start_sample: first_packet * 128, samples }
}

#[test]
fn adjacent_missing_packets_form_one_gap_in_any_order() {
    // Ten packets of 128 samples and one of 20: 1,300 samples.
    let sound = noise(1_300, 1);
    let mut analyzer = sending(MONO, &sound);
    for index in [3, 10, 5, 4, 1, 4] {
        analyzer.on_lost(index);
    }
    for index in [0, 2, 6, 7, 8, 9] {
        analyzer.on_returned(index, &sound[index as usize * 128..][..128]);
    }
    let analyzed = analyzer.finish();
    let gaps: Vec<Gap> = analyzed.gaps.iter().collect();
    assert_eq!(gaps, [gap(1, 1, 128), gap(3, 3, 384), gap(10, 1, 20)]);
    assert_eq!((analyzed.gaps.count(), analyzed.gaps.packets, analyzed.gaps.samples()), (3, 5, 532));
    assert_eq!(analyzed.gaps.longest(), Some(gap(3, 3, 384)));
    assert_eq!((analyzed.sent_samples, analyzed.damaged_packets, analyzed.alignment), (1_300, 0, Alignment::Exact));
}

#[test]
fn packets_are_counted_beyond_the_maximum_number_of_gaps() {
    let packets = 2 * (MAX_GAPS as u64 + 10);
    let mut analyzer = sending(PacketFormat { frame_samples: 1, ..MONO }, &vec![0.5; packets as usize]);
    (0..packets).step_by(2).for_each(|index| analyzer.on_lost(index));
    // When packet 1 is also lost, the first two gaps become one gap, which frees a slot.
    analyzer.on_lost(1);
    let gaps = analyzer.finish().gaps;
    assert_eq!((gaps.count(), gaps.overflow_packets, gaps.packets), (MAX_GAPS as u64 - 1, 10, MAX_GAPS as u64 + 11));
    assert_eq!(gaps.samples(), MAX_GAPS as u64 + 11);
}

#[test]
fn levels_are_peak_and_mean_square_of_each_channel() {
    // The left channel is a square wave of 0.5, whose peak and RMS are both 0.5. The right channel is 0.6, 0, −0.8, 0, whose mean square is
    // 1.00 / 4.
    let format = PacketFormat { channels: 2, frame_samples: 4, ..MONO };
    let levels = sending(format, &[0.5, 0.6, -0.5, 0.0, 0.5, -0.8, -0.5, 0.0]).finish().sent_levels;
    assert_eq!((levels[0].sample_peak, levels[0].mean_square, levels[0].finite_samples), (0.5, 0.25, 4));
    assert_eq!(levels[1].sample_peak, 0.8);
    assert!((levels[1].mean_square - 0.25).abs() < 1e-7, "{levels:?}");
}

#[test]
fn three_full_scale_samples_in_a_row_are_clipped_across_packets() {
    const FULL: f32 = 32_767.0 / 32_768.0;
    let mut analyzer = Analyzer::new(PacketFormat { frame_samples: 8, ..MONO });
    // Two consecutive samples at full scale are a peak, not clipping. After the peak, there are two clipped runs: three negative samples,
    // and then five positive samples. The last of the negative samples is in the next packet.
    analyzer.on_sent(0, &[0.0, 1.0, FULL, 0.9, 0.0, 0.0, -1.0, -FULL]);
    analyzer.on_sent(1, &[-1.5, 0.0, FULL, FULL, FULL, FULL, FULL, 0.0]);
    // Samples just below full scale are never clipped, however many follow each other.
    analyzer.on_sent(2, &[0.999_9; 8]);
    let level = analyzer.finish().sent_levels[0];
    assert_eq!((level.clips, level.clipped_samples, level.first_clip_offset), (2, 8, Some(6)));
    // A packet is missing between the second and the third full-scale sample. Therefore, these samples are not a clipped run.
    let mut analyzer = Analyzer::new(PacketFormat { frame_samples: 8, ..MONO });
    analyzer.on_sent(0, &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    analyzer.on_sent(2, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(analyzer.finish().sent_levels[0].clips, 0);
}

#[test]
fn many_clipped_runs_waiting_for_a_neighbor_are_all_counted() {
    // Every second packet is clipped throughout, and the packets between the clipped packets are missing.
    let mut analyzer = Analyzer::new(PacketFormat { frame_samples: 4, ..MONO });
    for index in (0..10_000).rev() {
        analyzer.on_damaged(2 * index, &[1.0; 4]);
    }
    let level = analyzer.finish().returned_levels.unwrap()[0];
    assert_eq!((level.clips, level.clipped_samples, level.first_clip_offset), (10_000, 40_000, Some(0)));
}

#[test]
fn non_finite_samples_are_counted_and_do_not_affect_levels() {
    let format = PacketFormat { frame_samples: 4, ..MONO };
    let analyzed = sending(format, &[f32::NAN, 0.5, f32::INFINITY, -0.5]).finish();
    let expected = ChannelLevel {
        finite_samples: 2,
        non_finite_samples: 2,
        sample_peak: 0.5,
        mean_square: 0.25,
        ..ChannelLevel::default()
    };
    assert_eq!(analyzed.sent_levels, [expected]);
    assert!(!analyzed.is_sent_silent());
}

#[test]
fn silence_means_all_bits_zero() {
    let format = PacketFormat { channels: 2, frame_samples: 2, ..MONO };
    // A run that sent no audio does not count as silent.
    for (sent, is_silent) in
        [(&[0.0, 0.0, 0.0, 0.0, -0.0, -0.0][..], true), (&[0.0, 0.0, 0.0, 1e-9], false), (&[], false)]
    {
        assert_eq!(sending(format, sent).finish().is_sent_silent(), is_silent, "{sent:?}");
    }
}

#[test]
fn source_figures_count_frames_of_the_source_over_all_channels() {
    let mut source = SourceMeter::new(44_100, 2, false);
    assert_eq!(source.source_quality(), SourceQuality { rate: 44_100, ..SourceQuality::default() });
    // The left channel is at full scale from the second to the seventh frame. The right channel is at full scale only in the third and
    // fourth frames. Then follow five frames of zeros.
    let left = [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, -0.0, 0.0, 0.0, 0.0, 0.5, 0.0];
    let right = [0.5, 0.5, -1.0, 1.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1e-9];
    let woven: Vec<f32> = left.into_iter().zip(right).flat_map(<[f32; 2]>::from).collect();
    source.add_samples(&woven[..6]);
    source.add_samples(&[]);
    source.add_samples(&woven[6..20]);
    source.add_samples(&woven[20..]);
    let clipped = SourceQuality { clips: 1, clipped_samples: 6, first_clip_offset: Some(1), ..Default::default() };
    let expected = SourceQuality { rate: 44_100, longest_silence: 5, ..clipped };
    assert_eq!(source.source_quality(), expected);
    // A run of clipped samples that has not ended yet is also counted, and only once.
    source.add_samples(&[0.0, -1.0].repeat(4));
    let expected = SourceQuality { clips: 2, clipped_samples: 10, ..expected };
    assert_eq!((source.source_quality(), source.source_quality()), (expected, expected));
}

#[test]
fn non_finite_samples_of_a_source_are_counted_on_every_channel() {
    let values = [f32::NAN, 0.5, 0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, -0.0];
    for (replaces, replaced_samples) in [(false, 0), (true, 4)] {
        let mut source = SourceMeter::new(44_100, 2, replaces);
        source.add_samples(&values);
        // These samples are neither clipped nor silent.
        let expected = SourceQuality { rate: 44_100, non_finite_samples: 4, replaced_samples, ..Default::default() };
        assert_eq!(source.source_quality(), expected);
    }
}

#[test]
fn shifted_and_attenuated_audio_is_matched() {
    let sent = noise(48_000, 7);
    // The last two sounds are longer than the compared range, so their ends are outside of that range.
    let long = noise(CORRELATION_WINDOW + 2 * MAX_SHIFT, 7);
    // Neighboring samples are alike, so the correlation has a wide peak.
    let smooth: Vec<f32> = sent.windows(32).map(|window| window.iter().sum::<f32>() / 32.0).collect();
    let max_shift = MAX_SHIFT as i64;
    for (sent, shift, gain) in [
        (&smooth, 37_i64, 0.5_f32),
        (&sent, 37_i64, 0.5_f32),
        (&sent, -5_000, 2.0),
        (&sent, 0, -0.25),
        (&sent, 16_384, 1.0),
        (&long, -max_shift, 1.0),
        (&long, max_shift, 1.0),
    ] {
        let at = |n: i64| usize::try_from(n - shift).ok().and_then(|from| sent.get(from)).copied().unwrap_or(0.0);
        let returned: Vec<f32> = (0..sent.len() as i64).map(|n| at(n) * gain).collect();
        let analyzed = changed(sent, &returned);
        let Alignment::Shifted(CorrelationPeak { shift: found, correlation, gain: louder }) = analyzed.alignment else {
            panic!("{shift}: {:?}", analyzed.alignment)
        };
        assert_eq!(found, shift);
        assert!((louder / f64::from(gain) - 1.0).abs() < 1e-6, "{shift}: {louder}");
        assert!((correlation - f64::from(gain.signum())).abs() < 1e-6, "{shift}: {correlation}");
        assert_eq!(analyzed.damaged_packets, sent.len().div_ceil(128) as u64);
    }
}

#[test]
fn equal_noise_lowers_the_correlation_to_the_root_of_one_half() {
    // The returned audio is the sum of two independent noises of the same level. The correlation of this sum with each noise is 1 / √2.
    let (sent, other) = (noise(96_000, 7), noise(96_000, 1_234_567));
    let returned: Vec<f32> = sent.iter().zip(&other).map(|(a, b)| a + b).collect();
    let Alignment::Shifted(fit) = changed(&sent, &returned).alignment else { panic!("the audio is not shifted") };
    assert_eq!(fit.shift, 0);
    assert!((fit.correlation - 0.5_f64.sqrt()).abs() < 0.01 && (fit.gain - 1.0).abs() < 0.01, "{fit:?}");
}

#[test]
fn missing_packets_do_not_lower_the_similarity_of_the_rest() {
    let sent = noise(48_000, 7);
    let mut analyzer = sending(MONO, &sent);
    for (index, packet) in sent.chunks(128).enumerate().filter(|(index, _)| index % 3 != 0) {
        let quieter: Vec<f32> = packet.iter().map(|sample| sample / 2.0).collect();
        analyzer.on_damaged(index as u64, &quieter);
    }
    let Alignment::Shifted(fit) = analyzer.finish().alignment else { panic!("the audio is not shifted") };
    assert_eq!(fit.shift, 0);
    assert!((fit.correlation - 1.0).abs() < 1e-6 && (fit.gain - 0.5).abs() < 1e-6, "{fit:?}");
}

#[test]
fn tone_matches_at_every_period_and_other_audio_nowhere() {
    let tone: Vec<f32> = (0..48_000).map(|n| (std::f32::consts::TAU * n as f32 / 100.0).sin() / 2.0).collect();
    let quieter: Vec<f32> = tone.iter().map(|sample| sample / 2.0).collect();
    assert!(matches!(changed(&tone, &quieter).alignment, Alignment::Ambiguous(_)));
    let other = changed(&noise(48_000, 7), &noise(48_000, 1_234_567)).alignment;
    assert!(matches!(other, Alignment::Uncorrelated(fit) if fit.correlation.abs() < 0.05), "{other:?}");
}

#[test]
fn silence_and_very_short_audio_have_no_similarity() {
    let sound = noise(48_000, 7);
    let (zeros, nans) = (vec![0.0; 48_000], vec![f32::NAN; 48_000]);
    for (sent, returned) in [(&sound, &zeros[..]), (&zeros, &sound), (&sound, &sound[..2_048]), (&sound, &nans)] {
        assert_eq!(changed(sent, returned).alignment, Alignment::InsufficientAudio);
    }
    let mut analyzer = sending(MONO, &sound[..128]);
    analyzer.on_lost(0);
    let analyzed = analyzer.finish();
    assert_eq!((analyzed.alignment, analyzed.returned_levels), (Alignment::NoAudio, None));
}

proptest! {
    /// The result does not depend on the chunk size.
    #[test]
    fn analysis_does_not_depend_on_chunk_size(frames in prop::collection::vec((0..3_u8, 0..3_u8), 0..200), cuts in prop::collection::vec(0..40_usize, 1..50)) {
        let sample = |value: u8| [0.0, 0.25, -1.0][usize::from(value)];
        let sound: Vec<f32> = frames.iter().flat_map(|(left, right)| [sample(*left), sample(*right)]).collect();
        let (mut at_once, mut pieces) = (SourceMeter::new(8_000, 2, false), SourceMeter::new(8_000, 2, false));
        at_once.add_samples(&sound);
        let (mut rest, mut cut) = (&sound[..], cuts.iter().cycle());
        while !rest.is_empty() {
            // A chunk without frames would cause an endless loop.
            let (piece, others) = rest.split_at((2 * cut.next().unwrap() + 2).min(rest.len()));
            pieces.add_samples(piece);
            rest = others;
        }
        prop_assert_eq!(at_once.source_quality(), pieces.source_quality());
        // The expected value is counted directly over the whole signal.
        let longest = |frames: &mut dyn Iterator<Item = bool>| {
            let frames: Vec<bool> = frames.collect();
            frames.split(|is_so| !is_so).map(<[bool]>::len).collect::<Vec<_>>()
        };
        let silent = longest(&mut frames.iter().map(|(left, right)| *left == 0 && *right == 0));
        prop_assert_eq!(at_once.source_quality().longest_silence, silent.into_iter().max().unwrap_or(0) as u64);
        let full = [longest(&mut frames.iter().map(|(left, _)| *left == 2)), longest(&mut frames.iter().map(|(_, right)| *right == 2))].concat();
        prop_assert_eq!(at_once.source_quality().clips, full.iter().filter(|length| **length >= 3).count() as u64);
    }

    /// The result does not depend on the order in which packets return or are lost.
    #[test]
    fn analysis_does_not_depend_on_arrival_order(
        outcomes in prop::collection::vec(1..4_u8, 1..200),
        order in any::<prop::sample::Index>().prop_perturb(|_, mut random| random.random::<u64>()),
    ) {
        // Half of the sound is clipped, in runs of any length.
        let sound: Vec<f32> = noise(outcomes.len() * 16, 3).iter().map(|sample| if *sample > 0.0 { 1.0 } else { *sample }).collect();
        let packet = |index: u64| &sound[index as usize * 16..][..16];
        let analyzed = |indexes: &[u64]| {
            let mut analyzer = sending(PacketFormat { frame_samples: 16, ..MONO }, &sound);
            for &index in indexes {
                match outcomes[index as usize] {
                    1 => analyzer.on_lost(index),
                    2 => analyzer.on_damaged(index, packet(index)),
                    _ => analyzer.on_returned(index, packet(index)),
                }
            }
            analyzer.finish()
        };
        let straight: Vec<u64> = (0..outcomes.len() as u64).collect();
        let mut shuffled = straight.clone();
        shuffled.sort_by_key(|index| (index ^ order).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (one, other) = (analyzed(&straight), analyzed(&shuffled));
        prop_assert_eq!(&one.gaps, &other.gaps);
        prop_assert_eq!((one.damaged_packets, one.sent_samples, one.alignment), (other.damaged_packets, other.sent_samples, other.alignment));
        prop_assert_eq!(one.gaps.packets, outcomes.iter().filter(|outcome| **outcome < 2).count() as u64);
        match (one.returned_levels, other.returned_levels) {
            (Some(one), Some(other)) => {
                prop_assert_eq!(one[0].sample_peak, other[0].sample_peak);
                prop_assert_eq!((one[0].clips, one[0].clipped_samples, one[0].first_clip_offset), (other[0].clips, other[0].clipped_samples, other[0].first_clip_offset));
                // The expected values are counted directly over the whole signal, with silence for missing packets.
                let came: Vec<bool> = (0..sound.len()).map(|n| outcomes[n / 16] >= 2 && sound[n] == 1.0).collect();
                let stretches: Vec<usize> = came.split(|full| !full).map(<[bool]>::len).filter(|length| *length >= 3).collect();
                prop_assert_eq!((one[0].clips, one[0].clipped_samples), (stretches.len() as u64, stretches.iter().sum::<usize>() as u64));
                prop_assert!((one[0].mean_square - other[0].mean_square).abs() < 1e-12);
            }
            (one, other) => prop_assert_eq!(one, other),
        }
    }
}
