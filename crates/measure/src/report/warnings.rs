//! Warnings: problems with the run, and reasons to interpret its figures with care.

use std::net::{IpAddr, SocketAddrV6};

use super::audio_figures::UNCORRELATED;
use super::connection_failures::{link_warnings, moqt_warnings, websocket_warnings};
use super::figures::{AudioFigures, StreamFigures};
use super::model::{Report, Warning, Warnings};
use super::quantities::{RunProtocol, format_count, format_length, format_time};
use crate::client::StreamKind;
use jamjam_core::address::HostPort;
use jamjam_core::wire::{HEADER_LEN, MAX_UNFRAGMENTED_PAYLOAD};

/// A pacing error above this, in microseconds, is visible in the jitter that a receiver measures.
const PACING_WARNING_US: f64 = 1_000.0;
/// Maximum change of the median pacing error during a run without a warning, in microseconds.
const PACING_DRIFT_WARNING_US: f64 = 100.0;
/// Maximum difference between the configured and the actual server delay without a warning, in milliseconds.
const SERVER_DELAY_MISMATCH_MS: f64 = 5.0;
/// Minimum number of pings for a reliable estimate of the server delay.
const MIN_PINGS_FOR_SERVER_DELAY: u64 = 3;
/// The largest AUDIO payload that fits in one Ethernet frame.
const MAX_UNFRAGMENTED_AUDIO_PAYLOAD: u32 = (MAX_UNFRAGMENTED_PAYLOAD - HEADER_LEN) as u32;
/// Number of round trips that a 99th percentile needs.
const MIN_P99_SAMPLES: u64 = 100;
/// Send calls above this (p99), in microseconds, are noticeable in round-trip times on a local network. On an idle host, they take 3 to 30 µs.
pub(super) const SEND_CALL_WARNING_US: f64 = 100.0;
/// A timer error above this (p99), in microseconds, is reported: packets with 64 samples at 48 kHz have an interval of 1,333 µs, and leave in
/// bursts if the timer error approaches it.
pub(super) const TIMER_ERROR_WARNING_US: f64 = 1_000.0;
/// More late packets than this percentage of the played packets need a larger jitter buffer.
const LATE_WARNING_PERCENT: u64 = 1;

/// The noun of a count.
const NON_FINITE_SAMPLE: &str = "NaN or infinite sample";

/// The warnings of a report, the most serious first.
pub(super) fn warnings(report: &Report) -> Vec<Warning> {
    let mut found = Warnings::default();
    let stream = report.evaluated();
    websocket_warnings(&mut found, report, stream);
    moqt_warnings(&mut found, report, stream);
    link_warnings(&mut found, report);
    // If the capture device delivered no audio, or this host sent none of the packets, missing replies do not indicate a network problem.
    let sent_nothing =
        stream.is_none_or(|stream| stream.sent == 0 && (report.capture.is_some() || stream.not_sent > 0));
    if report.protocol == RunProtocol::Udp && !sent_nothing && report.connection_failure().is_none() {
        no_replies(&mut found, report, stream);
    }
    stream_warnings(&mut found, report);
    loss_direction(&mut found, report, stream);
    // Without a round trip, its precision does not matter.
    let is_timed = !report.replies_expected || stream.is_some_and(StreamFigures::has_replies);
    host_timing(&mut found, report, is_timed);
    server_warnings(&mut found, report);
    capture_warnings(&mut found, report);
    playback_warnings(&mut found, report);
    audio_quality(&mut found, report);
    audio_warnings(&mut found, report);
    if let Some(n @ 1..MIN_P99_SAMPLES) = stream.map(|stream| stream.rtt_count) {
        let trips = format_count(n, "round trip");
        found.add("few_samples", format!("only {trips} measured: a 99th percentile (p99) needs {MIN_P99_SAMPLES}"));
    }
    if is_timed {
        pacing_warnings(&mut found, report);
    }
    found.0
}

