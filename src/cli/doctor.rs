//! `jamjam-dev doctor`: checks whether this machine can measure precisely.

use std::io;
use std::path::Path;

use super::output::{Failure, HEADING_REPORT, print_report};
use super::values::{DEFAULT_SIGNALING_PORT, use_color};
use crate::client::StopSignal;
use crate::io::machine::{self, KernelFiles};
use crate::io::status_line::StatusLine;
use crate::io::stop::StopToken;
use crate::machine::MachineReport;
use crate::{moqt, wire};

/// The default ports of the servers.
const PORTS: [(&str, u16, &str); 3] = [
    ("udp", wire::DEFAULT_PORT, "echo-server"),
    ("udp", moqt::DEFAULT_PORT, "echo-server --moqt"),
    ("tcp", DEFAULT_SIGNALING_PORT, "signaling-server"),
];

/// Check timers, buffers, ports and devices of this machine
///
/// Takes about 2 seconds. The exit code is 1 if measurements on this machine would not be valid.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the report as JSON
    #[arg(long, help_heading = HEADING_REPORT)]
    json: bool,
}

impl Args {
    /// Runs all checks, prints the report and returns the exit code.
    pub(crate) fn run(&self, stop: &StopToken) -> Result<u8, Failure> {
        stop.set_run_started();
        let status = StatusLine::new(None);
        let timing = machine::measure_timing(stop, || {
            if let Some(status) = &status {
                status.draw(0, "measuring timers and send calls".to_owned());
            }
        });
        drop(status);
        let report = MachineReport::new(&machine::collect(KernelFiles(Path::new("/")), timing, &PORTS));
        print_report(&report, self.json, || report.to_text(use_color(&io::stdout())))?;
        Ok(stop.signal().map_or_else(|| report.exit_code(), StopSignal::exit_code))
    }
}
