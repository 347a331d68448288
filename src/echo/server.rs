//! The server: handles received datagrams, queues replies, and sends what is due.
//!
//! Immediate replies use a separate delay line, whose delay is zero. Therefore one segmented send transmits consecutive replies to one
//! client, and no reply needs a memory allocation. A server with impairment queues AUDIO and the replies to KEEPALIVE and LATENCY_PING in a
//! [`ReleaseQueue`] instead.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Admission, AdmissionConfig, KeepaliveDecision};
use super::counters::Counters;
use super::delay_line::{
    BufferFull, BufferLimits, DelayLine, DueTransmit, IMMEDIATE_REPLY_LIMITS, PushResult, ReplyPath,
};
use super::log_events;
use super::mapped_address::{MappedAddressMonitor, StunConfig};
use super::pauses::PauseDetector;
use super::release_queue::{ReleaseQueue, ReplyObserver};
use super::sources::SourceTable;
use crate::address::{is_invalid_source, is_ipv4_source_over_ipv6};
use crate::impairment::{Impairer, Impairment};
use crate::log_throttle::LogThrottle;
use crate::memory_budget::MemoryBudget;
use crate::node::{MAX_SENDS_PER_POLL, Node, Receive, SendStatus, TransmitSink};
use crate::stats::Counter;
use crate::time::Time;
use crate::wire::{self, HEADER_LEN, Header, LatencyInfo, Packet, PacketError, PacketType, PingPayload, stun};

/// Default delay of AUDIO.
pub const DEFAULT_DELAY: Duration = Duration::from_secs(3);

/// Configuration of an echo server.
#[derive(Clone, Debug)]
pub struct EchoConfig {
    /// Delay of AUDIO.
    pub delay: Duration,
    /// Memory limits of delayed AUDIO.
    pub buffer_limits: BufferLimits,
    /// The memory budget of the process.
    pub memory_budget: Arc<MemoryBudget>,
    /// Whether to log when a source is first seen and when it becomes inactive. If true, a timer wakes the server at most once per second.
    pub log_sources: bool,
    /// Limits on replies.
    pub admission: AdmissionConfig,
    /// The server's own port; `None` if unknown. A datagram that arrives from the server's own address and this port is forged.
    pub local_port: Option<u16>,
}

impl Default for EchoConfig {
    fn default() -> Self {
        Self {
            delay: DEFAULT_DELAY,
            buffer_limits: BufferLimits::default(),
            memory_budget: MemoryBudget::new(None),
            log_sources: false,
            admission: AdmissionConfig::default(),
            local_port: None,
        }
    }
}

/// Reads how many datagrams the socket has dropped because its receive buffer was full; `None` if the system does not report this count.
pub type ReadSocketDrops = Box<dyn Fn() -> Option<u64> + Send>;

/// The count of socket drops is read at most once per this time, because reading it can take long.
const SOCKET_DROPS_INTERVAL: Duration = Duration::from_millis(100);

/// An echo server as a [`Node`].
pub struct EchoServer {
    delay: Duration,
    local_port: Option<u16>,
    /// AUDIO.
    delay_line: DelayLine,
    /// Immediate replies.
    immediate_line: DelayLine,
    /// Used only if replies are impaired or observed. In that case, this queue replaces `delay_line` for AUDIO. It also replaces
    /// `immediate_line` for the replies to KEEPALIVE and LATENCY_PING.
    release_queue: Option<ReleaseQueue>,
    counters: Arc<Counters>,
    admission: Admission,
    buffer_throttle: LogThrottle,
    /// Number of packets that were dropped because of the buffer limits and are already recorded in `buffer_throttle`.
    throttled_buffer_drops: u64,
    source_table: SourceTable,
    /// Headers of the current batch. The vector is kept to reuse its memory.
    parsed: Vec<Result<Header, PacketError>>,
    mapped_address_monitor: Option<MappedAddressMonitor>,
    pauses: PauseDetector,
    read_socket_drops: Option<ReadSocketDrops>,
    /// The last count of socket drops, and when it was read.
    socket_drops: (Option<Time>, u32),
}

impl EchoServer {
    /// A server with an empty delay line.
    pub fn new(config: EchoConfig) -> Self {
        Self::with_max_delay(config.delay, config)
    }

