//! The jitter buffer in virtual time: packets with network delays, and a device with its own clock. Expected values are computed from the
//! sound that was sent and the times that the test chose.

use std::time::Duration;

use jamjam_core::audio::jitter_buffer::{JitterBuffer, JitterBufferConfig, JitterBufferStats as Played};
use jamjam_core::audio::spsc::{QueuedAudio, packet_ring};
use jamjam_core::time::Time;
use proptest::prelude::*;

const RATE: u32 = 48_000;
const FRAME: usize = 128;
const BLOCK: usize = 240;
const SECOND: f64 = 1e9;

/// A network and a device.
struct Simulation {
    channels: u16,
    device_rate: u32,
    allowance: Option<Duration>,
    /// Frames per device callback.
    block: usize,
    /// How much faster the device runs than its nominal rate, in ppm.
    ppm: f64,
    seconds: f64,
    /// The callback after which the device reports that it has lost samples.
    reported_loss: Option<u64>,
}

impl Default for Simulation {
    fn default() -> Self {
        let allowance = Some(Duration::from_millis(20));
        Self { channels: 1, device_rate: RATE, allowance, block: BLOCK, ppm: 0.0, seconds: 4.0, reported_loss: None }
    }
}

/// Pseudo-random numbers from 0 up to 1.
fn pseudo_random(n: u64) -> f64 {
    (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1_u64 << 24) as f64
}

/// Sample `n` of the sound. The sound is noise, so that every position is distinct. No sample is zero.
fn sound(n: usize) -> f32 {
    (0.1 + pseudo_random(n as u64) * 0.8) as f32 * if n.is_multiple_of(2) { 0.5 } else { -0.5 }
}

impl Simulation {
    fn config(&self) -> JitterBufferConfig {
        JitterBufferConfig {
            rate: RATE,
            channels: self.channels,
            frame_samples: FRAME as u32,
            device_rate: self.device_rate,
            device_block_frames: self.block as u32,
            jitter_allowance: self.allowance,
        }
    }

    fn jitter_buffer(&self) -> JitterBuffer {
        JitterBuffer::new(self.config()).unwrap()
    }

    /// Plays the sound. `delay` returns the delay of a packet in seconds, or `None` for a lost packet.
    fn play(&self, delay: impl Fn(u64) -> Option<f64>) -> (Vec<f32>, Played) {
        self.play_late(delay, |_| 0.0)
    }

    /// Plays the sound like [`Self::play`], but the n-th device callback is late by `late(n)` seconds.
    fn play_late(&self, delay: impl Fn(u64) -> Option<f64>, late: impl Fn(u64) -> f64) -> (Vec<f32>, Played) {
        let channels = usize::from(self.channels);
        let mut jitter_buffer = self.jitter_buffer();
        let packets = (self.seconds * f64::from(RATE) / FRAME as f64) as u64;
        let mut arriving: Vec<(f64, u64)> = (0..packets)
            .filter_map(|index| Some((1.0 + index as f64 * FRAME as f64 / f64::from(RATE) + delay(index)?, index)))
            .collect();
        arriving.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let mut arriving = arriving.into_iter().peekable();
        let (mut output, mut ends) = (Vec::new(), None);
        jitter_buffer.set_sent_packets(packets);
        for callback in 0.. {
            let pace = self.block as f64 / (f64::from(self.device_rate) * (1.0 + self.ppm / 1e6));
            let now = 0.9 + callback as f64 * pace + late(callback);
            assert!(now < self.seconds + 100.0, "playback does not end: {:?}", jitter_buffer.stats());
            while let Some((at, index)) = arriving.next_if(|(at, _)| *at <= now) {
                let samples: Vec<f32> =
                    (0..FRAME * channels).map(|n| sound(index as usize * FRAME * channels + n)).collect();
                jitter_buffer.on_packet(index, Time::from_nanos((at * SECOND) as u64), &samples);
            }
            let mut out = vec![9.0; self.block * channels];
            jitter_buffer.fill(&mut out, Time::from_nanos((now * SECOND) as u64));
            output.extend(out);
            if self.reported_loss == Some(callback) {
                jitter_buffer.on_discontinuity();
            }
            if arriving.peek().is_none() && jitter_buffer.is_empty() {
                // The device runs for one more second.
                ends = ends.or(Some(now + 1.0));
            }
            if ends.is_some_and(|ends| now >= ends) {
                return (output, jitter_buffer.stats());
            }
        }
        unreachable!()
    }
}

