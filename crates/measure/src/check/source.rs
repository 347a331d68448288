//! One source: its datagrams, its link, and the findings about it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::echo::{DropReason, ObservedDatagram};
use jamjam_core::sanitize::sanitize_name;
use jamjam_core::time::Time;
use jamjam_core::wire::stun::MAGIC_COOKIE;
use jamjam_core::wire::{HEADER_LEN, Header, LatencyInfo, Packet, PacketError, PacketType, PingPayload, parse_packet};

use super::not_judged::not_judged;
use super::rules::{Evidence, EvidenceList, Finding, FirstPacket, RuleId};
use super::stream::{Format, MAX_RATE_ERROR_PPM, StreamCheck};
use super::{CheckedSource, DriftReport, SourceHistory, SourceReport};

/// Larger datagrams may be fragmented.
const MAX_DATAGRAM: usize = 1_200;

/// Counter and tag of a sealed packet.
const SEAL_LEN: usize = 24;

/// Flags without a meaning.
const RESERVED_FLAGS: u16 = !3;

/// For this long after CONTROL, packets of the previous link may arrive.
const RENEWAL: Duration = Duration::from_secs(2);

/// CONTROL within this time after AUDIO belongs to the same link: clients repeat it at this interval.
const CONTROL_INTERVAL: Duration = Duration::from_millis(250);

/// A longer time without any datagram does not count for the interval of KEEPALIVEs: the client or its path was stopped.
const MAX_ABSENCE: Duration = Duration::from_millis(2_500);

/// A source that sends at least so many datagrams within this time, but none that is valid, is a client with a wrong header.
const MIN_DATAGRAMS: (u32, Duration) = (20, Duration::from_secs(10));

/// Time before the first findings.
const FIRST_FINDINGS: Duration = Duration::from_secs(3);

/// AUDIO packets for a share of loss, reordering and duplicates.
pub(super) const MIN_PACKETS: u64 = 1_000;

/// Length of the run from which on this drift is a warning, in parts per million.
const MAX_DRIFTS_PPM: [(f64, f64); 2] = [(60.0, 100.0), (0.0, 500.0)];

/// One source.
#[derive(Debug, Default)]
pub(super) struct SourceCheck {
    first_seen: Time,
    pub(super) last_seen: Time,
    pub(super) packets: u64,
    /// Whether it has sent a packet or a STUN message that can be read, or so many others that it is a client.
    pub(super) is_client: bool,
    /// Start and datagrams of an interval without a valid datagram.
    invalid: (Time, u32),
    pub(super) evidence: EvidenceList,
    /// Rules whose findings were taken, as bits.
    taken: u64,
    pub(super) audio: StreamCheck,
    history: SourceHistory,
    pub(super) last_audio: Option<Time>,
    /// The sequence of the first AUDIO, even if it cannot be opened.
    pub(super) first_sequence: Option<u32>,
    keepalives: u64,
    /// Time since the first AUDIO in which the client was there.
    pub(super) presence: Duration,
    pub(super) format: Option<Format>,
    pub(super) info_seen: bool,
    pub(super) first_opened: Option<Time>,
    opened: u64,
    replayed: u64,
    /// Opened packets of this link, and the newest counter.
    link_counters: (u64, u64),
    no_keys: u64,
    pub(super) last_control: Option<Time>,
    opened_since_control: bool,
    /// When the last plain KEEPALIVE was found on an encrypted link, and how many in succession.
    plain_keepalives: (Time, u64),
    /// The port before a change, and when it changed.
    pub(super) moved_from: Option<(SocketAddr, Time)>,
    /// Another process whose AUDIO looked like a continuation.
    rival: Option<SocketAddr>,
}

impl SourceCheck {
    pub(super) fn new(at: Time) -> Self {
        Self { first_seen: at, last_seen: at, ..Self::default() }
    }

    /// Whether the AUDIO of this source, seen for at least a second, continues with `header` from another port.
    pub(super) fn is_continued_by(&self, header: Header, other: SocketAddr, at: Time) -> bool {
        self.rival != Some(other)
            && self.last_seen.duration_since(self.first_seen).as_secs() > 0
            && header.sequence > 100
            && at.duration_since(self.last_seen) < Duration::from_secs(30)
            && self.audio.is_continued_by(header, self.format)
    }

