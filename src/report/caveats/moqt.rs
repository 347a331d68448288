//! What a connection over MOQT has to do with the numbers.

use super::{Caveat, Code, say};
use crate::report::Report;
use crate::report::moqt::{MoqtNumbers, advice};
use crate::report::numbers::StreamNumbers;
use crate::report::wording::count;

/// The gravest first.
pub(super) fn caveats(report: &Report, judged: Option<&StreamNumbers>) -> Vec<Caveat> {
    let Some(moqt) = &report.moqt else { return Vec::new() };
    let found = [lost(moqt), silent(report, moqt, judged), unanswered(moqt, judged), refused(moqt), asked_again(moqt)];
    found.into_iter().flatten().collect()
}

fn lost(moqt: &MoqtNumbers) -> Option<Caveat> {
    let lost = moqt.connection_lost.as_ref()?;
    Some(say(Code::ConnectionLost, format!("{}: {}", lost.text, advice(lost))))
}

/// Where both have subscribed, and nothing comes.
fn silent(report: &Report, moqt: &MoqtNumbers, judged: Option<&StreamNumbers>) -> Option<Caveat> {
    let stream = judged.filter(|stream| stream.sent > 0 && !stream.is_heard())?;
    if moqt.connection_lost.is_some() || report.interrupted.is_some() {
        return None;
    }
    let other = if stream.unmatched > 0 { "other frames came" } else { "nothing at all came" };
    let text = format!(
        "the server has subscribed to {} and agreed to our subscription of it, and returns none of it ({other}): look at its log; \
         where it delays its echo, give a longer --timeout",
        moqt.track
    );
    Some(say(Code::NothingCameBack, text))
}

fn unanswered(moqt: &MoqtNumbers, judged: Option<&StreamNumbers>) -> Option<Caveat> {
    judged.filter(|stream| stream.is_heard() && stream.lost > 0)?;
    let (groups, frames) = (moqt.groups_lost, moqt.frames_missing);
    let which = match (groups, frames) {
        (0, frames) => format!("{} of groups that came", count(frames, "frame")),
        (groups, 0) => format!("{} whole", count(groups, "group")),
        (groups, frames) => format!("{} whole and {} of others", count(groups, "group"), count(frames, "frame")),
    };
    let end = if moqt.connection_lost.is_some() { ", or the connection was over before" } else { "" };
    let first = if groups > 0 {
        "; the original server refuses groups that come before it has taken note of its own subscription"
    } else {
        ""
    };
    let text = format!(
        "QUIC itself loses nothing: the server has not returned {which} in time, or not at all (for a slow reader the oldest groups \
         are dropped, and where too much waits for a delay the newest){end}{first}"
    );
    Some(say(Code::Unanswered, text))
}

fn refused(moqt: &MoqtNumbers) -> Option<Caveat> {
    let text = match (moqt.groups_declined, moqt.groups_unsent) {
        (0, 0) => return None,
        (declined, 0) => format!("the server gave up {} while we sent them", count(declined, "group")),
        (_, unsent) => format!(
            "{} could not be sent to their end, because the server or the path did not take them fast enough: give a longer \
             --interval or a smaller --size",
            count(unsent, "group")
        ),
    };
    Some(say(Code::GroupsRefused, text))
}

fn asked_again(moqt: &MoqtNumbers) -> Option<Caveat> {
    let path = moqt.asked_again.as_ref()?;
    let text = format!(
        "the server did nothing for 2 s when it was asked for /{path}, and was asked for `{path}`: give it the path that it serves, or \
         expect these 2 s"
    );
    Some(say(Code::AskedAgain, text))
}
