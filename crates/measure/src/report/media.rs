//! The report of the bad room: what the members of each room have sent to each other, what of it was forwarded, and how they got through
//! outages. It says what was forwarded, not what was heard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::quantities::{duration_millis, format_length};
use super::relay::{ForwardedAudioFigures, judgment, of_host, texts};
use crate::diagnosis::{Diagnosis, Severity};
use crate::document::column::figures;
use crate::document::{Head, Judgment};
use crate::verdict::Judged;
use jamjam_core::media_relay::{JUDGED_TIME, JudgedOutage, MAX_OUTAGES, MediaRoom, MediaRooms, MediaRoute};
use jamjam_core::relay::{Flow, HostDelays};
use jamjam_core::time::{Pause, Time};

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
    MediaFlowFigures from (number, room, route, flow): (u64, &MediaRoom, &MediaRoute, &Flow) [
        let times = flow.left.times.map(|(first, last)| [first, last].map(|at| since_start(room, at)));
    ] {
        /// Number of the room.
        @subject room: u64 = number;
        /// The sender, with the number of members of this name so far.
        @subject from: String = route.from.to_string();
        /// The receiver.
        @subject to: String = route.to.to_string();
        /// Datagrams that arrived, except STUN messages.
        @short datagrams: u64 = flow.datagrams;
        /// These datagrams by outcome, with the names of the outcome log.
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
    OutageFigures from (number, room, route, index, outage, lost): Outage<'_> [
        let [recovery, observed] = [outage.recovery.and_then(Result::ok), outage.recovery.and_then(Result::err)];
    ] {
        /// Number of the room.
        @subject room: u64 = number;
        /// The sender.
        @subject from: String = route.from.to_string();
        /// The receiver.
        @subject to: String = route.to.to_string();
        /// Counts the outages of the pair from 1.
        @subject outage: usize = index;
        /// Start of the outage, after the first AUDIO of the room.
        @short start_ms: f64 = since_start(room, outage.start);
        /// Length of the outage; 0 for new ports (`renumber`). Outages that overlap count as one.
        @short length_ms: f64 = duration_millis(outage.end.duration_since(outage.start));
        /// Whether an operator caused it: 100 % loss, or new ports.
        @short by_hand: bool = outage.is_by_hand;
        /// Time from the end of the outage until AUDIO is forwarded steadily: from then on, there is some in each of the next ten intervals of 100
        /// ms; null if that was not seen.
        @short recovery_ms: Option<f64> = recovery.map(duration_millis);
        /// Without a recovery, the time from the end of the outage until a member left, the next outage began, or the server ended. null if there was
        /// no AUDIO in the second before the outage, which is then not judged.
        @short observed_ms: Option<f64> = observed.map(duration_millis);
        /// The member that left for good, and not by `LeaveRoom`, before the direction had recovered from the only outage of the pair.
        @short lost: Option<String> = lost.map(str::to_owned);
    }

    /// What members of rooms have sent to each other.
    MediaFigures from results: &BTreeMap<u64, MediaRoom> [
        let flows = |(number, room): (&u64, &MediaRoom)| {
            room.flows.iter().map(|(route, flow)| (*number, room, route, flow).into()).collect::<Vec<MediaFlowFigures>>()
        };
    ] {
        /// The rooms.
        rooms: Vec<MediaRoomFigures> = results.iter().map(|(number, room)| (*number, room).into()).collect();
        /// From each member to each other one.
        flows: Vec<MediaFlowFigures> = results.iter().flat_map(flows).collect();
        /// One for each outage and each direction that had carried AUDIO, of pairs that carried some in the second before. A pair has at most
        /// 1,000 outages.
        outages: Vec<OutageFigures> = outages(results).map(Into::into).collect();
    }
}

/// Room, direction, the number of an outage in it from 1, and the member that left for good before this direction had recovered.
type Outage<'a> = (u64, &'a MediaRoom, &'a MediaRoute, usize, &'a JudgedOutage, Option<&'a str>);

/// The outages of each direction in each room.
fn outages(results: &BTreeMap<u64, MediaRoom>) -> impl Iterator<Item = Outage<'_>> {
    let directions =
        results.iter().flat_map(|(number, room)| room.recoveries.iter().map(move |one| (*number, room, one)));
    directions.flat_map(|(number, room, (route, recovery))| {
        let lost = room.lost_for_good(recovery);
        let lost_in = move |outage: &JudgedOutage| lost.filter(|_| matches!(outage.recovery, Some(Err(_))));
        (1..).zip(&recovery.judged).map(move |(index, outage)| (number, room, route, index, outage, lost_in(outage)))
    })
}

