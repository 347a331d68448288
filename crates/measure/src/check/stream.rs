//! The AUDIO stream of one source: sequences, timestamps, lengths, pace and samples.
//!
//! The packets decide: their lengths, sequences, timestamps and arrivals must agree with each other. LATENCY_INFO describes the device of the
//! client, and only its sample rate is binding.

use std::time::Duration;

use jamjam_core::audio::placement::{MAX_CHANNELS, STANDARD_RATES, channels_of};
use jamjam_core::stats::{Arrivals, Jitter, SequenceArrival};
use jamjam_core::time::{NANOS_PER_SECOND, Time};
use jamjam_core::wire::{Header, LatencyInfo};

use super::pace::{MIN_PAUSE_NS, Pace};
use super::pacing::GroupDetector;
use super::rules::{Evidence, RuleId, Violations};
use super::samples::SampleCheck;

/// Number of equal steps of the sequence that are no loss.
pub(super) const WRONG_STEPS: u32 = 30;

/// The same packet comes so often, and for so long, only from the client.
const MIN_STUCK: (u64, Duration) = (100, Duration::from_secs(1));

/// Fewer wrong advances of the timestamp are no fault.
const MIN_WRONG_ADVANCES: u64 = 3;

/// A larger step of the sequence is no loss, even if the timestamps count as many packets: a little-endian header does so.
const MAX_LOST: u32 = 1_000;

/// A longer time without AUDIO is no time of AUDIO.
const MAX_SILENCE: Duration = Duration::from_millis(500);

/// Maximum error of a rate, in parts per million.
pub(super) const MAX_RATE_ERROR_PPM: f64 = 10_000.0;

/// A packet whose successor is awaited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Previous {
    pub(super) header: Header,
    payload_len: usize,
    at: Time,
}

/// The AUDIO stream of one source.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamCheck {
    pub(super) packets: u64,
    /// The properties of the AUDIO according to the last LATENCY_INFO, unless that is wrong.
    pub(super) format: Option<LatencyInfo>,
    /// Whether it began while the client was already sending to others.
    pub(super) is_late: bool,
    pub(super) arrivals: Arrivals,
    pub(super) previous: Option<Previous>,
    /// The last difference of two sequences that is no loss, how often it occurred in a row, and those of them that do not count yet.
    wrong_step: (u32, u32, Violations),
    /// Since when the last packet has come again and again, with those that do not count yet.
    stuck: Option<(Time, Violations)>,
    /// Time of AUDIO without interruptions.
    pub(super) duration: Duration,
    /// Pairs of packets with consecutive sequences.
    pub(super) pairs: u64,
    /// The fewest and the most samples of a packet.
    samples: Option<(u32, u32)>,
    /// Samples per channel and channels, from the last length that agrees with its timestamps.
    pub(super) agreed: Option<(u32, u32)>,
    /// Pairs whose timestamps advance by more than the length, without being ahead of time, and other pairs whose advance is wrong.
    skips: u64,
    wrong_advances: u64,
    /// Those of both that do not count yet.
    suspected: Violations,
    /// The timestamp without wrapping.
    position: Option<u64>,
    /// At the announced rate, or at all standard rates.
    paces: Vec<Pace>,
    pub(super) jitter: Jitter,
    /// Sum of the changes of the lateness.
    transit: i64,
    pub(super) packet_ns: u64,
    pub(super) groups: GroupDetector,
    pub(super) content: SampleCheck,
}

impl StreamCheck {
    /// Channels according to the packets, otherwise to LATENCY_INFO.
    pub(super) fn channels(&self) -> Option<usize> {
        let announced = || self.format.as_ref()?.channel_count.map(usize::from);
        self.agreed.map(|(_, channels)| channels as usize).or_else(announced)
    }

