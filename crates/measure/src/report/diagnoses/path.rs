//! Findings: sentences that name what is wrong with the path, such as loss in one direction or regular stalls.

use crate::client::{AudioResults, CountSample, RunKind, RunResults};
use crate::diagnosis::{Diagnosis, Severity};
use crate::report::quantities::{
    RoundTrip, RunProtocol, StreamLabels, format_count, format_length, format_share, format_time, is_loopback, micros,
    millis,
};
use jamjam_core::stats::{Histogram, Outage, StreamStats};
use jamjam_core::time::{MIN_PAUSE, Time, saturating_nanos};

/// Minimum duration of an outage, in nanoseconds.
const MIN_OUTAGE_NS: i64 = 1_000_000_000;

/// Fewer lost packets have no pattern.
const MIN_LOST_FOR_PATTERN: u64 = 10;

/// Fewer stalls have no pattern.
const MIN_STALLS_FOR_PATTERN: u64 = 4;

/// Minimum share of reordered packets.
const MIN_REORDERED_RATIO: f64 = 0.001;

/// Minimum share of duplicates.
const MIN_DUPLICATED_RATIO: f64 = 0.001;

/// Minimum of the 99th percentile of the packet delay variation, in nanoseconds.
const MIN_DELAY_VARIATION_NS: i64 = 10_000_000;

/// Minimum share of the lost packets in one direction for naming only this direction; of the AUDIO packets that are lost because of their length, and
/// of the smaller packets that return nevertheless.
const MIN_SHARE: f64 = 0.9;

/// Every IPv4 path carries packets of this length. Only the server's counts can show that such packets are lost because of their length.
const MIN_MTU: u32 = 576;

/// Every IPv6 path, and almost every IPv4 path, carries packets of this length without fragments.
const SAFE_MTU: u32 = 1_280;

const THIS_HOST: &str = "This host";

/// The options of a server that delay packets.
const DELAYING: [&str; 4] = ["--jitter", "--network", "--bandwidth", "--like"];
const UPSTREAM: &str = "upstream, from this host to the server";
const DOWNSTREAM: &str = "downstream, from the server to this host";

fn finding(code: &'static str, message: &str, remedy: impl Into<String>) -> Diagnosis {
    let message = message.trim_end().to_owned();
    let diagnosis = Diagnosis::new(Severity::Warning, code, "docs/measuring.md#findings", message);
    Diagnosis { remedy: Some(remedy.into()).filter(|remedy| !remedy.is_empty()), ..diagnosis }
}

/// A place nearer than the path that explains an effect of a given length.
struct Suspect {
    name: &'static str,
    cause: String,
    remedy: &'static str,
}

impl Suspect {
    /// What is typical of a path.
    fn path(cause: &str, remedy: &'static str) -> Self {
        Self { name: "The path", cause: cause.to_owned(), remedy }
    }

    /// A host is suspected if its pauses or its timer errors are of the size of the effect. For an effect on the percentile `p`, this is that of
    /// the timer errors, and the pauses cover enough of the run to move it.
    fn of(run: &RunResults, options: &[&str], effect_ns: i64, p: Option<f64>) -> Option<Self> {
        let error = |timers: &Histogram| p.and_then(|p| timers.percentile_if_enough(p)).or(timers.max());
        let timers = run.host_timing.as_ref().and_then(|host| error(&host.timer_error)).unwrap_or(0);
        let server = run.server.as_ref().map_or(0, |server| server.pauses.total_ns);
        let enough_ns = p.map_or(0, |p| ((1.0 - p) * run.duration_ns as f64) as u64);
        let pauses = [run.pauses.total_ns, server].map(|ns| if ns >= enough_ns { ns } else { 0 });
        let [here, server] = pauses.map(|ns| i64::try_from(ns).unwrap_or(i64::MAX));
        let remedy = "Close other programs, or measure from a less busy host.";
        let hosts = [
            (here, THIS_HOST, "it did not run for ", "", remedy),
            (timers, THIS_HOST, "its timers fired up to ", " late", remedy),
            (server, "The server", "it did not run for ", "", "Close other programs on the server's host."),
        ];
        let is_as_long = |ns: i64| ns > 0 && ns.saturating_mul(2) >= effect_ns;
        let host = hosts.into_iter().find(|(ns, ..)| is_as_long(*ns)).map(|(ns, name, before, after, remedy)| {
            let (host, time) = (name.replacen('T', "t", 1), length(ns));
            Self { name, cause: format!("The likely cause is {host}: {before}{time}{after}."), remedy }
        });
        Self::option(run, options).or(host).or_else(|| Self::loopback(run, &[]))
    }

