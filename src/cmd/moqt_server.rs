//! The MOQT side of `echo-server`: its certificate and sockets, what people are told of them, and its end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tracing::{info, warn};

use super::Failure;
use super::demo_page::DemoPage;
use super::moqt_options::{MoqtArgs, Place};
use crate::echo::Cidr;
use crate::io::moqt::server::{self, BindError, Bound, Terms};
use crate::io::moqt::{Target, Totals};
use crate::io::stop::Stop;
use crate::io::tls::identity::{AUTHORITY, Identity};
use crate::moqt::Transport;

/// How long the whole process may take to end: sessions are closed within 2 s.
const FAREWELL: Duration = Duration::from_secs(3);

/// All that can fail is done.
pub struct Ready {
    place: Place,
    bound: Bound,
    identity: Identity,
    certificate_file: Option<PathBuf>,
    terms: Terms,
    totals: Arc<Totals>,
    demo_page: Option<DemoPage>,
}

impl Ready {
    /// Reads or makes the certificate and binds the sockets, if MOQT is to be spoken, with those whom `allow` names. `udp` is where
    /// the UDP echo listens.
    pub fn prepare(options: &MoqtArgs, allow: &[Cidr], udp: Option<SocketAddr>) -> Result<Option<Self>, Failure> {
        let Some(place) = options.place() else { return Ok(None) };
        let identity = options.identity(&place)?;
        let bound = bind(place.addresses()?).map_err(|error| match error {
            BindError::InUse(address) if udp.is_some_and(|udp| udp.port() == address.port()) => Failure::usage(
                format!("--port and --moqt both want UDP port {}: give one of them another", address.port()),
            ),
            error => Failure::unusable(error),
        })?;
        let demo_page = options.demo_page.bind()?;
        let (certificate_file, terms) = (options.certificate_file(), options.terms(allow));
        Ok(Some(Self { place, bound, identity, certificate_file, terms, totals: Arc::default(), demo_page }))
    }

    /// Where it listens; of several addresses the first.
    pub fn address(&self) -> Option<SocketAddr> {
        self.bound.addresses().next()
    }

    /// What it will have counted.
    pub fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }

    /// Tells people where it is, and serves until `stop` is requested.
    pub fn start(self, stop: &Stop) -> io::Result<Running> {
        self.tell();
        let at = self.target(Transport::WebTransport);
        stop.allow(FAREWELL);
        let (asking, asked) = channel();
        let again = asking.clone();
        stop.on_request(move || _ = asking.send(()));
        if stop.requested().is_some() {
            let _ = again.send(());
        }
        let shown = self.identity.resolver();
        let server = server::serve(self.bound, shown, self.terms.clone(), self.totals, stop)?;
        if let Some(page) = self.demo_page {
            page.serve(&at, self.identity, &self.terms, stop)?;
        }
        Ok(Running { server, asked })
    }

    /// What a client on this machine is told.
    fn target(&self, transport: Transport) -> Target {
        let port = self.address().map_or(0, |address| address.port());
        Target { transport, host: self.place.host().to_owned(), port, path: self.terms.path.clone() }
    }

    fn tell(&self) {
        let addresses: Vec<String> = self.bound.addresses().map(|address| address.to_string()).collect();
        info!("MOQT echo listening on {}", addresses.join(" and "));
        for (transport, name) in [(Transport::WebTransport, "WebTransport"), (Transport::Quic, "raw QUIC")] {
            info!("{} ({name})", self.target(transport));
        }
        let identity = &self.identity;
        info!("The certificate is valid until {} and has SHA-256 {}", identity.valid_until(), identity.fingerprint());
        if let Some(file) = &self.certificate_file {
            info!("Clients believe it by --ca {}", file.display());
        }
        if identity.is_authority() {
            warn!("{AUTHORITY}");
        }
    }
}

/// A server at work.
pub struct Running {
    server: server::Running,
    asked: Receiver<()>,
}

impl Running {
    /// Waits until it has been asked to stop, at most for `patience` (`None`: for ever). True when it has been.
    pub fn asked_within(&self, patience: Option<Duration>) -> bool {
        let Some(patience) = patience else {
            let _ = self.asked.recv();
            return true;
        };
        self.asked.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }

    /// Waits until every session is closed.
    pub fn join(self) {
        self.server.join();
    }
}

/// Binds to all of `addresses` that this machine has: without IPv6 there is no `::1`.
fn bind(mut addresses: Vec<SocketAddr>) -> Result<Bound, BindError> {
    loop {
        match server::bind(&addresses) {
            Err(BindError::NotLocal(address) | BindError::Other { address, .. })
                if addresses.iter().any(|other| other.ip() != address.ip()) =>
            {
                info!("MOQT does not listen on {}: this machine has no such address", address.ip());
                addresses.retain(|other| other.ip() != address.ip());
            }
            result => return result,
        }
    }
}
