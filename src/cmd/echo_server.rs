//! `jamjam-dev echo-server`: returns a client's AUDIO after a delay, and MOQT.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tracing::{Level, enabled, info, warn};

use super::Failure;
use super::announcing::AnnounceArgs;
use super::args::{Colour, Driver, Listen, LogFormat, Millis, OrOff, Seconds, Size, spin, written_file};
use super::distinct::refuse_one_file_twice;
use super::echo_statistics::{Statistics, UdpCounts};
use super::impairment::{FateFile, ImpairmentArgs, Prepared};
use super::listening::{self, AddressFile};
use super::moqt_options::MoqtArgs;
use super::moqt_server::Ready;
use super::protection::ProtectionOptions;
use crate::echo::{Config, DEFAULT_DELAY, Limits};
use crate::io::clock::ClockWatch;
use crate::io::log::Log;
use crate::io::stop::{Reason, Stop};
use crate::io::udp::{self, BindError, Bound, DEFAULT_BUFFER, DEFAULT_SPIN, Idle, KernelDrops, Options};
use crate::io::{http, process};
use crate::units::UnitError;
use crate::wire::DEFAULT_PORT;

/// How often statistics are logged unless told otherwise.
const STATS_INTERVAL: Duration = Duration::from_secs(60);

const HEADING_MEMORY: &str = "Memory and speed";
const HEADING_LOG: &str = "Log";

/// Return a client's AUDIO packets after a delay; answer KEEPALIVE and LATENCY_PING at once
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    /// UDP port to listen on; 0 takes any free one
    #[arg(short, long, default_value_t = DEFAULT_PORT)]
    port: u16,

    /// Address or host name to listen on; :: takes IPv4 clients too
    #[arg(long, default_value = "0.0.0.0")]
    host: String,

    /// How long to hold AUDIO, in milliseconds or with a unit (250us, 3s)
    #[arg(short, long, env = "ECHO_DELAY_MS", value_name = "MS", value_parser = delay, default_value_t = Millis(DEFAULT_DELAY))]
    delay: Millis,

    /// Write the address listened on to this file, once it is
    #[arg(long, value_name = "FILE", value_parser = written_file())]
    address_file: Option<PathBuf>,

    /// Serve metrics and /healthz over HTTP: an address and port, or a port for this machine alone
    #[arg(long, value_name = "[ADDR:]PORT")]
    metrics: Option<Listen>,

    /// Most memory that waiting packets may take: a size or off. A packet counts 100 bytes more than its length
    #[arg(long, value_name = "SIZE", default_value_t = OrOff(Limits::default().total.map(Size)), help_heading = HEADING_MEMORY)]
    max_buffer: OrOff<Size>,

    /// The same for one client, an address and port
    #[arg(long, value_name = "SIZE", default_value_t = OrOff(Limits::default().per_client.map(Size)), help_heading = HEADING_MEMORY)]
    max_buffer_per_client: OrOff<Size>,

    /// Receive buffer to ask the system for
    #[arg(long, value_name = "SIZE", default_value_t = Size(DEFAULT_BUFFER as u64), help_heading = HEADING_MEMORY)]
    socket_buffer: Size,

    /// Share of one core that may be spent watching the clock so that packets leave on time; 0 on battery
    #[arg(long, value_name = "PERCENT", value_parser = spin, default_value_t = DEFAULT_SPIN, help_heading = HEADING_MEMORY)]
    spin: u8,

    /// Which UDP driver to use
    #[arg(long, value_enum, default_value_t, hide = true)]
    driver: Driver,

    #[command(flatten)]
    protection: ProtectionOptions,

    #[command(flatten)]
    impairment: ImpairmentArgs,

    /// Log every packet and why others are dropped (level debug; wins over RUST_LOG)
    #[arg(short, long, help_heading = HEADING_LOG)]
    verbose: bool,

    /// How log lines look
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, help_heading = HEADING_LOG)]
    log_format: LogFormat,

    /// How often to log statistics, in seconds or with a unit; off for never
    #[arg(long, value_name = "TIME", default_value_t = OrOff(Some(Seconds(STATS_INTERVAL))), help_heading = HEADING_LOG)]
    stats_interval: OrOff<Seconds>,

    #[command(flatten)]
    announce: AnnounceArgs,

    #[command(flatten)]
    moqt: MoqtArgs,
}

