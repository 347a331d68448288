//! The report of a `send` run as one HTML page that loads no other file. The page shows the verdict, the sent and the returned audio,
//! figures and warnings.
//!
//! External text is escaped where the text is written. Inserted text is not parsed as a template again.

mod audio;

use std::fmt::Write;

pub use audio::AudioSection;

use super::model::Report;
use super::quantities::{self, format_time};
use super::text;
use crate::sanitize::escape_html;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");

/// Maximum length of a page in bytes. If a page with the audio would exceed this length, the audio is omitted.
pub const MAX_PAGE_BYTES: usize = 5_000_000;

/// Maximum length in bytes of the sent audio, and of the returned audio. A page contains two recordings, and base64 turns 3 bytes into 4.
pub const MAX_AUDIO_BYTES: usize = MAX_PAGE_BYTES / 2 / 4 * 3;

/// The whole page. `error` is the socket or file error that ended the run early. `page_style` is the style sheet that all pages
/// share.
pub fn page(report: &Report, error: Option<&str>, audio: &AudioSection<'_>, page_style: &str) -> String {
    let render = |with_players| render(report, error, audio.section(report, with_players), page_style);
    let page = render(true);
    if page.len() <= MAX_PAGE_BYTES { page } else { render(false) }
}

fn render(report: &Report, error: Option<&str>, mut audio: String, page_style: &str) -> String {
    let (status, until) = report.status_line(error);
    let class = match status {
        "PASSED" | "measured" => "passed",
        "FAILED" => "failed",
        _ => "incomplete",
    };
    render_template(PAGE, |name| match name {
        "status" => status.to_owned(),
        "command" => quantities::command(report.command).to_owned(),
        "target" => escape_html(&report.target),
        "style" => [page_style, STYLE].concat(),
        "class" => class.to_owned(),
        "reason" => format_prose(&format!("{until}{}", text::verdict_reason(report))),
        "facts" => run_facts(report),
        "audio" => std::mem::take(&mut audio),
        "limits" => limits(report),
        "figures" => figures(report),
        "warnings" => warnings(report),
        "report" => escape_html(&text::details(report, false)),
        "version" => escape_html(report.tool_version),
        _ => String::new(),
    })
}

/// Replaces each name in braces by its value. Braces in the values are not replaced.
fn render_template(template: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut parts = template.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        text += &value(name);
        text += rest;
    }
    text
}

fn run_facts(report: &Report) -> String {
    let started = report.start_time().map(|time| format!("Started {time}, ")).unwrap_or_default();
    format!("{started}took {}.", format_time(report.duration_ms * 1e3))
}

fn limits(report: &Report) -> String {
    if report.limits.is_empty() {
        return String::new();
    }
    let mut table = "<section aria-labelledby=\"limits\"><h2 id=\"limits\">Limits</h2>\n<div class=\"wide\" role=\"region\" \
                     aria-labelledby=\"limits\" tabindex=\"0\"><table><thead><tr><th scope=\"col\" class=\"words\">limit</th><th scope=\"col\">allowed</th>\
                     <th scope=\"col\">measured</th><th scope=\"col\" class=\"words\">result</th></tr></thead><tbody>\n"
        .to_owned();
    for limit in &report.limits {
        let option = limit.limit.option();
        let [allowed, measured, note] =
            [limit.allowed_text(), limit.measured_text(), limit.note_text()].map(|text| escape_html(&text));
        let result = if limit.passed { "met" } else { "<strong>exceeded</strong>" };
        // Writing to a string cannot fail.
        _ = writeln!(
            table,
            "<tr><th scope=\"row\"><code>{option}</code></th><td>{allowed}</td><td>{measured}</td><td class=\"words\">{result}{note}</td></tr>"
        );
    }
    table + "</tbody></table></div></section>"
}

fn figures(report: &Report) -> String {
    let rows = text::stream_rows(report);
    if rows.is_empty() {
        return "<p>Nothing was counted.</p>".to_owned();
    }
    let mut table =
        "<div class=\"wide\" role=\"region\" aria-labelledby=\"figures\" tabindex=\"0\"><table><thead><tr><td></td>"
            .to_owned();
    for (kind, _) in report.streams.iter() {
        _ = write!(table, "<th scope=\"col\">{}</th>", escape_html(report.labels(kind).request));
    }
    table += "</tr></thead><tbody>\n";
    for row in rows {
        _ = write!(table, "<tr><th scope=\"row\">{}</th>", escape_html(row.label));
        for cell in row.cells {
            _ = write!(table, "<td>{}</td>", escape_html(&cell));
        }
        table += "</tr>\n";
    }
    table + "</tbody></table></div>"
}

fn warnings(report: &Report) -> String {
    if report.warnings.is_empty() {
        return String::new();
    }
    let mut list = "<section aria-labelledby=\"warnings\"><h2 id=\"warnings\">Warnings</h2><ul>\n".to_owned();
    for warning in &report.warnings {
        _ = write!(list, "<li>{}", format_prose(&warning.message));
        for (index, detail) in warning.details.iter().enumerate() {
            _ = write!(list, "{}<li>{}</li>", if index == 0 { "<ol>" } else { "" }, format_prose(detail));
        }
        list += if warning.details.is_empty() { "</li>\n" } else { "</ol></li>\n" };
    }
    list + "</ul></section>"
}

/// Escapes text that this program wrote, in which backticks mark code.
fn format_prose(text: &str) -> String {
    let parts = text.split('`').map(escape_html).enumerate();
    parts.map(|(index, part)| if index % 2 == 0 { part } else { format!("<code>{part}</code>") }).collect()
}
