//! `send --text`: texts to a MOQT echo server, and what comes back of them line by line.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;

use super::Failure;
use super::args::Millis;
use super::output::note;
use crate::io::stop::{Reason, Stop};
use crate::moqt::client::{Config, Feed, Payload};
use crate::moqt::fields::BODY_BYTES;
use crate::rooms::harmless::acts;

const HEADING: &str = "Text (to a MOQT echo server)";

/// Options that only sound has. Those that need one of the others are in it too: beside a text they could not be needed, and nothing would be
/// said.
const OF_SOUND: [&str; 23] = [
    "wav",
    "tone",
    "mic",
    "mic_device",
    "mic_buffer",
    "duration",
    "repeat",
    "frame",
    "channels",
    "resample",
    "first_sequence",
    "play",
    "play_device",
    "play_buffer",
    "jitter_buffer",
    "record",
    "record_both",
    "record_format",
    "html",
    "no_echo",
    "max_gaps",
    "max_clips",
    "max_silence",
];

/// Reads standard input.
const INPUT: &str = "-";

/// The original client's pace.
const INTERVAL: Duration = Duration::from_millis(250);

/// How long to wait when more is read than is sent.
const FULL: Duration = Duration::from_millis(10);

/// What to say.
#[derive(Clone, Debug, clap::Args)]
pub struct TextArgs {
    /// Text to send, and to print when it comes back; may be given more than once. - sends the lines of standard input as they
    /// come
    #[arg(long = "text", value_name = "TEXT", conflicts_with_all = OF_SOUND, help_heading = HEADING)]
    texts: Vec<String>,

    /// Least time between two texts, in milliseconds or with a unit [default: 250]
    #[arg(long, value_name = "TIME", requires = "texts", conflicts_with_all = OF_SOUND, help_heading = HEADING)]
    interval: Option<Millis>,
}

impl TextArgs {
    /// Whether there is any.
    pub fn is_given(&self) -> bool {
        !self.texts.is_empty()
    }

    /// Sends them, each in a group of its own; the rest as in `config`.
    pub fn config(&self, config: Config) -> Result<Config, Failure> {
        if self.texts.iter().filter(|text| *text == INPUT).count() > 1 {
            return Err(Failure::usage("--text -: standard input can be read only once"));
        }
        if let Some(long) = self.texts.iter().find(|text| text.len() > BODY_BYTES) {
            return Err(Failure::usage(format!("--text: {} bytes; a frame has at most {BODY_BYTES}", long.len())));
        }
        let known = (!self.texts.iter().any(|text| text == INPUT)).then_some(self.texts.len() as u64);
        let feed = Feed::default();
        let (texts, queue) = (self.texts.clone(), feed.clone());
        thread::Builder::new()
            .name("texts".to_owned())
            .spawn(move || {
                for text in texts {
                    if text == INPUT {
                        read(&mut io::stdin().lock(), &queue);
                    } else {
                        push(&queue, &text.into());
                    }
                }
                queue.end();
            })
            .context("cannot start a thread")
            .map_err(Failure::unusable)?;
        let interval = self.interval.map_or(INTERVAL, |Millis(interval)| interval);
        Ok(Config { count: known, interval, payload: Payload::Fed(feed), frames_per_group: 1, ..config })
    }
}

/// Sends every line, without its end.
fn read(input: &mut impl BufRead, queue: &Feed) {
    for number in 1.. {
        let mut line = Vec::new();
        match input.by_ref().take(BODY_BYTES as u64 + 2).read_until(b'\n', &mut line) {
            Ok(0) if number == 1 => {
                return note("standard input is empty: there is nothing to send; write a line, or give --text TEXT");
            }
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => return note(&format!("cannot read on in standard input: {error}")),
        }
        let end = line.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let line = end.map_or(&line[..], |line| line);
        if line.len() > BODY_BYTES {
            return note(&format!(
                "a line of standard input is longer than a frame, which takes {BODY_BYTES} bytes: neither it nor what follows is sent; break \
                 it into shorter ones"
            ));
        }
        push(queue, &Bytes::copy_from_slice(line));
    }
}

fn push(queue: &Feed, text: &Bytes) {
    while !queue.push(text.clone()) {
        thread::sleep(FULL);
    }
}

/// Prints what came back on standard output: as it is, but to a terminal without what a terminal would obey.
pub fn print(text: &[u8], stop: &Stop) {
    let mut out = io::stdout().lock();
    let shown = if out.is_terminal() { harmless(text).into_bytes() } else { text.to_vec() };
    let written = out.write_all(&[&shown[..], b"\n"].concat()).and_then(|()| out.flush());
    if written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        // As in `| head`: whoever read it has read enough.
        stop.request(Reason::Interrupt);
    }
}

fn harmless(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars()
        .map(|letter| if acts(letter) && letter != '\t' { char::REPLACEMENT_CHARACTER } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_shown_text_and_nothing_that_it_would_obey() {
        assert_eq!(harmless("a\tb\u{1b}[2Jc\nd".as_bytes()), "a\tb\u{fffd}[2Jc\u{fffd}d");
        assert_eq!(harmless(b"\xffx"), "\u{fffd}x");
    }
}