impl Args {
    /// Serves until `stop` is requested.
    pub fn run(self, colour: Colour, stop: &Stop) -> Result<u8, Failure> {
        self.announce.check()?;
        self.refuse_in_vain()?;
        let interval = match self.stats_interval.0 {
            Some(Seconds(Duration::ZERO)) => {
                return Err(Failure::usage("--stats-interval 0 would log without end; use a time, or off"));
            }
            interval => interval.map(|Seconds(interval)| interval),
        };
        self.refuse_one_file_twice()?;
        let protection = self.protection.protection()?;
        let log = listening::start_log(self.verbose, self.log_format, colour)?;
        process::name("echo-server");
        if self.moqt.is_alone() {
            return self.run_moqt(log, interval, stop);
        }

        let limits = Limits {
            total: self.max_buffer.0.map(|Size(size)| size),
            per_client: self.max_buffer_per_client.0.map(|Size(size)| size),
        };
        let address_file = AddressFile::clear(self.address_file.as_deref())?;
        let bound = self.bind()?;
        let moqt = Ready::prepare(&self.moqt, self.protection.allow(), Some(bound.address))?;
        let port = Some(bound.address.port());
        let config = Config { delay: self.delay.0, limits, follow: enabled!(Level::INFO), protection, port };
        // Not before the port is ours: the fate log may be that of the server that has it.
        let Prepared { mut echo, again, fates } = self.impairment.prepare(config)?;
        let announcement = self.announce.prepare(&self.host, bound.address)?;
        let metrics = self.bind_metrics()?;
        // From here on the server ends by itself, and well.
        stop.on_request(|| ());
        address_file.write(bound.address)?;
        let fates_dropped = fates.as_ref().map(FateFile::dropped);
        let kernel = Arc::new(KernelDrops::of(&bound.socket));
        let udp = Some(UdpCounts { counters: echo.counters(), kernel, fates_dropped });
        let statistics = Statistics { udp, moqt: moqt.as_ref().map(Ready::totals), log };
        info!("Echo server listening on {}", bound.address);
        if let Some(again) = again {
            info!("Replies are impaired on purpose: {again}");
        }
        let moqt =
            moqt.map(|moqt| moqt.start(stop)).transpose().context("cannot serve MOQT").map_err(Failure::unusable)?;
        statistics.serve(metrics, stop)?;

        let delay = self.delay.0;
        let announced = announcement.map(|announcement| announcement.start(&mut echo, delay, stop)).transpose();
        let announced = announced.context("cannot start a thread").map_err(Failure::unusable)?;

        let options = Options { idle: Idle::Wait, spin: self.spin, backend: self.driver.into() };
        let running = udp::spawn("echo-server", bound.socket, echo, stop.clone(), options)
            .context("cannot start a thread")
            .map_err(Failure::unusable)?;
        let mut clock = ClockWatch::start();
        while !running.ended_within(interval) {
            clock.warn();
            statistics.log();
        }
        let (echo, tally) = running.join();
        clock.warn();
        echo.stop();
        if tally.result.is_err() {
            // Nobody has asked for it, and MOQT goes on until somebody does.
            stop.request(Reason::Terminate);
        }
        let fates = fates.map_or(Ok(()), FateFile::finish);
        if let Some(moqt) = moqt {
            moqt.join();
        }
        if let Some(announced) = announced {
            announced.end();
        }
        statistics.log();
        tally.result.context("cannot go on reading from the socket").and(fates).map_err(Failure::unusable)?;
        Ok(0)
    }

    /// Serves MOQT and nothing else.
    fn run_moqt(self, log: Log, interval: Option<Duration>, stop: &Stop) -> Result<u8, Failure> {
        let address_file = AddressFile::clear(self.address_file.as_deref())?;
        // Alone it is wanted.
        let Some(moqt) = Ready::prepare(&self.moqt, self.protection.allow(), None)? else { return Ok(0) };
        let metrics = self.bind_metrics()?;
        stop.on_request(|| ());
        moqt.address().map_or(Ok(()), |address| address_file.write(address))?;
        let statistics = Statistics { udp: None, moqt: Some(moqt.totals()), log };
        let running = moqt.start(stop).context("cannot serve MOQT").map_err(Failure::unusable)?;
        statistics.serve(metrics, stop)?;
        let mut clock = ClockWatch::start();
        while !running.asked_within(interval) {
            clock.warn();
            statistics.log();
        }
        running.join();
        clock.warn();
        statistics.log();
        Ok(0)
    }

    /// Refuses what cannot be meant where there is no UDP echo.
    fn refuse_in_vain(&self) -> Result<(), Failure> {
        // An empty variable is no delay, and the one that holds anyway does no harm: clap would refuse both.
        let delay =
            (self.delay != Millis(DEFAULT_DELAY)).then_some("--delay (or ECHO_DELAY_MS; that of MOQT is --moqt-delay)");
        let given = self.impairment.given().or_else(|| self.announce.given()).or(delay);
        match given.filter(|_| self.moqt.is_alone()) {
            Some(option) => Err(Failure::usage(format!(
                "{option} is about the UDP echo, which --moqt-only leaves out: leave out one of them"
            ))),
            None => Ok(()),
        }
    }

    /// Of what is written here no two may be one file, nor may one be what is read. (A certificate and its key may.)
    fn refuse_one_file_twice(&self) -> Result<(), Failure> {
        let address_file = self.address_file.as_deref().map(|file| ("--address-file", file));
        let written = || address_file.into_iter().chain(self.impairment.fate_log());
        refuse_one_file_twice(written())?;
        let kept: Vec<_> = self.moqt.files().collect();
        kept.iter().try_for_each(|(option, file)| refuse_one_file_twice(written().chain([(*option, file.as_path())])))
    }

    fn bind_metrics(&self) -> Result<Option<TcpListener>, Failure> {
        let Some(Listen(address)) = self.metrics else { return Ok(None) };
        let listener = http::bind(address).with_context(|| format!("cannot listen on {address} for --metrics"));
        listener.map(Some).map_err(Failure::unusable)
    }

    /// The first of the host's addresses that can be listened on.
    fn bind(&self) -> Result<Bound, Failure> {
        let addresses = listening::addresses(&self.host, self.port)?;
        let asked = self.socket_buffer.0.min(1 << 30) as usize;
        let mut first: Option<BindError> = None;
        for address in addresses {
            match udp::bind(address, asked) {
                Ok(bound) => {
                    if let Some(granted) = bound.granted.filter(|granted| *granted < asked) {
                        warn!(
                            "Receive buffer is {granted} bytes, {asked} were asked for: more may be dropped in bursts; as \
                             root raise net.core.rmem_max"
                        );
                    }
                    return Ok(bound);
                }
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        // A host that was resolved has at least one address, so there is a first error.
        Err(Failure::unusable(first.map_or_else(|| anyhow::anyhow!("no address"), anyhow::Error::from)))
    }
}

/// A delay. Nothing at all, as a compose file makes of a variable it does not know, is the default.
fn delay(text: &str) -> Result<Millis, UnitError> {
    if text.is_empty() { Ok(Millis(DEFAULT_DELAY)) } else { text.parse() }
}
