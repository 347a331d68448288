//! Packets of encrypted links: key exchanges, sealed packets, and plain packets of clients that have a session.

use std::net::SocketAddr;

use super::admission::Source;
use super::links::LinkPolicy;
use super::log_events;
use super::reply_store::{ReplyClass, ReplyPath};
use super::server::EchoServer;
use crate::link::{ControlAction, KeyId, OVERHEAD, OpenError, PublicHalf, payload_range};
use crate::node::Receive;
use crate::stats::Counter;
use crate::time::Time;
use crate::wire::{
    HEADER_LEN, Header, KeepaliveAction, PING_PAYLOAD_LEN, PacketError, PacketType, PingPayload, keepalive_action,
};

/// The KEEPALIVE that proves to a client that the server has the keys. The number has no meaning.
const PROOF: Header = Header::new(PacketType::Keepalive, 1, 0);

/// The only valid header of CONTROL.
const CONTROL: Header = Header::new(PacketType::Control, 0, 0);

/// Why a source that sends CONTROL sends no AUDIO.
const NOT_CONFIRMED: &str = "the client has sent no packet with the exchanged keys";
const PLAIN_LINK: &str = "the link is plain, but the client sends no AUDIO";
const ENCRYPTED_LINK: &str = "the link is encrypted, but the client sends no AUDIO";
const EXCHANGE_LIMIT: &str = "too many key exchanges or links";
const RATE_LIMIT: &str = "the address exceeds its rate limit";
const INVALID_EXCHANGE: &str = "CONTROL is not a valid key exchange";

impl EchoServer {
    /// Handles a packet that concerns a link ([`Links::concerns`](super::links::Links::concerns)). Returns false if it is to be handled as
    /// a plain packet.
    pub(super) fn handle_link_packet(
        &mut self,
        received: &Receive<'_>,
        source: &Source,
        header: Header,
        bytes: &[u8],
    ) -> Result<bool, PacketError> {
        let now = received.received_at;
        let Some(links) = &mut self.replies.links else { return Ok(false) };
        let policy = links.config.policy;
        if header.packet_type == PacketType::Control {
            let state = self.handle_control(received, source, bytes);
            self.source_table.on_control(received.source, state);
            return Ok(true);
        }
        if policy == LinkPolicy::Plain {
            if let Some(session) = links.session(now, received.source) {
                session.on_plain(now);
            } else if links.plain_session(now, source.path).is_some() {
                let ping = fallback_ping(now);
                // The KEEPALIVE is counted with its echo.
                if self.admission.admit_copy(source, ReplyClass::Immediate, now, ping.len()) {
                    self.queue_reply(received, source, &ping);
                }
            }
            return Ok(false);
        }
        if header.is_sealed() {
            return self.handle_sealed(received, source, header, bytes, policy);
        }
        let is_required = policy == LinkPolicy::Require && header.packet_type == PacketType::Audio;
        let session = links.session(now, received.source);
        let is_probe = header.packet_type == PacketType::Keepalive
            && keepalive_action(&bytes[HEADER_LEN..]) != KeepaliveAction::EchoUnchanged;
        let is_encrypted = session.as_ref().is_some_and(|session| session.is_encrypted());
        if is_required || is_encrypted && !is_probe {
            if is_required && !is_encrypted {
                self.source_table.on_plain_audio(now, received.source);
            }
            drop_packet(received.source, &self.counters.dropped_plain, "plain packet on an encrypted link");
            return Ok(true);
        }
        if let Some(session) = session.filter(|_| !is_encrypted) {
            if header.packet_type != PacketType::Audio {
                session.on_plain(now);
            } else if session.on_plain_link(now) {
                self.source_table.on_link(now, received.source, "plain", PLAIN_LINK);
            }
        }
        Ok(false)
    }

