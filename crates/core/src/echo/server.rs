//! The server: handles received datagrams, queues replies, and sends what is due.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Admission, AdmissionConfig, Source};
use super::counters::Counters;
use super::delay_line::DelayLine;
use super::drops::{DropLog, Dropped};
use super::impaired_replies::ImpairedReplies;
use super::link_packets::{Content, with_keys};
use super::links::{LinkConfig, Links};
use super::log_events;
use super::loop_detection::RepetitionLimit;
use super::mapped_address::{MappedAddressMonitor, StunConfig};
use super::observer::{DropReason, ObservedDatagram, SourceObserver};
use super::reply_exit::ReplyExit;
use super::reply_memory::{BufferLimits, PushResult, ReplyMemory};
use super::reply_store::{NewReplies, ReplyClass, ReplyPath};
use super::sources::{SharedSources, SourceTable};
use crate::address::{canonical_socket_addr, is_invalid_source, is_ipv4_source_over_ipv6};
use crate::memory_budget::MemoryBudget;
use crate::node::{MAX_SENDS_PER_POLL, Node, Receive, SendStatus, TransmitSink};
use crate::outcome::{ObservedImpairment, Outcome};
use crate::pauses::Pauses;
use crate::time::Time;
use crate::transit::Exit;
use crate::wire::{self, HEADER_LEN, Header, PacketError, PacketType, stun};

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

/// An echo server as a [`Node`].
pub struct EchoServer {
    pub(super) delay: Duration,
    local_port: Option<u16>,
    pub(super) line: DelayLine,
    /// The impaired network behind the delay line, if replies are impaired.
    pub(super) impaired: Option<ImpairedReplies>,
    pub(super) memory: ReplyMemory,
    /// The encrypted links, if they are enabled.
    pub(super) links: Option<Links>,
    pub(super) counters: Arc<Counters>,
    pub(super) admission: Admission,
    pub(super) source_table: SourceTable,
    pub(super) drop_log: DropLog,
    pub(super) observers: Vec<SourceObserver>,
    /// The headers of the current batch, and whether each concerns a link. The vector is kept to reuse its memory.
    parsed: Vec<(Result<Header, PacketError>, bool)>,
    /// An opened packet. The vector is kept to reuse its memory.
    opened: Vec<u8>,
    pub(super) mapped_address_monitor: Option<MappedAddressMonitor>,
    pub(super) pauses: Pauses,
    /// Whether all that was due was sent when the server was last polled.
    is_writable: bool,
    pub(super) read_socket_drops: Option<ReadSocketDrops>,
    /// The last count of socket drops, and when it was read.
    pub(super) socket_drops: (Option<Time>, u32),
}

impl EchoServer {
    /// A server that has received nothing.
    pub fn new(config: EchoConfig) -> Self {
        Self {
            delay: config.delay,
            local_port: config.local_port,
            line: DelayLine::default(),
            impaired: None,
            memory: ReplyMemory::new(config.buffer_limits, &config.memory_budget),
            links: None,
            admission: Admission::new(config.admission, config.delay),
            pauses: Pauses::default(),
            is_writable: true,
            counters: Arc::default(),
            source_table: SourceTable::new(config.log_sources, config.delay),
            drop_log: DropLog::default(),
            observers: Vec::new(),
            parsed: Vec::new(),
            opened: Vec::new(),
            mapped_address_monitor: None,
            read_socket_drops: None,
            socket_drops: (None, 0),
        }
    }

    /// Impairs replies, if they are to be impaired. The observer receives the outcome of each.
    #[must_use]
    pub fn with_impairment(mut self, impairment: Option<ObservedImpairment>) -> Self {
        let Some(impairment) = impairment else { return self };
        // Each round of a reply loop may take that long.
        let max_delay = self.delay + impairment.0.max_delay();
        self.admission.audio_limit = RepetitionLimit::audio(max_delay);
        self.source_table.max_delay = max_delay;
        self.memory.impair();
        self.impaired = Some(ImpairedReplies::new(impairment, self.delay));
        self
    }

