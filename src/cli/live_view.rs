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

use super::output::{ViewLine, can_draw_view, draw_view, erase_view, forget_view, print_message};
use super::values::use_color;
use crate::client::{
    HISTORY_SECONDS, LiveConfig, LiveEvents, LiveObserver, LiveSnapshot, LiveStats, ProgressCounters, live_events,
};
use crate::io::os;
use crate::report::quantities::{format_length, format_share, format_time_ms};
use crate::sanitize::sanitize_lines;
use crate::time::{NANOS_PER_SECOND, Time};

/// Time between two redraws.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Time between two lines of `--progress`.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Columns and rows of a terminal whose size is not known.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// Maximum width of the view.
const MAX_COLUMNS: u16 = 100;

/// On narrower terminals, the view has shorter lines and begins with the loss.
const MIN_WIDE_COLUMNS: u16 = 60;

/// There is no view on narrower terminals.
const MIN_COLUMNS: u16 = 20;

/// A view without a reply for this long reports it.
const MIN_SHOWN_SILENCE_NS: u64 = 1_000_000_000;

/// After a pause this long, the process was probably stopped with Ctrl-Z. The shell has then written below the view.
const STOPPED_AFTER: Duration = Duration::from_secs(1);

/// How a run is displayed while it is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// A view that is redrawn on a terminal.
    Terminal {
        /// Whether the view is colored.
        color: bool,
    },
    /// A line per second.
    Lines,
}

impl Display {
    /// The display of a run: a view on a terminal, otherwise lines if `progress` is true. A view would erase the packet lines of
    /// `prints_packets` on the same terminal.
    pub fn choose(progress: bool, prints_packets: bool, color: ColorChoice) -> Option<Self> {
        let is_shared = prints_packets && io::stdout().is_terminal();
        if can_draw_view() && !is_shared {
            return Some(Self::Terminal { color: use_color(color, &io::stderr()) });
        }
        progress.then_some(Self::Lines)
    }
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
    last_update: Instant,
}

impl LiveView {
    /// Creates the view of a run of `total` packets, and the observer that feeds it. `title` names the run.
    pub fn new(title: &str, total: Option<u64>, config: LiveConfig, display: Display) -> (LiveObserver, Self) {
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
            last_update: now,
        };
        (observer, view)
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
        if now.duration_since(self.last_update) > STOPPED_AFTER {
            forget_view();
        }
        self.last_update = now;
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
            Display::Lines => {
                // The lines follow the seconds of the run, so that no second is printed twice.
                let elapsed_ns = snapshot.as_ref().filter(|now| now.sent > 0).map(|now| now.elapsed_ns);
                if let Some(elapsed_ns) = elapsed_ns {
                    let rest = NANOS_PER_SECOND - elapsed_ns % NANOS_PER_SECOND;
                    self.next_update = now + Duration::from_nanos(rest);
                }
                if elapsed_ns.is_none_or(|ns| ns >= NANOS_PER_SECOND) {
                    print_message(&progress_line(snapshot.as_ref()));
                }
            }
            Display::Terminal { color } => {
                let size = os::stderr_size().unwrap_or(DEFAULT_SIZE);
                draw_view(&lines(&self.title, self.total, snapshot.as_ref(), size, color));
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
    let mut line = format!("{}: {} sent, {} lost", seconds(now.elapsed_ns), now.sent, share(now.loss_ratio));
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
    for text in [silence(now), paused(now)].into_iter().flatten() {
        _ = write!(line, ", {text}");
    }
    line
}

/// What a line of the view contains, the most important first. A terminal with few rows shows only the first ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LineKind {
    Loss,
    Title,
    Silence,
    Paused,
    RoundTrip,
    Sent,
    RecentLoss,
    LossDirection,
    Percentiles,
    Level,
    Incomplete,
    Bars,
}

/// The lines of the view for a terminal of `columns` and `rows`. Each is narrower than the terminal: in the last column, some terminals
/// would begin a new line. One row remains for the cursor.
fn lines(
    title: &str,
    total: Option<u64>,
    snapshot: Option<&LiveSnapshot>,
    (columns, rows): (u16, u16),
    color: bool,
) -> Vec<ViewLine> {
    if columns < MIN_COLUMNS {
        return Vec::new();
    }
    let width = columns.min(MAX_COLUMNS) - 1;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut text = match snapshot.filter(|now| now.sent > 0) {
        Some(now) => figures(title, total, now, width, columns < MIN_WIDE_COLUMNS),
        None => vec![
            (LineKind::Title, Line::styled(title.to_owned(), bold)),
            (LineKind::Loss, Line::raw("waiting for the first reply")),
        ],
    };
    let mut kinds: Vec<LineKind> = text.iter().map(|(kind, _)| *kind).collect();
    kinds.sort_unstable();
    kinds.truncate(usize::from(rows.saturating_sub(1)));
    text.retain(|(kind, _)| kinds.contains(kind));
    rendered(&text, snapshot.map_or(&[], |now| &now.rtt_max_by_second), width, color)
}

