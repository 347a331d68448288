//! The client node: an optional wait for the server (`--wait-for`) or the set-up of a link (`--link`), then a workload, then a final wait for
//! replies. Packets sent before the workload starts or after the final wait ends are not counted.

use std::array;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::hosts::{HostLog, ServerResults};
use super::link::{ClientLink, LinkConfig, SealingSink};
use super::live_figures::{LiveFigures, UnfinishedResults};
use super::live_snapshot::LiveSnapshot;
use super::loss_report::{LossReportRequester, missing_packets};
use super::port_errors::PortErrors;
use super::reply::{ReceivedReply, parse_reply};
use super::results::{AudioResults, PacketObserver, RunKind, RunResults, WaitResult};
use super::run_config::RunConfig;
use super::sent_packets::{PacketTracker, SentPackets};
use super::shared_record::SharedRecord;
use super::stream_kind::StreamKind;
use super::wait_for_server::WaitForServer;
use jamjam_core::link::OVERHEAD;
use jamjam_core::node::{DriverWaker, Node, Receive, SendStatus, TransmitSink};
use jamjam_core::node_group::GroupContext;
use jamjam_core::stats::PacingStats;
use jamjam_core::time::{Pause, PauseDetector, Time, saturating_nanos};
use jamjam_core::wire::{self, HEADER_LEN, LatencyInfo, SAMPLE_RATE};
use jamjam_moqt::client::DUPLICATE_WAIT;

/// Samples per channel in a packet of jamjam's default preset.
const DEFAULT_FRAME_SAMPLES: u32 = 128;

/// Result of polling a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadStep {
    /// The socket would block.
    WouldBlock,
    /// Nothing is due before this time.
    NextDue(Time),
    /// All packets were sent.
    Done,
}

/// The packets of a run and their schedule.
pub trait Workload {
    /// Subcommand that runs this workload.
    const RUN_KIND: RunKind;
    /// Starts the schedule at `now`.
    fn start(&mut self, now: Time, tracker: &PacketTracker);
    /// Sends due packets. If due packets remain unsent, the returned [`WorkloadStep::NextDue`] is not later than `now`.
    fn poll_transmit(&mut self, now: Time, tracker: &mut PacketTracker, sink: &mut dyn TransmitSink) -> WorkloadStep;
    /// The planned duration of the packets so far.
    fn planned(&self) -> Duration;
    /// Results of the AUDIO stream, if it was sent; [`ClientNode`] adds the statistics.
    fn audio_results(&self) -> Option<AudioResults>;
    /// The stream and the reply in a datagram from the peer, without the reply if it is malformed; `None` if the datagram is no reply.
    fn parse_reply<'a>(&mut self, datagram: &'a [u8], at: Time) -> Option<(StreamKind, Option<ReceivedReply<'a>>)> {
        parse_reply(datagram, at)
    }
    /// Whether a datagram from another address is expected, and therefore not counted as stray.
    fn accept_secondary(&mut self, _: &[u8]) -> bool {
        false
    }
    /// The waker with which the workload makes the driver send something before the deadline.
    fn waker(&self) -> Option<&DriverWaker> {
        None
    }
    /// Whether the workload sends until it is stopped, so that the server may start at any time.
    fn is_endless(&self) -> bool {
        false
    }
}

enum Phase {
    /// Nothing was sent. The value is the time at which the client begins, from its first poll on.
    New(Option<Time>),
    WaitingForServer(WaitForServer),
    /// Sets up the encrypted link.
    SettingUpLink,
    /// Waits for the first response of `--loss-direction`, before counting starts.
    AwaitingBaseline,
    /// The workload sends packets. The value is the next deadline of the workload.
    Sending(Time),
    /// All packets were sent, but replies may be outstanding.
    FinalWait {
        /// When all replies had arrived.
        complete_at: Option<Time>,
        /// The next deadline.
        next_poll: Time,
    },
    /// The run was interrupted, but the last query of `--loss-direction` is not answered. The value is the next deadline, until it is.
    Interrupted(Option<Time>),
    Finished {
        at: Time,
        /// Whether the run ended because the port is dead.
        is_port_dead: bool,
    },
}

