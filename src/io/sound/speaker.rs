//! What comes back, played by a device as it asks for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, StreamConfig};

use super::closing::close;
use super::devices::asked;
use crate::audio::device_format::DeviceFormat;
use crate::audio::device_offer::Choice;
use crate::audio::mix::{Channels, fan_out};
use crate::audio::payload::{self, BYTES_PER_SAMPLE};
use crate::flow::run::StreamKind;
use crate::flow::{Fact, Fate, Form, Observer, PlaybackRun, Sent};
use crate::io::stop::Stop;
use crate::playout::{Config, Giver, MOST_ALLOWANCE, OutOfRange, Played, Playout, Taker, Tally, handover};
use crate::stats::{Drift, DriftEstimate};
use crate::time::{Time, nanos};

/// A device that has not played everything so long after the last packet, and the blocks that it takes at once, plays no more.
const PATIENCE: Duration = MOST_ALLOWANCE.saturating_add(Duration::from_secs(2));

/// Blocks that a device may hold back.
const BLOCKS: u32 = 4;

/// How long a device that is broken waits for what it asks for: it may ask without a pause.
const BROKEN: Duration = Duration::from_millis(10);

/// How often it is looked whether all is played.
const LOOKS: Duration = Duration::from_millis(5);

/// Why a device does not play.
pub(super) enum OpenError {
    /// What comes cannot be played on it.
    Form(OutOfRange),
    /// It does not do what is asked of it.
    Device(cpal::Error),
}

/// What the device's thread tells us.
#[derive(Default)]
struct Told {
    xruns: AtomicU64,
    /// All was played.
    is_over: AtomicBool,
    /// Why it takes no more.
    broken: OnceLock<String>,
    so_far: Mutex<SoFar>,
}

/// What is known after the last asking.
#[derive(Clone, Copy, Default)]
struct SoFar {
    played: Played,
    drift: Option<DriftEstimate>,
    drift_span: Duration,
    /// How long the device holds back what it is given, at most, as it says.
    latency: Duration,
}

/// The node's end: whatever comes first for a packet goes on to the device, late or changed as it may be.
pub struct Returning {
    giver: Giver,
    origin: Instant,
}

/// A device that plays.
pub struct Speaker {
    stream: cpal::Stream,
    told: Arc<Told>,
    tally: Tally,
    /// How long it may take to play all that has come.
    patience: Duration,
    run: PlaybackRun,
}

/// What the device's callback runs.
struct Player {
    playout: Playout,
    taker: Taker,
    channels: Channels,
    format: DeviceFormat,
    device_channels: u16,
    device_rate: u32,
    /// A packet on its way from the ring.
    packet: Vec<f32>,
    /// Frames on their way to the device.
    frames: Vec<f32>,
    origin: Instant,
    drift: Drift,
    xruns: u64,
    latency: Duration,
    /// When all is played.
    ends: Option<Time>,
    told: Arc<Told>,
}

impl Speaker {
    /// Opens `device`, to take `buffer` frames at a time, and starts it.
    pub(super) fn open(
        device: &cpal::Device,
        name: &str,
        choice: Choice,
        buffer: u32,
        form: Form,
        allowance: Option<Duration>,
    ) -> Result<(Returning, Self), OpenError> {
        let Choice { format, channels: device_channels, rate: device_rate, .. } = choice;
        let Form { sample_rate, channels, frame_samples, .. } = form;
        let config =
            Config { rate: sample_rate, channels, frame_samples, device_rate, device_block: buffer, allowance };
        let playout = Playout::new(config).map_err(OpenError::Form)?;
        let (giver, taker) = handover(sample_rate, channels, frame_samples, config.room());
        let patience = PATIENCE + BLOCKS * config.block();
        let (told, origin) = (Arc::<Told>::default(), Instant::now());
        let mut player = Player {
            playout,
            taker,
            channels: if channels == 1 { Channels::Mono } else { Channels::Stereo },
            format,
            device_channels,
            device_rate,
            packet: Vec::with_capacity(frame_samples as usize * usize::from(channels)),
            // Some take more than they were asked to.
            frames: vec![0.0; 2 * buffer as usize * usize::from(channels)],
            origin,
            drift: Drift::new(device_rate),
            xruns: 0,
            latency: Duration::ZERO,
            ends: None,
            told: Arc::clone(&told),
        };
        let on_asked = move |data: &mut cpal::Data, info: &cpal::OutputCallbackInfo| {
            let times = info.timestamp();
            player.fill(data.bytes_mut(), times.playback.saturating_duration_since(times.callback));
        };
        let tell = Arc::clone(&told);
        let on_error = move |error: cpal::Error| match error.kind() {
            ErrorKind::Xrun => {
                tell.xruns.fetch_add(1, Ordering::Relaxed);
            }
            // It goes on all the same.
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied | ErrorKind::DeviceBusy => {}
            kind => {
                let _ = tell.broken.set(match kind {
                    ErrorKind::DeviceNotAvailable => "it has disappeared".to_owned(),
                    _ => error.to_string(),
                });
            }
        };
        let config = StreamConfig {
            channels: device_channels,
            sample_rate: device_rate,
            buffer_size: BufferSize::Fixed(buffer),
        };
        let stream = device
            .build_output_stream_raw(config, asked(format), on_asked, on_error, None)
            .and_then(|stream| stream.play().map(|()| stream))
            .map_err(OpenError::Device)?;
        let run = PlaybackRun {
            device: name.to_owned(),
            sample_format: format.name(),
            sample_rate: device_rate,
            channels: device_channels,
            buffer_asked: buffer,
            buffer_told: stream.buffer_size().ok(),
            allowance,
            ..PlaybackRun::default()
        };
        let tally = giver.tally();
        Ok((Returning { giver, origin }, Self { stream, told, tally, patience, run }))
    }