    /// The first of these options, if this command gives it to its embedded server. It needs no remedy.
    fn option(run: &RunResults, options: &[&str]) -> Option<Self> {
        let mut words = run.origin.command_line.split(' ').map(|word| word.split('=').next().unwrap_or(word));
        let given = words.find(|word| run.target.starts_with("embedded ") && options.contains(word))?;
        Some(Self::path(&format!("The cause is {given} of this command."), ""))
    }

    /// Without a host whose times explain the effect, it is one of both if the packets did not leave this host.
    fn loopback(run: &RunResults, options: &[&str]) -> Option<Self> {
        Self::option(run, options).or(is_loopback(&run.target).then(|| Self {
            name: "This host or the server",
            cause: "The packets did not leave this host, so the cause is a busy host or the server, perhaps its impairment.".to_owned(),
            remedy: "Close other programs, and omit impairment options of the server.",
        }))
    }
}

/// How this host explains at least half of an effect on the percentile `p`.
pub(in crate::report) fn this_host(run: &RunResults, effect_ns: i64, p: f64) -> Option<String> {
    let suspect = Suspect::of(run, &[], effect_ns, Some(p)).filter(|suspect| suspect.name == THIS_HOST)?;
    Some(suspect.cause.replacen('T', "t", 1).trim_end_matches('.').to_owned())
}

/// All findings about the evaluated stream, the worst first. If only large packets are lost, this is the only finding. Other runs without a
/// reply have none, because their warnings name the causes.
pub(in crate::report) fn findings(run: &RunResults) -> Vec<Diagnosis> {
    if let Some(finding) = large_packets(run) {
        return vec![finding];
    }
    let evaluated = run.evaluated().filter(|stream| stream.returned > 0 && run.replies_expected);
    let Some(stream) = evaluated else { return Vec::new() };
    let unit = StreamLabels::new(RunProtocol::of_run(run), run.evaluated_stream).request_unit;
    // Outages and stalls are those of one client: of several, the worst, if it received a reply.
    let worst = run.clients.as_ref().map(|clients| &clients.worst);
    let (prefix, one) = worst.map_or((String::new(), run), |(number, run)| (format!("Client {number}: "), &**run));
    let client = one.evaluated().filter(|stream| stream.returned > 0);
    let of_client = |finding: Diagnosis| Diagnosis { message: prefix.clone() + &finding.message, ..finding };
    let outage = client.and_then(|client| outage(one, client, unit)).map(of_client);
    let stalls = client.and_then(|client| stalls(one, client)).map(of_client);
    let reordering = reordering(run, stream, unit);
    // Stalls and reordering are the more precise findings, but rare stalls, and those of one of several clients, do not delay 1 % of the packets.
    let stalled_ns = stream.stalls.median_ns().unwrap_or(0).unsigned_abs().saturating_mul(stream.stalls.count);
    let is_explained = stalled_ns.saturating_mul(100) >= run.duration_ns.max(1) || reordering.is_some();
    let variation = if is_explained { None } else { delay_variation(run, stream) };
    let has_pattern = client.is_some_and(|client| client.stalls.count >= MIN_STALLS_FOR_PATTERN);
    let (frequent_stalls, rare_stalls) = if has_pattern { (stalls, None) } else { (None, stalls) };
    let (loss, duplicates) = (loss(run, stream, unit), duplicates(run, stream, unit));
    [outage, loss, frequent_stalls, reordering, variation, rare_stalls, duplicates].into_iter().flatten().collect()
}

