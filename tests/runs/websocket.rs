//! Runs over WebSocket, for the tests of reports.

use jamjam_dev::flow::run::{Command, Run, StreamKind};
use jamjam_dev::flow::websocket::{Lost, SetUp, WebSocketRun};
use jamjam_dev::flow::{ClockOffset, Dialect};
use jamjam_dev::stats::Stream;

fn run(websocket: WebSocketRun, ping: Option<Stream>) -> Run {
    let run = Run::new(Command::Probe, "wss://rooms.example", StreamKind::Ping);
    Run { websocket: Some(websocket), ping, ..run }
}

/// One in which everything is known, one that was closed, one that never was.
pub(crate) fn websocket_runs() -> Vec<(&'static str, Run)> {
    let set_up = SetUp {
        name_ns: 1_000,
        tcp_ns: 2_000_000,
        tls_ns: Some(3_000_000),
        upgrade_ns: 4_000_000,
        join_ns: Some(5_000_000),
    };
    let mut ping = Stream::new();
    (0..20).for_each(|n| ping.on_return(1_000_000 + n));
    ping.sent = 20;
    let known = WebSocketRun {
        set_ups: vec![set_up],
        clock_offset: Some(ClockOffset { offset_ns: -1_500_500, round_trip_ns: 999 }),
        complaint: Some("no".to_owned()),
        ..WebSocketRun::new(Dialect::Bbx)
    };
    let closed = WebSocketRun {
        set_ups: vec![set_up, SetUp::default()],
        lost: Some(Lost::Closed { code: Some(4_002), reason: "Server shutting down".to_owned() }),
        ..WebSocketRun::new(Dialect::Broadcast)
    };
    let never =
        WebSocketRun { lost: Some(Lost::Unreachable("cannot".to_owned())), ..WebSocketRun::new(Dialect::Jamjam) };
    let lost = Stream { sent: 20, lost: 5, ..ping.clone() };
    let silent = Stream { sent: 5, lost: 5, ..Stream::new() };
    vec![
        ("websocket", run(known, Some(ping))),
        ("websocket closed", run(closed, Some(lost.clone()))),
        ("websocket never", run(never, None)),
        ("websocket silent", run(WebSocketRun::new(Dialect::Webrtc), Some(silent))),
        ("websocket unnumbered", run(WebSocketRun::new(Dialect::Jamjam), Some(lost))),
    ]
}