    /// The source has another port now.
    pub(super) fn on_port_change(&mut self, at: Time, old: SocketAddr, new: SocketAddr) {
        self.moved_from = Some((old, at));
        let text = |address: SocketAddr| format!("port {}", address.port());
        self.evidence.add(RuleId::PortChange, || (text(old), text(new)));
    }

    /// The other port belongs to another process, since the old one is still used.
    pub(super) fn on_port_returned(&mut self, other: SocketAddr) {
        (self.moved_from, self.rival) = (None, Some(other));
        self.evidence.take_back(RuleId::PortChange, 1);
    }

    /// Whether it has sent AUDIO or CONTROL, and is reported even if it has left long ago.
    pub(super) fn has_taken_part(&self) -> bool {
        self.first_sequence.is_some() || self.last_control.is_some()
    }

    /// Judges a datagram.
    pub(super) fn on_datagram(&mut self, datagram: ObservedDatagram<'_>) {
        let ObservedDatagram { at, bytes, counter, drop_reason, .. } = datagram;
        let absence = at.duration_since(self.last_seen);
        if self.first_sequence.is_some() && absence < MAX_ABSENCE {
            self.presence += absence;
        }
        self.last_seen = self.last_seen.max(at);
        self.packets += 1;
        let at_s = at.duration_since(self.first_seen).as_secs_f64();
        self.evidence.packet = Some(FirstPacket { at_s, packet: "datagram", sequence: 0 });
        let is_stun = matches!(bytes, [0 | 1, _, _, _, cookie @ ..] if cookie.starts_with(&MAGIC_COOKIE));
        if drop_reason == Some(DropReason::Stun) {
            self.on_invalid(at);
            return self.evidence.add_text(RuleId::Stun, "a Binding request of RFC 8489", "another message");
        } else if is_stun {
            self.is_client = true;
            return;
        }
        let packet = match parse_packet(bytes) {
            Ok(packet) => packet,
            Err(error) => {
                self.on_invalid(at);
                return self.on_malformed(error);
            }
        };
        self.is_client = true;
        let size = bytes.len() + if counter.is_some() { SEAL_LEN } else { 0 };
        if size > MAX_DATAGRAM {
            self.evidence
                .add(RuleId::DatagramSize, || (format!("at most {MAX_DATAGRAM} bytes"), format!("{size} bytes")));
        }
        let header = packet.header;
        let (packet_type, sequence) = (header.packet_type, header.sequence);
        self.evidence.packet = Some(FirstPacket { at_s, packet: packet_type.name(), sequence });
        if packet_type == PacketType::Audio {
            self.first_sequence.get_or_insert(sequence);
        }
        if header.flags & RESERVED_FLAGS != 0 {
            self.evidence
                .add(RuleId::ReservedFlags, || ("only bits 0 and 1".to_owned(), format!("{:#06x}", header.flags)));
        }
        if packet_type == PacketType::Keepalive && !matches!(packet.payload, [1 | 2, _, _, _, _]) {
            self.keepalives += u64::from(self.first_sequence.is_some());
        }
        if let Some(counter) = counter {
            self.on_opened(at, counter);
        }
        if self.on_drop_reason(at, packet, drop_reason, header.is_sealed() && counter.is_none()) {
            self.on_content(at, packet);
        }
    }

    fn on_invalid(&mut self, at: Time) {
        let (start, datagrams) = &mut self.invalid;
        if *datagrams == 0 || at.duration_since(*start) > MIN_DATAGRAMS.1 {
            (*start, *datagrams) = (at, 0);
        }
        *datagrams += 1;
        self.is_client |= *datagrams >= MIN_DATAGRAMS.0;
    }

