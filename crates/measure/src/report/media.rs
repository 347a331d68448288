//! The report of the bad room: what the members of each room have sent to each other, what of it was forwarded, and how they got through
//! outages. It says what was forwarded, not what was heard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use quick_junit::{TestCase, TestCaseStatus};
use serde::Serialize;

use super::figures::figures;
use super::junit::{case, failed, skipped};
use super::quantities::{duration_millis, format_length};
use super::relay::{AUDIO_HEAD, ForwardedAudioFigures, add_findings, audio_columns};
use jamjam_core::media_relay::{JUDGED_TIME, JudgedOutage, MAX_OUTAGES, MediaRoom, MediaRoute};
use jamjam_core::relay::Flow;
use jamjam_core::time::Time;

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
    OutageFigures from (number, route, outage, time_0, limit): (usize, &MediaRoute, &JudgedOutage, Time, Option<Duration>) [
        let passed = match outage.recovery {
            Ok(recovery) => Some(limit.is_none_or(|limit| recovery <= limit)),
            Err(observed) => limit.and_then(|limit| (observed >= limit + JUDGED_TIME).then_some(false)),
        };
    ] {
        number: usize = number;
        members: [String; 2] = [&route.from, &route.to].map(ToString::to_string);
        start_ms: f64 = duration_millis(outage.start.duration_since(time_0));
        length_ms: f64 = duration_millis(outage.end.duration_since(outage.start));
        recovery_ms: Option<f64> = outage.recovery.ok().map(duration_millis);
        observed_ms: Option<f64> = outage.recovery.err().map(duration_millis);
        passed: Option<bool> = passed;
    }

    /// A room.
    MediaRoomFigures from (number, room, limit): (u64, &MediaRoom, Option<Duration>) [
        let time_0 = room.started_at.unwrap_or_default();
        let members: BTreeSet<_> = room.flows.iter().map(|(route, _)| &route.from).collect();
    ] {
        room: u64 = number;
        members: usize = members.len();
        complete_after_ms: Option<f64> = room.completed_after().map(duration_millis);
        flows: Vec<MediaFlowFigures> = room.flows.iter().map(|(route, flow)| (route, flow, time_0).into()).collect();
        outages: Vec<OutageFigures> = room.recoveries.iter().flat_map(|(route, recovery)| (1..).zip(&recovery.judged).map(move |(number, one)| (number, route, one, time_0, limit).into())).collect();
    }

    /// All rooms, and the counts of datagrams. No recovery may take longer than the limit.
    MediaReport from (results, counts, dropped, limit): (&BTreeMap<u64, MediaRoom>, &BTreeMap<&str, u64>, Option<u64>, Option<Duration>) [
        let rooms: Vec<MediaRoomFigures> = results.iter().map(|(number, room)| (*number, room, limit).into()).collect();
        let failed = rooms.iter().flat_map(MediaRoomFigures::judgments).filter(|one| limit.is_some() && one.1 == Some(false));
        let counted = |name: &str| counts.get(name).map(|count| format!("outcome {name}: {count}"));
        let dropped = dropped.filter(|count| *count > 0).map(|count| format!("dropped at the sockets of the relay: {count}"));
        let findings: Vec<String> = ["limit", "buffer_full"].into_iter().filter_map(counted).chain(dropped).collect();
        let strange = ["failed", "foreign_source", "forgotten_flow"].into_iter().filter_map(counted);
        let warnings = results.values().flat_map(|room| &room.flows).filter_map(|(_, flow)| flow.rate_warning());
        let full = results.values().flat_map(|room| &room.recoveries).filter(|(_, recovery)| recovery.judged.len() == MAX_OUTAGES);
        let unjudged = full.map(|(route, _)| format!("{} and {}: only the first {MAX_OUTAGES} outages are judged", route.from, route.to));
    ] {
        max_recovery_ms: Option<f64> = limit.map(duration_millis);
        failures: Vec<String> = failed.map(|(name, _, text)| format!("{name}: {text}")).chain(findings.clone()).collect();
        findings: Vec<String> = findings;
        warnings: Vec<String> = strange.chain(warnings).chain(unjudged).collect();
        rooms: Vec<MediaRoomFigures> = rooms;
    }
}

/// A line of the report, which is a test case: its name, whether it has passed unless it cannot be judged, and what it says.
type Judgment = (String, Option<bool>, String);

impl MediaFlowFigures {
    fn judgment(&self) -> Judgment {
        let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), format_length);
        let ([first, last], keys) = ([self.first_audio_ms, self.last_audio_ms].map(time), self.key_changes);
        let row = format!("{}{first:>10}{last:>10}{keys:>10}", audio_columns(&self.audio_before, &self.audio_after));
        let (passed, text) = if self.datagrams == 0 { (None, "never attempted".to_owned()) } else { (Some(true), row) };
        (format!("{} to {}", self.from, self.to), passed, text)
    }
}

impl OutageFigures {
    fn judgment(&self) -> Judgment {
        let (Self { number, members: [one, other], passed, .. }, recovery) = (self, self.recovery_ms);
        let result = match passed {
            _ if recovery.is_some() => "recovered after",
            Some(_) => "not recovered within",
            None => "not judged: not recovered when a member left, another outage began or the run ended, after",
        };
        let times = [self.start_ms, self.length_ms, recovery.or(self.observed_ms).unwrap_or(0.0)];
        let [start, length, time] = times.map(format_length);
        (format!("outage {number} of {one} and {other}"), *passed, format!("{length} at {start}, {result} {time}"))
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
        let mut all: Vec<_> = others.map(|(name, passed, text)| (format!("{room}, {name}"), passed, text)).collect();
        all.insert(0, (room, self.complete_after_ms.map(|_| true), text));
        all
    }
}

impl MediaReport {
    /// The table of all flows, the outages, the findings and the warnings.
    pub fn text(&self) -> String {
        let mut text = format!("{:50}{AUDIO_HEAD}     first      last  new keys\n", "forwarded media");
        let judgments = self.rooms.iter().flat_map(MediaRoomFigures::judgments);
        judgments.for_each(|(name, _, line)| _ = writeln!(text, "{name:50}{line}"));
        add_findings(&mut text, &self.findings, &self.warnings);
        text
    }

    /// A test case for each room, flow and outage of a pair, and one with the findings. What was not attempted or cannot be judged is skipped.
    pub(crate) fn cases(&self) -> impl Iterator<Item = TestCase> {
        let findings = self.findings.join("; ");
        let status = if findings.is_empty() { TestCaseStatus::success() } else { failed("findings", &findings) };
        let findings = case("media", "findings", status, "");
        let judged = self.rooms.iter().flat_map(MediaRoomFigures::judgments).map(|(name, passed, text)| {
            let status = match passed {
                None => skipped(&text),
                Some(false) => failed("max_recovery", &text),
                Some(true) => TestCaseStatus::success(),
            };
            case("media", &name, status, text.trim())
        });
        judged.chain([findings])
    }
}
