//! The report of the bad room: what the members of each room have sent to each other, what of it was forwarded, and how they got through
//! outages. It says what was forwarded, not what was heard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use quick_junit::{TestCase, TestCaseStatus};
use serde::Serialize;

use super::figures::figures;
use super::junit::{self, case, failed, skipped};
use super::quantities::{duration_millis, format_length};
use super::relay::{AUDIO_HEAD, ForwardedAudioFigures, add_findings, audio_columns, counted, delayed, findings_status};
use crate::verdict::{Judged, Outcome, decide};
use jamjam_core::media_relay::{JUDGED_TIME, JudgedOutage, MAX_OUTAGES, MediaRoom, MediaRoute, Recovery};
use jamjam_core::pauses::Pauses;
use jamjam_core::relay::Flow;
use jamjam_core::time::{Pause, Time};

figures! {
    /// From one member to another one.
    MediaFlowFigures from (route, flow, time_0): (&MediaRoute, &Flow, Time) [
        let times = flow.left.times.map(|(first, last)| [first, last].map(|at| duration_millis(at.duration_since(time_0))));
    ] {
        from: String = route.from.to_string();
        to: String = route.to.to_string();
        datagrams: u64 = flow.datagrams;
        outcomes: BTreeMap<&'static str, u64> = flow.outcomes.clone();
        audio_before: ForwardedAudioFigures = (&flow.arrived).into();
        audio_after: ForwardedAudioFigures = (&flow.left).into();
        first_audio_ms: Option<f64> = times.map(|[first, _]| first);
        last_audio_ms: Option<f64> = times.map(|[_, last]| last);
        key_changes: u64 = flow.key_changes;
    }

    /// How a pair of members got through an outage.
    OutageFigures from (number, route, outage, time_0, lost, limit): (usize, &MediaRoute, &JudgedOutage, Time, Option<&str>, Limit<'_>) [
        let (result, note) = judge(outage, lost.is_some(), limit);
    ] {
        number: usize = number;
        members: [String; 2] = [&route.from, &route.to].map(ToString::to_string);
        start_ms: f64 = duration_millis(outage.start.duration_since(time_0));
        length_ms: f64 = duration_millis(outage.end.duration_since(outage.start));
        recovery_ms: Option<f64> = outage.recovery.ok().map(duration_millis);
        observed_ms: Option<f64> = outage.recovery.err().map(duration_millis);
        lost: Option<String> = lost.map(str::to_owned);
        result: Option<Judged> = result;
        note: Option<String> = note;
    }

    /// A room.
    MediaRoomFigures from (number, room, limit): (u64, &MediaRoom, Limit<'_>) [
        let time_0 = room.started_at.unwrap_or_default();
        let members: BTreeSet<_> = room.flows.iter().map(|(route, _)| &route.from).collect();
        let of_pair = |(route, recovery): &(MediaRoute, Recovery)| {
            let lost = room.lost_for_good(recovery);
            (1..).zip(&recovery.judged).map(|(number, one)| (number, route, one, time_0, lost, limit).into()).collect::<Vec<_>>()
        };
    ] {
        room: u64 = number;
        members: usize = members.len();
        complete_after_ms: Option<f64> = room.completed_after().map(duration_millis);
        flows: Vec<MediaFlowFigures> = room.flows.iter().map(|(route, flow)| (route, flow, time_0).into()).collect();
        outages: Vec<OutageFigures> = room.recoveries.iter().flat_map(of_pair).collect();
    }

    /// All rooms, the counts of datagrams, and the pauses of the relay. No recovery may take longer than the limit.
    MediaReport from (results, counts, dropped, pauses, max_recovery): (&BTreeMap<u64, MediaRoom>, &BTreeMap<&str, u64>, Option<u64>, &Pauses, Option<Duration>) [
        let limit = (max_recovery, &*pauses.delays);
        let rooms: Vec<MediaRoomFigures> = results.iter().map(|(number, room)| (*number, room, limit).into()).collect();
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        let findings = counted([(count("limit"), "outcome limit")]);
        let dropped = counted([(count("buffer_full"), "outcome buffer_full"), (dropped.unwrap_or(0), "dropped at the sockets of the relay")]);
        let strange = ["outcome failed", "outcome foreign_source", "outcome forgotten_flow"];
        let strange = counted(strange.map(|what| (count(what.trim_start_matches("outcome ")), what)));
        let warnings = results.values().flat_map(|room| &room.flows).filter_map(|(_, flow)| flow.rate_warning());
        let full = results.values().flat_map(|room| &room.recoveries).filter(|(_, recovery)| recovery.judged.len() == MAX_OUTAGES);
        let unjudged = full.map(|(route, _)| format!("{} and {}: only the first {MAX_OUTAGES} outages are judged", route.from, route.to));
        let (outcome, of_pairs) = max_recovery.map_or((Outcome::Passed, None), |_| judge_pairs(&rooms));
    ] {
        max_recovery_ms: Option<f64> = max_recovery.map(duration_millis);
        failures: Vec<String> = of_pairs.iter().filter(|_| outcome == Outcome::Failed).chain(&findings).cloned().collect();
        not_judged: Vec<String> = of_pairs.into_iter().filter(|_| outcome == Outcome::NotMeasured).chain(dropped).collect();
        findings: Vec<String> = findings;
        warnings: Vec<String> = delayed(pauses).into_iter().chain(strange).chain(warnings).chain(unjudged).collect();
        rooms: Vec<MediaRoomFigures> = rooms;
    }
}

