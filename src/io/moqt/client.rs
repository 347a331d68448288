//! The client's end: one application with a server, from the name's look-up to the last byte.

use std::cell::Cell;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::Endpoint;
use rustls::client::danger::ServerCertVerifier;
use tokio::sync::Notify;
use tracing::info;

use super::Target;
pub use super::dial_error::DialError;
use super::over::{self, Over};
use super::pump::{Clock, pump};
use super::reach::{self, Reached};
use super::streams::Streams;
use crate::flow::moqt::SetUp;
use crate::io::stop::Stop;
use crate::io::tls::client::Trust;
use crate::moqt::{Application, Counts, End, Flavour, Limits, Peer, Session, Transport, code};
use crate::time::nanos;

/// How long the first answer over raw QUIC is waited for, if there is another way to ask.
const SILENCE: Duration = Duration::from_secs(2);

/// How long the word that a connection is closed may take to leave, and to be repeated to who has not heard it.
const DRAIN: Duration = Duration::from_millis(100);

/// Told to the server when a run is interrupted.
pub(super) const INTERRUPTED: &str = "interrupted";

/// The same to a server that does nothing.
const SILENT: &str = "nothing was heard";

/// Whom to call, and how.
#[derive(Clone, Debug)]
pub struct Dial {
    /// The server.
    pub target: Target,
    /// Who is believed to be that server.
    pub verifier: Arc<dyn ServerCertVerifier>,
    /// What that rests on: where anybody is believed, no address but this machine's own is called, whatever a name leads to.
    pub trust: Trust,
    /// What is spoken, the preferred one first; not empty.
    pub offers: Vec<Flavour>,
    /// What the connection may use. `setup` is how long each part of the set-up may take: the handshake, WebTransport's, and MOQT's.
    pub limits: Limits,
    /// What all times that are told count from.
    pub origin: Instant,
}

/// What has become of a call.
#[derive(Debug)]
pub struct Outcome<A> {
    /// The application, at its end.
    pub application: A,
    /// How long each part of the set-up took, but for the subscriptions.
    pub set_up: SetUp,
    /// The server's address.
    pub address: SocketAddr,
    /// The path that was asked for in the end: without its slash if the server kept silent about the other.
    pub path: String,
    /// What the session counted.
    pub counts: Counts,
}

impl Dial {
    /// Calls from now on, with everything as it is unless told.
    pub fn new(target: Target, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        let offers = Flavour::ALL.to_vec();
        let (trust, limits) = (Trust::default(), Limits::default());
        Self { target, verifier, trust, offers, limits, origin: Instant::now() }
    }

    /// The path that is asked for when the server keeps silent about the first one, if there is such a path.
    fn bare(&self) -> Option<&str> {
        let Target { path, transport, .. } = &self.target;
        path.strip_prefix('/').filter(|bare| *transport == Transport::Quic && !bare.is_empty())
    }

    /// How long [`run`] may take until a session is set up or it is known that there is none. With each path that is asked for: the
    /// name; the handshake, with all addresses but the last, and with that; WebTransport's part; MOQT's; and the end.
    pub(super) fn longest(&self) -> Duration {
        let name = if self.target.host.parse::<IpAddr>().is_ok() { Duration::ZERO } else { reach::NAME };
        let parts = if self.target.transport == Transport::Quic { 3 } else { 4 };
        let asks = if self.bare().is_some() { 2 } else { 1 };
        (name + self.limits.setup * parts + over::FAREWELL + DRAIN) * asks
    }
}

/// Calls, and runs an application until its session is closed by either end, on this thread, which must not be one of tokio's.
/// `observe` is called whenever something has happened, the last time when it is over. A request of `stop` closes the session.
///
/// Over raw QUIC, a server that keeps silent when it is asked for `/echo` is called once more and asked for `echo`: the
/// original one knows its paths so. `make` is called for each.
pub fn run<A: Application>(
    dial: &Dial,
    make: impl Fn() -> A,
    mut observe: impl FnMut(&mut A),
    stop: &Stop,
) -> Result<Outcome<A>, DialError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DialError::Socket)?;
    let stopped = Arc::new(Notify::new());
    let wake = Arc::clone(&stopped);
    stop.on_request(move || wake.notify_one());
    if stop.requested().is_some() {
        return Err(DialError::Interrupted);
    }
    let outcome = runtime.block_on(async {
        let path = &dial.target.path;
        if let Some(bare) = dial.bare() {
            let limits = Limits { setup: dial.limits.setup.min(SILENCE), ..dial.limits.clone() };
            let (outcome, silent) = attempt(dial, path, limits, Some(SILENCE), make(), &mut observe, &stopped).await?;
            if !silent || stop.requested().is_some() {
                return Ok(outcome);
            }
            info!("{} keeps silent: asking it for `{bare}`", dial.target);
            return Ok(attempt(dial, bare, dial.limits.clone(), None, make(), &mut observe, &stopped).await?.0);
        }
        Ok(attempt(dial, path, dial.limits.clone(), None, make(), &mut observe, &stopped).await?.0)
    });
    // The system may still look for the name, and cannot be told to leave it.
    runtime.shutdown_background();
    outcome
}

/// One call, and whether the server kept silent in it: it did not answer the set-up, or, where `silence` is how long it may, did
/// nothing after that. (The original one agrees to every path, and has nobody at those that it does not know.)
async fn attempt<A: Application>(
    dial: &Dial,
    path: &str,
    limits: Limits,
    silence: Option<Duration>,
    application: A,
    observe: &mut impl FnMut(&mut A),
    stopped: &Notify,
) -> Result<(Outcome<A>, bool), DialError> {
    let reached = tokio::select! {
        biased;
        () = stopped.notified() => return Err(DialError::Interrupted),
        reached = reach::reach(dial) => reached?,
    };
    let Reached { endpoint, over, mut set_up, address } = reached;
    let (clock, began) = (Clock(dial.origin), Instant::now());
    let asked = matches!(over, Over::WebTransport(..));
    let end = End::Client { offers: dial.offers.clone(), path: path.to_owned(), asked };
    let mut peer = Peer::new(Session::new(clock.now(), end, limits), application);
    let mut counts = Counts::default();
    let (acts, was_silent) = (Cell::new(false), Cell::new(false));
    let stop = async {
        let silent = async {
            tokio::time::sleep(silence.unwrap_or(Duration::MAX)).await;
            if acts.get() {
                pending::<()>().await;
            }
            was_silent.set(true);
        };
        tokio::select! {
            biased;
            () = stopped.notified() => INTERRUPTED,
            () = silent => SILENT,
        }
    };
    let ended = pump(Streams::new(over), &mut peer, clock, stop, |peer, _| {
        if set_up.session_ns.is_none() && peer.session().flavour().is_some() {
            set_up.session_ns = Some(nanos(began.elapsed()));
        }
        counts.add(&peer.take_counts());
        acts.set(counts.announcements > 0 || counts.subscriptions > 0);
        observe(peer.application());
    })
    .await;
    let silent = was_silent.get() || set_up.session_ns.is_none() && ended.by_us && ended.code == code::SETUP;
    drain(&endpoint).await;
    let outcome = Outcome { application: peer.into_application(), set_up, address, path: path.to_owned(), counts };
    Ok((outcome, silent))
}

/// Gives the end of the connection the time to be told.
async fn drain(endpoint: &Endpoint) {
    let _ = tokio::time::timeout(DRAIN, endpoint.wait_idle()).await;
}
