//! What a run of `send` or `probe` does, and which options apply to it. One table contains each option of both subcommands.

use std::fmt;
use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::output::{Failure, ensure_usage};
use super::target::{Endpoint, MoqtTarget};
use crate::client::{RunKind, StreamKind};
use crate::io::signaling::discovery::SignalingUrl;
use crate::io::websocket::handshake::WebSocketUrl;

/// What to do, as determined by the target and by the options that replace a run.
#[derive(Debug)]
pub(crate) enum Plan<'a> {
    /// Send packets over UDP.
    Udp {
        /// The other end.
        peer: UdpPeer<'a>,
        /// The packets.
        stream: StreamKind,
        /// Whether the other end returns nothing (`--no-echo`).
        no_echo: bool,
    },
    /// Send packets to several hosts over UDP at the same time, and compare them.
    Targets(Vec<Endpoint>, StreamKind),
    /// Send groups to a MOQT server; `None` is the embedded server.
    Moqt(Option<&'a MoqtTarget>),
    /// Send requests to a signaling server.
    WebSocket(WebSocketUrl),
    /// Send messages in rooms of a signaling server, as this many members.
    RoomLoad(WebSocketUrl, usize),
    /// Report the recorded run of this file.
    Replay(&'a Path),
    /// Print the rooms of a signaling server.
    ListRooms(SignalingUrl),
    /// Print facts about this machine. The text is the option that requests them.
    Local(&'static str),
}

/// The other end of a run over UDP.
#[derive(Debug)]
pub(crate) enum UdpPeer<'a> {
    /// A host.
    Host(&'a Endpoint),
    /// A member of a room of this signaling server.
    Room(SignalingUrl),
    /// The echo server in this process.
    Embedded,
}

/// Completes the sentence "The option has no effect".
impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Udp { peer: UdpPeer::Host(_), .. } => "over UDP",
            Udp { peer: UdpPeer::Room(_), .. } => "with --room",
            Udp { peer: UdpPeer::Embedded, .. } => "with --embedded",
            Targets(..) => "with several targets",
            Moqt(Some(_)) => "over MOQT",
            Moqt(None) => "with --embedded --moqt",
            WebSocket(_) => "over WebSocket",
            RoomLoad(..) => "over WebSocket with --clients",
            Replay(_) => "with --replay",
            ListRooms(_) => "with --list-rooms",
            Local(option) => return write!(f, "with {option}"),
        })
    }
}

use Plan::{ListRooms, Local, Moqt, Replay, RoomLoad, Targets, Udp, WebSocket};

