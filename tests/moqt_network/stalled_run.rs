//! A run whose thread stalls, like a transport that stalls. It is given up when it is interrupted, and its results contain the events up to
//! then.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use jamjam_dev::client::{FrameTracker, MoqtResults, RunKind, RunResults, StopSignal, StreamKind};
use jamjam_dev::io::moqt::client::ClientThread;
use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::moqt::client::MoqtClientEvent;
use jamjam_dev::moqt::{Transport, echo};
use test_support::TEST_TIMEOUT;

use crate::test_server::{TestServer, groups};

/// The thread of the client stalls at the event of the third sent frame. The delay of the server exceeds the duration of any test.
#[test]
fn interrupted_run_whose_thread_stalls_is_given_up_with_its_events() {
    let echo = echo::MoqtEchoConfig { delay: Duration::from_secs(600), ..echo::MoqtEchoConfig::default() };
    let server = TestServer::start(MoqtServerConfig { echo, ..MoqtServerConfig::default() });
    let (stalled, stall_reached) = mpsc::channel();
    let received = move |event: &MoqtClientEvent| {
        if matches!(event, MoqtClientEvent::FrameSent { group: 3, .. }) {
            stalled.send(()).unwrap();
            loop {
                thread::park();
            }
        }
    };
    let (options, stop) = (server.connect_options(Transport::Quic), StopToken::default());
    let plan = RunResults::new(RunKind::Probe, options.url.to_string(), StreamKind::Ping);
    let plan = RunResults { timeout_ns: TEST_TIMEOUT.as_nanos() as u64, ..plan };
    let frames = FrameTracker::new(plan, MoqtResults::new(Transport::Quic, "japan, kyoto, text", 1), Box::new(()));
    let run = ClientThread::spawn(options, groups(50, 1), frames, None, received, stop.clone()).unwrap();
    stall_reached.recv_timeout(TEST_TIMEOUT).unwrap();
    stop.request(StopSignal::Interrupt);
    // The run does not wait for the frames to return, which would take a minute.
    let result = run.join();
    assert!(result.error.is_none() && result.frame_tracker.is_interrupted());
    let run = result.frame_tracker.into_results(Some(StopSignal::Interrupt), &mut ());
    let counts = run.ping.map(|stream| [stream.sent, stream.lost, stream.in_flight]);
    assert_eq!((run.moqt.unwrap().failure, counts), (None, Some([3, 0, 3])));
}
