//! What `send` does with the sound that comes back beside judging it: playing it on a loudspeaker.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;

use super::Failure;
use super::args::Millis;
use super::client::Ended;
use super::output::note;
use super::sound::note_device;
use crate::flow::Form;
use crate::io::sound::{self, Direction, Returning, Speaker};
use crate::io::stop::Stop;
use crate::playout::MOST_ALLOWANCE;

const HEADING_PLAY: &str = "Playing";

/// Frames that a device is asked to take at a time, at least.
const BUFFER: u32 = 256;

/// Frames that any device may be asked for at a time: more than a second of sound is no monitoring any more.
pub const MOST_BUFFER: i64 = 65_536;

/// Options of what is played.
#[derive(Debug, clap::Args)]
pub struct PlayArgs {
    /// Play what comes back on a loudspeaker, or another output device: use headphones beside a microphone
    #[arg(long, conflicts_with = "no_echo", help_heading = HEADING_PLAY)]
    play: bool,

    /// Which one: its number or name in --list-devices, or a part of that which no other has [default: the system's]
    #[arg(long, value_name = "NAME|INDEX", requires = "play", conflicts_with = "no_echo", help_heading = HEADING_PLAY)]
    play_device: Option<String>,

    /// How many frames to ask the device to take at a time [default: 256, or as many as --frame if that is more]
    #[arg(long, value_name = "FRAMES", requires = "play", conflicts_with = "no_echo", value_parser = clap::value_parser!(u32).range(1..=MOST_BUFFER), help_heading = HEADING_PLAY)]
    play_buffer: Option<u32>,

    /// How much later than the quickest packets one may come and still be played, up to 1s; "auto": as the latest packets show
    #[arg(long, value_name = "MS|auto", default_value_t, requires = "play", conflicts_with = "no_echo", help_heading = HEADING_PLAY)]
    jitter_buffer: JitterBuffer,
}

/// What late packets are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum JitterBuffer {
    /// As much as is needed.
    #[default]
    Auto,
    /// So much.
    Fixed(Duration),
}

impl FromStr for JitterBuffer {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let Millis(allowance) = text.parse().map_err(|error| format!("{error}, or \"auto\""))?;
        if allowance > MOST_ALLOWANCE {
            return Err(format!("at most {MOST_ALLOWANCE:?}: what comes later than that is no music any more"));
        }
        Ok(Self::Fixed(allowance))
    }
}

impl fmt::Display for JitterBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(allowance) => Millis(*allowance).fmt(f),
        }
    }
}

impl PlayArgs {
    /// Opens the device, if one is to be played on, and says what it takes. It plays silence until something comes.
    pub fn start(&self, form: Form) -> Result<Option<(Returning, Speaker)>, Failure> {
        if !self.play {
            return Ok(None);
        }
        let unusable = |error| Failure::unusable(anyhow::Error::from(error).context("--play"));
        let found =
            sound::find(Direction::Output, self.play_device.as_deref(), None, form.sample_rate).map_err(unusable)?;
        let (name, choice) = (found.name().to_owned(), *found.choice());
        let in_device = u64::from(form.frame_samples) * u64::from(choice.rate) / u64::from(form.sample_rate.max(1));
        let wished = self.play_buffer.unwrap_or(BUFFER.max(u32::try_from(in_device).unwrap_or(u32::MAX)));
        let allowance = match self.jitter_buffer {
            JitterBuffer::Auto => None,
            JitterBuffer::Fixed(allowance) => Some(allowance),
        };
        let (returning, speaker) = found.play(form, allowance, wished).map_err(unusable)?;
        note_device(&format!("playing on {name}"), &choice, wished, speaker.buffer());
        if choice.rate != form.sample_rate {
            note(&format!("what comes back is resampled from {} Hz to {} Hz", form.sample_rate, choice.rate));
        }
        Ok(Some((returning, speaker)))
    }
}

/// Waits until what came back in a run that has ended is played, and enters how that went.
pub fn finish(speaker: Option<Speaker>, ended: &mut Ended, stop: &Stop) {
    let Some(playback) = speaker.map(|speaker| speaker.finish(stop)) else { return };
    if let Some(why) = &playback.lost {
        let lost = anyhow!("{} was lost: {why}; not all that came back was played", playback.device);
        ended.broken.get_or_insert(lost);
    }
    if let Some(audio) = &mut ended.run.audio {
        audio.playback = Some(playback);
    }
}
