//! What a listener would complain of.

use super::{Caveat, Code, say};
use crate::report::heard::{HeardNumbers, LevelNumbers};
use crate::report::wording::{count, time};

/// The gravest first. `is_live`: the sound came from a device.
pub(super) fn caveats(heard: &HeardNumbers, is_live: bool) -> Vec<Caveat> {
    let mut found = Vec::new();
    if heard.sent_silent {
        let text = if is_live {
            "the microphone delivered digital silence: is it muted, or has this program no permission to listen?"
        } else {
            "all that was sent is digital silence: is it the right file?"
        };
        found.push(say(Code::SentSilence, text));
    } else if heard.returned_silent {
        let text = "what came back is digital silence, and what was sent is not: whoever returns it is muted";
        found.push(say(Code::ReturnedSilence, text));
    }
    if heard.alignment == "unlike" {
        let text = "what came back is not like what was sent: is it somebody else's sound, or much changed on the way?";
        found.push(say(Code::Unlike, text));
    }
    let sum = |pick: fn(&LevelNumbers) -> u64| heard.sent_levels.iter().map(pick).sum::<u64>();
    if let (Some(clips), Some(first)) = (heard.source_clips, heard.source_first_clip_at_ms) {
        let (times, at) = (count(clips, "time"), time(first * 1e3));
        let source = if is_live { "turn the input down" } else { "it was recorded, or made, too loud" };
        found.push(say(Code::Clipped, format!("what was sent is clipped {times}, first at {at}: {source}")));
    }
    if let Some(samples @ 1..) = heard.source_non_finite_samples {
        let (were, they) = were_they(samples);
        let became = match heard.source_replaced_samples {
            Some(1..) => "replaced by 0",
            _ => "sent unchanged: players make noise or silence of them",
        };
        let text = format!("{} of the source {were} NaN or infinite; {they} {became}", count(samples, "sample"));
        found.push(say(Code::NotNumbers, text));
    } else if sum(|level| level.not_numbers) > 0 {
        let text = format!(
            "{} of what was sent are not numbers, or infinite: players make noise or silence of them",
            count(sum(|level| level.not_numbers), "sample")
        );
        found.push(say(Code::NotNumbers, text));
    }
    if heard.heard_dropped > 0 {
        let text = format!(
            "gaps, levels and alignment are without {}: this machine did not keep up",
            count(heard.heard_dropped, "packet")
        );
        found.push(say(Code::HeardDropped, text));
    }
    found
}

/// The words for one and for several.
pub(super) fn were_they(count: u64) -> (&'static str, &'static str) {
    if count == 1 { ("was", "it was") } else { ("were", "they were") }
}
