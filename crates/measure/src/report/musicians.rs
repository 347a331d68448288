//! The report of fake musicians in a room: what each has received from every other member. `docs/fake-musicians.md` explains it.

use super::limits::Limits;
use super::quantities::{self, RoundTrip, duration_millis, micros, rounded_micros};
use crate::client::{Heard, MusicianResults, RunKind, RunResults, StopSignal, StreamKind};
use crate::document::column::figures;
use crate::document::{Document, Head, Judgment};
use crate::verdict::Judged;
use jamjam_core::sanitize::sanitize_name;
use jamjam_core::time::Time;
use jamjam_signaling::client::RoomMember;

figures! {
    /// What a musician has received from another member; from an Echo Bot, which returns the musician's own packets, with the round trips.
    DirectionFigures from (to, member, heard, echoes, time_0): (&str, &RoomMember, &Heard, Option<&RunResults>, Time) [
        let sequences = &heard.audio.sequences;
        let times = heard.audio.times.map(|(first, last)| [first, last].map(|at| duration_millis(at.duration_since(time_0))));
        let rtt = echoes.and_then(|run| RoundTrip::of(run, StreamKind::Audio));
        let rtt_percentile = |p| rtt.and_then(|rtt| rtt.percentile(p)).map(micros);
    ] {
        /// The musician.
        @subject to: String = to.to_owned();
        /// The other member.
        @subject from: String = sanitize_name(&member.name);
        /// The link of the last AUDIO packet; null if none arrived.
        @short link: Option<&'static str> = heard.link;
        /// AUDIO packets received, with duplicates.
        @short packets: u64 = sequences.received;
        /// Sequence numbers between received ones of which no packet arrived.
        lost: u64 = sequences.gaps;
        /// `lost` divided by lost and received packets, without duplicates.
        @short loss_ratio: Option<f64> = heard.stats().loss_ratio();
        /// Packets whose sequence number was received before.
        @problem duplicates: u64 = sequences.duplicates;
        /// Packets that arrived after a later one.
        @problem reordered: u64 = sequences.reordered;
        /// When the first packet arrived, after the first of all directions; null if none arrived.
        first_ms: Option<f64> = times.map(|[first, _]| first);
        /// When the last packet arrived. What follows may be silence or loss.
        @short last_ms: Option<f64> = times.map(|[_, last]| last);
        /// Mean of the running jitter estimate (RFC 3550).
        @short jitter_mean_us: Option<f64> = heard.jitter.mean().map(rounded_micros);
        /// Maximum of the running jitter estimate.
        jitter_max_us: Option<f64> = heard.jitter.max().map(rounded_micros);
        /// Median round trip of an Echo Bot without its delay; null for other members.
        @short rtt_p50_us: Option<f64> = rtt_percentile(0.5);
        /// 99th percentile of the round trip of an Echo Bot without its delay; null for other members.
        rtt_p99_us: Option<f64> = rtt_percentile(0.99);
    }

    /// What a musician has sent, and whether this program kept up.
    MusicianFigures from results: &MusicianResults [
        let pacing = results.run.pacing.as_ref();
    ] {
        /// Name in the room.
        @subject name: String = results.run.target.clone();
        /// AUDIO packets of this musician. Each goes to all members whose link is settled.
        sent: u64 = results.run.evaluated().map_or(0, |audio| audio.sent);
        /// 99th percentile of the send time minus the due time.
        lateness_p99_us: Option<f64> = pacing.and_then(|pacing| pacing.all.percentile_if_enough(0.99)).map(micros);
        /// Datagrams that the system dropped at the socket.
        kernel_dropped: Option<u64> = results.run.host_timing.as_ref().and_then(|host| host.kernel_dropped);
    }

    /// What the musicians have heard and sent.
    MusiciansFigures {
        /// Name of the room.
        @json room: String;
        /// What each musician has heard from each other member.
        directions: Vec<DirectionFigures>;
        /// What each musician has sent.
        musicians: Vec<MusicianFigures>;
    }
}

/// The report of all musicians.
pub fn document(
    room: &str,
    musicians: &[MusicianResults],
    interrupted: Option<StopSignal>,
    limits: &Limits,
) -> Document {
    let (mut directions, mut judgments) = (Vec::new(), Vec::new());
    let all = musicians.iter().flat_map(|musician| &musician.heard);
    let time_0 = all.filter_map(|(_, heard)| Some(heard.audio.times?.0)).min().unwrap_or_default();
    let is_of_round_trips = |one: &Judgment| one.figure.is_some_and(|figure| figure.starts_with("rtt_"));
    for musician in musicians {
        let mut echoes = Some(&musician.run).filter(|run| run.evaluated().is_some_and(|audio| audio.returned > 0));
        for (member, heard) in &musician.heard {
            let echoes = echoes.take_if(|_| member.is_echo_server() && heard.audio.times.is_some());
            let figures = DirectionFigures::from((&*musician.run.target, member, heard, echoes, time_0));
            let mut run = RunResults::new(RunKind::Probe, "", StreamKind::Ping);
            (run.ping, run.host_timing) = (Some(heard.stats()), musician.run.host_timing.clone());
            (run.pauses, run.duration_ns) = (musician.run.pauses.clone(), musician.run.duration_ns);
            let silence = musician.silence_of(heard);
            let mut results = limits.evaluate(&run);
            if !member.is_echo_server() || silence.is_none() {
                results.retain(|one| !is_of_round_trips(one));
            }
            for result in results.iter_mut().filter(|_| silence.is_some()) {
                (result.result, result.reason) = (Judged::NotJudged, silence.map(str::to_owned));
            }
            results.extend(echoes.into_iter().flat_map(|run| limits.evaluate(run)).filter(is_of_round_trips));
            // A direction in which nothing arrived is not the same as a member whom others heard.
            let dead = if heard.audio.times.is_none() { &*musician.run.target } else { "" };
            let subject = format!("{} from {}", figures.to, figures.from);
            let group = format!("{} {dead}", &*member.id);
            judgments.extend(results.into_iter().map(|one| Judgment {
                subject: subject.clone(),
                group: group.clone(),
                ..one
            }));
            directions.push(figures);
        }
    }
    for MusicianResults { run, ignored, .. } in musicians.iter().filter(|musician| musician.ignored > 0) {
        let reason = format!("{}: {} ignored", run.target, quantities::format_count(*ignored as u64, "member"));
        judgments.push(Judgment::expectation("every member answered", Judged::NotJudged, Some(reason)));
    }
    let heard = directions.iter().filter(|one| one.packets > 0).count();
    let silence = (heard == 0).then(|| "no member heard anybody".to_owned());
    judgments.insert(0, Judgment::expectation("a member was heard", Judged::of(heard > 0), silence));
    let (count, all) = (quantities::format_count(musicians.len() as u64, "musician"), directions.len());
    let key_figures = format!("{count} in `{room}`, {heard} of {all} directions heard");
    let duration_ms = musicians.iter().map(|one| one.run.duration_ns).max().unwrap_or(0) as f64 / 1e6;
    let musicians = musicians.iter().map(MusicianFigures::from).collect();
    let figures = MusiciansFigures { room: room.to_owned(), directions, musicians };
    let head = Head::new("musicians", room.to_owned(), judgments);
    Document::new(Head { duration_ms, interrupted, key_figures, ..head }, &figures)
}
