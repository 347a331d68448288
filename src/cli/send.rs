//! `jamjam-dev send`: sends audio like a jamjam client, or texts to a MOQT echo server. The replies are evaluated.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::ColorChoice;

use super::audio_output::{PlaybackArgs, RecordingArgs, finish_playback};
use super::audio_source::{CaptureArgs, CaptureSource, PacketLayout, PreparedSource, SourceArgs, device_lost_error};
use super::client::moqt::{EmbeddedMoqtServer, MoqtClientArgs, MoqtRunPlan};
use super::client::udp::ConnectedTarget;
use super::client::{ClientArgs, transaction_seed};
use super::output::{Failure, HEADING_LIMITS, print_notice};
use super::target::{MoqtTarget, SendTarget};
use super::values::TimeSpan;
use crate::client::LiveConfig;
use crate::client::{AudioStreamConfig, AudioWorkload, ClientNode, PayloadSource, RunConfig};
use crate::client::{RunKind, RunResults, StopSignal, StreamKind};
use crate::io::read_ahead::{self, ReaderThread};
use crate::io::stop::StopToken;
use crate::moqt::client::{FramePayload, MoqtClientConfig, TextQueue};
use crate::moqt::codec::MAX_BODY_BYTES;
use crate::report::limits::AudioLimits;
use crate::report::quantities::RunProtocol;
use crate::sanitize::is_control_or_bidi;
use crate::wire::{HEADER_LEN, MAX_UNFRAGMENTED_PAYLOAD};

const HEADING_TARGET: &str = "Target";

/// Send a WAV file, a tone or microphone input as AUDIO packets and evaluate the returned audio
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Target: HOST[:PORT], or a MOQT URL for --text
    ///
    /// Audio needs an echo server or a jamjam client. Texts (--text) need a MOQT echo server: moqt:// (raw QUIC) or https://
    /// (WebTransport).
    #[arg(long, value_name = "HOST[:PORT]|URL", help_heading = HEADING_TARGET)]
    to: Option<SendTarget>,

    /// Expect no replies from the target
    #[arg(long, hide_short_help = true, conflicts_with = "loss_direction", help_heading = HEADING_TARGET)]
    no_echo: bool,

    #[command(flatten)]
    text: TextArgs,

    #[command(flatten)]
    moqt: MoqtClientArgs,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    capture: CaptureArgs,

    #[command(flatten)]
    playback: PlaybackArgs,

    #[command(flatten)]
    recording: RecordingArgs,

    /// Maximum number of gaps in the returned audio
    ///
    /// A gap is a stretch of audio whose packets were lost or late (--late-after).
    #[arg(long, hide_short_help = true, value_name = "N", help_heading = HEADING_LIMITS)]
    max_gaps: Option<u64>,

    /// Maximum number of clipping events in the source audio
    ///
    /// A clipping event is a run of consecutive samples at full scale. The events are counted in the audio as read from the file or
    /// device.
    #[arg(long, hide_short_help = true, value_name = "N", help_heading = HEADING_LIMITS)]
    max_clips: Option<u64>,

    /// Maximum length of digital silence in the source audio
    ///
    /// Digital silence is measured in the audio as read from the file or device. An active microphone
    /// never delivers digital silence.
    #[arg(long, hide_short_help = true, value_name = "DURATION", help_heading = HEADING_LIMITS)]
    max_silence: Option<TimeSpan>,

    #[command(flatten)]
    client: ClientArgs,
}

