//! The workload of `send` and `load-echo`: AUDIO on an absolute schedule or as a live source delivers it and, as a jamjam client does, LATENCY_PING and
//! KEEPALIVE every second, and LATENCY_INFO once.

use std::time::Duration;

use super::reply::{reply_digest, write_request};
use super::results::{AudioResults, CaptureResults, RunKind};
use super::run::{ClientNode, Workload, WorkloadStep};
use super::schedule::{Schedule, overdue};
use super::sent_packets::PacketTracker;
use super::stream_kind::StreamKind;
use jamjam_core::audio::quality::SourceQuality;
use jamjam_core::node::{DriverWaker, MAX_SENDS_PER_POLL, SendStatus, Transmit, TransmitSink};
use jamjam_core::time::{Time, saturating_nanos};
use jamjam_core::wire::{HEADER_LEN, Header, LatencyInfo, PacketType};

/// Interval of KEEPALIVE and LATENCY_PING.
const PERIODIC_PACKET_INTERVAL: Duration = Duration::from_secs(1);

/// Time until a source without ready samples is polled again.
const SOURCE_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// A client that sends audio.
pub type AudioSender<S> = ClientNode<AudioWorkload<S>>;

/// Format of the audio and of its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioStreamConfig {
    /// Sample rate in Hz.
    pub sample_rate: u32,
    /// Number of interleaved channels.
    pub channels: u16,
    /// Samples per channel in each packet.
    pub frame_samples: u32,
    /// Sequence number of the first packet.
    pub first_sequence: u32,
}

/// Result of polling a [`PayloadSource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePoll {
    /// [`PayloadSource::poll_next`] appended the payload of the next packet.
    Ready,
    /// The next payload is not ready.
    Pending,
    /// There are no more payloads.
    End,
}

/// Supplies the payloads of AUDIO packets. Each payload has the frame length of the stream, except that the last may be shorter.
///
/// A *live* source delivers audio at its own rate: a packet has no scheduled time, but is due as soon as its last sample has been captured.
/// A pending packet is therefore no underrun.
pub trait PayloadSource {
    /// Appends the next payload in wire format to `payload`.
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll;

    /// Called when the first packet is due. A live source starts capturing.
    fn start(&mut self) {}

    /// Time since the capture of the last sample in the newest payload; `None` if the source is not live.
    fn capture_age(&self) -> Option<Duration> {
        None
    }

    /// Wakes the driver when a live source has the next payload.
    fn waker(&self) -> Option<&DriverWaker> {
        None
    }

    /// Configuration and counters of the microphone; `None` if the source is not a microphone.
    fn capture_results(&self) -> Option<CaptureResults> {
        None
    }

    /// Quality of the audio before conversion, up to the last payload from [`PayloadSource::poll_next`].
    fn source_quality(&self) -> Option<SourceQuality> {
        None
    }
}

/// Sends the audio of a [`PayloadSource`], and periodically LATENCY_PING and KEEPALIVE (LATENCY_INFO only once).
pub struct AudioWorkload<S: ?Sized> {
    source: Box<S>,
    /// The results so far, except what the source knows. `sent_samples` is the position in the stream.
    results: AudioResults,
    audio_schedule: Schedule,
    periodic_schedule: Schedule,
    /// Number of periods whose periodic packets have all been sent.
    periods_sent: u64,
    /// LATENCY_PING, then KEEPALIVE, then in the first period LATENCY_INFO, which is `None`.
    next_periodic: Option<StreamKind>,
    periodic_datagram: Vec<u8>,
    /// The next AUDIO datagram, prepared before it is due; empty until then.
    next_datagram: Vec<u8>,
    next_digest: u64,
    next_datagram_due: Time,
    /// When the source ended. Periodic packets that are due after this time are not sent.
    source_ended: Option<Time>,
    /// Whether the socket would not take the next packet.
    is_blocked: bool,
    /// When to poll a pending source again.
    retry_at: Option<Time>,
    /// When the source was last polled and had no payload ready. Every packet that was due by this time is an underrun.
    starved_at: Option<Time>,
}

