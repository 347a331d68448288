//! Where the AUDIO packets of a client belong in a recording.
//!
//! The packets decide. Their timestamps give the position, so that the silence between two utterances is as long in the recording as it was,
//! and the ratio of length and advance gives the number of channels. LATENCY_INFO describes the client's device, and only fills gaps.
//!
//! Positions count the samples of all channels. Each follows from that of the newest packet, so that the basis may change from packet to packet.

use std::time::Duration;

use crate::time::Time;

/// Maximum silence between two packets. Besides, the silence of a recording is longer than its duration by at most this time, so that wrong
/// timestamps do not fill the disk.
pub const MAX_SILENCE: Duration = Duration::from_secs(60);

/// Maximum number of packets that a packet may be late, or that may be lost before it if the sequence is to be trusted.
const MAX_PACKETS: i64 = 128;

/// Maximum number of channels, unless LATENCY_INFO states more: a timestamp that counts packets looks like one of many channels.
pub const MAX_CHANNELS: u32 = 8;

/// One of them is the rate of a client without LATENCY_INFO. The first one is assumed until that is known.
pub const STANDARD_RATES: [u32; 3] = [48_000, 44_100, 96_000];

/// After this number of packets in a row whose timestamps do not agree with the lengths, the timestamps are not used.
const MAX_DISAGREEMENTS: u32 = 8;

/// The sample rate is measured between pauses. The measurement must take `MIN_MEASURED` and be within 1 % of a standard rate.
const PAUSE: Duration = Duration::from_millis(50);
const MIN_MEASURED: Duration = Duration::from_secs(2);

/// The number of channels of packets with this number of samples of all channels, after which the timestamp has advanced by `advance`.
pub fn channels_of(samples: u32, advance: u32) -> Option<u32> {
    samples.checked_div(advance).filter(|channels| *channels > 0 && samples.is_multiple_of(advance))
}

/// An AUDIO packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct AudioPacket {
    /// When it was received.
    pub at: Time,
    /// The sequence number of its header.
    pub sequence: u32,
    /// The timestamp of its header.
    pub timestamp: u32,
    /// Number of samples of all channels.
    pub samples: u16,
}

/// What the position of a packet follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Its timestamp.
    Timestamp,
    /// Its sequence number, because timestamps and lengths disagree, or before they can be compared.
    Sequence,
    /// The order of arrival, because neither can be used.
    Arrival,
}

/// Sample rate and number of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedFormat {
    /// Samples per second and channel.
    pub rate: u32,
    /// Number of channels.
    pub channels: u8,
}

/// The positions in one recording.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// The format according to LATENCY_INFO.
    pub announced: Option<PlacedFormat>,
    /// The first packet was received.
    start: Time,
    /// The packet with the highest position, and this position.
    newest: AudioPacket,
    position: i64,
    /// Where the last sample ends.
    end: i64,
    /// Samples of silence before packets.
    silence: i64,
    channels: Option<i64>,
    /// Number of samples of the shortest and of the longest packet.
    shortest: i64,
    longest: i64,
    /// Packets in a row whose timestamps do not agree with the lengths.
    disagreements: u32,
    /// Whether packets with consecutive sequences, or with timestamps that agree, have come. Otherwise, no step means a restart.
    is_ordered: bool,
    /// When and at which position the last pause ended, and duration and samples of the longest time without a pause.
    resumed: (Time, i64),
    measured: (Duration, i64),
    /// Number of packets by basis.
    counts: [u64; 3],
}

impl Placement {
    /// The first packet, which has the position 0.
    pub fn new(first: AudioPacket, announced: Option<PlacedFormat>) -> Self {
        let samples = i64::from(first.samples);
        Self {
            announced,
            start: first.at,
            newest: first,
            end: samples,
            shortest: samples,
            longest: samples,
            resumed: (first.at, 0),
            ..Self::default()
        }
    }

