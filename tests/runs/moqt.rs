//! Runs over MOQT, for the tests of reports.

use jamjam_dev::flow::moqt::{Groups, Lost, MoqtRun, SetUp};
use jamjam_dev::flow::run::{Command, Run, StreamKind};
use jamjam_dev::moqt::{Flavour, Transport};
use jamjam_dev::stats::Stream;

fn run(moqt: MoqtRun, ping: Option<Stream>) -> Run {
    let run = Run::new(Command::Probe, "moqt://echo.example:4443/echo", StreamKind::Ping);
    Run { moqt: Some(moqt), ping, ..run }
}

/// A run of 10 groups of two of which all that can happen to a group has happened, and 3 ms of name, 4 ms of QUIC and so on.
pub(crate) fn all_kinds() -> Run {
    let ms = |n: u64| Some(n * 1_000_000);
    let set_up = SetUp { name_ns: ms(3), quic_ns: ms(4), connect_ns: ms(5), session_ns: ms(6), subscribe_ns: ms(7) };
    let groups = Groups { sent: 10, returned: 7, lost: 2, frames_missing: 3, declined: 4, unsent: 1 };
    let mut ping = Stream::new();
    (0..11).for_each(|n| ping.on_return(1_000_000 + n));
    (ping.sent, ping.lost, ping.in_flight) = (20, 7, 2);
    let known = MoqtRun { flavour: Some(Flavour::Seed), set_up, groups, ..empty(Transport::WebTransport) };
    run(known, Some(ping))
}

fn empty(transport: Transport) -> MoqtRun {
    MoqtRun::new(transport, "japan, kyoto, text", 2)
}

/// One of which everything is known, one for each way in which a connection comes to nothing, one that was silent.
pub(crate) fn moqt_runs() -> Vec<(&'static str, Run)> {
    let lost = |lost| MoqtRun { lost: Some(lost), ..empty(Transport::Quic) };
    let closed = |code: u32| Lost::Closed { code, reason: "so".to_owned() };
    let silent = Stream { sent: 5, lost: 5, ..Stream::new() };
    let groups = Groups { sent: 5, lost: 5, ..Groups::default() };
    let mut runs = vec![
        ("moqt", all_kinds()),
        ("moqt unreachable", run(lost(Lost::Unreachable("no".to_owned())), None)),
        ("moqt refused", run(lost(Lost::Refused("no".to_owned())), None)),
        ("moqt unready", run(lost(Lost::Unready("the server has not")), None)),
        ("moqt overdue", run(lost(Lost::Overdue("a session")), None)),
        ("moqt broken", run(lost(Lost::Broken("gone".to_owned())), Some(silent.clone()))),
        (
            "moqt asked again",
            run(MoqtRun { asked_again: Some("echo".to_owned()), groups, ..empty(Transport::Quic) }, None),
        ),
        ("moqt silent", run(MoqtRun { groups, ..empty(Transport::Quic) }, Some(silent.clone()))),
    ];
    let codes = [0, 1, 3, 0x12, 0x13, u32::MAX];
    runs.extend(codes.map(|code| ("moqt closed", run(lost(closed(code)), Some(silent.clone())))));
    runs
}