    fn on_malformed(&mut self, error: PacketError) {
        let (rule, expected, received) = match error {
            PacketError::TooShort(len) => (RuleId::Short, "at least 12 bytes", format!("{len} bytes")),
            PacketError::Version(version) => (RuleId::Version, "1, or a STUN request", version.to_string()),
            PacketError::Type(number) => (RuleId::Type, "1 to 7", number.to_string()),
            PacketError::Payload { packet_type, len, .. } => {
                (RuleId::Truncated, "all fields", format!("{} with {len} payload bytes", packet_type.name()))
            }
            PacketError::Stun(_) => (RuleId::Stun, "a Binding request of RFC 8489", error.to_string()),
        };
        self.evidence.add(rule, || (expected.to_owned(), received));
    }

    fn on_opened(&mut self, at: Time, counter: u64) {
        if self.first_opened.is_none() {
            self.first_opened = Some(at);
            // LATENCY_INFO follows on the link.
            self.info_seen = false;
        }
        if self.last_control.is_some() && !self.opened_since_control {
            self.audio.restart();
            self.link_counters = (0, 0);
        }
        self.opened_since_control = true;
        self.opened += 1;
        self.link_counters = (self.link_counters.0 + 1, self.link_counters.1.max(counter));
    }

    /// Judges why the server drops a packet. Returns whether its content can be judged.
    fn on_drop_reason(&mut self, at: Time, packet: Packet<'_>, reason: Option<DropReason>, is_opaque: bool) -> bool {
        let is_renewing = self.last_control.is_some_and(|control| at.duration_since(control) < RENEWAL);
        let is_audio = packet.header.packet_type == PacketType::Audio;
        match reason {
            Some(DropReason::Replayed) => self.replayed += 1,
            // Without an opened packet since CONTROL, there is no previous link.
            // The server has only keys that no packet has opened with.
            Some(DropReason::NoKeys) if is_renewing && !self.opened_since_control => self.on_not_opened(),
            Some(DropReason::NotOpened) if !(is_renewing && self.opened_since_control) => self.on_not_opened(),
            Some(DropReason::NoKeys) | None if is_opaque => self.no_keys += 1,
            Some(DropReason::Plain) if self.first_opened.is_none() => {
                self.evidence.add_text(RuleId::LinkRequired, "sealed AUDIO", "plain AUDIO");
            }
            Some(DropReason::Plain) if !is_renewing => {
                let name = packet.header.packet_type.name();
                self.evidence.add(RuleId::PlainAfterKeys, || (format!("sealed {name}"), format!("plain {name}")));
                if packet.header.packet_type == PacketType::Keepalive {
                    self.plain_keepalives = (at, self.plain_keepalives.1 + 1);
                }
            }
            Some(DropReason::KeyExchange) => {
                self.evidence.add_text(
                    RuleId::KeyExchange,
                    "a header of 0 and a key with a valid length",
                    "another CONTROL",
                );
            }
            Some(
                reason @ (DropReason::Repeated | DropReason::PacketRate | DropReason::BitRate | DropReason::KeyRate),
            ) => {
                let rule = if reason == DropReason::Repeated { RuleId::Limited } else { RuleId::RateLimited };
                let received = format!("one above ({})", reason.name());
                self.evidence.add(rule, || ("packets within the limits".to_owned(), received));
            }
            _ => {}
        }
        let is_judged = !is_opaque
            && !matches!(
                reason,
                Some(
                    DropReason::Replayed
                        | DropReason::NotOpened
                        | DropReason::Plain
                        | DropReason::KeyExchange
                        | DropReason::KeyRate
                )
            );
        if is_audio && !is_judged {
            self.last_audio = Some(at);
        }
        is_judged
    }

    fn on_not_opened(&mut self) {
        let received = "one that does not open";
        self.evidence.add_text(RuleId::NotOpened, "a packet sealed with the agreed keys", received);
    }