/// The lines with the figures. The line of the bars is empty here.
fn figures(
    title: &str,
    total: Option<u64>,
    now: &LiveSnapshot,
    width: u16,
    is_narrow: bool,
) -> Vec<(LineKind, Line<'static>)> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let problem = Style::new().fg(Color::Red);
    let when = |is_problem: bool| if is_problem { problem } else { Style::new() };
    let progress = match now.rate {
        _ if is_waiting(total, now) => format!("  {}, waiting for missing replies", seconds(now.elapsed_ns)),
        Some(rate) => format!("  {}, {rate} packets/s", seconds(now.elapsed_ns)),
        None => format!("  {}", seconds(now.elapsed_ns)),
    };
    let title = Line::from(vec![Span::styled(shortened(title, width, &progress), bold), Span::raw(progress)]);
    let loss = Span::styled(format!("lost {} ({})", now.lost, share(now.loss_ratio)), when(now.lost > 0));
    let sent = total.map_or_else(|| format!("sent {}", now.sent), |total| format!("sent {} of {total}", now.sent));
    let recent_loss = [
        Span::raw("last 10 s: "),
        Span::styled(share(now.current_loss_ratio), when(now.current_loss_ratio > Some(0.0))),
        Span::raw("   burst now: "),
        Span::styled(now.current_burst.to_string(), when(now.current_burst > 0)),
    ];
    let value = |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), time);
    let round_trip = format!("{} {}", round_trip_name(now), value(now.rtt_last_ns));
    let percentiles = format!("p50 {}   p99 {}", value(now.rtt_p50_ns), value(now.rtt_p99_ns));
    let jitter = format!("jitter {}", value(now.jitter_ns.map(|ns| ns as i64)));
    let problems = [(LineKind::Silence, silence(now)), (LineKind::Paused, paused(now))];
    let problems = problems.into_iter().filter_map(|(kind, text)| Some((kind, Line::styled(text?, problem))));
    let direction = now.lost_upstream.filter(|_| now.lost > 0).map(|upstream| {
        let upstream = upstream.min(now.lost);
        let text = format!("lost upstream {upstream}, downstream {}", now.lost - upstream);
        (LineKind::LossDirection, Line::raw(text))
    });

    let mut text = Vec::new();
    if is_narrow {
        text.extend([(LineKind::Loss, Line::from(loss)), (LineKind::Title, title)]);
        text.extend(problems);
        text.push((LineKind::Sent, Line::raw(sent)));
        text.push((LineKind::RecentLoss, Line::from(recent_loss.to_vec())));
        text.extend(direction);
        text.push((LineKind::RoundTrip, Line::raw(format!("{round_trip}   {jitter}"))));
        text.push((LineKind::Percentiles, Line::raw(percentiles)));
    } else {
        let mut spans = vec![Span::raw(sent + "   "), loss, Span::raw("   ")];
        spans.extend(recent_loss);
        text.extend([(LineKind::Title, title), (LineKind::Loss, Line::from(spans))]);
        text.extend(direction);
        text.push((LineKind::RoundTrip, Line::raw(format!("{round_trip}   {percentiles}   {jitter}"))));
        text.extend(problems);
    }
    if now.has_levels {
        let (sent, returned) = (decibels(now.sent_peak), decibels(now.returned_peak));
        let level = format!("level sent {sent}, returned {returned}   gaps {}", now.loss_bursts);
        text.push((LineKind::Level, Line::raw(level)));
    }
    if now.events_dropped > 0 {
        let dropped = now.events_dropped;
        let incomplete = format!("incomplete: the terminal was too slow for {dropped} events; the report is complete");
        text.push((LineKind::Incomplete, Line::styled(incomplete, problem)));
    }
    text.push((LineKind::Bars, Line::default()));
    text
}

