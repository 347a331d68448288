//! The workload of `probe`: one stream of small packets at a fixed interval.

use std::time::Duration;

use super::reply::{reply_digest, write_request};
use super::results::{AudioResults, RunKind};
use super::run::{ClientNode, Workload, WorkloadStep};
use super::schedule::RequestSchedule;
use super::sent_packets::PacketTracker;
use super::stream_kind::StreamKind;
use jamjam_core::node::TransmitSink;
use jamjam_core::time::Time;
use jamjam_core::wire::{Header, PacketType, SAMPLE_RATE};

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
    /// Number of channels, and the sequence number of the first AUDIO packet.
    audio_form: (u32, u32),
    schedule: RequestSchedule,
    datagram: Vec<u8>,
}

impl ProbeWorkload {
    /// Creates a workload; its schedule begins with [`Workload::start`].
    pub fn new(config: ProbeConfig) -> Self {
        let schedule = RequestSchedule::new(config.count, config.interval);
        Self { config, audio_form: (1, 1), schedule, datagram: Vec::new() }
    }

    /// Over a link, AUDIO is stereo and numbered from 0, as jamjam clients send it.
    #[must_use]
    pub fn with_link(self, has_link: bool) -> Self {
        Self { audio_form: if has_link { (2, 0) } else { (1, 1) }, ..self }
    }
}

impl ProbeConfig {
    /// Writes the packet with this sequence number into `datagram` and returns the digest of the expected reply.
    fn write_request(&self, audio_form: (u32, u32), now: Time, sequence: u32, datagram: &mut Vec<u8>) -> u64 {
        if self.stream_kind != StreamKind::Audio {
            return write_request(self.stream_kind, now, sequence, datagram);
        }
        let samples = (self.payload_len / 4) as u32;
        let (channels, first_sequence) = audio_form;
        let position = sequence.wrapping_sub(first_sequence).wrapping_mul(samples / channels);
        datagram.clear();
        datagram.extend_from_slice(&Header::new(PacketType::Audio, sequence, position).to_bytes());
        // Noise at or below -80 dBFS, seeded by the sequence number: inaudible, and different in every packet.
        let mut noise = sequence.wrapping_mul(0x9E37_79B9) | 1;
        for _ in 0..samples {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let sample = f32::from((noise >> 16) as u16 as i16) / 32_768.0 * 1e-4;
            datagram.extend_from_slice(&sample.to_le_bytes());
        }
        reply_digest(datagram)
    }
}

impl Workload for ProbeWorkload {
    const RUN_KIND: RunKind = RunKind::Probe;

    fn start(&mut self, now: Time, _: &PacketTracker) {
        self.schedule.start(now);
    }

    fn poll_transmit(&mut self, now: Time, tracker: &mut PacketTracker, sink: &mut dyn TransmitSink) -> WorkloadStep {
        let Self { config, audio_form, schedule, datagram } = self;
        let kind = config.stream_kind;
        schedule.poll(now, tracker, |tracker, due| {
            let expected_digest = config.write_request(*audio_form, now, tracker.next_sequence(kind), datagram);
            tracker.send(kind, (due, now), datagram, expected_digest, sink)
        })
    }

    fn planned(&self) -> Duration {
        self.schedule.planned()
    }

    fn is_endless(&self) -> bool {
        self.config.count.is_none()
    }

    fn audio_results(&self) -> Option<AudioResults> {
        let samples = (self.config.payload_len / 4) as u32;
        let (channels, first_sequence) = self.audio_form;
        (self.config.stream_kind == StreamKind::Audio).then(|| AudioResults {
            sample_rate: SAMPLE_RATE,
            channels: channels as u16,
            frame_samples: samples / channels,
            payload_bytes: samples * 4,
            first_sequence,
            ..AudioResults::default()
        })
    }
}
