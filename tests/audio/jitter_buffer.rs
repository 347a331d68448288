//! The jitter buffer in virtual time: packets that come as a network brings them, and a device that takes sound at its own pace.
//! What is expected is computed here, from the sound that was sent and the times that the test chose.

use std::time::Duration;

use jamjam_dev::audio::jitter_buffer::{JitterBuffer, JitterBufferConfig, JitterBufferStats};
use jamjam_dev::audio::spsc::{QueuedAudio, packet_ring};
use jamjam_dev::time::Time;
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
    /// Frames that the device takes at a time.
    block: usize,
    /// How much faster the device runs than its nominal rate, in ppm.
    ppm: f64,
    seconds: f64,
}

impl Default for Simulation {
    fn default() -> Self {
        let allowance = Some(Duration::from_millis(20));
        Self { channels: 1, device_rate: RATE, allowance, block: BLOCK, ppm: 0.0, seconds: 4.0 }
    }
}

/// Numbers that look random, from 0 up to 1.
fn scattered(n: u64) -> f64 {
    (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1_u64 << 24) as f64
}

/// Sample `n` of the sound: noise, so that no place of it is like another, and never zero.
fn sound(n: usize) -> f32 {
    (0.1 + scattered(n as u64) * 0.8) as f32 * if n.is_multiple_of(2) { 0.5 } else { -0.5 }
}

impl Simulation {
    /// Plays; `delay` is the delay of a packet in seconds, `None`: lost.
    fn play(&self, delay: impl Fn(u64) -> Option<f64>) -> (Vec<f32>, JitterBufferStats) {
        self.play_late(delay, |_| 0.0)
    }

    /// Also, the n-th device callback is late by this number of seconds.
    fn play_late(
        &self,
        delay: impl Fn(u64) -> Option<f64>,
        late: impl Fn(u64) -> f64,
    ) -> (Vec<f32>, JitterBufferStats) {
        let channels = usize::from(self.channels);
        let mut playout = JitterBuffer::new(JitterBufferConfig {
            rate: RATE,
            channels: self.channels,
            frame_samples: FRAME as u32,
            device_rate: self.device_rate,
            device_block_frames: self.block as u32,
            jitter_allowance: self.allowance,
        })
        .unwrap();
        let packets = (self.seconds * f64::from(RATE) / FRAME as f64) as u64;
        let mut arriving: Vec<(f64, u64)> = (0..packets)
            .filter_map(|index| Some((1.0 + index as f64 * FRAME as f64 / f64::from(RATE) + delay(index)?, index)))
            .collect();
        arriving.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let mut arriving = arriving.into_iter().peekable();
        let (mut output, mut ends) = (Vec::new(), None);
        playout.set_sent_packets(packets);
        for callback in 0.. {
            let pace = self.block as f64 / (f64::from(self.device_rate) * (1.0 + self.ppm / 1e6));
            let now = 0.9 + callback as f64 * pace + late(callback);
            assert!(now < self.seconds + 100.0, "something waits for ever: {:?}", playout.stats());
            while let Some((at, index)) = arriving.next_if(|(at, _)| *at <= now) {
                let samples: Vec<f32> =
                    (0..FRAME * channels).map(|n| sound(index as usize * FRAME * channels + n)).collect();
                playout.on_packet(index, Time::from_nanos((at * SECOND) as u64), &samples);
            }
            let mut out = vec![9.0; self.block * channels];
            playout.fill(&mut out, Time::from_nanos((now * SECOND) as u64));
            output.extend(out);
            if arriving.peek().is_none() && playout.is_empty() {
                // And a second more.
                ends = ends.or(Some(now + 1.0));
            }
            if ends.is_some_and(|ends| now >= ends) {
                return (output, playout.stats());
            }
        }
        unreachable!()
    }
}

/// Samples for which the sound fades when nothing more comes: 5 ms.
const FADES: usize = 240;

/// The last samples before the fade-out, all channels.
fn last(output: &[f32], samples: usize, channels: usize) -> &[f32] {
    let end = output.iter().rposition(|sample| *sample != 0.0).expect("there is output") + 1 - FADES * channels;
    &output[end - samples..end]
}

