//! Runs of the measuring commands: `udp` over UDP, `moqt` and `websocket` with the other kinds of servers; `monitor` watches an active run.

pub(crate) mod monitor;
pub(crate) mod moqt;
pub(crate) mod udp;
pub(crate) mod websocket;

use std::time::Duration;

use super::packet_lines::RecordOutput;
use super::run_origin;
use crate::client::{AudioPicture, RunResults};
use crate::report::ramp::Ramp;
use crate::time::saturating_nanos;

pub(crate) struct FinishedRun {
    pub run: RunResults,
    /// The error of a socket or file that failed during the run. This error is reported after the results.
    pub error: Option<anyhow::Error>,
    /// Waveforms for --html.
    pub picture: Option<AudioPicture>,
    /// The output of --json-lines and --record-run, which contains all packets.
    pub record: Option<RecordOutput>,
    /// The result of --ramp.
    pub ramp: Option<Ramp>,
    /// Closes the connections and leaves the rooms, for which it waits for others. Called after the report, which nobody can thus delay.
    pub close: Box<dyn FnOnce()>,
}

impl FinishedRun {
    /// A run of this process, without waveforms.
    pub(crate) fn new(run: RunResults, error: Option<anyhow::Error>, record: Option<RecordOutput>) -> Self {
        Self { run: run_origin::with_origin(run), error, picture: None, record, ramp: None, close: Box::new(|| ()) }
    }

    /// Adds the interval between the packets, requests or groups of the run.
    #[must_use]
    pub(crate) fn with_interval(mut self, interval: Duration) -> Self {
        self.run.interval_ns = Some(saturating_nanos(interval));
        self
    }
}