    /// How many frames at a time it was asked for, and how many it says.
    pub fn buffer(&self) -> (u32, Option<u32>) {
        (self.run.buffer_asked, self.run.buffer_told)
    }

    /// Waits until all that has come is played, unless `stop` is requested, and closes the device. The [`Returning`] must be gone.
    pub fn finish(self, stop: &Stop) -> PlaybackRun {
        let Self { stream, told, tally, patience, run } = self;
        let until = Instant::now() + patience;
        let is_over = || told.is_over.load(Ordering::Acquire);
        let is_wanted = || stop.requested().is_none();
        while told.broken.get().is_none() && is_wanted() && !is_over() {
            if Instant::now() >= until {
                let _ = told.broken.set(format!(
                    "it has not played all of it {:.1} s after the last of it came",
                    patience.as_secs_f64()
                ));
            }
            std::thread::sleep(LOOKS);
        }
        close(stream);
        let SoFar { played, drift, drift_span, latency } = *told.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        let (given, dropped) = (tally.given(), tally.dropped());
        let settled = dropped + played.packets + played.late + played.early + played.skipped;
        PlaybackRun {
            xruns: told.xruns.load(Ordering::Relaxed),
            lost: told.broken.get().cloned(),
            dropped,
            unplayed: given.saturating_sub(settled),
            played,
            drift,
            drift_span,
            latency,
            ..run
        }
    }
}

impl Player {
    /// Fills what the device asks for, the first of which it plays after `latency`.
    fn fill(&mut self, bytes: &mut [u8], latency: Duration) {
        if self.told.broken.get().is_some() {
            self.format.encode(std::iter::repeat(0.0), bytes);
            return std::thread::sleep(BROKEN);
        }
        let now = since(self.origin);
        self.latency = self.latency.max(latency);
        // Looked at first: what was handed over before the end is still taken.
        let no_more_comes = self.taker.is_over();
        while let Some(packet) = self.taker.next(&mut self.packet) {
            self.playout.on_sent(self.taker.sent());
            self.playout.on_packet(packet.index, packet.at, &self.packet);
        }
        self.playout.on_sent(self.taker.sent());
        let frame_bytes = self.format.bytes_per_sample() * usize::from(self.device_channels);
        let channels = usize::from(self.channels.count());
        // What takes still more is filled in parts.
        for part in bytes.chunks_mut(self.frames.len() / channels * frame_bytes) {
            let frames = &mut self.frames[..part.len() / frame_bytes * channels];
            self.playout.fill(frames, now);
            self.format.encode(fan_out(frames, self.channels, self.device_channels), part);
        }
        let xruns = self.told.xruns.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.xruns, xruns) != xruns {
            self.drift.interrupt();
            self.playout.interrupt();
        }
        let frames = (bytes.len() / frame_bytes) as u64;
        self.drift.on_delivery(frames, now);
        if no_more_comes && self.playout.is_empty() {
            let lasts = Duration::from_secs_f64(frames as f64 / f64::from(self.device_rate)) + self.playout.lingers();
            self.ends.get_or_insert(now + latency + lasts);
        }
        // Whoever asks does so when no more is played.
        if let Ok(mut so_far) = self.told.so_far.try_lock() {
            *so_far = SoFar {
                played: self.playout.played(),
                drift: self.drift.estimate(),
                drift_span: self.drift.span(),
                latency: self.latency,
            };
        }
        if self.ends.is_some_and(|ends| now >= ends) {
            self.told.is_over.store(true, Ordering::Release);
        }
    }
}

impl Observer for Returning {
    fn on_sent(&mut self, sent: Sent<'_>) {
        self.giver.sent(sent.index + 1);
    }

    fn on_fact(&mut self, fact: Fact<'_>) {
        // Of one that was cut within a sample what is whole.
        let whole = fact.payload.len() / BYTES_PER_SAMPLE * BYTES_PER_SAMPLE;
        if let (StreamKind::Audio, Fate::Returned | Fate::Late | Fate::Damaged, true) =
            (fact.stream, fact.fate, fact.is_first)
            && let Some(samples) = payload::decode(&fact.payload[..whole])
        {
            // It can be played from now on, whenever it came.
            self.giver.give(fact.index, since(self.origin), samples);
        }
    }
}

/// Now, in nanoseconds since `origin`.
fn since(origin: Instant) -> Time {
    Time::from_nanos(nanos(origin.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_copy_of_a_packet_goes_on_to_the_device_however_it_was_cut() {
        let (giver, mut taker) = handover(48_000, 1, 128, Duration::from_secs(1));
        let tally = giver.tally();
        let mut returning = Returning { giver, origin: Instant::now() };
        let (stream, sent, came) = (StreamKind::Audio, Time::from_millis(1), Some(Time::from_millis(2)));
        let mut hear = |index, fate, is_first, payload: &[u8]| {
            returning.on_fact(Fact { stream, index, sequence: 1, sent, came, fate, is_first, payload });
        };
        // A sample of 1.0 and a byte of the next, and then all of it; nothing at all; and one that is given up.
        hear(0, Fate::Damaged, true, &[0, 0, 128, 63, 0]);
        hear(0, Fate::Returned, false, &[0, 0, 128, 63, 0, 0, 128, 63]);
        hear(1, Fate::Damaged, true, &[]);
        hear(2, Fate::Lost, false, &[]);
        let mut samples = Vec::new();
        let next = taker.next(&mut samples).map(|packet| packet.index);
        assert_eq!((next, &samples[..], tally.given()), (Some(0), &[1.0][..], 2));
        assert_eq!(taker.next(&mut samples).map(|packet| (packet.index, packet.samples)), Some((1, 0)));
        assert_eq!(taker.next(&mut samples), None);
    }
}
