//! `--replay`: reports a recorded run.

use std::path::Path;

use anyhow::anyhow;

use super::{ClientArgs, FinishedRun};
use crate::cli::output::{Failure, ensure_usage};
use crate::cli::run_record;
use crate::client::RunKind;
use crate::report::run_record::RecordedRun;

impl ClientArgs {
    /// Reports the recorded run of the file `record`. `command` is the subcommand.
    pub fn replay(&self, record: &Path, command: RunKind) -> Result<u8, Failure> {
        let RecordedRun { options, run, error, audio: picture } = run_record::read(record)?;
        let other = run.run_kind.name();
        ensure_usage!(
            run.run_kind == command,
            "--replay: this is a record of `{other}`; use `jamjam-dev {other} --replay`"
        );
        let finished = FinishedRun { run, error: error.map(|error| anyhow!(error)), picture, record: None };
        self.conclude(finished, self.limits().or(options.limits), |report| self.print_report(report))
    }
}
