//! The view of an active run on standard error: a few lines on a terminal, or with `--progress` one line per second elsewhere.
//!
//! The view is redrawn in place, below earlier output. It reads nothing from the terminal and does not change its mode, so Ctrl-C keeps its
//! effect and standard output may be redirected.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::ColorChoice;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Sparkline, Widget};

use super::output::{draw_view, erase_view, print_message};
use super::values::use_color;
use crate::client::{
    HISTORY_SECONDS, LiveConfig, LiveEvents, LiveObserver, LiveSnapshot, LiveStats, ProgressCounters, live_events,
};
use crate::io::os;
use crate::report::quantities::{format_percent, format_time_ms};
use crate::sanitize::sanitize_lines;
use crate::time::Time;

/// Time between two redraws.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Time between two lines of `--progress`.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Columns of a terminal whose width is not known.
const DEFAULT_COLUMNS: u16 = 80;

/// Maximum width of the view.
const MAX_COLUMNS: u16 = 100;

/// A view without a reply for this long reports it.
const MIN_SHOWN_SILENCE_NS: u64 = 1_000_000_000;

/// How a run is displayed while it is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Display {
    /// A view that is redrawn on a terminal.
    Terminal { color: bool },
    /// A line per second.
    Lines,
}

/// Displays an active run. Dropping the view erases it.
pub struct LiveView {
    display: Display,
    title: String,
    total: Option<u64>,
    events: LiveEvents,
    stats: LiveStats,
    started_at: Instant,
    /// The newest time of the node, minus the time since `started_at` when it was read: the node has its own clock.
    node_offset_ns: Option<i64>,
    next_update: Instant,
}

impl LiveView {
    /// Creates the view of a run of `total` packets, and the observer that feeds it. `None` if standard error is not a terminal and there is
    /// no `--progress`. `title` names the run.
    pub fn new(
        title: &str,
        total: Option<u64>,
        config: LiveConfig,
        progress: bool,
        color: ColorChoice,
    ) -> Option<(LiveObserver, Self)> {
        let stderr = io::stderr();
        let display = match stderr.is_terminal() {
            true => Display::Terminal { color: use_color(color, &stderr) },
            false if progress => Display::Lines,
            false => return None,
        };
        let (observer, events) = live_events(&config);
        let now = Instant::now();
        let first = if display == Display::Lines { now + LINE_INTERVAL } else { now };
        let view = Self {
            display,
            title: sanitize_lines(title).replace('\n', " "),
            total,
            events,
            stats: LiveStats::new(config),
            started_at: now,
            node_offset_ns: None,
            next_update: first,
        };
        Some((observer, view))
    }

    /// Reads the events of the run, and redraws the view if it is due.
    pub fn update(&mut self, progress: &ProgressCounters) {
        let newest = self.stats.read(&mut self.events);
        let elapsed = i64::try_from(self.started_at.elapsed().as_nanos()).unwrap_or(i64::MAX);
        if let Some(newest) = newest {
            let offset = newest.as_nanos().cast_signed().wrapping_sub(elapsed);
            self.node_offset_ns = Some(self.node_offset_ns.map_or(offset, |known| known.max(offset)));
        }
        let now = Instant::now();
        if now < self.next_update {
            return;
        }
        let interval = if self.display == Display::Lines { LINE_INTERVAL } else { REDRAW_INTERVAL };
        while self.next_update <= now {
            self.next_update += interval;
        }
        let node_now =
            self.node_offset_ns.map(|offset| Time::from_nanos(offset.wrapping_add(elapsed).max(0).cast_unsigned()));
        let snapshot =
            node_now.map(|now| LiveSnapshot { lost_upstream: progress.lost_upstream(), ..self.stats.snapshot(now) });
        match self.display {
            Display::Lines => print_message(&progress_line(snapshot.as_ref())),
            Display::Terminal { color } => {
                let columns = os::stderr_columns().unwrap_or(DEFAULT_COLUMNS).min(MAX_COLUMNS);
                // In the last column, some terminals would begin a new line.
                draw_view(&lines(&self.title, self.total, snapshot.as_ref(), columns.saturating_sub(1), color));
            }
        }
    }
}

