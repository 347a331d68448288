//! The report of fake musicians in a room: what each has received from every other member. `docs/fake-musicians.md` explains it.

use std::fmt::Write;

use serde::Serialize;

use super::figures::figures;
use super::limits::{LimitResult, Limits, RunVerdict};
use super::model::SCHEMA_VERSION;
use super::quantities::{self, RoundTrip, duration_millis, micros, rounded_micros};
use super::text::Style;
use crate::client::{Heard, MusicianResults, RunKind, RunResults, StopSignal, StreamKind};
use crate::verdict::Judged;
use jamjam_core::sanitize::sanitize_name;
use jamjam_core::time::Time;
use jamjam_signaling::client::RoomMember;

/// Width of a column of figures.
const COLUMN_WIDTH: usize = 12;

figures! {
    /// What a musician has received from another member. Of an Echo Bot, the round trips as well.
    DirectionFigures from (to, member, heard, echoes, time_0): (&str, &RoomMember, &Heard, Option<&RunResults>, Time) [
        let sequences = &heard.audio.sequences;
        let times = heard.audio.times.map(|(first, last)| [first, last].map(|at| duration_millis(at.duration_since(time_0))));
        let rtt = echoes.and_then(|run| RoundTrip::of(run, StreamKind::Audio));
        let rtt_percentile = |p| rtt.and_then(|rtt| rtt.percentile(p)).map(micros);
    ] {
        to: String = to.to_owned();
        from: String = sanitize_name(&member.name);
        link: Option<&'static str> = heard.link;
        packets: u64 = sequences.received;
        lost: u64 = sequences.gaps;
        loss_ratio: Option<f64> = heard.stats().loss_ratio();
        duplicates: u64 = sequences.duplicates;
        reordered: u64 = sequences.reordered;
        first_ms: Option<f64> = times.map(|[first, _]| first);
        last_ms: Option<f64> = times.map(|[_, last]| last);
        jitter_mean_us: Option<f64> = heard.jitter.mean().map(rounded_micros);
        jitter_max_us: Option<f64> = heard.jitter.max().map(rounded_micros);
        rtt_p50_us: Option<f64> = rtt_percentile(0.5);
        rtt_p99_us: Option<f64> = rtt_percentile(0.99);
    }

    /// What a musician has sent, and whether this program kept up.
    MusicianFigures from results: &MusicianResults [
        let pacing = results.run.pacing.as_ref();
    ] {
        name: String = results.run.target.clone();
        sent: u64 = results.run.evaluated().map_or(0, |audio| audio.sent);
        lateness_p99_us: Option<f64> = pacing.and_then(|pacing| pacing.all.percentile_if_enough(0.99)).map(micros);
        kernel_dropped: Option<u64> = results.run.host_timing.as_ref().and_then(|host| host.kernel_dropped);
    }

    /// The report of all musicians.
    MusiciansReport from (room, musicians, interrupted, limits):
        (&str, &[MusicianResults], Option<StopSignal>, &Limits) [
        let (mut directions, mut judgments) = (Vec::new(), Vec::new());
        let all = musicians.iter().flat_map(|musician| &musician.heard);
        let time_0 = all.filter_map(|(_, heard)| Some(heard.audio.times?.0)).min().unwrap_or_default();
        let of_direction = Limits { max_p50: None, max_p99: None, ..*limits };
        let of_round_trips = Limits { max_loss: None, max_jitter: None, ..*limits };
        for musician in musicians {
            let mut echoes = Some(&musician.run).filter(|run| run.evaluated().is_some_and(|audio| audio.returned > 0));
            for (member, heard) in &musician.heard {
                let echoes = echoes.take_if(|_| member.is_echo_server() && heard.audio.times.is_some());
                let figures = DirectionFigures::from((&*musician.run.target, member, heard, echoes, time_0));
                let mut run = RunResults::new(RunKind::Probe, "", StreamKind::Ping);
                (run.ping, run.host_timing) = (Some(heard.stats()), musician.run.host_timing.clone());
                (run.pauses, run.duration_ns) = (musician.run.pauses.clone(), musician.run.duration_ns);
                let silence = musician.silence_of(heard);
                let applied = if member.is_echo_server() && silence.is_some() { limits } else { &of_direction };
                let mut results = applied.evaluate(&run);
                for result in results.iter_mut().filter(|_| silence.is_some()) {
                    (result.result, result.note) = (Judged::NotJudged, silence.map(str::to_owned));
                }
                results.extend(echoes.into_iter().flat_map(|run| of_round_trips.evaluate(run)));
                let reason = |one: &LimitResult| format!("{} from {}: {}", figures.to, figures.from, one.reason());
                // A direction in which nothing arrived is not the same as a member whom others heard.
                let dead = heard.audio.times.is_none().then_some(&*musician.run.target);
                judgments.extend(results.iter().map(|one| ((&*member.id, dead), one.result, reason(one))));
                directions.push(figures);
            }
        }
        for MusicianResults { run, ignored, .. } in musicians.iter().filter(|musician| musician.ignored > 0) {
            let reason = format!("{}: {} ignored", run.target, quantities::format_count(*ignored as u64, "member"));
            judgments.push((("ignored", None), Judged::NotJudged, reason));
        }
        if directions.iter().all(|direction| direction.packets == 0) {
            judgments.push((("", None), Judged::Exceeded, "no member heard anybody".to_owned()));
        }
        let verdict = RunVerdict::default().with(judgments, limits.any());
    ] {
        #[serde(rename = "type")]
        kind: &'static str = "musicians";
        schema_version: u32 = SCHEMA_VERSION;
        tool_version: &'static str = env!("CARGO_PKG_VERSION");
        room: String = room.to_owned();
        interrupted: Option<StopSignal> = interrupted;
        musicians: Vec<MusicianFigures> = musicians.iter().map(MusicianFigures::from).collect();
        directions: Vec<DirectionFigures> = directions;
        verdict: RunVerdict = verdict;
    }
}

