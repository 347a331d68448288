//! The rows that the text, Markdown and HTML reports print: the table of streams, and the rows below it.

use super::audio_figures::{AudioQualityFigures, CaptureFigures, LevelFigures, PlaybackFigures, UNCORRELATED};
use super::clients::ClientsFigures;
use super::connection_figures::{
    ConnectionSetupFigures, EndingFigures, LinkFigures, MoqtFigures, RoomFigures, WebSocketFigures,
};
use super::figures::{AudioFigures, StreamFigures};
use super::model::{Report, Streams};
use super::quantities::{
    format_count, format_decimals, format_optional_time, format_percent, format_time, format_time_ms,
};
use super::time_series::WorstSeconds;
use Level::{Full, Short};
use jamjam_core::stats::MIN_DRIFT_SECONDS;

pub(super) struct Row {
    pub(super) label: &'static str,
    /// One cell for each stream that was sent. Below the table of streams, a row has a single cell.
    pub(super) cells: Vec<String>,
    pub(super) level: Level,
}

/// The reports that contain a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// All reports.
    Short,
    /// Only the full text report and the page.
    Full,
}

/// `p50 1.0 µs, p99 -, max 2.0 µs`. Even an echo time of several seconds is printed in milliseconds, because rounding to seconds would hide the
/// network's part of it.
pub(super) fn times_text<const N: usize>(times: [(&str, Option<f64>); N]) -> String {
    times.map(|(name, us)| format!("{name} {}", us.map_or_else(|| "-".to_owned(), format_time_ms))).join(", ")
}

struct StreamTable<'a> {
    streams: &'a Streams,
    rows: Vec<Row>,
}

impl StreamTable<'_> {
    /// Adds a row, unless no stream has a value.
    fn add(&mut self, level: Level, label: &'static str, cell: impl Fn(&StreamFigures) -> Option<String>) {
        let cells: Vec<Option<String>> = self.streams.iter().map(|(_, stream)| cell(stream)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned())).collect();
            self.rows.push(Row { label, cells, level });
        }
    }

    fn count(&mut self, level: Level, label: &'static str, count: fn(&StreamFigures) -> u64) {
        self.add(level, label, |stream| Some(count(stream).to_string()));
    }

    /// Adds a count, unless it is 0 for all streams.
    fn nonzero(&mut self, label: &'static str, count: fn(&StreamFigures) -> u64) {
        if self.is_nonzero(count) {
            self.count(Short, label, count);
        }
    }

    /// Adds a count that short reports omit if it is 0.
    fn anomaly(&mut self, label: &'static str, count: fn(&StreamFigures) -> u64) {
        self.count(if self.is_nonzero(count) { Short } else { Full }, label, count);
    }

    fn is_nonzero(&self, count: fn(&StreamFigures) -> u64) -> bool {
        self.streams.iter().any(|(_, stream)| count(stream) > 0)
    }

    fn time(&mut self, level: Level, label: &'static str, us: fn(&StreamFigures) -> Option<f64>) {
        self.add(level, label, |stream| us(stream).map(format_time));
    }
}