/// Length of the fade-out at the end of the sound, in frames: 5 ms.
const FADE_FRAMES: usize = 240;

/// The last `samples` samples before the fade-out, counted over all channels.
fn last(output: &[f32], samples: usize, channels: usize) -> &[f32] {
    let end = output.iter().rposition(|sample| *sample != 0.0).expect("there is output") + 1 - FADE_FRAMES * channels;
    &output[end - samples..end]
}

/// Checks that the last second of this number of packets is played unchanged.
fn assert_last_second(output: &[f32], packets: usize) {
    let last_second = last(output, 48_000, 1);
    assert_eq!((0..48_000).find(|n| last_second[*n] != sound(packets * FRAME - 48_000 + n)), None);
}

/// The index of the first sample of the sound.
fn first_sample(output: &[f32]) -> usize {
    output.iter().position(|sample| *sample != 0.0).expect("there is output")
}

fn ms(seconds: f64) -> f64 {
    seconds * 1e3
}

#[test]
fn every_sample_is_played_unchanged_and_in_order() {
    for channels in [1, 2] {
        let simulation = Simulation { channels, ..Simulation::default() };
        // Packets are up to 15 ms late, so they arrive in any order.
        let (output, played) = simulation.play(|index| Some(0.003 + pseudo_random(index) * 0.015));
        let start = first_sample(&output);
        let sent = played.played as usize * FRAME * usize::from(channels);
        assert_eq!(sent, 1_500 * FRAME * usize::from(channels));
        let wrong = (0..sent).find(|n| output[start + n].to_bits() != sound(*n).to_bits());
        assert_eq!(wrong, None, "{played:?}");
        let end = output.iter().rposition(|sample| *sample != 0.0).expect("there is output") + 1;
        assert_eq!(start + sent + FADE_FRAMES * usize::from(channels), end);
        assert_eq!((played.concealed, played.late, played.early, played.resyncs), (0, 0, 0, 0));
        assert_eq!(played.rate_correction_ppm, 0.0);
    }
}

#[test]
fn packet_is_played_up_to_its_allowance_plus_block_and_tolerance() {
    let simulation = Simulation::default();
    // In the first run, packet 700 arrives 20 ms late, which equals the allowance. In the second run, packet 700 arrives 35 ms late, which
    // is too late. The limit is the sum of allowance (20 ms), block (5 ms) and tolerance (2.5 ms). The resampler also reads a few
    // samples beyond the block, which makes the limit slightly stricter.
    let with = |late: f64| simulation.play(|index| Some(if index == 700 { 0.003 + late } else { 0.003 })).1;
    let at_the_limit = with(0.020);
    assert_eq!((at_the_limit.concealed, at_the_limit.late), (0, 0), "{at_the_limit:?}");
    let beyond = with(0.035);
    assert_eq!((beyond.concealed, beyond.late, beyond.played), (1, 1, 1_499), "{beyond:?}");
    assert!(beyond.max_lateness > Duration::ZERO && beyond.max_lateness < Duration::from_millis(35), "{beyond:?}");
}

