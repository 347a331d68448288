//! The report in a few lines, for a run whose own output is what people want to see.

use crate::report::caveats::Code;
use crate::report::document::Report;
use crate::report::wording::{self, count, time};

/// What came back, how long it took, and what went wrong.
pub fn brief(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(stream) = report.streams.get(report.judged).filter(|stream| stream.sent > 0) {
        let unit = report.names(report.judged).unit;
        let took = match (stream.rtt_min_us, stream.rtt_max_us) {
            (Some(min), Some(max)) if stream.rtt_count > 1 => format!(", after {} to {}", time(min), time(max)),
            (Some(min), _) => format!(", after {}", time(min)),
            _ => String::new(),
        };
        let set_up = report.moqt.as_ref().and_then(super::moqt::set_up);
        let set_up = set_up.map_or_else(String::new, |parts| format!("; connecting: {parts}"));
        lines.push(format!("{} of {} came back{took}{set_up}", stream.returned, count(stream.sent, unit)));
    }
    let matters = |code| {
        matches!(
            code,
            Code::ConnectionLost
                | Code::NothingCameBack
                | Code::Unanswered
                | Code::GroupsRefused
                | Code::Damaged
                | Code::Unmatched
                | Code::InFlight
        )
    };
    lines.extend(report.caveats.iter().filter(|caveat| matters(caveat.code)).map(wording::caveat));
    if !report.verdict.passed {
        lines.push(format!("FAILED: {}", report.verdict.reasons.join("; ")));
    }
    lines
}
