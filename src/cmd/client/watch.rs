//! What the main thread does while a client runs on another: progress, lines, the system's clock.

use std::io::{self, IsTerminal};
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::lines::LinePrinter;
use super::super::output::note;
use crate::flow::run::{Run, Signal};
use crate::flow::{Client, Live, Observer, Script};
use crate::io::clock::ClockWatch;
use crate::io::progress::Progress;
use crate::io::stop::{Reason, Stop};
use crate::io::udp::{Running, Tally};
use crate::time::nanos;

/// Somebody who watches a run.
pub(super) struct Watch<'a> {
    live: &'a Live,
    clock: ClockWatch,
    total: Option<u64>,
    lines: Option<&'a mut LinePrinter>,
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
        Self { live, clock: ClockWatch::start(), total, lines }
    }

    /// Watches `running` until it ends.
    pub(super) fn until_it_ends<S: Script + Send + 'static>(
        self,
        running: Running<Client<S>>,
        stop: &Stop,
    ) -> Watched<'a, S> {
        let Self { live, mut clock, total, mut lines } = self;
        let progress = Progress::new(total, io::stderr().is_terminal());
        while !running.ended_within(Some(Progress::EVERY)) {
            progress.show(live);
            clock.look();
            if let Some(lines) = &mut lines {
                lines.print_waiting(live.started());
                if lines.nobody_reads() {
                    // As in `| head`: a run that goes on for nobody would go on for ever with --count 0.
                    stop.request(Reason::Interrupt);
                }
            }
        }
        drop(progress);
        let (client, mut tally) = running.join();
        tally.machine.clock = clock.finish();
        let unix_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos);
        if let Some(lines) = &mut lines {
            lines.print_waiting(live.started());
            if lines.dropped() > 0 {
                note(&format!("{} lines were dropped: whatever reads them did not keep up", lines.dropped()));
            }
        }
        Watched { client, tally, unix_ns, lines }
    }
}

impl<S: Script> Watched<'_, S> {
    /// The run's raw result. Lines of what is decided only now are printed.
    pub(super) fn into_run(self, target: &str, stop: &Stop) -> Run {
        let Self { client, tally, unix_ns, lines } = self;
        let interrupted = stop.requested().filter(|_| !client.is_finished());
        let mut nobody = ();
        let closing: &mut dyn Observer = match lines {
            Some(lines) => lines,
            None => &mut nobody,
        };
        let mut run = client.into_run(target, interrupted.map(|_| tally.ended), closing);
        run.machine = Some(tally.machine);
        run.interrupted = interrupted.map(|reason| match reason {
            Reason::Interrupt => Signal::Interrupt,
            Reason::Terminate => Signal::Terminate,
        });
        run.started_unix_ms = unix_ns.saturating_sub(run.duration_ns) / 1_000_000;
        run
    }
}