/// If replies were expected but none arrived, adds three possible causes with the evidence for or against each, the likely one first.
/// Otherwise, warns if ICMP port unreachable was received.
fn no_replies(found: &mut Warnings, report: &Report, stream: Option<&StreamFigures>) {
    let port_unreachable = report.port_unreachable;
    if !report.replies_expected || stream.is_some_and(StreamFigures::has_replies) {
        let message = if report.replies_expected {
            "ICMP port unreachable was received during the run. The server started late or stopped early, or a firewall intermittently \
             rejects packets"
        } else {
            "ICMP port unreachable was received. Check the port and the firewall, and that a program receives there"
        };
        return found.count("port_unreachable", port_unreachable, "", message);
    }
    let other = report.streams.iter().find(|(kind, stream)| *kind != report.evaluated_stream && stream.has_replies());
    let is_elsewhere = report.stray_source.is_some();
    let stray = if is_elsewhere { 0 } else { report.stray };
    let unmatched = stray + report.streams.iter().map(|(_, stream)| stream.unmatched).sum::<u64>();
    let (request, reply) = (report.evaluated_stream.name(), report.evaluated_stream.reply_name());
    let is_loopback = is_loopback(&report.target);
    let closed_port = match port_unreachable {
        0 => "unlikely, because ICMP port unreachable was not received".to_owned(),
        n => format!(
            "likely, because ICMP port unreachable was received {}. Check the port and the firewall, and that the server is running",
            format_count(n, "time")
        ),
    };
    let loss_report = report.loss_report.as_ref();
    let has_answered = report.server.is_some() || loss_report.is_some_and(|loss| loss.response_received);
    let answer = match other {
        Some((kind, stream)) => {
            let replies = stream.returned.max(stream.damaged);
            Some(format!("{} arrived", format_count(replies, &report.labels(kind).reply_noun())))
        }
        None => has_answered.then(|| "the server answered another request".to_owned()),
    };
    let unreachable = match () {
        () if answer.is_some() || unmatched > 0 || is_elsewhere => "ruled out, because other datagrams arrived",
        () if port_unreachable > 0 => "unlikely, because ICMP port unreachable was received",
        () if is_loopback => "unlikely, because the target is this host",
        () => {
            "likely, because no datagram arrived. Run `jamjam-dev probe --embedded` on this host and `jamjam-dev probe` on the server's \
             host. If both probes pass, the problem is between the two hosts"
        }
    };
    let is_audio = report.evaluated_stream == StreamKind::Audio;
    let large_packets = report.findings.iter().any(|finding| finding.code == "large_packets");
    let wrong_server = match (is_audio, &answer) {
        (true, Some(_)) if large_packets => "the path drops packets of this length (see the finding)".to_owned(),
        (true, Some(_)) => "the server does not return AUDIO, or its delay exceeds the run duration".to_owned(),
        (true, None) if unmatched > 0 => "another program than an echo server listens there".to_owned(),
        (true, None) => "no echo server listens there, or the server delay exceeds the run duration".to_owned(),
        (false, _) => format!("the server does not answer {request}"),
    };
    let other_replies = match (answer, unmatched) {
        _ if is_elsewhere => "unlikely, because replies came from another address".to_owned(),
        (Some(answer), _) if large_packets => format!("likely, because {answer}"),
        (Some(answer), _) if is_audio => {
            let link = if report.link.is_none() { ", or --link unsigned if the server requires encrypted links" } else { "" };
            format!("likely, because {answer}. Give --delay or a longer --timeout{link}")
        }
        (Some(answer), _) => format!("likely, because {answer}. Check that the server is an echo server"),
        (None, 1..) => format!(
            "likely, because {} arrived without a matching request. Check the port, and that the server is an echo server",
            format_count(unmatched, "datagram")
        ),
        (None, 0) if is_loopback && port_unreachable == 0 => {
            "likely, because a program on this host has the port open. Check the port, and whether the server restricts sources (--allow)"
                .to_owned()
        }
        (None, 0) => "unlikely, because no datagram arrived".to_owned(),
    };
    let no_ipv6 = if report.target.parse::<SocketAddrV6>().is_ok() { ", the server has no IPv6," } else { "" };
    let mut details = vec![
        format!("the port is closed{no_ipv6} or a firewall rejects packets (ICMP port unreachable): {closed_port}"),
        format!("the host is wrong, a firewall drops UDP, or the server restricts sources (--allow): {unreachable}"),
        format!("{wrong_server}: {other_replies}"),
    ];
    details.sort_by_key(|cause| !cause.contains(": likely, "));
    if let Some(source) = report.stray_source {
        let remedy = "Give this address as the target, or bind the server to the address that is probed";
        details.insert(
            0,
            format!(
                "the server replies from another address, {source}: likely, because datagrams came from it. {remedy}"
            ),
        );
    }
    let message = format!("no {reply} received; possible causes:");
    found.0.push(Warning { code: "no_replies", message, details });
}