    /// The position of the next packet, which is negative if it belongs before the first one. `None` if it begins another recording: the
    /// client has started again or changed its channels.
    pub fn place(&mut self, packet: AudioPacket) -> Option<i64> {
        let ahead = i64::from(packet.sequence.wrapping_sub(self.newest.sequence).cast_signed());
        let advance = i64::from(packet.timestamp.wrapping_sub(self.newest.timestamp).cast_signed());
        let previous = i64::from(self.newest.samples);
        let is_late = ahead <= 0 && advance <= 0;
        if !is_late && self.compare(ahead, advance) {
            return None;
        }

        let left = self.silence_left(packet.at);
        let is_near = |step: i64| (previous..=previous + left).contains(&step);
        let by_timestamp = self.channels.filter(|_| self.disagreements < MAX_DISAGREEMENTS).map(|it| it * advance);
        let by_timestamp =
            by_timestamp.filter(|step| is_near(*step) || is_late && *step >= -MAX_PACKETS * self.longest);
        // What looks like a duplicate is the next packet of a client whose headers never change.
        let is_repeated = (-MAX_PACKETS..i64::from(self.is_ordered)).contains(&ahead);
        let by_sequence = Some(ahead * previous).filter(|step| is_near(*step) || is_repeated);
        let by_arrival = (!self.is_ordered).then_some(self.end - self.position);
        let bases = [(Basis::Timestamp, by_timestamp), (Basis::Sequence, by_sequence), (Basis::Arrival, by_arrival)];
        let (basis, step) = bases.into_iter().find_map(|(basis, step)| Some((basis, step?)))?;

        let position = self.position + step;
        let samples = i64::from(packet.samples);
        self.counts[basis as usize] += 1;
        (self.shortest, self.longest) = (self.shortest.min(samples), self.longest.max(samples));
        if step > 0 {
            if basis != Basis::Arrival {
                self.silence += step - previous;
            }
            if packet.at.duration_since(self.newest.at) >= PAUSE {
                self.resumed = (packet.at, position);
            }
            let (at, from) = self.resumed;
            self.measured = self.measured.max((packet.at.duration_since(at), position - from));
            (self.newest, self.position) = (packet, position);
        }
        self.end = self.end.max(position + samples);
        Some(position)
    }

    /// Compares timestamp and length of the newest packet with the next one. Between them may be lost packets, each between the shortest and the
    /// longest one. Returns whether the number of channels has changed.
    fn compare(&mut self, ahead: i64, advance: i64) -> bool {
        let lost = if (1..=MAX_PACKETS).contains(&ahead) { ahead - 1 } else { 0 };
        let (shortest, longest, previous) = (self.shortest, self.longest, i64::from(self.newest.samples));
        let agrees = |channels: &i64| (lost * shortest..=lost * longest).contains(&(advance * channels - previous));
        self.is_ordered |= ahead == 1;
        if self.channels.is_some_and(|channels| agrees(&channels)) {
            (self.disagreements, self.is_ordered) = (0, true);
            return false;
        }
        // With lost packets of unknown lengths, another number of channels could fit.
        let is_certain = lost == 0 || shortest == longest;
        let channels = channels_of(((lost + 1) * previous) as u32, u32::try_from(advance).unwrap_or(0));
        let is_possible = |it: &i64| is_certain && *it <= MAX_CHANNELS.into() && previous % it == 0;
        let channels = channels.map(i64::from).filter(is_possible);
        if self.channels.is_none() && channels.is_some() {
            (self.channels, self.disagreements, self.is_ordered) = (channels, 0, true);
            return false;
        }
        // A client may drop what it cannot send in time: the timestamps count that, too.
        if channels.is_some() || self.channels.is_none_or(|channels| advance * channels <= previous + lost * longest) {
            self.disagreements = self.disagreements.saturating_add(1);
        }
        self.disagreements >= MAX_DISAGREEMENTS && channels.is_some()
    }

    /// Number of samples of silence that may precede a packet.
    fn silence_left(&self, at: Time) -> i64 {
        let PlacedFormat { rate, .. } = self.format();
        let per_second = i64::from(rate) * self.channels.unwrap_or(2);
        let samples = |duration: Duration| (duration.as_secs_f64() * per_second as f64) as i64;
        let most = samples(MAX_SILENCE);
        (most + samples(at.duration_since(self.start)) - self.silence).clamp(0, most)
    }

    /// Where the last sample ends.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// What the positions of most packets follow from.
    pub fn basis(&self) -> Basis {
        let bases = [Basis::Arrival, Basis::Sequence, Basis::Timestamp];
        bases.into_iter().max_by_key(|basis| self.counts[*basis as usize]).unwrap_or(Basis::Timestamp)
    }

    /// The format, according to the packets so far. If the announced rate is far from the measured one, the packets contain something else: for
    /// example, timestamps that count the samples of both channels.
    pub fn format(&self) -> PlacedFormat {
        let announced = self.announced.filter(|it| it.channels > 0 && self.longest % i64::from(it.channels) == 0);
        let channels = self.channels.map_or(announced.map_or(1, |it| it.channels), |it| it as u8);
        let (duration, samples) = self.measured;
        let measured = samples as f64 / f64::from(channels) / duration.as_secs_f64();
        let is_near = |rate: &u32| duration >= MIN_MEASURED && (measured / f64::from(*rate) - 1.0).abs() < 0.01;
        let standard = STANDARD_RATES.into_iter().find(is_near);
        let announced = self.announced.map(|it| it.rate);
        let is_wrong = announced.zip(standard).is_some_and(|(one, other)| one.max(other) > one.min(other) / 2 * 3);
        let rate = announced.filter(|_| !is_wrong).or(standard).unwrap_or(STANDARD_RATES[0]);
        PlacedFormat { rate, channels }
    }
}
