//! What `send` plays: a file or a tone, brought into the form that is sent.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::Failure;
use super::args::Seconds;
use super::output::note;
use crate::audio::device_offer::Choice;
use crate::audio::mix::Channels;
use crate::audio::playback::{Input, Playback, Shape};
use crate::audio::tone::Tone;
use crate::audio::wav::{WavError, WavStream};
use crate::flow::Form;
use crate::time::nanos;
use crate::units::{self, Unit};
use crate::wire::{HEADER_LEN, MAX_DATAGRAM, SAMPLE_RATE};

const HEADING_AUDIO: &str = "Audio";

/// Loudness of a tone: -12 dBFS.
const TONE_AMPLITUDE: f32 = 0.25;
/// Options of what is played.
#[derive(Debug, clap::Args)]
pub struct SoundArgs {
    /// WAV file to send; - reads it from standard input
    #[arg(long, value_name = "FILE", conflicts_with = "mic", help_heading = HEADING_AUDIO)]
    wav: Option<PathBuf>,

    /// Send a sine tone of this frequency instead of a file
    #[arg(long, value_name = "HZ", value_parser = hertz, conflicts_with_all = ["wav", "mic"], help_heading = HEADING_AUDIO)]
    tone: Option<f64>,

    /// Stop after this much audio, in seconds or with a unit
    #[arg(long, value_name = "TIME", help_heading = HEADING_AUDIO)]
    duration: Option<Seconds>,

    /// Play the file this often, or forever
    #[arg(long, value_name = "N|forever", default_value = "1", conflicts_with_all = ["tone", "mic"], help_heading = HEADING_AUDIO)]
    repeat: Repeat,

    /// Samples a channel and packet, or milliseconds (2.5ms)
    #[arg(long, value_name = "SAMPLES|TIME", default_value = "128", help_heading = HEADING_AUDIO)]
    frame: Frame,

    /// Channels to send [default: as many as the file or the device has, at most 2]
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u16).range(1..=2), help_heading = HEADING_AUDIO)]
    channels: Option<u16>,

    /// Whether to bring the file to 48 kHz or send it at its own rate
    #[arg(long, value_name = "RATE", value_enum, default_value_t, conflicts_with_all = ["tone", "mic"], help_heading = HEADING_AUDIO)]
    resample: Resample,

    /// Sequence number of the first AUDIO packet
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = HEADING_AUDIO)]
    first_sequence: u32,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Resample {
    /// 48 kHz, what jamjam speaks
    #[default]
    #[value(name = "48k")]
    To48k,
    /// The file's own rate
    Native,
}

/// How often a file is played.
#[derive(Clone, Copy, Debug)]
enum Repeat {
    Times(u64),
    Forever,
}

impl FromStr for Repeat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "forever" => Ok(Self::Forever),
            number => match number.parse() {
                Ok(times) if times > 0 => Ok(Self::Times(times)),
                _ => Err("give a number from 1 on, or forever".to_owned()),
            },
        }
    }
}

/// A packet's length.
#[derive(Clone, Copy, Debug)]
enum Frame {
    Samples(u64),
    Time(Duration),
}

impl FromStr for Frame {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(samples) => Ok(Self::Samples(samples)),
            Err(_) => units::parse_duration(text, Unit::Millis)
                .map(Self::Time)
                .map_err(|_| "give samples, such as 128, or a time, such as 2.5ms".to_owned()),
        }
    }
}

impl Frame {
    /// Samples a channel at `rate`, if a datagram holds them.
    fn samples(self, rate: u32, channels: u16) -> Result<u32, Failure> {
        let samples = match self {
            Self::Samples(samples) => samples,
            Self::Time(time) => {
                u64::try_from(u128::from(rate) * u128::from(nanos(time)) / 1_000_000_000).unwrap_or(u64::MAX)
            }
        };
        let most = ((MAX_DATAGRAM - HEADER_LEN) / (4 * usize::from(channels))) as u64;
        if samples == 0 || samples > most {
            return Err(Failure::usage(format!(
                "--frame: a packet of {samples} samples; with {} 1 to {most} fit a datagram",
                if channels == 1 { "1 channel" } else { "2 channels" }
            )));
        }
        Ok(samples as u32)
    }
}