    /// `max_delay`: the maximum time from an AUDIO packet to its echo, impairment included.
    fn with_max_delay(max_delay: Duration, config: EchoConfig) -> Self {
        let counters = Arc::<Counters>::default();
        let limit_loopback = config.admission.limit_loopback;
        let line = |limits| DelayLine::new(limits, limit_loopback, Arc::clone(&config.memory_budget));
        Self {
            delay: config.delay,
            local_port: config.local_port,
            delay_line: line(config.buffer_limits),
            immediate_line: line(IMMEDIATE_REPLY_LIMITS),
            release_queue: None,
            admission: Admission::new(config.admission, max_delay, Arc::clone(&counters)),
            pauses: PauseDetector::new(Arc::clone(&counters)),
            counters,
            buffer_throttle: LogThrottle::default(),
            throttled_buffer_drops: 0,
            source_table: SourceTable::new(config.log_sources),
            parsed: Vec::new(),
            mapped_address_monitor: None,
            read_socket_drops: None,
            socket_drops: (None, 0),
        }
    }

    /// A server whose replies are impaired. `observer` receives the outcome of each reply.
    pub fn with_impairment(config: EchoConfig, impairment: Impairment, observer: Box<dyn ReplyObserver>) -> Self {
        let (limits, delay, budget) = (config.buffer_limits, config.delay, Arc::clone(&config.memory_budget));
        let limit_loopback = config.admission.limit_loopback;
        // With impairment, a datagram in a reply loop takes longer for each round. Therefore, the limit on repeated AUDIO packets uses a
        // longer interval.
        let mut server = Self::with_max_delay(delay + impairment.max_delay(), config);
        let (impairer, counters) = (Impairer::new(impairment), server.counters());
        server.release_queue = Some(ReleaseQueue::new(impairer, observer, counters, limits, limit_loopback, &budget));
        server
    }

    /// Starts to monitor the mapped address of the server's socket. STUN transactions take place at the first poll and then every 25 s.
    /// `observer` receives the first mapped address, and then the new address whenever the mapped address changes. An IPv4-mapped IPv6
    /// address (`::ffff:a.b.c.d`) is first converted to IPv4. The observer runs on the node's thread and must not block.
    pub fn monitor_mapped_address(&mut self, config: StunConfig, observer: Box<dyn FnMut(SocketAddr) + Send>) {
        self.mapped_address_monitor = Some(MappedAddressMonitor::new(config, observer));
    }

    /// Reports the drops of the socket to clients. `read` is called on the node's thread.
    pub fn report_socket_drops(&mut self, read: ReadSocketDrops) {
        self.read_socket_drops = Some(read);
    }

    /// The counters, which can be read while the server runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Counts all queued replies as dropped.
    pub fn stop(self) {
        let impaired = self.release_queue.map_or(0, ReleaseQueue::stop);
        self.counters.dropped_at_stop.add(self.delay_line.len() + self.immediate_line.len() + impaired);
        self.counters.buffered.set(0);
        self.counters.buffered_bytes.set(0);
    }

    /// Handles datagrams from the STUN server. Responses to the echo server's requests are handled here, because otherwise they would be
    /// parsed as AUDIO. Other datagrams from the STUN server are handled like datagrams from any other source.
    fn handle_stun_server(&mut self, received: &Receive<'_>) {
        for contents in received.segments() {
            let is_response = self
                .mapped_address_monitor
                .as_mut()
                .is_some_and(|monitor| monitor.handle_response(contents, &self.counters));
            if !is_response {
                self.handle_receive(&Receive { contents, ..*received });
            }
        }
    }

    /// Handles datagrams of one source.
    fn handle_receive(&mut self, received: &Receive<'_>) {
        if received.source.port() == 0 {
            // A reply to port 0 fails, and the failure would disable segmented sends for all clients.
            self.counters.dropped_port_zero.add(received.segments().count());
            log_events::log_port_zero(received.source);
        } else if is_invalid_source(received.source.ip())
            || is_ipv4_source_over_ipv6(received.source.ip(), received.dst_ip)
            || self.is_from_itself(received)
        {
            self.counters.dropped_invalid_source.add(received.segments().count());
            log_events::log_invalid_source(received.source);
        } else if self.admission.allows_source(received) {
            self.handle_segments(received);
        }
    }

    /// Whether the source is this server's own address and port.
    fn is_from_itself(&self, received: &Receive<'_>) -> bool {
        Some(received.source.port()) == self.local_port
            && received.dst_ip.is_some_and(|ip| ip.to_canonical() == received.source.ip().to_canonical())
    }

