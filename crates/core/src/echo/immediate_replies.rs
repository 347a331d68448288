//! Replies to KEEPALIVE, LATENCY_PING and STUN, which are sent without delay.

use std::time::Duration;

use tracing::debug;

use super::admission::Source;
use super::drops::Dropped;
use super::log_events;
use super::observer::DropReason;
use super::reply_store::{NewReplies, ReplyClass};
use super::server::EchoServer;
use crate::address::canonical_socket_addr;
use crate::link::{self, to_opened};
use crate::node::Receive;
use crate::time::Time;
use crate::wire::{
    self, HEADER_LEN, Header, KeepaliveAction, LatencyInfo, Packet, PacketError, PacketType, PingPayload, stun,
};

/// The count of socket drops is read at most once per this time, because reading it can take long.
const SOCKET_DROPS_INTERVAL: Duration = Duration::from_millis(100);

impl EchoServer {
    /// Handles datagrams from the STUN server. Its responses to the echo server's requests would otherwise be parsed as AUDIO. Its other
    /// datagrams are handled like those of any other source.
    pub(super) fn handle_stun_server(&mut self, received: &Receive<'_>) {
        for contents in received.segments() {
            let monitor = self.mapped_address_monitor.as_mut();
            if !monitor.is_some_and(|monitor| monitor.handle_response(contents, &self.counters)) {
                self.handle_receive(&Receive { contents, ..*received });
            }
        }
    }

    /// Handles one packet that is not AUDIO: `bytes` is the datagram, `header` its header. A sealed packet was opened, so that `bytes`
    /// contains only header and payload.
    pub(super) fn handle_immediate(
        &mut self,
        received: &Receive<'_>,
        source: &Source,
        header: Header,
        bytes: &[u8],
    ) -> Result<(), Dropped> {
        let payload = &bytes[HEADER_LEN..];
        match header.packet_type {
            PacketType::LatencyPing => {
                let request = PingPayload::parse(Packet { header, payload })?;
                self.reply(received, source, &request.to_pong_datagram(header.sequence))?;
                self.counters.pings.add(1);
            }
            PacketType::Keepalive => {
                let keepalives = match wire::keepalive_action(payload) {
                    // Another echo server never agrees on keys.
                    KeepaliveAction::EchoUnchanged if source.path.keys.is_some() => {
                        self.reply(received, source, bytes)?;
                        1
                    }
                    KeepaliveAction::EchoUnchanged => self.answer_plain_keepalive(received, source, bytes)?,
                    KeepaliveAction::EchoWith(payload) => {
                        let mut probe_reply = [0; HEADER_LEN + 5];
                        probe_reply[..HEADER_LEN].copy_from_slice(&bytes[..HEADER_LEN]);
                        probe_reply[HEADER_LEN..].copy_from_slice(&payload);
                        self.reply(received, source, &probe_reply)?;
                        1
                    }
                    KeepaliveAction::NoReply => {
                        self.ignore(received, header);
                        0
                    }
                };
                self.counters.keepalives.add(keepalives);
            }
            PacketType::LatencyInfo => {
                let info = LatencyInfo::parse(payload)?;
                self.counters.latency_infos.add(1);
                log_events::log_latency_info(received.source, &info);
            }
            PacketType::Audio | PacketType::Fec | PacketType::Control | PacketType::LatencyPong => {
                self.ignore(received, header);
            }
        }
        Ok(())
    }

    /// Echoes a KEEPALIVE, unless it may be part of a reply loop. Returns the number of echoes.
    fn answer_plain_keepalive(
        &mut self,
        received: &Receive<'_>,
        source: &Source,
        bytes: &[u8],
    ) -> Result<usize, DropReason> {
        match self.admission.admit_keepalive(source, received.received_at, bytes)? {
            None => self.queue_reply(received, source, bytes, true).map(|()| 1),
            Some(check) => {
                // Loop checks are not impaired.
                self.queue_reply(received, source, &check, false)?;
                self.counters.loop_checks.add(1);
                let destination = canonical_socket_addr(received.source);
                debug!(target: "echo", %destination, "loop-check packet put in the send queue");
                Ok(0)
            }
        }
    }

