//! The client's end of an encrypted link, as today's jamjam client implements it: the key exchange, its timers, and what is accepted.
//!
//! This state machine is written from the specification of the client and shares no code with that of the server
//! (`session.rs` in `jamjam_core::link`), so that a misunderstanding in one of them does not hide in the other. What both use, the functions that
//! derive keys and seal and open packets, is verified with golden datagrams of independent programs. A packet is sealed when it is sent, with
//! a counter that is never used again.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::stream_kind::StreamKind;
use jamjam_core::link::{
    LinkKey, OpenError, Opener, Sealer, append_opened, derive, is_signed_by, public_key, to_plain,
};
use jamjam_core::node::{SendStatus, Transmit, TransmitSink};
use jamjam_core::time::{Time, saturating_nanos};
use jamjam_core::wire::{
    self, FLAG_SEALED, HEADER_LEN, Header, KeepaliveAction, LatencyInfo, Packet, PacketType, PingPayload,
};

/// Interval of CONTROL, until the first sealed packet of the server opens.
const CONTROL_INTERVAL: Duration = Duration::from_millis(250);

/// Interval of KEEPALIVE, and on a settled link of LATENCY_PING, unless the workload sends them.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of LATENCY_INFO on a settled link.
const LATENCY_INFO_INTERVAL: Duration = Duration::from_secs(5);

/// Maximum number of different keys of the server; further keys are refused. All are kept while the link is set up, because the counters under
/// a key that came back after it was forgotten would start again.
const MAX_KEYS: usize = 16;

/// Maximum number of waiting packets of the link itself: the answers to LATENCY_PING packets of the server must not fill the memory while the
/// socket is full.
const MAX_QUEUED: usize = 64;

/// Added to the sequence numbers of the workload's KEEPALIVE packets, which mean nothing to the server, so that other KEEPALIVE packets, such
/// as the server's own, are never mistaken for replies to them.
const WORKLOAD_KEEPALIVES: u32 = 1 << 30;

/// First sequence number of the link's own LATENCY_PING packets, far from the numbers of a workload.
const FIRST_OWN_PING: u32 = 1 << 31;

/// The flags that a client knows: sealed, `has_fec`. A sealed packet with another flag does not open, because the client builds the
/// authenticated header from the fields that it knows.
const KNOWN_FLAGS: u16 = 3;

/// First bytes of the payload of CONTROL: the version of the exchange, and whether a signature follows the key.
const UNSIGNED: &[u8] = &[1, 1];
const SIGNED: &[u8] = &[1, 2];

/// Begins the text that an end signs if it knows the link key of the other end.
const REQUEST_TEXT: &[u8] = b"jamjam-link-key-exchange-v1:";

/// Begins the text that a server signs.
const ANSWER_TEXT: &[u8] = b"jamjam-link-key-exchange-answer-v1:";

/// What a link needs.
pub struct LinkConfig {
    /// Random bytes: the private key of this link. They must be different for each link.
    pub entropy: Zeroizing<[u8; 32]>,
    /// For a signed link.
    pub signing: Option<LinkSigning>,
    /// Maximum time until the link is settled.
    pub timeout: Duration,
}

/// The keys of a signed link. The signaling server announces the public parts.
#[derive(Clone)]
pub struct LinkSigning {
    /// The client's own link key.
    pub own: LinkKey,
    /// The server's public link key.
    pub server: [u8; 32],
}

/// Why a link was not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum LinkFailure {
    /// Nothing arrived, not even an error.
    #[error(
        "no packet arrived from the server. Check the host, the port and firewalls, and that the server is running"
    )]
    NoReply,
    /// Nothing but ICMP port unreachable arrived.
    #[error("no program receives on this port (ICMP port unreachable). Check the port, and that the server is running")]
    PortUnreachable,
    /// The server echoes KEEPALIVE but ignores CONTROL.
    #[error(
        "the server returns KEEPALIVE but does not answer CONTROL, so it has no encrypted links. Omit --link to send plain packets"
    )]
    NoKeyExchange,
    /// No key of the server was accepted, although the link is unsigned.
    #[error(
        "the server answers CONTROL with a key that is signed or not usable. Check that the server is an echo server"
    )]
    KeyRefused,
    /// The link is signed, but no key of the server had a valid signature.
    #[error(
        "the server's key is not signed by the link key in the room. The server has restarted, or another server receives at this \
         address. Try again, or give --link unsigned"
    )]
    SignatureRefused,
    /// The link is signed, but the server sends plain packets.
    #[error(
        "the server sends plain packets, which a signed link never accepts. Start the server without --link plain, or give --link unsigned"
    )]
    PlainRefused,
    /// Keys were exchanged, but no sealed packet opened.
    #[error(
        "keys were exchanged, but no sealed packet of the server opened. A device on the path may modify packets. Check the server's log"
    )]
    NotOpened,
}

