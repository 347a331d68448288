//! Parts that both servers share (log, memory budget and listen addresses), and the statistics of `echo-server` in the log and
//! the metrics.

use std::ffi::CStr;
use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::registry::Registry;
use tracing::{info, warn};

use super::options::credentials::Operator;
use super::output::{Failure, print_message};
use super::ready_file::local_authority;
use super::values::{OrOff, format_size, or_off, use_color};
use crate::address::{HostPort, url_authority};
use crate::echo::{self, Counters, ExternalCounts, FIXED_LOG_LINE, SharedSources};
use crate::io::clock::ClockMonitor;
use crate::io::log::{self, LogGuard};
use crate::io::moqt::{self, CounterSnapshot, ServerCounters};
use crate::io::reachable::reachable_addresses;
use crate::io::stop::StopToken;
use crate::io::tls::Fingerprint;
use crate::io::udp::{BindError, KernelDrops};
use crate::io::worker::Worker;
use crate::io::{http, memory, os, resolve};
use crate::memory_budget::{DEFAULT_MEMORY_BUDGET, MemoryBudget};
use crate::signaling::Dialect;
use crate::stats::Counter;
use crate::units::parse_size;

/// Names the process, raises its limit on open files, and starts its log. `--verbose` overrides `RUST_LOG`.
pub(crate) fn start(name: &'static CStr, verbose: bool) -> Result<LogGuard, Failure> {
    os::set_process_name(name);
    os::raise_descriptor_limit();
    let filter = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty() && !verbose);
    let filter = filter.as_deref().unwrap_or(if verbose { "debug" } else { "info" });
    let targets = log::parse_filter(filter).map_err(|error| Failure::usage(format!("RUST_LOG: {error}")))?;
    let log = log::init(targets, use_color(&io::stderr())).context("cannot start the log")?;
    if !log.has_lines {
        print_message(&format!(
            "the server starts, but RUST_LOG={filter} disables its log; for its addresses, use info"
        ));
    }
    Ok(log)
}