impl<S: PayloadSource + ?Sized> AudioWorkload<S> {
    /// Creates a workload that sends the payloads of `source`.
    pub fn new(config: AudioStreamConfig, source: Box<S>) -> Self {
        let AudioStreamConfig { sample_rate, channels, frame_samples, first_sequence } = config;
        Self {
            source,
            results: AudioResults { sample_rate, channels, frame_samples, first_sequence, ..AudioResults::default() },
            audio_schedule: Schedule::from_sample_rate(Time::ZERO, sample_rate),
            periodic_schedule: Schedule::from_interval(Time::ZERO, saturating_nanos(PERIODIC_PACKET_INTERVAL)),
            periods_sent: 0,
            next_periodic: Some(StreamKind::Ping),
            periodic_datagram: Vec::new(),
            next_datagram: Vec::new(),
            next_digest: 0,
            next_datagram_due: Time::ZERO,
            source_ended: None,
            is_blocked: false,
            retry_at: None,
            starved_at: None,
        }
    }

    /// Prepares the next AUDIO datagram, so that it only has to be sent when it is due.
    fn prepare_next(&mut self, now: Time, tracker: &PacketTracker) -> SourcePoll {
        let (sequence, position) = (tracker.next_sequence(StreamKind::Audio), self.results.sent_samples);
        let header = Header::new(PacketType::Audio, sequence, position as u32);
        self.next_datagram.clear();
        self.next_datagram.extend_from_slice(&header.to_bytes());
        let poll = self.source.poll_next(&mut self.next_datagram);
        if poll == SourcePoll::Ready {
            self.next_digest = reply_digest(&self.next_datagram);
            self.next_datagram_due = match self.source.capture_age() {
                // `now` and the capture age come from separate clock readings, but due times must not decrease.
                Some(age) => now.saturating_sub(age).max(self.next_datagram_due),
                None => self.audio_schedule.due(position),
            };
            return poll;
        }
        self.next_datagram.clear();
        if poll == SourcePoll::End {
            self.source_ended = Some(now);
        } else if !self.is_live() {
            self.starved_at = Some(now);
        }
        poll
    }

    fn is_live(&self) -> bool {
        self.source.capture_age().is_some()
    }

    /// The time at which the next packet is due. Returns `None` while the sender waits for audio from a live source.
    fn next_due(&self) -> Option<Time> {
        if self.is_live() {
            return (!self.next_datagram.is_empty()).then_some(self.next_datagram_due);
        }
        Some(self.retry_at.unwrap_or_else(|| self.audio_schedule.due(self.results.sent_samples)))
    }

    fn send_audio(&mut self, now: Time, tracker: &mut PacketTracker, sink: &mut dyn TransmitSink) -> SendStatus {
        for _ in 0..MAX_SENDS_PER_POLL {
            if self.source_ended.is_some() || self.next_due().is_some_and(|due| due > now) {
                break;
            }
            if self.next_datagram.is_empty() {
                let poll = self.prepare_next(now, tracker);
                self.retry_at = (poll == SourcePoll::Pending).then(|| now + SOURCE_RETRY_INTERVAL);
                if poll != SourcePoll::Ready {
                    break;
                }
            }
            self.retry_at = None;
            let due = self.next_datagram_due;
            // After a pause of this host, the source may need time to catch up.
            let has_resumed = tracker.hosts.this.resumed_at().is_some_and(|at| at > due);
            let is_underrun = !has_resumed && self.starved_at.is_some_and(|at| due <= at);
            let packet_duration = self.audio_schedule.duration(self.results.frame_samples.into());
            // A live source goes on with its own clock.
            let late = overdue(due, now, packet_duration).filter(|_| !self.is_live());
            let due = if late.is_some() && !self.is_blocked { now } else { due };
            let (datagram, digest) = (&self.next_datagram, self.next_digest);
            if tracker.send(StreamKind::Audio, (due, now), datagram, digest, sink) == SendStatus::WouldBlock {
                return SendStatus::WouldBlock;
            }
            self.is_blocked = false;
            self.results.underruns += u64::from(is_underrun);
            if let Some(late) = late {
                self.audio_schedule.delay(late);
                if is_underrun {
                    let paused_ns = &mut self.results.source_paused_ns;
                    *paused_ns = paused_ns.saturating_add(saturating_nanos(late));
                } else {
                    self.periodic_schedule.delay(late);
                    tracker.on_schedule_shift(late);
                }
            }
            let payload_len = self.next_datagram.len() - HEADER_LEN;
            self.results.payload_bytes = self.results.payload_bytes.max(payload_len as u32);
            self.results.sent_samples += (payload_len / (4 * usize::from(self.results.channels.max(1)))) as u64;
            self.prepare_next(now, tracker);
        }
        SendStatus::Sent
    }