/// Whether all packets were sent and some have no reply yet.
fn is_waiting(total: Option<u64>, now: &LiveSnapshot) -> bool {
    now.replies_expected && now.returned < now.sent && total.is_some_and(|total| now.sent + now.not_sent >= total)
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

/// Renders the lines, and a sparkline of round trips in the line of the bars.
fn rendered(text: &[(LineKind, Line<'_>)], round_trips: &[Option<i64>], width: u16, color: bool) -> Vec<ViewLine> {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, text.len() as u16));
    let known = || round_trips.iter().flatten();
    for (row, (kind, line)) in (0..).zip(text) {
        let area = Rect::new(0, row, width, 1);
        line.render(area, &mut buffer);
        if let (LineKind::Bars, Some(min), Some(max)) = (kind, known().min(), known().max()) {
            sparkline(round_trips, *min, *max, area, &mut buffer);
        }
    }
    (0..text.len() as u16).map(|row| view_line(&buffer, row, color)).collect()
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
fn view_line(buffer: &Buffer, row: u16, color: bool) -> ViewLine {
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
    ViewLine { text: line, width: end }
}

/// A duration in whole seconds, rounded down.
fn seconds(ns: u64) -> String {
    let seconds = ns / NANOS_PER_SECOND;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

fn share(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), format_share)
}

fn time(ns: i64) -> String {
    format_time_ms(ns as f64 / 1e3)
}

fn round_trip_name(now: &LiveSnapshot) -> &'static str {
    if now.includes_server_delay { "echo time" } else { "round trip" }
}

fn silence(now: &LiveSnapshot) -> Option<String> {
    let silent = now.unanswered_ns.filter(|ns| *ns >= MIN_SHOWN_SILENCE_NS)?;
    Some(format!("no reply for {}", seconds(silent)))
}

fn paused(now: &LiveSnapshot) -> Option<String> {
    (now.paused_ns > 0).then(|| format!("this host did not run for {}", format_length(now.paused_ns as f64 / 1e6)))
}

fn decibels(peak: Option<f32>) -> String {
    match peak {
        Some(peak) if peak > 0.0 => format!("{:.1} dBFS", 20.0 * peak.log10()),
        Some(_) => "silent".to_owned(),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> LiveSnapshot {
        LiveSnapshot {
            elapsed_ns: 1_980_000_000,
            sent: 192,
            returned: 190,
            rate: Some(100),
            lost: 1,
            loss_ratio: Some(1.0 / 191.0),
            replies_expected: true,
            unanswered_ns: Some(1_970_000_000),
            ..LiveSnapshot::default()
        }
    }

    fn text(total: Option<u64>, now: &LiveSnapshot, size: (u16, u16)) -> Vec<String> {
        lines("probe of host", total, Some(now), size, false).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn silence_is_never_longer_than_the_run() {
        let line = progress_line(Some(&snapshot()));
        assert!(line.starts_with("1 s: 192 sent") && line.ends_with(", no reply for 1 s"), "{line}");
        let long = LiveSnapshot { elapsed_ns: 65_999_999_999, unanswered_ns: Some(65_999_000_000), ..snapshot() };
        let line = progress_line(Some(&long));
        assert!(line.starts_with("1:05: ") && line.ends_with(", no reply for 1:05"), "{line}");
    }

    #[test]
    fn share_of_a_lost_packet_is_never_zero() {
        let ratios = [None, Some(0.0), Some(1e-9), Some(0.000_049), Some(0.000_051), Some(0.5)];
        assert_eq!(ratios.map(share), ["-", "0 %", "< 0.01 %", "< 0.01 %", "0.01 %", "50 %"]);
    }

    #[test]
    fn rate_is_shown_until_all_packets_are_sent() {
        let first = |total, now: &LiveSnapshot| text(total, now, (80, 24)).swap_remove(0);
        assert_eq!(first(Some(193), &snapshot()), "probe of host  1 s, 100 packets/s");
        assert_eq!(first(None, &snapshot()), "probe of host  1 s, 100 packets/s");
        assert_eq!(first(Some(192), &snapshot()), "probe of host  1 s, waiting for missing replies");
        let no_echo = LiveSnapshot { replies_expected: false, ..snapshot() };
        assert_eq!(first(Some(192), &no_echo), "probe of host  1 s, 100 packets/s");
    }

    #[test]
    fn pause_of_this_host_is_shown() {
        let now = LiveSnapshot { not_sent: 8, paused_ns: 5_040_000_000, ..snapshot() };
        let lines = text(Some(200), &now, (80, 24));
        assert!(lines[0].ends_with("waiting for missing replies"), "{lines:?}");
        assert!(lines.contains(&"this host did not run for 5.0 s".to_owned()), "{lines:?}");
        let line = progress_line(Some(&now));
        assert!(line.ends_with(", this host did not run for 5.0 s"), "{line}");
    }

    #[test]
    fn small_terminal_shows_the_loss_first() {
        let now = snapshot();
        assert_eq!(text(Some(400), &now, (80, 3))[1][..32], *"sent 192 of 400   lost 1 (0.52 %)"[..32].to_owned());
        assert_eq!(text(Some(400), &now, (59, 2)), ["lost 1 (0.52 %)"]);
        assert_eq!(text(Some(400), &now, (20, 24))[0], "lost 1 (0.52 %)");
        let narrow = text(Some(400), &now, (20, 24));
        assert!(narrow.iter().all(|line| line.chars().count() < 20), "{narrow:?}");
        assert!(text(Some(400), &now, (19, 24)).is_empty() && text(Some(400), &now, (80, 1)).is_empty());
    }
}
