//! Why no reply arrived over UDP: three possible causes with the evidence for or against each, the likely one first.

use std::net::SocketAddrV6;

use super::found::{Found, diagnose};
use crate::client::StreamKind;
use crate::diagnosis::{Diagnosis, Severity};
use crate::report::figures::StreamFigures;
use crate::report::model::Report;
use crate::report::quantities::{RunProtocol, format_count, is_loopback};

/// If replies arrived, or none were expected, ICMP port unreachable has other causes.
pub(super) fn no_replies(found: &mut Found, report: &Report) {
    let stream = report.evaluated();
    // If the capture device delivered no audio, or this host sent none of the packets, missing replies do not indicate a network problem.
    let sent_nothing =
        stream.is_none_or(|stream| stream.sent == 0 && (report.capture.is_some() || stream.not_sent > 0));
    if report.protocol != RunProtocol::Udp || sent_nothing || report.connection_failure().is_some() {
        return;
    }
    let is_missing = report.replies_expected && !stream.is_some_and(StreamFigures::has_replies);
    let times = format_count(report.port_unreachable, "time");
    let is_unreachable = report.port_unreachable > 0 && !is_missing;
    diagnose! { found:
        Warning "port_unreachable" if (is_unreachable && report.replies_expected) =>
            "ICMP port unreachable was received {times} during the run. The server started late or stopped early, or a firewall intermittently \
             rejects packets";
        Warning "port_unreachable" if (is_unreachable && !report.replies_expected) =>
            "ICMP port unreachable was received {times}. Check the port and the firewall, and that a program receives there";
    }
    if is_missing {
        let message = format!("no {} received; possible causes:", report.evaluated_stream.reply_name());
        let diagnosis = Diagnosis::new(Severity::Error, "no_replies", found.section, message);
        let causes = causes(report);
        let text = |(cause, likelihood, evidence): &Cause| format!("{cause}: {likelihood}, because {evidence}");
        found.all.push(Diagnosis { details: causes.iter().map(text).collect(), ..diagnosis });
        let likely = causes.into_iter().find(|(_, likelihood, _)| *likelihood == LIKELY);
        found.likely_cause = likely.map(|(cause, ..)| cause);
    }
}

/// A cause, its likelihood, and the evidence for or against it with a remedy.
type Cause = (String, &'static str, String);

const LIKELY: &str = "likely";
const UNLIKELY: &str = "unlikely";

/// All causes, the likely ones first.
#[rustfmt::skip]
fn causes(report: &Report) -> Vec<Cause> {
    let is_elsewhere = report.stray_source.is_some();
    let stray = if is_elsewhere { 0 } else { report.stray };
    let unmatched = stray + report.streams.iter().map(|(_, stream)| stream.unmatched).sum::<u64>();
    let (is_closed, is_loopback) = (report.port_unreachable > 0, is_loopback(&report.head.target));
    let other = report.streams.iter().find(|(kind, stream)| *kind != report.evaluated_stream && stream.has_replies());
    let has_answered = report.server.is_some() || report.loss_report.as_ref().is_some_and(|loss| loss.response_received);
    let replies = |(kind, stream): (_, &StreamFigures)| {
        format!("{} arrived", format_count(stream.returned.max(stream.damaged), &report.labels(kind).reply_noun()))
    };
    let answer = other.map(replies).or_else(|| has_answered.then(|| "the server answered another request".to_owned()));
    let no_ipv6 = if report.head.target.parse::<SocketAddrV6>().is_ok() { ", the server has no IPv6," } else { "" };
    let closed_port = match report.port_unreachable {
        0 => (UNLIKELY, "ICMP port unreachable was not received".to_owned()),
        n => (LIKELY, format!("ICMP port unreachable was received {}. Check the port and the firewall, and that the server is running",
            format_count(n, "time"))),
    };
    let unreachable = match () {
        () if answer.is_some() || unmatched > 0 || is_elsewhere => ("ruled out", "other datagrams arrived"),
        () if is_closed => (UNLIKELY, "ICMP port unreachable was received"),
        () if is_loopback => (UNLIKELY, "the target is this host"),
        () => (LIKELY, "no datagram arrived. Run `jamjam-dev probe --embedded` on this host and `jamjam-dev probe` on the server's host. If \
            both probes pass, the problem is between the two hosts"),
    };
    let is_audio = report.evaluated_stream == StreamKind::Audio;
    let is_large = report.head.findings.iter().any(|finding| finding.code == "large_packets");
    let no_answer = format!("the server does not answer {}", report.evaluated_stream.name());
    let wrong_server = match &answer {
        _ if !is_audio => &*no_answer,
        Some(_) if is_large => "the path drops packets of this length (see the finding)",
        Some(_) => "the server does not return AUDIO, or its delay exceeds the run duration",
        None if unmatched > 0 => "another program than an echo server listens there",
        None => "no echo server listens there, or the server delay exceeds the run duration",
    };
    let link = if report.link.is_none() { ", or --link unsigned if the server requires encrypted links" } else { "" };
    let other_replies = match answer {
        _ if is_elsewhere => (UNLIKELY, "replies came from another address".to_owned()),
        Some(answer) if is_large => (LIKELY, answer),
        Some(answer) if is_audio => (LIKELY, format!("{answer}. Give --delay or a longer --timeout{link}")),
        Some(answer) => (LIKELY, answer + ". Check that the server is an echo server"),
        None if unmatched > 0 => (LIKELY, format!("{} arrived without a matching request. Check the port, and that the server is an echo server",
            format_count(unmatched, "datagram"))),
        None if is_loopback && !is_closed => (LIKELY, "a program on this host has the port open. Check the port, and whether the server restricts \
            sources (--allow)".to_owned()),
        None => (UNLIKELY, "no datagram arrived".to_owned()),
    };
    let elsewhere = report.stray_source.map(|source| (format!("the server replies from another address, {source}"), LIKELY, "datagrams came from \
        it. Give this address as the target, or bind the server to the address that is probed".to_owned()));
    let closed = format!("the port is closed{no_ipv6} or a firewall rejects packets (ICMP port unreachable)");
    let dropped = "the host is wrong, a firewall drops UDP, or the server restricts sources (--allow)".to_owned();
    let mut causes = Vec::from_iter(elsewhere);
    causes.extend([
        (closed, closed_port.0, closed_port.1),
        (dropped, unreachable.0, unreachable.1.to_owned()),
        (wrong_server.to_owned(), other_replies.0, other_replies.1),
    ]);
    causes.sort_by_key(|(_, likelihood, _)| *likelihood != LIKELY);
    causes
}