impl LinkFailure {
    /// Machine-readable name of the variant, as in the JSON report.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::NoReply => "no_reply",
            Self::PortUnreachable => "port_unreachable",
            Self::NoKeyExchange => "no_key_exchange",
            Self::KeyRefused => "key_refused",
            Self::SignatureRefused => "signature_refused",
            Self::PlainRefused => "plain_refused",
            Self::NotOpened => "not_opened",
        }
    }
}

/// Results of the link of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkResults {
    /// Whether the link is signed.
    pub is_signed: bool,
    /// Whether a sealed packet of the server has opened.
    pub is_encrypted: bool,
    /// Whether the server made the link plain.
    pub is_plain: bool,
    /// Time from the first CONTROL to the first opened packet, in nanoseconds.
    pub setup_ns: Option<u64>,
    /// Sealed packets that were changed, or sealed with other keys.
    pub not_opened: u64,
    /// Sealed packets whose counter was received before, or is too old.
    pub replayed: u64,
    /// Sealed packets that arrived before keys were exchanged, or on a plain link.
    pub without_keys: u64,
    /// Plain packets that were not accepted.
    pub plain: u64,
    /// CONTROL packets that were not accepted.
    pub refused_keys: u64,
    /// Why the link was not settled, and the time-out in nanoseconds.
    pub failure: Option<(LinkFailure, u64)>,
}

/// The result of one key exchange.
struct Keys {
    server_key: [u8; 32],
    sealer: Sealer,
    opener: Opener,
}

/// The client's end of a link.
pub(super) struct ClientLink {
    config: LinkConfig,
    own_key: [u8; 32],
    control: Vec<u8>,
    /// The keys for each key of the server.
    keys: Vec<Keys>,
    /// Index of the keys in use.
    current: usize,
    /// When the first CONTROL was sent.
    pub(super) started_at: Option<Time>,
    next_control: Time,
    next_keepalive: Time,
    /// When the settled link itself sends the next LATENCY_PING; `None` if the workload sends them. The server counts those of the link like
    /// those of the workload, so there are none of the evaluated stream.
    next_ping: Option<Time>,
    /// Whether the settled link itself sends KEEPALIVE.
    sends_keepalives: bool,
    latency_info: Vec<u8>,
    next_latency_info: Time,
    /// LATENCY_PING and KEEPALIVE of the link itself since it was settled. The array index is a `StreamKind`.
    pub(super) own_sent: [u32; 3],
    /// Sequence number of the next KEEPALIVE of the link itself.
    next_own_keepalive: u32,
    /// Whether the server has returned a KEEPALIVE.
    keepalive_returned: bool,
    /// Packets of the link itself, ready to send.
    queue: VecDeque<Vec<u8>>,
    /// The packet of the workload that the socket did not accept: plain and as it was offered to the socket.
    unsent: Option<(Vec<u8>, Vec<u8>)>,
    /// Memory for the next packet of the workload.
    packet: Vec<u8>,
    /// When a packet was last accepted.
    pub(super) accepted_at: Option<Time>,
    /// Whether KEEPALIVE is answered, as members of a room do. A server would return the answer.
    pub(super) answers_keepalives: bool,
    /// Sequence number of the last KEEPALIVE that was answered.
    answered: Option<u32>,
    /// The sample rate of the other end, as in its last LATENCY_INFO.
    pub(super) sample_rate: Option<u32>,
    pub(super) results: LinkResults,
}

impl ClientLink {
    /// `latency_info` is the datagram to send until the workload sends another one.
    pub(super) fn new(config: LinkConfig, latency_info: Vec<u8>, sends_pings: bool, sends_keepalives: bool) -> Self {
        let own_key = public_key(&config.entropy);
        let header = Header::new(PacketType::Control, 0, 0).to_bytes();
        let control = match &config.signing {
            None => [&header, UNSIGNED, &own_key].concat(),
            Some(LinkSigning { own, server }) => {
                let text = [REQUEST_TEXT, &own.public(), server, &own_key].concat();
                [&header, SIGNED, &own_key, &own.sign(&text)].concat()
            }
        };
        let results = LinkResults { is_signed: config.signing.is_some(), ..LinkResults::default() };
        Self {
            config,
            own_key,
            control,
            keys: Vec::new(),
            current: 0,
            started_at: None,
            next_control: Time::ZERO,
            next_keepalive: Time::ZERO,
            next_ping: sends_pings.then_some(Time::ZERO),
            sends_keepalives,
            latency_info,
            next_latency_info: Time::ZERO,
            own_sent: [0; 3],
            next_own_keepalive: 0,
            keepalive_returned: false,
            queue: VecDeque::new(),
            unsent: None,
            packet: Vec::new(),
            accepted_at: None,
            answers_keepalives: false,
            answered: None,
            sample_rate: None,
            results,
        }
    }

