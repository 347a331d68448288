//! One source: its datagrams, its link, and the findings about it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::echo::{DropReason, ObservedDatagram};
use jamjam_core::sanitize::sanitize_name;
use jamjam_core::time::Time;
use jamjam_core::wire::stun::MAGIC_COOKIE;
use jamjam_core::wire::{HEADER_LEN, Header, LatencyInfo, Packet, PacketError, PacketType, PingPayload, parse_packet};

use super::rules::{Evidence, EvidenceList, Finding, RuleId};
use super::stream::{Format, MAX_SILENCE, StreamCheck};
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

/// Time before the first findings.
const FIRST_FINDINGS: Duration = Duration::from_secs(3);

/// AUDIO packets for a share of loss, reordering and duplicates.
const MIN_PACKETS: u64 = 1_000;

/// One source.
#[derive(Debug, Default)]
pub(super) struct SourceCheck {
    first_seen: Time,
    pub(super) last_seen: Time,
    packets: u64,
    evidence: EvidenceList,
    /// Rules whose findings were taken, as bits.
    taken: u64,
    pub(super) audio: StreamCheck,
    history: SourceHistory,
    pub(super) last_audio: Option<Time>,
    keepalives: u64,
    format: Option<Format>,
    info_seen: bool,
    first_opened: Option<Time>,
    opened: u64,
    replayed: u64,
    last_control: Option<Time>,
    opened_since_control: bool,
}

impl SourceCheck {
    pub(super) fn new(at: Time) -> Self {
        Self { first_seen: at, last_seen: at, ..Self::default() }
    }

    /// Whether the AUDIO of this source, seen for at least a second, continues with `header` from another port.
    pub(super) fn is_continued_by(&self, header: Header, at: Time) -> bool {
        let Some(previous) =
            self.audio.previous.filter(|_| self.last_seen.duration_since(self.first_seen).as_secs() > 0)
        else {
            return false;
        };
        let packets = header.sequence.wrapping_sub(previous.header.sequence);
        let samples = header.timestamp.wrapping_sub(previous.header.timestamp);
        let size = self.format.map_or_else(|| samples / packets.max(1), |format| format.frame_size);
        (1..1_000).contains(&packets)
            && samples > 0
            && samples == packets.wrapping_mul(size)
            && header.sequence > 100
            && at.duration_since(self.last_seen) < Duration::from_secs(30)
    }

    /// The source has another port now.
    pub(super) fn on_port_change(&mut self, old: SocketAddr, new: SocketAddr) {
        let text = |address: SocketAddr| format!("port {}", address.port());
        self.evidence.add(RuleId::PortChange, || (text(old), text(new)));
    }