/// Whether AUDIO is lost because of its length: smaller packets return, or the server reports that it received them.
fn large_packets(run: &RunResults) -> Option<Diagnosis> {
    let audio = run.audio.as_ref().filter(|_| run.replies_expected && !run.is_port_dead)?;
    let is_most = |part: u64, all: u64| part as f64 >= MIN_SHARE * all as f64;
    let AudioResults { stats, ip_bytes, frame_samples, channels, .. } = audio;
    if *ip_bytes <= MIN_MTU || stats.lost < MIN_LOST_FOR_PATTERN || !is_most(stats.lost, stats.settled()) {
        return None;
    }
    let small = || [&run.ping, &run.keepalive].into_iter().flatten();
    let returned: u64 = small().map(|stream| stream.returned).sum();
    let small_packets_return = match small().map(StreamStats::settled).sum::<u64>() {
        0 => run.server.is_some() || run.loss_report.as_ref().is_some_and(|report| report.response_received),
        settled => returned > 0 && is_most(returned, settled),
    };
    // An echo after the time-out is no loss of the path. A warning names the wrong --delay.
    let delay = run.server_delay();
    let is_too_late = delay.configured_ns.zip(delay.reported_ns).is_some_and(|(configured, reported)| {
        reported.saturating_sub(configured).cast_unsigned() >= run.timeout_ns && reported > configured
    });
    if !small_packets_return || is_too_late {
        return None;
    }
    let samples = || run.loss_report.as_ref().and_then(|report| report.samples.last().copied());
    let counts = run.server.as_ref().and_then(|server| server.counts).or_else(samples);
    let received = counts.map(|CountSample { received: [audio, ..], sent: [sent, ..] }| (u64::from(audio), sent));
    let cause = "A device on the path drops fragments or packets of this length";
    let direction = match received {
        None => format!(
            "In which direction is unknown, because the server does not report its packet counts. {cause}, or the server does not return AUDIO"
        ),
        Some((received, sent)) => {
            let direction = direction([sent.saturating_sub(received), received]).unwrap_or_default();
            let limit = if direction == DOWNSTREAM { ", or a limit of the server rejects them" } else { "" };
            format!("The loss is {direction}: the server received {received} of {sent}. {cause}{limit}")
        }
    };
    let remedy = match run.run_kind {
        RunKind::Probe => "a smaller --size".to_owned(),
        RunKind::Send => {
            let headers = ip_bytes - audio.payload_bytes.min(*ip_bytes);
            let max_samples = SAFE_MTU.saturating_sub(headers) / (4 * u32::from(*channels).max(1));
            format!("a smaller --frame-size, such as {}", max_samples.min(frame_samples / 2).max(1))
        }
    };
    let may_need_link = stats.returned == 0 && run.link.is_none() && received.is_none_or(|(received, _)| received == 0);
    let link = if may_need_link { " If the server requires encrypted links, give --link unsigned." } else { "" };
    let message = format!(
        "Only large packets are lost: AUDIO packets have {ip_bytes} bytes with their IP headers, but smaller packets return. {direction}."
    );
    Some(finding("large_packets", &message, format!("Give {remedy}.{link}")))
}

