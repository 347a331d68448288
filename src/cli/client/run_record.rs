//! `--record-run` and `--replay`: records the packets of a run in a file, and computes the report from such a file.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use super::{ClientArgs, FinishedRun};
use crate::cli::output::{Failure, HEADING_REPORT, ensure_usage};
use crate::cli::packet_lines::RecordFile;
use crate::cli::values::{OutputFile, output_file_parser};
use crate::client::{RunKind, RunResults};
use crate::io::files;
use crate::report::limits::Limits;
use crate::run_record::{self, RecordedRun};

#[derive(clap::Args)]
pub(crate) struct RunRecordArgs {
    /// Write the options and all packets of the run to this file
    ///
    /// --replay computes the report from this file. The file contains one JSON document per line.
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    pub record_run: Option<OutputFile>,

    /// Compute the report from a --record-run file; send nothing
    ///
    /// Limits on the command line replace the recorded limits. The exit code is 0 or 1, even if the run was interrupted. It is 3
    /// if nothing was sent or an error ended the run.
    #[arg(long, value_name = "FILE", help_heading = HEADING_REPORT)]
    pub replay: Option<PathBuf>,
}

impl RunRecordArgs {
    /// Creates the file of --record-run. `plan` are the results of the run before its first packet.
    pub(crate) fn create(&self, limits: Limits, plan: &RunResults) -> anyhow::Result<Option<RecordFile>> {
        let create = |path: &OutputFile| RecordFile::create(path, limits, plan);
        self.record_run.as_ref().map(create).transpose()
    }
}

impl ClientArgs {
    /// Reports the recorded run of the file `record`. `command` is the subcommand.
    pub(crate) fn replay(&self, record: &Path, command: RunKind) -> Result<u8, Failure> {
        let recorded = read_record(record);
        let RecordedRun { limits, run, error, audio: picture, .. } =
            recorded.with_context(|| format!("--replay: cannot read the run from {}", record.display()))?;
        let other = run.run_kind.name();
        ensure_usage!(
            run.run_kind == command,
            "--replay: this is a record of `{other}`; use `jamjam-dev {other} --replay`"
        );
        let error = error.map(|error| anyhow!(error));
        let finished = FinishedRun { run, error, picture, record: None, ramp: None, close: Box::new(|| ()) };
        self.conclude(finished, self.limits().or(limits), |report| self.print_report(report))
    }
}

/// Reads a file of --record-run.
pub(crate) fn read_record(path: &Path) -> anyhow::Result<RecordedRun> {
    // Opening a pipe without a writer would block.
    if !fs::metadata(path)?.is_file() {
        bail!("not a regular file");
    }
    let mut file = BufReader::new(File::open(path)?);
    files::skip_byte_order_mark(&mut file)?;
    run_record::read(file).map_err(anyhow::Error::msg)
}
