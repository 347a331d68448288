//! The report for people.

mod beside;
mod brief;
mod capture;
mod heard;
mod moqt;
mod playback;
mod websocket;

use std::fmt::Write;
use std::time::Duration;

pub use brief::brief;

use super::caveats::Caveat;
use super::document::Report;
use super::limits::Judgement;
use super::numbers::{BarNumbers, PacingNumbers, StreamNumbers};
use super::wording::{self, fine_time, time, time_or_dash};
use crate::flow::run::Command;

/// Width of the table's labels and of the histogram's edges.
const LABEL: usize = 20;
/// Width of a stream's column: `LATENCY_PING` and two spaces.
const COLUMN: usize = 14;
/// Length of the longest bar.
const BAR: usize = 40;

/// Round trips that make a picture worth looking at.
const PICTURE_TAKES: u64 = 10;

/// Colours by their meaning, or none.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    fn good(self, text: &str) -> String {
        self.with("32", text)
    }
    fn bad(self, text: &str) -> String {
        self.with("31", text)
    }
    fn wary(self, text: &str) -> String {
        self.with("33", text)
    }
    fn strong(self, text: &str) -> String {
        self.with("1", text)
    }
}

/// The whole report, ending with the verdict's line. `colour` adds ANSI codes.
pub fn summary(report: &Report, colour: bool) -> String {
    let paint = Paint(colour);
    let mut parts = vec![heading(report, paint)];
    // Before the first answer nothing was counted: no table of zeros.
    if report.wait.is_none_or(|wait| wait.answered) {
        let judged = report.streams.get(report.judged);
        parts.push(table(report, paint));
        parts.extend(judged.and_then(|stream| picture(report.names(report.judged).sent, &stream.rtt_histogram)));
        parts.push(details(report));
    }
    parts.push(report.limits.iter().map(|judgement| limit(judgement, paint)).collect());
    parts.push(report.caveats.iter().map(|one| caveat(one, paint)).collect());
    parts.push(verdict(report, paint));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// A duration as the report writes it.
pub fn duration(duration: Duration) -> String {
    time(duration.as_nanos() as f64 / 1e3)
}

fn heading(report: &Report, paint: Paint) -> String {
    let what = match report.command {
        Command::Send => "send to",
        Command::Probe => "probe of",
    };
    let mut text = paint.strong(&format!("{what} {}, {}", report.target, time(report.duration_ms * 1e3)));
    if let Some(wait) = report.wait {
        let end = if wait.answered { "for the first answer" } else { "in vain" };
        _ = write!(text, ", waited {} {end}", time(wait.waited_ms * 1e3));
    }
    if let Some(signal) = report.interrupted {
        _ = write!(text, ", {}", paint.wary(&format!("interrupted by {}", wording::signal(signal))));
    }
    text.push('\n');
    if let Some(audio) = &report.audio {
        _ = writeln!(
            text,
            "audio: {} Hz, {}, {} a packet ({} payload bytes)",
            audio.sample_rate_hz,
            wording::count(audio.channels.into(), "channel"),
            wording::count(audio.frame_samples.into(), "sample"),
            audio.payload_bytes
        );
    }
    if let Some(capture) = &report.capture {
        text += &capture::heading(capture);
    }
    if let Some(playback) = &report.playback {
        text += &playback::heading(playback);
    }
    if let Some(websocket) = &report.websocket {
        text += &websocket::heading(websocket);
    }
    if let Some(moqt) = &report.moqt {
        text += &moqt::heading(moqt);
    }
    text
}

/// A row: its label, how a stream's cell reads, and whether it stays away where every stream has 0. Any row stays away
/// where no stream has a value.
type Row = (&'static str, fn(&StreamNumbers) -> String, bool);

const ROWS: [Row; 24] = [
    ("sent", |s| s.sent.to_string(), false),
    ("returned", |s| s.returned.to_string(), false),
    ("lost", |s| s.lost.to_string(), false),
    ("lost outward", |s| lost_somewhere(s.lost_outward), false),
    ("lost homeward", |s| lost_somewhere(s.lost_homeward), false),
    ("loss", |s| s.loss_ratio.map_or_else(|| "-".to_owned(), wording::ratio), false),
    ("damaged", |s| s.damaged.to_string(), false),
    ("damaged copies", |s| s.damaged_copies.to_string(), true),
    ("duplicated", |s| s.duplicated.to_string(), false),
    ("reordered", |s| s.reordered.to_string(), false),
    ("late", |s| s.late.to_string(), false),
    ("unmatched", |s| s.unmatched.to_string(), true),
    ("send failed", |s| s.send_failed.to_string(), true),
    ("in flight", |s| s.in_flight.to_string(), true),
    ("round trips", |s| s.rtt_count.to_string(), false),
    ("round trip min", |s| time_or_dash(s.rtt_min_us), false),
    ("round trip mean", |s| time_or_dash(s.rtt_mean_us), false),
    ("round trip p50", |s| time_or_dash(s.rtt_p50_us), false),
    ("round trip p90", |s| time_or_dash(s.rtt_p90_us), false),
    ("round trip p99", |s| time_or_dash(s.rtt_p99_us), false),
    ("round trip p99.9", |s| time_or_dash(s.rtt_p999_us), false),
    ("round trip max", |s| time_or_dash(s.rtt_max_us), false),
    ("jitter mean", |s| time_or_dash(s.jitter_mean_us), false),
    ("jitter max", |s| time_or_dash(s.jitter_max_us), false),
];

fn table(report: &Report, paint: Paint) -> String {
    let rows = rows(report);
    if rows.is_empty() {
        return String::new();
    }
    let head: Vec<String> =
        report.streams.iter().map(|(kind, _)| format!("{:>COLUMN$}", report.names(kind).sent)).collect();
    let mut text = format!("{:LABEL$}{}\n", "", paint.strong(&head.concat()));
    for (label, cells) in rows {
        let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>COLUMN$}")).collect();
        _ = writeln!(text, "{label:LABEL$}{}", cells.concat());
    }
    text
}

/// The rows of the table that have something to say, each with a cell for every stream that was sent.
pub(super) fn rows(report: &Report) -> Vec<(&'static str, Vec<String>)> {
    let mut rows = Vec::new();
    for (label, cell, only_if_any) in ROWS {
        let cells: Vec<String> = report.streams.iter().map(|(_, stream)| cell(stream)).collect();
        let empty = cells.iter().all(|cell| cell == "-" || (only_if_any && cell == "0"));
        let moot = match label {
            // Where no answer is expected every packet stays without a fate; that is no news.
            "in flight" => !report.answers_expected,
            "late" => report.late_after_ms.is_none(),
            "lost outward" | "lost homeward" => report.asked.is_none(),
            _ => false,
        };
        if !empty && !moot {
            rows.push((label, cells));
        }
    }
    rows
}

fn lost_somewhere(packets: Option<u64>) -> String {
    packets.map_or_else(|| "unknown".to_owned(), |packets| packets.to_string())
}

/// The judged stream's round trip as a small histogram.
fn picture(name: &str, bars: &[BarNumbers]) -> Option<String> {
    let most = bars.iter().map(|bar| bar.count).max()?;
    if bars.iter().map(|bar| bar.count).sum::<u64>() < PICTURE_TAKES {
        return None;
    }
    let mut text = format!("histogram of {name}'s round trip\n");
    for bar in bars {
        let edge = match bar.to_us {
            Some(to) => format!("{} to {}", time(bar.from_us), time(to)),
            None => format!("from {}", time(bar.from_us)),
        };
        // What is there is seen: at least one block.
        let length = (bar.count * BAR as u64).div_ceil(most) as usize;
        _ = writeln!(text, "{edge:>26}  {} {}", "█".repeat(length), bar.count);
    }
    Some(text)
}

fn details(report: &Report) -> String {
    let mut text = String::new();
    if let Some(audio) = &report.audio {
        let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| fine_time(ms * 1e3));
        let (used, given, estimated) = (ms(audio.hold_ms), ms(audio.hold_given_ms), ms(audio.hold_estimated_ms));
        row(&mut text, "hold", &format!("{used} (given {given}, estimated {estimated})"));
        let echo = [
            ("min", audio.echo_min_us),
            ("p50", audio.echo_p50_us),
            ("p99", audio.echo_p99_us),
            ("max", audio.echo_max_us),
        ];
        row(&mut text, "echo time", &listed(&echo));
        if let Some(samples) = audio.recorded_samples {
            row(&mut text, "recorded", &wording::count(samples, "sample"));
        }
        if let Some(samples) = audio.recorded_both_samples {
            row(&mut text, "both recorded", &wording::count(samples, "sample"));
        }
    }
    if let Some(capture) = &report.capture {
        capture::rows(&mut text, capture);
    }
    if let Some(playback) = &report.playback {
        playback::rows(&mut text, playback);
    }
    if let Some(heard) = &report.heard {
        heard::rows(&mut text, heard);
    }
    if let Some(judged) = report.streams.get(report.judged) {
        beside::stream_rows(&mut text, judged);
    }
    if let Some(pacing) = &report.pacing {
        pacing_rows(&mut text, pacing);
    }
    if let Some(machine) = &report.machine {
        beside::machine_rows(&mut text, machine);
    }
    if let Some(websocket) = &report.websocket {
        websocket::rows(&mut text, websocket);
    }
    if let Some(moqt) = &report.moqt {
        moqt::rows(&mut text, moqt);
    }
    if let Some(asked) = &report.asked {
        row(&mut text, "seen as", &asked.seen_as());
    }
    for (label, n) in [("refused", report.refused), ("stray", report.stray)] {
        if n > 0 {
            row(&mut text, label, &n.to_string());
        }
    }
    text
}