    fn on_content(&mut self, at: Time, packet: Packet<'_>) {
        let Packet { header, payload } = packet;
        match header.packet_type {
            PacketType::Audio => {
                self.last_audio = Some(at);
                self.history.on_audio(
                    self.first_seen,
                    at,
                    if self.format.is_none_or(|format| format.is_pcm) { payload } else { &[] },
                );
                self.audio.on_packet(at, (header, payload), self.format, &mut self.evidence);
            }
            PacketType::Control => {
                // With the first CONTROL, a client may also begin another link.
                let is_settled = self.last_control.is_none() || self.opened_since_control;
                if !is_settled && self.last_audio.is_some_and(|audio| at.duration_since(audio) <= CONTROL_INTERVAL) {
                    let received = "CONTROL while AUDIO is sent";
                    self.evidence.add_text(
                        RuleId::AudioBeforeLink,
                        "AUDIO after a sealed packet of the server",
                        received,
                    );
                }
                let (last, count) = std::mem::take(&mut self.plain_keepalives);
                if at.duration_since(last) < RENEWAL {
                    self.evidence.take_back(RuleId::PlainAfterKeys, count);
                }
                (self.last_control, self.opened_since_control) = (Some(at), false);
            }
            PacketType::LatencyPing => {
                if let Err(error) = PingPayload::parse(packet) {
                    self.on_malformed(error);
                }
            }
            PacketType::LatencyInfo => match LatencyInfo::parse(payload) {
                Ok(info) => self.on_info(&info),
                Err(error) => self.on_malformed(error),
            },
            PacketType::Fec | PacketType::Keepalive | PacketType::LatencyPong => {}
        }
    }

    fn on_info(&mut self, info: &LatencyInfo) {
        self.info_seen = true;
        let is_delay = |ms: f32| (0.0..=10_000.0).contains(&ms);
        let delays = [info.capture_ms, info.playback_ms, info.encode_ms, info.decode_ms, info.jitter_buffer_ms];
        let fields = [
            (
                !LatencyInfo::SAMPLE_RATES.contains(&info.sample_rate),
                "a sample_rate of 8,000 to 192,000",
                info.sample_rate.to_string(),
            ),
            (!(1..=16_373).contains(&info.frame_size), "a frame_size of 1 to 16,373", info.frame_size.to_string()),
            (info.channel_count == Some(0), "a channel_count of at least 1", "0".to_owned()),
            (!["pcm", "opus"].contains(&&*info.codec), "codec pcm or opus", sanitize_name(&info.codec)),
            (!delays.into_iter().all(is_delay), "delays of 0 to 10,000 ms", format!("{delays:?}")),
        ];
        let wrong = fields.into_iter().find(|(is_wrong, ..)| *is_wrong);
        let format = wrong.is_none().then(|| Format {
            frame_size: info.frame_size,
            sample_rate: info.sample_rate,
            channels: info.channel_count,
            is_pcm: info.codec == "pcm",
        });
        if let Some((_, expected, received)) = wrong {
            self.evidence.add(RuleId::LatencyInfoValue, || (expected.to_owned(), received));
        }
        let old = std::mem::replace(&mut self.format, format);
        self.audio.on_format_change(old, format);
    }

