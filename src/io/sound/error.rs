//! Directions of audio devices, and why a device cannot be used.

use std::fmt;

use thiserror::Error;

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
pub(crate) struct DeviceError(pub(super) String);
