//! `--baseline`: reads the report of an earlier run before the run starts, and compares the finished run with it.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::output::HEADING_REPORT;
use crate::client::{RunKind, RunResults, StreamKind};
use crate::io::files;
use crate::report::Report;
use crate::report::baseline::{Baseline, MAX_BASELINE_BYTES};
use crate::report::limits::Limits;
use crate::report::quantities::RunProtocol;

/// Option for the comparison with an earlier run.
#[derive(clap::Args)]
pub struct BaselineArgs {
    /// Fail if the run is worse than an earlier --json report
    ///
    /// Compares loss, p50, p99 and jitter with the earlier run. The exit code is 1 if a figure is worse by more than random variation explains. Short
    /// runs show large changes only. The file may also be the output of --json-lines.
    #[arg(long, value_name = "FILE", help_heading = HEADING_REPORT)]
    baseline: Option<PathBuf>,

    /// The earlier report, once it is read.
    #[arg(skip)]
    loaded: OnceCell<Baseline>,
}

impl BaselineArgs {
    /// Reads the earlier report.
    pub fn load(&self) -> anyhow::Result<()> {
        let Some(path) = &self.baseline else { return Ok(()) };
        let baseline = read(path).with_context(|| format!("--baseline: cannot use {}", path.display()))?;
        // The cell is empty, because the file is read once.
        _ = self.loaded.set(baseline);
        Ok(())
    }

    /// Checks before a run that it measures the same as the earlier run.
    pub fn check_plan(&self, command: RunKind, stream: StreamKind, protocol: RunProtocol) -> anyhow::Result<()> {
        match self.loaded.get().and_then(|baseline| baseline.difference((command, stream, protocol))) {
            Some(difference) => bail!("--baseline: the runs are not comparable: {difference}"),
            None => Ok(()),
        }
    }

    /// The report of a run, with the comparison if there is an earlier report.
    pub fn report(&self, run: &RunResults, limits: &Limits) -> Report {
        let report = Report::new(run, limits);
        match self.loaded.get() {
            Some(baseline) => report.compared_with(run, baseline),
            None => report,
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Baseline> {
    // Opening a pipe without a writer would block.
    if !fs::metadata(path)?.is_file() {
        bail!("not a regular file");
    }
    let mut file = File::open(path)?;
    let omitted = file.metadata()?.len().saturating_sub(MAX_BASELINE_BYTES);
    file.seek(SeekFrom::Start(omitted))?;
    let mut bytes = Vec::new();
    file.take(MAX_BASELINE_BYTES).read_to_end(&mut bytes)?;
    if omitted > 0 {
        // The report is the last line of a long file of --json-lines.
        bytes.truncate(bytes.trim_ascii_end().len());
        let Some(line_feed) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            bail!("the last line is longer than {} MiB", MAX_BASELINE_BYTES >> 20);
        };
        bytes.drain(..=line_feed);
    }
    Baseline::parse(&files::decode_text(&bytes)?).map_err(anyhow::Error::msg)
}
