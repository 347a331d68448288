//! The report as text: heading, table of streams, histogram, rows of further figures, warnings, findings, result, limits and verdict.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::audio_figures::{CaptureFigures, PlaybackFigures};
use super::brief::key_figures;
use super::buffer_table::JitterBufferTable;
use super::connection_figures::WebSocketFigures;
use super::figures::{AudioFigures, StreamFigures};
use super::limits::{LimitResult, RunVerdict};
use super::model::Report;
use super::quantities::{self, format_count, format_time};
use super::rows::{self, Level, Row};
use super::targets::TargetsReport;
use crate::diagnosis::Severity;
use crate::verdict::{Judged, Verdict};

const LABEL_WIDTH: usize = 20;
/// Width of a stream's column: the length of the longest heading, `LATENCY_PING`, plus two spaces.
const COLUMN_WIDTH: usize = 14;
const MAX_BAR_WIDTH: usize = 40;
/// Minimum number of round trips for a histogram.
const MIN_HISTOGRAM_SAMPLES: u64 = 10;

/// ANSI colors, if enabled.
#[derive(Clone, Copy)]
pub(crate) struct Style(pub(crate) bool);

impl Style {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    pub(crate) fn good(self, text: &str) -> String {
        self.with("32", text)
    }
    pub(crate) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }
    pub(crate) fn warn(self, text: &str) -> String {
        self.with("33", text)
    }
    pub(crate) fn judged(self, judged: Judged, text: &str) -> String {
        match judged {
            Judged::Met => self.good(text),
            Judged::NotJudged => self.warn(text),
            Judged::Exceeded => self.bad(text),
        }
    }
    /// A line for each reason of a verdict, with the subject before it.
    pub(crate) fn reasons(self, RunVerdict { result, reasons, .. }: &RunVerdict, subject: &str) -> String {
        let word = self.judged(result.judged(), &format!("{}:", result.word().to_lowercase()));
        reasons.iter().map(|reason| [&word, " ", subject, reason, "\n"].concat()).collect()
    }
    pub(crate) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }
}

/// The most important figures. The last line contains the verdict, the loss and the round trip. `color` adds ANSI codes.
pub fn summary(report: &Report, color: bool) -> String {
    text(report, Style(color), false)
}

/// All figures. The last line contains the verdict, the loss and the round trip. `color` adds ANSI codes.
pub fn details(report: &Report, color: bool) -> String {
    text(report, Style(color), true)
}