pub(super) fn stream_rows(report: &Report) -> Vec<Row> {
    let mut table = StreamTable { streams: &report.streams, rows: Vec::new() };
    table.count(Short, "sent", |stream| stream.sent);
    table.nonzero("not sent", |stream| stream.not_sent);
    table.count(Short, "returned", |stream| stream.returned);
    table.count(Short, "lost", |stream| stream.lost);
    if report.loss_report.is_some() {
        let known = |count: Option<u64>| Some(count.map_or_else(|| "unknown".to_owned(), |count| count.to_string()));
        table.add(Short, "lost upstream", |stream| known(stream.lost_upstream));
        table.add(Short, "lost downstream", |stream| known(stream.lost_downstream));
    }
    table.nonzero("excluded", |stream| stream.excluded);
    table.add(Short, "loss", |stream| stream.loss_ratio.map(format_percent));
    table.anomaly("damaged", |stream| stream.damaged);
    table.nonzero("damaged copies", |stream| stream.damaged_copies);
    table.anomaly("duplicated", |stream| stream.duplicated);
    table.anomaly("reordered", |stream| stream.reordered);
    table.nonzero("unmatched", |stream| stream.unmatched);
    // If no replies are expected, every packet stays in flight.
    if report.replies_expected {
        table.nonzero("in flight", |stream| stream.in_flight);
    }
    table.count(Full, "round trips", |stream| stream.rtt_count);
    table.time(Short, "round trip min", |stream| stream.rtt_min_us);
    table.time(Full, "round trip mean", |stream| stream.rtt_mean_us);
    table.time(Short, "round trip p50", |stream| stream.rtt_p50_us);
    table.time(Full, "round trip p90", |stream| stream.rtt_p90_us);
    table.time(Short, "round trip p99", |stream| stream.rtt_p99_us);
    table.time(Full, "round trip p99.9", |stream| stream.rtt_p999_us);
    table.time(Short, "round trip max", |stream| stream.rtt_max_us);
    table.time(Short, "jitter mean", |stream| stream.jitter_mean_us);
    table.time(Full, "jitter max", |stream| stream.jitter_max_us);
    table.rows
}

/// The rows below the table of streams: figures that belong to no stream or to the evaluated stream.
pub(super) fn further_rows(report: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |level, label, text: Option<String>| {
        rows.extend(text.map(|text| Row { label, cells: vec![text], level }));
    };
    audio_rows(report, &mut add);
    if let Some(stream) = report.evaluated() {
        let StreamFigures { pdv_p50_us: p50, pdv_p99_us: p99, pdv_p999_us: p999, pdv_max_us: max, .. } = *stream;
        add(Short, "loss bursts", loss_bursts(stream));
        add(Short, "reordering", reordering(stream));
        add(Full, "PDV", p50.map(|_| times_text([("p50", p50), ("p99", p99), ("p99.9", p999), ("max", max)])));
        add(Full, "IPDV", ipdv(stream));
    }
    add(if report.schedule_shifts > 0 { Short } else { Full }, "schedule", schedule(report));
    if let Some(pacing) = &report.pacing {
        let [p50, p99] = [("p50", pacing.pacing_p50_us), ("p99", pacing.pacing_p99_us)];
        let [p999, max] = [("p99.9", pacing.pacing_p999_us), ("max", pacing.pacing_max_us)];
        let has_rooms = report.websocket.as_ref().is_some_and(|websocket| websocket.rooms.is_some());
        let is_short = has_rooms || report.clients.is_some();
        add(if is_short { Short } else { Full }, "pacing error", Some(times_text([p50, p99, p999, max])));
        let (first, last) = (pacing.pacing_first_5s_p50_us, pacing.pacing_last_5s_p50_us);
        add(Full, "pacing error p50", first.map(|_| times_text([("first 5 s", first), ("last 5 s", last)])));
    }
    add(Short, "clients", report.clients.as_ref().map(clients));
    if let Some(host) = &report.host_timing {
        let times = |p50, p99, max: Option<f64>| max.map(|_| times_text([("p50", p50), ("p99", p99), ("max", max)]));
        add(Full, "send call", times(host.send_call_p50_us, host.send_call_p99_us, host.send_call_max_us));
        add(Full, "timer error", times(host.timer_error_p50_us, host.timer_error_p99_us, host.timer_error_max_us));
    }
    if let Some(websocket) = &report.websocket {
        for connection in &websocket.connections {
            add(Short, "connection setup", websocket_setup(connection));
        }
        add(Short, "clock offset", clock_offset(websocket));
        if let Some(rooms) = &websocket.rooms {
            let RoomFigures { joined, refused, disconnected, messages_sent, messages_not_sent, .. } = rooms;
            add(Short, "members", Some(format!("{joined} joined, {refused} refused, {disconnected} disconnected")));
            let [p50, p99, max] = [rooms.join_p50_us, rooms.join_p99_us, rooms.join_max_us];
            add(Short, "join time", Some(times_text([("p50", p50), ("p99", p99), ("max", max)])));
            let rate =
                rooms.deliveries_per_s.map(|rate| format!("; {} deliveries per second", format_decimals(rate, 0)));
            let messages = format!("{messages_sent} sent, {messages_not_sent} not sent{}", rate.unwrap_or_default());
            add(Short, "messages", Some(messages));
            rooms.endings.iter().for_each(|ending| add(Short, "ended", Some(ended(ending))));
        }
    }
    if let Some(moqt) = &report.moqt {
        add(Short, "groups", moqt_groups(moqt));
        add(Short, "connection setup", moqt_setup(moqt));
    }
    add(Short, "link", report.link.as_ref().map(link));
    if let Some(loss) = &report.loss_report {
        let address = loss.mapped_address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        add(Short, "mapped address", Some(address));
    }
    let worst = report.time_series.as_ref().and_then(|series| series.worst_ten_seconds.as_ref());
    add(Short, "worst period", worst.map(WorstSeconds::text));
    rows
}