    /// The fewest and the most samples per channel of a packet.
    pub(super) fn frame_sizes(&self) -> Option<(u32, u32)> {
        let ((_, channels), (fewest, most)) = (self.agreed?, self.samples?);
        Some((fewest / channels, most / channels))
    }

    /// The pace at the announced rate, otherwise at the standard rate that is measured with certainty.
    pub(super) fn pace(&self) -> Option<&Pace> {
        if self.format.is_some() {
            return self.paces.first();
        }
        let is_certain = |pace: &&Pace| pace.drift.interval_ppm().is_some_and(is_right_rate);
        self.paces.iter().min_by_key(|pace| pace.mean_wander()).filter(is_certain)
    }

    /// The measured rate, if it is far from the announced one and from all standard rates: this does not take long to see.
    pub(super) fn wrong_rate(&self) -> Option<(u32, f64)> {
        let errors: Option<Vec<_>> = self.paces.iter().map(|pace| Some((pace.rate, pace.gross_error()?))).collect();
        let (rate, error) = errors?.into_iter().min_by(|one, other| one.1.abs().total_cmp(&other.1.abs()))?;
        Some((rate, f64::from(rate) * (1.0 + error)))
    }

    /// Whether the payload is float samples.
    pub(super) fn is_pcm(&self) -> bool {
        self.format.as_ref().is_none_or(|format| format.codec == "pcm")
    }

    /// LATENCY_INFO was received, which may be wrong.
    pub(super) fn on_format(&mut self, format: Option<LatencyInfo>) {
        self.format = format;
        let Some(LatencyInfo { sample_rate: rate, .. }) = self.format else { return };
        self.paces.retain(|pace| pace.rate == rate);
        if self.paces.is_empty() {
            self.paces.push(Pace::new(rate));
        }
    }

    /// A new link was agreed: sequences and timestamps may start again.
    pub(super) fn restart(&mut self) {
        self.arrivals.restart();
        self.previous = None;
        self.restart_pace();
    }

    fn restart_pace(&mut self) {
        self.position = None;
        self.paces.iter_mut().for_each(Pace::restart);
    }

    /// Whether the next `packets` packets may have so many samples per channel.
    fn is_possible(&self, packets: u32, samples: u32) -> bool {
        let (fewest, most) = self.samples.unwrap_or_default();
        let [fewest, most] = match self.agreed {
            Some((_, channels)) => [fewest, most].map(|samples| samples / channels),
            // Mono, stereo, or as announced.
            None => [(fewest / 2).min(self.format.as_ref().map_or(u32::MAX, |format| format.frame_size)), most],
        };
        let [least, greatest] = [fewest, most].map(|of_packet| u64::from(packets) * u64::from(of_packet));
        (1..MAX_LOST).contains(&packets) && (least..=greatest).contains(&samples.into())
    }

    /// Whether the stream may continue with `header`.
    pub(super) fn is_continued_by(&self, header: Header) -> bool {
        self.previous.is_some_and(|previous| {
            let samples = header.timestamp.wrapping_sub(previous.header.timestamp);
            samples > 0 && self.is_possible(header.sequence.wrapping_sub(previous.header.sequence), samples)
        })
    }

