//! `jamjam-dev send`: plays audio to an echo server as a jamjam client does, and judges what comes back.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::Failure;
use super::args::{Colour, Millis, Seconds};
use super::client::{ClientArgs, Peer};
use super::lines::{self, LineQueue};
use super::target::Target;
use crate::audio::mix::Channels;
use crate::audio::pcm_out::SampleFormat;
use crate::audio::playback::{Input, Playback, Shape};
use crate::audio::tone::Tone;
use crate::audio::wav::{WavError, WavStream};
use crate::echo::DEFAULT_DELAY;
use crate::flow::run::StreamKind;
use crate::flow::{Client, Fact, Form, Observer, Sending, Terms};
use crate::io::record::{self, Recorder, Recording};
use crate::io::stop::Stop;
use crate::io::feed;
use crate::time::nanos;
use crate::units::{self, Unit};
use crate::wire::{HEADER_LEN, MAX_DATAGRAM};

const HEADING_TARGET: &str = "Target";
const HEADING_AUDIO: &str = "Audio";
const HEADING_RECORD: &str = "Recording";

/// What jamjam speaks.
const RATE: u32 = 48_000;
/// Loudness of a tone: -12 dBFS.
const TONE_AMPLITUDE: f32 = 0.25;
/// What an Ethernet frame carries, less the IPv4 and UDP headers.
const UNFRAGMENTED: usize = 1_500 - 20 - 8;

/// Send a WAV file or a tone as paced AUDIO packets, and judge what comes back
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Echo server or client to send to
    #[arg(long, value_name = "HOST[:PORT]", help_heading = HEADING_TARGET, required_unless_present = "embedded")]
    to: Option<Target>,

    /// The target does not answer: send, and expect nothing back
    #[arg(long, help_heading = HEADING_TARGET)]
    no_echo: bool,

    /// WAV file to send; - reads it from standard input
    #[arg(long, value_name = "FILE", required_unless_present = "tone", help_heading = HEADING_AUDIO)]
    wav: Option<PathBuf>,

    /// Send a sine tone of this frequency instead of a file
    #[arg(long, value_name = "HZ", conflicts_with = "wav", help_heading = HEADING_AUDIO)]
    tone: Option<f64>,

    /// Stop after this much audio
    #[arg(long, value_name = "TIME", help_heading = HEADING_AUDIO)]
    duration: Option<Seconds>,

    /// Play the file this often, or forever
    #[arg(long, value_name = "N|forever", default_value = "1", help_heading = HEADING_AUDIO)]
    repeat: Repeat,

    /// Samples a channel and packet, or milliseconds (2.5ms)
    #[arg(long, value_name = "SAMPLES|TIME", default_value = "128", help_heading = HEADING_AUDIO)]
    frame: Frame,

    /// Channels to send [default: as many as the file has, at most 2]
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u16).range(1..=2), help_heading = HEADING_AUDIO)]
    channels: Option<u16>,

    /// Whether to bring the file to 48 kHz or send it at its own rate
    #[arg(long, value_name = "RATE", value_enum, default_value_t, help_heading = HEADING_AUDIO)]
    resample: Resample,

    /// Sequence number of the first AUDIO packet
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = HEADING_AUDIO)]
    first_sequence: u32,

    /// Write what comes back as a WAV file, with silence where nothing came
    #[arg(long, value_name = "FILE", help_heading = HEADING_RECORD)]
    record: Option<PathBuf>,

    /// Samples of that file
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, requires = "record", help_heading = HEADING_RECORD)]
    record_format: RecordFormat,

    #[command(flatten)]
    client: ClientArgs,
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

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum RecordFormat {
    /// 32-bit floats: exactly what came back
    #[default]
    F32,
    /// 16-bit integers
    S16,
    /// 24-bit integers
    S24,
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
            Err(_) => units::parse_duration(text, Unit::Millis).map(Self::Time).map_err(|error| error.to_string()),
        }
    }
}

impl Frame {
    /// Samples a channel at `rate`, if a datagram holds them.
    fn samples(self, rate: u32, channels: u16) -> Result<u32, Failure> {
        let samples = match self {
            Self::Samples(samples) => samples,
            Self::Time(time) => u64::try_from(u128::from(rate) * u128::from(nanos(time)) / 1_000_000_000).unwrap_or(u64::MAX),
        };
        let most = ((MAX_DATAGRAM - HEADER_LEN) / (4 * usize::from(channels))) as u64;
        if samples == 0 || samples > most {
            return Err(Failure::usage(format!(
                "--frame: a packet of {samples} samples; 1 to {most} fit a datagram with {channels} channel(s)"
            )));
        }
        Ok(samples as u32)
    }
}
