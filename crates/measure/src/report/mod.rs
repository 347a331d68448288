//! Turns the raw results of a run into a report.
//!
//! [`Report::new`] computes every figure, limit and diagnosis once; [`text`], [`json`], [`junit`], [`markdown`] and [`html`] print them and
//! compute nothing. [`targets`] compares several reports, [`clients`] merges several clients of one target, [`ramp`] judges how many a
//! server carries, [`musicians`] is the report of a room, and [`relay`] that of a relay. `docs/measuring.md` defines the figures, and `docs/report.schema.json` the structure
//! of the JSON document.

pub mod audio_figures;
pub mod brief;
pub mod buffer_table;
pub mod clients;
pub mod connection_figures;
mod diagnoses;
pub mod figures;
mod headline;
pub mod html;
pub mod json;
pub mod junit;
pub mod limits;
pub mod markdown;
pub mod media;
mod model;
pub mod musicians;
pub mod quantities;
pub mod ramp;
pub mod relay;
mod rows;
pub mod targets;
pub mod text;
pub mod time_series;
pub mod wrap;

pub use diagnoses::{ClosePhase, diagnose_close};
pub(crate) use diagnoses::{SEND_CALL_WARNING_US, TIMER_ERROR_WARNING_US};
use limits::Limits;
pub use model::{Report, SCHEMA_VERSION, Streams};

use crate::client::RunResults;

impl Report {
    /// Computes the report of a run that has ended.
    pub fn new(run: &RunResults, limits: &Limits) -> Self {
        let mut report = Self::from((run, limits));
        report.findings = diagnoses::path::findings(run);
        report.findings.splice(0..0, diagnoses::clients::finding(run, &report));
        report.warnings = diagnoses::warnings(&report);
        report.headline = headline::headline(&report);
        report
    }
}
