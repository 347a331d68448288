//! `jamjam-dev send`: sends audio like a jamjam client, and evaluates the replies.

use anyhow::anyhow;
use clap::{ArgGroup, ArgMatches};

use super::audio_output::{PlaybackArgs, RecordingArgs, finish_playback};
use super::audio_source::{
    CaptureArgs, ExtentArgs, OpenedSource, PacketLayout, SOUND_DEVICE_GROUP, SOURCE_GROUP, SourceArgs,
    device_lost_error, open_payloads, packet_form,
};
use super::client::FinishedRun;
use super::client::udp::{NOT_WITH_A_HOST, PeerArgs, UdpArgs};
use super::file_arguments::InputFile;
use super::options::credentials::HEADING_TLS;
use super::options::impairment::{self, ImpairmentArgs};
use super::options::measurement::{NetworkArgs, SpinArgs};
use super::options::report::PacketReportArgs;
use super::output::{Failure, HEADING_TARGET, ensure_usage};
use super::target::{Endpoint, parse_udp_target};
use crate::client::{AudioWorkload, ClientNode, RunResults, StreamKind};
use crate::io::read_ahead::ReaderThread;
use crate::io::stop::StopToken;

/// Send a WAV file, a tone or a microphone as audio (AUDIO); evaluate the replies
#[derive(clap::Args)]
#[command(group(ArgGroup::new(SOURCE_GROUP).args(["file", "wav", "tone", "mic"]).required(true)))]
#[command(group(ArgGroup::new(SOUND_DEVICE_GROUP).args(["mic", "play"]).multiple(true)))]
#[command(mut_arg("wav", |arg| arg.hide_short_help(true).help("WAV file to send, the same as FILE")))]
#[command(mut_args(|arg| match arg.get_help_heading() {
    Some(HEADING_TLS) => arg.requires("room"),
    Some(impairment::HEADING) => impairment::of_embedded_server(arg).conflicts_with("to"),
    _ => arg,
}))]
pub(crate) struct Args {
    /// WAV file to send, or `-` for standard input
    #[arg(value_name = "FILE")]
    file: Option<InputFile>,

    /// Echo server or jamjam client [default: 127.0.0.1:5000]
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse_udp_target, conflicts_with_all = NOT_WITH_A_HOST, help_heading = HEADING_TARGET)]
    to: Option<Endpoint>,

    /// Expect no replies from the target
    #[arg(long, hide_short_help = true, conflicts_with_all = ["loss_direction", "play", "jitter_buffer"], help_heading = HEADING_TARGET)]
    no_echo: bool,

    #[command(flatten)]
    udp: UdpArgs,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    extent: ExtentArgs,

    #[command(flatten)]
    capture: CaptureArgs,

    #[command(flatten)]
    playback: PlaybackArgs,

    #[command(flatten)]
    recording: RecordingArgs,

    #[command(flatten)]
    peer: PeerArgs,

    #[command(flatten)]
    impairment: ImpairmentArgs,

    #[command(flatten)]
    report: PacketReportArgs,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    spin: SpinArgs,
}

impl Args {
    /// Sends until finished or `stop` is requested.
    pub(crate) fn run(mut self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        self.source.wav = self.file.take().or(self.source.wav);
        self.source.extent = self.extent;
        self.source.is_stereo = self.udp.link.is_some();
        let target = || self.peer.name(self.to.as_ref().map(Endpoint::to_string));
        self.report.run(target, || self.send(matches, stop))
    }

    fn send(&self, matches: &ArgMatches, stop: &StopToken) -> Result<FinishedRun, Failure> {
        let has_limits = self.report.limits().any();
        ensure_usage!(!self.no_echo || !has_limits, "--no-echo: no limit can be judged without replies");
        let (impairment, local) = (self.impairment.checked()?, (self.network.socket_options(), self.spin.spin));
        let client = self.peer.client(self.to.as_ref(), impairment, self.udp, local, matches)?;
        let (source, reader, PacketLayout { form, packets, .. }) = self.open_source()?;
        let form = packet_form(form, self.udp.link.is_some())?;
        self.report.report.files.prepare(stop)?;
        let mut target = client.connect(stop)?;
        let (speaker_observer, speaker) = self.playback.start(form, self.capture.device_buffer)?.unzip();
        let (recorder_queue, mut recorder) = self.recording.start(form, self.report.max_waveform_audio())?;
        let config = client.run_config((target.address, target.waited), StreamKind::Audio, !self.no_echo);
        let workload = AudioWorkload::new(form, source);
        let node = ClientNode::new(config, workload, Box::new(())).with_link(target.link.take());
        let (line_sender, monitor) = self.report.monitor_run(packets, node.plan(&target.name), node.live_figures())?;
        let node = node.with_observer(Box::new(((recorder_queue, speaker_observer), line_sender)));
        let mut finished = client.run(node, target, monitor, &mut recorder, stop)?;

        finish_playback(speaker, &mut finished, stop);
        let device_lost = device_lost_error(&finished.run);
        RecordingArgs::finish(recorder, self.source_name(&finished.run), &mut finished);
        self.finish_source(reader, &mut finished.run, &mut finished.error);
        finished.error = device_lost.or(finished.error.take());
        Ok(finished)
    }

    fn open_source(&self) -> Result<OpenedSource, Failure> {
        if self.capture.mic.is_some() {
            let (microphone, layout) = self.capture.open(&self.source)?;
            return Ok((Box::new(microphone), None, layout));
        }
        open_payloads(&self.source)
    }

    /// Adds what is wrong with the source to the run, or its `error`.
    fn finish_source(&self, reader: Option<ReaderThread>, run: &mut RunResults, error: &mut Option<anyhow::Error>) {
        // After an interrupt, do not wait for standard input, which may never end.
        let reader = reader.filter(|_| run.interrupted.is_none());
        let name = self.source.short_name();
        match reader.map_or(Ok(None), ReaderThread::join) {
            Ok(None) => {}
            Ok(Some(warning)) => {
                run.audio.iter_mut().for_each(|audio| audio.source_warning = Some(format!("{name}: {warning}")));
            }
            Err(cause) => *error = Some(anyhow!("cannot continue reading {name}: {cause}")),
        }
    }

    /// Name of the source for reports, which do not contain folders of this machine.
    fn source_name(&self, run: &RunResults) -> String {
        let capture = run.audio.as_ref().and_then(|audio| audio.capture.as_ref());
        capture.map_or_else(|| self.source.short_name(), |capture| capture.device.clone())
    }
}
