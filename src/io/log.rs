//! The log on standard error: one line for each event, in the format of the original server. Because clients cause most lines, their number per
//! second is limited.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal, Write as _};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;

use crate::echo::FIXED_LOG_LINE;
use crate::io::clock;
use crate::io::worker::Worker;
use crate::lock::lock;
use crate::log_throttle::LogThrottle;
use crate::sanitize::sanitize_line;
use crate::stats::Counter;
use crate::time::{Time, iso_time};

/// A [`LogThrottle`] of one line per second that several threads share.
#[derive(Debug, Default)]
pub(crate) struct SharedLogThrottle(Mutex<LogThrottle>);

impl SharedLogThrottle {
    /// Whether an event may be logged now.
    pub(crate) fn allow(&self) -> bool {
        lock(&self.0).allow(clock::monotonic_now())
    }
}

/// Maximum number of queued lines. Logging never waits for a slow reader of standard error.
const LINE_QUEUE_CAPACITY: usize = 8_192;

/// Maximum number of lines per second that one log statement writes. A flood of one kind of line therefore hides no lines of other kinds.
/// Lines of the levels DEBUG and TRACE, which must be enabled, are not limited.
const MAX_LINES_PER_SECOND: u16 = 100;

/// The limit of each log statement.
#[derive(Default)]
struct LineLimits {
    by_statement: HashMap<Identifier, LogThrottle>,
    /// Counts the discarded lines of all statements.
    discarded: LogThrottle,
}

impl LineLimits {
    /// Whether a line of this statement may be written at `now`. If not, the line is counted as discarded.
    fn allow(&mut self, statement: Identifier, now: Time) -> bool {
        let limit = self.by_statement.entry(statement).or_insert_with(|| LogThrottle::new(MAX_LINES_PER_SECOND));
        let is_allowed = limit.allow(now);
        self.discarded.record(u64::from(!is_allowed));
        is_allowed
    }
}

/// Prints the events of the program, but no spans. `write` takes each line.
struct Log<W> {
    /// The only level filter, so that its most verbose level becomes the global maximum level of `tracing`, and a more verbose event costs only
    /// one comparison.
    filter: Targets,
    has_color: bool,
    limits: Arc<Mutex<LineLimits>>,
    write: W,
}

impl<W: Fn(String) + 'static> Subscriber for Log<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && self.filter.would_enable(metadata.target(), metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.filter.iter().map(|(_, level)| level).chain(self.filter.default_level()).max()
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        if *metadata.level() <= Level::INFO {
            let now = clock::monotonic_now();
            let mut limits = lock(&self.limits);
            if !limits.allow(metadata.callsite(), now) {
                return;
            }
            if let Some(lines) = limits.discarded.take_due(now) {
                (self.write)(discarded_line(lines));
            }
        }
        (self.write)(line(event, self.has_color));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The line with the number of discarded lines.
fn discarded_line(lines: u64) -> String {
    let (time, limit) = (iso_time(clock::unix_ms()), MAX_LINES_PER_SECOND);
    format!("{time} WARN log: log lines discarded: limit of {limit} per second for each log message lines={lines}\n")
}

/// Writes the log on a thread of its own while this value exists. When it is dropped, it writes the queued lines for at most a second.
pub(crate) struct LogGuard {
    /// Whether the filter permits any line of this program.
    pub has_lines: bool,
    /// Lines that were dropped because standard error was not read, or could not be written, for example to a full disk.
    dropped_lines: Arc<Counter>,
    limits: Arc<Mutex<LineLimits>>,
    /// `None` ends the thread.
    queue: SyncSender<Option<String>>,
    writer: Worker<()>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let lines = lock(&self.limits).discarded.take_suppressed();
        let last = (lines > 0).then(|| discarded_line(lines));
        // If the queue is full, standard error is not read, and there is no further place to report this to.
        let _ = last.into_iter().map(Some).chain([None]).try_for_each(|line| self.queue.try_send(line));
        self.writer.finished_within(Duration::from_secs(1));
    }
}

impl LogGuard {
    /// Starts the thread, which calls `write` for each line.
    fn start(has_lines: bool, mut write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = mpsc::sync_channel::<Option<String>>(LINE_QUEUE_CAPACITY);
        let dropped_lines = Arc::<Counter>::default();
        let failed = Arc::clone(&dropped_lines);
        let write_all = move || {
            while let Ok(Some(line)) = lines.recv() {
                failed.add(usize::from(write(line.as_bytes()).is_err()));
            }
        };
        let writer = Worker::spawn("log", write_all)?;
        Ok(Self { has_lines, dropped_lines, limits: Arc::default(), queue, writer })
    }