impl Drop for LiveView {
    fn drop(&mut self) {
        if self.display != Display::Lines {
            erase_view();
        }
    }
}

/// The line of `--progress`.
fn progress_line(snapshot: Option<&LiveSnapshot>) -> String {
    let Some(now) = snapshot.filter(|now| now.sent > 0) else { return "waiting for the first reply".to_owned() };
    let mut line = format!("{}: {} sent, {} lost", elapsed(now), now.sent, share(now.loss_ratio));
    if let Some(last) = now.rtt_last_ns {
        let name = round_trip_name(now);
        let percentiles = [("p50", now.rtt_p50_ns), ("p99", now.rtt_p99_ns)];
        let shown: Vec<String> =
            percentiles.iter().filter_map(|(name, ns)| Some(format!("{name} {}", time((*ns)?)))).collect();
        let shown = if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) };
        _ = write!(line, ", {name} {}{shown}", time(last));
    }
    if let Some(jitter) = now.jitter_ns {
        _ = write!(line, ", jitter {}", time(jitter as i64));
    }
    line += &silence(now).map_or_else(String::new, |text| format!(", {text}"));
    line
}

/// The lines of the view, each at most `columns` wide.
fn lines(title: &str, total: Option<u64>, snapshot: Option<&LiveSnapshot>, columns: u16, color: bool) -> Vec<String> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let Some(now) = snapshot.filter(|now| now.sent > 0) else {
        let title = Line::styled(title.to_owned(), bold);
        return rendered(&[title, Line::raw("waiting for the first reply")], None, columns, color);
    };
    let problem = Style::new().fg(Color::Red);
    let when = |is_problem: bool| if is_problem { problem } else { Style::new() };
    let sent = total.map_or_else(|| now.sent.to_string(), |total| format!("{} of {total}", now.sent));
    let rate = now.rate.map_or_else(String::new, |rate| format!(", {rate} packets/s"));
    let progress = format!("  {}{rate}", elapsed(now));
    let mut text = vec![
        Line::from(vec![Span::styled(shortened(title, columns, &progress), bold), Span::raw(progress)]),
        Line::from(vec![
            Span::raw(format!("sent {sent}   ")),
            Span::styled(format!("lost {} ({})", now.lost, share(now.loss_ratio)), when(now.lost > 0)),
            Span::raw("   last 10 s: "),
            Span::styled(share(now.current_loss_ratio), when(now.current_loss_ratio > Some(0.0))),
            Span::raw("   burst now: "),
            Span::styled(now.current_burst.to_string(), when(now.current_burst > 0)),
        ]),
    ];
    if let Some(upstream) = now.lost_upstream.filter(|_| now.lost > 0) {
        let upstream = upstream.min(now.lost);
        text.push(Line::raw(format!("lost upstream {upstream}, downstream {}", now.lost - upstream)));
    }
    let value = |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), time);
    text.push(Line::raw(format!(
        "{} {}   p50 {}   p99 {}   jitter {}",
        round_trip_name(now),
        value(now.rtt_last_ns),
        value(now.rtt_p50_ns),
        value(now.rtt_p99_ns),
        value(now.jitter_ns.map(|ns| ns as i64)),
    )));
    text.extend(silence(now).map(|text| Line::styled(text, problem)));
    if let Some((sent, returned)) = now.sent_peak.zip(now.returned_peak) {
        text.push(Line::raw(format!(
            "level sent {}, returned {}   gaps {}",
            decibels(sent),
            decibels(returned),
            now.loss_bursts
        )));
    }
    if now.events_dropped > 0 {
        let dropped = now.events_dropped;
        text.push(Line::styled(
            format!("incomplete: the terminal was too slow for {dropped} events; the report is complete"),
            problem,
        ));
    }
    rendered(&text, Some(&now.rtt_max_by_second), columns, color)
}