/// `--max-recovery`, and when the relay sent late.
type Limit<'a> = (Option<Duration>, &'a [Pause]);

/// The result of an outage, and why it is that.
fn judge(outage: &JudgedOutage, is_lost: bool, (limit, delays): Limit<'_>) -> (Option<Judged>, Option<String>) {
    let Some(limit) = limit else { return (outage.recovery.ok().map(|_| Judged::Met), None) };
    let seen = outage.recovery.map_or_else(|observed| observed, |recovery| recovery + JUDGED_TIME);
    let until = outage.end + seen.min(limit + JUDGED_TIME);
    let (result, note) = match outage.recovery {
        _ if delays.iter().any(|delay| delay.end > outage.end && delay.start < until) => {
            (Judged::NotJudged, "the relay did not run, or sent late".to_owned())
        }
        Ok(recovery) if recovery <= limit => return (Some(Judged::Met), None),
        Err(observed) if !is_lost && observed < limit + JUDGED_TIME => {
            (Judged::NotJudged, "a member left, another outage began or the run ended".to_owned())
        }
        _ => (Judged::Exceeded, format!("--max-recovery {} exceeded", format_length(duration_millis(limit)))),
    };
    (Some(result), Some(note))
}

/// What all pairs come to, and why: the worst outage, and the number of pairs.
fn judge_pairs(rooms: &[MediaRoomFigures]) -> (Outcome, Option<String>) {
    let all = || rooms.iter().flat_map(|room| room.outages.iter().map(move |one| ((room.room, &one.members), one)));
    if all().next().is_none() {
        return (Outcome::NotMeasured, Some("--max-recovery: no outage hit a pair that carried AUDIO".to_owned()));
    }
    let (outcome, decisive) = decide(all().filter_map(|(pair, one)| Some((pair, one.result?, (pair, one)))));
    let number = |pairs: BTreeSet<_>| pairs.len();
    let [of, pairs] = [decisive.iter().map(|one| one.0).collect(), all().map(|one| one.0).collect()].map(number);
    let time = |(_, one): &(_, &OutageFigures)| one.recovery_ms.or(one.observed_ms).unwrap_or(0.0);
    let worst = decisive.iter().max_by(|one, other| time(one).total_cmp(&time(other)));
    let sentence = |((room, _), (name, _, text))| format!("room {room}, {name}: {text} ({of} of {pairs} pairs)");
    (outcome, worst.map(|(pair, one)| sentence((*pair, one.judgment()))))
}

