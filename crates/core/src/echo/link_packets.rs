//! Packets of encrypted links: key exchanges, sealed packets, and plain packets of clients that have a session.

use super::admission::Source;
use super::drops::Dropped;
use super::links::LinkPolicy;
use super::observer::DropReason;
use super::reply_store::{ReplyClass, ReplyPath};
use super::server::EchoServer;
use crate::link::{ControlAction, KeyId, OVERHEAD, OpenError, PublicHalf, to_plain};
use crate::node::Receive;
use crate::time::Time;
use crate::wire::{HEADER_LEN, Header, KeepaliveAction, PING_PAYLOAD_LEN, PacketType, PingPayload, keepalive_action};

/// The KEEPALIVE that proves to a client that the server has the keys. The number has no meaning.
const PROOF: Header = Header::new(PacketType::Keepalive, 1, 0);

/// The only valid header of CONTROL.
const CONTROL: Header = Header::new(PacketType::Control, 0, 0);

/// Why a source that sends CONTROL sends no AUDIO.
const NOT_CONFIRMED: &str = "the client has sent no packet with the exchanged keys";
const PLAIN_LINK: &str = "the link is plain, but the client sends no AUDIO";
const ENCRYPTED_LINK: &str = "the link is encrypted, but the client sends no AUDIO";

/// What is still to be handled of a packet that concerns a link.
pub(super) enum Content {
    /// Nothing: it was answered.
    Answered,
    /// The packet itself.
    Plain,
    /// The opened packet. The keys seal its replies.
    Opened(KeyId),
}

impl EchoServer {
    /// Opens a packet that concerns a link ([`Links::concerns`](super::links::Links::concerns)) in `buffer`, or answers a key exchange.
    pub(super) fn open(
        &mut self,
        received: &Receive<'_>,
        source: &Source,
        header: Header,
        bytes: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<Content, Dropped> {
        let now = received.received_at;
        let Some(links) = &mut self.links else { return Ok(Content::Plain) };
        let policy = links.config.policy;
        if header.packet_type == PacketType::Control {
            let result = self.handle_control(received, source, bytes);
            self.source_table.on_control(received.source, result.unwrap_or_else(DropReason::sentence));
            return Ok(result.map(|_| Content::Answered)?);
        }
        if policy == LinkPolicy::Plain {
            if let Some(session) = links.session(now, received.source) {
                session.on_plain(now);
            } else if links.plain_session(now, source.path).is_some() {
                let ping = fallback_ping(now);
                // The KEEPALIVE is counted with its echo.
                if self.admission.admit_copy(source.path, ReplyClass::Immediate, now, ping.len()) {
                    let _ = self.queue_reply(received, source, &ping, true);
                }
            }
            return Ok(Content::Plain);
        }
        if header.is_sealed() {
            return self.open_sealed(received, header, bytes, buffer);
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
            return Err(DropReason::Plain.into());
        }
        if let Some(session) = session.filter(|_| !is_encrypted) {
            if header.packet_type != PacketType::Audio {
                session.on_plain(now);
            } else if session.on_plain_link(now) {
                self.source_table.on_link(now, received.source, "plain", PLAIN_LINK);
            }
        }
        Ok(Content::Plain)
    }

    /// Answers CONTROL. Returns why the source may send no AUDIO.
    fn handle_control(
        &mut self,
        received: &Receive<'_>,
        source: &Source,
        bytes: &[u8],
    ) -> Result<&'static str, DropReason> {
        let (now, peer) = (received.received_at, received.source);
        let half = bytes.strip_prefix(&CONTROL.to_bytes()).and_then(PublicHalf::parse);
        let (Some(half), Some(links)) = (half, &mut self.links) else {
            return Err(DropReason::KeyExchange);
        };
        if links.config.policy == LinkPolicy::Plain {
            let session = links.plain_session(now, source.path).ok_or(DropReason::KeyRate)?;
            match session.on_plain_control(now, half) {
                None => {
                    self.counters.ignored.add(1);
                    return Ok(PLAIN_LINK);
                }
                Some(true) => self.source_table.on_link(now, peer, "plain", PLAIN_LINK),
                Some(false) => {}
            }
            self.reply(received, source, &fallback_ping(now))?;
            self.counters.key_exchanges.add(1);
            return Ok(PLAIN_LINK);
        }
        let (keys, answer) = match links.on_control(now, peer, half) {
            ControlAction::Ignore => {
                self.counters.ignored.add(1);
                let is_encrypted = links.session(now, peer).is_some_and(|session| session.is_encrypted());
                return Ok(if is_encrypted { ENCRYPTED_LINK } else { NOT_CONFIRMED });
            }
            ControlAction::Reject => return Err(DropReason::KeyExchange),
            ControlAction::Exchange if !links.admits_exchange(now, source.path) => return Err(DropReason::KeyRate),
            action => {
                // The answer is as long as the request.
                self.admission.admit_immediate(source, bytes.len())?;
                match action {
                    ControlAction::Repeat(keys, answer) => (keys, answer),
                    _ => links.exchange(now, source.path, half).ok_or(DropReason::KeyExchange)?,
                }
            }
        };
        self.queue_reply(received, source, &answer, true)?;
        self.counters.key_exchanges.add(1);
        let source = with_keys(source, keys);
        let proof_len = HEADER_LEN + OVERHEAD;
        if self.admission.admit_copy(source.path, ReplyClass::Immediate, now, proof_len) {
            let _ = self.queue_reply(received, &source, &PROOF.to_bytes(), true);
        }
        Ok(NOT_CONFIRMED)
    }

