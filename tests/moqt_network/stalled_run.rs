//! Runs whose thread stalls, like a transport that stalls. They are given up when they are interrupted, and their results contain the events up to then.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use jamjam_dev::client::{FrameTracker, MoqtResults, RunKind, RunResults, StopSignal, StreamKind};
use jamjam_dev::io::moqt::client::{ClientThread, ClientThreadResult};
use jamjam_dev::io::moqt::connect::{MoqtConnectError, MoqtConnectOptions};
use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::moqt::client::{MoqtClientConfig, MoqtClientEvent};
use jamjam_dev::moqt::{Transport, echo};
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

/// Runs a client whose thread stalls at the event of the third sent frame, and then interrupts the run. The delay of the server exceeds the
/// duration of any test.
fn run_that_stalls(signal: StopSignal) -> ClientThreadResult {
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
    stall_reached.recv_timeout(TEST_TIMEOUT).unwrap();
    stop.request(signal);
    run.join()
}

#[test]
fn interrupted_run_whose_thread_stalls_is_given_up_with_its_events() {
    // The run does not wait for the frames to return, which would take a minute.
    let result = run_that_stalls(StopSignal::Interrupt);
    assert!(result.error.is_none() && result.frame_tracker.is_interrupted());
    let run = result.frame_tracker.into_results(Some(StopSignal::Interrupt), &mut ());
    let counts = run.ping.map(|stream| [stream.sent, stream.lost, stream.in_flight]);
    assert_eq!((run.moqt.unwrap().failure, counts), (None, Some([3, 0, 3])));
}

#[test]
fn interrupted_run_that_stalls_during_setup_is_given_up() {
    let server = TestServer::start(MoqtServerConfig::default());
    let options = server.connect_options(Transport::WebTransport);
    let options = MoqtConnectOptions::new(options.url, Arc::new(Undecided));
    let stop = StopToken::default();
    let run = run_client(options, groups(3, 1), |_| {}, &stop);
    stop.request(StopSignal::Interrupt);
    assert!(matches!(run.join().error, Some(MoqtConnectError::Interrupted)));
}