/// Whether the target of a report is this host. A closed port of this host always causes ICMP port unreachable.
pub(super) fn is_loopback(target: &str) -> bool {
    if target.starts_with("embedded ") {
        return true;
    }
    let address = target.split_once("://").map_or(target, |(_, address)| address);
    // A member of a room: `room (ADDRESS)`.
    let address = address.rsplit_once(" (").map_or(address, |(_, address)| address.trim_end_matches(')'));
    let Ok((_, HostPort { host, .. }, _)) = HostPort::split_url(address) else { return false };
    let is_local = |ip: IpAddr| ip.to_canonical().is_loopback() || ip.is_unspecified();
    host == "localhost" || host.parse().is_ok_and(is_local)
}

/// What happened to the packets of each stream, besides loss.
fn stream_warnings(found: &mut Warnings, report: &Report) {
    for (kind, stream) in report.streams.iter() {
        let damaged = stream.damaged_copies.max(stream.damaged);
        let message = "{} arrived with changed bytes. The server or a device on the path modifies packets";
        found.count("damaged", damaged, &report.labels(kind).reply_noun(), message);
    }
    for (kind, stream) in report.streams.iter() {
        let labels = report.labels(kind);
        if stream.not_sent > 0 {
            let packets = format_count(stream.not_sent, &labels.request_noun());
            let errors = describe_send_errors(report.host_timing.as_ref().map_or(&[][..], |host| &host.send_errors));
            found.add("send_failed", format!("this host refused to send {packets} (counted as not sent): {errors}"));
        }
        let message = "{} matched no request: replies to an earlier run or to another client";
        found.count("unmatched", stream.unmatched, &labels.reply_noun(), message);
        // If no replies are expected, every packet stays in flight.
        let in_flight = if report.replies_expected { stream.in_flight } else { 0 };
        let message = "{} in flight when the run was interrupted (counted neither as returned nor as lost)";
        found.count("in_flight", in_flight, &labels.request_noun(), message);
    }
    let unit = report.labels(report.evaluated_stream).reply_unit;
    let message = report.stray_source.map_or_else(
        || "{} belonged to no stream of this run".to_owned(),
        |source| {
            format!(
                "{{}} came from another address than the target, the first from {source}, and did not count as replies"
            )
        },
    );
    found.count("stray", report.stray, unit, &message);
}

/// The errors with which this host refused to send, and what to check.
fn describe_send_errors(errors: &[String]) -> String {
    let advice = match errors.first().and_then(|error| error.split(':').next()) {
        Some("EPERM") => {
            "A firewall rejects outgoing packets, or the connection table of this host is full (conntrack). Check the firewall's rules"
        }
        Some("EACCES") => "A route or a rule of this host prohibits the target. Check the routes and the firewall",
        Some("ENETUNREACH" | "EHOSTUNREACH" | "EINVAL" | "EADDRNOTAVAIL") => {
            "This host had no route to the target, or no longer had the address that it sent from. Check its network connection, and \
             --bind if it is given"
        }
        _ => "Check the firewall, the routes and the addresses of this host",
    };
    let errors = if errors.is_empty() { "unknown error".to_owned() } else { errors.join(", ") };
    format!("{errors}. {advice}")
}

