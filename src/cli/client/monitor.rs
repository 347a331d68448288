//! Watches an active run from the main thread (live view, packet lines, jumps of the system clock), and then collects the results.

use std::io::{self, IsTerminal};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::FinishedRun;
use crate::cli::options::report::PacketReportArgs;
use crate::cli::output::{are_notices_silenced, print_notice};
use crate::cli::packet_lines::{PacketLineSender, PacketLineWriter, packet_lines};
use crate::cli::run_origin;
use crate::client::{ClientNode, LiveFigures, LiveSnapshot, PacketObserver, RunResults, StopSignal, Workload};
use crate::io::clock::{self, ClockMonitor, wall_clock};
use crate::io::status_line::StatusLine;
use crate::io::stop::StopToken;
use crate::io::udp::{self, DriverOptions, DriverStats, NodeThread};
use crate::node_group::{GroupContext, NodeGroup};
use crate::report::Report;
use crate::report::quantities::{format_length, format_share, format_time};
use crate::stats::{ClockJumps, HostTiming};
use crate::time::Time;

/// Interval between two looks at an active run.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Interval at which an active run rewrites the page of --html.
const PAGE_INTERVAL: Duration = Duration::from_secs(60);

/// Monitors a run from the main thread: live view, packet lines, jumps of the system clock. Rewrites the page of a long run.
pub(crate) struct RunMonitor<'a> {
    report: &'a PacketReportArgs,
    /// The results before the first packet.
    plan: RunResults,
    live: Arc<LiveFigures>,
    clock: ClockMonitor,
    lines: Option<PacketLineWriter>,
    pub(super) view: Option<LiveView>,
    page_written: Instant,
}

/// Observations of a finished run.
pub(crate) struct MonitorResult {
    clock_jumps: ClockJumps,
    /// End of the run, in nanoseconds since 1970.
    unix_ns: u64,
    /// The printer of packet lines.
    pub(super) lines: Option<PacketLineWriter>,
}

/// A finished client with the statistics of its driver.
pub(crate) struct FinishedClient<S> {
    pub(crate) client: ClientNode<S>,
    pub(crate) tally: DriverStats,
    observed: MonitorResult,
}

impl PacketReportArgs {
    /// Starts monitoring a run of `total` packets, before the run. `plan` are its results before the first packet, and `live` its figures. Also
    /// returns the observer that feeds the packet lines.
    pub(crate) fn monitor_run(
        &self,
        total: Option<u64>,
        plan: RunResults,
        live: Arc<LiveFigures>,
    ) -> anyhow::Result<(Option<PacketLineSender>, RunMonitor<'_>)> {
        let plan = run_origin::with_origin(RunResults { started_unix_ms: clock::unix_ms(), ..plan });
        let (line_sender, lines) = self.create_record(&plan)?.map(packet_lines).unzip();
        let view = LiveView::new(self.json_lines, total);
        let (clock, page_written) = (ClockMonitor::start(), Instant::now());
        Ok((line_sender, RunMonitor { report: self, plan, live, clock, lines, view, page_written }))
    }
}

/// Runs the clients of `group`, each on its own socket, and calls `look` regularly until all have finished. Also returns what they shared and the
/// error that ended them all.
pub(crate) fn run_all<S: Workload + Send + 'static, C: GroupContext<ClientNode<S>> + Send + 'static>(
    sockets: Vec<UdpSocket>,
    group: NodeGroup<ClientNode<S>, C>,
    options: DriverOptions,
    stop: &StopToken,
    look: &mut dyn FnMut(),
) -> anyhow::Result<(impl Iterator<Item = FinishedClient<S>> + use<S, C>, C, Option<anyhow::Error>)> {
    let running = udp::spawn_node("clients", sockets, group, stop.clone(), options).context("cannot start a thread")?;
    let mut clock = ClockMonitor::start();
    while !running.finished_within(POLL_INTERVAL) {
        look();
        clock.sample();
    }
    let (clock_jumps, unix_ns) = (clock.finish(), wall_clock(Time::ZERO).unix_ns.cast_unsigned());
    let (group, DriverStats { ended_at, host_timing, kernel_dropped, address_changes, result }) = running.join();
    let (clients, context) = group.into_nodes();
    let finished = clients.into_iter().enumerate().map(move |(number, client)| {
        let changes = address_changes.iter().filter(|(socket, _)| *socket == number).map(|(_, change)| *change);
        let host_timing = HostTiming {
            kernel_dropped: kernel_dropped.get(number).copied().flatten(),
            address_changes: changes.collect(),
            ..host_timing.clone()
        };
        let (kernel_dropped, address_changes) = Default::default();
        let tally = DriverStats { ended_at, host_timing, kernel_dropped, address_changes, result: Ok(()) };
        let observed = MonitorResult { clock_jumps: clock_jumps.clone(), unix_ns, lines: None };
        FinishedClient { client, tally, observed }
    });
    Ok((finished, context, result.context("cannot read from the sockets").err()))
}