    /// Parses each datagram once and records the source. Consecutive AUDIO packets are handled together, and all other datagrams
    /// one by one.
    fn handle_segments(&mut self, received: &Receive<'_>) {
        let mut parsed = std::mem::take(&mut self.parsed);
        parsed.clear();
        parsed.extend(received.segments().map(|bytes| wire::parse_packet(bytes).map(|packet| packet.header)));
        let headers = parsed.iter().filter_map(|header| header.ok());
        self.counters.untracked.add(self.source_table.on_packets(received.received_at, received.source, headers));
        let (mut run, mut offset) = (0..0, 0);
        for (bytes, header) in received.segments().zip(&parsed) {
            let end = offset + bytes.len();
            match *header {
                Ok(header) if header.packet_type == PacketType::Audio => {
                    if self.admission.admit_audio(received, bytes) {
                        run = if run.is_empty() { offset..end } else { run.start..end };
                    } else {
                        self.delay_audio(received, std::mem::take(&mut run));
                    }
                }
                header => {
                    self.delay_audio(received, std::mem::take(&mut run));
                    let result = match header {
                        Ok(header) => self.handle_immediate(received, header, bytes),
                        Err(_) if stun::is_stun(bytes) => self.handle_stun(received, bytes),
                        Err(error) => Err(error),
                    };
                    if let Err(error) = result {
                        self.record_malformed(received, bytes, error);
                    }
                }
            }
            offset = end;
        }
        self.delay_audio(received, run);
        self.parsed = parsed;
    }

    /// Queues AUDIO packets for their delayed echo. The packets are consecutive and have been admitted. They occupy the byte range `run`
    /// in `received.contents`.
    fn delay_audio(&mut self, received: &Receive<'_>, run: Range<usize>) {
        let bytes = &received.contents[run];
        if bytes.is_empty() {
            return;
        }
        let reply_path = ReplyPath::of(received);
        // With impairment, each packet is queued separately.
        let piece_len = if self.release_queue.is_some() { received.segment_size } else { bytes.len() };
        for bytes in bytes.chunks(piece_len) {
            let PushResult { admitted, dropped } = match &mut self.release_queue {
                Some(queue) => {
                    let copy_admitted = || self.admission.admit_delayed_copy(received, bytes.len());
                    queue.push(received.received_at, self.delay, reply_path, bytes, copy_admitted)
                }
                None => {
                    self.delay_line.push(received.received_at + self.delay, reply_path, bytes, received.segment_size)
                }
            };
            self.counters.received.add(admitted);
            log_events::log_audio_received(received.source, bytes.chunks(received.segment_size), admitted);
            match dropped {
                Some((BufferFull::Total, packets)) => self.counters.dropped_buffer_full.add(packets),
                Some((BufferFull::Client, packets)) => self.counters.dropped_client_buffer_full.add(packets),
                Some((BufferFull::MemoryBudget, packets)) => self.counters.dropped_memory_budget.add(packets),
                Some((BufferFull::OutOfMemory, packets)) => self.counters.dropped_out_of_memory.add(packets),
                None => {}
            }
        }
    }