fn loss_direction(found: &mut Warnings, report: &Report, stream: Option<&StreamFigures>) {
    let Some(loss_report) = &report.loss_report else {
        // Without any reply, the causes from `no_replies` matter more than the direction of the loss.
        let has_loss = stream.is_some_and(|stream| stream.has_replies() && stream.lost > 0);
        // The finding about large packets names the direction, or why it is unknown.
        let is_named = report.findings.iter().any(|finding| finding.code == "large_packets");
        if report.protocol == RunProtocol::Udp && has_loss && !is_named {
            let message = "the direction of the loss is unknown; --loss-direction requests it from a jamjam-dev server";
            found.add("loss_direction_not_requested", message);
        }
        return;
    };
    let is_excluded = report.streams.iter().any(|(_, stream)| stream.excluded > 0);
    let reason = match (report.interrupted, loss_report.response_received) {
        (_, true) if is_excluded => "they were lost in seconds with a pause",
        (Some(_), _) => "the run was interrupted before the server's final packet counts were requested",
        (None, true) => "the server did not report its packet counts, reported them only once, or restarted",
        (None, false) => "the server did not answer the requests for its packet counts",
    };
    let unknown = report.streams.iter().map(|(kind, stream)| {
        let known = stream.lost_upstream.unwrap_or(0) + stream.lost_downstream.unwrap_or(0);
        (stream.lost - known, format!("lost {} packet", kind.name()))
    });
    let unknown = unknown.filter(|(lost, _)| *lost > 0);
    let lost: Vec<String> = unknown.map(|(lost, noun)| format_count(lost, &noun)).collect();
    if !lost.is_empty() {
        let message = format!("the direction of {} is unknown: {reason}", lost.join(" and "));
        found.add("loss_direction_unknown", message);
    }
}

/// Warnings about wrong figures come first, then warnings about less precise figures.
fn host_timing(found: &mut Warnings, report: &Report, is_timed: bool) {
    let Some(host) = &report.host_timing else { return };
    paused(found, "paused", "this host", host.pauses, host.paused_ms);
    if let Some(first) = host.address_changes.first() {
        let steps: Vec<String> = host.address_changes.iter().map(|change| change.to.to_string()).collect();
        let message = format!(
            "this host's address changed from {} to {}, and the run continued from the new address. Packets that were in flight then are \
             excluded",
            first.from,
            steps.join(" to ")
        );
        found.add("address_changed", message);
    }
    let dropped = host.kernel_dropped.unwrap_or(0);
    let message = format!(
        "the receive buffer of this host was full and dropped {{}}{}. Close other programs, or raise net.core.rmem_max (Linux)",
        explained_losses(report, dropped)
    );
    found.count("kernel_dropped", dropped, "datagram", &message);
    if let Some(largest) = host.clock_jump_max_ms {
        let largest = format!("{}{}", if largest > 0.0 { "+" } else { "" }, format_time(largest * 1e3));
        let jumps = match host.clock_jumps {
            1 => format!("jumped by {largest}"),
            jumps => format!("jumped {}, by up to {largest}", format_count(jumps, "time")),
        };
        let message = format!(
            "the clock of this host {jumps}. A round-trip time at the moment of a jump may be wrong by up to 50 ms. The start time \
             (started_unix_ms) is calculated from the clock at the end of the run. Therefore, the start time may differ from the clock \
             at the start"
        );
        found.add("clock_jumped", message);
    }
    if let Some(p99) = host.send_call_p99_us.filter(|p99| is_timed && *p99 > SEND_CALL_WARNING_US) {
        let message = format!(
            "send calls on this host took {} (p99). Round-trip times and jitter include this time. A packet capture, a \
             local firewall or another program may slow down send calls",
            format_time(p99)
        );
        found.add("slow_send_calls", message);
    }
    if let Some(p99) = host.timer_error_p99_us.filter(|p99| is_timed && *p99 > TIMER_ERROR_WARNING_US) {
        let message = format!(
            "timers on this host fired {} late (p99), so packets leave late and in bursts. If the kernel does not timestamp received \
             packets, round-trip times are also longer by this amount. Close other programs or measure from a less busy host",
            format_time(p99)
        );
        found.add("timer_error", message);
    }
}

/// `this host did not run for 5.0 s in 2 pauses`.
fn paused(found: &mut Warnings, code: &'static str, host: &str, pauses: u64, paused_ms: f64) {
    let length = format_length(paused_ms);
    let count = if pauses > 1 { format!(" in {pauses} pauses") } else { String::new() };
    if pauses > 0 {
        let message = format!(
            "{host} did not run for {length}{count}: it was stopped, suspended, too busy or without a network. Packets that were in flight \
             then are excluded"
        );
        found.add(code, message);
    }
}

