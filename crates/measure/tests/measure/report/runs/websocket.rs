//! Sample results of runs over WebSocket. The tests of reports use these results.

use jamjam_core::stats::StreamStats;
use jamjam_core::time::Time;
use jamjam_measure::client::{
    ClockOffset, RunKind, RunResults, StreamKind, WebSocketConnectTimes, WebSocketFailure, WebSocketResults,
};
use jamjam_signaling::Dialect;

fn run(websocket: WebSocketResults, ping: Option<StreamStats>) -> RunResults {
    let run = RunResults::new(RunKind::Probe, "wss://rooms.example", StreamKind::Ping);
    RunResults { websocket: Some(websocket), ping, ..run }
}

/// A complete run, a run whose connection was closed, and a run that never connected.
pub(crate) fn websocket_runs() -> Vec<(&'static str, RunResults)> {
    let set_up = WebSocketConnectTimes {
        dns_ns: 1_000,
        tcp_ns: 2_000_000,
        tls_ns: Some(3_000_000),
        upgrade_ns: 4_000_000,
        join_ns: Some(5_000_000),
    };
    let mut ping = StreamStats::new();
    (0..20).for_each(|n| ping.on_return(Time::ZERO, 1_000_000 + n));
    ping.sent = 20;
    let known = WebSocketResults {
        connect_times: vec![set_up],
        clock_offset: Some(ClockOffset { offset_ns: -1_500_500, rtt_ns: 999 }),
        server_error: Some("no".to_owned()),
        ..WebSocketResults::new(Dialect::ControlSurface)
    };
    let closed = WebSocketResults {
        connect_times: vec![set_up, WebSocketConnectTimes::default()],
        failure: Some(WebSocketFailure::Closed { code: Some(4_002), reason: "Server shutting down".to_owned() }),
        ..WebSocketResults::new(Dialect::Broadcast)
    };
    let never = WebSocketResults {
        failure: Some(WebSocketFailure::Unreachable("cannot".to_owned())),
        ..WebSocketResults::new(Dialect::Jamjam)
    };
    let lost = StreamStats { sent: 20, lost: 5, ..ping.clone() };
    let silent = StreamStats { sent: 5, lost: 5, ..StreamStats::new() };
    vec![
        ("websocket", run(known, Some(ping))),
        ("websocket closed", run(closed, Some(lost.clone()))),
        ("websocket never", run(never, None)),
        ("websocket silent", run(WebSocketResults::new(Dialect::WebRtc), Some(silent))),
        ("websocket unnumbered", run(WebSocketResults::new(Dialect::Jamjam), Some(lost))),
    ]
}