/// Where the sound begins, in samples.
fn begins(output: &[f32]) -> usize {
    output.iter().position(|sample| *sample != 0.0).expect("there is output")
}

fn ms(seconds: f64) -> f64 {
    seconds * 1e3
}

#[test]
fn every_sample_is_played_unchanged_and_in_order() {
    for channels in [1, 2] {
        let simulation = Simulation { channels, ..Simulation::default() };
        // Up to 15 ms late and so in any order, one in ten twice as fast as the others.
        let (output, played) = simulation.play(|index| Some(0.003 + scattered(index) * 0.015));
        let start = begins(&output);
        let sent = played.played as usize * FRAME * usize::from(channels);
        assert_eq!(sent, 1_500 * FRAME * usize::from(channels));
        let wrong = (0..sent).find(|n| output[start + n].to_bits() != sound(*n).to_bits());
        assert_eq!(wrong, None, "{played:?}");
        assert_eq!(last(&output, sent, channels.into()).len(), sent);
        assert_eq!(
            begins(&output) + sent,
            output.iter().rposition(|sample| *sample != 0.0).unwrap() + 1 - FADES * usize::from(channels)
        );
        assert_eq!((played.concealed, played.late, played.early, played.resyncs), (0, 0, 0, 0));
        assert_eq!(played.rate_correction_ppm, 0.0);
    }
}

#[test]
fn packet_is_played_up_to_its_allowance_plus_block_and_tolerance() {
    let simulation = Simulation::default();
    // Number 700 comes 20 ms after the others would; then so late that even 5 ms of a block, a tolerance of 2.5 ms, and what is
    // pulled at once beyond a block, are over.
    let with = |late: f64| simulation.play(|index| Some(if index == 700 { 0.003 + late } else { 0.003 })).1;
    let at_the_limit = with(0.020);
    assert_eq!((at_the_limit.concealed, at_the_limit.late), (0, 0), "{at_the_limit:?}");
    let beyond = with(0.035);
    assert_eq!((beyond.concealed, beyond.late, beyond.played), (1, 1, 1_499), "{beyond:?}");
    assert!(beyond.max_lateness > Duration::ZERO && beyond.max_lateness < Duration::from_millis(35), "{beyond:?}");
}

#[test]
fn missing_packets_are_concealed_without_moving_other_samples() {
    let lost = 700..703_usize;
    let (output, played) = Simulation::default().play(|index| (!lost.contains(&(index as usize))).then_some(0.003));
    assert_eq!((played.concealed, played.late, played.played), (3, 0, 1_497));
    let start = begins(&output);
    let gap = lost.start * FRAME..lost.end * FRAME;
    // 5 ms are 240 frames: backwards, and fading.
    for n in 0..240 {
        let expected = sound(gap.start - 1 - n) * (240 - n) as f32 / 240.0;
        let found = output[start + gap.start + n];
        assert!((found - expected).abs() < 1e-6, "{n}: {found}, not {expected}");
    }
    assert!(output[start + gap.start + 240..start + gap.end].iter().all(|sample| *sample == 0.0));
    // 1/750 s are 64 frames: faded in, in equal steps.
    for n in 0..64 {
        let expected = sound(gap.end + n) * (n + 1) as f32 / 65.0;
        let found = output[start + gap.end + n];
        assert!((found - expected).abs() < 1e-6, "{n}: {found}, not {expected}");
    }
    let wrong = (0..gap.start).chain(gap.end + 64..1_500 * FRAME).find(|n| output[start + n] != sound(*n));
    assert_eq!(wrong, None);
}

