//! The rules for clients, as one table, and the findings that follow from them.

use std::fmt::Display;

use serde::Serialize;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing, but no fault, or a fault of the network.
    Note,
    /// Probably a fault, or one that a listener may not hear.
    Warning,
    /// Contradicts the protocol.
    Error,
}

impl Severity {
    /// The name in reports and of the option.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A rule that a source violates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// [`Rule::id`].
    pub rule: &'static str,
    /// [`Rule::severity`].
    pub severity: Severity,
    /// The field, what was expected, and what came.
    pub message: String,
    /// Number of datagrams or messages, or of other events that the rule judges.
    pub count: u64,
    /// [`Rule::section`].
    pub section: &'static str,
    /// The first packet of several, if it is one packet that violates the rule.
    pub first: Option<FirstPacket>,
}

/// The first packet that violates a rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FirstPacket {
    /// Seconds since the first datagram of the source.
    pub at_s: f64,
    /// Its type, or `datagram` if it has none.
    pub packet: &'static str,
    /// The sequence in its header.
    pub sequence: u32,
}

/// A rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Identifies the rule for programs.
    pub id: &'static str,
    /// How serious a violation is.
    pub severity: Severity,
    /// Fewer violations give no finding.
    pub min_count: u64,
    /// The section of the documentation.
    pub section: &'static str,
    /// Begins the message. What was expected and what came follow.
    pub sentence: &'static str,
    /// More precise rules: if one of them has a finding, this one has none, because both would have the same cause.
    pub suppressed_by: &'static [RuleId],
}

macro_rules! rules {
    ($($name:ident $id:literal $severity:ident $min_count:literal $section:literal [$($by:ident)*]: $condition:literal, $sentence:literal;)*) => {
        /// Identifies a rule by its position in [`RULES`]. Documents what violates it, the threshold, and its reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum RuleId { $(#[doc = $condition] $name),* }

        /// All rules.
        pub const RULES: [Rule; [$($id),*].len()] = [$(Rule {
            id: $id,
            severity: Severity::$severity,
            min_count: $min_count,
            section: concat!("docs/protocol.md#", $section),
            sentence: $sentence,
            suppressed_by: &[$(RuleId::$by),*],
        }),*];

        const IDS: [RuleId; RULES.len()] = [$(RuleId::$name),*];
    };
}

