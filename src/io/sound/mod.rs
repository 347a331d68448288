//! Audio devices: listing them, capturing from a microphone and playing on a speaker.
//!
//! Device access requires the feature `mic`, which links the ALSA library on Linux. Without it, every function fails.

#[cfg_attr(not(feature = "mic"), allow(dead_code, reason = "only devices are configured"))]
pub(crate) mod config;
#[cfg(feature = "mic")]
mod devices;
pub(crate) mod list;
#[cfg(feature = "mic")]
mod microphone;
#[cfg(not(feature = "mic"))]
mod no_devices;
#[cfg(feature = "mic")]
mod speaker;
#[cfg(feature = "mic")]
mod stream;

use std::fmt;

use thiserror::Error;

#[cfg(feature = "mic")]
pub(crate) use devices::{list_devices, select_device};
#[cfg(feature = "mic")]
pub(crate) use microphone::Microphone;
#[cfg(not(feature = "mic"))]
pub(crate) use no_devices::{Microphone, Speaker, SpeakerObserver, list_devices, select_device};
#[cfg(feature = "mic")]
pub(crate) use speaker::{Speaker, SpeakerObserver};

/// Possible causes and remedies if there is no device.
pub(crate) const NO_DEVICES_HINT: &str = if cfg!(target_os = "linux") {
    "there is no sound card, or this user may not use it (group `audio`). Another possible cause: ALSA is not connected to \
     PulseAudio or PipeWire. On Debian, run: apt-get install libasound2-plugins (or pipewire-alsa)"
} else {
    "the system lists no device for this program. Connect a device, or allow this program to use audio devices"
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceDirection {
    /// Microphones and other inputs.
    Input,
    /// Loudspeakers and other outputs.
    Output,
}

impl fmt::Display for DeviceDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// Why a device cannot be used, with a remedy.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct DeviceError(String);