#[test]
fn fast_or_slow_device_clock_is_tracked() {
    for ppm in [300.0, -300.0, 60.0] {
        let simulation =
            Simulation { ppm, seconds: 240.0, allowance: Some(Duration::from_millis(10)), ..Simulation::default() };
        // Up to 4 ms of jitter, and askings up to 2 ms late.
        let (_, played) = simulation.play_late(|n| Some(0.003 + scattered(n) * 0.004), |n| scattered(n + 7) * 0.002);
        assert_eq!((played.concealed, played.resyncs, played.early), (0, 0, 0), "{ppm}: {played:?}");
        // A device that takes more has to be given sound more slowly.
        assert!((played.rate_correction_ppm + ppm).abs() < 40.0, "{ppm}: {played:?}");
        // 10 ms, an eighth of that as tolerance, and a block of 5 ms: 16.25 ms, and what is learnt late.
        let depth = played.depth.unwrap();
        assert!(ms(depth.min) > 14.0 && ms(depth.max) < 18.5, "{ppm}: {played:?}");
    }
}

#[test]
fn untracked_device_clock_causes_underruns() {
    // So that the test above can fail: at 300 millionths 240 s are 72 ms.
    let simulation =
        Simulation { ppm: 300.0, seconds: 3.0, allowance: Some(Duration::from_millis(10)), ..Simulation::default() };
    let (_, played) = simulation.play(|_| Some(0.003));
    assert_eq!(played.rate_correction_ppm, 0.0, "within the tolerance nothing is done: {played:?}");
}

#[test]
fn large_clock_error_is_corrected_without_residual_depth() {
    for ppm in [1_000.0, -1_000.0] {
        let simulation = Simulation { ppm, seconds: 120.0, ..Simulation::default() };
        let (_, played) = simulation.play(|_| Some(0.003));
        assert_eq!((played.concealed, played.resyncs), (0, 0), "{ppm}: {played:?}");
        assert!((played.rate_correction_ppm + ppm).abs() < 20.0, "{ppm}: {played:?}");
        // 20 ms, 2.5 ms and a block of 5 ms. A correction by the error alone would leave 4 ms of it, 48 frames a second at a quarter a second.
        let depth = played.depth.unwrap();
        assert!((ms(depth.mean) - 27.5).abs() < 1.0, "{ppm}: {played:?}");
    }
}

#[test]
fn late_first_callback_starts_playback_there_without_backlog() {
    for late in [0.015, 0.05, 0.3] {
        let simulation = Simulation { allowance: Some(Duration::from_millis(1)), ..Simulation::default() };
        // The first callback is at 1.0 s, 3 ms before the first packet, and all later ones are delayed.
        let (output, played) = simulation.play_late(|_| Some(0.003), |n| if n > 20 { late } else { 0.0 });
        assert_eq!((played.early, played.late, played.concealed, played.resyncs), (0, 0, 0, 0), "{late}: {played:?}");
        assert_eq!(played.played + played.skipped, 1_500, "{late}: {played:?}");
        // A block of 5 ms, 1 ms, and the tolerance of 0.5 ms might have waited. A packet is 2.67 ms.
        let missed = (late + 0.002 - 0.006_5) / 0.002_667;
        assert!((played.skipped as f64 - missed).abs() < 3.0, "{late}: {played:?}, not {missed}");
        let wrong = (0..48_000).find(|n| last(&output, 48_000, 1)[*n] != sound(1_500 * FRAME - 48_000 + n));
        assert_eq!(wrong, None, "{late}");
        // It is faded in.
        assert!(output[begins(&output)].abs() < 0.02, "{late}");
        // Where it makes up for it, asking several times at once, playing began too early, and pauses once to be in time.
        let caught_up = |n: u64| (1.0 + late - 0.9 - n as f64 * 0.005).max(0.0);
        let (output, played) = simulation.play_late(|_| Some(0.003), |n| if n > 20 { caught_up(n) } else { 0.0 });
        assert_eq!((played.early, played.resyncs, played.concealed), (0, 1, played.late), "{late}: {played:?}");
        assert_eq!(played.played + played.skipped + played.late, 1_500, "{late}: {played:?}");
        let wrong = (0..48_000).find(|n| last(&output, 48_000, 1)[*n] != sound(1_500 * FRAME - 48_000 + n));
        assert_eq!(wrong, None, "{late}");
    }
}

