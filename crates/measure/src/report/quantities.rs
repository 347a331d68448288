//! How the report writes quantities, with their units and rounding, and what it calls signals, protocols and packets.

use std::net::IpAddr;
use std::time::Duration;

use crate::client::{RunResults, StreamKind, WebSocketResults};
use jamjam_core::address::HostPort;
use jamjam_core::stats::{Histogram, StreamStats};
use jamjam_signaling::Dialect;

/// Nanoseconds as microseconds.
pub(crate) fn micros(ns: i64) -> f64 {
    ns as f64 / 1e3
}

/// Rounds a time to whole nanoseconds, then converts the time to microseconds.
pub(crate) fn rounded_micros(ns: f64) -> f64 {
    // Adding zero turns -0.0 into 0.0.
    ns.round() / 1e3 + 0.0
}

/// Nanoseconds as milliseconds.
pub(crate) fn millis(ns: i64) -> f64 {
    ns as f64 / 1e6
}

/// The same for a time that is never negative.
pub(crate) fn unsigned_millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// A duration in milliseconds, rounded to three decimals.
pub(crate) fn duration_millis(duration: Duration) -> f64 {
    thousandths(duration.as_secs_f64() * 1e3)
}

/// The duration of `samples` per channel in milliseconds, rounded to three decimals.
pub(crate) fn samples_to_millis(samples: u64, sample_rate: u32) -> f64 {
    thousandths(samples as f64 * 1e3 / f64::from(sample_rate.max(1)))
}

/// A linear magnitude in decibels, rounded to three decimals; `None` for zero.
pub(crate) fn decibels(magnitude: f64) -> Option<f64> {
    (magnitude > 0.0).then(|| thousandths(20.0 * magnitude.log10()))
}

/// Rounded to three decimals; adding zero turns -0.0 into 0.0.
pub(crate) fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3 + 0.0
}

/// Writes a time, given in microseconds, in ns, µs, ms or s, depending on its size.
pub fn format_time(us: f64) -> String {
    match us.abs() {
        size if size > 0.0 && size < 0.1 => format!("{:.0} ns", us * 1e3),
        size if size < 1e3 => format!("{us:.1} µs"),
        size if size < 1e6 => format!("{:.3} ms", us / 1e3),
        _ => format!("{:.3} s", us / 1e6),
    }
}

/// A time in milliseconds: `5.0 s`, `120 ms`, `80.0 µs`, `0 ms`.
pub fn format_length(ms: f64) -> String {
    match ms {
        short if short > 0.0 && short < 1.0 => format_time(ms * 1e3),
        _ if ms < 1e3 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1e3),
    }
}

/// A ratio from 0 to 1 as a percentage with three decimals at most.
pub fn format_percent(ratio: f64) -> String {
    percentage(ratio, 3)
}

/// A ratio from 0 to 1 as a percentage with two decimals at most.
pub fn format_share(ratio: f64) -> String {
    percentage(ratio, 2)
}

/// Only an exact zero is written as `0 %`, and only an exact one as `100 %`.
fn percentage(ratio: f64, decimals: usize) -> String {
    match format_decimals(ratio * 100.0, decimals) {
        zero if zero == "0" && ratio > 0.0 => format!("< 0.{:0>decimals$} %", 1),
        all if all == "100" && ratio < 1.0 => format!("> 99.{:9<decimals$} %", ""),
        percent => format!("{percent} %"),
    }
}

