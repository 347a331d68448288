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
        found.all.push(Diagnosis { details: causes(report), ..diagnosis });
    }
}

/// Each cause, the evidence for or against it, and a remedy.
#[rustfmt::skip]
fn causes(report: &Report) -> Vec<String> {
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
        0 => "unlikely, because ICMP port unreachable was not received".to_owned(),
        n => format!("likely, because ICMP port unreachable was received {}. Check the port and the firewall, and that the server is running",
            format_count(n, "time")),
    };
    let unreachable = match () {
        () if answer.is_some() || unmatched > 0 || is_elsewhere => "ruled out, because other datagrams arrived",
        () if is_closed => "unlikely, because ICMP port unreachable was received",
        () if is_loopback => "unlikely, because the target is this host",
        () => "likely, because no datagram arrived. Run `jamjam-dev probe --embedded` on this host and `jamjam-dev probe` on the server's host. If \
            both probes pass, the problem is between the two hosts",
    };
    let is_audio = report.evaluated_stream == StreamKind::Audio;
    let is_large = report.head.findings.iter().any(|finding| finding.code == "large_packets");
    let no_answer = format!("the server does not answer {}", report.evaluated_stream.name());
    let wrong_server = match answer {
        _ if !is_audio => &*no_answer,
        Some(_) if is_large => "the path drops packets of this length (see the finding)",
        Some(_) => "the server does not return AUDIO, or its delay exceeds the run duration",
        None if unmatched > 0 => "another program than an echo server listens there",
        None => "no echo server listens there, or the server delay exceeds the run duration",
    };
    let link = if report.link.is_none() { ", or --link unsigned if the server requires encrypted links" } else { "" };
    let (other_replies, remedy) = match &answer {
        _ if is_elsewhere => ("unlikely, because replies came from another address".to_owned(), ""),
        Some(answer) if is_large => (format!("likely, because {answer}"), ""),
        Some(answer) if is_audio => (format!("likely, because {answer}. Give --delay or a longer --timeout"), link),
        Some(answer) => (format!("likely, because {answer}"), ". Check that the server is an echo server"),
        None if unmatched > 0 => (
            format!("likely, because {} arrived without a matching request", format_count(unmatched, "datagram")),
            ". Check the port, and that the server is an echo server",
        ),
        None if is_loopback && !is_closed => (
            "likely, because a program on this host has the port open".to_owned(),
            ". Check the port, and whether the server restricts sources (--allow)",
        ),
        None => ("unlikely, because no datagram arrived".to_owned(), ""),
    };
    let elsewhere = report.stray_source.map(|source| format!("the server replies from another address, {source}: likely, because datagrams came \
        from it. Give this address as the target, or bind the server to the address that is probed"));
    let mut causes = vec![
        format!("the port is closed{no_ipv6} or a firewall rejects packets (ICMP port unreachable): {closed_port}"),
        format!("the host is wrong, a firewall drops UDP, or the server restricts sources (--allow): {unreachable}"),
        format!("{wrong_server}: {other_replies}{remedy}"),
    ];
    causes.sort_by_key(|cause| !cause.contains(": likely, "));
    elsewhere.into_iter().chain(causes).collect()
}