rules! {
    Short "short" Error 1 "header" []:
        "A datagram has fewer than the 12 bytes of the header.", "datagram is shorter than the header";
    Version "version" Error 1 "header" []:
        "Byte 0 is not 1, and the datagram is no STUN message.", "version (byte 0) is wrong";
    Type "type" Error 1 "types" []:
        "Byte 1 is no known type.", "type (byte 1) is unknown";
    Truncated "truncated_payload" Error 1 "types" []:
        "LATENCY_PING has fewer than 12 payload bytes, or LATENCY_INFO ends before its codec.", "payload is too short for its type";
    Stun "stun" Error 1 "stun" []:
        "The server cannot read a STUN request.", "STUN message cannot be answered";
    ReservedFlags "reserved_flags" Warning 1 "header" []:
        "One of the flag bits 2 to 15, whose meaning is unknown, is set. Newer clients do not open such a sealed packet.", "flags have unknown bits";
    FirstSequence "first_sequence" Note 1 "client-generations" [SequenceStep SequenceRepeated]:
        "The first AUDIO has neither sequence 0 nor 1. The first packets may be lost, so this is a note.", "sequence of the first AUDIO is unusual";
    SequenceStep "sequence_step" Error 1 "header" []:
        "The sequence advances by the same value other than 1 in 30 AUDIO packets in a row, and the timestamps do not count as many packets, each \
         between the shortest and the longest one. If they do, packets were lost, for example in a balancer that sends each to another server. Steps above 1,000 are no \
         loss. Nor are at least two gaps between packets of one length across which the timestamps count no missing packet.",
        "sequence of AUDIO advances wrongly";
    SequenceRepeated "sequence_repeated" Error 3 "header" []:
        "AUDIO repeats the previous sequence with another timestamp at least three times. A network duplicate has the same timestamp.",
        "sequence of AUDIO does not advance";
    SequenceRestart "sequence_restart" Note 1 "header" [SequenceStep SequenceRepeated]:
        "The sequence starts again, without a new link: the client was restarted.", "sequence of AUDIO starts again";
    TimestampStep "timestamp_step" Error 3 "types" [SampleFormat SequenceStep]:
        "Between AUDIO packets with consecutive sequences, the timestamp does not advance by the samples of the first one, or by a part of them for \
         several channels. It may count on in a pause, and counts what the client drops before sending: at most a quarter of the advances may be \
         larger, while the timestamp is not more than 50 ms ahead of time.",
        "timestamp of AUDIO advances wrongly";
    PayloadLength "payload_length" Error 3 "types" [SampleFormat]:
        "The payload of AUDIO is empty, no multiple of 4 bytes, or fits neither the timestamps, which agree with LATENCY_INFO, nor LATENCY_INFO.", "payload length of AUDIO is wrong";
    ChannelCount "channel_count" Note 1 "types" [SampleFormat]:
        "The number of channels according to payload and timestamps is not the last channel_count. Newer clients with a mono microphone announce 1 \
         channel and send 2: LATENCY_INFO describes the device.", "LATENCY_INFO announces another channel_count than the packets have";
    FrameSize "frame_size" Note 1 "types" [SampleFormat]:
        "The samples per channel according to payload and timestamps are not the last frame_size. Newer clients with the preset of 256 samples \
         send 128.", "LATENCY_INFO announces another frame_size than the packets have";
    SampleFormat "sample_format" Error 8 "types" [SampleByteOrder]:
        "At least 5 % of the samples of a packet are below 2^-63 and 5 % above 128 or no number: the bytes are integers, 64-bit floats or encoded. \
         Eight packets, because no sound does this in one.", "samples of AUDIO are no 32-bit floats";
    SampleByteOrder "sample_byte_order" Error 8 "types" []:
        "At least 25 % of the samples of a packet are implausible, but 95 % are within ±1 with reversed bytes.", "samples of AUDIO have the wrong byte order";
    SampleScale "sample_scale" Error 8 "types" [SampleFormat SampleByteOrder]:
        "Samples are finite and above 32, which is 30 dB above full scale: integers were converted without division by 2^(bits - 1).",
        "samples of AUDIO are not scaled to ±1";
    NotFinite "not_finite" Error 1 "types" [SampleFormat SampleByteOrder]:
        "A sample is NaN or infinite.", "samples of AUDIO are not finite";
    OutOfRange "out_of_range" Warning 1 "types" [SampleFormat SampleByteOrder SampleScale]:
        "A sample exceeds ±1. Devices clip it.", "samples of AUDIO exceed full scale";
    Clipping "clipping" Warning 10 "types" [SampleFormat SampleByteOrder SampleScale OutOfRange]:
        "At least ten packets contain three consecutive samples of a channel at 32767/32768 or above. Single peaks may reach full scale.", "samples of AUDIO are clipped";
    DcOffset "dc_offset" Warning 1 "types" [SampleFormat SampleByteOrder SampleScale NotFinite]:
        "The mean of a channel over 10 s exceeds 0.01 (-40 dBFS). Sound devices stay below 0.001, and 10 s average a tone of 20 Hz to 0.001.",
        "samples of AUDIO have a DC offset";
    Silence "silence" Note 1 "types" []:
        "All samples of 10 s, or of the first 2 s, are exactly 0. A muted client may do this, a microphone does not.", "samples of AUDIO are silent";
    LatencyInfoValue "latency_info_value" Error 1 "types" []:
        "A field of LATENCY_INFO is impossible: sample_rate outside 8,000 to 192,000, frame_size 0 or above a datagram (16,373), channel_count 0, \
         another codec, or a delay that is no number from 0 to 10,000 ms.", "LATENCY_INFO has an impossible field";
    LatencyInfoMissing "latency_info_missing" Warning 1 "client-generations" [Truncated]:
        "No LATENCY_INFO in 10 s of AUDIO on an encrypted link that began at this server, and none of its packets is missing. Clients may send it \
         once, and older ones never do. Without it, receivers do not know the sample rate.", "LATENCY_INFO is missing";
    KeepaliveInterval "keepalive_interval" Warning 1 "packets-sent-by-send" [LinkRequired]:
        "During at least 10 s after the first AUDIO, the mean interval of KEEPALIVEs is not 0.5 to 2.5 s. Longer times without any datagram do not \
         count. Clients send one per second; NAT mappings and the detection of lost connections depend on it.", "interval of KEEPALIVEs is wrong";
    PacketRate "packet_rate" Error 1 "types" [TimestampStep SequenceStep SequenceRepeated LatencyInfoValue]:
        "From 10 s on, the whole 99.9 % interval of the rate at which the timestamps advance is more than 1 % from sample_rate. No device is so \
         inexact, and a path would have to add 100 ms in 10 s. A run without an interval must differ by more than 1 % and 250 ms, at a steady rate for 3 s.", "packet rate does not fit sample_rate";
    ClockDrift "clock_drift" Warning 1 "types" [PacketRate TimestampStep SequenceStep SequenceRepeated LatencyInfoValue]:
        "The whole 99.9 % interval of the drift is beyond ±500 ppm, or over at least 60 s beyond ±100 ppm. Devices stay within ±50 ppm, with \
         temperature ±100 ppm. Of 10,000 correct clients on a satellite path, a 95 % interval would accuse seven.",
        "sample clock of the client, or the delay of its path, drifts";
    Pacing "pacing" Warning 1 "types" [PacketRate]:
        "At least half of all packets of 5 s, or three quarters of the first 2 s, arrive in groups of at least three, at equal intervals (±10 %), \
         whose sizes differ by one at most. Newer clients send 256 samples as two packets, so pairs are right.",
        "the client or its path sends AUDIO in groups";
    DatagramSize "datagram_size" Note 1 "behavior-of-echo-server" []:
        "A datagram has more than 1,200 bytes. Some paths drop or fragment it (Ethernet: above 1,472 over IPv4, 1,452 over IPv6), but it is allowed.",
        "datagram is large";
    PortChange "port_change" Note 1 "behavior-of-echo-server" []:
        "The sequence and the timestamp of a source continue from another port of the same address: a NAT has changed the port.", "source port changed";
    KeyExchange "key_exchange" Error 1 "key-exchange" []:
        "The server cannot use a CONTROL.", "CONTROL is no valid key exchange";
    NotOpened "not_opened" Error 3 "sealed-packets" []:
        "A sealed packet does not open. Packets of the previous link within 2 s of a key exchange are excepted.", "sealed packet does not open";
    CounterRepeated "counter_repeated" Error 1 "sealed-packets" []:
        "At least 50 sealed packets, and at least half of all, have a counter that was received before or is 128 below the newest. Network duplicates \
         are fewer.", "counter of sealed packets is repeated";
    NoKeys "sealed_without_keys" Warning 3 "sessions" [PortChange]:
        "A source sends sealed AUDIO from sequence 0 on, but never CONTROL. AUDIO that began earlier belongs to a link with an earlier server.", "packet is sealed, but the server has no keys";
    PlainAfterKeys "plain_after_keys" Error 3 "sessions" []:
        "A plain packet other than CONTROL and route probes follows the first opened packet, and not within 2 s of a key exchange, nor is it a \
         KEEPALIVE less than 2 s before one, with which a new link begins.", "packet is plain on an encrypted link";
    LinkRequired "link_required" Warning 3 "sessions" []:
        "AUDIO is plain, but the server requires encrypted links.", "AUDIO is plain, but the server requires a link";
    AudioBeforeLink "audio_before_link" Error 3 "encrypted-link" []:
        "CONTROL, which a client repeats only until the link has settled, follows AUDIO within 250 ms at least three times, and follows another \
         CONTROL without an opened packet between them.", "AUDIO is sent before the link has settled";
    Limited "limited" Warning 1 "limits-per-address" []:
        "The server drops datagrams that the source repeats too often.", "datagram is repeated too often";
    RateLimited "rate_limited" Note 1 "limits-per-address" []:
        "The server drops packets above its limits per address or on key exchanges. All clients of an address share them, and a path that delivers \
         at once what it has held back may exceed them.", "packet exceeds a limit of the server";
    Loss "loss" Note 1 "header" [SequenceStep SequenceRepeated SequenceRestart]:
        "At least 0.1 % of the sequences of AUDIO are missing, of at least 1,000.", "AUDIO is missing";
    Reordering "reordering" Note 1 "header" [SequenceStep SequenceRepeated]:
        "At least 0.1 % of the AUDIO packets arrive after a later one, of at least 1,000.", "AUDIO arrives out of order";
    Duplicates "duplicates" Note 1 "header" [SequenceRepeated CounterRepeated]:
        "At least 0.1 % of the AUDIO packets arrive twice, of at least 1,000.", "AUDIO arrives twice";
    Jitter "jitter" Note 1 "header" [PacketRate TimestampStep SequenceStep SequenceRepeated Pacing]:
        "The mean jitter (RFC 3550) is at least 5 ms.", "arrival of AUDIO varies";
}

