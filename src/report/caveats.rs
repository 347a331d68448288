//! What a person who knows measuring would add to the numbers.

mod capture;
mod heard;
mod machine;
mod moqt;
mod playback;
mod websocket;

use serde::Serialize;

use super::direction;
use super::document::Report;
use super::names::Names;
use super::numbers::StreamNumbers;
use super::wording::{count, time};
use crate::flow::run::StreamKind;
use crate::wire::{HEADER_LEN, WHOLE_DATAGRAM};

/// Own pacing errors from here on show up in what others would call jitter, in microseconds.
const PACING_MATTERS_US: f64 = 1_000.0;
/// A drift of our own pacing from here on is said, in microseconds.
const DRIFT_MATTERS_US: f64 = 100.0;
/// From here on the given hold and the one seen do not describe the same server, in milliseconds.
const HOLD_MATTERS_MS: f64 = 5.0;
/// An estimate of the hold is as good as the best of this many pings.
const PINGS_FOR_HOLD: u64 = 3;
/// The largest payload that stays in one piece on an Ethernet path.
const WHOLE_PAYLOAD: u32 = (WHOLE_DATAGRAM - HEADER_LEN) as u32;
/// Round trips that a 99th percentile takes.
const P99_TAKES: u64 = 100;

/// Which caveat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the sentences below say what each one means")]
pub enum Code {
    NothingCameBack,
    Damaged,
    SendFailed,
    Refused,
    Unmatched,
    Stray,
    InFlight,
    DirectionNotAsked,
    DirectionNotTold,
    Overruns,
    DeviceXruns,
    DeviceLost,
    SpeakerLost,
    SpeakerStuck,
    SpeakerXruns,
    PlayedLate,
    PlayedNonFinite,
    Underruns,
    RecordDropped,
    SentSilence,
    ReturnedSilence,
    Clipped,
    NotNumbers,
    Unlike,
    HeardDropped,
    RecordBothDropped,
    HoldUnknown,
    HoldMismatch,
    HoldFromFewPings,
    Fragmented,
    FewSamples,
    Pacing,
    PacingDrift,
    KernelDropped,
    Suspended,
    ClockJumped,
    SlowSendCalls,
    LateWakeUps,
    ConnectionLost,
    Complaint,
    Unanswered,
    GroupsRefused,
    AskedAgain,
}

/// One caveat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Caveat {
    /// Which one, for scripts.
    pub code: Code,
    /// The sentence, for people.
    pub text: String,
    /// What belongs under it, if anything.
    pub points: Vec<String>,
}

/// Everything worth saying about a report, the gravest first.
pub(super) fn caveats(report: &Report) -> Vec<Caveat> {
    let judged = report.streams.get(report.judged);
    let mut found = Vec::new();
    found.extend(websocket::caveats(report, judged));
    found.extend(moqt::caveats(report, judged));
    // A device that has delivered nothing says nothing of the way.
    let nothing_left = report.capture.is_some() && judged.is_some_and(|judged| judged.sent == 0);
    found.extend(nothing_came_back(report, judged).filter(|_| report.is_over_udp() && !nothing_left));
    found.extend(report.streams.iter().filter_map(|(kind, stream)| damaged(report.names(kind), stream)));
    found.extend(report.streams.iter().flat_map(|(kind, stream)| odd_counts(report, kind, stream)));
    if report.stray > 0 {
        let came = report.names(report.judged).came;
        let text = format!("{} belonged to no stream of this run", count(report.stray, came));
        found.push(say(Code::Stray, text));
    }
    found.extend(direction::not_asked(report, judged).map(|text| say(Code::DirectionNotAsked, text)));
    found.extend(direction::not_told(report).map(|text| say(Code::DirectionNotTold, text)));
    found.extend(machine::caveats(report));
    found.extend(report.capture.iter().flat_map(capture::caveats));
    found.extend(report.playback.iter().flat_map(playback::caveats));
    found.extend(report.heard.iter().flat_map(|heard| heard::caveats(heard, report.capture.is_some())));
    found.extend(about_audio(report));
    found.extend(about_precision(report, judged));
    found
}

