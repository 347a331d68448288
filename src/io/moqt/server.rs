//! The server's end: an echo for whoever connects, on a thread of its own.

use std::future::pending;
use std::io;
use std::net::UdpSocket;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::Totals;
pub use super::bind::{BindError, Bound, bind};
use super::places::{Places, Verdict};
use super::quic;
use super::visit::Visits;
use crate::echo::Cidr;
use crate::io::stop::Stop;
use crate::io::tls::provider;
use crate::moqt::Limits;
use crate::moqt::echo;

/// How long sessions may take to close after a stop, and how long the word that their connections are closed may take to leave, and to
/// be repeated to who has not heard it.
const FAREWELL: Duration = Duration::from_millis(1_200);
const DRAIN: Duration = Duration::from_millis(100);

/// What is served, to how many, and for how long.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The path that is served, such as `/echo`.
    pub path: String,
    /// What is echoed, and how.
    pub echo: echo::Config,
    /// What one connection may use.
    pub limits: Limits,
    /// Who is served; if nobody is named, everybody. Others hear nothing.
    pub allow: Vec<Cidr>,
    /// Connections at a time. Beyond that they are refused.
    pub connections: usize,
    /// Connections of one address at a time, a /64 of IPv6 being one; those of this machine itself are not counted.
    pub per_source: usize,
    /// How long nothing may be heard of a connection before it is closed.
    pub idle: Duration,
}

impl Default for Terms {
    /// `/echo`; 128 connections, 32 of one address, each silent for a minute at most.
    fn default() -> Self {
        Self {
            path: "/echo".to_owned(),
            echo: echo::Config::default(),
            limits: Limits::default(),
            allow: Vec::new(),
            connections: 128,
            per_source: 32,
            idle: Duration::from_secs(60),
        }
    }
}

/// A server at work.
#[derive(Debug)]
pub struct Running {
    thread: JoinHandle<()>,
}

impl Running {
    /// Waits until the server has stopped.
    pub fn join(self) {
        if let Err(panic) = self.thread.join() {
            resume_unwind(panic);
        }
    }
}

/// A certificate for [`serve`], with those that vouch for it after it. Whoever wants to change it while the server runs brings a
/// [`ResolvesServerCert`] of their own.
pub fn certificate(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<dyn ResolvesServerCert>, rustls::Error> {
    let certified = CertifiedKey::from_der(chain, key, &provider())?;
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

/// Serves whoever connects until `stop` is requested, on a thread of its own. Then every session is closed with the code 0,
/// within 2 s, and the thread ends.
pub fn serve(
    bound: Bound,
    certificate: Arc<dyn ResolvesServerCert>,
    terms: Terms,
    totals: Arc<Totals>,
    stop: &Stop,
) -> io::Result<Running> {
    let config = quic::server(certificate, &terms.limits, terms.idle).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let endpoints = {
        let _within = runtime.enter();
        let open = |socket: UdpSocket| {
            totals.watch(&socket);
            Endpoint::new(EndpointConfig::default(), Some(config.clone()), socket, Arc::new(TokioRuntime))
        };
        bound.into_sockets().map(open).collect::<io::Result<Vec<Endpoint>>>()?
    };
    let stopped = Arc::new(Notify::new());
    let wake = Arc::clone(&stopped);
    stop.on_request(move || wake.notify_one());
    if stop.requested().is_some() {
        stopped.notify_one();
    }
    let thread = std::thread::Builder::new()
        .name("moqt".to_owned())
        .spawn(move || runtime.block_on(run(endpoints, terms, totals, stopped)))?;
    Ok(Running { thread })
}

async fn run(endpoints: Vec<Endpoint>, terms: Terms, totals: Arc<Totals>, stopped: Arc<Notify>) {
    let places = Places::new(terms.connections, terms.per_source);
    let visits = Arc::new(Visits::new(terms, totals));
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopped.notified() => break,
            // What is done is let go of, also while more come.
            Some(_) = tasks.join_next() => {}
            incoming = accept(&endpoints) => {
                if visits.is_stranger(&incoming) {
                    visits.ignore(incoming);
                    continue;
                }
                match places.ask(incoming.remote_address().ip(), incoming.remote_address_validated()) {
                    Verdict::Come(place) => {
                        tasks.spawn(Arc::clone(&visits).receive(incoming, place, stopping.clone()));
                    }
                    Verdict::Prove => visits.prove(incoming),
                    verdict => visits.refuse(incoming, &verdict),
                }
            }
        }
    }
    for endpoint in &endpoints {
        endpoint.set_server_config(None);
    }
    let _ = stop.send(true);
    let _ = tokio::time::timeout(FAREWELL, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.shutdown().await;
    let _ = tokio::time::timeout(DRAIN, join_all(endpoints.iter().map(Endpoint::wait_idle))).await;
}

/// The next one who comes to any of the sockets.
async fn accept(endpoints: &[Endpoint]) -> Incoming {
    if endpoints.is_empty() {
        return pending().await;
    }
    match select_all(endpoints.iter().map(Endpoint::accept).map(Box::pin)).await.0 {
        Some(incoming) => incoming,
        // An endpoint is never closed before the end.
        None => pending().await,
    }
}
