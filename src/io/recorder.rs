//! A thread that passes sent and returned audio to the recordings, the waveform and the analyzer.
//!
//! The node's thread pushes packets to a bounded queue with preallocated buffers: sent packets in the order of their positions, returned ones
//! in any order. Packets that do not fit are dropped and counted. The recorder thread decodes each packet once and writes it to the
//! [`AudioSinks`]. It polls the queue, so that the node's thread never has to wake it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};
use std::time::{Duration, Instant};

use crate::audio::convert::{BYTES_PER_SAMPLE, decode_payload, encode_payload};
use crate::audio::quality::Analyzer;
use crate::audio::wav_writer::{WAV_HEADER_LEN, wav_header};
use crate::client::{AudioStreamConfig, PacketEvent, PacketObserver, PacketOutcome, SentAudio, StreamKind};
use crate::io::files;
use crate::io::worker::Worker;
use crate::stats::Counter;
use crate::waveform::Waveform;

/// Maximum number of queued packets, sent and returned. The queue holds 2.7 s at 48 kHz and 128 samples per packet.
const QUEUE_CAPACITY: usize = 2_048;

/// Sleep of the recorder thread when the queue is empty.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Receivers of the audio: the optional outputs and the analyzer.
pub struct AudioSinks {
    /// For `--record`.
    pub recording: Option<Recording>,
    /// For `--record-both`.
    pub both_recording: Option<Recording>,
    /// The waveform for `--html`.
    pub waveform: Option<Waveform>,
    /// Measures the audio quality for the report.
    pub analyzer: Analyzer,
}

impl AudioSinks {
    /// Writes a sent packet, or a packet with the given outcome, to all sinks. A lost packet has no samples.
    fn write(&mut self, outcome: Option<PacketOutcome>, index: u64, samples: &[f32]) {
        let Self { recording, both_recording, waveform, analyzer } = self;
        match outcome {
            None => {
                analyzer.on_sent(index, samples);
                if let Some(both) = both_recording {
                    both.write(index, SENT_CHANNEL, samples);
                }
                if let Some(waveform) = waveform {
                    waveform.on_sent(index, samples);
                }
            }
            Some(PacketOutcome::Returned) => {
                analyzer.on_returned(index, samples);
                for recording in recording.iter_mut().chain(both_recording) {
                    recording.write(index, RETURNED_CHANNEL, samples);
                }
                if let Some(waveform) = waveform {
                    waveform.on_returned(index, samples);
                }
            }
            // A damaged packet is neither drawn nor shown as a gap.
            Some(PacketOutcome::Damaged) => analyzer.on_damaged(index, samples),
            Some(_) => {
                analyzer.on_lost(index);
                if let Some(waveform) = waveform {
                    waveform.on_lost(index);
                }
            }
        }
    }
}

struct QueuedPacket {
    /// `None` for a sent packet.
    outcome: Option<PacketOutcome>,
    index: u64,
    payload: Vec<u8>,
}

/// Packets dropped because the queue was full.
#[derive(Debug, Default)]
pub struct RecorderDrops {
    /// Sent packets.
    pub sent: Counter,
    /// Packets returned intact.
    pub returned: Counter,
    /// Packets returned with other bytes.
    pub damaged: Counter,
    /// Lost packets.
    pub lost: Counter,
}

impl RecorderDrops {
    fn count(&self, outcome: Option<PacketOutcome>) {
        let dropped = match outcome {
            None => &self.sent,
            Some(PacketOutcome::Returned) => &self.returned,
            Some(PacketOutcome::Damaged) => &self.damaged,
            Some(_) => &self.lost,
        };
        dropped.add(1);
    }
}

/// The sending side of the queue, used by the node's thread.
pub struct RecorderQueue {
    queue: SyncSender<QueuedPacket>,
    free_buffers: Receiver<Vec<u8>>,
    /// Buffer of the last dropped packet, to be reused for the next packet.
    spare_buffer: Option<Vec<u8>>,
    drops: Arc<RecorderDrops>,
}

/// The main thread's handle, and the [`PacketObserver`] of packets whose outcome is known only after the run. It waits if the queue is full.
pub struct Recorder {
    queue: SyncSender<QueuedPacket>,
    drops: Arc<RecorderDrops>,
    thread: Worker<AudioSinks>,
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
    let thread = Worker::spawn("recorder", move || {
        let mut samples = Vec::new();
        loop {
            match packets.try_recv() {
                Ok(QueuedPacket { outcome, index, payload }) => {
                    samples.clear();
                    samples.extend(decode_payload(&payload).into_iter().flatten());
                    sinks.write(outcome, index, &samples);
                    // The channel has room for the buffers that were allocated at the start. Those that `Recorder` has allocated may not
                    // fit and are then dropped.
                    let _ = return_buffer.try_send(payload);
                }
                Err(TryRecvError::Empty) => std::thread::sleep(POLL_INTERVAL),
                Err(TryRecvError::Disconnected) => return sinks,
            }
        }
    })?;
    let drops = Arc::<RecorderDrops>::default();
    Ok((
        RecorderQueue { queue: queue.clone(), free_buffers, spare_buffer: None, drops: Arc::clone(&drops) },
        Recorder { queue, drops, thread },
    ))
}