fn since_start(room: &MediaRoom, at: Time) -> f64 {
    duration_millis(at.duration_since(room.started_at.unwrap_or_default()))
}

/// The section of the documentation about bad rooms.
const SECTION: &str = "docs/signaling-server.md#the-bad-room";

/// What was expected of the relay.
const FORWARDED: &str = "datagrams forwarded as asked";

/// The report of a media relay, which a check contains.
#[derive(Clone, Debug)]
pub struct MediaReport {
    /// The judgments, if anything is judged: with `--max-recovery` one of each outage, and what was expected of the relay.
    pub head: Head,
    /// Rooms, flows and outages.
    pub figures: MediaFigures,
}

impl MediaReport {
    /// The report of all rooms. The system has `dropped` datagrams, if it says so. No recovery may take longer than `max_recovery`.
    pub fn new(
        rooms: &MediaRooms,
        (dropped, delays): (Option<u64>, &HostDelays),
        seed: u64,
        (is_judged, max_recovery): (bool, Option<Duration>),
    ) -> Self {
        let (results, outcomes, unmet) = (&rooms.take_results(), rooms.counts(), rooms.unmet());
        let counted = |name: &str| (outcomes.get(name).copied().unwrap_or(0), format!("outcome {name}"));
        let dropped =
            [counted("buffer_full"), (dropped.unwrap_or(0), "dropped at the sockets of the relay".to_owned())];
        let findings = [counted("limit")];
        let strange = [counted("failed"), counted("foreign_source"), counted("forgotten_flow")];
        let judge = |limit| outages(results).map(move |outage| judge(outage, limit, &delays.times));
        let mut judgments: Vec<Judgment> = max_recovery.into_iter().flat_map(judge).collect();
        if max_recovery.is_some() && judgments.is_empty() {
            let reason = Some("--max-recovery: no outage hit a pair that carried AUDIO".to_owned());
            judgments.push(Judgment::expectation("outages", Judged::NotJudged, reason));
        }
        judgments.push(judgment(FORWARDED, &findings, Judged::Exceeded));
        let (mut of_host, host) = of_host(&dropped, delays);
        if texts(&dropped).next().is_none() {
            // Each outage is judged with its delays, and what members send before any.
            FORWARDED.clone_into(&mut of_host.group);
        }
        judgments.push(of_host);
        let rates = results.values().flat_map(|room| &room.flows).filter_map(|(_, flow)| flow.rate_warning());
        let recoveries = results.values().flat_map(|room| &room.recoveries);
        let full = recoveries.filter(|(_, recovery)| recovery.judged.len() == MAX_OUTAGES);
        let unjudged = full.map(|(route, _)| {
            format!("{} to {}: only the first {MAX_OUTAGES} outages are judged", route.from, route.to)
        });
        let unmet =
            unmet.into_iter().map(|[from, to]| format!("change of the path from `{from}` to `{to}`: it meant nobody"));
        let severed = rooms.severed().into_iter().map(|name| format!("`{name}` was severed from the server by hand"));
        let warnings = texts(&host).chain(texts(&strange)).chain(rates).chain(unjudged).chain(unmet).chain(severed);
        let note = |severity| move |text| Diagnosis::new(severity, "media", SECTION, text);
        let judgments = if is_judged { judgments } else { Vec::new() };
        let mut head = Head::new("signaling-server", "forwarded media".to_owned(), judgments);
        head.findings = texts(&findings).map(note(Severity::Warning)).collect();
        head.warnings = warnings.map(note(Severity::Note)).collect();
        head.seed = Some(seed);
        Self { head, figures: results.into() }
    }
}

/// The result of an outage, for a limit and the times when this host has delayed what it forwards.
fn judge(outage: Outage<'_>, limit: Duration, delays: &VecDeque<Pause>) -> Judgment {
    let (number, _, route, index, outage, lost) = outage;
    let judged = limit.saturating_add(JUDGED_TIME);
    let seen = outage.recovery.map(|recovery| recovery.map_or_else(|observed| observed, |one| one + JUDGED_TIME));
    let until = outage.end + seen.unwrap_or_default().min(judged);
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
    let direction = format!("room {number}, {} to {}", route.from, route.to);
    let subject = format!("{direction}, outage {index}");
    let judgment = Judgment::of(subject, "--max-recovery".to_owned(), result, reason);
    Judgment {
        figure: Some("recovery_ms"),
        allowed: Some(duration_millis(limit)),
        measured,
        group: direction,
        ..judgment
    }
}