impl Args {
    /// Sends until finished or `stop` is requested.
    pub fn run(mut self, color: ColorChoice, stop: &StopToken) -> Result<u8, Failure> {
        self.client.audio_limits = AudioLimits {
            max_gaps: self.max_gaps,
            max_clips: self.max_clips,
            max_silence: self.max_silence.map(|TimeSpan(time)| time),
        };
        self.client.prepare_output(color);
        if let Some(code) = self.capture.list_devices(self.client.json_format())? {
            return Ok(code);
        }
        self.client.baseline.load()?;
        if let Some(code) = self.client.replay(RunKind::Send, color)? {
            return Ok(code);
        }
        let to = match &self.to {
            Some(SendTarget::Moqt(target)) => return self.send_texts(Some(target), color, stop),
            None if self.moqt.embedded_transport().is_some() => return self.send_texts(None, color, stop),
            Some(SendTarget::Udp(target)) => Some(target),
            None => None,
        };
        if self.text.is_given() {
            return Err(MoqtClientArgs::moqt_only_error("--text"));
        }
        if self.text.interval.is_some() {
            return Err(Failure::usage(
                "--interval applies to --text only: the interval of AUDIO packets follows from --frame-size (128 samples: 2.67 ms)",
            ));
        }
        self.moqt.reject_unused_options()?;
        if let Some(code) = self.client.list_and_exit()? {
            return Ok(code);
        }
        // All options are checked before the first packet is sent.
        self.client.require_target(to)?;
        if self.no_echo {
            self.client.reject_limits_without_replies()?;
            if self.client.baseline.is_given() {
                return Err(Failure::usage("--no-echo cannot be used with --baseline, because no replies arrive"));
            }
        }
        let PacketSource { source, reader, form, packets } = self.open_source()?;
        let payload = form.frame_samples as usize * usize::from(form.channels) * 4;
        if payload + HEADER_LEN > MAX_UNFRAGMENTED_PAYLOAD {
            print_notice(&format!(
                "packets with {payload} payload bytes do not fit in an Ethernet frame and are fragmented. Use a smaller --frame-size"
            ));
        }
        self.client.baseline.check_plan(RunKind::Send, StreamKind::Audio, RunProtocol::Udp)?;
        let target = self.client.connect(to, "send", stop)?;
        let (speaker_observer, speaker) = self.playback.start(form)?.unzip();
        let (recorder_queue, mut recorder) = self.recording.start(form, self.client.waveform_use())?;
        let config = self.run_config(&target);
        let title = format!("send to {}", target.name);
        let live_config = LiveConfig { has_levels: true, ..LiveConfig::from(&config) };
        let (run_observer, mut outputs) = self.client.run_outputs(&title, packets, live_config)?;

        let client = ClientNode::new(
            config,
            AudioWorkload::new(form, source),
            Box::new(((recorder_queue, speaker_observer), run_observer)),
        );
        let mut finished = self.client.run_client(client, target, &mut outputs, &mut recorder, stop)?;

        finish_playback(speaker, &mut finished, stop);
        let device_lost = device_lost_error(&finished.run);
        self.recording.finish(recorder, self.source_name(&finished.run), &mut finished);
        finished.record = outputs.into_file();
        let error = &mut finished.error;
        // After an interrupt, do not wait for standard input, which may never end.
        let reader = reader.filter(|_| finished.run.interrupted.is_none());
        match reader.map_or(Ok(None), ReaderThread::join) {
            Ok(None) => {}
            Ok(Some(warning)) => print_notice(&format!("{}: {warning}", self.source.name())),
            Err(cause) => *error = Some(anyhow!("cannot continue reading {}: {cause}", self.source.short_name())),
        }
        *error = device_lost.or(error.take());
        self.client.report(finished, color)
    }

    /// Name of the source for reports, which do not contain folders of this machine.
    fn source_name(&self, run: &RunResults) -> String {
        let capture = run.audio.as_ref().and_then(|audio| audio.capture.as_ref());
        capture.map_or_else(|| self.source.short_name(), |capture| capture.device.clone())
    }

    /// Opens the source.
    fn open_source(&self) -> Result<PacketSource, Failure> {
        if self.capture.is_enabled() {
            let CaptureSource { microphone, layout: PacketLayout { form, packets, .. } } =
                self.capture.open(&self.source)?;
            return Ok(PacketSource { source: Box::new(microphone), reader: None, form, packets });
        }
        let PreparedSource { payloads, form, packets } = self.source.open()?;
        let (feed, reader) = read_ahead::spawn(payloads).context("cannot start a thread").map_err(Failure::unusable)?;
        if feed.is_empty() {
            drop(feed);
            return Err(Failure::unusable(match reader.join() {
                Err(error) => anyhow!("cannot read {}: {error}", self.source.name()),
                Ok(_) => anyhow!("nothing to send: {} contains no audio", self.source.name()),
            }));
        }
        Ok(PacketSource { source: Box::new(feed), reader: Some(reader), form, packets })
    }

    /// Sends texts to the MOQT echo server `to` and prints the returned texts. If `to` is `None`, the embedded server is used.
    fn send_texts(&self, to: Option<&MoqtTarget>, color: ColorChoice, stop: &StopToken) -> Result<u8, Failure> {
        if !self.text.is_given() {
            return Err(Failure::usage(
                "nothing to send: give --text TEXT, or --text - for the lines of standard input. For audio, give a UDP target: \
                 --to HOST[:PORT]",
            ));
        }
        self.client.reject_options_for_moqt()?;
        let offered_versions = self.moqt.offered_versions()?;
        let config = self.moqt.config();
        let embedded = EmbeddedMoqtServer::start(&self.moqt, &config.track_prefix)?;
        let config = self.text.config(config)?;
        let mut print = |text: &Bytes| print_text(text, stop);
        let print: Option<&mut dyn FnMut(&Bytes)> = if self.client.prints_json() { None } else { Some(&mut print) };
        let plan = MoqtRunPlan { command: RunKind::Send, to, embedded, offered_versions, config, print };
        let finished = self.client.run_moqt(plan, stop)?;
        self.client.report_to_stderr(finished, color)
    }

    fn run_config(&self, target: &ConnectedTarget) -> RunConfig {
        RunConfig {
            peer: target.address,
            evaluated_stream: StreamKind::Audio,
            server_delay: self.client.known_server_delay(),
            first_echo_timeout: self.client.expected_first_echo(),
            timeout: self.client.timeout(),
            late_after: self.client.late_after.map(|TimeSpan(late)| late),
            replies_expected: !self.no_echo,
            wait_for: self.client.wait_for.map(|wait| wait.0),
            loss_report_nonce: (!self.no_echo).then(transaction_seed),
            loss_direction: self.client.loss_direction.is_enabled(),
        }
    }
}