/// A client that runs the workload `S`.
pub struct ClientNode<S> {
    pub(super) tracker: PacketTracker,
    /// The workload and its state.
    pub workload: S,
    link: Option<ClientLink>,
    phase: Phase,
    loss_report_requester: Option<LossReportRequester>,
    /// When counting started.
    started: Option<Time>,
    readiness_wait: Option<WaitResult>,
    pauses: PauseDetector,
    live_figures: Arc<LiveFigures>,
    /// Whether the socket had no space at the last poll. The driver then waits for the socket and not for the deadline.
    is_blocked: bool,
    port_errors: PortErrors,
    /// When the last datagram of the peer arrived.
    last_datagram_at: Option<Time>,
}

impl<S: Workload> ClientNode<S> {
    /// Creates a client. The client starts at the first call of [`Node::poll_transmit`].
    pub fn new(config: RunConfig, workload: S, observer: Box<dyn PacketObserver>) -> Self {
        let requester = |nonce| LossReportRequester::new(nonce, config.loss_direction, config.shares_record);
        let loss_report_requester = config.loss_report_nonce.map(requester);
        let first_audio_sequence = workload.audio_results().map_or(0, |audio| audio.first_sequence);
        let tracker = PacketTracker::new(config, first_audio_sequence, observer);
        Self {
            tracker,
            workload,
            link: None,
            phase: Phase::New(None),
            loss_report_requester,
            started: None,
            readiness_wait: None,
            pauses: PauseDetector::default(),
            live_figures: Arc::default(),
            is_blocked: false,
            port_errors: PortErrors::default(),
            last_datagram_at: None,
        }
    }

    /// Sends the workload over an encrypted link, which replaces the wait for the server.
    #[must_use]
    pub fn with_link(self, config: Option<LinkConfig>) -> Self {
        let audio = self.workload.audio_results();
        let (samples, rate, channels) = audio.map_or((DEFAULT_FRAME_SAMPLES, SAMPLE_RATE, 2), |audio| {
            (audio.frame_samples, audio.sample_rate, audio.channels as u8)
        });
        let latency_info = LatencyInfo::pcm_datagram(samples, rate, channels);
        let is_free = |kind| kind != self.tracker.config.evaluated_stream;
        let (sends_pings, sends_keepalives) = (is_free(StreamKind::Ping), is_free(StreamKind::Keepalive));
        Self { link: config.map(|config| ClientLink::new(config, latency_info, sends_pings, sends_keepalives)), ..self }
    }

    /// Figures that can be read on another thread during the run.
    pub fn live_figures(&self) -> Arc<LiveFigures> {
        Arc::clone(&self.live_figures)
    }