    /// Opens a sealed packet in `buffer`.
    fn open_sealed(
        &mut self,
        received: &Receive<'_>,
        header: Header,
        bytes: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<Content, Dropped> {
        let (now, peer) = (received.received_at, received.source);
        let Some(links) = &mut self.links else { return Ok(Content::Plain) };
        buffer.clear();
        buffer.extend_from_slice(bytes);
        let reason = match links.open(now, peer, buffer) {
            Ok(opened) => {
                if opened.is_new_link {
                    self.source_table.on_link(now, peer, "encrypted", ENCRYPTED_LINK);
                }
                return Ok(Content::Opened(opened.keys));
            }
            Err(OpenError::NoKeys)
                if header.packet_type == PacketType::Audio && links.config.policy == LinkPolicy::Auto =>
            {
                self.counters.audio_without_keys.add(1);
                return Ok(Content::Plain);
            }
            Err(OpenError::NoKeys) => DropReason::NoKeys,
            Err(OpenError::Replayed) => DropReason::Replayed,
            Err(OpenError::Forged) => DropReason::NotOpened,
        };
        Err(reason.into())
    }

    /// Handles an opened packet. `sealed` is the received datagram.
    pub(super) fn handle_opened(
        &mut self,
        received: &Receive<'_>,
        source: &Source,
        header: Header,
        sealed: &[u8],
        opened: &mut Vec<u8>,
    ) -> Result<(), Dropped> {
        if header.packet_type != PacketType::Audio {
            to_plain(opened);
            return self.handle_immediate(received, source, header, opened);
        }
        // The sealed bytes never repeat, unlike the opened bytes of a client that starts again with silence.
        let result = self.handle_audio(received, source, header, sealed, opened);
        if !self.observers.is_empty() {
            to_plain(opened);
        }
        result
    }
}

/// The LATENCY_PING after which a newer client sends plain AUDIO.
fn fallback_ping(now: Time) -> [u8; HEADER_LEN + PING_PAYLOAD_LEN] {
    PingPayload { sent_time_us: now.as_micros(), sequence: 0 }.to_ping_datagram()
}

/// The source, with replies that are sealed with these keys.
pub(super) fn with_keys(source: &Source, keys: KeyId) -> Source {
    let path = ReplyPath { keys: Some(keys), ..source.path };
    Source { path, digests: source.digests.clone() }
}
