//! Outputs for the returned audio of `send`: playback, WAV recordings, and waveforms of the HTML report.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::audio_source::print_device_format;
use super::client::FinishedRun;
use super::file_arguments::{OutputFile, output_file_parser};
use super::output::print_notice;
use super::values::duration_in;
use crate::audio::jitter_buffer::MAX_JITTER_ALLOWANCE;
use crate::audio::quality::{Analyzer, PacketFormat};
use crate::client::{AudioPicture, AudioStreamConfig};
use crate::io::recorder::{self, AudioSinks, Recorder, RecorderDrops, RecorderQueue, Recording};
use crate::io::sound::{self, DeviceDirection, Speaker, SpeakerObserver};
use crate::io::stop::StopToken;
use crate::stats::Counter;
use crate::waveform::Waveform;

const HEADING: &str = "Returned audio";

/// The default size of the device buffer is at least this number of frames.
const MIN_DEVICE_BUFFER_FRAMES: u32 = 256;

#[derive(clap::Args)]
pub(crate) struct PlaybackArgs {
    /// Play the returned audio on an output device
    ///
    /// If you also send from a microphone, wear headphones to avoid feedback. DEVICE is a number or a unique part of a name from
    /// `jamjam-dev devices`. Without DEVICE, the default device is used.
    #[arg(long, value_name = "DEVICE", num_args = 0..=1, require_equals = true, help_heading = HEADING)]
    #[expect(clippy::option_option, reason = "the value of the option is optional")]
    play: Option<Option<String>>,

    /// Time to wait for slow packets: 0 to 1s or auto
    ///
    /// A packet that is slower than the fastest packets by more than this time can arrive too late to be
    /// played. With auto, the value adapts to recent packets.
    #[arg(long, hide_short_help = true, value_name = "DURATION|auto", value_parser = parse_jitter_buffer, default_value = "auto", requires = "play", help_heading = HEADING)]
    jitter_buffer: OrAuto,
}

/// A duration, or `auto`, which is `None`. clap treats a field of the type `Option` as an option that may be omitted.
type OrAuto = Option<Duration>;

/// Parses the delay allowed for a packet, relative to the fastest packets. Slower packets can arrive too late to be played. With `auto`, it
/// adapts to the delays of recent packets.
fn parse_jitter_buffer(text: &str) -> Result<OrAuto, String> {
    if text == "auto" {
        return Ok(None);
    }
    duration_in("ms", ..=MAX_JITTER_ALLOWANCE, "give at most 1s, or \"auto\"")(text).map(Some)
}

impl PlaybackArgs {
    /// Opens the device for --play and prints its format. The device plays silence until the audio of the first returned packet is due.
    /// `device_buffer` is the size of the device buffer from the options.
    pub(crate) fn start(
        &self,
        form: AudioStreamConfig,
        device_buffer: Option<u32>,
    ) -> anyhow::Result<Option<(SpeakerObserver, Speaker)>> {
        let Some(device) = &self.play else { return Ok(None) };
        let device = device.as_deref().unwrap_or_default();
        let device = sound::select_device(DeviceDirection::Output, device, form.sample_rate).context("--play")?;
        let (name, config) = (device.name.clone(), device.config);
        let packet_frames = u64::from(form.frame_samples) * u64::from(config.rate) / u64::from(form.sample_rate.max(1));
        let requested =
            device_buffer.unwrap_or(MIN_DEVICE_BUFFER_FRAMES.max(u32::try_from(packet_frames).unwrap_or(u32::MAX)));
        let (observer, speaker) = device.open_speaker(form, self.jitter_buffer, requested).context("--play")?;
        print_device_format(&format!("playing on {name}"), &config, requested, speaker.buffer_frames);
        if config.rate != form.sample_rate {
            print_notice(&format!("returned audio is resampled from {} Hz to {} Hz", form.sample_rate, config.rate));
        }
        Ok(Some((observer, speaker)))
    }
}

