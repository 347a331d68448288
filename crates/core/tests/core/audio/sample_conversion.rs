//! Mixing, tones, and the sample bytes of packets and recordings.

use jamjam_core::audio::convert::{Mixer, Tone, decode_payload, default_channels, map_to_device};
use jamjam_core::audio::wav_writer::{WAV_HEADER_LEN, wav_header};

fn mixed(inputs: u16, output: u16, frames: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    Mixer::new(inputs, output).mix(frames, &mut out);
    out
}

#[test]
fn channels_are_averaged_or_copied() {
    let eight = [0.1, -0.8, 0.2, -0.4, 0.3, -0.2, 0.4, -0.2];
    let rows: [(u16, u16, &[f32], &[f32]); 7] = [
        (1, 2, &[0.5, -0.25], &[0.5, 0.5, -0.25, -0.25]),
        (2, 1, &[0.5, -0.25, 1.0, 1.0], &[0.125, 1.0]),
        (4, 1, &[1.0, 0.5, 0.25, 0.25], &[0.5]),
        // Rounded once.
        (3, 1, &[0.1, 0.1, 0.1], &[0.1]),
        // Even channels are mixed to the left, and odd channels to the right.
        (3, 2, &[1.0, 0.25, 0.5, 0.0, -1.0, 0.0], &[0.75, 0.25, 0.0, -1.0]),
        (8, 2, &eight, &[0.25, -0.4]),
        (8, 2, &[1.0; 16], &[1.0; 4]),
    ];
    for (inputs, output, frames, expected) in rows {
        assert_eq!(mixed(inputs, output, frames), expected, "{inputs} to {output}");
    }
    assert_eq!([1, 2, 3, 8].map(default_channels), [1, 2, 2, 2]);
}

#[test]
fn payload_with_a_partial_sample_is_rejected() {
    for length in [1, 2, 3, 5, 511] {
        assert!(decode_payload(&vec![0; length]).is_none(), "{length} bytes");
    }
    assert_eq!(decode_payload(&[]).unwrap().len(), 0);
}

#[test]
fn tone_is_a_sine_of_its_frequency_and_level_on_every_channel() {
    let mut out = Vec::new();
    Tone::new(12_000.0, 48_000, 2, 0.5).fill(5, &mut out);
    let expected = [0.0, 0.0, 0.5, 0.5, 0.0, 0.0, -0.5, -0.5, 0.0, 0.0];
    let is_near = |(found, wanted): (&f32, f32)| (found - wanted).abs() < 1e-7;
    assert!(out.len() == expected.len() && out.iter().zip(expected).all(is_near), "{out:?}");
}

#[test]
fn tone_continues_at_its_last_phase() {
    let (mut pieces, mut at_once) = (Vec::new(), Vec::new());
    let mut tone = Tone::new(440.0, 44_100, 1, 1.0);
    for frames in [1, 127, 0, 300] {
        tone.fill(frames, &mut pieces);
    }
    Tone::new(440.0, 44_100, 1, 1.0).fill(428, &mut at_once);
    assert_eq!(pieces, at_once);
}

#[test]
fn tone_does_not_drift_in_ten_hours() {
    // 48 frames at 48 kHz are one period of 1000 Hz. 441,000 frames at 44.1 kHz are 4,401 periods of 440.1 Hz. Therefore, ten hours are a
    // whole number of periods of each tone. The final phase equals the phase at the start.
    for (hz, rate, frames) in [(1_000.0, 48_000, 48_000_u64 * 36_000), (440.1, 44_100, 441_000 * 3_600)] {
        let (mut early, mut late) = (Vec::new(), Vec::new());
        let mut tone = Tone::new(hz, rate, 1, 1.0);
        tone.fill(1_000, &mut early);
        tone.seek(frames);
        tone.fill(1_000, &mut late);
        let apart = early.iter().zip(&late).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-6, "{hz} Hz: {apart}");
    }
}

#[test]
fn wav_header_matches_the_specification() {
    assert_eq!(
        wav_header(48_000, 1, 4_000),
        *b"RIFF\xd2\x0f\0\0WAVEfmt \x12\0\0\0\x03\0\x01\0\x80\xbb\0\0\0\xee\x02\0\x04\0\x20\0\0\0\
           fact\x04\0\0\0\xe8\x03\0\0data\xa0\x0f\0\0"
    );
    assert_eq!(wav_header(48_000, 2, u32::MAX).len(), WAV_HEADER_LEN);
}

#[test]
fn playback_uses_the_first_two_device_channels() {
    let out = |frames: &[f32], of, channels| map_to_device(frames, of, channels).collect::<Vec<_>>();
    assert_eq!(out(&[0.5, -0.25], 1, 2), [0.5, 0.5, -0.25, -0.25]);
    assert_eq!(out(&[0.5], 1, 4), [0.5, 0.5, 0.0, 0.0]);
    assert_eq!(out(&[0.5, -0.25], 2, 1), [0.125]);
    assert_eq!(out(&[0.5, -0.25], 2, 3), [0.5, -0.25, 0.0]);
}
