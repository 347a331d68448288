//! The report of the bad room: what the members of each room have sent to each other, what of it was forwarded, and how they got through
//! outages. It says what was forwarded, not what was heard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::quantities::{duration_millis, format_length};
use super::relay::{ForwardedAudioFigures, THIS_HOST, delayed, judgment, texts};
use crate::diagnosis::{Diagnosis, Severity};
use crate::document::column::figures;
use crate::document::{Document, Head, Judgment};
use crate::verdict::Judged;
use jamjam_core::media_relay::{JUDGED_TIME, JudgedOutage, MAX_OUTAGES, MediaRoom, MediaRoute};
use jamjam_core::relay::{Flow, HostDelays};
use jamjam_core::time::{Pause, Time};

/// The section of the documentation about bad rooms.
const SECTION: &str = "docs/signaling-server.md#bad-room";

figures! {
    /// A room.
    MediaRoomFigures from (number, room): (u64, &MediaRoom) [
        let members: BTreeSet<_> = room.flows.iter().map(|(route, _)| &route.from).collect();
    ] {
        /// Number of the room, in the order of their creation.
        @subject room: u64 = number;
        /// Members that were in the room with others.
        @short members: usize = members.len();
        /// Time from the last member's first address until AUDIO was forwarded in each flow with datagrams; null if that was not reached.
        @short complete_after_ms: Option<f64> = room.completed_after().map(duration_millis);
    }

    /// From one member to another one. A flow without datagrams was never attempted.
    MediaFlowFigures from (number, route, flow, time_0): (u64, &MediaRoute, &Flow, Time) [
        let times = flow.left.times.map(|(first, last)| [first, last].map(|at| duration_millis(at.duration_since(time_0))));
    ] {
        /// Number of the room.
        @subject room: u64 = number;
        /// The sender, with the number of members of this name so far.
        @subject from: String = route.from.to_string();
        /// The receiver.
        @subject to: String = route.to.to_string();
        /// Datagrams that arrived, except STUN messages.
        @short datagrams: u64 = flow.datagrams;
        /// Their number by outcome, under the names in the outcome log.
        outcomes: BTreeMap<&'static str, u64> = flow.outcomes.clone();
        /// AUDIO as it arrived, before the impairment.
        audio_before: ForwardedAudioFigures = (&flow.arrived).into();
        /// AUDIO as it was forwarded, duplicates included. What arrived and was dropped is lost, also at the end.
        audio_after: ForwardedAudioFigures = (&flow.forwarded()).into();
        /// When the first AUDIO was forwarded, after the first of the room.
        @short first_audio_ms: Option<f64> = times.map(|[first, _]| first);
        /// When the last AUDIO was forwarded.
        @short last_audio_ms: Option<f64> = times.map(|[_, last]| last);
        /// How often a CONTROL passed with another key than the one before: the members renewed their link.
        @problem key_changes: u64 = flow.key_changes;
    }

    /// How the AUDIO from a member to another one got through an outage.
    OutageFigures from (room, number, route, outage, time_0, lost): (u64, usize, &MediaRoute, &JudgedOutage, Time, Option<&str>) [
        let [recovery, observed] = [outage.recovery.and_then(Result::ok), outage.recovery.and_then(Result::err)];
    ] {
        /// Number of the room.
        @subject room: u64 = room;
        /// The sender.
        @subject from: String = route.from.to_string();
        /// The receiver.
        @subject to: String = route.to.to_string();
        /// Counts the outages of the pair from 1.
        @subject outage: usize = number;
        /// After the first AUDIO of the room.
        @short start_ms: f64 = duration_millis(outage.start.duration_since(time_0));
        /// Outages that overlap are one; 0 for new ports (`renumber`).
        @short length_ms: f64 = duration_millis(outage.end.duration_since(outage.start));
        /// Time from the end of the outage to the forwarded AUDIO from which there is some in each of ten times 100 ms; null if that was not
        /// seen.
        @short recovery_ms: Option<f64> = recovery.map(duration_millis);
        /// Without a recovery: time from the end of the outage until a member left, the next outage began, or the server ended. Null also if
        /// there was no AUDIO in the second before the outage, which is then not judged.
        @short observed_ms: Option<f64> = observed.map(duration_millis);
        /// The member that left for good, and not by `LeaveRoom`, before the direction had recovered from the only outage of the pair.
        @short lost: Option<String> = lost.filter(|_| observed.is_some()).map(str::to_owned);
    }

    /// What members of rooms have sent to each other.
    MediaFigures from results: &BTreeMap<u64, MediaRoom> [
        let flows = |(number, room): (&u64, &MediaRoom)| {
            let time_0 = room.started_at.unwrap_or_default();
            room.flows.iter().map(|(route, flow)| (*number, route, flow, time_0).into()).collect::<Vec<MediaFlowFigures>>()
        };
        let outages = |(number, room): (&u64, &MediaRoom)| {
            outages_of(room).map(|(route, index, outage, lost)| {
                (*number, index, route, outage, room.started_at.unwrap_or_default(), lost).into()
            }).collect::<Vec<OutageFigures>>()
        };
    ] {
        /// The rooms.
        rooms: Vec<MediaRoomFigures> = results.iter().map(|(number, room)| (*number, room).into()).collect();
        /// From each member to each other one.
        flows: Vec<MediaFlowFigures> = results.iter().flat_map(flows).collect();
        /// One for each outage and each direction that had carried AUDIO, of pairs that carried some in the second before. A pair has at most
        /// 1,000 outages.
        outages: Vec<OutageFigures> = results.iter().flat_map(outages).collect();
    }
}