impl RunMonitor<'_> {
    /// Monitors until `finished_within` returns true. The closure must return within the duration that is passed to it.
    pub(super) fn poll_until(&mut self, stop: &StopToken, mut finished_within: impl FnMut(Duration) -> bool) {
        while !finished_within(POLL_INTERVAL) {
            let now = self.live.snapshot();
            if let Some(view) = &mut self.view {
                view.update(&now);
            }
            self.clock.sample();
            self.rewrite_page();
            if let Some(lines) = &mut self.lines {
                lines.write_queued(&self.live.snapshot());
                if lines.output.reader_closed {
                    // The reader has closed the pipe, as with `| head`. With --count 0, the run would never end.
                    stop.request(StopSignal::ClosedPipe);
                }
            }
        }
    }

    /// Writes the page of --html again if it is due.
    fn rewrite_page(&mut self) {
        let files = &self.report.report.files;
        if files.html.is_some() && self.page_written.elapsed() >= PAGE_INTERVAL {
            self.page_written = Instant::now();
            self.live.request_results();
        }
        let Some(results) = self.live.take_results() else { return };
        let run = results.finish(&mut ());
        let started_unix_ms = clock::unix_ms().saturating_sub(run.duration_ns / 1_000_000);
        let RunResults { command, target, origin, websocket, .. } = self.plan.clone();
        let run = RunResults {
            command,
            target,
            origin,
            websocket,
            started_unix_ms,
            interrupted: None,
            is_active: true,
            ..run
        };
        // The last write, at the end of the run, reports an error.
        let _ = files.write_page(&Report::new(&run, &self.report.limits()).document());
    }

    /// Stops monitoring and prints the queued lines.
    pub(super) fn finish(self) -> MonitorResult {
        let Self { live, clock, mut lines, view, .. } = self;
        drop(view);
        let clock_jumps = clock.finish();
        let unix_ns = wall_clock(Time::ZERO).unix_ns.cast_unsigned();
        if let Some(lines) = &mut lines {
            lines.write_queued(&live.snapshot());
            if let dropped @ 1.. = lines.dropped.get() {
                print_notice(&format!("{dropped} lines were dropped: the reader of standard output is too slow"));
            }
        }
        MonitorResult { clock_jumps, unix_ns, lines }
    }

    /// Monitors `running` until it finishes.
    pub(super) fn wait<S: Workload + Send + 'static>(
        mut self,
        running: NodeThread<ClientNode<S>>,
        stop: &StopToken,
    ) -> FinishedClient<S> {
        self.poll_until(stop, |timeout| running.finished_within(timeout));
        let (client, tally) = running.join();
        FinishedClient { client, tally, observed: self.finish() }
    }
}

impl MonitorResult {
    /// Adds the observations to the results of the run.
    pub(super) fn complete(
        self,
        run: RunResults,
        host_timing: HostTiming,
        error: Option<anyhow::Error>,
    ) -> FinishedRun {
        let run = RunResults {
            host_timing: Some(HostTiming { clock_jumps: self.clock_jumps, ..host_timing }),
            started_unix_ms: self.unix_ns.saturating_sub(run.duration_ns) / 1_000_000,
            ..run
        };
        FinishedRun::new(run, error, self.lines.map(PacketLineWriter::into_output))
    }
}

impl<S: Workload> FinishedClient<S> {
    /// Returns the finished run, which ended with `error`. This call decides all outcomes that are still open. Each such outcome is reported
    /// to the printer of packet lines and to `final_observer`.
    pub(crate) fn into_run(
        self,
        target: &str,
        error: Option<anyhow::Error>,
        stop: &StopToken,
        final_observer: &mut dyn PacketObserver,
    ) -> FinishedRun {
        let Self { client, tally, mut observed } = self;
        let interrupted = stop.signal().filter(|_| !client.is_finished());
        let mut observer = (observed.lines.as_mut(), final_observer);
        let run = client.into_results(target, interrupted.map(|_| tally.ended_at), &mut observer);
        let run = RunResults { interrupted, ..run };
        observed.complete(run, tally.host_timing, error)
    }
}

/// Shows an active run. Dropping the view erases the status line.
pub(crate) struct LiveView {
    status: StatusLine,
    total: Option<u64>,
    /// The text before the figures.
    prefix: String,
}