fn pacing_rows(text: &mut String, pacing: &PacingNumbers) {
    let all = [
        ("p50", pacing.pacing_p50_us),
        ("p99", pacing.pacing_p99_us),
        ("p99.9", pacing.pacing_p999_us),
        ("max", pacing.pacing_max_us),
    ];
    row(text, "pacing error", &listed(&all));
    if pacing.pacing_first_5s_p50_us.is_some() {
        let edges = [("first 5 s", pacing.pacing_first_5s_p50_us), ("last 5 s", pacing.pacing_last_5s_p50_us)];
        row(text, "pacing error p50", &listed(&edges));
    }
}

fn row(text: &mut String, label: &str, value: &str) {
    _ = writeln!(text, "{label:LABEL$}  {value}");
}

fn listed(values: &[(&str, Option<f64>)]) -> String {
    values
        .iter()
        .map(|(name, us)| format!("{name} {}", us.map_or_else(|| "-".to_owned(), fine_time)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn limit(judgement: &Judgement, paint: Paint) -> String {
    let asked = wording::limit(judgement, judgement.asked);
    let end = if judgement.passed { paint.good("kept") } else { paint.bad("broken") };
    let (found, note) = (wording::found(judgement), wording::note(judgement));
    format!("limit {} {asked}: {found}, {end}{note}\n", judgement.limit.option())
}

fn caveat(caveat: &Caveat, paint: Paint) -> String {
    format!("{} {}\n", paint.wary("note:"), wording::caveat(caveat))
}

fn verdict(report: &Report, paint: Paint) -> String {
    let word = if report.verdict.passed { paint.good("PASSED") } else { paint.bad("FAILED") };
    format!("{word}: {}\n", why(report))
}

/// Why the verdict is as it is.
pub(super) fn why(report: &Report) -> String {
    let verdict = &report.verdict;
    if !verdict.passed {
        return verdict.reasons.join("; ");
    }
    let why = match (verdict.limits_set, report.answers_expected) {
        (true, _) => "every limit was kept",
        (false, true) => "answers came back; no limits were set",
        (false, false) => "everything was sent; no answers were expected, no limits were set",
    };
    why.to_owned()
}