impl MusiciansReport {
    /// The table of all directions, whether this program kept up, and the verdict. `color` adds ANSI codes.
    pub fn text(&self, color: bool) -> String {
        let style = Style(color);
        let width = self.directions.iter().flat_map(|one| [&one.to, &one.from]).map(|name| name.chars().count()).max();
        let width = width.unwrap_or(0).max("heard by".len());
        let row = |to: &str, from: &str, cells: [&str; 9]| {
            let cells = cells.map(|cell| format!("{cell:>COLUMN_WIDTH$}")).concat();
            format!("{to:width$}  {from:width$}{cells}\n")
        };
        let head = ["link", "packets", "loss", "duplicates", "reordered", "first", "last", "jitter", "RTT p50"];
        let mut text = style.strong(row("heard by", "from", head).trim_end()) + "\n";
        for one in &self.directions {
            let loss = one.loss_ratio.map_or_else(|| "-".to_owned(), quantities::format_share);
            let [packets, duplicates, reordered] = [one.packets, one.duplicates, one.reordered].map(|n| n.to_string());
            let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), quantities::format_length);
            let [first, last] = [one.first_ms, one.last_ms].map(time);
            let [jitter, rtt] = [one.jitter_mean_us, one.rtt_p50_us].map(quantities::format_optional_time);
            let line = match one.link {
                Some(link) => {
                    let cells = [link, &packets, &loss, &duplicates, &reordered, &first, &last, &jitter, &rtt];
                    row(&one.to, &one.from, cells)
                }
                None => format!("{:width$}  {:width$}  not answered\n", one.to, one.from),
            };
            text += &line;
        }
        let lateness = self.musicians.iter().filter_map(|one| one.lateness_p99_us).reduce(f64::max);
        let dropped: u64 = self.musicians.iter().filter_map(|one| one.kernel_dropped).sum();
        let lateness = quantities::format_optional_time(lateness);
        _ = writeln!(
            text,
            "\nthis program: lateness p99 at most {lateness}, {dropped} datagrams dropped at its sockets"
        );
        text += &style.reasons(&self.verdict, "");
        let heard = self.directions.iter().filter(|one| one.packets > 0).count();
        let word = style.judged(self.verdict.result.judged(), self.verdict.word());
        let (directions, count) =
            (self.directions.len(), quantities::format_count(self.musicians.len() as u64, "musician"));
        _ = writeln!(text, "{word}: {count} in `{}`, {heard} of {directions} directions heard", self.room);
        text
    }
}
