//! The AUDIO stream of one source: sequences, timestamps, lengths, pace and samples.

use std::time::Duration;

use jamjam_core::stats::{DriftEstimator, Jitter, SequenceArrival, SequenceTracker};
use jamjam_core::time::{NANOS_PER_SECOND, Time};
use jamjam_core::wire::Header;

use super::pacing::GroupDetector;
use super::rules::{EvidenceList, RuleId};
use super::samples::SampleCheck;

/// Number of equal steps of the sequence that are no loss.
const WRONG_STEPS: u32 = 30;

/// A longer time without AUDIO interrupts the stream, and neither counts as time of AUDIO nor affects the drift.
pub(super) const MAX_SILENCE: Duration = Duration::from_millis(500);

/// How long packets may contradict LATENCY_INFO: at the start, because packets overtake each other, and after a change of the format, because
/// LATENCY_INFO is repeated every 5 s and one may be lost.
const FORMAT_DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(11)];

/// The properties of the AUDIO according to LATENCY_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) frame_size: u32,
    pub(super) sample_rate: u32,
    pub(super) channels: Option<u8>,
    /// Whether the payload is float samples.
    pub(super) is_pcm: bool,
}

/// A packet whose successor is awaited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Previous {
    pub(super) header: Header,
    pub(super) payload_len: usize,
    pub(super) at: Time,
}

/// The AUDIO stream of one source.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamCheck {
    pub(super) packets: u64,
    pub(super) late: u64,
    pub(super) sequences: SequenceTracker,
    pub(super) previous: Option<Previous>,
    /// The last difference of two sequences other than 1, and how often it occurred in a row.
    wrong_step: (u32, u32),
    /// The newest sequence that is too old for the window.
    old: Option<u32>,
    /// Time of AUDIO without interruptions.
    pub(super) duration: Duration,
    format_matched: bool,
    mismatch_since: Option<Time>,
    /// The timestamp without wrapping.
    position: u64,
    /// With the sample rate for which it is valid.
    pub(super) drift: Option<(u32, DriftEstimator)>,
    pub(super) jitter: Jitter,
    groups: GroupDetector,
    samples: SampleCheck,
}

impl StreamCheck {
    /// Channels according to LATENCY_INFO, otherwise to the last packet.
    pub(super) fn channels(&self, format: Option<Format>) -> Option<usize> {
        let Format { frame_size, channels, .. } = format?;
        let counted = || Some(self.previous?.payload_len / 4).map(|samples| samples / frame_size.max(1) as usize);
        channels.map(usize::from).or_else(counted).filter(|channels| *channels > 0)
    }

    /// LATENCY_INFO was received with another content than before.
    pub(super) fn on_format_change(&mut self) {
        self.mismatch_since = None;
    }

    /// A new link was agreed: sequences may start again.
    pub(super) fn restart(&mut self) {
        self.sequences.restart();
        self.previous = None;
        if let Some((_, drift)) = &mut self.drift {
            drift.on_discontinuity();
        }
    }

    /// Judges a packet.
    pub(super) fn on_packet(
        &mut self,
        at: Time,
        (header, payload): (Header, &[u8]),
        format: Option<Format>,
        evidence: &mut EvidenceList,
    ) {
        self.packets += 1;
        let Header { sequence, timestamp, .. } = header;
        let previous = self.previous.replace(Previous { header, payload_len: payload.len(), at });
        let step = previous.map(|previous| sequence.wrapping_sub(previous.header.sequence));
        let advance = previous.map(|previous| timestamp.wrapping_sub(previous.header.timestamp));
        let silence = previous.map_or(Duration::MAX, |previous| at.duration_since(previous.at));
        if silence < MAX_SILENCE {
            self.duration += silence;
        }
        self.judge_sequence(header, step, evidence);
        if step == Some(0) && advance != Some(0) {
            evidence.add(RuleId::SequenceRepeated, || ("an advance by 1".to_owned(), format!("{sequence} again")));
        }
        let is_pcm = format.is_none_or(|format| format.is_pcm);
        if is_pcm && let (Some(1), Some(previous)) = (step, previous) {
            self.judge_format(at, (previous, timestamp), format, evidence);
        }
        if is_pcm && payload.len().is_multiple_of(4) && !payload.is_empty() {
            let channels = self.channels(format).unwrap_or(1);
            self.samples.on_payload(at, payload, channels, |(rule, expected, received)| {
                evidence.add(rule, || (expected.to_owned(), received));
            });
        }
        self.judge_pace(at, timestamp, (advance, silence), format, evidence);
    }

