//! Calls whose thread stands still, as if what is below it did: they are given up, with what was told until then.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use jamjam_dev::flow::moqt::{Frames, Lost, MoqtRun, Terms as Told};
use jamjam_dev::flow::run::{Command, Signal};
use jamjam_dev::io::moqt::client::{Dial, DialError};
use jamjam_dev::io::moqt::server::Terms;
use jamjam_dev::io::moqt::{Call, Called};
use jamjam_dev::io::stop::{Reason, Stop};
use jamjam_dev::moqt::client::{Config, Fact};
use jamjam_dev::moqt::{Limits, Transport, echo};
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

fn call(dial: Dial, config: Config, heard: impl FnMut(&Fact) + Send + 'static, stop: &Stop) -> Call {
    let terms = Told {
        command: Command::Probe,
        target: dial.target.to_string(),
        head_track: String::new(),
        timeout: config.timeout,
        late_after: None,
    };
    let frames = Frames::new(terms, MoqtRun::new(Transport::Quic, "japan, kyoto, text", 1), Box::new(()));
    Call::begin(dial, config, frames, None, heard, stop.clone()).unwrap()
}

/// What is reported: why it ended, and how many frames left, were lost, and are on their way.
fn report(called: Called, interrupted: Option<Signal>) -> (Option<Lost>, Option<[u64; 3]>) {
    let run = called.frames.into_run(interrupted, &mut ());
    (run.moqt.unwrap().lost, run.ping.map(|stream| [stream.sent, stream.lost, stream.in_flight]))
}

/// Stands still once it was told that the third frame has left.
fn third(fact: &Fact) {
    if matches!(fact, Fact::Sent { group: 3, .. }) {
        stand_still();
    }
}

/// A server that holds all that comes for longer than any test takes, and a client that says three groups or more to it.
fn held() -> (Echoing, Dial, Config) {
    let echo = echo::Config { delay: Duration::from_secs(600), ..echo::Config::default() };
    let server = Echoing::start(Terms { echo, ..Terms::default() });
    let dial = server.dial(Transport::Quic);
    (server, dial, Config { timeout: Duration::from_secs(60), ..groups(50, 1) })
}

#[test]
fn a_run_whose_thread_stands_still_is_given_up_and_says_what_it_waited_for() {
    let (server, dial, config) = held();
    let called = call(dial, config, third, &Stop::default()).end();
    assert!(called.error.is_none() && !called.frames.is_cut_short(), "nobody has asked for that");
    let awaited = Lost::Overdue("the next frame to leave");
    assert_eq!(awaited.kind(), "overdue");
    // Which would have been waited for, for a minute.
    assert_eq!(report(called, None), (Some(awaited), Some([3, 0, 3])));
    drop(server);
}

#[test]
fn one_that_stands_still_before_there_is_a_session_is_given_up_too() {
    let server = Echoing::start(Terms::default());
    let dial = Dial::new(server.url(Transport::WebTransport, "/echo").parse().unwrap(), Arc::new(Undecided));
    let limits = Limits { setup: Duration::from_millis(100), ..Limits::default() };
    let called = call(Dial { limits, ..dial }, groups(3, 1), |_| {}, &Stop::default()).end();
    assert!(called.error.is_none());
    assert_eq!(report(called, None), (Some(Lost::Overdue("a session")), None));
}

#[test]
fn a_request_to_stop_ends_one_that_stands_still_with_what_was_told() {
    let (server, dial, config) = held();
    let stop = Stop::default();
    let (stands, still) = mpsc::channel();
    let heard = move |fact: &Fact| {
        if matches!(fact, Fact::Sent { group: 3, .. }) {
            stands.send(()).unwrap();
        }
        third(fact);
    };
    let call = call(dial, config, heard, &stop);
    still.recv_timeout(LONG).unwrap();
    stop.request(Reason::Interrupt);
    let called = call.end();
    assert!(called.error.is_none() && called.frames.is_cut_short());
    assert_eq!(report(called, Some(Signal::Interrupt)), (None, Some([3, 0, 3])));
    drop(server);
}

#[test]
fn a_request_to_stop_before_there_is_a_session_says_that_nothing_was_sent() {
    let server = Echoing::start(Terms::default());
    let dial = Dial::new(server.url(Transport::WebTransport, "/echo").parse().unwrap(), Arc::new(Undecided));
    let stop = Stop::default();
    let call = call(dial, groups(3, 1), |_| {}, &stop);
    stop.request(Reason::Interrupt);
    assert!(matches!(call.end().error, Some(DialError::Interrupted)));
}