/// A file being read, from disk or from standard input.
pub type Reader = Box<dyn Read + Send>;

/// Sound, ready to be sent.
pub struct Sound {
    /// The payloads.
    pub playback: Playback<Reader>,
    /// Their form.
    pub form: Form,
    /// How many there are, where that is known.
    pub packets: Option<u64>,
}

/// How sound is cut into packets.
pub struct Cut {
    /// What is done to it.
    pub shape: Shape,
    /// Its form.
    pub form: Form,
    /// How many packets there are, where that is known.
    pub packets: Option<u64>,
}

impl SoundArgs {
    /// Opens the file or prepares the tone, and says what is done to it.
    pub fn open(&self) -> Result<Sound, Failure> {
        match (&self.wav, self.tone) {
            (Some(path), _) => self.open_file(path),
            (None, Some(hz)) => self.open_tone(hz),
            (None, None) => Err(Failure::usage("nothing to send: give --wav FILE, --tone HZ or --mic")),
        }
    }

    /// The file that is sent, with its option; `None` for a tone and for standard input.
    pub fn file(&self) -> Option<(&'static str, &Path)> {
        self.wav.as_deref().filter(|path| path.as_os_str() != "-").map(|path| ("--wav", path))
    }

    /// What is played, as messages call it.
    pub fn name(&self) -> String {
        match &self.wav {
            Some(path) if path.as_os_str() == "-" => "standard input".to_owned(),
            Some(path) => path.display().to_string(),
            None => "the tone".to_owned(),
        }
    }

    fn open_file(&self, path: &Path) -> Result<Sound, Failure> {
        let from_stdin = path.as_os_str() == "-";
        let name = self.name();
        if from_stdin && !matches!(self.repeat, Repeat::Times(1)) {
            return Err(Failure::usage("--repeat needs a file: standard input can be read only once"));
        }
        let unreadable = |error: WavError| Failure::unusable(anyhow!("cannot read {name}: {error}"));
        let stream = if from_stdin {
            WavStream::open(Box::new(io::stdin()) as Reader).map_err(unreadable)?
        } else {
            WavStream::open(open(path)?).map_err(unreadable)?
        };

        let format = *stream.format();
        let rate = match self.resample {
            Resample::To48k => SAMPLE_RATE,
            Resample::Native => format.sample_rate,
        };
        let channels = match self.channels {
            Some(1) => Channels::Mono,
            Some(_) => Channels::Stereo,
            None => Channels::natural(format.channels),
        };
        note(&format!("{name}: {format}"));
        if format.is_lossy() {
            note("integers of more than 24 bits are rounded to 32-bit floats");
        }
        note_mixing(format.channels, channels);
        if format.sample_rate != rate {
            note(&format!(
                "resampled from {} Hz to {rate} Hz; --resample native sends it as it is",
                format.sample_rate
            ));
        }

        let (mut passes, path) = (self.repeat, path.to_owned());
        let expected = format;
        let again = Box::new(move || {
            match &mut passes {
                Repeat::Forever => {}
                Repeat::Times(left) => *left -= 1,
            }
            if let Repeat::Times(0) = passes {
                return None;
            }
            let file = File::open(&path).map_err(WavError::from);
            let next = file.and_then(|file| WavStream::open(Box::new(BufReader::new(file)) as Reader));
            // The samples of another file would be misread.
            Some(next.and_then(|next| if *next.format() == expected { Ok(next) } else { Err(WavError::Replaced) }))
        });
        let times = match self.repeat {
            Repeat::Times(times) => Some(times),
            Repeat::Forever => None,
        };
        let input_samples = format.frames.zip(times).map(|(frames, times)| frames.saturating_mul(times));
        let samples = input_samples.map(|samples| {
            u64::try_from((u128::from(samples) * u128::from(rate)).div_ceil(u128::from(format.sample_rate)))
                .unwrap_or(u64::MAX)
        });
        self.play(Input::Wav { stream, again }, (format.sample_rate, format.channels), rate, channels, samples)
    }