/// The title, cut so that `rest` fits behind it.
fn shortened(title: &str, columns: u16, rest: &str) -> String {
    let space = usize::from(columns).saturating_sub(rest.chars().count());
    if title.chars().count() <= space {
        return title.to_owned();
    }
    let mut cut: String = title.chars().take(space.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Renders the lines and, if given, a sparkline of round trips below them.
fn rendered(text: &[Line<'_>], round_trips: Option<&[Option<i64>]>, columns: u16, color: bool) -> Vec<String> {
    let width = columns.max(1);
    let height = text.len() as u16;
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height + 1));
    for (row, line) in (0..).zip(text) {
        line.render(Rect::new(0, row, width, 1), &mut buffer);
    }
    let known: Vec<i64> = round_trips.into_iter().flatten().filter_map(|ns| *ns).collect();
    if let (Some(round_trips), Some(min), Some(max)) = (round_trips, known.iter().min(), known.iter().max()) {
        sparkline(round_trips, *min, *max, Rect::new(0, height, width, 1), &mut buffer);
    }
    (0..=height).map(|row| ansi_line(&buffer, row, color)).collect()
}

/// Draws the largest round trip of each second. A dot marks a second without a reply.
fn sparkline(round_trips: &[Option<i64>], min: i64, max: i64, area: Rect, buffer: &mut Buffer) {
    // A span of at least a tenth keeps noise small.
    let span = (max - min).max(max / 10).max(1);
    let label = Line::raw(format!(" {} to {}, max of each second", time(min), time(max)));
    let bars = (HISTORY_SECONDS as u16).min(area.width.saturating_sub(label.width() as u16).max(area.width / 2));
    let shown = &round_trips[round_trips.len().saturating_sub(usize::from(bars))..];
    // The lowest bar stands for the smallest value, and the highest of the eight for the largest.
    let levels: Vec<Option<u64>> =
        shown.iter().map(|ns| ns.map(|ns| 1 + (i128::from(ns - min) * 7 / i128::from(span)) as u64)).collect();
    let bar_count = levels.len() as u16;
    Sparkline::default()
        .data(levels)
        .max(8)
        .absent_value_symbol("·")
        .style(Style::new().fg(Color::Cyan))
        .render(Rect { width: bar_count.min(area.width), ..area }, buffer);
    let left = bar_count.min(area.width);
    label.render(Rect { x: left, width: area.width - left, ..area }, buffer);
}

/// A row of the buffer with ANSI codes, without trailing spaces.
fn ansi_line(buffer: &Buffer, row: u16, color: bool) -> String {
    let mut line = String::new();
    let mut style = (Color::Reset, Modifier::empty());
    let width = buffer.area.width;
    let is_blank = |x: &u16| buffer[(*x, row)].symbol() == " ";
    let end = width - (0..width).rev().take_while(is_blank).count() as u16;
    for x in 0..end {
        let cell = &buffer[(x, row)];
        if color && style != (cell.fg, cell.modifier) {
            style = (cell.fg, cell.modifier);
            line += "\x1b[0";
            line += if cell.modifier.contains(Modifier::BOLD) { ";1" } else { "" };
            line += match cell.fg {
                Color::Red => ";31",
                Color::Cyan => ";36",
                _ => "",
            };
            line += "m";
        }
        line += cell.symbol();
    }
    if style != (Color::Reset, Modifier::empty()) {
        line += "\x1b[0m";
    }
    line
}

fn elapsed(now: &LiveSnapshot) -> String {
    let seconds = now.elapsed_ns / 1_000_000_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A ratio as a percentage with two decimals at most.
fn share(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format_percent((ratio * 1e4).round() / 1e4))
}

fn time(ns: i64) -> String {
    format_time_ms(ns as f64 / 1e3)
}

fn round_trip_name(now: &LiveSnapshot) -> &'static str {
    if now.includes_server_delay { "echo time" } else { "round trip" }
}

fn silence(now: &LiveSnapshot) -> Option<String> {
    let since = now.since_reply_ns.unwrap_or(now.elapsed_ns);
    (now.replies_expected && since >= MIN_SHOWN_SILENCE_NS).then(|| format!("no reply for {:.1} s", since as f64 / 1e9))
}

fn decibels(peak: f32) -> String {
    if peak > 0.0 { format!("{:.1} dBFS", 20.0 * peak.log10()) } else { "silent".to_owned() }
}