    /// Evidence that follows from totals.
    fn totals(&self) -> Vec<Evidence> {
        let mut all = Vec::new();
        let mut found = |rule, count, expected: &str, received: String| {
            all.push(Evidence { rule, count, expected: expected.to_owned(), received, first: None });
        };
        let StreamCheck { sequences, duration, late, packets, agreed, groups, .. } = &self.audio;
        let (distinct, lost) = (u64::from(sequences.distinct()), sequences.gaps());
        let ratio = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let loss = ratio(lost, distinct + lost);
        if distinct + lost >= MIN_PACKETS {
            let shares = [
                (RuleId::Loss, lost, loss, "all packets", "missing"),
                (RuleId::Reordering, *late, ratio(*late, distinct), "ascending sequences", "late"),
                (
                    RuleId::Duplicates,
                    sequences.duplicates(),
                    ratio(sequences.duplicates(), *packets),
                    "each once",
                    "twice",
                ),
            ];
            for (rule, count, share, expected, otherwise) in
                shares.into_iter().filter(|(_, _, share, ..)| *share >= 0.001)
            {
                found(rule, count, expected, format!("{:.1} % {otherwise}", share * 100.0));
            }
        }
        if let Some(mean) = self.audio.jitter.mean().filter(|mean| *mean >= 5e6) {
            found(RuleId::Jitter, 1, "less than 5 ms of jitter", format!("{:.1} ms", mean / 1e6));
        }
        let presence = self.presence.as_secs_f64();
        let interval = presence / self.keepalives.max(1) as f64;
        if presence >= 10.0 && !(0.5..=2.5).contains(&interval) {
            let received = if self.keepalives == 0 { "none".to_owned() } else { format!("one per {interval:.2} s") };
            found(RuleId::KeepaliveInterval, 1, "one per second", received);
        }
        let seconds = duration.as_secs_f64();
        if seconds >= 10.0 && !self.info_seen && self.has_whole_link() {
            found(RuleId::LatencyInfoMissing, 1, "one at the start", format!("none in {seconds:.0} s of AUDIO"));
        }
        if self.replayed >= 50 && self.replayed >= self.opened {
            let received = format!("{} of {} again or too late", self.replayed, self.replayed + self.opened);
            found(RuleId::CounterRepeated, self.replayed, "each counter once", received);
        }
        // The last lost packets may be those that would have explained it.
        let began_here = self.first_sequence == Some(0) && self.last_control.is_none() && self.first_opened.is_none();
        if began_here && self.no_keys > 0 {
            found(RuleId::NoKeys, self.no_keys, "a key exchange before sealed packets", "a sealed packet".to_owned());
        }
        if let Some((rate, [low, high])) = self.drift() {
            let nearest = if low > 0.0 { low } else { -high };
            let ppm = low.midpoint(high);
            let limit = self.max_drift_ppm();
            if nearest > MAX_RATE_ERROR_PPM {
                let factor = 1.0 + ppm / 1e6;
                let channels = self.format.and_then(|format| format.channels).map_or(1.0, f64::from);
                let is_interleaved = channels > 1.0 && (factor / channels - 1.0).abs() * 1e6 < MAX_RATE_ERROR_PPM;
                let reason = if is_interleaved { ", so the timestamps count the samples of all channels" } else { "" };
                let received = format!("{:.0}{reason}", f64::from(rate) * factor);
                found(RuleId::PacketRate, 1, &format!("{rate} samples per second"), received);
            } else if nearest > limit {
                let source =
                    if self.format.is_none() { ", the nearest standard rate, without LATENCY_INFO" } else { "" };
                let received = format!("{ppm:.0} ppm (99.9 % interval {low:.0} to {high:.0})");
                found(RuleId::ClockDrift, 1, &format!("at most ±{limit:.0} ppm of {rate} Hz{source}"), received);
            }
        }
        if let (Some(Format { frame_size, channels: announced, .. }), Some((size, channels))) = (self.format, *agreed) {
            let announced = announced.map_or(channels, u32::from);
            for (rule, announced, of_packets) in
                [(RuleId::FrameSize, frame_size, size), (RuleId::ChannelCount, announced, channels)]
            {
                if announced != of_packets {
                    found(rule, 1, &announced.to_string(), of_packets.to_string());
                }
            }
        }
        if let Some((size, interval)) = groups.found {
            let received = format!("groups of {size} every {:.1} ms", interval.as_secs_f64() * 1e3);
            let packet_ms = self.audio.packet_ns as f64 / 1e6;
            found(RuleId::Pacing, 1, &format!("a packet every {packet_ms:.2} ms"), received);
        }
        all
    }

    /// Whether the link began at this server, and none of its packets is missing.
    pub(super) fn has_whole_link(&self) -> bool {
        self.last_control.is_some() && self.first_opened.is_some() && self.link_counters.0 == self.link_counters.1 + 1
    }

    /// The drift that is a warning after this time.
    pub(super) fn max_drift_ppm(&self) -> f64 {
        let seconds = self.audio.pace(self.format).map_or(0.0, |pace| pace.drift.span().as_secs_f64());
        MAX_DRIFTS_PPM.iter().find(|(from, _)| seconds >= *from).map_or(f64::MAX, |(_, ppm)| *ppm)
    }

