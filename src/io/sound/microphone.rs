//! Captures audio from a device and provides its payloads to the node as a live [`PayloadSource`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, StreamConfig};

use super::config::DeviceConfig;
use super::devices::SelectedDevice;
use super::error::DeviceError;
use super::stream::{AlsaErrorCapture, close_stream, set_failure};
use crate::audio::convert::Packetizer;
use crate::audio::quality::SourceQuality;
use crate::audio::spsc::{CaptureConsumer, CapturedBlock, capture_ring};
use crate::client::{CaptureResults, PayloadSource, SourcePoll};
use crate::io::clock::monotonic_now;
use crate::node::DriverWaker;
use crate::stats::DriftEstimator;
use crate::time::Time;

/// Duration of audio in the ring. If the sender stalls longer, audio is dropped.
const RING_DURATION: Duration = Duration::from_secs(1);

/// Minimum number of callbacks that fit in the ring.
const MIN_RING_CALLBACKS: usize = 8;

/// Minimum time without a callback before the device counts as failed.
const MIN_STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The device counts as failed after this number of intervals without a callback. The minimum time is [`MIN_STALL_TIMEOUT`].
const STALL_CALLBACKS: u32 = 4;

/// State shared with the device's thread.
#[derive(Default)]
struct SharedState {
    /// Capture has stopped; callbacks are ignored.
    is_closed: AtomicBool,
    /// Why the device stopped.
    failure: OnceLock<String>,
}

pub(crate) struct Microphone {
    /// Closed when dropped.
    stream: Option<cpal::Stream>,
    ring: CaptureConsumer,
    packetizer: Packetizer,
    block: Vec<f32>,
    shared: Arc<SharedState>,
    waker: DriverWaker,
    /// Time of the last callback, or of the start.
    last_callback_at: Option<Time>,
    /// Maximum time without a callback.
    stall_timeout: Duration,
    drift: DriftEstimator,
    results: CaptureResults,
    ended: bool,
    pub buffer_frames: u32,
}

impl SelectedDevice {
    /// Opens an input with a buffer of `buffer` frames, limited to the range of the device. Does not start the input.
    pub(crate) fn open_microphone(self, packetizer: Packetizer, buffer: u32) -> Result<Microphone, DeviceError> {
        let errors = AlsaErrorCapture::install();
        let buffer = self.config.clamp_buffer(buffer);
        Microphone::open(&self, buffer, packetizer)
            .map_err(|error| self.open_error(&error, (buffer, "--device-buffer or --mic=DEVICE"), &errors))
    }
}

impl Microphone {
    /// Opens the device with a buffer of `buffer` frames.
    fn open(selected: &SelectedDevice, buffer: u32, packetizer: Packetizer) -> Result<Self, cpal::Error> {
        let SelectedDevice { device, name, config, cpal_format, .. } = selected;
        let DeviceConfig { format, channels, rate: sample_rate, .. } = *config;
        let ring_frames =
            (RING_DURATION.as_secs() as usize * sample_rate as usize).max(buffer as usize * MIN_RING_CALLBACKS);
        let (mut producer, ring) = capture_ring(format, channels, ring_frames);
        let (counters, shared, waker) =
            (Arc::clone(&ring.state), Arc::<SharedState>::default(), DriverWaker::default());

        let (data_state, data_waker) = (Arc::clone(&shared), waker.clone());
        let on_data = move |data: &cpal::Data, _: &cpal::InputCallbackInfo| {
            if !data_state.is_closed.load(Ordering::Relaxed) {
                producer.push(data.bytes(), monotonic_now());
                data_waker.wake();
            }
        };
        let (error_state, error_waker) = (Arc::clone(&shared), waker.clone());
        let on_error = move |error: cpal::Error| {
            if error.kind() == ErrorKind::Xrun {
                return counters.xruns.add(1);
            }
            set_failure(&error_state.failure, &error);
            error_waker.wake();
        };
        let stream_config = StreamConfig { channels, sample_rate, buffer_size: BufferSize::Fixed(buffer) };
        let stream = device.build_input_stream_raw(stream_config, *cpal_format, on_data, on_error, None)?;
        let results = CaptureResults {
            device: name.clone(),
            sample_format: format.name.into(),
            sample_rate,
            channels,
            requested_buffer_frames: buffer,
            reported_buffer_frames: stream.buffer_size().ok(),
            ..CaptureResults::default()
        };
        Ok(Self {
            buffer_frames: results.reported_buffer_frames.unwrap_or(buffer),
            stream: Some(stream),
            ring,
            packetizer,
            block: Vec::new(),
            shared,
            waker,
            last_callback_at: None,
            stall_timeout: MIN_STALL_TIMEOUT
                .max(Duration::from_secs_f64(f64::from(buffer) / f64::from(sample_rate.max(1))) * STALL_CALLBACKS),
            drift: DriftEstimator::new(sample_rate),
            results,
            ended: false,
        })
    }

