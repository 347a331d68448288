//! Audio devices: listing them, capturing from a microphone and playing on a speaker.
//!
//! Device access requires the feature `mic`, which links the ALSA library on Linux. Without the feature, every function returns
//! [`DeviceError::NotBuiltIn`].

#[cfg(feature = "mic")]
mod devices;
#[cfg(feature = "mic")]
mod microphone;
#[cfg(not(feature = "mic"))]
mod no_devices;
#[cfg(feature = "mic")]
mod speaker;

use std::fmt;
#[cfg(feature = "mic")]
use std::sync::{OnceLock, mpsc};
#[cfg(feature = "mic")]
use std::time::{Duration, Instant};

#[cfg(feature = "mic")]
use cpal::{ErrorKind, SampleFormat};
use thiserror::Error;

#[cfg(feature = "mic")]
pub use devices::{SelectedDevice, list_devices, select_device};
#[cfg(feature = "mic")]
pub use microphone::Microphone;
#[cfg(not(feature = "mic"))]
pub use no_devices::{Microphone, SelectedDevice, Speaker, SpeakerObserver, list_devices, select_device};
#[cfg(feature = "mic")]
pub use speaker::{Speaker, SpeakerObserver};

#[cfg(feature = "mic")]
use crate::audio::devices::DeviceSampleFormat;
#[cfg(feature = "mic")]
use crate::time::{Time, saturating_nanos};

/// Possible causes and remedies if there is no device.
pub const NO_DEVICES_HINT: &str = if cfg!(target_os = "linux") {
    "there is no sound card, or this user may not use it (group `audio`). Another possible cause: ALSA is not connected to \
     PulseAudio or PipeWire. On Debian, run: apt-get install libasound2-plugins (or pipewire-alsa)"
} else {
    "the system lists no device for this program. Connect a device, or allow this program to use audio devices"
};

/// Direction of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceDirection {
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

/// Why a device cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The program was built without the feature `mic`.
    #[error(
        "this jamjam-dev was built without audio devices. Rebuild it with `cargo install --path . --locked`. \
         On Debian, first run `apt-get install libasound2-dev pkg-config`"
    )]
    NotBuiltIn,
    /// The audio system failed.
    #[error("cannot use the audio system: {0}")]
    Host(String),
    /// No device matches the name or index.
    #[error("no {direction} device matches {name}; {available}")]
    NotFound {
        /// Direction of the device.
        direction: DeviceDirection,
        /// The requested name or index.
        name: String,
        /// The available devices.
        available: String,
    },
    /// Several devices match the name.
    #[error("several {direction} devices match {name}: {matches}; use the full name or the index")]
    Ambiguous {
        /// Direction of the device.
        direction: DeviceDirection,
        /// The requested name or index.
        name: String,
        /// The matching devices.
        matches: String,
    },
    /// The device cannot be used.
    #[error("cannot {} {device}: {reason}", match direction { DeviceDirection::Input => "capture from", DeviceDirection::Output => "play on" })]
    Unusable {
        /// Direction of the device.
        direction: DeviceDirection,
        /// Name of the device.
        device: String,
        /// Cause and remedy.
        reason: String,
    },
}

/// Maximum time to wait until a device is closed.
#[cfg(feature = "mic")]
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Closes a device stream on another thread and waits at most [`CLOSE_TIMEOUT`], because a driver may hang.
#[cfg(feature = "mic")]
fn close_stream(stream: cpal::Stream) {
    let (done_tx, done_rx) = mpsc::channel::<()>();
    let thread = std::thread::Builder::new().name("audio-close".to_owned()).spawn(move || {
        let _errors = AlsaErrorCapture::install();
        drop(stream);
        drop(done_tx);
    });
    if thread.is_ok() {
        // The wait ends when the thread drops the sender, after it has closed the device.
        let _ = done_rx.recv_timeout(CLOSE_TIMEOUT);
    }
}

/// Records that an error stopped a device. After some errors, the device continues.
#[cfg(feature = "mic")]
fn set_failure(failure: &OnceLock<String>, error: &cpal::Error) {
    let _ = match error.kind() {
        ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied | ErrorKind::DeviceBusy => Ok(()),
        ErrorKind::DeviceNotAvailable => failure.set("device disconnected".to_owned()),
        _ => failure.set(error.to_string()),
    };
}

/// Converts a sample format to cpal's format.
#[cfg(feature = "mic")]
const fn to_cpal_format(format: DeviceSampleFormat) -> SampleFormat {
    match format {
        DeviceSampleFormat::I8 => SampleFormat::I8,
        DeviceSampleFormat::I16 => SampleFormat::I16,
        DeviceSampleFormat::I24 => SampleFormat::I24,
        DeviceSampleFormat::I32 => SampleFormat::I32,
        DeviceSampleFormat::I64 => SampleFormat::I64,
        DeviceSampleFormat::U8 => SampleFormat::U8,
        DeviceSampleFormat::U16 => SampleFormat::U16,
        DeviceSampleFormat::U24 => SampleFormat::U24,
        DeviceSampleFormat::U32 => SampleFormat::U32,
        DeviceSampleFormat::U64 => SampleFormat::U64,
        DeviceSampleFormat::F32 => SampleFormat::F32,
        DeviceSampleFormat::F64 => SampleFormat::F64,
    }
}

/// Time since `origin`.
#[cfg(feature = "mic")]
fn elapsed_since(origin: Instant) -> Time {
    Time::from_nanos(saturating_nanos(origin.elapsed()))
}

/// Captures the messages that the ALSA library prints to standard error. One missing device causes about a dozen lines. While this value
/// exists, the messages of this thread go to `output`.
#[cfg(all(feature = "mic", target_os = "linux"))]
struct AlsaErrorCapture {
    output: Option<std::rc::Rc<std::cell::RefCell<alsa::Output>>>,
}

#[cfg(all(feature = "mic", target_os = "linux"))]
impl AlsaErrorCapture {
    /// Installs the error handler.
    fn install() -> Self {
        Self { output: alsa::Output::local_error_handler().ok() }
    }

    /// The first message, which describes the cause of the later messages.
    fn first_message(&self) -> Option<String> {
        let messages = self.output.as_ref()?.try_borrow().ok()?.to_string();
        // Format: `function: message`.
        messages.lines().next().map(|line| line.split_once(": ").map_or(line, |(_, message)| message).trim().to_owned())
    }
}

/// Does nothing, because the audio libraries of systems other than Linux print no messages.
#[cfg(all(feature = "mic", not(target_os = "linux")))]
struct AlsaErrorCapture;

#[cfg(all(feature = "mic", not(target_os = "linux")))]
impl AlsaErrorCapture {
    fn install() -> Self {
        Self
    }

    fn first_message(&self) -> Option<String> {
        None
    }
}
