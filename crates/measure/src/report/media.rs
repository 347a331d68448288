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
use jamjam_core::relay::{Flow, HostDelays};
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
        let (result, note) = limit.judge(outage, lost.is_some());
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
        #[serde(skip)]
        of_pair: Outcome = Outcome::Passed;
    }

    /// A room.
    MediaRoomFigures from (number, room, limit): (u64, &MediaRoom, Limit<'_>) [
        let time_0 = room.started_at.unwrap_or_default();
        let members: BTreeSet<_> = room.flows.iter().map(|(route, _)| &route.from).collect();
        let of_pair = |(route, recovery): &(MediaRoute, Recovery)| {
            let lost = room.lost_for_good(recovery);
            let figures = |(number, one)| OutageFigures::from((number, route, one, time_0, lost, limit));
            let outages: Vec<_> = (1..).zip(&recovery.judged).map(figures).collect();
            let of_pair = decide(outages.iter().filter_map(|one| Some(((), one.result?, ())))).0;
            outages.into_iter().map(move |one| OutageFigures { of_pair, ..one })
        };
    ] {
        room: u64 = number;
        members: usize = members.len();
        complete_after_ms: Option<f64> = room.completed_after().map(duration_millis);
        flows: Vec<MediaFlowFigures> = room.flows.iter().map(|(route, flow)| (route, flow, time_0).into()).collect();
        outages: Vec<OutageFigures> = room.recoveries.iter().flat_map(of_pair).collect();
    }

    /// All rooms, the counts of datagrams, and what this host has dropped and delayed. No recovery may take longer than the limit.
    MediaReport from (results, counts, dropped, delays, limit): (&BTreeMap<u64, MediaRoom>, &BTreeMap<&str, u64>, Option<u64>, &HostDelays, Option<Duration>) [
        let limit = Limit { max_recovery: limit, delays: &delays.times };
        let rooms: Vec<MediaRoomFigures> = results.iter().map(|(number, room)| (*number, room, limit).into()).collect();
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        let findings = counted([(count("limit"), "outcome limit")]);
        let of_host = counted([(count("buffer_full"), "outcome buffer_full"), (dropped.unwrap_or(0), "dropped at the sockets of the relay")]);
        let strange = ["outcome failed", "outcome foreign_source", "outcome forgotten_flow"];
        let strange = counted(strange.map(|what| (count(what.trim_start_matches("outcome ")), what)));
        let warnings = results.values().flat_map(|room| &room.flows).filter_map(|(_, flow)| flow.rate_warning());
        let full = results.values().flat_map(|room| &room.recoveries).filter(|(_, recovery)| recovery.judged.len() == MAX_OUTAGES);
        let unjudged = full.map(|(route, _)| format!("{} and {}: only the first {MAX_OUTAGES} outages are judged", route.from, route.to));
        let is_unused = limit.max_recovery.is_some() && rooms.iter().all(|room| room.outages.is_empty());
        let unused = is_unused.then(|| "--max-recovery: no outage hit a pair that carried AUDIO".to_owned());
        let unmeasured: Vec<String> = unused.into_iter().chain(of_host).collect();
        let [exceeded, not_judged] = [Outcome::Failed, Outcome::NotMeasured].map(|outcome| worst_of(&rooms, outcome));
    ] {
        max_recovery_ms: Option<f64> = limit.max_recovery.map(duration_millis);
        failures: Vec<String> = exceeded.into_iter().chain(findings.clone()).collect();
        not_judged: Vec<String> = not_judged.into_iter().chain(unmeasured.clone()).collect();
        #[serde(skip)]
        unmeasured: Vec<String> = unmeasured;
        findings: Vec<String> = findings;
        warnings: Vec<String> = delayed(delays).into_iter().chain(strange).chain(warnings).chain(unjudged).collect();
        rooms: Vec<MediaRoomFigures> = rooms;
    }
}

