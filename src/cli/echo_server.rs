//! `jamjam-dev echo-server`: binds the UDP echo and the optional MOQT echo, metrics and registration, and logs statistics until the server
//! stops.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::ArgMatches;
use tracing::{Level, enabled, info, warn};

use super::check::{CheckArgs, SharedCheck, Watched, Watcher};
use super::file_arguments::{OutputFile, output_file_parser};
use super::moqt_server::{BoundMoqtServer, MoqtArgs};
use super::options::credentials::Operator;
use super::options::impairment::{ImpairmentArgs, OutcomeLogFile};
use super::options::measurement::{SocketArgs, SpinArgs};
use super::options::registration::{self, PreparedRegistration, RegistrationArgs};
use super::output::{Failure, ensure_usage};
use super::ready_file::{Ready, ReadyFileArgs, local_authority};
use super::server::{self, MemoryArgs, ServerStatistics, UdpStatistics};
use super::values::{
    DEFAULT_SIGNALING_PORT, OrOff, duration_in, format_bit_rate, format_size, link_policy_parser, or_off,
    parse_listen_address, parse_millis, parse_port,
};
use crate::address::Cidr;
use crate::check::CheckReport;
use crate::client::StopSignal;
use crate::echo::{
    AdmissionConfig, BufferLimits, DEFAULT_DELAY, EchoConfig, EchoServer, FIXED_LOG_LINE, LinkConfig, LinkPolicy,
};
use crate::io::log::LogGuard;
use crate::io::moqt::server::{MoqtServerConfig, ServerThread as MoqtThread};
use crate::io::reachable::reachable_addresses;
use crate::io::signaling::ServerThread as SignalingThread;
use crate::io::source_files::{self, SourceQueue};
use crate::io::stop::StopToken;
use crate::io::udp::{self, Backend, BindError, BoundSocket, DriverOptions, KernelDrops};
use crate::io::worker::Worker;
use crate::io::{http, os};
use crate::link::LinkKey;
use crate::memory_budget::MemoryBudget;
use crate::moqt::Transport;
use crate::units::{parse_bit_rate, parse_size};
use crate::wire::DEFAULT_PORT;

/// The limit on the bit rate allows one packet per this number of bits. Without a limit on packets, small ones would cost more processor
/// time than large ones.
const BITS_PER_PACKET: u64 = 8_000;

const HEADING_MEMORY: &str = "Memory and timing";
const HEADING_PROTECTION: &str = "Protection";
const HEADING_SOURCES: &str = "What clients send";

/// Run an echo server that returns audio (AUDIO packets) or media over QUIC (MOQT)
#[derive(clap::Args)]
#[command(mut_arg("spin", |arg| arg.help_heading(HEADING_MEMORY)))]
pub(crate) struct Args {
    /// UDP port; 0 selects a free port
    #[arg(short, long, value_parser = parse_port, default_value_t = DEFAULT_PORT)]
    port: u16,

    /// Address to listen on
    ///
    /// With `::`, the server also accepts IPv4 clients.
    #[arg(long, default_value = "0.0.0.0")]
    host: String,

    /// Delay before audio is returned, in ms [default: 3000]
    ///
    /// A value may have a unit, such as 250us. With --moqt-only, this is the delay before a MOQT frame is returned, 0 by default.
    #[arg(short, long, env = "ECHO_DELAY_MS", value_name = "MS", value_parser = parse_millis)]
    delay: Option<Duration>,

    #[command(flatten)]
    ready_file: ReadyFileArgs,

    /// Log packets and the reasons for drops (level debug)
    ///
    /// Overrides RUST_LOG, which accepts a level and TARGET=LEVEL pairs, such as warn,echo=debug.
    #[arg(short, long)]
    verbose: bool,

    /// Serve Prometheus metrics, /sources and /healthz over HTTP
    ///
    /// If only a port is given, the address is 127.0.0.1. /sources requires the login that DOCS_USERNAME and DOCS_PASSWORD set.
    #[arg(long, hide_short_help = true, value_name = "[ADDR:]PORT", value_parser = parse_listen_address)]
    metrics: Option<SocketAddr>,

    #[command(flatten, next_help_heading = HEADING_MEMORY)]
    memory: MemoryArgs,

