//! What a run shows besides its figures. [`warnings`] are about the run, its hosts and its connection: problems, and reasons to interpret figures
//! with care. [`path`] is about the path between the hosts.

mod audio;
pub(super) mod clients;
mod close_codes;
mod connections;
mod found;
mod hosts;
mod no_replies;
pub(super) mod path;
mod streams;

use std::cmp::Reverse;

use super::model::Report;
use crate::diagnosis::Diagnosis;
use found::Found;

pub(super) use clients::MAX_LATENESS_US;
pub use close_codes::{ClosePhase, diagnose_close};
pub(crate) use hosts::{SEND_CALL_WARNING_US, TIMER_ERROR_WARNING_US};

/// Adds the diagnoses of one subject.
type Diagnose = fn(&mut Found, &Report);

/// All except those about the path, the most serious first, and the likely cause if no reply arrived over UDP.
pub(super) fn warnings(report: &Report) -> (Vec<Diagnosis>, Option<String>) {
    let subjects: [(&'static str, Diagnose); 15] = [
        ("docs/measuring.md#over-websocket", connections::websocket),
        ("docs/measuring.md#over-moqt", connections::moqt),
        ("docs/measuring.md#link", connections::link),
        ("docs/tasks/echo-gone.md", no_replies::no_replies),
        ("docs/measuring.md#packets-and-outcomes", streams::streams),
        ("docs/measuring.md#direction-of-loss", streams::loss_direction),
        ("docs/measuring.md#pauses", hosts::pauses),
        ("docs/measuring.md#this-host", hosts::this_host),
        ("docs/measuring.md#this-host", hosts::precision),
        ("docs/measuring.md#microphone", audio::capture),
        ("docs/measuring.md#playback", audio::playback),
        ("docs/measuring.md#audio-quality", audio::quality),
        ("docs/measuring.md#packets-and-outcomes", audio::packets),
        ("docs/measuring.md#server-delay", audio::server_delay),
        ("docs/measuring.md#statistics", streams::statistics),
    ];
    let mut found = Found::default();
    for (section, diagnose) in subjects {
        found.section = section;
        diagnose(&mut found, report);
    }
    found.all.sort_by_key(|diagnosis| Reverse(diagnosis.severity));
    (found.all, found.likely_cause)
}