    /// Judges a packet.
    pub(super) fn on_packet(&mut self, at: Time, header: Header, payload_len: usize, evidence: &mut Evidence) {
        self.packets += 1;
        if self.paces.is_empty() {
            self.paces.extend(STANDARD_RATES.map(Pace::new));
        }
        let samples = (payload_len / 4) as u32;
        let (fewest, most) = self.samples.unwrap_or((samples, samples));
        self.samples = Some((fewest.min(samples), most.max(samples)));
        let Header { sequence, timestamp, .. } = header;
        let previous = self.previous.replace(Previous { header, payload_len, at });
        let step = previous.map(|previous| sequence.wrapping_sub(previous.header.sequence));
        let advance = previous.map_or(0, |previous| timestamp.wrapping_sub(previous.header.timestamp));
        let silence = previous.map_or(Duration::MAX, |previous| at.duration_since(previous.at));
        if silence < MAX_SILENCE {
            self.duration += silence;
        }
        let is_restart = self.judge_sequence(at, sequence, (step, advance), evidence);
        let (since, same) = self.stuck.get_or_insert((at, Violations::default()));
        match (step, advance) {
            (Some(0), 0) => {
                evidence.suspect(same);
                if same.count >= MIN_STUCK.0 && at.duration_since(*since) >= MIN_STUCK.1 {
                    let received = format_args!("{sequence} again, with the same timestamp");
                    evidence.add_all(std::mem::take(same), RuleId::SequenceRepeated, "an advance by 1", received);
                }
            }
            (Some(0), _) => evidence.add(RuleId::SequenceRepeated, "an advance by 1", format_args!("{sequence} again")),
            _ => self.stuck = None,
        }
        if is_restart || step == Some(1) && advance.cast_signed() <= 0 {
            self.restart_pace();
        }
        // A position far below zero cannot occur: it begins with the first timestamp plus 2^32.
        let newest = self.position.unwrap_or(u64::from(timestamp) + (1 << 32));
        let position = newest.saturating_add_signed(timestamp.wrapping_sub(newest as u32).cast_signed().into());
        let is_pcm = self.is_pcm();
        let is_pair = step == Some(1) && is_pcm;
        if let Some(previous) = previous.filter(|previous| is_pair && is_samples(previous.payload_len)) {
            let is_ahead = self.paces.iter().all(|pace| pace.is_ahead(position, at));
            self.judge_format((previous, timestamp), is_ahead, evidence);
        }
        if is_pcm && !is_samples(payload_len) {
            evidence.add(RuleId::PayloadLength, "a multiple of 4 bytes", format_args!("{payload_len} bytes"));
        }
        // Only packets that are newer than all others have a pace.
        if self.position.is_none_or(|newest| position > newest) {
            self.on_newest(at, position);
        }
    }

    /// Judges the sequence. Returns whether the client has started again.
    fn judge_sequence(
        &mut self,
        at: Time,
        sequence: u32,
        changes: (Option<u32>, u32),
        evidence: &mut Evidence,
    ) -> bool {
        let (step, advance) = changes;
        let newest = self.arrivals.sequences.newest();
        let arrival = self.arrivals.record(at, sequence);
        match (arrival, newest) {
            (SequenceArrival::Start(first), Some(newest)) => {
                evidence.add(RuleId::SequenceRestart, newest.wrapping_add(1), first);
            }
            (SequenceArrival::Start(first), None) if self.packets == 1 && first > 1 && !self.is_late => {
                evidence.add(RuleId::FirstSequence, "0 or 1", first);
            }
            _ => {}
        }
        // The timestamps count the packets that are missing, also from 65,535 to 0.
        let [is_next, is_wrapped] =
            [0, 1 << 16].map(|more| step.is_some_and(|step| self.is_possible(step.wrapping_add(more), advance)));
        match step {
            Some(2..) if is_wrapped || self.frame_sizes() == Some((advance, advance)) => {
                // Elsewhere than from 65,535 to 0, a single one may have another cause.
                let violations = Violations { count: if is_wrapped { 2 } else { 1 }, first: evidence.packet };
                let received = "another one, while the timestamps continue: too few bits, or shared with other packets";
                evidence.add_all(violations, RuleId::SequenceStep, "an advance by 1", received);
            }
            Some(step) if step != 1 && !is_next => {
                let (last, times, suspected) = &mut self.wrong_step;
                if step != *last {
                    (*last, *times, *suspected) = (step, 0, Violations::default());
                }
                *times += 1;
                evidence.suspect(suspected);
                if step > 0 && *times >= WRONG_STEPS {
                    let order = if step == 1_u32.swap_bytes() { ", so it is little-endian" } else { "" };
                    let received = format_args!("{}{order}", step.cast_signed());
                    evidence.add_all(std::mem::take(suspected), RuleId::SequenceStep, "an advance by 1", received);
                }
            }
            _ => self.wrong_step = Default::default(),
        }
        matches!(arrival, SequenceArrival::Start(_)) && newest.is_some()
    }

