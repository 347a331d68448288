//! `jamjam-dev probe`: measures a path, and turns limits into an exit code.

use std::time::Duration;

use super::Failure;
use super::args::{Colour, Millis, Size};
use super::client::{ClientArgs, Embedded, Session, over_udp_and_not_moqt, over_udp_only};
use super::dialect::DialectArgs;
use super::groups::GroupArgs;
use super::lines;
use super::moqt_session::SessionArgs;
use super::output::note;
use super::target::{MoqtTarget, ProbeTarget, Target};
use crate::flow::run::{Command, StreamKind};
use crate::flow::{Client, Probing, Questions, Terms};
use crate::io::stop::Stop;
use crate::wire::{DEFAULT_PORT, HEADER_LEN, MAX_DATAGRAM};

const HEADING_TARGET: &str = "Target";
const HEADING_PACKETS: &str = "Packets";

/// Bytes of AUDIO or of a frame unless told otherwise.
const SIZE: usize = 512;

/// No machine sends more often.
const LEAST_INTERVAL: Duration = Duration::from_micros(1);

/// Public signaling servers take no messages that follow faster for long.
const POLITE_INTERVAL: Duration = Duration::from_millis(1);

/// Measure round trip, loss, jitter and reordering to an echo server, or to a signaling server
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    /// Echo server to probe, or the URL of a MOQT echo server, moqt:// (raw QUIC) or https:// (WebTransport), or of a signaling server,
    /// ws:// or wss:// [default: 127.0.0.1:5000]
    #[arg(long, value_name = "HOST[:PORT]|URL", help_heading = HEADING_TARGET)]
    to: Option<ProbeTarget>,

    #[command(flatten)]
    dialect: DialectArgs,

    #[command(flatten)]
    session: SessionArgs,

    #[command(flatten)]
    groups: GroupArgs,

    /// Packets to send, or groups of MOQT; 0: until stopped
    #[arg(long, value_name = "N", value_parser = count, default_value_t = 100, help_heading = HEADING_PACKETS)]
    count: u64,

    /// Time between two packets or groups, in milliseconds or with a unit
    #[arg(long, value_name = "TIME", default_value_t = Millis(Duration::from_millis(10)), help_heading = HEADING_PACKETS)]
    interval: Millis,

    /// Ask with KEEPALIVE instead of LATENCY_PING
    #[arg(long, conflicts_with = "audio", help_heading = HEADING_PACKETS)]
    keepalive: bool,

    /// Ask with AUDIO instead of LATENCY_PING (see --hold)
    #[arg(long, help_heading = HEADING_PACKETS)]
    audio: bool,

    /// Payload bytes of an AUDIO packet, a multiple of 4, or bytes of a frame of MOQT [default: 512]
    #[arg(long, value_name = "SIZE", conflicts_with = "keepalive", help_heading = HEADING_PACKETS)]
    size: Option<Size>,

    #[command(flatten)]
    client: ClientArgs,
}

fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "give a number of packets such as 100, or 0 to go on until stopped".to_owned())
}