/// `, which may explain 3 of 5 losses`.
fn explained_losses(report: &Report, dropped: u64) -> String {
    let lost: u64 = report.streams.iter().map(|(_, stream)| stream.lost).sum();
    if lost == 0 { String::new() } else { format!(", which may explain {} of {lost} losses", dropped.min(lost)) }
}

fn server_warnings(found: &mut Warnings, report: &Report) {
    let Some(server) = &report.server else { return };
    paused(found, "server_paused", "the server", server.pauses, server.paused_ms);
    let message = format!(
        "the receive buffer of the server's host was full and dropped {{}}, perhaps of other clients{}. Close other programs there, or \
         raise its net.core.rmem_max (Linux)",
        explained_losses(report, server.dropped)
    );
    found.count("server_dropped", server.dropped, "datagram", &message);
}

fn capture_warnings(found: &mut Warnings, report: &Report) {
    let Some(capture) = &report.capture else { return };
    if let Some(reason) = &capture.device_lost {
        found.add("capture_device_lost", format!("the capture device was lost during the run: {reason}"));
    }
    let frames = format_count(capture.overrun_frames, "frame");
    let message = format!(
        "the sender did not read the capture device in time ({{}}). The sent audio lacks {frames}. The missing audio was not replaced with \
         silence"
    );
    found.count("capture_overruns", capture.overruns, "time", &message);
    let message = "the capture device or its driver lost audio of unknown length ({}): try a larger --device-buffer";
    found.count("capture_xruns", capture.xruns, "time", message);
}

fn playback_warnings(found: &mut Warnings, report: &Report) {
    let Some(playback) = &report.playback else { return };
    if let Some(reason) = &playback.device_lost {
        let message = format!("the playback device was lost during the run: {reason}; later audio was not played");
        found.add("playback_device_lost", message);
    }
    let message = "the playback queue was full and dropped {}. The device stopped, or too many packets arrived at once";
    found.count("playback_queue_full", playback.queue_full, "packet", message);
    let message = "the playback device ran out of audio ({}): try a larger --device-buffer";
    found.count("playback_xruns", playback.xruns, "time", message);
    if playback.late * 100 > playback.played * LATE_WARNING_PERCENT && playback.jitter_buffer_ms.is_some() {
        let message =
            "{} arrived too late to be played. A larger --jitter-buffer, or auto, plays more packets but adds delay";
        found.count("played_late", playback.late, "packet", message);
    }
    let message = "{} replaced with 0 before playback";
    found.count("played_non_finite", playback.non_finite_samples, NON_FINITE_SAMPLE, message);
}

fn audio_quality(found: &mut Warnings, report: &Report) {
    let Some(quality) = &report.audio_quality else { return };
    let is_live = report.capture.is_some();
    if quality.sent_silent {
        let message = if is_live {
            "the microphone delivered only digital silence. The microphone may be muted, or this program may lack permission"
        } else {
            "the sent audio is digital silence: check the source"
        };
        found.add("sent_silence", message);
    } else if quality.returned_silent {
        let message = "the returned audio is digital silence, but the sent audio is not. The other side may be muted";
        found.add("returned_silence", message);
    }
    if quality.alignment == UNCORRELATED {
        let message = "the returned audio does not match the sent audio. The returned audio has another source or was changed on the path";
        found.add("uncorrelated", message);
    }
    if let (Some(clips), Some(first)) = (quality.source_clips, quality.source_first_clip_at_ms) {
        let (times, at) = (format_count(clips, "time"), format_time(first * 1e3));
        let remedy = if is_live { "reduce the input level" } else { "the source is too loud" };
        found.add("clipped", format!("the sent audio is clipped {times}, first at {at}: {remedy}"));
    }
    let sent: u64 = quality.sent_levels.iter().map(|level| level.non_finite_samples).sum();
    let effect = "playback programs output noise or silence for these samples";
    let (samples, place) = match (quality.source_non_finite_samples, quality.source_replaced_samples) {
        (Some(samples @ 1..), Some(1..)) => (samples, "source (replaced with 0)".to_owned()),
        (Some(samples @ 1..), _) => (samples, format!("source (sent unchanged): {effect}")),
        _ => (sent, format!("sent audio: {effect}")),
    };
    found.count("non_finite_samples", samples, NON_FINITE_SAMPLE, &format!("{{}} in the {place}"));
    let message = "gaps, levels and alignment do not cover {}: this host was too slow to analyze all audio";
    found.count("analysis_incomplete", quality.quality_dropped, "packet", message);
}