    /// Returns a function that puts a line into the queue.
    fn sender(&self) -> impl Fn(String) + Send + Sync + 'static + use<> {
        let (queue, dropped) = (self.queue.clone(), Arc::clone(&self.dropped_lines));
        move |line| dropped.add(usize::from(queue.try_send(Some(line)).is_err()))
    }

    /// Returns a function that returns the number of dropped lines, even after the guard is dropped.
    pub(crate) fn dropped_lines(&self) -> impl Fn() -> u64 + Send + Sync + 'static + use<> {
        let dropped = Arc::clone(&self.dropped_lines);
        move || dropped.get()
    }
}

/// Starts the log. `color` colors the level if standard error is a terminal.
pub(crate) fn init(filter: Targets, color: bool) -> io::Result<LogGuard> {
    let has_lines = AREAS.split(' ').any(|area| filter.would_enable(area, &Level::ERROR));
    let guard = LogGuard::start(has_lines, |line| io::stderr().write_all(line))?;
    let has_color = color && io::stderr().is_terminal();
    let log = Log { filter, has_color, limits: Arc::clone(&guard.limits), write: guard.sender() };
    tracing::subscriber::set_global_default(log).map_err(io::Error::other)?;
    Ok(guard)
}

/// The areas of the log, separated by spaces: events with these targets are printed as `area: event key=value`. Every event of this program has
/// one of these targets.
const AREAS: &str =
    "echo check signaling control_surface http console memory metrics registration relay room moqt tls clock";

fn is_area(word: &str) -> bool {
    AREAS.split(' ').any(|area| area == word)
}

/// Parses a filter with the syntax of `RUST_LOG`: levels, areas and `TARGET=LEVEL`, separated by commas, with spaces around them ignored. Rejects
/// other words: the parser of [`Targets`] would mistake a misspelled level or a span filter (`[span]`) for the name of a module, and nothing
/// would be logged.
pub(crate) fn parse_filter(filter: &str) -> Result<Targets, String> {
    let words: Vec<&str> = filter.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    // A level without a target applies to the events of this program. Libraries log only if the filter names them.
    let level = words.iter().rev().find_map(|word| parse_level(word));
    let mut targets = Targets::new().with_default(LevelFilter::OFF);
    if let Some(level) = level {
        targets = targets.with_targets(AREAS.split(' ').map(|area| (area, level)));
    }
    for word in words.into_iter().filter(|word| parse_level(word).is_none()) {
        let (target, level) = match word.split_once('=') {
            Some((target, level)) => (target, parse_level(level)),
            None => (word, is_area(word).then_some(LevelFilter::TRACE)),
        };
        let is_invalid = target.is_empty() || target.contains(|c: char| c == '[' || c.is_whitespace());
        let Some(level) = level.filter(|_| !is_invalid) else {
            return Err(format!(
                "cannot read the log level `{filter}`: `{word}` is neither a level nor TARGET=LEVEL; use trace, debug, info, warn, error \
                 or off"
            ));
        };
        targets = targets.with_target(target, level);
    }
    Ok(targets)
}

/// The level that a word names, if the word is a level.
fn parse_level(word: &str) -> Option<LevelFilter> {
    // The parser would interpret an empty word as the level ERROR.
    word.parse().ok().filter(|_| !word.is_empty())
}

/// The line of an event: `TIME LEVEL area: event key=value`. A [`FIXED_LOG_LINE`] such as `Received audio packet` copies the wording of the
/// original server and contains only the time, the level and the message. For an event of a library, the area is the name of the library.
fn line(event: &Event<'_>, has_color: bool) -> String {
    let metadata = event.metadata();
    let (color, end) = match *metadata.level() {
        _ if !has_color => ("", ""),
        Level::ERROR => ("\x1b[31m", "\x1b[0m"),
        Level::WARN => ("\x1b[33m", "\x1b[0m"),
        Level::INFO => ("\x1b[32m", "\x1b[0m"),
        _ => ("\x1b[34m", "\x1b[0m"),
    };
    let area = if metadata.name() == FIXED_LOG_LINE {
        String::new()
    } else {
        format!("{}: ", metadata.target().split("::").next().unwrap_or_default())
    };
    let mut fields = LineVisitor(String::new());
    event.record(&mut fields);
    // Log lines contain data from the network, whose control characters could control the terminal or forge log lines.
    let text = sanitize_line(&fields.0, usize::MAX);
    format!("{} {color}{}{end} {area}{text}\n", iso_time(clock::unix_ms()), metadata.level())
}

