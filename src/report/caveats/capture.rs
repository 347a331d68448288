//! What the device that was listened to did to the sound.

use super::{Caveat, Code, say};
use crate::report::capture::CaptureNumbers;
use crate::report::wording::count;

pub(super) fn caveats(capture: &CaptureNumbers) -> Vec<Caveat> {
    let mut found = Vec::new();
    if let Some(why) = &capture.device_lost {
        found.push(say(Code::DeviceLost, format!("the device was lost during the run: {why}")));
    }
    if capture.overruns > 0 {
        let (times, frames) = (count(capture.overruns, "time"), count(capture.overrun_frames, "frame"));
        let text = format!(
            "the sender stood still and did not take what the device delivered, {times}: {frames} are missing from what was \
             sent, which goes on without a gap"
        );
        found.push(say(Code::Overruns, text));
    }
    if capture.xruns > 0 {
        let text = format!(
            "the device or its driver lost sound, {}, nobody knows how much: a larger --mic-buffer may help",
            count(capture.xruns, "time")
        );
        found.push(say(Code::DeviceXruns, text));
    }
    found
}
