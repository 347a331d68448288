//! What happened to the packets of each stream, and in which direction they were lost.

use super::found::{Found, diagnose};
use crate::report::figures::StreamFigures;
use crate::report::model::Report;
use crate::report::quantities::{RunProtocol, format_count};

/// Number of round trips that a 99th percentile needs.
const MIN_P99_SAMPLES: u64 = 100;

pub(super) fn streams(found: &mut Found, report: &Report) {
    for (kind, stream) in report.streams.iter() {
        let labels = report.labels(kind);
        let requests = |count| format_count(count, &labels.request_noun());
        let replies = |count| format_count(count, &labels.reply_noun());
        let damaged = stream.damaged_copies.max(stream.damaged);
        // If no replies are expected, every packet stays in flight.
        let in_flight = if report.replies_expected { stream.in_flight } else { 0 };
        let ended = if report.head.interrupted.is_some() { "was interrupted" } else { "ended" };
        diagnose! { found:
            Error "damaged" if (damaged > 0) =>
                "{} arrived with changed bytes. The server or a device on the path modifies packets", replies(damaged);
            Warning "send_failed" if (stream.not_sent > 0) =>
                "this host refused to send {} (counted as not sent): {}", requests(stream.not_sent), send_errors(report);
            Warning "unmatched" if (stream.unmatched > 0) =>
                "{} matched no request: replies to an earlier run or to another client", replies(stream.unmatched);
            Warning "in_flight" if (in_flight > 0) =>
                "{} in flight when the run {ended} (counted neither as returned nor as lost)", requests(in_flight);
        }
    }
    let stray = format_count(report.stray, report.labels(report.evaluated_stream).reply_unit);
    diagnose! { found:
        Warning "stray" if (let Some(source) = report.stray_source && report.stray > 0) =>
            "{stray} came from another address than the target, the first from {source}, and did not count as replies";
        Warning "stray" if (report.stray > 0 && report.stray_source.is_none()) => "{stray} belonged to no stream of this run";
    }
}

/// The errors with which this host refused to send, and what to check.
#[rustfmt::skip]
fn send_errors(report: &Report) -> String {
    let errors = report.host_timing.as_ref().map_or(&[][..], |host| &host.send_errors);
    let advice = match errors.first().and_then(|error| error.split(':').next()) {
        Some("EPERM") =>
            "A firewall rejects outgoing packets, or the connection table of this host is full (conntrack). Check the firewall's rules",
        Some("EACCES") => "A route or a rule of this host prohibits the target. Check the routes and the firewall",
        Some("ENETUNREACH" | "EHOSTUNREACH" | "EINVAL" | "EADDRNOTAVAIL") =>
            "This host had no route to the target, or no longer had the address that it sent from. Check its network connection, and --bind if it \
             is given",
        _ => "Check the firewall, the routes and the addresses of this host",
    };
    let errors = if errors.is_empty() { "unknown error".to_owned() } else { errors.join(", ") };
    format!("{errors}. {advice}")
}

pub(super) fn loss_direction(found: &mut Found, report: &Report) {
    // Without any reply, the causes from `no_replies` matter more. The finding about large packets names the direction, or why it is unknown.
    let has_loss = report.evaluated().is_some_and(|stream| stream.has_replies() && stream.lost > 0);
    let is_named = report.head.findings.iter().any(|finding| finding.code == "large_packets");
    let Some(loss_report) = &report.loss_report else {
        diagnose! { found:
            Note "loss_direction_not_requested" if (report.protocol == RunProtocol::Udp && has_loss && !is_named) =>
                "the direction of the loss is unknown; --loss-direction requests it from a jamjam-dev server";
        }
        return;
    };
    let is_excluded = report.streams.iter().any(|(_, stream)| stream.excluded > 0);
    let reason = match (report.head.interrupted, loss_report.response_received) {
        (_, true) if is_excluded && report.clients.is_some() => "some packets were excluded because of a pause",
        (_, true) if is_excluded => "they were lost in seconds with a pause",
        (Some(_), _) => "the run was interrupted before the server's final packet counts were requested",
        (None, true) if report.clients.is_some() => "not every client received the server's final packet counts",
        (None, true) => "the server did not report its packet counts, reported them only once, or restarted",
        (None, false) => "the server did not answer the requests for its packet counts",
    };
    let unknown =
        |stream: &StreamFigures| stream.lost - stream.lost_upstream.unwrap_or(0) - stream.lost_downstream.unwrap_or(0);
    let lost = report.streams.iter().map(|(kind, stream)| (unknown(stream), format!("lost {} packet", kind.name())));
    let lost: Vec<String> =
        lost.filter(|(count, _)| *count > 0).map(|(count, noun)| format_count(count, &noun)).collect();
    diagnose! { found:
        Note "loss_direction_unknown" if (!lost.is_empty()) => "the direction of {} is unknown: {reason}", lost.join(" and ");
    }
}

pub(super) fn statistics(found: &mut Found, report: &Report) {
    diagnose! { found:
        Note "few_samples" if (let Some(n @ 1..MIN_P99_SAMPLES) = report.evaluated().map(|stream| stream.rtt_count)) =>
            "only {} measured: a 99th percentile (p99) needs {MIN_P99_SAMPLES}", format_count(n, "round trip");
    }
}
