//! MOQT echo of `echo-server`: options, certificate, sockets, and the shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use clap::ArgGroup;
use tracing::info;

use super::file_arguments::InputFile;
use super::output::Failure;
use super::target::{Endpoint, LOCALHOST, parse_moqt_listen_address};
use crate::io::moqt::server::{self, MoqtServerConfig, ServerThread};
use crate::io::moqt::{MoqtUrl, ServerCounters, bind_all};
use crate::io::stop::StopToken;
use crate::io::tls::identity::ServerIdentity;
use crate::io::tls::renewal;
use crate::io::udp::{BindError, BoundSocket};
use crate::moqt::{self, Transport};

const HEADING: &str = "MOQT";

/// Options of the UDP echo, which --moqt-only disables.
const UDP_OPTIONS: &str = "port host max_buffer socket_buffer spin link max_bitrate_per_source limit_loopback loss drop_packets \
     jitter reorder duplicate bandwidth seed outcome_log signaling_url with_signaling room_name \
     record capture check";

/// Group of the options that enable MOQT.
const MOQT_GROUP: &str = "moqt_enabled";

#[derive(clap::Args)]
#[command(group(ArgGroup::new(MOQT_GROUP).args(["moqt", "moqt_only"]).multiple(true)))]
pub(crate) struct MoqtArgs {
    /// Also echo MOQT, over WebTransport and raw QUIC
    ///
    /// Both use one UDP port. Listens on localhost:4443, over IPv4 and IPv6, unless an address is given.
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_moqt_listen_address, num_args = 0..=1, default_missing_value = LOCALHOST, help_heading = HEADING)]
    moqt: Option<Endpoint>,

    /// Echo MOQT only, without the UDP echo
    #[arg(long, hide_short_help = true, conflicts_with_all = UDP_OPTIONS.split(' '), help_heading = HEADING)]
    pub moqt_only: bool,

    /// PEM file with the certificate chain
    ///
    /// Without this option, the server generates a self-signed certificate at each start.
    #[arg(long, hide_short_help = true, value_name = "FILE", requires_all = [MOQT_GROUP, "key"], help_heading = HEADING)]
    pub(super) cert: Option<InputFile>,

    /// PEM file with the certificate's unencrypted private key
    #[arg(long, hide_short_help = true, value_name = "FILE", requires_all = [MOQT_GROUP, "cert"], help_heading = HEADING)]
    key: Option<InputFile>,
}

/// A MOQT server with bound sockets and a certificate, ready to start.
pub(crate) struct BoundMoqtServer {
    address: Endpoint,
    bound: Vec<BoundSocket>,
    identity: Arc<ServerIdentity>,
    config: MoqtServerConfig,
    pub counts: Arc<ServerCounters>,
}

impl BoundMoqtServer {
    /// Loads the certificate and binds the sockets, if MOQT is enabled. The options are added to `config`. `udp` is the address of the UDP
    /// echo, for the error message about a port conflict.
    pub(crate) fn prepare(
        options: &MoqtArgs,
        config: MoqtServerConfig,
        udp: Option<SocketAddr>,
    ) -> Result<Option<Self>, Failure> {
        let default = || Endpoint { host: LOCALHOST.to_owned(), port: moqt::DEFAULT_PORT };
        let address = options.moqt.clone().or_else(|| options.moqt_only.then(default));
        let Some(address) = address else { return Ok(None) };
        let now = SystemTime::now();
        let identity = match (&options.cert, &options.key) {
            (Some(cert), Some(key)) => ServerIdentity::from_pem_files(cert, key, now)?,
            _ => ServerIdentity::self_signed(&[&address.host], now)?,
        };
        let bound = bind(address.addresses()?).map_err(|error| match error {
            BindError::AddrInUse(address) if udp.is_some_and(|udp| udp.port() == address.port()) => {
                Failure::usage(format!("--port and --moqt both use UDP port {}; give two ports", address.port()))
            }
            error => anyhow::Error::from(error).context("--moqt").into(),
        })?;
        Ok(Some(Self { address, bound, identity, config, counts: Arc::default() }))
    }

    /// Logs the addresses and starts the server, which runs until `stop` is requested.
    pub(crate) fn start(self, stop: &StopToken) -> io::Result<ServerThread> {
        self.log_addresses();
        renewal::replace_when_due(&self.identity)?;
        server::spawn(self.bound, self.identity, self.config, self.counts, stop)
    }

    /// The URL for browsers, with the listen host, which may be an unspecified address.
    pub(crate) fn web_transport_url(&self) -> MoqtUrl {
        MoqtUrl { host: self.address.host.clone(), ..self.local_url(Transport::WebTransport) }
    }

    /// The URL for a client on this machine.
    pub(crate) fn local_url(&self, transport: Transport) -> MoqtUrl {
        let port = self.bound.first().map_or(0, |bound| bound.address.port());
        MoqtUrl { transport, host: self.address.local_host().to_owned(), port, path: self.config.path.clone() }
    }

    fn log_addresses(&self) {
        let addresses: Vec<String> = self.bound.iter().map(|bound| bound.address.to_string()).collect();
        info!(target: "moqt", addresses = addresses.join(" "), "listening");
        for (transport, name) in [(Transport::WebTransport, "WebTransport"), (Transport::Quic, "QUIC")] {
            info!(target: "moqt", url = %self.local_url(transport), transport = name, "serving");
        }
        self.identity.log("certificate in use");
        let url = self.local_url(Transport::WebTransport);
        let command = format!("jamjam-dev probe --to {url} --cert-sha256 {}", self.identity.fingerprint());
        info!(target: "moqt", command, "run this to test the server");
    }
}

/// Binds the `addresses` that exist on this machine. Without IPv6, for example, there is no `::1`.
fn bind(mut addresses: Vec<SocketAddr>) -> Result<Vec<BoundSocket>, BindError> {
    loop {
        match bind_all(&addresses) {
            Err(BindError::AddrNotAvailable(address) | BindError::Other(address, _))
                if addresses.iter().any(|other| other.ip() != address.ip()) =>
            {
                info!(target: "moqt", address = %address.ip(), "cannot listen on this address; trying the other addresses");
                addresses.retain(|other| other.ip() != address.ip());
            }
            result => return result,
        }
    }
}
