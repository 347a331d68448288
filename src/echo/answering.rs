//! What the server does with all but AUDIO: most of it is answered at once, the rest is counted.

use std::time::Duration;

use super::budget::Refused;
use super::delay_line::Pushed;
use super::guard::KeepaliveReply;
use super::route::Route;
use super::{Echo, log};
use crate::node::Datagram;
use crate::wire::{self, HEADER_LEN, Info, Kind, Malformed, Packet, Ping, stun};

impl Echo {
    /// Handles one packet that is not AUDIO.
    pub(super) fn answer(&mut self, train: &Datagram<'_>, packet: Packet<'_>, bytes: &[u8]) -> Result<(), Malformed> {
        match packet.header.kind {
            Kind::LatencyPing => {
                let ping = Ping::parse(packet)?;
                let answer = ping.pong(packet.header.sequence);
                if self.guard.admit(train, answer.len()) && self.answer_with(train, &answer) {
                    self.counters.pings.add(1);
                }
            }
            Kind::Keepalive => {
                let probed;
                let (answer, admitted) = match wire::route_probe_answer(packet.payload) {
                    wire::Keepalive::Unchanged => (bytes, self.admit_keepalive(train, bytes)),
                    wire::Keepalive::Payload(payload) => {
                        let mut whole = [0; HEADER_LEN + 5];
                        whole[..HEADER_LEN].copy_from_slice(&bytes[..HEADER_LEN]);
                        whole[HEADER_LEN..].copy_from_slice(&payload);
                        probed = whole;
                        (&probed[..], self.guard.admit(train, probed.len()))
                    }
                    wire::Keepalive::Silence => {
                        self.counters.ignored.add(1);
                        log::ignored(train.from, packet.header);
                        return Ok(());
                    }
                };
                if admitted && self.answer_with(train, answer) {
                    self.counters.keepalives.add(1);
                }
            }
            Kind::LatencyInfo => {
                let info = Info::parse(packet.payload)?;
                self.counters.infos.add(1);
                log::info_received(train.from, &info);
            }
            Kind::Audio | Kind::Fec | Kind::Control | Kind::LatencyPong => {
                self.counters.ignored.add(1);
                log::ignored(train.from, packet.header);
            }
        }
        Ok(())
    }

    /// Whether a KEEPALIVE is returned unchanged. A loop check leaves before the echo, so that it comes back before it.
    fn admit_keepalive(&mut self, train: &Datagram<'_>, bytes: &[u8]) -> bool {
        match self.guard.admit_keepalive(train, bytes) {
            KeepaliveReply::Nothing => false,
            KeepaliveReply::Echo => true,
            KeepaliveReply::LoopCheckAndEcho(check) => {
                // A bad path on purpose does not apply to it.
                let route = Route { peer: train.from, local: train.to };
                if self.answers.push(train.at, route, &check, check.len()).refused.is_none() {
                    self.counters.loop_checks.add(1);
                    log::loop_check(train.from);
                }
                true
            }
        }
    }

    /// Tells a STUN client its address. The one answer that may be longer than its question (`docs/protocol.md`). It is no
    /// packet, so a bad path on purpose does not apply to it.
    pub(super) fn answer_stun(&mut self, train: &Datagram<'_>, bytes: &[u8]) -> Result<(), Malformed> {
        let message = stun::parse(bytes)?;
        let source = self.sources.hear_stun(train.at, train.from);
        self.counters.unfollowed.add(usize::from(source.is_none()));
        match message {
            stun::Message::Request(request) => {
                let heard = source.filter(|_| request.asks()).and_then(|source| source.tell(train.at));
                let answer = request.answer(train.from, heard);
                let answer = answer.as_bytes();
                if self.guard.admit(train, answer.len()) && self.answer_at_once(train, answer) {
                    self.counters.stun.add(1);
                }
            }
            stun::Message::Indication => {
                self.counters.ignored.add(1);
                log::indication_ignored(train.from);
            }
        }
        Ok(())
    }

    /// Queues one datagram that is due at once. False when it was refused, which is counted here.
    fn answer_with(&mut self, train: &Datagram<'_>, bytes: &[u8]) -> bool {
        let Some(scattered) = &mut self.scattered else { return self.answer_at_once(train, bytes) };
        let route = Route { peer: train.from, local: train.to };
        let copy_admitted = || self.guard.admit_copy(train, bytes.len());
        let Pushed { refused, .. } = scattered.push(train.at, Duration::ZERO, route, bytes, copy_admitted);
        self.count_refused_answer(refused)
    }

    /// The same over a good path, whatever is done to others.
    fn answer_at_once(&mut self, train: &Datagram<'_>, bytes: &[u8]) -> bool {
        let route = Route { peer: train.from, local: train.to };
        let Pushed { refused, .. } = self.answers.push(train.at, route, bytes, bytes.len());
        self.count_refused_answer(refused)
    }

    /// True if none was refused.
    fn count_refused_answer(&self, refused: Option<(Refused, usize)>) -> bool {
        match refused {
            Some((Refused::Total | Refused::Client, _)) => self.counters.refused_answers.add(1),
            Some((Refused::Memory, _)) => self.counters.refused_memory.add(1),
            None => {}
        }
        refused.is_none()
    }

    pub(super) fn count_malformed(&mut self, reason: Malformed) {
        match reason {
            Malformed::Short(_) => self.counters.dropped_short.add(1),
            Malformed::Version(_) => self.counters.dropped_version.add(1),
            Malformed::Kind(_) => self.counters.dropped_type.add(1),
            Malformed::Payload { .. } => self.counters.dropped_payload.add(1),
            Malformed::Stun(_) => self.counters.dropped_stun.add(1),
        }
    }
}
