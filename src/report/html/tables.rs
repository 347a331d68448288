//! The tables of the page: limits, comparison, figures of the streams, pacing, jitter buffer, intervals and origin.

use std::fmt::Write;

use crate::report::comparison::{ComparisonResult, ComparisonRow, HEADINGS};
use crate::report::model::{Report, VERSION_WITH_COMMIT};
use crate::report::quantities::{format_percent, format_time, format_time_ms};
use crate::report::text;
use crate::report::time_series::IntervalFigures;
use crate::sanitize::{escape_html, escape_html_prose};

/// The table element in a box that scrolls if the table is wider than the page. `label` is the id of the heading.
fn scrolling(label: &str, table: &str) -> String {
    format!(
        "<div class=\"wide\" role=\"region\" aria-labelledby=\"{label}\" tabindex=\"0\"><table>{table}</table></div>\n"
    )
}

fn section(id: &str, title: &str, content: &str) -> String {
    format!("<section aria-labelledby=\"{id}\"><h2 id=\"{id}\">{title}</h2>\n{content}</section>\n")
}

/// Cells of a row: the first one is the heading of the row. The cells are HTML.
fn row(heading: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells = cells.into_iter().map(|cell| format!("<td>{cell}</td>"));
    format!("<tr><th scope=\"row\">{heading}</th>{}</tr>\n", cells.collect::<String>())
}

fn head<'a>(first: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let first = if first.is_empty() {
        "<td></td>".to_owned()
    } else {
        format!("<th scope=\"col\" class=\"words\">{first}</th>")
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
        let [allowed, measured, note] =
            [limit.allowed_text(), limit.measured_text(), limit.note_text()].map(|text| escape_html(&text));
        let result = if limit.passed { "met" } else { "<strong class=\"bad\">exceeded</strong>" };
        table +=
            &row(&format!("<code>{}</code>", limit.limit.option()), [allowed, measured, format!("{result}{note}")]);
    }
    section("limits", "Limits", &scrolling("limits", &(table + "</tbody>")))
}

pub(super) fn comparison(report: &Report) -> String {
    let Some(comparison) = &report.comparison else { return String::new() };
    let old_run = escape_html(&comparison.old_run_text());
    if let Some(problem) = &comparison.not_comparable {
        let text = format!(
            "<p><strong class=\"bad\">Not comparable</strong> with the run of {old_run}: {}</p>",
            escape_html(problem)
        );
        return section("comparison", "Comparison with an earlier run", &text);
    }
    let mut table = head("figure", HEADINGS) + "<tbody>\n";
    for ComparisonRow { label, cells, result, note } in comparison.rows() {
        let mut cells = cells.map(|cell| escape_html(&cell));
        if result == ComparisonResult::Worse {
            cells[4] = format!("<strong class=\"bad\">{}</strong>", cells[4]);
        }
        if let Some(note) = note {
            _ = write!(cells[4], " ({})", escape_html(&note));
        }
        table += &row(label, cells);
    }
    let text =
        format!("<p>Compared with the run of {old_run}.</p>\n{}", scrolling("comparison", &(table + "</tbody>")));
    section("comparison", "Comparison with an earlier run", &text)
}

/// The figures of each stream, and the figures that belong to no stream.
pub(super) fn figures(report: &Report) -> String {
    let rows = text::stream_rows(report);
    if rows.is_empty() {
        return section("figures", "Statistics", "<p>Nothing was counted.</p>\n");
    }
    let mut table = head("", report.streams.iter().map(|(kind, _)| report.labels(kind).request)) + "<tbody>\n";
    for text::StreamRow { label, cells, .. } in rows {
        table += &row(&escape_html(label), cells.iter().map(|cell| escape_html(cell)));
    }
    let streams = scrolling("figures", &(table + "</tbody>"));
    let further = text::all_further_rows(report);
    let rows = further.iter().map(|(label, value)| {
        let [label, value] = [*label, value.as_str()].map(escape_html);
        format!("<tr><th scope=\"row\">{label}</th><td class=\"words\">{value}</td></tr>\n")
    });
    let further = match rows.collect::<String>() {
        rows if rows.is_empty() => String::new(),
        rows => scrolling("figures", &format!("<tbody>{rows}</tbody>")),
    };
    let content = format!("<div class=\"columns\">{streams}{further}</div>\n");
    section("figures", "Statistics", &content)
}

