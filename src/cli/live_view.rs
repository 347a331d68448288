//! The view of an active run on standard error: a status line on a terminal.

use std::io::{self, IsTerminal};

use super::output::are_notices_silenced;
use crate::client::LiveSnapshot;
use crate::io::status_line::StatusLine;
use crate::report::quantities::{format_length, format_share, format_time_ms};

/// Shows an active run. Dropping the view erases the status line.
pub(crate) struct LiveView {
    status: StatusLine,
    total: Option<u64>,
    /// The text before the figures.
    prefix: String,
}

impl LiveView {
    /// The view of a run of `total` packets; none with --quiet, if standard error is not a terminal, or with packet lines beside it on a terminal.
    pub(crate) fn new(prints_packets: bool, total: Option<u64>) -> Option<Self> {
        let is_hidden = are_notices_silenced() || prints_packets && io::stdout().is_terminal();
        let status = if is_hidden { None } else { StatusLine::new(total) };
        Some(Self { status: status?, total, prefix: String::new() })
    }

    /// The views of runs of `total` packets to several targets, one below the other; none with --quiet, or if standard error is not a terminal.
    pub(crate) fn of_targets(names: &[&str], total: Option<u64>) -> Vec<Self> {
        let count = if are_notices_silenced() { 0 } else { names.len() };
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let view = |(status, name)| Self { status, total, prefix: format!("{name:width$}  ") };
        StatusLine::rows(total, count).into_iter().zip(names).map(view).collect()
    }

    pub(crate) fn update(&mut self, now: &LiveSnapshot) {
        self.status.draw(now.sent + now.not_sent, self.prefix.clone() + &figures(self.total, now));
    }
}

/// The most important figures first: a narrow terminal shows only their beginning.
fn figures(total: Option<u64>, now: &LiveSnapshot) -> String {
    if now.sent + now.not_sent == 0 {
        return "waiting for the first reply".to_owned();
    }
    let mut figures = Vec::new();
    if now.known > 0 {
        figures.push(format!("lost {} ({})", now.lost, format_share(now.lost as f64 / now.known as f64)));
    }
    if let Some(upstream) = now.lost_upstream.filter(|_| now.lost > 0) {
        figures.push(format!("upstream {}", upstream.min(now.lost)));
    }
    if now.replies_expected && now.known < now.sent && total == Some(now.sent + now.not_sent) {
        figures.push("waiting for missing replies".to_owned());
    }
    if now.paused_ns > 0 {
        figures.push(format!("this host did not run for {}", format_length(now.paused_ns as f64 / 1e6)));
    }
    let time = |ns: i64| format_time_ms(ns as f64 / 1e3);
    if let Some(rtt) = now.rtt_ns {
        let name = if now.includes_server_delay { "echo time" } else { "round trip" };
        figures.push(format!("{name} {}", time(rtt)));
    }
    figures.extend(now.rtt_p99_ns.map(|p99| format!("p99 {}", time(p99))));
    figures.push(format!("sent {}", now.sent));
    if now.not_sent > 0 {
        figures.push(format!("not sent {}", now.not_sent));
    }
    figures.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> LiveSnapshot {
        let (rtt_ns, rtt_p99_ns) = (Some(161_000), Some(201_800));
        LiveSnapshot { sent: 192, replies_expected: true, known: 191, lost: 1, rtt_ns, rtt_p99_ns, ..<_>::default() }
    }

    #[test]
    fn loss_comes_first() {
        let expected = "lost 1 (0.52 %), round trip 161.0 µs, p99 201.8 µs, sent 192";
        assert_eq!(figures(Some(193), &running()), expected);
        assert_eq!(figures(None, &running()), expected);
        let split = LiveSnapshot { lost: 3, lost_upstream: Some(4), includes_server_delay: true, ..running() };
        assert_eq!(figures(None, &split), "lost 3 (1.57 %), upstream 3, echo time 161.0 µs, p99 201.8 µs, sent 192");
    }

    #[test]
    fn share_of_a_lost_packet_is_never_zero() {
        let lost = |known| figures(None, &LiveSnapshot { known, ..running() });
        assert!(lost(1_000_000_000).starts_with("lost 1 (< 0.01 %), "), "{}", lost(1_000_000_000));
        assert!(lost(2).starts_with("lost 1 (50 %), ") && !lost(0).contains("lost"));
    }

    #[test]
    fn missing_replies_are_shown_after_the_last_packet() {
        let waits = |total, now: &LiveSnapshot| figures(total, now).contains("waiting for missing replies");
        assert!(waits(Some(192), &running()) && !waits(Some(193), &running()) && !waits(None, &running()));
        assert!(!waits(Some(192), &LiveSnapshot { known: 192, ..running() }));
        assert!(!waits(Some(192), &LiveSnapshot { known: 0, replies_expected: false, ..running() }));
    }

    #[test]
    fn pause_of_this_host_is_shown() {
        let paused = LiveSnapshot { not_sent: 8, paused_ns: 5_040_000_000, ..running() };
        let text = figures(Some(200), &paused);
        let expected = "lost 1 (0.52 %), waiting for missing replies, this host did not run for 5.0 s, ";
        assert!(text.starts_with(expected) && text.ends_with(", sent 192, not sent 8"), "{text}");
    }
}