/// Identifiers of options, separated by spaces; the end of the sentence "The option applies to"; and the plans to which they apply.
type Rule = (&'static str, &'static str, fn(&Plan<'_>, RunKind) -> bool);

const RULES: &[Rule] = &[
    (
        "file wav tone mic repeat frame_size resample play device_buffer jitter_buffer record record_both no_echo",
        "audio over UDP",
        |plan, _| matches!(plan, Udp { .. }),
    ),
    ("count duration", "audio and probes, not to texts, which are all sent", |plan, kind| {
        plan.is_run() && (kind == RunKind::Probe || matches!(plan, Udp { .. }))
    }),
    ("interval", "texts and probes; the interval of AUDIO packets follows from --frame-size", |plan, kind| {
        plan.is_run() && (kind == RunKind::Probe || matches!(plan, Moqt(_)))
    }),
    ("packet loss_direction link socket_buffer driver", "UDP: HOST[:PORT], --room NAME or --embedded", |plan, _| {
        matches!(plan, Udp { .. } | Targets(..))
    }),
    ("clients", "UDP to one target, and signaling servers", |plan, _| matches!(plan, Udp { .. } | RoomLoad(..))),
    ("ramp", "UDP to one target", |plan, _| matches!(plan, Udp { .. })),
    ("room_count rate", "signaling servers with --clients", |plan, _| matches!(plan, RoomLoad(..))),
    ("spin", "UDP and WebSocket", |plan, _| matches!(plan, Udp { .. } | Targets(..) | WebSocket(_))),
    ("delay", "servers of --embedded and AUDIO over UDP; with probe, add --packet audio", |plan, _| {
        is_audio(plan) || matches!(plan, Udp { peer: UdpPeer::Embedded, .. } | Moqt(None))
    }),
    ("size", "AUDIO and MOQT frames; for AUDIO, add --packet audio", |plan, _| {
        is_audio(plan) || matches!(plan, Moqt(_))
    }),
    ("drop_packets", "AUDIO with --embedded or --no-echo; with probe, add --packet audio", |plan, _| {
        matches!(plan, Udp { stream: StreamKind::Audio, peer: UdpPeer::Embedded, .. } | Udp { no_echo: true, .. })
    }),
    (
        "network loss outage like jitter reorder duplicate bandwidth seed outcome_log",
        "the echo server of --embedded, and to AUDIO of send --no-echo",
        |plan, _| matches!(plan, Udp { peer: UdpPeer::Embedded, .. } | Udp { no_echo: true, .. }),
    ),
    ("moqt", "the MOQT server of --embedded", |plan, _| matches!(plan, Moqt(None))),
    (
        "text moqt_version frames_per_group",
        "MOQT: --to moqt://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH, or --embedded --moqt",
        |plan, _| matches!(plan, Moqt(_)),
    ),
    ("dialect hmac_secret", "signaling servers: --to ws://HOST[:PORT]", |plan, _| {
        matches!(plan, WebSocket(_) | RoomLoad(..))
    }),
    ("room", "UDP without --to and --embedded, and to signaling servers (--to ws://)", |plan, _| {
        matches!(plan, Udp { peer: UdpPeer::Room(_), .. } | WebSocket(_) | RoomLoad(..))
    }),
    ("password_file", "the room of --room NAME without --to", |plan, _| {
        matches!(plan, Udp { peer: UdpPeer::Room(_), .. })
    }),
    ("signaling_url device_key", "--room NAME without --to, and to --list-rooms", |plan, _| {
        matches!(plan, Udp { peer: UdpPeer::Room(_), .. } | ListRooms(_))
    }),
    (
        "ca cert_sha256 insecure",
        "TLS: signaling servers (--room, --list-rooms, --to wss://) and MOQT servers",
        |plan, _| {
            let is_over_tcp = matches!(plan, ListRooms(_) | WebSocket(_) | RoomLoad(..));
            is_over_tcp || matches!(plan, Udp { peer: UdpPeer::Room(_), .. } | Moqt(Some(_)))
        },
    ),
    ("to target", "a run that sends packets, and to --list-rooms", |plan, _| {
        plan.is_run() || matches!(plan, ListRooms(_))
    }),
    ("embedded timeout bind", "a run that sends packets", |plan, _| plan.is_run()),
    // Several targets are measured at the same time, so none waits.
    ("wait_for record_run", "a run that sends packets to one target", |plan, _| {
        plan.is_run() && !matches!(plan, Targets(..) | RoomLoad(..))
    }),
    ("profile max_loss max_p50 max_p99 verbose junit quiet", "the report of a run", |plan, _| {
        plan.is_run() || matches!(plan, Replay(_))
    }),
    ("max_jitter", "packets", |plan, _| plan.is_run() && !matches!(plan, RoomLoad(..)) || matches!(plan, Replay(_))),
    ("html markdown", "the report of one target", |plan, _| {
        plan.is_run() && !matches!(plan, Targets(..)) || matches!(plan, Replay(_))
    }),
    ("json_lines", "a run that sends packets to one target, and to lists", |plan, kind| {
        !matches!((plan, kind), (Replay(_) | Targets(..) | RoomLoad(..), _) | (Local(_), RunKind::Probe))
    }),
    ("json", "every output", |_, _| true),
    ("replay", "a recorded run", |plan, _| matches!(plan, Replay(_))),
    ("list_rooms", "a signaling server", |plan, _| matches!(plan, ListRooms(_))),
    ("list_devices this_machine", "this machine", |plan, _| matches!(plan, Local(_))),
];

/// Identifiers of options that apply to a single client, and not to several (`--clients`).
const FOR_ONE_CLIENT: &str =
    "mic play device_buffer jitter_buffer record record_both record_run json_lines device_key spin";

/// Identifiers of options that do not apply to `send` with `--room` and `--clients`.
const NOT_FOR_MUSICIANS: &str = "mic play device_buffer jitter_buffer record record_both record_run no_echo loss_direction delay device_key \
    ramp wait_for verbose html markdown junit json_lines";

/// Whether AUDIO is sent over UDP.
fn is_audio(plan: &Plan<'_>) -> bool {
    matches!(plan, Udp { stream: StreamKind::Audio, .. } | Targets(_, StreamKind::Audio))
}

impl Plan<'_> {
    /// Whether packets are sent.
    fn is_run(&self) -> bool {
        matches!(self, Udp { .. } | Targets(..) | Moqt(_) | WebSocket(_) | RoomLoad(..))
    }

    /// Returns an error if an option on the command line does not apply to this plan of the subcommand `kind`.
    pub(crate) fn check_options(&self, kind: RunKind, matches: &ArgMatches) -> Result<(), Failure> {
        let clients = matches.get_one::<usize>("clients");
        let has_several = clients.is_some_and(|clients| *clients > 1) || matches.get_flag("ramp");
        let is_room = kind == RunKind::Send && matches!(self, Udp { peer: UdpPeer::Room(_), .. });
        let are_musicians = is_room && clients.is_some();
        let is_given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
        for id in matches.ids().map(clap::Id::as_str).filter(is_given) {
            let is_in = |options: &str| options.split(' ').any(|option| option == id);
            let option = match id {
                "file" => "FILE".to_owned(),
                "target" => "HOST[:PORT]|URL".to_owned(),
                id => format!("--{}", id.replace('_', "-")),
            };
            ensure_usage!(
                !has_several || !is_in(FOR_ONE_CLIENT),
                "{option} has no effect with --clients; it applies to one client"
            );
            let rule = RULES.iter().find(|(options, _, applies)| is_in(options) && !applies(self, kind));
            if let Some((_, target, _)) = rule {
                return Err(Failure::usage(format!("{option} has no effect {self}; it applies to {target}")));
            }
            ensure_usage!(
                !are_musicians || !is_in(NOT_FOR_MUSICIANS),
                "{option} cannot be used with --room and --clients"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn each_option_of_send_and_probe_is_in_one_rule() {
        let mut cli = Cli::command();
        cli.build();
        let mut known: Vec<&str> = RULES.iter().flat_map(|(options, ..)| options.split(' ')).collect();
        known.sort_unstable();
        let commands = ["send", "probe"].map(|name| cli.find_subcommand(name).expect("a subcommand"));
        let arguments = commands.iter().flat_map(|command| command.get_arguments());
        let mut options: Vec<&str> = arguments.map(|argument| argument.get_id().as_str()).collect();
        options.retain(|option| !["help", "color"].contains(option));
        options.sort_unstable();
        options.dedup();
        assert_eq!(known, options);
    }
}
