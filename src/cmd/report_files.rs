//! `--junit`, `--markdown` and `--html`: the report as files, beside what is printed.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Failure;
use super::args::written_file;
use crate::audio::picture::Picture;
use crate::io::http::page::HOUSE_STYLE;
use crate::io::whole_file;
use crate::report::html::{self, Sound};
use crate::report::{Report, junit, markdown};

/// Files that the report is written to.
#[derive(Debug, clap::Args)]
pub struct ReportFiles {
    /// Also write the report to this file, as JUnit XML
    #[arg(long, value_name = "FILE", value_parser = written_file(), help_heading = super::client::HEADING_REPORT)]
    junit: Option<PathBuf>,

    /// Also write the report to this file, as Markdown for the summary of a CI job
    #[arg(long, value_name = "FILE", value_parser = written_file(), help_heading = super::client::HEADING_REPORT)]
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
        self.named().try_for_each(|(option, file)| prepare(option, file))
    }

    /// Writes each of them. What keeps one from being written does not keep the others; the first error is handed back.
    pub fn write(&self, report: &Report, page: Option<&Page>, broken: Option<&anyhow::Error>) -> anyhow::Result<()> {
        let broken = broken.map(|error| format!("{error:#}"));
        let broken = broken.as_deref();
        let mut result = Ok(());
        let mut write = |option, file, text: anyhow::Result<String>| {
            let written = text.and_then(|text| Ok(whole_file::write(file, &text)?));
            let result = &mut result;
            *result = std::mem::replace(result, Ok(())).and(written.with_context(|| cannot(option, file)));
        };
        for (option, file) in self.named() {
            let text = match option {
                "--junit" => junit::document(report, broken).map_err(anyhow::Error::from),
                _ => Ok(markdown::summary(report, broken)),
            };
            write(option, file, text);
        }
        if let Some(Page { file, name, picture, left_out }) = page {
            let sound = Sound { name, picture, left_out: *left_out };
            write("--html", file, Ok(html::page(report, broken, &sound, HOUSE_STYLE)));
        }
        result
    }
}

/// The report as a page with the sound of the run.
pub struct Page {
    /// Where it is written.
    pub file: PathBuf,
    /// What was sent, as a person would call it.
    pub name: String,
    /// What was sent and came back.
    pub picture: Picture,
    /// Packets of either side that did not get into the picture.
    pub left_out: u64,
}

/// Finds what would stand in the way of one file, and removes that of an earlier run.
pub fn prepare(option: &str, file: &Path) -> Result<(), Failure> {
    whole_file::clear(file).with_context(|| cannot(option, file)).map_err(Failure::unusable)
}

fn cannot(option: &str, file: &Path) -> String {
    format!("{option}: cannot write {}", file.display())
}
