//! The rules for clients, as one table, and the findings that follow from them.

use std::fmt::Display;

pub use crate::diagnosis::Severity;
use crate::document::column::figures;

figures! {
    /// A rule that a source violates.
    Finding {
        /// Identifies the rule for programs.
        rule: &'static str;
        /// How serious it is.
        severity: Severity;
        /// The field, what was expected, and what came.
        message: String;
        /// How many of `unit` violate the rule.
        count: u64;
        /// What is counted.
        unit: &'static str;
        /// The section of the documentation.
        section: &'static str;
        /// The first packet of several, if it is one packet that violates the rule.
        first: Option<FirstPacket>;
    }

    /// The first packet that violates a rule.
    #[derive(Copy)]
    FirstPacket {
        /// Seconds since the first datagram of the source.
        at_s: f64;
        /// Its type, or `datagram` if it has none.
        packet: &'static str;
        /// The sequence in its header.
        sequence: u32;
    }
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
    /// What is counted.
    pub unit: &'static str,
    /// The section of the documentation.
    pub section: &'static str,
    /// How much of what the client sends it needs, if not one packet.
    pub needs: &'static str,
    /// What violates it, the threshold, and its reason, as lines with a leading space.
    pub condition: &'static [&'static str],
    /// Begins the message. What was expected and what came follow.
    pub sentence: &'static str,
    /// More precise rules: if one of them has a finding, this one has none, because both would have the same cause.
    pub suppressed_by: &'static [RuleId],
}