impl Args {
    /// Bytes of a payload.
    fn size(&self) -> usize {
        self.size.map_or(SIZE, |Size(size)| usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// Probes until done or `stop` is requested.
    pub fn run(self, colour: Colour, stop: &Stop) -> Result<u8, Failure> {
        match &self.to {
            Some(ProbeTarget::WebSocket(url)) => return self.converse(url, colour, stop),
            Some(ProbeTarget::Moqt(target)) => return self.stream(Some(target), colour, stop),
            None if self.session.embedded().is_some() => return self.stream(None, colour, stop),
            _ => {}
        }
        self.refuse_groups()?;
        if let Some(option) = self.dialect.given() {
            return Err(Failure::usage(format!(
                "{option}: only a signaling server is asked so; give it by --to ws://HOST[:PORT]"
            )));
        }
        if let Some(code) = self.client.instead()? {
            return Ok(code);
        }
        let kind = match (self.keepalive, self.audio) {
            (true, _) => StreamKind::Keepalive,
            (_, true) => StreamKind::Audio,
            _ => StreamKind::Ping,
        };
        self.refuse_haste()?;
        if self.size.is_some() && kind != StreamKind::Audio {
            return Err(Failure::usage(
                "--size: only AUDIO and MOQT's frames can be longer; ask with AUDIO by --audio",
            ));
        }
        let size = self.size();
        if !size.is_multiple_of(4) || size > MAX_DATAGRAM - HEADER_LEN {
            return Err(Failure::usage(format!(
                "--size {size}: AUDIO is made of 4-byte samples, and a datagram carries at most {} bytes of them",
                (MAX_DATAGRAM - HEADER_LEN) / 4 * 4
            )));
        }
        if self.client.impairment.is_about_audio() && kind != StreamKind::Audio {
            return Err(Failure::usage("--drop-packets: AUDIO alone is lost by its sequence; ask with it by --audio"));
        }
        if self.client.hold.is_some() && kind != StreamKind::Audio {
            return Err(Failure::usage("--hold: only AUDIO is held; ask with it by --audio"));
        }
        let local = Target { host: "127.0.0.1".to_owned(), port: DEFAULT_PORT };
        let to = match &self.to {
            Some(ProbeTarget::Udp(target)) => Some(target),
            _ if self.client.room.is_wanted() => None,
            _ => Some(&local),
        };
        let peer = self.client.connect(to, "probe", stop)?;
        let terms = Terms {
            peer: peer.address,
            judged: kind,
            // There are no pings beside AUDIO to tell the hold by.
            hold: (kind == StreamKind::Audio).then(|| self.client.known_hold().unwrap_or_default()),
            first_echo: self.client.first_echo(),
            timeout: self.client.timeout.0,
            late_after: self.client.late_after.map(|Millis(late)| late),
            answers_expected: true,
            wait_for: self.client.wait_for.map(|wait| wait.0),
            ask: self.client.ask.random(),
        };
        let count = (self.count > 0).then_some(self.count);
        let questions = Questions { kind, count, interval: self.interval.0, size };
        let (queue, mut printer) = self.client.json_lines.then(lines::channel).unzip();
        let client = Client::new(terms, Probing::new(questions), Box::new(queue));
        let ended = self.client.conduct(client, peer, count, printer.as_mut(), &mut (), stop)?;
        self.client.report(ended, colour)
    }

    fn refuse_haste(&self) -> Result<(), Failure> {
        if self.interval.0 < LEAST_INTERVAL {
            return Err(Failure::usage("--interval: too short, no machine sends that often; the least is 1us"));
        }
        Ok(())
    }

    /// Refuses what is for MOQT alone.
    fn refuse_groups(&self) -> Result<(), Failure> {
        match self.groups.given() {
            Some(option) => Err(SessionArgs::in_vain(option)),
            None => self.session.refuse_in_vain(),
        }
    }

    /// Sends groups to a MOQT echo server: the embedded one unless there is a target.
    fn stream(&self, to: Option<&MoqtTarget>, colour: Colour, stop: &Stop) -> Result<u8, Failure> {
        self.refuse_haste()?;
        let given = [("--audio", self.audio), ("--keepalive", self.keepalive)];
        let given = given.into_iter().find_map(|(option, given)| given.then_some(option));
        if let Some(option) = given.or_else(|| self.dialect.given()) {
            return Err(over_udp_and_not_moqt(option));
        }
        self.client.refuse_over_moqt()?;
        let count = (self.count > 0).then_some(self.count);
        let size = self.size();
        let config = self.groups.config(count, self.interval.0, size, self.session.config())?;
        let offers = self.session.offers()?;
        let embedded = Embedded::start(&self.session, &config.prefix)?;
        let session = Session { command: Command::Probe, to, embedded, offers, config, print: None };
        let ended = self.client.hold_session(session, stop)?;
        self.client.report(ended, colour)
    }

    /// Asks a signaling server.
    fn converse(&self, url: &str, colour: Colour, stop: &Stop) -> Result<u8, Failure> {
        self.refuse_haste()?;
        self.refuse_groups()?;
        for (option, given) in
            [("--audio", self.audio), ("--keepalive", self.keepalive), ("--size", self.size.is_some())]
        {
            if given {
                return Err(over_udp_only(option));
            }
        }
        self.client.refuse_over_websocket()?;
        let plan = self.dialect.plan(url, self.client.room.named())?;
        if self.interval.0 < POLITE_INTERVAL {
            note(
                "--interval: many signaling servers take at most 1000 messages a second, and close the connection of who says more",
            );
        }
        let count = (self.count > 0).then_some(self.count);
        let ended = self.client.converse(&plan, count, self.interval.0, stop)?;
        self.client.report(ended, colour)
    }
}