/// An opened source.
struct PacketSource {
    source: Box<dyn PayloadSource + Send>,
    /// The thread that reads the file or generates the tone; `None` for a microphone.
    reader: Option<ReaderThread>,
    form: AudioStreamConfig,
    packets: Option<u64>,
}

const HEADING_TEXT: &str = "Text messages to a MOQT echo server, instead of audio";

/// Audio options, which conflict with --text. The list must also contain the options that require another audio option. For example,
/// --mic-device requires --mic. If --text is given, clap does not report that --mic is missing, because --mic conflicts with --text. So
/// clap would accept `--mic-device` with `--text`.
const AUDIO_ONLY_OPTIONS: [&str; 24] = [
    "file",
    "count",
    "wav",
    "tone",
    "mic",
    "mic_device",
    "mic_buffer",
    "duration",
    "repeat",
    "frame_size",
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
    "no_echo",
    "max_gaps",
    "max_clips",
    "max_silence",
];

/// The value of --text that stands for the lines of standard input.
const STDIN_MARKER: &str = "-";

/// Default interval between two texts, the same as in the gomoqt echo client.
const DEFAULT_TEXT_INTERVAL: Duration = Duration::from_millis(250);

/// Pause before the next attempt to add a text to a full queue.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(10);

/// Texts to send.
#[derive(Clone, Debug, clap::Args)]
pub struct TextArgs {
    /// Text to send, or `-` for the lines of standard input
    ///
    /// Prints each text when the server's echo of the text arrives. The option can be repeated.
    #[arg(long = "text", value_name = "TEXT", conflicts_with_all = AUDIO_ONLY_OPTIONS, help_heading = HEADING_TEXT)]
    texts: Vec<String>,

    /// Minimum interval between two texts [default: 250ms]
    #[arg(short, long, hide_short_help = true, value_name = "DURATION", help_heading = HEADING_TEXT)]
    interval: Option<TimeSpan>,
}

impl TextArgs {
    /// Whether `--text` was given.
    pub fn is_given(&self) -> bool {
        !self.texts.is_empty()
    }

    /// Adds the queue of texts to `config`, with one group per text. Starts the thread that fills the queue.
    pub fn config(&self, config: MoqtClientConfig) -> Result<MoqtClientConfig, Failure> {
        if self.texts.iter().filter(|text| *text == STDIN_MARKER).count() > 1 {
            return Err(Failure::usage("--text -: standard input can be read only once"));
        }
        if let Some(long) = self.texts.iter().find(|text| text.len() > MAX_BODY_BYTES) {
            return Err(Failure::usage(format!(
                "--text: {} bytes exceed the maximum of {MAX_BODY_BYTES} bytes per frame. Split the text",
                long.len()
            )));
        }
        let group_count = (!self.texts.iter().any(|text| text == STDIN_MARKER)).then_some(self.texts.len() as u64);
        let queue = TextQueue::default();
        let (texts, sender) = (self.texts.clone(), queue.clone());
        thread::Builder::new()
            .name("texts".to_owned())
            .spawn(move || {
                for text in texts {
                    if text == STDIN_MARKER {
                        send_lines(&mut io::stdin().lock(), &sender);
                    } else {
                        push_blocking(&sender, &text.into());
                    }
                }
                sender.close();
            })
            .context("cannot start a thread")
            .map_err(Failure::unusable)?;
        let group_interval = self.interval.map_or(DEFAULT_TEXT_INTERVAL, |TimeSpan(interval)| interval);
        Ok(MoqtClientConfig {
            group_count,
            group_interval,
            payload: FramePayload::Queue(queue),
            frames_per_group: 1,
            ..config
        })
    }
}

/// Queues every line without its line break.
fn send_lines(input: &mut impl BufRead, queue: &TextQueue) {
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
        push_blocking(queue, &Bytes::copy_from_slice(line));
    }
}

fn push_blocking(queue: &TextQueue, text: &Bytes) {
    while !queue.try_push(text.clone()) {
        thread::sleep(QUEUE_FULL_PAUSE);
    }
}

/// Prints a returned text to standard output. For a terminal, control characters are replaced.
pub fn print_text(text: &[u8], stop: &StopToken) {
    let mut out = io::stdout().lock();
    let bytes = if out.is_terminal() { sanitize_for_terminal(text).into_bytes() } else { text.to_vec() };
    let written = out.write_all(&[&bytes[..], b"\n"].concat()).and_then(|()| out.flush());
    if written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        // The reader has closed the pipe, as with `| head`.
        stop.request(StopSignal::Interrupt);
    }
}

fn sanitize_for_terminal(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars()
        .map(|letter| if is_control_or_bidi(letter) && letter != '\t' { char::REPLACEMENT_CHARACTER } else { letter })
        .collect()
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