/// A number with at most this many decimals.
pub(crate) fn format_decimals(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `1 packet`, `2 packets`.
pub(crate) fn format_count(n: u64, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// Whether a target is this host. A closed port of this host always causes ICMP port unreachable.
pub(crate) fn is_loopback(target: &str) -> bool {
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

/// The protocol of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunProtocol {
    /// UDP datagrams.
    Udp,
    /// Messages of a dialect over WebSocket.
    WebSocket(Dialect),
    /// Messages between members of rooms over WebSocket.
    Rooms,
    /// MOQT.
    Moqt,
}

impl RunProtocol {
    pub(crate) fn of_run(run: &RunResults) -> Self {
        match (&run.websocket, &run.moqt) {
            (Some(WebSocketResults { rooms: Some(_), .. }), _) => Self::Rooms,
            (Some(websocket), _) => Self::WebSocket(websocket.dialect),
            (None, Some(_)) => Self::Moqt,
            (None, None) => Self::Udp,
        }
    }
}

/// The names of a stream's packets: packet types over UDP, message types over WebSocket, frames over MOQT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamLabels {
    /// The type of the request.
    pub(crate) request: &'static str,
    /// The type of the reply.
    pub(crate) reply: &'static str,
    /// `packet`, `message` or `frame`.
    pub(crate) request_unit: &'static str,
    /// `datagram`, `message` or `frame`.
    pub(crate) reply_unit: &'static str,
}

impl StreamLabels {
    pub(crate) fn new(protocol: RunProtocol, kind: StreamKind) -> Self {
        let ([request, reply], [request_unit, reply_unit]) = match (protocol, kind) {
            (RunProtocol::WebSocket(dialect), StreamKind::Ping) => (dialect.facts().probe_types, ["message"; 2]),
            (RunProtocol::Rooms, StreamKind::Ping) => (["relayed"; 2], ["message"; 2]),
            (RunProtocol::Moqt, StreamKind::Ping) => (["MOQT"; 2], ["frame"; 2]),
            _ => ([kind.name(), kind.reply_name()], ["packet", "datagram"]),
        };
        Self { request, reply, request_unit, reply_unit }
    }

    /// For example `LATENCY_PING packet` or `ping message`.
    pub(crate) fn request_noun(self) -> String {
        format!("{} {}", self.request, self.request_unit)
    }

    /// `LATENCY_PONG datagram`, `pong message`.
    pub(crate) fn reply_noun(self) -> String {
        format!("{} {}", self.reply, self.reply_unit)
    }
}

/// The round trips of one stream in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip<'a> {
    /// The measured round trips, each minus a baseline.
    pub(crate) histogram: &'a Histogram,
    /// Added to each value of `histogram` to restore the baseline. For AUDIO, `RoundTrip::of` also subtracts the server delay from this
    /// offset.
    pub(crate) offset: i64,
}

impl<'a> RoundTrip<'a> {
    /// The round trips of the stream `kind`. For AUDIO, the server delay is subtracted. `None` if the stream was not sent or the server
    /// delay is unknown.
    pub(crate) fn of(run: &'a RunResults, kind: StreamKind) -> Option<Self> {
        let server_delay = if kind == StreamKind::Audio { run.server_delay().effective_ns()? } else { 0 };
        let echo_time = Self::echo_time(run.stream(kind)?);
        Some(Self { offset: echo_time.offset.saturating_sub(server_delay), ..echo_time })
    }

    /// The times from sending to return, which include the server delay.
    pub(crate) fn echo_time(stream: &'a StreamStats) -> Self {
        Self { histogram: &stream.rtt, offset: stream.rtt_baseline() }
    }

    /// A recorded round trip, in nanoseconds.
    pub(crate) fn with_offset(&self, ns: i64) -> i64 {
        ns.saturating_add(self.offset)
    }

    pub(crate) fn min(&self) -> Option<i64> {
        self.histogram.min().map(|ns| self.with_offset(ns))
    }

    pub(crate) fn max(&self) -> Option<i64> {
        self.histogram.max().map(|ns| self.with_offset(ns))
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        self.histogram.mean().map(|ns| ns + self.offset as f64)
    }

    /// The percentile `p`, 0 to 1; `None` if there are fewer than 1/(1−p) round trips.
    pub(crate) fn percentile(&self, p: f64) -> Option<i64> {
        self.histogram.percentile_if_enough(p).map(|ns| self.with_offset(ns))
    }
}