    /// Maximum memory for delayed packets, or off
    ///
    /// Each packet counts as its length plus 100 bytes, or plus about 930 with impairment or --outcome-log. Packets beyond the limit
    /// are dropped and counted. One address (IPv6: /64) other than loopback may hold half, and one client (address and port) two fifths.
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = or_off(parse_size), default_value = BufferLimits::default().total.map_or_else(String::new, format_size), help_heading = HEADING_MEMORY)]
    max_buffer: OrOff<u64>,

    #[command(flatten)]
    spin: SpinArgs,

    #[command(flatten)]
    socket: SocketArgs,

    /// Encryption of the packets of newer clients (of the link)
    #[arg(long, hide_short_help = true, value_name = "MODE", value_parser = link_policy_parser(), default_value = "auto", help_heading = HEADING_PROTECTION)]
    link: LinkPolicy,

    #[command(flatten)]
    protection: AdmissionArgs,

    #[command(flatten)]
    source_files: SourceFileArgs,

    #[command(flatten)]
    check: CheckArgs,

    #[command(flatten)]
    impairment: ImpairmentArgs,

    /// Interval of the statistics log line, or off
    #[arg(long, hide = true, value_name = "DURATION", value_parser = or_off(parse_stats_interval), default_value = "60s")]
    stats_interval: OrOff<Duration>,

    #[command(flatten)]
    announce: RegistrationArgs,

    #[command(flatten)]
    pub(super) moqt: MoqtArgs,
}

impl Args {
    /// Serves until `stop` is requested.
    pub(crate) fn run(&self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        self.serve(matches, stop).inspect_err(|failure| self.check.report_failure(failure))
    }

