//! Passed or failed, and why.

use serde::Serialize;

use super::limits::Judgement;
use super::names::{Names, Spoken};
use super::wording;
use crate::flow::run::{Run, StreamKind};
use crate::rooms::harmless::harmless;
use crate::stats::Stream;

/// The end of every report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether all is well.
    pub passed: bool,
    /// Whether any limit was set; without one, whatever came back whole passes.
    pub limits_set: bool,
    /// Why it failed. Empty when it passed.
    pub reasons: Vec<String>,
    /// The one of them that says that nothing happened.
    #[serde(skip)]
    pub silence: Option<String>,
    /// Those of them that say what came back damaged.
    #[serde(skip)]
    pub damage: Vec<String>,
}

impl Verdict {
    /// 0 passed, 1 failed. What an interrupted run exits with is the caller's matter.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.passed)
    }

    /// Judges a run whose limits are judged.
    pub(super) fn new(run: &Run, judgements: &[Judgement]) -> Self {
        let judged = run.stream(run.judged);
        let silence = silence(run, judged);
        let spoken = Spoken::in_run(run);
        let damage = |kind| damage(Names::of(spoken, kind), run.stream(kind)?);
        let damage: Vec<String> = StreamKind::ALL.into_iter().filter_map(damage).collect();
        // Where nothing was heard, that is the reason; limits without data only follow from it.
        let broken = judgements
            .iter()
            .filter(|judgement| !judgement.passed && (silence.is_none() || judgement.measured.is_some()))
            .map(broken_limit);
        let reasons: Vec<String> =
            silence.clone().into_iter().chain(lost(run, judged)).chain(damage.clone()).chain(broken).collect();
        Self { passed: reasons.is_empty(), limits_set: !judgements.is_empty(), reasons, silence, damage }
    }
}

/// Why the run counts as one in which nothing happened.
fn silence(run: &Run, judged: Option<&Stream>) -> Option<String> {
    if let Some(wait) = run.wait.filter(|wait| !wait.answered) {
        return Some(format!("no answer within {}", wording::time(wait.waited_ns as f64 / 1e3)));
    }
    let Some(stream) = judged.filter(|stream| stream.sent > 0) else {
        return Some("nothing was sent".to_owned());
    };
    if !run.answers_expected {
        let failed = stream.send_failed;
        return (failed > 0).then(|| format!("{failed} of {} packets could not be sent", stream.sent));
    }
    (stream.returned == 0 && stream.damaged == 0).then(|| "nothing came back".to_owned())
}

/// The connection that was lost while something was still to come.
fn lost(run: &Run, judged: Option<&Stream>) -> Option<String> {
    let websocket =
        run.websocket.as_ref().and_then(|websocket| Some((websocket.lost.as_ref()?.to_string(), "message")));
    let (lost, unit) = websocket.or_else(|| Some((run.moqt.as_ref()?.lost.as_ref()?.to_string(), "frame")))?;
    let sent = judged.map_or(0, |stream| stream.sent);
    let when = if sent > 0 { format!(" after {}", wording::count(sent, unit)) } else { String::new() };
    Some(format!("{}{when}", harmless(&lost)))
}

fn damage(names: Names, stream: &Stream) -> Option<String> {
    match (stream.damaged, stream.damaged_copies) {
        (0, 0) => None,
        (0, copies) => Some(format!("{copies} damaged {}s came before a whole copy", names.datagram())),
        (packets, _) => Some(format!("{packets} of {} {}s came back damaged", stream.sent, names.packet())),
    }
}

fn broken_limit(judgement: &Judgement) -> String {
    let asked = wording::limit(judgement, judgement.asked);
    let (found, note) = (wording::found(judgement), wording::note(judgement));
    format!("{} {asked} broken: {found}{note}", judgement.limit.option())
}