    /// Handles one packet that is not AUDIO: `bytes` is the datagram, `header` its header.
    fn handle_immediate(&mut self, received: &Receive<'_>, header: Header, bytes: &[u8]) -> Result<(), PacketError> {
        let payload = &bytes[HEADER_LEN..];
        match header.packet_type {
            PacketType::LatencyPing => {
                let request = PingPayload::parse(Packet { header, payload })?;
                let reply = request.to_pong_datagram(header.sequence);
                if self.admission.admit_immediate(received, reply.len()) && self.queue_reply(received, &reply) {
                    self.counters.pings.add(1);
                }
            }
            PacketType::Keepalive => {
                let mut probe_reply = [0; HEADER_LEN + 5];
                let (reply, admitted) = match wire::keepalive_action(payload) {
                    wire::KeepaliveAction::EchoUnchanged => match self.admission.admit_keepalive(received, bytes) {
                        KeepaliveDecision::Drop => return Ok(()),
                        KeepaliveDecision::Echo => (bytes, true),
                        KeepaliveDecision::LoopCheck(check) => {
                            // Loop checks are not impaired.
                            if self.queue_unimpaired_reply(received, &check) {
                                self.counters.loop_checks.add(1);
                                log_events::log_loop_check(received.source);
                            }
                            return Ok(());
                        }
                    },
                    wire::KeepaliveAction::EchoWith(payload) => {
                        probe_reply[..HEADER_LEN].copy_from_slice(&bytes[..HEADER_LEN]);
                        probe_reply[HEADER_LEN..].copy_from_slice(&payload);
                        (&probe_reply[..], self.admission.admit_immediate(received, probe_reply.len()))
                    }
                    wire::KeepaliveAction::NoReply => {
                        self.ignore(received, header);
                        return Ok(());
                    }
                };
                if admitted && self.queue_reply(received, reply) {
                    self.counters.keepalives.add(1);
                }
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

    fn ignore(&self, received: &Receive<'_>, header: Header) {
        self.counters.ignored.add(1);
        log_events::log_ignored(received.source, header);
    }

    /// Replies to a STUN request. This is the only reply that may be longer than its request (`docs/protocol.md`). Impairment does not
    /// apply to STUN replies.
    fn handle_stun(&mut self, received: &Receive<'_>, bytes: &[u8]) -> Result<(), PacketError> {
        let message = stun::parse_message(bytes)?;
        let stats = self.source_table.on_stun(received.received_at, received.source);
        self.counters.untracked.add(usize::from(stats.is_none()));
        match message {
            stun::StunMessage::Request(request) => {
                let counts = stats
                    .zip(request.counts_requested())
                    .and_then(|(stats, time)| stats.report_counts(received.received_at, time));
                let report = counts.map(|counts| self.report(received.received_at, counts));
                let response = request.respond(received.source, report.as_ref());
                let response = response.as_bytes();
                if self.admission.admit_immediate(received, response.len())
                    && self.queue_unimpaired_reply(received, response)
                {
                    self.counters.stun_requests.add(1);
                }
            }
            stun::StunMessage::Indication => {
                self.counters.ignored.add(1);
                log_events::log_indication_ignored(received.source);
            }
        }
        Ok(())
    }

    /// What the server reports to a client, from which it has received `received`.
    fn report(&mut self, now: Time, received: stun::ReceivedCounts) -> stun::ServerReport {
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
            recent: self.pauses.recent(),
        }
    }

    /// Queues an immediate reply. If the reply does not fit, counts it as dropped and returns false.
    fn queue_reply(&mut self, received: &Receive<'_>, reply: &[u8]) -> bool {
        let Some(queue) = &mut self.release_queue else { return self.queue_unimpaired_reply(received, reply) };
        let copy_admitted = || self.admission.admit_immediate_copy(received, reply.len());
        let PushResult { dropped, .. } =
            queue.push(received.received_at, Duration::ZERO, ReplyPath::of(received), reply, copy_admitted);
        self.count_dropped_reply(dropped)
    }

    /// Like [`EchoServer::queue_reply`], but without impairment.
    fn queue_unimpaired_reply(&mut self, received: &Receive<'_>, reply: &[u8]) -> bool {
        let PushResult { dropped, .. } =
            self.immediate_line.push(received.received_at, ReplyPath::of(received), reply, reply.len());
        self.count_dropped_reply(dropped)
    }

    /// Counts a dropped reply. Returns true if nothing was dropped.
    fn count_dropped_reply(&self, dropped: Option<(BufferFull, usize)>) -> bool {
        match dropped {
            Some((BufferFull::Total | BufferFull::Client, _)) => self.counters.dropped_reply_buffer_full.add(1),
            Some((BufferFull::MemoryBudget, _)) => self.counters.dropped_memory_budget.add(1),
            Some((BufferFull::OutOfMemory, _)) => self.counters.dropped_out_of_memory.add(1),
            None => {}
        }
        dropped.is_none()
    }

    /// Counts and logs a datagram that is neither a packet nor a STUN message.
    fn record_malformed(&mut self, received: &Receive<'_>, bytes: &[u8], error: PacketError) {
        match error {
            PacketError::TooShort(_) => self.counters.dropped_short.add(1),
            PacketError::Version(_) => self.counters.dropped_version.add(1),
            PacketError::Type(_) => self.counters.dropped_type.add(1),
            PacketError::Payload { .. } => self.counters.dropped_payload.add(1),
            PacketError::Stun(_) => self.counters.dropped_stun.add(1),
        }
        self.counters.untracked.add(self.source_table.on_malformed(received.received_at, received.source, error));
        log_events::log_malformed(received.source, bytes, error);
    }

    /// Logs, at most once per second, that packets are dropped because of the buffer limits.
    fn log_buffer_drops(&mut self, now: Time) {
        let counters = [
            &self.counters.dropped_buffer_full,
            &self.counters.dropped_client_buffer_full,
            &self.counters.dropped_reply_buffer_full,
            &self.counters.dropped_memory_budget,
            &self.counters.dropped_out_of_memory,
        ];
        let totals = counters.map(Counter::get);
        let total = totals.iter().sum();
        self.buffer_throttle.record(total - self.throttled_buffer_drops);
        self.throttled_buffer_drops = total;
        if let Some(packets) = self.buffer_throttle.take_due(now) {
            log_events::log_buffer_full(packets, totals);
        }
    }

    fn update_gauges(&self) {
        let (packets, bytes) =
            self.release_queue.as_ref().map_or((0, 0), |queue| (queue.audio_len(), queue.charged_bytes()));
        self.counters.buffered.set((self.delay_line.len() + packets) as u64);
        self.counters.buffered_bytes.set(self.delay_line.charged_bytes() + self.immediate_line.charged_bytes() + bytes);
        self.counters.sources.set(self.source_table.len());
    }
}

impl Node for EchoServer {
    fn on_datagram(&mut self, now: Time, batch: &[Receive<'_>]) {
        let pause = self.pauses.on_call(now, batch.iter().map(|received| received.received_at).min());
        self.admission.on_read(now, pause);
        for received in batch {
            self.counters.received_bytes.add(received.contents.len());
            let monitor = self.mapped_address_monitor.as_ref();
            if monitor.is_some_and(|monitor| monitor.is_stun_server(received.source)) {
                self.handle_stun_server(received);
            } else {
                self.handle_receive(received);
            }
        }
        self.update_gauges();
        self.log_buffer_drops(now);
        self.admission.log_drops(now);
        self.pauses.on_return(self.next_deadline());
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        let pause = self.pauses.on_call(now, None);
        self.admission.on_read(now, pause);
        let is_writable = self.send_due(now, sink);
        self.source_table.sweep(now);
        self.update_gauges();
        self.pauses.on_return(self.next_deadline().filter(|_| is_writable));
    }

    fn next_deadline(&self) -> Option<Time> {
        let deadlines = [
            self.immediate_line.next_due(),
            self.delay_line.next_due(),
            self.release_queue.as_ref().and_then(ReleaseQueue::next_due),
            self.source_table.sweep_deadline(),
            self.mapped_address_monitor.as_ref().map(MappedAddressMonitor::next_deadline),
        ];
        deadlines.into_iter().flatten().min()
    }
}

impl EchoServer {
    /// Sends what is due. Returns false if the socket accepts no more.
    fn send_due(&mut self, now: Time, sink: &mut dyn TransmitSink) -> bool {
        let monitor = self.mapped_address_monitor.as_mut();
        if monitor.is_some_and(|monitor| !monitor.poll_transmit(now, sink, &self.counters)) {
            return false;
        }
        let counters = &*self.counters;
        let lines = [
            (false, &mut self.immediate_line, &counters.immediate_replies, &counters.immediate_lateness),
            (true, &mut self.delay_line, &counters.sent, &counters.audio_lateness),
        ];
        for (is_audio, line, sent, lateness) in lines {
            let mut send_singly = false;
            for _ in 0..MAX_SENDS_PER_POLL {
                let max_segments = |len| if send_singly { 1 } else { sink.max_segments(len) };
                let Some(DueTransmit { transmit, due, was_postponed }) = line.peek_due(now, max_segments) else {
                    break;
                };
                let len = transmit.contents.len();
                let counts = is_audio && !was_postponed;
                if counts
                    && let at = self.admission.send_time(now, &transmit)
                    && at > now
                {
                    self.admission.on_sent(now, &transmit);
                    line.postpone(len, at);
                    continue;
                }
                match sink.send(transmit) {
                    SendStatus::Sent => {
                        let packets = transmit.segment_count();
                        sent.add(packets);
                        counters.sent_bytes.add(transmit.contents.len());
                        // `due` is the due time of the first packet, so lateness is never underestimated.
                        lateness.observe(now.duration_since(due), packets);
                        if counts {
                            self.admission.on_sent(now, &transmit);
                        }
                        if is_audio {
                            log_events::log_echoed(&transmit);
                        } else {
                            log_events::log_reply_sent(&transmit);
                        }
                    }
                    SendStatus::Failed => counters.send_failed.add(transmit.segment_count()),
                    SendStatus::WouldBlock => return false,
                    SendStatus::GsoUnsupported => {
                        send_singly = true;
                        continue;
                    }
                }
                line.consume(len, was_postponed);
            }
        }
        self.release_queue.as_mut().is_none_or(|queue| queue.poll_transmit(now, sink, &mut self.admission))
    }
}
