//! Watches an active run from the main thread: live view, packet lines, jumps of the system clock. Then collects the results.

use std::time::Duration;

use super::ClientArgs;
use crate::cli::live_view::LiveView;
use crate::cli::output::{Failure, are_notices_silenced, print_notice};
use crate::cli::packet_lines::{PacketLineSender, PacketLineWriter, RecordFile, packet_lines};
use crate::client::{ClientNode, LiveFigures, PacketObserver, RunResults, StopSignal, Workload};
use crate::io::clock::{ClockMonitor, wall_clock};
use crate::io::stop::StopToken;
use crate::io::udp::{DriverStats, NodeThread};
use crate::stats::ClockJumps;
use crate::time::Time;

/// Interval between two looks at an active run.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What an active run prints: packet lines and the live view.
#[derive(Default)]
pub struct RunOutputs {
    lines: Option<PacketLineWriter>,
    view: Option<LiveView>,
}

impl RunOutputs {
    /// The file of --record-run, after the last packet.
    pub fn into_file(self) -> Option<RecordFile> {
        self.lines.and_then(PacketLineWriter::into_file)
    }
}

impl ClientArgs {
    /// The file of --record-run for a run that sent no packet.
    pub(super) fn empty_record(&self) -> Result<Option<RecordFile>, Failure> {
        self.run_record.create(self.limits())
    }

    /// Creates the outputs of a run of `total` packets, and the observer that feeds the packet lines.
    pub fn run_outputs(&self, total: Option<u64>) -> Result<(Option<PacketLineSender>, RunOutputs), Failure> {
        let is_silent = are_notices_silenced();
        let view = if is_silent { None } else { LiveView::new(self.progress, self.json_lines, total) };
        let file = self.run_record.create(self.limits())?;
        let lines = (self.json_lines || file.is_some()).then(|| packet_lines(self.json_lines, file));
        let (line_sender, lines) = lines.unzip();
        Ok((line_sender, RunOutputs { lines, view }))
    }
}

/// Monitors a run from the main thread: live view, packet lines, jumps of the system clock.
pub(super) struct RunMonitor<'a> {
    live: &'a LiveFigures,
    clock: ClockMonitor,
    outputs: &'a mut RunOutputs,
}

/// Observations of a finished run.
pub(super) struct MonitorResult<'a> {
    /// Jumps of the system clock.
    pub(super) clock: ClockJumps,
    /// End of the run, in nanoseconds since 1970.
    pub(super) unix_ns: u64,
    /// The printer of packet lines.
    pub(super) lines: Option<&'a mut PacketLineWriter>,
}

/// A finished client with the statistics of its driver.
pub(super) struct FinishedClient<'a, S> {
    pub(super) client: ClientNode<S>,
    pub(super) tally: DriverStats,
    /// End of the run, in nanoseconds since 1970.
    unix_ns: u64,
    lines: Option<&'a mut PacketLineWriter>,
}

impl<'a> RunMonitor<'a> {
    /// Starts monitoring, before the run.
    pub(super) fn start(live: &'a LiveFigures, outputs: &'a mut RunOutputs) -> Self {
        Self { live, clock: ClockMonitor::start(), outputs }
    }

    /// Removes the live view, for runs that print received data.
    pub(super) fn without_view(self) -> Self {
        self.outputs.view = None;
        self
    }

    /// Monitors until `finished_within` returns true. The closure must return within the duration that is passed to it.
    pub(super) fn poll_until(&mut self, stop: &StopToken, mut finished_within: impl FnMut(Duration) -> bool) {
        while !finished_within(POLL_INTERVAL) {
            if let Some(view) = &mut self.outputs.view {
                view.update(&self.live.snapshot());
            }
            self.clock.sample();
            if let Some(lines) = &mut self.outputs.lines {
                lines.write_queued(self.live.snapshot().started_at);
                if lines.reader_closed() {
                    // The reader has closed the pipe, as with `| head`. With --count 0, the run would never end.
                    stop.request(StopSignal::Interrupt);
                }
            }
        }
    }

    /// Stops monitoring and prints the queued lines.
    pub(super) fn finish(self) -> MonitorResult<'a> {
        let Self { live, clock, outputs } = self;
        outputs.view = None;
        let mut lines = outputs.lines.as_mut();
        let clock = clock.finish();
        let unix_ns = wall_clock(Time::ZERO).unix_ns.cast_unsigned();
        if let Some(lines) = &mut lines {
            lines.write_queued(live.snapshot().started_at);
            if lines.dropped() > 0 {
                print_notice(&format!(
                    "{} lines were dropped: the reader of standard output is too slow",
                    lines.dropped()
                ));
            }
        }
        MonitorResult { clock, unix_ns, lines }
    }

    /// Monitors `running` until it finishes.
    pub(super) fn wait<S: Workload + Send + 'static>(
        mut self,
        running: NodeThread<ClientNode<S>>,
        stop: &StopToken,
    ) -> FinishedClient<'a, S> {
        self.poll_until(stop, |timeout| running.finished_within(Some(timeout)));
        let (client, mut tally) = running.join();
        let MonitorResult { clock, unix_ns, lines } = self.finish();
        tally.host_timing.clock_jumps = clock;
        FinishedClient { client, tally, unix_ns, lines }
    }
}

impl<S: Workload> FinishedClient<'_, S> {
    /// Returns the raw results. This call decides all outcomes that are still open. Each such outcome is reported to the printer of packet
    /// lines and to `final_observer`.
    pub(super) fn into_run(
        self,
        target: &str,
        stop: &StopToken,
        final_observer: &mut dyn PacketObserver,
    ) -> RunResults {
        let Self { client, tally, unix_ns, lines } = self;
        let interrupted = stop.signal().filter(|_| !client.is_finished());
        let mut run = client.into_results(target, interrupted.map(|_| tally.ended_at), &mut (lines, final_observer));
        run.host_timing = Some(tally.host_timing);
        run.interrupted = interrupted;
        run.started_unix_ms = unix_ns.saturating_sub(run.duration_ns) / 1_000_000;
        run
    }
}