#[test]
fn partial_last_packet_fades_out() {
    let mut playout = JitterBuffer::new(JitterBufferConfig {
        rate: RATE,
        channels: 2,
        frame_samples: FRAME as u32,
        device_rate: RATE,
        device_block_frames: 128,
        jitter_allowance: Some(Duration::from_millis(100)),
    })
    .unwrap();
    // Nine packets, and half of one, of a constant; the frame after them is its echo, and no step of it is larger than a fade's.
    playout.set_sent_packets(10);
    for index in 0..10 {
        let frames = if index == 9 { FRAME / 2 } else { FRAME };
        playout.on_packet(index, Time::from_millis(1_000), &[0.5].repeat(2 * frames));
    }
    let mut output = vec![0.0; 16_384 * 2];
    for (callback, out) in output.chunks_mut(256).enumerate() {
        playout.fill(out, Time::from_nanos(1_000_000_000 + callback as u64 * 2_666_667));
    }
    let played = playout.stats();
    let loud = output.iter().filter(|sample| **sample == 0.5).count() / 2;
    // The fade begins with the last sample again.
    assert_eq!((loud, played.concealed), (9 * FRAME + FRAME / 2 + 1, 0), "{played:?}");
    let last = output.iter().rposition(|sample| *sample == 0.5).unwrap();
    let steps = output[last..].windows(3).map(|frames| (frames[2] - frames[0]).abs()).fold(0.0, f32::max);
    assert!(steps < 0.5 / 240.0 * 1.5, "{steps}");
}

#[test]
fn full_ring_buffer_drops_and_counts_samples() {
    // 1.28 s are 480 packets of 2.667 ms.
    let (mut giver, mut taker) = packet_ring(RATE, 2, FRAME as u32, Duration::from_millis(1_280));
    let tally = giver.counters();
    let received_at = Time::from_nanos(7);
    for index in 0..500_u16 {
        giver.push(index.into(), received_at, (0..256_u16).map(|n| f32::from(index) + f32::from(n) / 256.0));
    }
    giver.set_sent_packets(500);
    assert_eq!((taker.sent_packets(), tally.pushed(), tally.dropped(), taker.is_closed()), (500, 500, 20, false));
    let mut samples = Vec::new();
    for index in 0..480_u16 {
        assert_eq!(taker.pop(&mut samples), Some(QueuedAudio { index: index.into(), received_at, sample_count: 256 }));
        assert_eq!((samples[0], samples[255]), (f32::from(index), f32::from(index) + 255.0 / 256.0));
    }
    assert_eq!(taker.pop(&mut samples), None);
    // There is room again; what is too long of a packet is left.
    giver.push(500, received_at, [1.0; 300].into_iter());
    drop(giver);
    assert!(taker.is_closed());
    assert_eq!(taker.pop(&mut samples), Some(QueuedAudio { index: 500, received_at, sample_count: 256 }));
    assert_eq!((tally.pushed(), tally.dropped(), samples.len()), (501, 20, 256));
}

#[test]
fn playback_catches_up_after_the_device_lost_samples() {
    const BLOCK: u64 = 256;
    // After 1.3 s, early in the second window, the device requests a block early, reported or not; the number of packets that are late then.
    let late = |is_reported: bool| {
        let mut playout = JitterBuffer::new(JitterBufferConfig {
            rate: RATE,
            channels: 1,
            frame_samples: FRAME as u32,
            device_rate: RATE,
            device_block_frames: BLOCK as u32,
            jitter_allowance: Some(Duration::from_millis(5)),
        })
        .unwrap();
        playout.set_sent_packets(1_500);
        let comes = |index: u64| 1.0 + index as f64 * FRAME as f64 / f64::from(RATE) + scattered(index) * 0.004;
        let mut arriving: Vec<(f64, u64)> = (0..1_500).map(|index| (comes(index), index)).collect();
        arriving.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let mut arriving = arriving.into_iter().peekable();
        let ran_dry = (1.3 * f64::from(RATE)) as u64 / BLOCK;
        for callback in 0..5 * u64::from(RATE) / BLOCK {
            let ahead = u64::from(callback > ran_dry);
            let now = 1.0 + (callback - ahead) as f64 * BLOCK as f64 / f64::from(RATE);
            while let Some((at, index)) = arriving.next_if(|(at, _)| *at <= now) {
                playout.on_packet(index, Time::from_nanos((at * SECOND) as u64), &[0.5; FRAME]);
            }
            playout.fill(&mut [0.0; BLOCK as usize], Time::from_nanos((now * SECOND) as u64));
            if is_reported && callback == ran_dry + 1 {
                playout.on_discontinuity();
            }
        }
        let played = playout.stats();
        assert_eq!((played.resyncs, played.played + played.late), (1, 1_500), "{played:?}");
        played.late
    };
    // A tenth of a second is looked at; else what is left of the second, several times as much.
    let (reported, unreported) = (late(true), late(false));
    assert!(reported > 0 && reported * 4 < unreported, "{reported} {unreported}");
}

