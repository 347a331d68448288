//! `jamjam-dev replay`: computes the report from a file of --record-run.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, anyhow, bail};

use super::client::FinishedRun;
use super::file_arguments::InputFile;
use super::options::measurement::LimitArgs;
use super::options::report::ReportArgs;
use super::output::Failure;
use super::run_origin::file_name;
use crate::io::files;
use crate::run_record::{self, RecordedRun};

/// Compute the report of a recorded run; send nothing
#[derive(clap::Args)]
pub(crate) struct Args {
    /// File of --record-run or --json-lines
    ///
    /// Limits on the command line replace the recorded limits. The exit code is 0, 1 or 4, even if the run was interrupted. It is 3
    /// if nothing was sent or an error ended the run.
    #[arg(value_name = "FILE")]
    record: InputFile,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    report: ReportArgs,
}

impl Args {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        self.report.run(|| file_name(&self.record.to_string_lossy()), || self.replay())
    }

    fn replay(&self) -> Result<u8, Failure> {
        let recorded = read_record(&self.record);
        let RecordedRun { limits, run, error, .. } =
            recorded.with_context(|| format!("cannot read the run from {}", self.record.display()))?;
        let error = error.map(|error| anyhow!(error));
        let finished = FinishedRun { run, error, picture: None, record: None, ramp: None, close: Box::new(|| ()) };
        self.report.conclude(finished, self.limits.limits().or(limits))
    }
}

/// Reads a recorded run.
pub(crate) fn read_record(path: &Path) -> anyhow::Result<RecordedRun> {
    // Opening a pipe without a writer would block.
    if !fs::metadata(path)?.is_file() {
        bail!("not a regular file");
    }
    let mut file = BufReader::new(File::open(path)?);
    files::skip_byte_order_mark(&mut file)?;
    run_record::read(file).map_err(anyhow::Error::msg)
}