fn outage(run: &RunResults, stream: &StreamStats, unit: &str) -> Option<Diagnosis> {
    let outage = long_outage(stream)?;
    let started_at = stream.history.started_at.unwrap_or(Time::ZERO);
    let [start, end] = [outage.started_at, outage.ended_at].map(|at| at.signed_nanos_since(started_at));
    let is_last = stream.loss_bursts.is_last(outage);
    let address_changed = run.host_timing.as_ref().is_some_and(|host| !host.address_changes.is_empty());
    let port_was_closed = run.port_unreachable_ns.is_some_and(|[first, last]| first <= end && last >= start);
    // A server that restarts has no keys, but still answers queries, which are not encrypted.
    let answered_ns = run.last_datagram_ns.filter(|_| is_last && run.link.is_some_and(|link| link.is_encrypted));
    let closed_until = run.port_unreachable_ns.map_or(0, |[_, last]| last);
    let keys_were_lost = answered_ns.is_some_and(|at| at > closed_until && at > i64::midpoint(start, end));
    let suspect = Suspect::of(run, &["--outage", "--like", "--loss"], outage.duration_ns(), None);
    let (cause, remedy) = match &suspect {
        _ if address_changed => {
            ("The likely cause is the change of this host's address.", "Stay in one network during the run.")
        }
        _ if keys_were_lost => (
            "The server still answered queries: it has lost the keys of the encrypted link, as after a restart.",
            "Start the run again, which exchanges new keys.",
        ),
        _ if port_was_closed => (
            "The likely cause is a closed port, because ICMP port unreachable was received.",
            "Check that the server keeps running.",
        ),
        Some(suspect) => (&*suspect.cause, suspect.remedy),
        None => ("", "Check the cables and the router, and use a cable instead of Wi-Fi."),
    };
    let what = if cause.is_empty() { "The path was down" } else { "No packet returned" };
    let until = if is_last { "until the end of the run" } else { "then replies arrived again" };
    let (packets, duration, start) = (format_count(outage.packets, unit), length(outage.duration_ns()), length(start));
    let message = format!("{what} for {duration} from {start} on: {packets} lost in a row, {until}. {cause}");
    Some(finding("outage", &message, remedy))
}

fn long_outage(stream: &StreamStats) -> Option<Outage> {
    stream.loss_bursts.longest_outage.filter(|outage| outage.duration_ns() >= MIN_OUTAGE_NS)
}

/// Loss outside a long outage: its direction and its pattern.
fn loss(run: &RunResults, stream: &StreamStats, unit: &str) -> Option<Diagnosis> {
    let outage = long_outage(stream);
    let outage_packets = outage.map_or(0, |outage| outage.packets);
    let observed = stream.observed();
    let [lost, settled] = [observed.lost, observed.settled].map(|count| count.saturating_sub(outage_packets));
    if lost == 0 {
        return None;
    }
    let ratio = lost as f64 / settled as f64;
    // The direction is known for the sum of all lost packets only.
    let lost_by_direction = run.lost_by_direction(run.evaluated_stream);
    let direction = lost_by_direction.filter(|_| outage.is_none()).and_then(direction);
    let pattern = (lost >= MIN_LOST_FOR_PATTERN).then(|| loss_pattern(stream, outage, (lost, ratio), unit));
    let dropped_here = run.host_timing.as_ref().and_then(|host| host.kernel_dropped).unwrap_or(0);
    let dropped_there = run.server.as_ref().map_or(0, |server| server.dropped);
    let hosts = [(dropped_here, "this host", "this host"), (dropped_there, "the server", "the server's host")];
    let overflow = hosts.into_iter().find(|(dropped, ..)| *dropped > 0);
    let details: Vec<String> = direction.iter().cloned().chain(pattern).collect();
    // Few lost packets without a direction are only a count, which the table shows.
    if details.is_empty() && overflow.is_none() {
        return None;
    }
    let scope = if outage.is_some() { "Outside this outage, " } else { "" };
    let what = format!("{scope}{} of the {unit}s were lost {}", format_share(ratio), details.join(", "));
    let what = what.trim_end();
    if let Some((dropped, owner, host)) = overflow {
        let (datagrams, explained) = (format_count(dropped, "datagram"), dropped.min(lost));
        let message = format!(
            "The full receive buffer of {owner} dropped {datagrams}, which may explain {explained} of the {lost} losses. {what}."
        );
        let remedy = format!("Close other programs on {host}, or raise its net.core.rmem_max (Linux).");
        return Some(finding("loss", &message, remedy));
    }
    let other = match direction.as_deref() {
        Some(UPSTREAM) => "stop other uploads.",
        Some(DOWNSTREAM) => "stop other downloads.",
        None if run.loss_report.is_none() && RunProtocol::of_run(run) == RunProtocol::Udp => {
            "give --loss-direction to learn in which direction."
        }
        _ => "stop other transfers.",
    };
    // Pauses and late timers of a host lose no packets.
    Some(match Suspect::loopback(run, &["--loss", "--network", "--drop-packets", "--like", "--bandwidth"]) {
        Some(suspect) => finding("loss", &format!("{what}. {}", suspect.cause), suspect.remedy),
        None => finding("loss", &format!("{what}."), format!("Use a cable instead of Wi-Fi, and {other}")),
    })
}

