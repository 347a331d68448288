//! Runs whose thread stalls, like a transport that stalls. They are given up, and their results contain the events up to then.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use jamjam_dev::client::{FrameTracker, MoqtFailure, MoqtResults, RunKind, RunResults, StopSignal, StreamKind};
use jamjam_dev::io::moqt::client::{ClientThread, ClientThreadResult};
use jamjam_dev::io::moqt::connect::{MoqtConnectError, MoqtConnectOptions};
use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::moqt::client::{MoqtClientConfig, MoqtClientEvent};
use jamjam_dev::moqt::{SessionLimits, Transport, echo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use test_support::TEST_TIMEOUT;

use crate::test_server::{TestServer, groups};

fn stall() -> ! {
    loop {
        thread::park();
    }
}

/// A verifier that never returns.
#[derive(Debug)]
struct Undecided;

impl ServerCertVerifier for Undecided {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        stall()
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        stall()
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        stall()
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn run_client(
    options: MoqtConnectOptions,
    config: MoqtClientConfig,
    received: impl FnMut(&MoqtClientEvent) + Send + 'static,
    stop: &StopToken,
) -> ClientThread {
    let plan = RunResults::new(RunKind::Probe, options.url.to_string(), StreamKind::Ping);
    let plan = RunResults { timeout_ns: config.reply_timeout.as_nanos() as u64, ..plan };
    let results = MoqtResults::new(Transport::Quic, "japan, kyoto, text", 1);
    let frames = FrameTracker::new(plan, results, Box::new(()));
    ClientThread::spawn(options, config, frames, None, received, stop.clone()).unwrap()
}

/// The reported failure, and the number of sent, lost and in-flight frames.
fn report(result: ClientThreadResult, interrupted: Option<StopSignal>) -> (Option<MoqtFailure>, Option<[u64; 3]>) {
    let run = result.frame_tracker.into_results(interrupted, &mut ());
    (run.moqt.unwrap().failure, run.ping.map(|stream| [stream.sent, stream.lost, stream.in_flight]))
}

/// Runs a client whose thread stalls at the event of the third sent frame, and then interrupts the run, if `interruption` is given. The
/// delay of the server exceeds the duration of any test.
fn run_that_stalls(interruption: Option<StopSignal>) -> ClientThreadResult {
    let echo = echo::MoqtEchoConfig { delay: Duration::from_secs(600), ..echo::MoqtEchoConfig::default() };
    let server = TestServer::start(MoqtServerConfig { echo, ..MoqtServerConfig::default() });
    let (stalled, stall_reached) = mpsc::channel();
    let received = move |event: &MoqtClientEvent| {
        if matches!(event, MoqtClientEvent::FrameSent { group: 3, .. }) {
            stalled.send(()).unwrap();
            stall();
        }
    };
    let stop = StopToken::default();
    let config = MoqtClientConfig { reply_timeout: Duration::from_secs(60), ..groups(50, 1) };
    let run = run_client(server.connect_options(Transport::Quic), config, received, &stop);
    if let Some(signal) = interruption {
        stall_reached.recv_timeout(TEST_TIMEOUT).unwrap();
        stop.request(signal);
    }
    run.join()
}

#[test]
fn run_whose_thread_stalls_is_given_up_or_interrupted_with_its_events() {
    // The run does not wait for the frames to return, which would take a minute.
    for (signal, failure) in [(None, Some("timed_out")), (Some(StopSignal::Interrupt), None)] {
        let result = run_that_stalls(signal);
        assert_eq!((result.error.is_none(), result.frame_tracker.is_interrupted()), (true, signal.is_some()));
        let (found, counts) = report(result, signal);
        assert_eq!((found.as_ref().map(MoqtFailure::kind), counts), (failure, Some([3, 0, 3])), "{found:?}");
        // A busy machine may stall the thread before its first frame.
        let is_named = |found| matches!(found, MoqtFailure::TimedOut(what) if what.ends_with(" frame to be sent"));
        assert_eq!(found.is_some_and(is_named), signal.is_none());
    }
}

#[test]
fn run_that_stalls_during_setup_is_given_up_or_interrupted() {
    let server = TestServer::start(MoqtServerConfig::default());
    let limits = SessionLimits { setup_timeout: Duration::from_millis(100), ..SessionLimits::default() };
    let options = |limits| {
        let options = server.connect_options(Transport::WebTransport);
        MoqtConnectOptions { limits, ..MoqtConnectOptions::new(options.url, Arc::new(Undecided)) }
    };
    let result = run_client(options(limits), groups(3, 1), |_| {}, &StopToken::default()).join();
    assert!(result.error.is_none());
    assert_eq!(report(result, None), (Some(MoqtFailure::TimedOut("the session setup".into())), None));
    let stop = StopToken::default();
    let run = run_client(options(SessionLimits::default()), groups(3, 1), |_| {}, &stop);
    stop.request(StopSignal::Interrupt);
    assert!(matches!(run.join().error, Some(MoqtConnectError::Interrupted)));
}