macro_rules! rules {
    ($(
        $(#[doc = $condition:literal])+
        $name:ident = $severity:ident $id:literal in $section:literal
            $(, from $min_count:literal)? $(, counts $unit:literal)? $(, needs $needs:literal)? $(, unless [$($by:ident)+])?: $sentence:literal;
    )*) => {
        /// Identifies a rule by its position in [`RULES`]. Documents what violates it, the threshold, and its reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum RuleId { $($(#[doc = $condition])+ $name),* }

        /// All rules.
        pub const RULES: [Rule; [$($id),*].len()] = [$(Rule {
            id: $id,
            severity: Severity::$severity,
            min_count: [$($min_count,)? 1][0],
            unit: [$($unit,)? "packets"][0],
            needs: concat!($($needs)?),
            section: concat!("docs/", $section),
            sentence: $sentence,
            condition: &[$($condition),+],
            suppressed_by: &[$($(RuleId::$by),+)?],
        }),*];

        const IDS: [RuleId; RULES.len()] = [$(RuleId::$name),*];

        /// The names of all rules.
        pub(super) const NAMES: [&str; RULES.len()] = [$($id),*];
    };
}

// Severity and code, in a section of the documentation, from this many violations on, what is counted (packets are datagrams of any kind), unless a
// more precise rule has a finding: the sentence.
rules! {
    /// A datagram has fewer than the 12 bytes of the header.
    Short = Error "short" in "protocol.md#header": "datagram is shorter than the header";
    /// Byte 0 is not 1, and the datagram is no STUN message.
    Version = Error "version" in "protocol.md#header": "version (byte 0) is wrong";
    /// Byte 1 is no known type.
    Type = Error "type" in "protocol.md#types": "type (byte 1) is unknown";
    /// LATENCY_PING has fewer than 12 payload bytes, or LATENCY_INFO ends before its codec.
    Truncated = Error "truncated_payload" in "protocol.md#types": "payload is too short for its type";
    /// The server cannot read a STUN request.
    Stun = Error "stun" in "protocol.md#stun": "STUN message cannot be answered";
    /// One of the flag bits 2 to 15, whose meaning is unknown, is set. Newer clients do not open such a sealed packet.
    ReservedFlags = Warning "reserved_flags" in "protocol.md#header": "flags have unknown bits";
    /// The first AUDIO has neither sequence 0 nor 1. The first packets may be lost, so this is a note.
    FirstSequence = Note "first_sequence" in "protocol.md#client-generations", unless [SequenceStep SequenceRepeated]:
        "sequence of the first AUDIO is unusual";
    /// The sequence advances by the same value other than 1 in 30 AUDIO packets in a row, and the timestamps do not count as many packets, each
    /// between the shortest and the longest one. If they do, packets were lost, for example in a balancer that sends each to another server. Steps
    /// above 1,000 are no loss. Nor are two other steps between packets of one length while the timestamps continue, or one that begins again
    /// after 65,535: the sequence has too few bits, or other packets use it.
    SequenceStep = Error "sequence_step" in "protocol.md#header", from 2, needs "30 times two packets in succession":
        "sequence of AUDIO advances wrongly";
    /// AUDIO repeats the previous sequence with another timestamp at least three times, or with the same one in 100 packets in a row, for at least
    /// 1 s. A network duplicates fewer.
    SequenceRepeated = Error "sequence_repeated" in "protocol.md#header", from 3: "sequence of AUDIO does not advance";
    /// The sequence starts again, without a new link: the client was restarted.
    SequenceRestart = Note "sequence_restart" in "protocol.md#header", counts "times", unless [SequenceStep SequenceRepeated]:
        "sequence of AUDIO starts again";
    /// Between AUDIO packets with consecutive sequences, the timestamp does not advance by the samples of the first one, or by a part of them for
    /// several channels. It may count on in a pause, and counts what the client drops before sending: at most a quarter of the advances may be
    /// larger, while the timestamp is not more than 50 ms ahead of time. Those count if other advances are wrong at least three times.
    TimestampStep = Error "timestamp_step" in "protocol.md#types", from 3, needs "30 times two packets in succession", unless [SampleFormat SequenceStep]:
        "timestamp of AUDIO advances wrongly";
    /// The payload of AUDIO is empty, no multiple of 4 bytes, or fits neither the timestamps, which agree with LATENCY_INFO, nor LATENCY_INFO.
    PayloadLength = Error "payload_length" in "protocol.md#types", from 3, needs "30 times two packets in succession", unless [SampleFormat]:
        "payload length of AUDIO is wrong";
    /// The number of channels according to payload and timestamps is not the last `channel_count`. Newer clients with a mono microphone announce 1
    /// channel and send 2: LATENCY_INFO describes the device.
    ChannelCount = Note "channel_count" in "protocol.md#types", counts "times", unless [SampleFormat]:
        "LATENCY_INFO announces another channel_count than the packets have";
    /// The samples per channel according to payload and timestamps are not the last `frame_size`. Newer clients with the preset of 256 samples send
    /// 128.
    FrameSize = Note "frame_size" in "protocol.md#types", counts "times", unless [SampleFormat]:
        "LATENCY_INFO announces another frame_size than the packets have";
    /// At least 5 % of the samples of a packet are below 2^-63 and 5 % above 128 or no number: the bytes are integers, 64-bit floats or encoded.
    /// Eight packets, because no sound does this in one.
    SampleFormat = Error "sample_format" in "protocol.md#types", from 8, unless [SampleByteOrder]: "samples of AUDIO are no 32-bit floats";
    /// At least 25 % of the samples of a packet are implausible, but 95 % are within ±1 with reversed bytes, and more than eight differ other than
    /// in their last byte. Sound that fades out may end in a few tiny numbers.
    SampleByteOrder = Error "sample_byte_order" in "protocol.md#types", from 8: "samples of AUDIO have the wrong byte order";
    /// Samples are finite and above 32, which is 30 dB above full scale: integers were converted without division by 2^(bits - 1).
    SampleScale = Error "sample_scale" in "protocol.md#types", from 8, unless [SampleFormat SampleByteOrder]:
        "samples of AUDIO are not scaled to ±1";
    /// A sample is NaN or infinite.
    NotFinite = Error "not_finite" in "protocol.md#types", unless [SampleFormat SampleByteOrder]: "samples of AUDIO are not finite";
    /// A sample exceeds ±1. Devices clip it.
    OutOfRange = Warning "out_of_range" in "protocol.md#types", unless [SampleFormat SampleByteOrder SampleScale]:
        "samples of AUDIO exceed full scale";
    /// At least ten packets contain three consecutive samples of a channel at 32767/32768 or above. Single peaks may reach full scale.
    Clipping = Warning "clipping" in "rules.md#check-of-a-client", from 10, unless [SampleFormat SampleByteOrder SampleScale OutOfRange]:
        "samples of AUDIO are clipped";
    /// The mean of a channel over 10 s exceeds 0.01 (-40 dBFS). Sound devices stay below 0.001, and 10 s average a tone of 20 Hz to 0.001.
    DcOffset = Warning "dc_offset" in "rules.md#check-of-a-client", counts "times", needs "10 s of samples", unless [SampleFormat SampleByteOrder SampleScale NotFinite]:
        "samples of AUDIO have a DC offset";
    /// All samples of 10 s, or of the first 2 s, are exactly 0. A muted client may do this, a microphone does not.
    Silence = Note "silence" in "rules.md#check-of-a-client", counts "times", needs "2 s": "samples of AUDIO are silent";
    /// A field of LATENCY_INFO is impossible: `sample_rate` outside 8,000 to 192,000, `frame_size` 0 or above a datagram (16,373), `channel_count` 0,
    /// another codec, or a delay that is no number from 0 to 10,000 ms.
    LatencyInfoValue = Error "latency_info_value" in "protocol.md#types": "LATENCY_INFO has an impossible field";
    /// No LATENCY_INFO in 10 s of AUDIO on an encrypted link that began at this server, and none of its packets is missing. Clients may send it once,
    /// and older ones never do. Without it, receivers do not know the sample rate.
    LatencyInfoMissing = Warning "latency_info_missing" in "protocol.md#client-generations", counts "times", unless [Truncated]:
        "LATENCY_INFO is missing";
    /// During at least 10 s after the first AUDIO, the mean interval of KEEPALIVEs, without those that answer another member, is not 0.5 to 2.5 s.
    /// Longer times without any datagram do not count. Clients send one per second; NAT mappings and the detection of lost connections depend on it.
    KeepaliveInterval = Warning "keepalive_interval" in "protocol.md#packets-sent-by-send", counts "times", needs "10 s", unless [LinkRequired]:
        "interval of KEEPALIVEs is wrong";
    /// From 10 s on, the whole 99.9 % interval of the rate at which the timestamps advance is more than 1 % from `sample_rate`. No device is so
    /// inexact, and a path would have to add 100 ms in 10 s. A shorter run must differ by more than 1 % and 250 ms, at a steady rate for 3 s. A
    /// queue of the path may fill: then LATENCY_PING is delayed alike by the clock of the client, and nothing is found. Without LATENCY_PING, it
    /// is a warning until the difference is 1 s.
    PacketRate = Error "packet_rate" in "rules.md#check-of-a-client", counts "times", needs "12 s without pauses",
        unless [TimestampStep SequenceStep SequenceRepeated LatencyInfoValue]: "packet rate does not fit sample_rate";
    /// The whole 99.9 % interval of the drift is beyond ±500 ppm, or over at least 60 s beyond ±100 ppm. Devices stay within ±50 ppm, with
    /// temperature ±100 ppm. Of 10,000 correct clients on a satellite path, a 95 % interval would accuse seven.
    ClockDrift = Warning "clock_drift" in "rules.md#check-of-a-client", counts "times", needs "12 s without pauses",
        unless [PacketRate TimestampStep SequenceStep SequenceRepeated LatencyInfoValue]:
        "sample clock of the client, or the delay of its path, drifts";
    /// At least half of all packets of 5 s, or three quarters of the first 2 s, arrive in groups of at least three, at equal intervals (±10 %), whose
    /// sizes differ by one at most. Newer clients send 256 samples as two packets, so pairs are right.
    Pacing = Warning "pacing" in "rules.md#check-of-a-client", counts "times", needs "2.5 s", unless [PacketRate]:
        "the client or its path sends AUDIO in groups";
    /// A datagram has more than 1,200 bytes. Some paths drop or fragment it (Ethernet: above 1,472 over IPv4, 1,452 over IPv6), but it is allowed.
    DatagramSize = Note "datagram_size" in "protocol.md#behavior-of-echo-server": "datagram is large";
    /// The sequence and the timestamp of a source continue from another port of the same address: a NAT has changed the port.
    PortChange = Note "port_change" in "protocol.md#behavior-of-echo-server", counts "times": "source port changed";
    /// The server cannot use a CONTROL.
    KeyExchange = Error "key_exchange" in "protocol.md#key-exchange": "CONTROL is no valid key exchange";
    /// A sealed packet does not open. Packets of the previous link within 2 s of a key exchange are excepted.
    NotOpened = Error "not_opened" in "protocol.md#sealed-packets", from 3: "sealed packet does not open";
    /// At least 50 sealed packets, and at least half of all, have a counter that was received before or is 128 below the newest. Network duplicates
    /// are fewer.
    CounterRepeated = Error "counter_repeated" in "protocol.md#sealed-packets": "counter of sealed packets is repeated";
    /// A source sends sealed AUDIO from sequence 0 on, but never CONTROL. AUDIO that began earlier belongs to a link with an earlier server.
    NoKeys = Warning "sealed_without_keys" in "protocol.md#sessions", from 3, unless [PortChange]: "packet is sealed, but the server has no keys";
    /// A plain packet other than CONTROL and route probes follows the first opened packet, and not within 2 s of a key exchange, nor is it a
    /// KEEPALIVE less than 2 s before one, with which a new link begins.
    PlainAfterKeys = Error "plain_after_keys" in "protocol.md#sessions", from 3: "packet is plain on an encrypted link";
    /// AUDIO is plain, but the server requires encrypted links.
    LinkRequired = Warning "link_required" in "protocol.md#sessions", from 3: "AUDIO is plain, but the server requires a link";
    /// CONTROL, which a client repeats only until the link has settled, follows AUDIO within 250 ms at least three times, and follows another CONTROL
    /// without an opened packet between them.
    AudioBeforeLink = Error "audio_before_link" in "protocol.md#encrypted-link", from 3: "AUDIO is sent before the link has settled";
    /// The server drops datagrams that the source repeats too often.
    Limited = Warning "limited" in "protocol.md#repeated-datagrams": "datagram is repeated too often";
    /// The server drops packets above its limits per address or on key exchanges. All clients of an address share them, and a path that delivers at
    /// once what it has held back may exceed them.
    RateLimited = Note "rate_limited" in "protocol.md#limits-per-address": "packet exceeds a limit of the server";
    /// At least 0.1 % of the sequences of AUDIO are missing, of at least 1,000.
    Loss = Note "loss" in "rules.md#check-of-a-client", needs "1000 AUDIO packets",
        unless [SequenceStep SequenceRepeated SequenceRestart]: "AUDIO is missing";
    /// At least 0.1 % of the AUDIO packets arrive after a later one, of at least 1,000.
    Reordering = Note "reordering" in "rules.md#check-of-a-client", needs "1000 AUDIO packets", unless [SequenceStep SequenceRepeated]:
        "AUDIO arrives out of order";
    /// At least 0.1 % of the AUDIO packets arrive twice, of at least 1,000.
    Duplicates = Note "duplicates" in "rules.md#check-of-a-client", needs "1000 AUDIO packets",
        unless [SequenceStep SequenceRepeated CounterRepeated]: "AUDIO arrives twice";
    /// The mean jitter (RFC 3550) is at least 5 ms.
    Jitter = Note "jitter" in "rules.md#check-of-a-client", counts "times",
        unless [PacketRate TimestampStep SequenceStep SequenceRepeated Pacing]: "arrival of AUDIO varies";
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

/// The table of all rules in Markdown.
pub fn rule_table() -> String {
    let row = |rule: &Rule| {
        let Rule { id, severity, min_count, unit, needs, section, condition, .. } = rule;
        let (condition, link) = (condition.concat(), section.trim_start_matches("docs/"));
        let condition = condition.trim();
        format!("| `{id}` | {severity} | {min_count} {unit} | {needs} | {condition} [{section}]({link}) |\n")
    };
    let rows: Vec<String> = RULES.iter().map(row).collect();
    format!("\n| rule | severity | from | needs | what violates it |\n|---|---|---|---|---|\n{}", rows.concat())
}

/// Violations that count together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Violations {
    pub(super) count: u64,
    pub(super) first: Option<FirstPacket>,
}

/// The violations of a source, with at most one finding per rule.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) all: Vec<(RuleId, Finding)>,
    /// The packet that is judged.
    pub(super) packet: Option<FirstPacket>,
}

