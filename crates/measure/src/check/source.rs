//! What one source has sent, and its link.

use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::echo::{DropReason as Reason, ObservedDatagram};
use jamjam_core::link::{OVERHEAD, SealMistake};
use jamjam_core::sanitize::sanitize_name;
use jamjam_core::stats::{DriftEstimator, SequenceTracker};
use jamjam_core::time::Time;
use jamjam_core::wire::stun::MAGIC_COOKIE;
use jamjam_core::wire::{HEADER_LEN, Header, LatencyInfo, Packet, PacketError, PacketType, PingPayload, parse_packet};

use super::history::SourceHistory;
use super::rules::{Evidence, FirstPacket, RuleId};
use super::stream::StreamCheck;

/// Larger datagrams may be fragmented.
const MAX_DATAGRAM: usize = 1_200;

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

/// One source.
#[derive(Debug, Default)]
pub(super) struct SourceCheck {
    pub(super) first_seen: Time,
    pub(super) last_seen: Time,
    pub(super) packets: u64,
    /// Whether it has sent a packet that can be read, or so many datagrams that cannot.
    pub(super) is_client: bool,
    /// Start and datagrams of an interval without a valid datagram.
    invalid: (Time, u32),
    pub(super) evidence: Evidence,
    /// Rules whose findings were announced.
    pub(super) announced: Vec<&'static str>,
    pub(super) audio: StreamCheck,
    pub(super) history: SourceHistory,
    pub(super) last_audio: Option<Time>,
    /// The sequence of the first AUDIO, even if it cannot be opened.
    pub(super) first_sequence: Option<u32>,
    pub(super) keepalives: u64,
    /// How many of them may only answer the last one of another member.
    pub(super) answers: u64,
    pub(super) last_keepalive: Option<Header>,
    /// Time since the first AUDIO in which the client was there.
    pub(super) presence: Duration,
    pub(super) info_seen: bool,
    /// The lateness of LATENCY_PING by the clock of the client, which the path delays like AUDIO, and when the first was sent and arrived.
    pub(super) pings: DriftEstimator,
    first_ping: Option<(u64, Time)>,
    pub(super) opened: u64,
    pub(super) replayed: u64,
    /// The least and the greatest counter of those.
    pub(super) replayed_counters: Option<(u64, u64)>,
    /// Why sealed packets do not open, if that is known.
    mistake: Option<SealMistake>,
    /// Opened packets of this link, and the newest counter.
    pub(super) link_counters: (u64, u64),
    pub(super) no_keys: u64,
    /// If it sends to another member of a room: the counters of what it seals for that one, and when it last sent
    /// CONTROL, unless they have begun anew since.
    pub(super) counters: Option<(SequenceTracker, Option<Time>)>,
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
            && self.audio.is_continued_by(header)
    }

    /// The source has another port now.
    pub(super) fn on_port_change(&mut self, at: Time, old: SocketAddr, new: SocketAddr) {
        self.moved_from = Some((old, at));
        let [old, new] = [old, new].map(|address| format!("port {}", address.port()));
        self.evidence.add(RuleId::PortChange, old, new);
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
        let ObservedDatagram { at, bytes, drop_reason, mistake, .. } = datagram;
        self.mistake = self.mistake.or(mistake);
        let absence = at.duration_since(self.last_seen);
        if self.first_sequence.is_some() && absence < MAX_ABSENCE {
            self.presence += absence;
        }
        self.last_seen = self.last_seen.max(at);
        self.packets += 1;
        let at_s = at.duration_since(self.first_seen).as_secs_f64();
        self.evidence.packet = Some(FirstPacket { at_s, packet: "datagram", sequence: 0 });
        let is_stun = matches!(bytes, [0 | 1, _, _, _, cookie @ ..] if cookie.starts_with(&MAGIC_COOKIE));
        if drop_reason == Some(Reason::Stun) {
            self.on_invalid(at);
            self.evidence.add(RuleId::Stun, "a Binding request of RFC 8489", "another message");
        } else if !is_stun && let Err(error) = self.on_packet(at_s, datagram) {
            self.on_malformed(error);
        }
    }

    fn on_packet(&mut self, at_s: f64, datagram: ObservedDatagram<'_>) -> Result<(), PacketError> {
        let ObservedDatagram { at, bytes, counter, drop_reason, .. } = datagram;
        let packet = parse_packet(bytes).inspect_err(|_| self.on_invalid(at))?;
        let Header { packet_type, sequence, flags, .. } = packet.header;
        self.is_client = true;
        self.evidence.packet = Some(FirstPacket { at_s, packet: packet_type.name(), sequence });
        let size = bytes.len() + if counter.is_some() { OVERHEAD } else { 0 };
        if size > MAX_DATAGRAM {
            let expected = format_args!("at most {MAX_DATAGRAM} bytes");
            self.evidence.add(RuleId::DatagramSize, expected, format_args!("{size} bytes"));
        }
        if packet_type == PacketType::Audio {
            self.first_sequence.get_or_insert(sequence);
            self.last_audio = Some(at);
        }
        if flags & RESERVED_FLAGS != 0 {
            self.evidence.add(RuleId::ReservedFlags, "only bits 0 and 1", format_args!("{flags:#06x}"));
        }
        let is_keepalive = packet_type == PacketType::Keepalive && !matches!(packet.payload, [1 | 2, _, _, _, _]);
        self.keepalives += u64::from(is_keepalive && self.first_sequence.is_some());
        if let Some(counter) = counter {
            self.on_opened(counter);
        }
        let is_opaque = packet.header.is_sealed() && counter.is_none();
        if self.on_drop_reason(at, packet, drop_reason, is_opaque) { self.on_content(at, packet) } else { Ok(()) }
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
        self.evidence.add(rule, expected, received);
    }

    fn on_opened(&mut self, counter: u64) {
        // LATENCY_INFO follows on the link.
        self.info_seen &= self.opened > 0;
        if self.last_control.is_some() && !self.opened_since_control {
            self.audio.restart();
            self.link_counters = (0, 0);
        }
        self.opened_since_control = true;
        self.opened += 1;
        self.link_counters = (self.link_counters.0 + 1, self.link_counters.1.max(counter));
    }

    /// Judges why the server drops a packet. Returns whether its content can be judged.
    fn on_drop_reason(&mut self, at: Time, packet: Packet<'_>, reason: Option<Reason>, is_opaque: bool) -> bool {
        let is_renewing = self.last_control.is_some_and(|control| at.duration_since(control) < RENEWAL);
        match reason {
            Some(Reason::Replayed) => {
                self.replayed += 1;
                let counter = packet.payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                let (least, most) = self.replayed_counters.unwrap_or((counter, counter));
                self.replayed_counters = Some((least.min(counter), most.max(counter)));
            }
            // The server has only keys that no packet has opened with.
            Some(Reason::NoKeys) if is_renewing && !self.opened_since_control => self.on_not_opened(),
            // Without an opened packet since CONTROL, there is no previous link.
            Some(Reason::NotOpened) if !(is_renewing && self.opened_since_control) => self.on_not_opened(),
            Some(Reason::NoKeys) | None if is_opaque => self.no_keys += 1,
            Some(Reason::Plain) if self.opened == 0 => {
                self.evidence.add(RuleId::LinkRequired, "sealed AUDIO", "plain AUDIO");
            }
            Some(Reason::Plain) if !is_renewing => {
                let name = packet.header.packet_type.name();
                self.evidence.add(RuleId::PlainAfterKeys, format!("sealed {name}"), format!("plain {name}"));
                if packet.header.packet_type == PacketType::Keepalive {
                    self.plain_keepalives = (at, self.plain_keepalives.1 + 1);
                }
            }
            Some(Reason::NotOpened | Reason::Plain) => {}
            Some(Reason::KeyExchange) => self.on_wrong_control(packet),
            Some(reason @ (Reason::Repeated | Reason::PacketRate | Reason::BitRate | Reason::KeyRate)) => {
                let rule = if reason == Reason::Repeated { RuleId::Limited } else { RuleId::RateLimited };
                let received = format_args!("one above ({})", reason.name());
                self.evidence.add(rule, "packets within the limits", received);
                return !is_opaque && reason != Reason::KeyRate;
            }
            _ => return !is_opaque,
        }
        false
    }

    fn on_not_opened(&mut self) {
        let unknown = "one without a likely mistake; compare the shared secret, the salt (the smaller public key first), the key that seals \
             (`low to high` or `high to low`), and which CONTROL the keys are from";
        let received = self.mistake.map_or(unknown, SealMistake::text);
        self.evidence.add(RuleId::NotOpened, "one sealed with the agreed keys", received);
    }

    fn on_wrong_control(&mut self, Packet { header, payload }: Packet<'_>) {
        let Header { sequence, timestamp, flags, .. } = header;
        let received = match payload {
            _ if (sequence, timestamp, flags) != (0, 0, 0) => {
                format!("sequence {sequence}, timestamp {timestamp}, flags {flags:#06x}")
            }
            [1, kind @ 1..=2, key @ ..] if [32, 96][usize::from(kind - 1)] == key.len() => {
                "the key of the server itself, or one whose shared secret is zero".to_owned()
            }
            [first, second, rest @ ..] => format!("{first:02x} {second:02x} and {} bytes", rest.len()),
            _ => format!("a payload of {} bytes", payload.len()),
        };
        let expected =
            "sequence, timestamp and flags 0, and 01 01 and a key of 32 bytes, or 01 02, key and signature of 64";
        self.evidence.add(RuleId::KeyExchange, expected, received);
    }

    fn on_content(&mut self, at: Time, packet: Packet<'_>) -> Result<(), PacketError> {
        let Packet { header, payload } = packet;
        let is_opaque = self.counters.is_some() && header.is_sealed();
        if is_opaque {
            self.audio.format = None;
        }
        match header.packet_type {
            PacketType::Audio => {
                let samples = if self.audio.is_pcm() && !is_opaque { payload } else { &[] };
                self.history.on_audio(self.first_seen, at, samples);
                self.audio.on_packet(at, header, payload.len(), &mut self.evidence);
                self.audio.on_samples(at, samples, &mut self.evidence);
            }
            PacketType::Control => {
                // With the first CONTROL, a client may also begin another link.
                let is_settled = self.last_control.is_none() || self.opened_since_control;
                if !is_settled && self.last_audio.is_some_and(|audio| at.duration_since(audio) <= CONTROL_INTERVAL) {
                    let expected = "AUDIO after a sealed packet of the server";
                    self.evidence.add(RuleId::AudioBeforeLink, expected, "CONTROL while AUDIO is sent");
                }
                let (last, count) = std::mem::take(&mut self.plain_keepalives);
                if at.duration_since(last) < RENEWAL {
                    self.evidence.take_back(RuleId::PlainAfterKeys, count);
                }
                (self.last_control, self.opened_since_control) = (Some(at), false);
            }
            PacketType::LatencyPing | PacketType::LatencyInfo if is_opaque => {}
            PacketType::LatencyPing => {
                let ping = PingPayload::parse(packet)?;
                let (first_sent, first) = *self.first_ping.get_or_insert((ping.sent_time_us, at));
                let sent_s = ping.sent_time_us.wrapping_sub(first_sent).cast_signed() as f64 / 1e6;
                self.pings.on_earliest(sent_s, at.signed_nanos_since(first) as f64 - sent_s * 1e9);
            }
            PacketType::LatencyInfo => self.on_info(LatencyInfo::parse(payload)?),
            PacketType::Fec | PacketType::Keepalive | PacketType::LatencyPong => {}
        }
        Ok(())
    }

    fn on_info(&mut self, info: LatencyInfo) {
        self.info_seen = true;
        let rates = LatencyInfo::SAMPLE_RATES;
        let delays = [info.capture_ms, info.playback_ms, info.encode_ms, info.decode_ms, info.jitter_buffer_ms];
        let are_delays = delays.iter().all(|ms| (0.0..=10_000.0).contains(ms));
        let fields = [
            (rates.contains(&info.sample_rate), "a sample_rate of 8,000 to 192,000", info.sample_rate.to_string()),
            ((1..=16_373).contains(&info.frame_size), "a frame_size of 1 to 16,373", info.frame_size.to_string()),
            (info.channel_count != Some(0), "a channel_count of at least 1", "0".to_owned()),
            (["pcm", "opus"].contains(&&*info.codec), "codec pcm or opus", sanitize_name(&info.codec)),
            (are_delays, "delays of 0 to 10,000 ms", format!("{delays:?}")),
        ];
        let wrong = fields.into_iter().find(|(is_right, ..)| !is_right);
        self.audio.on_format(wrong.is_none().then_some(info));
        if let Some((_, expected, received)) = wrong {
            self.evidence.add(RuleId::LatencyInfoValue, expected, received);
        }
    }

    /// The sample rate, as announced or measured, and the interval of the drift.
    pub(super) fn drift(&self) -> Option<(u32, [f64; 2])> {
        let pace = self.audio.pace()?;
        Some((pace.rate, pace.drift.interval_ppm()?))
    }
}

/// The header, if the datagram is AUDIO.
pub(super) fn audio_header(bytes: &[u8]) -> Option<Header> {
    let packet = parse_packet(&bytes[..bytes.len().min(HEADER_LEN)]).ok()?;
    Some(packet.header).filter(|header| header.packet_type == PacketType::Audio)
}