    fn ignore(&self, received: &Receive<'_>, header: Header) {
        self.counters.ignored.add(1);
        let reason = match header.packet_type {
            PacketType::Fec => "not used by an echo server",
            PacketType::Control => "encrypted links are not enabled",
            PacketType::LatencyPong => "no matching LATENCY_PING",
            PacketType::Keepalive => "this KEEPALIVE is a reply to a route probe",
            PacketType::Audio | PacketType::LatencyPing | PacketType::LatencyInfo => "no reply needed",
        };
        debug!(
            target: "echo",
            r#type = header.packet_type.name(),
            seq = header.sequence,
            source = %canonical_socket_addr(received.source),
            reason,
            "packet ignored"
        );
    }

    /// Replies to a STUN request. This is the only reply that may be longer than its request (`docs/protocol.md`). Impairment does not
    /// apply to STUN replies.
    pub(super) fn handle_stun(&mut self, received: &Receive<'_>, source: &Source, bytes: &[u8]) -> Result<(), Dropped> {
        let message = stun::parse_message(bytes).map_err(PacketError::from)?;
        let stats = self.source_table.on_stun(received.received_at, received.source);
        self.counters.untracked.add(usize::from(stats.is_none()));
        match message {
            stun::StunMessage::Request(request) => {
                let requested = stats.zip(request.counts_requested());
                let counts = requested.and_then(|(stats, time)| stats.report_counts(received.received_at, time));
                let report = counts.map(|counts| self.report(received.received_at, counts, source));
                let response = request.respond(received.source, report.as_ref());
                self.admission.admit_immediate(source, response.len())?;
                self.queue_reply(received, source, &response, false)?;
                self.counters.stun_requests.add(1);
            }
            stun::StunMessage::Indication => {
                self.counters.ignored.add(1);
                debug!(target: "echo", source = %canonical_socket_addr(received.source), "STUN indication ignored");
            }
        }
        Ok(())
    }

    /// What the server reports to a client, from which it has received `received`.
    fn report(&mut self, now: Time, received: stun::ReceivedCounts, source: &Source) -> stun::ServerReport {
        if let Some(read) = &self.read_socket_drops
            && self.socket_drops.0.is_none_or(|read_at| now.duration_since(read_at) >= SOCKET_DROPS_INTERVAL)
        {
            self.socket_drops = (Some(now), read().unwrap_or(0) as u32);
        }
        stun::ServerReport {
            received,
            delay: self.delay,
            pauses: self.counters.pauses.get() as u32,
            paused: Duration::from_millis(self.counters.paused_ms.get()),
            dropped: self.socket_drops.1,
            recent: self.pauses.recent(self.admission.postponed_until(source)),
        }
    }

    /// Queues an immediate reply if the limits of the source permit it.
    pub(super) fn reply(&mut self, received: &Receive<'_>, source: &Source, reply: &[u8]) -> Result<(), DropReason> {
        let overhead = source.path.keys.map_or(0, |_| link::OVERHEAD);
        self.admission.admit_immediate(source, reply.len() + overhead)?;
        self.queue_reply(received, source, reply, true)
    }

    /// Queues an immediate reply, which is sealed if packets of the source are, and impaired if the options of the server apply to it.
    pub(super) fn queue_reply(
        &mut self,
        received: &Receive<'_>,
        source: &Source,
        reply: &[u8],
        is_impaired: bool,
    ) -> Result<(), DropReason> {
        let opened = source.path.keys.is_some().then(|| to_opened(reply));
        let contents = opened.as_deref().unwrap_or(reply);
        let replies = NewReplies {
            class: ReplyClass::Immediate,
            received_at: received.received_at,
            delay: Duration::ZERO,
            is_impaired,
            contents,
            segment_size: contents.len(),
        };
        self.queue(source.path, replies).map_err(|(_, reason)| reason)
    }
}