/// The direction in which at least nine tenths of the packets with a known direction were lost, or the packets of both. `None` if the
/// direction of no packet is known.
pub(in crate::report) fn direction([upstream, downstream]: [u64; 2]) -> Option<String> {
    let is_most = |part: u64| part as f64 >= MIN_SHARE * (upstream + downstream) as f64;
    Some(match () {
        () if upstream + downstream == 0 => return None,
        () if is_most(upstream) => UPSTREAM.to_owned(),
        () if is_most(downstream) => DOWNSTREAM.to_owned(),
        () => format!("in both directions, {upstream} upstream and {downstream} downstream"),
    })
}

/// Whether packets are lost in bursts. Independent losses would hit the packet after a lost packet with probability `ratio`. Bursts are reported
/// if this happened more often by more than three standard deviations, and bursts have at least 1.5 packets on average. The burst of a long
/// outage does not count.
fn loss_pattern(stream: &StreamStats, outage: Option<Outage>, (lost, ratio): (u64, f64), unit: &str) -> String {
    let bursts = stream.loss_bursts.lengths.iter().sum::<u64>() - u64::from(outage.is_some());
    let lost = lost as f64;
    let lost_after_loss = (lost - bursts as f64) / lost;
    let deviation = (ratio * (1.0 - ratio) / lost).sqrt();
    let mean = lost / bursts.max(1) as f64;
    if lost_after_loss > ratio + 3.0 * deviation && mean >= 1.5 {
        // The statistics contain only the longest burst of all.
        let longest = match (stream.loss_bursts.longest, outage) {
            (longest, Some(outage)) if longest == outage.packets => String::new(),
            (longest, _) => format!(" and up to {}", format_count(longest, unit)),
        };
        format!("in bursts of {mean:.1} {unit}s on average{longest}")
    } else {
        "at random, not in bursts".to_owned()
    }
}

/// A stall may be a short pause of a host, which is not detected, or a pause of a server that reports none.
fn stalls(run: &RunResults, stream: &StreamStats) -> Option<Diagnosis> {
    let stalls = &stream.stalls;
    let (typical_ns, longest_ns) = (stalls.median_ns()?, stalls.longest_ns()?);
    let [typical, longest] = [typical_ns, longest_ns].map(length);
    let (times, on_path) = match (stalls.count, stalls.regular()) {
        (1, _) => (format!("once for about {longest}"), ""),
        (_, Some((count, period))) => (
            format!("{count} times for about {typical}, every {}", length(period)),
            "Regular stalls are typical of Wi-Fi scans, Wi-Fi power saving and periodic tasks.",
        ),
        (count, None) => {
            // With fewer stalls, there are too few intervals to call them irregular.
            let intervals = if count >= MIN_STALLS_FOR_PATTERN { " at irregular intervals" } else { "" };
            let longest = if longest == typical { String::new() } else { format!(", at most {longest}") };
            (
                format!("{count} times{intervals} for about {typical}{longest}"),
                "Typical causes are Wi-Fi and a busy host.",
            )
        }
    };
    let is_long = run.server.is_some() && typical_ns.cast_unsigned() >= saturating_nanos(MIN_PAUSE);
    // A host would have reported a long pause.
    let name = if is_long { "The path" } else { "The path or a host" };
    let remedy = "Use a cable instead of Wi-Fi, and close other programs.";
    let suspect = Suspect::of(run, &DELAYING, typical_ns, None);
    let Suspect { name, cause, remedy } = suspect.unwrap_or(Suspect { name, ..Suspect::path(on_path, remedy) });
    let message = format!("{name} stalled {times}; the delayed replies then arrived together. {cause}");
    Some(finding("stalls", &message, remedy))
}

