//! The report of the bad room: what the members of each room have sent to each other, what of it was forwarded, and how they got through
//! outages. It says what was forwarded, not what was heard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use quick_junit::TestCase;
use serde::Serialize;

use super::figures::figures;
use super::junit::{case, judged};
use super::quantities::{duration_millis, format_length};
use super::relay::{AUDIO_HEAD, ForwardedAudioFigures, add_findings, audio_columns, delayed, findings_status};
use crate::verdict::{Judged, Verdict, decide};
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
        audio_after: ForwardedAudioFigures = (&flow.forwarded()).into();
        first_audio_ms: Option<f64> = times.map(|[first, _]| first);
        last_audio_ms: Option<f64> = times.map(|[_, last]| last);
        key_changes: u64 = flow.key_changes;
    }

    /// How the AUDIO from a member to another one got through an outage.
    OutageFigures from (number, route, outage, time_0, lost, limit): (usize, &MediaRoute, &JudgedOutage, Time, Option<&str>, Limit<'_>) [
        let [recovery, observed] = [outage.recovery.and_then(Result::ok), outage.recovery.and_then(Result::err)];
        let lost = lost.filter(|_| observed.is_some());
        let (result, note) = judge(limit, outage, lost.is_some()).unzip();
    ] {
        number: usize = number;
        from: String = route.from.to_string();
        to: String = route.to.to_string();
        start_ms: f64 = duration_millis(outage.start.duration_since(time_0));
        length_ms: f64 = duration_millis(outage.end.duration_since(outage.start));
        recovery_ms: Option<f64> = recovery.map(duration_millis);
        observed_ms: Option<f64> = observed.map(duration_millis);
        lost: Option<String> = lost.map(str::to_owned);
        result: Option<Judged> = result;
        note: Option<String> = note.flatten();
    }

    /// A room.
    MediaRoomFigures from (number, room, limit): (u64, &MediaRoom, Limit<'_>) [
        let time_0 = room.started_at.unwrap_or_default();
        let members: BTreeSet<_> = room.flows.iter().map(|(route, _)| &route.from).collect();
        let of_flow = |(route, recovery): &(MediaRoute, Recovery)| {
            let figures = |(number, one)| (number, route, one, time_0, room.lost_for_good(recovery), limit).into();
            (1..).zip(&recovery.judged).map(figures).collect::<Vec<_>>()
        };
    ] {
        room: u64 = number;
        members: usize = members.len();
        complete_after_ms: Option<f64> = room.completed_after().map(duration_millis);
        flows: Vec<MediaFlowFigures> = room.flows.iter().map(|(route, flow)| (route, flow, time_0).into()).collect();
        outages: Vec<OutageFigures> = room.recoveries.iter().flat_map(of_flow).collect();
    }

    /// All rooms, the counts of datagrams, and what this host has dropped and delayed. No recovery may take longer than the limit.
    MediaReport from (results, counts, unmet, dropped, delays, limit): (&BTreeMap<u64, MediaRoom>, &BTreeMap<&str, u64>, &BTreeSet<[String; 2]>, Option<u64>, &HostDelays, Option<Duration>) [
        let limit = limit.map(|max_recovery| (max_recovery, &delays.times));
        let rooms: Vec<MediaRoomFigures> = results.iter().map(|(number, room)| (*number, room, limit).into()).collect();
        let counted = |name: &str| counts.get(name).map(|count| format!("outcome {name}: {count}"));
        let dropped = dropped.filter(|count| *count > 0).map(|count| format!("dropped at the sockets of the relay: {count}"));
        let findings: Vec<String> = counted("limit").into_iter().collect();
        let strange = ["failed", "foreign_source", "forgotten_flow"].into_iter().filter_map(counted);
        let warnings = results.values().flat_map(|room| &room.flows).filter_map(|(_, flow)| flow.rate_warning());
        let full = results.values().flat_map(|room| &room.recoveries).filter(|(_, recovery)| recovery.judged.len() == MAX_OUTAGES);
        let unjudged = full.map(|(route, _)| format!("{} to {}: only the first {MAX_OUTAGES} outages are judged", route.from, route.to));
        let unmet = unmet.iter().map(|[from, to]| format!("change of the path from `{from}` to `{to}`: it meant nobody"));
        let is_unused = limit.is_some() && rooms.iter().all(|room| room.outages.is_empty());
        let unused = is_unused.then(|| "--max-recovery: no outage hit a pair that carried AUDIO".to_owned());
        let (verdict, worst) = worst(&rooms).unzip();
        let [exceeded, not_judged] = [Verdict::Failed, Verdict::NotMeasured].map(|one| worst.clone().filter(|_| verdict == Some(one)));
    ] {
        max_recovery_ms: Option<f64> = limit.map(|(limit, _)| duration_millis(limit));
        failures: Vec<String> = exceeded.into_iter().chain(findings.clone()).collect();
        not_judged: Vec<String> = [not_judged, unused, counted("buffer_full"), dropped].into_iter().flatten().collect();
        findings: Vec<String> = findings;
        warnings: Vec<String> = delayed(delays).into_iter().chain(strange).chain(warnings).chain(unjudged).chain(unmet).collect();
        rooms: Vec<MediaRoomFigures> = rooms;
    }
}