/// The outages of each direction in a room, numbered from 1, and the member that left for good.
fn outages_of(room: &MediaRoom) -> impl Iterator<Item = (&MediaRoute, usize, &JudgedOutage, Option<&str>)> {
    room.recoveries.iter().flat_map(|direction| {
        let (route, recovery) = direction;
        let lost = room.lost_for_good(recovery);
        (1..).zip(&recovery.judged).map(move |(number, outage)| (route, number, outage, lost))
    })
}

/// What a media relay has counted besides the flows.
pub struct MediaCounts<'a> {
    /// Datagrams by outcome.
    pub outcomes: &'a BTreeMap<&'a str, u64>,
    /// Changes of paths that meant nobody.
    pub unmet: &'a BTreeSet<[String; 2]>,
    /// Datagrams that the system dropped, if it says so.
    pub dropped: Option<u64>,
    /// What this host has delayed.
    pub delays: &'a HostDelays,
}

/// What the media relay of a server adds to its report.
#[derive(Clone, Debug)]
pub struct MediaReport {
    /// Rooms, flows and outages.
    pub figures: MediaFigures,
    /// With `--max-recovery` one of each outage, and what was expected of the relay.
    pub judgments: Vec<Judgment>,
    /// What the options did not ask for.
    pub findings: Vec<Diagnosis>,
    /// What this host delayed, and how flows differ from the run of `--like`.
    pub warnings: Vec<Diagnosis>,
}

