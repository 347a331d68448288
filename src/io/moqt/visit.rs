//! One connection of the server, from its first packet to its last, and what the log is told of those who come.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::StatusCode;
use quinn::{Connection, ConnectionError, Incoming, VarInt};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::Totals;
use super::over::Over;
use super::places::{Place, Verdict};
use super::pump::{Clock, Ended, pump};
use super::quic;
use super::server::Terms;
use super::streams::Streams;
use super::webtransport::{EXCESSIVE_LOAD, NO_ERROR, Request, WebTransportSession};
use crate::io::complaints::Complaints;
use crate::moqt::echo::Echo;
use crate::moqt::{self, ALPN_WEBTRANSPORT, Counts, End, Peer, code, serves};
use crate::time::seconds;

/// Told to whoever is there when the server stops.
const STOPPING: &str = "the server stops";

/// All connections of one server.
pub(super) struct Visits {
    terms: Terms,
    totals: Arc<Totals>,
    refusals: Complaints,
    failures: Complaints,
    comings: Complaints,
    drops: Complaints,
    /// Dropped groups that the log has been told of.
    drops_told: AtomicU64,
}

impl Visits {
    pub(super) fn new(terms: Terms, totals: Arc<Totals>) -> Self {
        let [refusals, failures, comings, drops] = [(); 4].map(|()| Complaints::default());
        Self { terms, totals, refusals, failures, comings, drops, drops_told: AtomicU64::new(0) }
    }

    /// Whether this comes from an address that is not served.
    pub(super) fn is_stranger(&self, incoming: &Incoming) -> bool {
        let allow = &self.terms.allow;
        !allow.is_empty() && !allow.iter().any(|network| network.contains(incoming.remote_address().ip()))
    }

    /// Tells a stranger nothing.
    pub(super) fn ignore(&self, incoming: Incoming) {
        self.totals.note(|reading| reading.arrivals.connections_not_allowed += 1);
        if self.refusals.may() {
            let from = incoming.remote_address();
            info!("MOQT: {from} is not one of those that --allow names, and is told nothing");
        }
        incoming.ignore();
    }

    /// Asks for a proof of the address, without keeping anything.
    pub(super) fn prove(&self, incoming: Incoming) {
        self.totals.note(|reading| reading.arrivals.connections_retried += 1);
        if let Err(error) = incoming.retry() {
            error.into_incoming().refuse();
        }
    }

    /// Refuses a connection for lack of a place.
    pub(super) fn refuse(&self, incoming: Incoming, verdict: &Verdict) {
        let share = matches!(verdict, Verdict::Share);
        self.totals.note(|reading| {
            let arrivals = &mut reading.arrivals;
            *(if share { &mut arrivals.connections_share } else { &mut arrivals.connections_full }) += 1;
        });
        if self.refusals.may() {
            let from = plain(incoming.remote_address());
            let (has, most) =
                if share { ("it has", self.terms.per_source) } else { ("there are", self.terms.connections) };
            warn!("Refused a MOQT connection from {from}: {has} {most} already");
        }
        incoming.refuse();
    }

    /// Receives a connection, and serves it until it ends or the server stops.
    pub(super) async fn receive(
        self: Arc<Self>,
        incoming: Incoming,
        mut place: Place,
        mut stopping: watch::Receiver<bool>,
    ) {
        let from = plain(incoming.remote_address());
        let mut stop = pin!(async move {
            let _ = stopping.wait_for(|stopping| *stopping).await;
            STOPPING
        });
        let connection = tokio::select! {
            connection = self.shake_hands(incoming) => match connection {
                Ok(connection) => connection,
                Err(why) => return self.failed(from, &why),
            },
            _ = &mut stop => return,
        };
        place.settle();
        let webtransport = quic::alpn(&connection).is_some_and(|alpn| alpn == ALPN_WEBTRANSPORT);
        let _open = self.opened(webtransport);
        let (over, asked) = if webtransport {
            tokio::select! {
                session = self.session(&connection, from) => match session {
                    Some((session, path)) => (Over::WebTransport(connection.clone(), session), Some(path)),
                    None => return connection.close(VarInt::from_u32(NO_ERROR), b""),
                },
                _ = &mut stop => return connection.close(VarInt::from_u32(NO_ERROR), STOPPING.as_bytes()),
            }
        } else {
            (Over::Quic(connection.clone()), None)
        };
        if self.comings.may() {
            info!("MOQT: {from} has connected over {}", if webtransport { "WebTransport" } else { "QUIC" });
        }
        let Ended { code, reason, by_us } = self.serve(over, from, asked, stop).await;
        if matches!(connection.close_reason(), Some(ConnectionError::TimedOut)) {
            self.totals.note(|reading| reading.arrivals.connections_silent += 1);
        }
        if by_us && code == EXCESSIVE_LOAD {
            self.totals.note(|reading| reading.arrivals.connections_excessive += 1);
        }
        if by_us && code != code::NONE && self.failures.may() {
            warn!("MOQT: closed {from} with code {code:#x}: {reason}");
        } else {
            debug!("MOQT: {from} is gone: code {code:#x}, {reason}");
        }
    }