/// `--max-recovery`, and when this host has delayed what it forwards.
type Limit<'a> = Option<(Duration, &'a VecDeque<Pause>)>;

/// The result of an outage, and a note on it.
fn judge(limit: Limit<'_>, outage: &JudgedOutage, is_lost: bool) -> Option<(Judged, Option<String>)> {
    let (limit, delays) = limit?;
    let judged = limit.saturating_add(JUDGED_TIME);
    let Some(recovery) = outage.recovery else { return Some((Judged::NotJudged, None)) };
    let seen = recovery.map_or_else(|observed| observed, |recovery| recovery + JUDGED_TIME);
    let until = outage.end + seen.min(judged);
    Some(match recovery {
        _ if delays.iter().any(|delay| delay.end > outage.end && delay.start < until) => {
            (Judged::NotJudged, Some("the relay did not run, or sent late".to_owned()))
        }
        Ok(recovery) if recovery <= limit => (Judged::Met, None),
        Err(observed) if !is_lost && observed < judged => {
            (Judged::NotJudged, Some("a member left, another outage began or the run ended".to_owned()))
        }
        _ => (Judged::Exceeded, Some(format!("--max-recovery {} exceeded", format_length(duration_millis(limit))))),
    })
}

/// What the limit comes to, with the worst outage of those that decided, and the number of their directions.
fn worst(rooms: &[MediaRoomFigures]) -> Option<(Verdict, String)> {
    let outages =
        || rooms.iter().flat_map(|room| room.outages.iter().map(|one| ((room.room, &one.from, &one.to), one)));
    let (verdict, deciding) = decide(outages().filter_map(|(way, one)| Some((way, one.result?, (way, one)))));
    let ((room, ..), worst) =
        deciding.iter().max_by(|(_, one), (_, other)| one.time_ms().total_cmp(&other.time_ms()))?;
    let ways: BTreeSet<_> = deciding.iter().map(|(way, _)| way).collect();
    let all: BTreeSet<_> = outages().map(|(way, _)| way).collect();
    let (name, _, text) = worst.judgment();
    Some((verdict, format!("room {room}, {name}: {text} ({} of {} directions)", ways.len(), all.len())))
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
        let Self { number, from, to, result, .. } = self;
        let [start, length, time] = [self.start_ms, self.length_ms, self.time_ms()].map(format_length);
        let length = if self.length_ms > 0.0 { length } else { "new ports".to_owned() };
        let recovery = match &self.lost {
            _ if self.recovery_ms.is_some() => format!("recovered after {time}"),
            _ if self.observed_ms.is_none() => "no AUDIO in the second before it".to_owned(),
            Some(lost) => format!("not recovered, {lost} left for good"),
            None => format!("not recovered within {time}"),
        };
        let unjudged = if *result == Some(Judged::NotJudged) { "not judged: " } else { "" };
        let note = self.note.as_ref().map(|note| format!(", {unjudged}{note}")).unwrap_or_default();
        (format!("outage {number} of {from} to {to}"), *result, format!("{length} at {start}, {recovery}{note}"))
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

    /// A test case for each room, flow and direction in an outage, and one with the findings, and with what could not be judged at all.
    pub(crate) fn cases(&self) -> impl Iterator<Item = TestCase> {
        let findings = case("media", "findings", findings_status(&self.findings, &self.not_judged), "");
        let judged = self.rooms.iter().flat_map(MediaRoomFigures::judgments).map(|(name, result, text)| {
            case("media", &name, judged(result.unwrap_or(Judged::NotJudged), "max_recovery", &text), text.trim())
        });
        judged.chain([findings])
    }
}