fn say(code: Code, text: impl Into<String>) -> Caveat {
    Caveat { code, text: text.into(), points: Vec::new() }
}

fn nothing_came_back(report: &Report, judged: Option<&StreamNumbers>) -> Option<Caveat> {
    let heard = judged.is_some_and(StreamNumbers::is_heard);
    if !report.answers_expected || heard {
        let text = "\"port unreachable\" came during the run: did the server start late or stop early, or does a firewall \
                    reject now and then?";
        return (report.refused > 0).then(|| say(Code::Refused, text));
    }
    let others = report.streams.iter().find(|(kind, stream)| *kind != report.judged && stream.is_heard());
    let strangers = report.stray + report.streams.iter().map(|(_, stream)| stream.unmatched).sum::<u64>();
    let (name, answer) = (report.judged.name(), report.judged.answer_name());
    let refused = match report.refused {
        0 => "it was not seen".to_owned(),
        n => format!("seen {}, so look here first", count(n, "time")),
    };
    let silent = if others.is_some() || strangers > 0 {
        "something answered, so this is not it"
    } else if report.refused > 0 {
        "\"port unreachable\" came, so hardly this"
    } else {
        "nothing at all answered, so look here first: try `jamjam-dev probe --embedded`, then `jamjam-dev probe` on the \
         server's own machine; where both pass, it is the way between"
    };
    let no_server = match report.judged {
        StreamKind::Audio => "no echo server listens there, or it holds AUDIO longer than this run waited".to_owned(),
        StreamKind::Ping | StreamKind::Keepalive => format!("what listens there does not answer {name}"),
    };
    let answered = match (others, strangers) {
        (Some((kind, stream)), _) => {
            let answers = stream.returned.max(stream.damaged);
            format!("{answers} {} came, so this is it: give --hold or a longer --timeout", kind.answer_name())
        }
        (None, 1..) => format!("{} came that answer nothing we sent, so this is it", count(strangers, "datagram")),
        (None, 0) if report.refused > 0 => "look at the first reason first".to_owned(),
        (None, 0) => "then something else would answer; nothing did".to_owned(),
    };
    Some(Caveat {
        code: Code::NothingCameBack,
        text: format!("no {answer} came back; there are three usual reasons"),
        points: vec![
            format!("nothing listens on that port, or a firewall rejects it; both say \"port unreachable\": {refused}"),
            format!("the host is wrong, a firewall drops UDP, or the server lets only others in (--allow): {silent}"),
            format!("{no_server}: {answered}"),
        ],
    })
}

fn damaged(names: Names, stream: &StreamNumbers) -> Option<Caveat> {
    let text = format!(
        "{} came back with other bytes than were sent: the server or a box on the way changes them",
        count(stream.damaged_copies.max(stream.damaged), &names.datagram())
    );
    (stream.damaged_copies > 0 || stream.damaged > 0).then(|| say(Code::Damaged, text))
}

fn odd_counts(report: &Report, kind: StreamKind, stream: &StreamNumbers) -> impl Iterator<Item = Caveat> {
    let names = report.names(kind);
    // Where no answer is expected every packet stays without a fate; that is no news.
    let in_flight = if report.answers_expected { stream.in_flight } else { 0 };
    let packets = |n| count(n, &names.packet());
    [
        (
            stream.send_failed,
            Code::SendFailed,
            format!("{} could not be sent and count as lost", packets(stream.send_failed)),
        ),
        (
            stream.unmatched,
            Code::Unmatched,
            format!(
                "{} answered nothing we sent: from a run before, or somebody else's",
                count(stream.unmatched, &names.datagram())
            ),
        ),
        (
            in_flight,
            Code::InFlight,
            format!(
                "{} could still have been answered when the run was interrupted: neither returned nor lost",
                packets(in_flight)
            ),
        ),
    ]
    .into_iter()
    .filter(|(n, ..)| *n > 0)
    .map(|(_, code, text)| say(code, text))
}

