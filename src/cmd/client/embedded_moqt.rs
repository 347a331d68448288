//! A MOQT echo server inside this process, with a certificate of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;

use super::super::Failure;
use super::super::moqt_session::{Below, SessionArgs};
use crate::io::moqt::server::{self, Running};
use crate::io::moqt::{Target, Totals};
use crate::io::stop::{Reason, Stop};
use crate::io::tls::client::Trust;
use crate::io::tls::identity::Identity;
use crate::io::tls::self_made::SelfMade;
use crate::moqt::{Path, Transport, echo};

/// The server at work.
pub struct Embedded {
    /// Where it is.
    pub target: Target,
    /// As the report calls it.
    pub name: String,
    /// Who is believed to be it.
    pub trust: Trust,
    running: Running,
    stop: Stop,
}

impl Embedded {
    /// Starts it, if it is asked for, on a free loopback port. It echoes whatever begins with `prefix`.
    pub fn start(session: &SessionArgs, prefix: &Path) -> Result<Option<Self>, Failure> {
        let Some(below) = session.embedded() else { return Ok(None) };
        let identity = Identity::self_made(SelfMade::new([], None), SystemTime::now()).map_err(Failure::unusable)?;
        let bound = server::bind(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]).map_err(Failure::unusable)?;
        let port = bound.addresses().next().map_or(0, |address| address.port());
        let echo = echo::Config { prefix: prefix.clone(), delay: session.delay(), ..echo::Config::default() };
        let terms = server::Terms { echo, ..server::Terms::default() };
        let transport = match below {
            Below::Quic => Transport::Quic,
            Below::Webtransport => Transport::WebTransport,
        };
        let target = Target { transport, host: Ipv4Addr::LOCALHOST.to_string(), port, path: terms.path.clone() };
        let name = format!("embedded MOQT echo server ({} ms)", session.delay().as_secs_f64() * 1e3);
        let trust = Trust { only: Some(identity.fingerprint()), ..Trust::default() };
        let stop = Stop::default();
        let running = server::serve(bound, identity.resolver(), terms, Arc::new(Totals::default()), &stop)
            .context("cannot start the embedded MOQT echo server")
            .map_err(Failure::unusable)?;
        Ok(Some(Self { target, name, trust, running, stop }))
    }

    /// Stops it.
    pub(super) fn end(self) {
        self.stop.request(Reason::Terminate);
        self.running.join();
    }
}