    /// Prepares each part that can fail, starts the parts, and ends them after a stop request.
    fn serve(&self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        self.announce.check_usage(matches)?;
        let (admission, impairment) = (self.protection.admission_config()?, self.impairment.checked()?);
        let operator = Operator::from_environment()?;
        let log = server::start(c"echo-server", self.verbose)?;
        if self.moqt.moqt_only {
            return self.serve_moqt_only(log, &operator, stop);
        }
        let (host, port) = self.check.listen(&self.host, self.port, matches);
        let BoundSocket { socket, address, .. } = self.bind(host, port)?;
        let memory_budget = MemoryBudget::new(self.memory.memory_budget);
        let moqt = BoundMoqtServer::prepare(&self.moqt, self.moqt_config(&memory_budget), Some(address))?;
        let mut registration = self.announce.prepare(host, self.check.port_or(DEFAULT_SIGNALING_PORT), address)?;
        let metrics = self.bind_metrics()?;
        // Only now, because another server that uses the port may be writing the same outcome log.
        let (used, reproduce_options, outcome_log) = impairment.open()?;
        let config = self.echo_config(admission, address.port(), &memory_budget);
        let seed = impairment.seed();
        let mut echo = EchoServer::new(config).with_impairment(used);
        self.check.prepare(stop)?;
        let check = self.check.check.then(SharedCheck::default);
        let (source_queue, source_files) = self.source_files.start(address.port(), self.socket.driver())?.unzip();
        self.ready_file.clear()?;
        stop.set_run_started();

        let link_key = self.enable_links(&mut echo);
        let udp = Some(self.udp_statistics(&mut echo, &socket, outcome_log.as_ref()));
        let statistics = statistics(udp, moqt.as_ref(), &memory_budget, log);
        self.log_start(address, reproduce_options.as_deref());
        let ready = ready(Some(address), moqt.as_ref(), metrics.as_ref(), registration.as_ref());
        let moqt_url = moqt.as_ref().map(BoundMoqtServer::web_transport_url);
        let moqt = moqt.map(|moqt| moqt.start(stop)).transpose().context("cannot serve MOQT")?;
        statistics.serve(metrics, &operator, stop)?;
        let start_server = |one: &mut PreparedRegistration<'_>| {
            one.start_server(memory_budget, moqt_url, check.is_some(), &operator, stop)
        };
        let signaling_server = registration.as_mut().map(start_server).transpose()?.flatten();
        let room = registration.map(|one| one.start(&mut echo, self.delay(), link_key, stop)).transpose()?;
        observe(&mut echo, check.clone(), source_queue);
        let options = DriverOptions::server(self.spin.spin, self.socket.driver());
        let running = udp::spawn_node("echo-server", vec![socket], echo, stop.clone(), options)
            .context("cannot start a thread")?;
        stop.set_serving();
        let ready = ready.announce(self.ready_file.clone(), room, stop).context("cannot start a thread")?;
        let watcher = self.watch(check.clone(), &ready, stop)?;
        statistics.log_until_end(&running, self.stats_interval);
        let (echo, tally) = running.join();
        echo.stop();
        // If the UDP echo failed, the rest stops too.
        stop.request(StopSignal::Terminate);
        let outcome_log = outcome_log.map_or(Ok(()), OutcomeLogFile::finish);
        let incomplete = source_files.map(Worker::join).unwrap_or_default();
        let checked = watcher.map(Worker::join).zip(check);
        statistics.log();
        // This writes the rest of the log: the verdict is the last line.
        let log = Some(statistics).filter(|_| checked.is_none());
        let result = tally.result.context("cannot read from the socket").and(outcome_log);
        let code = result.map_err(Failure::from).and_then(|()| self.report(checked, &ready, &incomplete, seed, stop));
        close(moqt, signaling_server);
        drop(log);
        code
    }

    /// Starts the thread that ends the check, if there is one.
    fn watch(
        &self,
        check: Option<SharedCheck>,
        ready: &SharedReady,
        stop: &StopToken,
    ) -> anyhow::Result<Option<Watcher>> {
        let Some(check) = check else { return Ok(None) };
        let ready = Arc::clone(ready);
        let environment = move || ready.get()?.as_ref().ok().map(Ready::environment);
        self.check.watch("AUDIO", move || check.log_findings(), environment, stop).map(Some)
    }

    /// Reports the check, if there is one. Returns the exit code. That files are `incomplete` is an error in any case.
    fn report(
        &self,
        checked: Option<(Watched, SharedCheck)>,
        ready: &SharedReady,
        incomplete: &[String],
        seed: Option<u64>,
        stop: &StopToken,
    ) -> Result<u8, Failure> {
        if let Some(Err(error)) = ready.get() {
            return Err(anyhow!("{error:#}").into());
        }
        match checked {
            Some((watched, check)) => {
                self.check.finish(watched, CheckReport { seed, ..check.report() }, incomplete, stop)
            }
            None if incomplete.is_empty() => Ok(0),
            None => Err(anyhow!(incomplete.join("; ")).into()),
        }
    }

    /// Serves MOQT only.
    fn serve_moqt_only(&self, log: LogGuard, operator: &Operator, stop: &StopToken) -> Result<u8, Failure> {
        let memory_budget = MemoryBudget::new(self.memory.memory_budget);
        let mut config = self.moqt_config(&memory_budget);
        config.echo.delay = self.delay.unwrap_or_default();
        // With --moqt-only, `prepare` always returns a server.
        let Some(moqt) = BoundMoqtServer::prepare(&self.moqt, config, None)? else { return Ok(0) };
        let metrics = self.bind_metrics()?;
        self.ready_file.clear()?;
        stop.set_run_started();
        let ready = ready(None, Some(&moqt), metrics.as_ref(), None);
        let statistics = statistics(None, Some(&moqt), &memory_budget, log);
        let running = moqt.start(stop).context("cannot serve MOQT")?;
        statistics.serve(metrics, operator, stop)?;
        stop.set_serving();
        self.ready_file.write(&ready)?;
        statistics.log_until_end(&running, self.stats_interval);
        running.join();
        statistics.log();
        Ok(0)
    }

    fn delay(&self) -> Duration {
        self.delay.unwrap_or(DEFAULT_DELAY)
    }

    fn echo_config(&self, admission: AdmissionConfig, port: u16, memory_budget: &Arc<MemoryBudget>) -> EchoConfig {
        EchoConfig {
            delay: self.delay(),
            buffer_limits: BufferLimits::with_total(self.max_buffer),
            memory_budget: Arc::clone(memory_budget),
            log_sources: enabled!(target: "echo", Level::INFO),
            admission,
            local_port: Some(port),
        }
    }

    /// The configuration of the MOQT echo without its own options.
    fn moqt_config(&self, memory_budget: &Arc<MemoryBudget>) -> MoqtServerConfig {
        let allow = self.protection.allow.clone();
        MoqtServerConfig { allow, memory_budget: Arc::clone(memory_budget), ..MoqtServerConfig::default() }
    }

    /// Enables links as `--link` says. Returns the public part of the key that proves them, unless they are plain.
    fn enable_links(&self, echo: &mut EchoServer) -> Option<[u8; 32]> {
        let link_key = LinkKey::from_seed(&os::random_secret());
        let public_key = (self.link != LinkPolicy::Plain).then(|| link_key.public());
        echo.enable_links(LinkConfig { policy: self.link, link_key, entropy: Box::new(os::random_secret) });
        public_key
    }

    /// The statistics of the UDP echo, which also reports the drops of its socket to clients.
    fn udp_statistics(
        &self,
        echo: &mut EchoServer,
        socket: &UdpSocket,
        outcome_log: Option<&OutcomeLogFile>,
    ) -> UdpStatistics {
        let kernel = Arc::new(KernelDrops::for_socket(socket));
        let socket_drops = Arc::clone(&kernel);
        echo.report_socket_drops(Box::new(move || socket_drops.read()));
        let sources = self.metrics.is_some().then(|| echo.share_sources());
        let outcome_log_dropped = outcome_log.map(|log| Arc::clone(&log.dropped));
        UdpStatistics { counters: echo.counters(), sources, kernel, outcome_log_dropped }
    }

    /// Logs the addresses of the UDP echo, a command to try, and what differs from the defaults.
    fn log_start(&self, address: SocketAddr, reproduce_options: Option<&str>) {
        info!(name: FIXED_LOG_LINE, target: "echo", "Echo server listening on {address}");
        let addresses = reachable_addresses(address).into_iter().map(|address| address.to_string());
        let addresses: Vec<String> = addresses.collect();
        let command = format!("jamjam-dev probe --to {}", addresses.first().map_or("", String::as_str));
        info!(target: "echo", addresses = addresses.join(" "), command, "run this to test the server");
        if self.link == LinkPolicy::Plain {
            info!(target: "echo", "audio is not encrypted (--link plain)");
        }
        if let Some(options) = reproduce_options {
            info!(target: "echo", options, "impairment enabled");
        }
    }

    /// The listener of the metrics.
    fn bind_metrics(&self) -> anyhow::Result<Option<TcpListener>> {
        let bind = |address| http::bind(address).map_err(|error| BindError::new(address, error)).context("--metrics");
        self.metrics.map(bind).transpose()
    }

    /// Binds the first usable address of the host.
    fn bind(&self, host: &str, port: u16) -> Result<BoundSocket, Failure> {
        let requested = self.socket.receive_buffer();
        let bound = server::bind_first(host, port, |address| Ok(udp::bind(address, requested)?))?;
        if let Some(granted) = bound.receive_buffer.filter(|granted| *granted < requested) {
            warn!(
                target: "echo",
                granted_bytes = granted,
                requested_bytes = requested,
                "receive buffer smaller than requested; raise net.core.rmem_max"
            );
        }
        Ok(bound)
    }
}