    /// Sends the LATENCY_PING, KEEPALIVE and LATENCY_INFO that are due. If the socket would block, the next call sends the others.
    fn send_periodic(&mut self, now: Time, tracker: &mut PacketTracker, sink: &mut dyn TransmitSink) -> SendStatus {
        while self.periodic_schedule.due(self.periods_sent) <= self.source_ended.unwrap_or(now) {
            let due = self.periodic_schedule.due(self.periods_sent);
            if let Some(late) = overdue(due, now, PERIODIC_PACKET_INTERVAL) {
                self.periodic_schedule.delay(late);
            }
            let status = match self.next_periodic {
                None => {
                    let AudioResults { frame_samples, sample_rate, channels, .. } = self.results;
                    let latency_info = LatencyInfo::pcm_datagram(frame_samples, sample_rate, channels as u8);
                    sink.send(Transmit::datagram(tracker.config.peer, &latency_info))
                }
                Some(kind) => {
                    let digest = write_request(kind, now, tracker.next_sequence(kind), &mut self.periodic_datagram);
                    tracker.send(kind, (due, now), &self.periodic_datagram, digest, sink)
                }
            };
            if status == SendStatus::WouldBlock {
                return status;
            }
            self.next_periodic = match self.next_periodic {
                Some(StreamKind::Ping) => Some(StreamKind::Keepalive),
                Some(_) if self.periods_sent == 0 => None,
                _ => {
                    self.periods_sent += 1;
                    Some(StreamKind::Ping)
                }
            };
        }
        SendStatus::Sent
    }
}

impl<S: PayloadSource + ?Sized> Workload for AudioWorkload<S> {
    const RUN_KIND: RunKind = RunKind::Send;

    fn start(&mut self, now: Time, tracker: &PacketTracker) {
        self.audio_schedule = Schedule::from_sample_rate(now, self.results.sample_rate);
        self.periodic_schedule = Schedule::from_interval(now, saturating_nanos(PERIODIC_PACKET_INTERVAL));
        self.source.start();
        self.prepare_next(now, tracker);
    }

    fn poll_transmit(&mut self, now: Time, tracker: &mut PacketTracker, sink: &mut dyn TransmitSink) -> WorkloadStep {
        // Periodic packets are sent before `source_ended` is checked, so that a ping is sent even if the audio is a single packet.
        self.is_blocked = self.send_audio(now, tracker, sink) == SendStatus::WouldBlock
            || self.send_periodic(now, tracker, sink) == SendStatus::WouldBlock;
        if self.is_blocked {
            return WorkloadStep::WouldBlock;
        }
        if self.source_ended.is_some() {
            return WorkloadStep::Done;
        }
        let periodic = self.periodic_schedule.due(self.periods_sent);
        WorkloadStep::NextDue(self.next_due().map_or(periodic, |audio| audio.min(periodic)))
    }

    fn waker(&self) -> Option<&DriverWaker> {
        self.source.waker()
    }

    fn planned(&self) -> Duration {
        self.audio_schedule.duration(self.results.sent_samples)
    }

    fn audio_results(&self) -> Option<AudioResults> {
        let (capture, source_quality) = (self.source.capture_results(), self.source.source_quality());
        Some(AudioResults { capture, source_quality, ..self.results.clone() })
    }
}