impl Evidence {
    /// Counts a violation. The texts are those of the first one.
    pub(super) fn add(&mut self, rule: RuleId, expected: impl Display, received: impl Display) {
        self.add_all(Violations { count: 1, first: self.packet }, rule, expected, received);
    }

    pub(super) fn add_all(&mut self, found: Violations, rule: RuleId, expected: impl Display, received: impl Display) {
        if let Some((_, finding)) = self.all.iter_mut().find(|(found, _)| *found == rule) {
            finding.count += found.count;
            return;
        }
        let &Rule { id, severity, unit, section, sentence, .. } = rule.rule();
        let message = format!("{sentence}: expected {expected}, received {received}");
        let Violations { count, first } = found;
        self.all.push((rule, Finding { rule: id, severity, message, count, unit, section, first }));
    }

    /// Counts a packet that violates a rule if enough others do.
    pub(super) fn suspect(&self, suspected: &mut Violations) {
        suspected.count += 1;
        suspected.first = suspected.first.or(self.packet);
    }

    /// The last `count` violations of a rule were none.
    pub(super) fn take_back(&mut self, rule: RuleId, count: u64) {
        if let Some((_, finding)) = self.all.iter_mut().find(|(found, _)| *found == rule) {
            finding.count = finding.count.saturating_sub(count);
        }
        self.all.retain(|(_, finding)| finding.count > 0);
    }
}
