//! Turns the raw results of a run into a report.
//!
//! [`Report::new`] computes every figure, judgment and diagnosis once, and [`Report::document`] returns what all printers print. [`targets`] compares
//! several reports, [`clients`] merges several clients of one target, [`ramp`] judges how many a server carries, [`musicians`] is the report of
//! a room, [`relay`] that of a relay, and [`media`] that of a bad room. `docs/measuring.md` defines the figures.

pub mod audio_figures;
pub mod audio_section;
pub mod buffer_table;
pub mod clients;
pub mod connection_figures;
mod diagnoses;
pub mod figures;
mod headline;
pub mod limits;
pub mod lists;
pub mod media;
mod model;
pub mod musicians;
pub mod packet_line;
pub mod quantities;
pub mod ramp;
pub mod relay;
mod series;
pub mod targets;
pub mod time_series;

pub use diagnoses::{ClosePhase, diagnose_close};
pub(crate) use diagnoses::{SEND_CALL_WARNING_US, TIMER_ERROR_WARNING_US};
use limits::Limits;
pub use model::{Report, Streams};

use crate::check::CheckFigures;
use crate::client::RunResults;
use crate::document::column::{Columns, Figures, figures};
use crate::document::schema;
use crate::machine::MachineReport;

figures! {
    /// A command that failed before it had another report.
    AbortedFigures {}
}

/// The bodies of all reports, of which the last one contains several of the first.
pub const BODIES: [&Columns; 8] = [
    Report::COLUMNS,
    musicians::MusiciansFigures::COLUMNS,
    relay::RelayFigures::COLUMNS,
    media::MediaFigures::COLUMNS,
    CheckFigures::COLUMNS,
    MachineReport::COLUMNS,
    AbortedFigures::COLUMNS,
    targets::ComparisonFigures::COLUMNS,
];

/// The JSON schema of all reports, of a line about a packet, and of lists.
pub fn schema() -> serde_json::Value {
    let others = [
        ("packet", packet_line::PacketLine::COLUMNS),
        ("rooms", lists::RoomList::COLUMNS),
        ("devices", lists::DeviceList::COLUMNS),
    ];
    schema::schema(&BODIES, &others)
}

impl Report {
    /// Computes the report of a run that has ended.
    pub fn new(run: &RunResults, limits: &Limits) -> Self {
        let mut report = Self::from((run, limits));
        let of_clients = diagnoses::clients::finding(run, &report);
        report.head.findings = of_clients.into_iter().chain(diagnoses::path::findings(run)).collect();
        let (warnings, likely_cause) = diagnoses::warnings(&report);
        report.head.warnings = warnings;
        (report.head.headline, report.head.stated_rule) = headline::headline(&report, likely_cause);
        report.head.assumptions = report.assumptions();
        report.head.key_figures = report.key_figures();
        report
    }
}
