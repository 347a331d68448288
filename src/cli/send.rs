//! `jamjam-dev send`: sends audio like a jamjam client, or texts to a MOQT echo server. The replies are evaluated.

use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::{ArgGroup, ArgMatches, ColorChoice};

use super::audio_output::{PlaybackArgs, RecordingArgs, finish_playback};
use super::audio_source::{CaptureArgs, PacketLayout, SOUND_DEVICE_GROUP, SourceArgs, device_lost_error};
use super::client::ClientArgs;
use super::options::impairment::OutcomeLogFile;
use super::output::{Failure, HEADING_TARGET, ensure_usage, print_bytes, print_notice};
use super::plan::{Plan, UdpPeer};
use super::target::{MoqtTarget, Target};
use super::values::parse_millis;
use crate::client::{
    AudioStreamConfig, AudioWorkload, ClientNode, ImpairedPath, PayloadSource, ProbeConfig, RunKind, RunResults,
    StopSignal, StreamKind,
};
use crate::io::read_ahead::{self, ReaderThread};
use crate::io::signaling::discovery::SignalingUrl;
use crate::io::stop::StopToken;
use crate::io::worker::Worker;
use crate::link::OVERHEAD;
use crate::moqt::client::{FramePayload, MoqtClientConfig};
use crate::moqt::codec::MAX_BODY_BYTES;
use crate::sanitize::sanitize_char;
use crate::wire::{HEADER_LEN, MAX_UDP_PAYLOAD, MAX_UNFRAGMENTED_PAYLOAD};

/// Send a WAV file, a tone or a microphone as audio (AUDIO); evaluate the replies
#[derive(clap::Args)]
#[command(group(ArgGroup::new(SOUND_DEVICE_GROUP).args(["mic", "play"]).multiple(true)))]
pub(crate) struct Args {
    /// Target: HOST[:PORT]; for --text, a URL of media over QUIC (MOQT)
    ///
    /// Audio needs an echo server or a jamjam client. Texts (--text) need a MOQT echo server: moqt:// (raw QUIC) or https://
    /// (WebTransport).
    #[arg(long, value_name = "HOST[:PORT]|URL", help_heading = HEADING_TARGET)]
    to: Option<Target>,

    /// Expect no replies from the target
    #[arg(long, conflicts_with_all = ["ramp", "loss_direction", "play", "jitter_buffer", "profile", "max_loss", "max_p50", "max_p99", "max_jitter"], help_heading = HEADING_TARGET)]
    no_echo: bool,

    /// Text to send over MOQT; `-` is standard input
    ///
    /// With `-`, each line is a text. Prints each text when the server's echo of the text arrives. The option can be repeated.
    #[arg(long, value_name = "TEXT", help_heading = HEADING_TARGET)]
    text: Vec<String>,

    /// Minimum interval between two texts
    // The default is the same as in the gomoqt echo client.
    #[arg(short, long, value_name = "DURATION", value_parser = parse_millis, default_value = "250ms", help_heading = HEADING_TARGET)]
    interval: Duration,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    capture: CaptureArgs,

    #[command(flatten)]
    playback: PlaybackArgs,

    #[command(flatten)]
    recording: RecordingArgs,

    #[command(flatten)]
    client: ClientArgs,
}

impl Args {
    /// Sends until finished or `stop` is requested.
    pub(crate) fn run(mut self, matches: &ArgMatches, color: ColorChoice, stop: &StopToken) -> Result<u8, Failure> {
        self.client.prepare_output(color);
        self.source.is_stereo = self.client.link.is_some();
        let result = self.run_plan(matches, stop);
        let to = self.to.as_ref().map(Target::to_string);
        result.map_err(|failure| self.client.report_failure(RunKind::Send, to, failure))
    }

    fn run_plan(&self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        let mut plan = if self.capture.list_devices {
            Plan::Local("--list-devices")
        } else {
            self.client.plan(RunKind::Send, self.to.as_ref(), StreamKind::Audio)?
        };
        if let Plan::Udp { no_echo, .. } = &mut plan {
            *no_echo = self.no_echo;
        }
        plan.check_options(RunKind::Send, matches)?;
        match plan {
            Plan::Udp { peer: UdpPeer::Room(url), .. } if self.client.clients.is_some() => {
                self.send_as_musicians(&url, stop)
            }
            Plan::Udp { peer, .. } => self.send_audio(&peer, stop),
            Plan::Moqt(to) => self.send_texts(to, stop),
            Plan::Replay(record) => self.client.replay(record, RunKind::Send),
            Plan::ListRooms(url) => self.client.room.print_rooms(&url, self.client.json, self.client.json_lines),
            Plan::Targets(..) | Plan::WebSocket(_) | Plan::RoomLoad(..) | Plan::Local(_) => {
                CaptureArgs::print_devices(self.client.json, self.client.json_lines)
            }
        }
    }