/// Waits for the end of the playback and adds its statistics to the run.
pub(crate) fn finish_playback(speaker: Option<Speaker>, finished: &mut FinishedRun, stop: &StopToken) {
    let Some(playback) = speaker.map(|speaker| speaker.finish(stop)) else { return };
    if let Some(reason) = &playback.failure {
        let error = anyhow!("{} was lost: {reason}; the returned audio was not played to the end", playback.device);
        finished.error.get_or_insert(error);
    }
    if let Some(audio) = &mut finished.run.audio {
        audio.playback = Some(playback);
    }
}

#[derive(clap::Args)]
pub(crate) struct RecordingArgs {
    /// Write the returned audio to this WAV file
    ///
    /// Lost packets become silence.
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING)]
    record: Option<OutputFile>,

    /// Write sent (left) and returned (right) audio to this WAV file
    ///
    /// In the file, each returned packet starts at the same time as the matching sent packet. Stereo audio is mixed to mono first.
    #[arg(long, hide_short_help = true, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING)]
    record_both: Option<OutputFile>,
}

impl RecordingArgs {
    /// Creates the recordings and starts the recorder thread. With `max_waveform_audio`, there are waveforms, which contain the audio itself if
    /// it is not longer than this number of bytes.
    pub(crate) fn start(
        &self,
        form: AudioStreamConfig,
        max_waveform_audio: Option<usize>,
    ) -> anyhow::Result<(RecorderQueue, Recorder)> {
        let write_error = |path: &Path| format!("cannot write the recording to {}", path.display());
        let AudioStreamConfig { sample_rate, channels, frame_samples, .. } = form;
        let analyzer = Analyzer::new(PacketFormat { sample_rate, channels, frame_samples });
        let waveform = max_waveform_audio.map(|bytes| Waveform::new(sample_rate, channels, frame_samples, bytes));
        let mut sinks = AudioSinks { recording: None, both_recording: None, waveform, analyzer };
        if let Some(path) = &self.record {
            sinks.recording = Some(Recording::of_returned(path, form).with_context(|| write_error(path))?);
        }
        if let Some(path) = &self.record_both {
            sinks.both_recording = Some(Recording::of_both(path, form).with_context(|| write_error(path))?);
            if form.channels > 1 {
                print_notice("--record-both: sent and returned audio are each mixed to mono");
            }
        }
        recorder::spawn(sinks, form).context("cannot start a thread")
    }

    /// Completes the recordings and adds their statistics and the audio quality to the run. `name` is the name of the audio source. A
    /// recording error takes precedence over an earlier error of the run.
    pub(crate) fn finish(recorder: Recorder, name: String, finished: &mut FinishedRun) {
        let Some(audio) = &mut finished.run.audio else { return };
        let (AudioSinks { recording, both_recording, waveform, analyzer }, dropped) = recorder.finish();
        let RecorderDrops { sent, returned, damaged, lost } = &*dropped;
        let [sent, returned, damaged, lost] = [sent, returned, damaged, lost].map(Counter::get);
        audio.quality = Some(analyzer.finish());
        audio.quality_dropped = sent + returned + damaged + lost;
        let mut error = None;
        let sent_samples = audio.sent_samples;
        let mut finish = |option, recording: Option<Recording>, dropped| match recording?.finish(sent_samples) {
            Ok(file) => Some((file.samples, file.packets_left_out + dropped)),
            Err(cause) => {
                error.get_or_insert(anyhow!("cannot write the recording: {cause}").context(option));
                None
            }
        };
        let (samples, missing) = finish("--record", recording, returned).unzip();
        (audio.recorded_samples, audio.recording_dropped) = (samples, missing.unwrap_or(0));
        let (samples, missing) = finish("--record-both", both_recording, sent + returned).unzip();
        (audio.recorded_both_samples, audio.recording_both_dropped) = (samples, missing.unwrap_or(0));
        finished.error = error.or(finished.error.take());
        let missing_packets = sent + returned + lost;
        finished.picture = waveform.map(|waveform| AudioPicture { name, waveform, missing_packets });
    }
}