#[test]
fn occasional_large_callbacks_are_tolerated() {
    // Every 4.3 s a device takes three times what it usually takes, and pauses for so long; it gets it in one piece, or in parts.
    for parts in [1, 3] {
        let (frames, seconds) = (4_096_u64, 60.0);
        let mut playout = JitterBuffer::new(JitterBufferConfig {
            rate: RATE,
            channels: 1,
            frame_samples: FRAME as u32,
            device_rate: RATE,
            device_block_frames: frames as u32,
            jitter_allowance: Some(Duration::from_millis(20)),
        })
        .unwrap();
        playout.set_sent_packets((seconds * f64::from(RATE)) as u64 / FRAME as u64);
        let (mut place, mut next) = (0, 0);
        for callback in 0.. {
            let now = 1.0 + place as f64 / f64::from(RATE);
            if now > seconds {
                break;
            }
            while next as f64 * FRAME as f64 / f64::from(RATE) + 0.5 < now {
                playout.on_packet(next, Time::from_nanos((now * SECOND) as u64), &[0.5; FRAME]);
                next += 1;
            }
            let taken = frames * if callback % 50 == 7 { 3 } else { 1 };
            for _ in 0..parts {
                playout.fill(&mut vec![0.0; (taken / parts) as usize], Time::from_nanos((now * SECOND) as u64));
            }
            place += taken;
        }
        let played = playout.stats();
        // It is learnt the first time.
        assert!(played.resyncs <= 1 && played.concealed <= 100, "{parts}: {played:?}");
        assert!(played.played > 20_000, "{parts}: {played:?}");
    }
}

#[test]
fn end_of_stream_fades_out_without_concealment() {
    let (output, played) = Simulation::default().play(|_| Some(0.003));
    let start = begins(&output) + 1_500 * FRAME;
    for n in 0..FADES {
        let expected = sound(1_500 * FRAME - 1 - n) * (FADES - n) as f32 / FADES as f32;
        assert!((output[start + n] - expected).abs() < 1e-6, "{n}: {}, not {expected}", output[start + n]);
    }
    assert!(output[start + FADES..].iter().all(|sample| *sample == 0.0));
    assert_eq!((played.concealed, played.late, played.played), (0, 0, 1_500));
}

#[test]
fn any_block_length_adds_only_the_necessary_delay() {
    // 521 has no divisor; 513, 735 and 1,025 have none that is near the half or the third of them.
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
        // The noise is almost all around half the rate, which 44.1 kHz does not hold; how long it lasts shows all the same.
        let start = begins(&output);
        let end = output.iter().rposition(|sample| *sample != 0.0).unwrap();
        let lasts = (end - start) as f64 / f64::from(device_rate);
        assert!((lasts - 6.005).abs() < 0.01, "{device_rate}: {lasts}");
    }
}