    /// Whether the workload may send.
    pub(super) fn is_settled(&self) -> bool {
        self.results.is_encrypted || self.results.is_plain
    }

    /// Sends what the link itself has to send. `port_unreachable`: whether the system has reported such an error.
    pub(super) fn poll_transmit(
        &mut self,
        now: Time,
        peer: SocketAddr,
        port_unreachable: bool,
        sink: &mut dyn TransmitSink,
    ) -> SendStatus {
        let started_at = *self.started_at.get_or_insert(now);
        if now >= self.next_keepalive && (self.sends_keepalives || !self.is_settled()) {
            self.next_keepalive = now + KEEPALIVE_INTERVAL;
            self.queue_keepalive();
        }
        if !self.is_settled() {
            if now >= started_at + self.config.timeout {
                let timeout_ns = saturating_nanos(self.config.timeout);
                self.results.failure = Some((self.failure(port_unreachable), timeout_ns));
                return SendStatus::Sent;
            }
            if now >= self.next_control {
                self.next_control = now + CONTROL_INTERVAL;
                self.queue_control();
            }
        }
        if self.is_settled() && now >= self.next_latency_info {
            self.next_latency_info = now + LATENCY_INFO_INTERVAL;
            self.queue_packet(&self.latency_info.clone());
        }
        if self.is_settled() && self.next_ping.is_some_and(|at| now >= at) {
            self.next_ping = Some(now + KEEPALIVE_INTERVAL);
            let own_pings = &mut self.own_sent[StreamKind::Ping as usize];
            let sequence = FIRST_OWN_PING + *own_pings;
            *own_pings += 1;
            self.queue_packet(&PingPayload { sent_time_us: now.as_micros(), sequence }.to_ping_datagram());
        }
        self.flush(peer, sink)
    }

    /// When to call [`ClientLink::poll_transmit`] next.
    pub(super) fn deadline(&self) -> Time {
        if let (Some(started_at), false) = (self.started_at, self.is_settled()) {
            return self.next_control.min(self.next_keepalive).min(started_at + self.config.timeout);
        }
        let next_keepalive = if self.sends_keepalives { self.next_keepalive } else { Time::MAX };
        self.next_latency_info.min(self.next_ping.unwrap_or(Time::MAX)).min(next_keepalive)
    }

    /// Why the link is not settled.
    fn failure(&self, port_unreachable: bool) -> LinkFailure {
        let LinkResults { is_signed, refused_keys, plain, .. } = self.results;
        match () {
            () if !self.keys.is_empty() => LinkFailure::NotOpened,
            () if refused_keys > 0 && is_signed => LinkFailure::SignatureRefused,
            () if refused_keys > 0 => LinkFailure::KeyRefused,
            () if plain > 0 => LinkFailure::PlainRefused,
            () if self.keepalive_returned => LinkFailure::NoKeyExchange,
            () if port_unreachable => LinkFailure::PortUnreachable,
            () => LinkFailure::NoReply,
        }
    }

    /// Queues CONTROL, and with keys a sealed KEEPALIVE.
    fn queue_control(&mut self) {
        if self.queue.len() < MAX_QUEUED {
            self.queue.push_back(self.control.clone());
        }
        if !self.keys.is_empty() {
            self.queue_keepalive();
        }
    }

    /// Queues a KEEPALIVE of the link itself.
    fn queue_keepalive(&mut self) {
        self.queue_packet(&Header::new(PacketType::Keepalive, self.next_own_keepalive, 0).to_bytes());
        self.next_own_keepalive += 1;
        self.own_sent[StreamKind::Keepalive as usize] += u32::from(self.is_settled());
    }

    /// Queues a packet, sealed if there are keys.
    fn queue_packet(&mut self, plain: &[u8]) {
        if self.queue.len() < MAX_QUEUED {
            let packet = self.sealed(plain, Vec::new());
            self.queue.push_back(packet);
        }
    }

    /// The packet as it is sent, in the memory of `packet`.
    fn sealed(&mut self, plain: &[u8], mut packet: Vec<u8>) -> Vec<u8> {
        packet.clear();
        if let Some(keys) = self.keys.get_mut(self.current) {
            append_opened(plain, &mut packet);
            keys.sealer.seal(&mut packet);
        } else {
            packet.extend_from_slice(plain);
        }
        packet
    }