impl Recorder {
    /// Waits until all packets are written and returns the sinks and the drop counts. Drop the [`RecorderQueue`] first.
    ///
    /// # Panics
    /// If the recorder thread panicked.
    pub fn finish(self) -> (AudioSinks, Arc<RecorderDrops>) {
        let Self { queue, drops, thread } = self;
        drop(queue);
        (thread.join(), drops)
    }
}

impl RecorderQueue {
    fn enqueue(&mut self, outcome: Option<PacketOutcome>, index: u64, bytes: &[u8]) {
        let mut payload = self.spare_buffer.take().or_else(|| self.free_buffers.try_recv().ok()).unwrap_or_default();
        payload.clear();
        payload.extend_from_slice(bytes);
        if let Err(TrySendError::Full(packet) | TrySendError::Disconnected(packet)) =
            self.queue.try_send(QueuedPacket { outcome, index, payload })
        {
            self.spare_buffer = Some(packet.payload);
            self.drops.count(outcome);
        }
    }
}

/// Whether the recorder needs the event.
fn is_recorded(event: &PacketEvent<'_>) -> bool {
    use PacketOutcome::{Damaged, Lost, Returned};
    event.packet.stream == StreamKind::Audio && matches!(event.packet.outcome, Returned | Damaged | Lost)
}

impl PacketObserver for RecorderQueue {
    fn on_audio_sent(&mut self, sent: SentAudio<'_>) {
        self.enqueue(None, sent.index, sent.payload);
    }

    fn on_packet(&mut self, event: PacketEvent<'_>) {
        if is_recorded(&event) {
            self.enqueue(Some(event.packet.outcome), event.index, event.payload);
        }
    }
}

impl PacketObserver for Recorder {
    fn on_packet(&mut self, event: PacketEvent<'_>) {
        let (outcome, index) = (Some(event.packet.outcome), event.index);
        if is_recorded(&event)
            && self.queue.send(QueuedPacket { outcome, index, payload: event.payload.to_vec() }).is_err()
        {
            self.drops.count(outcome);
        }
    }
}

const SENT_CHANNEL: usize = 0;
pub(super) const RETURNED_CHANNEL: usize = 1;

/// Interval at which the header is written again, so that the file of a killed process can be read up to its last second.
const HEADER_INTERVAL: Duration = Duration::from_secs(1);

/// A WAV file of the returned audio, or of sent and returned audio. The file is written by seeking: packets in any order, each at the
/// position of the sent packet. Gaps in the file contain zeros, which are silence.
pub struct Recording {
    file: File,
    /// Sample rate and channels that the header states.
    pub(super) format: (u32, u16),
    /// The header was written.
    header_at: Instant,
    /// Channels of the file.
    channels: u16,
    /// Channels of the packets.
    packet_channels: u16,
    /// Whether one channel of the file contains the sent audio and the other the returned audio.
    has_both: bool,
    /// Samples per channel in each packet except the last.
    frame_samples: u32,
    /// Samples per channel up to the end of the last packet in the file.
    written_samples: u64,
    /// Packets beyond the maximum length of a WAV file.
    packets_left_out: u64,
    /// The first write error. After an error, nothing more is written.
    pub(super) error: Option<io::Error>,
    /// Buffer for a packet in the file.
    bytes: Vec<u8>,
}

/// Length of a finished recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingSummary {
    /// Samples per channel.
    pub samples: u64,
    /// Packets left out because the file reached the maximum length of a WAV file.
    pub packets_left_out: u64,
}

impl Recording {
    /// Creates a file for the returned audio.
    pub fn of_returned(path: &Path, config: AudioStreamConfig) -> io::Result<Self> {
        Self::create(path, config, false)
    }

    /// Creates a file for the sent audio (left) and the returned audio (right). Stereo packets are averaged to mono.
    pub fn of_both(path: &Path, config: AudioStreamConfig) -> io::Result<Self> {
        Self::create(path, config, true)
    }

