//! A thread that passes sent and returned audio to the recordings, the waveform and the analyzer.
//!
//! The node's thread pushes packets to a bounded queue with preallocated buffers. Packets that do not fit are dropped and counted.
//! The recorder thread decodes each packet once and writes it to the [`AudioSinks`]. It polls the queue, so that the node's thread never has
//! to wake it. Sent packets enter the queue in the order of their positions. Returned packets enter the queue in
//! any order.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::audio::convert::{BYTES_PER_SAMPLE, decode_payload};
use crate::audio::quality::{Analyzer, ReturnStatus};
use crate::audio::wav_writer::{WavSampleFormat, wav_header};
use crate::audio::waveform::Waveform;
use crate::client::StreamKind;
use crate::client::{AudioStreamConfig, PacketEvent, PacketObserver, PacketOutcome, SentAudio};
use crate::stats::Counter;

/// Maximum number of queued packets, sent and returned. The queue holds 2.7 s at 48 kHz and 128 samples per packet.
const QUEUE_CAPACITY: usize = 2_048;

/// Sleep of the recorder thread when the queue is empty.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Status of a queued packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketStatus {
    /// Sent.
    Sent,
    /// Returned intact and in time.
    Returned,
    /// Returned intact after `--late-after`.
    Late,
    /// The packet returned, but its bytes differ from the sent bytes.
    Damaged,
    /// Not returned in time. Packets still in flight when the run is interrupted do not count as lost.
    Lost,
}

/// Receivers of the audio: the optional outputs and the analyzer.
pub struct AudioSinks {
    /// For `--record`.
    pub recording: Option<ReturnRecording>,
    /// The recording of `--record-both`.
    pub stereo_recording: Option<StereoRecording>,
    /// The waveform for `--html`.
    pub waveform: Option<Waveform>,
    /// Measures the audio quality for the report.
    pub analyzer: Analyzer,
}

impl AudioSinks {
    /// Writes a packet to all sinks. A [`PacketStatus::Lost`] packet has no samples.
    fn write(&mut self, status: PacketStatus, index: u64, samples: &[f32]) {
        if let (Some(recording), PacketStatus::Returned | PacketStatus::Late) = (&mut self.recording, status) {
            recording.on_returned(index, samples);
        }
        match (&mut self.stereo_recording, status) {
            (Some(both), PacketStatus::Sent) => both.on_sent(index, samples),
            (Some(both), PacketStatus::Returned | PacketStatus::Late) => both.on_returned(index, samples),
            _ => {}
        }
        match status {
            PacketStatus::Sent => self.analyzer.on_sent(index, samples),
            PacketStatus::Returned => self.analyzer.on_returned(index, samples, ReturnStatus::Intact),
            PacketStatus::Late => {}
            PacketStatus::Damaged => self.analyzer.on_returned(index, samples, ReturnStatus::Damaged),
            PacketStatus::Lost => self.analyzer.on_lost(index),
        }
        let Some(waveform) = &mut self.waveform else { return };
        match status {
            PacketStatus::Sent => waveform.on_sent(index, samples),
            PacketStatus::Returned | PacketStatus::Late => waveform.on_returned(index, samples),
            // A damaged packet is neither drawn nor shown as a gap.
            PacketStatus::Damaged => {}
            PacketStatus::Lost => waveform.on_lost(index),
        }
    }
}

struct QueuedPacket {
    status: PacketStatus,
    index: u64,
    payload: Vec<u8>,
}

/// Packets dropped because the queue was full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecorderDrops {
    /// Sent packets.
    pub sent: u64,
    /// Packets returned intact.
    pub returned: u64,
    /// Packets returned with other bytes.
    pub damaged: u64,
    /// Lost packets.
    pub lost: u64,
}

#[derive(Default)]
struct DropCounters {
    sent: Counter,
    returned: Counter,
    damaged: Counter,
    lost: Counter,
}

impl DropCounters {
    fn for_status(&self, status: PacketStatus) -> &Counter {
        match status {
            PacketStatus::Sent => &self.sent,
            PacketStatus::Returned | PacketStatus::Late => &self.returned,
            PacketStatus::Damaged => &self.damaged,
            PacketStatus::Lost => &self.lost,
        }
    }
}

/// The sending side of the queue, used by the node's thread.
pub struct RecorderQueue {
    queue: SyncSender<QueuedPacket>,
    free_buffers: Receiver<Vec<u8>>,
    /// Buffer of the last dropped packet, to be reused for the next packet.
    spare_buffer: Option<Vec<u8>>,
    drops: Arc<DropCounters>,
}

