//! Audio devices: listing them, capturing from a microphone and playing on a speaker.
//!
//! Device access requires the feature `mic`, which links the ALSA library on Linux. Without it, every function fails.

#[cfg_attr(not(feature = "mic"), allow(dead_code, reason = "only devices are configured"))]
pub(crate) mod config;
#[cfg(feature = "mic")]
mod devices;
mod error;
pub(crate) mod list;
#[cfg(feature = "mic")]
mod microphone;
#[cfg(not(feature = "mic"))]
mod no_devices;
#[cfg(feature = "mic")]
mod speaker;
#[cfg(feature = "mic")]
mod stream;

#[cfg(feature = "mic")]
pub(crate) use devices::{list_devices, select_device};
pub(crate) use error::{DeviceDirection, NO_DEVICES_HINT};
#[cfg(feature = "mic")]
pub(crate) use microphone::Microphone;
#[cfg(not(feature = "mic"))]
pub(crate) use no_devices::{Microphone, Speaker, SpeakerObserver, list_devices, select_device};
#[cfg(feature = "mic")]
pub(crate) use speaker::{Speaker, SpeakerObserver};
