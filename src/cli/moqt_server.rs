//! MOQT echo of `echo-server`: options, certificate, sockets, the demo page for browsers, and the shutdown.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::ArgGroup;
use tracing::{info, warn};

use super::output::Failure;
use super::target::{LOCALHOST, ListenHostPort};
use super::values::{ListenAddress, TimeSpan};
use crate::io::http;
use crate::io::moqt::demo_page::{self, CertificateInfo, ServerInfo};
use crate::io::moqt::server::{self, MoqtServerConfig};
use crate::io::moqt::{BoundSockets, MoqtBindError, MoqtUrl, ServerCounters, bind_all};
use crate::io::stop::StopToken;
use crate::io::tls::identity::ServerIdentity;
use crate::io::tls::renewal;
use crate::moqt::codec::MAX_PATH_PARTS;
use crate::moqt::{SessionLimits, TrackPath, Transport, echo};

const HEADING: &str = "MOQT";

/// Group of the options that enable MOQT.
const MOQT_GROUP: &str = "moqt_enabled";

/// Options for the MOQT echo.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new(MOQT_GROUP).args(["moqt", "moqt_only"]).multiple(true)))]
pub struct MoqtArgs {
    /// Also echo MOQT over WebTransport and raw QUIC, on one UDP port
    ///
    /// Listens on localhost:4443, over IPv4 and IPv6, unless an address is given.
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = LOCALHOST, help_heading = HEADING)]
    moqt: Option<ListenHostPort>,

    /// Echo MOQT only, without the UDP echo
    #[arg(long, conflicts_with_all = ["port", "host", "max_buffer", "max_buffer_per_client", "socket_buffer", "spin", "max_rate_per_source", "max_bitrate_per_source", "limit_loopback", "room_name"], help_heading = HEADING)]
    moqt_only: bool,

    /// URL path of the WebTransport endpoint
    #[arg(long, hide_short_help = true, value_name = "PATH", value_parser = parse_url_path, requires = MOQT_GROUP, default_value_t = MoqtServerConfig::default().path, help_heading = HEADING)]
    moqt_path: String,

    /// Path prefix of the tracks to echo, as comma-separated parts
    ///
    /// Applies to version gomoqt-2025-02; the other versions always use `/`.
    #[arg(long, hide_short_help = true, value_name = "PATH", value_parser = parse_path_prefix, requires = MOQT_GROUP, default_value_t = echo::MoqtEchoConfig::default().track_prefix, help_heading = HEADING)]
    moqt_prefix: TrackPath,

    /// Delay before a MOQT frame is returned
    #[arg(long, hide_short_help = true, value_name = "DURATION", requires = MOQT_GROUP, default_value_t = TimeSpan(echo::MoqtEchoConfig::default().delay), help_heading = HEADING)]
    moqt_delay: TimeSpan,

    /// PEM file with the certificate chain
    ///
    /// Read again on SIGHUP. Without this option, the server generates a self-signed certificate at each start.
    #[arg(long, value_name = "FILE", requires_all = [MOQT_GROUP, "key"], help_heading = HEADING)]
    cert: Option<PathBuf>,

    /// PEM file with the certificate's unencrypted private key
    #[arg(long, value_name = "FILE", requires_all = [MOQT_GROUP, "cert"], help_heading = HEADING)]
    key: Option<PathBuf>,

    /// The demo page for browsers.
    #[command(flatten)]
    pub demo_page: DemoPageArgs,
}

impl MoqtArgs {
    /// The listen address, if MOQT is enabled.
    pub fn listen_address(&self) -> Option<ListenHostPort> {
        self.moqt.clone().or_else(|| self.moqt_only.then(ListenHostPort::default))
    }

    /// Whether the UDP echo is disabled.
    pub fn is_moqt_only(&self) -> bool {
        self.moqt_only
    }

    /// Loads the certificate, or generates one for a server at `address`.
    fn load_identity(&self, address: &ListenHostPort) -> Result<Arc<ServerIdentity>, Failure> {
        let now = SystemTime::now();
        let loaded = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => ServerIdentity::from_pem_files(cert, key, now),
            _ => ServerIdentity::self_signed(&[&address.host], now),
        };
        loaded.map_err(Failure::unusable)
    }

    /// Adds the options to the configuration `base`.
    fn server_config(&self, base: MoqtServerConfig) -> MoqtServerConfig {
        let (track_prefix, delay) = (self.moqt_prefix.clone(), self.moqt_delay.0);
        let echo = echo::MoqtEchoConfig { track_prefix, delay, ..base.echo };
        MoqtServerConfig { path: self.moqt_path.clone(), echo, ..base }
    }
}