/// Binds the first usable address of `--host` and `--port`. Otherwise, returns the error of the first address.
pub(crate) fn bind_first<T>(
    host: &str,
    port: u16,
    bind: impl Fn(SocketAddr) -> anyhow::Result<T>,
) -> Result<T, Failure> {
    let HostPort { host, port: given } =
        HostPort::parse_listen(host).map_err(|error| Failure::usage(format!("--host: {error}")))?;
    if let Some(port) = given {
        return Err(Failure::usage(format!("--host takes no port; give --host {host} --port {port}")));
    }
    let mut first = None;
    for address in resolve::resolve(&host, port).context("--host")? {
        match bind(address) {
            Ok(bound) => return Ok(bound),
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    // A resolved host has at least one address, so `first` is set.
    Err(first.unwrap_or_else(|| anyhow::anyhow!("no address")).into())
}

/// Binds a TCP listener. The message of an error is the same as for a UDP socket.
pub(crate) fn bind_tcp(host: &str, port: u16) -> Result<(TcpListener, SocketAddr), Failure> {
    bind_first(host, port, |address| {
        let bound = http::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|error| BindError::new(address, error))?;
        Ok((listener, address))
    })
}

/// A shell command that checks a server of these dialects at these URLs, which have no path. A probe needs no room and no token only
/// in the jamjam dialect. The command accepts the server's own certificate, if this is its fingerprint, because the issuer may be unknown;
/// `curl` cannot compare fingerprints and accepts any certificate.
fn check_command(
    dialects: &[Dialect],
    web_socket_url: &str,
    page_url: &str,
    fingerprint: Option<&dyn Display>,
) -> String {
    if dialects.contains(&Dialect::Jamjam) {
        let pin = fingerprint.map(|hash| format!(" --cert-sha256 {hash}")).unwrap_or_default();
        format!("jamjam-dev probe --to {web_socket_url}{pin}")
    } else {
        format!("curl{} {page_url}/health", if fingerprint.is_some() { " -k" } else { "" })
    }
}

/// Logs the URLs of a signaling server, its pages and a command to try. With TLS, the certificate has the given fingerprint. Returns the URL
/// of the pages for this machine, without a path.
pub(crate) fn log_signaling_urls(
    address: SocketAddr,
    fingerprint: Option<Fingerprint>,
    dialects: &[Dialect],
) -> String {
    let is_tls = fingerprint.is_some();
    let hosts: Vec<String> =
        reachable_addresses(address).into_iter().map(|address| local_host(address, is_tls)).collect();
    let secure = if is_tls { "s" } else { "" };
    let urls = |scheme: &str| hosts.iter().map(|host| format!("{scheme}{secure}://{host}")).collect::<Vec<_>>();
    let web_sockets = urls("ws");
    let pages = urls("http").into_iter().next().unwrap_or_default();
    let pin = fingerprint.as_ref().map(|hash| hash as &dyn Display);
    let command = check_command(dialects, web_sockets.first().map_or("", String::as_str), &pages, pin);
    info!(target: "signaling", urls = web_sockets.join(" "), "serving");
    if pages.contains("%25") {
        warn!(target: "http", "browsers cannot open an address with a zone; give --host :: for the pages");
    } else {
        info!(target: "http", start = %format_args!("{pages}/"), console = %format_args!("{pages}/console"), docs = %format_args!("{pages}/docs"), "serving pages");
    }
    info!(target: "signaling", command, "run this to test the server");
    pages
}

/// Host and port in a URL. A certificate rarely contains a loopback address, but may contain `localhost`.
fn local_host(address: SocketAddr, is_tls: bool) -> String {
    if is_tls && address.ip().is_loopback() { format!("localhost:{}", address.port()) } else { url_authority(&address) }
}

/// The memory budget of a server. Flatten this group with the heading of the subcommand.
#[derive(clap::Args)]
pub(crate) struct MemoryArgs {
    /// Maximum memory for the data of all clients, or off
    ///
    /// Data that does not fit is refused. An address (IPv6: /64) other than loopback may hold an eighth. Set the memory limit of the container
    /// or unit to this size plus 192 MiB.
    #[arg(long, hide_short_help = true, env = "MEMORY_BUDGET", value_name = "SIZE", value_parser = or_off(parse_size), default_value = format_size(DEFAULT_MEMORY_BUDGET))]
    pub(crate) memory_budget: OrOff<u64>,
}

/// MOQT counters that are always logged. The other counters are logged only if they are not zero.
const ALWAYS_LOGGED: [&str; 2] = ["frames_received", "frames_sent"];

/// Counters of an echo server.
pub(crate) struct ServerStatistics {
    /// The UDP echo server, if it is enabled.
    pub udp: Option<UdpStatistics>,
    /// The MOQT echo server, if it is enabled.
    pub moqt: Option<Arc<ServerCounters>>,
    pub memory_budget: Arc<MemoryBudget>,
    /// The log, which counts the log lines that it has dropped.
    pub log: LogGuard,
}

/// Counters of the UDP echo.
pub(crate) struct UdpStatistics {
    pub counters: Arc<Counters>,
    /// The sources, if metrics are served.
    pub sources: Option<SharedSources>,
    /// Packets dropped by the kernel.
    pub kernel: Arc<KernelDrops>,
    /// Number of rows missing from the outcome log, if one is written.
    pub outcome_log_dropped: Option<Arc<Counter>>,
}

impl ServerStatistics {
    /// Serves the counters and the sources over HTTP if there is a listener. Others than local users may read the counters without a login,
    /// but no addresses of sources.
    pub(crate) fn serve(
        &self,
        listener: Option<TcpListener>,
        operator: &Operator,
        stop: &StopToken,
    ) -> anyhow::Result<()> {
        let Some(listener) = listener else { return Ok(()) };
        let sources = self.udp.as_ref().and_then(|udp| udp.sources.clone());
        let address = listener.local_addr().context("cannot serve metrics")?;
        let (authority, is_local) = (local_authority(address), address.ip().to_canonical().is_loopback());
        info!(target: "metrics", url = %format_args!("http://{authority}/metrics"), "listening");
        let mut registry = Registry::default();
        if let Some(UdpStatistics { counters, kernel, outcome_log_dropped, .. }) = &self.udp {
            let (kernel, outcome_log_dropped, log_dropped) =
                (Arc::clone(kernel), outcome_log_dropped.clone(), self.log.dropped_lines());
            let external = move || ExternalCounts {
                kernel_dropped: kernel.read(),
                outcome_log_dropped: outcome_log_dropped.as_ref().map_or(0, |dropped| dropped.get()),
                log_dropped: log_dropped(),
            };
            let sources = sources.clone().filter(|_| is_local);
            echo::register_metrics(Arc::clone(counters), sources, external, &mut registry);
        }
        if let Some(totals) = &self.moqt {
            moqt::register_metrics(Arc::clone(totals), &mut registry);
        }
        memory::register_metrics(Arc::clone(&self.memory_budget), &mut registry);
        let login = operator.login(&format!("http://{authority}/"));
        http::spawn_metrics(listener, registry, sources, login, stop).context("cannot serve metrics")
    }

    /// Logs the statistics at each `interval` (`None`: never), and jumps of the system clock, until the thread of the server ends.
    pub(crate) fn log_until_end<T: Send + 'static>(&self, running: &Worker<T>, interval: Option<Duration>) {
        let mut clock = ClockMonitor::start();
        while !running.finished_within(interval.unwrap_or(Duration::MAX)) {
            clock.sample_and_log();
            self.log();
        }
        clock.sample_and_log();
    }

    /// Logs one line per protocol. The UDP line is last.
    pub(crate) fn log(&self) {
        if let Some(totals) = &self.moqt {
            self.log_moqt(&totals.snapshot());
        }
        if let Some(udp) = &self.udp {
            self.log_udp(udp);
        }
    }

    /// Logs the open connections, the sessions, and the counters in [`ALWAYS_LOGGED`]. Other counters are logged only if they are not zero.
    fn log_moqt(&self, snapshot: &CounterSnapshot) {
        let is_field = |name| ["connections_open", "sessions"].contains(&name);
        let counters = snapshot.metrics().map(|(name, .., count)| (name, count));
        let counters =
            counters.filter(|(name, count)| !is_field(*name) && (*count > 0 || ALWAYS_LOGGED.contains(name)));
        let log_dropped = self.log.dropped_lines()();
        let dropped = (self.udp.is_none() && log_dropped > 0).then_some(("log_dropped", log_dropped));
        let text: Vec<_> = counters.chain(dropped).map(|(name, count)| format!(" {name}={count}")).collect();
        let text = text.concat();
        let (connections_open, sessions) = (snapshot.connections_open, snapshot.sessions.sessions);
        info!(target: "moqt", connections_open, sessions, "stats{text}");
    }

    /// Logs `received`, `sent` and `buffered`, then the other counters that are not zero, then `kernel_dropped`. Last come
    /// `outcome_log_dropped` and `log_dropped`, if they are not zero.
    fn log_udp(&self, udp: &UdpStatistics) {
        let known = |(name, count): (&str, u64)| format!("{name}={count}");
        // The line always contains the first three counters (`docs/measuring.md`). Other counters are omitted if they are zero.
        let counters = udp.counters.values().enumerate().filter(|(index, (_, count))| *index < 3 || *count > 0);
        let kernel_dropped = udp.kernel.read().map_or("unknown".to_owned(), |dropped| dropped.to_string());
        let outcome_log_dropped = udp.outcome_log_dropped.as_ref().map_or(0, |dropped| dropped.get());
        let lost = [("outcome_log_dropped", outcome_log_dropped), ("log_dropped", self.log.dropped_lines()())];
        let lost = lost.into_iter().filter(|(_, count)| *count > 0).map(known);
        let all = counters.map(|(_, counter)| known(counter)).chain([format!("kernel_dropped={kernel_dropped}")]);
        info!(name: FIXED_LOG_LINE, target: "echo", "Stats: {}", all.chain(lost).collect::<Vec<_>>().join(", "));
    }
}