    async fn shake_hands(&self, incoming: Incoming) -> Result<Connection, String> {
        let connecting = incoming.accept().map_err(|error| error.to_string())?;
        match tokio::time::timeout(self.terms.limits.setup, connecting).await {
            Ok(connection) => connection.map_err(|error| error.to_string()),
            Err(_) => Err("it took too long".to_owned()),
        }
    }

    async fn serve(
        &self,
        over: Over,
        from: SocketAddr,
        asked: Option<String>,
        stop: impl Future<Output = &'static str>,
    ) -> Ended {
        let Terms { path, echo, limits, .. } = &self.terms;
        let clock = Clock(Instant::now());
        let end = End::Server { served: path.clone(), asked };
        let session = moqt::Session::new(clock.now(), end, limits.clone());
        let mut peer = Peer::new(session, Echo::new(echo.clone()));
        let mut noted = 0;
        let ended = pump(Streams::new(over), &mut peer, clock, stop, |peer, refused| {
            self.count(from, &peer.take_counts());
            if refused > noted {
                self.totals.note(|reading| reading.arrivals.streams_stray += refused - noted);
                noted = refused;
            }
        })
        .await;
        self.count(from, &peer.take_counts());
        ended
    }

    /// Adds what the session with `from` has counted, and says that groups are dropped.
    fn count(&self, from: SocketAddr, counts: &Counts) {
        self.totals.add(counts);
        if counts.drops().iter().sum::<u64>() > 0 && self.drops.may() {
            let [slow, no_room, unheard] = self.totals.read().counts.drops();
            let all = slow + no_room + unheard;
            let new = all - self.drops_told.swap(all, Ordering::Relaxed);
            warn!(
                "MOQT: {new} group{} dropped since the last such line, the last of {from} (in all: {slow} for slow readers, {no_room} \
                 for want of room while they waited, {unheard} that nobody had subscribed to)",
                if new == 1 { "" } else { "s" }
            );
        }
    }

    /// The WebTransport session that the first request is for, and its path.
    async fn session(&self, connection: &Connection, from: SocketAddr) -> Option<(WebTransportSession, String)> {
        let patience = self.terms.limits.setup;
        let request = match tokio::time::timeout(patience, Request::read(connection)).await {
            Ok(Ok(request)) => request,
            Ok(Err(error)) => {
                self.refused(from, &error.to_string());
                return None;
            }
            Err(_) => {
                self.refused(from, &format!("it did not come within {} s", seconds(patience)));
                return None;
            }
        };
        let (status, why) = match &request.path {
            Ok(path) if serves(&self.terms.path, path) => {
                let path = path.clone();
                // Who grants no room for the answer is not waited for any longer than who does not ask.
                let Ok(accepted) = tokio::time::timeout(patience, request.accept()).await else {
                    self.refused(from, &format!("our answer was not taken within {} s", seconds(patience)));
                    return None;
                };
                return Some((accepted.ok()?, path));
            }
            Ok(path) => (StatusCode::NOT_FOUND, format!("there is no {path:.64} here, only {}", self.terms.path)),
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        };
        self.refused(from, &why);
        let _ = tokio::time::timeout(patience, request.refuse(status, connection)).await;
        None
    }

    fn refused(&self, from: SocketAddr, why: &str) {
        self.totals.note(|reading| {
            reading.arrivals.requests_refused += 1;
            reading.counts.setups_failed += 1;
        });
        if self.failures.may() {
            warn!("MOQT: a WebTransport request from {from} is refused: {why}");
        }
    }

    fn failed(&self, from: SocketAddr, why: &str) {
        self.totals.note(|reading| reading.arrivals.handshakes_failed += 1);
        if self.failures.may() {
            warn!("MOQT: the QUIC handshake with {from} failed: {why}");
        }
    }

    fn opened(&self, webtransport: bool) -> Open<'_> {
        self.totals.note(|reading| {
            reading.open += 1;
            let arrivals = &mut reading.arrivals;
            *(if webtransport { &mut arrivals.connections_webtransport } else { &mut arrivals.connections_quic }) += 1;
        });
        Open(&self.totals)
    }
}

/// As people write it: an IPv4 client of a dual-stack socket without the `::ffff:`.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A connection that is counted as open.
struct Open<'a>(&'a Totals);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.note(|reading| reading.open -= 1);
    }
}
