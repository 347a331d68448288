//! A device is closed by a thread of its own: a driver that hangs never lets go of whoever closes it.

use std::sync::mpsc;
use std::time::Duration;

use super::quiet::Quiet;

/// How long closing may take before nobody waits for it any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// Closes a device's stream, and waits for that, but not for ever.
pub(super) fn close(stream: cpal::Stream) {
    let (done, is_done) = mpsc::channel::<()>();
    let closing = std::thread::Builder::new().name("close".to_owned()).spawn(move || {
        let _quiet = Quiet::begin();
        drop(stream);
        drop(done);
    });
    if closing.is_ok() {
        // Ends when the other side is dropped.
        let _ = is_done.recv_timeout(PATIENCE);
    }
}
