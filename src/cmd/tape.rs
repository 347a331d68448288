//! What `send` keeps of the sound that leaves and comes back: `--record` and `--record-both`.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::Failure;
use super::output::note;
use crate::audio::pcm_out::SampleFormat;
use crate::flow::Form;
use crate::flow::run::AudioRun;
use crate::io::tape::{self, Both, Head, Hearers, Recording, Tape};

const HEADING_RECORD: &str = "Recording";

/// Options of what is kept.
#[derive(Debug, clap::Args)]
pub struct TapeArgs {
    #[command(flatten)]
    recordings: Recordings,

    /// Samples of those files
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, requires = "recordings", help_heading = HEADING_RECORD)]
    record_format: RecordFormat,
}

#[derive(Debug, clap::Args)]
#[group(id = "recordings", multiple = true)]
struct Recordings {
    /// Write what comes back as a WAV file, with silence where nothing came
    #[arg(long, value_name = "FILE", help_heading = HEADING_RECORD)]
    record: Option<PathBuf>,

    /// Write a stereo WAV file: left what is sent, right what comes back for it, without the delay; stereo sound is mixed to its mean
    #[arg(long, value_name = "FILE", help_heading = HEADING_RECORD)]
    record_both: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum RecordFormat {
    /// 32-bit floats: exactly what was sent and came back
    #[default]
    F32,
    /// 16-bit integers
    S16,
    /// 24-bit integers
    S24,
}

impl TapeArgs {
    /// The files that are written, each with its option.
    pub fn written(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let all = [("--record", &self.recordings.record), ("--record-both", &self.recordings.record_both)];
        all.into_iter().filter_map(|(option, file)| Some((option, file.as_deref()?)))
    }

    /// Creates the files and starts to listen, if anything is to be kept.
    pub fn start(&self, form: Form) -> Result<(Option<Head>, Option<Tape>), Failure> {
        let format = match self.record_format {
            RecordFormat::F32 => SampleFormat::F32,
            RecordFormat::S16 => SampleFormat::S16,
            RecordFormat::S24 => SampleFormat::S24,
        };
        let Recordings { record, record_both } = &self.recordings;
        let cannot = |path: &Path| format!("cannot write the recording to {}", path.display());
        let mut hearers = Hearers::default();
        if let Some(path) = record {
            let recording = Recording::create(path, format, form).with_context(|| cannot(path));
            hearers.recording = Some(recording.map_err(Failure::unusable)?);
        }
        if let Some(path) = record_both {
            let both = Both::create(path, format, form).with_context(|| cannot(path)).map_err(Failure::unusable)?;
            hearers.both = Some(both);
            if form.channels > 1 {
                note("--record-both: each side is the mean of its channels");
            }
        }
        if !hearers.any() {
            return Ok((None, None));
        }
        let (head, tape) = tape::start(hearers, form).context("cannot start a thread").map_err(Failure::unusable)?;
        Ok((Some(head), Some(tape)))
    }
}

/// Completes what was kept of a run that has ended, and enters it. Hands back what went wrong first.
pub fn finish(tape: Option<Tape>, audio: &mut AudioRun) -> Option<anyhow::Error> {
    let (Hearers { recording, both }, dropped) = tape?.finish();
    let mut broken = None;
    let unfinished = |error| anyhow!("cannot write the recording: {error}");
    if let Some(recording) = recording {
        match recording.finish(audio.sent_samples) {
            Ok(kept) => {
                audio.recorded_samples = Some(kept.samples);
                audio.record_dropped = kept.left_out + dropped.returned;
            }
            Err(error) => broken = Some(unfinished(error)),
        }
    }
    if let Some(both) = both {
        match both.finish(audio.sent_samples) {
            Ok(kept) => {
                audio.recorded_both_samples = Some(kept.samples);
                audio.record_both_dropped = kept.left_out + dropped.sent + dropped.returned;
            }
            Err(error) => broken = broken.or(Some(unfinished(error).context("--record-both"))),
        }
    }
    broken
}
