//! `jamjam-dev load-rooms`: members in the rooms of a signaling server, who send messages to each other.

use std::time::Duration;

use anyhow::Context;
use clap::builder::{RangedU64ValueParser, Resettable};

use super::client::FinishedRun;
use super::options::credentials::{TrustArgs, read_hmac_secret};
use super::options::measurement::{HEADING_PACKETS, NetworkArgs, PaceArgs, RoundTripLimitArgs, TimeoutArgs};
use super::options::report::ReportArgs;
use super::options::room_target::tls_config;
use super::options::signaling_client::{HEADING, SignalingClientArgs};
use super::output::{Failure, are_notices_silenced, ensure_usage};
use crate::client::{MAX_ROOM_MESSAGES, RoomLoad, RoomLoadConfig, RunResults};
use crate::io::signaling::room_load::{RoomLoadRun, RoomLoadTarget};
use crate::io::status_line::StatusLine;
use crate::io::stop::StopToken;
use crate::io::websocket::connect::DEFAULT_CONNECT_TIMEOUT;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::io::{clock, os};
use crate::signaling::Dialect;

/// Default time for which messages are sent.
const LOAD_DURATION: Duration = Duration::from_secs(10);

/// Put members into rooms of a signaling server, who send messages to each other
#[derive(clap::Args)]
#[command(mut_arg("hmac_secret", |arg| arg.help("The server's token secret, to sign the members' tokens").long_help(Resettable::Reset)))]
#[command(mut_arg("count", |arg| arg.help("Messages in each room; 0: as many as possible [default: those of 10 s]").long_help(Resettable::Reset)))]
#[command(mut_arg("interval", |arg| arg.help("Time between two messages of a room")))]
pub(crate) struct Args {
    /// Signaling server: ws:// or wss://
    ///
    /// The URL contains no room, user or token.
    #[arg(value_name = "URL")]
    url: WebSocketUrl,

    /// Number of members in all rooms
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(2..=20_000), help_heading = HEADING)]
    clients: usize,

    /// Number of rooms over which the members are spread
    #[arg(long, value_name = "R", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000), default_value_t = 1, help_heading = HEADING)]
    room_count: usize,

    /// Name of the room, beginning of the names of the rooms, or codes of bbx rooms [default: random]
    ///
    /// Rooms of control surfaces must exist. Separate their codes with commas; --room-count is then their number.
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    room: Option<String>,

    #[command(flatten)]
    signaling: SignalingClientArgs,

    #[command(flatten)]
    pace: PaceArgs,

    /// Messages per second of each room, by its members in turn
    #[arg(long, value_name = "M", value_parser = parse_rate, conflicts_with = "interval", help_heading = HEADING_PACKETS)]
    rate: Option<Duration>,

    #[command(flatten)]
    timing: TimeoutArgs,

    #[command(flatten)]
    limits: RoundTripLimitArgs,

    #[command(flatten)]
    report: ReportArgs,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

/// The time between two messages at a rate, in messages per second.
fn parse_rate(text: &str) -> Result<Duration, &'static str> {
    let rate: Option<f64> = text.parse().ok().filter(|rate| (0.001..=1e6).contains(rate));
    rate.map(|rate| Duration::from_secs_f64(1.0 / rate)).ok_or("give a number of messages per second, 0.001 to 1000000")
}

impl Args {
    /// Sends until finished or `stop` is requested.
    pub(crate) fn run(self, stop: &StopToken) -> Result<u8, Failure> {
        self.report.run(|| self.url.to_string(), || self.load_rooms(stop))
    }

    fn load_rooms(&self, stop: &StopToken) -> Result<u8, Failure> {
        let url = &self.url;
        let load = RoomLoad::new(self.config()?);
        let target = self.target(&load)?;
        self.report.files.prepare(stop)?;
        let members = self.clients as u64;
        os::raise_descriptor_limit();
        let status = if are_notices_silenced() { None } else { StatusLine::new(Some(members)) };
        let started_unix_ms = clock::unix_ms();
        let mut running = RoomLoadRun::new(load, target, stop).context("cannot start the event loop")?;
        let load = running.run(|joined, text| {
            if let Some(line) = &status {
                line.draw(joined, text);
            }
        });
        drop(status);
        let run = RunResults { started_unix_ms, interrupted: stop.signal(), ..load.into_results(url.to_string()) };
        let finished = FinishedRun { close: Box::new(move || running.close()), ..FinishedRun::new(run, None, None) };
        self.report.finish(finished, self.limits.limits())
    }

    /// Who sends how much.
    fn config(&self) -> Result<RoomLoadConfig, Failure> {
        let ((dialect, params), members) = (self.signaling.dialect(&self.url), self.clients);
        let is_named = dialect != Dialect::ControlSurface || self.room.is_some();
        ensure_usage!(is_named, "--room: give the codes of the rooms of control surfaces, separated by commas");
        let rooms = if dialect == Dialect::ControlSurface { self.codes().len() } else { self.room_count };
        ensure_usage!(members / 2 >= rooms, "--clients: give at least {}, two members per room", 2 * rooms);
        let mut keys = form_urlencoded::parse(self.url.query().as_bytes()).map(|(key, _)| key);
        let is_member = params.room.is_some() || keys.any(|key| ["roomId", "userId", "token"].contains(&&*key));
        ensure_usage!(!is_member, "the URL must contain no room, user or token; give --room and --hmac-secret");
        self.signaling.reject_unused_options(dialect, None)?;
        let interval = self.rate.unwrap_or(self.pace.interval);
        let default_count = u64::try_from(LOAD_DURATION.as_nanos().div_ceil(interval.as_nanos())).unwrap_or(u64::MAX);
        let count = self.pace.count_or(interval, default_count);
        let count = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(MAX_ROOM_MESSAGES);
        let (timeout, count, [nonce]) = (self.timing.timeout(), count.min(MAX_ROOM_MESSAGES), os::random_u64s());
        let room = self.room.clone().unwrap_or_else(|| format!("load-{:08x}", nonce >> 32));
        let names_senders = dialect.facts().names_senders || self.signaling.hmac_secret.is_some();
        Ok(RoomLoadConfig { dialect, members, rooms, room, interval, count, timeout, nonce, names_senders })
    }

    /// The codes of rooms of control surfaces.
    fn codes(&self) -> Vec<String> {
        self.room.iter().flat_map(|codes| codes.split(',')).map(str::to_owned).collect()
    }

    /// To where the members of `load` connect.
    fn target(&self, load: &RoomLoad) -> Result<RoomLoadTarget, Failure> {
        let (url, signaling) = (&self.url, &self.signaling);
        let (dialect, params) = signaling.dialect(url);
        let secret = read_hmac_secret(signaling.hmac_secret.as_ref())?;
        let url_of = |member| match (dialect, load.room_name(member), load.name(member)) {
            (Dialect::Broadcast, room, name) => signaling.broadcast_url(url, &params, &room, name, secret.as_ref()),
            (Dialect::WebRtc, room, name) => signaling.webrtc_url(url, Some(&room), name, secret.as_ref()),
            _ => Ok(url.clone()),
        };
        Ok(RoomLoadTarget {
            codes: self.codes(),
            urls: (0..self.clients).map(url_of).collect::<Result<_, _>>()?,
            socket_options: self.network.options_without_port("by several members")?,
            tls: tls_config(url, &self.trust)?,
            timeout: self.timing.without_wait().connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT),
        })
    }
}