#[test]
fn missing_packets_are_concealed_without_moving_other_samples_and_the_end_fades_out() {
    let lost = 700..703_usize;
    let (output, played) = Simulation::default().play(|index| (!lost.contains(&(index as usize))).then_some(0.003));
    assert_eq!((played.concealed, played.late, played.played), (3, 0, 1_497));
    let start = first_sample(&output);
    let gap = lost.start * FRAME..lost.end * FRAME;
    // For 5 ms (240 frames) the previous samples are played in reverse and faded out.
    let assert_faded_out = |end: usize| {
        for n in 0..FADE_FRAMES {
            let expected = sound(end - 1 - n) * (FADE_FRAMES - n) as f32 / FADE_FRAMES as f32;
            let found = output[start + end + n];
            assert!((found - expected).abs() < 1e-6, "{n}: {found}, not {expected}");
        }
    };
    assert_faded_out(gap.start);
    assert!(output[start + gap.start + 240..start + gap.end].iter().all(|sample| *sample == 0.0));
    // The samples after the gap are faded in for 1/750 s (64 frames), in equal steps.
    for n in 0..64 {
        let expected = sound(gap.end + n) * (n + 1) as f32 / 65.0;
        let found = output[start + gap.end + n];
        assert!((found - expected).abs() < 1e-6, "{n}: {found}, not {expected}");
    }
    let end = 1_500 * FRAME;
    let wrong = (0..gap.start).chain(gap.end + 64..end).find(|n| output[start + n] != sound(*n));
    assert_eq!(wrong, None);
    // The end of the sound is faded out in the same way, but it is no concealment.
    assert_faded_out(end);
    assert!(output[start + end + FADE_FRAMES..].iter().all(|sample| *sample == 0.0));
}

#[test]
fn fast_or_slow_device_clock_is_tracked() {
    for ppm in [300.0, -300.0, 60.0] {
        let simulation =
            Simulation { ppm, seconds: 240.0, allowance: Some(Duration::from_millis(10)), ..Simulation::default() };
        // Packets have up to 4 ms of jitter, and callbacks are up to 2 ms late.
        let (_, played) =
            simulation.play_late(|n| Some(0.003 + pseudo_random(n) * 0.004), |n| pseudo_random(n + 7) * 0.002);
        assert_eq!((played.concealed, played.resyncs, played.early), (0, 0, 0), "{ppm}: {played:?}");
        // The correction compensates the device's clock error.
        assert!((played.rate_correction_ppm + ppm).abs() < 40.0, "{ppm}: {played:?}");
        // The expected depth is 16.25 ms: allowance (10 ms), tolerance (1.25 ms) and block (5 ms). The tolerance is an eighth of the
        // allowance. The actual depth may differ by 2.25 ms, because the correction reacts with a delay.
        let depth = played.depth.unwrap();
        assert!(ms(depth.min) > 14.0 && ms(depth.max) < 18.5, "{ppm}: {played:?}");
    }
}

#[test]
fn device_clock_error_within_the_tolerance_is_not_corrected() {
    // In 3 s, 300 ppm are 0.9 ms.
    let allowance = Some(Duration::from_millis(10));
    let (_, played) = Simulation { ppm: 300.0, seconds: 3.0, allowance, ..Simulation::default() }.play(|_| Some(0.003));
    assert_eq!(played.rate_correction_ppm, 0.0, "{played:?}");
}

#[test]
fn large_clock_error_is_corrected_without_residual_depth() {
    for ppm in [1_000.0, -1_000.0] {
        let (_, played) = Simulation { ppm, seconds: 120.0, ..Simulation::default() }.play(|_| Some(0.003));
        assert_eq!((played.concealed, played.resyncs), (0, 0), "{ppm}: {played:?}");
        assert!((played.rate_correction_ppm + ppm).abs() < 20.0, "{ppm}: {played:?}");
        // The expected depth is 27.5 ms: allowance (20 ms), tolerance (2.5 ms) and block (5 ms). The clock error of 1,000 ppm is 48 frames
        // per second. A purely proportional controller corrects only while the depth deviates. With a gain of 0.25 per second, a deviation
        // of 48 / 0.25 = 192 frames would remain. This deviation is 4 ms.
        let depth = played.depth.unwrap();
        assert!((ms(depth.mean) - 27.5).abs() < 1.0, "{ppm}: {played:?}");
    }
}