    /// Sends audio to `peer`.
    fn send_audio(&self, peer: &UdpPeer<'_>, stop: &StopToken) -> Result<u8, Failure> {
        if let Some(clients) = self.client.several_clients() {
            return self.send_from_clients(peer, clients, stop);
        }
        let (source, reader, PacketLayout { form, packets, .. }) = self.open_source()?;
        let form = self.packet_form(form)?;
        let mut target = self.client.connect(peer, "send", stop)?;
        let (speaker_observer, speaker) = self.playback.start(form, self.capture.device_buffer)?.unzip();
        let (recorder_queue, mut recorder) = self.recording.start(form, self.client.max_waveform_audio())?;
        let config = self.client.run_config((target.address, target.waited), StreamKind::Audio, !self.no_echo);
        let workload = AudioWorkload::new(form, source);
        let impairs_audio = self.no_echo && !matches!(peer, UdpPeer::Embedded);
        let rate = f64::from(form.sample_rate) / f64::from(form.frame_samples);
        let prepared = impairs_audio.then(|| self.client.impairment.prepare()).transpose()?;
        let (used, reproduce_options, outcome_log) = prepared.unwrap_or_default();
        let recorded = used.as_ref().and_then(|(impairment, _)| impairment.recorded.as_ref());
        if let Some(warning) = recorded.and_then(|recorded| recorded.rate_warning(rate)) {
            print_notice(&format!("--like: {warning}"));
        }
        target.name.extend(reproduce_options.map(|options| format!(" ({options})")));
        let client = ClientNode::new(config, workload, Box::new(())).with_link(target.link.take());
        let client = client.with_impaired_path(used.map(ImpairedPath::new));
        let (line_sender, monitor) =
            self.client.monitor_run(packets, client.plan(&target.name), client.live_figures())?;
        let client = client.with_observer(Box::new(((recorder_queue, speaker_observer), line_sender)));
        let mut finished = self.client.run_client(client, target, monitor, &mut recorder, stop)?;

        if let Some(Err(error)) = outcome_log.map(OutcomeLogFile::finish) {
            finished.error.get_or_insert(error);
        }
        finish_playback(speaker, &mut finished, stop);
        let device_lost = device_lost_error(&finished.run);
        RecordingArgs::finish(recorder, self.source_name(&finished.run), &mut finished);
        let error = &mut finished.error;
        // After an interrupt, do not wait for standard input, which may never end.
        let reader = reader.filter(|_| finished.run.interrupted.is_none());
        match reader.map_or(Ok(None), ReaderThread::join) {
            Ok(None) => {}
            Ok(Some(warning)) => {
                let warning = format!("{}: {warning}", self.source.short_name());
                finished.run.audio.iter_mut().for_each(|audio| audio.source_warning = Some(warning.clone()));
            }
            Err(cause) => *error = Some(anyhow!("cannot continue reading {}: {cause}", self.source.short_name())),
        }
        *error = device_lost.or(error.take());
        self.client.report(finished)
    }

    /// The form of the packets over a link, if there is one.
    fn packet_form(&self, mut form: AudioStreamConfig) -> Result<AudioStreamConfig, Failure> {
        let payload = form.frame_samples as usize * usize::from(form.channels) * 4;
        let mut datagram = payload + HEADER_LEN;
        if self.client.link.is_some() {
            form.first_sequence = 0;
            datagram += OVERHEAD;
        }
        ensure_usage!(
            datagram <= MAX_UDP_PAYLOAD,
            "--frame-size: a sealed packet does not fit in a datagram; give a smaller value"
        );
        if datagram > MAX_UNFRAGMENTED_PAYLOAD {
            print_notice(&format!(
                "packets with {payload} payload bytes do not fit in an Ethernet frame and are fragmented. Use a smaller --frame-size"
            ));
        }
        Ok(form)
    }