/// Parses the path of a URL, with or without the leading slash.
fn parse_url_path(text: &str) -> Result<String, String> {
    let path = format!("/{}", text.strip_prefix('/').unwrap_or(text));
    let url = format!("moqt://{LOCALHOST}{path}").parse::<MoqtUrl>();
    let is_path = url.is_ok_and(|url| url.path == path) && !path.contains('?');
    if is_path {
        Ok(path)
    } else {
        Err("give a URL path such as /echo: percent-encoded, without a query and without `.` or `..` segments"
            .to_owned())
    }
}

/// Parses the parts of a path prefix. With a track name added, the path must not exceed the limits.
fn parse_path_prefix(text: &str) -> Result<TrackPath, String> {
    let path = TrackPath::parse_list(text);
    let max_bytes = SessionLimits::default().max_path_bytes;
    if path.0.len() < MAX_PATH_PARTS && path.byte_len() < max_bytes {
        Ok(path)
    } else {
        Err(format!("a track path has at most {MAX_PATH_PARTS} parts and {max_bytes} bytes, including the track name"))
    }
}

/// Time limit for the shutdown of the process. Sessions close within 2 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// A MOQT server with bound sockets and a certificate, ready to start.
pub struct BoundMoqtServer {
    address: ListenHostPort,
    bound: BoundSockets,
    identity: Arc<ServerIdentity>,
    config: MoqtServerConfig,
    counts: Arc<ServerCounters>,
    demo_page: Option<DemoPage>,
}

impl BoundMoqtServer {
    /// Loads the certificate and binds the sockets, if MOQT is enabled. The options are added to `config`. `udp` is the address of the UDP
    /// echo, for the error message about a port conflict.
    pub fn prepare(
        options: &MoqtArgs,
        config: MoqtServerConfig,
        udp: Option<SocketAddr>,
    ) -> Result<Option<Self>, Failure> {
        let Some(address) = options.listen_address() else { return Ok(None) };
        let identity = options.load_identity(&address)?;
        let bound = bind(address.addresses()?).map_err(|error| match error {
            MoqtBindError::AddrInUse(address) if udp.is_some_and(|udp| udp.port() == address.port()) => {
                Failure::usage(format!(
                    "--port and --moqt both use UDP port {}; choose a different port for one of them",
                    address.port()
                ))
            }
            error => Failure::unusable(error),
        })?;
        let demo_page = options.demo_page.bind()?;
        let config = options.server_config(config);
        Ok(Some(Self { address, bound, identity, config, counts: Arc::default(), demo_page }))
    }

    /// The first listen address.
    pub fn address(&self) -> Option<SocketAddr> {
        self.bound.addresses().next()
    }

    /// The server's counters.
    pub fn counts(&self) -> Arc<ServerCounters> {
        Arc::clone(&self.counts)
    }

    /// Logs the addresses and starts the server, which runs until `stop` is requested.
    pub fn start(self, stop: &StopToken) -> io::Result<RunningMoqtServer> {
        self.log_addresses();
        let url = self.local_url(Transport::WebTransport);
        stop.set_grace_period(SHUTDOWN_TIMEOUT);
        let (sender, stop_requested) = channel();
        let callback_sender = sender.clone();
        stop.on_stop(move || _ = callback_sender.send(()));
        if stop.signal().is_some() {
            let _ = sender.send(());
        }
        if self.identity.has_files() {
            renewal::reload_on_sighup(Some(Arc::clone(&self.identity)), stop)?;
        } else {
            renewal::renew_when_due(&self.identity)?;
        }
        let identity = Arc::<ServerIdentity>::clone(&self.identity);
        let server = server::spawn(self.bound, identity, self.config.clone(), self.counts, stop)?;
        if let Some(page) = self.demo_page {
            page.serve(&url, self.identity, &self.config, stop)?;
        }
        Ok(RunningMoqtServer { server, stop_requested })
    }

    /// The URL for browsers, with the listen host, which may be an unspecified address.
    pub fn web_transport_url(&self) -> MoqtUrl {
        MoqtUrl { host: self.address.host.clone(), ..self.local_url(Transport::WebTransport) }
    }

    /// The URL for a client on this machine.
    fn local_url(&self, transport: Transport) -> MoqtUrl {
        let port = self.address().map_or(0, |address| address.port());
        MoqtUrl { transport, host: self.address.local_host().to_owned(), port, path: self.config.path.clone() }
    }