    /// Sends the packets of the link itself that are ready.
    pub(super) fn flush(&mut self, peer: SocketAddr, sink: &mut dyn TransmitSink) -> SendStatus {
        while let Some(packet) = self.queue.front() {
            if sink.send(Transmit::datagram(peer, packet)) == SendStatus::WouldBlock {
                return SendStatus::WouldBlock;
            }
            self.queue.pop_front();
        }
        SendStatus::Sent
    }

    /// Handles a datagram from the server. Returns a packet for the workload, opened.
    pub(super) fn on_datagram<'a>(&mut self, at: Time, datagram: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        // The workload counts a datagram that is no packet.
        let Ok(packet) = wire::parse_packet(datagram) else { return Some(Cow::Borrowed(datagram)) };
        let Header { packet_type, flags, .. } = packet.header;
        if packet_type == PacketType::Control {
            if !self.on_control(datagram) {
                self.results.refused_keys += 1;
            }
            return None;
        }
        let plain = if packet.header.is_sealed() {
            Cow::Owned(self.open(at, datagram, flags)?)
        } else if self.accepts_plain(packet_type) {
            Cow::Borrowed(datagram)
        } else {
            // The server returned a KEEPALIVE of the set-up in plain text.
            self.results.plain += u64::from(packet_type != PacketType::Keepalive);
            return None;
        };
        self.accepted_at = Some(at);
        self.on_accepted(packet_type, plain)
    }

    /// Whether a plain packet is accepted. On an unsigned link without keys, the first one that is neither KEEPALIVE nor CONTROL makes the
    /// link plain.
    fn accepts_plain(&mut self, packet_type: PacketType) -> bool {
        if self.keys.is_empty() && packet_type == PacketType::Keepalive {
            self.keepalive_returned = true;
            return true;
        }
        self.results.is_plain |= self.keys.is_empty() && !self.results.is_signed;
        self.results.is_plain
    }

    /// Opens a sealed packet. Returns it without counter, tag and flag.
    fn open(&mut self, at: Time, datagram: &[u8], flags: u16) -> Option<Vec<u8>> {
        let mut packet = datagram.to_vec();
        let opened = match self.keys.get_mut(self.current) {
            None => Err(OpenError::NoKeys),
            Some(_) if flags & !KNOWN_FLAGS != 0 => Err(OpenError::Forged),
            Some(keys) => keys.opener.open(&mut packet),
        };
        let results = &mut self.results;
        if let Err(error) = opened {
            let dropped = match error {
                OpenError::NoKeys => &mut results.without_keys,
                OpenError::Replayed => &mut results.replayed,
                OpenError::Forged => &mut results.not_opened,
            };
            *dropped += 1;
            return None;
        }
        if !results.is_encrypted {
            results.is_encrypted = true;
            results.setup_ns = self.started_at.map(|started_at| saturating_nanos(at.duration_since(started_at)));
        }
        to_plain(&mut packet);
        packet[HEADER_LEN - 1] &= !(FLAG_SEALED as u8);
        Some(packet)
    }

    /// Handles an accepted packet. Returns it if it may be a reply to the workload.
    fn on_accepted<'a>(&mut self, packet_type: PacketType, plain: Cow<'a, [u8]>) -> Option<Cow<'a, [u8]>> {
        match packet_type {
            PacketType::Keepalive => {
                let Packet { header, payload } = wire::parse_packet(&plain).ok()?;
                if self.answers_keepalives && header.sequence < WORKLOAD_KEEPALIVES {
                    self.answer_keepalive(header, payload);
                }
                let sequence = header.sequence.checked_sub(WORKLOAD_KEEPALIVES)?;
                Some(Cow::Owned(with_sequence(&plain, header, sequence)))
            }
            PacketType::LatencyPing => {
                let ping = PingPayload::parse(wire::parse_packet(&plain).ok()?).ok()?;
                self.queue_packet(&ping.to_pong_datagram(ping.sequence));
                None
            }
            PacketType::LatencyPong => {
                let pong = wire::parse_packet(&plain).and_then(PingPayload::parse);
                (!pong.is_ok_and(|pong| pong.sequence >= FIRST_OWN_PING)).then_some(plain)
            }
            // Shown by a jamjam client.
            PacketType::LatencyInfo => {
                let rate = LatencyInfo::parse(wire::parse_packet(&plain).ok()?.payload).ok()?.sample_rate;
                self.sample_rate = Some(rate).filter(|rate| LatencyInfo::SAMPLE_RATES.contains(rate));
                None
            }
            _ => Some(plain),
        }
    }

    /// Answers a KEEPALIVE. The last one is not answered again: an echo server would return each answer.
    fn answer_keepalive(&mut self, header: Header, payload: &[u8]) {
        match wire::keepalive_action(payload) {
            KeepaliveAction::EchoWith(payload) => self.queue_packet(&[&header.to_bytes()[..], &payload].concat()),
            KeepaliveAction::EchoUnchanged if self.answered.replace(header.sequence) != Some(header.sequence) => {
                self.queue_packet(&[&header.to_bytes(), payload].concat());
            }
            _ => {}
        }
    }

    /// Handles CONTROL. Returns false if the key is refused.
    fn on_control(&mut self, datagram: &[u8]) -> bool {
        let Some(server_key) = self.authenticated_key(datagram).filter(|_| !self.results.is_plain) else {
            return false;
        };
        let known = self.keys.iter().position(|keys| keys.server_key == server_key);
        if self.is_settled() || known == Some(self.current) {
            return known == Some(self.current);
        }
        if let Some(known) = known {
            self.current = known;
            return true;
        }
        let derived = derive(&self.config.entropy, &self.own_key, &server_key);
        let Some((sealer, opener)) = derived.filter(|_| self.keys.len() < MAX_KEYS) else { return false };
        self.current = self.keys.len();
        self.keys.push(Keys { server_key, sealer, opener });
        if self.current == 0 {
            self.queue_control();
        }
        true
    }

    /// The server's key in CONTROL. `None` if CONTROL is not as long as it should be, or is not signed as it should be.
    fn authenticated_key(&self, datagram: &[u8]) -> Option<[u8; 32]> {
        let payload = datagram.strip_prefix(&Header::new(PacketType::Control, 0, 0).to_bytes())?;
        let Some(LinkSigning { own, server }) = &self.config.signing else {
            return payload.strip_prefix(UNSIGNED)?.try_into().ok();
        };
        let (key, signature) = payload.strip_prefix(SIGNED)?.split_first_chunk::<32>()?;
        let signature = signature.try_into().ok()?;
        let is_signed = |text: [&[u8]; 4]| is_signed_by(server, &text.concat(), signature);
        let is_answer = is_signed([ANSWER_TEXT, server, &self.own_key, key]);
        (is_answer || is_signed([REQUEST_TEXT, server, &own.public(), key])).then_some(*key)
    }
}