/// What the server offers, once all of it exists, or why this cannot be written.
type SharedReady = Arc<OnceLock<anyhow::Result<Ready>>>;

/// Passes each datagram to the check and to the files.
fn observe(echo: &mut EchoServer, check: Option<SharedCheck>, files: Option<SourceQueue>) {
    if let Some(check) = check {
        echo.observe(move |datagram| check.on_datagram(datagram));
    }
    if let Some(mut files) = files {
        echo.observe(move |datagram| files.on_datagram(datagram));
    }
}

/// The statistics of what is served.
fn statistics(
    udp: Option<UdpStatistics>,
    moqt: Option<&BoundMoqtServer>,
    memory_budget: &Arc<MemoryBudget>,
    log: LogGuard,
) -> ServerStatistics {
    let moqt = moqt.map(|moqt| Arc::clone(&moqt.counts));
    ServerStatistics { udp, moqt, memory_budget: Arc::clone(memory_budget), log }
}

/// Waits for the closing handshakes of clients, on which nothing else depends.
fn close(moqt: Option<MoqtThread>, signaling: Option<SignalingThread>) {
    if let Some(moqt) = moqt {
        moqt.join();
    }
    if let Some(signaling) = signaling {
        signaling.worker.finished_within(registration::SHUTDOWN_TIMEOUT);
    }
}

fn parse_stats_interval(text: &str) -> Result<Duration, String> {
    duration_in("s", Duration::from_nanos(1).., "give a duration such as 60s, or off")(text)
}

