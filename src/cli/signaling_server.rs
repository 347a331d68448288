//! `jamjam-dev signaling-server`: assembles the limits, dialects, TLS and login of the signaling server, and runs it until it is stopped.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use clap::ArgMatches;
use clap::parser::ValueSource;
use tracing::info;

use super::check::{Activity, CheckArgs, Watched, Watcher};
use super::environment::{log_empty_protections, source_of_options};
use super::options::broadcast::BroadcastArgs;
use super::options::credentials::{LoginArgs, ServerTlsArgs};
use super::options::media_relay::MediaRelayArgs;
use super::options::signaling_limits::{
    self, ConnectionLimitArgs, ControlSurfaceArgs, HEADING_LIMITS, HeartbeatArgs, JamjamArgs,
};
use super::output::{Failure, ensure_usage, print};
use super::ready_file::{Ready, ReadyFileArgs};
use super::server::{self, MemoryArgs, bind_tcp};
use super::values::{DEFAULT_SIGNALING_PORT, dialect_parser, parse_port};
use crate::address::url_authority;
use crate::check::{CheckReport, SignalingCheck};
use crate::client::StopSignal;
use crate::document::Document;
use crate::io::signaling::{self, SignalingServerConfig};
use crate::io::stop::StopToken;
use crate::io::tls::renewal;
use crate::io::tls::server::HandshakeAcceptor;
use crate::io::worker::Worker;
use crate::io::{clock, os};
use crate::media_relay::MediaRooms;
use crate::memory_budget::MemoryBudget;
use crate::report::media::MediaReport;
use crate::signaling::{Dialect, Hub, SignalingLimits};

/// The check, which the server and the thread that ends it share.
type SharedSignalingCheck = Arc<Mutex<SignalingCheck>>;

const DEFAULT_HOST: &str = "0.0.0.0";

/// Options that need a dialect. Without it, a server would not do what they ask for.
const OPTIONS_OF_DIALECTS: [(&str, Dialect); 4] = [
    ("relay_media", Dialect::Jamjam),
    ("webrtc_auth", Dialect::WebRtc),
    ("rooms", Dialect::Broadcast),
    ("bbx_room", Dialect::ControlSurface),
];

/// Run a signaling server for jamjam, WebRTC, broadcast rooms and control surfaces
#[derive(clap::Args)]
pub(crate) struct Args {
    /// TCP port; 0 selects a free port
    ///
    /// If the environment variable PORT is unset or empty, the program reads the variable PORT_ENV instead.
    #[arg(short, long, env = "PORT", value_parser = parse_port, default_value_t = DEFAULT_SIGNALING_PORT)]
    port: u16,

    /// Address or host name to listen on
    ///
    /// With `::`, the server also accepts IPv4 clients.
    #[arg(long, env = "HOST", default_value = DEFAULT_HOST)]
    host: String,

    /// Message protocols (dialects) to enable [default: all]
    ///
    /// Separate values with commas or repeat the option. If only one dialect is enabled, this dialect is served on every path.
    #[arg(long, env = "DIALECTS", value_name = "NAME", value_parser = dialect_parser(), value_delimiter = ',')]
    dialect: Vec<Dialect>,

    /// Log each message and change of state (level debug)
    ///
    /// Overrides RUST_LOG, which accepts a level and TARGET=LEVEL pairs, such as warn,signaling=debug.
    #[arg(short, long)]
    verbose: bool,

    #[command(flatten)]
    ready_file: ReadyFileArgs,

    #[command(flatten)]
    tls: ServerTlsArgs,

    #[command(flatten, next_help_heading = HEADING_LIMITS)]
    memory: MemoryArgs,

    #[command(flatten)]
    limits: ConnectionLimitArgs,

    #[command(flatten)]
    jamjam: JamjamArgs,

    #[command(flatten)]
    media: MediaRelayArgs,

    #[command(flatten)]
    bbx: ControlSurfaceArgs,

    #[command(flatten)]
    heartbeats: HeartbeatArgs,

    #[command(flatten)]
    broadcast: BroadcastArgs,

    #[command(flatten)]
    check: CheckArgs,

    #[command(flatten)]
    login: LoginArgs,
}

impl Args {
    /// Serves until `stop` is requested.
    pub(crate) fn run(&self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        self.serve(matches, stop).inspect_err(|failure| self.check.report_failure(failure))
    }

    /// The enabled dialects.
    fn dialects(&self, matches: &ArgMatches) -> Result<Vec<Dialect>, Failure> {
        let is_enabled = |dialect: &Dialect| self.dialect.is_empty() || self.dialect.contains(dialect);
        for (option, dialect) in OPTIONS_OF_DIALECTS {
            let is_default = matches!(matches.value_source(option), None | Some(ValueSource::DefaultValue));
            let (option, name) = (option.replace('_', "-"), dialect.name());
            let all: Vec<_> = self.dialect.iter().chain([&dialect]).map(|dialect| dialect.name()).collect();
            ensure_usage!(
                is_default || is_enabled(&dialect),
                "--{option} has no effect without the {name} dialect; give --dialect {}",
                all.join(",")
            );
        }
        Ok(Dialect::ALL.into_iter().filter(is_enabled).collect())
    }

