//! `jamjam-dev doctor`: checks whether this machine can measure precisely.

use std::path::Path;

use super::options::report::ReportArgs;
use super::output::Failure;
use super::values::DEFAULT_SIGNALING_PORT;
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
    #[command(flatten)]
    report: ReportArgs,
}

impl Args {
    /// Runs all checks, prints the report and returns the exit code.
    pub(crate) fn run(&self, stop: &StopToken) -> Result<u8, Failure> {
        self.report.run(|| "this machine".to_owned(), || self.check(stop))
    }

    fn check(&self, stop: &StopToken) -> Result<u8, Failure> {
        self.report.files.prepare(stop)?;
        let status = StatusLine::new(None);
        let timing = machine::measure_timing(stop, || {
            if let Some(status) = &status {
                status.draw(0, "measuring timers and send calls".to_owned());
            }
        });
        drop(status);
        let facts = machine::collect(KernelFiles(Path::new("/")), timing, &PORTS);
        let mut document = MachineReport::new(&facts).document();
        document.head.interrupted = stop.signal();
        self.report.deliver(&mut document)?;
        Ok(document.head.exit_code())
    }
}
