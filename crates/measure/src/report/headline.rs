//! The sentence at the head of a report, which says what a musician wants to know: how much was lost and in which direction, which jitter
//! buffer helps, or else what to change. The limits that failed follow it.

use super::buffer_table::{BufferDepthFigures, JitterBufferTable};
use super::diagnoses::path;
use super::figures::StreamFigures;
use super::limits::{CONNECTION, REPLIES};
use super::model::Report;
use super::quantities::{format_count, format_share, format_time};
use crate::document::Judgment;
use crate::verdict::Judged;

/// The sentence, without its period, and the rule of the judgment that it states; empty if it states none. Missing replies have a
/// `likely_cause`.
pub(super) fn headline(report: &Report, likely_cause: Option<String>) -> (String, String) {
    let head = &report.head;
    let exceeded = |rule| head.judgments.iter().find(|one| one.rule == rule && one.result == Judged::Exceeded);
    let no_replies = exceeded(REPLIES).map(Judgment::sentence);
    if let Some(failure) = report.connection_failure() {
        if let Some(named) = exceeded(CONNECTION) {
            return (named.sentence(), named.rule.clone());
        }
        let reason = no_replies.as_deref().unwrap_or("the connection failed");
        return (format!("{reason}: {}", failure.message.trim_end_matches('.')), REPLIES.to_owned());
    }
    if let Some(reason) = no_replies {
        let causes = likely_cause.map_or_else(String::new, |cause| format!(": {cause}"));
        return (reason + &causes, REPLIES.to_owned());
    }
    let Some(stream) = report.evaluated() else { return ("nothing was sent".to_owned(), REPLIES.to_owned()) };
    let unit = report.labels(report.evaluated_stream).request_unit;
    if !report.replies_expected {
        return (format!("{} sent, no replies expected", format_count(stream.sent, unit)), String::new());
    }
    let buffer = report.jitter_buffer.as_ref().filter(|table| table.is_reliable);
    let recommended = buffer.and_then(JitterBufferTable::recommended);
    let mut parts = vec![loss(stream, unit)];
    parts.extend(buffer.map(|table| buffer_advice(recommended, table, stream)));
    if buffer.is_none() {
        parts.extend(stream.rtt_p50_us.map(|p50| format!("the median round trip is {}", format_time(p50))));
    }
    // No buffer avoids loss.
    let finding = head.findings.first().filter(|_| stream.lost > 0 || buffer.is_some() && recommended.is_none());
    let remedy = finding.and_then(|finding| finding.remedy.as_ref());
    parts.extend(remedy.map(|remedy| lower_first(remedy.trim_end_matches('.'))));
    (parts.join("; "), String::new())
}

/// `2.15 % of the packets were lost upstream, from this host to the server`.
fn loss(stream: &StreamFigures, unit: &str) -> String {
    let damaged = match stream.damaged {
        0 => String::new(),
        damaged => format!(", and {} returned damaged", format_count(damaged, unit)),
    };
    match stream.loss_ratio {
        None => format!("no {unit} had an outcome{damaged}"),
        Some(0.0) => format!("no {unit} was lost{damaged}"),
        Some(ratio) => {
            let by_direction = stream.lost_upstream.zip(stream.lost_downstream);
            let direction = by_direction.and_then(|(upstream, downstream)| path::direction([upstream, downstream]));
            let direction = direction.map_or_else(String::new, |direction| format!(" {direction}"));
            format!("{} of the {unit}s were lost{direction}{damaged}", format_share(ratio))
        }
    }
}

/// `a 5.3 ms jitter buffer (2 packets) plays all, about 12 ms one way`.
fn buffer_advice(found: Option<&BufferDepthFigures>, table: &JitterBufferTable, stream: &StreamFigures) -> String {
    let Some(row) = found.or(table.depths.last()) else { return String::new() };
    let share = format_share(row.late as f64 / stream.returned.max(1) as f64);
    let depth = format!("{:.1} ms", row.depth_ms);
    if found.is_none() {
        return format!("no jitter buffer up to {depth} suffices, because {share} of the others would be late");
    }
    let delay = row.one_way_ms.map_or_else(String::new, |ms| format!(", about {ms:.0} ms one way"));
    let all = if stream.lost + stream.damaged == 0 { "all" } else { "all that return" };
    let late = if row.late == 0 { String::new() } else { format!(" except {share}") };
    match row.depth_packets {
        0 => format!("{all} are on time without a jitter buffer{late}{delay}"),
        packets => {
            let packets = format_count(packets.into(), "packet");
            format!("a {depth} jitter buffer ({packets}) plays {all}{late}{delay}")
        }
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