#[test]
fn late_first_callback_starts_playback_there_without_backlog() {
    for late in [0.015, 0.05, 0.3] {
        let simulation = Simulation { allowance: Some(Duration::from_millis(1)), ..Simulation::default() };
        // Callback 20 is at 1.0 s, 3 ms before the first packet arrives. All later callbacks are late.
        let (output, played) = simulation.play_late(|_| Some(0.003), |n| if n > 20 { late } else { 0.0 });
        assert_eq!((played.early, played.late, played.concealed, played.resyncs), (0, 0, 0, 0), "{late}: {played:?}");
        assert_eq!(played.played + played.skipped, 1_500, "{late}: {played:?}");
        // When playback starts, the first packet has waited for `late` plus 2 ms. The target depth is 6.5 ms: block (5 ms), allowance (1
        // ms) and tolerance (0.5 ms). Playback skips the audio that has waited for longer. A packet is 2.667 ms long.
        let missed = (late + 0.002 - 0.006_5) / 0.002_667;
        assert!((played.skipped as f64 - missed).abs() < 3.0, "{late}: {played:?}, not {missed}");
        assert_last_second(&output, 1_500);
        // The sound is faded in.
        assert!(output[first_sample(&output)].abs() < 0.02, "{late}");
        // In the next run, the late device makes all overdue callbacks at once. Later callbacks are on time again. In this run, playback
        // starts too early. A single pause corrects the depth of the buffer.
        let caught_up = |n: u64| (1.0 + late - 0.9 - n as f64 * 0.005).max(0.0);
        let (output, played) = simulation.play_late(|_| Some(0.003), |n| if n > 20 { caught_up(n) } else { 0.0 });
        assert_eq!((played.early, played.resyncs, played.concealed), (0, 1, played.late), "{late}: {played:?}");
        assert_eq!(played.played + played.skipped + played.late, 1_500, "{late}: {played:?}");
        assert_last_second(&output, 1_500);
    }
}

#[test]
fn partial_last_packet_fades_out() {
    let allowance = Some(Duration::from_millis(100));
    let mut jitter_buffer = Simulation { channels: 2, block: 128, allowance, ..Simulation::default() }.jitter_buffer();
    // The sound is nine and a half packets of one constant value. The first frame after the sound repeats the last frame of the sound. Each
    // later frame differs from its predecessor by at most one step of the fade.
    jitter_buffer.set_sent_packets(10);
    for index in 0..10 {
        let frames = if index == 9 { FRAME / 2 } else { FRAME };
        jitter_buffer.on_packet(index, Time::from_millis(1_000), &[0.5].repeat(2 * frames));
    }
    let mut output = vec![0.0; 16_384 * 2];
    for (callback, out) in output.chunks_mut(256).enumerate() {
        jitter_buffer.fill(out, Time::from_nanos(1_000_000_000 + callback as u64 * 2_666_667));
    }
    let played = jitter_buffer.stats();
    let loud = output.iter().filter(|sample| **sample == 0.5).count() / 2;
    // The fade begins with a repetition of the last sample.
    assert_eq!((loud, played.concealed), (9 * FRAME + FRAME / 2 + 1, 0), "{played:?}");
    let last = output.iter().rposition(|sample| *sample == 0.5).unwrap();
    let steps = output[last..].windows(3).map(|frames| (frames[2] - frames[0]).abs()).fold(0.0, f32::max);
    assert!(steps < 0.5 / 240.0 * 1.5, "{steps}");
}

#[test]
fn full_ring_buffer_drops_and_counts_samples() {
    // The ring holds 1.28 s: 480 packets of 2.667 ms.
    let (mut producer, mut consumer) = packet_ring(RATE, 2, FRAME as u32, Duration::from_millis(1_280));
    let state = std::sync::Arc::clone(&producer.state);
    let received_at = Time::from_nanos(7);
    for index in 0..500_u16 {
        producer.push(index.into(), received_at, (0..256_u16).map(|n| f32::from(index) + f32::from(n) / 256.0));
    }
    assert_eq!((state.pushed.get(), state.dropped.get(), consumer.is_closed()), (500, 20, false));
    let mut samples = Vec::new();
    for index in 0..480_u16 {
        assert_eq!(consumer.pop(&mut samples), Some(QueuedAudio { index: index.into(), received_at }));
        assert_eq!(samples.len(), 256);
        assert_eq!((samples[0], samples[255]), (f32::from(index), f32::from(index) + 255.0 / 256.0));
    }
    assert_eq!(consumer.pop(&mut samples), None);
    // The ring has space again. Samples beyond the length of a packet are dropped.
    producer.push(500, received_at, [1.0; 300].into_iter());
    drop(producer);
    assert!(consumer.is_closed());
    assert_eq!(consumer.pop(&mut samples), Some(QueuedAudio { index: 500, received_at }));
    assert_eq!((state.pushed.get(), state.dropped.get(), samples.len()), (501, 20, 256));
}

