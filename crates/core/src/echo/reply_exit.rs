//! The exit of all replies, from the delay line and from the impaired network.

use super::admission::Admission;
use super::counters::Counters;
use super::links::Links;
use super::log_events;
use super::reply_memory::ReplyMemory;
use super::reply_store::{POSTPONED, Reply, ReplyClass};
use super::sources::SourceTable;
use crate::node::{SendStatus, Transmit, TransmitSink};
use crate::outcome::Outcome;
use crate::time::Time;
use crate::transit::Exit;

/// What decides whether replies leave, and what counts those that do.
pub(super) struct ReplyExit<'a> {
    pub(super) now: Time,
    pub(super) links: Option<&'a mut Links>,
    pub(super) admission: &'a mut Admission,
    pub(super) sources: &'a mut SourceTable,
    pub(super) memory: &'a mut ReplyMemory,
    pub(super) counters: &'a Counters,
}

impl ReplyExit<'_> {
    /// Sends the datagrams of a reply, unless its link was replaced or has ended, or its address exceeds its limits. Seals them before.
    pub(super) fn send(&mut self, reply: &mut Reply, datagrams: &mut [u8], sink: &mut dyn TransmitSink) -> Exit {
        if self.links.as_mut().is_some_and(|links| !links.permits(self.now, reply)) {
            self.counters.dropped_old_link.add(reply.segment_count());
            return Exit::Left(Outcome::OldLink);
        }
        let is_uncharged = reply.class == ReplyClass::Audio && !reply.is(POSTPONED);
        if is_uncharged {
            let echoes = transmit(reply, datagrams);
            let send_at = self.admission.rate_limiter.send_time(self.now, reply.path, &echoes);
            if send_at > self.now {
                self.admission.on_postponed(self.now, send_at, reply.path, &echoes);
                reply.marks |= POSTPONED;
                return Exit::Later(send_at);
            }
        }
        if let Some(links) = &mut self.links {
            links.seal(reply, datagrams);
        }
        let transmit = transmit(reply, datagrams);
        let status = sink.send(transmit);
        match status {
            SendStatus::Sent => {
                if is_uncharged {
                    self.admission.rate_limiter.charge_sent(self.now, reply.path, &transmit);
                }
                self.count_sent(reply, &transmit);
            }
            SendStatus::Failed => self.counters.send_failed.add(transmit.segment_count()),
            SendStatus::WouldBlock | SendStatus::GsoUnsupported => return Exit::Refused(status),
        }
        // A duplicate counts towards the limits itself.
        reply.marks &= !POSTPONED;
        Exit::from(status)
    }

    fn count_sent(&mut self, reply: &Reply, transmit: &Transmit<'_>) {
        let (counters, count) = (self.counters, transmit.segment_count());
        let (sent, lateness) = match reply.class {
            ReplyClass::Audio => (&counters.sent, &counters.audio_lateness),
            ReplyClass::Immediate => (&counters.immediate_replies, &counters.immediate_lateness),
        };
        sent.add(count);
        counters.sent_bytes.add(transmit.contents.len());
        // `due` is the due time of the first datagram, so lateness is never underestimated.
        lateness.observe(self.now.duration_since(reply.due), count);
        log_events::log_sent(reply.class, transmit);
        if reply.class == ReplyClass::Audio {
            self.sources.on_echoed(reply.path.peer, count);
        }
    }
}

fn transmit<'a>(reply: &Reply, contents: &'a [u8]) -> Transmit<'a> {
    let Reply { path, segment_size, .. } = *reply;
    Transmit { socket: 0, destination: path.peer, src_ip: path.src_ip, contents, segment_size: segment_size.into() }
}
