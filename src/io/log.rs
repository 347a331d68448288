//! The log on standard error: the seed's line format, or one JSON object a line.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use thiserror::Error;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::rooms::harmless::acts;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `2024-01-15T10:30:00.000Z INFO Echo server listening on 0.0.0.0:5000`
    #[default]
    Text,
    /// The same as a JSON object, with numbers as fields of their own.
    Json,
}

/// A log level that is none.
#[derive(Debug, Error)]
#[error("cannot read the log level `{filter}`: {reason}; use trace, debug, info, warn, error or off")]
pub struct BadFilter {
    filter: String,
    reason: String,
}

/// Lines on their way to standard error. Whoever reads it may be slow; whoever logs must not wait for them.
const QUEUE: usize = 8_192;

/// The log at work. Dropping it writes what is still queued, for a second at most.
pub struct Log {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Log {
    /// Tells how many lines were dropped because nobody read standard error, also without the log at hand.
    pub fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static + use<> {
        let dropped = self.dropped.clone();
        move || dropped.dropped_lines() as u64
    }
}

/// Sends the log to standard error from now on, from a thread of its own. `filter` is what `RUST_LOG` holds: a level, or `target=level` pairs.
/// `colour` sets the level off on a terminal.
pub fn start(filter: &str, format: Format, colour: bool) -> Result<Log, BadFilter> {
    let bad = |reason: String| BadFilter { filter: filter.to_owned(), reason };
    if let Some(word) = filter.split(',').map(str::trim).find(|word| names_nothing(word)) {
        return Err(bad(format!("`{word}` is no level")));
    }
    let filter = EnvFilter::builder().parse(filter).map_err(|error| bad(error.to_string()))?;
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(QUEUE).thread_name("log").finish(std::io::stderr());
    let dropped = writer.error_counter();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // It would say on standard error that standard error is gone, and panic.
        .log_internal_errors(false);
    match format {
        Format::Text => builder.with_ansi(colour && std::io::stderr().is_terminal()).event_format(Line).init(),
        Format::Json => {
            builder.with_ansi(false).with_timer(Milliseconds).json().flatten_event(true).with_target(false).init();
        }
    }
    Ok(Log { dropped, _writer: guard })
}

/// Whether `word` stands alone and is neither a level nor a part of this program: a level misspelt, which would be taken for
/// the name of another program's part and silence everything.
fn names_nothing(word: &str) -> bool {
    !word.is_empty()
        && !word.contains(['=', '['])
        && !word.starts_with(env!("CARGO_CRATE_NAME"))
        && word.parse::<LevelFilter>().is_err()
}

/// UTC to the millisecond: `2024-01-15T10:30:00.000Z`.
struct Milliseconds;

impl FormatTime for Milliseconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

/// Time, level, message; single spaces between. An event's other fields are for the JSON form: the message says it all.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        Milliseconds.format_time(&mut writer)?;
        let level = *event.metadata().level();
        if writer.has_ansi_escapes() {
            let colour = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                _ => 34,
            };
            write!(writer, " \x1b[{colour}m{level}\x1b[0m ")?;
        } else {
            write!(writer, " {level} ")?;
        }
        let mut message = Message { writer, result: Ok(()) };
        event.record(&mut message);
        message.result?;
        writeln!(message.writer)
    }
}

/// Lines hold what strangers wrote too: nothing in it acts on the terminal that shows it, or makes up another line.
struct Shown<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Shown<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly always.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        text.chars()
            .try_for_each(|letter| self.0.write_char(if acts(letter) { char::REPLACEMENT_CHARACTER } else { letter }))
    }
}

struct Message<'a> {
    writer: Writer<'a>,
    result: fmt::Result,
}

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.result = write!(Shown(&mut self.writer), "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_line_acts_on_a_terminal_or_ends_the_line() {
        let mut line = String::new();
        write!(Shown(&mut Writer::new(&mut line)), "Zoë \u{1b}[2J\u{9b}\u{7f}\r\n🔊\u{202e}").expect("room");
        assert_eq!(line, "Zoë \u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}\u{fffd}🔊\u{fffd}");
    }
}