    /// Enables encrypted links. Otherwise, CONTROL is ignored, and sealed packets are handled like other packets.
    pub fn enable_links(&mut self, config: LinkConfig) {
        self.links = Some(Links::new(config));
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

    /// Passes every datagram of an allowed source to `observer`, in the order of their arrival at the server. Earlier observers still receive
    /// them. The observer runs on the node's thread and must not block.
    pub fn observe(&mut self, observer: impl FnMut(ObservedDatagram<'_>) + Send + 'static) {
        self.observers.push(Box::new(observer));
    }

    /// The counters, which can be read while the server runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The sources, which can be read while the server runs.
    pub fn share_sources(&mut self) -> SharedSources {
        self.source_table.share()
    }

    /// Counts all queued replies as dropped.
    pub fn stop(mut self) {
        self.counters.dropped_at_stop.add(self.memory.datagrams.iter().sum());
        if let (line, Some(impaired), mut exit) = self.stages(Time::ZERO) {
            impaired.drop_all(&mut exit);
            std::mem::take(line).drop_all(impaired);
        }
        self.counters.buffered.set(0);
        self.counters.buffered_bytes.set(0);
    }

    /// The two stages that replies pass, and their exit.
    fn stages(&mut self, now: Time) -> (&mut DelayLine, Option<&mut ImpairedReplies>, ReplyExit<'_>) {
        let Self { line, impaired, memory, links, admission, source_table: sources, counters, .. } = self;
        (line, impaired.as_mut(), ReplyExit { now, links: links.as_mut(), admission, sources, memory, counters })
    }

    /// The driver calls the server. See [`Pauses::on_call`].
    fn on_call(&mut self, now: Time, received_at: Option<Time>) {
        let deadline = self.next_deadline().filter(|_| self.is_writable);
        let pause = self.pauses.on_call(now, deadline.into_iter().chain(received_at).min());
        self.counters.pauses.set(self.pauses.delays.pauses);
        self.counters.paused_ms.set(self.pauses.delays.paused.as_millis() as u64);
        self.admission.on_read(now, pause);
    }

    /// Handles datagrams of one source.
    pub(super) fn handle_receive(&mut self, received: &Receive<'_>) {
        if let Some(source) = self.classify(received) {
            self.handle_segments(received, &source);
        }
    }

    /// The source of datagrams. `None` if it gets no replies.
    fn classify(&mut self, received: &Receive<'_>) -> Option<Source> {
        let (ip, canonical) = (received.source.ip(), canonical_socket_addr(received.source));
        let datagrams = || received.segments().count();
        if received.source.port() == 0 {
            // A reply to port 0 fails, and the failure would disable segmented sends for all clients.
            self.counters.dropped_port_zero.add(datagrams());
            log_events::log_dropped_source(canonical, "port_zero", "source port 0");
            return None;
        }
        if is_invalid_source(ip) || is_ipv4_source_over_ipv6(ip, received.dst_ip) || self.is_from_itself(received) {
            self.counters.dropped_invalid_source.add(datagrams());
            // The address is logged as received: its canonical form would hide why it is invalid.
            log_events::log_dropped_source(received.source, "invalid_source", "invalid source address");
            return None;
        }
        let source = self.admission.classify(received);
        if source.is_none() {
            self.counters.dropped_not_allowed.add(datagrams());
            self.drop_log.not_allowed.record(received.source, datagrams());
            log_events::log_dropped_source(canonical, "not_allowed", "source not in --allow");
        }
        source
    }

    /// Whether the source is this server's own address and port.
    fn is_from_itself(&self, received: &Receive<'_>) -> bool {
        Some(received.source.port()) == self.local_port
            && received.dst_ip.is_some_and(|ip| ip.to_canonical() == received.source.ip().to_canonical())
    }

    /// Parses each datagram once and records the source. Consecutive AUDIO packets are queued together, and all other datagrams are handled
    /// one by one.
    fn handle_segments(&mut self, received: &Receive<'_>, source: &Source) {
        let mut parsed = std::mem::take(&mut self.parsed);
        parsed.clear();
        let links = self.links.as_ref().map(|links| (links, links.has_session(received.source)));
        let concerns_link = |header| links.is_some_and(|(links, has_session)| links.concerns(has_session, header));
        parsed.extend(received.segments().map(|bytes| {
            let header = wire::parse_packet(bytes).map(|packet| packet.header);
            (header, header.is_ok_and(concerns_link))
        }));
        // Anyone can forge AUDIO of a link, so it is recorded when it is accepted.
        let headers =
            parsed.iter().filter_map(|(header, is_link)| header.ok().filter(|header| !(*is_link && is_audio(*header))));
        self.counters.untracked.add(self.source_table.on_packets(received.received_at, received.source, headers));
        let mut run = 0..0;
        for (bytes, &(header, is_link)) in received.segments().zip(&parsed) {
            let end = run.end + bytes.len();
            let is_plain_audio = !is_link && header.is_ok_and(is_audio);
            let admitted = is_plain_audio.then(|| self.admission.admit_audio(source, received.received_at, bytes));
            if admitted == Some(Ok(())) {
                run.end = end;
                continue;
            }
            self.queue_run(received, source, run);
            run = end..end;
            if let Some(admitted) = admitted {
                self.conclude(received, bytes, None, admitted.map_err(Dropped::from));
                continue;
            }
            let mut buffer = std::mem::take(&mut self.opened);
            let content = match header {
                Ok(header) if is_link => self.open(received, source, header, bytes, &mut buffer),
                _ => Ok(Content::Plain),
            };
            let is_opened = matches!(content, Ok(Content::Opened(_)));
            let result = content.and_then(|content| match (content, header) {
                (Content::Answered, _) => Ok(()),
                (Content::Opened(keys), Ok(header)) => {
                    self.handle_opened(received, &with_keys(source, keys), header, bytes, &mut buffer)
                }
                (_, Ok(header)) if is_audio(header) => self.handle_audio(received, source, header, bytes, bytes),
                (_, Ok(header)) => self.handle_immediate(received, source, header, bytes),
                (_, Err(_)) if stun::is_stun(bytes) => self.handle_stun(received, source, bytes),
                (_, Err(error)) => Err(error.into()),
            });
            self.conclude(received, bytes, is_opened.then_some(&*buffer), result);
            self.opened = buffer;
        }
        self.queue_run(received, source, run);
        self.parsed = parsed;
    }

    /// Records and queues an AUDIO packet of a link. `bytes` is the received datagram, `echo` is what is to be echoed.
    pub(super) fn handle_audio(
        &mut self,
        received: &Receive<'_>,
        source: &Source,
        header: Header,
        bytes: &[u8],
        echo: &[u8],
    ) -> Result<(), Dropped> {
        let header = std::iter::once(header);
        self.counters.untracked.add(self.source_table.on_packets(received.received_at, received.source, header));
        self.admission.admit_audio(source, received.received_at, bytes)?;
        self.queue_audio(received, source, echo, echo.len()).map_err(|(_, reason)| reason.into())
    }

    /// Queues consecutive AUDIO packets, which have been admitted and occupy the byte range `run` in `received.contents`.
    fn queue_run(&mut self, received: &Receive<'_>, source: &Source, run: Range<usize>) {
        let (contents, segment_size) = (&received.contents[run], received.segment_size);
        if contents.is_empty() {
            return;
        }
        let result = self.queue_audio(received, source, contents, segment_size);
        if result.is_ok() && self.observers.is_empty() {
            return;
        }
        for (index, bytes) in contents.chunks(segment_size).enumerate() {
            let dropped = result.err().filter(|(queued, _)| index >= *queued);
            self.conclude(received, bytes, None, dropped.map_or(Ok(()), |(_, reason)| Err(reason.into())));
        }
    }

    /// Queues admitted AUDIO packets for their delayed echo.
    fn queue_audio(
        &mut self,
        received: &Receive<'_>,
        source: &Source,
        contents: &[u8],
        segment_size: usize,
    ) -> PushResult {
        let (received_at, delay) = (received.received_at, self.delay);
        if let Some(impaired) = &mut self.impaired {
            impaired.started.get_or_insert(received_at);
        }
        let new =
            NewReplies { class: ReplyClass::Audio, received_at, delay, is_impaired: true, contents, segment_size };
        let result = self.queue(source.path, new);
        let queued = result.map_or_else(|(queued, _)| queued, |()| contents.len().div_ceil(segment_size));
        self.counters.received.add(queued);
        log_events::log_audio_received(received.source, contents.chunks(segment_size).take(queued));
        result
    }

    /// Puts replies into the delay line, which are impaired if the options of the server say so.
    pub(super) fn queue(&mut self, path: ReplyPath, new: NewReplies<'_>) -> PushResult {
        let NewReplies { received_at, delay, contents, segment_size, .. } = new;
        let is_impaired = new.is_impaired && self.impaired.is_some();
        let result = self.line.push(path, NewReplies { is_impaired, ..new }, &mut self.memory);
        if let (Err((queued, _)), Some(impaired)) = (result, self.impaired.as_mut().filter(|_| is_impaired)) {
            let dropped = contents.chunks(segment_size).skip(queued);
            impaired.report(received_at + delay, path.peer, dropped, Outcome::Dropped);
        }
        result
    }

    /// Ends the handling of a datagram of an allowed source. `opened` is its content, if it was sealed.
    fn conclude(&mut self, received: &Receive<'_>, bytes: &[u8], opened: Option<&[u8]>, result: Result<(), Dropped>) {
        if let Err(dropped) = result {
            self.drop_packet(received, bytes, dropped);
        }
        if !self.observers.is_empty() {
            let drop_reason = result.err().map(Dropped::reason);
            let links = self.links.as_mut();
            let links = links.filter(|_| matches!(drop_reason, Some(DropReason::NotOpened | DropReason::NoKeys)));
            let session = links.and_then(|links| links.session(received.received_at, received.source));
            let sealed = bytes.get(HEADER_LEN..).filter(|_| opened.is_some());
            let datagram = ObservedDatagram {
                at: received.received_at,
                source: received.source,
                dst_ip: received.dst_ip,
                bytes: opened.unwrap_or(bytes),
                counter: sealed.and_then(|payload| Some(u64::from_be_bytes(*payload.first_chunk()?))),
                drop_reason,
                mistake: session.and_then(|session| session.seal_mistake(bytes)),
            };
            self.observers.iter_mut().for_each(|observe| observe(datagram));
        }
    }

    /// Counts and logs a dropped datagram.
    fn drop_packet(&mut self, received: &Receive<'_>, bytes: &[u8], dropped: Dropped) {
        let reason = dropped.reason();
        self.counters.dropped(reason).add(1);
        self.drop_log.record(reason, received.source);
        let recorded = self.source_table.on_drop(received.received_at, received.source, reason, bytes);
        // Other datagrams were counted before.
        self.counters.untracked.add(usize::from(recorded.is_none() && reason.is_malformed()));
        log_events::log_dropped(received.source, bytes, reason, &dropped, recorded == Some(true));
    }

    /// Sends the replies that are due. Returns false if the socket accepts no more.
    fn send_due(&mut self, now: Time, sink: &mut dyn TransmitSink) -> bool {
        let (line, mut impaired, mut exit) = self.stages(now);
        let (mut sends, mut sends_singly) = (0, false);
        while sends < MAX_SENDS_PER_POLL {
            // Replies enter and leave the impaired network in the order of time.
            let until = line.first_at().map_or(now, |at| at.min(now));
            let left = impaired.as_deref_mut().and_then(|impaired| impaired.send_next(until, sink, &mut exit));
            match left.or_else(|| line.send_next(sink, &mut exit, impaired.as_deref_mut(), sends_singly)) {
                None => break,
                Some(Exit::Left(_)) => sends += 1,
                Some(Exit::Later(_)) => {}
                Some(Exit::Refused(SendStatus::WouldBlock)) => return false,
                Some(Exit::Refused(_)) => sends_singly = true,
            }
        }
        true
    }

    fn update_gauges(&self) {
        self.counters.buffered.set(self.memory.datagrams[ReplyClass::Audio as usize] as u64);
        self.counters.buffered_bytes.set(self.memory.held_bytes());
        self.counters.sources.set(self.source_table.len());
        self.counters.links.set(self.links.as_ref().map_or(0, Links::len));
    }
}

fn is_audio(header: Header) -> bool {
    header.packet_type == PacketType::Audio
}

impl Node for EchoServer {
    fn on_datagram(&mut self, now: Time, batch: &[Receive<'_>]) {
        self.on_call(now, batch.iter().map(|received| received.received_at).min());
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
        self.drop_log.log(now, &self.counters);
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        self.on_call(now, None);
        let monitor = self.mapped_address_monitor.as_mut();
        self.is_writable =
            monitor.is_none_or(|monitor| monitor.poll_transmit(now, sink, &self.counters)) && self.send_due(now, sink);
        self.source_table.sweep(now);
        if let Some(links) = &mut self.links {
            links.sweep(now);
        }
        self.update_gauges();
    }

    fn next_deadline(&self) -> Option<Time> {
        let deadlines = [
            self.line.next_due(),
            self.impaired.as_ref().and_then(|impaired| impaired.transit.next_deadline()),
            self.source_table.sweep_deadline(),
            self.links.as_ref().and_then(Links::sweep_deadline),
            self.mapped_address_monitor.as_ref().map(|monitor| monitor.deadline),
        ];
        deadlines.into_iter().flatten().min()
    }
}