/// How late this host sent the packets.
pub(super) fn pacing(report: &Report) -> String {
    let Some(pacing) = &report.pacing else { return String::new() };
    let values = [
        ("mean", pacing.pacing_mean_us),
        ("p50", pacing.pacing_p50_us),
        ("p90", pacing.pacing_p90_us),
        ("p99", pacing.pacing_p99_us),
        ("p99.9", pacing.pacing_p999_us),
        ("max", pacing.pacing_max_us),
        ("p50, first 5 s", pacing.pacing_first_5s_p50_us),
        ("p50, last 5 s", pacing.pacing_last_5s_p50_us),
    ];
    let values: Vec<(&str, f64)> = values.into_iter().filter_map(|(name, us)| Some((name, us?))).collect();
    if values.is_empty() {
        return String::new();
    }
    let cells = values.iter().map(|(_, us)| format_time_ms(*us));
    let table = format!(
        "{}<tbody>{}</tbody>",
        head("", values.iter().map(|(name, _)| *name)),
        row("delay after the due time", cells)
    );
    section(
        "pacing",
        "Pacing error",
        &format!(
            "<p class=\"about\">How late this host sent the packets. The effect on the round trips is negligible if this error is far below them.</p>\n{}",
            scrolling("pacing", &table)
        ),
    )
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
    // Rare outcomes have a column only if they occurred.
    let [has_damaged, has_in_flight] = [|one: &IntervalFigures| one.damaged, |one: &IntervalFigures| one.in_flight]
        .map(|count| series.intervals.iter().any(|interval| count(interval) > 0));
    let names = [("damaged", has_damaged), ("in flight", has_in_flight)].into_iter();
    let names = ["sent", "returned", "lost"].into_iter().chain(names.filter_map(|(name, shown)| shown.then_some(name)));
    let names = names.chain(["upstream", "downstream", "longest burst", "min", "p50", "p99", "max", "jitter"]);
    let mut rows = head("from", names) + "<tbody>\n";
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let time = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), format_time);
    for interval in &series.intervals {
        _ = write!(rows, "<tr><th scope=\"row\">{} s</th>", interval.start_s);
        let outcomes = [interval.sent, interval.returned, interval.lost].into_iter();
        let rare = [(interval.damaged, has_damaged), (interval.in_flight, has_in_flight)];
        let outcomes = outcomes.chain(rare.into_iter().filter_map(|(count, shown)| shown.then_some(count)));
        let further = [
            count(interval.lost_upstream),
            count(interval.lost_downstream),
            interval.burst_max.to_string(),
            time(interval.rtt_min_us),
            time(interval.rtt_p50_us),
            time(interval.rtt_p99_us),
            time(interval.rtt_max_us),
            time(interval.jitter_mean_us),
        ];
        for cell in outcomes.map(|count| count.to_string()).chain(further) {
            _ = write!(rows, "<td>{cell}</td>");
        }
        rows += "</tr>\n";
    }
    format!(
        "<details><summary>Values per interval of {} s</summary>\n<div class=\"wide long\" role=\"region\" aria-label=\"Intervals\" \
         tabindex=\"0\"><table id=\"intervals\">{rows}</tbody></table></div></details>\n",
        series.interval_s
    )
}

/// Warnings with their details.
pub(super) fn warnings(report: &Report) -> String {
    if report.warnings.is_empty() {
        return String::new();
    }
    let mut list = "<ul>\n".to_owned();
    for warning in &report.warnings {
        _ = write!(list, "<li>{}", escape_html_prose(&warning.message));
        for (index, detail) in warning.details.iter().enumerate() {
            _ = write!(list, "{}<li>{}</li>", if index == 0 { "<ol>" } else { "" }, escape_html_prose(detail));
        }
        list += if warning.details.is_empty() { "</li>\n" } else { "</ol></li>\n" };
    }
    section("warnings", "Warnings", &(list + "</ul>"))
}

/// Where and how the run was made.
pub(super) fn origin(report: &Report) -> String {
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
    if let Some(time) = report.start_time() {
        add("Started", format!("<time>{}</time>", escape_html(&time)));
    }
    add("Duration", format_time(report.duration_ms * 1e3));
    add("Program", format!("jamjam-dev {}", escape_html(VERSION_WITH_COMMIT)));
    section("origin", "About this run", &format!("<dl class=\"origin\">\n{rows}</dl>\n"))
}
