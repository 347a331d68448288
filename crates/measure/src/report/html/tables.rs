//! The tables of the page: limits, figures of the streams, jitter buffer, intervals and origin.

use std::fmt::Write;

use crate::report::model::{Report, Warning};
use crate::report::quantities::{format_optional_time, format_percent, format_time, start_time};
use crate::report::rows::{self, Row};
use crate::report::time_series::IntervalFigures;
use jamjam_core::sanitize::{escape_html, escape_html_prose};

/// A table in a box that scrolls if the table is wider than the page. `label` is the id of the heading.
fn scrolling(label: &str, table: &str) -> String {
    format!(
        "<div class=\"wide\" role=\"region\" aria-labelledby=\"{label}\" tabindex=\"0\"><table>{table}</table></div>\n"
    )
}

pub(super) fn section(id: &str, title: &str, content: &str) -> String {
    format!("<section aria-labelledby=\"{id}\"><h2 id=\"{id}\">{title}</h2>\n{content}</section>\n")
}

/// Cells of a row: the first one is the heading of the row. The cells are HTML.
fn row(heading: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells = cells.into_iter().map(|cell| format!("<td>{cell}</td>"));
    format!("<tr><th scope=\"row\">{heading}</th>{}</tr>\n", cells.collect::<String>())
}

fn head<'a>(first: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let first = match first {
        "" => "<td></td>".to_owned(),
        _ => format!("<th scope=\"col\" class=\"words\">{first}</th>"),
    };
    let names = names.into_iter().map(|name| format!("<th scope=\"col\">{name}</th>"));
    format!("<thead><tr>{first}{}</tr></thead>\n", names.collect::<String>())
}

pub(super) fn limits(report: &Report) -> String {
    if report.limits.is_empty() {
        return String::new();
    }
    let mut table = head("limit", ["allowed", "measured", "result"]) + "<tbody>\n";
    for limit in &report.limits {
        let [allowed, measured, note] = [limit.allowed_text(), limit.measured_text(), limit.note_text()];
        let [allowed, measured, note] = [allowed, measured, note].map(|text| escape_html(&text));
        let result = if limit.passed { "met" } else { "<strong class=\"bad\">exceeded</strong>" };
        table += &row(&format!("<code>{}</code>", limit.label()), [allowed, measured, format!("{result}{note}")]);
    }
    section("limits", "Limits", &scrolling("limits", &(table + "</tbody>")))
}

/// The figures of each stream, and the figures that belong to no stream.
pub(super) fn figures(report: &Report) -> String {
    let rows = rows::stream_rows(report);
    if rows.is_empty() {
        return section("figures", "Statistics", "<p>Nothing was counted.</p>\n");
    }
    let mut table = head("", report.streams.iter().map(|(kind, _)| report.labels(kind).request)) + "<tbody>\n";
    for Row { label, cells, .. } in rows {
        table += &row(label, cells.iter().map(|cell| escape_html(cell)));
    }
    let streams = scrolling("figures", &(table + "</tbody>"));
    let mut further = String::new();
    for Row { label, cells, .. } in rows::further_rows(report) {
        let value = escape_html(&cells.concat());
        _ = writeln!(further, "<tr><th scope=\"row\">{label}</th><td class=\"words\">{value}</td></tr>");
    }
    if !further.is_empty() {
        further = scrolling("figures", &format!("<tbody>{further}</tbody>"));
    }
    section("figures", "Statistics", &format!("<div class=\"columns\">{streams}{further}</div>\n"))
}

/// The values of the jitter-buffer curve.
pub(super) fn buffer_depths(report: &Report) -> String {
    let Some(table) = &report.jitter_buffer else { return String::new() };
    let mut rows = head("jitter buffer", ["late", "late or lost", "one way"]) + "<tbody>\n";
    for depth in &table.depths {
        let one_way = depth.one_way_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        let is_recommended = Some(depth.depth_packets) == table.recommended_packets;
        let mark = if is_recommended { " (recommended)" } else { "" };
        let cells = [depth.late.to_string(), escape_html(&format_percent(depth.late_or_lost_ratio)), one_way];
        rows += &row(&format!("{:.1} ms{mark}", depth.depth_ms), cells);
    }
    section("depths", "Jitter-buffer depths", &scrolling("depths", &(rows + "</tbody>")))
}

/// The values behind the charts over time. The script reads them from this table.
pub(super) fn intervals(report: &Report) -> String {
    let Some(series) = report.time_series.as_ref().filter(|series| !series.intervals.is_empty()) else {
        return String::new();
    };
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let values = |interval: &IntervalFigures| {
        [
            ("sent", interval.sent.to_string()),
            ("returned", interval.returned.to_string()),
            ("lost", interval.lost.to_string()),
            ("damaged", interval.damaged.to_string()),
            ("in flight", interval.in_flight.to_string()),
            ("upstream", count(interval.lost_upstream)),
            ("downstream", count(interval.lost_downstream)),
            ("longest burst", interval.burst_max.to_string()),
            ("min", format_optional_time(interval.rtt_min_us)),
            ("p50", format_optional_time(interval.rtt_p50_us)),
            ("p99", format_optional_time(interval.rtt_p99_us)),
            ("max", format_optional_time(interval.rtt_max_us)),
            ("jitter", format_optional_time(interval.jitter_mean_us)),
        ]
    };
    let mut table = head("from", values(&series.intervals[0]).map(|(name, _)| name)) + "<tbody>\n";
    for interval in &series.intervals {
        table += &row(&format!("{} s", interval.start_s), values(interval).map(|(_, value)| value));
    }
    format!(
        "<details><summary>Values per interval of {} s</summary>\n<div class=\"wide long\" role=\"region\" aria-label=\"Intervals\" \
         tabindex=\"0\"><table id=\"intervals\">{table}</tbody></table></div></details>\n",
        series.interval_s
    )
}

/// Warnings with their details.
pub(super) fn warnings(report: &Report) -> String {
    if report.warnings.is_empty() {
        return String::new();
    }
    let mut list = "<ul>\n".to_owned();
    for Warning { message, details, .. } in &report.warnings {
        let items = details.iter().map(|detail| format!("<li>{}</li>", escape_html_prose(detail)));
        let (start, end) = if details.is_empty() { ("", "") } else { ("<ol>", "</ol>") };
        _ = writeln!(list, "<li>{}{start}{}{end}</li>", escape_html_prose(message), items.collect::<String>());
    }
    section("warnings", "Warnings", &(list + "</ul>"))
}

/// Where and how the run was made.
pub(super) fn origin(report: &Report, version: &str) -> String {
    let mut rows = String::new();
    let mut add = |name: &str, value: String| {
        _ = writeln!(rows, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    };
    if !report.command_line.is_empty() {
        add("Command", format!("<code>{}</code>", escape_html(&report.command_line)));
    }
    if let Some(host) = &report.host_name {
        add("Host", format!("<bdi>{}</bdi>", escape_html(host)));
    }
    add("Target", format!("<bdi>{}</bdi>", escape_html(&report.target)));
    if let Some(time) = start_time(report.started_unix_ms) {
        add("Started", format!("<time>{time}</time>"));
    }
    add("Duration", format_time(report.duration_ms * 1e3));
    add("Program", format!("jamjam-dev {}", escape_html(version)));
    section("origin", "About this run", &format!("<dl class=\"origin\">\n{rows}</dl>\n"))
}
