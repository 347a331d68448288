//! The report of a run as one HTML page that loads no other file: the verdict, the findings, charts, the sent and the returned audio, tables,
//! and the origin of the run.
//!
//! External text is escaped where it is written, and never parsed as a template again. The only script is `chart.js`, which the
//! Content-Security-Policy allows by its hash.

mod audio;
pub(crate) mod axis;
mod distribution_chart;
mod tables;
mod time_chart;

pub use audio::MAX_AUDIO_BYTES;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::buffer_table::JitterBufferTable;
use super::model::Report;
use super::quantities::{format_optional_time, format_percent, format_time, start_time};
use super::text;
use crate::client::AudioPicture;
use crate::diagnosis::Diagnosis;
use jamjam_core::sanitize::{escape_html, escape_html_prose, without_folders};

pub(crate) const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("chart.js");

/// The whole page. `error` is the socket or file error that ended the run early. `audio` contains the waveforms, if the run sent audio.
/// `style` is the style sheet that all pages share, `version` that of the program with its commit.
pub fn page(report: &Report, error: Option<&str>, audio: Option<&AudioPicture>, style: &str, version: &str) -> String {
    let error = error.map(without_folders);
    let (status, until) = report.status_line(error.as_deref());
    let class = verdict_class(status);
    format!(
        include_str!("page.html"),
        status = status,
        heading = text::command_heading(&report.command),
        target = escape_html(&report.target),
        style = [style, STYLE].concat(),
        script = SCRIPT,
        script_hash = format_args!("sha256-{}", STANDARD.encode(Sha256::digest(SCRIPT))),
        class = class,
        headline = escape_html_prose(&format!("{until}{}", report.headline)),
        reason = reason(report),
        facts = run_facts(report),
        findings = findings(report),
        key_figures = key_figures(report),
        charts = charts(report),
        audio = audio.map(|audio| audio::section(audio, report)).unwrap_or_default(),
        limits = tables::limits(report),
        tables = [tables::figures(report), tables::buffer_depths(report), tables::intervals(report)].concat(),
        warnings = warnings(report),
        origin = tables::origin(report, version),
        report = escape_html(&text::details(report, false)),
    )
}

/// The class of the word of a verdict.
pub(crate) fn verdict_class(word: &str) -> &'static str {
    match word {
        "PASSED" => "passed",
        "measured" => "measured",
        "FAILED" => "failed",
        _ => "incomplete",
    }
}

fn run_facts(report: &Report) -> String {
    let host = report.host_name.as_deref().map(|host| format!(" on <bdi>{}</bdi>", escape_html(host)));
    let host = host.unwrap_or_default();
    let started = start_time(report.started_unix_ms).map(|time| format!("Started {time}{host}, ")).unwrap_or_default();
    let rate = report.send_rate().map_or_else(String::new, |rate| format!(", {rate}"));
    format!("{started}took {}{rate}.", format_time(report.duration_ms * 1e3))
}

/// The limits that failed, and what the times of the headline assume.
fn reason(report: &Report) -> String {
    let reason = report.verdict_reason();
    let reason = if reason.is_empty() { reason } else { format!("{}. ", escape_html_prose(&reason)) };
    let quiet = report.assumptions().map(|text| format!("<span class=\"quiet\">({text})</span>"));
    reason + &quiet.unwrap_or_default()
}

/// What is wrong, and what to do about it.
fn findings(report: &Report) -> String {
    let items: String = report.findings.iter().map(Diagnosis::html).collect();
    if items.is_empty() { items } else { format!("<ul class=\"findings\" aria-label=\"Findings\">\n{items}</ul>") }
}

fn warnings(report: &Report) -> String {
    let items: String = report.warnings.iter().map(Diagnosis::html).collect();
    if items.is_empty() { items } else { tables::section("warnings", "Warnings", &format!("<ul>\n{items}</ul>")) }
}

/// The most important figures of the evaluated stream.
fn key_figures(report: &Report) -> String {
    let Some(stream) = report.evaluated() else { return String::new() };
    let mut figures = vec![("sent", stream.sent.to_string())];
    if report.replies_expected {
        figures.extend([
            ("loss", stream.loss_ratio.map_or_else(|| "-".to_owned(), format_percent)),
            ("round trip p50", format_optional_time(stream.rtt_p50_us)),
            ("round trip p99", format_optional_time(stream.rtt_p99_us)),
            ("round trip max", format_optional_time(stream.rtt_max_us)),
            ("jitter mean", format_optional_time(stream.jitter_mean_us)),
        ]);
    }
    if let Some(depth) = report.jitter_buffer.as_ref().and_then(JitterBufferTable::recommended) {
        figures.push(("recommended buffer", format!("{:.1} ms", depth.depth_ms)));
    }
    let tiles =
        figures.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape_html(value)));
    format!("<dl class=\"tiles\">{}</dl>", tiles.collect::<String>())
}

fn charts(report: &Report) -> String {
    let pair = distribution_chart::histogram(report) + &distribution_chart::buffer_curve(report);
    let course = time_chart::section(report);
    format!("<section aria-label=\"Charts\" class=\"charts\">\n{course}<div class=\"pair\">{pair}</div></section>")
}