    /// Sends audio to `peer` from several clients, which all send the same.
    fn send_from_clients(&self, peer: &UdpPeer<'_>, clients: usize, stop: &StopToken) -> Result<u8, Failure> {
        ensure_usage!(
            !self.no_echo || self.client.impairment.prepare()?.0.is_none(),
            "--no-echo with impairment applies to one client; omit --clients"
        );
        let (source, PacketLayout { form, .. }) = self.source.open_shared(self.client.ramp)?;
        let form = self.packet_form(form)?;
        let interval = Duration::from_secs_f64(f64::from(form.frame_samples) / f64::from(form.sample_rate));
        let payload_len = form.frame_samples as usize * usize::from(form.channels) * 4;
        let packets = ProbeConfig { stream_kind: StreamKind::Audio, count: source.count, interval, payload_len };
        let workload = |_| AudioWorkload::new(form, Box::new(source.clone()));
        let finished = self.client.run_clients(peer, clients, (packets, !self.no_echo), workload, stop)?;
        self.client.report(finished)
    }

    /// Sends audio as members of a room. The tones are a semitone apart; a file is the same for all.
    fn send_as_musicians(&self, url: &SignalingUrl, stop: &StopToken) -> Result<u8, Failure> {
        // Newer clients expect two channels.
        let is_stereo = self.client.link.is_some() || url.is_for_newer_clients();
        let count = self.client.clients.unwrap_or(1);
        let sources = (0..count).map(|number| {
            let (source, _, PacketLayout { form, .. }) =
                open_payloads(&self.source.for_musician(number, count, is_stereo)?)?;
            Ok((source, form))
        });
        self.client.play_together(url, sources, stop)
    }

    /// Name of the source for reports, which do not contain folders of this machine.
    fn source_name(&self, run: &RunResults) -> String {
        let capture = run.audio.as_ref().and_then(|audio| audio.capture.as_ref());
        capture.map_or_else(|| self.source.short_name(), |capture| capture.device.clone())
    }

    /// Opens the source.
    fn open_source(&self) -> Result<OpenedSource, Failure> {
        if self.capture.mic.is_some() {
            let (microphone, layout) = self.capture.open(&self.source)?;
            return Ok((Box::new(microphone), None, layout));
        }
        open_payloads(&self.source)
    }

    /// Sends texts to the MOQT echo server `to` and prints the returned texts. If `to` is `None`, the embedded server is used.
    fn send_texts(&self, to: Option<&MoqtTarget>, stop: &StopToken) -> Result<u8, Failure> {
        ensure_usage!(
            !self.text.is_empty(),
            "nothing to send: give --text TEXT, or --text - for the lines of standard input. For audio, give a UDP target: \
             --to HOST[:PORT]"
        );
        let config = self.texts_config()?;
        let mut print = |text: &Bytes| print_text(text, stop);
        let print: Option<&mut dyn FnMut(&Bytes)> = if self.client.prints_json() { None } else { Some(&mut print) };
        let finished = self.client.run_moqt(RunKind::Send, to, config, print, stop)?;
        self.client.report_to_stderr(finished)
    }

    /// The queue of texts, with one group per text. Starts the thread that fills the queue.
    fn texts_config(&self) -> Result<MoqtClientConfig, Failure> {
        let stdin_count = self.text.iter().filter(|text| *text == STDIN_MARKER).count();
        ensure_usage!(stdin_count <= 1, "--text -: standard input can be read only once");
        for len in self.text.iter().map(String::len) {
            ensure_usage!(
                len <= MAX_BODY_BYTES,
                "--text: {len} bytes exceed the maximum of {MAX_BODY_BYTES} bytes per frame. Split the text"
            );
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

/// Opens a file or a tone.
fn open_payloads(source: &SourceArgs) -> Result<OpenedSource, Failure> {
    let (payloads, layout) = source.open()?;
    let (feed, reader) = read_ahead::spawn(payloads).context("cannot start a thread")?;
    if feed.is_empty() {
        drop(feed);
        return Err(match reader.join() {
            Err(error) => anyhow!("cannot read {}: {error}", source.name()),
            Ok(_) => anyhow!("nothing to send: {} contains no audio", source.name()),
        }
        .into());
    }
    Ok((Box::new(feed), Some(reader), layout))
}

/// An opened source, and the thread that reads the file or generates the tone.
type OpenedSource = (Box<dyn PayloadSource + Send>, Option<ReaderThread>, PacketLayout);

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
