//! The client's end: one application with a server, from the name's look-up to the last byte.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::ServerCertVerifier;
use thiserror::Error;

use super::{Target, Transport};
use crate::io::resolve::ResolveError;
use crate::io::stop::Stop;
use crate::moqt::{Application, Counts, Flavour, Limits};

/// Whom to call, and how.
#[derive(Clone, Debug)]
pub struct Dial {
    /// The server.
    pub target: Target,
    /// Who is believed to be that server.
    pub verifier: Arc<dyn ServerCertVerifier>,
    /// What is spoken, the preferred one first; not empty.
    pub offers: Vec<Flavour>,
    /// What the connection may use. `setup` is how long each part of the set-up may take: the handshake, WebTransport's, and MOQT's.
    pub limits: Limits,
    /// What all times that are told count from.
    pub origin: Instant,
}

/// How long each part of the set-up took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Finding the host's addresses.
    pub name: Duration,
    /// The handshake of QUIC, with TLS in it.
    pub handshake: Duration,
    /// From the request to the answer of WebTransport; none over raw QUIC.
    pub connect: Option<Duration>,
    /// From the first byte of MOQT to the server's answer; none if there was none.
    pub session: Option<Duration>,
}

/// What has become of a call.
#[derive(Debug)]
pub struct Outcome<A> {
    /// The application, at its end.
    pub application: A,
    /// How long each part of the set-up took.
    pub setup: Setup,
    /// The server's address.
    pub address: SocketAddr,
    /// The path that was asked for in the end: without its slash if the server kept silent about the other.
    pub path: String,
    /// What the session counted.
    pub counts: Counts,
}

/// Why there is no session to speak of.
#[derive(Debug, Error)]
pub enum DialError {
    /// The name.
    #[error(transparent)]
    Name(#[from] ResolveError),
    /// The system gives no socket, thread or timer.
    #[error("cannot open a UDP socket: {0}")]
    Socket(io::Error),
    /// Nobody answers.
    #[error("{target} does not answer within {seconds} s: nobody listens there, or a firewall drops UDP")]
    Silent {
        /// Whom we called.
        target: Target,
        /// For how long.
        seconds: u64,
    },
    /// Something answers that is no such server.
    #[error("{target} speaks QUIC, but not {}: {}", .protocol, .way_out)]
    Protocol {
        /// Whom we called.
        target: Target,
        /// What it does not speak.
        protocol: &'static str,
        /// What to try.
        way_out: &'static str,
    },
    /// Its certificate is not believed.
    #[error("{target} has a certificate that is not believed: {reason}")]
    Certificate {
        /// Whom we called.
        target: Target,
        /// Why.
        reason: String,
    },
    /// It does not want us, or there is no understanding.
    #[error("the connection to {target} failed: {reason}")]
    Failed {
        /// Whom we called.
        target: Target,
        /// Why.
        reason: String,
    },
    /// WebTransport was refused.
    #[error("{target} refuses the WebTransport session: HTTP status {status}{}", if *.status == 404 { ", there is no such path" } else { "" })]
    Status {
        /// Whom we called.
        target: Target,
        /// What it said.
        status: u16,
    },
    /// A stop was requested before there was a session.
    #[error("interrupted before there was a connection")]
    Interrupted,
}

impl Dial {
    /// Calls from now on, with everything as it is unless told.
    pub fn new(target: Target, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        let offers = Flavour::ALL.to_vec();
        Self { target, verifier, offers, limits: Limits::default(), origin: Instant::now() }
    }

    /// Whether MOQT's own set-up says the path.
    fn says_path(&self) -> bool {
        self.target.transport == Transport::Quic
    }
}

/// Calls, and runs an application until its session is closed by either end, on this thread. `observe` is called whenever
/// something has happened, the last time when it is over. A request of `stop` closes the session.
///
/// Over raw QUIC, a server that keeps silent when it is asked for `/echo` is called once more and asked for `echo`: the
/// original one knows its paths so. `make` is called for each.
pub fn run<A: Application>(
    dial: &Dial,
    make: impl Fn() -> A,
    observe: impl FnMut(&mut A),
    stop: &Stop,
) -> Result<Outcome<A>, DialError> {
    todo!()
}