    fn judge_sequence(&mut self, header: Header, step: Option<u32>, evidence: &mut EvidenceList) {
        let sequence = header.sequence;
        let newest = self.sequences.newest();
        match self.sequences.record(sequence) {
            SequenceArrival::Late => self.late += 1,
            SequenceArrival::Start if self.packets == 1 && sequence > 1 => {
                evidence.add(RuleId::FirstSequence, || ("0 or 1".to_owned(), sequence.to_string()));
            }
            SequenceArrival::Start if newest.is_some() => {
                let last = newest.unwrap_or(0).wrapping_add(1);
                evidence.add(RuleId::SequenceRestart, || (last.to_string(), sequence.to_string()));
            }
            // Two old packets in order are no late packets.
            SequenceArrival::TooOld if self.old.replace(sequence) == Some(sequence.wrapping_sub(1)) => {
                let last = newest.unwrap_or(0).wrapping_add(1);
                evidence.add(RuleId::SequenceRestart, || (last.to_string(), sequence.to_string()));
                self.sequences.restart();
                self.sequences.record(sequence);
            }
            _ => {}
        }
        match step {
            Some(1) | None => self.wrong_step.1 = 0,
            Some(step) if step == self.wrong_step.0 => self.wrong_step.1 += 1,
            Some(step) => self.wrong_step = (step, 1),
        }
        if let (step @ 1.., WRONG_STEPS..) = self.wrong_step {
            let order = if step == 1_u32.swap_bytes() { ", so it is little-endian" } else { "" };
            evidence
                .add(RuleId::SequenceStep, || ("an advance by 1".to_owned(), format!("{}{order}", step.cast_signed())));
        }
    }

    /// Judges a packet, after which the next one has the timestamp `next`.
    fn judge_format(
        &mut self,
        at: Time,
        (previous, next): (Previous, u32),
        format: Option<Format>,
        evidence: &mut EvidenceList,
    ) {
        let (len, timestamp) = (previous.payload_len, previous.header.timestamp);
        let advance = next.wrapping_sub(timestamp);
        let reversed = next.swap_bytes().wrapping_sub(timestamp.swap_bytes());
        if len == 0 || !len.is_multiple_of(4) {
            return evidence
                .add(RuleId::PayloadLength, || ("a multiple of 4 bytes".to_owned(), format!("{len} bytes")));
        }
        let (samples, step) = (len as u64 / 4, u64::from(advance));
        let is_part = |step: u64| step > 0 && samples.is_multiple_of(step);
        let bytes = |channels: u64, size: u64| format!("{} bytes", 4 * channels * size);
        let wrong_step = |expected: String| {
            let order = if is_part(reversed.into()) && !is_part(step) { ", so it is little-endian" } else { "" };
            (RuleId::TimestampStep, expected, format!("{}{order}", advance.cast_signed()))
        };
        let Some(Format { frame_size, channels, .. }) = format else {
            if !is_part(step) {
                let (rule, expected, received) = wrong_step(format!("{samples}, or less for several channels"));
                evidence.add(rule, || (expected, received));
            }
            return;
        };
        let size = u64::from(frame_size.max(1));
        let fits = channels.map_or(samples.is_multiple_of(size), |channels| samples == size * u64::from(channels));
        if fits && step == size {
            (self.format_matched, self.mismatch_since) = (true, None);
            return;
        }
        let since = *self.mismatch_since.get_or_insert(at);
        if at.duration_since(since) < FORMAT_DELAYS[usize::from(self.format_matched)] {
            return;
        }
        let (rule, expected, received) = match channels.map(u64::from) {
            _ if fits => wrong_step(size.to_string()),
            Some(channels) if step == size => (RuleId::ChannelCount, bytes(channels, size), format!("{len} bytes")),
            Some(channels) if samples == step * channels => (RuleId::FrameSize, step.to_string(), size.to_string()),
            None if step != size && is_part(step) => (RuleId::FrameSize, step.to_string(), size.to_string()),
            channels => (RuleId::PayloadLength, bytes(channels.unwrap_or(1), size), format!("{len} bytes")),
        };
        evidence.add(rule, || (expected, received));
    }

    /// Only packets that are newer than all others have a pace.
    fn judge_pace(
        &mut self,
        at: Time,
        timestamp: u32,
        (advance, silence): (Option<u32>, Duration),
        format: Option<Format>,
        evidence: &mut EvidenceList,
    ) {
        let Some(Format { sample_rate: rate @ 1.., frame_size, .. }) = format else { return };
        let ahead = timestamp.wrapping_sub(self.position as u32).cast_signed();
        let is_interrupted = advance.is_none() || silence >= MAX_SILENCE || ahead.unsigned_abs() > rate;
        if ahead <= 0 && !is_interrupted {
            return;
        }
        if self.drift.as_ref().is_none_or(|(of_rate, _)| *of_rate != rate) {
            self.drift = Some((rate, DriftEstimator::new(rate)));
            self.jitter = Jitter::default();
        }
        let Some((_, drift)) = &mut self.drift else { return };
        if is_interrupted {
            drift.on_discontinuity();
        }
        // A position far below zero cannot occur: it begins with the first timestamp plus 2^32.
        self.position = if self.position == 0 {
            u64::from(timestamp) + (1 << 32)
        } else {
            self.position.saturating_add_signed(ahead.into())
        };
        drift.on_position(self.position, at);
        let audio_ns = u128::from(self.position) * u128::from(NANOS_PER_SECOND) / u128::from(rate);
        if is_interrupted {
            self.jitter.skip();
        }
        self.jitter.on_transit(at.as_nanos().wrapping_sub(audio_ns as u64).cast_signed());
        let packet_ns = u64::from(frame_size) * NANOS_PER_SECOND / u64::from(rate);
        if let Some(size) = self.groups.on_arrival(at, packet_ns) {
            let group_ms = size as f64 * packet_ns as f64 / 1e6;
            let received = format!("groups of {size} every {group_ms:.1} ms");
            evidence.add(RuleId::Pacing, || (format!("a packet every {:.2} ms", packet_ns as f64 / 1e6), received));
        }
    }
}