/// A line of the report, which is a test case: its name, its result unless nothing was attempted or asked for, and what it says.
type Judgment = (String, Option<Judged>, String);

impl MediaFlowFigures {
    fn judgment(&self) -> Judgment {
        let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), format_length);
        let ([first, last], keys) = ([self.first_audio_ms, self.last_audio_ms].map(time), self.key_changes);
        let row = format!("{}{first:>10}{last:>10}{keys:>10}", audio_columns(&self.audio_before, &self.audio_after));
        let attempted = (Some(Judged::Met), row);
        let (result, text) = if self.datagrams == 0 { (None, "never attempted".to_owned()) } else { attempted };
        (format!("{} to {}", self.from, self.to), result, text)
    }
}

impl OutageFigures {
    fn judgment(&self) -> Judgment {
        let Self { number, members: [one, other], result, .. } = self;
        let [start, length, time] =
            [self.start_ms, self.length_ms, self.recovery_ms.or(self.observed_ms).unwrap_or(0.0)].map(format_length);
        let recovery = match &self.lost {
            _ if self.recovery_ms.is_some() => format!("recovered after {time}"),
            Some(lost) => format!("not recovered, {lost} left for good"),
            None => format!("not recovered within {time}"),
        };
        let unjudged = if *result == Some(Judged::NotJudged) { "not judged: " } else { "" };
        let note = self.note.as_ref().map(|note| format!(", {unjudged}{note}")).unwrap_or_default();
        let text = format!("{length} at {start}, {recovery}{note}");
        (format!("outage {number} of {one} and {other}"), *result, text)
    }
}

impl MediaRoomFigures {
    /// The room, its flows and its outages.
    fn judgments(&self) -> Vec<Judgment> {
        let room = format!("room {}", self.room);
        let complete = |ms| format!("complete after {}", format_length(ms));
        let complete = self.complete_after_ms.map_or_else(|| "not complete".to_owned(), complete);
        let text = format!("{} members, {} flows, {complete}", self.members, self.flows.len());
        let others = self.flows.iter().map(MediaFlowFigures::judgment);
        let others = others.chain(self.outages.iter().map(OutageFigures::judgment));
        let mut all: Vec<_> = others.map(|(name, result, text)| (format!("{room}, {name}"), result, text)).collect();
        all.insert(0, (room, self.complete_after_ms.map(|_| Judged::Met), text));
        all
    }
}

impl MediaReport {
    /// The table of all flows, the outages, the findings and the warnings.
    pub fn text(&self) -> String {
        let mut text = format!("{:50}{AUDIO_HEAD}     first      last  new keys\n", "forwarded media");
        let judgments = self.rooms.iter().flat_map(MediaRoomFigures::judgments);
        judgments.for_each(|(name, _, line)| _ = writeln!(text, "{name:50}{line}"));
        add_findings(&mut text, &self.findings, &self.not_judged, &self.warnings);
        text
    }

    /// A test case for each room, flow and outage of a pair, and one with the findings, in the document of a check with this outcome. What was
    /// not attempted is skipped.
    pub(crate) fn cases(&self, outcome: Outcome) -> impl Iterator<Item = TestCase> {
        let status = findings_status(outcome, &self.findings, &self.not_judged);
        let findings = case("media", "findings", status, "");
        let judged = self.rooms.iter().flat_map(MediaRoomFigures::judgments).map(move |(name, result, text)| {
            let status = match result {
                None => skipped(&text),
                Some(Judged::NotJudged) => junit::not_judged(outcome, &text),
                Some(Judged::Exceeded) => failed("max_recovery", &text),
                Some(Judged::Met) => TestCaseStatus::success(),
            };
            case("media", &name, status, text.trim())
        });
        judged.chain([findings])
    }
}