#[test]
fn allowance_follows_the_path_delay() {
    let simulation = Simulation { allowance: None, seconds: 60.0, ..Simulation::default() };
    // Nothing to allow for: the least. Then up to 12 ms, and from the 30th second on nothing again, to be forgotten slowly.
    let (_, calm) = simulation.play(|_| Some(0.003));
    assert_eq!(calm.jitter_allowance, Duration::from_millis(1));
    assert!(ms(calm.depth.unwrap().min) < 8.0, "{calm:?}");
    assert_eq!((calm.concealed, calm.resyncs), (0, 0));
    let (_, rough) = simulation.play(|index| Some(0.003 + scattered(index) * 0.012));
    assert!((11.5..=12.5).contains(&ms(rough.jitter_allowance.as_secs_f64())), "{rough:?}");
    // Until it was known.
    assert!(rough.concealed > 0 && rough.concealed < 300, "{rough:?}");
    assert_eq!(rough.concealed, rough.late, "all came");
    // After 80 s of calm 0.9^80 = 0.0002 of ten seconds' packets count.
    let simulation = Simulation { seconds: 90.0, ..simulation };
    let (_, calmed) = simulation.play(|index| Some(0.003 + if index < 3_750 { scattered(index) * 0.012 } else { 0.0 }));
    assert_eq!(calmed.jitter_allowance, Duration::from_millis(1), "{calmed:?}");
}

#[test]
fn path_delay_change_causes_a_pause_or_a_skip() {
    let simulation = Simulation { seconds: 8.0, ..Simulation::default() };
    let (output, longer) = simulation.play(|index| Some(if index < 750 { 0.003 } else { 0.303 }));
    assert_eq!(longer.resyncs, 1, "{longer:?}");
    // The first of the longer path comes 300 ms later, less the 27.5 ms that it might have waited, and within 100 ms something is
    // done: what had its turn in these 272.5 to 372.5 ms comes too late.
    assert!((102..=140).contains(&longer.late), "{longer:?}");
    assert_eq!(longer.concealed, longer.late);
    // What comes afterwards is played as it came: the last second is in order.
    let last_second = last(&output, 48_000, 1);
    let wrong = (0..48_000).find(|n| last_second[*n] != sound(1_500 * 2 * FRAME - 48_000 + n));
    assert_eq!(wrong, None);
    // What the path was before is not taken for jitter.
    let (_, longer) =
        Simulation { allowance: None, ..simulation }.play(|index| Some(if index < 750 { 0.003 } else { 0.303 }));
    assert_eq!((longer.resyncs, longer.jitter_allowance), (1, Duration::from_millis(1)), "{longer:?}");
    let (output, shorter) = simulation.play(|index| Some(if index < 750 { 0.303 } else { 0.003 }));
    assert_eq!((shorter.resyncs, shorter.late), (1, 0), "{shorter:?}");
    // 300 ms, less what the 30 ms of silence until the first of them came was good for, are about 112 packets.
    assert_eq!(shorter.played + shorter.skipped, 3_000, "{shorter:?}");
    assert!((90..=115).contains(&shorter.skipped), "{shorter:?}");
    let last_second = last(&output, 48_000, 1);
    let wrong = (0..48_000).find(|n| last_second[*n] != sound(1_500 * 2 * FRAME - 48_000 + n));
    assert_eq!(wrong, None);
}

#[test]
fn device_never_receives_non_finite_or_out_of_range_samples() {
    let config = JitterBufferConfig {
        rate: RATE,
        channels: 1,
        frame_samples: 4,
        device_rate: RATE,
        device_block_frames: 128,
        jitter_allowance: Some(Duration::ZERO),
    };
    let mut playout = JitterBuffer::new(config).unwrap();
    playout.set_sent_packets(4);
    let at = Time::from_nanos(1_000_000_000);
    playout.on_packet(0, at, &[f32::NAN, f32::INFINITY, -9.0, 1.5]);
    playout.on_packet(1, at, &[0.5]);
    playout.on_packet(2, at, &[0.25; 9]);
    // The same again is nothing new.
    playout.on_packet(2, at, &[0.75; 4]);
    let mut out = vec![9.0; 4_800];
    playout.fill(&mut out, at);
    let start = begins(&out);
    // What a packet lacks is what was played before, backwards and fading; then the next is faded in, within 64 samples.
    let expected = [-1.0, 1.0, 0.5, 0.5, 239.0 / 240.0, -238.0 / 240.0];
    let expected = expected.into_iter().chain([1.0, 2.0, 3.0, 4.0].map(|n| 0.25 * n / 65.0));
    for (found, expected) in out[start..].iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{:?}", &out[start..start + 11]);
    }
    assert!(out.iter().all(|sample| sample.abs() <= 1.0));
    assert_eq!(playout.stats().non_finite_samples, 2);
}