    /// The sample rate, as announced or measured, and the interval of the drift.
    pub(super) fn drift(&self) -> Option<(u32, [f64; 2])> {
        let pace = self.audio.pace(self.format)?;
        Some((pace.rate, pace.drift.interval_ppm()?))
    }

    /// The findings with their rules, except of the rules `taken`, the worst first.
    fn findings(&self, taken: u64) -> Vec<(RuleId, Finding)> {
        let is_enough = |evidence: &&Evidence| evidence.count >= evidence.rule.rule().min_count;
        let totals = self.totals();
        let all: Vec<&Evidence> = self.evidence.all.iter().chain(&totals).filter(is_enough).collect();
        let is_found = |rule: &RuleId| all.iter().any(|evidence| evidence.rule == *rule);
        let new = all.iter().filter(|evidence| taken & 1 << evidence.rule as u8 == 0);
        let kept = new.filter(|evidence| !evidence.rule.rule().suppressed_by.iter().any(is_found));
        let mut findings: Vec<_> = kept.map(|evidence| (evidence.rule, evidence.finding())).collect();
        findings.sort_by_key(|(rule, finding)| (std::cmp::Reverse(finding.severity), *rule as u8));
        findings
    }

    /// Findings that were not taken before. Those of the first seconds wait, because a more precise rule may need more packets.
    pub(super) fn take_new_findings(&mut self, now: Time) -> Vec<Finding> {
        if now.duration_since(self.first_seen) < FIRST_FINDINGS {
            return Vec::new();
        }
        let findings = self.findings(self.taken);
        for (rule, _) in &findings {
            self.taken |= 1 << *rule as u8;
        }
        findings.into_iter().map(|(_, finding)| finding).collect()
    }

    pub(super) fn report(&self, source: SocketAddr) -> CheckedSource {
        let drift = self
            .drift()
            .map(|(_, interval_ppm)| DriftReport { ppm: interval_ppm[0].midpoint(interval_ppm[1]), interval_ppm });
        let report = SourceReport {
            source,
            packets: self.packets,
            audio: self.audio.packets,
            duration_s: self.last_seen.duration_since(self.first_seen).as_secs_f64(),
            frame_size: self.audio.agreed.map(|(size, _)| size).or(self.format.map(|format| format.frame_size)),
            sample_rate: self.audio.pace(self.format).map(|pace| pace.rate),
            channels: self.audio.channels(self.format),
            link: if self.first_opened.is_some() { "encrypted" } else { "plain" },
            lost: self.audio.sequences.gaps(),
            drift,
        };
        let (rules, findings): (Vec<_>, Vec<_>) = self.findings(0).into_iter().unzip();
        CheckedSource {
            name: source.to_string(),
            facts: facts(&report),
            took_part: report.audio > 0,
            details: Some(report),
            history: self.history.clone(),
            not_judged: not_judged(self, &rules),
            findings,
        }
    }
}

/// The header, if the datagram is AUDIO.
pub(super) fn audio_header(bytes: &[u8]) -> Option<Header> {
    let packet = parse_packet(&bytes[..bytes.len().min(HEADER_LEN)]).ok()?;
    Some(packet.header).filter(|header| header.packet_type == PacketType::Audio)
}

fn facts(source: &SourceReport) -> String {
    let mut facts = format!("{} AUDIO packets in {:.1} s, {} link", source.audio, source.duration_s, source.link);
    if let (Some(frame_size), Some(sample_rate)) = (source.frame_size, source.sample_rate) {
        // Writing to a string cannot fail.
        _ = write!(facts, ", {frame_size} samples at {sample_rate} Hz");
    }
    if let Some(channels) = source.channels {
        _ = write!(facts, ", {channels} channel{}", if channels == 1 { "" } else { "s" });
    }
    if let Some(drift) = source.drift {
        let [low, high] = drift.interval_ppm;
        _ = write!(facts, ", sample clock {:+.1} ppm ({low:+.1} to {high:+.1})", drift.ppm);
    }
    _ = write!(facts, ", {} lost on the way", source.lost);
    facts
}
