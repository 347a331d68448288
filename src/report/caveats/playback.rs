//! What the device that played did to the sound.

use super::heard::were_they;
use super::{Caveat, Code, say};
use crate::report::playback::PlaybackNumbers;
use crate::report::wording::count;

/// Packets, in a hundred, that came too late to be played before it is worth a word.
const LATE_PERCENT: u64 = 1;

pub(super) fn caveats(playback: &PlaybackNumbers) -> Vec<Caveat> {
    let mut found = Vec::new();
    if let Some(why) = &playback.device_lost {
        let text = format!("the device that played was lost during the run: {why}; not all that came back was heard");
        found.push(say(Code::SpeakerLost, text));
    }
    if playback.not_taken > 0 {
        let text = format!(
            "{} that came back found no room on the way to the device: it stood still, or too much came at once",
            count(playback.not_taken, "packet")
        );
        found.push(say(Code::SpeakerStuck, text));
    }
    if playback.xruns > 0 {
        let text = format!(
            "the device that played ran dry, {}: a larger --play-buffer may help",
            count(playback.xruns, "time")
        );
        found.push(say(Code::SpeakerXruns, text));
    }
    if playback.late * 100 > playback.played * LATE_PERCENT && playback.jitter_buffer_ms.is_some() {
        let text = format!(
            "{} came too late to be played: a larger --jitter-buffer, or auto, plays more of them, later",
            count(playback.late, "packet")
        );
        found.push(say(Code::PlayedLate, text));
    }
    if playback.non_finite_samples > 0 {
        let (were, they) = were_they(playback.non_finite_samples);
        let samples = count(playback.non_finite_samples, "sample");
        let text = format!("{samples} in the packets for playing {were} NaN or infinite; {they} set to 0");
        found.push(say(Code::PlayedNonFinite, text));
    }
    found
}