/// The main thread's handle. The handle is a [`PacketObserver`] for packets whose outcome is known only after the run. If the queue is
/// full, the handle waits.
pub struct Recorder {
    queue: SyncSender<QueuedPacket>,
    drops: Arc<DropCounters>,
    thread: JoinHandle<AudioSinks>,
}

/// Starts the recorder thread. `config` is the format of the AUDIO packets.
pub fn spawn(mut sinks: AudioSinks, config: AudioStreamConfig) -> io::Result<(RecorderQueue, Recorder)> {
    let (queue, packets) = mpsc::sync_channel::<QueuedPacket>(QUEUE_CAPACITY);
    // Two additional buffers are needed: for the packet being written and for the packet being pushed.
    let (return_buffer, free_buffers) = mpsc::sync_channel(QUEUE_CAPACITY + 2);
    let payload_bytes = config.frame_samples as usize * usize::from(config.channels) * BYTES_PER_SAMPLE;
    for _ in 0..QUEUE_CAPACITY + 2 {
        // Cannot fail: the loop fills the channel exactly to its capacity.
        let _ = return_buffer.try_send(Vec::with_capacity(payload_bytes));
    }
    let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
        let mut samples = Vec::new();
        loop {
            match packets.try_recv() {
                Ok(QueuedPacket { status, index, payload }) => {
                    samples.clear();
                    samples.extend(decode_payload(&payload).into_iter().flatten());
                    sinks.write(status, index, &samples);
                    // The channel has room only for the buffers that were allocated at the start. `Recorder` allocates additional
                    // buffers later, so there can be more buffers than the channel can hold. A buffer that does not fit is dropped.
                    let _ = return_buffer.try_send(payload);
                }
                Err(TryRecvError::Empty) => std::thread::sleep(POLL_INTERVAL),
                Err(TryRecvError::Disconnected) => return sinks,
            }
        }
    })?;
    let drops = Arc::<DropCounters>::default();
    Ok((
        RecorderQueue { queue: queue.clone(), free_buffers, spare_buffer: None, drops: Arc::clone(&drops) },
        Recorder { queue, drops, thread },
    ))
}

impl Recorder {
    fn enqueue(&self, status: PacketStatus, index: u64, bytes: &[u8]) {
        if self.queue.send(QueuedPacket { status, index, payload: bytes.to_vec() }).is_err() {
            self.drops.for_status(status).add(1);
        }
    }

    /// Waits until all packets are written and returns the sinks and the drop counts. Drop the [`RecorderQueue`] first.
    ///
    /// # Panics
    /// If the recorder thread panicked.
    pub fn finish(self) -> (AudioSinks, RecorderDrops) {
        let Self { queue, drops, thread } = self;
        drop(queue);
        let sinks = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let DropCounters { sent, returned, damaged, lost } = &*drops;
        (sinks, RecorderDrops { sent: sent.get(), returned: returned.get(), damaged: damaged.get(), lost: lost.get() })
    }
}

impl RecorderQueue {
    fn enqueue(&mut self, status: PacketStatus, index: u64, bytes: &[u8]) {
        let mut payload = self.spare_buffer.take().or_else(|| self.free_buffers.try_recv().ok()).unwrap_or_default();
        payload.clear();
        payload.extend_from_slice(bytes);
        match self.queue.try_send(QueuedPacket { status, index, payload }) {
            Ok(()) => {}
            Err(TrySendError::Full(packet) | TrySendError::Disconnected(packet)) => {
                self.spare_buffer = Some(packet.payload);
                self.drops.for_status(status).add(1);
            }
        }
    }
}

/// The status that is queued for the event; `None` for duplicates and for streams other than AUDIO.
fn packet_status(event: &PacketEvent<'_>) -> Option<PacketStatus> {
    match (event.stream, event.outcome) {
        (StreamKind::Audio, PacketOutcome::Returned) => Some(PacketStatus::Returned),
        (StreamKind::Audio, PacketOutcome::Late) => Some(PacketStatus::Late),
        (StreamKind::Audio, PacketOutcome::Damaged) => Some(PacketStatus::Damaged),
        (StreamKind::Audio, PacketOutcome::Lost) => Some(PacketStatus::Lost),
        _ => None,
    }
}

impl PacketObserver for RecorderQueue {
    fn on_audio_sent(&mut self, sent: SentAudio<'_>) {
        self.enqueue(PacketStatus::Sent, sent.index, sent.payload);
    }

