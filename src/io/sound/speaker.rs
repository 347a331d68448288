//! Plays returned audio on a device through the jitter buffer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, StreamConfig};

use super::config::DeviceConfig;
use super::devices::SelectedDevice;
use super::error::DeviceError;
use super::stream::{AlsaErrorCapture, close_stream, set_failure};
use crate::audio::convert::{BYTES_PER_SAMPLE, decode_payload, map_to_device};
use crate::audio::jitter_buffer::{JitterBuffer, JitterBufferConfig, MAX_JITTER_ALLOWANCE};
use crate::audio::spsc::{PacketConsumer, PacketProducer, PacketRingState, packet_ring};
use crate::client::{
    AudioStreamConfig, PacketEvent, PacketObserver, PacketOutcome, PlaybackResults, SentAudio, StreamKind,
};
use crate::io::clock::monotonic_now;
use crate::io::stop::StopToken;
use crate::lock::lock;
use crate::stats::DriftEstimator;
use crate::time::Time;

/// Maximum time from the last packet to the end of playback. [`Speaker::open`] adds the duration of [`MAX_DEVICE_LATENCY_BLOCKS`] to this
/// time.
const DRAIN_TIMEOUT: Duration = MAX_JITTER_ALLOWANCE.saturating_add(Duration::from_secs(2));

/// Maximum number of blocks that a device buffers.
const MAX_DEVICE_LATENCY_BLOCKS: u32 = 4;

/// After a device failure, each playback callback sleeps this long. A failed device may repeat the callback without a pause.
const FAILED_CALLBACK_DELAY: Duration = Duration::from_millis(10);

/// Interval at which [`Speaker::finish`] checks whether all audio is played.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// State shared with the device's thread.
#[derive(Default)]
struct SharedState {
    xruns: AtomicU64,
    /// Whether all audio has been played.
    is_drained: AtomicBool,
    /// Why the device stopped.
    failure: OnceLock<String>,
    /// The results so far. The device's thread updates the jitter buffer, the drift and the latency.
    results: Mutex<PlaybackResults>,
}

/// Passes the first copy of each packet to the device, even if it is late or damaged.
pub(crate) struct SpeakerObserver {
    producer: PacketProducer,
}

pub(crate) struct Speaker {
    stream: cpal::Stream,
    shared: Arc<SharedState>,
    ring: Arc<PacketRingState>,
    /// Maximum time that [`Speaker::finish`] waits for the end of playback.
    drain_timeout: Duration,
    pub buffer_frames: u32,
}

/// State of the device callback.
struct PlaybackCallback {
    jitter_buffer: JitterBuffer,
    consumer: PacketConsumer,
    channels: u16,
    device: DeviceConfig,
    /// Buffer for one packet.
    packet: Vec<f32>,
    /// Buffer for output frames.
    frames: Vec<f32>,
    drift: DriftEstimator,
    xruns: u64,
    /// Maximum latency reported by the device.
    latency: Duration,
    /// Time when playback of all audio ends, once this time is known.
    drained_at: Option<Time>,
    shared: Arc<SharedState>,
}

impl SelectedDevice {
    /// Opens and starts an output for packets of `stream`. Its buffer has `buffer` frames, limited to the range that the device supports.
    /// `jitter_allowance`: see [`crate::audio::jitter_buffer::JitterBufferConfig::jitter_allowance`].
    pub(crate) fn open_speaker(
        self,
        stream: AudioStreamConfig,
        jitter_allowance: Option<Duration>,
        buffer: u32,
    ) -> Result<(SpeakerObserver, Speaker), DeviceError> {
        let errors = AlsaErrorCapture::install();
        let buffer = self.config.clamp_buffer(buffer);
        let AudioStreamConfig { sample_rate, channels, frame_samples, .. } = stream;
        let config = JitterBufferConfig {
            rate: sample_rate,
            channels,
            frame_samples,
            device_rate: self.config.rate,
            device_block_frames: buffer,
            jitter_allowance,
        };
        let jitter_buffer = JitterBuffer::new(config);
        let jitter_buffer =
            jitter_buffer.map_err(|error| self.direction.device_error(&self.name, &error.to_string()))?;
        Speaker::open(&self, config, jitter_buffer)
            .map_err(|error| self.open_error(&error, (buffer, "--device-buffer or --play=DEVICE"), &errors))
    }
}