    /// Whether the run has finished without being interrupted.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished { .. })
    }

    /// Number of bytes of the client with its packets and statistics. What all clients share is not part of it.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.tracker.streams.iter().map(SentPackets::allocated_bytes).sum::<usize>()
    }

    pub(super) fn finish(&mut self, at: Time) {
        self.phase = Phase::Finished { at, is_port_dead: false };
    }

    /// Passes the events of the run to `observer`.
    #[must_use]
    pub fn with_observer(mut self, observer: Box<dyn PacketObserver>) -> Self {
        self.tracker.observer = observer;
        self
    }

    /// Decides all outcomes that are still open, for the record of the group. A client that has not finished was interrupted at `stopped_at`.
    pub fn settle(&mut self, record: &mut SharedRecord, stopped_at: Option<Time>) {
        let interrupted_at = stopped_at.filter(|_| !self.is_finished());
        record.call(self, stopped_at.unwrap_or_default(), |client| client.tracker.settle(interrupted_at));
        let evaluated = self.tracker.config.evaluated_stream as usize;
        self.tracker.streams[evaluated].stats.history.started_at = self.started;
    }

    /// The results of a run that was interrupted at `stopped_at`, if it was. Events of packets without a reply go to `observer`.
    pub fn into_results(self, target: &str, stopped_at: Option<Time>, observer: &mut dyn PacketObserver) -> RunResults {
        self.results_so_far(target, stopped_at).finish(observer)
    }

    /// The results before the first packet.
    pub fn plan(&self, target: &str) -> RunResults {
        self.results_so_far(target, None).finish(&mut ())
    }

    /// The results of a run that ends now, or at `interrupted_at`.
    fn results_so_far(&self, target: &str, interrupted_at: Option<Time>) -> UnfinishedResults {
        let PacketTracker { config, streams, pacing, stray, hosts, .. } = &self.tracker;
        let mut run = RunResults::new(S::RUN_KIND, target, config.evaluated_stream);
        let (finished_at, is_port_dead) = match self.phase {
            Phase::Finished { at, is_port_dead } => (Some(at), is_port_dead),
            _ => (None, false),
        };
        let ended_at = interrupted_at.or(finished_at);
        let duration = self.started.zip(ended_at).map(|(started, ended)| ended.duration_since(started));
        run.duration_ns = duration.map_or(0, saturating_nanos);
        run.replies_expected = config.replies_expected;
        run.timeout_ns = saturating_nanos(config.timeout);
        run.readiness_wait = self.readiness_wait.or_else(|| match &self.phase {
            Phase::New(_) if self.link.is_none() => config.wait_for.map(|_| WaitResult::default()),
            Phase::WaitingForServer(wait) => Some(wait.result(interrupted_at?, false)),
            _ => None,
        });
        let requester = self.loss_report_requester.as_ref().filter(|requester| requester.reports_counts);
        run.loss_report = requester.map(|requester| requester.loss_report(interrupted_at.is_some()));
        run.link = self.link.as_ref().map(|link| link.results);
        let received = run.loss_report.as_mut().and_then(|report| report.received.as_mut());
        if let (Some(link), Some(received)) = (&self.link, received) {
            // The server did not count those that were sent after the last query.
            *received = array::from_fn(|stream| received[stream].saturating_sub(link.own_sent[stream]));
        }
        let sealing = run.link.filter(|link| link.is_encrypted).map_or(0, |_| OVERHEAD);
        run.audio = self.workload.audio_results().map(|results| AudioResults {
            configured_server_delay_ns: config.server_delay.map(saturating_nanos),
            ip_bytes: (wire::ip_udp_header_len(config.peer.ip()) + HEADER_LEN + sealing) as u32 + results.payload_bytes,
            ..results
        });
        let source_paused_ns = run.audio.as_ref().map_or(0, |audio| audio.source_paused_ns);
        run.schedule = self.tracker.schedule_results(self.workload.planned(), source_paused_ns);
        let started = self.started.unwrap_or_default();
        run.pauses = hosts.this.results(started);
        run.is_port_dead = is_port_dead;
        let PortErrors { total, before_run, count, first_at, last_at, .. } = self.port_errors;
        // Of a wait in vain, all count.
        run.port_unreachable = total - self.started.map_or(0, |_| before_run);
        run.port_unreachable_ns = (count > 0).then(|| [first_at, last_at].map(|at| at.signed_nanos_since(started)));
        run.last_datagram_ns = self.last_datagram_at.map(|at| at.signed_nanos_since(started));
        let counts = self.loss_report_requester.as_ref().and_then(|requester| requester.samples.last().copied());
        run.server = hosts.server_results(started).map(|server| ServerResults { counts, ..server });
        run.pacing = Some(PacingStats::clone(pacing));
        run.stray = *stray;
        UnfinishedResults { run, tracked: Some((streams.clone(), hosts.clone())), interrupted_at }
    }

    /// Whether packets are sent or replies awaited that count.
    fn is_counting(&self) -> bool {
        matches!(self.phase, Phase::Sending(_) | Phase::FinalWait { .. })
    }

    /// Detects a pause of this host. `arrived_at` is the time at which the first of the received datagrams arrived.
    fn detect_pause(&mut self, now: Time, arrived_at: Option<Time>) {
        let has_plan = !self.is_blocked && (self.is_counting() || matches!(self.phase, Phase::WaitingForServer(_)));
        let planned = self.next_deadline().into_iter().chain(arrived_at).min().filter(|_| has_plan);
        if let Some(pause) = self.pauses.on_run(now, planned) {
            self.tracker.hosts.this.add_pause(pause, pause.end - pause.start);
        }
    }

    /// Returns whether `datagram` is a response to a query. Records what the server reported about itself.
    fn handle_server_report(&mut self, datagram: &[u8], received_at: Time) -> bool {
        let Some(requester) = &mut self.loss_report_requester else { return false };
        let (is_response, report) = requester.handle_response(datagram, received_at);
        if let Some(report) = report {
            self.tracker.hosts.on_server_report(&report, self.started);
            if self.tracker.config.server_delay.is_none() {
                self.tracker.streams[StreamKind::Audio as usize].expect_first_reply_after(report.report.delay);
            }
        }
        is_response
    }

    fn publish_figures(&mut self, now: Time) {
        let stream = self.tracker.config.evaluated_stream as usize;
        let requester = self.loss_report_requester.as_ref().filter(|requester| requester.reports_counts);
        let sample = requester.and_then(|requester| requester.samples.last());
        let lost_upstream = sample.map(|sample| missing_packets(sample.sent[stream], sample.received[stream]));
        let started_at = self.started;
        self.live_figures.publish(LiveSnapshot { started_at, lost_upstream, ..self.tracker.snapshot(now) });
        self.live_figures.supply_results(|| self.results_so_far("", Some(now)));
    }

    fn begin(&mut self, now: Time) {
        let Phase::New(begins_at) = &mut self.phase else { return };
        if now < *begins_at.get_or_insert(now + self.tracker.config.start_delay) {
            return;
        }
        match self.tracker.config.wait_for {
            _ if self.link.is_some() => self.phase = Phase::SettingUpLink,
            Some(timeout) => self.phase = Phase::WaitingForServer(WaitForServer::start(now, timeout)),
            None => self.request_baseline_or_start(now),
        }
    }

    fn poll_link_setup(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        let (Phase::SettingUpLink, Some(link)) = (&self.phase, &mut self.link) else { return };
        let peer = self.tracker.config.peer;
        if link.is_settled() {
            // The server must not count packets of the set-up after its first response.
            if link.flush(peer, sink) == SendStatus::Sent {
                self.request_baseline_or_start(now);
            }
        } else {
            link.poll_transmit(now, peer, self.port_errors.total > 0, sink);
            if link.results.failure.is_some() {
                self.finish(now);
            }
        }
    }

    fn poll_wait_for_server(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        if let Phase::WaitingForServer(wait) = &mut self.phase
            && let Some(timed_out) = wait.poll(now, self.tracker.config.peer, sink)
        {
            self.readiness_wait = Some(timed_out);
            self.finish(now);
        }
    }

    fn request_baseline_or_start(&mut self, now: Time) {
        if self.loss_report_requester.as_ref().is_some_and(|requester| requester.reports_counts) {
            self.phase = Phase::AwaitingBaseline;
        } else {
            self.start_sending(now);
        }
    }

    /// Sends the first query of `--loss-direction`. Without a response, the run starts at its time-out.
    fn poll_baseline(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        let Phase::AwaitingBaseline = self.phase else { return };
        let peer = self.tracker.config.peer;
        let requester = self.loss_report_requester.as_mut();
        if !requester.is_some_and(|requester| requester.baseline.poll_transmit(now, peer, sink)) {
            self.start_sending(now);
        }
    }

    fn start_sending(&mut self, now: Time) {
        self.started = Some(now);
        // Only a failed wait reports its pauses.
        self.tracker.hosts.this = HostLog::default();
        self.workload.start(now, &self.tracker);
        if let Some(requester) = &mut self.loss_report_requester {
            requester.start(now);
        }
        self.phase = Phase::Sending(now);
    }

    /// Sends due packets, and the periodic queries beside them.
    fn poll_workload(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        let Phase::Sending(_) = self.phase else { return };
        let step = match &mut self.link {
            Some(link) => self.workload.poll_transmit(now, &mut self.tracker, &mut SealingSink { link, now, sink }),
            None => self.workload.poll_transmit(now, &mut self.tracker, sink),
        };
        self.is_blocked = step == WorkloadStep::WouldBlock;
        match step {
            WorkloadStep::WouldBlock => {}
            WorkloadStep::NextDue(due) => {
                let (sent, peer) = (self.tracker.sent(), self.tracker.config.peer);
                let requester = self.loss_report_requester.as_mut();
                let next_query = requester.and_then(|requester| requester.poll_periodic(now, sent, peer, sink));
                self.phase = Phase::Sending(next_query.map_or(due, |query| due.min(query)));
            }
            WorkloadStep::Done => self.phase = Phase::FinalWait { complete_at: None, next_poll: now },
        }
    }

    /// Ends the run when all replies have arrived or timed out, and the last query is answered.
    fn poll_final_wait(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        let Phase::FinalWait { complete_at, next_poll } = &mut self.phase else { return };
        let RunConfig { peer, timeout, .. } = self.tracker.config;
        // After a pause, the replies that arrived meanwhile are still to be read.
        let resumed = self.tracker.hosts.this.resumed_at().map_or(Time::ZERO, |at| at + timeout);
        let complete = self.tracker.is_complete();
        let deadline = self.tracker.deadline().unwrap_or(now).max(resumed);
        // The run is over at `deadline`, or after the last reply and the wait for duplicates, whichever comes first.
        *complete_at = complete.then(|| complete_at.unwrap_or(now));
        let ends_at = complete_at.map_or(deadline, |at| deadline.min(at + DUPLICATE_WAIT));
        let is_over = now >= ends_at;
        let sent = self.tracker.sent();
        let mut next_query = None;
        if let Some(requester) = &mut self.loss_report_requester {
            if complete || requester.baseline.response.is_none() {
                // Nothing waits for the response.
                requester.poll_complete(now, sent, peer, sink);
            }
            // If all replies arrived, there is no loss to split by direction.
            if !complete {
                next_query = requester.poll_final(now, sent, (deadline, timeout), peer, sink);
            }
        }
        *next_poll = match next_query {
            Some(at) if is_over => at,
            Some(at) => at.min(ends_at),
            None => ends_at,
        };
        if is_over && next_query.is_none() {
            self.finish(now);
        }
    }

    /// Sends the last query of an interrupted run. If it is answered, there is nothing left to wait for.
    fn poll_last_query(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        let (Phase::Interrupted(next_poll), Some(requester)) = (&mut self.phase, &mut self.loss_report_requester)
        else {
            return;
        };
        let RunConfig { peer, timeout, .. } = self.tracker.config;
        let sent = self.tracker.sent();
        // The deadline `now` makes the query start immediately.
        *next_poll = requester.poll_final(now, sent, (now, timeout), peer, sink);
    }

    /// Sends the packets of the link itself beside those of the workload.
    fn poll_link(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        let may_send = self.is_counting() && !self.is_blocked;
        if let Some(link) = self.link.as_mut().filter(|_| may_send) {
            self.is_blocked = link.poll_transmit(now, self.tracker.config.peer, false, sink) == SendStatus::WouldBlock;
        }
    }

    fn receive(&mut self, now: Time, batch: &[Receive<'_>]) {
        let peer = self.tracker.config.peer;
        self.detect_pause(now, batch.iter().map(|receive| receive.received_at).min());
        self.port_errors.datagram_received |= !batch.is_empty();
        if let Some(requester) = &self.loss_report_requester {
            let hosts = &mut self.tracker.hosts;
            let last_report = hosts.last_report.map(|last| last.received_at);
            hosts.server_known_until = requester.server_known_until(now, last_report);
        }
        for receive in batch {
            if receive.source == peer {
                self.last_datagram_at = self.last_datagram_at.max(Some(receive.received_at));
            }
            for datagram in receive.segments() {
                // Checked first, because a STUN response can be mistaken for AUDIO.
                let is_loss_report = receive.source == peer && self.handle_server_report(datagram, receive.received_at);
                let link = self.link.as_mut().filter(|_| receive.source == peer && !is_loss_report);
                let opened = match link {
                    Some(link) => link.on_datagram(receive.received_at, datagram),
                    None => Some(Cow::Borrowed(datagram)),
                };
                let Some(datagram) = opened else { continue };
                match &self.phase {
                    // The first datagram from the peer ends the wait for the server. This datagram and earlier datagrams are not
                    // counted.
                    Phase::WaitingForServer(wait) if receive.source == peer => {
                        self.readiness_wait = Some(wait.result(receive.received_at, true));
                        self.tracker.readiness_sequences = wait.sequences_sent();
                        self.request_baseline_or_start(now);
                    }
                    Phase::New(_) | Phase::WaitingForServer(_) if self.tracker.config.wait_for.is_some() => {}
                    Phase::AwaitingBaseline => {
                        let requester = self.loss_report_requester.as_ref();
                        if requester.is_some_and(|requester| requester.baseline.response.is_some()) {
                            self.start_sending(now);
                        }
                    }
                    Phase::SettingUpLink => {}
                    _ if is_loss_report => {}
                    _ if receive.source == peer => {
                        let reply = self.workload.parse_reply(&datagram, receive.received_at);
                        self.tracker.on_received(reply);
                    }
                    _ => self.tracker.stray += u64::from(!self.workload.accept_secondary(&datagram)),
                }
            }
        }
    }

    /// Calls each phase in its order: a phase that ends is followed by the next one at once.
    fn poll_phases(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        self.detect_pause(now, None);
        self.begin(now);
        self.poll_link_setup(now, sink);
        self.poll_wait_for_server(now, sink);
        self.poll_baseline(now, sink);
        self.poll_workload(now, sink);
        self.poll_final_wait(now, sink);
        self.poll_last_query(now, sink);
        self.poll_link(now, sink);
        self.publish_figures(now);
    }
}