fn delay_variation(run: &RunResults, stream: &StreamStats) -> Option<Diagnosis> {
    let variation = stream.pdv(0.99).filter(|ns| *ns >= MIN_DELAY_VARIATION_NS)?;
    let min = RoundTrip::of(run, run.evaluated_stream).and_then(|rtt| rtt.min());
    let min = min.map_or_else(String::new, |ns| format!(" of {}", format_time(micros(ns))));
    let suspect = Suspect::of(run, &DELAYING, variation, Some(0.99));
    let Suspect { cause, remedy, .. } = suspect.unwrap_or_else(|| {
        let remedy = "Use a cable instead of Wi-Fi, and stop other transfers.";
        Suspect::path("Typical causes are Wi-Fi and full buffers of a router.", remedy)
    });
    let most = length(variation);
    let message =
        format!("The delay varies: 1 % of the round trips take over {most} more than the smallest{min}. {cause}");
    Some(finding("delay_variation", &message, remedy))
}

fn reordering(run: &RunResults, stream: &StreamStats, unit: &str) -> Option<Diagnosis> {
    let ratio = stream.reordered_ratio().filter(|ratio| *ratio >= MIN_REORDERED_RATIO)?;
    let extent = format_count(stream.reorder_extent.max().unwrap_or(0).cast_unsigned(), unit);
    let late_ns = stream.reorder_late_time_offset.max();
    let late = late_ns.map_or_else(String::new, |ns| format!(" and {}", length(ns)));
    let Suspect { cause, remedy, .. } = match Suspect::option(run, &["--reorder", "--like"]) {
        Some(suspect) => suspect,
        None if is_loopback(&run.target) => Suspect::path(
            "The packets did not leave this host, so the server changes their order.",
            "Omit --reorder and --jitter of the server.",
        ),
        None => Suspect::path(
            "Typical causes are several parallel paths and radio links that retransmit lost frames.",
            "Use a cable instead of Wi-Fi or mobile data.",
        ),
    };
    let share = format_share(ratio);
    let message = format!("{share} of the {unit}s arrived out of order, up to {extent}{late} late. {cause}");
    Some(finding("reordering", &message, remedy))
}

fn duplicates(run: &RunResults, stream: &StreamStats, unit: &str) -> Option<Diagnosis> {
    let ratio = stream.duplicated as f64 / stream.returned.max(1) as f64;
    let is_local = is_loopback(&run.target);
    let remedy = if is_local { "Omit --duplicate of the server." } else { "Look for bonded or mirrored connections." };
    let suspect = Suspect::option(run, &["--duplicate"]).unwrap_or_else(|| Suspect::path("", remedy));
    let message = format!("{} of the {unit}s returned more than once. {}", format_share(ratio), suspect.cause);
    (ratio >= MIN_DUPLICATED_RATIO).then(|| finding("duplicates", &message, suspect.remedy))
}

/// `120 ms`, `5.0 s`.
fn length(ns: i64) -> String {
    format_length(millis(ns))
}