impl Speaker {
    /// Opens the device with the buffer size of `config` and starts it.
    fn open(
        selected: &SelectedDevice,
        config: JitterBufferConfig,
        jitter_buffer: JitterBuffer,
    ) -> Result<(SpeakerObserver, Self), cpal::Error> {
        let DeviceConfig { format, channels: device_channels, rate: device_rate, .. } = selected.config;
        let JitterBufferConfig { rate, channels, frame_samples, device_block_frames: buffer, jitter_allowance, .. } =
            config;
        let (producer, consumer) = packet_ring(rate, channels, frame_samples, config.capacity());
        let drain_timeout = DRAIN_TIMEOUT + MAX_DEVICE_LATENCY_BLOCKS * config.block_duration();
        let shared = Arc::<SharedState>::default();
        let mut callback = PlaybackCallback {
            jitter_buffer,
            consumer,
            channels,
            device: selected.config,
            packet: Vec::with_capacity(frame_samples as usize * usize::from(channels)),
            // Some devices request more frames per callback than `buffer`.
            frames: vec![0.0; 2 * buffer as usize * usize::from(channels)],
            drift: DriftEstimator::new(device_rate),
            xruns: 0,
            latency: Duration::ZERO,
            drained_at: None,
            shared: Arc::clone(&shared),
        };
        let on_data = move |data: &mut cpal::Data, info: &cpal::OutputCallbackInfo| {
            let times = info.timestamp();
            callback.fill(data.bytes_mut(), times.playback.saturating_duration_since(times.callback));
        };
        let error_state = Arc::clone(&shared);
        let on_error = move |error: cpal::Error| {
            if error.kind() == ErrorKind::Xrun {
                error_state.xruns.fetch_add(1, Ordering::Relaxed);
            } else {
                set_failure(&error_state.failure, &error);
            }
        };
        let buffer_size = BufferSize::Fixed(buffer);
        let stream_config = StreamConfig { channels: device_channels, sample_rate: device_rate, buffer_size };
        let stream = selected
            .device
            .build_output_stream_raw(stream_config, selected.cpal_format, on_data, on_error, None)
            .and_then(|stream| stream.play().map(|()| stream))?;
        let reported_buffer_frames = stream.buffer_size().ok();
        *lock(&shared.results) = PlaybackResults {
            device: selected.name.clone(),
            sample_format: format.name.into(),
            sample_rate: device_rate,
            channels: device_channels,
            requested_buffer_frames: buffer,
            reported_buffer_frames,
            jitter_buffer: jitter_allowance,
            ..PlaybackResults::default()
        };
        let (ring, buffer_frames) = (Arc::clone(&producer.state), reported_buffer_frames.unwrap_or(buffer));
        Ok((SpeakerObserver { producer }, Self { stream, shared, ring, drain_timeout, buffer_frames }))
    }

