//! `--junit` and `--markdown`: the report as files, beside what is printed.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Failure;
use crate::io::whole_file;
use crate::report::{Report, junit, markdown};

/// Files that the report is written to.
#[derive(Debug, clap::Args)]
pub struct ReportFiles {
    /// Also write the report to this file, as JUnit XML
    #[arg(long, value_name = "FILE", help_heading = super::client::HEADING_REPORT)]
    junit: Option<PathBuf>,

    /// Also write the report to this file, as Markdown for the summary of a CI job
    #[arg(long, value_name = "FILE", help_heading = super::client::HEADING_REPORT)]
    markdown: Option<PathBuf>,
}

impl ReportFiles {
    /// The files, each with its option.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let all = [("--junit", &self.junit), ("--markdown", &self.markdown)];
        all.into_iter().filter_map(|(option, file)| Some((option, file.as_deref()?)))
    }

    /// Finds what would stand in the way, before anything is measured, and removes the reports of an earlier run.
    pub fn prepare(&self) -> Result<(), Failure> {
        for (option, file) in self.named() {
            whole_file::clear(file).with_context(|| cannot(option, file)).map_err(Failure::unusable)?;
        }
        Ok(())
    }

    /// Writes each of them. What keeps one from being written does not keep the others; the first error is handed back.
    pub fn write(&self, report: &Report, broken: Option<&anyhow::Error>) -> anyhow::Result<()> {
        let broken = broken.map(|error| format!("{error:#}"));
        let broken = broken.as_deref();
        let mut result = Ok(());
        for (option, file) in self.named() {
            let text = match option {
                "--junit" => junit::document(report, broken).map_err(anyhow::Error::from),
                _ => Ok(markdown::summary(report, broken)),
            };
            let written = text.and_then(|text| Ok(whole_file::write(file, &text)?));
            result = result.and(written.with_context(|| cannot(option, file)));
        }
        result
    }
}

fn cannot(option: &str, file: &Path) -> String {
    format!("{option}: cannot write {}", file.display())
}
