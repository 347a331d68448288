//! What `send` keeps of the sound that leaves and comes back: `--record`, `--record-both` and the pictures of `--html`.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::Failure;
use super::args::written_file;
use super::client::{Ended, HEADING_REPORT};
use super::output::note;
use super::report_files::{self, Page};
use crate::audio::pcm_out::SampleFormat;
use crate::audio::picture::Picture;
use crate::flow::Form;
use crate::heard::{Ear, Shape};
use crate::io::tape::{self, Both, Head, Hearers, Recording, Tape};
use crate::report::html;

const HEADING_RECORD: &str = "Recording";

/// Options of what is kept.
#[derive(Debug, clap::Args)]
pub struct TapeArgs {
    #[command(flatten)]
    recordings: Recordings,

    /// Samples of those files
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, requires = "recordings", help_heading = HEADING_RECORD)]
    record_format: RecordFormat,

    /// Also write the report to this file, as a page with the sound of both sides to look at and, while it is short, to listen to
    #[arg(long, value_name = "FILE", value_parser = written_file(), help_heading = HEADING_REPORT)]
    html: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[group(id = "recordings", multiple = true)]
struct Recordings {
    /// Write what comes back as a WAV file, with silence where nothing came
    #[arg(long, value_name = "FILE", value_parser = written_file(), help_heading = HEADING_RECORD)]
    record: Option<PathBuf>,

    /// Write a stereo WAV file: left what is sent, right what comes back for it, without the delay; stereo sound is mixed to its mean
    #[arg(long, value_name = "FILE", value_parser = written_file(), help_heading = HEADING_RECORD)]
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
        let Recordings { record, record_both } = &self.recordings;
        let all = [("--record", record), ("--record-both", record_both), ("--html", &self.html)];
        all.into_iter().filter_map(|(option, file)| Some((option, file.as_deref()?)))
    }

    /// Finds what would stand in the way of the page, and removes that of an earlier run.
    pub fn prepare(&self) -> Result<(), Failure> {
        self.html.as_deref().map_or(Ok(()), |file| report_files::prepare("--html", file))
    }

    /// Creates the recordings and starts to listen.
    pub fn start(&self, form: Form) -> Result<(Head, Tape), Failure> {
        let format = match self.record_format {
            RecordFormat::F32 => SampleFormat::F32,
            RecordFormat::S16 => SampleFormat::S16,
            RecordFormat::S24 => SampleFormat::S24,
        };
        let Recordings { record, record_both } = &self.recordings;
        let cannot = |path: &Path| format!("cannot write the recording to {}", path.display());
        let Form { sample_rate: rate, channels, frame_samples, .. } = form;
        let ear = Ear::new(Shape { rate, channels, frame_samples });
        let mut hearers = Hearers { recording: None, both: None, picture: None, ear };
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
        if self.html.is_some() {
            hearers.picture = Some(Picture::new(rate, channels, frame_samples, html::MOST_SOUND));
        }
        tape::start(hearers, form).context("cannot start a thread").map_err(Failure::unusable)
    }

    /// Completes what was kept of a run that has ended, and enters it. `name` is what was sent, as a person would call it. What went
    /// wrong goes before what was broken already.
    pub fn finish(&self, tape: Tape, name: String, ended: &mut Ended) {
        let Some(audio) = &mut ended.run.audio else { return };
        let (Hearers { recording, both, picture, ear }, dropped) = tape.finish();
        audio.heard = Some(ear.finish());
        audio.heard_dropped = dropped.sent + dropped.returned + dropped.changed + dropped.missing;
        let unfinished = |option, error| Some(anyhow!("cannot write the recording: {error}").context(option));
        let mut broken = None;
        if let Some(recording) = recording {
            match recording.finish(audio.sent_samples) {
                Ok(kept) => {
                    audio.recorded_samples = Some(kept.samples);
                    audio.record_dropped = kept.left_out + dropped.returned;
                }
                Err(error) => broken = unfinished("--record", error),
            }
        }
        if let Some(both) = both {
            match both.finish(audio.sent_samples) {
                Ok(kept) => {
                    audio.recorded_both_samples = Some(kept.samples);
                    audio.record_both_dropped = kept.left_out + dropped.sent + dropped.returned;
                }
                Err(error) => broken = broken.or(unfinished("--record-both", error)),
            }
        }
        ended.broken = broken.or(ended.broken.take());
        let page = self.html.clone().zip(picture);
        let left_out = dropped.sent + dropped.returned + dropped.missing;
        ended.page = page.map(|(file, picture)| Page { file, name, picture, left_out });
    }
}