impl MediaReport {
    /// The report of all rooms. No recovery may take longer than `max_recovery`.
    pub fn new(results: &BTreeMap<u64, MediaRoom>, counts: &MediaCounts<'_>, max_recovery: Option<Duration>) -> Self {
        let MediaCounts { outcomes, unmet, dropped, delays } = counts;
        let counted = |name: &str| (outcomes.get(name).copied().unwrap_or(0), format!("outcome {name}"));
        let host = [counted("buffer_full"), (dropped.unwrap_or(0), "dropped at the sockets of the relay".to_owned())];
        let findings = [counted("limit")];
        let strange = [counted("failed"), counted("foreign_source"), counted("forgotten_flow")];
        let figures = MediaFigures::from(results);
        let mut judgments: Vec<Judgment> = Vec::new();
        if let Some(limit) = max_recovery {
            for (number, room) in results {
                judgments.extend(outages_of(room).map(|(route, index, outage, lost)| {
                    let direction = format!("room {number}, {} to {}", route.from, route.to);
                    judge((limit, &delays.times), outage, lost)
                        .about(format!("{direction}, outage {index}"))
                        .in_group(direction)
                }));
            }
            if judgments.is_empty() {
                let reason = Some("--max-recovery: no outage hit a pair that carried AUDIO".to_owned());
                judgments.push(Judgment::expectation("outages", Judged::NotJudged, reason));
            }
        }
        judgments.push(judgment("datagrams forwarded as asked", &findings, Judged::Exceeded));
        judgments.push(judgment(THIS_HOST, &host, Judged::NotJudged));
        let rates = results.values().flat_map(|room| &room.flows).filter_map(|(_, flow)| flow.rate_warning());
        let recoveries = results.values().flat_map(|room| &room.recoveries);
        let full = recoveries.filter(|(_, recovery)| recovery.judged.len() == MAX_OUTAGES);
        let unjudged = full.map(|(route, _)| {
            format!("{} to {}: only the first {MAX_OUTAGES} outages are judged", route.from, route.to)
        });
        let unmet =
            unmet.iter().map(|[from, to]| format!("change of the path from `{from}` to `{to}`: it meant nobody"));
        let note = |severity| move |text| Diagnosis::new(severity, "media", SECTION, text);
        let findings = texts(&findings).map(note(Severity::Warning)).collect();
        let warnings = texts(&delayed(delays)).chain(texts(&host)).chain(texts(&strange)).collect::<Vec<_>>();
        let warnings = warnings.into_iter().chain(rates).chain(unjudged).chain(unmet);
        Self { figures, judgments, findings, warnings: warnings.map(note(Severity::Note)).collect() }
    }

    /// The report of a server that judges nothing.
    pub fn document(self, seed: Option<u64>) -> Document {
        let mut head = Head::new("signaling-server", "forwarded media".to_owned(), Vec::new());
        head.facts = seed.map(|seed| format!("--seed {seed} repeats the impairment")).into_iter().collect();
        (head.seed, head.findings, head.warnings) = (seed, self.findings, self.warnings);
        Document::new(head, &self.figures)
    }
}

/// The result of an outage, for a limit and the times when this host has delayed what it forwards.
fn judge((limit, delays): (Duration, &VecDeque<Pause>), outage: &JudgedOutage, lost: Option<&str>) -> Judgment {
    let judged = limit.saturating_add(JUDGED_TIME);
    let seen = outage.recovery.map(|recovery| recovery.map_or_else(|observed| observed, |one| one + JUDGED_TIME));
    let until = outage.end + seen.unwrap_or_default().min(judged);
    let lost = lost.filter(|_| matches!(outage.recovery, Some(Err(_))));
    let is_delayed = delays.iter().any(|delay| delay.end > outage.end && delay.start < until);
    let (result, reason) = match outage.recovery {
        None => (Judged::NotJudged, Some("no AUDIO in the second before it".to_owned())),
        Some(_) if is_delayed => (Judged::NotJudged, Some("the relay did not run, or sent late".to_owned())),
        Some(Ok(recovery)) => (Judged::of(recovery <= limit), None),
        Some(Err(observed)) => {
            let text = format!("not recovered within {}", format_length(duration_millis(observed)));
            match lost {
                Some(lost) => (Judged::Exceeded, Some(format!("not recovered, {lost} left for good"))),
                None if observed < judged => {
                    (Judged::NotJudged, Some(format!("{text}: a member left, another outage began or the run ended")))
                }
                None => (Judged::Exceeded, Some(text)),
            }
        }
    };
    let measured = outage.recovery.and_then(Result::ok).map(duration_millis);
    let allowed = Some(duration_millis(limit));
    let judgment = Judgment::of(String::new(), "--max-recovery".to_owned(), result, reason);
    Judgment { figure: Some("recovery_ms"), allowed, measured, ..judgment }
}