    /// Waits until all audio is played or `stop` is requested, and closes the device. Drop the [`SpeakerObserver`] first.
    pub(crate) fn finish(self, stop: &StopToken) -> PlaybackResults {
        let Self { stream, shared, ring, drain_timeout, .. } = self;
        let deadline = Instant::now() + drain_timeout;
        let is_drained = || shared.is_drained.load(Ordering::Acquire);
        while shared.failure.get().is_none() && stop.signal().is_none() && !is_drained() {
            if Instant::now() >= deadline {
                let timeout = drain_timeout.as_secs_f64();
                let _ = shared.failure.set(format!("playback not finished {timeout:.1} s after the last packet"));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        close_stream(stream);
        let results = lock(&shared.results).clone();
        let stats = results.jitter_buffer_stats;
        let (pushed, dropped) = (ring.pushed.get(), ring.dropped.get());
        let accounted = dropped + stats.played + stats.late + stats.early + stats.skipped;
        PlaybackResults {
            xruns: shared.xruns.load(Ordering::Relaxed),
            failure: shared.failure.get().cloned(),
            dropped,
            unplayed: pushed.saturating_sub(accounted),
            ..results
        }
    }
}

impl PlaybackCallback {
    /// Fills the buffer of a callback. The device plays the first frame of this buffer after `latency`.
    fn fill(&mut self, bytes: &mut [u8], latency: Duration) {
        if self.shared.failure.get().is_some() {
            self.device.format.encode(std::iter::repeat(0.0), bytes);
            return std::thread::sleep(FAILED_CALLBACK_DELAY);
        }
        self.latency = self.latency.max(latency);
        let now = monotonic_now();
        // `is_closed` is read before the ring is emptied, so that packets pushed before the producer was dropped are still played.
        let is_closed = self.consumer.is_closed();
        while let Some(packet) = self.consumer.pop(&mut self.packet) {
            self.jitter_buffer.set_sent_packets(self.consumer.state.sent_packets.get());
            self.jitter_buffer.on_packet(packet.index, packet.received_at, &self.packet);
        }
        self.jitter_buffer.set_sent_packets(self.consumer.state.sent_packets.get());
        let frame_bytes = self.device.format.bytes_per_sample * usize::from(self.device.channels);
        let channels = usize::from(self.channels);
        // Larger buffers are filled in parts.
        for part in bytes.chunks_mut(self.frames.len() / channels * frame_bytes) {
            let frames = &mut self.frames[..part.len() / frame_bytes * channels];
            self.jitter_buffer.fill(frames, now);
            self.device.format.encode(map_to_device(frames, self.channels, self.device.channels), part);
        }
        let xruns = self.shared.xruns.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.xruns, xruns) != xruns {
            self.drift.on_discontinuity();
            self.jitter_buffer.on_discontinuity();
        }
        let frames = (bytes.len() / frame_bytes) as u64;
        self.drift.on_callback(frames, now);
        if is_closed && self.jitter_buffer.is_empty() {
            let remaining = Duration::from_secs_f64(frames as f64 / f64::from(self.device.rate))
                + self.jitter_buffer.drain_duration();
            self.drained_at.get_or_insert(now + latency + remaining);
        }
        // Never blocks the audio thread. Normally the lock is free, because the other thread takes it only after closing the device.
        if let Ok(mut results) = self.shared.results.try_lock() {
            results.jitter_buffer_stats = self.jitter_buffer.stats();
            results.drift = self.drift.estimate();
            results.drift_span = self.drift.span();
            results.device_latency = self.latency;
        }
        if self.drained_at.is_some_and(|drained_at| now >= drained_at) {
            self.shared.is_drained.store(true, Ordering::Release);
        }
    }
}

impl PacketObserver for SpeakerObserver {
    fn on_audio_sent(&mut self, sent: SentAudio<'_>) {
        self.producer.state.sent_packets.set(sent.index + 1);
    }

    fn on_packet(&mut self, event: PacketEvent<'_>) {
        // A truncated packet is played up to the last complete sample.
        let len = event.payload.len() / BYTES_PER_SAMPLE * BYTES_PER_SAMPLE;
        if let (StreamKind::Audio, PacketOutcome::Returned | PacketOutcome::Damaged, true) =
            (event.packet.stream, event.packet.outcome, event.is_first)
            && let Some(samples) = decode_payload(&event.payload[..len])
        {
            // Uses the current time as the arrival time, because the packet cannot be played earlier.
            self.producer.push(event.index, monotonic_now(), samples);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::RecordedPacket;

    #[test]
    fn first_copy_of_each_packet_is_played() {
        let (producer, mut consumer) = packet_ring(48_000, 1, 128, Duration::from_secs(1));
        let state = Arc::clone(&producer.state);
        let mut observer = SpeakerObserver { producer };
        let (stream, sent_at, received_at) = (StreamKind::Audio, Time::from_millis(1), Some(Time::from_millis(2)));
        let mut receive = |index, outcome, is_first, payload: &[u8]| {
            let packet = RecordedPacket { stream, sequence: 1, due: sent_at, sent_at, received_at, outcome };
            observer.on_packet(PacketEvent { packet, index, is_first, payload });
        };
        // Packet 0 arrives twice: first truncated, then complete. Packet 1 is empty. Packet 2 is lost.
        receive(0, PacketOutcome::Damaged, true, &[0, 0, 128, 63, 0]);
        receive(0, PacketOutcome::Returned, false, &[0, 0, 128, 63, 0, 0, 128, 63]);
        receive(1, PacketOutcome::Damaged, true, &[]);
        receive(2, PacketOutcome::Lost, false, &[]);
        let mut samples = Vec::new();
        let next = consumer.pop(&mut samples).map(|packet| packet.index);
        assert_eq!((next, &samples[..], state.pushed.get()), (Some(0), &[1.0][..], 2));
        assert_eq!((consumer.pop(&mut samples).map(|packet| packet.index), samples.len()), (Some(1), 0));
        assert_eq!(consumer.pop(&mut samples), None);
    }
}