    fn on_block(&mut self, block: CapturedBlock) {
        self.last_callback_at = Some(block.captured_at);
        if block.dropped_before > 0 {
            self.results.first_overrun_at.get_or_insert(self.results.frames);
        }
        if block.after_xrun {
            self.drift.on_discontinuity();
        }
        self.results.frames += u64::from(block.frames) + block.dropped_before;
        self.drift.on_callback(u64::from(block.frames) + block.dropped_before, block.captured_at);
        let (min, max) = &mut self.results.callback_frames;
        *min = if *min == 0 { block.frames } else { block.frames.min(*min) };
        *max = block.frames.max(*max);
        self.packetizer.push(&self.block);
    }

    /// Ignores further audio. The device's thread may continue until the `Microphone` is dropped.
    fn stop_capture(&mut self) {
        self.ended = true;
        self.shared.is_closed.store(true, Ordering::Relaxed);
        self.packetizer.finish();
    }

    fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            close_stream(stream);
        }
    }

    fn fail(&mut self, reason: String) {
        self.results.failure = Some(reason);
        // A failed device may report errors continuously.
        self.close();
        self.stop_capture();
    }
}

impl Drop for Microphone {
    fn drop(&mut self) {
        self.close();
    }
}

impl PayloadSource for Microphone {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        while !self.ended && !self.packetizer.has_payload() {
            // The failure is read first, and handled only when the ring is empty. All audio captured before the failure is then in the
            // ring and is still sent.
            let failure = self.shared.failure.get().cloned();
            if let Some(block) = self.ring.pop(&mut self.block) {
                self.on_block(block);
                continue;
            }
            match failure {
                Some(reason) => self.fail(reason),
                None if self.capture_age() > Some(self.stall_timeout) => {
                    self.fail(format!("no audio from the device for {:?}", self.stall_timeout));
                }
                None => return SourcePoll::Pending,
            }
        }
        if self.packetizer.next_payload(payload) {
            return SourcePoll::Ready;
        }
        if !self.ended {
            self.stop_capture();
        }
        SourcePoll::End
    }

    fn start(&mut self) {
        let _errors = AlsaErrorCapture::install();
        self.last_callback_at = Some(monotonic_now());
        if let Some(stream) = &self.stream
            && let Err(error) = stream.play()
        {
            let _ = self.shared.failure.set(format!("cannot start the device: {error}"));
        }
    }

    fn capture_age(&self) -> Option<Duration> {
        Some(self.last_callback_at.map_or(Duration::ZERO, |last| monotonic_now().duration_since(last)))
    }

    fn waker(&self) -> Option<&DriverWaker> {
        Some(&self.waker)
    }

    fn capture_results(&self) -> Option<CaptureResults> {
        let counters = &self.ring.state;
        Some(CaptureResults {
            overruns: counters.overruns.get(),
            overrun_frames: counters.overrun_frames.get(),
            xruns: counters.xruns.get(),
            drift: self.drift.estimate(),
            drift_span: self.drift.span(),
            ..self.results.clone()
        })
    }

    fn source_quality(&self) -> Option<SourceQuality> {
        Some(self.packetizer.source_quality())
    }
}