#[test]
fn non_finite_samples_are_played_as_zero_at_any_rate_and_counted() {
    for device_rate in [RATE, 44_100, 96_000] {
        // Packets 700 to 703 are damaged, and 702 is lost beside: what is concealed there is made of what was damaged.
        let play = |damage: &[f32]| {
            let config = JitterBufferConfig {
                rate: RATE,
                channels: 1,
                frame_samples: FRAME as u32,
                device_rate,
                device_block_frames: BLOCK as u32,
                jitter_allowance: Some(Duration::from_millis(20)),
            };
            let mut playout = JitterBuffer::new(config).unwrap();
            playout.set_sent_packets(1_500);
            let (mut output, mut out) = (Vec::new(), vec![9.0; BLOCK]);
            let pace = u64::from(RATE) * BLOCK as u64 / u64::from(device_rate);
            let mut sent = 0;
            for callback in 1..1_000 {
                let now = 1_000_000_000 + callback * pace * 1_000_000_000 / u64::from(RATE);
                while sent < 1_500 && sent * FRAME as u64 <= callback * pace {
                    let mut samples: Vec<f32> = (0..FRAME).map(|n| sound(sent as usize * FRAME + n)).collect();
                    if (700..704).contains(&sent) {
                        samples.iter_mut().zip(damage.iter().cycle()).step_by(3).for_each(|(to, from)| *to = *from);
                    }
                    if sent != 702 {
                        playout.on_packet(sent, Time::from_nanos(now), &samples);
                    }
                    sent += 1;
                }
                playout.fill(&mut out, Time::from_nanos(now));
                output.extend_from_slice(&out);
            }
            (output, playout.stats())
        };
        let (zeroed, _) = play(&[0.0]);
        let (found, played) = play(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        assert!(found == zeroed && found.iter().all(|sample| sample.is_finite()), "{device_rate}");
        // Every third of 128 is 43, in three packets.
        assert_eq!((played.non_finite_samples, played.concealed), (3 * 43, 1), "{device_rate}: {played:?}");
    }
}

/// What may happen next.
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
    /// Packets that were never sent, clocks that run backwards, any audio and any block: the output is finite and within full scale, and
    /// each packet is played, or counted, once at most.
    #[test]
    fn any_input_sequence_causes_no_panic(
        events in prop::collection::vec(next(), 0..300),
        channels in 1..=2_u16,
        frame_samples in 0..50_u32,
        device_block in 1..600_u32,
        allowance in prop::option::of(0..1_000_u64),
    ) {
        let allowance = allowance.map(Duration::from_millis);
        let config = JitterBufferConfig { rate: 8_000, channels, frame_samples, device_rate: 8_000, device_block_frames: device_block, jitter_allowance: allowance };
        let mut playout = JitterBuffer::new(config).unwrap();
        let mut came = 0;
        for event in events {
            match event {
                Next::Sent(packets) => playout.set_sent_packets(packets),
                Next::Packet(index, at, samples) => {
                    came += 1;
                    playout.on_packet(index, Time::from_nanos(at), &samples);
                }
                Next::Fill(frames, at) => {
                    let mut out = vec![9.0_f32; frames * usize::from(channels)];
                    playout.fill(&mut out, Time::from_nanos(at));
                    prop_assert!(out.iter().all(|sample| sample.abs() <= 1.0), "{out:?}");
                }
            }
        }
        let played = playout.stats();
        prop_assert!(played.played + played.late + played.early + played.skipped <= came, "{played:?}");
        prop_assert!(played.depth.is_none_or(|depth| depth.min <= depth.max && depth.mean.is_finite()), "{played:?}");
    }
}