/// `--max-recovery`, and when this host has delayed what it forwards.
#[derive(Clone, Copy)]
struct Limit<'a> {
    max_recovery: Option<Duration>,
    delays: &'a [Pause],
}

impl Limit<'_> {
    /// The result of an outage, and a note on it.
    fn judge(self, outage: &JudgedOutage, is_lost: bool) -> (Option<Judged>, Option<String>) {
        let limit = self.max_recovery.unwrap_or(Duration::MAX);
        let judged = limit.saturating_add(JUDGED_TIME);
        let seen = outage.recovery.map_or_else(|observed| observed, |recovery| recovery + JUDGED_TIME);
        let until = outage.end + seen.min(judged);
        let (result, note) = match outage.recovery {
            _ if self.delays.iter().any(|delay| delay.end > outage.end && delay.start < until) => {
                (Judged::NotJudged, "the relay did not run, or sent late".to_owned())
            }
            Ok(recovery) if recovery <= limit => return (Some(Judged::Met), None),
            Err(observed) if !is_lost && observed < judged => {
                (Judged::NotJudged, "a member left, another outage began or the run ended".to_owned())
            }
            _ => (Judged::Exceeded, format!("--max-recovery {} exceeded", format_length(duration_millis(limit)))),
        };
        self.max_recovery.map_or((None, None), |_| (Some(result), Some(note)))
    }
}

/// The worst outage of the pairs with this outcome, and how many these are.
fn worst_of(rooms: &[MediaRoomFigures], outcome: Outcome) -> Option<String> {
    let result = if outcome == Outcome::Failed { Judged::Exceeded } else { Judged::NotJudged };
    let all = || rooms.iter().flat_map(|room| room.outages.iter().map(move |one| (room.room, one)));
    let is_of = |(_, one): &(u64, &OutageFigures)| one.of_pair == outcome;
    let worst = all().filter(is_of).filter(|(_, one)| one.result == Some(result));
    let (room, worst) = worst.max_by(|(_, one), (_, other)| one.time_ms().total_cmp(&other.time_ms()))?;
    let (name, _, text) = worst.judgment();
    let pairs = |of_outcome: bool| all().filter(|one| one.1.number == 1 && (is_of(one) || !of_outcome)).count();
    Some(format!("room {room}, {name}: {text} ({} of {} pairs)", pairs(true), pairs(false)))
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
    /// The recovery, or for how long there was none.
    fn time_ms(&self) -> f64 {
        self.recovery_ms.or(self.observed_ms).unwrap_or(0.0)
    }

    fn judgment(&self) -> Judgment {
        let Self { number, members: [one, other], result, .. } = self;
        let [start, length, time] = [self.start_ms, self.length_ms, self.time_ms()].map(format_length);
        let recovery = match &self.lost {
            _ if self.recovery_ms.is_some() => format!("recovered after {time}"),
            Some(lost) => format!("not recovered, {lost} left for good"),
            None => format!("not recovered within {time}"),
        };
        let unjudged = if *result == Some(Judged::NotJudged) { "not judged: " } else { "" };
        let note = self.note.as_ref().map(|note| format!(", {unjudged}{note}")).unwrap_or_default();
        let text = format!("{length} at {start}, {recovery}{note}");
        // Beside judged outages of the pair, one that was not has no effect.
        let result = result.filter(|result| *result != Judged::NotJudged || self.of_pair == Outcome::NotMeasured);
        (format!("outage {number} of {one} and {other}"), result, text)
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
        add_findings(&mut text, &self.findings, &self.unmeasured, &self.warnings);
        text
    }

    /// A test case for each room, flow and outage of a pair, and one with the findings, in the document of a check with this outcome. What was
    /// not attempted, or cannot be judged although other outages of the pair are, is skipped.
    pub(crate) fn cases(&self, outcome: Outcome) -> impl Iterator<Item = TestCase> {
        let status = findings_status(outcome, &self.findings, &self.unmeasured);
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