/// `20 clients, 84 kB each; client 17 is the worst: 1.2 % lost, round trip p50 20.000 ms, p99 61.000 ms`.
fn clients(clients: &ClientsFigures) -> String {
    let memory = format!("{} clients, {} kB each", clients.count, clients.bytes_per_flow.div_ceil(1_000));
    let Some(worst) = &clients.worst else { return memory };
    let loss = worst.loss_ratio.map_or_else(|| "-".to_owned(), format_percent);
    let times = times_text([("p50", worst.rtt_p50_us), ("p99", worst.rtt_p99_us)]);
    format!("{memory}; client {} is the worst: {loss} lost, round trip {times}", worst.number)
}

/// `planned 3.000 s, actual 8.012 s; 1 shift, 5.012 s in total, largest 5.012 s`.
fn schedule(report: &Report) -> Option<String> {
    let time = |ms: f64| format_time(ms * 1e3);
    let durations =
        format!("planned {}, actual {}", time(report.planned_duration_ms?), time(report.actual_duration_ms?));
    if report.schedule_shifts == 0 {
        return Some(durations);
    }
    let (count, total) = (format_count(report.schedule_shifts, "shift"), time(report.schedule_shift_total_ms));
    Some(format!("{durations}; {count}, {total} in total, largest {}", time(report.schedule_shift_max_ms)))
}