    fn on_packet(&mut self, event: PacketEvent<'_>) {
        if let Some(status) = packet_status(&event) {
            self.enqueue(status, event.index, event.payload);
        }
    }

    fn on_audio_late(&mut self, index: u64) {
        self.enqueue(PacketStatus::Lost, index, &[]);
    }
}

impl PacketObserver for Recorder {
    fn on_packet(&mut self, event: PacketEvent<'_>) {
        if let Some(status) = packet_status(&event) {
            self.enqueue(status, event.index, event.payload);
        }
    }

    fn on_audio_late(&mut self, index: u64) {
        self.enqueue(PacketStatus::Lost, index, &[]);
    }
}

/// Records the returned audio as a WAV file, with silence for missing packets.
pub struct ReturnRecording(WavFile);

impl ReturnRecording {
    /// Creates the file.
    pub fn create(path: &Path, config: AudioStreamConfig) -> io::Result<Self> {
        WavFile::create(path, config.channels, config).map(Self)
    }

    fn on_returned(&mut self, index: u64, samples: &[f32]) {
        self.0.write_packet(index, samples);
    }

    /// Completes the file so that it contains `sent_samples` samples per channel. Missing packets are silent, even at the end.
    pub fn finish(self, sent_samples: u64) -> Result<RecordingSummary, RecordingError> {
        self.0.finish(sent_samples)
    }
}

const STEREO_CHANNELS: u16 = 2;
const SENT_CHANNEL: usize = 0;
const RETURNED_CHANNEL: usize = 1;

/// Records sent audio (left channel) and returned audio (right channel) in one WAV file. A returned packet is written at the position of
/// the sent packet. Therefore, the round-trip delay is not visible. Missing packets are silent.
pub struct StereoRecording {
    file: WavFile,
    channels: usize,
    mono: Vec<f32>,
}

impl StereoRecording {
    /// Creates the file. If the packets are stereo, sent and returned audio are each averaged to mono.
    pub fn create(path: &Path, config: AudioStreamConfig) -> io::Result<Self> {
        let file = WavFile::create(path, STEREO_CHANNELS, config)?;
        Ok(Self { file, channels: usize::from(config.channels.max(1)), mono: Vec::new() })
    }

    fn on_sent(&mut self, index: u64, samples: &[f32]) {
        self.write(index, SENT_CHANNEL, samples);
    }

    fn on_returned(&mut self, index: u64, samples: &[f32]) {
        self.write(index, RETURNED_CHANNEL, samples);
    }

    fn write(&mut self, index: u64, channel: usize, samples: &[f32]) {
        if self.channels == 1 {
            return self.file.write_channel(index, channel, samples);
        }
        self.mono.clear();
        let mean = |frame: &[f32]| frame.iter().sum::<f32>() / frame.len() as f32;
        self.mono.extend(samples.chunks_exact(self.channels).map(mean));
        self.file.write_channel(index, channel, &self.mono);
    }

    /// Completes the file so that it contains `sent_samples` samples per channel.
    pub fn finish(self, sent_samples: u64) -> Result<RecordingSummary, RecordingError> {
        self.file.finish(sent_samples)
    }
}

/// Format of recordings.
const FORMAT: WavSampleFormat = WavSampleFormat::F32;

/// A WAV file that is written by seeking: packets in any order, each at its position. Gaps in the file contain zeros, which are silence.
struct WavFile {
    file: File,
    rate: u32,
    channels: u16,
    /// Samples per channel in each packet except the last.
    frame_samples: u32,
    /// Samples per channel up to the end of the last packet in the file.
    written_samples: u64,
    /// Packets beyond the maximum length of a WAV file.
    packets_left_out: u64,
    /// The first write error. After an error, nothing more is written.
    error: Option<io::Error>,
    /// Buffer for the encoded samples of one packet.
    bytes: Vec<u8>,
    /// Buffer for all channels of one packet.
    interleaved: Vec<u8>,
}

/// Length of a finished recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingSummary {
    /// Samples per channel.
    pub samples: u64,
    /// Packets left out because the file reached the maximum length of a WAV file.
    pub packets_left_out: u64,
}

/// Writing a recording failed.
#[derive(Debug)]
pub struct RecordingError {
    error: io::Error,
    /// Samples per channel in the file, and the sample rate. `None` if the header could not be written.
    readable_part: Option<(u64, u32)>,
}