/// Seals the packets of a workload. While packets of the link itself wait, the socket counts as full.
pub(super) struct SealingSink<'a> {
    pub(super) link: &'a mut ClientLink,
    pub(super) now: Time,
    pub(super) sink: &'a mut dyn TransmitSink,
}

impl TransmitSink for SealingSink<'_> {
    /// `transmit` contains one datagram.
    fn send(&mut self, offered: Transmit<'_>) -> SendStatus {
        let Self { link, now, sink } = self;
        let plain = offered.contents;
        let Ok(packet) = wire::parse_packet(plain) else { return SendStatus::Failed };
        if link.flush(offered.destination, *sink) == SendStatus::WouldBlock {
            return SendStatus::WouldBlock;
        }
        let packet_type = packet.header.packet_type;
        let unsent = link.unsent.take().filter(|(unsent, _)| unsent == plain);
        let memory = std::mem::take(&mut link.packet);
        let sealed = match unsent {
            Some((_, sealed)) => sealed,
            None if packet_type == PacketType::Keepalive => {
                let sequence = packet.header.sequence.wrapping_add(WORKLOAD_KEEPALIVES);
                link.sealed(&with_sequence(plain, packet.header, sequence), memory)
            }
            None => link.sealed(plain, memory),
        };
        let status = sink.send(Transmit::datagram(offered.destination, &sealed));
        if status == SendStatus::WouldBlock {
            link.unsent = Some((plain.to_vec(), sealed));
            return status;
        }
        link.packet = sealed;
        match packet_type {
            PacketType::Keepalive => link.next_keepalive = *now + KEEPALIVE_INTERVAL,
            PacketType::LatencyPing => link.next_ping = None,
            PacketType::LatencyInfo => {
                (link.latency_info, link.next_latency_info) = (plain.to_vec(), *now + LATENCY_INFO_INTERVAL);
            }
            _ => {}
        }
        status
    }
}

/// The packet with another sequence number.
fn with_sequence(packet: &[u8], header: Header, sequence: u32) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[..HEADER_LEN].copy_from_slice(&Header { sequence, ..header }.to_bytes());
    packet
}
