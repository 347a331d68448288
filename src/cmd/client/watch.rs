//! What the main thread does while a client runs on another: progress, lines, the system's clock.

use std::io::{self, IsTerminal};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::lines::LinePrinter;
use super::super::output::note;
use crate::flow::run::{Run, Signal};
use crate::flow::{Client, Live, Observer, Script};
use crate::io::clock::ClockWatch;
use crate::io::progress::Progress;
use crate::io::stop::{Reason, Stop};
use crate::io::udp::{Running, Tally};
use crate::stats::ClockJumps;
use crate::time::nanos;

/// Somebody who watches a run.
pub(super) struct Watch<'a> {
    live: &'a Live,
    clock: ClockWatch,
    total: Option<u64>,
    bar: bool,
    lines: Option<&'a mut LinePrinter>,
}

/// What was seen while a run went on.
pub(super) struct Seen<'a> {
    /// What the wall clock did.
    pub(super) clock: ClockJumps,
    /// When the run ended, in nanoseconds since 1970.
    pub(super) unix_ns: u64,
    /// Whoever prints lines.
    pub(super) lines: Option<&'a mut LinePrinter>,
}

/// A run that has ended.
pub(super) struct Watched<'a, S> {
    pub(super) client: Client<S>,
    pub(super) tally: Tally,
    /// When it ended, in nanoseconds since 1970.
    unix_ns: u64,
    lines: Option<&'a mut LinePrinter>,
}

impl<'a> Watch<'a> {
    /// Begins before the run does. `total` is how many packets it will send, where that is known.
    pub(super) fn start(live: &'a Live, total: Option<u64>, lines: Option<&'a mut LinePrinter>) -> Self {
        Self { live, clock: ClockWatch::start(), total, bar: true, lines }
    }

    /// Without a progress bar, which would be in the way of what is printed.
    pub(super) fn without_bar(self) -> Self {
        Self { bar: false, ..self }
    }

    /// Watches until `ended_within` says that the run has ended, which waits for as long as it is told, and no longer.
    pub(super) fn until(&mut self, stop: &Stop, mut ended_within: impl FnMut(Duration) -> bool) {
        let progress = Progress::new(self.total, self.bar && io::stderr().is_terminal());
        while !ended_within(Progress::EVERY) {
            progress.show(self.live);
            self.clock.look();
            if let Some(lines) = &mut self.lines {
                lines.print_waiting(self.live.started());
                if lines.nobody_reads() {
                    // As in `| head`: a run that goes on for nobody would go on for ever with --count 0.
                    stop.request(Reason::Interrupt);
                }
            }
        }
    }

    /// The run has ended.
    pub(super) fn finish(self) -> Seen<'a> {
        let Self { live, clock, mut lines, .. } = self;
        let clock = clock.finish();
        let unix_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos);
        if let Some(lines) = &mut lines {
            lines.print_waiting(live.started());
            if lines.dropped() > 0 {
                note(&format!("{} lines were dropped: whatever reads them did not keep up", lines.dropped()));
            }
        }
        Seen { clock, unix_ns, lines }
    }

    /// Watches `running` until it ends.
    pub(super) fn until_it_ends<S: Script + Send + 'static>(
        mut self,
        running: Running<Client<S>>,
        stop: &Stop,
    ) -> Watched<'a, S> {
        self.until(stop, |patience| running.ended_within(Some(patience)));
        let (client, mut tally) = running.join();
        let Seen { clock, unix_ns, lines } = self.finish();
        tally.machine.clock = clock;
        Watched { client, tally, unix_ns, lines }
    }
}

impl<S: Script> Watched<'_, S> {
    /// The run's raw result. Lines of what is decided only now are printed, and `closing` is told.
    pub(super) fn into_run(self, target: &str, stop: &Stop, closing: &mut dyn Observer) -> Run {
        let Self { client, tally, unix_ns, lines } = self;
        let interrupted = stop.requested().filter(|_| !client.is_finished());
        let mut run = client.into_run(target, interrupted.map(|_| tally.ended), &mut (lines, closing));
        run.machine = Some(tally.machine);
        run.interrupted = interrupted.map(signal);
        run.started_unix_ms = unix_ns.saturating_sub(run.duration_ns) / 1_000_000;
        run
    }
}

/// The signal that stands for a request.
pub(super) fn signal(reason: Reason) -> Signal {
    match reason {
        Reason::Interrupt => Signal::Interrupt,
        Reason::Terminate => Signal::Terminate,
    }
}
