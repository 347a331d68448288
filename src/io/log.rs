//! The log on standard error: one line for each event, in the format of the original server. Because clients cause most lines, their number per
//! second is limited.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal, Write as _};
use std::sync::{Arc, Mutex};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::OptionalWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::echo::FIXED_LOG_LINE;
use crate::io::clock;
use crate::lock::lock;
use crate::log_throttle::LogThrottle;
use crate::sanitize::sanitize_line;
use crate::stats::Counter;
use crate::time::Time;

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

/// A writer for each line, which discards lines above [`MAX_LINES_PER_SECOND`]. At most once per second, an extra line reports how many lines were discarded.
struct LimitedLines<W> {
    inner: W,
    limits: Arc<Mutex<LineLimits>>,
}

impl<W> LimitedLines<W> {
    fn new(inner: W) -> Self {
        Self { inner, limits: Arc::default() }
    }
}

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for LimitedLines<W> {
    type Writer = OptionalWriter<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        OptionalWriter::some(self.inner.make_writer())
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Self::Writer {
        let mut writer = self.inner.make_writer_for(metadata);
        if *metadata.level() > Level::INFO {
            return OptionalWriter::some(writer);
        }
        let now = clock::monotonic_now();
        let discarded = {
            let mut limits = lock(&self.limits);
            if !limits.allow(metadata.callsite(), now) {
                return OptionalWriter::none();
            }
            limits.discarded.take_due(now)
        };
        if let Some(lines) = discarded {
            // If the line cannot be written, neither can the next one, whose error is reported.
            let _ = writer.write_all(discarded_line(lines).as_bytes());
        }
        OptionalWriter::some(writer)
    }
}

/// The line with the number of discarded lines.
fn discarded_line(lines: u64) -> String {
    let (time, limit) = (utc_now(), MAX_LINES_PER_SECOND);
    format!("{time} WARN log: log lines discarded: limit of {limit} per second for each log message lines={lines}\n")
}

/// Standard error. Counts the lines that cannot be written, for example because standard error is a file on a full disk.
struct CountingStderr(Arc<Counter>);

impl io::Write for CountingStderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        io::stderr().write(text)
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        io::stderr().write_all(line).inspect_err(|_| self.0.add(1))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The log is written while this value exists. When this guard is dropped, it writes the queued lines for at most a second.
pub(crate) struct LogGuard {
    /// Whether the filter permits any line of this program.
    pub has_lines: bool,
    dropped_lines: ErrorCounter,
    failed_lines: Arc<Counter>,
    limits: Arc<Mutex<LineLimits>>,
    writer: NonBlocking,
    _worker: WorkerGuard,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let lines = lock(&self.limits).discarded.take_suppressed();
        if lines > 0 {
            // There is no further place to report an error to.
            let _ = self.writer.write_all(discarded_line(lines).as_bytes());
        }
    }
}

impl LogGuard {
    /// Returns a function that returns the number of lines dropped because standard error was not read or could not be written. The
    /// function can be called even after the guard is dropped.
    pub(crate) fn dropped_lines(&self) -> impl Fn() -> u64 + Send + Sync + 'static + use<> {
        let (dropped, failed) = (self.dropped_lines.clone(), Arc::clone(&self.failed_lines));
        move || dropped.dropped_lines() as u64 + failed.get()
    }
}

/// Starts the log, which is written on a thread of its own. `filter` has the syntax of `RUST_LOG`: a level, or `target=level` pairs.
/// `color` colors the level if standard error is a terminal. Fails if the filter is invalid.
pub(crate) fn init(filter: &str, color: bool) -> Result<LogGuard, String> {
    let filter = parse_filter(filter)?;
    let has_lines = AREAS.split(' ').any(|area| filter.would_enable(area, &Level::ERROR));
    let failed_lines = Arc::<Counter>::default();
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINE_QUEUE_CAPACITY)
        .thread_name("log")
        .finish(CountingStderr(Arc::clone(&failed_lines)));
    let dropped_lines = writer.error_counter();
    let has_color = color && io::stderr().is_terminal();
    let lines = LimitedLines::new(writer.clone());
    let limits = Arc::clone(&lines.limits);
    subscriber(filter, has_color, lines).init();
    Ok(LogGuard { has_lines, dropped_lines, failed_lines, limits, writer, _worker: guard })
}

/// Creates the subscriber. `filter` is the only level filter, so that its most verbose level becomes the global maximum level of `tracing`, and
/// a more verbose event costs only one comparison.
fn subscriber<W>(filter: Targets, has_color: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filtered = tracing_subscriber::registry().with(filter);
    filtered.with(tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(has_color).event_format(LineFormat))
}

/// The areas of the log, separated by spaces: events with these targets are printed as `area: event key=value`. Every event of this program has
/// one of these targets.
const AREAS: &str =
    "echo check signaling control_surface http console memory metrics registration relay room moqt tls clock";

fn is_area(word: &str) -> bool {
    AREAS.split(' ').any(|area| area == word)
}