impl LiveView {
    /// The view of a run of `total` packets; none with --quiet, if standard error is not a terminal, or with packet lines beside it on a terminal.
    pub(crate) fn new(prints_packets: bool, total: Option<u64>) -> Option<Self> {
        let is_hidden = are_notices_silenced() || prints_packets && io::stdout().is_terminal();
        let status = if is_hidden { None } else { StatusLine::new(total) };
        Some(Self { status: status?, total, prefix: String::new() })
    }

    /// The views of runs of `total` packets to several targets, one below the other; none with --quiet, or if standard error is not a terminal.
    pub(crate) fn of_targets(names: &[&str], total: Option<u64>) -> Vec<Self> {
        let count = if are_notices_silenced() { 0 } else { names.len() };
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let view = |(status, name)| Self { status, total, prefix: format!("{name:width$}  ") };
        StatusLine::rows(total, count).into_iter().zip(names).map(view).collect()
    }

    pub(crate) fn update(&mut self, now: &LiveSnapshot) {
        self.status.draw(now.sent + now.not_sent, self.prefix.clone() + &figures(self.total, now));
    }
}

/// The most important figures first: a narrow terminal shows only their beginning.
fn figures(total: Option<u64>, now: &LiveSnapshot) -> String {
    if now.sent + now.not_sent == 0 {
        return "waiting for the first reply".to_owned();
    }
    let mut figures = Vec::new();
    if now.known > 0 {
        figures.push(format!("lost {} ({})", now.lost, format_share(now.lost as f64 / now.known as f64)));
    }
    if let Some(upstream) = now.lost_upstream.filter(|_| now.lost > 0) {
        figures.push(format!("upstream {}", upstream.min(now.lost)));
    }
    if now.replies_expected && now.known < now.sent && total == Some(now.sent + now.not_sent) {
        figures.push("waiting for missing replies".to_owned());
    }
    if now.paused_ns > 0 {
        figures.push(format!("this host did not run for {}", format_length(now.paused_ns as f64 / 1e6)));
    }
    let time = |ns: i64| format_time(ns as f64 / 1e3);
    if let Some(rtt) = now.rtt_ns {
        let name = if now.includes_server_delay { "echo time" } else { "round trip" };
        figures.push(format!("{name} {}", time(rtt)));
    }
    figures.extend(now.rtt_p99_ns.map(|p99| format!("p99 {}", time(p99))));
    figures.push(format!("sent {}", now.sent));
    if now.not_sent > 0 {
        figures.push(format!("not sent {}", now.not_sent));
    }
    figures.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> LiveSnapshot {
        let (rtt_ns, rtt_p99_ns) = (Some(161_000), Some(201_800));
        LiveSnapshot { sent: 192, replies_expected: true, known: 191, lost: 1, rtt_ns, rtt_p99_ns, ..<_>::default() }
    }

    #[test]
    fn loss_comes_first() {
        let expected = "lost 1 (0.52 %), round trip 161.0 µs, p99 201.8 µs, sent 192";
        assert_eq!(figures(Some(193), &running()), expected);
        assert_eq!(figures(None, &running()), expected);
        let split = LiveSnapshot { lost: 3, lost_upstream: Some(4), includes_server_delay: true, ..running() };
        assert_eq!(figures(None, &split), "lost 3 (1.57 %), upstream 3, echo time 161.0 µs, p99 201.8 µs, sent 192");
    }

    #[test]
    fn share_of_a_lost_packet_is_never_zero() {
        let lost = |known| figures(None, &LiveSnapshot { known, ..running() });
        assert!(lost(1_000_000_000).starts_with("lost 1 (< 0.01 %), "), "{}", lost(1_000_000_000));
        assert!(lost(2).starts_with("lost 1 (50 %), ") && !lost(0).contains("lost"));
    }

    #[test]
    fn missing_replies_are_shown_after_the_last_packet() {
        let waits = |total, now: &LiveSnapshot| figures(total, now).contains("waiting for missing replies");
        assert!(waits(Some(192), &running()) && !waits(Some(193), &running()) && !waits(None, &running()));
        assert!(!waits(Some(192), &LiveSnapshot { known: 192, ..running() }));
        assert!(!waits(Some(192), &LiveSnapshot { known: 0, replies_expected: false, ..running() }));
    }

    #[test]
    fn pause_of_this_host_is_shown() {
        let paused = LiveSnapshot { not_sent: 8, paused_ns: 5_040_000_000, ..running() };
        let text = figures(Some(200), &paused);
        let expected = "lost 1 (0.52 %), waiting for missing replies, this host did not run for 5.0 s, ";
        assert!(text.starts_with(expected) && text.ends_with(", sent 192, not sent 8"), "{text}");
    }
}
