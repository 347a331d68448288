//! What limited a run with several clients: this host, a limit of the server, or the server.

use crate::client::{ClientsResults, RunResults, StreamKind};
use crate::diagnosis::{Diagnosis, Severity};
use crate::report::figures::StreamFigures;
use crate::report::model::Report;
use crate::report::quantities::{format_count, format_decimals, format_time, is_loopback};

/// Above this 99th percentile of the lateness, in microseconds, this host is at its limit.
pub(in crate::report) const MAX_LATENESS_US: f64 = 1_000.0;

/// Limits of an echo server per address, in packets and in bits per second.
const ADDRESS_LIMIT: [f64; 2] = [8_000.0, 64e6];

/// Number of sources to which an echo server reports about itself.
const TRACKED_SOURCES: usize = 1_024;

/// The first finding of a run with several clients, unless nothing was lost and no limit was exceeded.
pub(in crate::report) fn finding(run: &RunResults, report: &Report) -> Option<Diagnosis> {
    let (results, figures) = (run.clients.as_ref()?, report.clients.as_ref()?);
    let ClientsResults { count, without_link, without_report, .. } = *results;
    let (p99, max) = figures.lateness.as_ref().map_or((None, None), |lateness| (lateness.p99_us, lateness.max_us));
    let (name, lateness) = p99.map_or(("maximum", max.unwrap_or(0.0)), |p99| ("p99", p99));
    let late = format!("packets left {} late ({name})", format_time(lateness));
    let dropped = run.host_timing.as_ref().and_then(|host| host.kernel_dropped).unwrap_or(0);
    let is_lossy = run.evaluated().is_some_and(|stream| stream.lost > 0);
    let is_local = is_loopback(&run.target);
    // Each run with an AUDIO stream sends little else.
    let bytes = run.audio.as_ref().map_or(0, |audio| u64::from(audio.ip_bytes));
    let sent = StreamKind::ALL.map(|kind| run.stream(kind).map_or(0, |stream| stream.sent));
    let seconds = report.actual_duration_ms.unwrap_or(report.head.duration_ms).max(1.0) / 1e3;
    let rates = [sent.iter().sum::<u64>() as f64 / seconds, (sent[0] * bytes * 8) as f64 / seconds];
    let is_above = !is_local && (rates[0] > ADDRESS_LIMIT[0] || rates[1] > ADDRESS_LIMIT[1]);
    let (code, message, remedy) = if lateness > MAX_LATENESS_US || dropped > 0 {
        let drops = format!("its sockets dropped {}", format_count(dropped, "datagram"));
        let why = if dropped > 0 { drops } else { late };
        let message = format!("This host was at its limit: {why}. The figures say little about the server.");
        ("host_limit", message, "Use fewer clients, a longer interval, or a faster host.")
    } else if without_link == count || !report.evaluated().is_some_and(StreamFigures::has_replies) {
        // The report says why the connection failed, or lists the causes of missing replies.
        return None;
    } else if without_link > 0 {
        let message = format!(
            "{without_link} of {count} clients have no link: a server accepts 256 links of one address other than loopback, a burst of 64 \
             and then 8 new ones per second, and 1,024 in all."
        );
        ("server_limit", message, "No option lifts this limit: use fewer clients, or omit --link.")
    } else if is_lossy && is_above {
        let [packets, bits] = [rates[0], rates[1] / 1e6].map(|rate| format_decimals(rate, 0));
        let message = format!(
            "The server's limit per address was reached: this host sent {packets} packets and {bits} Mbit of AUDIO per second, and a server \
             sends an address at most 8,000 packets and 64 Mbit per second."
        );
        ("server_limit", message, "Start the server with --max-bitrate-per-source off.")
    } else if count > TRACKED_SOURCES && (1..count).contains(&without_report) {
        let message = format!(
            "The server reports to 1,024 sources only: {without_report} of {count} clients do not know its delay."
        );
        ("server_limit", message, "Give its delay with --delay.")
    } else if is_lossy || !report.head.verdict.passed {
        let message = format!("The server or the path was at its limit, and not this host: {late}.");
        ("server_capacity", message, "Look at the processor time and at the dropped packets of the server.")
    } else {
        return None;
    };
    let diagnosis = Diagnosis::new(Severity::Warning, code, "docs/how-many-musicians.md#what-was-reached", message);
    Some(Diagnosis { remedy: Some(remedy.to_owned()), ..diagnosis })
}