    /// Judges a packet, after which the next one has the timestamp `next`, which may be ahead of time.
    fn judge_format(&mut self, (previous, next): (Previous, u32), is_ahead: bool, evidence: &mut Evidence) {
        self.pairs += 1;
        let (len, timestamp) = (previous.payload_len, previous.header.timestamp);
        let (samples, advance) = ((len / 4) as u32, next.wrapping_sub(timestamp));
        let announced = self.format.as_ref().and_then(|info| Some((info.frame_size, u32::from(info.channel_count?))));
        let max_channels = announced.map_or(MAX_CHANNELS, |(_, channels)| channels.max(MAX_CHANNELS));
        let channels_at = |advance: u32| channels_of(samples, advance).filter(|channels| *channels <= max_channels);
        if let Some(channels) = channels_at(advance) {
            self.agreed = Some((advance, channels));
            return;
        }
        let known = self.agreed.or(announced);
        let expected = samples / known.map_or(1, |(_, channels)| channels.max(1));
        evidence.suspect(&mut self.suspected);
        // The timestamp counts on in a pause, and counts what the client has dropped before it was sent.
        let is_skip = advance.cast_signed() > expected.cast_signed() && !is_ahead;
        self.skips += u64::from(is_skip);
        let is_excused = is_skip && self.skips * 4 < self.pairs + 400;
        self.wrong_advances += u64::from(!is_excused);
        if is_excused || self.wrong_advances < MIN_WRONG_ADVANCES {
            return;
        }
        let violations = std::mem::take(&mut self.suspected);
        match announced {
            Some((size, channels)) if advance == size && samples != size.saturating_mul(channels) => {
                let expected = format!("{} bytes", 4 * u64::from(size) * u64::from(channels));
                evidence.add_all(violations, RuleId::PayloadLength, expected, format_args!("{len} bytes"));
            }
            _ => {
                let reversed = next.swap_bytes().wrapping_sub(timestamp.swap_bytes());
                let order = if channels_at(reversed).is_some() { ", so it is little-endian" } else { "" };
                let alternative = if known.is_none() { ", or less for several channels" } else { "" };
                let received = format_args!("{}{order}", advance.cast_signed());
                evidence.add_all(violations, RuleId::TimestampStep, format!("{expected}{alternative}"), received);
            }
        }
    }

    /// Records the pace of a packet that is newer than all others.
    fn on_newest(&mut self, at: Time, position: u64) {
        let advance = position - self.position.replace(position).unwrap_or(position);
        // The pace of the first rate is the last one.
        let change = self.paces.iter_mut().rev().fold(0, |_, pace| pace.on_packet(position, at));
        let rate = self.paces.first().map_or(STANDARD_RATES[0], |pace| pace.rate);
        let samples = self.agreed.map_or(advance, |(size, _)| size.into());
        self.packet_ns = samples * NANOS_PER_SECOND / u64::from(rate.max(1));
        if advance == 0 || change.abs() >= MIN_PAUSE_NS {
            self.jitter.skip();
            self.transit = 0;
        }
        self.transit += change;
        self.jitter.on_transit(self.transit);
        self.groups.on_arrival(at, self.packet_ns);
    }
}

/// Whether a rate within this interval of errors is right.
pub(super) fn is_right_rate(interval_ppm: [f64; 2]) -> bool {
    interval_ppm.iter().all(|ppm| ppm.abs() < MAX_RATE_ERROR_PPM)
}

/// Whether a payload has this length if it is samples.
pub(super) fn is_samples(len: usize) -> bool {
    len > 0 && len.is_multiple_of(4)
}