/// Parses a filter: words separated by commas, with spaces around them ignored. Rejects a word that is neither a level, an area, nor
/// `TARGET=LEVEL`: the parser of [`Targets`] would mistake a misspelled level or a span filter (`[span]`) for the name of a module, and nothing
/// would be logged. The name of this program stands for all areas, and `jamjam_dev::echo` for the area `echo`.
fn parse_filter(filter: &str) -> Result<Targets, String> {
    let words: Vec<&str> = filter.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    // A filter without words does not hide errors.
    let default = if words.is_empty() { LevelFilter::ERROR } else { LevelFilter::OFF };
    let mut targets = Targets::new().with_default(default);
    // A level without a target applies to the events of this program. Libraries log only if the filter names them.
    let program = |word: &str| match word.strip_prefix(env!("CARGO_CRATE_NAME"))? {
        "" => Some(LevelFilter::TRACE),
        rest => parse_level(rest.strip_prefix('=')?),
    };
    let last = |level: &dyn Fn(&str) -> Option<LevelFilter>| words.iter().rev().find_map(|word| level(word));
    if let Some(level) = last(&program).or_else(|| last(&parse_level)) {
        targets = targets.with_targets(AREAS.split(' ').map(|area| (area, level)));
    }
    for word in words.iter().copied().filter(|word| parse_level(word).or_else(|| program(word)).is_none()) {
        let (target, level) = match word.split_once('=') {
            Some((target, level)) => (target, parse_level(level)),
            None => (word, is_area(word).then_some(LevelFilter::TRACE)),
        };
        let area = target.strip_prefix(concat!(env!("CARGO_CRATE_NAME"), "::"));
        let target = area.filter(|area| is_area(area)).unwrap_or(target);
        let is_invalid = target.is_empty()
            || target.starts_with(env!("CARGO_CRATE_NAME"))
            || target.contains(|c: char| c == '[' || c.is_whitespace());
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

/// UTC to the millisecond: `2024-01-15T10:30:00.000Z`.
fn utc_now() -> impl fmt::Display {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Formats a line as `TIME LEVEL area: event key=value`. A [`FIXED_LOG_LINE`] such as `Received audio packet` copies the wording of the original
/// server and contains only the time, the level and the message. For an event of a library, the area is the name of the library.
struct LineFormat;

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "{}", utc_now())?;
        let level = *event.metadata().level();
        if writer.has_ansi_escapes() {
            let color = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                _ => 34,
            };
            write!(writer, " \x1b[{color}m{level}\x1b[0m ")?;
        } else {
            write!(writer, " {level} ")?;
        }
        let area = event.metadata().target();
        if event.metadata().name() != FIXED_LOG_LINE {
            write!(writer, "{}: ", area.split("::").next().unwrap_or(area))?;
        }
        let mut line = LineVisitor(String::new());
        event.record(&mut line);
        // Log lines contain data from the network, whose control characters could control the terminal or forge log lines.
        writeln!(writer, "{}", sanitize_line(&line.0, usize::MAX))
    }
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
    use test_support::logged::Lines;

    use super::*;

    /// The lines of a log with this filter, without their times.
    fn logged(filter: &str, log: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(parse_filter(filter).expect("a filter"), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        lines.take().iter().map(|line| line.split_once(' ').expect("a time").1.to_owned()).collect()
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
        for (filter, same_as) in [
            ("info,", "info"),
            (" info , echo=debug ", "info,echo=debug"),
            (",moqt", "moqt"),
            ("Debug", "debug"),
            ("jamjam_dev=debug", "debug"),
            ("jamjam_dev", "trace"),
            // The more specific word counts, wherever it is.
            ("jamjam_dev=info,warn,quinn=warn", "info,quinn=warn"),
            ("warn,jamjam_dev::echo=debug", "warn,echo=debug"),
        ] {
            assert_eq!(parse_filter(filter).expect("a filter"), parse_filter(same_as).expect("a filter"), "{filter}");
        }
        assert!(parse_filter("echo =info").is_err());
    }

    #[test]
    fn filter_determines_the_global_maximum_level() {
        for (filter, level) in
            [(" , ", LevelFilter::ERROR), ("info", LevelFilter::INFO), ("warn,echo=debug", LevelFilter::DEBUG)]
        {
            let filter = parse_filter(filter).expect("a filter");
            assert_eq!(subscriber(filter, false, std::io::sink).max_level_hint(), Some(level));
        }
    }

    #[test]
    fn lines_above_the_limit_are_counted_and_hide_no_other_lines() {
        let expected = " WARN log: log lines discarded: limit of 100 per second for each log message lines=200";
        let lines = Lines::default();
        let writer = lines.clone();
        let limited = LimitedLines::new(move || writer.clone());
        let subscriber = subscriber(parse_filter("trace").expect("a filter"), false, limited);
        tracing::subscriber::with_default(subscriber, || {
            (0..300).for_each(|number| tracing::info!(target: "echo", number, "flood"));
            (0..300).for_each(|number| tracing::debug!(target: "echo", number, "details"));
            tracing::info!(target: "echo", "other line");
        });
        let lines = lines.take();
        let count = |text| lines.iter().filter(|line| line.contains(text)).count();
        // A second begins during the flood if the machine is slow, which permits further lines.
        assert!(count("flood") >= 100 && count("details") == 300, "{lines:?}");
        assert!(lines.last().is_some_and(|line| line.contains("other line")), "{lines:?}");
        if count("flood") == 100 {
            assert!(lines[lines.len() - 2].ends_with(expected), "{lines:?}");
        }
    }

    #[test]
    fn discarded_lines_that_were_not_reported_are_reported_at_the_end() {
        let lines = Lines::default();
        let (writer, worker) = NonBlockingBuilder::default().finish(lines.clone());
        let limits = Arc::<Mutex<LineLimits>>::default();
        limits.lock().expect("no panic").discarded.record(7);
        let dropped_lines = writer.error_counter();
        drop(LogGuard {
            has_lines: true,
            dropped_lines,
            failed_lines: Arc::default(),
            limits,
            writer,
            _worker: worker,
        });
        let lines = lines.take();
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line.contains(" WARN log: log lines discarded: ") && line.ends_with(" lines=7"), "{line}");
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