/// The message, and the other fields as ` key=value`. `message` is always the first field.
struct LineVisitor(String);

impl Visit for LineVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0 += value;
        } else if value.is_empty() || value.contains([' ', '"', '=']) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            self.0.extend([" ", field.name(), "=\"", &escaped, "\""]);
        } else {
            self.0.extend([" ", field.name(), "=", value]);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a log with this filter, without their times.
    fn logged(filter: &str, action: impl FnOnce()) -> Vec<String> {
        let (sender, lines) = mpsc::channel();
        let write = move |line| sender.send(line).expect("a receiver");
        let filter = parse_filter(filter).expect("a filter");
        tracing::subscriber::with_default(Log { filter, has_color: false, limits: Arc::default(), write }, action);
        lines.iter().map(|line| line.trim_end().split_once(' ').expect("a time").1.to_owned()).collect()
    }

    #[test]
    fn event_is_printed_with_its_area_and_fields_and_a_fixed_line_without() {
        let address = std::net::SocketAddr::from(([192, 0, 2, 1], 40_000));
        let lines = logged("info", || {
            tracing::info!(target: "echo", source = %address, packets = 7, reason = "buffer full", "audio packet dropped");
            tracing::warn!(target: "room", text = %"a \"b\"\nc", user = "", "chat message received");
            tracing::info!(name: FIXED_LOG_LINE, target: "echo", "Stats: received=1");
        });
        let expected = [
            "INFO echo: audio packet dropped source=192.0.2.1:40000 packets=7 reason=\"buffer full\"",
            "WARN room: chat message received text=\"a \\\"b\\\"\u{fffd}c\" user=\"\"",
            "INFO Stats: received=1",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn spaces_and_empty_words_do_not_change_the_filter() {
        for (filter, same_as) in
            [("info,", "info"), (" info , echo=debug ", "info,echo=debug"), (",moqt", "moqt"), ("Debug", "debug")]
        {
            assert_eq!(parse_filter(filter).expect("a filter"), parse_filter(same_as).expect("a filter"), "{filter}");
        }
        assert!(parse_filter("echo =info").is_err());
    }

    #[test]
    fn lines_above_the_limit_are_counted_and_hide_no_other_lines() {
        let expected = "WARN log: log lines discarded: limit of 100 per second for each log message lines=200";
        let lines = logged("trace", || {
            (0..300).for_each(|number| tracing::info!(target: "echo", number, "flood"));
            (0..300).for_each(|number| tracing::debug!(target: "echo", number, "details"));
            tracing::info!(target: "echo", "other line");
        });
        let count = |text| lines.iter().filter(|line| line.contains(text)).count();
        // A second begins during the flood if the machine is slow, which permits further lines.
        assert!((100..300).contains(&count("flood")) && count("details") == 300, "{lines:?}");
        assert!(lines.last().is_some_and(|line| line.contains("other line")), "{lines:?}");
        if count("flood") == 100 {
            assert_eq!(lines[lines.len() - 2], expected);
        }
    }

    #[test]
    fn discarded_lines_that_were_not_reported_are_reported_at_the_end() {
        let (sender, lines) = mpsc::channel();
        let guard = LogGuard::start(true, move |line| {
            sender.send(line.to_vec()).expect("a receiver");
            Ok(())
        });
        let guard = guard.expect("a thread");
        lock(&guard.limits).discarded.record(7);
        drop(guard);
        let lines: Vec<String> = lines.iter().map(|line| String::from_utf8(line).expect("UTF-8")).collect();
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line.contains(" WARN log: log lines discarded: ") && line.ends_with(" lines=7\n"), "{line}");
    }

    #[test]
    fn library_logs_only_if_the_filter_names_it() {
        let log = || tracing::info!(target: "quinn::connection", packets = 1, "event of a library");
        for filter in ["trace", "moqt=trace", "debug,quinn=warn"] {
            assert_eq!(logged(filter, log), [""; 0], "{filter}");
        }
        assert_eq!(logged("warn,quinn=info", log), ["INFO quinn: event of a library packets=1"]);
    }

    #[test]
    fn control_characters_in_log_lines_are_replaced() {
        let lines = logged("info", || tracing::info!(target: "room", "Zoë \u{1b}[2J\u{9b}\u{7f}\r\n🔊\u{202e}"));
        assert_eq!(lines, ["INFO room: Zoë \u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}\u{fffd}🔊\u{fffd}"]);
    }
}