#[test]
fn playback_catches_up_after_the_device_lost_samples() {
    // Delays are evaluated in windows of one second. Early in the second window, the device loses the samples of one block, and from then on
    // requests every block earlier by its duration of 5.3 ms. Returns the number of late packets.
    let late = |is_reported: bool| {
        let (block, ran_dry) = (256, 262);
        let allowance = Some(Duration::from_millis(5));
        let reported_loss = is_reported.then_some(ran_dry + 1);
        let simulation = Simulation { allowance, block, reported_loss, ..Simulation::default() };
        let ahead = |callback| if callback > ran_dry { -(block as f64) / f64::from(RATE) } else { 0.0 };
        let (_, played) = simulation.play_late(|index| Some(pseudo_random(index) * 0.004), ahead);
        assert_eq!((played.resyncs, played.played + played.late), (1, 1_500), "{played:?}");
        played.late
    };
    // If the device reports the discontinuity, the delays are evaluated after 100 ms. Otherwise, the delays are evaluated only at the end
    // of the one-second window. Until then, several times as many packets are late.
    let (reported, unreported) = (late(true), late(false));
    assert!(reported > 0 && reported * 4 < unreported, "{reported} {unreported}");
}

#[test]
fn occasional_large_callbacks_are_tolerated() {
    // Every 4.4 s, a device requests the samples of three blocks at the same time. The first run uses one call, and the second run uses
    // three immediately consecutive calls. The next request follows after the duration of these three blocks.
    for parts in [1, 3] {
        let (frames, seconds) = (4_096_u64, 60.0);
        let mut jitter_buffer = Simulation { block: frames as usize, ..Simulation::default() }.jitter_buffer();
        jitter_buffer.set_sent_packets((seconds * f64::from(RATE)) as u64 / FRAME as u64);
        let (mut position, mut next) = (0, 0);
        for callback in 0.. {
            let now = 1.0 + position as f64 / f64::from(RATE);
            if now > seconds {
                break;
            }
            while next as f64 * FRAME as f64 / f64::from(RATE) + 0.5 < now {
                jitter_buffer.on_packet(next, Time::from_nanos((now * SECOND) as u64), &[0.5; FRAME]);
                next += 1;
            }
            let taken = frames * if callback % 50 == 7 { 3 } else { 1 };
            for _ in 0..parts {
                jitter_buffer.fill(&mut vec![0.0; (taken / parts) as usize], Time::from_nanos((now * SECOND) as u64));
            }
            position += taken;
        }
        let played = jitter_buffer.stats();
        // The buffer may resynchronize and adapt at the first large callback.
        assert!(played.resyncs <= 1 && played.concealed <= 100, "{parts}: {played:?}");
        assert!(played.played > 20_000, "{parts}: {played:?}");
    }
}

#[test]
fn any_block_length_adds_only_the_necessary_delay() {
    // The resampler returns chunks of 16 to 512 frames. 521 is prime, so no chunk length divides this block evenly. Chunks that divide a
    // block of 513 frames evenly have at most 171 frames. For 735 frames, the maximum is 245. For 1,025 frames, the maximum is 205.
    for block in [1, 15, 16, 17, 511, 513, 521, 735, 1_025, 4_096] {
        let simulation = Simulation { block, seconds: 10.0, ..Simulation::default() };
        let (_, played) = simulation.play(|_| Some(0.003));
        assert_eq!((played.concealed, played.resyncs, played.rate_correction_ppm), (0, 0, 0.0), "{block}: {played:?}");
        let depth = played.depth.unwrap();
        assert!(ms(depth.max - depth.min) < 0.5, "{block}: {played:?}");
        assert!(ms(depth.min) - 22.5 - block as f64 / 48.0 < 0.5, "{block}: {played:?}");
    }
}

