//! `jamjam-dev publish`: sends texts to a MOQT echo server, and prints what returns.

use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::builder::Resettable;

use super::client::FinishedRun;
use super::client::moqt::{MoqtClientArgs, MoqtSession};
use super::client::udp::DelayArgs;
use super::options::credentials::TrustArgs;
use super::options::measurement::{NetworkArgs, TimingArgs};
use super::options::report::PacketReportArgs;
use super::output::{Failure, HEADING_TARGET, ensure_usage, print_bytes, print_notice};
use super::target::parse_moqt_target;
use super::values::parse_millis;
use crate::client::{RunKind, StopSignal};
use crate::io::moqt::MoqtUrl;
use crate::io::stop::StopToken;
use crate::io::worker::Worker;
use crate::moqt::client::{FramePayload, MoqtClientConfig};
use crate::moqt::codec::MAX_BODY_BYTES;
use crate::sanitize::sanitize_char;

/// Publish texts on a MOQT server (media over QUIC), and print what returns
#[derive(clap::Args)]
#[command(mut_arg("delay", |arg| arg.requires("embedded").help("Delay of the embedded server, in ms or with a unit [default: 0]").long_help(Resettable::Reset)))]
pub(crate) struct Args {
    /// MOQT echo server: moqt:// (raw QUIC) or https:// (WebTransport)
    #[arg(value_name = "URL", value_parser = parse_moqt_target, required_unless_present = "embedded", conflicts_with_all = ["embedded", "moqt", "delay"])]
    target: Option<MoqtUrl>,

    /// Text to publish; `-` is standard input
    ///
    /// With `-`, each line is a text. Prints each text when the server's echo of the text arrives. The option can be repeated.
    #[arg(long, value_name = "TEXT", required = true, help_heading = HEADING_TARGET)]
    text: Vec<String>,

    /// Minimum interval between two texts
    // The default is the same as in the gomoqt echo client.
    #[arg(short, long, value_name = "DURATION", value_parser = parse_millis, default_value = "250ms", help_heading = HEADING_TARGET)]
    interval: Duration,

    /// Use a MOQT echo server inside this process
    #[arg(long, conflicts_with_all = ["ca", "cert_sha256", "insecure"], help_heading = HEADING_TARGET)]
    embedded: bool,

    #[command(flatten)]
    delay: DelayArgs,

    #[command(flatten)]
    moqt: MoqtClientArgs,

    #[command(flatten)]
    timing: TimingArgs,

    #[command(flatten)]
    report: PacketReportArgs,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

impl Args {
    /// Sends until finished or `stop` is requested.
    pub(crate) fn run(mut self, stop: &StopToken) -> Result<u8, Failure> {
        self.report.report.is_beside_output = true;
        let name = || self.target.as_ref().map_or("embedded MOQT echo server".to_owned(), MoqtUrl::to_string);
        self.report.run(name, || self.publish(stop))
    }

    fn publish(&self, stop: &StopToken) -> Result<FinishedRun, Failure> {
        let session = MoqtSession {
            to: self.target.as_ref(),
            options: self.moqt,
            trust: &self.trust,
            delay: self.delay.delay.unwrap_or_default(),
            timing: self.timing,
            local: self.network.options_without_port("over MOQT")?,
            report: &self.report,
        };
        let mut print = |text: &Bytes| print_text(text, stop);
        let print: Option<&mut dyn FnMut(&Bytes)> =
            if self.report.report.prints_json() { None } else { Some(&mut print) };
        session.run(RunKind::Send, self.config()?, print, stop)
    }

    /// The queue of texts, with one group per text. Starts the thread that fills the queue.
    fn config(&self) -> Result<MoqtClientConfig, Failure> {
        let stdin_count = self.text.iter().filter(|text| *text == STDIN_MARKER).count();
        ensure_usage!(stdin_count <= 1, "--text -: standard input can be read only once");
        for len in self.text.iter().map(String::len) {
            ensure_usage!(len <= MAX_BODY_BYTES, "--text: {len} bytes; split it into texts of {MAX_BODY_BYTES} bytes");
        }
        let group_count = (stdin_count == 0).then_some(self.text.len() as u64);
        let (sender, payload) = FramePayload::queue();
        let texts = self.text.clone();
        let queue_texts = move || {
            for text in texts {
                if text == STDIN_MARKER {
                    send_lines(&mut io::stdin().lock(), &sender);
                } else {
                    // Sending fails only after the end of the run.
                    let _ = sender.send(text.into());
                }
            }
        };
        Worker::spawn("texts", queue_texts).context("cannot start a thread")?;
        Ok(MoqtClientConfig {
            group_count,
            group_interval: self.interval,
            payload,
            frames_per_group: 1,
            ..MoqtClientConfig::default()
        })
    }
}

/// The value of --text that stands for the lines of standard input.
const STDIN_MARKER: &str = "-";

/// Queues every line without its line break.
fn send_lines(input: &mut impl BufRead, queue: &SyncSender<Bytes>) {
    for line_number in 1_u64.. {
        let mut line = Vec::new();
        match input.by_ref().take(MAX_BODY_BYTES as u64 + 2).read_until(b'\n', &mut line) {
            Ok(0) if line_number == 1 => {
                return print_notice("standard input is empty: nothing to send; enter a line, or give --text TEXT");
            }
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => return print_notice(&format!("cannot continue reading standard input: {error}")),
        }
        let end = line.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let line = end.map_or(&line[..], |line| line);
        if line.len() > MAX_BODY_BYTES {
            return print_notice(&format!(
                "line {line_number} of standard input exceeds the maximum of {MAX_BODY_BYTES} bytes per frame. This line and all \
                 later lines are not sent. Split the line"
            ));
        }
        if queue.send(Bytes::copy_from_slice(line)).is_err() {
            return;
        }
    }
}

/// Prints a returned text to standard output. For a terminal, control characters are replaced.
pub(crate) fn print_text(text: &[u8], stop: &StopToken) {
    let bytes = if io::stdout().is_terminal() { sanitize_for_terminal(text).into_bytes() } else { text.to_vec() };
    if print_bytes(&bytes).is_ok_and(|is_read| !is_read) {
        // The reader has closed the pipe, as with `| head`.
        stop.request(StopSignal::ClosedPipe);
    }
}

fn sanitize_for_terminal(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().map(|letter| if letter == '\t' { letter } else { sanitize_char(letter) }).collect()
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn terminal_output_contains_no_control_characters() {
        assert_eq!(sanitize_for_terminal("a\tb\u{1b}[2Jc\nd".as_bytes()), "a\tb\u{fffd}[2Jc\u{fffd}d");
        assert_eq!(sanitize_for_terminal(b"\xffx"), "\u{fffd}x");
    }
}
