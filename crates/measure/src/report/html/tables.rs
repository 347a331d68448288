//! The tables of the page: limits, figures of the streams, jitter buffer, intervals and origin.

use crate::report::buffer_table::JitterBufferTable;
use crate::report::model::Report;
use crate::report::quantities::format_optional_time;
use crate::report::rows::{self, Row};
use crate::report::time_series::IntervalFigures;
use crate::verdict::Judged;
use jamjam_core::sanitize::escape_html;

/// A table in a box that scrolls if the table is wider than the page. `label` is the id of the heading.
fn scrolling(label: &str, table: &str) -> String {
    format!(
        "<div class=\"wide\" role=\"region\" aria-labelledby=\"{label}\" tabindex=\"0\"><table>{table}</table></div>\n"
    )
}

/// A table in a box that scrolls in both directions.
pub(super) fn long(id: &str, table: &str) -> String {
    format!(
        "<div class=\"wide long\" role=\"region\" aria-label=\"{id}\" tabindex=\"0\"><table id=\"{id}\">{table}</table></div>"
    )
}

pub(super) fn section(id: &str, title: &str, content: &str) -> String {
    format!("<section aria-labelledby=\"{id}\"><h2 id=\"{id}\">{title}</h2>\n{content}</section>\n")
}

/// Cells of a row: the first one is the heading of the row. The cells are HTML.
pub(super) fn row(heading: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells = cells.into_iter().map(|cell| format!("<td>{cell}</td>"));
    format!("<tr><th scope=\"row\">{heading}</th>{}</tr>\n", cells.collect::<String>())
}

/// The content of a table: the headings of its columns, and its rows.
pub(super) fn table<'a>(
    first: &str,
    names: impl IntoIterator<Item = &'a str>,
    rows: impl Iterator<Item = String>,
) -> String {
    let first = match first {
        "" => "<td></td>".to_owned(),
        _ => format!("<th scope=\"col\" class=\"words\">{first}</th>"),
    };
    let names = names.into_iter().map(|name| format!("<th scope=\"col\">{name}</th>"));
    let (names, rows) = (names.collect::<String>(), rows.collect::<String>());
    format!("<thead><tr>{first}{names}</tr></thead>\n<tbody>\n{rows}</tbody>")
}

pub(super) fn limits(report: &Report) -> String {
    if report.limits.is_empty() {
        return String::new();
    }
    let rows = report.limits.iter().map(|limit| {
        let [allowed, measured, note] = limit.texts().map(|text| escape_html(&text));
        let word = limit.result.word();
        let is_bad = limit.result == Judged::Exceeded;
        let result = if is_bad { format!("<strong class=\"bad\">{word}</strong>") } else { word.to_owned() };
        row(&format!("<code>{}</code>", limit.label()), [allowed, measured, format!("{result}{note}")])
    });
    section("limits", "Limits", &scrolling("limits", &table("limit", ["allowed", "measured", "result"], rows)))
}

/// The figures of each stream, and the figures that belong to no stream.
pub(super) fn figures(report: &Report) -> String {
    let rows = rows::stream_rows(report);
    if rows.is_empty() {
        return section("figures", "Statistics", "<p>Nothing was counted.</p>\n");
    }
    let names = report.streams.iter().map(|(kind, _)| report.labels(kind).request);
    let rows = rows.iter().map(|Row { label, cells, .. }| row(label, cells.iter().map(|cell| escape_html(cell))));
    let streams = scrolling("figures", &table("", names, rows));
    let further = rows::further_rows(report).into_iter().map(|Row { label, cells, .. }| {
        let value = escape_html(&cells.concat());
        format!("<tr><th scope=\"row\">{label}</th><td class=\"words\">{value}</td></tr>\n")
    });
    let further: String = further.collect();
    let further = if further.is_empty() { further } else { scrolling("figures", &format!("<tbody>{further}</tbody>")) };
    section("figures", "Statistics", &format!("<div class=\"columns\">{streams}{further}</div>\n"))
}

/// The values of the jitter-buffer curve.
pub(super) fn buffer_depths(report: &Report) -> String {
    let Some(depths) = &report.jitter_buffer else { return String::new() };
    let rows = depths.rows().into_iter().map(|([depth, cells @ ..], is_recommended)| {
        let mark = if is_recommended { " (recommended)" } else { "" };
        row(&format!("{depth}{mark}"), cells.map(|cell| escape_html(&cell)))
    });
    let [depth, names @ ..] = JitterBufferTable::COLUMNS;
    section("depths", "Jitter-buffer depths", &scrolling("depths", &table(depth, names, rows)))
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
    let names = values(&series.intervals[0]).map(|(name, _)| name);
    let rows = series
        .intervals
        .iter()
        .map(|interval| row(&format!("{} s", interval.start_s), values(interval).map(|(_, value)| value)));
    format!(
        "<details><summary>Values per interval of {} s</summary>\n{}</details>\n",
        series.interval_s,
        long("intervals", &table("from", names, rows))
    )
}

/// How the run was made; the head of the page says when and where.
pub(super) fn origin(report: &Report, version: &str) -> String {
    let command = match &*report.command_line {
        "" => String::new(),
        line => format!("<div><dt>Command</dt><dd><code>{}</code></dd></div>\n", escape_html(line)),
    };
    let program = format!("<div><dt>Program</dt><dd>jamjam-dev {}</dd></div>\n", escape_html(version));
    section("origin", "About this run", &format!("<dl class=\"origin\">\n{command}{program}</dl>\n"))
}