fn audio_warnings(found: &mut Warnings, report: &Report) {
    let Some(audio) = &report.audio else { return };
    let paused = match audio.source_paused_ms {
        0.0 => String::new(),
        ms => format!(". It had no audio for {}, by which the audio after it was sent later", format_length(ms)),
    };
    let message = format!("underrun: the source delivered {{}} too late to be sent on time{paused}");
    found.count("underruns", audio.underruns, "packet", &message);
    if let Some(warning) = &audio.source_warning {
        found.add("source_incomplete", warning);
    }
    found.count("recording_incomplete", audio.recording_dropped, "returned packet", "the recording lacks {}");
    let message = "the --record-both recording lacks {}";
    found.count("recording_both_incomplete", audio.recording_both_dropped, "packet", message);
    server_delay(found, report, audio);
    if audio.payload_bytes > MAX_UNFRAGMENTED_AUDIO_PAYLOAD {
        let message = format!(
            "{} payload bytes do not fit in one Ethernet frame. Packets are fragmented, and a packet is lost if one fragment is lost",
            audio.payload_bytes
        );
        found.add("fragmented", message);
    }
}

fn server_delay(found: &mut Warnings, report: &Report, audio: &AudioFigures) {
    let AudioFigures { server_delay_configured_ms: configured, server_delay_reported_ms: reported, .. } = *audio;
    let estimated = audio.server_delay_estimated_ms;
    if audio.echo_time_min_us.is_some() && audio.server_delay_ms.is_none() {
        let message =
            "no LATENCY_PONG received, so the server delay and the AUDIO round-trip times are unknown: give --delay";
        found.add("server_delay_unknown", message);
    }
    if let (Some(configured), Some(actual)) = (configured, reported.or(estimated))
        && (configured - actual).abs() > SERVER_DELAY_MISMATCH_MS
    {
        let [configured, actual] = [configured, actual].map(|ms| format_time(ms * 1e3));
        let source = if reported.is_some() { "the server reports a delay of" } else { "the measured server delay is" };
        found.add("server_delay_mismatch", format!("--delay is {configured}, but {source} {actual}"));
    } else if report.streams.audio.as_ref().and_then(|audio| audio.rtt_min_us).is_some_and(|min| min < 0.0) {
        let message = "AUDIO returned earlier than --delay allows: the actual server delay is shorter";
        found.add("server_delay_mismatch", message);
    }
    let pings = report.streams.ping.as_ref().map_or(0, |ping| ping.returned);
    if configured.or(reported).is_none() && estimated.is_some() && pings < MIN_PINGS_FOR_SERVER_DELAY {
        let message = format!(
            "the server delay is estimated from only {}, so AUDIO round-trip times are less accurate. Use a longer run or --delay",
            format_count(pings, "ping")
        );
        found.add("server_delay_uncertain", message);
    }
}

fn pacing_warnings(found: &mut Warnings, report: &Report) {
    let Some(pacing) = &report.pacing else { return };
    let name = if pacing.pacing_p99_us.is_some() { "p99" } else { "maximum" };
    if let Some(error) = pacing.pacing_p99_us.or(pacing.pacing_max_us).filter(|error| *error > PACING_WARNING_US) {
        let error = format_time(error);
        let message = format!(
            "packets were sent late (pacing error: {name} {error}). Round trips and jitter exclude this; a receiver sees it as jitter"
        );
        found.add("pacing_error", message);
    }
    if let (Some(first), Some(last)) = (pacing.pacing_first_5s_p50_us, pacing.pacing_last_5s_p50_us)
        && (last - first).abs() > PACING_DRIFT_WARNING_US
    {
        let (first, last) = (format_time(first), format_time(last));
        let message =
            format!("the pacing on this host drifted. Median error: {first} in the first 5 s, {last} in the last 5 s");
        found.add("pacing_drift", message);
    }
}