impl RuleId {
    /// The rules from one to another in the order of the table.
    pub(super) const fn range(first: Self, last: Self) -> &'static [Self] {
        IDS.split_at(first as usize).1.split_at(last as usize + 1 - first as usize).0
    }

    /// The row of the table.
    pub fn rule(self) -> &'static Rule {
        &RULES[self as usize]
    }
}

/// What violated a rule.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    pub(super) rule: RuleId,
    pub(super) count: u64,
    pub(super) expected: String,
    pub(super) received: String,
    pub(super) first: Option<FirstPacket>,
}

/// Violations, at most one entry per rule.
#[derive(Debug, Default)]
pub(super) struct EvidenceList {
    pub(super) all: Vec<Evidence>,
    /// The packet that is judged.
    pub(super) packet: Option<FirstPacket>,
}

impl EvidenceList {
    /// Counts a violation. The texts, expected and received, are those of the first one.
    pub(super) fn add(&mut self, rule: RuleId, texts: impl FnOnce() -> (String, String)) {
        if let Some(evidence) = self.all.iter_mut().find(|evidence| evidence.rule == rule) {
            evidence.count += 1;
        } else {
            let (expected, received) = texts();
            self.all.push(Evidence { rule, count: 1, expected, received, first: self.packet });
        }
    }

    /// The last `count` violations of a rule were none.
    pub(super) fn take_back(&mut self, rule: RuleId, count: u64) {
        if let Some(evidence) = self.all.iter_mut().find(|evidence| evidence.rule == rule) {
            evidence.count = evidence.count.saturating_sub(count);
        }
    }

    pub(super) fn add_text(&mut self, rule: RuleId, expected: impl Display, received: impl Display) {
        self.add(rule, || (expected.to_string(), received.to_string()));
    }
}

impl Evidence {
    pub(super) fn finding(&self) -> Finding {
        let Rule { id, severity, section, sentence, .. } = self.rule.rule();
        let message = format!("{sentence}: expected {}, received {}", self.expected, self.received);
        Finding { rule: id, severity: *severity, message, count: self.count, section, first: self.first }
    }
}