impl<S: Workload> GroupContext<ClientNode<S>> for SharedRecord {
    fn call(&mut self, client: &mut ClientNode<S>, _: Time, call: impl FnOnce(&mut ClientNode<S>)) {
        let had_started = client.started.is_some();
        self.exchange(&mut client.tracker);
        call(client);
        self.exchange(&mut client.tracker);
        self.started += usize::from(!had_started && client.started.is_some());
        self.has_failed_link |= client.is_finished() && client.started.is_none();
    }
}

impl<S: Workload> Node for ClientNode<S> {
    fn on_datagram(&mut self, now: Time, batch: &[Receive<'_>]) {
        self.receive(now, batch);
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        self.poll_phases(now, sink);
    }

    fn next_deadline(&self) -> Option<Time> {
        let link = self.link.as_ref().map(ClientLink::deadline);
        match &self.phase {
            Phase::New(begins_at) => Some(begins_at.unwrap_or_default()),
            Phase::WaitingForServer(wait) => Some(wait.next_deadline()),
            Phase::AwaitingBaseline => {
                let query = self.loss_report_requester.as_ref();
                Some(query.and_then(|query| query.baseline.next_deadline()).unwrap_or(Time::ZERO))
            }
            Phase::SettingUpLink => link,
            Phase::Sending(due) | Phase::FinalWait { next_poll: due, .. } => link.into_iter().chain([*due]).min(),
            Phase::Interrupted(due) => *due,
            Phase::Finished { .. } => None,
        }
    }

    fn on_address_changed(&mut self, _: usize, silence: Pause) {
        self.tracker.hosts.this.add_pause(silence, silence.end - silence.start);
    }

    fn on_port_unreachable(&mut self, now: Time, _: usize) {
        let sent = self.tracker.sent().iter().sum();
        let is_dead = self.port_errors.on_error(now, self.started, sent);
        if is_dead && !self.workload.is_endless() && self.is_counting() {
            self.phase = Phase::Finished { at: now, is_port_dead: true };
        }
    }

    fn on_stop(&mut self) -> bool {
        let needs_query = self.is_counting() && self.loss_report_requester.is_some() && !self.tracker.is_complete();
        if needs_query {
            self.phase = Phase::Interrupted(None);
        }
        needs_query
    }

    fn waker(&self) -> Option<&DriverWaker> {
        self.workload.waker()
    }
}
