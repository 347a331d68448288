//! The workload of `probe`: one stream of small packets at a fixed interval.

use std::time::Duration;

use super::reply::reply_digest;
use super::results::{AudioResults, RunKind, StreamKind};
use super::run::{ClientNode, MAX_SENDS_PER_POLL, Workload, WorkloadStep};
use super::schedule::Schedule;
use super::sent_packets::PacketTracker;
use crate::node::{SendStatus, TransmitSink};
use crate::time::{Time, saturating_nanos};
use crate::wire::{Header, PacketType, PingPayload, SAMPLE_RATE};

/// A client that sends probe packets.
pub type Prober = ClientNode<ProbeWorkload>;

/// Parameters of the probe packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeConfig {
    /// Packet type to send.
    pub stream_kind: StreamKind,
    /// Number of packets to send; `None` for no limit.
    pub count: Option<u64>,
    /// Time between packets.
    pub interval: Duration,
    /// Payload length of AUDIO packets in bytes, rounded down to whole samples.
    pub payload_len: usize,
}

/// Sends the packets of a [`ProbeConfig`].
pub struct ProbeWorkload {
    config: ProbeConfig,
    /// Whether the packets are sent over a link. AUDIO is then stereo and numbered from 0, as jamjam clients send it.
    has_link: bool,
    schedule: Schedule,
    /// Requests that were sent or skipped.
    requests_sent: u64,
    datagram: Vec<u8>,
}

impl ProbeWorkload {
    /// Creates a workload; its schedule begins with [`Workload::start`].
    pub fn new(config: ProbeConfig) -> Self {
        let schedule = Schedule::from_interval(Time::ZERO, saturating_nanos(config.interval));
        Self { config, has_link: false, schedule, requests_sent: 0, datagram: Vec::new() }
    }

    /// Sends AUDIO in the format of a link, or not.
    #[must_use]
    pub fn with_link(self, has_link: bool) -> Self {
        Self { has_link, ..self }
    }

    fn channels(&self) -> usize {
        if self.has_link { 2 } else { 1 }
    }

    /// Writes the next packet into `self.datagram` and returns the digest of the expected reply.
    fn write_request(&mut self, now: Time, sequence: u32) -> u64 {
        self.datagram.clear();
        match self.config.stream_kind {
            StreamKind::Ping => {
                let ping = PingPayload { sent_time_us: now.as_micros(), sequence };
                self.datagram.extend_from_slice(&ping.to_ping_datagram());
                reply_digest(&ping.to_bytes())
            }
            StreamKind::Keepalive => {
                self.datagram.extend_from_slice(&Header::new(PacketType::Keepalive, sequence, 0).to_bytes());
                reply_digest(&self.datagram)
            }
            StreamKind::Audio => {
                let samples = self.config.payload_len / 4;
                let position = (self.requests_sent * (samples / self.channels()) as u64) as u32;
                self.datagram.extend_from_slice(&Header::new(PacketType::Audio, sequence, position).to_bytes());
                // Noise at or below -80 dBFS, seeded by the sequence number: inaudible, and different in every packet.
                let mut noise = sequence.wrapping_mul(0x9E37_79B9) | 1;
                for _ in 0..samples {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let sample = f32::from((noise >> 16) as u16 as i16) / 32_768.0 * 1e-4;
                    self.datagram.extend_from_slice(&sample.to_le_bytes());
                }
                reply_digest(&self.datagram)
            }
        }
    }
}

impl Workload for ProbeWorkload {
    const RUN_KIND: RunKind = RunKind::Probe;

    fn first_audio_sequence(&self) -> u32 {
        u32::from(!self.has_link)
    }

    fn start(&mut self, now: Time, _: &PacketTracker) {
        self.schedule = Schedule::from_interval(now, saturating_nanos(self.config.interval));
    }

    fn poll_transmit(&mut self, now: Time, tracker: &mut PacketTracker, sink: &mut dyn TransmitSink) -> WorkloadStep {
        let kind = self.config.stream_kind;
        for _ in 0..MAX_SENDS_PER_POLL {
            if self.config.count.is_some_and(|count| self.requests_sent >= count) {
                return WorkloadStep::Done;
            }
            let due = self.schedule.due(self.requests_sent);
            if due > now {
                return WorkloadStep::NextDue(due);
            }
            let expected_digest = self.write_request(now, tracker.next_sequence(kind));
            if PacketTracker::is_overdue(due, now, self.config.interval) {
                tracker.on_not_sent(kind, due, false, &self.datagram);
            } else if tracker.send(kind, (due, now), &self.datagram, expected_digest, sink) == SendStatus::WouldBlock {
                return WorkloadStep::WouldBlock;
            }
            self.requests_sent += 1;
        }
        WorkloadStep::NextDue(now)
    }

    fn is_endless(&self) -> bool {
        self.config.count.is_none()
    }

    fn audio_results(&self) -> Option<AudioResults> {
        (self.config.stream_kind == StreamKind::Audio).then(|| AudioResults {
            sample_rate: SAMPLE_RATE,
            channels: self.channels() as u16,
            frame_samples: (self.config.payload_len / 4 / self.channels()) as u32,
            payload_bytes: (self.config.payload_len / 4 * 4) as u32,
            ..AudioResults::default()
        })
    }
}
