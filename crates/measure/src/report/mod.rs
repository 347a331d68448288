//! Turns the raw results of a run into a report.
//!
//! [`Report::new`] computes every figure, limit and warning once; [`text`], [`json`], [`junit`], [`markdown`] and [`html`] print them and
//! compute nothing. `docs/measuring.md` defines the figures, and `docs/report.schema.json` the structure of the JSON document.

pub mod audio_figures;
pub mod brief;
pub mod buffer_table;
mod connection_failures;
pub mod connection_figures;
pub mod figures;
pub mod findings;
mod headline;
pub mod html;
pub mod json;
pub mod junit;
pub mod limits;
pub mod machine;
pub mod markdown;
mod model;
pub mod quantities;
mod rows;
pub mod run_record;
pub mod text;
pub mod time_series;
mod warnings;
pub mod wrap;

use limits::Limits;
pub use model::{Report, SCHEMA_VERSION, Streams, Warning};

use crate::client::RunResults;

impl Report {
    /// Computes the report of a run that has ended.
    pub fn new(run: &RunResults, limits: &Limits) -> Self {
        let mut report = Self::from((run, limits));
        report.warnings = warnings::warnings(&report);
        report.headline = headline::headline(&report);
        report
    }
}