fn about_audio(report: &Report) -> Vec<Caveat> {
    let Some(audio) = &report.audio else { return Vec::new() };
    let mut found = Vec::new();
    if audio.underruns > 0 {
        let text = format!(
            "the source was not ready for {} when they were due: they left late",
            count(audio.underruns, "packet")
        );
        found.push(say(Code::Underruns, text));
    }
    if audio.record_dropped > 0 {
        let text = format!("the recording lacks {} that came back", count(audio.record_dropped, "packet"));
        found.push(say(Code::RecordDropped, text));
    }
    if audio.record_both_dropped > 0 {
        let text = format!("the recording of both sides lacks {}", count(audio.record_both_dropped, "packet"));
        found.push(say(Code::RecordBothDropped, text));
    }
    if audio.echo_min_us.is_some() && audio.hold_ms.is_none() {
        let text = "no LATENCY_PONG came, so the server's hold is unknown and with it AUDIO's round trip: give --hold";
        found.push(say(Code::HoldUnknown, text));
    }
    if let (Some(given), Some(seen)) = (audio.hold_given_ms, audio.hold_estimated_ms)
        && (given - seen).abs() > HOLD_MATTERS_MS
    {
        let text = format!("--hold says {}, the server seems to hold {}", time(given * 1e3), time(seen * 1e3));
        found.push(say(Code::HoldMismatch, text));
    } else if report.streams.audio.as_ref().and_then(|audio| audio.rtt_min_us).is_some_and(|least| least < 0.0) {
        found.push(say(Code::HoldMismatch, "AUDIO came back sooner than --hold says: the server holds it for less"));
    }
    let pings = report.streams.ping.as_ref().map_or(0, |ping| ping.returned);
    if audio.hold_given_ms.is_none() && audio.hold_estimated_ms.is_some() && pings < PINGS_FOR_HOLD {
        let text = format!(
            "the server's hold was estimated from {}: what the best of them took too long is missing from AUDIO's round \
             trips; a longer run or --hold makes them firm",
            count(pings, "ping")
        );
        found.push(say(Code::HoldFromFewPings, text));
    }
    if audio.payload_bytes > WHOLE_PAYLOAD {
        let text = format!(
            "{} payload bytes do not fit one Ethernet frame: each packet travels in pieces, and one lost piece loses it",
            audio.payload_bytes
        );
        found.push(say(Code::Fragmented, text));
    }
    found
}

fn about_precision(report: &Report, judged: Option<&StreamNumbers>) -> Vec<Caveat> {
    let mut found = Vec::new();
    if let Some(n @ 1..P99_TAKES) = judged.map(|judged| judged.rtt_count) {
        let text = format!("only {}: a p99 takes {P99_TAKES}", count(n, "round trip"));
        found.push(say(Code::FewSamples, text));
    }
    let Some(pacing) = &report.pacing else { return found };
    let (name, worst) = match pacing.pacing_p99_us {
        Some(p99) => ("p99", Some(p99)),
        None => ("maximum", pacing.pacing_max_us),
    };
    if let Some(worst) = worst.filter(|worst| *worst > PACING_MATTERS_US) {
        let text = format!("own pacing error {name} was {}: read jitter with care", time(worst));
        found.push(say(Code::Pacing, text));
    }
    if let (Some(first), Some(last)) = (pacing.pacing_first_5s_p50_us, pacing.pacing_last_5s_p50_us)
        && (last - first).abs() > DRIFT_MATTERS_US
    {
        let text = format!("own pacing drifted: median error {} at first, {} at last", time(first), time(last));
        found.push(say(Code::PacingDrift, text));
    }
    found
}