#[test]
fn other_sample_rate_keeps_pitch_and_position() {
    for device_rate in [44_100, 96_000] {
        let simulation = Simulation { device_rate, seconds: 6.0, ..Simulation::default() };
        let (output, played) = simulation.play(|_| Some(0.003));
        assert_eq!((played.concealed, played.resyncs), (0, 0), "{played:?}");
        // Almost all of the noise is close to 24 kHz. A sample rate of 44.1 kHz cannot represent this frequency. The duration of the noise
        // is still measurable.
        let start = first_sample(&output);
        let end = output.iter().rposition(|sample| *sample != 0.0).unwrap();
        let lasts = (end - start) as f64 / f64::from(device_rate);
        assert!((lasts - 6.005).abs() < 0.01, "{device_rate}: {lasts}");
    }
}

#[test]
fn allowance_follows_the_path_delay() {
    let simulation = Simulation { allowance: None, seconds: 60.0, ..Simulation::default() };
    // The first run has no jitter, so the measured jitter allowance is 1 ms, its minimum.
    let (_, calm) = simulation.play(|_| Some(0.003));
    assert_eq!(calm.jitter_allowance, Duration::from_millis(1));
    assert!(ms(calm.depth.unwrap().min) < 8.0, "{calm:?}");
    assert_eq!((calm.concealed, calm.resyncs), (0, 0));
    let (_, rough) = simulation.play(|index| Some(0.003 + pseudo_random(index) * 0.012));
    assert!((11.5..=12.5).contains(&ms(rough.jitter_allowance.as_secs_f64())), "{rough:?}");
    // This run has up to 12 ms of jitter. Packets are concealed only at the start, before the jitter buffer has estimated the jitter.
    assert!(rough.concealed > 0 && rough.concealed < 300, "{rough:?}");
    assert_eq!(rough.concealed, rough.late, "every packet arrived");
    // The first 10 s of this run have jitter, and the next 80 s have no jitter. At the end of the run, the first 10 s have a weight of at
    // most 0.9^80 = 0.0002.
    let simulation = Simulation { seconds: 90.0, ..simulation };
    let (_, calmed) =
        simulation.play(|index| Some(0.003 + if index < 3_750 { pseudo_random(index) * 0.012 } else { 0.0 }));
    assert_eq!(calmed.jitter_allowance, Duration::from_millis(1), "{calmed:?}");
}

#[test]
fn path_delay_change_causes_a_pause_or_a_skip() {
    let simulation = Simulation { seconds: 8.0, ..Simulation::default() };
    let (output, longer) = simulation.play(|index| Some(if index < 750 { 0.003 } else { 0.303 }));
    assert_eq!(longer.resyncs, 1, "{longer:?}");
    // Packets on the longer path arrive 300 ms later, but the buffer covers only 27.5 ms. Therefore, the first packet on the longer path
    // arrives 272.5 ms after its due time. A pause in playback starts no later than 100 ms after this arrival. On the longer path, each
    // packet with a due time before the pause arrives too late. The total duration of these packets is between 272.5 ms and 372.5 ms.
    // Therefore, 102 to 140 packets are late.
    assert!((102..=140).contains(&longer.late), "{longer:?}");
    assert_eq!(longer.concealed, longer.late);
    // Later packets are played: the last second is correct.
    assert_last_second(&output, 3_000);
    // The change of the path delay is not counted as jitter.
    let (_, longer) =
        Simulation { allowance: None, ..simulation }.play(|index| Some(if index < 750 { 0.003 } else { 0.303 }));
    assert_eq!((longer.resyncs, longer.jitter_allowance), (1, Duration::from_millis(1)), "{longer:?}");
    let (output, shorter) = simulation.play(|index| Some(if index < 750 { 0.303 } else { 0.003 }));
    assert_eq!((shorter.resyncs, shorter.late), (1, 0), "{shorter:?}");
    // The path becomes 300 ms shorter. The buffer then contains 300 ms more audio than its target depth. Playback skips these 300 ms, which
    // are about 112 packets.
    assert_eq!(shorter.played + shorter.skipped, 3_000, "{shorter:?}");
    assert!((90..=115).contains(&shorter.skipped), "{shorter:?}");
    assert_last_second(&output, 3_000);
}

