//! `--baseline`: reads the report of an earlier run before the run starts, and compares the finished run with it.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::output::{Failure, HEADING_REPORT};
use crate::client::{RunKind, RunResults, StreamKind};
use crate::report::Report;
use crate::report::baseline::{Baseline, MAX_BASELINE_BYTES, Measurement, RunTransport};
use crate::report::limits::Limits;

/// Option for the comparison with an earlier run.
#[derive(Debug, clap::Args)]
pub struct BaselineArgs {
    /// Fail if the run is worse than an earlier --json report
    ///
    /// Compares loss, p50, p99 and jitter with the earlier run. The exit code is 1 if a figure is worse by more than random variation explains. Both
    /// runs must send for at least 120 s. The file may also be the output of --json-lines.
    #[arg(long, hide_short_help = true, value_name = "FILE", help_heading = HEADING_REPORT)]
    baseline: Option<PathBuf>,

    /// The earlier report, once it is read.
    #[arg(skip)]
    loaded: OnceCell<Baseline>,
}

impl BaselineArgs {
    /// Whether there is an earlier report.
    pub fn is_given(&self) -> bool {
        self.baseline.is_some()
    }

    /// Reads the earlier report.
    pub fn load(&self) -> Result<(), Failure> {
        let Some(path) = &self.baseline else { return Ok(()) };
        let baseline = read(path)
            .with_context(|| format!("--baseline: cannot use {}", path.display()))
            .map_err(Failure::unusable)?;
        // The cell is empty, because the file is read once.
        _ = self.loaded.set(baseline);
        Ok(())
    }

    /// Checks that the planned run will be comparable. `duration` is the time of sending, if it is known.
    pub fn check_plan(
        &self,
        command: RunKind,
        stream: StreamKind,
        transport: RunTransport,
        duration: Option<Duration>,
    ) -> Result<(), Failure> {
        let Some(baseline) = self.loaded.get() else { return Ok(()) };
        let planned = Measurement { command, stream, transport };
        baseline.check_plan(&planned, duration).map_err(|error| Failure::unusable(anyhow!("--baseline: {error}")))
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

/// The time in which a run sends `count` packets or groups.
pub fn planned_duration(count: u64, interval: Duration) -> Duration {
    Duration::try_from_secs_f64(interval.as_secs_f64() * count as f64).unwrap_or(Duration::MAX)
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
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("not UTF-8 text"))?;
    Ok(Baseline::parse(&text)?)
}
