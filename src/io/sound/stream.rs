//! What microphones and speakers share: the format, the failures and the end of a device stream.

use std::sync::OnceLock;
use std::time::Duration;

use cpal::ErrorKind;

use crate::io::worker::Worker;

/// Maximum time to wait until a device is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Closes a device stream on another thread and waits at most [`CLOSE_TIMEOUT`], because a driver may hang.
pub(super) fn close_stream(stream: cpal::Stream) {
    let closing = Worker::spawn("audio-close", move || {
        let _errors = AlsaErrorCapture::install();
        drop(stream);
    });
    let _ = closing.map(|thread| thread.finished_within(CLOSE_TIMEOUT));
}

/// Records that an error stopped a device. After some errors, the device continues.
pub(super) fn set_failure(failure: &OnceLock<String>, error: &cpal::Error) {
    let _ = match error.kind() {
        ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied | ErrorKind::DeviceBusy => Ok(()),
        ErrorKind::DeviceNotAvailable => failure.set("device disconnected".to_owned()),
        _ => failure.set(error.to_string()),
    };
}

/// Captures the messages that the ALSA library prints to standard error. One missing device causes about a dozen lines. While this value
/// exists, the messages of this thread go to `output`.
#[cfg(target_os = "linux")]
pub(super) struct AlsaErrorCapture {
    output: Option<std::rc::Rc<std::cell::RefCell<alsa::Output>>>,
}

#[cfg(target_os = "linux")]
impl AlsaErrorCapture {
    /// Installs the error handler.
    pub(super) fn install() -> Self {
        Self { output: alsa::Output::local_error_handler().ok() }
    }

    /// The first message, which describes the cause of the later messages.
    pub(super) fn first_message(&self) -> Option<String> {
        let messages = self.output.as_ref()?.try_borrow().ok()?.to_string();
        // Format: `function: message`.
        messages.lines().next().map(|line| line.split_once(": ").map_or(line, |(_, message)| message).trim().to_owned())
    }
}

/// Does nothing, because the audio libraries of systems other than Linux print no messages.
#[cfg(not(target_os = "linux"))]
pub(super) struct AlsaErrorCapture;

#[cfg(not(target_os = "linux"))]
impl AlsaErrorCapture {
    pub(super) fn install() -> Self {
        Self
    }

    pub(super) fn first_message(&self) -> Option<String> {
        None
    }
}