    fn open_tone(&self, hz: f64) -> Result<Sound, Failure> {
        let channels = if self.channels == Some(2) { Channels::Stereo } else { Channels::Mono };
        let tone = Tone::new(hz, SAMPLE_RATE, channels.count(), TONE_AMPLITUDE);
        self.play(Input::Tone(tone), (SAMPLE_RATE, channels.count()), SAMPLE_RATE, channels, None)
    }

    fn play(
        &self,
        input: Input<Reader>,
        of_input: (u32, u16),
        rate: u32,
        channels: Channels,
        samples: Option<u64>,
    ) -> Result<Sound, Failure> {
        let Cut { shape, form, packets } = self.cut(of_input, rate, channels, samples)?;
        let playback = Playback::new(input, shape).context(self.name()).map_err(Failure::unusable)?;
        Ok(Sound { playback, form, packets })
    }

    /// How many channels are asked for.
    pub fn channels(&self) -> Option<u16> {
        self.channels
    }

    /// How an input of that rate and so many channels is sent. `samples`: how many a channel there are at `rate`, where that is
    /// known.
    pub fn cut(
        &self,
        (input_rate, input_channels): (u32, u16),
        rate: u32,
        channels: Channels,
        samples: Option<u64>,
    ) -> Result<Cut, Failure> {
        let frame_samples = self.frame.samples(rate, channels.count())?;
        let most_samples = self.duration.map(|Seconds(time)| {
            u64::try_from(u128::from(rate) * u128::from(nanos(time)) / 1_000_000_000).unwrap_or(u64::MAX)
        });
        if most_samples == Some(0) {
            return Err(Failure::usage("--duration: nothing to send, not one sample is as short as that"));
        }
        let shape =
            Shape { input_rate, input_channels, rate, channels, frame_samples: frame_samples as usize, most_samples };
        let form =
            Form { sample_rate: rate, channels: channels.count(), frame_samples, first_sequence: self.first_sequence };
        let samples = samples.into_iter().chain(most_samples).min();
        let packets = samples.map(|samples| samples.div_ceil(u64::from(frame_samples)));
        Ok(Cut { shape, form, packets })
    }
}

/// Says how a device was opened that was to take or deliver `wished` frames at a time, was `asked` for so many, and has `told` how many.
pub fn note_device(doing: &str, choice: &Choice, wished: u32, (asked, told): (u32, Option<u32>)) {
    let Choice { format, channels, rate, .. } = choice;
    let frames = told.unwrap_or(asked);
    let s = |n: u32| if n == 1 { "" } else { "s" };
    note(&format!(
        "{doing}: {}, {channels} channel{}, {rate} Hz, {frames} frame{} at a time",
        format.name(),
        s((*channels).into()),
        s(frames)
    ));
    if frames != wished {
        note(&format!("it was to be {wished} frame{} at a time, and the device does not offer that", s(wished)));
    }
}

/// Says what happens to the channels of an input.
pub fn note_mixing(input: u16, channels: Channels) {
    match input {
        same if same == channels.count() => {}
        1 => note("the one channel is sent twice, as stereo"),
        many => note(&format!("{many} channels are mixed to {}", channels.count())),
    }
}

/// Reads the frequency of a tone that can be sent.
fn hertz(text: &str) -> Result<f64, String> {
    let highest = SAMPLE_RATE / 2;
    let audible = |hz: &f64| *hz > 0.0 && *hz <= f64::from(highest);
    text.parse()
        .ok()
        .filter(audible)
        .ok_or_else(|| format!("give a frequency above 0 and up to {highest} Hz, such as 440"))
}

fn open(path: &Path) -> Result<Reader, Failure> {
    let file =
        File::open(path).with_context(|| format!("cannot open {}", path.display())).map_err(Failure::unusable)?;
    Ok(Box::new(BufReader::new(file)))
}