    /// Judges a datagram.
    pub(super) fn on_datagram(&mut self, datagram: ObservedDatagram<'_>) {
        let ObservedDatagram { at, bytes, is_opened, drop_reason, .. } = datagram;
        self.last_seen = self.last_seen.max(at);
        self.packets += 1;
        let is_stun = matches!(bytes, [0 | 1, _, _, _, cookie @ ..] if cookie.starts_with(&MAGIC_COOKIE));
        if drop_reason == Some(DropReason::Stun) {
            return self.evidence.add_text(RuleId::Stun, "a Binding request of RFC 8489", "another message");
        } else if is_stun {
            return;
        }
        let packet = match parse_packet(bytes) {
            Ok(packet) => packet,
            Err(error) => return self.on_malformed(error),
        };
        let size = bytes.len() + if is_opened { SEAL_LEN } else { 0 };
        if size > MAX_DATAGRAM {
            self.evidence
                .add(RuleId::DatagramSize, || (format!("at most {MAX_DATAGRAM} bytes"), format!("{size} bytes")));
        }
        let header = packet.header;
        if header.flags & RESERVED_FLAGS != 0 {
            self.evidence
                .add(RuleId::ReservedFlags, || ("only bits 0 and 1".to_owned(), format!("{:#06x}", header.flags)));
        }
        if header.packet_type == PacketType::Keepalive && !matches!(packet.payload, [1 | 2, _, _, _, _]) {
            self.keepalives += u64::from(self.last_audio.is_some_and(|audio| at.duration_since(audio) < MAX_SILENCE));
        }
        if is_opened {
            self.on_opened(at);
        }
        if self.on_drop_reason(at, packet, drop_reason, header.is_sealed() && !is_opened) {
            self.on_content(at, packet);
        }
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

    fn on_opened(&mut self, at: Time) {
        if self.first_opened.is_none() {
            self.first_opened = Some(at);
            // LATENCY_INFO follows on the link.
            self.info_seen = false;
        }
        if self.last_control.is_some() && !self.opened_since_control {
            self.audio.restart();
        }
        self.opened_since_control = true;
        self.opened += 1;
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
            Some(DropReason::NoKeys) | None if is_opaque => {
                self.evidence.add_text(RuleId::NoKeys, "a key exchange before sealed packets", "a sealed packet");
            }
            Some(DropReason::Plain) if self.first_opened.is_none() => {
                self.evidence.add_text(RuleId::LinkRequired, "sealed AUDIO", "plain AUDIO");
            }
            Some(DropReason::Plain) if !is_renewing => {
                let name = packet.header.packet_type.name();
                self.evidence.add(RuleId::PlainAfterKeys, || (format!("sealed {name}"), format!("plain {name}")));
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
                let name = reason.name();
                self.evidence
                    .add(RuleId::Limited, || ("packets within the limits".to_owned(), format!("one above ({name})")));
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
                if self.last_audio.is_some_and(|audio| at.duration_since(audio) <= CONTROL_INTERVAL) {
                    let received = "CONTROL while AUDIO is sent";
                    self.evidence.add_text(
                        RuleId::AudioBeforeLink,
                        "AUDIO after a sealed packet of the server",
                        received,
                    );
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
        if self.format != format {
            self.format = format;
            self.audio.on_format_change();
        }
    }

    /// Evidence that follows from totals.
    fn totals(&self) -> Vec<Evidence> {
        let mut all = Vec::new();
        let mut found = |rule, count, expected: &str, received: String| {
            all.push(Evidence { rule, count, expected: expected.to_owned(), received });
        };
        let StreamCheck { sequences, duration, late, packets, .. } = &self.audio;
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
        let seconds = duration.as_secs_f64();
        let interval = seconds / self.keepalives.max(1) as f64;
        if seconds >= 10.0 && !(0.5..=2.5).contains(&interval) {
            let received = if self.keepalives == 0 { "none".to_owned() } else { format!("one per {interval:.2} s") };
            found(RuleId::KeepaliveInterval, 1, "one per second", received);
        }
        let is_info_due = if self.first_opened.is_some() { seconds >= 16.0 } else { seconds >= 10.0 && loss < 0.005 };
        if is_info_due && !self.info_seen {
            found(RuleId::LatencyInfoMissing, 1, "one at the start", format!("none in {seconds:.0} s of AUDIO"));
        }
        if self.replayed >= 50 && self.replayed >= self.opened {
            let received = format!("{} of {} again or too late", self.replayed, self.replayed + self.opened);
            found(RuleId::CounterRepeated, self.replayed, "each counter once", received);
        }
        if let Some((rate, [low, high])) = self.drift() {
            let nearest = if low > 0.0 { low } else { -high };
            let ppm = low.midpoint(high);
            if nearest > 10_000.0 {
                let measured = f64::from(rate) * (1.0 + ppm / 1e6);
                found(RuleId::PacketRate, 1, &format!("{rate} samples per second"), format!("{measured:.0}"));
            } else if nearest > 100.0 && seconds >= 60.0 {
                let received = format!("{ppm:.0} ppm (95 % interval {low:.0} to {high:.0})");
                found(RuleId::ClockDrift, 1, "at most ±100 ppm", received);
            }
        }
        all
    }

    /// The stated sample rate, and the interval of the drift.
    fn drift(&self) -> Option<(u32, [f64; 2])> {
        let (rate, drift) = self.audio.drift.as_ref()?;
        Some((*rate, drift.interval_ppm()?))
    }

    /// The findings with their rules, except of the rules `taken`, the worst first.
    fn findings(&self, taken: u64) -> Vec<(RuleId, Finding)> {
        let is_enough = |evidence: &&Evidence| evidence.count >= evidence.rule.rule().min_count;
        let totals = self.totals();
        let all: Vec<&Evidence> = self.evidence.0.iter().chain(&totals).filter(is_enough).collect();
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
            frame_size: self.format.map(|format| format.frame_size),
            sample_rate: self.format.map(|format| format.sample_rate),
            channels: self.audio.channels(self.format),
            link: if self.first_opened.is_some() { "encrypted" } else { "plain" },
            lost: self.audio.sequences.gaps(),
            drift,
        };
        CheckedSource {
            name: source.to_string(),
            facts: facts(&report),
            took_part: report.audio > 0,
            details: Some(report),
            findings: self.findings(0).into_iter().map(|(_, finding)| finding).collect(),
            history: self.history.clone(),
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