#[test]
fn device_never_receives_non_finite_or_out_of_range_samples() {
    let simulation = Simulation { block: 128, allowance: Some(Duration::ZERO), ..Simulation::default() };
    let mut jitter_buffer = JitterBuffer::new(JitterBufferConfig { frame_samples: 4, ..simulation.config() }).unwrap();
    jitter_buffer.set_sent_packets(4);
    let at = Time::from_nanos(1_000_000_000);
    jitter_buffer.on_packet(0, at, &[f32::NAN, f32::INFINITY, -9.0, 1.5]);
    jitter_buffer.on_packet(1, at, &[0.5]);
    jitter_buffer.on_packet(2, at, &[0.25; 9]);
    // A second copy of a packet is ignored.
    jitter_buffer.on_packet(2, at, &[0.75; 4]);
    let mut out = vec![9.0; 4_800];
    jitter_buffer.fill(&mut out, at);
    let start = first_sample(&out);
    // The previous samples, reversed and faded out, conceal the missing part of a packet. The next packet is then faded in over 64 samples.
    let expected = [-1.0, 1.0, 0.5, 0.5, 239.0 / 240.0, -238.0 / 240.0];
    let expected = expected.into_iter().chain([1.0, 2.0, 3.0, 4.0].map(|n| 0.25 * n / 65.0));
    for (found, expected) in out[start..].iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{:?}", &out[start..start + 11]);
    }
    assert!(out.iter().all(|sample| sample.abs() <= 1.0));
    assert_eq!(jitter_buffer.stats().non_finite_samples, 2);
}

/// An input event.
#[derive(Clone, Debug)]
enum Next {
    Sent(u64),
    Packet(u64, u64, Vec<f32>),
    Fill(usize, u64),
}

fn next() -> impl Strategy<Value = Next> {
    let index = || prop_oneof![8 => 0..2_000_u64, 1 => any::<u64>()];
    let at = || prop_oneof![8 => 0..20_000_000_000_u64, 1 => any::<u64>()];
    let sample = prop_oneof![8 => -1.0..1.0_f32, 1 => any::<u32>().prop_map(f32::from_bits)];
    prop_oneof![
        (0..2_000_u64).prop_map(Next::Sent),
        (index(), at(), prop::collection::vec(sample, 0..99))
            .prop_map(|(index, at, samples)| Next::Packet(index, at, samples)),
        (0..999_usize, at()).prop_map(|(frames, at)| Next::Fill(frames, at)),
    ]
}

proptest! {
    /// The input is random: audio samples and block sizes are arbitrary. Times can go backwards. Packets can arrive that were never sent.
    /// The output must always be finite and within full scale. Each packet must be played or counted at most once.
    #[test]
    fn any_input_sequence_causes_no_panic(
        events in prop::collection::vec(next(), 0..300),
        channels in 1..=2_u16,
        frame_samples in 0..50_u32,
        device_block_frames in 1..600_u32,
        jitter_allowance in prop::option::of((0..1_000_u64).prop_map(Duration::from_millis)),
    ) {
        let config = JitterBufferConfig { rate: 8_000, channels, frame_samples, device_rate: 8_000, device_block_frames, jitter_allowance };
        let mut jitter_buffer = JitterBuffer::new(config).unwrap();
        let mut came = 0;
        for event in events {
            match event {
                Next::Sent(packets) => jitter_buffer.set_sent_packets(packets),
                Next::Packet(index, at, samples) => {
                    came += 1;
                    jitter_buffer.on_packet(index, Time::from_nanos(at), &samples);
                }
                Next::Fill(frames, at) => {
                    let mut out = vec![9.0_f32; frames * usize::from(channels)];
                    jitter_buffer.fill(&mut out, Time::from_nanos(at));
                    prop_assert!(out.iter().all(|sample| sample.abs() <= 1.0), "{out:?}");
                }
            }
        }
        let played = jitter_buffer.stats();
        prop_assert!(played.played + played.late + played.early + played.skipped <= came, "{played:?}");
        prop_assert!(played.depth.is_none_or(|depth| depth.min <= depth.max && depth.mean.is_finite()), "{played:?}");
    }
}