    /// Answers CONTROL. Returns why the source may send no AUDIO.
    fn handle_control(&mut self, received: &Receive<'_>, source: &Source, bytes: &[u8]) -> &'static str {
        let (now, peer) = (received.received_at, received.source);
        let half = bytes.strip_prefix(&CONTROL.to_bytes()).and_then(PublicHalf::parse);
        let (Some(half), Some(links)) = (half, &mut self.replies.links) else {
            return drop_packet(peer, &self.counters.dropped_key_exchange, INVALID_EXCHANGE);
        };
        if links.config.policy == LinkPolicy::Plain {
            let Some(session) = links.plain_session(now, source.path) else {
                return drop_packet(peer, &self.counters.dropped_key_rate, EXCHANGE_LIMIT);
            };
            match session.on_plain_control(now, half) {
                None => {
                    self.counters.ignored.add(1);
                    return PLAIN_LINK;
                }
                Some(true) => self.source_table.on_link(now, peer, "plain", PLAIN_LINK),
                Some(false) => {}
            }
            let is_answered = self.reply(received, source, &fallback_ping(now));
            self.counters.key_exchanges.add(usize::from(is_answered));
            return PLAIN_LINK;
        }
        let (keys, answer) = match links.on_control(now, peer, half) {
            ControlAction::Ignore => {
                self.counters.ignored.add(1);
                let is_encrypted = links.session(now, peer).is_some_and(|session| session.is_encrypted());
                return if is_encrypted { ENCRYPTED_LINK } else { NOT_CONFIRMED };
            }
            ControlAction::Reject => {
                return drop_packet(peer, &self.counters.dropped_key_exchange, INVALID_EXCHANGE);
            }
            ControlAction::Exchange if !links.admits_exchange(now, source.path) => {
                return drop_packet(peer, &self.counters.dropped_key_rate, EXCHANGE_LIMIT);
            }
            // The answer is as long as the request.
            _ if !self.admission.admit_immediate(source, bytes.len()) => return RATE_LIMIT,
            ControlAction::Repeat(keys, answer) => (keys, answer),
            ControlAction::Exchange => match links.exchange(now, source.path, half) {
                Some(exchanged) => exchanged,
                None => return drop_packet(peer, &self.counters.dropped_key_exchange, INVALID_EXCHANGE),
            },
        };
        if self.queue_reply(received, source, &answer) {
            self.counters.key_exchanges.add(1);
            let source = with_keys(source, keys);
            let proof_len = HEADER_LEN + OVERHEAD;
            if self.admission.admit_copy(&source, ReplyClass::Immediate, now, proof_len) {
                self.queue_reply(received, &source, &PROOF.to_bytes());
            }
        }
        NOT_CONFIRMED
    }

    /// Opens and handles a sealed packet. Returns false if it is to be handled as a plain packet.
    fn handle_sealed(
        &mut self,
        received: &Receive<'_>,
        source: &Source,
        header: Header,
        bytes: &[u8],
        policy: LinkPolicy,
    ) -> Result<bool, PacketError> {
        let (now, peer) = (received.received_at, received.source);
        let mut datagram = std::mem::take(&mut self.opened);
        datagram.clear();
        datagram.extend_from_slice(bytes);
        let opened =
            self.replies.links.as_mut().map_or(Err(OpenError::NoKeys), |links| links.open(now, peer, &mut datagram));
        let result = match opened {
            Ok(opened) => {
                if opened.is_new_link {
                    self.source_table.on_link(now, peer, "encrypted", ENCRYPTED_LINK);
                }
                self.handle_opened(received, &with_keys(source, opened.keys), header, bytes, &mut datagram)
                    .map(|()| true)
            }
            Err(OpenError::NoKeys) if header.packet_type == PacketType::Audio && policy == LinkPolicy::Auto => {
                self.counters.audio_without_keys.add(1);
                Ok(false)
            }
            Err(error) => {
                let (counter, reason) = match error {
                    OpenError::NoKeys => (&self.counters.dropped_no_keys, "sealed packet without keys"),
                    OpenError::Replayed => {
                        (&self.counters.dropped_replayed, "counter of a sealed packet repeated or too old")
                    }
                    OpenError::Forged => (&self.counters.dropped_not_opened, "sealed packet does not open"),
                };
                drop_packet(peer, counter, reason);
                Ok(true)
            }
        };
        self.opened = datagram;
        result
    }

    /// Handles an opened packet. `sealed` is the received datagram.
    fn handle_opened(
        &mut self,
        received: &Receive<'_>,
        source: &Source,
        header: Header,
        sealed: &[u8],
        opened: &mut Vec<u8>,
    ) -> Result<(), PacketError> {
        if header.packet_type != PacketType::Audio {
            let payload = payload_range(opened.len());
            opened.copy_within(payload, HEADER_LEN);
            opened.truncate(opened.len() - OVERHEAD);
            return self.handle_immediate(received, source, header, opened);
        }
        self.record_accepted_audio(received, header);
        // The sealed bytes never repeat, unlike the opened bytes of a client that starts again with silence.
        if self.admission.admit_audio(source, received.received_at, sealed) {
            let received = Receive { contents: opened, segment_size: opened.len(), ..*received };
            self.queue_audio(&received, source, 0..opened.len());
        }
        Ok(())
    }
}

/// Counts and logs a dropped packet. Returns the reason.
fn drop_packet(peer: SocketAddr, counter: &Counter, reason: &'static str) -> &'static str {
    counter.add(1);
    log_events::log_dropped(peer, reason);
    reason
}

/// The LATENCY_PING after which a newer client sends plain AUDIO.
fn fallback_ping(now: Time) -> [u8; HEADER_LEN + PING_PAYLOAD_LEN] {
    PingPayload { sent_time_us: now.as_micros(), sequence: 0 }.to_ping_datagram()
}

/// The source, with replies that are sealed with these keys.
fn with_keys(source: &Source, keys: KeyId) -> Source {
    let path = ReplyPath { keys: Some(keys), ..source.path };
    Source { path, digests: source.digests.clone() }
}
