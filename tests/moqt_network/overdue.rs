//! Calls whose thread stands still, as if what is below it did: they are given up, with what was told until then.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use jamjam_dev::client::{FrameTracker, MoqtFailure, MoqtResults, MoqtRunConfig as Told};
use jamjam_dev::client::{RunKind, StopSignal};
use jamjam_dev::io::moqt::client::{ClientThread, ClientThreadResult, MoqtConnectError, MoqtConnectOptions};
use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::moqt::client::{MoqtClientConfig, MoqtClientEvent};
use jamjam_dev::moqt::{SessionLimits, Transport, echo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use crate::echoing::{Echoing, LONG, groups};

fn stand_still() -> ! {
    loop {
        thread::park();
    }
}

/// Never says whom it believes.
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
        stand_still()
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        stand_still()
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        stand_still()
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn call(
    dial: MoqtConnectOptions,
    config: MoqtClientConfig,
    heard: impl FnMut(&MoqtClientEvent) + Send + 'static,
    stop: &StopToken,
) -> ClientThread {
    let terms = Told {
        run_kind: RunKind::Probe,
        target: dial.url.to_string(),
        broadcast_track: String::new(),
        timeout: config.reply_timeout,
        late_after: None,
    };
    let frames = FrameTracker::new(terms, MoqtResults::new(Transport::Quic, "japan, kyoto, text", 1), Box::new(()));
    ClientThread::spawn(dial, config, frames, None, heard, stop.clone()).unwrap()
}

/// What is reported: why it ended, and how many frames left, were lost, and are on their way.
fn report(called: ClientThreadResult, interrupted: Option<StopSignal>) -> (Option<MoqtFailure>, Option<[u64; 3]>) {
    let run = called.frame_tracker.into_results(interrupted, &mut ());
    (run.moqt.unwrap().failure, run.ping.map(|stream| [stream.sent, stream.lost, stream.in_flight]))
}

/// Stands still once it was told that the third frame has left.
fn third(fact: &MoqtClientEvent) {
    if matches!(fact, MoqtClientEvent::FrameSent { group: 3, .. }) {
        stand_still();
    }
}

/// A server that holds all that comes for longer than any test takes, and a client that says three groups or more to it.
fn held() -> (Echoing, MoqtConnectOptions, MoqtClientConfig) {
    let echo = echo::MoqtEchoConfig { delay: Duration::from_secs(600), ..echo::MoqtEchoConfig::default() };
    let server = Echoing::start(MoqtServerConfig { echo, ..MoqtServerConfig::default() });
    let dial = server.dial(Transport::Quic);
    (server, dial, MoqtClientConfig { reply_timeout: Duration::from_secs(60), ..groups(50, 1) })
}

#[test]
fn a_run_whose_thread_stands_still_is_given_up_and_says_what_it_waited_for() {
    let (server, dial, config) = held();
    let called = call(dial, config, third, &StopToken::default()).join();
    assert!(called.error.is_none() && !called.frame_tracker.is_interrupted(), "nobody has asked for that");
    let awaited = MoqtFailure::TimedOut("the next frame to be sent");
    assert_eq!(awaited.kind(), "timed_out");
    // Which would have been waited for, for a minute.
    assert_eq!(report(called, None), (Some(awaited), Some([3, 0, 3])));
    drop(server);
}

#[test]
fn one_that_stands_still_before_there_is_a_session_is_given_up_too() {
    let server = Echoing::start(MoqtServerConfig::default());
    let dial =
        MoqtConnectOptions::new(server.url(Transport::WebTransport, "/echo").parse().unwrap(), Arc::new(Undecided));
    let limits = SessionLimits { setup_timeout: Duration::from_millis(100), ..SessionLimits::default() };
    let called = call(MoqtConnectOptions { limits, ..dial }, groups(3, 1), |_| {}, &StopToken::default()).join();
    assert!(called.error.is_none());
    assert_eq!(report(called, None), (Some(MoqtFailure::TimedOut("the session setup")), None));
}

#[test]
fn a_request_to_stop_ends_one_that_stands_still_with_what_was_told() {
    let (server, dial, config) = held();
    let stop = StopToken::default();
    let (stands, still) = mpsc::channel();
    let heard = move |fact: &MoqtClientEvent| {
        if matches!(fact, MoqtClientEvent::FrameSent { group: 3, .. }) {
            stands.send(()).unwrap();
        }
        third(fact);
    };
    let call = call(dial, config, heard, &stop);
    still.recv_timeout(LONG).unwrap();
    stop.request(StopSignal::Interrupt);
    let called = call.join();
    assert!(called.error.is_none() && called.frame_tracker.is_interrupted());
    assert_eq!(report(called, Some(StopSignal::Interrupt)), (None, Some([3, 0, 3])));
    drop(server);
}

#[test]
fn a_request_to_stop_before_there_is_a_session_says_that_nothing_was_sent() {
    let server = Echoing::start(MoqtServerConfig::default());
    let dial =
        MoqtConnectOptions::new(server.url(Transport::WebTransport, "/echo").parse().unwrap(), Arc::new(Undecided));
    let stop = StopToken::default();
    let call = call(dial, groups(3, 1), |_| {}, &stop);
    stop.request(StopSignal::Interrupt);
    assert!(matches!(call.join().error, Some(MoqtConnectError::Interrupted)));
}