/// Where clients reach what these parts serve.
fn ready(
    udp: Option<SocketAddr>,
    moqt: Option<&BoundMoqtServer>,
    metrics: Option<&TcpListener>,
    registration: Option<&PreparedRegistration<'_>>,
) -> Ready {
    let metrics = metrics.and_then(|listener| listener.local_addr().ok()).map(local_authority);
    let ready = Ready {
        udp: udp.map(local_authority),
        metrics: metrics.map(|authority| format!("http://{authority}/metrics")),
        moqt: moqt.map(|moqt| moqt.local_url(Transport::WebTransport).to_string()),
        ..Ready::default()
    };
    match registration {
        Some(registration) => ready.with_signaling(&registration.url.to_string()),
        None => ready,
    }
}

/// Files of what the sources send.
#[derive(clap::Args)]
struct SourceFileArgs {
    /// Write WAV files of each client's audio to this directory
    ///
    /// The name of a file is its start and the address of the client. Missing packets and pauses become silence. A new file begins after a
    /// restart of the client, after 60 s without AUDIO, and when the format changes.
    #[arg(long, value_name = "DIR", value_parser = output_file_parser(), help_heading = HEADING_SOURCES)]
    record: Option<OutputFile>,

    /// Write the clients' packets to this file, for Wireshark
    ///
    /// The format is pcapng. Sealed packets are opened first, and marked with a comment. Keys are not written.
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_SOURCES)]
    capture: Option<OutputFile>,
}

impl SourceFileArgs {
    /// Opens the files, before the server starts, and starts the thread that writes them.
    fn start(&self, port: u16, driver: Backend) -> anyhow::Result<Option<(SourceQueue, Worker<Vec<String>>)>> {
        let (record, capture) = (self.record.as_deref(), self.capture.as_deref());
        if record.is_none() && capture.is_none() {
            return Ok(None);
        }
        source_files::spawn(record, capture, port, udp::wall_clock(driver)).map(Some)
    }
}

/// The limit on what is sent to one address.
#[derive(clap::Args)]
pub(crate) struct BitRateArgs {
    /// Maximum bit rate sent to one address (500kbit, 64mbit), or off
    ///
    /// The rate includes IP and UDP headers, and is also a limit of one packet per 8 kbit. For IPv6, a /64 counts as one address. Excess
    /// packets are dropped and counted.
    #[arg(long, hide_short_help = true, value_name = "BITRATE", value_parser = or_off(parse_bit_rate), default_value = AdmissionConfig::default().max_bit_rate.map_or_else(String::new, format_bit_rate), help_heading = HEADING_PROTECTION)]
    max_bitrate_per_source: OrOff<u64>,
}

impl BitRateArgs {
    /// The limits, with a random hash key.
    pub(crate) fn limits(&self) -> Result<AdmissionConfig, Failure> {
        let max_bit_rate = self.max_bitrate_per_source;
        ensure_usage!(max_bit_rate != Some(0), "--max-bitrate-per-source 0 drops every packet; give a rate, or off");
        let max_packet_rate = max_bit_rate.map(|rate| rate.div_ceil(BITS_PER_PACKET));
        Ok(AdmissionConfig { max_packet_rate, max_bit_rate, hash_key: os::random_u64s(), ..AdmissionConfig::default() })
    }
}

/// Options that limit replies and restrict sources.
#[derive(clap::Args)]
pub(crate) struct AdmissionArgs {
    #[command(flatten)]
    bit_rate: BitRateArgs,

    /// Reply only to these networks (192.0.2.0/24) or addresses
    ///
    /// Separate values with commas or repeat the option. Loopback addresses are allowed only if listed.
    #[arg(long, hide_short_help = true, value_name = "CIDR", value_delimiter = ',', help_heading = HEADING_PROTECTION)]
    pub allow: Vec<Cidr>,

    /// Apply the limits to loopback sources too
    ///
    /// Otherwise, packets between two loopback addresses are exempt. The exemption covers the rate limits and the limit on repeated
    /// packets.
    #[arg(long, hide_short_help = true, help_heading = HEADING_PROTECTION)]
    limit_loopback: bool,
}

impl AdmissionArgs {
    /// The limits of the UDP echo.
    pub(crate) fn admission_config(&self) -> Result<AdmissionConfig, Failure> {
        let (allowed_networks, limit_loopback) = (self.allow.clone(), self.limit_loopback);
        Ok(AdmissionConfig { allowed_networks, limit_loopback, ..self.bit_rate.limits()? })
    }
}