/// `DNS 1.000 ms, TCP 2.000 ms`, without the steps that a connection did not need. `None` if it needed no step.
fn setup_text<const N: usize>(steps: [(&str, Option<f64>); N]) -> Option<String> {
    let steps = steps.into_iter().filter_map(|(name, ms)| Some(format!("{name} {}", format_time(ms? * 1e3))));
    Some(steps.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
}

fn websocket_setup(times: &ConnectionSetupFigures) -> Option<String> {
    let (dns, tcp, upgrade) = (Some(times.dns_ms), Some(times.tcp_ms), Some(times.upgrade_ms));
    setup_text([("DNS", dns), ("TCP", tcp), ("TLS", times.tls_ms), ("upgrade", upgrade), ("join", times.join_ms)])
}

/// The setup steps of a MOQT connection.
pub(super) fn moqt_setup(moqt: &MoqtFigures) -> Option<String> {
    setup_text([
        ("DNS", moqt.dns_ms),
        ("QUIC", moqt.quic_ms),
        ("CONNECT", moqt.webtransport_ms),
        ("session", moqt.session_ms),
        ("subscription", moqt.subscribe_ms),
    ])
}

fn link(link: &LinkFigures) -> String {
    let state = match (link.encrypted, &link.connection_failure) {
        (true, _) if link.signed => "encrypted, signed",
        (true, _) => "encrypted, not signed",
        (false, None) => "not encrypted",
        (false, Some(_)) => "none",
    };
    let setup = link.setup_ms.map_or_else(String::new, |ms| format!("; set up in {}", format_time(ms * 1e3)));
    let dropped = nonzero_counts(link.dropped(), "; dropped: ", ", ");
    format!("{state}{setup}{dropped}")
}

/// The counts that are not 0 with what they count, after `start` and separated by `separator`.
pub(super) fn nonzero_counts<const N: usize>(counts: [(u64, &str); N], start: &str, separator: &str) -> String {
    let texts = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { String::new() } else { format!("{start}{}", texts.join(separator)) }
}

/// `12 × 1 packet, 3 × 2, 1 × 10 or more; longest 14`.
fn loss_bursts(stream: &StreamFigures) -> Option<String> {
    let mut parts = Vec::new();
    for (index, bursts) in stream.burst_lengths.iter().enumerate().filter(|(_, bursts)| **bursts > 0) {
        let length = if parts.is_empty() { format_count(index as u64 + 1, "packet") } else { (index + 1).to_string() };
        let or_more = if index + 1 == stream.burst_lengths.len() { " or more" } else { "" };
        parts.push(format!("{bursts} × {length}{or_more}"));
    }
    (stream.burst_max > 0).then(|| format!("{}; longest {}", parts.join(", "), stream.burst_max))
}

fn reordering(stream: &StreamFigures) -> Option<String> {
    let (ratio, mean, max) = (stream.reordered_ratio?, stream.reorder_extent_mean?, stream.reorder_extent_max);
    let late = format_optional_time(stream.reorder_late_time_offset_max_us);
    Some(format!("{}, extent mean {mean:.1}, max {max}, late by up to {late}", format_percent(ratio)))
}

fn ipdv(stream: &StreamFigures) -> Option<String> {
    let (min, max) = (format_time(stream.ipdv_min_us?), format_time(stream.ipdv_max_us?));
    let [mean, p50, p99] = [stream.ipdv_abs_mean_us, stream.ipdv_abs_p50_us, stream.ipdv_abs_p99_us]
        .map(|us| us.map_or_else(|| "-".to_owned(), format_time_ms));
    Some(format!("mean {mean}, p50 {p50}, p99 {p99}; {min} to {max}"))
}

fn ended(EndingFigures { count, failure, limit }: &EndingFigures) -> String {
    let limit = limit.map_or_else(String::new, |limit| format!(" (limit of the server: {limit})"));
    format!("{}: {}{limit}", format_count(*count, "connection"), failure.message)
}

fn clock_offset(websocket: &WebSocketFigures) -> Option<String> {
    let (offset, error) = (websocket.clock_offset_us?, format_time(websocket.clock_offset_error_us?));
    let side = if offset < 0.0 { "behind" } else { "ahead of" };
    Some(format!("server clock {} {side} this host, ± {error} (the path may be asymmetric)", format_time(offset.abs())))
}

fn moqt_groups(moqt: &MoqtFigures) -> Option<String> {
    let MoqtFigures { groups_sent, groups_returned, groups_lost, groups_in_flight, .. } = *moqt;
    let incomplete = [
        (groups_in_flight, "in flight"),
        (moqt.groups_stopped, "stopped by the server"),
        (moqt.groups_dropped, "dropped before they were sent completely"),
    ];
    let incomplete = nonzero_counts(incomplete, ", ", ", ");
    let missing = match moqt.frames_missing {
        0 => String::new(),
        n => format!("; {} missing in other groups", format_count(n, "frame")),
    };
    let text = format!("{groups_sent} sent, {groups_returned} returned, {groups_lost} lost{incomplete}{missing}");
    (groups_sent > 0).then_some(text)
}

/// Maximum number of gaps in the row about gaps.
const MAX_PRINTED_GAPS: usize = 5;

/// Passes the level, the label and the text of each row to `add`. A row without a text is omitted.
fn audio_rows(report: &Report, add: &mut impl FnMut(Level, &'static str, Option<String>)) {
    if let Some(audio) = &report.audio {
        let [min, p50] = [("min", audio.echo_time_min_us), ("p50", audio.echo_time_p50_us)];
        let [p99, max] = [("p99", audio.echo_time_p99_us), ("max", audio.echo_time_max_us)];
        add(Short, "server delay", Some(server_delay(audio)));
        add(Full, "echo time", Some(times_text([min, p50, p99, max])));
        add(Short, "recorded", audio.recorded_samples.map(|samples| format_count(samples, "sample")));
        add(Short, "recorded both", audio.recorded_both_samples.map(|samples| format_count(samples, "sample")));
    }
    if let Some(capture) = &report.capture {
        let CaptureFigures { drift_ppm, drift_uncertainty_ppm, drift_span_s, .. } = *capture;
        add(Short, "captured", Some(captured(capture)));
        add(Full, "capture clock", Some(clock_drift(drift_ppm, drift_uncertainty_ppm, drift_span_s)));
    }
    if let Some(playback) = &report.playback {
        let latency = format_time(playback.device_latency_ms * 1e3);
        add(Short, "played", Some(played(playback)));
        add(Short, "jitter buffer", Some(jitter_buffer(playback)));
        add(Short, "playback latency", Some(format!("{latency}, reported by the device")));
        add(Full, "playback clock", Some(playback_clock(playback)));
    }
    if let Some(quality) = &report.audio_quality {
        add(Short, "gaps", gaps(quality));
        add(Short, "level", Some(level(quality)));
        add(Full, "alignment", alignment(quality));
    }
}

fn server_delay(audio: &AudioFigures) -> String {
    let time = |ms: f64| format_time_ms(ms * 1e3);
    let Some(used) = audio.server_delay_ms else { return "unknown".to_owned() };
    let interval = audio.server_delay_estimated_min_ms.zip(audio.server_delay_estimated_max_ms);
    let interval = interval.map(|(min, max)| format!("between {} and {}", time(min), time(max)));
    let source = match (audio.server_delay_configured_ms, audio.server_delay_reported_ms, interval) {
        (None, None, None) => return "assumed to be 0; the round trips include any delay of the server".to_owned(),
        (None, None, Some(interval)) => format!("estimated {interval}"),
        (configured, _, interval) => {
            let source = if configured.is_some() { "configured" } else { "reported by the server" };
            source.to_owned() + &interval.map_or_else(String::new, |interval| format!("; measured {interval}"))
        }
    };
    format!("{} ({source}), not part of the round trips", time(used))
}

fn captured(capture: &CaptureFigures) -> String {
    let per_callback = match (capture.callback_min_frames, capture.callback_max_frames) {
        (_, 0) => String::new(),
        (min, max) if min == max => format!(", {max} per callback"),
        (min, max) => format!(", {min} to {max} per callback"),
    };
    let frames = format_count(capture.captured_frames, "frame");
    let requested = format_count(u64::from(capture.requested_buffer_frames), "frame");
    format!("{frames}{per_callback} (requested buffer: {requested})")
}

/// The drift of a device clock.
fn clock_drift(drift_ppm: Option<f64>, uncertainty_ppm: Option<f64>, span_s: u64) -> String {
    match (drift_ppm, uncertainty_ppm) {
        (Some(ppm), Some(uncertainty)) => format!("{ppm:+.1} ppm, ± {uncertainty:.1}, over {span_s} s"),
        _ => format!("- (needs {MIN_DRIFT_SECONDS} s)"),
    }
}

fn played(playback: &PlaybackFigures) -> String {
    let late = |max_ms: f64| format!("; {} late, by up to {}", playback.late, format_time(max_ms * 1e3));
    let late = playback.late_max_ms.map_or_else(String::new, late);
    let more = [(playback.skipped, "skipped"), (playback.early, "early"), (playback.unplayed, "unplayed at the end")];
    let (played, concealed) = (format_count(playback.played, "packet"), playback.concealed);
    format!("{played}; {concealed} concealed{late}{}", nonzero_counts(more, "; ", "; "))
}

fn jitter_buffer(playback: &PlaybackFigures) -> String {
    let depth = match (playback.depth_mean_ms, playback.depth_min_ms, playback.depth_max_ms) {
        (Some(mean), Some(min), Some(max)) => format!("depth {mean:.1} ms ({min:.1} to {max:.1})"),
        _ => "nothing played".to_owned(),
    };
    let auto = if playback.jitter_buffer_ms.is_none() { "auto, " } else { "" };
    let allowance = format_time(playback.jitter_allowance_ms * 1e3);
    let resyncs = match playback.resyncs {
        0 => String::new(),
        resyncs => format!("; {}", format_count(resyncs, "resync")),
    };
    format!("{depth}, jitter allowance {auto}{allowance}{resyncs}")
}

fn playback_clock(playback: &PlaybackFigures) -> String {
    let drift = clock_drift(playback.drift_ppm, playback.drift_uncertainty_ppm, playback.drift_span_s);
    let correction = match playback.rate_correction_ppm {
        0.0 => "no rate correction".to_owned(),
        ppm if ppm > 0.0 => format!("played {ppm:.1} ppm faster at the end"),
        ppm => format!("played {:.1} ppm slower at the end", -ppm),
    };
    format!("{drift}; {correction}")
}

fn gaps(quality: &AudioQualityFigures) -> Option<String> {
    let ratio = quality.gap_ratio?;
    let Some(longest) = quality.gap_max_ms else { return Some("none".to_owned()) };
    let more_than = if quality.gap_packets_overflow > 0 { "more than " } else { "" };
    let first = quality.gap_list.iter().take(MAX_PRINTED_GAPS);
    let first: Vec<String> = first.map(|gap| format!("{:.3} s ({} ms)", gap.at_ms / 1e3, gap.duration_ms)).collect();
    let more = if quality.gaps > MAX_PRINTED_GAPS as u64 { ", ..." } else { "" };
    let (count, share, first) = (quality.gaps, format_percent(ratio), first.join(", "));
    let (total, longest) = (format_time(quality.gap_ms * 1e3), format_time(longest * 1e3));
    Some(format!("{more_than}{count}, {total} in total ({share}), longest {longest}; at {first}{more}"))
}

fn level(quality: &AudioQualityFigures) -> String {
    // Intact packets have the level that was sent.
    let returned = quality.returned_levels.as_ref().filter(|_| quality.damaged_packets > 0);
    let returned = returned.map_or_else(String::new, |levels| format!("; returned {}", levels_text(levels)));
    format!("sent {}{returned}", levels_text(&quality.sent_levels))
}

/// `peak -6.0 dBFS, RMS -9.0 dBFS`, with a slash between channels.
fn levels_text(levels: &[LevelFigures]) -> String {
    if levels.iter().all(|level| level.peak_dbfs.is_none() && level.non_finite_samples == 0) {
        return "digital silence".to_owned();
    }
    let channels = |value: fn(&LevelFigures) -> Option<f64>| {
        let text = |level| value(level).map_or_else(|| "-\u{221e}".to_owned(), |db| format!("{db:.1}"));
        levels.iter().map(text).collect::<Vec<_>>().join(" / ")
    };
    let (peak, rms) = (channels(|level| level.peak_dbfs), channels(|level| level.rms_dbfs));
    format!("peak {peak} dBFS, RMS {rms} dBFS")
}

fn alignment(quality: &AudioQualityFigures) -> Option<String> {
    let correlation = quality.correlation.map_or_else(String::new, |value| format!(", correlation {value:.3}"));
    let gain = quality.gain_db.map_or_else(String::new, |db| format!(", {db:+.1} dB"));
    let shift = match quality.shift_samples {
        None => String::new(),
        Some(0) => "not shifted".to_owned(),
        Some(shift) => {
            let direction = if shift > 0 { "late" } else { "early" };
            format!("{} {direction}", format_count(shift.unsigned_abs(), "sample"))
        }
    };
    let text = match quality.alignment {
        "shifted" => format!("{shift}{correlation}{gain}"),
        "ambiguous" => format!("{shift}{correlation}{gain}, ambiguous by multiples of the signal's period"),
        UNCORRELATED => format!("none: the returned audio does not match the sent audio{correlation}"),
        _ => "- (the returned audio of damaged packets is too short or silent)".to_owned(),
    };
    (quality.damaged_packets > 0).then_some(text)
}
