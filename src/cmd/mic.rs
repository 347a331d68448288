//! What `send` captures: a microphone, or whatever else this machine takes for one.

use std::io;

use anyhow::{Context, anyhow};

use super::Failure;
use super::output::{note, print};
use super::play::MOST_BUFFER;
use super::sound::{self, Cut, SoundArgs};
use crate::audio::framer::Framer;
use crate::audio::mix::Channels;
use crate::flow::run::Run;
use crate::io::sound::{self as devices, Direction, Live, NO_DEVICES};
use crate::wire::SAMPLE_RATE;

const HEADING_MIC: &str = "Microphone";

/// What is sent instead of a microphone's sound: beside it `requires` alone would say nothing, for `--mic` could not be there.
const NOT_MIC: [&str; 2] = ["wav", "tone"];

/// Options of what is captured.
#[derive(Debug, clap::Args)]
pub struct MicArgs {
    /// Send what a microphone, or another input device, delivers, until interrupted or for --duration
    #[arg(long, help_heading = HEADING_MIC)]
    mic: bool,

    /// Which one: its number or name in --list-devices, or a part of that which no other has [default: the system's]
    #[arg(long, value_name = "NAME|INDEX", requires = "mic", conflicts_with_all = NOT_MIC, help_heading = HEADING_MIC)]
    mic_device: Option<String>,

    /// How many frames to ask the device for at a time [default: as many as --frame]
    #[arg(long, value_name = "FRAMES", requires = "mic", conflicts_with_all = NOT_MIC, value_parser = clap::value_parser!(u32).range(1..=MOST_BUFFER), help_heading = HEADING_MIC)]
    mic_buffer: Option<u32>,

    /// Print the sound devices that are there, and do nothing else
    #[arg(long, help_heading = HEADING_MIC)]
    list_devices: bool,
}

/// A device that is ready to be listened to.
pub struct Capturing {
    /// What it delivers.
    pub live: Live,
    /// The form it is sent in.
    pub cut: Cut,
}

impl MicArgs {
    /// Whether a device is to be listened to.
    pub fn is_wanted(&self) -> bool {
        self.mic
    }

    /// Prints the devices, if that is asked for, and gives the exit code.
    pub fn list(&self, (json, on_one_line): (bool, bool)) -> Result<Option<u8>, Failure> {
        if !self.list_devices {
            return Ok(None);
        }
        let devices = devices::list().context("cannot list devices").map_err(Failure::unusable)?;
        let text = if json || on_one_line {
            devices
                .document(NO_DEVICES, on_one_line)
                .context("cannot write the devices as JSON")
                .map_err(Failure::unusable)?
        } else {
            devices.table(NO_DEVICES)
        };
        print(&mut io::stdout().lock(), text.trim_end()).map_err(Failure::unusable)?;
        Ok(Some(0))
    }

    /// Opens the device, and says what it will deliver and what is done to that.
    pub fn open(&self, sound: &SoundArgs) -> Result<Capturing, Failure> {
        let unusable = |error| Failure::unusable(anyhow::Error::from(error).context("--mic"));
        let found = devices::find(Direction::Input, self.mic_device.as_deref(), sound.channels(), SAMPLE_RATE)
            .map_err(unusable)?;
        let (name, choice) = (found.name().to_owned(), *found.choice());
        let channels = sound.channels().map_or(Channels::natural(choice.channels), |asked| {
            if asked == 1 { Channels::Mono } else { Channels::Stereo }
        });
        let cut = sound.cut((choice.rate, choice.channels), SAMPLE_RATE, channels, None)?;
        let framer = Framer::new(cut.shape).with_context(|| format!("--mic: {name}")).map_err(Failure::unusable)?;
        let a_packet = u64::from(cut.form.frame_samples) * u64::from(choice.rate);
        let wished = self.mic_buffer.unwrap_or(a_packet.div_ceil(u64::from(SAMPLE_RATE)) as u32);
        let live = found.listen(framer, wished).map_err(unusable)?;

        sound::note_device(&name, &choice, wished, live.buffer());
        if choice.format.is_rounded() {
            note("samples of more than 24 bits are rounded to 32-bit floats");
        }
        sound::note_mixing(choice.channels, channels);
        if choice.rate != SAMPLE_RATE {
            note(&format!(
                "resampled from {} Hz to {SAMPLE_RATE} Hz, which the device does not offer: packets leave in groups, \
                 about a thousand of its frames at a time",
                choice.rate
            ));
        }
        Ok(Capturing { live, cut })
    }
}

/// Why the device of this run delivered no more, if it stopped by itself.
pub fn lost(run: &Run) -> Option<anyhow::Error> {
    let capture = run.audio.as_ref()?.capture.as_ref()?;
    let why = capture.lost.as_ref()?;
    Some(anyhow!("{} was lost: {why}; the report is of what it had delivered", capture.device))
}
