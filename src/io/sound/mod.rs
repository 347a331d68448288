//! Sound devices of this machine: which there are, listening to one, and playing on one.
//!
//! What is done with a device is in the feature `mic`, which on Linux links ALSA's library. Without it everything here says how
//! to get it.

#[cfg(not(feature = "mic"))]
mod absent;
#[cfg(feature = "mic")]
mod closing;
#[cfg(feature = "mic")]
mod devices;
#[cfg(feature = "mic")]
mod microphone;
#[cfg(feature = "mic")]
mod quiet;
#[cfg(feature = "mic")]
mod speaker;

use std::fmt;

use thiserror::Error;

#[cfg(not(feature = "mic"))]
pub use absent::{Found, Live, Returning, Speaker, find, list};
#[cfg(feature = "mic")]
pub use devices::{Found, find, list};
#[cfg(feature = "mic")]
pub use microphone::Live;
#[cfg(feature = "mic")]
pub use speaker::{Returning, Speaker};

/// Why there may be no device at all, and the way out.
pub const NO_DEVICES: &str = if cfg!(target_os = "linux") {
    "there is no sound card here, or this user may not use it (group audio), or PulseAudio or PipeWire has it and ALSA does \
     not know of them (on Debian: apt-get install libasound2-plugins, or pipewire-alsa)"
} else {
    "the system shows none to this program: is one connected, and may this program use it?"
};

/// Which way sound goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a microphone, or whatever else is listened to.
    Input,
    /// To a loudspeaker, or whatever else is played on.
    Output,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// Why a device cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The program has no such feature.
    #[error(
        "this jamjam-dev was built without sound devices; build it again with them: `cargo install --path . --locked`, which on \
         Debian takes `apt-get install libasound2-dev pkg-config`"
    )]
    Absent,
    /// Nothing can be asked of the sound system.
    #[error("the sound system cannot be used: {0}")]
    System(String),
    /// No device has that name or number.
    #[error("no {direction} device is called {name}: {there}")]
    Unknown {
        /// What was looked for.
        direction: Direction,
        /// As it was asked for.
        name: String,
        /// What there is.
        there: String,
    },
    /// Several have it.
    #[error("several {direction} devices are called {name}: {those}; say which, or give its number")]
    Ambiguous {
        /// What was looked for.
        direction: Direction,
        /// As it was asked for.
        name: String,
        /// Which.
        those: String,
    },
    /// It is there, and does not do what is asked of it.
    #[error("cannot {} {device}: {why}", match direction { Direction::Input => "listen to", Direction::Output => "play on" })]
    Unusable {
        /// What for.
        direction: Direction,
        /// Its name.
        device: String,
        /// Why not, and the way out.
        why: String,
    },
}