impl fmt::Display for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.readable_part {
            Some((samples, rate)) => {
                let seconds = samples as f64 / f64::from(rate);
                write!(f, "{}; the file contains the first {seconds:.3} s, {samples} samples", self.error)
            }
            None => write!(f, "{}; the header could not be written either, so the file appears empty", self.error),
        }
    }
}

impl std::error::Error for RecordingError {}

impl WavFile {
    /// Creates the file with a header.
    fn create(path: &Path, channels: u16, config: AudioStreamConfig) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        // Rejects pipes and terminals before the run.
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file; a regular file is required because packets are written in any order",
            ));
        }
        let AudioStreamConfig { sample_rate, frame_samples, .. } = config;
        file.write_all(&wav_header(FORMAT, sample_rate, channels, 0))?;
        Ok(Self {
            file,
            rate: sample_rate,
            channels,
            frame_samples,
            written_samples: 0,
            packets_left_out: 0,
            error: None,
            bytes: Vec::new(),
            interleaved: Vec::new(),
        })
    }

    /// Bytes per frame.
    fn frame_bytes(&self) -> u64 {
        u64::from(self.channels) * FORMAT.bytes_per_sample() as u64
    }

    /// Maximum number of samples per channel in a WAV file, which has 32-bit lengths.
    fn max_samples(&self) -> u64 {
        (u64::from(u32::MAX) - 1_024) / self.frame_bytes()
    }

    /// Writes a packet with all channels.
    fn write_packet(&mut self, index: u64, samples: &[f32]) {
        self.encode(samples);
        self.write_at(index, (samples.len() / usize::from(self.channels.max(1))) as u64, |wav, start| {
            wav.file.seek(start)?;
            wav.file.write_all(&wav.bytes)
        });
    }

    /// Writes one channel of a packet and leaves the file's other channels unchanged.
    fn write_channel(&mut self, index: u64, channel: usize, samples: &[f32]) {
        self.encode(samples);
        self.write_at(index, samples.len() as u64, |wav, start| {
            let (frame, sample) = (wav.frame_bytes() as usize, FORMAT.bytes_per_sample());
            let len = samples.len() * frame;
            wav.interleaved.clear();
            wav.file.seek(start)?;
            (&wav.file).take(len as u64).read_to_end(&mut wav.interleaved)?;
            wav.interleaved.resize(len, 0);
            for (frame, bytes) in wav.interleaved.chunks_exact_mut(frame).zip(wav.bytes.chunks_exact(sample)) {
                frame[channel * sample..][..sample].copy_from_slice(bytes);
            }
            wav.file.seek(start)?;
            wav.file.write_all(&wav.interleaved)
        });
    }

    fn encode(&mut self, samples: &[f32]) {
        self.bytes.clear();
        FORMAT.encode(samples, &mut self.bytes);
    }

    /// Calls `write` with the position of a packet in the file. A packet that would end beyond the maximum length is left out. `samples` is
    /// the length of the packet per channel.
    fn write_at(&mut self, index: u64, samples: u64, write: impl FnOnce(&mut Self, SeekFrom) -> io::Result<()>) {
        let position = index.saturating_mul(u64::from(self.frame_samples));
        if position.saturating_add(samples) > self.max_samples() {
            self.packets_left_out += 1;
        } else if self.error.is_none() {
            let start = SeekFrom::Start(FORMAT.header_len() as u64 + position * self.frame_bytes());
            match write(self, start) {
                Ok(()) => self.written_samples = self.written_samples.max(position + samples),
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// Completes the file so that it contains `sent_samples` samples per channel, but at most `max_samples`.
    fn finish(mut self, sent_samples: u64) -> Result<RecordingSummary, RecordingError> {
        let samples = sent_samples.min(self.max_samples());
        let result = match self.error.take() {
            Some(error) => Err(error),
            None => self.write_header(samples),
        };
        match result {
            Ok(()) => Ok(RecordingSummary { samples, packets_left_out: self.packets_left_out }),
            Err(error) => {
                let written = self.written_samples.min(samples);
                Err(RecordingError {
                    error,
                    readable_part: self.write_header(written).ok().map(|()| (written, self.rate)),
                })
            }
        }
    }

    fn write_header(&mut self, samples: u64) -> io::Result<()> {
        let data = samples * self.frame_bytes();
        self.file.set_len(FORMAT.header_len() as u64 + data)?;
        self.file.rewind()?;
        self.file.write_all(&wav_header(FORMAT, self.rate, self.channels, data as u32))?;
        self.file.sync_all()
    }
}