    fn serve(&self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        let dialects = self.dialects(matches)?;
        // Dropping the guard flushes the log.
        let log = server::start(c"signaling-server", self.verbose)?;
        let handlers = self.broadcast.room_handlers()?;
        let identity = self.tls.identity()?;
        log_empty_protections(matches);
        let (mut limits, mut options) = self.config(&dialects)?;
        let operator = self.login.read()?;
        self.media.check(matches, options.connection_limits.trusted_proxies.is_some())?;
        // Without the sentences, a finding could not name the member. Correct clients receive no further messages.
        limits.is_strict |= self.check.check;
        let mut hub = Hub::new(limits, os::random_u64s()).with_handlers(handlers);
        let codes = self.bbx.create_rooms(&mut hub)?;
        let (host, port) = self.check.listen(&self.host, self.port, matches);
        let (listener, address) = bind_tcp(host, port)?;
        let check = self.check.check.then(SharedSignalingCheck::default);
        let media = self.media.start(address.ip(), check.clone(), stop)?;
        self.check.prepare(stop)?;
        options.tls = identity.clone().map(HandshakeAcceptor::new).transpose()?.map(Arc::new);
        options.check.clone_from(&check);
        signaling_limits::print_codes(&codes, check.is_some())?;
        let hub = hub.with_media(media.as_ref().map(|media| media.rooms.clone()));
        self.ready_file.clear()?;
        stop.set_run_started();
        identity.as_ref().map_or(Ok(()), renewal::replace_when_due).context("cannot start a thread")?;
        let (scheme, authority) = (if identity.is_some() { "wss" } else { "ws" }, url_authority(&address));
        let named = if port == self.port { "--host --port" } else { "--host" };
        let source = source_of_options("signaling-server", matches, named);
        info!(target: "signaling", "server listening on {scheme}://{authority}{source}");
        if let Some(identity) = &identity {
            identity.log("certificate in use");
        }
        self.broadcast.log_token_warnings(&dialects)?;
        let pages = server::log_signaling_urls(address, identity.map(|identity| identity.fingerprint()), &dialects);
        options.login = Arc::new(operator.login(&format!("{pages}/console")));
        let relay_ports = media.as_ref().map(|media| media.port_range.clone());
        let rooms = media.as_ref().map(|media| media.rooms.clone());
        let server = signaling::spawn(listener, hub, options, stop).context("cannot start the event loop")?;
        stop.set_serving();
        let ready =
            Ready { metrics: Some(format!("{pages}/metrics")), relay_ports, ..Ready::default() }.with_signaling(&pages);
        self.ready_file.write(&ready)?;
        // The check and the relay end at the stop request. The server then still waits for its clients.
        let watcher = check.clone().map(|check| self.watch(check, (Arc::clone(&server.hub), rooms), ready, stop));
        let watched = watcher.transpose()?.map(Worker::join);
        let media = media.map(|media| media.join(self.check.check, self.media.max_recovery)).transpose();
        if media.is_err() {
            stop.request(StopSignal::Terminate);
        }
        // The verdict is the last line.
        let log = Some(log).filter(|_| check.is_none() && matches!(media, Ok(None)));
        let code = media.map_err(Failure::from).and_then(|media| self.report(watched.zip(check), media, stop));
        server.worker.join();
        info!(target: "signaling", "server stopped");
        drop(log);
        code
    }

    /// The limits, and the configuration of the server without TLS, login and check.
    fn config(&self, dialects: &[Dialect]) -> Result<(SignalingLimits, SignalingServerConfig), Failure> {
        let mut limits = SignalingLimits { dialects: dialects.to_vec(), ..SignalingLimits::default() };
        let mut options = SignalingServerConfig::default();
        self.limits.apply_to(&mut limits, &mut options.connection_limits);
        self.heartbeats.apply_to(&mut limits);
        self.bbx.apply_to(&mut limits);
        self.jamjam.apply_to(&mut limits, &mut options);
        self.broadcast.apply_to(&mut limits)?;
        options.broadcast = self.broadcast.http_config()?;
        options.connection_limits.memory_budget = MemoryBudget::new(self.memory.memory_budget);
        Ok((limits, options))
    }

    /// Starts the thread that ends the check of a server with these connections and rooms.
    fn watch(
        &self,
        check: SharedSignalingCheck,
        (hub, rooms): (Arc<Hub>, Option<MediaRooms>),
        ready: Ready,
        stop: &StopToken,
    ) -> anyhow::Result<Watcher> {
        let poll = move || {
            let last_message = check.lock().unwrap_or_else(PoisonError::into_inner).last_message;
            let idle = last_message.map(|at| clock::monotonic_now().duration_since(at));
            let idle = idle.into_iter().chain(rooms.as_ref().and_then(MediaRooms::silence)).min();
            Activity { idle, is_settled: hub.connection_count() == 0 }
        };
        self.check.watch("a message", poll, move || Some(ready.environment()), stop)
    }

    /// Reports the check and the relayed media, if there are any. Returns the exit code.
    fn report(
        &self,
        checked: Option<(Watched, SharedSignalingCheck)>,
        media: Option<MediaReport>,
        stop: &StopToken,
    ) -> Result<u8, Failure> {
        let Some((watched, check)) = checked else {
            if let Some(MediaReport { head, figures }) = media {
                print(Document::new(head, &figures).text(false, false, None).trim_end())?;
            }
            return Ok(0);
        };
        let report = check.lock().unwrap_or_else(PoisonError::into_inner).report();
        let seed = media.as_ref().and_then(|media| media.head.seed);
        self.check.finish(watched, CheckReport { media, seed, ..report }, &[], stop)
    }
}