    fn create(path: &Path, config: AudioStreamConfig, has_both: bool) -> io::Result<Self> {
        let mut file = files::create_locked(path, files::private_options().read(true).write(true))?;
        // Rejects pipes and terminals before the run.
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file; a regular file is required because packets are written in any order",
            ));
        }
        let AudioStreamConfig { sample_rate, frame_samples, channels: packet_channels, .. } = config;
        let channels = if has_both { 2 } else { packet_channels };
        file.write_all(&wav_header(sample_rate, channels, 0))?;
        Ok(Self {
            file,
            format: (sample_rate, channels),
            header_at: Instant::now(),
            channels,
            packet_channels,
            has_both,
            frame_samples,
            written_samples: 0,
            packets_left_out: 0,
            error: None,
            bytes: Vec::new(),
        })
    }

    /// Bytes per frame.
    fn frame_bytes(&self) -> u64 {
        u64::from(self.channels) * BYTES_PER_SAMPLE as u64
    }

    /// Maximum number of samples per channel in a WAV file, which has 32-bit lengths.
    fn max_samples(&self) -> u64 {
        (u64::from(u32::MAX) - 1_024) / self.frame_bytes()
    }

    /// Writes the audio of a packet. A packet that would end beyond the maximum length is left out. `side` selects the channel of a
    /// recording of both.
    pub(super) fn write(&mut self, index: u64, side: usize, samples: &[f32]) {
        let position = index.saturating_mul(u64::from(self.frame_samples));
        let count = (samples.len() / usize::from(self.packet_channels.max(1))) as u64;
        if position.saturating_add(count) > self.max_samples() {
            self.packets_left_out += 1;
        } else if self.error.is_none() {
            let written = self.write_at(position, side, samples).and_then(|()| {
                self.written_samples = self.written_samples.max(position + count);
                let is_due = self.header_at.elapsed() >= HEADER_INTERVAL;
                if is_due { self.write_header(self.written_samples) } else { Ok(()) }
            });
            self.error = written.err();
        }
    }

    fn write_at(&mut self, position: u64, side: usize, samples: &[f32]) -> io::Result<()> {
        let start = SeekFrom::Start(WAV_HEADER_LEN as u64 + position * self.frame_bytes());
        self.bytes.clear();
        if self.has_both {
            let (frame, sample) = (self.frame_bytes() as usize, BYTES_PER_SAMPLE);
            let sent = samples.chunks_exact(self.packet_channels.max(1).into());
            // The other side may already be in the file.
            let len = sent.len() * frame;
            self.file.seek(start)?;
            (&self.file).take(len as u64).read_to_end(&mut self.bytes)?;
            self.bytes.resize(len, 0);
            for (frame, values) in self.bytes.chunks_exact_mut(frame).zip(sent) {
                let mean = values.iter().sum::<f32>() / values.len() as f32;
                frame[side * sample..][..sample].copy_from_slice(&mean.to_le_bytes());
            }
        } else {
            encode_payload(samples, &mut self.bytes);
        }
        self.file.seek(start)?;
        self.file.write_all(&self.bytes)
    }

    /// Completes the file so that it contains `sent_samples` samples per channel, but at most `max_samples`. Missing packets are silent,
    /// even at the end. If writing failed, the error names the readable part of the file.
    pub fn finish(&mut self, sent_samples: u64) -> Result<RecordingSummary, String> {
        let samples = sent_samples.min(self.max_samples());
        let Err(error) = self.error.take().map_or_else(|| self.complete(samples), Err) else {
            return Ok(RecordingSummary { samples, packets_left_out: self.packets_left_out });
        };
        let written = self.written_samples.min(samples);
        Err(if self.complete(written).is_ok() {
            let (rate, channels) = self.format;
            let frames = written * u64::from(self.channels) / u64::from(channels);
            let seconds = frames as f64 / f64::from(rate);
            format!("{error}; the file contains the first {seconds:.3} s, {frames} samples")
        } else {
            format!("{error}; the header could not be written either, so the file may appear shorter than it is")
        })
    }

    /// Gives the file its final length and stores it permanently.
    fn complete(&mut self, samples: u64) -> io::Result<()> {
        self.file.set_len(WAV_HEADER_LEN as u64 + samples * self.frame_bytes())?;
        self.write_header(samples)?;
        self.file.sync_all()
    }

    fn write_header(&mut self, samples: u64) -> io::Result<()> {
        let (rate, channels) = self.format;
        let len = samples * self.frame_bytes();
        let whole_frames = len - len % (u64::from(channels) * BYTES_PER_SAMPLE as u64);
        self.header_at = Instant::now();
        self.file.rewind()?;
        self.file.write_all(&wav_header(rate, channels, whole_frames as u32))
    }
}