fn text(report: &Report, style: Style, with_details: bool) -> String {
    let mut parts = vec![heading(report, style)];
    // If `--wait-for` ended without a reply, nothing was counted, and a table would contain only zeros.
    if report.readiness_wait.as_ref().is_none_or(|wait| wait.reply_received) {
        parts.push(table(report, style, with_details));
        parts.extend(report.evaluated().filter(|_| with_details).and_then(|stream| histogram(report, stream)));
        parts.push(further_rows(report, with_details));
        parts.extend(report.jitter_buffer.as_ref().filter(|_| with_details).map(buffer_table));
    }
    let warnings = report.warnings.iter().map(|one| format!("{} {}\n", style.warn("warning:"), one.text()));
    let findings = report.findings.iter().map(|one| format!("{} {}\n", style.strong("finding:"), one.text()));
    parts.extend([warnings.collect(), findings.collect()]);
    parts.push(result(report, style));
    parts.push(report.limits.iter().map(|result| limit(result, style)).collect());
    parts.push(verdict(report, style));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// The table of several targets, what failed, and which target is best. With `with_details`, followed by the whole report of each target.
pub fn targets(all: &TargetsReport, with_details: bool, color: bool) -> String {
    let style = Style(color);
    let reports = || all.targets.iter().map(|target| &target.report);
    let width = reports().map(|report| report.target.chars().count()).max().unwrap_or(0).max("target".len());
    let cells = |cells: [&str; 6]| cells.map(|cell| format!("{cell:>COLUMN_WIDTH$}")).concat();
    let head = cells([all.profile.name(), "one way", "jitter buffer", "loss", "RTT p50", "RTT p99"]);
    let mut table = style.strong(&format!("{:width$}  {head}", "target")) + "\n";
    for target in &all.targets {
        let report = &target.report;
        let (is_silent, verdict) = target.whole.level;
        let row = match report.evaluated().filter(|_| !is_silent) {
            None => report.verdict.reasons.join("; "),
            Some(stream) => {
                let depth = report.jitter_buffer.as_ref().and_then(JitterBufferTable::recommended);
                let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
                let [one_way, buffer] = [depth.and_then(|row| row.one_way_ms), depth.map(|row| row.depth_ms)].map(ms);
                let loss = stream.loss_ratio.map_or_else(|| "-".to_owned(), quantities::format_share);
                let [p50, p99] = [stream.rtt_p50_us, stream.rtt_p99_us].map(quantities::format_optional_time);
                cells([verdict.judged().word(), &one_way, &buffer, &loss, &p50, &p99])
            }
        };
        _ = writeln!(table, "{:width$}  {row}", report.target);
    }
    // Many warnings concern this host, and are the same for each target.
    let mut warnings: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for report in reports() {
        for one in report.warnings.iter().filter(|one| one.severity > Severity::Note) {
            warnings.entry(one.text()).or_default().push(&report.target);
        }
    }
    let warning = style.warn("warning:");
    let warnings = warnings.iter().map(|(text, targets)| format!("{warning} {}: {text}\n", targets.join(", ")));
    // For the others, the table already contains the reasons.
    let failed = all.targets.iter().filter(|target| !target.whole.level.0);
    let failed = failed.map(|target| &target.report).filter(|report| all.judged(report) != Judged::Met);
    let failed = failed.map(|report| style.reasons(&report.verdict, &format!("{}: ", report.target)));
    let result = format!("{} {}.\n", style.strong("result:"), all.headline());
    let mut parts = vec![table, warnings.collect(), failed.collect(), result];
    parts.extend(reports().filter(|_| with_details).map(|report| details(report, color)));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// The words before the target in a heading.
pub(super) fn command_heading(command: &str) -> String {
    format!("{command} {}", if matches!(command, "send" | "publish") { "to" } else { "of" })
}

fn heading(report: &Report, style: Style) -> String {
    let command = command_heading(&report.command);
    let mut text = style.strong(&format!("{command} {}, {}", report.target, format_time(report.duration_ms * 1e3)));
    if let Some(rate) = report.send_rate() {
        _ = write!(text, ", {rate}");
    }
    if let Some(wait) = &report.readiness_wait {
        let end = if wait.reply_received { "for the first reply" } else { "without a reply" };
        _ = write!(text, ", waited {} {end}", format_time(wait.waited_ms * 1e3));
    }
    if let Some(signal) = report.interrupted {
        _ = write!(text, ", {}", style.warn(&format!("interrupted by {}", quantities::signal(signal))));
    }
    text.push('\n');
    if let Some(AudioFigures { sample_rate_hz: rate, channels, frame_samples, payload_bytes, .. }) = report.audio {
        let samples = format_count(frame_samples.into(), "sample");
        let channels = format_count(channels.into(), "channel");
        // A probe sends at its own interval, not at the audio rate.
        _ = if report.interval_ms.is_some() {
            writeln!(text, "AUDIO packets: {payload_bytes} payload bytes ({samples})")
        } else {
            writeln!(text, "audio: {rate} Hz, {channels}, {samples} per packet ({payload_bytes} payload bytes)")
        };
    }
    if let Some(CaptureFigures { device, device_format, device_channels, device_rate_hz, .. }) = &report.capture {
        text += &device_line("capture device", device, device_format, *device_channels, *device_rate_hz);
    }
    if let Some(PlaybackFigures { device, device_format, device_channels, device_rate_hz, .. }) = &report.playback {
        text += &device_line("playback device", device, device_format, *device_channels, *device_rate_hz);
    }
    if let Some(WebSocketFigures { dialect, request, response, rooms, .. }) = &report.websocket {
        let exchange = if let Some(rooms) = rooms {
            let (members, rooms) = (format_count(rooms.members, "member"), format_count(rooms.rooms, "room"));
            format!("messages relayed between {members} in {rooms}")
        } else if request == response {
            "messages relayed between two members".to_owned()
        } else {
            format!("{request} answered by {response}")
        };
        _ = writeln!(text, "{} over WebSocket: {exchange}", dialect.name());
    }
    if let Some(moqt) = &report.moqt {
        let transport = if moqt.transport == "webtransport" { "WebTransport" } else { "raw QUIC" };
        let version = moqt.version.map_or_else(String::new, |version| format!(", version {version}"));
        let frames = format_count(moqt.frames_per_group, "frame");
        _ = writeln!(text, "MOQT over {transport}{version}: {}; {frames} per group", moqt.track);
    }
    text
}

/// `capture device: default (USB Audio), I16, 2 channels, 48000 Hz`.
fn device_line(label: &str, device: &str, format: &str, channels: u16, rate_hz: u32) -> String {
    // The name comes from the audio driver and may contain control characters.
    let name: String = device.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    format!("{label}: {name}, {format}, {}, {rate_hz} Hz\n", format_count(channels.into(), "channel"))
}

fn table(report: &Report, style: Style, with_details: bool) -> String {
    let rows = rows::stream_rows(report);
    if rows.is_empty() {
        return String::new();
    }
    let head: Vec<String> =
        report.streams.iter().map(|(kind, _)| format!("{:>COLUMN_WIDTH$}", report.labels(kind).request)).collect();
    let mut text = format!("{:LABEL_WIDTH$}{}\n", "", style.strong(&head.concat()));
    for Row { label, cells, .. } in rows.iter().filter(|row| with_details || row.level == Level::Short) {
        let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>COLUMN_WIDTH$}")).collect();
        _ = writeln!(text, "{label:LABEL_WIDTH$}{}", cells.concat());
    }
    text
}

/// The round trips of the evaluated stream as a small histogram.
fn histogram(report: &Report, StreamFigures { rtt_histogram: bars, .. }: &StreamFigures) -> Option<String> {
    let max_count = bars.iter().map(|bar| bar.count).max()?;
    if bars.iter().map(|bar| bar.count).sum::<u64>() < MIN_HISTOGRAM_SAMPLES {
        return None;
    }
    let name = report.labels(report.evaluated_stream).request;
    let mut text = format!("histogram of {name} round-trip times\n");
    for bar in bars {
        let edge = match bar.to_us {
            Some(to) => format!("{} to {}", format_time(bar.from_us), format_time(to)),
            None => format!("from {}", format_time(bar.from_us)),
        };
        // Rounded up, so that a bar with a small count is visible.
        let length = (bar.count * MAX_BAR_WIDTH as u64).div_ceil(max_count) as usize;
        _ = writeln!(text, "{edge:>26}  {} {}", "█".repeat(length), bar.count);
    }
    Some(text)
}

fn further_rows(report: &Report, with_details: bool) -> String {
    let rows = rows::further_rows(report).into_iter().filter(|row| with_details || row.level == Level::Short);
    let lines = rows.map(|row| format!("{:LABEL_WIDTH$}  {}\n", row.label, row.cells.concat()));
    lines.collect()
}

fn buffer_table(table: &JitterBufferTable) -> String {
    let row = |cells: [&str; 4]| cells.map(|cell| format!("{cell:>COLUMN_WIDTH$}")).concat();
    let mut text = format!("{:6}{}\n", "", row(JitterBufferTable::COLUMNS));
    for (cells, is_recommended) in table.rows() {
        let mark = if is_recommended { "  recommended" } else { "" };
        _ = writeln!(text, "{:6}{}{mark}", "", row(cells.each_ref().map(String::as_str)));
    }
    text
}

fn limit(result: &LimitResult, style: Style) -> String {
    let [allowed, measured, note] = result.texts();
    let end = style.judged(result.result, result.result.word());
    format!("limit {} {allowed}: {measured}, {end}{note}\n", result.label())
}

/// What the run means for a musician, with the assumptions.
fn result(report: &Report, style: Style) -> String {
    let assumptions = report.assumptions().map(|text| format!("({text})\n")).unwrap_or_default();
    format!("{} {}.\n{assumptions}", style.strong("result:"), report.headline)
}

/// The reasons for a failure, then the verdict with the most important figures in one line.
fn verdict(report: &Report, style: Style) -> String {
    let verdict = &report.verdict;
    let (word, _) = report.status_line(None);
    let word = match report.interrupted.filter(|_| verdict.result != Verdict::Failed) {
        Some(_) => style.warn(word),
        None if verdict.passed && !verdict.limits_set => style.strong(word),
        None => style.judged(verdict.result.judged(), word),
    };
    style.reasons(verdict, "") + &format!("{word}: {}\n", key_figures(report))
}