    fn log_addresses(&self) {
        let addresses: Vec<String> = self.bound.addresses().map(|address| address.to_string()).collect();
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

/// A running MOQT server.
pub struct RunningMoqtServer {
    server: server::ServerThread,
    stop_requested: Receiver<()>,
}

impl RunningMoqtServer {
    /// Waits for a stop request for at most `timeout`, or forever if it is `None`. Returns whether a stop was requested.
    pub fn wait_for_stop(&self, timeout: Option<Duration>) -> bool {
        let Some(timeout) = timeout else {
            let _ = self.stop_requested.recv();
            return true;
        };
        self.stop_requested.recv_timeout(timeout) != Err(RecvTimeoutError::Timeout)
    }

    /// Waits until every session is closed.
    pub fn join(self) {
        self.server.join();
    }
}

/// Binds the `addresses` that exist on this machine. Without IPv6, for example, there is no `::1`.
fn bind(mut addresses: Vec<SocketAddr>) -> Result<BoundSockets, MoqtBindError> {
    loop {
        match bind_all(&addresses) {
            Err(MoqtBindError::AddrNotAvailable(address) | MoqtBindError::Other { address, .. })
                if addresses.iter().any(|other| other.ip() != address.ip()) =>
            {
                info!(target: "moqt", address = %address.ip(), "cannot listen on this address; trying the other addresses");
                addresses.retain(|other| other.ip() != address.ip());
            }
            result => return result,
        }
    }
}

/// Options for the demo page.
#[derive(Debug, clap::Args)]
pub struct DemoPageArgs {
    /// Serve a browser demo page for the MOQT echo, on loopback only
    #[arg(long, hide_short_help = true, value_name = "[ADDR:]PORT", value_parser = parse_loopback_address, requires = MOQT_GROUP, help_heading = HEADING)]
    demo_page: Option<ListenAddress>,
}

impl DemoPageArgs {
    /// Binds the listener of the page.
    fn bind(&self) -> Result<Option<DemoPage>, Failure> {
        let Some(ListenAddress(address)) = self.demo_page else { return Ok(None) };
        let listener = http::bind(address).with_context(|| format!("cannot listen on {address} for --demo-page"));
        listener.map(|listener| Some(DemoPage(listener))).map_err(Failure::unusable)
    }
}

/// The listener of the demo page.
struct DemoPage(TcpListener);

impl DemoPage {
    /// Serves the page for the echo at `target` until `stop` is requested. The page contains the certificate hash of `identity`.
    fn serve(
        self,
        target: &MoqtUrl,
        identity: Arc<ServerIdentity>,
        config: &MoqtServerConfig,
        stop: &StopToken,
    ) -> std::io::Result<()> {
        let address = self.0.local_addr()?;
        let origin = MoqtUrl { path: String::new(), ..target.clone() }.to_string();
        let (path, echo) = (target.path.clone(), &config.echo);
        let (prefix, delay_ms) = (echo.track_prefix.0.clone(), echo.delay.as_secs_f64() * 1e3);
        let page_origin = origin.clone();
        let server_info = move || {
            let certificate = CertificateInfo::from_der(&identity.certificate());
            let certificate = certificate
                .inspect_err(|error| warn!(target: "demo_page", %error, "cannot parse the server certificate"));
            Some(ServerInfo {
                origin: page_origin.clone(),
                path: path.clone(),
                prefix: prefix.clone(),
                delay_ms,
                certificate: certificate.ok()?,
            })
        };
        http::spawn("demo-page", self.0, demo_page::router(&origin, server_info), stop)?;
        info!(target: "demo_page", url = %format_args!("http://{address}/"), "listening");
        Ok(())
    }
}

/// Parses the address of the demo page, which must be a loopback address. The browser receives the certificate hash over plain HTTP and
/// trusts any matching certificate. If the page were served to other machines, an attacker could replace the hash on the way.
fn parse_loopback_address(text: &str) -> Result<ListenAddress, String> {
    let address = ListenAddress::from_str(text)?;
    if address.0.ip().is_loopback() {
        return Ok(address);
    }
    Err("the demo page is served on loopback only: give 127.0.0.1:PORT, [::1]:PORT or a port. For access from elsewhere, forward the port (ssh -L)".to_owned())
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn url_path_is_normalized_or_rejected() {
        for (text, path) in [("/echo", "/echo"), ("echo", "/echo"), ("/", "/"), ("/a/b%20c", "/a/b%20c")] {
            assert_eq!(parse_url_path(text).as_deref(), Ok(path), "{text}");
        }
        for text in ["/a b", "/echo?x=1", "/echo#x", "/\u{e9}cho\n", "/a/../echo", "/./echo", "/%2e%2e/echo"] {
            assert!(parse_url_path(text).is_err(), "{text}");
        }
    }
}
